"""Mix sounds into rows at a drawn signal-to-noise ratio: shared by `noise` and `background`."""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench_plugins.layers.sound_bank import SoundBank

__all__ = ["check", "mixed", "passages", "strength"]


def check(snr: tuple[float, float], chance: float) -> None:
    """Refuse an invalid range of ratios, or a probability outside 0 to 1."""
    if not (all(map(math.isfinite, snr)) and snr[0] <= snr[1]):
        raise ValueError(f"snr must be two numbers in decibels, the lower one first, is {list(snr)}")
    if not 0.0 <= chance <= 1.0:
        raise ValueError(f"chance must be from 0 to 1, is {chance}")


def passages(
    bank: SoundBank, which: Tensor, lengths: Tensor, size: int, position: Tensor, chance: Chance, draw: str = "begin"
) -> Tensor:
    """A passage of a sound for each row, `(B, size)`, zero beyond the row's length.

    A random passage of a longer sound is used; a shorter one is repeated, from a random place in it.

    Args:
        bank: the sounds.
        which: index of the sound for each row, `(B,)`.
        lengths: true samples of each row, `(B,)`.
        size: samples of a row.
        position: positions of the rows in the epoch's order, `(B,)`.
        chance: source of the draws.
        draw: name of the draw of a passage's beginning.
    """
    found = bank.lengths[which]
    begins = chance.integers(position, draw, torch.where(found < lengths, found, found - lengths + 1))
    return masks.apply(bank.stretches(which, begins, size), lengths)


def strength(x: Tensor) -> Tensor:
    """The root of the summed squares of each row of `(B, S)`, `(B, 1)`."""
    found: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return found


def mixed(batch: Batch, noise: Tensor, snr: tuple[float, float], share: float, chance: Chance) -> Batch:
    """The batch with noise in a share of its rows, at ratios drawn from a range of decibels.

    A row is not changed if it or its noise is silent, since there is no ratio.

    Args:
        batch: waveforms `(B, S)`.
        noise: `(B, S)`, zero beyond each row's length; it is overwritten.
        snr: the lowest and the highest signal-to-noise ratio in decibels.
        share: probability that a row gets noise.
        chance: source of the draws `snr` and `chance`.
    """
    position = batch.position
    data = masks.apply(batch.data, batch.lengths)
    ratio = 10.0 ** (chance.uniform(position, "snr", *snr) / 20.0)
    own, other = strength(data), strength(noise)
    changed = (chance.uniform(position, "chance") < share).unsqueeze(1) & (other > 0.0)
    gain = torch.where(changed, own / (other * ratio.unsqueeze(1)), 0.0)
    return attrs.evolve(batch, data=noise.mul_(gain).add_(data))
