"""Mel-frequency cepstral coefficients: the cosine transform of a log mel spectrogram over its bands.

Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word recognition", 1980, as
torchaudio's `MFCC` has it: the orthonormal transform of type II, the coefficient of loudness first, no liftering.

Shapes: `(B, S)` to `(B, F, T)` with F the coefficients and T = 1 + S // hop, any S from 1. Computed in float32 under
autocast too, and in float64 where the samples are. Frames past a row's own are zero.

Departs from torchaudio: a padded row is mirrored at its own end, not at the batch's; the logarithm is natural, of at
least 1e-10, where torchaudio's is decibels with a `top_db` that measures a row against its batch.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from soundbench_plugins.layers.mel import MelSpectra, Norm, Scale, cosines
from soundbench_plugins.layers.spectra import Normalize, Spectra, check, in_parts, logarithm, normalized

__all__ = ["MFCC"]


class MFCC(nn.Module):
    """Mel-frequency cepstral coefficients.

    Args:
        coefficients: how many, from the first; what the backbone gets as bands.
        bands: how many mel bands they are taken of.
        frame: length of a frame: a whole number counts samples, another is in seconds.
        hop: from frame to frame, likewise.
        n_fft: length of the Fourier transform in samples; 0 for the least power of two that holds a frame.
        low: lower edge of the lowest band in Hz.
        high: upper edge of the highest band in Hz; 0 or below counts from half the rate downwards.
        scale: the mel scale, "htk" or "slaney" (straight below 1 kHz).
        norm: "slaney" divides each band by its width; "none" gives every band the peak 1.
        log: "natural" for the natural logarithm of the energies, "decibel" for ten times the decimal one.
        normalize: what is taken off each coefficient of a clip: its "mean" over time, "mean-std" to divide by its
            standard deviation too, or "none".
    """

    cosines: Tensor

    def __init__(
        self,
        rate: int,
        *,
        coefficients: int = 40,
        bands: int = 80,
        frame: int | float = 0.025,
        hop: int | float = 0.010,
        n_fft: int = 0,
        low: float = 20.0,
        high: float = 0.0,
        scale: Scale = "htk",
        norm: Norm = "none",
        log: Literal["natural", "decibel"] = "natural",
        normalize: Normalize = "mean",
    ) -> None:
        super().__init__()
        check(log, normalize)
        self.log, self.normalize = log, normalize
        self.mel = MelSpectra(rate, Spectra(rate, frame, hop, n_fft), bands, low, high, scale, norm)
        if not 1 <= coefficients <= bands:
            raise ValueError(f"coefficients must be from 1 to bands, {bands}, is {coefficients}")
        self.bands = coefficients
        self.register_buffer("cosines", cosines(coefficients, bands), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms `(B, S)` to coefficients `(B, F, T)` and their lengths in frames `(B,)`."""
        return in_parts(self._rows, waveform, lengths)

    def _rows(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        energies, lengths = self.mel(waveform, lengths)
        coefficients = self.cosines.to(energies.dtype).T @ logarithm(energies, self.log)
        return normalized(coefficients, lengths, self.normalize), lengths
