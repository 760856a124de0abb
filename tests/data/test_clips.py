from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable, class_names, fingerprint, similar_names
from soundbench.errors import DataError


class Listed:
    """A dataset of the clips that it is given."""

    def __init__(self, classes: Sequence[str], clips: Sequence[Clip], multilabel: bool = False) -> None:
        self.classes, self.given, self.multilabel = classes, clips, multilabel

    def clips(self) -> Iterator[Clip]:
        yield from self.given


CLIPS = [
    Clip("b.wav", ("cat",), start=1.5, stop=2.0, fold=2, group="g"),
    Clip("a.wav", ("dog", "cat"), fold="x"),
    Clip("b.wav", ("dog",), start=2.0, group="g"),
]


@pytest.fixture
def table() -> ClipTable:
    return ClipTable.of(Listed(["dog", "cat"], CLIPS, multilabel=True))


def test_every_clip_comes_back_as_the_dataset_gave_it(table: ClipTable) -> None:
    groups = ["g", "a.wav", "g"]

    expected = [
        Clip(c.path, tuple(c.labels), c.start, c.stop, c.fold, group) for c, group in zip(CLIPS, groups, strict=True)
    ]

    assert [table.clip(row) for row in range(len(table))] == expected


def test_columns_hold_each_text_once_and_read_like_sequences(table: ClipTable) -> None:
    assert table.paths.names == ("b.wav", "a.wav")
    assert list(table.paths) == ["b.wav", "a.wav", "b.wav"]
    assert list(table.folds) == [2, "x", None]
    assert table.group_codes.tolist() == [0, 1, 0]
    assert table.group_codes.dtype == np.int32


def test_a_clip_without_group_belongs_to_the_group_of_its_file() -> None:
    clips = [Clip("a.wav", ("dog",)), Clip("a.wav", ("dog",), start=3.0), Clip("b.wav", ("dog",))]

    assert ClipTable.of(Listed(["dog"], clips)).group_codes.tolist() == [0, 0, 1]


def test_targets_are_one_for_each_label(table: ClipTable) -> None:
    assert table.targets([2, 1, 1]).tolist() == [[1, 0], [1, 1], [1, 1]]
    assert table.targets([]).shape == (0, 2)
    assert table.targets([0]).dtype == np.float32
    assert table.labels(1) == ("dog", "cat")
    assert table.label_codes.tolist() == [1, 0, 0]


def test_classes_are_counted_among_the_rows_that_are_asked_for(table: ClipTable) -> None:
    assert table.class_counts(np.array([1, 2])).tolist() == [2, 1]
    assert table.class_counts(np.array([0])).tolist() == [0, 1]
    assert table.class_counts(np.array([], dtype=np.int64)).tolist() == [0, 0]


