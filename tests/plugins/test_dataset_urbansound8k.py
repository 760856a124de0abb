from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from soundbench_plugins.dataset.urbansound8k import UrbanSound8K

from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.errors import DataError, MissingDataError

HEADER = ["slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"]
ROWS = [
    ["100-3-0-0.wav", "100", "0.0", "0.3", "1", "1", "3", "dog_bark"],
    ["100-3-0-1.wav", "100", "1.0", "1.3", "1", "1", "3", "dog_bark"],
    ["200-6-0-0.wav", "200", "0.0", "0.3", "1", "2", "6", "gun_shot"],
    ["300-1-0-0.wav", "300", "0.0", "0.3", "1", "10", "1", "car_horn"],
]


def laid_out(root: Path, rows: Sequence[Sequence[str]] = ROWS, header: Sequence[str] = HEADER) -> Path:
    """The archive in miniature; the sounds are empty files, which a listing does not mind."""
    (root / "metadata").mkdir()
    with (root / "metadata/UrbanSound8K.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    for name, _, _, _, _, fold, *_ in ROWS:
        (root / f"audio/fold{fold}").mkdir(parents=True, exist_ok=True)
        (root / f"audio/fold{fold}" / name).touch()
    return root


def test_clips_are_the_metadatas_in_its_order(tmp_path: Path) -> None:
    clips = list(UrbanSound8K(root=laid_out(tmp_path)).clips())

    assert clips[0] == Clip(
        str(tmp_path / "audio/fold1/100-3-0-0.wav"), ("dog_bark",), start=0.0, stop=None, fold=1, group="100"
    )
    assert [clip.fold for clip in clips] == [1, 1, 2, 10]


def test_classes_are_known_without_data_by_their_ids() -> None:
    classes = UrbanSound8K(root=Path("nowhere")).classes

    assert (classes[0], classes[3], classes[9], len(classes)) == ("air_conditioner", "dog_bark", "street_music", 10)


def test_only_chosen_folds_are_used_and_looked_for(tmp_path: Path) -> None:
    root = laid_out(tmp_path)
    (root / "audio/fold2/200-6-0-0.wav").unlink()

    assert [clip.fold for clip in UrbanSound8K(root=root, folds=[10, 1]).clips()] == [1, 1, 10]


def test_a_file_that_the_metadata_lists_and_is_not_there_is_named_and_counted(tmp_path: Path) -> None:
    root = laid_out(tmp_path)
    (root / "audio/fold1/100-3-0-1.wav").unlink()
    (root / "audio/fold2/200-6-0-0.wav").unlink()

    with pytest.raises(MissingDataError) as caught:
        list(UrbanSound8K(root=root, folds=[1, 2]).clips())

    assert str(caught.value) == (
        f"{root}/audio/fold1/100-3-0-1.wav: no such file; missing: 2 of the 3 clips in the metadata in folds 1, 2"
    )
    assert caught.value.exit_code == 2


def test_a_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as caught:
        list(UrbanSound8K(root=tmp_path / "gone").clips())

    assert str(caught.value) == (
        f"{tmp_path}/gone: no such folder; dataset.root must be the folder of UrbanSound8K (metadata/, audio/)"
    )


def test_a_folder_of_something_else_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as caught:
        list(UrbanSound8K(root=tmp_path).clips())

    assert str(caught.value) == f"{tmp_path}: not UrbanSound8K: no metadata/UrbanSound8K.csv"


@pytest.mark.parametrize("folds", [[11], [0, 1], []])
def test_unknown_folds_are_refused(folds: list[int]) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'folds must be some of 1 to 10, is {folds}')}$"):
        UrbanSound8K(folds=folds)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["x.wav", "1", "0", "1", "1", "11", "3", "dog_bark"], "fold 11; folds are 1 to 10"),
        (["x.wav", "1", "0", "1", "1", "one", "3", "dog_bark"], "fold 'one', classID '3': not whole numbers"),
        (["x.wav", "1", "0", "1", "1", "1"], "fold '1', classID None: not whole numbers"),
        (
            ["x.wav", "1", "0", "1", "1", "1", "4", "dog_bark"],
            "class 'dog_bark' with classID 4, which UrbanSound8K does not have",
        ),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, row: list[str], message: str) -> None:
    root = laid_out(tmp_path, [ROWS[0], row])

    with pytest.raises(DataError) as caught:
        list(UrbanSound8K(root=root).clips())

    assert str(caught.value) == f"{root}/metadata/UrbanSound8K.csv, line 3: {message}"


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    root = laid_out(tmp_path, [row[:1] + row[2:] for row in ROWS], HEADER[:1] + HEADER[2:])

    with pytest.raises(DataError) as caught:
        list(UrbanSound8K(root=root).clips())

    assert str(caught.value) == f"{root}/metadata/UrbanSound8K.csv, line 2: no column 'fsID'"


def test_the_real_set(data: Path) -> None:
    table = ClipTable.of(UrbanSound8K(root=data / "UrbanSound8K", folds=[1, 2]))

    assert len(table) == 1761
    assert table.folds_in_order() == [1, 2]
    assert all(Path(path).is_file() for path in table.paths.names)
