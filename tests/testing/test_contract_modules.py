"""The contract suite on featurizers, backbones and poolings that each break a promise: it says which, with numbers."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers.contract_suite import broken
from helpers.toys import ToyBackbone, ToyFeaturizer, ToyPooling
from torch import Tensor, nn

from soundbench import masks
from soundbench.testing import ContractError, Report, check_component

pytestmark = pytest.mark.usefixtures("only_toys")


@pytest.mark.parametrize(
    ("kind", "component"), [("backbone", ToyBackbone), ("featurizer", ToyFeaturizer), ("pooling", ToyPooling)]
)
def test_what_keeps_its_promises_is_reported_promise_by_promise(kind: str, component: Callable[..., Any]) -> None:
    report = check_component(kind, component, thorough=True)
    assert isinstance(report, Report)
    assert not report.broken
    states = {result.promise: result.state for result in report.results}
    assert [states[name] for name in ("summary", "made", "shapes", "any length", "padding", "state")] == ["ok"] * 6


def test_torch_is_left_as_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    check_component("backbone", ToyBackbone)
    assert torch.equal(torch.rand(1), expected)


# Backbones


class HonestBackbone(ToyBackbone):
    """The toy, without options."""

    def __init__(self, bands: int) -> None:
        super().__init__(bands)


class Leaks(HonestBackbone):
    """Does not mask what its batch norm makes of padding before the next convolution sees it."""

    def __init__(self, bands: int) -> None:
        super().__init__(bands)
        self.second = nn.Conv1d(16, 16, 3, padding=1)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.conv(masks.apply(features, lengths))).relu()
        return self.second(self.dropout(x)), lengths


def test_padding_that_leaks() -> None:
    found = broken("backbone", Leaks)
    assert list(found) == ["padding"]
    assert re.fullmatch(
        r"row 0 of length 96, alone, differs from the same row with padding by \d\.\de-0[12] \(allowed 1e-04\)",
        found["padding"],
    )


class MeanOfBatch(HonestBackbone):
    """Subtracts the mean of the batch, so that a row depends on the others."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = super().forward(features, lengths)
        return masks.apply(x - x.mean((0, 2), keepdim=True), lengths), lengths


class Short(HonestBackbone):
    """Needs four frames."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = super().forward(features, lengths)
        return x.unfold(2, 4, 1).mean(3), (lengths - 3).clamp(min=1)


class EvenBands(HonestBackbone):
    """Halves the bands."""

    def __init__(self, bands: int) -> None:
        super().__init__(bands // 2 * 2)


class Unused(HonestBackbone):
    """Has a layer that nothing goes through, and one that gets no gradient but zeros."""

    def __init__(self, bands: int) -> None:
        super().__init__(bands)
        self.aside, self.dead = nn.Linear(2, 2), nn.Parameter(torch.ones(1))

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = super().forward(features, lengths)
        return x + 0.0 * self.dead, lengths


class Exploding(HonestBackbone):
    """Its gradient is not finite."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = super().forward(features, lengths)
        return x.sqrt(), lengths


class Unseeded(HonestBackbone):
    """Draws its weights from the machine."""

    def __init__(self, bands: int) -> None:
        super().__init__(bands)
        with torch.no_grad(), torch.random.fork_rng():
            torch.seed()
            self.conv.weight.copy_(torch.randn_like(self.conv.weight))


class Forgetful(HonestBackbone):
    """Holds a tensor that its state lacks."""

    def __init__(self, bands: int) -> None:
        super().__init__(bands)
        self.gains = torch.rand(16, 1)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = super().forward(features, lengths)
        return x * self.gains, lengths


class Rough(HonestBackbone):
    """Under autocast it loses what it is about."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = super().forward(features + 300.0, lengths)
        return masks.apply(
            x - x.mean((1, 2), keepdim=True) if torch.is_autocast_enabled("cpu") else x, lengths
        ), lengths


class Infinite(HonestBackbone):
    """Overflows in half precision."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = super().forward(features, lengths)
        return (x / x.new_zeros(()) if torch.is_autocast_enabled("cpu") else x), lengths


class Liar(HonestBackbone):
    """Says other channels than it gives."""

    def __init__(self, bands: int) -> None:
        super().__init__(bands)
        self.channels = 17


