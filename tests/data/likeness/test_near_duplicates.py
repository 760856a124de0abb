"""Copies of a sound are found whatever was done to them, and nothing else is."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.data.likeness.candidates import BEST, candidates
from soundbench.data.likeness.coherence import compare
from soundbench.data.likeness.fingerprint import Fingerprints, at_rate, peaks
from soundbench.data.likeness.pairs import NearDuplicates, near_duplicates, once
from soundbench.data.sounds import Sounds

RATE = 22050
Samples = np.ndarray


class Made:
    """Sound in memory, one clip each."""

    classes = ("any",)
    fingerprint = "made"

    def __init__(self, sounds: Sequence[tuple[Samples, int]]) -> None:
        self.sounds = sounds

    def clips(self) -> Iterator[Clip]:
        return (Clip(f"{number:05d}", self.classes) for number in range(len(self.sounds)))

    def read(self, clip: Clip) -> tuple[Samples, int]:
        return self.sounds[int(clip.path)]


def near(sounds: Sequence[tuple[Samples, int]]) -> NearDuplicates:
    dataset = Made(sounds)
    prints = Fingerprints()
    for samples, rate in sounds:
        prints.add(peaks(at_rate(samples, rate)))
    return near_duplicates(Sounds.of(ClipTable.of(dataset), dataset, RATE), prints)


def pairs_of(sounds: Sequence[tuple[Samples, int]]) -> set[tuple[int, ...]]:
    return {tuple(pair) for pair in near(sounds).pairs.tolist()}


def white(draws: np.random.Generator, count: int) -> Samples:
    return (0.1 * draws.standard_normal(count)).astype(np.float32)


def bursts(draws: np.random.Generator, count: int) -> Samples:
    """Bursts of noise at random times over a quiet background."""
    envelope = np.full(count, 0.02)
    for start in draws.integers(0, count - 2000, 12):
        envelope[start : start + 2000] += np.hanning(2000) * draws.uniform(0.2, 1)
    return (0.3 * envelope * draws.standard_normal(count)).astype(np.float32)


def chirps(draws: np.random.Generator, count: int) -> Samples:
    """Glides of random pitch, one after the other, over a quiet background."""
    pitch = np.concatenate([np.linspace(*draws.uniform(300, 3000, 2), count // 8 + 1) for _ in range(8)])[:count]
    return (0.2 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + 0.005 * draws.standard_normal(count)).astype(np.float32)


def speech(draws: np.random.Generator, count: int) -> Samples:
    """Pulses at a moving pitch through moving resonances, with pauses, in a room that is not quite quiet."""
    pitch = 120 + np.cumsum(draws.standard_normal(count)) * 0.05
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0.0)
    found = np.zeros(count)
    for _ in range(3):
        ring = np.exp(-np.arange(400) / 80) * np.sin(2 * np.pi * draws.uniform(300, 3000) * np.arange(400) / RATE)
        found += np.convolve(pulses, ring)[:count]
    syllables = np.repeat(draws.uniform(0, 1, count // 4000 + 1) > 0.3, 4000)[:count]
    return (0.2 * found * syllables + 0.003 * draws.standard_normal(count)).astype(np.float32)


KINDS = (white, bursts, chirps, speech)


def in_format(kind: str, subtype: str) -> Callable[[Samples], tuple[Samples, int]]:
    def change(samples: Samples) -> tuple[Samples, int]:
        rate = 24000 if subtype == "OPUS" else RATE
        file = io.BytesIO()
        soundfile.write(file, soxr.resample(samples, RATE, rate), rate, format=kind, subtype=subtype)
        file.seek(0)
        decoded, rate = soundfile.read(file, dtype="float32")
        return decoded, rate

    return change


CHANGES: dict[str, Callable[[Samples], tuple[Samples, int]]] = {
    "Ogg Vorbis": in_format("OGG", "VORBIS"),
    "Opus": in_format("OGG", "OPUS"),
    "MP3": in_format("MP3", "MPEG_LAYER_III"),
    "louder": lambda samples: (2 * samples, RATE),
    "softer": lambda samples: (samples / 2, RATE),
    "inverted": lambda samples: (-samples, RATE),
    "8 bits": in_format("WAV", "PCM_U8"),
    "8 kHz": lambda samples: (soxr.resample(samples, RATE, 8000), 8000),
    "48 kHz": lambda samples: (soxr.resample(samples, RATE, 48000), 48000),
    "cut at the start": lambda samples: (samples[: len(samples) * 6 // 10], RATE),
    "cut at the end": lambda samples: (samples[-(len(samples) * 6 // 10) :], RATE),
    "cut in the middle": lambda samples: (samples[12345 : 12345 + len(samples) * 6 // 10], RATE),
    "silence before": lambda samples: (np.concatenate([np.zeros(7777, np.float32), samples]), RATE),
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_of_sounds_of_each_kind_are_found_and_nothing_else(change: str) -> None:
    draws = np.random.default_rng(7)
    originals = [kind(draws, 3 * RATE) for kind in KINDS for _ in range(2)]
    sounds = [(samples, RATE) for samples in originals] + [CHANGES[change](samples) for samples in originals]

    assert pairs_of(sounds) == {(number, number + len(originals)) for number in range(len(originals))}


@pytest.mark.parametrize("kind", KINDS)
def test_sounds_of_one_kind_are_not_alike(kind: Callable[..., Samples]) -> None:
    draws = np.random.default_rng(3)

    assert not len(near([(kind(draws, 2 * RATE), RATE) for _ in range(60)]))


def test_what_is_found_is_called_a_copy_a_cut_or_an_overlap() -> None:
    samples = white(np.random.default_rng(1), 4 * RATE)
    sounds = [samples, samples / 3, samples[RATE : 3 * RATE], samples[2 * RATE :]]
    found = near([(sound, RATE) for sound in sounds])
    kinds = {tuple(pair): one.kind for pair, one in zip(found.pairs.tolist(), found.likenesses, strict=True)}

    assert kinds == {(0, 1): "copy", (0, 2): "cut", (1, 2): "cut", (0, 3): "cut", (1, 3): "cut", (2, 3): "overlap"}
    assert all(one.score > 0.9 for one in found.likenesses)


def test_the_score_of_a_copy_in_noise_is_its_coherence() -> None:
    """Equal powers of signal and noise on one side: the coherence is sqrt(1 / 2) in every bin."""
    draws = np.random.default_rng(2)
    samples = draws.standard_normal(80_000).astype(np.float32)
    noisy = samples + draws.standard_normal(80_000).astype(np.float32)
    likeness = compare(samples, noisy, 0)

    assert likeness is not None
    assert likeness.score == pytest.approx(np.sqrt(0.5), abs=0.02)


@pytest.mark.parametrize("delay", [0.0, 0.3, -0.5, 10.25, -200.8])
def test_a_delay_of_part_of_a_sample_costs_little(delay: float) -> None:
    samples = np.random.default_rng(4).standard_normal(32_768).astype(np.float32)
    turned = np.fft.rfft(samples) * np.exp(-2j * np.pi * np.fft.rfftfreq(len(samples)) * delay)
    likeness = compare(samples, np.fft.irfft(turned).astype(np.float32), 0)

    assert likeness is not None
    assert likeness.score > 0.95


def test_nothing_is_said_of_sound_that_repeats_itself() -> None:
    """Two stretches of one loop fit wherever they were cut; without its repetition the same noise is a copy."""
    draws = np.random.default_rng(12)
    loop = np.tile(draws.standard_normal(2000), 9).astype(np.float32)
    once_only = draws.standard_normal(18_000).astype(np.float32)

    assert compare(loop[:16_000], loop[77:16_077], 0) is None
    assert compare(once_only[:16_000], once_only[77:16_077], 0) is not None


def test_which_are_alike_depends_neither_on_their_order_nor_on_which_comes_first() -> None:
    draws = np.random.default_rng(5)
    originals = [kind(draws, 2 * RATE) for kind in KINDS]
    sounds = [(samples, RATE) for samples in originals]
    sounds += [(samples[RATE // 3 :] / 2, RATE) for samples in originals[:2]]
    found = pairs_of(sounds)
    assert found == {(0, 4), (1, 5)}
    for order in itertools.islice(itertools.permutations(range(6)), 0, None, 97):
        again = {tuple(sorted(order[number] for number in pair)) for pair in pairs_of([sounds[one] for one in order])}
        assert again == found


def test_silence_tones_and_clicks_and_sounds_of_no_length_are_alike_to_nothing() -> None:
    time = np.arange(2 * RATE) / RATE
    click = np.zeros(RATE, np.float32)
    click[5000] = 1.0
    sounds = [
        np.zeros(2 * RATE, np.float32),
        np.zeros(10, np.float32),
        np.ones(1, np.float32),
        click,
        np.roll(click, 99),
    ]
    draws = np.random.default_rng(6)
    for pitch in (440.0, 440.0, 1000.0, 1000.0):
        tone = 0.3 * np.sin(2 * np.pi * (pitch * time + draws.uniform()))
        sounds.append((np.rint(tone * 32768) / 32768).astype(np.float32))
        sounds.append((tone * (1 + 0.5 * np.sin(2 * np.pi * 5 * time)) + 1e-3 * white(draws, len(time))).astype("f4"))
    sounds += [white(draws, 200), white(draws, 3000)]

    assert not pairs_of([(sound.astype(np.float32), RATE) for sound in sounds])


def test_sounds_that_share_all_keys_cost_no_more_than_their_number() -> None:
    """A thousand sounds with the same peaks: as many pairs as each has neighbours, not half a million."""
    found = peaks(at_rate(white(np.random.default_rng(8), RATE), RATE))
    prints = Fingerprints()
    for _ in range(1000):
        prints.add(found)
    alike = candidates(prints)

    assert 999 <= len(alike) <= 1000 * BEST
    assert set(range(1000)) == set(alike.pairs.ravel().tolist())


def test_many_copies_of_one_sound_hold_together() -> None:
    """Not every two of them are a pair, but each is with another, so that they are one through others."""
    samples = white(np.random.default_rng(9), RATE)
    found = pairs_of([(samples * gain, RATE) for gain in np.linspace(0.1, 1, 40)])
    reached = {0}
    for _ in range(40):
        reached |= {one for pair in found if reached & set(pair) for one in pair}

    assert reached == set(range(40))


def test_sounds_with_equal_samples_are_compared_once() -> None:
    samples = white(np.random.default_rng(10), RATE)
    prints = Fingerprints()
    for _ in range(3):
        prints.add(peaks(at_rate(samples, RATE)))
    kept = once(prints, np.array([[1, 1], [2, 2], [1, 1]], dtype=np.uint64))

    assert [len(kept[number].frames) > 0 for number in range(3)] == [True, True, False]


def test_a_long_sound_has_the_peaks_of_its_stretches() -> None:
    """Peaks are sought in blocks of 131 s; where two meet, none is lost or found twice."""
    samples = white(np.random.default_rng(11), 8000 * 140)
    found = peaks(samples)
    start = 8192 - 100
    stretch = peaks(samples[start * 128 :])
    inner = stretch.frames > 10
    whole = found.frames > start + 10

    assert found.frames[whole].tolist() == (stretch.frames[inner] + start).tolist()
    assert found.bins[whole].tolist() == stretch.bins[inner].tolist()


@pytest.mark.slow
def test_real_clips_are_alike_only_within_one_recording(data: Path) -> None:
    paths = sorted(data.glob("UrbanSound8K/audio/fold1/*.wav"))[:300]
    assert paths
    sounds = [soundfile.read(path, dtype="float32", always_2d=True) for path in paths]
    recordings = [path.name.split("-")[0] for path in paths]
    found = pairs_of([(samples.mean(axis=1), rate) for samples, rate in sounds])

    assert found
    assert all(recordings[one] == recordings[other] for one, other in found)
