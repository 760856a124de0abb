from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from soundbench_plugins.dataset.manifest import Manifest

from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.data.sound_files import manifest_of
from soundbench.errors import DataError, MissingDataError

STRANGE = ["rock, paper", 'say "hi"', "two  words", "狗叫", "🐕", "a;b", "[x]", "=1+1"]


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def as_csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def test_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", "path,label,start,stop,fold,group\na.wav,dog,,,1,g\n/b.wav,cat,0.5,2,dev,\n")

    assert list(Manifest(path=path).clips()) == [
        Clip(f"{tmp_path}/a.wav", ("dog",), fold=1, group="g"),
        Clip("/b.wav", ("cat",), start=0.5, stop=2.0, fold="dev"),
    ]
    assert Manifest(path=path).classes == ("cat", "dog")


def test_jsonl(tmp_path: Path) -> None:
    rows = [
        {"path": "a.wav", "label": "dog", "fold": 1, "group": "g"},
        {"path": "/b.wav", "labels": ["cat"], "start": 0.5, "stop": 2, "fold": "dev", "group": None},
    ]
    path = write(tmp_path / "list.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n\n")

    assert list(Manifest(path=path).clips()) == [
        Clip(f"{tmp_path}/a.wav", ("dog",), fold=1, group="g"),
        Clip("/b.wav", ("cat",), start=0.5, stop=2.0, fold="dev"),
    ]


@pytest.mark.parametrize("value", ["dog; cat", '["dog", "cat"]', "dog;cat;dog"])
def test_several_labels_by_semicolon_or_as_a_json_list(tmp_path: Path, value: str) -> None:
    path = write(tmp_path / "list.csv", as_csv([["path", "labels"], ["a.wav", value]]))
    table = ClipTable.of(Manifest(path=path, multilabel=True))

    assert table.labels(0) == ("dog", "cat")
    assert table.multilabel


@pytest.mark.parametrize("label", STRANGE)
def test_one_label_is_taken_as_it_stands(tmp_path: Path, label: str) -> None:
    path = write(tmp_path / "list.csv", as_csv([["path", "label"], ["a.wav", label]]))
    lines = write(tmp_path / "list.jsonl", json.dumps({"path": "a.wav", "label": label}, ensure_ascii=False))

    for file in (path, lines):
        assert Manifest(path=file).classes == (label,)
        assert [clip.labels for clip in Manifest(path=file).clips()] == [(label,)]


