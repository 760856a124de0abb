"""The logistic fit of marks, against its closed form, SciPy and scikit-learn; thresholds, and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from soundbench.inference.review import fitting
from soundbench.inference.review.fitting import firth, fit_threshold


def drawn(count: int, seed: int = 0, offset: float = -0.5, slope: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = 2 * random.standard_normal(count)
    return x, random.random(count) < 1 / (1 + np.exp(-(offset + slope * x)))


def score(logit: float | np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(logit)))


@pytest.mark.parametrize(("wrong", "right"), [((8, 2), (0, 8)), ((5, 5), (1, 9)), ((3, 0), (0, 3))])
def test_of_two_scores_the_fit_adds_a_half_to_each_count(wrong: tuple[int, int], right: tuple[int, int]) -> None:
    """The closed form of a saturated model (Firth, 1993, section 3.1; Heinze and Schemper, 2002, section 4)."""
    x = np.repeat([0.0, 1.0], [sum(wrong), sum(right)])
    truth = np.repeat([False, True, False, True], [*wrong, *right])
    logits = [math.log((true + 0.5) / (false + 0.5)) for false, true in (wrong, right)]
    ((offset, slope),) = firth(x, truth, np.ones((1, len(x))))
    assert (offset, slope) == pytest.approx((logits[0], logits[1] - logits[0]), abs=1e-7)


def test_it_is_the_maximum_of_the_likelihood_times_jeffreys_prior() -> None:
    """The penalised likelihood as its definition says, maximised without derivatives by SciPy."""
    optimize = pytest.importorskip("scipy.optimize")
    for count in (12, 60):
        x, truth = drawn(count)
        design = np.stack([np.ones(count), x], axis=1)

        def loss(beta: np.ndarray, x: np.ndarray = design, truth: np.ndarray = truth) -> float:
            p = score(x @ beta)
            information = x.T @ (x * (p * (1 - p))[:, None])
            return -float(np.log(np.where(truth, p, 1 - p)).sum() + 0.5 * np.linalg.slogdet(information)[1])

        best = optimize.minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x
        (found,) = firth(x, truth, np.ones((1, count)))
        assert found == pytest.approx(best, abs=1e-5)


def test_of_many_marks_it_is_the_logistic_regression_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    x, truth = drawn(20_000)
    model = linear.LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], truth)
    (found,) = firth(x, truth, np.ones((1, len(x))))
    assert found == pytest.approx([model.intercept_[0], model.coef_[0, 0]], abs=1e-3)


def test_a_weight_is_how_often_a_mark_is_counted() -> None:
    x, truth = drawn(40)
    weights = np.random.default_rng(1).integers(0, 4, (3, 40))
    for row, found in zip(weights, firth(x, truth, weights.astype(float)), strict=True):
        again = np.repeat(np.arange(40), row)
        assert found == pytest.approx(firth(x[again], truth[again], np.ones((1, len(again))))[0], abs=1e-6)


def test_what_is_counted_with_one_score_has_no_fit() -> None:
    found = firth(np.array([0.0, 0.0, 1.0]), np.array([True, False, True]), np.array([[1.0, 1.0, 0.0]]))
    assert np.isnan(found).all()


# Thresholds -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """For thresholds of thousands of marks."""
    monkeypatch.setattr(fitting, "RESAMPLES", 60)


@pytest.mark.usefixtures("few_resamples")
def test_the_threshold_is_where_the_fit_reaches_the_precision() -> None:
    x, truth = drawn(5000)
    for precision in (0.5, 0.8, 0.95):
        found = fit_threshold(score(x).tolist(), truth.tolist(), [str(n % 50) for n in range(5000)], precision)
        true = float(score((math.log(precision / (1 - precision)) + 0.5) / 1.2))
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low < true < found.high
        assert found.value == pytest.approx(true, abs=0.02)
        assert (found.right, found.wrong, found.sounds) == (int(truth.sum()), int((~truth).sum()), 50)


@pytest.mark.usefixtures("few_resamples")
def test_what_reaches_the_threshold_is_right_at_least_so_often() -> None:
    for seed in range(3):
        x, truth = drawn(4000, seed)
        value = fit_threshold(score(x).tolist(), truth.tolist(), [str(n % 50) for n in range(4000)], 0.9).value
        assert value is not None
        new, right = drawn(50_000, seed + 100)
        assert right[score(new) >= value].mean() > 0.9


def test_marks_without_overlap_have_a_threshold_between_them() -> None:
    scores = [0.1, 0.2, 0.3, 0.7, 0.8, 0.9] * 5
    found = fit_threshold(scores, [one > 0.5 for one in scores], [str(n % 7) for n in range(30)], 0.9)
    assert found.value is not None
    assert 0.3 < found.value < 0.8


@pytest.mark.parametrize(
    ("scores", "right", "reason"),
    [
        ([0.2, 0.4], [True, True], "all marks are right; both kinds are needed"),
        ([0.2, 0.4], [False, False], "all marks are wrong; both kinds are needed"),
        ([0.4, 0.4], [True, False], "all marks have the same score"),
        ([0.2, 0.4, 0.6, 0.8] * 5, [True, False, True, False] * 5, "no score that was marked is right so often"),
    ],
)
def test_marks_that_give_no_threshold_say_why(scores: list[float], right: list[bool], reason: str) -> None:
    found = fit_threshold(scores, right, [str(n) for n in range(len(scores))], 0.9)
    assert (found.value, found.low, found.high, found.reason) == (None, None, None, reason)


def test_a_threshold_is_not_below_what_was_marked() -> None:
    scores = np.linspace(0.6, 0.9, 40)
    right = [n % 20 != 0 for n in range(40)]  # 95 % are right, whatever the score
    assert fit_threshold(scores.tolist(), right, [str(n) for n in range(40)], 0.8).value == pytest.approx(0.6)


def test_marks_of_one_sound_have_no_interval_and_alike_marks_a_wider_one() -> None:
    x, truth = drawn(300)
    one = fit_threshold(score(x).tolist(), truth.tolist(), ["a"] * 300, 0.9)
    assert one.value is not None
    assert (one.low, one.high, one.sounds) == (None, None, 1)
    alone = fit_threshold(score(x).tolist(), truth.tolist(), [str(n) for n in range(300)], 0.9)
    copied = fit_threshold(np.repeat(score(x[:60]), 5).tolist(), np.repeat(truth[:60], 5).tolist(),
                           np.repeat(np.arange(60), 5).astype(str).tolist(), 0.9)  # fmt: skip
    assert alone.low is not None
    assert alone.high is not None
    assert copied.low is not None
    assert copied.high is not None
    assert copied.high - copied.low > 1.5 * (alone.high - alone.low)


@pytest.mark.slow
@pytest.mark.parametrize(("sounds", "times"), [(20, 120), (60, 60)])
def test_the_interval_holds_the_true_threshold_about_as_often_as_it_says(sounds: int, times: int) -> None:
    """Five marks a sound, alike by an effect of the sound of 0.5 on the logit; the truth by 200,000 draws.

    95% are to hold it; four standard deviations less are allowed.
    """
    random = np.random.default_rng(0)

    def marks(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = 2 * random.standard_normal(5 * count)
        effect = np.repeat(0.5 * random.standard_normal(count), 5)
        truth = random.random(5 * count) < score(0.3 + 1.2 * x + effect)
        return x, truth, np.repeat(np.arange(count), 5)

    x, truth, _ = marks(40_000)
    ((offset, slope),) = firth(x, truth, np.ones((1, len(x))))
    true = float(score((math.log(9) - offset) / slope))
    held = 0
    for _ in range(times):
        x, truth, group = marks(sounds)
        found = fit_threshold(score(x).tolist(), truth.tolist(), group.astype(str).tolist(), 0.9)
        held += found.low is not None and found.high is not None and found.low <= true <= found.high
    assert held / times >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / times)
