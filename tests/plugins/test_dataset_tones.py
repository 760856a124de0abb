from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
from soundbench_plugins.dataset.tones import Tones

from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.errors import DataError

Array = np.ndarray


@pytest.fixture(scope="module")
def tones() -> Tones:
    return Tones()


@pytest.fixture(scope="module")
def sounds(tones: Tones) -> Array:
    return np.stack([tones.read(clip)[0] for clip in tones.clips()])


@pytest.fixture(scope="module")
def table(tones: Tones) -> ClipTable:
    return ClipTable.of(tones)


def spectra(sounds: Array) -> Array:
    """Power spectra of frames of 25 ms every 10 ms, `(N, T, 257)`."""
    frames = np.lib.stride_tricks.sliding_window_view(sounds, 400, axis=1)[:, ::160]
    return np.abs(np.fft.rfft(frames * np.hanning(400), 512)) ** 2


def banks() -> Array:
    """80 triangles, evenly spaced on the mel scale, `(257, 80)`."""
    edges = np.linspace(0, 1127 * np.log1p(8000 / 700), 82)
    places = 1127 * np.log1p(np.arange(257) * 16000 / 512 / 700)[:, None]
    rise, fall = (places - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - places) / np.diff(edges)[1:]
    return np.clip(np.minimum(rise, fall), 0, None)


def nearest_centroid(features: Array, table: ClipTable) -> float:
    """Accuracy over the five folds, each judged by the class means of the other four."""
    folds, labels, right = np.array(list(table.folds)), table.label_codes, 0
    for fold in range(1, 6):
        seen = folds != fold
        scaled = (features - features[seen].mean(0)) / (features[seen].std(0) + 1e-9)
        centroids = np.stack([scaled[seen & (labels == code)].mean(0) for code in range(10)])
        distances = ((scaled[~seen][:, None] - centroids) ** 2).sum(-1)
        right += int((distances.argmin(1) == labels[~seen]).sum())
    return right / len(labels)


def test_mean_spectra_do_not_tell_the_classes_apart(sounds: Array, table: ClipTable) -> None:
    power = spectra(sounds)
    mels = power @ banks()
    logs = np.log(mels + 1e-8)

    accuracies = {
        "mean of log mels": nearest_centroid(logs.mean(1), table),
        "the same, free of level": nearest_centroid(logs.mean(1) - logs.mean((1, 2))[:, None], table),
        "log of mean mels": nearest_centroid(np.log(mels.mean(1) + 1e-10), table),
        "log of mean powers": nearest_centroid(np.log(power.mean(1) + 1e-12), table),
    }

    assert max(accuracies.values()) <= 0.35, accuracies  # the promise is 0.6; chance is 0.1


def test_loudness_does_not_tell_the_classes_apart(sounds: Array, table: ClipTable) -> None:
    assert nearest_centroid(np.log((sounds**2).mean(1))[:, None], table) <= 0.15


def test_even_the_spread_around_the_mean_spectrum_is_not_enough(sounds: Array, table: ClipTable) -> None:
    logs = np.log(spectra(sounds) @ banks() + 1e-8)

    assert nearest_centroid(np.concatenate([logs.mean(1), logs.std(1)], axis=1), table) <= 0.6


def test_folds_and_classes_are_balanced(table: ClipTable) -> None:
    folds = np.array(list(table.folds))

    counts = np.histogram2d(folds, table.label_codes, bins=[np.arange(1, 7), np.arange(11)])[0]

    assert table.folds_in_order() == [1, 2, 3, 4, 5]
    assert np.all(counts == 24)
    assert len(table.groups.names) == len(table) == 1200


def test_sound_fits_16_bits_and_is_nowhere_clipped(sounds: Array) -> None:
    assert sounds.dtype == np.float32
    assert np.array_equal(sounds * 32768, np.rint(sounds * 32768))
    assert np.abs(sounds).max() < 0.99
    assert np.sqrt((sounds**2).mean(1)).min() > 0.005


def test_the_same_clip_is_the_same_sound_and_every_other_differs(tones: Tones, sounds: Array) -> None:
    again = Tones(clips=20)
    clips = list(again.clips())

    assert np.array_equal(np.stack([again.read(clip)[0] for clip in clips]), sounds[:20])
    assert len({sound.tobytes() for sound in sounds}) == len(sounds)
    assert not np.array_equal(Tones(seed=1).read(clips[0])[0], sounds[0])


def test_the_sound_is_the_same_on_every_machine(sounds: Array) -> None:
    """A change of this digest needs a new version in the fingerprint, and changes the numbers of the first run."""
    digest = hashlib.sha256(np.rint(sounds[:50] * 32768).astype("<i2").tobytes()).hexdigest()

    assert digest.startswith("a94d2f965f17d833")


def test_the_fingerprint_names_all_that_the_sound_depends_on() -> None:
    variants = [Tones(), Tones(seed=1), Tones(seconds=2.0), Tones(rate=8000)]

    assert len({variant.fingerprint for variant in variants}) == 4
    assert Tones(clips=50).fingerprint == Tones().fingerprint


@pytest.mark.parametrize(("seconds", "rate"), [(0.5, 8000), (1.0, 44100), (3.3, 16000)])
def test_any_length_and_rate(seconds: float, rate: int) -> None:
    tones = Tones(clips=10, seconds=seconds, rate=rate)
    for clip in tones.clips():
        samples, told = tones.read(clip)

        assert told == rate
        assert samples.shape == (round(seconds * rate),)
        assert np.isfinite(samples).all()
        assert samples.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": 9}, "clips must be at least 10, one of each class, is 9"),
        ({"seconds": 0.1}, "seconds must be from 0.5 to 60, is 0.1"),
        ({"seed": -1}, "seed must be at least 0, is -1"),
        ({"rate": 4000}, "rate must be from 8000 to 192000, is 4000"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Tones(**options)  # type: ignore[arg-type]


def test_a_clip_of_another_dataset_is_refused(tones: Tones) -> None:
    with pytest.raises(DataError) as caught:
        tones.read(Clip("dog.wav", ("sweep-up",)))

    assert str(caught.value) == "dog.wav: not a clip of tones"
