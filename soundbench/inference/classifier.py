"""The classifier: sounds in, predictions, events and embeddings out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.data.windowing.grid import Grid
from soundbench.data.windowing.packing import RawBatch
from soundbench.errors import CallError, SoundError
from soundbench.inference.batching.ahead import cut_all
from soundbench.inference.batching.together import Bound, scored
from soundbench.inference.events import Event, EventFinder, EventRules
from soundbench.inference.predictions import (
    UNKNOWN,
    EndOfSound,
    Prediction,
    ScoredWindow,
    WindowPrediction,
    averaged,
    good_windows,
    means,
)
from soundbench.inference.stream import Item, stream
from soundbench.model.windows import Sound, hop_samples

if TYPE_CHECKING:
    from soundbench.model.network import Network
    from soundbench.model.scoring import Scorer

__all__ = ["Classifier"]

Values = NDArray[np.float32]


class Classifier:
    """Classifies sounds with a trained network in evaluation mode; several threads may share one.

    Args:
        scorer: the network on its device; or an exported one (`model.exported`).
        classes: the names of the classes, in the order of the logits.
        rate: the model's sample rate in Hz.
        grid: how a sound is cut into windows.
        thresholds: the score from which each class is predicted. A multi-label model has them; a single-label model
            predicts the best class if it reaches its own, where 0 is none; None for none at all.
        multilabel: whether a sound may have several labels; None for whether there are thresholds.
    """

    def __init__(
        self,
        scorer: Scorer,
        classes: Sequence[str],
        rate: int,
        grid: Grid,
        thresholds: Sequence[float] | None = None,
        multilabel: bool | None = None,
    ) -> None:
        self.scorer, self.classes, self.rate, self.grid = scorer, tuple(classes), rate, grid
        self.thresholds = thresholds
        self.multilabel = thresholds is not None if multilabel is None else multilabel
        scorer.set_evaluation()

    def __repr__(self) -> str:
        kind = "multi-label" if self.multilabel else "single-label"
        return (
            f"Classifier({self.scorer.described()}: {len(self.classes)} classes, {kind}, "
            f"{self.rate} Hz, windows of {self.grid.window / self.rate:g} s)"
        )

    @property
    def classes_(self) -> NDArray[np.str_]:
        """`classes` as an array `(K,)`, by scikit-learn's name: in the order of the scores, not always sorted."""
        return np.array(self.classes)

    @property
    def network(self) -> Network:
        """The network, waveform in, logits out; once asked for, it computes the scores, with what is changed in it.

        Until then a copy without batch norms does, in less time; they differ by rounding.
        """
        self.scorer = self.scorer.as_trained()
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
        errors: Literal["raise"] = "raise",
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
        errors: Literal["raise"] = "raise",
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        sound: list[Sound],
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        batch: int | None = None,
        errors: Literal["return"],
    ) -> list[Prediction | SoundError]: ...

    @overload
    def predict(
        self,
        sound: Sound,
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        batch: int | None = None,
        errors: Literal["return"],
    ) -> Prediction | SoundError: ...

    def predict(
        self,
        sound: Sound | list[Sound],
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        batch: int | None = None,
        errors: Literal["raise", "return"] = "raise",
    ) -> Prediction | SoundError | list[Prediction] | list[Prediction | SoundError]:
        """Classify one sound, or each sound of a list; sounds may have any length.

        Args:
            sound: a path, the bytes of a file, an open binary file, or samples with their `rate`: an array or tensor
                `(S,)`, or `(C, S)` with fewer channels than samples; floats in [-1, 1] or integers.
            rate: sample rate in Hz, if `sound` is samples.
            window: length of a window in seconds; None for the model's.
            hop: seconds between the starts of windows; None for `window`, or the model's hop if that is None too.
            batch: number of windows scored together; None for those of a minute of sound, at most 32 (short ones: 256).
            errors: whether a sound that cannot be read is raised, or returned in the place of its prediction.

        Raises:
            SoundError: a sound cannot be read, and errors are raised.
            CallError: samples without a rate, or with a shape that is not a sound's.
        """
        if errors not in ("raise", "return"):
            raise CallError(f"errors must be 'raise' or 'return', is {errors!r}")
        listed = sound if isinstance(sound, list) else [sound]
        found: list[Any] = []
        for _, mean in averaged(self.flow(listed, rate, window=window, hop=hop, batch=batch)):
            if isinstance(mean, SoundError) and errors == "raise":
                raise mean
            found.append(mean if isinstance(mean, SoundError) else self.prediction(mean))
        return found if isinstance(sound, list) else found[0]

    def predict_proba(
        self,
        sounds: Sound | list[Sound],
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        batch: int | None = None,
    ) -> Values:
        """The score of each class for each of N sounds, `(N, K)` float32, in the order of `classes`.

        They are calibrated where the model is; those of a single-label model add up to 1.

        Args:
            sounds: a list of sounds, each as for `predict`, or one sound, for which N is 1.
            rate: sample rate in Hz, if the sounds are samples.
            window: length of a window in seconds; None for the model's.
            hop: seconds between the starts of windows; None for `window`, or the model's hop if that is None too.
            batch: number of windows scored together; None for those of a minute of sound, at most 32 (short ones: 256).

        Raises:
            SoundError: a sound cannot be read.
            CallError: samples without a rate, or with a shape that is not a sound's.
        """
        listed = sounds if isinstance(sounds, list) else [sounds]
        found = means(self.flow(listed, rate, window=window, hop=hop, batch=batch))
        return np.stack(found)[:, : len(self.classes)] if found else np.empty((0, len(self.classes)), np.float32)

    def predict_logits(
        self,
        sounds: Sound | list[Sound],
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        batch: int | None = None,
    ) -> Values:
        """The logit of each class for each of N sounds, `(N, K)` float32: the mean over the windows.

        Logits are the output of the network: not calibrated, and of any size. Arguments and errors are those of
        `predict_proba`.
        """
        listed = sounds if isinstance(sounds, list) else [sounds]
        found = means(self.flow(listed, rate, window=window, hop=hop, batch=batch, compute=self.scorer.logits))
        return np.stack(found) if found else np.empty((0, len(self.classes)), np.float32)

    def predict_files(
        self, paths: Sequence[Path], *, batch: int | None = None
    ) -> Iterator[tuple[Path, Prediction | SoundError]]:
        """Classify files, in memory that grows neither with their number nor with their length.

        Yields:
            Each path, in order, with its prediction, or with the error if the file cannot be read.
        """
        for number, mean in averaged(self.flow(paths, batch=batch)):
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
        """Classify each window of a sound, one after the other.

        Args:
            sound: as for `predict`.
            rate: sample rate in Hz, if `sound` is samples.
            window: length of a window in seconds; None for the model's.
            hop: seconds between the starts of windows; None for `window`, or the model's hop if that is None too.
            batch: number of windows scored together; None for those of a minute of sound, at most 32 (short ones: 256).

        Raises:
            SoundError: the sound cannot be read; possibly raised after some windows.
        """
        for one in good_windows(self.flow([sound], rate, window=window, hop=hop, batch=batch)):
            yield self.window_prediction(one)

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
        """Find the events of a sound, ordered by their start; a smaller window and hop place them more precisely.

        Args:
            sound: as for `predict`.
            rate: sample rate in Hz, if `sound` is samples.
            rules: how scores become events; None for `event_rules()`.
            window: length of a window in seconds; None for the model's.
            hop: seconds between the starts of windows; None for `window`, or the model's hop if that is None too.
            batch: number of windows scored together; None for those of a minute of sound, at most 32 (short ones: 256).
        """
        finder = EventFinder(self.classes, rules or self.event_rules())
        found: list[Event] = []
        for one in good_windows(self.flow([sound], rate, window=window, hop=hop, batch=batch)):
            found += finder.feed(self.event_scores(one.values)[None], [one.start], [one.end])
        return sorted(found + finder.finish(), key=lambda event: event.start)

    def event_rules(self, **options: Any) -> EventRules:
        """Event rules with the model's thresholds as `on`, or 0.5 where it has none; `options` override them."""
        own = self.thresholds if self.multilabel else [value or 0.5 for value in self.thresholds or ()]
        return EventRules(**({"on": own} if own else {}) | options)

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
        """Classify sound as it arrives: its windows, and events as they begin and end.

        Args:
            blocks: samples, `(S,)` each, with any S.
            rate: their sample rate in Hz; None for the model's.
            window: length of a window in seconds; None for the model's.
            hop: seconds between the starts of windows; None for `window`, or the model's hop if that is None too.
            gate: dB of full scale; windows quieter than this are not scored, and hold no event. None scores all.
            rules: how scores become events; None for `event_rules()`.
        """
        return stream(self, blocks, rate, window=window, hop=hop, gate=gate, rules=rules)

    def grid_of(self, window: float | None, hop: float | None) -> Grid:
        """How a sound is cut into windows of `window` seconds, `hop` seconds apart; None as in `predict`."""
        grid = self.grid
        if window is not None:
            least, most = self.scorer.window_limits(self.rate)
            if not least <= window * self.rate <= most:
                raise CallError(
                    f"window must be from {least / self.rate:.3g} s, the shortest input of the network, "
                    f"to {most / self.rate:g} s, is {window:g}"
                )
            grid = attrs.evolve(grid, window=round(window * self.rate), hop=round(window * self.rate))
        return grid if hop is None else attrs.evolve(grid, hop=hop_samples(hop, self.rate))

    def embed(
        self,
        sound: Sound | list[Sound],
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        batch: int | None = None,
    ) -> Values:
        """The embedding of a sound, `(D,)`, or of each sound of a list of N, `(N, D)`: the mean over its windows.

        The embedding of a window is the input of the network's last layer.

        Args:
            sound: as for `predict`.
            rate: sample rate in Hz, if `sound` is samples.
            window: length of a window in seconds; None for the model's.
            hop: seconds between the starts of windows; None for `window`, or the model's hop if that is None too.
            batch: number of windows scored together; None for those of a minute of sound, at most 32 (short ones: 256).
        """
        sounds = sound if isinstance(sound, list) else [sound]
        found = means(self.flow(sounds, rate, window=window, hop=hop, batch=batch, compute=self.scorer.embeddings))
        return np.stack(found) if isinstance(sound, list) else found[0]

    def flow(
        self,
        sounds: Iterable[Sound],
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        batch: int | None = None,
        compute: Callable[[RawBatch], Values] | None = None,
    ) -> Iterator[ScoredWindow | EndOfSound]:
        """Score the windows of several sounds in batches; each sound's windows are followed by its `EndOfSound`.

        Args:
            sounds: as for `predict`; a list of files is read ahead, other sounds each when its turn comes.
            rate: sample rate in Hz, if the sounds are samples.
            window: length of a window in seconds; None for the model's.
            hop: seconds between the starts of windows; None for `window`, or the model's hop if that is None too.
            batch: number of windows scored together, from one sound or several; None as in `predict`.
            compute: what to compute for them: the scorer's `rated` or `embeddings`; None for `rated`.
        """
        grid = self.grid_of(window, hop)
        cuts = cut_all(sounds, rate, self.rate, grid)
        return scored(cuts, compute or self.scorer.rated, Bound(batch, self.rate), len(self.classes))

    def window_prediction(self, window: ScoredWindow) -> WindowPrediction:
        """The prediction for a scored window."""
        found = self.prediction(window.values, "window")
        return WindowPrediction(**attrs.asdict(found, recurse=False), start=window.start, end=window.end)

    def event_scores(self, values: Values) -> Values:
        """The scores `(K,)` of a window for events, of its `values` `(K + 2,)`: zeros if it is rejected."""
        scores = values[: len(self.classes)]
        return np.zeros_like(scores) if self._rejects(values, "window") else scores

    def _rejects(self, values: Values, per: Literal["clip", "window"]) -> bool:
        rejector, evidence = self.scorer.rejector, values[len(self.classes) :]
        return rejector is not None and len(evidence) > 0 and rejector.rejects(evidence, per)

    def prediction(self, values: Values, per: Literal["clip", "window"] = "clip") -> Prediction:
        """The prediction for a sound or window.

        Args:
            values: its scores and evidence, as `Scorer.rated` gives them, `(K + 2,)`; or its scores alone, `(K,)`, with
                which it is not rejected.
            per: whether it is a sound or a window, which have a threshold each.
        """
        scores, rejected = values[: len(self.classes)], self._rejects(values, per)
        ranked = np.argsort(-scores, kind="stable")
        named = {self.classes[code]: float(scores[code]) for code in ranked}
        passed = ranked if self.multilabel else ranked[:1]
        if self.thresholds is not None:
            passed = passed[scores[passed] >= np.array(self.thresholds)[passed]]
        labels = () if rejected else tuple(self.classes[code] for code in passed)
        nearest = self.classes[ranked[0]]
        own = np.array(scores, np.float32)  # a copy: `scores` may be a row of a batch, which would be kept with it
        label, score = UNKNOWN if rejected else nearest, float(scores[ranked[0]])
        return Prediction(label, score, named, labels, own, nearest, rejected)
