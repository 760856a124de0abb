from __future__ import annotations

from pathlib import Path

import pytest
from soundbench_plugins.dataset.dialects_3dspeaker import Dialects3DSpeaker

from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.data.splits import split
from soundbench.errors import DataError, MissingDataError
from soundbench.recipe import Split

SOUNDS = (
    "train/3D_SPK_00001/3D_SPK_00001_001_Device01_Distance00_Dialect00.wav",
    "train/3D_SPK_00001/3D_SPK_00001_001_Device05_Distance04_Dialect00.wav",
    "train/3D_SPK_00001/3D_SPK_00001_017_Device01_Distance00_Dialect13.wav",
    "train/3D_SPK_04213/3D_SPK_04213_002_Device07_Distance09_Dialect02.wav",
    "test/3D_SPK_06154/3D_SPK_06154_001_Device03_Distance00_Dialect00.wav",
    "test/3D_SPK_06154/3D_SPK_06154_001_Device06_Distance00_Dialect00.wav",
)


def laid_out(root: Path) -> Path:
    """The archives in miniature, with the authors' lists."""
    for name in SOUNDS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "files").mkdir()
    for fold in ("train", "test"):
        names = [name for name in SOUNDS if name.startswith(fold) and "Device01" not in name]
        (root / f"files/lid_{fold}_wav.scp").write_text("".join(f"{Path(name).stem} {name}\n" for name in names))
    return root


def test_folders_are_folds_and_names_say_dialect_and_speaker(tmp_path: Path) -> None:
    clips = list(Dialects3DSpeaker(root=laid_out(tmp_path)).clips())

    assert len(clips) == len(SOUNDS)
    assert clips[2] == Clip(str(tmp_path / SOUNDS[2]), ("northern-mandarin",), fold="train", group="3D_SPK_00001")
    assert clips[3].labels == ("wu",)
    assert [clip.fold for clip in clips] == ["train"] * 4 + ["test"] * 2


def test_the_authors_lists_take_a_part(tmp_path: Path) -> None:
    root = laid_out(tmp_path)
    clips = list(Dialects3DSpeaker(root=root, lists=root / "files").clips())
    assert [clip.path for clip in clips] == [str(root / SOUNDS[place]) for place in (1, 3, 4, 5)]


def test_the_fourteen_classes_are_known_without_data_by_their_numbers() -> None:
    classes = Dialects3DSpeaker(root=Path("nowhere")).classes
    assert (len(classes), classes[0], classes[7], classes[13]) == (14, "standard-mandarin", "yue", "northern-mandarin")


def test_no_speaker_crosses_and_validation_takes_whole_speakers(tmp_path: Path) -> None:
    table = ClipTable.of(Dialects3DSpeaker(root=laid_out(tmp_path)))
    found = split(table, Split(["test"], 0.0, "refuse"))
    assert found.counts() == {"train": 4, "validation": 0, "test": 2, "purged": 0}


def message(root: Path, lists: Path | None = None) -> str:
    with pytest.raises((MissingDataError, DataError)) as caught:
        list(Dialects3DSpeaker(root=root, lists=lists).clips())
    return str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert message(tmp_path / "gone") == (
        f"{tmp_path}/gone: no such folder; dataset.root must be the folder of 3D-Speaker (train/, test/)"
    )
    assert message(tmp_path) == f"{tmp_path}: not 3D-Speaker: no train/"
    root = laid_out(tmp_path)
    assert (
        message(root, root)
        == f"{root}/lid_train_wav.scp: no such file; dataset.lists must be the folder that contains it"
    )
    (root / SOUNDS[3]).unlink()
    assert message(root, root / "files") == (f"{root / SOUNDS[3]}: no such file; lid_train_wav.scp names it in line 2")


@pytest.mark.parametrize("name", ["1.wav", "3D_SPK_00001_002_Device01_Distance00_Dialect14.wav", "3D_SPK_00001.wav"])
def test_a_name_that_says_no_dialect_is_refused(tmp_path: Path, name: str) -> None:
    root = laid_out(tmp_path)
    (root / "train/3D_SPK_00001" / name).touch()
    pattern = "3D_SPK_00001/3D_SPK_00001_001_..._Dialect00.wav"
    assert message(root) == f"{root}/train/3D_SPK_00001/{name}: not a file name of 3D-Speaker, such as {pattern}"


def test_a_list_that_cannot_be_is_refused(tmp_path: Path) -> None:
    root = laid_out(tmp_path)
    (root / "files/lid_train_wav.scp").write_text("3D_SPK_00001_001\n")
    assert message(root, root / "files") == f"{root}/files/lid_train_wav.scp, line 1: must be a key and a path"
