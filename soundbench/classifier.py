"""A run directory in, judgements out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, overload

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from soundbench import assembly, audio, checkpoints
from soundbench import recipe as recipes
from soundbench.errors import CallError, SoundError
from soundbench.judging import Grid, Judge, judge
from soundbench.loading import RawBatch, pack, window_grid
from soundbench.machine import settle
from soundbench.network import Network
from soundbench.store import quantize

__all__ = ["Classifier", "Prediction", "load"]

Sound = str | Path | bytes | BinaryIO | NDArray[Any] | torch.Tensor


@attrs.frozen
class Prediction:
    """The judgement of one sound.

    Attributes:
        label: the class with the highest score.
        score: its score, in [0, 1].
        scores: every class and its score, highest first.
        labels: the classes that the sound is said to carry, highest first: of a multilabel model those whose score
            reaches their threshold, maybe none; else `label` alone.
    """

    label: str
    score: float
    scores: Mapping[str, float]
    labels: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"label": self.label, "score": self.score, "labels": list(self.labels), "scores": dict(self.scores)}


def load(path: str | Path, *, device: str = "auto", trust_code: bool = False) -> Classifier:
    """The classifier of a run directory, or of its `model/` folder copied anywhere.

    Args:
        path: the folder.
        device: where to judge: `auto`, `cpu`, `cuda` or `cuda:N`.
        trust_code: whether code that the model carries (`use = "./mine.py:Net"`) may be executed.

    Raises:
        CallError: no such folder, or one of a run for each fold.
        RunError: no model is in it, or one that cannot be used.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise CallError(f"{folder}: no such run directory or model folder")
    if not (folder / "model.toml").exists() and (folder / "model").is_dir():
        folder = folder / "model"
    folds = [] if (folder / "model.toml").exists() else sorted(folder.glob("fold-*/model"))
    if folds:
        raise CallError(f"{folder}: holds a run for each fold; give one of them, such as {folds[0].parent}")
    tables, source = checkpoints.read_model_tables(folder), str(folder / "model.toml")
    model = recipes.read_model(tables, base=folder, trust_code=trust_code, source=source)
    network, loss = assembly.make_network(model, source, folder / "assets")
    checkpoints.load_weights(folder, network, len(model.classes))
    machine = settle(device, precision="fp32", threads=torch.get_num_threads())
    machine.place(network).eval()
    grid = Grid(model.audio.window_samples, model.audio.hop_samples, model.audio.trim)
    judge = Judge(network, loss, machine, model.audio.level)
    thresholds = (model.thresholds or [0.5] * len(model.classes)) if model.multilabel else None
    return Classifier(judge, model.classes, model.audio.rate, grid, thresholds)


