"""Energy, max-logit and distance against closed forms, NumPy in float64, and SciPy; the contract suite on each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, cosine, mahalanobis
from scipy.special import logsumexp
from soundbench_plugins.reject import distance
from soundbench_plugins.reject.distance import Distance
from soundbench_plugins.reject.energy import Energy
from soundbench_plugins.reject.max_logit import MaxLogit
from soundbench_plugins.reject.none import NoReject

from soundbench.testing import check_component

CLASSES, SIZE = 3, 6


@pytest.mark.parametrize("component", [Energy, MaxLogit, Distance, NoReject])
def test_it_keeps_the_contract(component: type) -> None:
    check_component("reject", component)


@pytest.mark.parametrize("metric", ["relative", "mahalanobis", "cosine"])
def test_distances_of_every_kind_keep_it(metric: str) -> None:
    check_component("reject", Distance, options={"metric": metric})


@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_energy_is_the_scaled_log_of_the_sum_of_exponentials(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 20, (50, 7))
    found = Energy(7, temperature=temperature)(torch.from_numpy(logits))
    assert found.numpy() == pytest.approx(temperature * logsumexp(logits / temperature, axis=1), rel=1e-12)
    same = Energy(4)(torch.full((1, 4), 2.5, dtype=torch.float64))
    assert float(same) == pytest.approx(2.5 + np.log(4))


def test_max_logit_is_the_largest_and_none_is_the_same_for_all() -> None:
    logits = torch.tensor([[1.0, 3.0, -2.0], [-1.0, -5.0, -0.5]])
    assert MaxLogit(3)(logits).tolist() == [3.0, -0.5]
    assert NoReject(3)(logits).tolist() == [0.0, 0.0]


def fitted(with_noise: bool = False, **options: object) -> tuple[Distance, np.ndarray, np.ndarray, np.ndarray]:
    """A distance fitted to clusters, with their vectors and labels, and vectors of noise."""
    draws = np.random.default_rng(3)
    labels = np.repeat(np.arange(CLASSES), 30)
    mixing = draws.normal(size=(SIZE, SIZE))
    vectors = (4 * np.eye(SIZE)[labels] + draws.normal(size=(90, SIZE))) @ mixing
    noise = draws.normal(size=(20, SIZE)) * 0.1 + 2
    targets = np.concatenate([np.eye(CLASSES)[labels], np.zeros((20, CLASSES))])
    module = Distance(CLASSES, **options)
    count = 110 if with_noise else 90
    rows = torch.from_numpy(np.concatenate([vectors, noise]))[:count]
    module.fit(torch.zeros(count, CLASSES), rows, torch.from_numpy(targets)[:count])
    return module, vectors, labels, noise


def covariances(vectors: np.ndarray, labels: np.ndarray, shrinkage: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """The class means, and the inverses of the shrunk covariances within the classes and over all of them."""
    means = np.stack([vectors[labels == code].mean(0) for code in range(CLASSES)])
    found = [np.cov(rows.T, bias=True) for rows in (vectors - means[labels], vectors)]
    shrunk = [(1 - shrinkage) * one + shrinkage * np.trace(one) / SIZE * np.eye(SIZE) for one in found]
    return means, [np.linalg.inv(one) for one in shrunk]


@pytest.mark.parametrize("shrinkage", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("metric", ["mahalanobis", "relative"])
def test_mahalanobis_distances_are_those_of_scipy(metric: str, shrinkage: float) -> None:
    module, vectors, labels, _ = fitted(metric=metric, shrinkage=shrinkage)
    means, (within, overall) = covariances(vectors, labels, shrinkage)
    others = np.random.default_rng(4).normal(size=(20, SIZE)) * 5
    wanted = np.array([-min(mahalanobis(one, mean, within) ** 2 for mean in means) for one in others])
    if metric == "relative":
        wanted += [mahalanobis(one, vectors.mean(0), overall) ** 2 for one in others]
    found = module(torch.zeros(20, CLASSES), torch.from_numpy(others))
    assert found.numpy() == pytest.approx(wanted, rel=1e-5)  # of matrices in float32


def test_cosine_distances_are_those_of_scipy() -> None:
    module, vectors, labels, _ = fitted(metric="cosine")
    centre = vectors.mean(0)
    means = np.stack([vectors[labels == code].mean(0) for code in range(CLASSES)])
    others = np.random.default_rng(4).normal(size=(20, SIZE)) * 5
    # the squared distance of unit vectors is twice the cosine distance
    wanted = [-2 * min(cosine(one - centre, mean - centre) for mean in means) for one in others]
    found = module(torch.zeros(20, CLASSES), torch.from_numpy(others))
    assert found.numpy() == pytest.approx(np.array(wanted), abs=1e-6)


@pytest.mark.parametrize("metric", ["relative", "mahalanobis"])
def test_what_is_nearer_to_noise_than_to_a_class_scores_lower_and_nothing_else(metric: str) -> None:
    module, vectors, labels, noise = fitted(True, metric=metric)
    alone, *_ = fitted(metric=metric)
    means, (within, _) = covariances(vectors, labels, 0.9)

    def squares(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.array([[mahalanobis(one, other, within) ** 2 for other in others] for one in rows])

    apart = squares(noise, noise) + np.where(np.eye(len(noise)), np.inf, 0)
    between = noise[0] + np.linspace(0, 1, 60)[:, None] * (means[1] - noise[0])
    rows = np.concatenate([vectors, (noise[:-1] + noise[1:]) / 2, between])
    own, each = squares(rows, means).min(1), squares(rows, noise)
    near = each.min(1)
    given = torch.zeros(len(rows), CLASSES), torch.from_numpy(rows)
    plain, found = alone(*given).numpy(), module(*given).numpy()
    among = (near < 0.4 * own) | ((each <= np.sort(apart, 1)[:, 5]) & (each < own[:, None])).any(1)
    assert 5 < among.sum() < len(rows) - len(vectors)
    assert (near < own)[~among].any()
    assert found[~among] == pytest.approx((plain - 3 * np.maximum(own - near, 0))[~among], rel=1e-5)
    assert (found[among] < plain[: len(vectors)].min()).all()


def test_of_much_noise_some_is_kept_and_reaches_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reach of what is kept ends at what is nearest to it, or the sixth nearest, if that is farther."""
    draws = np.random.default_rng(5)
    noise = np.concatenate([draws.normal(size=(60, SIZE)), draws.normal(size=(3, SIZE)) * 0.01 + 9])
    known, targets = np.concatenate([noise[:2] + 50, noise[:2] - 50]), np.eye(CLASSES)[[0, 0, 1, 1]]
    rows = torch.from_numpy(np.concatenate([known, noise]))
    labels = torch.from_numpy(np.concatenate([targets, np.zeros((len(noise), CLASSES))]))
    monkeypatch.setattr(distance, "_KEPT", 8)
    module = Distance(CLASSES, shrinkage=1.0)
    module.fit(torch.zeros(len(rows), CLASSES), rows, labels)
    kept, placed = module.noises.double().numpy(), module._placed(rows[4:]).float().double().numpy()
    apart = cdist(placed, kept, "sqeuclidean")
    assert len(np.unique(kept, axis=0)) == 8
    assert (apart.min(0) == 0).all()
    assert (apart[-3:].min(1) < 1).all()  # far from all other noise, and not left out
    sixth = np.sort(cdist(kept, placed, "sqeuclidean"), 1)[:, 6]
    covered = [apart[apart.argmin(1) == place, place].max() for place in range(8)]
    assert module.radius.numpy() == pytest.approx(np.maximum(sixth, covered), rel=1e-5)
    found = module(torch.zeros(len(rows), CLASSES), rows)
    low = found[4:] < found[:4].min() - module.lower / 2
    assert low.double().mean() > 0.9  # what is at the end of a reach may be beyond it by rounding