class Looking(HonestBackbone):
    """Looks at the value of a tensor, which cannot be exported."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = super().forward(features, lengths)
        return (x if lengths.max().item() > 3 else x * 1.0), lengths


class Misnamed(HonestBackbone):
    """Asks for a pooling that there is not."""

    default_pooling: ClassVar[dict[str, Any]] = {"use": "maen"}


class Headless(HonestBackbone):
    """Its head has a key that heads have not."""

    default_head: ClassVar[dict[str, Any]] = {"embeding": 8}


@pytest.mark.parametrize(
    ("component", "promise", "message"),
    [
        (
            MeanOfBatch,
            "padding",
            r"row 0 of length 96, alone, differs from the same row .* by \d\.\de.0\d \(allowed 1e-04\)",
        ),
        (Short, "any length", r"1 frames: raised RuntimeError: maximum size for tensor at dimension 2 is 1 but .*"),
        (EvenBands, "any bands", r"17 bands: raised RuntimeError: .*expected input.* to have 16 channels.*"),
        (
            Unused,
            "gradients",
            r"2 of 7 parameters get no gradient: aside\.weight, aside\.bias; 1 of 7 .* get a gradient of zeros: dead",
        ),
        (
            Exploding,
            "gradients",
            r"4 of 4 parameters get a gradient that is not finite: conv\.weight, conv\.bias, norm\.weight, .*",
        ),
        (Unseeded, "seed", r"made twice with the same seed, 1 tensors differ: conv\.weight"),
        (Forgetful, "state", r"a new module with its state_dict differs by \d\.\de[-+]\d\d \(allowed 1e-06\)"),
        (Rough, "bf16", r"the cosine of the bf16 and float32 outputs is -?0\.\d\d\d \(must be at least 0\.95\)"),
        (Infinite, "bf16", r"under bf16 autocast, the output has \d+ of \d+ values that are not finite"),
        (Liar, "shapes", r"96 frames of 80 bands: returns \(4, 16, 96\), but channels says \(4, 17, T\)"),
        (Misnamed, "defaults", r'default_pooling: there is no pooling "maen"; did you mean "mean"\? known: mean'),
        (Headless, "defaults", r'default_head\.embeding: unknown key; did you mean "embedding"\? .*'),
    ],
)
def test_a_backbone_that_breaks_a_promise(component: type[nn.Module], promise: str, message: str) -> None:
    found = broken("backbone", component)
    assert promise in found
    assert re.fullmatch(message, found[promise]), found[promise]
    assert component in (MeanOfBatch, Short, Liar, Exploding) or list(found) == [promise]


def test_a_module_that_cannot_be_exported_is_found_if_thorough() -> None:
    check_component("backbone", Looking)
    with pytest.raises(ContractError, match=r"Looking breaks 1 of 15 promises\n  export: torch.export raised "):
        check_component("backbone", Looking, thorough=True)


class Recurrent(HonestBackbone):
    """Reads frames one after another, and meets the padding last."""

    def __init__(self, bands: int) -> None:
        super().__init__(bands)
        self.recurrent = nn.GRU(16, 16, batch_first=True)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = super().forward(features, lengths)
        return masks.apply(self.recurrent(x.transpose(1, 2))[0].transpose(1, 2), lengths), lengths


class SaysSo(Recurrent):
    """Says that it cannot be exported."""

    unexportable = "torch.export traces its recurrent layer for one length"


@pytest.mark.slow
def test_a_module_that_is_exported_for_one_length_is_found_unless_it_says_so() -> None:
    message = r"Recurrent breaks 1 of 15 promises\n  export: .* raised .*; what cannot be traced for any length"
    with pytest.raises(ContractError, match=message):
        check_component("backbone", Recurrent, thorough=True)
    results = {result.promise: result for result in check_component("backbone", SaysSo, thorough=True).results}
    assert results["export"].state == "not applicable"
    assert results["export"].message == f"it says that it cannot be exported: {SaysSo.unexportable}"


class Image(nn.Module):
    """An ordinary image network on features as images of one channel, without masks."""

    ragged = False

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.channels = 8
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3, 2, 1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(4, 8, 3, padding=1),
        )

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if not self.ragged:
            assert bool((lengths == features.shape[2]).all())
        frames = self.net(features[:, None]).mean(2)
        return frames, masks.strided(masks.strided(lengths, 2), 2)


class Unaware(Image):
    """The same, and does not declare it."""

    ragged = True


class Seeding(HonestBackbone):
    """Seeds what a run has seeded."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            torch.manual_seed(0)
            random.seed(0)
        return super().forward(features, lengths)


