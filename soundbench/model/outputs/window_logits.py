"""The logits of the windows of clips, which are computed once and kept on disk, and the scores that they give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from soundbench import distributed
from soundbench.contracts import Calibration, Loss
from soundbench.data.batches import Grid, scoring_batches
from soundbench.data.clips import ClipTable
from soundbench.data.windowing.grid import window_counts
from soundbench.errors import RunError
from soundbench.model.outputs.on_disk import OnDisk
from soundbench.model.scoring import Scorer, silent

if TYPE_CHECKING:
    from soundbench.data.features import Features
    from soundbench.data.store import Store

__all__ = ["BLOCK", "WindowLogits", "clip_means", "refuse_not_finite", "window_logits"]

Values = NDArray[np.float32]

BLOCK = 1 << 14
"""Windows that are in memory at a time, where all are looked at."""

_COLUMNS = ("index", "logits", "silent")


@attrs.frozen(eq=False)
class WindowLogits:
    """What the network gives for each window of some clips.

    Attributes:
        index: the row of each window's clip in the clip table, ascending, `(V,)`.
        logits: the output of the network, not calibrated, `(V, K)` float32.
        embeddings: the input of its last layer, `(V, D)` float32; None where it was not asked for.
        silent: whether all samples of each window are zero, `(V,)`; none is where this is not known.
    """

    index: NDArray[np.int64]
    logits: Values
    embeddings: Values | None = None
    silent: NDArray[np.bool_] = attrs.field(
        default=attrs.Factory(lambda self: np.zeros(len(self.index), np.bool_), takes_self=True)
    )

    @property
    def rows(self) -> NDArray[np.int64]:
        """The rows of the clips, ascending, `(N,)`."""
        return self.index[self._firsts]

    @property
    def clip(self) -> NDArray[np.int64]:
        """The clip of each window, as its place in `rows`, `(V,)`."""
        return np.cumsum(self._firsts) - 1

    @property
    def _firsts(self) -> NDArray[np.bool_]:
        """Whether each window is the first of its clip, `(V,)`."""
        firsts = np.ones(len(self.index), np.bool_)
        np.not_equal(self.index[1:], self.index[:-1], out=firsts[1:])
        return firsts

    def part(self, which: slice | NDArray[Any]) -> WindowLogits:
        """The same of some windows, in their order."""
        vectors = None if self.embeddings is None else self.embeddings[which]
        return WindowLogits(self.index[which], self.logits[which], vectors, self.silent[which])

    def blocks(self) -> Iterator[WindowLogits]:
        """All windows, in parts of whole clips, each of which fits into memory."""
        firsts = np.append(np.flatnonzero(self._firsts), len(self.index))
        edges = np.unique(firsts[np.searchsorted(firsts, np.arange(0, len(self.index) + BLOCK, BLOCK), "right") - 1])
        return (self.part(slice(first, last)) for first, last in pairwise(edges.tolist()))


def refuse_not_finite(index: NDArray[np.int64], values: Values, part: str, advice: str) -> None:
    """Refuse to go on with logits or scores that are NaN or infinite.

    Args:
        index: the clip of each row of `values`, `(V,)`.
        values: the logits or scores, `(V, K)`.
        part: the part of the data, for the message.
        advice: what to try.

    Raises:
        RunError: a clip has such a value.
    """
    blocks = (slice(first, first + BLOCK) for first in range(0, len(index), BLOCK))
    finite = np.concatenate([np.ones(0, np.bool_), *(np.isfinite(values[own]).all(axis=1) for own in blocks)])
    wrong = len(np.unique(index[~finite]))
    if wrong:
        raise RunError(f"{wrong} of {len(np.unique(index))} {part} clips have scores that are not finite; {advice}")


def window_logits(
    scorer: Scorer,
    store: Store | Features,
    table: ClipTable,
    rows: NDArray[np.int64],
    grid: Grid,
    batch: int,
    workers: int = 0,
    embeddings: bool = False,
) -> WindowLogits:
    """The logits of each window of clips; the processes share the work, and each gets those of all clips.

    All processes must name the same clips, of the same lengths: otherwise they would wait for each other. With
    `embeddings`, also the embeddings of the windows. Both are on disk, in temporary files of this process.

    Raises:
        RunError: they do not fit on the disk.
    """
    rows = np.sort(rows)
    own, found = rows[distributed.rank() :: distributed.world()], _Windows(len(table.classes))
    if len(own):
        with scorer.evaluating(), torch.inference_mode():
            for raw in scoring_batches(store, table, own, grid.window, grid.hop, batch, workers):
                given, placed = scorer.outputs(raw, embeddings)
                arrays = given.cpu().numpy(), None if placed is None else placed.cpu().numpy()
                found.add(WindowLogits(raw.index.numpy(), *arrays, silent(raw)))
    mine = found.all()
    if distributed.world() == 1 or not len(rows):
        return mine
    together = _Windows(len(table.classes))
    ends = np.cumsum(window_counts(store.lengths[rows], grid.window, grid.hop))
    for block in np.split(rows, np.flatnonzero(np.diff(ends // BLOCK)) + 1):
        part = mine.part(slice(*np.searchsorted(mine.index, [block[0], block[-1] + 1])))
        together.add(_joined(distributed.gather(part)))
    return together.all()


def _joined(parts: Sequence[WindowLogits]) -> WindowLogits:
    """Windows of several processes, ascending by their clips."""
    given = [part for part in parts if len(part.index)]
    index, logits, marks = (np.concatenate([getattr(part, name) for part in given]) for name in _COLUMNS)
    vectors = [part.embeddings for part in given if part.embeddings is not None]
    whole = WindowLogits(index, logits, np.concatenate(vectors) if vectors else None, marks)
    return whole.part(np.argsort(index, kind="stable"))


def clip_means(windows: WindowLogits, loss: Loss, calibration: Calibration | None) -> Values:
    """The scores of clips `(N, K)`, from the logits of their windows; on disk, in a temporary file."""
    means = OnDisk(windows.logits[:0])
    for part in windows.blocks():
        with torch.inference_mode():
            logits = torch.from_numpy(part.logits)
            scores = loss.scores(logits if calibration is None else calibration(logits)).double().numpy()
        sums = np.zeros((len(part.rows), scores.shape[1]))
        np.add.at(sums, part.clip, scores)
        means.add((sums / np.bincount(part.clip)[:, None]).astype(np.float32))
    return means.mapped()


class _Windows:
    """Windows that are added batch by batch: on disk, not in memory."""

    def __init__(self, classes: int) -> None:
        self._index, self._silent = OnDisk(np.empty(0, np.int64)), OnDisk(np.empty(0, np.bool_))
        self._logits = OnDisk(np.empty((0, classes), np.float32))
        self._embeddings = OnDisk(np.empty((0, 0), np.float32))

    def add(self, part: WindowLogits) -> None:
        """Add the windows of a batch."""
        self._index.add(part.index)
        self._silent.add(part.silent)
        self._logits.add(part.logits)
        if part.embeddings is not None:
            self._embeddings.add(part.embeddings)

    def all(self) -> WindowLogits:
        """All that were added."""
        vectors = self._embeddings.mapped()
        given = vectors if vectors.size else None
        return WindowLogits(self._index.mapped(), self._logits.mapped(), given, self._silent.mapped())
