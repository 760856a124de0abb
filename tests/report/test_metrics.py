"""Metrics are found in a table: one that is added there is in every report, and nothing else knows of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.scored import names, scored, several

from soundbench.report import metrics, pages
from soundbench.report.assessment import assess, pooled
from soundbench.report.metrics.metric import Floats, Metric, Sample
from soundbench.report.run_directory import RunDirectory


def mean_square(sample: Sample) -> Floats:
    """Of the scores' distances from the truth: it asks for the scores, not for counts."""
    distances = np.stack([((sample.scores - sample.truth) ** 2).sum(axis=1), np.ones(len(sample.scores))], axis=1)
    sums = sample.weights.sums(distances)
    return sums[:, 0] / sums[:, 1]


MADE_UP = Metric(name="mean_square", title="mean square", value=mean_square, share=False)


@pytest.mark.parametrize("table", ["ONE_LABEL", "SEVERAL_LABELS"])
def test_a_metric_of_the_table_is_in_every_report(table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, target, groups = scored(90, 4, 15) if table == "ONE_LABEL" else several(90)
    options = {} if table == "ONE_LABEL" else {"thresholds": [0.5] * 4}
    before = assess(scores, target, groups, names(4), resamples=200, **options)
    monkeypatch.setattr(metrics, table, (*getattr(metrics, table), MADE_UP))
    found = assess(scores, target, groups, names(4), resamples=200, **options)

    figure = found["metrics"].pop("mean_square")
    assert found == before
    assert figure["value"] == pytest.approx(((scores - target) ** 2).sum(axis=1).mean(), rel=1e-6)
    assert figure["low"] < figure["value"] < figure["high"]

    found["metrics"]["mean_square"] = figure
    folds = [{"test": [fold], **found} for fold in (1, 2)]
    content = {"name": "toy", **found, "folds": folds, "across_folds": pooled(folds), "own": before}
    run = RunDirectory.create(tmp_path / "run")
    pages.write(run, content)
    low, value, high = (f"{figure[name]:.3f}" for name in ("low", "value", "high"))
    page = run.report_md.read_text(encoding="utf-8")
    assert json.loads(run.report_json.read_text(encoding="utf-8"))["metrics"]["mean_square"] == figure
    assert f"| mean square | {value} | {low} to {high} | - |" in page
    assert page.count(f" {value} ({low} to {high}) |") == 2  # a row a fold; the run's own report, made before, has none
    assert f" {value} ± 0.000 |" in page
    assert f"{value} ({low} to {high})" in pages.summary(content)


def test_names_are_told_apart() -> None:
    for table in (metrics.ONE_LABEL, metrics.SEVERAL_LABELS):
        assert len({metric.name for metric in table}) == len({metric.title for metric in table}) == len(table)
        assert [metrics.metric_of(metric.name) for metric in table] == list(table)