class Drawing(HonestBackbone):
    """Draws in evaluation mode, for nothing."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        np.random.rand()
        return super().forward(features, lengths)


# Featurizers


class HonestFeaturizer(ToyFeaturizer):
    """The toy, without options."""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)


class NotZero(HonestFeaturizer):
    """Leaves what it made of the padding."""

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        out, counts = super().forward(waveform, lengths)
        return out + 1.0, counts


class Empty(HonestFeaturizer):
    """Gives no frame of a short row."""

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        out, _ = super().forward(waveform, lengths)
        return masks.apply(out, lengths // 64), lengths // 64


class Silence(HonestFeaturizer):
    """Takes the logarithm of nothing."""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.floor = 0.0


class Normalized(HonestFeaturizer):
    """Takes off the mean of a row, padding and all."""

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        out, counts = super().forward(waveform, lengths)
        return masks.apply(out - out.mean(2, keepdim=True), counts), counts


class Equal(Normalized):
    """The same, and declares it."""

    ragged = False


class Halves(HonestFeaturizer):
    """Lengths that are no whole numbers."""

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        out, counts = super().forward(waveform, lengths)
        return out, counts.float()


@pytest.mark.parametrize(
    ("component", "promise", "message"),
    [
        (NotZero, "shapes", r"row 0 with 62 frames is not zero beyond its length: up to 1\.0e\+00"),
        (Empty, "shapes", r"the output: lengths must be from 1 to 63, are \[62, 39, 6, 0\]"),
        (Silence, "any length", r"1 samples of silence: the output has 32 of 32 values that are not finite"),
        (
            Normalized,
            "padding",
            r"row 1 of length 2501, alone, differs from the same row with padding by \d\.\de-0\d .*",
        ),
        (Halves, "shapes", r"the output: lengths must be \(4,\) int64, are \(4,\) torch\.float32"),
    ],
)
def test_a_featurizer_that_breaks_a_promise(component: type[nn.Module], promise: str, message: str) -> None:
    found = broken("featurizer", component)
    assert promise in found
    assert re.fullmatch(message, found[promise]), found[promise]


def test_a_featurizer_that_is_not_ragged_is_given_rows_of_equal_length() -> None:
    report = check_component("featurizer", Equal)
    (padding,) = (result for result in report.results if result.promise == "padding")
    assert padding.message.endswith("rows of equal length (ragged = False)")


def test_a_backbone_that_is_not_ragged_is_given_rows_of_equal_length() -> None:
    report = check_component("backbone", Image)
    (padding,) = (result for result in report.results if result.promise == "padding")
    assert padding.message.endswith("rows of equal length (ragged = False)")
    assert "padding" in broken("backbone", Unaware)


def test_a_module_that_uses_the_global_random_states() -> None:
    message = "it seeds the global random state of torch and random; a run seeds it at each step"
    assert broken("backbone", Seeding) == {"seed": message}
    assert broken("backbone", Drawing) == {"seed": "in evaluation mode it uses the global random state of NumPy"}


# Poolings


class Unmasked(ToyPooling):
    """The mean over all frames."""

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        return frames.mean(2)


class Deviation(ToyPooling):
    """A standard deviation that one frame does not have."""

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        mean = super().forward(frames, lengths)
        squares = masks.apply(frames - mean.unsqueeze(2), lengths).square().sum(2)
        return (squares / (lengths - 1).unsqueeze(1)).sqrt()


class Wide(ToyPooling):
    """Says more than it gives."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.features = 2 * channels


@pytest.mark.parametrize(
    ("component", "promise", "message"),
    [
        (
            Unmasked,
            "padding",
            r"row 0 of length 30, alone, differs from the same row with padding by \d\.\de[-+]\d\d .*",
        ),
        (Deviation, "any length", r"1 frames of noise: the output has 48 of 48 values that are not finite"),
        (Wide, "shapes", r"1 channels: returns \(3, 1\), but features says \(3, 2\)"),
    ],
)
def test_a_pooling_that_breaks_a_promise(component: type[nn.Module], promise: str, message: str) -> None:
    found = broken("pooling", component)
    assert promise in found
    assert re.fullmatch(message, found[promise]), found[promise]


class Remade(ToyBackbone):
    """Is created from its model without the number that its file has."""

    def __init__(self, bands: int, *, channels: int = 16, dropout: float = 0.2) -> None:
        super().__init__(bands, channels=channels, dropout=dropout)
        self.factor = 2.0

    def assets(self, folder: Path) -> None:
        (folder / "factor.txt").write_text(str(self.factor))

    @classmethod
    def from_assets(cls, folder: Path, bands: int, **options: Any) -> Remade:
        made = cls(bands, **options)
        made.factor = 3.0
        return made

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        frames, lengths = super().forward(features, lengths)
        return self.factor * frames, lengths


class RemadeNarrow(Remade):
    """Is created from its model with its default options."""

    @classmethod
    def from_assets(cls, folder: Path, bands: int, **_: Any) -> RemadeNarrow:
        return cls(bands, channels=8)


class RemadeRight(Remade):
    """Is created from its model as it was.

    Args:
        channels: how many.
        dropout: how much.
    """

    @classmethod
    def from_assets(cls, folder: Path, bands: int, **options: Any) -> RemadeRight:
        made = cls(bands, **options)
        made.factor = float((folder / "factor.txt").read_text())
        return made


def test_a_component_created_from_its_model_is_the_same() -> None:
    differs = r"what from_assets makes differs by \d\.\de[-+]\d\d \(allowed 1e-06\)"
    assert re.fullmatch(differs, broken("backbone", Remade)["assets"])
    assert broken("backbone", RemadeNarrow)["assets"].startswith("from_assets makes another module: ")
    (found,) = (one for one in check_component("backbone", RemadeRight).results if one.promise == "assets")
    assert found.message == "factor.txt"
