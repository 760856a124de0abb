"""Make batches: windows of clips, read from the store of decoded sound and moved to the device.

Training uses each clip once per epoch, with a random window; scoring cuts every clip into windows on a fixed grid. Both
read whole batches from the memory map of the store; samples are transferred as 16-bit integers and become floats on the
device. Precomputed features can take the place of the store: training then draws from the windows of the grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench.data.clips import ClipTable
from soundbench.data.features import Features
from soundbench.data.order import Order
from soundbench.data.windowing.grid import Grid, window_counts, window_grid
from soundbench.data.windowing.packing import RawBatch, pack
from soundbench.signals import outlast

if TYPE_CHECKING:
    from soundbench.data.store import Store

__all__ = [
    "Grid",
    "RawBatch",
    "keep_on_host",
    "on_device",
    "pack",
    "scoring_batches",
    "set_level",
    "training_batches",
    "window_grid",
]

Rows = NDArray[np.int64]


class _Steps(Sampler[int]):
    """The numbers of the steps from `first` to `last`."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.last))

    def __len__(self) -> int:
        return self.last - self.first


class _TrainingWindows(Dataset[RawBatch]):
    """Item k is the batch of step k, counted over the whole run: a random window of each clip."""

    def __init__(self, store: Store | Features, table: ClipTable, plan: Order, window: int) -> None:
        self.store, self.table, self.plan, self.window = store, table, plan, window

    def __getitem__(self, step: int) -> RawBatch:
        epoch, step = 1 + step // self.plan.steps, step % self.plan.steps
        rows, positions = self.plan.step(epoch, step)
        spare, hop = np.maximum(self.store.lengths[rows] - self.window, 0), self.store.hop
        drawn = Chance(self.plan.seed, epoch, "window").integers(positions, "start", 1 - (-spare // hop))
        starts = np.minimum(drawn * hop, spare)
        return _read(self.store, self.table, rows, starts, self.window, positions)


class _ScoringWindows(Dataset[RawBatch]):
    """Item k is the k-th batch of the windows of the scoring grid, which are found when it is their turn."""

    def __init__(
        self, store: Store | Features, table: ClipTable, rows: Rows, window: int, hop: int, batch: int
    ) -> None:
        self.store, self.table, self.rows, self.window, self.hop, self.batch = store, table, rows, window, hop, batch
        self.firsts = np.cumsum(np.append(0, window_counts(store.lengths[rows], window, hop)))

    def __len__(self) -> int:
        return -(-int(self.firsts[-1]) // self.batch)

    def __getitem__(self, number: int) -> RawBatch:
        windows = np.arange(number * self.batch, min((number + 1) * self.batch, int(self.firsts[-1])))
        owner = np.searchsorted(self.firsts, windows, "right") - 1
        rows = self.rows[owner]
        last = np.maximum(self.store.lengths[rows] - self.window, 0)
        starts = np.minimum((windows - self.firsts[owner]) * self.hop, last)
        return _read(self.store, self.table, rows, starts, self.window, np.arange(len(rows)))


def _read(
    store: Store | Features, table: ClipTable, rows: Rows, starts: NDArray[np.int64], window: int, positions: Rows
) -> RawBatch:
    """The batch of the windows of `rows` that start at `starts`."""
    data: NDArray[np.int16] | NDArray[np.float32]
    if isinstance(store, Features):
        data, counts = store.gather(rows, starts)
        scales = np.ones(len(rows), np.float32)
    else:
        counts = np.minimum(store.lengths[rows] - starts, window)
        data, scales = store.gather(rows, starts, counts, window)
    return RawBatch(
        torch.from_numpy(data),
        torch.from_numpy(scales),
        torch.from_numpy(counts.astype(np.int64)),
        torch.from_numpy(table.targets(rows)),
        torch.from_numpy(rows.astype(np.int64)),
        torch.from_numpy(positions.astype(np.int64)),
    )


def training_batches(
    store: Store | Features,
    table: ClipTable,
    plan: Order,
    window: int,
    epochs: int,
    first_step: int = 0,
    workers: int = 0,
) -> Iterable[RawBatch]:
    """The batches of every step from `first_step` to the end of the run, for this process."""
    steps = _Steps(first_step, epochs * plan.steps)
    return _loader(_TrainingWindows(store, table, plan, window), steps, workers)


def scoring_batches(
    store: Store | Features, table: ClipTable, rows: Rows, window: int, hop: int, batch: int, workers: int = 0
) -> Iterable[RawBatch]:
    """The windows of `rows`, in their order; `index` is the row of the table that each window belongs to."""
    windows = _ScoringWindows(store, table, rows, window, hop, batch)
    return _loader(windows, _Steps(0, len(windows)), workers)


def _loader(dataset: Dataset[RawBatch], sampler: Sampler[int], workers: int) -> DataLoader[RawBatch]:
    own = torch.Generator().manual_seed(0)  # the loader's base seed must not use the global generator
    return DataLoader(
        dataset, batch_size=None, sampler=sampler, num_workers=workers, generator=own, worker_init_fn=outlast
    )


def on_device(raw: RawBatch, device: torch.device, level: float | Literal["off"]) -> Batch:
    """The batch as floats in [-1, 1] (beyond it if the sound is), each row scaled to `level`.

    Precomputed features are not changed: their windows were scaled before.
    """
    given = RawBatch(*map(torch.as_tensor, raw))
    raw = RawBatch(*(part.to(device, non_blocking=True) for part in given))
    if given.position.device.type == "cpu":
        keep_on_host(raw.position, given.position)
    if raw.samples.dim() == 3:
        return Batch(raw.samples.transpose(1, 2).contiguous(), *raw[2:])
    data = raw.samples.float() * raw.scales[:, None]
    if level != "off":
        data = set_level(data, raw.lengths, level)
    return Batch(data, *raw[2:])


def keep_on_host(position: Tensor, on_host: Tensor) -> None:
    """Keep what a position on a device is on the CPU, for `Batch.host_position`.

    The tensor itself has it: batches made of that tensor know it too, and one of other positions does not.
    """
    if position is not on_host:
        position.on_host = on_host  # type: ignore[attr-defined]


def set_level(waveform: Tensor, lengths: Tensor, decibels: float) -> Tensor:
    """Scale each row of `(B, S)` to an RMS level in dB over its valid samples; digital silence is not changed."""
    size = waveform.shape[1]
    inside = masks.mask(lengths, size)
    power = (waveform.square() * inside).sum(dim=1) / lengths
    gain = torch.where(power > 0, 10 ** (decibels / 20) * power.clamp(min=1e-30).rsqrt(), torch.ones_like(power))
    return waveform * gain[:, None]
