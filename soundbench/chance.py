"""Random numbers without state: each is a function of (seed, epoch, place, position, draw), not of earlier numbers.

These five values are hashed to 64 bits. The mixing is the finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014,
section 3), in signed 64-bit arithmetic that wraps around alike in NumPy arrays and torch tensors: the same code works
for both, and the numbers stay on the device of the positions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Chance", "Keyed", "Noted", "order"]

Positions = TypeVar("Positions", "np.ndarray", "Tensor")

_UNIT = 2.0**-24


def _signed(value: int) -> int:
    """The low 64 bits of a number, as a signed integer."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_STEP = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _mix(bits: Positions) -> Positions:
    """SplitMix64's finalizer; the masks make signed right shifts logical ones."""
    bits = (bits ^ ((bits >> 30) & ((1 << 34) - 1))) * _FIRST
    bits = (bits ^ ((bits >> 27) & ((1 << 37) - 1))) * _SECOND
    mixed: Positions = bits ^ ((bits >> 31) & ((1 << 33) - 1))
    return mixed


@attrs.frozen
class Chance:
    """The random numbers of one component in one epoch.

    Attributes:
        seed: the run's seed.
        epoch: counted from 1.
        place: the component's place in the recipe, such as `augmentation[1]`.

    The argument `draw` of its methods names the quantity that is drawn: a different name gives independent numbers.
    Positions may be any integers of any shape. For a number for each sample of a row, give each sample one of its own,
    which does not depend on the length of the batch: `batch.position[:, None] * 2**32 + torch.arange(samples)`.
    """

    seed: int
    epoch: int
    place: str

    def key(self, draw: str) -> Any:
        """The address of a draw without the position, hashed to a signed 64-bit integer."""
        address = f"{self.seed}/{self.epoch}/{self.place}/{draw}".encode()
        return _signed(int.from_bytes(hashlib.blake2b(address, digest_size=8).digest(), "little"))

    def bits(self, position: Positions, draw: str) -> Positions:
        """64 random bits for each position, int64, shaped like `position` (int64 array or tensor)."""
        key = self.key(draw)
        bits: Positions = _mix(_mix(position * _STEP + key) + key)
        return bits

    def uniform(self, position: Positions, draw: str, low: float = 0.0, high: float = 1.0) -> Positions:
        """A number in [low, high) for each position, float32, with 24 random bits."""
        unit = (self.bits(position, draw) >> 40) & ((1 << 24) - 1)
        if isinstance(unit, np.ndarray):
            scaled: np.ndarray = (low + (high - low) * (unit * _UNIT)).astype(np.float32)
            return scaled
        return low + (high - low) * (unit.float() * _UNIT)

    def integers(self, position: Positions, draw: str, count: Positions | int) -> Positions:
        """An integer in [0, count) for each position, int64; `count` is at most 2**31, one or one per position."""
        return (((self.bits(position, draw) >> 32) & ((1 << 31) - 1)) * count) >> 31


class Noted(Chance):
    """The same numbers; `draws` lists the quantities that were drawn, in order."""

    draws: list[str]

    def __init__(self, seed: int, epoch: int, place: str) -> None:
        super().__init__(seed, epoch, place)
        object.__setattr__(self, "draws", [])

    def key(self, draw: str) -> Any:
        """The address of a draw, hashed."""
        if draw not in self.draws:
            self.draws.append(draw)
        return super().key(draw)


class Keyed(Chance):
    """The same numbers in a step that is traced: a trace lasts for all epochs, and gets their keys in a tensor.

    Args:
        keys: the key of each of `draws`, `(N,)` int64, on the device of the positions.
        draws: component's place, and the quantity drawn.
        place: of the component that draws.
    """

    keys: Tensor
    draws: Sequence[tuple[str, str]]

    def __init__(self, keys: Tensor, draws: Sequence[tuple[str, str]], place: str) -> None:
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "draws", draws)
        object.__setattr__(self, "place", place)

    def key(self, draw: str) -> Any:
        """The address of a draw, hashed, as a tensor `()`."""
        return self.keys[self.draws.index((self.place, draw))]


def order(count: int, seed: int, epoch: int, place: str = "order") -> np.ndarray:
    """A random permutation of `count` items, int64 `(count,)`, that depends only on the arguments."""
    keys = Chance(seed, epoch, place).bits(np.arange(count, dtype=np.int64), "order")
    return np.argsort(keys, kind="stable")
