"""The store, opened: where its folder is, how long it stays, and that the processes of a machine share one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np
import pytest

from soundbench import distributed
from soundbench.cli.launch import launch
from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.data.shared_store import sound_store
from soundbench.errors import DataError
from soundbench.recipe import Audio


class Made:
    """A dataset that makes its sounds; the third cannot be read."""

    classes = ("a",)
    fingerprint = "made"

    def __init__(self, count: int = 2) -> None:
        self.count = count

    def clips(self) -> Iterator[Clip]:
        return (Clip(str(number), ("a",)) for number in range(self.count))

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        if clip.path == "2":
            raise OSError("the archive is closed")
        return np.full(100, 0.5, np.float32), 1000


AUDIO = Audio(rate=1000, window=0.1)


def quiet(_: str) -> None:
    pass


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_folder_for_a_while_is_gone_afterwards(temporary: Path) -> None:
    dataset = Made()
    with sound_store(ClipTable.of(dataset), dataset, AUDIO, False, quiet) as store:
        assert store.lengths.tolist() == [100, 100]
        assert store.path.is_relative_to(temporary)
    assert list(temporary.iterdir()) == []


def test_also_after_an_exception(temporary: Path) -> None:
    dataset = Made()
    with (
        pytest.raises(ZeroDivisionError),
        sound_store(ClipTable.of(dataset), dataset, AUDIO, False, quiet) as store,
    ):
        len(store) / len(store.errors)
    assert list(temporary.iterdir()) == []


def test_also_where_the_sound_cannot_be_read(temporary: Path) -> None:
    dataset = Made(3)
    with pytest.raises(DataError), sound_store(ClipTable.of(dataset), dataset, AUDIO, False, quiet):
        pytest.fail("opened")
    assert list(temporary.iterdir()) == []


def test_a_cache_stays(temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(tmp_path / "own"))
    dataset = Made()
    for cache, place in ((True, tmp_path / "own"), (tmp_path / "given", tmp_path / "given")):
        with sound_store(ClipTable.of(dataset), dataset, AUDIO, cache, quiet) as store:
            assert store.path.parent == place
        assert store.path.exists()
    assert list(temporary.iterdir()) == []


def test_what_cannot_be_read_is_skipped_where_the_recipe_or_the_call_says_so(tmp_path: Path) -> None:
    dataset = Made(3)
    table = ClipTable.of(dataset)
    skip = Audio(rate=1000, window=0.1, on_error="skip")
    for audio, on_error in ((skip, None), (AUDIO, "skip")):
        with sound_store(table, dataset, audio, tmp_path, quiet, on_error) as store:
            assert store.errors == {2: "the archive is closed"}
    with pytest.raises(DataError), sound_store(table, dataset, skip, tmp_path, quiet, "fail"):
        pytest.fail("opened")


# Two processes --------------------------------------------------------------------------------------------------------


class Moody(Made):
    """One of its sounds can be read by one of two processes only, and each sound that is read is noted."""

    def __init__(self, able: int) -> None:
        super().__init__(4)
        self.able, self.reads = able, []

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        self.reads.append(clip.path)
        if clip.path == "2" and distributed.rank() == self.able:
            return np.full(100, 0.5, np.float32), 1000
        return super().read(clip)


@attrs.frozen
class Seen:
    """What a process sees of its store, and what it has read for it."""

    path: str
    errors: dict[int, str]
    lengths: list[int]
    digest: str
    reads: list[str]


def look(able: int, count: int = 4) -> list[Seen]:
    """What each process sees of a store in a temporary folder."""
    dataset = Moody(able)
    dataset.count = count
    with sound_store(ClipTable.of(dataset), dataset, AUDIO, False, quiet, "skip") as store:
        seen = Seen(str(store.path), store.errors, store.lengths.tolist(), store.digest, dataset.reads)
        found = distributed.gather(seen)
        distributed.barrier()
    return found


def open_together(temporary: Path) -> dict[str, list[Seen]]:
    """What two processes see, on one machine and as if each were on its own, by the one that can read everything."""
    tempfile.tempdir = str(temporary)
    distributed.join("cpu")
    found = {"one machine": look(1)}
    distributed.local_rank = lambda: 0
    found |= {"two machines, the first": look(0), "two machines, the second": look(1)}
    found |= {"two tables": look(1, 2 if distributed.rank() else 4)}
    distributed.leave()
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Seen]]:
    folder = tmp_path_factory.mktemp("temporary")
    found = launch(open_together, (folder,), 2)
    assert list(folder.iterdir()) == []
    return found


def test_the_processes_of_a_machine_share_what_its_first_has_read(seen: dict[str, list[Seen]]) -> None:
    first, second = seen["one machine"]
    assert first.path == second.path
    assert (first.reads, second.reads) == (["0", "1", "2", "3"], [])


def test_what_one_process_cannot_read_is_in_the_store_of_none(seen: dict[str, list[Seen]]) -> None:
    for found in (seen[name] for name in seen if name != "two tables"):
        assert [one.errors for one in found] == [{2: "the archive is closed"}] * 2
        assert [one.lengths for one in found] == [[100, 100, 0, 100]] * 2
        assert len({one.digest for one in found}) == 1
    assert len({one.path for one in seen["two machines, the first"]}) == 2


def test_processes_with_other_tables_open_their_stores_until_that_is_seen(seen: dict[str, list[Seen]]) -> None:
    assert [one.lengths for one in seen["two tables"]] == [[100, 100, 0, 100], [100, 100]]
