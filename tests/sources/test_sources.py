"""Files of datasets, here and elsewhere: found by patterns, opened, and told apart from what they were."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from soundbench.errors import DataError, MissingDataError
from soundbench.sources import find_files, open_source, remote, state_of

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def pipe() -> Callable[[str, bytes], str]:
    """Put a file into the memory of this process; its address."""

    def piped(name: str, data: bytes) -> str:
        fsspec.filesystem("memory").pipe(f"/sources/{name}", data)
        return f"memory://sources/{name}"

    return piped


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-{00..02}.tar", ["a-00.tar", "a-01.tar", "a-02.tar"]),
        ("a-{2..0}.tar", ["a-2.tar", "a-1.tar", "a-0.tar"]),
        ("{b,c}-{1,2}.tar", ["b-1.tar", "b-2.tar", "c-1.tar", "c-2.tar"]),
        ("{x}.tar", ["{x}.tar"]),
        ("b/../a.tar", ["a.tar"]),
        ("http://host/{a,b}.tar", ["http://host/a.tar", "http://host/b.tar"]),
    ],
)
def test_braces_name_files_that_need_not_be_there(tmp_path: Path, pattern: str, names: list[str]) -> None:
    wanted = [name if "://" in name else str(tmp_path / name) for name in names]
    assert find_files(tmp_path, [pattern]) == wanted


def test_stars_find_files_in_order_and_each_once(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar", "deep/er/c.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_files(tmp_path, ["b*.tar", "**/*.tar"])
    assert [os.path.relpath(name, tmp_path) for name in found] == ["b.tar", "a.tar", "deep/er/c.tar"]
    with pytest.raises(MissingDataError, match=r"/z\*: there are no such files$"):
        find_files(tmp_path, ["a.tar", "z*"])


def test_brackets_are_those_of_names(tmp_path: Path, pipe: Callable[[str, bytes], str]) -> None:
    root = tmp_path / "set [1] *"
    root.mkdir()
    for name in ("a[2].tar", "a2.tar"):
        (root / name).touch()
        pipe(f"[1]/{name}", b"")
    assert find_files(root, ["a[2]*.tar"]) == [str(root / "a[2].tar")]
    assert find_files(root, ["*.tar"]) == [str(root / "a2.tar"), str(root / "a[2].tar")]
    assert [os.path.basename(name) for name in find_files(root, ["memory://sources/[1]/a[2]*.tar"])] == ["a[2].tar"]


def test_a_question_mark_in_an_address_of_the_web_begins_a_query(tmp_path: Path) -> None:
    address = "https://nowhere.invalid/a.tar?download=true"
    assert find_files(tmp_path, [address]) == [address]


def test_a_file_elsewhere_is_that_of_here(tmp_path: Path, pipe: Callable[[str, bytes], str]) -> None:
    data = bytes(range(256)) * 100
    (tmp_path / "a").write_bytes(data)
    for name in (str(tmp_path / "a"), pipe("a", data)):
        for seeks in (False, True):
            with open_source(name, seeks) as file:
                assert file.read(7) == data[:7]
                assert file.seek(20_000) == 20_000
                assert file.read(3) == data[20_000:20_003]
                file.seek(5)
                assert file.read(1) == data[5:6]
                file.seek(-4, os.SEEK_END)
                assert file.read() == data[-4:]


def test_the_state_of_a_file_changes_with_it(tmp_path: Path, pipe: Callable[[str, bytes], str]) -> None:
    (tmp_path / "a").write_bytes(b"one")
    before = state_of(str(tmp_path / "a")), state_of(pipe("a", b"one"))
    assert before == (state_of(str(tmp_path / "a")), state_of("memory://sources/a"))
    os.utime(tmp_path / "a", ns=(1, 1))
    assert state_of(str(tmp_path / "a")) != before[0]
    assert state_of(pipe("a", b"two")) != before[1]


def test_a_place_that_says_nothing_of_a_file_is_refused(monkeypatch, pipe) -> None:
    """What is kept of its sound could be that of another file of the same name."""
    name = pipe("c", b"one")
    monkeypatch.setattr(fsspec.filesystem("memory"), "info", lambda path: {"name": path, "size": None})
    with pytest.raises(DataError, match=r"/c: its server says neither its size nor when it changed; copy it to "):
        state_of(name)
    with open_source(name) as file, pytest.raises(DataError, match=r"/c: its server does not say its size; copy it "):
        file.seek(-1, os.SEEK_END)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for name in (str(tmp_path / "none"), "memory://sources/none"):
        with pytest.raises(MissingDataError, match=r"none: no such file$"):
            state_of(name)
        with pytest.raises(MissingDataError, match=r"none: no such file$"):
            open_source(name).read()


def test_a_folder_and_a_pipe_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ""):
        with pytest.raises(DataError, match=f"^{tmp_path / name}: "):
            open_source(str(tmp_path / name))


def test_a_place_that_fails_is_asked_again_and_goes_on_where_it_was(monkeypatch, pipe) -> None:
    waits: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", waits.append)
    name, (filesystem, _) = pipe("b", b"x" * 3_000_000 + b"end"), fsspec.core.url_to_fs("memory://")
    given = type(filesystem)._open
    failing = [False, True, True]

    def opened(self, path, **options):
        if failing.pop():
            raise ConnectionError("it is busy")
        return given(self, path, **options)

    monkeypatch.setattr(type(filesystem), "_open", opened)
    with open_source(name) as file:
        assert file.read() == b"x" * 3_000_000 + b"end"
    assert waits == list(remote.WAITS[:2])
    failing[:] = [True] * 4
    with (
        open_source(name) as file,
        pytest.raises(DataError, match=r"/b: does not answer, tried 4 times: ConnectionError it"),
    ):
        file.read()
