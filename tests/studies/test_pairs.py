"""Paired statistics: against SciPy, definitions and worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.scored import scored, several

from soundbench.report.resampling import LEVEL
from soundbench.studies.comparing.pairs import compare_scores, holm, mcnemar


@pytest.mark.parametrize(
    "counts",
    [(0, 0), (0, 1), (1, 0), (0, 6), (5, 5), (5, 6), (3, 17), (40, 22), (100, 100), (512, 611), (40_000, 40_700)],
)
def test_mcnemar_is_the_exact_binomial_test(counts: tuple[int, int]) -> None:
    scipy = pytest.importorskip("scipy.stats")
    expected = scipy.binomtest(counts[0], sum(counts)).pvalue if sum(counts) else 1.0
    assert mcnemar(*counts) == pytest.approx(expected, rel=1e-8)
    assert mcnemar(*counts) == mcnemar(*counts[::-1])


def test_mcnemar_by_hand() -> None:
    assert mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 2**6)
    assert mcnemar(0, 10) == pytest.approx(2 / 2**10)


def test_holm_by_hand() -> None:
    """Four p: the smallest times 4, the next times 3, ..., none below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.3]) == [0.3]
    assert holm([]) == []


def test_holm_rejects_what_its_definition_rejects() -> None:
    """Holm 1979, section 3: from the smallest p up, reject while p_(i) <= alpha / (m - i + 1); then stop."""
    draws = np.random.default_rng(0)
    for _ in range(200):
        p = (draws.random(draws.integers(1, 12)) ** 3).tolist()
        alpha, rejected = draws.uniform(0.01, 0.3), set()
        for place, number in enumerate(sorted(range(len(p)), key=p.__getitem__)):
            if p[number] > alpha / (len(p) - place):
                break
            rejected.add(number)
        assert {number for number, corrected in enumerate(holm(p)) if corrected <= alpha} == rejected


def two(seed: int, lean: float = 0.3) -> list[np.ndarray]:
    return [scored(200, 5, 40, lean=0.3)[0], scored(200, 5, 40, seed=0, lean=lean)[0] + noise(seed)]


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng([9, seed]).normal(0, 0.2, (200, 5)).astype(np.float32)


TARGETS, GROUPS = scored(200, 5, 40)[1:]


@pytest.mark.parametrize("seed", range(6))
def test_a_difference_is_significant_where_its_interval_excludes_0(seed: int) -> None:
    (pair,) = compare_scores(two(seed, 0.3 + seed / 20), TARGETS, GROUPS.astype(str))
    for one in pair.differences:
        assert one.low is not None
        assert one.high is not None
        assert one.p == one.holm
        assert (one.p < 1 - LEVEL) == (not one.low <= 0 <= one.high)
        assert one.low <= one.value <= one.high
    assert pair.significant == (pair.differences[0].p < 0.05)


def test_differences_are_the_second_less_the_first() -> None:
    scores = two(1, 0.5)
    (there,) = compare_scores(scores, TARGETS, GROUPS.astype(str))
    (back,) = compare_scores(scores[::-1], TARGETS, GROUPS.astype(str))
    right = [(one.argmax(1) == TARGETS.argmax(1)) for one in scores]
    assert there.differences[0].value == pytest.approx(right[1].mean() - right[0].mean())
    assert there.mcnemar is not None
    assert (there.mcnemar.only_first, there.mcnemar.only_second) == (
        (right[0] & ~right[1]).sum(),
        (right[1] & ~right[0]).sum(),
    )
    for one, other in zip(there.differences, back.differences, strict=True):
        assert one.value == pytest.approx(-other.value)
        assert one.low == pytest.approx(-other.high, abs=0.004)


def test_a_model_does_not_differ_from_itself() -> None:
    scores = two(1)[0]
    (pair,) = compare_scores([scores, scores.copy()], TARGETS, GROUPS.astype(str))
    for one in pair.differences:
        assert (one.value, one.low, one.high, one.p) == (0, 0, 0, 1)
    assert not pair.significant


def test_what_is_hard_for_both_cancels_out() -> None:
    """The second model is right where the first is, and on every tenth clip besides: the gain hardly varies."""
    draws = np.random.default_rng(0)
    hard = draws.random(60) < 0.5
    group = np.repeat(np.arange(60), 10)
    truth = np.zeros(600, int)
    first = np.where(hard[group], 1, 0)
    second = np.where(np.arange(600) % 10 == 0, 0, first)
    scores = [np.eye(2)[one] for one in (first, second)]
    (pair,) = compare_scores(scores, np.eye(2)[truth], group.astype(str))
    main = pair.differences[0]
    assert main.value == pytest.approx(hard.mean() / 10)
    assert main.low is not None
    assert main.high is not None
    spread = math.sqrt(hard.mean() * (1 - hard.mean()) / 60)
    assert main.high - main.low < 0.2 * 2 * 1.96 * math.sqrt(2) * spread  # of two independent test sets
    assert pair.significant


def test_many_pairs_are_corrected() -> None:
    """Of equal models the best looks better than the worst; over 28 pairs that is no evidence."""
    models = [scored(200, 5, 40, lean=0.3)[0] + noise(seed) for seed in range(8)]
    pairs = compare_scores(models, TARGETS, GROUPS.astype(str))
    assert len(pairs) == 28
    assert any(pair.differences[0].p < 0.05 for pair in pairs)
    assert holm([pair.differences[0].p for pair in pairs]) == [pair.differences[0].holm for pair in pairs]
    assert not any(pair.significant for pair in pairs)


def test_several_labels_are_compared_by_average_precision() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    first, targets, groups = several()
    second = np.round(first * 0.5 + targets * 0.4, 1)
    threshold = np.full(first.shape, 0.5)
    (pair,) = compare_scores([first, second], targets, groups.astype(str), [threshold, threshold])
    expected = [sklearn.average_precision_score(targets, one, average="macro") for one in (first, second)]
    assert pair.differences[0].value == pytest.approx(expected[1] - expected[0])
    assert pair.mcnemar is None
    assert pair.significant
