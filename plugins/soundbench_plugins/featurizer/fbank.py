"""Kaldi's filter bank: log energies of overlapping frames in triangular bands, evenly spaced on the mel scale.

Povey et al., "The Kaldi Speech Recognition Toolkit", ASRU 2011; the recipe is that of `compute-fbank-feats` without
dither and energy: whole frames only, mean removal and pre-emphasis in each, Povey's window, power of a padded FFT,
bands from mel(f) = 1127 ln(1 + f / 700), floor at float32's epsilon, natural logarithm. Samples are in [-1, 1]; Kaldi's
own are 32768 times as large, which adds a constant that `normalize = "mean"` removes.

Shapes: `(B, S)` to `(B, F, T)` with T = 1 + (S - frame) // hop; a row shorter than a frame is extended to one with
zeros. Computed in float32 under autocast too, and in float64 for float64 samples. Frames beyond the lengths are zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks
from soundbench_plugins.layers.mel import MOST_BANDS, upper_edge
from soundbench_plugins.layers.spectra import Normalize, in_parts, normalized, power_spectrum, samples

__all__ = ["Fbank"]


class Fbank(nn.Module):
    """Kaldi's log mel filter bank.

    Args:
        bands: number of bands; a band too narrow to contain an FFT bin is the floor everywhere, as in Kaldi.
        frame: length of a frame, in samples if a whole number, otherwise in seconds.
        hop: step from one frame to the next, in samples or seconds likewise.
        low: lower edge of the lowest band in Hz.
        high: upper edge of the highest band in Hz; 0 or a negative number is added to half the sample rate.
        preemphasis: share of the previous sample that is subtracted from each sample, from 0 to 1.
        normalize: normalisation of each band of a clip: "mean" subtracts its mean over time, "mean-std" also divides by
            its standard deviation, "none" does nothing.
    """

    window: Tensor
    banks: Tensor

    def __init__(
        self,
        rate: int,
        *,
        bands: int = 80,
        frame: int | float = 0.025,
        hop: int | float = 0.010,
        low: float = 20.0,
        high: float = 0.0,
        preemphasis: float = 0.97,
        normalize: Normalize = "mean",
    ) -> None:
        super().__init__()
        self.rate, self.bands, self.preemphasis, self.normalize = rate, bands, preemphasis, normalize
        self.frame, self.hop = samples(frame, rate, "frame"), samples(hop, rate, "hop")
        self.low, self.high = low, upper_edge(rate, low, high)
        self._check(frame, hop)
        self.shortest = self.frame
        self.fft = 1 << (self.frame - 1).bit_length()
        window, banks = self._constants()
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("banks", banks.float(), persistent=False)

    def _check(self, frame: float, hop: float) -> None:
        if self.bands < 1:
            raise ValueError(f"bands must be at least 1, is {self.bands}")
        if self.bands > MOST_BANDS:
            raise ValueError(f"bands must be at most {MOST_BANDS:,}, is {self.bands}")
        if self.frame < 2:
            raise ValueError(f"frame must be at least two samples, {2 / self.rate:g} s at {self.rate} Hz, is {frame}")
        if self.hop < 1:
            raise ValueError(f"hop must be at least one sample, {1 / self.rate:g} s at {self.rate} Hz, is {hop}")
        if not 0.0 <= self.preemphasis <= 1.0:
            raise ValueError(f"preemphasis must be from 0 to 1, is {self.preemphasis}")
        if self.normalize not in ("mean", "mean-std", "none"):
            raise ValueError(f'normalize must be "mean", "mean-std" or "none", is {self.normalize!r}')

    def _constants(self) -> tuple[Tensor, Tensor]:
        """The window `(fft,)` and the bands `(fft / 2 + 1, F)`, float64."""
        window = F.pad(povey_window(self.frame), (0, self.fft - self.frame))
        return window, mel_banks(self.bands, self.fft, self.rate, self.low, self.high)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms `(B, S)` to log energies `(B, F, T)` and their lengths in frames `(B,)`."""
        return in_parts(self._rows, waveform, lengths)

    def _rows(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if waveform.dtype == torch.float64:
            window, banks = (constant.to(waveform.device) for constant in self._constants())
        else:
            window, banks = self.window.to(waveform.dtype), self.banks.to(waveform.dtype)
        waveform, lengths = masks.extend(waveform, lengths, self.frame)
        lengths = 1 + (lengths - self.frame) // self.hop
        # Kaldi computes mean and pre-emphasis frame by frame. But a sample minus a share of the previous is the same
        # in every frame, so it is computed once for the whole row, and the mean is multiplied by (1 - share). At the
        # first sample of a frame, which has no previous one there, the window is zero. Frames are cut to the length of
        # the FFT, with a window that is zero at the end, which avoids padding each.
        padded = F.pad(waveform, (1, self.fft - self.frame))
        emphasized = padded[:, 1:] - self.preemphasis * padded[:, :-1]
        means = (1.0 - self.preemphasis) * waveform.unfold(1, self.frame, self.hop).mean(-1, keepdim=True)
        power = power_spectrum((emphasized.unfold(1, self.fft, self.hop) - means).mul_(window))
        logs = (power @ banks).transpose(1, 2).contiguous().clamp_(min=torch.finfo(torch.float32).eps).log_()
        return normalized(logs, lengths, self.normalize), lengths


def povey_window(size: int) -> Tensor:
    """Povey's window of `size` samples, float64: Hann's, symmetric, to the power 0.85."""
    return torch.hann_window(size, periodic=False, dtype=torch.float64).pow(0.85)


def mel_banks(bands: int, fft: int, rate: int, low: float, high: float) -> Tensor:
    """Weights `(fft / 2 + 1, bands)` of each FFT bin in each band, float64: triangles in mel."""

    def mel(frequency: Tensor) -> Tensor:
        return 1127.0 * (1.0 + frequency / 700.0).log()

    bottom, top = mel(torch.tensor([low, high], dtype=torch.float64)).tolist()
    edges = torch.linspace(bottom, top, bands + 2, dtype=torch.float64)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = mel(torch.arange(fft // 2 + 1, dtype=torch.float64) * rate / fft).unsqueeze(1)
    weights = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0.0)
    # Kaldi has no bin at half the sample rate.
    return F.pad(weights[:-1], (0, 0, 0, 1))
