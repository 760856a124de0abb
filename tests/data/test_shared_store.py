"""The store, opened: where its folder is, how long it stays, and that the processes of a machine share one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

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


def open_together(temporary: Path) -> list[tuple[str, int]]:
    """Of each process: where its store is, and what it said."""
    tempfile.tempdir = str(temporary)
    distributed.join("cpu")
    said: list[str] = []
    dataset = Made()
    with sound_store(ClipTable.of(dataset), dataset, AUDIO, False, said.append) as store:
        found = distributed.gather((str(store.path), sum("reading" in line for line in said)))
        distributed.barrier()
    distributed.leave()
    return found


def test_the_processes_of_a_machine_share_what_its_first_has_read(temporary: Path) -> None:
    (first, reads), (second, reads_of_second) = launch(open_together, (temporary,), 2)
    assert first == second
    assert (reads, reads_of_second) == (1, 0)
    assert list(temporary.iterdir()) == []
