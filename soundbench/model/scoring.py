"""Scoring sound with a network, for validation, test, predict, infer, embed and stream.

The scores of a window are those that the loss gives its calibrated logits, a clip's the mean of its windows' scores.
Scoring is in float32 whatever the precision of training, so that a score depends on the clip and not on its batch; in
bf16 only where somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from soundbench import distributed, limits
from soundbench.contracts import Batch, Calibration, Loss
from soundbench.data.batches import Grid, RawBatch, on_device, scoring_batches
from soundbench.data.clips import ClipTable
from soundbench.machine import Machine
from soundbench.model.network import Network, cost, shortest_samples
from soundbench.model.rejecting.rejector import Rejector
from soundbench.model.rows import by_rows
from soundbench.model.windows import WindowMean

if TYPE_CHECKING:
    from soundbench.data.features import Features
    from soundbench.data.store import Store

__all__ = [
    "ClipScores",
    "Scorer",
    "WindowMean",
    "make_evaluator",
    "score_batches",
    "score_clips",
    "silent",
]

Values = NDArray[np.float32]


@attrs.frozen
class ClipScores:
    """The scores of clips.

    Attributes:
        index: the row of each clip in the clip table, ascending, `(N,)`.
        scores: the score of each class, `(N, K)` float32.
        losses: the loss of each clip, `(N,)` float32; meaningless for clips without labels; empty where it was not
            asked for.
    """

    index: NDArray[np.int64]
    scores: Values
    losses: Values = attrs.field(factory=lambda: np.empty(0, np.float32))


@attrs.frozen
class Scorer:
    """A network on its device, ready to score batches of windows; several threads may use one.

    Attributes:
        network: on the machine's device, in evaluation mode.
        loss: turns logits into scores.
        machine: the device.
        level: RMS level in dB that each window is scaled to, or `off`.
        calibration: calibrates the logits of a window; None where nothing is calibrated.
        rejector: says which sound is of none of the classes; None where nothing is rejected.
        precision: of the network; what follows it is computed in float32. In bf16 a score depends on the batch, by up
            to about 0.01.
        computing: computes what the network does, in less time, such as `model.folding.norms.folded`; the network.
    """

    network: Network
    loss: Loss
    machine: Machine
    level: float | Literal["off"]
    calibration: Calibration | None = None
    rejector: Rejector | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    computing: Network = attrs.field(default=attrs.Factory(lambda self: self.network, takes_self=True), repr=False)

    @property
    def embeds(self) -> bool:
        """Whether what rejects sound needs embeddings."""
        return self.rejector is not None and self.rejector.embeddings

    def window_limits(self, rate: int) -> tuple[int, int]:
        """The shortest and the longest window that may be asked for, in samples."""
        return shortest_samples(self.network), limits.WINDOW * rate

    def cost(self, window: int) -> dict[str, int]:
        """What a report says of the network: its `parameters`, and the `macs` of a window."""
        return cost(self.network, window)

    def described(self) -> str:
        """The network in a few words."""
        parts = [type(part).__name__ for part in (self.network.featurizer, self.network.backbone)]
        parameters = sum(weight.numel() for weight in self.network.parameters())
        low = "" if self.precision == "fp32" else f", {self.precision}"
        return f"{', '.join(parts)}, {parameters:,} parameters, {self.machine.device}{low}"

    def rated(self, raw: RawBatch) -> Values:
        """The scores of each window of a batch and its evidence, `(B, K + 2)`.

        The evidence is the reject score, and 1, or 0 where all samples are zero; both have means over windows.
        """
        with torch.inference_mode(), self.machine.exact():
            logits, embeddings = self.outputs(raw, self.embeds)
            scores = self.scores_of(logits)
            rejector = self.rejector
            evidence = scores.new_zeros(len(scores)) if rejector is None else rejector.scores(logits, embeddings)
            found: Values = torch.cat([scores, evidence.to(scores)[:, None]], 1).cpu().numpy()
        return np.concatenate([found, ~silent(raw)[:, None]], 1, dtype=found.dtype)

    def outputs(self, raw: RawBatch, embeddings: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The logits `(B, K)` of each window, and its embedding `(B, D)` if asked for."""
        if not embeddings:
            return self._logits(raw)[1], None
        _, both = self._computed(self.computing.outputs, raw)
        classes = raw.target.shape[1]
        return both[:, :classes], both[:, classes:]

    def scores(self, raw: RawBatch) -> Values:
        """The scores of each window of a batch, `(B, K)`."""
        with torch.inference_mode():
            found: Values = self.scores_of(self._logits(raw)[1]).cpu().numpy()
        return found

    def logits(self, raw: RawBatch) -> Values:
        """The logits of each window of a batch, `(B, K)`: the output of the network, not calibrated."""
        found: Values = self._logits(raw)[1].cpu().numpy()
        return found

    def scores_of(self, logits: torch.Tensor) -> torch.Tensor:
        """The scores of windows with these logits, `(B, K)`."""
        return self.loss.scores(logits if self.calibration is None else self.calibration(logits))

    def embeddings(self, raw: RawBatch) -> Values:
        """The embedding of each window of a batch, `(B, D)`: the input of the last layer."""
        with torch.inference_mode():
            found: Values = self._computed(self.computing.embed, raw)[1].cpu().numpy()
        return found

    def scores_and_losses(self, raw: RawBatch) -> tuple[NDArray[np.int64], Values, Values]:
        """For each window of a batch, its row in the clip table, scores and loss: `(B,)`, `(B, K)`, `(B,)`."""
        with torch.inference_mode():
            batch, logits = self._logits(raw)
            losses = self.loss(logits, batch.target)
            found: Values = torch.cat([self.scores_of(logits), losses[:, None]], 1).cpu().numpy()
        return np.asarray(raw.index), found[:, :-1], found[:, -1]

    def _logits(self, raw: RawBatch) -> tuple[Batch, torch.Tensor]:
        return self._computed(self.computing, raw)

    def _computed(
        self, compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], raw: RawBatch
    ) -> tuple[Batch, torch.Tensor]:
        """A batch on the device, and what a part of the network gives for it, in float32."""

        def in_precision(data: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            with self.machine.autocast(self.precision):  # in the thread that computes these rows
                return compute(data, lengths)

        with self.machine.exact():
            batch = on_device(raw, self.machine.device, self.level)
            return batch, by_rows(in_precision, batch.data, batch.lengths).float()

    def as_trained(self) -> Scorer:
        """The same with the network as it is: its scores are those of the run's own test, to the last digit."""
        return attrs.evolve(self, computing=self.network)

    def set_evaluation(self) -> None:
        """Put the network into evaluation mode."""
        self.network.eval()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put the network into evaluation mode, and back into its former mode afterwards."""
        training = self.network.training
        self.network.eval()
        try:
            yield
        finally:
            self.network.train(training)


def silent(raw: RawBatch) -> NDArray[np.bool_]:
    """Whether all samples of each window are zero, `(B,)`; of features, none is known to be."""
    samples = np.asarray(raw.samples)
    if samples.ndim == 3:
        return np.zeros(len(samples), np.bool_)
    found: NDArray[np.bool_] = np.logical_not(np.any(samples, axis=1))
    return found


def make_evaluator(scorer: Scorer) -> Engine:
    """An engine whose output for each batch is `Scorer.scores_and_losses`.

    It can be run once: a second time it would stop after as many batches as the first time.
    """
    return Engine(lambda _engine, raw: scorer.scores_and_losses(raw))


class _Clips:
    """The scores of an evaluator's clips, each added after its last window; the windows of a clip are consecutive."""

    def __init__(self, count: int, classes: int) -> None:
        self.index = np.empty(count, np.int64)
        self.values = np.empty((count, classes + 1), np.float32)  # the loss is the last column
        self._done = 0
        self._mean = WindowMean()

    def add(self, engine: Engine) -> None:
        index, scores, losses = engine.state.output
        values = np.concatenate([scores, losses[:, None]], axis=1)
        for row, window in zip(index.tolist(), values, strict=True):
            if self._mean.windows and row != self.index[self._done]:
                self.finish()
            self.index[self._done] = row
            self._mean.add(window)

    def finish(self) -> None:
        """Add the scores of the current clip, which is complete."""
        self.values[self._done] = self._mean.take()
        self._done += 1


def score_batches(scorer: Scorer, batches: Iterable[RawBatch], clips: int, classes: int) -> ClipScores:
    """Score the windows of `clips` clips in this process; the windows of a clip must be consecutive."""
    found = _Clips(clips, classes)
    evaluator = make_evaluator(scorer)
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, found.add)
    with scorer.evaluating():
        evaluator.run(batches)
    found.finish()
    return ClipScores(found.index, found.values[:, :-1], found.values[:, -1])


def score_clips(
    scorer: Scorer,
    store: Store | Features,
    table: ClipTable,
    rows: NDArray[np.int64],
    grid: Grid,
    batch: int,
    workers: int = 0,
) -> ClipScores:
    """Score clips, from sound or features; the processes share the work, and each gets the scores of all clips."""
    own = rows[distributed.rank() :: distributed.world()]
    mine = None
    if len(own):
        batches = scoring_batches(store, table, own, grid.window, grid.hop, batch, workers)
        mine = score_batches(scorer, batches, len(own), len(table.classes))
    parts = [part for part in distributed.gather(mine) if part is not None]
    index = np.concatenate([part.index for part in parts])
    ascending = np.argsort(index, kind="stable")
    scores, losses = (np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "losses"))
    return ClipScores(index[ascending], scores[ascending], losses[ascending])
