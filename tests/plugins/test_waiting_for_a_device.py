"""No built-in makes Python wait for a GPU: counted without one, on tensors that have no values (`synchronising`)."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch
from helpers.synchronising import META, synchronising
from torch import nn

from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench.data.batches import keep_on_host
from soundbench.model.network import Head, Network
from soundbench.recipe.registry import Registry
from soundbench.training.compiling.train_step import TrainStep, tensors_of

REGISTRY = Registry()
RATE, CLASSES = 16000, 5
# Featurizers that need a pretrained model, and a backbone of tens of millions of weights, the same but for its size.
LEFT_OUT = {"transformers", "wav2vec2", "wavlm", "panns-cnn14"}


def names(kind: str) -> list[str]:
    return [listing.name for listing in REGISTRY.listings(kind) if listing.name not in LEFT_OUT]


def batch(features: bool = False) -> Batch:
    """Rows of several lengths on a device, as the engine makes them."""
    lengths = torch.tensor([98, 98, 50, 3, 1, 98] if features else [16000, 16000, 9000, 400, 1, 16000])
    data = torch.empty(6, 80, 98) if features else torch.empty(6, 16000)
    position = torch.arange(6) * 3
    whole = Batch(data, lengths, torch.eye(6)[:, :CLASSES], torch.arange(6), position)
    there = Batch(*(tensor.to(META) for tensor in tensors_of(whole)))
    keep_on_host(there.position, position)
    return there


def made(kind: str, name: str, *given: object, folder: Path | None = None) -> nn.Module:
    component = REGISTRY.get(kind, name).obj
    options = component.example(folder) if hasattr(component, "example") else {}
    module: nn.Module = component(*given, **options)
    return module.to(META).train()


@pytest.mark.parametrize("name", names("augmentation"))
def test_an_augmentation_never_waits(name: str, tmp_path: Path) -> None:
    module = made("augmentation", name, RATE, folder=tmp_path)
    getattr(module, "prepare", lambda: None)()
    given = batch(features=module.on == "features")
    module(given, Chance(1, 1, "augmentation[0]"))  # the first batch takes what was read from files to the device
    for epoch in (1, 2, 3):
        with synchronising() as found:
            module(given, Chance(1, epoch, "augmentation[0]"))
        assert found == []


@pytest.mark.parametrize("name", ["speed", "pitch", "tempo", "reverb", "filter"])
def test_an_augmentation_reads_positions_that_the_host_does_not_have(name: str, tmp_path: Path) -> None:
    """What a plugin's author does in a test of his own."""
    module = made("augmentation", name, RATE, folder=tmp_path)
    getattr(module, "prepare", lambda: None)()
    given = attrs.evolve(batch(), position=torch.arange(6, device=META))
    for _ in range(2):  # the first batch takes what was read from files to the device
        with synchronising() as found:
            module(given, Chance(1, 1, "augmentation[0]"))
    assert set(found) == {"copy to the host"}
    assert len(found) <= 2


def step(
    backbone: str = "tdnn", featurizer: str = "fbank", loss: str = "cross-entropy", pooling: str = ""
) -> TrainStep:
    first = REGISTRY.get("featurizer", featurizer).obj(RATE)
    second = REGISTRY.get("backbone", backbone).obj(first.bands)
    table = dict(second.default_pooling) | ({"use": pooling} if pooling else {})
    third = REGISTRY.get("pooling", table.pop("use")).obj(second.channels, **({} if pooling else table))
    fourth = REGISTRY.get("loss", loss).obj(CLASSES)
    head = Head(third.features, CLASSES, **{**second.default_head, "classifier": fourth.classifier})
    masked = REGISTRY.get("augmentation", "spec-augment").obj(RATE, time_warp=0.1)
    return TrainStep(Network(first, second, third, head), [("augmentation[0]", masked)], fourth, 1).to(META).train()


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ("backbone", "featurizer", "pooling", "loss") for name in names(kind)],
)
def test_a_step_never_waits_for_it_forward_or_backward(kind: str, name: str) -> None:
    own = step(**{kind: name})
    given = batch()
    with synchronising() as found:
        losses, _ = own(*tensors_of(given), 1)
        losses.sum().backward()
    assert found == []


class Waiting(nn.Module):
    """Does one of all that makes Python wait."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, given: Batch) -> None:
        x = given.data
        {
            "item": lambda: float(x.sum()),
            "nonzero": lambda: (x[:, 0] > 0).nonzero(),
            "copy to the host": lambda: x.cpu(),
            "copy to the device": lambda: torch.ones(3).to(x.device),
            "tensor from values of the host": lambda: torch.tensor([1, 2], device=x.device),
            "index by a mask": lambda: x[x[:, 0] > 0],
            "index from the host": lambda: x[torch.tensor([0, 1])],
            "equal": lambda: torch.equal(x, x + 1),
        }[self.how]()


@pytest.mark.parametrize(
    "how",
    [
        "item",
        "nonzero",
        "copy to the host",
        "copy to the device",
        "tensor from values of the host",
        "index by a mask",
        "index from the host",
        "equal",
    ],
)
def test_all_that_waits_is_counted(how: str) -> None:
    given = batch()
    with synchronising() as found:
        Waiting(how)(given)
        torch.ones(3).to(META, non_blocking=True)  # which does not
    assert found == [how]
