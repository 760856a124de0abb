"""Which clips each step of each epoch shows, a function of (seed, epoch) alone; and each class's weight in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.chance import order
from soundbench.data.clips import ClipTable
from soundbench.errors import Problem, RecipeError

__all__ = ["Order", "balanced_order", "class_weights", "members"]

Rows = NDArray[np.int64]

_order = lru_cache(maxsize=2)(order)


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
