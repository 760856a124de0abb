from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from soundbench_plugins.dataset.esc50 import ESC50

from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.errors import DataError, MissingDataError

HEADER = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
ROWS = [
    ["1-100-A-0.wav", "1", "0", "dog", "True", "100", "A"],
    ["2-200-A-2.wav", "2", "2", "pig", "False", "200", "A"],
    ["5-300-B-41.wav", "5", "41", "chainsaw", "True", "300", "B"],
]


def laid_out(root: Path, rows: Sequence[Sequence[str]] = ROWS, header: Sequence[str] = HEADER) -> Path:
    """The archive in miniature; the sounds are empty files."""
    (root / "meta").mkdir()
    (root / "audio").mkdir()
    with (root / "meta/esc50.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    for name, *_ in ROWS:
        (root / "audio" / name).touch()
    return root


def test_clips_are_the_metadatas_in_its_order(tmp_path: Path) -> None:
    clips = list(ESC50(root=laid_out(tmp_path)).clips())

    assert clips[0] == Clip(str(tmp_path / "audio/1-100-A-0.wav"), ("dog",), fold=1, group="100")
    assert [clip.labels for clip in clips] == [("dog",), ("pig",), ("chainsaw",)]


def test_esc10_is_ten_of_the_classes_by_target(tmp_path: Path) -> None:
    subset = ESC50(root=laid_out(tmp_path), subset="esc10")

    assert subset.classes == (
        *("dog", "rooster", "rain", "sea_waves", "crackling_fire"),
        *("crying_baby", "sneezing", "clock_tick", "helicopter", "chainsaw"),
    )
    assert [clip.labels for clip in subset.clips()] == [("dog",), ("chainsaw",)]


def test_all_fifty_classes_are_known_without_data() -> None:
    classes = ESC50(root=Path("nowhere")).classes

    assert len(set(classes)) == 50
    assert (classes[0], classes[19], classes[38], classes[49]) == ("dog", "thunderstorm", "clock_tick", "hand_saw")


def test_a_file_that_the_metadata_lists_and_is_not_there_is_named_and_counted(tmp_path: Path) -> None:
    root = laid_out(tmp_path)
    (root / "audio/2-200-A-2.wav").unlink()

    with pytest.raises(MissingDataError) as caught:
        list(ESC50(root=root).clips())

    assert str(caught.value) == (f"{root}/audio/2-200-A-2.wav: no such file; missing: 1 of the 3 clips in the metadata")
    assert len(list(ESC50(root=root, subset="esc10").clips())) == 2


def test_a_root_that_is_not_there_or_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as gone:
        list(ESC50(root=tmp_path / "gone").clips())
    with pytest.raises(MissingDataError) as other:
        list(ESC50(root=tmp_path).clips())

    assert (
        str(gone.value) == f"{tmp_path}/gone: no such folder; dataset.root must be the folder of ESC-50 (meta/, audio/)"
    )
    assert str(other.value) == f"{tmp_path}: not ESC-50: no meta/esc50.csv"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["x.wav", "6", "0", "dog", "True", "1", "A"], "fold 6; folds are 1 to 5"),
        (["x.wav", "1", "zero", "dog", "True", "1", "A"], "fold '1', target 'zero': not whole numbers"),
        (["x.wav", "1", "1", "dog", "True", "1", "A"], "category 'dog' with target 1, which ESC-50 does not have"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, row: list[str], message: str) -> None:
    root = laid_out(tmp_path, [ROWS[0], row])

    with pytest.raises(DataError) as caught:
        list(ESC50(root=root).clips())

    assert str(caught.value) == f"{root}/meta/esc50.csv, line 3: {message}"


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    root = laid_out(tmp_path, [row[:5] for row in ROWS], HEADER[:5])

    with pytest.raises(DataError) as caught:
        list(ESC50(root=root).clips())

    assert str(caught.value) == f"{root}/meta/esc50.csv, line 2: no column 'src_file'"


def test_the_real_esc10(data: Path) -> None:
    table = ClipTable.of(ESC50(root=data / "ESC-50", subset="esc10"))

    assert len(table) == 400
    assert Counter(table.folds) == dict.fromkeys(range(1, 6), 80)
    assert set(Counter(table.label_codes.tolist()).values()) == {40}
