"""The order of clips in each epoch, a function of (seed, epoch) alone; and the weights of the classes in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.chance import order
from soundbench.data.clips import ClipTable, normal
from soundbench.errors import Problem, RecipeError

__all__ = ["Order", "balanced_order", "class_weights", "members", "order_by_shards"]

Rows = NDArray[np.int64]

_order = lru_cache(maxsize=2)(order)


@attrs.frozen
class Order:
    """The clips of each step of each epoch, and the share of each process.

    The clips of an epoch are distributed evenly over its steps, so that no step has a single clip, which batch norm
    cannot train on (except for an odd number of clips in batches of 2).

    Attributes:
        rows: the training clips, as rows of the clip table.
        members: for each class, the indices into `rows` of its clips, to use all classes equally often; None uses each
            clip once.
        batch: the most clips in a step, over all processes together.
        seed: the seed of the order.
        rank: the rank of this process.
        world: the number of processes.
        shards: the shard of each of `rows`, if few of them are in memory; None if clips of all may follow one another.
        at_once: the shards whose clips are shuffled together.
    """

    rows: Rows = attrs.field(eq=False)
    batch: int
    seed: int
    rank: int = 0
    world: int = 1
    members: Sequence[Rows] | None = attrs.field(default=None, eq=False)
    shards: NDArray[np.int32] | None = attrs.field(default=None, eq=False)
    at_once: int = 1
    _shown: dict[int, Rows] = attrs.field(init=False, factory=dict, eq=False, repr=False)

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return max(1, -(-len(self.rows) // self.batch))

    def step(self, epoch: int, step: int) -> tuple[Rows, Rows]:
        """The clips of one step for this process: rows of the table, and positions in the order of the epoch."""
        positions = np.arange(self._edge(step) + self.rank, self._edge(step + 1), self.world)
        return self.rows[self._order(epoch)[positions]], positions

    def _order(self, epoch: int) -> Rows:
        """The index into `rows` at each position of an epoch."""
        if self.members is None and self.shards is None:
            return _order(len(self.rows), self.seed, epoch)
        if epoch not in self._shown:
            self._shown.clear()
            self._shown[epoch] = self._made(epoch)
        return self._shown[epoch]

    def _made(self, epoch: int) -> Rows:
        if self.members is not None:
            return balanced_order(self.members, len(self.rows), self.seed, epoch)
        assert self.shards is not None
        return order_by_shards(self.shards, self.at_once, self.seed, epoch)

    def size(self, step: int) -> int:
        """Clips in one step, over all processes together."""
        return self._edge(step + 1) - self._edge(step)

    @property
    def smallest(self) -> int:
        """Clips in the smallest step, over all processes together; no step has more than one clip more."""
        return len(self.rows) // self.steps

    def _edge(self, step: int) -> int:
        """The first position of a step in the order of the epoch, which is the end of the step before."""
        return step * len(self.rows) // self.steps


def members(table: ClipTable, rows: Rows) -> list[Rows]:
    """For each class that occurs in `rows`, the indices into `rows` of its clips."""
    owners, labels = table.labels_of(rows)
    by_class = np.argsort(labels, kind="stable")  # the clips of a class stay in their order
    ends = np.cumsum(np.bincount(labels, minlength=len(table.classes)))
    return [own for own in np.split(owners[by_class], ends[:-1]) if len(own)]


def balanced_order(members: Sequence[Rows], count: int, seed: int, epoch: int) -> Rows:
    """`count` members for an epoch, equally many of each class (to one), each class in a random order of its own.

    Args:
        members: the members of each class, `(n,)` each.
        count: the number of members to return.
        seed: the seed of the run.
        epoch: counted from 1.
    """
    turn = order(count, seed, epoch)
    shown = np.zeros(count, np.int64)
    for number, own in enumerate(members):
        places = turn[number :: len(members)]
        shuffled = own[order(len(own), seed, epoch, f"class[{number}]")]
        shown[places] = shuffled[np.arange(len(places)) % len(own)]
    return shown


def order_by_shards(shards: NDArray[np.int32], at_once: int, seed: int, epoch: int) -> Rows:
    """Clips in an order in which few shards follow one another: all clips of `at_once` shards, then those of the next.

    Shards are shuffled; the clips of those that are together are in the order that all clips would have.

    Args:
        shards: the shard of each clip, `(N,)`.
        at_once: the number of shards.
        seed: the seed of the run.
        epoch: counted from 1.
    """
    names, own = np.unique(shards, return_inverse=True)
    turn = np.argsort(order(len(names), seed, epoch, "shards"))
    place = np.argsort(order(len(shards), seed, epoch))
    return np.lexsort((place, turn[own] // at_once))


def class_weights(given: Mapping[str, float] | str, table: ClipTable, rows: Rows, source: str) -> NDArray[np.float32]:
    """The weight of each class `(K,)` in the loss, with mean 1 over the training clips.

    Args:
        given: `train.class_weights`: `none`, `balanced` (inverse to the number of clips), or a weight for each class.
        table: the clips.
        rows: the training clips.
        source: the recipe, for messages.

    Raises:
        RecipeError: an unknown class, or all weights are 0.
    """
    if given == "none":
        return np.ones(len(table.classes), np.float32)
    counts = table.class_counts(rows)
    if isinstance(given, Mapping):
        given = {normal(name): weight for name, weight in given.items()}
        unknown = [name for name in given if name not in table.classes]
        if unknown:
            text = f"no class {unknown[0]!r}; the classes are: {', '.join(table.classes)}"
            raise RecipeError(source, [Problem("train.class_weights", text)])
        weights = np.array([given.get(name, 1.0) for name in table.classes])
    else:
        weights = np.divide(1.0, counts, out=np.zeros(len(counts)), where=counts > 0)
    whole = float((weights * counts).sum())
    if not whole:
        text = "must not be 0 for every class in the training set"
        raise RecipeError(source, [Problem("train.class_weights", text)])
    scaled: NDArray[np.float32] = (weights * counts.sum() / whole).astype(np.float32)
    return scaled
