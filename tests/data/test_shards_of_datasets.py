"""Sound that lies in shards of a dataset: a pass through each fills the store, and what changes is read again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.stores import RATE, Sharded, Table

from soundbench.contracts import Clip
from soundbench.data.store import Store, open_store
from soundbench.errors import BrokenPlugin, DataError, SoundError
from soundbench.sources import shard_of
from soundbench.sources.threads import interleaved

ROWS = [f"{shard}/{name}" for shard in ("b", "a-1", "a") for name in ("2", "1", "10")]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Store]:
    def made(dataset: Sharded, rows: Sequence[str] = ROWS, **options) -> Store:
        said = options.pop("say", [].append)
        return open_store(Table(*((row,) for row in rows)), dataset, RATE, tmp_path / "cache", say=said, **options)

    return made


def test_each_shard_is_read_in_one_pass_in_the_order_of_the_dataset(make):
    dataset = Sharded()
    store = make(dataset)
    wanted = [[f"{name}/{sound}" for sound in ("2", "1", "10")] for name in ("a", "a-1", "b")]
    assert sorted(dataset.passes) == sorted(wanted)
    for row, path in enumerate(ROWS):
        np.testing.assert_allclose(store.read(row) * store.scales[row], int(path.split("/")[1]) / 100, atol=1e-5)
    assert make(dataset).digest == store.digest
    assert len(dataset.passes) == 3


def test_a_shard_that_changes_or_is_added_is_read_alone(make):
    make(Sharded())
    changed = Sharded(a="second")
    make(changed)
    assert [path[0] for path in changed.passes] == ["a/2"]
    added = Sharded("b", "new", "a-1", "a", a="second")
    make(added, [*ROWS, "new/7"])
    assert added.passes == [["new/7"]]


def test_a_clip_that_is_added_is_the_only_one_that_is_read(make):
    make(Sharded())
    dataset = Sharded()
    make(dataset, [*ROWS, "a-1/5"])
    assert dataset.passes == [["a-1/5"]]


def test_threads_read_a_shard_each_where_the_dataset_allows_it(make):
    both = threading.Barrier(2, timeout=20)

    class Together(Sharded):
        def read_many(self, clips: Sequence[Clip]) -> Iterator:
            both.wait()  # fails unless two threads come here at once
            yield from super().read_many(clips)

    dataset = Together("x", "y", threads=True)
    make(dataset, ["x/1", "x/2", "y/3"], workers=2)
    assert sorted(dataset.passes) == [["x/1", "x/2"], ["y/3"]]


def test_two_that_need_the_same_shards_read_each_once(make):
    """Each reads one shard while the other is at work on another; both then have all."""
    both = threading.Barrier(2, timeout=20)

    class Meeting(Sharded):
        def read_many(self, clips: Sequence[Clip]) -> Iterator:
            both.wait()
            yield from super().read_many(clips)

    datasets = Meeting("x", "y"), Meeting("x", "y")
    rows = ["x/1", "x/2", "y/3"]
    with ThreadPoolExecutor(2) as threads:
        stores = list(threads.map(lambda dataset: make(dataset, rows), datasets))
    assert sorted(datasets[0].passes + datasets[1].passes) == [["x/1", "x/2"], ["y/3"]]
    assert stores[0].digest == stores[1].digest


def test_what_was_read_of_a_shard_before_a_failure_is_kept(make):
    class Killed(Sharded):
        def read_many(self, clips: Sequence[Clip]) -> Iterator:
            for place, sound in enumerate(super().read_many(clips)):
                if place == 2 and self.stops:
                    raise MemoryError
                yield sound

    dataset = Killed("x")
    dataset.stops = True
    with pytest.raises(MemoryError):
        make(dataset, ["x/1", "x/2", "x/3", "x/4"])
    dataset.stops = False
    make(dataset, ["x/1", "x/2", "x/3", "x/4"])
    assert dataset.passes[1][-2:] == ["x/3", "x/4"]
    assert len(dataset.passes[1]) < 4


def test_an_error_of_one_clip_is_its_own(make):
    dataset = Sharded()
    dataset.failing["a-1/1"] = SoundError("a-1/1", "damaged")
    store = make(dataset, on_error="skip")
    assert store.errors == {ROWS.index("a-1/1"): "damaged"}
    with pytest.raises(DataError, match=r"^1 of 9 clips cannot be read:\n  a-1/1: damaged\n"):
        make(dataset)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DataError("b.tar: cut off"), "b.tar: cut off"),
        (OSError("gone"), "gone"),
        (KeyError("x"), r"its dataset's read_many fails: KeyError: 'x' (stores.py, line"),
    ],
)
def test_what_ends_a_pass_is_the_reason_of_all_that_follow(make, error, reason):
    dataset = Sharded()
    dataset.failing["b/1"] = error
    store = make(dataset, on_error="skip")
    assert sorted(store.errors) == [1, 2]  # b/2 was read before
    assert all(found.startswith(reason) for found in store.errors.values())


def test_a_shard_that_cannot_be_read_is_named_once(make):
    dataset = Sharded()
    dataset.failing["b/2"] = DataError("b: it is cut off")
    dataset.failing["a/1"] = SoundError("a/1", "damaged")
    with pytest.raises(DataError) as error:
        make(dataset)
    assert str(error.value).splitlines()[:3] == [
        "4 of 9 clips cannot be read:",
        "  a/1: damaged",
        "  b: it is cut off (3 clips)",
    ]


def test_a_pass_that_ends_early_is_said(make):
    class Short(Sharded):
        def read_many(self, clips: Sequence[Clip]) -> Iterator:
            yield from list(super().read_many(clips))[:2]

    errors = make(Short(), on_error="skip").errors
    assert errors == dict.fromkeys((2, 5, 8), "its dataset's read_many ends before it")


def test_what_read_many_gives_is_checked_like_what_read_gives(make):
    class Odd(Sharded):
        def read(self, clip: Clip) -> tuple[np.ndarray, int]:
            return (np.full(10, np.nan, np.float32) if clip.path == "a/1" else np.ones(10, np.float32)), RATE

    assert list(make(Odd(), on_error="skip").errors) == [ROWS.index("a/1")]


def test_a_clip_in_no_shard_is_refused(make):
    with pytest.raises(BrokenPlugin, match=r"^dataset Sharded: c/1 begins with none of the 3 names that "):
        make(Sharded(), ["a/1", "c/1"])


def test_the_shard_of_a_path_is_the_longest_name_that_it_begins_with():
    assert shard_of("/data/a.tar/deep/1.wav", {"/data/a.tar"}) == "/data/a.tar"
    assert shard_of("/data/a.tar", {"/data/a.tar", "/data"}) == "/data"
    assert shard_of("/data/a.tarry/1.wav", {"/data/a.tar"}) is None
    assert shard_of("http://h/a.tar/1", {"http://h/a.tar"}) == "http://h/a.tar"


# Threads --------------------------------------------------------------------------------------------------------------


def test_iterators_in_threads_give_all_of_each_in_its_order():
    found = list(interleaved(lambda number: iter([(number, k) for k in range(number)]), range(20), 3))
    assert sorted(found) == [(number, k) for number in range(20) for k in range(number)]
    for number in range(20):
        assert [k for own, k in found if own == number] == list(range(number))


def test_no_more_iterators_are_begun_than_there_are_threads():
    begun: list[int] = []

    def work(number: int) -> Iterator[int]:
        begun.append(number)
        yield from range(100)

    stream = interleaved(work, range(50), 2)
    next(stream)
    stream.close()
    assert len(begun) <= 2


def test_an_error_in_a_thread_ends_all():
    def work(number: int) -> Iterator[int]:
        yield 1
        if number == 1:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(interleaved(work, range(100), 2))
