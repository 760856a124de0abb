"""Spectrogram: log energies of centred frames at every frequency of a Fourier transform.

The same as torchaudio's `Spectrogram`, followed by the logarithm: a periodic Hann window, frames centred at every hop
with the row mirrored at its ends.

Shapes: `(B, S)` to `(B, n_fft // 2 + 1, T)` with T = 1 + S // hop, any S from 1. Computed in float32 under autocast
too, and in float64 for float64 samples. Frames beyond a row's length are zero.

Departs from torchaudio: a padded row is mirrored at its own end, not at the batch's, repeatedly if it is shorter than
half a frame.
"""

from __future__ import annotations

from torch import Tensor, nn

from soundbench_plugins.layers.spectra import Log, Normalize, Spectra, check, in_parts, logarithm, normalized

__all__ = ["Spectrogram"]


class Spectrogram(nn.Module):
    """Log spectrogram, linear in frequency.

    Args:
        frame: length of a frame, in samples if a whole number, otherwise in seconds.
        hop: step from one frame to the next, in samples or seconds likewise.
        n_fft: length of the Fourier transform in samples, twice the bands; 0 for the smallest power of two that holds a
            frame.
        power: exponent of the magnitudes: 2 for energies, 1 for magnitudes.
        log: "natural" for the natural logarithm, "decibel" for 20 / power times the decimal logarithm, with a floor of
            1e-10 both; or "none".
        normalize: normalisation of each band of a clip: "mean" subtracts its mean over time, "mean-std" also divides by
            its standard deviation, "none" does nothing.
    """

    def __init__(
        self,
        rate: int,
        *,
        frame: int | float = 0.025,
        hop: int | float = 0.010,
        n_fft: int = 0,
        power: float = 2.0,
        log: Log = "natural",
        normalize: Normalize = "mean",
    ) -> None:
        super().__init__()
        check(log, normalize)
        self.power, self.log, self.normalize = power, log, normalize
        self.spectra = Spectra(rate, frame, hop, n_fft, power)
        self.bands = self.spectra.bins

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms `(B, S)` to log energies `(B, F, T)` and their lengths in frames `(B,)`."""
        return in_parts(self._rows, waveform, lengths)

    def _rows(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        energies, lengths = self.spectra(waveform, lengths)
        logs = logarithm(energies.transpose(1, 2).contiguous(), self.log, self.power)
        return normalized(logs, lengths, self.normalize), lengths
