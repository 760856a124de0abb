"""Per-channel energy normalisation: mel energies divided by each band's recent level, instead of their logarithm.

Wang et al., "Trainable frontend for robust and far-field keyword spotting", ICASSP 2017, equations 1 and 2:
M[t] = (1 - s) M[t - 1] + s E[t] and PCEN = (E / (1e-6 + M) ** gain + bias) ** exponent - bias ** exponent. With their
constants, and s from a time constant as in Lostanlen et al., "Per-channel energy normalization: why and how", 2019, and
librosa's `pcen`. `trained` learns the logarithms of gain, bias and exponent per band, as Wang et al. do.

Shapes: `(B, S)` to `(B, F, T)` with T = 1 + S // hop, any S from 1. Computed in float32 under autocast too, and in
float64 for float64 samples. Frames beyond a row's length are zero.

As those constants require, samples are scaled to -2 ** 31 to 2 ** 31, and magnitudes are summed, not energies. Departs
from the papers: M begins as each row's first frame (librosa's begins at 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench_plugins.layers.mel import MelSpectra, Norm, Scale
from soundbench_plugins.layers.spectra import Normalize, Spectra, check, in_parts, normalized

__all__ = ["PCEN"]

# Frames that are smoothed by one matrix, before the contribution of earlier frames is added.
_BLOCK = 32


class PCEN(nn.Module):
    """Per-channel energy normalisation of a mel spectrogram.

    Args:
        bands: number of bands; a band too narrow to contain an FFT bin is zero everywhere.
        frame: length of a frame, in samples if a whole number, otherwise in seconds.
        hop: step from one frame to the next, in samples or seconds likewise.
        n_fft: length of the Fourier transform in samples; 0 for the smallest power of two that holds a frame.
        low: lower edge of the lowest band in Hz.
        high: upper edge of the highest band in Hz; 0 or a negative number is added to half the sample rate.
        scale: the mel scale, "htk" or "slaney" (linear below 1 kHz).
        norm: "slaney" divides each band by its width; "none" gives every band a peak of 1.
        time_constant: time constant of the smoothing of each band, in seconds.
        gain: exponent of the smoothed energy that a band is divided by: 1 divides by all of it.
        bias: value that is added before the root.
        exponent: the root, as an exponent.
        trained: whether gain, bias and exponent are learned for each band, from these values.
        normalize: normalisation of each band of a clip: "mean" subtracts its mean over time, "mean-std" also divides by
            its standard deviation, "none" does nothing.
    """

    constants: Tensor

    def __init__(
        self,
        rate: int,
        *,
        bands: int = 80,
        frame: int | float = 0.025,
        hop: int | float = 0.010,
        n_fft: int = 0,
        low: float = 20.0,
        high: float = 0.0,
        scale: Scale = "htk",
        norm: Norm = "none",
        time_constant: float = 0.4,
        gain: float = 0.98,
        bias: float = 2.0,
        exponent: float = 0.5,
        trained: bool = False,
        normalize: Normalize = "none",
    ) -> None:
        super().__init__()
        check("none", normalize)
        values = {"time_constant": time_constant, "gain": gain, "bias": bias, "exponent": exponent}
        for name, value in values.items():
            if not 0.0 < value < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, is {value:g}")
        self.bands, self.normalize = bands, normalize
        spectra = Spectra(rate, frame, hop, n_fft, power=1.0)
        self.mel = MelSpectra(rate, spectra, bands, low, high, scale, norm)
        frames = time_constant * rate / spectra.hop
        # librosa's (sqrt(1 + 4 f f) - 1) / (2 f f), without a difference of two nearly equal numbers.
        self.share = 2.0 / (1.0 + math.sqrt(1.0 + 4.0 * frames**2))
        constants = torch.tensor([gain, bias, exponent]).log()[:, None].expand(3, bands).clone()
        if trained:
            self.constants = nn.Parameter(constants)
        else:
            self.register_buffer("constants", constants, persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms `(B, S)` to normalised energies `(B, F, T)` and their lengths in frames `(B,)`."""
        return in_parts(self._rows, waveform, lengths)

    def _rows(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        energies, lengths = self.mel(waveform * 2.0**31, lengths)
        gain, bias, exponent = self.constants.to(energies.dtype).exp().unsqueeze(-1)
        steady = energies / (1e-6 + smoothed(energies, self.share)) ** gain
        return normalized((steady + bias) ** exponent - bias**exponent, lengths, self.normalize), lengths


def smoothed(x: Tensor, share: float) -> Tensor:
    """M[t] = (1 - share) M[t - 1] + share x[t] from M[0] = x[0], of `x` `(..., T)`, without a loop over frames.

    Each block of frames is smoothed by one matrix, as if nothing came before it; then another matrix carries the last
    values of the blocks on, and they decay within each block.
    """
    size = x.shape[-1]
    # One more than needed: export for any length would specialise on a single block.
    blocks = (size + _BLOCK - 1) // _BLOCK + 1
    x = torch.cat([x[..., :1], share * x[..., 1:]], -1)
    x = F.pad(x, (0, blocks * _BLOCK - size)).reshape(*x.shape[:-1], blocks, _BLOCK)
    within = x @ _fading(_BLOCK, 1.0 - share, x)
    carried = F.pad(within[..., -1], (1, -1)) @ _fading(blocks, (1.0 - share) ** _BLOCK, x)
    fade = (1.0 - share) ** torch.arange(1, _BLOCK + 1, device=x.device, dtype=x.dtype)
    return (within + carried.unsqueeze(-1) * fade).flatten(-2)[..., :size]


def _fading(size: int, rest: float, like: Tensor) -> Tensor:
    """The matrix `(size, size)` that adds to each place the earlier ones with decaying weights."""
    places = torch.arange(size, device=like.device, dtype=like.dtype)
    ages = places - places.unsqueeze(1)
    return (rest ** ages.clamp(min=0)).triu()
