from __future__ import annotations

import contextlib
import csv
import io
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
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


def test_a_list_of_numbers_needs_the_label_list(tmp_path: Path) -> None:
    path = write(tmp_path / "list.txt", "a.wav\t0\n")
    with pytest.raises(DataError, match=r"list of paths and class numbers, dataset\.labels must be the file"):
        ClipTable.of(Manifest(path=path))


def test_a_test_manifest_beside_makes_folds_and_keeps_those_of_the_first(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", "path,label,fold\na.wav,dog,\nb.wav,dog,dev\nc.wav,dog,0\n")
    test = write(tmp_path / "test.jsonl", '{"path": "d.wav", "label": "dog", "fold": 3}\n')

    assert [clip.fold for clip in Manifest(path=path, test=test).clips()] == ["train", "dev", 0, "test"]


BAD_CSV = {
    "a.wav,dog,,,,": None,
    ",dog,,,,": "no path",
    "a.wav,,,,,": "no label",
    "a.wav, ,,,,": "no label",
    "a.wav,dog,x,,,": "start must be seconds, at least 0, is 'x'",
    "a.wav,dog,-1,,,": "start must be seconds, at least 0, is '-1'",
    "a.wav,dog,,nan,,": "stop must be seconds, at least 0, is 'nan'",
    "a.wav,dog,2,1,,": "stop 1 is not after start 2",
    "a.wav,rock, paper,,,,": "7 cells under 6 columns; quote a text that holds the separator",
    "a.wav,dog": "2 cells under 6 columns",
    "a.wav,d\udce4g,,,,": "a label that is not UTF-8; save the table as UTF-8",
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
    '{"path": "a.wav", "label": "dog", "fold": 1.5}': "fold must be a whole number or a name, is '1.5'",
}


def test_every_bad_object_is_named_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "list.jsonl", "\n".join(BAD_JSON) + "\n")

    with pytest.raises(DataError) as caught:
        ClipTable.of(Manifest(path=path))

    assert str(caught.value).splitlines() == [
        f"{path}, line {line}: {reason}" for line, reason in enumerate(BAD_JSON.values(), start=1)
    ]


def test_objects_of_ever_new_keys_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    row = '{{"path": "a.wav", "label": "dog", "key {}": "a"}}\n'.format
    kept = Manifest(path=write(tmp_path / "few.jsonl", "".join(map(row, range(998)))))
    assert len(list(kept.clips())) == 998

    many = Manifest(path=write(tmp_path / "many.jsonl", "".join(map(row, range(1100)))))
    with pytest.raises(DataError, match=r"many\.jsonl, line 999: 1,001 different keys; at most 1000 are read$"):
        list(many.clips())


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n", "line 1: must have the columns path and label (or labels), has file, label"),
        ("a.wav\t0\n", "line 1: must have the columns path and label (or labels), has a.wav, 0"),
        ("path,label,gruop\n", "line 1: column 'gruop' is unknown; did you mean 'group'?"),
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


