"""The one way to judge sound: test, validation, infer and stream all go through it.

A clip's scores are the mean of its windows' scores. Judging is in float32 whatever a run was trained in, so that a
score depends on the clip and not on its company.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from soundbench import distributed
from soundbench.clips import ClipTable
from soundbench.contracts import Batch, Loss
from soundbench.loading import RawBatch, judging_batches, on_device
from soundbench.machine import Machine, Precision
from soundbench.network import Network

if TYPE_CHECKING:
    from soundbench.features import Features
    from soundbench.store import Store

__all__ = ["Grid", "Judge", "Judged", "embeddings", "judge", "judge_clips", "make_evaluator", "scores"]


@attrs.frozen
class Grid:
    """How a sound is cut into windows.

    Attributes:
        window: samples of a window.
        hop: samples between the beginnings of windows.
        trim: decibels below its loudest frame that a sound's ends are trimmed at before, or `off`; a store's are.
    """

    window: int
    hop: int
    trim: float | Literal["off"] = "off"


@attrs.frozen
class Judged:
    """What was judged.

    Attributes:
        index: which clip each row is of, ascending, `(N,)`.
        scores: of each class, `(N, K)` float32.
        losses: of each clip, `(N,)` float32; meaningless where the clips have no labels.
    """

    index: NDArray[np.int64]
    scores: NDArray[np.float32]
    losses: NDArray[np.float32]


@attrs.frozen
class Judge:
    """What judges.

    Attributes:
        network: on the machine's device.
        loss: for its scores.
        machine: the device.
        level: dB of RMS that each window is brought to, or `off`.
        precision: that the network computes in.
    """

    network: Network
    loss: Loss
    machine: Machine
    level: float | Literal["off"]
    precision: Precision = "fp32"


def make_evaluator(by: Judge) -> Engine:
    """An engine whose output of each batch is (index, scores, losses) of its windows.

    It is for one run: a second one would stop after as many batches as the first had.
    """

    def process(_engine: Engine, raw: RawBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            batch, logits = _logits(by, raw)
            return batch.index.cpu(), by.loss.scores(logits).cpu(), by.loss(logits, batch.target).cpu()

    return Engine(process)


def _logits(by: Judge, raw: RawBatch) -> tuple[Batch, torch.Tensor]:
    with by.machine.autocast(by.precision):
        batch = on_device(raw, by.machine.device, by.level)
        return batch, by.network(batch.data, batch.lengths).float()


def scores(by: Judge, raw: RawBatch) -> NDArray[np.float32]:
    """Of each window of a batch the scores, `(B, K)`; the network is in its judging mode. Safe in several threads."""
    with torch.inference_mode():
        found: NDArray[np.float32] = by.loss.scores(_logits(by, raw)[1]).cpu().numpy()
    return found


def embeddings(by: Judge, raw: RawBatch) -> NDArray[np.float32]:
    """Of each window of a batch what the classifier sees, `(B, D)`; as `scores`."""
    with torch.inference_mode(), by.machine.autocast(by.precision):
        batch = on_device(raw, by.machine.device, by.level)
        found: NDArray[np.float32] = by.network.embed(batch.data, batch.lengths).float().cpu().numpy()
    return found


def judge(by: Judge, batches: Iterable[RawBatch]) -> Judged:
    """Judge the windows of `batches` and join those of each clip, in this process."""
    found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    evaluator = make_evaluator(by)
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: found.append(engine.state.output))
    training = by.network.training
    by.network.eval()
    try:
        evaluator.run(batches)
    finally:
        by.network.train(training)
    index, scores, losses = (np.concatenate([part.numpy() for part in parts]) for parts in zip(*found, strict=True))
    clips, owner, windows = np.unique(index, return_inverse=True, return_counts=True)
    total = np.zeros((len(clips), scores.shape[1]), np.float64)
    np.add.at(total, owner, scores)
    loss = np.bincount(owner, losses, len(clips))
    return Judged(clips, (total / windows[:, None]).astype(np.float32), (loss / windows).astype(np.float32))


def judge_clips(
    by: Judge,
    store: Store | Features,
    table: ClipTable,
    rows: NDArray[np.int64],
    grid: Grid,
    batch: int,
    workers: int = 0,
) -> Judged:
    """Judge clips by sound or features, shared out among the processes; each gets the whole, every clip once."""
    own = rows[distributed.rank() :: distributed.world()]
    mine = None
    if len(own):
        mine = judge(by, judging_batches(store, table, own, grid.window, grid.hop, batch, workers))
    parts = [part for part in distributed.gather(mine) if part is not None]
    index = np.concatenate([part.index for part in parts])
    ascending = np.argsort(index, kind="stable")
    scores, losses = (np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "losses"))
    return Judged(index[ascending], scores[ascending], losses[ascending])
