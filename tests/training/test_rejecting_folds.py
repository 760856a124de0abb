"""What all folds of a cross-validation keep together, where some of them have no threshold of their own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from soundbench.model.logits import HeldOutLogits
from soundbench.training import folds


def held_out(scores: np.ndarray, silent: np.ndarray) -> HeldOutLogits:
    """Clips of one window each, by their reject scores."""
    count, reject = len(scores), scores.astype(np.float32)
    clip, target = np.arange(count), np.ones((count, 1), np.uint8)
    return HeldOutLogits(("a",), np.zeros((count, 1), np.float32), clip, target, clip, clip, reject, silent, "distance")


def test_a_fold_with_a_threshold_of_its_own_is_kept_by_that_of_the_others_too() -> None:
    scores = [np.arange(100.0), np.r_[200.0, np.arange(99.0)]]
    silent = [np.zeros(100, np.bool_), np.arange(100) == 0]
    own = [np.arange(100) < 50, np.r_[True, np.zeros(99, np.bool_)]]  # the first has a bad one, the second none
    shown = [
        SimpleNamespace(scores=np.ones((100, 1)), targets=np.ones((100, 1)), rejected=rejected) for rejected in own
    ]
    reports: list[dict[str, Any]] = [
        {"reject": {"use": "distance", "keep": 0.95}},
        {"reject": {"use": "distance", "keep": 0.95, "reason": "fewer than 50 clips or 5 groups"}},
    ]
    recipe: Any = SimpleNamespace(train=SimpleNamespace(seed=0))
    given: Any = shown
    each = [held_out(*one) for one in zip(scores, silent, strict=True)]
    found = folds._rejection(recipe, reports, given, np.arange(200), each)["reject"]
    # Of 0 to 98, 4 are below the threshold of 95%, so 4 of the first; of 0 to 99, 5, so 5 of the second, and silence.
    assert found["kept"]["value"] == (96 + 94) / 200
    assert found["source"] == "the test clips of the other folds"
    assert "reason" not in found
