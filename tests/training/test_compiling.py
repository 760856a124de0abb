"""A step that compiles: what is traced computes what the step computes, and what cannot be is named."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
import pytest
import torch
from helpers.toys import ToyDataset
from helpers.training import CPU, WINDOW, ArrayStore, made

from soundbench.chance import Chance, Keyed
from soundbench.contracts import Batch
from soundbench.data.batches import on_device, training_batches
from soundbench.data.clips import ClipTable
from soundbench.data.order import Order
from soundbench.training.step import TrainStep

ORDER = Order(np.arange(26), batch=6, seed=5)


@pytest.fixture(autouse=True)
def _traces() -> Iterator[None]:
    """No trace of another test."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def batches(epochs: int) -> list[tuple[int, Batch]]:
    """Batches of 5 and 6 rows, each with its epoch."""
    dataset = ToyDataset(clips=26)
    raws = training_batches(ArrayStore(dataset), ClipTable.of(dataset), ORDER, WINDOW, epochs)
    return [(1 + step // ORDER.steps, on_device(raw, CPU.device, "off")) for step, raw in enumerate(raws)]


def test_a_step_is_traced_whole_and_draws_the_same_numbers_in_each_epoch() -> None:
    step = made(ORDER, 2).step.train()
    assert isinstance(step, TrainStep)
    given = batches(2)
    step.note_draws(given[0][1])
    assert step.draws == [("augmentation[1]", "band")]
    traced = torch.compile(step.losses, backend="eager", fullgraph=True)
    for number, (epoch, batch) in enumerate(given):
        tensors = attrs.astuple(batch, recurse=False)
        torch.manual_seed(number)
        plain, _ = step(*tensors, epoch)
        torch.manual_seed(number)
        own, _ = traced(*tensors, 0, step.keys(epoch))
        assert torch.equal(own, plain)


def test_noting_what_is_drawn_changes_no_weight_and_no_statistic() -> None:
    step = made(ORDER, 1).step.train()
    assert isinstance(step, TrainStep)
    before = {name: value.clone() for name, value in step.state_dict().items()}
    state = torch.get_rng_state()
    step.note_draws(batches(1)[0][1])
    assert all(torch.equal(value, before[name]) for name, value in step.state_dict().items())
    assert all(module.training for module in step.modules())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("epoch", [1, 7])
def test_keys_in_a_tensor_give_the_bits_of_their_addresses(epoch: int) -> None:
    place, position = "augmentation[3]", torch.arange(1000) * 7919
    one = Chance(2**63 - 1, epoch, place)
    keys = torch.tensor([one.key("a"), one.key("b")])
    other = Keyed(keys, [(place, "a"), (place, "b")], place)
    for draw in ("a", "b"):
        assert torch.equal(other.bits(position, draw), one.bits(position, draw))
        assert torch.equal(other.uniform(position, draw, -3.0, 5.0), one.uniform(position, draw, -3.0, 5.0))
        assert torch.equal(other.integers(position, draw, 13), one.integers(position, draw, 13))
