"""The metrics of a report, in order. To add one, write a file that computes it and add a line to a table here."""

from __future__ import annotations

from soundbench.report.metrics.accuracy import ACCURACY
from soundbench.report.metrics.balanced_accuracy import BALANCED_ACCURACY
from soundbench.report.metrics.brier_score import BRIER_SCORE
from soundbench.report.metrics.expected_calibration_error import EXPECTED_CALIBRATION_ERROR
from soundbench.report.metrics.macro_f1 import MACRO_F1
from soundbench.report.metrics.mean_average_precision import MEAN_AVERAGE_PRECISION
from soundbench.report.metrics.metric import Metric
from soundbench.report.metrics.micro_f1 import MICRO_F1
from soundbench.report.metrics.negative_log_likelihood import NEGATIVE_LOG_LIKELIHOOD
from soundbench.report.metrics.top3 import TOP3

__all__ = ["ONE_LABEL", "SEVERAL_LABELS", "metric_of"]

ONE_LABEL: tuple[Metric, ...] = (
    ACCURACY,
    MACRO_F1,
    BALANCED_ACCURACY,
    TOP3,
    NEGATIVE_LOG_LIKELIHOOD,
    BRIER_SCORE,
    EXPECTED_CALIBRATION_ERROR,
)
"""For clips with one label."""

SEVERAL_LABELS: tuple[Metric, ...] = (
    MEAN_AVERAGE_PRECISION,
    MACRO_F1,
    MICRO_F1,
    NEGATIVE_LOG_LIKELIHOOD,
    BRIER_SCORE,
    EXPECTED_CALIBRATION_ERROR,
)
"""For clips with several labels."""


def metric_of(name: str) -> Metric:
    """The metric of a key in a report's `metrics`."""
    return {metric.name: metric for metric in (*ONE_LABEL, *SEVERAL_LABELS)}[name]
