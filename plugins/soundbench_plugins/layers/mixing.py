"""Sounds mixed into rows at a drawn ratio of signal to noise: what `noise` and `background` share."""

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
    """Refuses a range of ratios that is none, and a chance that is no share."""
    if not (all(map(math.isfinite, snr)) and snr[0] <= snr[1]):
        raise ValueError(f"snr must be two numbers of decibels, the lower one first, is {list(snr)}")
    if not 0.0 <= chance <= 1.0:
        raise ValueError(f"chance must be from 0 to 1, is {chance}")


def passages(
    bank: SoundBank, which: Tensor, lengths: Tensor, size: int, position: Tensor, chance: Chance, draw: str = "begin"
) -> Tensor:
    """A passage of a sound for each row, `(B, size)`, zero beyond the row's length.

    One that is longer than the row is cut at a random place, a shorter one repeated, beginning anywhere in it.

    Args:
        bank: where the sounds are.
        which: of them, `(B,)`.
        lengths: true samples of each row, `(B,)`.
        size: samples of a row.
        position: of the rows in the epoch's order, `(B,)`.
        chance: where the draws come from.
        draw: what the draw is called of where a passage begins.
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

    Where a row or its noise is silent there is no such ratio, and the row stays as it is.

    Args:
        batch: of waveforms `(B, S)`.
        noise: `(B, S)`, zero beyond each row's length; it is overwritten.
        snr: the least and the greatest ratio of the energies of a row and its noise.
        share: how often a row gets noise.
        chance: where the draws come from, `snr` and `chance`.
    """
    position = batch.position
    data = masks.apply(batch.data, batch.lengths)
    ratio = 10.0 ** (chance.uniform(position, "snr", *snr) / 20.0)
    own, other = strength(data), strength(noise)
    changed = (chance.uniform(position, "chance") < share).unsqueeze(1) & (other > 0.0)
    gain = torch.where(changed, own / (other * ratio.unsqueeze(1)), 0.0)
    return attrs.evolve(batch, data=noise.mul_(gain).add_(data))
