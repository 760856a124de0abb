"""Outlier exposure: replace rows by noise that is of every class alike, so that the network takes it for none.

Hendrycks, Mazeika, Dietterich, "Deep Anomaly Detection with Outlier Exposure", ICLR 2019: the network also learns from
what is of none of the classes, by the cross-entropy with the uniform distribution. There, that is other data, which are
added; here, it is noise, which needs no data, and takes the place of rows.

A third of the noise is white; the power of the rest falls with the frequency, by up to the square of it (red noise), as
1/f (pink noise) between. Half of it has nothing above a frequency of its own, as sound that was recorded at a lower
rate. Levels are equally likely in decibels.

Shapes: waveforms `(B, S)` stay `(B, S)`; a row keeps its length.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench_plugins.layers.convolving import convolved
from soundbench_plugins.layers.rows import rows_where

__all__ = ["OutlierExposure"]

# The lowest and the highest root mean square, in dB of full scale.
_LEVELS = (-80.0, 0.0)
# The power falls with the frequency to this power at most.
_STEEPEST = 2.0
# The lowest frequency above which there is nothing, as a share of half the sample rate.
_LOWEST = 0.125
# Of the filters that give noise its spectrum.
_TAPS = 4096


class OutlierExposure(nn.Module):
    """Rows replaced by noise of a drawn colour and level, whose target is the same for every class.

    For one class a clip: where clips may have none, noise belongs to the clips without a label.

    Args:
        chance: probability that a row is replaced, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"
    mixes: ClassVar[bool] = True
    multilabel: ClassVar[bool] = False

    def __init__(self, rate: int, *, chance: float = 0.1) -> None:
        super().__init__()
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"chance must be from 0 to 1, is {chance}")
        self.chance = chance
        self.register_buffer("window", torch.hann_window(_TAPS), persistent=False)

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with noise in place of the drawn rows."""
        data, target = masks.apply(batch.data, batch.lengths).clone(), batch.target.clone()
        rows = rows_where(chance.uniform(batch.host_position, "chance") < self.chance, data.device)
        if len(rows):
            noise = self._noise(batch.position[rows], data.shape[1], chance)
            data[rows] = masks.apply(noise, batch.lengths[rows]).to(data.dtype)
            target[rows] = target[rows].mean(1, keepdim=True).expand(-1, target.shape[1])
        return attrs.evolve(batch, data=data, target=target)

    def _noise(self, position: Tensor, size: int, chance: Chance) -> Tensor:
        """Noise `(N, size)` for positions `(N,)`; its beginning is the same for any size."""
        places = torch.arange(size + _TAPS - 1, device=position.device) + position.unsqueeze(1) * 2**32
        white = math.sqrt(3.0) * chance.uniform(places, "samples", -1.0, 1.0)  # of mean square 1
        coloured = convolved(white, self._responses(position, chance), 0)[:, _TAPS - 1 :]
        return coloured * 10.0 ** (chance.uniform(position, "level", *_LEVELS) / 20.0).unsqueeze(1)

    def _responses(self, position: Tensor, chance: Chance) -> Tensor:
        """Filters `(N, _TAPS)` for positions `(N,)`, through which white noise keeps its mean square."""
        falling = chance.uniform(position, "colour", -_STEEPEST / 2, _STEEPEST).clamp(min=0.0).unsqueeze(1)
        highest = _LOWEST ** chance.uniform(position, "highest", -1.0, 1.0).clamp(min=0.0).unsqueeze(1)
        places = torch.arange(_TAPS // 2 + 1, device=position.device)
        gains = places.clamp(min=1) ** (-falling / 2) * (places <= highest * (_TAPS // 2))
        responses = torch.fft.irfft(gains, _TAPS).roll(_TAPS // 2, 1) * self.get_buffer("window")
        scaled: Tensor = nn.functional.normalize(responses)
        return scaled
