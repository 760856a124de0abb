from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from soundbench_plugins.dataset.folder import Folder

from soundbench.audio import SUFFIXES
from soundbench.data.clips import ClipTable
from soundbench.errors import DataError, MissingDataError


def laid_out(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def names(root: Path) -> list[str]:
    return [Path(clip.path).relative_to(root).as_posix() for clip in Folder(root=root).clips()]


def test_classes_are_the_folders_sorted_and_sounds_lie_in_any_depth(tmp_path: Path) -> None:
    root = laid_out(
        tmp_path, "dog/b.wav", "dog/a.FLAC", "dog/deep/er/c.mp3", "Cat/1.ogg", "Cat/notes.txt", "readme.txt"
    )

    assert Folder(root=root).classes == ("Cat", "dog")
    assert names(root) == ["Cat/1.ogg", "dog/a.FLAC", "dog/b.wav", "dog/deep/er/c.mp3"]
    assert [clip.labels for clip in Folder(root=root).clips()] == [("Cat",), ("dog",), ("dog",), ("dog",)]


def test_what_begins_with_a_dot_is_left_out(tmp_path: Path) -> None:
    root = laid_out(tmp_path, "dog/a.wav", "dog/._a.wav", "dog/.cache/b.wav", ".git/c.wav")

    assert Folder(root=root).classes == ("dog",)
    assert names(root) == ["dog/a.wav"]


def test_class_names_in_any_script(tmp_path: Path) -> None:
    labels = ["rock, paper", 'say "hi"', "two  words", "狗叫", "🐕", "a;b"]
    root = laid_out(tmp_path, *(f"{label}/1.wav" for label in labels))
    table = ClipTable.of(Folder(root=root))

    assert set(table.classes) == set(labels)
    assert all(Path(str(table.paths[row])).parent.name == table.labels(row)[0] for row in range(len(table)))


def test_each_file_is_a_group_of_its_own(tmp_path: Path) -> None:
    table = ClipTable.of(Folder(root=laid_out(tmp_path, "dog/a.wav", "dog/b.wav")))

    assert len(table.groups.names) == 2


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = laid_out(tmp_path / "root", "dog/a.wav")
    laid_out(tmp_path / "elsewhere", "b.wav")
    os.symlink(tmp_path / "elsewhere", root / "dog/more")
    os.symlink(root, root / "dog/circle")

    assert names(root) == ["dog/a.wav", "dog/more/b.wav"]


@pytest.mark.parametrize(
    ("paths", "error", "message"),
    [
        ([], MissingDataError, "{root}: no such folder; dataset.root must be a folder of class folders"),
        (["notes.txt"], MissingDataError, "{root}: no class folders in it; it must contain one folder per class"),
        (
            ["b.wav", "a.wav", "dog/c.wav"],
            DataError,
            "{root}: 2 sound files directly in it belong to no class, such as a.wav; "
            "put each into the folder of its class",
        ),
        (
            ["fold1/a.wav", "fold2/b.wav", "fold10/c.wav"],
            DataError,
            "{root}: the folders in it (fold1, fold10, fold2, ...) are folds, not classes; "
            "use the dataset's own plugin, such as urbansound8k, or a manifest",
        ),
        (
            ["train/dog/a.wav", "Val/dog/b.wav", "test/dog/c.wav"],
            DataError,
            "{root}: the folders in it (Val, test, train) are parts of a split, not classes; list the files in a "
            "manifest with the columns path, label and fold",
        ),
        (
            ["dog/a.wav", "cat/notes.txt", "cow/.hidden.wav"],
            DataError,
            f"{{root}}: no sound file in 2 of 3 class folders: cat, cow; known: {', '.join(sorted(SUFFIXES))}",
        ),
    ],
)
def test_folders_that_cannot_be_are_refused(
    tmp_path: Path, paths: list[str], error: type[DataError], message: str
) -> None:
    root = laid_out(tmp_path / "root", *paths)

    with pytest.raises(error) as caught:
        ClipTable.of(Folder(root=root))

    assert type(caught.value) is error
    assert str(caught.value) == message.format(root=root)


@pytest.mark.usefixtures("bound")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    root = laid_out(tmp_path, "dog/a.wav")
    (root / "dog").chmod(0)
    try:
        with pytest.raises(DataError) as caught:
            list(Folder(root=root).clips())
    finally:
        (root / "dog").chmod(0o755)

    assert str(caught.value) == f"{root}/dog: cannot be read: Permission denied"


def test_the_real_esc10_as_first_published(data: Path) -> None:
    table = ClipTable.of(Folder(root=data / "ESC-10"))

    assert len(table) == 400
    assert table.classes[0] == "001 - Dog bark"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_order_of_classes_does_not_depend_on_the_unicode_form_of_the_file_system(tmp_path: Path, form: str) -> None:
    root = laid_out(
        tmp_path / "root", *(f"{unicodedata.normalize(form, name)}/a.wav" for name in ("cafz", "caf\u00e9"))
    )
    table = ClipTable.of(Folder(root=root))

    assert table.classes == ("cafz", "caf\u00e9")
    assert [Path(str(path)).is_file() for path in table.paths] == [True, True]


def test_folders_of_one_name_in_two_unicode_forms_are_one_class(tmp_path: Path) -> None:
    table = ClipTable.of(Folder(root=laid_out(tmp_path / "root", "caf\u00e9/a.wav", "cafe\u0301/b.wav", "rain/c.wav")))

    assert table.classes == ("caf\u00e9", "rain")
    assert table.class_counts(np.arange(3)).tolist() == [2, 1]
