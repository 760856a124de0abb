"""Toy components and data for tests of the core, which names no built-in."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from soundbench import masks
from soundbench.contracts import Batch, Clip, HeldOut, Imported, Program
from soundbench.errors import RunError, SoundError


class ToyDataset:
    """Two classes of noise, low and high; sounds from 0.05 to 0.4 s.

    Args:
        clips: how many.
        seed: of the noise.
    """

    multilabel = False

    def __init__(self, *, clips: int = 40, seed: int = 0) -> None:
        if clips < 1:
            raise ValueError(f"clips must be at least 1, not {clips}")
        self.count, self.seed = clips, seed

    @property
    def classes(self) -> tuple[str, ...]:
        return ("low", "high")

    @property
    def fingerprint(self) -> str:
        return f"toy {self.count} {self.seed}"

    def clips(self) -> Iterator[Clip]:
        for number in range(self.count):
            yield Clip(str(number), (self.classes[number % 2],), fold=1 + number // 2 % 4, group=str(number // 2))

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        draws = np.random.default_rng([self.seed, int(clip.path)])
        noise = draws.standard_normal(int(draws.integers(400, 3200))).astype(np.float32)
        smooth = np.convolve(noise, np.ones(8) / 8, mode="same")
        return (0.1 * (smooth if clip.labels[0] == "low" else noise - smooth)).astype(np.float32), 8000


class ToyThree(ToyDataset):
    """The same, and every third clip is of clicks."""

    @property
    def classes(self) -> tuple[str, ...]:
        return ("low", "high", "clicks")

    def clips(self) -> Iterator[Clip]:
        for number, clip in enumerate(super().clips()):
            yield clip if number % 3 < 2 else attrs.evolve(clip, labels=("clicks",))

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        samples, rate = super().read(clip)
        if clip.labels == ("clicks",):
            samples = np.where(np.arange(len(samples)) % 400 == 0, 0.5, 0).astype(np.float32)
        return samples, rate


class ToyQuiet(ToyDataset):
    """The same, but the second class is digital silence, and is called `unknown`."""

    @property
    def classes(self) -> tuple[str, ...]:
        return ("low", "unknown")

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint}, quiet"

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        samples, rate = super().read(clip)
        return samples * (clip.labels != ("unknown",)), rate


class ToyOneWindow(ToyDataset):
    """The same, each of 0.2 s."""

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint}, one window"

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        samples, rate = super().read(clip)
        return np.resize(samples, 1600), rate


class ToyBroken(ToyDataset):
    """Toy data with two sounds that cannot be read."""

    def __init__(self, *, clips: int = 40) -> None:
        super().__init__(clips=clips)

    @property
    def fingerprint(self) -> str:
        return f"broken {self.count}"

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        if clip.path in {"3", "12"}:
            raise SoundError(clip.path, "the tape is torn")
        return super().read(clip)


class ToyFeaturizer(nn.Module):
    """Log spectra of frames of 64 samples, no overlap.

    Args:
        floor: of the spectrum.
    """

    bands = 32
    shortest = 64

    def __init__(self, rate: int, *, floor: float = 1e-5) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        waveform = nn.functional.pad(masks.apply(waveform, lengths), (0, -waveform.shape[1] % 64))
        spectra = torch.fft.rfft(waveform.unflatten(1, (-1, 64)))[..., 1:33].abs()
        counts = (lengths // 64).clamp(min=1)
        return masks.apply((spectra + self.floor).log().transpose(1, 2), counts), counts


class ToyCounted(ToyFeaturizer):
    """Writes a line for each row that it hears into the file that the environment names.

    Args:
        floor: of the spectrum.
    """

    def __init__(self, rate: int, *, floor: float = 1e-5) -> None:
        super().__init__(rate, floor=floor)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if path := os.environ.get("SOUNDBENCH_TOY_COUNT"):
            with open(path, "a") as file:
                file.writelines(f"{os.getpid()}\n" for row in waveform if row.any())  # silence is a look at shapes
        time.sleep(float(os.environ.get("SOUNDBENCH_TOY_DELAY", "0")))
        return super().forward(waveform, lengths)


class ToyLearned(ToyCounted):
    """The same with weights."""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.gain = nn.Parameter(torch.ones(32))

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        features, lengths = super().forward(waveform, lengths)
        return features * self.gain[:, None], lengths


class ToyBackbone(nn.Module):
    """One masked convolution with batch norm and dropout.

    Args:
        channels: how many.
        dropout: how much.
    """

    default_pooling: ClassVar[dict[str, Any]] = {"use": "mean"}
    default_head: ClassVar[dict[str, Any]] = {"embedding": 8}

    def __init__(self, bands: int, *, channels: int = 16, dropout: float = 0.2) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, not {channels}")
        self.channels = channels
        self.conv = nn.Conv1d(bands, channels, 3, padding=1)
        self.norm = nn.BatchNorm1d(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return masks.apply(self.dropout(self.norm(self.conv(masks.apply(features, lengths))).relu()), lengths), lengths


class ToyPooling(nn.Module):
    """The mean over true frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = channels

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        return masks.apply(frames, lengths).sum(dim=2) / lengths[:, None]


