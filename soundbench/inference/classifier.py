"""A run directory in, judgements out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import distributed
from soundbench import recipe as recipes
from soundbench.data.batches import Grid, RawBatch, pack
from soundbench.errors import CallError, SoundError
from soundbench.inference.events import Event, EventFinder, EventRules
from soundbench.inference.predictions import Ended, Heard, Prediction, WindowPrediction
from soundbench.inference.stream import Item, stream
from soundbench.machine import settle
from soundbench.model import assembly
from soundbench.model import folder as model_folder
from soundbench.model.network import Network, shortest_samples
from soundbench.model.scoring import Scorer, WindowMean
from soundbench.model.windows import Sound, Window, cut_windows

__all__ = ["Classifier", "load"]

Values = NDArray[np.float32]

# Seconds of the longest window that may be asked for.
LONGEST = 600
# Windows that go through the network together unless so many are asked for: of a minute, but no more than that.
MINUTE, BATCH = 60, 32


def load(path: str | Path, *, device: str = "auto", trust_code: bool = False) -> Classifier:
    """The classifier of a run directory, or of its `model/` folder copied anywhere.

    Nothing of the process is changed: its threads, signals and memory are its owner's.

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
    tables, source = model_folder.read_model_tables(folder), str(folder / "model.toml")
    model = recipes.read_model(tables, base=folder, trust_code=trust_code, source=source)
    network, loss = assembly.make_network(model, source, folder / "assets")
    model_folder.load_weights(folder, network, len(model.classes))
    fits = getattr(network.backbone, "channels_last", True)
    machine = settle(device, precision="fp32", local_rank=distributed.local_rank(), fits=fits)
    machine.place(network).eval()
    grid = Grid(model.audio.window_samples, model.audio.hop_samples, model.audio.trim)
    scorer = Scorer(network, loss, machine, model.audio.level)
    thresholds = (model.thresholds or [0.5] * len(model.classes)) if model.multilabel else None
    return Classifier(scorer, model.classes, model.audio.rate, grid, thresholds)


