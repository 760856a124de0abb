"""The built-in calibrations, against scikit-learn's and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from soundbench_plugins.calibration.none import NoCalibration
from soundbench_plugins.calibration.platt import Platt
from soundbench_plugins.calibration.temperature import Temperature
from torch import Tensor

from soundbench.contracts import HeldOut
from soundbench.testing import check_component

CLIPS, CLASSES = 400, 5


class Logits(ClassifierMixin, BaseEstimator):
    """A classifier whose samples are their own logits."""

    def fit(self, data: np.ndarray, labels: np.ndarray) -> Logits:
        self.classes_ = np.unique(labels)
        return self

    def decision_function(self, data: np.ndarray) -> np.ndarray:
        return data if data.shape[1] > 1 else data[:, 0]

    def predict(self, data: np.ndarray) -> np.ndarray:
        scores = self.decision_function(data)
        return self.classes_[scores.argmax(1) if scores.ndim > 1 else (scores > 0).astype(int)]


def softmax(logits: Tensor) -> Tensor:
    return logits.softmax(1)


def overconfident(windows: int = 1, factor: float = 3.0) -> tuple[HeldOut, np.ndarray]:
    """Clips whose labels are drawn from the softmax of logits, and those logits times a factor."""
    draws = np.random.default_rng(0)
    clip = np.repeat(np.arange(CLIPS), windows)
    true = draws.standard_normal((CLIPS * windows, CLASSES)) * 1.5
    scores = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    mean = scores.reshape(CLIPS, windows, CLASSES).mean(1)
    labels = np.array([draws.choice(CLASSES, p=row) for row in mean])
    target = np.eye(CLASSES)[labels]
    parts = (torch.from_numpy(part) for part in (true * factor, clip, target))
    return HeldOut(*parts, softmax, False), labels


def test_the_temperature_is_that_of_scikit_learn() -> None:
    held_out, labels = overconfident()
    logits = held_out.logits.numpy()
    theirs = CalibratedClassifierCV(FrozenEstimator(Logits().fit(logits, labels)), method="temperature")
    expected = theirs.fit(logits, labels).predict_proba(logits)
    options = Temperature(CLASSES).fit(held_out)
    found = softmax(Temperature(CLASSES, **options)(held_out.logits)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_clips_of_several_windows_get_the_temperature_of_least_loss_of_their_mean() -> None:
    held_out, labels = overconfident(windows=3)
    found = Temperature(CLASSES).fit(held_out)["temperature"]

    def loss(temperature: float) -> float:
        logits = held_out.logits.numpy() / temperature
        scores = np.exp(logits - logits.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
        return float(log_loss(labels, scores.reshape(CLIPS, 3, CLASSES).mean(1)))

    assert found == pytest.approx(3, rel=0.15)  # what the logits were multiplied by
    assert loss(found) <= min(loss(found * step) for step in (0.9, 0.98, 1.02, 1.1))


def test_a_temperature_leaves_the_order_of_classes_and_stays_within_its_limits() -> None:
    logits = torch.randn(50, 7)
    cooled = Temperature(7, temperature=0.3)(logits)
    assert torch.equal(cooled.argsort(1), logits.argsort(1))
    far = HeldOut(
        *(100 * torch.randn(9, 5).double(), torch.arange(9), torch.eye(5)[torch.arange(9) % 5].double()), softmax, False
    )
    assert Temperature(5).fit(far)["temperature"] == pytest.approx(10, rel=1e-3)
    assert Temperature(5, temperature=2.0).fit(far) == {}


def test_where_all_clips_are_right_scores_claim_no_more_than_so_many_clips_can_show() -> None:
    """The log loss has no minimum there; with Platt's targets, scores of equal clips are (N + 1) / (N + 2)."""
    logits = torch.eye(5).double().repeat(8, 1)
    easy = HeldOut(logits, torch.arange(40), logits, softmax, False)
    options = Temperature(5).fit(easy)
    assert softmax(Temperature(5, **options)(logits)).max(1).values.numpy() == pytest.approx(41 / 42, rel=1e-4)


def several() -> tuple[HeldOut, np.ndarray, np.ndarray]:
    """Logits of independent classes, each off by a slope and an offset of its own."""
    draws = np.random.default_rng(1)
    true = draws.standard_normal((CLIPS, 3)) * 2
    target = (draws.random((CLIPS, 3)) < 1 / (1 + np.exp(-true))).astype(np.float64)
    logits = true * np.array([4.0, 0.5, 1.0]) + np.array([0.0, 2.0, -1.0])
    parts = (torch.from_numpy(part) for part in (logits, np.arange(CLIPS), target))
    return HeldOut(*parts, torch.sigmoid, True), logits, target


def test_slopes_and_offsets_are_those_of_scikit_learn() -> None:
    held_out, logits, target = several()
    options = Platt(3).fit(held_out)
    found = torch.sigmoid(Platt(3, **options)(held_out.logits)).numpy()
    for code in range(3):
        own, labels = logits[:, code : code + 1], target[:, code].astype(int)
        theirs = CalibratedClassifierCV(FrozenEstimator(Logits().fit(own, labels)), method="sigmoid").fit(own, labels)
        np.testing.assert_allclose(found[:, code], theirs.predict_proba(own)[:, 1], atol=2e-3)


def test_a_class_that_no_clip_has_keeps_its_logits_and_the_order_of_clips_stays() -> None:
    _held_out, logits, target = several()
    target[:, 2] = 0
    parts = (torch.from_numpy(part) for part in (-logits, np.arange(CLIPS), target))
    options = Platt(3).fit(HeldOut(*parts, torch.sigmoid, True))
    assert options["slopes"][2] == 1
    assert options["offsets"][2] == 0
    assert all(slope > 0 for slope in options["slopes"])  # although the logits are upside down


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Temperature(3, temperature=0.0), "temperature must be above 0"),
        (lambda: Temperature(3, temperature=float("nan")), "temperature must be above 0"),
        (lambda: Platt(3, slopes=[1.0]), "slopes must be given with offsets"),
        (lambda: Platt(3, slopes=[1.0], offsets=[0.0, 1.0, 2.0]), "slopes must have 3 values, one per class, has 1"),
        (lambda: Platt(1, slopes=[-1.0], offsets=[0.0]), "slopes must be above 0"),
        (lambda: Platt(1, slopes=[1.0], offsets=[float("inf")]), "offsets must be finite"),
    ],
)
def test_options_out_of_range_are_refused(made: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made()  # type: ignore[operator]


@pytest.mark.parametrize("component", [NoCalibration, Temperature, Platt])
def test_they_keep_their_contract(component: type) -> None:
    check_component("calibration", component)
