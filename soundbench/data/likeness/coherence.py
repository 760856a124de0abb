"""Whether two sounds are of one recording: their coherence, once they are aligned to a fraction of a sample.

Two recordings of the same kind of sound, however alike, are not coherent: their phases are unrelated wherever there is
anything but a steady tone. Two copies of one recording are, whatever their level, rate and codec. The lag is that of
the generalized cross-correlation with phase transform (Knapp and Carter, IEEE Trans. ASSP 24(4), 1976). At this lag the
score is the mean over bins from 160 Hz to 3.5 kHz of the real part of the coherence (Carter, Proc. IEEE 75(2), 1987)

    Re S_ab(f) / sqrt(S_aa(f) S_bb(f)),    S summed over frames:

1 for a copy, and 0 in the mean for sounds that are unrelated.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.data.likeness.fingerprint import HIGHEST, HOP, LOWEST, RATE, WINDOW

__all__ = ["Likeness", "compare"]

Samples = NDArray[np.float32]

# The score from which two sounds are of one recording.
COPY = 0.4
# What two sounds must have in common: so many seconds, and such a share of the shorter one.
COMMON, SHARE = 0.4, 0.3
# Seconds that are compared at most.
LONGEST = 30.0
# A lag is looked for within so many samples of that of the fingerprints, in steps of a quarter of a sample.
SLACK, FINER = 3 * HOP, 4
# A sound that is as coherent with itself a little later repeats itself: nothing can be said of it.
PERIODIC, SOONEST = 0.7, RATE // 50
# A sound has as good as all of another one; frames at the ends may be missing.
WHOLE = 0.9


@attrs.frozen
class Likeness:
    """How alike two sounds are.

    Attributes:
        score: the coherence, 1 for the same samples.
        kind: `copy` for the whole sound, `cut` for one that is part of the other, `overlap` if each has more.
    """

    score: float
    kind: str


def compare(one: Samples, other: Samples, lag: int) -> Likeness | None:
    """How alike two sounds at 8 kHz are; None if they are not of one recording.

    Args:
        one: samples `(S,)`.
        other: samples `(S',)`.
        lag: about how many samples later `other` begins in `one`; negative if it begins before.
    """
    first, second = _common(one, other, lag)
    if len(first) < COMMON * RATE:
        return None
    shift = _shift(first, second)
    whole = round(shift)
    first, second = _common(one, other, lag + whole)
    shorter, longer = sorted((len(one), len(other)))
    common = min(len(one) - max(lag + whole, 0), len(other) - max(-lag - whole, 0))
    if len(first) < COMMON * RATE or common < SHARE * shorter:
        return None
    score = abs(_coherence(first, second, shift - whole))
    if score < COPY or _repeats(first, score) or _repeats(second, score):
        return None
    kind = "overlap" if common < WHOLE * shorter else "copy" if shorter > WHOLE * longer else "cut"
    return Likeness(min(score, 1.0), kind)


def _common(one: Samples, other: Samples, lag: int) -> tuple[Samples, Samples]:
    """What two sounds have in common at a lag, the first seconds of it: twice `(n,)`."""
    one, other = one[max(lag, 0) :], other[max(-lag, 0) :]
    count = min(len(one), len(other), round(LONGEST * RATE))
    return one[:count], other[:count]


def _shift(one: Samples, other: Samples) -> float:
    """How many samples later `other` `(n,)` fits best into `one` `(n,)`."""
    size = 1 << (len(one) + SLACK - 1).bit_length()
    cross = np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size))
    cross /= np.maximum(np.abs(cross), np.finfo(np.float32).tiny)
    cross[: LOWEST * size // WINDOW] = 0
    cross[HIGHEST * size // WINDOW :] = 0
    correlation = np.abs(np.fft.irfft(cross, size * FINER))
    near = np.concatenate([correlation[-SLACK * FINER :], correlation[: SLACK * FINER + 1]])
    return float(np.argmax(near) - SLACK * FINER) / FINER


def _coherence(one: Samples, other: Samples, shift: float) -> float:
    """The mean real part of the coherence of two sounds `(n,)`, the second of them `shift` samples later."""
    bins = np.arange(LOWEST, HIGHEST)
    first, second = _spectra(one), _spectra(other) * np.exp(-2j * np.pi * bins * shift / WINDOW)
    power = (np.abs(first) ** 2).sum(axis=0) * (np.abs(second) ** 2).sum(axis=0)
    cross = (first * np.conj(second)).sum(axis=0).real
    return float(np.mean(np.where(power > 0, cross / np.sqrt(np.maximum(power, 1e-300)), 0.0)))


def _spectra(samples: Samples) -> NDArray[np.complex128]:
    """The spectra of frames that overlap by half, `(T, F)`."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[:: WINDOW // 2]
    return np.fft.rfft(frames * np.hanning(WINDOW + 1)[:-1], axis=1)[:, LOWEST:HIGHEST]


def _repeats(samples: Samples, score: float) -> bool:
    """Whether a sound `(n,)` is as coherent with itself, some time later, as with another one."""
    size = 1 << (2 * len(samples) - 1).bit_length()
    power = np.abs(np.fft.rfft(samples, size)) ** 2
    power[: LOWEST * size // WINDOW] = 0
    power[HIGHEST * size // WINDOW :] = 0
    width = size // WINDOW * 4
    sums = np.cumsum(np.pad(power, (width + 1, width)))
    smooth = sums[2 * width + 1 :] - sums[: -2 * width - 1]
    flat = power / np.maximum(smooth, smooth.max(initial=0.0) * 1e-12 + 1e-300)
    correlation = np.fft.irfft(flat, size)[SOONEST : len(samples) // 2]
    later = SOONEST + int(np.argmax(correlation))
    return abs(_coherence(samples[later:], samples[:-later], 0.0)) > PERIODIC * score
