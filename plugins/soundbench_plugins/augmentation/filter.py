"""Filter: low-pass, high-pass or band-pass filters, like small loudspeakers, walls and telephones.

A second-order Butterworth filter applied forwards and backwards: zero phase, 6 dB down at the cutoff and 24 dB per
octave beyond. Applied as the digital filter's exact response in one FFT of the batch, long enough for its ringing.

Shapes: waveforms `(B, S)` stay `(B, S)`.
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
from soundbench_plugins.layers.rows import rows_where

__all__ = ["Filter"]

_TYPES = ("low-pass", "high-pass", "band-pass")
_ORDER = 2
# A filter of this order with its cutoff at f rings for so many / f seconds until it is 100 dB down.
_RINGS = 2.6


class Filter(nn.Module):
    """Rows through low-pass, high-pass or band-pass filters with drawn cutoff frequencies.

    Args:
        types: the filters to draw from, each equally likely: "low-pass", "high-pass", "band-pass".
        low_pass: lowest and highest cutoff frequency in Hz of low-pass filters.
        high_pass: lowest and highest cutoff frequency in Hz of high-pass filters.
        chance: probability that a row is changed, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"

    def __init__(
        self,
        rate: int,
        *,
        types: list[str] = ["low-pass", "high-pass", "band-pass"],  # noqa: B006
        low_pass: list[float] = [1500.0, 4000.0],  # noqa: B006
        high_pass: list[float] = [100.0, 1000.0],  # noqa: B006
        chance: float = 0.5,
    ) -> None:
        super().__init__()
        if not types or set(types) - set(_TYPES):
            raise ValueError(f'types must be some of "low-pass", "high-pass", "band-pass", is {types}')
        for name, cutoffs in (("low_pass", low_pass), ("high_pass", high_pass)):
            if len(cutoffs) != 2 or not 0.0 < cutoffs[0] <= cutoffs[1] <= rate / 2:
                raise ValueError(
                    f"{name} must be two frequencies, the lower first, above 0 and at most {rate / 2:g} Hz, half the "
                    f"sample rate, is {cutoffs}"
                )
        if "band-pass" in types and high_pass[1] > low_pass[0]:
            raise ValueError(
                f"high_pass must be below low_pass, {low_pass}, if band-pass is among types, is {high_pass}"
            )
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"chance must be from 0 to 1, is {chance}")
        self.rate, self.chance = rate, chance
        self.types, self.low_pass, self.high_pass = list(types), list(low_pass), list(high_pass)
        for buffer, other in (("lows", "high-pass"), ("highs", "low-pass")):
            self.register_buffer(buffer, torch.tensor([name != other for name in types]), persistent=False)

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with each row through its drawn filter."""
        data = masks.apply(batch.data, batch.lengths).clone()
        rows = rows_where(chance.uniform(batch.host_position, "chance") < self.chance, data.device)
        if len(rows):
            low, high = self._cutoffs(batch.position[rows], chance)
            data[rows] = self._filtered(masks.wide(data[rows]), low, high).to(data.dtype)
        return attrs.evolve(batch, data=masks.apply(data, batch.lengths))

    def _cutoffs(self, position: Tensor, chance: Chance) -> tuple[Tensor, Tensor]:
        """Upper and lower cutoff of each row in Hz, uniform in octaves; infinity or 0 for none."""
        which = chance.integers(position, "type", len(self.types))
        lows, highs = self.get_buffer("lows")[which], self.get_buffer("highs")[which]
        (bottom, top), (least, most) = self.low_pass, self.high_pass
        low = bottom * (top / bottom) ** chance.uniform(position, "low-pass")
        high = least * (most / least) ** chance.uniform(position, "high-pass")
        return torch.where(lows, low, math.inf), torch.where(highs, high, 0.0)

    def _filtered(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Rows `(B, S)` without frequencies above `low` and below `high`, each `(B,)`."""
        rings = math.ceil(_RINGS * self.rate / min(self.low_pass[0], self.high_pass[0]))
        size = _good_size(x.shape[1] + rings)
        # The bilinear transform warps frequencies, so that half the sample rate is at infinity.
        bent = (torch.arange(size // 2 + 1, device=x.device) * (math.pi / size)).tan().abs().clamp(1e-6, 1e6)
        low, high = (_bent(cutoff / self.rate).unsqueeze(1) for cutoff in (low, high))
        response = 1.0 / ((1.0 + (bent / low) ** (2 * _ORDER)) * (1.0 + (high / bent) ** (2 * _ORDER)))
        filtered: Tensor = torch.fft.irfft(torch.fft.rfft(x, size) * response, size)
        return filtered[:, : x.shape[1]]


def _bent(share: Tensor) -> Tensor:
    """A frequency as a share of the sample rate, warped by the bilinear transform; infinity stays."""
    bent = (math.pi * share.clamp(max=0.4999)).tan()
    return torch.where(share.isinf(), share, bent)


def _good_size(least: int) -> int:
    """A size a little above `least` for which FFTs are fast: 4 to 8 times a power of two."""
    step = 1 << max(least.bit_length() - 3, 0)
    return -(-least // step) * step
