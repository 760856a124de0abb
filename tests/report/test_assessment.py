"""What `assess` refuses, and folds together."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.scored import found, names

from soundbench.errors import DataError
from soundbench.report.assessment import assess, pooled


@pytest.mark.parametrize("thresholds", [None, [0.5, 0.5]])
def test_no_clip_is_an_error(thresholds: list[float] | None) -> None:
    with pytest.raises(DataError, match=r"^there are no clips to evaluate$"):
        assess(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, int), names(2), thresholds=thresholds)


@pytest.mark.parametrize("thresholds", [None, [0.5, 0.5]])
def test_shapes_that_disagree_are_refused(thresholds: list[float] | None) -> None:
    with pytest.raises(ValueError, match="3 classes"):
        assess(np.zeros((2, 2)), np.ones((2, 2)), np.arange(2), names(3), thresholds=thresholds)


def test_folds_are_pooled_to_mean_and_spread() -> None:
    folds = [{"metrics": {"accuracy": {"value": value, "low": None, "high": None}}} for value in (0.5, 0.6, 0.7)]

    assert pooled(folds) == {
        "accuracy": {"mean": pytest.approx(0.6), "spread": pytest.approx(0.1), "values": [0.5, 0.6, 0.7]}
    }


def test_one_fold_has_no_spread() -> None:
    report = found([[1, 0], [0, 1]], [0, 1], resamples=5)

    assert pooled([report])["accuracy"] == {"mean": 1.0, "spread": None, "values": [1.0]}
    assert pooled([]) == {}
