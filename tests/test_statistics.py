from __future__ import annotations

import json
import math
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from soundbench.errors import DataError
from soundbench.statistics import evaluate, pooled

Judged = tuple[np.ndarray, np.ndarray, np.ndarray]


def judged(clips: int, classes: int, groups: int, seed: int = 0, lean: float = 0.3) -> Judged:
    """Scores that lean to the truth, targets, and groups of uneven size that share a truth."""
    draws = np.random.default_rng(seed)
    group = np.minimum((groups * draws.random(clips) ** 2).astype(int), groups - 1)
    truth = draws.integers(0, classes, groups)[group]
    scores = draws.random((clips, classes)).astype(np.float32)
    scores[np.arange(clips), truth] += lean
    return scores, np.eye(classes, dtype=np.float32)[truth], group


def names(classes: int) -> list[str]:
    return [f"class {number}" for number in range(classes)]


def found(scores: Any, truth: Any, groups: Any = None, prior: Any = None, **options: int) -> dict[str, Any]:
    scores = np.asarray(scores, np.float32)
    classes = scores.shape[1]
    groups = np.arange(len(scores)) if groups is None else np.asarray(groups)
    prior = np.ones(classes) if prior is None else prior
    return evaluate(scores, np.eye(classes)[truth], groups, names(classes), prior, **options)


def values(report: dict[str, Any]) -> dict[str, float]:
    return {name: figure["value"] for name, figure in report["metrics"].items()}


def plain(value: Any) -> bool:
    """Whether JSON holds it as it is, and no number in it is NaN or infinite."""
    if isinstance(value, dict):
        return all(type(key) is str and plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(plain(item) for item in value)
    return value is None or type(value) in (str, int, bool) or (type(value) is float and math.isfinite(value))


@pytest.mark.parametrize(("clips", "classes"), [(300, 10), (50, 4), (40, 2), (500, 50)])
def test_values_are_those_of_scikit_learn(clips: int, classes: int) -> None:
    scores, target, groups = judged(clips, classes, clips // 4)
    truth, predicted = target.argmax(1), scores.argmax(1)
    report = evaluate(scores, target, groups, names(classes), target.sum(0), resamples=10)

    present = np.unique(truth)
    precision, recall, scored, support = metrics.precision_recall_fscore_support(
        truth, predicted, labels=range(classes), zero_division=0
    )
    assert values(report)["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert values(report)["macro_f1"] == pytest.approx(
        metrics.f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    )
    assert values(report)["balanced_accuracy"] == pytest.approx(recall[present].mean())
    if classes > 3:
        assert values(report)["top3"] == pytest.approx(
            metrics.top_k_accuracy_score(truth, scores, k=3, labels=range(classes))
        )
    assert report["confusion"] == metrics.confusion_matrix(truth, predicted, labels=range(classes)).tolist()
    for code, row in enumerate(report["per_class"]):
        assert (row["class"], row["support"]) == (f"class {code}", support[code])
        if support[code]:
            expected = [precision[code], recall[code], scored[code]]
            assert [row["precision"], row["recall"], row["f1"]] == pytest.approx(expected)


def test_values_by_hand() -> None:
    report = found([[3, 1, 0, 2], [3, 1, 0, 2], [0, 3, 2, 1], [0, 1, 2, 3]], [0, 3, 1, 1], resamples=10)

    assert values(report) == pytest.approx(
        {"accuracy": 2 / 4, "macro_f1": (2 / 3 + 2 / 3 + 0) / 3, "balanced_accuracy": (1 + 1 / 2 + 0) / 3, "top3": 1.0}
    )
    assert report["confusion"] == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert (report["clips"], report["groups"]) == (4, 4)


def test_the_baseline_always_says_the_commonest_class_of_training() -> None:
    report = found(np.eye(3)[[0, 1, 1, 1, 2]], [0, 1, 1, 1, 2], prior=[5, 2, 9], resamples=10)

    assert report["baseline"]["class"] == "class 2"
    assert report["baseline"]["accuracy"]["value"] == pytest.approx(1 / 5)
    assert report["baseline"]["macro_f1"]["value"] == pytest.approx(2 * 1 / (5 + 1) / 3)
    truth, always = [0, 1, 1, 1, 2], [2] * 5
    assert report["baseline"]["macro_f1"]["value"] == pytest.approx(metrics.f1_score(truth, always, average="macro"))


def test_equal_priors_and_equal_scores_go_to_the_first_class() -> None:
    report = found([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 1, 1, 1]], [0, 4, 4], resamples=10)

    assert report["baseline"]["class"] == "class 0"
    assert [row["predicted"] for row in report["per_class"]] == [1, 1, 1, 0, 0]
    # Of five equal scores the truth at 0 is first; at 4 it comes after 1, 2, 3, and after 2, 3.
    assert values(report)["top3"] == pytest.approx(2 / 3)


def test_a_class_without_clips_is_left_out_and_said() -> None:
    report = found([[1, 0, 0], [0, 0, 1], [0, 0, 1]], [0, 0, 2], resamples=200)

    assert report["classes_without_clips"] == ["class 1"]
    assert values(report)["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert report["per_class"][1] == {
        "class": "class 1", "precision": None, "recall": None, "f1": None, "support": 0, "predicted": 0,
    }  # fmt: skip
    assert report["confusion"][1] == [0, 0, 0]


def test_a_class_never_predicted_has_precision_zero_and_one_predicted_without_clips_too() -> None:
    report = found([[0, 1, 0], [0, 1, 0]], [0, 0], resamples=10)

    assert [row["precision"] for row in report["per_class"]] == [0.0, 0.0, None]
    assert [row["recall"] for row in report["per_class"]] == [0.0, None, None]


def test_of_one_group_there_is_no_interval() -> None:
    report = found([[1, 0], [0, 1], [1, 0]], [0, 1, 1], groups=[7, 7, 7])

    assert report["metrics"]["accuracy"] == {"value": pytest.approx(2 / 3), "low": None, "high": None}
    assert report["baseline"]["accuracy"]["low"] is None
    assert report["groups"] == 1


def test_without_resamples_there_is_no_interval() -> None:
    assert found([[1, 0], [0, 1]], [0, 1], resamples=0)["metrics"]["macro_f1"]["high"] is None


def test_two_classes_have_no_top3() -> None:
    assert set(values(found([[1, 0], [0, 1]], [0, 1], resamples=5))) == {"accuracy", "macro_f1", "balanced_accuracy"}


def test_scores_that_are_no_numbers_count_as_the_lowest_and_are_counted() -> None:
    report = found([[np.nan, 0, 0, 0], [np.nan] * 4, [np.inf, 0, 1, 0]], [1, 3, 0], resamples=20)

    assert [row["predicted"] for row in report["per_class"]] == [2, 1, 0, 0]
    assert report["clips_without_finite_scores"] == 3
    assert plain(report)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_result_is_plain_json(classes: int) -> None:
    scores, target, groups = judged(60, classes, 9)
    report = evaluate(scores, target, groups, np.array(names(classes)), target.sum(0), np.int64(50), np.int64(3))

    assert plain(report)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_no_clip_is_an_error() -> None:
    with pytest.raises(DataError, match=r"^no clip is left to evaluate$"):
        evaluate(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, int), names(2), np.ones(2))


