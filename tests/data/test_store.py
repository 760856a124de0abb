"""The store: what it gives is what was decoded, once, by whichever process, and never again."""

from __future__ import annotations

import errno
import os
import pickle
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.stores import RATE, Made, Table

from soundbench import audio
from soundbench.data.shards import filling, shard
from soundbench.data.sounds import Sounds
from soundbench.data.store import Store, cache_folder, open_store
from soundbench.data.windowing.quantizing import quantize
from soundbench.errors import BrokenPlugin, DataError, SoundError


class Files:
    """A dataset whose sounds are files."""


def noise(count: int, seed: int = 1, loudness: float = 0.1) -> np.ndarray:
    return (loudness * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    """Five sounds of 1000, 2000, ... samples, 16 bits."""
    made = [tmp_path / f"{number}.wav" for number in range(5)]
    for number, path in enumerate(made):
        soundfile.write(path, noise(1000 * (number + 1), number), RATE, subtype="PCM_16")
    return made


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path, said) -> Callable[..., Store]:
    """A store of rows in the folder `cache`."""

    def made(*rows, dataset=None, rate=RATE, **options) -> Store:
        table = Table(*(row if isinstance(row, tuple) else (row,) for row in rows))
        return open_store(table, dataset or Files(), rate, tmp_path / "cache", say=said.append, **options)

    return made


def floats(store: Store, row: int) -> np.ndarray:
    return store.read(row, 0, int(store.lengths[row])) * store.scales[row]