def test_strange_labels_in_a_json_list(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", as_csv([["path", "labels"], ["a.wav", json.dumps(STRANGE)]]))

    assert next(iter(Manifest(path=path, multilabel=True).clips())).labels == tuple(STRANGE)


def test_a_byte_order_mark_and_carriage_returns_are_no_part_of_it(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", "\ufeffpath,label\r\na.wav,dog \r\n\r\n")

    assert list(Manifest(path=path).clips()) == [Clip(f"{tmp_path}/a.wav", ("dog",))]


def test_a_path_that_is_not_utf8_is_what_the_file_system_calls_it(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", b"path,label\nb\xe4r.wav,dog\n")

    assert next(iter(Manifest(path=path).clips())).path == f"{tmp_path}/b\udce4r.wav"


def test_the_label_list_gives_the_order_of_the_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", "path,label\na.wav,dog\n")
    labels = write(tmp_path / "labels.txt", "dog\ncat\n狗叫\n")

    assert Manifest(path=path, labels=labels).classes == ("dog", "cat", "狗叫")


def test_relative_paths_begin_at_the_manifest_or_at_the_root(tmp_path: Path) -> None:
    path = write(tmp_path / "lists/list.csv", "path,label\nx/a.wav,dog\n")

    assert next(iter(Manifest(path=path).clips())).path == f"{tmp_path}/lists/x/a.wav"
    assert next(iter(Manifest(path=path, root=Path("/sounds")).clips())).path == "/sounds/x/a.wav"


@pytest.fixture
def predecessor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lists as `macls` makes them: paths that begin at the folder it was called in."""
    write(tmp_path / "dataset/audio/a.wav", "")
    write(tmp_path / "dataset/label_list.txt", "dog bark\n狗叫\n")
    write(tmp_path / "dataset/train_list.txt", "dataset/audio/a.wav\t1\ndataset/audio/with\ttab.wav\t0\n")
    write(tmp_path / "dataset/test_list.txt", "dataset/audio/c.wav\t0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "dataset"


def test_lists_of_the_predecessor(predecessor: Path) -> None:
    manifest = Manifest(
        path=predecessor / "train_list.txt",
        labels=predecessor / "label_list.txt",
        test=predecessor / "test_list.txt",
    )

    assert manifest.classes == ("dog bark", "狗叫")
    assert list(manifest.clips()) == [
        Clip(f"{predecessor}/audio/a.wav", ("狗叫",), fold="train"),
        Clip(f"{predecessor}/audio/with\ttab.wav", ("dog bark",), fold="train"),
        Clip(f"{predecessor.parent}/dataset/audio/c.wav", ("dog bark",), fold="test"),
    ]


def test_a_list_of_the_predecessor_begins_at_its_own_folder_where_that_fits(tmp_path: Path) -> None:
    write(tmp_path / "audio/a.wav", "")
    labels = write(tmp_path / "labels.txt", "dog\n")
    path = write(tmp_path / "list.txt", "audio/a.wav\t0\n")

    assert [clip.path for clip in Manifest(path=path, labels=labels).clips()] == [f"{tmp_path}/audio/a.wav"]


def test_a_list_of_numbers_needs_the_label_list() -> None:
    message = "^labels must be the file of class names, since list.txt contains class numbers$"
    with pytest.raises(ValueError, match=message):
        Manifest(path=Path("list.txt"))


def test_a_test_manifest_beside_makes_folds_and_keeps_those_of_the_first(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", "path,label,fold\na.wav,dog,\nb.wav,dog,dev\nc.wav,dog,0\n")
    test = write(tmp_path / "test.jsonl", '{"path": "d.wav", "label": "dog", "fold": 3}\n')

    assert [clip.fold for clip in Manifest(path=path, test=test).clips()] == ["train", "dev", 0, "test"]


BAD_CSV = {
    "a.wav,dog,,,,": None,
    ",dog,,,,": "no path",
    "a.wav,,,,,": "no label",
    "a.wav, ,,,,": "an empty label",
    "a.wav,dog,x,,,": "start must be seconds, at least 0, is 'x'",
    "a.wav,dog,-1,,,": "start must be seconds, at least 0, is '-1'",
    "a.wav,dog,,nan,,": "stop must be seconds, at least 0, is 'nan'",
    "a.wav,dog,2,1,,": "stop 1 is not after start 2",
    "a.wav,rock, paper,,,,": "7 cells under 6 columns; quote a text that holds a comma",
    "a.wav,dog": "2 cells under 6 columns",
    "a.wav,d\udce4g,,,,": "a label that is not UTF-8; save the manifest as UTF-8",
}


def test_every_bad_row_is_named_by_its_line(tmp_path: Path) -> None:
    text = "\n".join(["path,label,start,stop,fold,group", *BAD_CSV])
    path = write(tmp_path / "list.csv", text.encode("utf-8", "surrogateescape"))

    with pytest.raises(DataError) as caught:
        ClipTable.of(Manifest(path=path))

    assert str(caught.value).splitlines() == [
        f"{path}, line {line}: {reason}" for line, reason in enumerate(BAD_CSV.values(), start=2) if reason
    ]


BAD_JSON = {
    "{": "not JSON: Expecting property name enclosed in double quotes: line 2 column 1 (char 2)",
    "[1]": "not a JSON object",
    '{"path": "a.wav", "lable": "dog"}': "key 'lable' is unknown; did you mean 'label'?",
    '{"path": "a.wav", "label": "dog", "labels": ["cat"]}': "both label and labels",
    '{"path": "a.wav", "label": 3}': "label must be text, is 3",
    '{"path": "a.wav", "labels": [3]}': "labels must be text, is [3]",
    '{"path": "a.wav", "labels": []}': "no label",
    '{"path": "a.wav", "labels": ["dog", "cat"]}': "2 labels, but multilabel is not set",
    '{"path": 3, "label": "dog"}': "path 3 is not a path",
    '{"path": "a.wav", "label": "dog", "fold": 1.5}': "fold must be a whole number or text, is 1.5",
}


def test_every_bad_object_is_named_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "list.jsonl", "\n".join(BAD_JSON) + "\n")

    with pytest.raises(DataError) as caught:
        ClipTable.of(Manifest(path=path))

    assert str(caught.value).splitlines() == [
        f"{path}, line {line}: {reason}" for line, reason in enumerate(BAD_JSON.values(), start=1)
    ]


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", "path,label\n" + "a.wav,\n" * 25)

    with pytest.raises(DataError) as caught:
        ClipTable.of(Manifest(path=path))

    assert len(str(caught.value).splitlines()) == 11
    assert str(caught.value).endswith(f"{path}: 15 more bad rows")


def test_bad_rows_of_a_list_of_numbers(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.txt", "dog\ncat\n")
    path = write(tmp_path / "list.txt", "a.wav\t0\nb.wav 1\nc.wav\t2\nd.wav\tdog\n\ne.wav\t-1\n\t1\n")

    with pytest.raises(DataError) as caught:
        ClipTable.of(Manifest(path=path, labels=labels))

    assert str(caught.value) == "\n".join(
        [
            f"{path}, line 2: no tab; a line must be a path, a tab and a class number",
            f"{path}, line 3: label '2' must be from 0 to 1, a line of the label list",
            f"{path}, line 4: label 'dog' must be from 0 to 1, a line of the label list",
            f"{path}, line 6: label '-1' must be from 0 to 1, a line of the label list",
            f"{path}, line 7: no path",
        ]
    )


def test_a_label_that_the_label_list_lacks_is_named_with_the_nearest(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.txt", "dog bark\ncat\n")
    path = write(tmp_path / "list.csv", "path,label\na.wav,dog barks\n")

    with pytest.raises(DataError) as caught:
        ClipTable.of(Manifest(path=path, labels=labels))

    assert str(caught.value) == (
        f"{path}, line 2: label 'dog barks' is not among the 2 of the label list; did you mean 'dog bark'?"
    )


KNOWN = "path, label, labels, start, stop, fold, group"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n", "line 1: must have the columns path and label (or labels), has file, label"),
        ("a.wav\t0\n", "line 1: must have the columns path and label (or labels), has a.wav\t0"),
        ("path,label,gruop\n", "line 1: column 'gruop' is unknown; did you mean 'group'?"),
        ("path,label,speaker\n", f"line 1: column 'speaker' is unknown; known: {KNOWN}"),
        ("path,label,path\n", "line 1: column 'path' appears twice"),
        ('path,label\na.wav,"dog\n', "line 2: unexpected end of data"),
        ("path,label\n\n", "no rows; each row must name a sound file and its label"),
        ("", "no rows; each row must name a sound file and its label"),
    ],
)
def test_manifests_that_cannot_be_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "list.csv", text)

    with pytest.raises(DataError) as caught:
        ClipTable.of(Manifest(path=path))

    assert str(caught.value) in (f"{path}, {message}", f"{path}: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog\n\ncat\n", ", line 2: an empty class name"),
        ("dog\ncat\ndog\n", ", line 3: class 'dog' appears twice"),
        ("\n", ": no class names in it"),
    ],
)
def test_label_lists_that_cannot_be_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path, labels = write(tmp_path / "list.csv", "path,label\na.wav,dog\n"), write(tmp_path / "labels.txt", text)

    with pytest.raises(DataError) as caught:
        ClipTable.of(Manifest(path=path, labels=labels))

    assert str(caught.value) == f"{labels}{message}"


def test_a_manifest_or_label_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as manifest:
        ClipTable.of(Manifest(path=tmp_path / "list.csv"))
    with pytest.raises(MissingDataError) as labels:
        ClipTable.of(Manifest(path=tmp_path / "list.csv", labels=tmp_path / "labels.txt"))

    assert str(manifest.value) == f"{tmp_path}/list.csv: no such file; it must be a manifest"
    assert str(labels.value) == f"{tmp_path}/labels.txt: no such file; it must be a label list"


def test_a_line_break_inside_a_quoted_cell_does_not_shift_the_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", 'path,label\n"a\nb.wav",dog\nc.wav,\n')

    with pytest.raises(DataError) as caught:
        ClipTable.of(Manifest(path=path))

    assert str(caught.value) == f"{path}, line 4: no label"


@pytest.mark.slow
def test_reading_takes_no_memory_for_its_rows(tmp_path: Path) -> None:
    rows = "".join(f"{number % 10}.wav,class {number % 3},{number},{number + 1}\n" for number in range(1000))

    def peak(times: int) -> int:
        path = write(tmp_path / "list.csv", "path,label,start,stop\n" + rows * times)
        tracemalloc.start()
        count = sum(1 for _ in Manifest(path=path).clips())
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 1000 * times
        return most

    peak(1)
    assert peak(20) < peak(1) + 100_000


def test_what_data_manifest_writes_is_read_back(tmp_path: Path) -> None:
    for label in ("rock, paper", 'say "hi"', "狗叫"):
        write(tmp_path / "sounds" / label / "tape 1" / "a.wav", "")
        write(tmp_path / "sounds" / label / "b.wav", "")
    path = write(tmp_path / "lists/mine.csv", manifest_of(tmp_path / "sounds", tmp_path / "lists"))
    table = ClipTable.of(Manifest(path=path))

    assert table.classes == ("rock, paper", 'say "hi"', "狗叫")
    assert all(Path(name).is_file() for name in table.paths.names)
    assert {table.clip(row).group for row in range(len(table)) if "tape" in str(table.paths[row])} == {
        f"{label}/tape 1" for label in table.classes
    }
