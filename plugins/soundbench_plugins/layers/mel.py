"""Energies in triangular bands evenly spaced on the mel scale, from centred frames.

The bands are those of torchaudio and librosa. Shapes: waveforms `(B, S)` to `(B, F, T)`, T = 1 + S // hop.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

from torch import Tensor, nn

from soundbench_plugins.layers.spectra import Spectra
from soundbench_plugins.layers.torchaudio_import import import_torchaudio

__all__ = ["MOST_BANDS", "MelSpectra", "Norm", "Scale", "cosines", "upper_edge"]

# More than any Fourier transform tells apart.
MOST_BANDS = 4096

Scale = Literal["htk", "slaney"]
Norm = Literal["slaney", "none"]


class MelSpectra(nn.Module):
    """Magnitudes raised to a power and summed in mel bands.

    Args:
        rate: sample rate in Hz.
        spectra: computes the spectra of the frames.
        bands: number of bands.
        low: lower edge of the lowest band in Hz.
        high: upper edge of the highest band in Hz; 0 or a negative number is added to half the sample rate.
        scale: the mel scale, `"htk"` or `"slaney"`.
        norm: `"slaney"` divides each band by its width, `"none"` leaves its peak at 1.
    """

    banks: Tensor

    def __init__(
        self, rate: int, spectra: Spectra, bands: int, low: float, high: float, scale: Scale, norm: Norm
    ) -> None:
        super().__init__()
        if bands < 1:
            raise ValueError(f"bands must be at least 1, is {bands}")
        if bands > MOST_BANDS:
            raise ValueError(f"bands must be at most {MOST_BANDS:,}, is {bands}")
        if scale not in ("htk", "slaney"):
            raise ValueError(f'scale must be "htk" or "slaney", is {scale!r}')
        if norm not in ("slaney", "none"):
            raise ValueError(f'norm must be "slaney" or "none", is {norm!r}')
        high = upper_edge(rate, low, high)
        self.spectra = spectra
        functional = _torchaudio_functional()
        with warnings.catch_warnings():
            # About bands too narrow to contain a bin; the options' documentation describes them.
            warnings.simplefilter("ignore")
            banks = functional.melscale_fbanks(
                spectra.bins, low, high, bands, rate, None if norm == "none" else norm, scale
            )
        self.register_buffer("banks", banks, persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms `(B, S)` to energies `(B, F, T)` and their lengths in frames; frames beyond are arbitrary."""
        spectra, lengths = self.spectra(waveform, lengths)
        return (spectra @ self.banks.to(spectra.dtype)).transpose(1, 2).contiguous(), lengths


def upper_edge(rate: int, low: float, high: float) -> float:
    """The upper edge in Hz that `high` means, after checking that `low` and `high` are valid."""
    edge = high if high > 0.0 else rate / 2 + high
    if edge > rate / 2:
        raise ValueError(f"high must be at most {rate / 2:g} Hz, half the sample rate of {rate} Hz, is {high:g}")
    if not 0.0 <= low < edge:
        raise ValueError(f"low must be from 0 to below high, {edge:g} Hz, is {low:g}")
    return edge


def cosines(coefficients: int, bands: int) -> Tensor:
    """The orthonormal discrete cosine transform, type II, `(bands, coefficients)`."""
    matrix: Tensor = _torchaudio_functional().create_dct(coefficients, bands, "ortho")
    return matrix


def _torchaudio_functional() -> Any:
    with warnings.catch_warnings():
        # Nothing here needs torchaudio's compiled part.
        warnings.filterwarnings("ignore", "torchaudio's compiled part", RuntimeWarning)
        return import_torchaudio().functional
