"""Clip tables and a store become batches, in an order that is a function of (seed, epoch) alone.

Training shows each clip once an epoch, a random window of it; judging cuts every clip into windows on a fixed grid.
Both read whole batches from the store's memory map; samples travel as 16-bit integers and become floats on the device.
Where features were made ahead of training, they take the store's place: training draws from the windows of the grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from soundbench import masks
from soundbench.chance import Chance, order
from soundbench.data.clips import ClipTable
from soundbench.contracts import Batch
from soundbench.errors import Problem, RecipeError
from soundbench.data.features import Features
from soundbench.signals import outlast

if TYPE_CHECKING:
    from soundbench.data.store import Store

__all__ = [
    "Order",
    "RawBatch",
    "class_weights",
    "balanced_order",
    "scoring_batches",
    "members",
    "on_device",
    "pack",
    "set_level",
    "training_batches",
    "window_grid",
]

Rows = NDArray[np.int64]

_order = lru_cache(maxsize=2)(order)


class RawBatch(NamedTuple):
    """A batch as it travels: 16-bit samples `(B, S)` and the scale `(B,)` of each row; the rest as in `Batch`.

    Features made ahead travel as `samples` `(B, T, F)` float32, each of scale 1, with `lengths` in frames.
    """

    samples: Tensor
    scales: Tensor
    lengths: Tensor
    target: Tensor
    index: Tensor  # type: ignore[assignment]  # a tuple's own method of that name is of no use here
    position: Tensor


@attrs.frozen
class Order:
    """Which clips each step of each epoch shows, and which of them each process takes.

    An epoch's clips are dealt to its steps as evenly as they go, so that no step is left with a single clip, which
    batch norm could not train on (but for an odd number of clips in batches of 2).

    Attributes:
        rows: the clips to train on, as rows of the clip table.
        members: of each class, which of `rows` carry it, to show each class equally often; None shows each clip once.
        batch: clips a step at most, of all processes together.
        seed: of the order.
        rank: this process's number.
        world: how many processes share each step.
    """

    rows: Rows = attrs.field(eq=False)
    batch: int
    seed: int
    rank: int = 0
    world: int = 1
    members: Sequence[Rows] | None = attrs.field(default=None, eq=False)
    _shown: dict[int, Rows] = attrs.field(init=False, factory=dict, eq=False, repr=False)

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        return max(1, -(-len(self.rows) // self.batch))

    def step(self, epoch: int, step: int) -> tuple[Rows, Rows]:
        """The clips of one step that are this process's: rows of the table, and positions in the epoch's order."""
        edges = np.arange(self.steps + 1) * len(self.rows) // self.steps
        positions = np.arange(edges[step], edges[step + 1])[self.rank :: self.world]
        return self.rows[self._order(epoch)[positions]], positions

    def _order(self, epoch: int) -> Rows:
        """Which of `rows` stands at each position of an epoch."""
        if self.members is None:
            return _order(len(self.rows), self.seed, epoch)
        if epoch not in self._shown:
            self._shown.clear()
            self._shown[epoch] = balanced_order(self.members, len(self.rows), self.seed, epoch)
        return self._shown[epoch]

    def size(self, step: int) -> int:
        """Clips of one step, of all processes together."""
        edges = np.arange(self.steps + 1) * len(self.rows) // self.steps
        return int(edges[step + 1] - edges[step])


def members(table: ClipTable, rows: Rows) -> list[Rows]:
    """Of each class that any of `rows` carries, which of them do."""
    carried = table.targets(rows) > 0
    return [where for where in (np.flatnonzero(column) for column in carried.T) if len(where)]


def balanced_order(members: Sequence[Rows], count: int, seed: int, epoch: int) -> Rows:
    """`count` members for an epoch, as many of each class to one: a class's clips in turn, in an order of the epoch's.

    Args:
        members: of each class, `(n,)` numbers.
        count: how many there shall be.
        seed: of the run.
        epoch: counted from 1.
    """
    turn = order(count, seed, epoch)
    shown = np.zeros(count, np.int64)
    for number, own in enumerate(members):
        places = turn[number :: len(members)]
        shuffled = own[order(len(own), seed, epoch, f"class[{number}]")]
        shown[places] = shuffled[np.arange(len(places)) % len(own)]
    return shown


class _Steps(Sampler[int]):
    """The numbers of the steps from `first` to `last`."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.last))

    def __len__(self) -> int:
        return self.last - self.first


class _TrainingWindows(Dataset[RawBatch]):
    """Item k is the batch of step k of the whole run: a random window of each clip."""

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
    """Item k is the k-th batch of the windows of the scoring grid."""

    def __init__(
        self, store: Store | Features, table: ClipTable, rows: Rows, starts: NDArray[np.int64], window: int, batch: int
    ) -> None:
        self.store, self.table, self.window, self.batch = store, table, window, batch
        self.rows, self.starts = rows, starts

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch)

    def __getitem__(self, number: int) -> RawBatch:
        part = slice(number * self.batch, (number + 1) * self.batch)
        rows = self.rows[part]
        return _read(self.store, self.table, rows, self.starts[part], self.window, np.arange(len(rows)))


