"""What observers that draw a run show of it, whatever they draw with.

During training: loss, learning rate and clips per second, and after each epoch the other columns of its history.
At the end: test metrics, the confusion matrix, and spectrograms of test clips with their labels and predictions,
beginning with wrong predictions of the highest score. A clip that is not a file (of a dataset that computes its sound)
has no spectrogram.
"""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib
import matplotlib.image
import numpy as np
from numpy.typing import NDArray

from soundbench import audio, files, limits
from soundbench.contracts import RunInfo, hookimpl
from soundbench.errors import SoundError

__all__ = ["Curves", "Picture"]

Picture = NDArray[np.floating[Any]]

# Columns of an epoch's history that identify the epoch, or that are logged at each step.
_LEFT_OUT = ("epoch", "step", "rate", "clips_per_second")
_TAGS = {"train_loss": "loss/epoch", "validation_loss": "loss/validation"}
_FRAME = 512  # samples of a spectrogram's frame
_LONGEST = 10.0  # seconds that a spectrogram shows
_RANGE = 80.0  # decibels below the maximum that are black


class Curves(ABC):
    """An observer that draws a run; its subclasses say with what.

    Args:
        run: the run.
        spectrograms: number of test clips with a spectrogram; 0 for none.
    """

    def __init__(self, run: RunInfo, spectrograms: int) -> None:
        if spectrograms < 0:
            raise ValueError(f"spectrograms must be at least 0, is {spectrograms}")
        self.run, self.spectrograms = run, spectrograms
        self._step = run.start_step

    @abstractmethod
    def _write(self, tag: str, value: float, step: int) -> None:
        """Add a value to the curve of that name."""

    @abstractmethod
    def _write_picture(self, tag: str, picture: Picture, step: int) -> None:
        """Add a picture `(H, W, 3)` of colours from 0 to 1."""

    @abstractmethod
    def _flush(self) -> None:
        """Keep what was added so far."""

    @hookimpl
    def progressed(self, epoch: int, step: int, loss: float, rate: float, clips_per_second: float) -> None:
        """Log loss, learning rate and speed."""
        self._log("loss/step", loss, step)
        self._log("learning rate", rate, step)
        self._log("clips per second", clips_per_second, step)

    @hookimpl
    def epoch_completed(self, epoch: int, row: Mapping[str, float]) -> None:
        """Log the results of an epoch."""
        step = int(row["step"])
        for name, value in row.items():
            if name not in _LEFT_OUT:
                self._log(_tag(name), value, step)
        self._flush()

    def _log_results(self, report: Mapping[str, Any]) -> None:
        """Log test metrics, the confusion matrix and spectrograms."""
        for name, figure in report["metrics"].items():
            self._log(f"test/{name}", figure["value"], self._step)
        picture = self.run.directory / "figures" / "confusion.png"
        if picture.exists():
            self._write_picture("test/confusion", matplotlib.image.imread(picture)[..., :3], self._step)
        for tag, spectrogram in self._spectrograms():
            self._write_picture(tag, spectrogram, self._step)

    def _log(self, tag: str, value: float, step: int) -> None:
        self._step = max(self._step, step)
        self._write(tag, value, step)

    def _spectrograms(self) -> Iterator[tuple[str, Picture]]:
        """Spectrograms of test clips, each with its label, prediction and score."""
        drawn = 0
        for row in sorted(self._predictions(), key=_worst_first):
            if drawn == self.spectrograms:
                return
            picture = self._spectrogram(row)
            if picture is not None:
                drawn += 1
                title = f"{row['label']} predicted as {row['predicted']} {float(row['score']):.2f}"
                yield f"test clips/{drawn:02d} {title}", picture

    def _predictions(self) -> list[dict[str, str]]:
        path = self.run.directory / "predictions.csv"
        if not self.spectrograms or not path.exists():
            return []
        with files.open_text(path, limits.TABLE, newline="") as file:
            return list(csv.DictReader(file))

    def _spectrogram(self, row: Mapping[str, str]) -> Picture | None:
        """Decibels over time and frequency as colours, low frequencies at the bottom; None if it is not a file."""
        start = float(row["start"])
        stop = min(float(row["stop"] or "inf"), start + _LONGEST)
        try:
            samples = audio.load(row["path"], self.run.recipe["audio"]["rate"], start, stop)
        except SoundError:
            return None
        padded = np.pad(samples, (0, max(0, _FRAME - len(samples))))
        frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[:: _FRAME // 4] * np.hanning(_FRAME)
        power = np.abs(np.fft.rfft(frames)).T[::-1] ** 2
        decibels = 10 * np.log10(np.maximum(power, 1e-12))
        shades = np.clip(1 + (decibels - decibels.max()) / _RANGE, 0, 1)
        coloured: Picture = matplotlib.colormaps["magma"](shades)[..., :3]
        return coloured


def _tag(column: str) -> str:
    """The tag of a column of the history; tags with the same first part are grouped."""
    of_validation = column.removeprefix("validation_")
    other = f"epoch/{column}" if of_validation == column else f"validation/{of_validation}"
    return _TAGS.get(column, other)


def _worst_first(row: Mapping[str, str]) -> tuple[bool, float]:
    """Wrong predictions before right ones, each with the highest scores first."""
    return row["predicted"] in row["label"].split("|"), -float(row["score"])