class ToyLoss(nn.Module):
    """Cross entropy."""

    classifier: ClassVar[Literal["linear"]] = "linear"

    def __init__(self, classes: int) -> None:
        super().__init__()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return -(logits.log_softmax(dim=1) * target).sum(dim=1)

    def scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=1)


class ToyGain(nn.Module):
    """A gain for each row.

    Args:
        most: of a factor or a divisor.
    """

    on: ClassVar[Literal["waveform"]] = "waveform"

    def __init__(self, rate: int, *, most: float = 2.0) -> None:
        super().__init__()
        self.most = most

    def forward(self, batch: Batch, chance: Any) -> Batch:
        time.sleep(float(os.environ.get("SOUNDBENCH_TOY_DELAY", "0")))  # for tests that want to stop in mid-epoch
        note(batch, chance.epoch)
        gain = chance.uniform(batch.position, "gain", 1 / self.most, self.most)
        return attrs.evolve(batch, data=batch.data * gain[:, None])


def note(batch: Batch, epoch: int) -> None:
    """For tests of what is shown, and of kills: write down epoch, place and clip; die once, where a file says so."""
    shown = list(zip(batch.position.tolist(), batch.index.tolist(), strict=True))
    if journal := os.environ.get("SOUNDBENCH_TOY_JOURNAL"):
        with open(journal, "a") as file:
            file.write("".join(f"{epoch} {position} {clip}\n" for position, clip in shown))
    kill = Path(os.environ.get("SOUNDBENCH_TOY_KILL", "/none"))
    if kill.exists() and kill.read_text() in {f"{epoch} {position}" for position, _ in shown}:
        kill.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


class ToyDrop(nn.Module):
    """Silences one band of each row."""

    on: ClassVar[Literal["features"]] = "features"

    def __init__(self, rate: int) -> None:
        super().__init__()

    def forward(self, batch: Batch, chance: Any) -> Batch:
        band = chance.integers(batch.position, "band", batch.data.shape[1])
        keep = torch.arange(batch.data.shape[1], device=band.device) != band[:, None]
        return attrs.evolve(batch, data=batch.data * keep[:, :, None])


class ToyCalibration(nn.Module):
    """Logits divided by a number, fitted as their mean square, which is easily computed by hand.

    Args:
        divisor: the number.
    """

    def __init__(self, classes: int, *, divisor: float | None = None) -> None:
        super().__init__()
        self.divisor = divisor

    def fit(self, held_out: HeldOut) -> dict[str, float]:
        return {} if self.divisor else {"divisor": float(held_out.logits.square().mean())}

    def forward(self, logits: Tensor) -> Tensor:
        return logits / (self.divisor or 1.0)


class ToyReject(nn.Module):
    """The largest logit, less that of the mean of the training windows."""

    embeddings: ClassVar[bool] = False

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("usual", torch.zeros(()))

    def fit(self, logits: Tensor, embeddings: Tensor | None, targets: Tensor) -> None:
        self.usual = logits[targets.sum(1) > 0].amax(1).mean()

    def forward(self, logits: Tensor, embeddings: Tensor | None) -> Tensor:
        return logits.amax(1) - self.usual


