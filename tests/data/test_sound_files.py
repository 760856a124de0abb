"""Paths, folders and globs become sound files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from soundbench.audio import SUFFIXES
from soundbench.data.sound_files import find_sounds
from soundbench.errors import DataError, MissingDataError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b/2.wav", "b/1.FLAC", "a/deep/er/3.ogg", "a/notes.txt", ".hidden/4.wav", "a/.5.wav"):
        (tmp_path / "sounds" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sounds" / name).touch()
    monkeypatch.chdir(tmp_path)
    return Path("sounds")


def test_a_folder_is_searched_in_any_depth_but_not_what_is_hidden(folder: Path) -> None:
    assert [str(path) for path in find_sounds(["sounds"])] == [
        "sounds/a/deep/er/3.ogg",
        "sounds/b/1.FLAC",
        "sounds/b/2.wav",
    ]


def test_files_and_globs_are_taken_in_order_and_once(folder: Path) -> None:
    assert [str(path) for path in find_sounds(["sounds/b/2.wav", "sounds/b/*", "sounds/a/notes.txt"])] == [
        "sounds/b/2.wav",
        "sounds/b/1.FLAC",
        "sounds/a/notes.txt",
    ]


def test_what_is_not_there_is_left_for_whoever_opens_it(folder: Path) -> None:
    assert find_sounds(["nope.wav", "sounds/*.mp3"]) == [Path("nope.wav"), Path("sounds/*.mp3")]


def test_links_are_followed_and_one_into_a_folder_above_ends_there(folder: Path) -> None:
    (folder / "c").symlink_to("b")
    (folder / "b" / "up").symlink_to("..")
    (folder / "b" / "broken.wav").symlink_to("nowhere.wav")
    assert [str(path) for path in find_sounds(["sounds"])] == [
        "sounds/a/deep/er/3.ogg",
        "sounds/b/1.FLAC",
        "sounds/b/2.wav",
        "sounds/b/broken.wav",
        "sounds/c/1.FLAC",
        "sounds/c/2.wav",
        "sounds/c/broken.wav",
    ]


def test_a_folder_without_a_sound_is_refused(folder: Path) -> None:
    (folder / "none").mkdir()
    with pytest.raises(MissingDataError) as caught:
        find_sounds(["sounds/none"])
    assert str(caught.value) == f"sounds/none: no sound file in this folder; known: {', '.join(sorted(SUFFIXES))}"


def test_a_folder_that_may_not_be_read_is_reported_and_not_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listdir = os.listdir

    def refuse(path: Path) -> list[str]:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(DataError) as caught:
        find_sounds(["sounds"])
    assert str(caught.value) == "sounds/a/deep: cannot be read: Permission denied"