class Classifier:
    """Judges sounds with a trained network.

    Args:
        judge: the network on its device, and how it is brought to bear.
        classes: their names, in the order of the logits.
        rate: samples a second that the network hears.
        grid: how a sound is cut into windows.
        thresholds: the scores from which on a sound carries each class; None where it carries exactly one.
    """

    def __init__(
        self, judge: Judge, classes: Sequence[str], rate: int, grid: Grid, thresholds: Sequence[float] | None = None
    ) -> None:
        self.judge, self.classes, self.rate, self.grid = judge, tuple(classes), rate, grid
        self.thresholds = thresholds

    @property
    def network(self) -> Network:
        """The network, waveform in, logits out."""
        return self.judge.network

    @overload
    def predict(self, sound: list[Sound], rate: int | None = None, *, batch: int = 32) -> list[Prediction]: ...

    @overload
    def predict(self, sound: Sound, rate: int | None = None, *, batch: int = 32) -> Prediction: ...

    def predict(
        self, sound: Sound | list[Sound], rate: int | None = None, *, batch: int = 32
    ) -> Prediction | list[Prediction]:
        """Judge one sound, or each of a list.

        Args:
            sound: a path, the bytes of a file, an open binary file, or samples with their `rate`: an array or tensor
                `(S,)`, or `(C, S)` with fewer channels than samples; floats in [-1, 1] or integers.
            rate: samples a second, for samples.
            batch: windows that go through the network together.

        Raises:
            SoundError: a sound that cannot be read.
            CallError: samples without a rate, or of a shape that is no sound.
        """
        if isinstance(sound, list):
            return self._judge([self.hear(one, rate) for one in sound], batch)
        return self._judge([self.hear(sound, rate)], batch)[0]

    def predict_files(
        self, paths: Sequence[Path], *, batch: int = 32
    ) -> Iterator[tuple[Path, Prediction | SoundError]]:
        """Judge files, as many at a time as fill a batch, so that memory does not grow with their number.

        Yields:
            Each path, in order, with its judgement, or with what is wrong with the file.
        """
        heard: list[tuple[Path, NDArray[np.float32] | SoundError]] = []
        samples = 0
        for number, path in enumerate(paths, start=1):
            sound = self._try(path)
            heard.append((path, sound))
            samples += self.grid.hop if isinstance(sound, SoundError) else max(len(sound), self.grid.hop)
            if samples >= batch * self.grid.hop or number == len(paths):
                judged = iter(self._judge([one for _, one in heard if not isinstance(one, SoundError)], batch))
                for place, one in heard:
                    yield place, one if isinstance(one, SoundError) else next(judged)
                heard, samples = [], 0

    def _try(self, path: Path) -> NDArray[np.float32] | SoundError:
        try:
            return self.hear(path, None)
        except SoundError as error:
            return error

    def hear(self, sound: Sound, rate: int | None) -> NDArray[np.float32]:
        """A sound as the network hears it: one channel at its rate, its ends trimmed as those of its training were."""
        if isinstance(sound, np.ndarray | torch.Tensor):
            samples = audio.resample(_mono(sound), _checked(rate), self.rate)
        else:
            samples = audio.load(sound, self.rate)
        return audio.trim(samples, self.rate, self.grid.trim)

    def _judge(self, sounds: list[NDArray[np.float32]], batch: int) -> list[Prediction]:
        if not sounds:
            return []
        judged = judge(self.judge, self.windows(sounds, batch))
        return [self._prediction(scores) for scores in judged.scores]

    def windows(self, sounds: list[NDArray[np.float32]], batch: int) -> Iterator[RawBatch]:
        """The windows of the judging grid of every sound."""
        lengths = np.array([len(samples) for samples in sounds])
        owner, starts = window_grid(lengths, self.grid.window, self.grid.hop)
        quantized = [quantize(samples) for samples in sounds]
        for first in range(0, len(owner), batch):
            part = slice(first, first + batch)
            windows = [
                quantized[sound][0][start : start + self.grid.window]
                for sound, start in zip(owner[part], starts[part], strict=True)
            ]
            scales = [quantized[sound][1] for sound in owner[part]]
            yield pack(windows, scales, owner[part].tolist(), len(self.classes))

    def _prediction(self, scores: NDArray[np.float32]) -> Prediction:
        ranked = np.argsort(-scores, kind="stable")
        named = {self.classes[code]: float(scores[code]) for code in ranked}
        carried = ranked[:1] if self.thresholds is None else ranked[scores[ranked] >= np.array(self.thresholds)[ranked]]
        labels = tuple(self.classes[code] for code in carried)
        return Prediction(self.classes[ranked[0]], float(scores[ranked[0]]), named, labels)


def _checked(rate: int | None) -> int:
    if rate is None:
        raise CallError("samples need their rate: predict(samples, rate=16000)")
    if not rate > 0:
        raise CallError(f"rate: {rate} is no rate; it is samples a second")
    return rate


def _mono(sound: NDArray[Any] | torch.Tensor) -> NDArray[np.float32]:
    """Samples `(S,)` or `(C, S)`, floats or integers, as one channel of floats."""
    samples = sound.detach().cpu().numpy() if isinstance(sound, torch.Tensor) else sound
    if samples.ndim not in {1, 2} or 0 in samples.shape:
        raise CallError(f"samples of shape {samples.shape} are no sound; give (samples,) or (channels, samples)")
    if samples.ndim == 2 and samples.shape[0] > samples.shape[1]:
        raise CallError(
            f"samples of shape {samples.shape}: more channels than samples; give (channels, samples), channels first"
        )
    if np.issubdtype(samples.dtype, np.integer):
        info = np.iinfo(samples.dtype)
        middle = 0 if info.min < 0 else (info.max + 1) // 2
        samples = (samples.astype(np.float64) - middle) / (info.max - middle + 1)
    if not np.issubdtype(samples.dtype, np.floating):
        raise CallError(f"samples of type {samples.dtype} are no sound; give floats in [-1, 1] or integers")
    if not np.isfinite(samples).all():
        raise CallError("samples hold NaN or infinity")
    mixed = samples.mean(axis=0) if samples.ndim == 2 else samples
    return np.ascontiguousarray(mixed, dtype=np.float32)
