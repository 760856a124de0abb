from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from soundbench_plugins.dataset.speech_commands import SpeechCommands

from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.data.splits import split
from soundbench.errors import DataError, MissingDataError, RecipeError
from soundbench.recipe import Split

LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
SPEAKERS = ("2aa787cf", "8b775397", "0a7c2a8d", "94de6a6a", "060cd039", "3bfd30e6")


def drawn(speaker: str) -> str:
    """The rule that the official lists were drawn by, from the set's README: a tenth each, by a hash of the speaker."""
    most = 2**27 - 1
    share = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (most + 1) * 100 / most
    return "validation" if share < 10 else "test" if share < 20 else "train"


def laid_out(root: Path) -> Path:
    """The archive in miniature: two words of each speaker's, listed by the official rule."""
    named: dict[str, list[str]] = {"validation": [], "test": [], "train": []}
    for place, word in enumerate(SpeechCommands.classes):
        (root / word).mkdir()
        for speaker in (SPEAKERS[place % 6], SPEAKERS[(place + 1) % 6]):
            for take in range(2):
                (root / word / f"{speaker}_nohash_{take}.wav").touch()
                named[drawn(speaker)].append(f"{word}/{speaker}_nohash_{take}.wav\n")
    for fold, name in LISTS.items():
        (root / name).write_text("".join(named[fold]))
    (root / "_background_noise_").mkdir()
    (root / "_background_noise_/white_noise.wav").touch()
    (root / "LICENSE").touch()
    return root


def test_the_words_are_the_classes_and_the_lists_the_folds(tmp_path: Path) -> None:
    clips = list(SpeechCommands(root=laid_out(tmp_path)).clips())

    assert len(clips) == 35 * 4
    assert clips[0] == Clip(
        str(tmp_path / "backward/2aa787cf_nohash_0.wav"), ("backward",), fold="test", group="2aa787cf"
    )
    assert {clip.fold for clip in clips} == {"train", "validation", "test"}
    assert not [clip for clip in clips if "_background_noise_" in clip.path]


def test_real_speakers_are_where_the_published_lists_have_them() -> None:
    assert [drawn(name) for name in SPEAKERS] == ["test", "validation", "train", "test", "validation", "train"]


def test_no_speaker_crosses_the_official_lists_so_nothing_is_purged(tmp_path: Path) -> None:
    table = ClipTable.of(SpeechCommands(root=laid_out(tmp_path)))
    found = split(table, Split(["test"], ["validation"], "refuse"))

    assert found.crossing_groups == 0
    assert found.counts()["purged"] == 0
    assert min(found.counts()[part] for part in ("train", "validation", "test")) > 0


def test_a_speaker_whom_a_changed_list_tears_apart_is_purged_from_training(tmp_path: Path) -> None:
    root = laid_out(tmp_path)
    with (root / "testing_list.txt").open("a") as file:
        file.write("bird/0a7c2a8d_nohash_0.wav\n")
    table = ClipTable.of(SpeechCommands(root=root))

    found = split(table, Split(["test"], ["validation"], "purge"))
    assert found.crossing_names == ("0a7c2a8d",)
    assert found.counts()["purged"] > 0
    with pytest.raises(RecipeError, match="0a7c2a8d"):
        split(table, Split(["test"], ["validation"], "refuse"))


def message(root: Path) -> str:
    with pytest.raises(MissingDataError) as caught:
        list(SpeechCommands(root=root).clips())
    return str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert message(tmp_path / "gone") == (
        f"{tmp_path}/gone: no such folder; dataset.root must be the folder of Speech Commands (bed/, bird/, ...)"
    )
    assert message(tmp_path) == f"{tmp_path}: not Speech Commands: no validation_list.txt"


def test_a_sound_that_a_list_names_and_is_not_there_is_named(tmp_path: Path) -> None:
    root = laid_out(tmp_path)
    (root / "bed/8b775397_nohash_0.wav").unlink()
    assert message(root) == (f"{root}/bed/8b775397_nohash_0.wav: no such file; missing files of the lists: 1")


def test_the_first_version_of_the_set_is_refused(tmp_path: Path) -> None:
    root = laid_out(tmp_path)
    for path in (root / "visual").iterdir():
        path.unlink()
    (root / "visual").rmdir()
    assert message(root) == f"{root}/visual: no sound files of this word; Speech Commands v2 has 35 words"


def test_a_sound_on_both_lists_is_refused(tmp_path: Path) -> None:
    root = laid_out(tmp_path)
    with (root / "testing_list.txt").open("a") as file:
        file.write("bed/8b775397_nohash_0.wav\n")
    with pytest.raises(DataError) as caught:
        list(SpeechCommands(root=root).clips())
    assert str(caught.value) == f"{root}/testing_list.txt: bed/8b775397_nohash_0.wav is also in validation_list.txt"
