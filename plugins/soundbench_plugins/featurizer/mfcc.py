"""Mel-frequency cepstral coefficients: the cosine transform of a log mel spectrogram over its bands.

Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word recognition", 1980, in
the form of torchaudio's `MFCC`: the orthonormal transform of type II, beginning with coefficient 0, no liftering.

Shapes: `(B, S)` to `(B, F, T)` with F the coefficients and T = 1 + S // hop, any S from 1. Computed in float32 under
autocast too, and in float64 for float64 samples. Frames beyond a row's length are zero.

Departs from torchaudio: a padded row is mirrored at its own end, not at the batch's; the logarithm is natural with a
floor of 1e-10, while torchaudio's is in decibels with a `top_db` that makes a row depend on its batch.
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
        coefficients: number of coefficients, from the first; the bands of the backbone's input.
        bands: number of mel bands before the transform.
        frame: length of a frame, in samples if a whole number, otherwise in seconds.
        hop: step from one frame to the next, in samples or seconds likewise.
        n_fft: length of the Fourier transform in samples; 0 for the smallest power of two that holds a frame.
        low: lower edge of the lowest band in Hz.
        high: upper edge of the highest band in Hz; 0 or a negative number is added to half the sample rate.
        scale: the mel scale, "htk" or "slaney" (linear below 1 kHz).
        norm: "slaney" divides each band by its width; "none" gives every band a peak of 1.
        log: "natural" for the natural logarithm of the energies, "decibel" for ten times the decimal logarithm.
        normalize: normalisation of each coefficient of a clip: "mean" subtracts its mean over time, "mean-std" also
            divides by its standard deviation, "none" does nothing.
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