def test_counting_classes_takes_no_target_of_every_clip() -> None:
    many = ClipTable.of(Listed([str(code) for code in range(500)], [Clip("a", (str(n % 500),)) for n in range(5000)]))
    tracemalloc.start()
    try:
        counts = many.class_counts(np.arange(5000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert counts.tolist() == [10] * 500
    assert peak < 50 * 5000  # float32 targets take 2000 bytes a clip


def test_folds_come_in_natural_order_numbers_first() -> None:
    folds = ["fold10", 10, "fold2", 2, None, "a", 1]
    clips = [Clip(f"{number}.wav", ("dog",), fold=fold) for number, fold in enumerate(folds)]

    assert ClipTable.of(Listed(["dog"], clips)).folds_in_order() == [1, 2, 10, "a", "fold2", "fold10"]


def test_labels_in_any_script_are_kept_as_they_are() -> None:
    names = ["rock, paper", 'say "hi"', "狗叫", "🐕 bark", " spaced out"]
    table = ClipTable.of(Listed(names, [Clip(f"{name}.wav", (name,)) for name in names]))

    assert table.classes == tuple(names)
    assert [table.labels(row) for row in range(5)] == [(name,) for name in names]


@pytest.mark.parametrize(
    ("classes", "clips", "message"),
    [
        ([], [], "the dataset has no classes"),
        (["dog", "cat", "dog"], [], "the dataset names the class 'dog' twice"),
        (["dog"], [], "the dataset has no clips"),
        (["dog"], [Clip("a.wav", ("cow",))], "a.wav: label 'cow' is not one of the 1 classes of the dataset"),
        (["dog"], [Clip("a.wav", ())], "a.wav: no label"),
        (["dog", "cat"], [Clip("a.wav", ("dog", "cat"))], "a.wav: 2 labels, but the dataset is not multilabel"),
        (["dog"], [Clip("a.wav", ("dog",), start=2.0, stop=1.0)], "a.wav: invalid clip from 2 s to 1 s"),
        (["dog"], [Clip("a.wav", ("dog",), start=-1.0)], "a.wav: invalid clip from -1 s to the end"),
        (["dog"], [Clip("a.wav", ("dog",), start=float("nan"))], "a.wav: invalid clip from nan s to the end"),
    ],
)
def test_clips_that_cannot_be_are_refused(classes: list[str], clips: list[Clip], message: str) -> None:
    with pytest.raises(DataError) as caught:
        ClipTable.of(Listed(classes, clips))

    assert str(caught.value) == message


def test_the_same_label_twice_is_one_label() -> None:
    assert ClipTable.of(Listed(["dog"], [Clip("a.wav", ("dog", "dog"))])).labels(0) == ("dog",)


def test_memory_grows_by_columns_not_by_objects() -> None:
    class Repeated:
        classes = ("a", "b")
        multilabel = False

        def clips(self) -> Iterator[Clip]:
            for number in range(100_000):
                yield Clip(f"{number % 100}.wav", ("a",), start=float(number))

    tracemalloc.start()
    table = ClipTable.of(Repeated())
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(table) == 100_000
    assert kept < 60 * len(table)  # an object a row alone would take some 100 bytes and more
    assert sys.getsizeof(table.paths.names) < 10_000


# One form of names, one spelling of paths -----------------------------------------------------------------------------

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_names_of_one_class_in_two_forms_are_one_class() -> None:
    clips = [Clip("a", (COMPOSED,)), Clip("b", (DECOMPOSED,)), Clip("c", ("rain",))]
    for classes in ([DECOMPOSED, "rain"], [COMPOSED, "rain"], [DECOMPOSED, "rain", COMPOSED]):
        listed = Listed(classes, clips)
        table = ClipTable.of(listed)
        assert table.classes == class_names(listed) == (COMPOSED, "rain")
        assert [table.labels(row) for row in range(3)] == [(COMPOSED,), (COMPOSED,), ("rain",)]


def test_two_forms_of_one_label_are_one_label() -> None:
    table = ClipTable.of(Listed([COMPOSED], [Clip("a", (COMPOSED, DECOMPOSED))]))
    assert table.labels(0) == (COMPOSED,)


def test_names_that_differ_in_case_or_spaces_alone_are_found() -> None:
    assert similar_names(["Dog", "cat", "dog", "rain  drop", "Rain drop", "stra\u00dfe", "STRASSE"]) == [
        ("Dog", "dog"),
        ("rain  drop", "Rain drop"),
        ("stra\u00dfe", "STRASSE"),
    ]


def test_the_spellings_of_a_path_are_one_file_and_one_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.wav").touch()
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "y.wav").symlink_to("a/x.wav")
    (tmp_path / "z.wav").hardlink_to("a/x.wav")
    spellings = ["a/x.wav", "./a/x.wav", "a/../a/x.wav", f"{tmp_path}/a/x.wav", "a//x.wav", "b/x.wav", "y.wav", "z.wav"]
    for first in range(len(spellings)):
        turned = [*spellings[first:], *spellings[:first]]
        table = ClipTable.of(Listed(["dog"], [Clip(path, ("dog",)) for path in turned]))
        assert table.paths.names == table.groups.names == (turned[0],)


def test_files_that_are_not_there_are_one_by_their_spelling_too() -> None:
    table = ClipTable.of(Listed(["dog"], [Clip(path, ("dog",)) for path in ("a/../a/x.wav", "a/x.wav", "b/x.wav")]))
    assert table.paths.names == ("a/../a/x.wav", "b/x.wav")


def test_names_that_a_dataset_reads_itself_are_no_paths() -> None:
    class Reads(Listed):
        def read(self, clip: Clip) -> None: ...

    table = ClipTable.of(Reads(["dog"], [Clip(path, ("dog",)) for path in ("a/x", "./a/x", "a\0b")]))
    assert table.paths.names == ("a/x", "./a/x", "a\0b")


@pytest.mark.parametrize(("stored", "written"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_path_in_another_unicode_form_is_the_one_that_is_there(tmp_path: Path, stored: str, written: str) -> None:
    (tmp_path / stored / DECOMPOSED).mkdir(parents=True)
    path = tmp_path / stored / DECOMPOSED / f"{stored}.wav"
    path.touch()
    clips = [Clip(f"{tmp_path}/{written}/{DECOMPOSED}/{written}.wav", ("dog",)), Clip(str(path), ("dog",))]
    assert ClipTable.of(Listed(["dog"], clips)).paths.names == (str(path),)


@pytest.mark.parametrize("path", ["a\0b.wav", "", "\ud800.wav"])
def test_what_is_no_path_is_said(path: str) -> None:
    with pytest.raises(DataError, match="is not the path of a file"):
        ClipTable.of(Listed(["dog"], [Clip(path, ("dog",))]))


def test_further_values_are_columns_and_come_back() -> None:
    extra = [{"site": "north"}, {}, {"site": "south", "month": "5"}, {"site": "north"}]
    table = ClipTable.of(Listed(["dog"], [Clip(f"{n}.wav", ("dog",), extra=own) for n, own in enumerate(extra)]))
    assert [table.clip(row).extra for row in range(4)] == extra
    assert {name: list(column) for name, column in table.extra.items()} == {
        "site": ["north", None, "south", "north"],
        "month": [None, None, "5", None],
    }
    assert table.extra["site"].names == ("north", "south")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "list.txt"), "list.txt: cannot be read: Permission denied"),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            "a table of the dataset cannot be read: 'utf-8'",
        ),
    ],
)
def test_tables_that_a_dataset_cannot_read_are_one_line(error: Exception, message: str) -> None:
    class Fails(Listed):
        def clips(self) -> Iterator[Clip]:
            yield from self.given
            raise error

    with pytest.raises(DataError, match=message):
        ClipTable.of(Fails(["dog"], [Clip("a", ("dog",))]))


def test_groups_and_folds_in_two_unicode_forms_are_one() -> None:
    clips = [Clip(name, ("dog",), fold=name, group=name) for name in (COMPOSED, DECOMPOSED)]
    table = ClipTable.of(Listed(["dog"], clips))
    assert table.groups.names == table.folds.names == (COMPOSED,)


def test_a_fingerprint_is_the_same_where_paths_have_backslashes() -> None:
    ours, theirs = "/data/sounds/dog/1.wav", "D:\\sounds\\dog\\1.wav"
    tables = [ClipTable.of(Listed(["dog"], [Clip(path, ("dog",))])) for path in (ours, theirs, "/data/cat/1.wav")]
    here, there, other = (fingerprint(table, np.zeros(1, np.int8), np.ones(1, np.int64)) for table in tables)
    assert here == there != other