def _read(
    store: Store | Features, table: ClipTable, rows: Rows, starts: NDArray[np.int64], window: int, positions: Rows
) -> RawBatch:
    """The batch of the windows of `rows` that begin at `starts`."""
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
    """The windows of `rows`, in their order; `index` says which row of the table each window is of."""
    owner, starts = window_grid(store.lengths[rows], window, hop)
    windows = _ScoringWindows(store, table, rows[owner], starts, window, batch)
    return _loader(windows, _Steps(0, len(windows)), workers)


def _loader(dataset: Dataset[RawBatch], sampler: Sampler[int], workers: int) -> DataLoader[RawBatch]:
    own = torch.Generator().manual_seed(0)  # the loader's base seed must draw nothing from the global state
    return DataLoader(
        dataset, batch_size=None, sampler=sampler, num_workers=workers, generator=own, worker_init_fn=outlast
    )


def window_grid(lengths: Rows, window: int, hop: int) -> tuple[Rows, Rows]:
    """The windows that sounds of `lengths` samples are judged by: which sound each is of, and where it begins.

    Windows begin at k · hop while a whole one fits; a remainder gets one that ends at the end; a shorter sound is one
    window.
    """
    last = np.maximum(lengths - window, 0)
    counts = 1 - (-last // hop)
    owner = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return owner, np.minimum(number * hop, last[owner])


def pack(samples: list[NDArray[np.int16]], scales: list[float], index: list[int], classes: int) -> RawBatch:
    """A batch of windows that come from no store, padded to the longest; without labels."""
    lengths = np.array([len(row) for row in samples], np.int64)
    rows = np.zeros((len(samples), lengths.max()), np.int16)
    for row, values in zip(rows, samples, strict=True):
        row[: len(values)] = values
    return RawBatch(
        torch.from_numpy(rows),
        torch.tensor(scales, dtype=torch.float32),
        torch.from_numpy(lengths),
        torch.zeros(len(samples), classes),
        torch.tensor(index),
        torch.arange(len(samples)),
    )


def on_device(raw: RawBatch, device: torch.device, level: float | Literal["off"]) -> Batch:
    """The batch as floats in [-1, 1] (more where the sound itself goes beyond), each row brought to `level`.

    Features made ahead are of windows that were brought to it.
    """
    raw = RawBatch(*(part.to(device, non_blocking=True) for part in raw))
    if raw.samples.dim() == 3:
        return Batch(raw.samples.transpose(1, 2).contiguous(), raw.lengths, raw.target, raw.index, raw.position)
    data = raw.samples.float() * raw.scales[:, None]
    if level != "off":
        data = set_level(data, raw.lengths, level)
    return Batch(data, raw.lengths, raw.target, raw.index, raw.position)


def set_level(waveform: Tensor, lengths: Tensor, decibels: float) -> Tensor:
    """Bring each row of `(B, S)` to `decibels` of RMS over its true samples; digital silence stays."""
    size = waveform.shape[1]
    inside = masks.mask(lengths, size)
    power = (waveform.square() * inside).sum(dim=1) / lengths
    gain = torch.where(power > 0, 10 ** (decibels / 20) * power.clamp(min=1e-30).rsqrt(), torch.ones_like(power))
    return waveform * gain[:, None]


def class_weights(given: Mapping[str, float] | str, table: ClipTable, rows: Rows, source: str) -> NDArray[np.float32]:
    """The weight of each class `(K,)` in the loss, with mean 1 over the training clips.

    Args:
        given: `train.class_weights`: `none`, `balanced` (the inverse of a class's clips), or a weight a class.
        table: the clips.
        rows: those to train on.
        source: the recipe, for messages.

    Raises:
        RecipeError: a class that there is not, or no weight at all.
    """
    if given == "none":
        return np.ones(len(table.classes), np.float32)
    counts = table.class_counts(rows)
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in table.classes]
        if unknown:
            text = f"no class {unknown[0]!r}; the classes are: {', '.join(table.classes)}"
            raise RecipeError(source, [Problem("train.class_weights", text)])
        weights = np.array([given.get(name, 1.0) for name in table.classes])
    else:
        weights = np.divide(1.0, counts, out=np.zeros(len(counts)), where=counts > 0)
    whole = float((weights * counts).sum())
    if not whole:
        text = "0 for every class that is trained on: nothing would be learnt"
        raise RecipeError(source, [Problem("train.class_weights", text)])
    scaled: NDArray[np.float32] = (weights * counts.sum() / whole).astype(np.float32)
    return scaled