class Classifier:
    """Scores sounds with a trained network, in its evaluation mode; several threads may use one.

    Args:
        scorer: the network on its device.
        classes: their names, in the order of the logits.
        rate: samples a second that the network hears.
        grid: how a sound is cut into windows.
        thresholds: the scores from which on a sound carries each class; None where it carries exactly one.
    """

    def __init__(
        self, scorer: Scorer, classes: Sequence[str], rate: int, grid: Grid, thresholds: Sequence[float] | None = None
    ) -> None:
        self.scorer, self.classes, self.rate, self.grid = scorer, tuple(classes), rate, grid
        self.thresholds = thresholds
        scorer.network.eval()

    @property
    def network(self) -> Network:
        """The network, waveform in, logits out."""
        return self.scorer.network

    @overload
    def predict(
        self,
        sound: list[Sound],
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        batch: int | None = None,
    ) -> list[Prediction]: ...

    @overload
    def predict(
        self,
        sound: Sound,
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        batch: int | None = None,
    ) -> Prediction: ...

    def predict(
        self,
        sound: Sound | list[Sound],
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        batch: int | None = None,
    ) -> Prediction | list[Prediction]:
        """Judge one sound, or each of a list; of any length.

        Args:
            sound: a path, the bytes of a file, an open binary file, or samples with their `rate`: an array or tensor
                `(S,)`, or `(C, S)` with fewer channels than samples; floats in [-1, 1] or integers.
            rate: samples a second, for samples.
            window: seconds of a window; None for the model's own.
            hop: seconds between the beginnings of windows; None for the window, or the model's own where that is too.
            batch: windows that go through the network together; None for those of a minute of sound, at most 32.

        Raises:
            SoundError: a sound that cannot be read.
            CallError: samples without a rate, or of a shape that is no sound.
        """
        sounds = sound if isinstance(sound, list) else [sound]
        means = _means(self.flow(sounds, rate, window=window, hop=hop, batch=batch))
        found = [self.prediction(mean) for mean in means]
        return found if isinstance(sound, list) else found[0]

    def predict_files(
        self, paths: Sequence[Path], *, batch: int | None = None
    ) -> Iterator[tuple[Path, Prediction | SoundError]]:
        """Judge files; memory grows neither with their number nor with their length.

        Yields:
            Each path, in order, with its judgement, or with what is wrong with the file.
        """
        for number, mean in _averaged(self.flow(paths, batch=batch)):
            yield paths[number], mean if isinstance(mean, SoundError) else self.prediction(mean)

    def windows(
        self,
        sound: Sound,
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        batch: int | None = None,
    ) -> Iterator[WindowPrediction]:
        """Judge each window of a sound, as they come.

        Args:
            sound: as for `predict`.
            rate: samples a second, for samples.
            window: seconds of a window; None for the model's own.
            hop: seconds between the beginnings of windows; None for the window, or the model's own where that is too.
            batch: windows that go through the network together; None for those of a minute of sound, at most 32.

        Raises:
            SoundError: it cannot be read, maybe after some windows.
        """
        for heard in _good(self.flow([sound], rate, window=window, hop=hop, batch=batch)):
            yield self.window_prediction(heard)

    def events(
        self,
        sound: Sound,
        rate: int | None = None,
        *,
        rules: EventRules | None = None,
        window: float | None = None,
        hop: float | None = None,
        batch: int | None = None,
    ) -> list[Event]:
        """What sounded when, by the beginning; the more exact, the smaller window and hop.

        Args:
            sound: as for `predict`.
            rate: samples a second, for samples.
            rules: what makes an event; None for `event_rules()`.
            window: seconds of a window; None for the model's own.
            hop: seconds between the beginnings of windows; None for the window, or the model's own where that is too.
            batch: windows that go through the network together; None for those of a minute of sound, at most 32.
        """
        finder = EventFinder(self.classes, rules or self.event_rules())
        found: list[Event] = []
        for heard in _good(self.flow([sound], rate, window=window, hop=hop, batch=batch)):
            found += finder.feed(heard.values[None], [heard.start], [heard.end])
        return sorted(found + finder.finish(), key=lambda event: event.start)

    def event_rules(self, **options: Any) -> EventRules:
        """Rules whose `on` is each class's threshold where the model has them; 0.5 for one with a class a sound."""
        return EventRules(**({} if self.thresholds is None else {"on": self.thresholds}) | options)

    def stream(
        self,
        blocks: Iterable[Values],
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        gate: float | None = None,
        rules: EventRules | None = None,
    ) -> Iterator[Item]:
        """Judge sound as it comes: windows, and events as they begin and end.

        Args:
            blocks: samples `(S,)` each, any number of them.
            rate: samples a second; None for the classifier's own.
            window: seconds of a window; None for the model's own.
            hop: seconds between the beginnings of windows; None for the window, or the model's own where that is too.
            gate: dB of full scale; quieter windows are not judged, and nothing sounds in them. None judges all.
            rules: what makes an event; None for `event_rules()`.
        """
        return stream(self, blocks, rate, window=window, hop=hop, gate=gate, rules=rules)

    def grid_of(self, window: float | None, hop: float | None) -> Grid:
        """How a sound is cut with windows of so many seconds, and so many between them; None as for `windows`."""
        grid = self.grid
        if window is not None:
            least = shortest_samples(self.network)
            if not least <= window * self.rate <= LONGEST * self.rate:
                raise CallError(
                    f"window must be from {least / self.rate:.3g} s, the shortest that the network takes, "
                    f"to {LONGEST} s, is {window:g}"
                )
            grid = attrs.evolve(grid, window=round(window * self.rate), hop=round(window * self.rate))
        return grid if hop is None else attrs.evolve(grid, hop=_samples(hop, self.rate))

    def embed(
        self,
        sound: Sound | list[Sound],
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        batch: int | None = None,
    ) -> Values:
        """What the network's last layer sees, the mean of a sound's windows: `(D,)`, or `(N, D)` of a list of N.

        Args:
            sound: as for `predict`.
            rate: samples a second, for samples.
            window: seconds of a window; None for the model's own.
            hop: seconds between the beginnings of windows; None for the window, or the model's own where that is too.
            batch: windows that go through the network together; None for those of a minute of sound, at most 32.
        """
        sounds = sound if isinstance(sound, list) else [sound]
        means = _means(self.flow(sounds, rate, window=window, hop=hop, batch=batch, compute=self.scorer.embeddings))
        return np.stack(means) if isinstance(sound, list) else means[0]

    def flow(
        self,
        sounds: Iterable[Sound],
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        batch: int | None = None,
        compute: Callable[[RawBatch], Values] | None = None,
    ) -> Iterator[Heard | Ended]:
        """The windows of sound after sound, a batch at a time, and the end of each sound.

        Args:
            sounds: as for `predict`; read when their turn comes.
            rate: samples a second, for samples.
            window: seconds of a window; None for the model's own.
            hop: seconds between the beginnings of windows; None for the window, or the model's own where that is too.
            batch: windows that go through the network together, of one sound or of several; None as for `predict`.
            compute: what is wanted of them: the scorer's `scores` or `embeddings`.
        """
        grid = self.grid_of(window, hop)
        compute = compute or self.scorer.scores
        batch = batch or min(max(MINUTE * self.rate // grid.window, 1), BATCH)
        waiting: list[tuple[int, Window] | Ended] = []
        count = 0
        for number, sound in enumerate(sounds):
            last, error = 0, None
            try:
                for cut in cut_windows(sound, rate, self.rate, grid):
                    waiting.append((number, cut))
                    last, count = cut.start + len(cut.samples), count + 1
                    if count == batch:
                        yield from self._through(waiting, compute)
                        waiting, count = [], 0
            except SoundError as wrong:
                error = wrong
            waiting.append(Ended(number, last / self.rate, error))
            if not count or len(waiting) > 4 * batch:
                yield from self._through(waiting, compute)
                waiting, count = [], 0
        yield from self._through(waiting, compute)

    def _through(
        self, waiting: list[tuple[int, Window] | Ended], compute: Callable[[RawBatch], Values]
    ) -> Iterator[Heard | Ended]:
        """What is waiting, its windows gone through the network together."""
        heard = [window for window in waiting if not isinstance(window, Ended)]
        if heard:
            rows, scales = [window.samples for _, window in heard], [window.scale for _, window in heard]
            values = iter(compute(pack(rows, scales, list(range(len(heard))), len(self.classes))))
        for one in waiting:
            if isinstance(one, Ended):
                yield one
            else:
                start, stop = one[1].start, one[1].start + len(one[1].samples)
                yield Heard(one[0], start / self.rate, stop / self.rate, next(values))

    def window_prediction(self, window: Heard) -> WindowPrediction:
        """A window's scores as a judgement."""
        judged = self.prediction(window.values)
        return WindowPrediction(judged.label, judged.score, judged.scores, judged.labels, window.start, window.end)

    def prediction(self, scores: Values) -> Prediction:
        """Scores `(K,)` as a judgement."""
        ranked = np.argsort(-scores, kind="stable")
        named = {self.classes[code]: float(scores[code]) for code in ranked}
        carried = ranked[:1] if self.thresholds is None else ranked[scores[ranked] >= np.array(self.thresholds)[ranked]]
        labels = tuple(self.classes[code] for code in carried)
        return Prediction(self.classes[ranked[0]], float(scores[ranked[0]]), named, labels)


def _samples(hop: float, rate: int) -> int:
    if not 1 <= hop * rate < 1 << 40:
        raise CallError(f"hop must be seconds, at least one sample of {rate} a second, is {hop}")
    return round(hop * rate)


def _good(flow: Iterable[Heard | Ended]) -> Iterator[Heard]:
    """The windows of one sound.

    Raises:
        SoundError: what was wrong with it.
    """
    for one in flow:
        if isinstance(one, Heard):
            yield one
        elif one.error:
            raise one.error


def _means(flow: Iterable[Heard | Ended]) -> list[Values]:
    """The mean of each sound's windows.

    Raises:
        SoundError: what was wrong with one.
    """
    found: list[Values] = []
    for _, mean in _averaged(flow):
        if isinstance(mean, SoundError):
            raise mean
        found.append(mean)
    return found


def _averaged(flow: Iterable[Heard | Ended]) -> Iterator[tuple[int, Values | SoundError]]:
    """The mean of each sound's windows, or what is wrong with it."""
    mean = WindowMean()
    for one in flow:
        if isinstance(one, Heard):
            mean.add(one.values)
        else:
            yield one.sound, one.error or mean.take()
            mean.clear()
