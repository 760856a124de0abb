"""Mel spectrogram: log energies of centred frames in triangular bands, evenly spaced on the mel scale.

The same as torchaudio's `MelSpectrogram` and librosa's `melspectrogram`, followed by the logarithm: a periodic Hann
window, frames centred at every hop with the row mirrored at its ends, bands of HTK's or Slaney's scale.

Shapes: `(B, S)` to `(B, F, T)` with T = 1 + S // hop, any S from 1. Computed in float32 under autocast too, and in
float64 for float64 samples. Frames beyond a row's length are zero.

Departs from torchaudio: a padded row is mirrored at its own end, not at the batch's, repeatedly if it is shorter than
half a frame; decibels have a floor of -100 dB but no `top_db`, which would make a row depend on its batch.

PANNs' log-mels at 32 kHz: `bands = 64, frame = 1024, hop = 320, low = 50, high = 14000, scale = "slaney",
norm = "slaney", log = "decibel", normalize = "none"`.
"""

from __future__ import annotations

from torch import Tensor, nn

from soundbench_plugins.layers.mel import MelSpectra, Norm, Scale
from soundbench_plugins.layers.spectra import Log, Normalize, Spectra, check, in_parts, logarithm, normalized

__all__ = ["MelSpectrogram"]


class MelSpectrogram(nn.Module):
    """Log mel spectrogram, like those of torchaudio, librosa and PANNs.

    Args:
        bands: number of bands; a band too narrow to contain an FFT bin is the floor everywhere.
        frame: length of a frame, in samples if a whole number, otherwise in seconds.
        hop: step from one frame to the next, in samples or seconds likewise.
        n_fft: length of the Fourier transform in samples; 0 for the smallest power of two that holds a frame.
        low: lower edge of the lowest band in Hz.
        high: upper edge of the highest band in Hz; 0 or a negative number is added to half the sample rate.
        scale: the mel scale, "htk" or "slaney" (linear below 1 kHz).
        norm: "slaney" divides each band by its width; "none" gives every band a peak of 1.
        power: exponent of the magnitudes before they are summed: 2 for energies, 1 for magnitudes.
        log: "natural" for the natural logarithm, "decibel" for 20 / power times the decimal logarithm, with a floor of
            1e-10 both; or "none".
        normalize: normalisation of each band of a clip: "mean" subtracts its mean over time, "mean-std" also divides by
            its standard deviation, "none" does nothing.
    """

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
        power: float = 2.0,
        log: Log = "natural",
        normalize: Normalize = "mean",
    ) -> None:
        super().__init__()
        check(log, normalize)
        self.bands, self.power, self.log, self.normalize = bands, power, log, normalize
        self.mel = MelSpectra(rate, Spectra(rate, frame, hop, n_fft, power), bands, low, high, scale, norm)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms `(B, S)` to log energies `(B, F, T)` and their lengths in frames `(B,)`."""
        return in_parts(self._rows, waveform, lengths)

    def _rows(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        energies, lengths = self.mel(waveform, lengths)
        return normalized(logarithm(energies, self.log, self.power), lengths, self.normalize), lengths