def test_a_clip_without_a_label_is_an_error() -> None:
    with pytest.raises(DataError, match=r"^1 of the clips to evaluate carry no label$"):
        evaluate(np.zeros((2, 2)), np.array([[0, 0], [0, 1]]), np.arange(2), names(2), np.ones(2))


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="3 classes"):
        evaluate(np.zeros((2, 2)), np.ones((2, 2)), np.arange(2), names(3), np.ones(3))


# The interval


def f1(true: np.ndarray, predicted: np.ndarray) -> float:
    """Of one class, from its definition."""
    right = (true & predicted).sum()
    return float(right and 2 / (true.sum() / right + predicted.sum() / right))


def slow_intervals(scores: np.ndarray, target: np.ndarray, groups: np.ndarray, resamples: int) -> dict[str, np.ndarray]:
    """The definition, with loops: draw groups, take all their clips, measure them."""
    truth, predicted = target.argmax(1), scores.argmax(1)
    draws = np.random.default_rng(12345)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    drawn: dict[str, list[float]] = {"accuracy": [], "macro_f1": [], "balanced_accuracy": [], "top3": []}
    for _ in range(resamples):
        rows = np.concatenate([members[number] for number in draws.integers(0, len(members), len(members))])
        present = np.unique(truth[rows])
        drawn["accuracy"].append(float(np.mean(truth[rows] == predicted[rows])))
        drawn["macro_f1"].append(float(np.mean([f1(truth[rows] == code, predicted[rows] == code) for code in present])))
        recalls = [np.mean(predicted[rows][truth[rows] == code] == code) for code in present]
        drawn["balanced_accuracy"].append(float(np.mean(recalls)))
        top = np.argsort(-scores[rows], axis=1, kind="stable")[:, :3]
        drawn["top3"].append(float(np.mean((top == truth[rows][:, None]).any(1))))
    return {name: np.quantile(values, [0.025, 0.975]) for name, values in drawn.items()}


@pytest.mark.parametrize(("clips", "groups", "classes"), [(150, 25, 5), (120, 120, 4)])
def test_intervals_agree_with_a_slow_bootstrap_of_the_definition(clips: int, groups: int, classes: int) -> None:
    scores, target, group = judged(clips, classes, groups)
    report = evaluate(scores, target, group, names(classes), np.ones(classes), resamples=20000)

    for name, bounds in slow_intervals(scores, target, group, 1500).items():
        own = report["metrics"][name]
        assert [own["low"], own["high"]] == pytest.approx(bounds, abs=0.02), name