def test_alike_windows_of_noise_are_kept_once() -> None:
    module = Distance(2)
    rows = torch.cat([torch.eye(2, 4), torch.full((30, 4), 3.0)])
    module.fit(torch.zeros(32, 2), rows, torch.cat([torch.eye(2), torch.zeros(30, 2)]))
    assert len(module.noises) == 1
    assert module(torch.zeros(32, 2), rows).isfinite().all()


def test_one_clip_a_class_gives_finite_scores() -> None:
    module = Distance(2)
    module.fit(torch.zeros(2, 2), torch.eye(2, 4), torch.eye(2))
    assert module(torch.zeros(2, 2), torch.eye(2, 4)).isfinite().all()


def test_a_class_without_training_clips_has_no_mean() -> None:
    module = Distance(3)
    module.fit(torch.zeros(4, 3), torch.randn(4, 5), torch.tensor([[1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1.0]]))
    assert module.means.shape == (2, 5)
    assert module(torch.zeros(4, 3), torch.randn(4, 5)).isfinite().all()


@pytest.mark.parametrize(
    ("component", "options", "message"),
    [
        (Energy, {"temperature": 0.0}, "temperature must be above 0, and finite, is 0.0"),
        (Energy, {"temperature": float("inf")}, "temperature must be above 0, and finite, is inf"),
        (Distance, {"shrinkage": 0.0}, "shrinkage must be above 0 and at most 1, is 0.0"),
    ],
)
def test_options_out_of_range(component: type, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        component(3, **options)
