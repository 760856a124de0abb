"""Sound that is not kept: the samples of a store, with a few shards in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.stores import RATE, Sharded, Table

from soundbench.contracts import Clip
from soundbench.data.shards.tending import kept
from soundbench.data.store import Store, open_store
from soundbench.errors import DataError, SoundError

ROWS = [f"{shard}/{name}" for shard in ("b", "a-1", "a", "c") for name in ("2", "1", "10")]
SHARDS = ("b", "a-1", "a", "c")


class Noisy(Sharded):
    """Sounds of several lengths; each pass through a shard is noted."""

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        super().read(clip)
        draws = np.random.default_rng([len(self.names), *clip.path.encode()])
        return draws.uniform(-0.5, 0.5, 50 + 7 * draws.integers(20)).astype(np.float32), RATE


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Store]:
    def made(dataset: Sharded, in_memory: int | None = 2, **options) -> Store:
        table = Table(*((row,) for row in ROWS))
        said = options.pop("say", [].append)
        return open_store(table, dataset, RATE, tmp_path / "cache", say=said, in_memory=in_memory, **options)

    return made


def passes(dataset: Sharded) -> list[str]:
    """The shards that were gone through since this was last asked."""
    found = [clips[0].split("/")[0] for clips in dataset.passes]
    dataset.passes.clear()
    return found


def test_samples_are_those_of_the_store(make):
    kept_, not_kept = make(Noisy(*SHARDS), None), make(Noisy(*SHARDS))
    assert not_kept.digest == kept_.digest
    assert not_kept.lengths.tolist() == kept_.lengths.tolist()
    for row in range(len(ROWS)):
        np.testing.assert_array_equal(not_kept.read(row), kept_.read(row))
    rows = np.array([11, 0, 5, 5, 3])
    window = (rows, np.array([3, 0, 7, 1, 2]), np.array([40, 30, 20, 43, 0]), 60)
    for ours, theirs in zip(not_kept.gather(*window), kept_.gather(*window), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(not_kept.each_sound().gather(*window), kept_.each_sound().gather(*window), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_shards_are_read_once_in_their_order_and_no_more_are_in_memory_than_allowed(make):
    dataset = Noisy(*SHARDS)
    store = make(dataset)
    assert sorted(passes(dataset)) == sorted(SHARDS)  # for the lengths
    for row in range(len(ROWS)):
        store.read(row)
    assert passes(dataset) == list(SHARDS)
    for row in (11, 8, 10, 7):  # of the last two
        store.read(row)
    assert passes(dataset) == []
    store.read(0)
    store.read(9)  # took the place of no other than the one that was not used longest
    assert passes(dataset) == ["b", "c"]


def test_a_batch_of_more_shards_than_are_in_memory(make):
    dataset = Noisy(*SHARDS)
    store, kept_ = make(dataset, 1), make(Noisy(*SHARDS), None)
    passes(dataset)
    rows = np.array([0, 1, 4, 3, 8, 0])
    window = (rows, np.zeros(6, int), np.full(6, 30), 30)
    for ours, theirs in zip(store.gather(*window), kept_.gather(*window), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert passes(dataset) == ["b", "a-1", "a", "b"]
    nothing = np.zeros(0, np.int64)  # a process whose share of a step is empty
    assert store.gather(nothing, nothing, nothing, 30)[0].shape == (0, 30)


def test_shards_of_a_batch_are_decoded_by_several_threads(make):
    both = threading.Barrier(2, timeout=20)

    class Together(Noisy):
        meeting = False

        def read_many(self, clips: Sequence[Clip]) -> Iterator:
            if self.meeting:
                both.wait()  # fails unless two threads come here at once
            yield from super().read_many(clips)

    dataset = Together(*SHARDS, threads=True)
    store = make(dataset, 2, workers=2)
    dataset.meeting = True
    store.gather(np.array([0, 4, 1, 5]), np.zeros(4, int), np.full(4, 30), 30)


def test_lengths_are_taken_once_and_only_of_what_is_new(make, tmp_path):
    make(Noisy(*SHARDS))
    again, changed = Noisy(*SHARDS), Noisy(*SHARDS, c="second")
    make(again)
    assert passes(again) == []
    make(changed)
    assert passes(changed) == ["c"]
    (folder,) = kept(tmp_path / "cache")
    assert (folder.kind, folder.what) == ("lengths", "lengths of clips whose sound is not kept")
    for path in folder.path.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"?")  # the last record of each
    make(again)
    assert [len(clips) for clips in again.passes] == [1] * 4


def test_of_two_that_need_the_same_lengths_one_takes_them_and_the_other_waits(make):
    begun, waiting = threading.Event(), threading.Event()

    class Slow(Noisy):
        def read_many(self, clips: Sequence[Clip]) -> Iterator:
            begun.set()
            assert waiting.wait(20)
            yield from super().read_many(clips)

    def say(text: str) -> None:
        if text.startswith("sound: waiting for another process"):
            waiting.set()

    first, second = Slow(*SHARDS), Slow(*SHARDS)
    with ThreadPoolExecutor(1) as threads:
        store = threads.submit(make, first)
        assert begun.wait(20)
        assert make(second, say=say).digest == store.result().digest
    assert (sorted(passes(first)), passes(second)) == (sorted(SHARDS), [])


def test_what_cannot_be_read_is_named_and_tried_again(make):
    dataset = Noisy(*SHARDS)
    dataset.failing["a/1"] = SoundError("a/1", "damaged")
    with pytest.raises(DataError, match=r"^1 of 12 clips cannot be read:\n  a/1: damaged\n"):
        make(dataset)
    store = make(dataset, on_error="skip")
    assert store.errors == {ROWS.index("a/1"): "damaged"}
    assert store.lengths[ROWS.index("a/1")] == 0
    assert store.digest == make(dataset, None, on_error="skip").digest
    del dataset.failing["a/1"]
    assert not make(dataset).errors


def test_what_others_could_not_read_is_in_no_store(make):
    store = make(Noisy(*SHARDS), unreadable={4: "damaged"}, on_error="skip")
    assert store.errors == {4: "damaged"}
    assert [row for row in range(12) if not store.lengths[row]] == [4]


def test_sound_that_has_changed_or_gone_since_is_named(make):
    class Other(Noisy):
        def read(self, clip: Clip) -> tuple[np.ndarray, int]:
            samples, rate = super().read(clip)
            return samples / (2 if self.passes[4:] else 1), rate

    with pytest.raises(DataError, match=r"^b/2: its sound has changed since its length was taken; start again$"):
        make(Other(*SHARDS)).read(0)
    dataset = Noisy(*SHARDS)
    store = make(dataset)
    dataset.failing["b/1"] = DataError("b: no such file")
    with pytest.raises(DataError, match=r"^b/1: b: no such file; it could be read before$"):
        store.read(0)
