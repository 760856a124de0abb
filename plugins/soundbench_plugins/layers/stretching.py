"""Make rows slower or faster at the same pitch by a phase vocoder; shared by `tempo` and `pitch`.

Flanagan, Golden, "Phase Vocoder", Bell System Technical Journal 45, 1966; in the form of Laroche, Dolson, "Improved
phase vocoder time-scale modification of audio", IEEE Trans. Speech and Audio Processing 7(3), 1999, section II: frames
are read at another rate than they are written, magnitudes between two frames are interpolated, and phases advance as
they do from one frame to the next. Instead of that paper's phase locking, which works frame by frame, the phase of a
frequency advances like the sum of it and its neighbours, so that all frequencies of one tone stay in phase. Events
shorter than a frame, such as a click, are smeared over one. Each row has its own rate; at 1, it is not changed.

Shapes: waveforms `(B, S)` to `(B, size)`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from soundbench import masks

__all__ = ["frame_size", "stretched"]

# Seconds of a frame, which becomes a power of two in samples; frames overlap by three quarters.
_FRAME = 0.05
_OVERLAP = 4

# Samples that are processed at a time on a CPU: their intermediate values still fit its cache. One row of 3 s.
_SAMPLES = 60_000

# Used for magnitudes of zero, so that their phase does not advance; its square is still a float32.
_SILENCE = 1e-15


def frame_size(rate: int) -> int:
    """Samples of a frame."""
    return max(int(2 ** round(math.log2(_FRAME * rate))), 2 * _OVERLAP)


def stretched(x: Tensor, lengths: Tensor, rates: Tensor, size: int, frame: int) -> tuple[Tensor, Tensor]:
    """Rows `(B, S)` at `rates` `(B,)` times their tempo, at the same level, and their lengths.

    Args:
        x: the rows, zero beyond their lengths.
        lengths: their true samples; they become `ceil(length / rate)`.
        rates: float32; above 1 is faster and shorter.
        size: samples of the output rows `(B, size)`: cut there, or zero beyond their lengths.
        frame: samples of a frame, `frame_size(rate)`.
    """
    rows = max(_SAMPLES // max(x.shape[1], size), 1) if x.device.type == "cpu" else len(x)
    pieces = zip(torch.split(x, rows), torch.split(rates, rows), strict=True)
    # A float32 quotient less than a millionth above a whole number counts as that number.
    lengths = (lengths / rates.double() * (1.0 - 1e-7)).ceil().long().clamp(min=1, max=size)
    made = masks.apply(torch.cat([_stretched(*piece, size, frame) for piece in pieces]), lengths)
    # Overlapping frames of different phase, as of noise, add up to less.
    used = masks.apply(x, (size * rates).ceil().long().clamp(max=x.shape[1]))
    wanted = torch.linalg.vector_norm(used, dim=1) * rates.rsqrt()
    return made * (wanted / torch.linalg.vector_norm(made, dim=1).clamp(min=1e-20)).unsqueeze(1), lengths


def _stretched(x: Tensor, rates: Tensor, size: int, frame: int) -> Tensor:
    hop, half = frame // _OVERLAP, frame // 2
    count = -(-(size + half) // hop) + 1
    window = torch.hann_window(frame, device=x.device, dtype=x.dtype)
    # Frame k is centred at k hops; all frames from the first beyond the row's end on are silent.
    silent = -(-(x.shape[1] + half) // hop)
    padded = F.pad(x, (half, silent * hop + half - x.shape[1]))
    spectra = torch.fft.rfft(padded.unfold(1, frame, hop) * window)
    frames = torch.fft.irfft(_paced(spectra, rates, count), frame) * window
    # Each frame in quarters, each added to the quarters of other frames at the same place.
    quarters = frames.reshape(len(x), count, _OVERLAP, hop)
    made = quarters.new_zeros(len(x), count + _OVERLAP - 1, hop)
    weight = quarters.new_zeros(count + _OVERLAP - 1, hop)
    for place, square in enumerate(window.square().reshape(_OVERLAP, hop)):
        made[:, place : place + count] += quarters[:, :, place]
        weight[place : place + count] += square
    # Frames before the first are not written or weighted; the very first sample is outside the kept range.
    kept: Tensor = (made / weight.clamp(min=1e-6)).flatten(1)[:, half : half + size]
    return kept


def _paced(spectra: Tensor, rates: Tensor, count: int) -> Tensor:
    """The `count` frames of spectra `(B, T, N)` at multiples of each row's rate, `(B, count, N)`."""
    at = torch.arange(count, device=rates.device, dtype=torch.float64) * rates.double().unsqueeze(1)
    before = at.long()
    share = (at - before).to(spectra.real.dtype).unsqueeze(2)
    rows = torch.arange(len(spectra), device=rates.device).unsqueeze(1)
    last = spectra.shape[1] - 1
    one, following = spectra[rows, before.clamp(max=last)], spectra[rows, (before + 1).clamp(max=last)]
    # From one written frame to the next, phases advance as from the frame read to the following one. If these are the
    # same frame, phases do not change.
    turn = _unit(_neighbours(following[:, :-1] * one[:, 1:].conj()) + _SILENCE)
    turned = F.pad(turn, (0, 0, 1, 0), value=1.0).cumprod(1)
    return (one * (1.0 - share) + _unit(one) * (_square(following).sqrt() * share)) * turned


def _neighbours(x: Tensor) -> Tensor:
    """The sum of each frequency of `(B, T, N)` and two on either side: as far as a window spreads a tone."""
    near = F.pad(x, (2, 2))
    pairs = near[..., :-1] + near[..., 1:]
    return (pairs[..., :-3] + pairs[..., 2:-1]).add_(near[..., 4:])


def _unit(x: Tensor) -> Tensor:
    """Complex numbers scaled to magnitude 1; 0 stays 0."""
    return x * _square(x).clamp(min=_SILENCE**2).rsqrt()


def _square(x: Tensor) -> Tensor:
    """The squared magnitudes of complex numbers."""
    return x.real.square().addcmul_(x.imag, x.imag)