PLAIN = "path,label\na.wav,dog\nb.wav,cat\n"
FORMS: dict[str, tuple[str, bytes]] = {
    "tabs": ("x.tsv", PLAIN.replace(",", "\t").encode()),
    "tabs in a .csv": ("x.csv", PLAIN.replace(",", "\t").encode()),
    "tabs in a .txt": ("x.txt", PLAIN.replace(",", "\t").encode()),
    "semicolons": ("x.csv", PLAIN.replace(",", ";").encode()),
    "semicolons, as Excel": ("x.csv", ("sep=;\r\n" + PLAIN.replace(",", ";")).encode()),
    "bars": ("x.csv", PLAIN.replace(",", "|").encode()),
    "UTF-16": ("x.csv", PLAIN.encode("utf-16")),
    "UTF-16, the other end first": ("x.csv", b"\xfe\xff" + PLAIN.encode("utf-16-be")),
    "UTF-16 with tabs, as Excel": ("x.txt", PLAIN.replace(",", "\t").replace("\n", "\r\n").encode("utf-16")),
    "UTF-32": ("x.csv", PLAIN.encode("utf-32")),
    "UTF-8 with its mark": ("x.csv", PLAIN.encode("utf-8-sig")),
    "old line ends": ("x.csv", PLAIN.replace("\n", "\r").encode()),
    "case": ("x.csv", PLAIN.replace("path,label", "Path,LABEL").encode()),
    "blank lines": ("x.csv", b"\n\npath,label\n\na.wav,dog\n  \n,\nb.wav,cat\n\n"),
    "spaces": ("x.csv", b" path , label\n a.wav , dog \nb.wav,cat  \n"),
    "backslashes": ("x.csv", b"path,label\n.\\a.wav,dog\n.\\b.wav,cat\n"),
    "an index": ("x.csv", b",path,label\n0,a.wav,dog\n1,b.wav,cat\n"),
    "an index, as pandas": ("x.csv", b"Unnamed: 0,path,label\n0,a.wav,dog\n1,b.wav,cat\n"),
    "an empty column": ("x.csv", b"path,label,\na.wav,dog,\nb.wav,cat,\n"),
    "quotes": ("x.csv", b'"path","label"\n"a.wav","dog"\n"b.wav","cat"\n'),
    "another order": ("x.csv", b"label,path\ndog,a.wav\ncat,b.wav\n"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_read_where_its_meaning_is_plain(tmp_path: Path, form: str) -> None:
    name, data = FORMS[form]
    for sound in ("a.wav", "b.wav"):
        write(tmp_path / sound, "")
    clips = list(Manifest(path=write(tmp_path / name, data)).clips())
    found = [(Path(clip.path).resolve(), clip.labels, clip.extra) for clip in clips]
    assert found == [(tmp_path / "a.wav", ("dog",), {}), (tmp_path / "b.wav", ("cat",), {})]


REFUSED: dict[str, tuple[bytes, str]] = {
    "joined labels": (b'path,labels\na.wav,"dog,cat"\nb.wav,dog\nc.wav,cat\n', "line 2: labels 'dog,cat' are joined"),
    "joined by bars": (b"path,labels\na.wav,dog|cat\nb.wav,dog\nc.wav,cat\n", "line 2: labels 'dog|cat' are joined"),
    "UTF-16 without its mark": (PLAIN.encode("utf-16-le"), "line 1: a NUL character"),
    "half of UTF-16": (PLAIN.encode("utf-16")[:-1], "begins with the mark of UTF-16, but is none"),
    "a workbook": (b"PK\x03\x04rest", "is a workbook or an archive, not text; save it as CSV"),
    "compressed": (b"\x1f\x8brest", "is compressed, not text"),
    "sound": (b"RIFF\x24\0\0\0WAVEfmt ", "line 1: a NUL character"),
    "one long line": (b"x" * 3_000_000, "longer than 1,048,576 characters"),
    "a long row": (b"path,label\n" + b"x" * 3_000_000, "line 2: longer than 1,048,576 characters"),
    "a large cell": (b"path,label\n" + b"x" * 200_000 + b",dog\n", "line 2: field larger than field limit"),
    "columns": (b"path,label," + b",".join(b"%d" % n for n in range(9000)) + b"\n", "9,002 columns; at most 1000"),
    "a long text in a message": (
        b"path,label,start\na.wav,dog," + b"x" * 100_000 + b"\n",
        "start must be seconds, at least",
    ),
    "a long header": (b"pth," + b"x" * 100_000 + b"\n", "must have the columns path and label"),
    "a cell without a name": (b"path,label,\na.wav,dog,note\n", "the cell 'note' is under a column without a name"),
    "a fold of many digits": (b"path,label,fold\na.wav,dog," + b"9" * 5000 + b"\n", "fold must be a whole number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_tables_are_refused_with_the_cause(tmp_path: Path, case: str) -> None:
    data, message = REFUSED[case]
    path = write(tmp_path / "list.csv", data)
    with pytest.raises(DataError) as caught:
        ClipTable.of(Manifest(path=path, multilabel=True))
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_joined_labels_are_seen_with_a_label_list_too(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.txt", "dog\ncat\n")
    path = write(tmp_path / "list.csv", 'path,labels\na.wav,"dog, cat"\n')
    with pytest.raises(DataError, match="separate labels with ; or write a JSON list"):
        ClipTable.of(Manifest(path=path, labels=labels, multilabel=True))


def test_a_label_with_commas_of_its_own_is_one(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", 'path,labels\na.wav,"Vehicle horn, car horn, honking;Speech"\nb.wav,Honking\n')
    assert Manifest(path=path, multilabel=True).classes == ("Honking", "Speech", "Vehicle horn, car horn, honking")


def test_a_label_list_and_labels_in_two_unicode_forms_fit(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.txt", "caf\u00e9\nrain\n")
    path = write(tmp_path / "list.csv", "path,label\na.wav,cafe\u0301\nb.wav,rain\nc.wav,caf\u00e9\n")
    for manifest in (Manifest(path=path, labels=labels), Manifest(path=path)):
        assert manifest.classes == ("caf\u00e9", "rain")
        assert ClipTable.of(manifest).labels(0) == ("caf\u00e9",)


def test_other_columns_are_kept_and_may_be_the_group(tmp_path: Path) -> None:
    text = "path,label,site,recordist,state\na.wav,dog,north,Ann,Ohio\nb.wav,cat,,Bob,\nc.wav,cat,north,,\n"
    path = write(tmp_path / "list.csv", text)
    assert [clip.extra for clip in Manifest(path=path).clips()] == [
        {"site": "north", "recordist": "Ann", "state": "Ohio"},
        {"recordist": "Bob"},
        {"site": "north"},
    ]
    table = ClipTable.of(Manifest(path=path, group="site"))
    assert list(table.groups) == ["north", f"{tmp_path}/b.wav", "north"]
    lines = ['{"path": "a.wav", "label": "dog", "site": 4, "tags": ["x"], "none": null}', '{"path": "b", "label": "c"}']
    table = ClipTable.of(Manifest(path=write(tmp_path / "list.jsonl", "\n".join(lines)), group="site"))
    assert list(table.groups) == ["4", f"{tmp_path}/b"]
    assert table.clip(0).extra == {"site": "4", "tags": '["x"]'}


def test_a_column_named_number_is_a_column_like_any_other(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.txt", "cat\ndog\n")
    table = write(tmp_path / "list.csv", "path,label,number\na.wav,dog,0\n")
    lines = write(tmp_path / "list.jsonl", '{"path": "a.wav", "label": "dog", "number": 0}\n')

    for path in (table, lines):
        for options in ({}, {"labels": labels}):
            (clip,) = Manifest(path=path, **options).clips()
            assert (clip.labels, clip.extra) == (("dog",), {"number": "0"})


def test_a_group_that_is_no_column_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", "path,label,site\na.wav,dog,north\n")
    with pytest.raises(DataError, match=r"list\.csv: no column 'place', which dataset\.group names"):
        ClipTable.of(Manifest(path=path, group="place"))


@pytest.mark.parametrize("name", ["gruop", "groups", "lable", "sotp", "Fodl"])
def test_a_column_that_looks_like_a_misspelt_one_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "list.csv", f"path,label,{name}\na.wav,dog,x\n".replace(",label,lable", ",labels,lable"))
    with pytest.raises(DataError, match=f"column '{name}' is unknown; did you mean"):
        ClipTable.of(Manifest(path=path))


RAVEN = """Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tBegin File\tAnnotation
1\tWaveform 1\t1\t0.5\t1.25\t0\ta.wav\tdog
1\tSpectrogram 1\t1\t0.5\t1.25\t0\ta.wav\tdog
2\tWaveform 1\t1\t2\t3\t100\ta.wav\tcat
2\tSpectrogram 1\t1\t2\t3\t100\ta.wav\tcat
"""


def test_a_selection_table_of_raven(tmp_path: Path) -> None:
    path = write(tmp_path / "a.Table.1.selections.txt", RAVEN)
    assert [(clip.path, clip.labels, clip.start, clip.stop) for clip in Manifest(path=path).clips()] == [
        (f"{tmp_path}/a.wav", ("dog",), 0.5, 1.25),
        (f"{tmp_path}/a.wav", ("cat",), 2.0, 3.0),
    ]


def test_selections_of_several_files_need_their_place_in_each(tmp_path: Path) -> None:
    head = "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tSpecies"
    rows = ["1\t0.5\t1\ta.wav\tdog", "2\t60.5\t61\tb.wav\tcat"]
    path = write(tmp_path / "list.txt", "\n".join([head, *rows]) + "\n")
    with pytest.raises(DataError, match=r"line 3: .*add the column File Offset \(s\)"):
        ClipTable.of(Manifest(path=path))
    offsets = "\n".join(
        f"{row}\t{more}" for row, more in zip([head, *rows], ["File Offset (s)", 0.5, 0.25], strict=True)
    )
    clips = list(Manifest(path=write(tmp_path / "list.txt", offsets + "\n")).clips())
    assert [(clip.start, clip.stop) for clip in clips] == [(0.5, 1.0), (0.25, 0.75)]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("Begin Time (s)\tEnd Time (s)\tSpecies", "a selection table needs a column Begin File or Begin Path"),
        ("Begin Time (s)\tEnd Time (s)\tBegin File", "needs one column with the label: such as Annotation or Species"),
        ("Begin Time (s)\tEnd Time (s)\tBegin File\tType\tSpecies", "the label: has Species, Type; rename all but one"),
    ],
)
def test_a_selection_table_without_file_or_label_is_refused(tmp_path: Path, header: str, message: str) -> None:
    path = write(tmp_path / "list.txt", f"{header}\n1\t2\tx\ty\tz\n")
    with pytest.raises(DataError, match=message):
        ClipTable.of(Manifest(path=path))


def test_no_bytes_end_in_another_error_or_without_end(tmp_path: Path) -> None:
    """Manifests with bytes changed, dropped and doubled: each is read, or refused."""
    good = (b"path,label,start,stop,fold,site\n" + b"a.wav,dog,0,1.5,1,north\nb.wav,cat,,,train,\n" * 3, ".csv")
    forms = [good, (good[0].replace(b",", b"\t"), ".tsv"), (good[0].decode().encode("utf-16"), ".csv")]
    forms += [
        (RAVEN.encode(), ".txt"),
        (b'{"path": "a.wav", "labels": ["dog"], "start": 1e3, "x": [1]}\n' * 3, ".jsonl"),
    ]
    draws = np.random.default_rng(17)
    for number in range(400):
        data, suffix = forms[number % len(forms)]
        mutated = bytearray(data)
        for _ in range(int(draws.integers(1, 6))):
            place, act = int(draws.integers(len(mutated))), int(draws.integers(4))
            if act == 0:
                mutated[place] = int(draws.integers(256))
            elif act == 1:
                del mutated[place : place + int(draws.integers(1, 30))]
            elif act == 2:
                mutated[place:place] = mutated[place : place + 40] * int(draws.integers(1, 50))
            else:
                mutated[place:place] = bytes(draws.choice([0, 10, 13, 34, 44, 91, 123, 255], size=3).astype(np.uint8))
        path = write(tmp_path / f"x{suffix}", bytes(mutated) or b"\n")
        with contextlib.suppress(DataError):
            ClipTable.of(Manifest(path=path, multilabel=bool(number % 2)))


@pytest.mark.slow
@pytest.mark.parametrize(("listed", "most"), [(True, 5), (False, 400)])
def test_reading_takes_little_memory_for_a_row(tmp_path: Path, listed: bool, most: int) -> None:
    """With a list of classes none; else the path and a few numbers are kept, since the classes are found first."""
    rows = "".join(f"{number % 10}.wav,class {number % 3},{number},{number + 1}\n" for number in range(1000))
    labels = write(tmp_path / "labels.txt", "class 0\nclass 1\nclass 2\n") if listed else None

    def peak(times: int) -> int:
        path = write(tmp_path / "list.csv", "path,label,start,stop\n" + rows * times)
        tracemalloc.start()
        count = sum(1 for _ in Manifest(path=path, labels=labels).clips())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 1000 * times
        return peak

    peak(1)
    assert peak(20) < peak(1) + 19_000 * most


def test_a_manifest_is_read_once(tmp_path: Path) -> None:
    """What was read for the classes is what `clips` gives, whatever becomes of the file in between."""
    rows: list[dict[str, Any]] = [
        {"path": "a.wav", "label": "dog"},
        {"path": "a.wav", "labels": "cat; dog", "start": 1, "stop": 2.5, "fold": 1, "site": "north"},
        {"path": "/b c.wav", "labels": ["cat"], "fold": "1", "group": "g"},
        {"path": "狗.wav", "label": "狗叫", "fold": "dev", "site": "", "score": 0.5},
        {"path": "d.wav", "label": "dog", "start": 0.25, "site": "north", "note": "x"},
    ]
    path = write(tmp_path / "list.jsonl", "\n".join(map(json.dumps, rows)))
    labels = write(tmp_path / "labels.txt", "cat\ndog\n狗叫\n")
    streamed = list(Manifest(path=path, labels=labels, multilabel=True).clips())
    once = Manifest(path=path, multilabel=True)

    assert once.classes == ("cat", "dog", "狗叫")
    path.unlink()
    assert list(once.clips()) == list(once.clips()) == streamed
    assert [clip.stop for clip in streamed] == [None, 2.5, None, None, None]
    assert [clip.fold for clip in streamed] == [None, 1, 1, "dev", None]


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
