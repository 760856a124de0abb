"""The contract suite on augmentations that each break a promise: it says which, with the numbers."""

from __future__ import annotations

import random
from typing import Any, ClassVar, Literal

import attrs
import numpy as np
import pytest
import torch
from helpers.contract_suite import says
from torch import nn

from soundbench.contracts import Batch
from soundbench.testing import check_component, examine

pytestmark = pytest.mark.usefixtures("only_toys")


class Augmentation(nn.Module):
    """Does nothing."""

    on: ClassVar[Literal["waveform", "features"]] = "waveform"

    def __init__(self, rate: int) -> None:
        super().__init__()

    def forward(self, batch: Batch, chance: Any) -> Batch:
        return attrs.evolve(batch, **self.changes(batch, chance))

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        return {}


class Torch(Augmentation):
    """Draws from torch's global state."""

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        return {"data": batch.data * torch.rand(len(batch.data), 1)}


class Other(Augmentation):
    """Draws from NumPy's and Python's global states."""

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        return {"data": batch.data * float(np.random.rand()) * random.random()}


class Seeding(Augmentation):
    """Seeds Python's and NumPy's global states at each call, so that they end as its call before has left them."""

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        random.seed(0)
        np.random.seed(0)
        return {"data": batch.data * float(np.random.rand()) * random.random()}


class SeedingTorch(Augmentation):
    """The same with torch's."""

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        torch.manual_seed(1)
        return {"data": batch.data * torch.rand(())}


class Counting(Augmentation):
    """Its draws depend on the place in the batch."""

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        return {"data": batch.data * chance.uniform(torch.arange(len(batch.data)), "gain")[:, None]}


class Remembering(Augmentation):
    """Its draws depend on how many came before."""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.calls = 0

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        self.calls += 1
        return {"data": batch.data * self.calls}


class Mixing(Augmentation):
    """Mixes rows, and does not declare it."""

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        lengths = batch.lengths.maximum(batch.lengths.flip(0))
        target = 0.5 * batch.target + 0.5 * batch.target.flip(0)
        return {"data": 0.5 * batch.data + 0.5 * batch.data.flip(0), "lengths": lengths, "target": target}


class Mixer(Mixing):
    """Mixes rows, and declares it."""

    mixes: ClassVar[bool] = True


class Doubling(Mixer):
    """Adds targets up."""

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        return super().changes(batch, chance) | {"target": batch.target + batch.target.flip(0)}


class Noisy(Augmentation):
    """Puts noise into the padding."""

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        return {"data": batch.data + 0.1}


class Stretching(Augmentation):
    """Calls silence sound."""

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        return {"lengths": torch.full_like(batch.lengths, batch.data.shape[1])}


class Vanishing(Augmentation):
    """Shortens rows to nothing."""

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        lengths = batch.lengths // 2
        inside = torch.arange(batch.data.shape[1]) < lengths[:, None]
        return {"data": batch.data * inside, "lengths": lengths}


class Unit(Augmentation):
    """Divides by a level that silence does not have."""

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        return {"data": batch.data / batch.data.norm(dim=1, keepdim=True)}


class Elsewhere(Augmentation):
    """Takes neither waveforms nor features."""

    on: ClassVar[Literal["waveform"]] = "sound"  # type: ignore[assignment]


class Double(Augmentation):
    """Changes the type."""

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        return {"data": batch.data.double()}


class Moving(Augmentation):
    """Changes what draws are addressed by."""

    def changes(self, batch: Batch, chance: Any) -> dict[str, Any]:
        return {"position": batch.position + 1}


@pytest.mark.parametrize(
    ("component", "promise", "message"),
    [
        (Torch, "global random state", r"it uses the global random state of torch; draw from chance with .*"),
        (Torch, "same draw", r"the same batch, augmented twice, differs by \d\.\de-0\d \(allowed 0e\+00\)"),
        (Other, "global random state", r"it uses the global random state of random and NumPy; .*"),
        (Seeding, "global random state", r"it uses the global random state of random and NumPy; .*"),
        (SeedingTorch, "global random state", r"it uses the global random state of torch; .*"),
        (
            Counting,
            "addressed",
            r"row 3 in a batch of 2 differs from the same row in a batch of 8 by .* \(allowed 1e-04\)",
        ),
        (Remembering, "same draw", r"the same batch, augmented twice, differs by \d\.\de[-+]\d\d \(allowed 0e\+00\)"),
        (Mixing, "targets", r"targets change; an augmentation that changes them must set mixes = True"),
        (Doubling, "targets", r"targets must be at least 0 and keep their sum; it changes by 1\.0e\+00 .*"),
        (Noisy, "lengths", r"row 2 of length 5001 is not zero beyond its length"),
        (Stretching, "lengths", r"row 2 of length 5001 now has length 8000, but only zeros beyond 5001"),
        (Vanishing, "lengths", r"the output: lengths must be from 1 to 8000, are \[4000, 4000, 2500, 0, .*\]"),
        (Unit, "values", r"row 1 \(silence\) has 8000 of 8000 values that are not finite"),
        (Elsewhere, "on", r"on must be \"waveform\" or \"features\", is 'sound'"),
        (Double, "shapes", r"changes data from torch\.float32 on cpu to torch\.float64 on cpu"),
        (Moving, "shapes", r"index and position must not change"),
    ],
)
def test_an_augmentation_that_breaks_a_promise(component: type[nn.Module], promise: str, message: str) -> None:
    says("augmentation", component, promise, message)


def test_an_augmentation_that_declares_mixing_may_use_other_rows() -> None:
    report = check_component("augmentation", Mixer)
    assert [result.state for result in report.results if result.promise == "addressed"] == ["not applicable"]


@pytest.mark.parametrize("component", [Augmentation, Seeding, SeedingTorch])
def test_the_callers_random_states_are_as_before(component: type[nn.Module]) -> None:
    torch.rand(3), np.random.rand(3), random.random()
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    examine("augmentation", component)
    after = torch.get_rng_state(), np.random.get_state(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert all(np.array_equal(one, other) for one, other in zip(before[1], after[1], strict=True))
    assert before[2] == after[2]
