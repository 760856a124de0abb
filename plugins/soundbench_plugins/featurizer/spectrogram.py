"""Spectrogram: energies of centred frames at every frequency of a Fourier transform, and their logarithm.

What torchaudio's `Spectrogram` computes, with the logarithm after it: Hann's periodic window, frames centred at every
hop with the sound mirrored at its ends.

Shapes: `(B, S)` to `(B, n_fft // 2 + 1, T)` with T = 1 + S // hop, any S from 1. Computed in float32 under autocast
too, and in float64 where the samples are. Frames past a row's own are zero.

Departs from torchaudio: a padded row is mirrored at its own end, not at the batch's, over and over where it is shorter
than half a frame.
"""

from __future__ import annotations

from torch import Tensor, nn

from soundbench_plugins.layers.spectra import Log, Normalize, Spectra, check, in_parts, logarithm, normalized

__all__ = ["Spectrogram"]


class Spectrogram(nn.Module):
    """Log spectrogram, linear in frequency.

    Args:
        frame: length of a frame: a whole number counts samples, another is in seconds.
        hop: from frame to frame, likewise.
        n_fft: length of the Fourier transform in samples, twice the bands; 0 for the least power of two that holds a
            frame.
        power: what magnitudes are raised to: 2 for energies, 1 for themselves.
        log: "natural" for the natural logarithm, "decibel" for 20 / power times the decimal one, of at least 1e-10; or
            "none".
        normalize: what is taken off each band of a clip: its "mean" over time, "mean-std" to divide by its standard
            deviation too, or "none".
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