def toy_optimizer(groups: Any, *, lr: float = 0.01) -> torch.optim.Optimizer:
    """AdamW.

    Args:
        lr: the learning rate.
    """
    return torch.optim.AdamW(groups, lr=lr)


def toy_scheduler(
    optimizer: torch.optim.Optimizer, steps: int, steps_per_epoch: int, *, floor: float = 0.1
) -> torch.optim.lr_scheduler.LRScheduler:
    """A straight line down to `floor` of the rate.

    Args:
        floor: a share.
    """
    return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, floor, steps)


def toy_importer(path: Path, *, prefix: str = "net.", labels: Path | None = None, spare: int = 0) -> Imported:
    """A network of toys, saved by `torch.save` with a prefix before each name.

    Args:
        path: the file.
        prefix: what stands before the names.
        labels: a file with a class name a line.
        spare: clips that nobody needs.
    """
    if spare < 0:
        raise ValueError(f"spare must be at least 0, is {spare}")
    saved = torch.load(path, weights_only=True)
    tables = {
        "classes": labels.read_text().split() if labels else ["low", "high"],
        "audio": {"rate": 8000, "window": 1.0},
        "featurizer": "spectra",
        "backbone": {"use": "conv", "channels": 4},
        "pooling": "mean",
        "head": {"embedding": 8},
        "loss": "entropy",
    }
    constants = {name: saved.pop(name) for name in list(saved) if name.startswith("backbone.filters")}
    weights = {name.removeprefix(prefix): tensor for name, tensor in saved.items()}
    return Imported("toy", tables, weights, constants, notes=["nothing was left out"])


class ToyExporter:
    """The module of the program, pickled, and an error that is added to the first output.

    Args:
        error: what is added to the first column of the first output.
        turned: whether the columns of the first output are in the opposite order.
        traced: whether the module must be one that `torch.export` can export.
    """

    suffix: ClassVar[str] = ".toy"
    higher = 0.0  # how much higher reject scores are

    def __init__(self, program: Program, *, error: float = 0.0, turned: bool = False, traced: bool = False) -> None:
        if error < 0:
            raise ValueError(f"error must be at least 0, is {error}")
        self.program, self.error, self.turned, self.traced = program, error, turned, traced

    def export(self) -> bytes:
        program, names = self.program, (list(self.program.inputs), self.program.outputs)
        if self.traced:
            torch.export.export(program.module, tuple(program.inputs.values()), strict=False)
        return pickle.dumps([program.metadata, program.module, names, self.error, self.turned, self.higher])

    @staticmethod
    def read(data: bytes) -> Any:
        try:
            return ToyRunner(*pickle.loads(data))
        except Exception as error:
            raise RunError(f"not a toy: {error}") from None


class ToyQuantizer(ToyExporter):
    """A toy with 8 bits, in which reject scores are 5 higher."""

    def int8(self, examples: Any) -> bytes:
        self.higher = 5.0
        return self.export()

    @staticmethod
    def with_metadata(data: bytes, metadata: Mapping[str, Any]) -> bytes:
        return pickle.dumps([metadata, *pickle.loads(data)[1:]])


class ToyRunner:
    def __init__(self, metadata: Any, module: Any, names: Any, error: float, turned: bool, higher: float) -> None:
        self.metadata, self.module, (self.inputs, self.outputs) = metadata, module, names
        self.error, self.turned, self.higher = error, turned, higher

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            found = self.module(*(torch.from_numpy(inputs[name].copy()) for name in self.inputs))
        both = dict(zip(self.outputs, (tensor.numpy() for tensor in found), strict=True))
        first = both[self.outputs[0]][:, :: -1 if self.turned else 1]
        both[self.outputs[0]] = first + self.error * np.eye(1, first.shape[1])
        return both | ({"reject": both["reject"] + self.higher} if "reject" in both else {})
