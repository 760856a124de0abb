"""Mixup: a row and a partner from its batch become their weighted mean, and so do their targets.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018. `between` is Tokozume, Ushiku, Harada, "Learning
from Between-class Examples for Deep Sound Recognition", ICLR 2018, sections 3.2 and 3.3: two classes, a ratio of
perceived loudness rather than of amplitudes, and a mixed sound as loud as its parts. As there, the loudness of a row is
the A-weighted level of its loudest window; here windows are 0.1 s at any sample rate, and the lowest level is -80 dB.

The partner comes from the process's own part of the batch, so that each clip is read once per step; a row without a
partner (alone, or only with rows of its own class with `between`) is not changed. The other draws are the row's own.

Shapes: waveforms `(B, S)` stay `(B, S)`; a mixed row is as long as the longer of both. Targets `(B, K)` stay so.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench_plugins.layers.spectra import power_spectrum

__all__ = ["Mixup"]

_WINDOW = 0.1  # seconds
_QUIETEST = 1e-8  # as power: -80 dB


class Mixup(nn.Module):
    """Rows mixed in pairs, with their targets.

    Args:
        alpha: the ratio is drawn from Beta(alpha, alpha): 1 is uniform, a smaller value favours one of the two rows.
        between: mix only rows that share no class, by perceived loudness, and keep the level (between-class mixing).
        chance: probability that a row is mixed, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"
    mixes: ClassVar[bool] = True

    def __init__(self, rate: int, *, alpha: float = 1.0, between: bool = False, chance: float = 1.0) -> None:
        super().__init__()
        if not 0.0 < alpha < math.inf:
            raise ValueError(f"alpha must be above 0, is {alpha}")
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"chance must be from 0 to 1, is {chance}")
        self.alpha, self.between, self.chance = alpha, between, chance
        size = max(round(_WINDOW * rate), 2)
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        self.register_buffer("weights", a_weights(rate, size), persistent=False)

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with its rows mixed with drawn partners."""
        position, target = batch.position, batch.target
        partner, found = self._partners(target, position, chance)
        mixed = found & (chance.uniform(position, "chance") < self.chance)
        ratio = torch.where(mixed, beta(self.alpha, position, chance), 1.0)
        data = masks.apply(batch.data, batch.lengths)
        own, scale = ratio, torch.ones_like(ratio)
        if self.between:
            level = self.amplitude(data)
            # The paper's 1 / (1 + 10^((G1 - G2) / 20) (1 - r) / r), which is finite at r = 0.
            own = ratio * level[partner] / (ratio * level[partner] + (1.0 - ratio) * level)
            scale = (own.square() + (1.0 - own).square()).rsqrt()
        one, other = (own * scale).to(data.dtype), ((1.0 - own) * scale).to(data.dtype)
        share = ratio.to(target.dtype).unsqueeze(1)
        return attrs.evolve(
            batch,
            data=one.unsqueeze(1) * data + other.unsqueeze(1) * data[partner],
            lengths=torch.where(mixed, batch.lengths.maximum(batch.lengths[partner]), batch.lengths),
            target=share * target + (1.0 - share) * target[partner],
        )

    def _partners(self, target: Tensor, position: Tensor, chance: Chance) -> tuple[Tensor, Tensor]:
        """For each row another row of the batch, each equally likely, and whether there is one; each `(B,)`."""
        allowed = ~torch.eye(len(target), dtype=torch.bool, device=target.device)
        if self.between:
            allowed = allowed & (target @ target.T == 0)
        count = allowed.sum(1)
        which = chance.integers(position, "partner", count.clamp(min=1))
        chosen = allowed & (allowed.cumsum(1) == (which + 1).unsqueeze(1))
        return chosen.int().argmax(1), count > 0

    def amplitude(self, data: Tensor) -> Tensor:
        """The A-weighted root mean square `(B,)` of the loudest window of each row of `(B, S)`, in float32 at least."""
        # One row at a time on a CPU: its windows still fit the cache.
        rows = torch.split(data, 1) if data.device.type == "cpu" else (data,)
        return torch.cat([self._amplitude(row) for row in rows])

    def _amplitude(self, data: Tensor) -> Tensor:
        window, weights = self.get_buffer("window"), self.get_buffer("weights")
        size = len(window)
        hop = size // 2
        # A window begins at every hop, the first one hop before the row; beyond the row are zeros, so that padding
        # changes nothing.
        count = -(-data.shape[1] // hop) + 1
        data = F.pad(masks.wide(data), (hop, (count - 2) * hop + size - data.shape[1]))
        spectra = power_spectrum(data.unfold(1, size, hop) * window)
        power = spectra @ weights.to(data.dtype) / (size * window.square().sum())
        return power.amax(1).clamp(min=_QUIETEST).sqrt()


def a_weights(rate: int, size: int) -> Tensor:
    """The weight of the power at each frequency of a real FFT of `size`, `(size // 2 + 1,)`: IEC 61672's A-weighting.

    Doubled, since each frequency but the first and the last stands for two.
    """
    square = torch.fft.rfftfreq(size, 1.0 / rate, dtype=torch.float64).square()
    gain = 12194.0**2 * square.square() / ((square + 20.6**2) * (square + 12194.0**2))
    gain = gain / ((square + 107.7**2) * (square + 737.9**2)).sqrt()
    counts: Tensor = 2.0 * gain.square() * 10.0**0.2
    return counts.float()


def beta(alpha: float, position: Tensor, chance: Chance) -> Tensor:
    """A draw of Beta(alpha, alpha) for each position, float32.

    Devroye, "Random variate generation in one line of code", WSC 1996: it uses two uniform draws for any alpha.
    """
    width = chance.uniform(position, "ratio width") ** (1.0 / alpha)
    turn = (2.0 * math.pi * chance.uniform(position, "ratio turn")).cos()
    reach = (1.0 - width) * turn.square()
    drawn: Tensor = 0.5 + 0.5 * turn.sign() * (reach / (width + reach)).sqrt()
    return drawn