def test_the_interval_of_clips_that_stand_alone_is_the_binomial_one() -> None:
    clips, right = 400, 300
    scores = np.eye(2)[[0] * right + [1] * (clips - right)]
    report = found(scores, [0] * clips, resamples=20000)

    spread = math.sqrt(0.75 * 0.25 / clips)
    accuracy = report["metrics"]["accuracy"]
    assert accuracy["low"] == pytest.approx(0.75 - 1.96 * spread, abs=0.004)
    assert accuracy["high"] == pytest.approx(0.75 + 1.96 * spread, abs=0.004)


def test_clips_judged_alike_in_groups_of_ten_widen_the_interval_as_sqrt_ten() -> None:
    right = np.repeat(np.arange(200) % 4 > 0, 10)
    scores = np.eye(2)[(~right).astype(int)]
    truth = np.zeros(2000, int)
    alone = found(scores, truth, resamples=8000)["metrics"]["accuracy"]
    together = found(scores, truth, groups=np.repeat(np.arange(200), 10), resamples=8000)["metrics"]["accuracy"]

    ratio = (together["high"] - together["low"]) / (alone["high"] - alone["low"])
    assert ratio == pytest.approx(math.sqrt(10), rel=0.06)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draws, covered, naive, trials = np.random.default_rng(5), 0, 0, 400
    group = np.repeat(np.arange(60), 8)
    for _ in range(trials):
        rates = draws.beta(3, 2, 60)[group]  # every group has its own rate of success; 0.6 in the mean
        scores = np.eye(2)[(draws.random(480) > rates).astype(int)]
        truth = np.zeros(480, int)
        accuracy = found(scores, truth, group, resamples=400)["metrics"]["accuracy"]
        covered += accuracy["low"] <= 0.6 <= accuracy["high"]
        accuracy = found(scores, truth, resamples=400)["metrics"]["accuracy"]
        naive += accuracy["low"] <= 0.6 <= accuracy["high"]

    assert 0.91 <= covered / trials <= 0.98
    assert naive / trials < 0.85  # clips taken for independent promise too much


def test_the_same_seed_gives_the_same_interval_whatever_the_groups_are_called_and_however_clips_are_ordered() -> None:
    scores, target, groups = judged(300, 6, 40)
    first = evaluate(scores, target, groups, names(6), np.ones(6), seed=4)
    order = np.random.default_rng(0).permutation(300)
    again = evaluate(scores[order], target[order], (1000 - groups * 7)[order], names(6), np.ones(6), seed=4)
    other = evaluate(scores, target, groups, names(6), np.ones(6), seed=5)

    assert again == first
    assert other["metrics"]["accuracy"]["low"] != first["metrics"]["accuracy"]["low"]


def test_many_kinds_of_group_go_through_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, target, groups = judged(600, 5, 150)
    whole = evaluate(scores, target, groups, names(5), np.ones(5), resamples=20000)["metrics"]
    monkeypatch.setattr("soundbench.statistics._BLOCK", 7)
    blocks = evaluate(scores, target, groups, names(5), np.ones(5), resamples=20000)["metrics"]

    for name, figure in whole.items():
        assert blocks[name]["value"] == figure["value"]
        assert [blocks[name]["low"], blocks[name]["high"]] == pytest.approx([figure["low"], figure["high"]], abs=0.006)


def test_a_macro_average_in_a_resample_is_over_the_classes_that_it_holds() -> None:
    # Two groups of a class each, all right: whichever are drawn, every class that is there has F1 1.
    macro = found([[1, 0], [0, 1]], [0, 1], groups=[0, 1])["metrics"]["macro_f1"]

    assert macro == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_fifty_classes_two_thousand_groups_in_a_second_and_bounded_memory() -> None:
    scores, target, groups = judged(8732, 50, 2000)
    tracemalloc.start()
    evaluate(scores, target, groups, names(50), np.ones(50))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    best = math.inf
    for _ in range(3):
        began = time.perf_counter()
        evaluate(scores, target, groups, names(50), np.ones(50))
        best = min(best, time.perf_counter() - began)

    assert best < 1.0
    assert peak < 100e6


# Folds


def test_folds_are_pooled_to_mean_and_spread() -> None:
    folds = [{"metrics": {"accuracy": {"value": value, "low": None, "high": None}}} for value in (0.5, 0.6, 0.7)]

    assert pooled(folds) == {
        "accuracy": {"mean": pytest.approx(0.6), "spread": pytest.approx(0.1), "values": [0.5, 0.6, 0.7]}
    }


def test_one_fold_has_no_spread() -> None:
    report = found([[1, 0], [0, 1]], [0, 1], resamples=5)

    assert pooled([report])["accuracy"] == {"mean": 1.0, "spread": None, "values": [1.0]}
    assert pooled([]) == {}
