"""Spectra of overlapping frames, centred as by torch's `stft`, but with each row reflected at its own end.

`torch.stft(center=True)` reflects a batch at the batch's end, so that a padded row's last frames contain its padding.
Here each row is reflected at its own end, repeatedly if it is shorter than half a frame; a single sample is enough.

Shapes: waveforms `(B, S)` to spectra `(B, T, N)` with frames first, T = 1 + S // hop and N = n_fft // 2 + 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks

__all__ = [
    "FLOOR",
    "Log",
    "Normalize",
    "Spectra",
    "check",
    "in_parts",
    "logarithm",
    "normalized",
    "power_spectrum",
    "samples",
]

Log = Literal["natural", "decibel", "none"]
Normalize = Literal["mean", "mean-std", "none"]

# Lower limit of energies before a logarithm: -100 dB.
FLOOR = 1e-10

# Samples of the longest frame or hop.
LONGEST = 1 << 16

# Samples that are processed at a time on a CPU: their intermediate values still fit its cache. Three rows of 3 s.
_SAMPLES = 150_000


class Spectra(nn.Module):
    """Magnitudes, raised to a power, of the Fourier transforms of centred frames with a periodic Hann window.

    Args:
        rate: sample rate in Hz.
        frame: length of a frame, in samples if a whole number, otherwise in seconds.
        hop: step from one frame to the next, in samples or seconds likewise.
        n_fft: length of the Fourier transform in samples, with the frame in its middle; 0 for the smallest power
            of two that holds the frame.
        power: 2 for energies, 1 for magnitudes.
    """

    window: Tensor

    def __init__(self, rate: int, frame: float, hop: float, n_fft: int = 0, power: float = 2.0) -> None:
        super().__init__()
        self.frame, self.hop, self.power = samples(frame, rate, "frame"), samples(hop, rate, "hop"), power
        if self.frame < 2:
            raise ValueError(f"frame must be at least 2 samples, {2 / rate:g} s at {rate} Hz, is {frame}")
        if self.hop < 1:
            raise ValueError(f"hop must be at least 1 sample, {1 / rate:g} s at {rate} Hz, is {hop}")
        if n_fft and n_fft < self.frame:
            raise ValueError(f"n_fft must be 0 or at least a frame, {self.frame} samples, is {n_fft}")
        if n_fft > LONGEST:
            raise ValueError(f"n_fft must be at most {LONGEST:,}, is {n_fft}")
        if not power > 0.0:
            raise ValueError(f"power must be above 0, is {power:g}")
        self.n_fft = n_fft or 1 << (self.frame - 1).bit_length()
        self.bins = self.n_fft // 2 + 1
        left = (self.n_fft - self.frame) // 2
        window = F.pad(torch.hann_window(self.frame, dtype=torch.float64), (left, self.n_fft - self.frame - left))
        self.register_buffer("window", window.float(), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms `(B, S)` to spectra `(B, T, N)` and their lengths in frames; frames beyond are arbitrary."""
        padded = reflected(waveform, lengths, self.n_fft // 2)
        energies = power_spectrum(padded.unfold(1, self.n_fft, self.hop) * self.window.to(waveform.dtype))
        if self.power != 2.0:
            # The gradient of a root is infinite at zero, the value of digital silence.
            energies = energies.clamp(min=torch.finfo(torch.float32).tiny).pow(self.power / 2)
        return energies, 1 + lengths // self.hop


def power_spectrum(frames: Tensor) -> Tensor:
    """The squared magnitudes `(..., N // 2 + 1)` of the Fourier transforms of frames `(..., N)`.

    While a model is exported they are matrix products, since several runtimes cannot compute a Fourier transform.
    """
    if torch.compiler.is_exporting():
        return _by_products(frames)
    spectrum = torch.fft.rfft(frames)
    power: Tensor = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    return power


def _by_products(frames: Tensor) -> Tensor:
    """The same by two small transforms of A and B samples, N = A B, each a matrix product.

    One large product would sum N rounded terms, and its error would drown bins of little energy. As Cooley and Tukey do
    (An algorithm for the machine calculation of complex Fourier series, Mathematics of Computation 19, 1965), with
    sample a B + b and bin c + A d: over a, then turned by b c / N, then over b.
    """
    size = frames.shape[-1]
    outer = max(one for one in range(1, math.isqrt(size) + 1) if size % one == 0)
    inner = size // outer
    blocks = -(-(size // 2 + 1) // outer)  # of bins: the others mirror these

    def waves(rows: int, columns: int, turn: int) -> tuple[Tensor, Tensor]:
        # Whole turns are taken off in integers, so that no angle is large.
        angles = 2 * np.pi * (np.outer(np.arange(rows), np.arange(columns)) % turn) / turn
        wide = frames.dtype == torch.float64
        both = (part if wide else part.astype(np.float32) for part in (np.cos(angles), -np.sin(angles)))
        real, imaginary = (torch.from_numpy(part).to(frames) for part in both)
        return real, imaginary

    apart = frames.reshape(-1, outer, inner).transpose(1, 2).reshape(-1, outer)
    real, imaginary = ((apart @ part).reshape(-1, inner, outer) for part in waves(outer, outer, outer))
    cosine, sine = waves(inner, outer, size)
    real, imaginary = real * cosine - imaginary * sine, real * sine + imaginary * cosine
    real, imaginary = (part.transpose(1, 2).reshape(-1, inner) for part in (real, imaginary))
    cosine, sine = waves(inner, blocks, inner)
    power = (real @ cosine - imaginary @ sine).square() + (real @ sine + imaginary @ cosine).square()
    bins = power.reshape(-1, outer, blocks).transpose(1, 2).reshape(*frames.shape[:-1], -1)
    return bins[..., : size // 2 + 1].clone(memory_format=torch.contiguous_format)  # a product asks how a slice lies


def reflected(waveform: Tensor, lengths: Tensor, width: int) -> Tensor:
    """Waveforms `(B, S)` with `width` more samples at both ends `(B, S + 2 width)`: mirrored at each row's own ends."""
    size = waveform.shape[1]
    if masks.full(lengths, size) and size > width:
        return F.pad(waveform, (width, width), mode="reflect")
    last = (lengths - 1).unsqueeze(1)
    steps = torch.arange(width, device=waveform.device)
    places = torch.cat([(steps - width).expand(waveform.shape[0], -1), last + 1 + steps], 1)
    # Back and forth between the first sample and the last; a single sample is repeated.
    mirrored = last - (last - places.remainder((2 * last).clamp(min=1))).abs()
    before, after = torch.split(waveform.gather(1, mirrored), width, 1)
    padded = torch.cat([before, masks.apply(waveform, lengths), torch.zeros_like(after)], 1)
    return padded.scatter(1, places[:, width:] + width, after)


def samples(duration: float, rate: int, name: str) -> int:
    """A duration in samples: a whole number is in samples already, any other is in seconds.

    Raises:
        ValueError: it is longer than any frame; `name` is the option's.
    """
    if not (duration if isinstance(duration, int) else duration * rate) <= LONGEST:
        raise ValueError(
            f"{name} must be at most {LONGEST:,} samples, {LONGEST / rate:g} s at {rate} Hz, is {duration:g}"
        )
    # 0.029 * 1000 is 28.999999999999996: round off the floating-point error before truncating.
    return duration if isinstance(duration, int) else int(round(duration * rate, 6))


def in_parts(
    function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], waveform: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """`function(waveforms (B, S), lengths)`, in float32 at least, computed for a few rows at a time on a CPU."""
    with torch.autocast(waveform.device.type, enabled=False):
        waveform = masks.wide(waveform)
        if torch.compiler.is_compiling() or waveform.device.type != "cpu" or waveform.numel() <= _SAMPLES:
            return function(waveform, lengths)
        rows = max(_SAMPLES // waveform.shape[1], 1)
        parts = zip(torch.split(waveform, rows), torch.split(lengths, rows), strict=True)
        features, frames = zip(*(function(*part) for part in parts), strict=True)
        return torch.cat(features), torch.cat(frames)


def check(log: str, normalize: str) -> None:
    """Refuse an unknown logarithm or normalisation."""
    if log not in ("natural", "decibel", "none"):
        raise ValueError(f'log must be "natural", "decibel" or "none", is {log!r}')
    if normalize not in ("mean", "mean-std", "none"):
        raise ValueError(f'normalize must be "mean", "mean-std" or "none", is {normalize!r}')


def logarithm(energies: Tensor, log: Log, power: float = 2.0) -> Tensor:
    """The natural logarithm, decibels (of magnitudes to a `power`), or `energies` as they are; floored at `FLOOR`."""
    if log == "none":
        return energies
    energies = energies.clamp(min=FLOOR)
    return energies.log() if log == "natural" else energies.log10() * (20.0 / power)


def normalized(features: Tensor, lengths: Tensor, normalize: Normalize) -> Tensor:
    """Features `(B, F, T)` with each row normalised as `normalize` says, and zero beyond the lengths."""
    if normalize == "mean":
        features = features - masks.mean(features, lengths).unsqueeze(-1)
    elif normalize == "mean-std":
        # A thousandth of a log unit is less than any sound's spread: silence gives zero, not amplified rounding noise.
        mean, std = masks.mean_std(features, lengths, eps=1e-6)
        features = (features - mean.unsqueeze(-1)) / std.unsqueeze(-1)
    return masks.apply(features, lengths)