def left(folder: Path) -> list[str]:
    """What is in a cache folder beside locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


# What is stored -------------------------------------------------------------------------------------------------------


def test_sixteen_bits_are_kept_to_the_last(make, paths):
    store = make(*paths)
    for row, path in enumerate(paths):
        np.testing.assert_array_equal(floats(store, row), audio.decode(path)[0])
    assert store.lengths.tolist() == [1000, 2000, 3000, 4000, 5000]
    assert (store.lengths.dtype, store.scales.dtype) == (np.int64, np.float32)
    assert len(store) == 5
    assert store.errors == {}


@pytest.mark.parametrize("loudness", [1e-5, 0.01, 0.2, 7.0])
def test_other_sounds_use_all_bits_whatever_their_loudness(make, tmp_path, loudness):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(8000, loudness=loudness), 44100, subtype="FLOAT")
    wanted = audio.load(path, RATE)
    store = make(path)
    assert store.read(0, 0, 10).dtype == np.int16
    np.testing.assert_allclose(floats(store, 0), wanted, atol=0.51 * np.abs(wanted).max() / 32767)


def test_quantizing_edges():
    for sound in ([0.0, 0.0], [1.0, -1.0], [-1.0, 0.5], [1e-20], [32767 / 32768, -1.0], [3e38, -3e38]):
        samples = np.float32(sound)
        bits, scale = quantize(samples)
        assert bits.dtype == np.int16
        np.testing.assert_allclose(bits * np.float32(scale), samples, rtol=2e-5)


def test_the_same_stretch_is_stored_once(make, paths):
    once = make(paths[0], paths[1])
    many = make(*[paths[0], paths[1], (paths[1], 0.0, None)] * 50)
    assert many.path == once.path
    assert many.lengths.tolist() == [1000, 2000, 2000] * 50
    assert sum(file.stat().st_size for file in many.path.glob("*.i16")) == 2 * 3000


def test_stretches_of_one_file(make, paths):
    rows = [(paths[4], 0.1, 0.2), (paths[4], 0.25, None), (paths[4], 0.0, 0.1), (paths[4], 0.1, 0.2)]
    store = make(*rows)
    whole, _ = audio.decode(paths[4])
    for row, (begin, end) in enumerate([(1600, 3200), (4000, 5000), (0, 1600), (1600, 3200)]):
        np.testing.assert_array_equal(floats(store, row), whole[begin:end])


def test_rows_in_any_order_share_a_store(make, paths):
    forth, back = make(*paths), make(*paths[::-1])
    assert forth.path == back.path
    for row in range(5):
        np.testing.assert_array_equal(forth.read(row, 5, 90), back.read(4 - row, 5, 90))


def test_gather_is_the_rows_padded(make, paths):
    store = make(*paths)
    rows, starts, counts = np.array([3, 0, 3, 4]), np.array([100, 0, 3990, 0]), np.array([500, 1000, 10, 0])
    samples, scales = store.gather(rows, starts, counts, 1200)
    assert (samples.dtype, samples.shape, scales.shape) == (np.int16, (4, 1200), (4,))
    for row, place in enumerate(zip(rows, starts, counts, strict=True)):
        np.testing.assert_array_equal(samples[row, : place[2]], store.read(*place))
        assert not samples[row, place[2] :].any()
    np.testing.assert_array_equal(scales, store.scales[rows])


def test_nothing_is_given_of_the_neighbours(make, paths):
    store = make(*paths)
    for start, count in [(0, 1001), (-1, 10), (999, 2), (500, -1), (0, 800)]:
        with pytest.raises(IndexError, match=r"^samples outside of their row$"):
            store.gather(np.array([0]), np.array([start]), np.array([count]), 750)
    for start, count in [(0, 1001), (-1, 10), (1001, 0), (500, -1)]:
        with pytest.raises(IndexError, match=r"^row 0 has 1000 samples, not "):
            store.read(0, start, count)


def test_a_store_travels_as_a_number_a_row_and_a_few_a_sound(make, paths):
    store = make(*paths * 2000)
    store.gather(np.arange(5), np.zeros(5, int), np.full(5, 100), 100)
    packed = pickle.dumps(store)
    assert len(packed) < 4 * len(store) + 1000
    np.testing.assert_array_equal(floats(pickle.loads(packed), 7), floats(store, 7))


def test_the_same_sound_has_the_same_digest_wherever_it_lies(make, paths, tmp_path):
    copies = []
    for path in paths:
        copies.append(tmp_path / "copies" / path.name)
        copies[-1].parent.mkdir(exist_ok=True)
        copies[-1].write_bytes(path.read_bytes())
    first, second = make(*paths), make(*copies)
    assert first.digest == second.digest != make(*paths[:4]).digest


def test_ends_are_trimmed_before_it_is_stored(make, tmp_path):
    sound = np.concatenate([np.zeros(4000, np.float32), noise(3200), np.zeros(2000, np.float32)])
    path = tmp_path / "a.wav"
    soundfile.write(path, sound, RATE, subtype="PCM_16")
    whole, trimmed = make(path, (path, 0.4, 0.5)), make(path, (path, 0.4, 0.5), trim=40.0)
    assert whole.lengths.tolist() == [9200, 1600]
    np.testing.assert_array_equal(floats(trimmed, 0), floats(whole, 0)[3840 : 7200 + 160])
    assert trimmed.lengths[1] == 960
    # A folder each, as they hold other samples; without trimming it is the one that there was before.
    assert len({whole.path, trimmed.path, make(path, (path, 0.4, 0.5), trim=30.0).path}) == 3
    assert make(path, (path, 0.4, 0.5), trim="off").path == whole.path


# When it is made ------------------------------------------------------------------------------------------------------


def test_a_second_look_reads_no_sound(make, paths, said, monkeypatch):
    store = make(*paths)
    assert said == [
        f"sound: reading 5 clips into {store.path}",
        "sound: 1 s of sound read in 0 s, 0.0 MB",
    ]
    monkeypatch.setattr(audio, "decode", lambda *_: pytest.fail("a sound was decoded"))
    again = make(*paths)
    assert said[2:] == [f"sound: 5 clips in {store.path}, 0.0 MB"]
    assert (again.path, again.digest) == (store.path, store.digest)
    assert again.size_bytes == 2 * 15000


def test_a_file_that_changes_is_read_again_and_no_other(make, paths, said):
    before, old = make(*paths), audio.decode(paths[2])[0]
    soundfile.write(paths[2], noise(3000, 99), RATE, subtype="PCM_16")
    os.utime(paths[2], ns=(0, 1))
    after = make(*paths)
    assert said[2:4] == [f"sound: 4 of 5 clips in {after.path}, 0.0 MB", f"sound: reading 1 clip into {after.path}"]
    np.testing.assert_array_equal(floats(after, 2), audio.decode(paths[2])[0])
    np.testing.assert_array_equal(floats(before, 2), old)


def test_another_rate_is_another_store(make, paths):
    assert make(*paths).path != make(*paths, rate=8000).path
    assert make(*paths, rate=8000).lengths.tolist() == [500, 1000, 1500, 2000, 2500]


def test_long_tables_are_said_to_be_on_their_way(make, paths, said, monkeypatch):
    monkeypatch.setattr(filling, "PATIENCE", -1.0)
    make(*paths)
    assert said[1:-1] == [f"sound: {done} of 5 read" for done in range(1, 6)]


def test_few_sounds_are_read_ahead(paths):
    begun: list[int] = []
    sounds = Sounds.of(Table(*((paths[0], k, k + 1.0) for k in range(100))), Files(), RATE)
    stream = sounds.each(begun.append, workers=2)
    next(stream)
    assert len(begun) <= 5
    stream.close()
    assert len(begun) <= 5


def test_a_sound_is_known_by_the_first_row_that_holds_it():
    sounds = Sounds.of(Table(("b", 1.0, 2.0), ("a",), ("b", 1.0, 2.0), ("b",), ("a",)), Files(), RATE)
    assert sounds.of_rows.tolist() == [2, 0, 2, 1, 0]
    assert sounds.rows.tolist() == [1, 3, 0]


def test_the_native_samples_are_those_of_the_file(paths, tmp_path):
    soundfile.write(tmp_path / "fast.wav", noise(44100), 44100, subtype="PCM_16")
    sounds = Sounds.of(Table((tmp_path / "fast.wav", 0.5, 0.75)), Files(), RATE)
    samples, rate = sounds.native(0)
    wanted = soundfile.read(tmp_path / "fast.wav", dtype="float32", start=22050, stop=33075)[0]
    assert rate == 44100
    np.testing.assert_array_equal(samples, wanted)
    assert len(sounds.load(0)) == RATE // 4


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("SOUNDBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "soundbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "soundbench"


# Datasets that read sound themselves ----------------------------------------------------------------------------------


def test_a_dataset_may_give_its_sound(make, monkeypatch):
    monkeypatch.setattr(audio, "decode", lambda *_: pytest.fail("a file was opened"))
    store = make("3", "5", "3", dataset=Made())
    np.testing.assert_allclose(floats(store, 0), np.full(100, 0.3), atol=1e-4)
    np.testing.assert_allclose(floats(store, 1), np.full(100, 0.5), atol=1e-4)
    assert make("3", "5", dataset=Made()).path == store.path
    assert make("3", "5", dataset=Made(), rate=8000).lengths.tolist() == [50, 50]


def test_its_fingerprint_is_part_of_the_key(make):
    dataset = Made()
    before = make("3", dataset=dataset)
    dataset.fingerprint = "made 2"
    assert make("3", dataset=dataset).path != before.path


def test_another_dataset_of_the_same_fingerprint_has_sounds_of_its_own(make):
    class Louder(Made):
        def read(self, clip):
            samples, rate = super().read(clip)
            return samples * 2, rate

    np.testing.assert_allclose(floats(make("3", dataset=Made()), 0), np.full(100, 0.3), atol=1e-4)
    np.testing.assert_allclose(floats(make("3", dataset=Louder()), 0), np.full(100, 0.6), atol=1e-4)


@pytest.mark.parametrize("threads", [False, True])
def test_it_is_read_by_one_thread_unless_it_says_that_several_may(make, threads):
    seen, both = set(), threading.Barrier(2)

    class Watched(Made):
        def read(self, clip):
            seen.add(threading.get_ident())
            if self.threads:
                both.wait(timeout=60)  # passes when two threads are here at once
            return super().read(clip)

    dataset = Watched()
    dataset.threads = threads
    store = make(*map(str, range(20)), dataset=dataset, workers=2)
    assert seen == {threading.get_ident()} if not threads else len(seen) == 2
    np.testing.assert_allclose([floats(store, row)[0] for row in range(20)], np.arange(20) / 10, atol=1e-3)


class Nameless:
    def read(self, clip):
        raise NotImplementedError


def test_it_needs_a_fingerprint(make):
    wanted = (
        "dataset Nameless: it has read(clip), so it also needs the property fingerprint, which must change whenever "
        "the result of read changes"
    )
    with pytest.raises(BrokenPlugin) as caught:
        make("a", dataset=Nameless())
    assert str(caught.value) == wanted


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(0), "its dataset returns the shape (0,); expected finite samples (S,), at least one"),
        (np.zeros((2, 9)), "its dataset returns the shape (2, 9); expected finite samples (S,), at least one"),
        (np.array([np.nan]), "its dataset returns NaN or infinite samples; expected finite samples (S,), at least one"),
        (OSError("the archive is closed"), "the archive is closed"),
        (SoundError("a", "is gone"), "is gone"),
    ],
)
def test_what_it_gives_is_looked_at(make, samples, reason):
    class Odd(Made):
        def read(self, clip):
            given = samples if clip.path == "a" else np.ones(5)
            if isinstance(given, Exception):
                raise given
            return given, RATE

    assert make("a", "b", dataset=Odd(), on_error="skip").errors == {0: reason}


# Sounds that cannot be read -------------------------------------------------------------------------------------------


def spoil(paths: Sequence[Path]) -> None:
    for path in paths:
        path.write_bytes(b"")


def test_unreadable_sounds_are_an_error_that_lists_them(make, paths, tmp_path):
    spoil(paths[1:3])
    with pytest.raises(DataError) as caught:
        make(*paths, tmp_path / "none.wav")
    assert str(caught.value) == (
        "3 of 6 clips cannot be read:\n"
        f"  {paths[1]}: is empty (0 bytes); a sound file is needed\n"
        f"  {paths[2]}: is empty (0 bytes); a sound file is needed\n"
        f"  {tmp_path / 'none.wav'}: no such file\n"
        'fix or remove them, or skip them with audio.on_error = "skip"'
    )


def test_only_the_first_ten_are_listed(make, paths, tmp_path):
    many = [tmp_path / f"bad{number:02}.wav" for number in range(13)]
    with pytest.raises(DataError) as caught:
        make(*paths, *many)
    lines = str(caught.value).splitlines()
    assert lines[0] == "13 of 18 clips cannot be read:"
    assert lines[1:11] == [f"  {path}: no such file" for path in many[:10]]
    assert lines[11] == "  ... and 3 more"
    assert len(lines) == 13


def test_they_may_be_skipped_and_what_was_read_is_kept(make, paths, said, monkeypatch):
    spoil(paths[1:2])
    with pytest.raises(DataError):
        make(*paths)
    seen, real = [], audio.decode_for
    monkeypatch.setattr(audio, "decode_for", lambda path, *more: seen.append(path) or real(path, *more))
    store = make(*paths, *paths, on_error="skip")
    assert store.errors == dict.fromkeys([1, 6], "is empty (0 bytes); a sound file is needed")
    assert store.lengths.tolist() == [1000, 0, 3000, 4000, 5000] * 2
    assert said[-1] == "sound: 1 of 5 clips cannot be read and are skipped"
    assert seen == [str(paths[1])]


def test_a_sound_that_can_be_read_later_is(make, paths, said, monkeypatch):
    real = audio.decode_for
    monkeypatch.setattr(audio, "decode_for", lambda path, *more: real(path if path != str(paths[3]) else b"", *more))
    assert list(make(*paths, on_error="skip").errors) == [3]
    monkeypatch.setattr(audio, "decode_for", real)
    store = make(*paths)
    assert said[-2] == f"sound: reading 1 clip into {store.path}"
    assert store.errors == {}


def test_no_sound_at_all_cannot_be_skipped(make, tmp_path):
    with pytest.raises(DataError) as caught:
        make(tmp_path / "none.wav", on_error="skip")
    path = tmp_path / "none.wav"
    assert str(caught.value) == f"1 of 1 clip cannot be read:\n  {path}: no such file\nfix or remove them"


# Damage, kills, full disks --------------------------------------------------------------------------------------------


def _cut(path: Path) -> None:
    with open(path, "rb+") as file:
        file.truncate(path.stat().st_size // 2)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# What happens to the only shard of five sounds, and how many of them have to be read again.
DAMAGE = {
    "shard-00000.i16 has 15,000 bytes instead of 30,000": (lambda folder: _cut(folder / "shard-00000.i16"), 2),
    "shard-00000.i16 has 0 bytes instead of 30,000": (lambda folder: (folder / "shard-00000.i16").unlink(), 5),
    "shard-00000.journal has 1 record with a wrong checksum": (lambda folder: _flip(folder / "shard-00000.journal"), 1),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_of_a_damaged_shard_what_is_lost_is_read_again(make, paths, said, damage):
    store = make(*paths, workers=1)
    spoil_it, lost = DAMAGE[damage]
    spoil_it(store.path)
    again = make(*paths)
    shard_of = store.path / "shard-00000.i16"
    assert f"sound: {shard_of} is damaged ({damage}); what cannot be used of it is read again" in said
    assert f"sound: reading {lost} clip{'s' * (lost > 1)} into {store.path}" in said
    said.clear()
    for row, path in enumerate(paths):
        np.testing.assert_array_equal(floats(again, row), audio.decode(path)[0])
        np.testing.assert_array_equal(floats(make(*paths), row), audio.decode(path)[0])
    assert set(said) == {f"sound: 5 clips in {store.path}, 0.0 MB"}


def test_a_shard_that_is_gone_is_read_again(make, paths, said):
    store = make(*paths)
    for file in store.path.iterdir():
        file.unlink()
    np.testing.assert_array_equal(floats(make(*paths), 4), audio.decode(paths[4])[0])
    assert said[2] == f"sound: reading 5 clips into {store.path}"


def test_on_a_full_disk_what_was_read_is_kept(make, paths, tmp_path, said, monkeypatch):
    calls, real = [], os.fsync

    def full_at_the_third(handle):
        calls.append(handle)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(shard, "SYNCING", 0)
    monkeypatch.setattr(shard.os, "fsync", full_at_the_third)
    with pytest.raises(DataError) as caught:
        make(*paths)
    assert str(caught.value) == (
        f"{tmp_path / 'cache'}: the disk is full: the sound needs about 0.0 MB; free some space, "
        "set SOUNDBENCH_CACHE to another folder, or use --no-cache; what was read is kept"
    )
    monkeypatch.setattr(shard.os, "fsync", real)
    said.clear()
    store = make(*paths)
    assert said[:2] == [f"sound: 2 of 5 clips in {store.path}, 0.0 MB", f"sound: reading 3 clips into {store.path}"]
    for row, path in enumerate(paths):
        np.testing.assert_array_equal(floats(store, row), audio.decode(path)[0])


def test_a_cache_folder_that_cannot_be_written(make, paths, tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(DataError) as caught:
        make(*paths)
    assert str(caught.value) == (
        f"{tmp_path / 'cache'}: the cache folder cannot be used (Not a directory); set SOUNDBENCH_CACHE to another "
        "folder, or use --no-cache"
    )


@pytest.mark.usefixtures("bound")
def test_a_cache_folder_without_permission(make, paths, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(DataError, match=r"the cache folder cannot be used \(Permission denied\); set SOUNDBENCH"):
        make(*paths)


def test_a_plugin_that_fails_is_named_with_the_line_in_its_file(make):
    class Failing(Made):
        def read(self, clip):
            return np.zeros(5, np.float32), 16000 // 0

    with pytest.raises(
        DataError, match=r"1: its dataset's read fails: ZeroDivisionError: .* \(test_store\.py, line \d+\)"
    ):
        make("1", dataset=Failing())


# Real sounds ----------------------------------------------------------------------------------------------------------


def test_real_sounds_come_back(data, make):
    paths = sorted(data.glob("UrbanSound8K/audio/fold1/*.wav"))[::40] + sorted(data.glob("ESC-10/*/*.ogg"))[::20]
    store = make(*paths)
    assert store.errors == {}
    draw = np.random.default_rng(3)
    rows = draw.integers(0, len(paths), 64)
    counts = np.minimum(store.lengths[rows], 3 * RATE)
    starts = (draw.random(64) * (store.lengths[rows] - counts + 1)).astype(np.int64)
    samples, scales = store.gather(rows, starts, counts, 3 * RATE)
    for row, start, count, bits, scale in zip(rows, starts, counts, samples, scales, strict=True):
        wanted = audio.load(paths[row], RATE)
        np.testing.assert_allclose(bits[:count] * scale, wanted[start : start + count], atol=np.abs(wanted).max() / 6e4)
