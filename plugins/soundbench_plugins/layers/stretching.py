"""Rows slower or faster at the pitch they have: a phase vocoder, which `tempo` and `pitch` share.

Flanagan, Golden, "Phase Vocoder", Bell System Technical Journal 45, 1966; in the form of Laroche, Dolson, "Improved
phase vocoder time-scale modification of audio", IEEE Trans. Speech and Audio Processing 7(3), 1999, section II: frames
are read at another pace than they are written, magnitudes between two frames are interpolated, and phases turn on as
they turned from one frame to the next. Instead of that paper's phase locking, which goes frame by frame, a frequency
turns as it and its neighbours do together, so that those which one tone fills stay in step. What is sharper than a
frame, such as a click, is smeared over one. Each row has a rate of its own; where it is 1, it comes out as it was.

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

# Samples that go through at a time on a CPU: what they hold in between still fits its cache. One row of 3 s.
_SAMPLES = 60_000

# What a magnitude counts as where there is none, so that nothing turns there; its square is still a float32.
_SILENCE = 1e-15


def frame_size(rate: int) -> int:
    """Samples of a frame."""
    return max(int(2 ** round(math.log2(_FRAME * rate))), 2 * _OVERLAP)


def stretched(x: Tensor, lengths: Tensor, rates: Tensor, size: int, frame: int) -> tuple[Tensor, Tensor]:
    """Rows `(B, S)` at `rates` `(B,)` times their tempo, at the level they had, and their lengths.

    Args:
        x: the rows, zero beyond their lengths.
        lengths: their true samples; they become `ceil(length / rate)`.
        rates: float32, above 1 is faster, and so shorter.
        size: samples of the rows that are made, `(B, size)`: cut there, or zero beyond their lengths.
        frame: samples of a frame, `frame_size(rate)`.
    """
    rows = max(_SAMPLES // max(x.shape[1], size), 1) if x.device.type == "cpu" else len(x)
    pieces = zip(torch.split(x, rows), torch.split(rates, rows), strict=True)
    # A quotient of float32 may be above a whole number by less than a millionth, and is that number.
    lengths = (lengths / rates.double() * (1.0 - 1e-7)).ceil().long().clamp(min=1, max=size)
    made = masks.apply(torch.cat([_stretched(*piece, size, frame) for piece in pieces]), lengths)
    # Where frames overlap that do not agree, as those of noise, they add up to less.
    heard = masks.apply(x, (size * rates).ceil().long().clamp(max=x.shape[1]))
    wanted = torch.linalg.vector_norm(heard, dim=1) * rates.rsqrt()
    return made * (wanted / torch.linalg.vector_norm(made, dim=1).clamp(min=1e-20)).unsqueeze(1), lengths


def _stretched(x: Tensor, rates: Tensor, size: int, frame: int) -> Tensor:
    hop, half = frame // _OVERLAP, frame // 2
    count = -(-(size + half) // hop) + 1
    window = torch.hann_window(frame, device=x.device, dtype=x.dtype)
    # Frame k is centred at k hops; from the first one on that is past the row's end, all are silent.
    silent = -(-(x.shape[1] + half) // hop)
    padded = F.pad(x, (half, silent * hop + half - x.shape[1]))
    spectra = torch.fft.rfft(padded.unfold(1, frame, hop) * window)
    frames = torch.fft.irfft(_paced(spectra, rates, count), frame) * window
    # Each frame in quarters, each quarter added to those of other frames that stand at the same place.
    quarters = frames.reshape(len(x), count, _OVERLAP, hop)
    made = quarters.new_zeros(len(x), count + _OVERLAP - 1, hop)
    weight = quarters.new_zeros(count + _OVERLAP - 1, hop)
    for place, square in enumerate(window.square().reshape(_OVERLAP, hop)):
        made[:, place : place + count] += quarters[:, :, place]
        weight[place : place + count] += square
    # Frames before the first are not written, nor weighed; the first sample of all is beyond what is kept.
    kept: Tensor = (made / weight.clamp(min=1e-6)).flatten(1)[:, half : half + size]
    return kept


def _paced(spectra: Tensor, rates: Tensor, count: int) -> Tensor:
    """Of spectra `(B, T, N)` the `count` frames that stand at multiples of each row's rate, `(B, count, N)`."""
    at = torch.arange(count, device=rates.device, dtype=torch.float64) * rates.double().unsqueeze(1)
    before = at.long()
    share = (at - before).to(spectra.real.dtype).unsqueeze(2)
    rows = torch.arange(len(spectra), device=rates.device).unsqueeze(1)
    last = spectra.shape[1] - 1
    one, following = spectra[rows, before.clamp(max=last)], spectra[rows, (before + 1).clamp(max=last)]
    # From a frame to the one written next, phases turn as from that frame to the one read next. Where these are the
    # same frame there is nothing to make up for.
    turn = _unit(_neighbours(following[:, :-1] * one[:, 1:].conj()) + _SILENCE)
    turned = F.pad(turn, (0, 0, 1, 0), value=1.0).cumprod(1)
    return (one * (1.0 - share) + _unit(one) * (_square(following).sqrt() * share)) * turned


def _neighbours(x: Tensor) -> Tensor:
    """The sum of each frequency of `(B, T, N)` and two on either side: as far as a window spreads a tone."""
    near = F.pad(x, (2, 2))
    pairs = near[..., :-1] + near[..., 1:]
    return (pairs[..., :-3] + pairs[..., 2:-1]).add_(near[..., 4:])


def _unit(x: Tensor) -> Tensor:
    """Complex numbers brought to magnitude 1; 0 stays 0."""
    return x * _square(x).clamp(min=_SILENCE**2).rsqrt()


def _square(x: Tensor) -> Tensor:
    """The squared magnitudes of complex numbers."""
    return x.real.square().addcmul_(x.imag, x.imag)
