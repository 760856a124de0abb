"""Judgements as lines, read again by other readers."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from soundbench.errors import CallError
from soundbench.inference.formats import FORMATS, find
from soundbench.inference.formats.base import Count, Format, Row
from soundbench.inference.formats.csv import split_labels
from soundbench.inference.formats.summary import Counts

SCORES = {"a|b": 0.7, "tab\there": 0.6, '猫, "x"': 0.25}
EVENTS = [
    Row("a.wav", label, score, {label: score}, None, 0.25 * n, 3600.125)
    for n, (label, score) in enumerate(SCORES.items())
]


def written(form: Format, rows: Sequence[Row | Count]) -> str:
    return form.header() + "".join(form.lines(row, number) for number, row in enumerate(rows))


def test_audacity_reads_three_columns_of_tabs() -> None:
    """Audacity's manual: start, end and label in each line, tabs between them, seconds with a point."""
    lines = [line.split("\t") for line in written(find("audacity")("event"), EVENTS).splitlines()]
    assert [(float(start), float(end)) for start, end, _ in lines] == [(row.start, row.end) for row in EVENTS]
    assert [label for _, _, label in lines] == ["a|b", "tab here", '猫, "x"']


def test_raven_reads_a_table_of_tabs_with_its_own_columns() -> None:
    text = written(find("raven")("event", rate=16000), EVENTS)
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [row["Selection"] for row in rows] == ["1", "2", "3"]
    assert [(float(row["Begin Time (s)"]), float(row["End Time (s)"])) for row in rows] == [
        (row.start, row.end) for row in EVENTS
    ]
    assert [row["Label"] for row in rows] == ["a|b", "tab here", '猫, "x"']
    assert {(row["View"], row["Channel"], row["Low Freq (Hz)"], row["High Freq (Hz)"]) for row in rows} == {
        ("Spectrogram 1", "1", "0.0", "8000.0")
    }
    assert {(row["Begin File"], row["Begin Path"]) for row in rows} == {("a.wav", str(Path("a.wav").absolute()))}
    assert [row["File Offset (s)"] for row in rows] == [row["Begin Time (s)"] for row in rows]


def test_raven_numbers_each_selection_once_in_a_table_of_any_number_of_sounds() -> None:
    form = find("raven")("window", rate=16000)
    two = [Row(f"{name}.wav", "b", 0.7, {"b": 0.7, "a": 0.6}, SCORES, start, start + 1.0) for name, start in
           (("a", 0.0), ("a", 1.0), ("sub/b", 0.0))]  # fmt: skip

    def own(rows: list[Row]) -> str:
        text = ""
        for row in rows:
            text += form.lines(row, text.count("\n"))
        return text

    first, second = own(two[:2]), own(two[2:])
    assert [line.split("\t")[0] for line in (first + second).splitlines()] == ["1", "2", "3", "4", "1", "2"]
    table = form.header() + form.joined(first, 0) + form.joined(second, 4)
    rows = list(csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [row["Selection"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [row["Begin File"] for row in rows] == ["a.wav"] * 4 + ["b.wav"] * 2
    assert [row["Label"] for row in rows] == ["b", "a"] * 3


def test_dates_and_times_are_iso_8601_to_the_millisecond() -> None:
    began = datetime(2020, 3, 29, 1, 59, 59, 500000, timezone(timedelta(hours=1)))
    row = Row("a.wav", "b", 0.7, {"b": 0.7}, {"b": 0.7}, 0.25, 3.1234567)
    dated = Row("a.wav", "b", 0.7, {"b": 0.7}, {"b": 0.7}, 0.25, 3.1234567, began + timedelta(seconds=0.25),
                began + timedelta(seconds=3.1234567))  # fmt: skip
    local = Row("a.wav", "b", 0.7, {"b": 0.7}, {"b": 0.7}, None, None, datetime(2020, 4, 10, 16, 34, 56))
    wanted = ("2020-03-29T01:59:59.750+01:00", "2020-03-29T02:00:02.623+01:00")
    for name, columns in (("csv", ("begin_time", "end_time")), ("raven", ("Begin Date Time", "End Date Time"))):
        form = find(name)("window", rate=16000, times=True)
        found = csv.DictReader(io.StringIO(written(form, [dated, row])), delimiter="," if name == "csv" else "\t")
        assert [tuple(one[column] for column in columns) for one in found] == [wanted, ("", "")]
        assert not set(columns) & set(written(find(name)("window", rate=16000), [dated]).replace("\t", ",").split(","))
    form = find("jsonl")("window", times=True)
    values = [json.loads(line) for line in written(form, [dated, row]).splitlines()]
    assert [(one["begin_time"], one["end_time"]) for one in values] == [wanted, (None, None)]
    assert "begin_time" not in json.loads(find("jsonl")("window").lines(dated, 0))
    (clip,) = csv.DictReader(io.StringIO(written(find("csv")("clip", times=True), [local])))
    assert list(clip)[:4] == ["path", "begin_time", "end_time", "label"]
    assert (clip["begin_time"], clip["end_time"]) == ("2020-04-10T16:34:56.000", "")
    assert [name for name in FORMATS if find(name).dated] == ["csv", "jsonl", "parquet", "raven"]


@pytest.mark.parametrize(("name", "reader"), [("audacity", "aud-seq"), ("raven", "raven")])
def test_a_reader_of_annotations_finds_them_and_writes_them_alike(name: str, reader: str, tmp_path: Path) -> None:
    crowsetta = pytest.importorskip("crowsetta", reason="crowsetta is not installed (it needs pandas): not read by it")
    path, again = tmp_path / "labels.txt", tmp_path / "again.txt"
    path.write_text(written(find(name)("event", rate=16000, times=True), EVENTS), encoding="utf-8")
    options = {"annot_col": "Label"} if name == "raven" else {}
    read = crowsetta.formats.by_name(reader)
    for place in (path, again):
        labels = read.from_file(place, **options)
        if name == "raven":
            found = [(box.onset, box.offset, box.label, box.low_freq, box.high_freq) for box in labels.to_bbox()]
            wanted = [(row.start, row.end, " ".join(row.label.split()), 0.0, 8000.0) for row in EVENTS]
        else:
            found = list(zip(labels.start_times, labels.end_times, labels.labels, strict=True))
            wanted = [(row.start, row.end, " ".join(row.label.split())) for row in EVENTS]
        assert found == wanted
        labels.to_file(again)


def test_a_reader_of_annotations_finds_the_file_of_each_selection_of_many_sounds(tmp_path: Path) -> None:
    crowsetta = pytest.importorskip("crowsetta", reason="crowsetta is not installed (it needs pandas): not read by it")
    form = find("raven")("event", rate=16000)
    rows = [Row(f"{name}/day.wav", "dog", 0.7, {"dog": 0.7}, None, n, n + 1.5) for n, name in enumerate("aab")]
    sounds = ["".join(form.lines(row, n) for n, row in enumerate(own)) for own in (rows[:2], rows[2:])]
    form.pack(tmp_path / "results.txt", sounds)
    read = crowsetta.formats.by_name("raven").from_file(tmp_path / "results.txt", annot_col="Label")
    boxes = [(box.onset, box.offset, box.label) for box in read.to_bbox()]
    assert boxes == [(row.start, row.end, "dog") for row in rows]
    table = read.df
    assert list(table["Selection"]) == [1, 2, 3]
    assert list(table["Begin File"]) == ["day.wav"] * 3
    assert list(table["Begin Path"]) == [str(Path(row.path).absolute()) for row in rows]


def test_csv_and_json_hold_the_predictions() -> None:
    row = Row("d/ü,.wav", "a|b", 0.7, {"a|b": 0.7, "tab\there": 0.6}, SCORES, 0.5, 1.5)
    (told,) = csv.DictReader(io.StringIO(written(find("csv")("window", list(SCORES)), [row])))
    assert told == {
        "path": "d/ü,.wav",
        "start": "0.5",
        "end": "1.5",
        "label": "a|b",
        "score": "0.7",
        "labels": "a\\|b|tab\there",
        "a|b": "0.7",
        "tab\there": "0.6",
        '猫, "x"': "0.25",
    }
    assert json.loads(written(find("jsonl")("window"), [row])) == {
        "path": "d/ü,.wav",
        "start": 0.5,
        "end": 1.5,
        "label": "a|b",
        "score": 0.7,
        "labels": ["a|b", "tab\there"],
        "scores": SCORES,
    }
    assert json.loads(find("jsonl")("event").lines(EVENTS[0], 0)) == {
        "path": "a.wav", "start": 0.0, "end": 3600.125, "label": "a|b", "score": 0.7,
    }  # fmt: skip


def test_a_class_named_as_another_column_has_a_column_of_its_own() -> None:
    row = Row("a.wav", "label", 0.7, {"label": 0.7}, {"label": 0.7, "path": 0.3}, 0.5, 1.5)
    (found,) = csv.DictReader(io.StringIO(written(find("csv")("window", ["label", "path"]), [row])))
    assert (found["label"], found["score:label"], found["path"], found["score:path"]) == (
        "label",
        "0.7",
        "a.wav",
        "0.3",
    )


def test_labels_that_share_a_cell_are_found_again() -> None:
    labels = ["a|b", "back\\slash", "\\|", "x\ny", "plain"]
    row = Row("a.wav", "a|b", 0.7, dict.fromkeys(labels, 0.5), {}, 0.5, 1.5)
    (found,) = csv.DictReader(io.StringIO(written(find("csv")("window"), [row]), newline=""))
    assert split_labels(found["labels"]) == labels
    assert split_labels("") == []


# Counts ---------------------------------------------------------------------------------------------------------------


def test_counts_are_of_the_labels_of_rows_and_of_the_time_that_they_cover() -> None:
    """Windows of 1 s that begin every half second: what two share counts once."""
    began = datetime(2020, 4, 10, 16, 34, 56)
    counts = Counts()
    for start, labels in [(0.0, {"a": 0.5}), (0.5, {"a": 0.75, "b": 0.25}), (1.0, {}), (2.0, {"a": 0.25})]:
        counts.add(Row("a.wav", "a", 0.5, labels, {}, start, start + 1.0, began + timedelta(seconds=start)))
    assert counts.take("a.wav") == [
        Count("a.wav", "a", 3, 2.5, 0.75, 0.0, began),
        Count("a.wav", "b", 1, 1.0, 0.25, 0.5, began + timedelta(seconds=0.5)),
    ]
    assert counts.take("b.wav") == [Count("b.wav")]  # a sound in which nothing is found has a row too


COUNTS = [Count("ü.wav", "a, b", 3, 2.5, 0.75, 0.125), Count("b.wav")]


def test_counts_are_a_table_in_the_formats_that_have_a_place_for_them() -> None:
    columns = ["path", "label", "count", "seconds", "best_score", "first_start"]
    found = list(csv.reader(io.StringIO(written(find("csv")("event", summary=True), COUNTS))))
    assert found == [columns, ["ü.wav", "a, b", "3", "2.5", "0.75", "0.125"], ["b.wav", "", "0", "0", "", ""]]
    lines = [json.loads(line) for line in written(find("jsonl")("event", summary=True), COUNTS).splitlines()]
    assert [list(line) for line in lines] == [columns, columns]
    assert list(lines[0].values()) == ["ü.wav", "a, b", 3, 2.5, 0.75, 0.125]
    assert list(lines[1].values()) == ["b.wav", None, 0, 0.0, None, None]
    first, second = written(find("table")("event", summary=True), COUNTS).splitlines()
    assert first == "ü.wav\ta, b\t3 events, 2.50 s, best 0.7500, first at 0.12 s"
    assert second == "b.wav\tno event"
    dated = find("csv")("event", summary=True, times=True)
    assert next(csv.reader(io.StringIO(dated.header()))) == [*columns, "first_begin_time"]


def test_counts_are_refused_where_there_is_no_place_for_them_and_of_whole_clips() -> None:
    for name in ("audacity", "raven"):
        with pytest.raises(CallError, match=f"{name} labels are of a time: use --summary with another format"):
            find(name)("event", summary=True)
    with pytest.raises(CallError, match="--summary counts events or windows: use --per event or --per window"):
        find("csv")("clip", summary=True)


# R --------------------------------------------------------------------------------------------------------------------

READ_IN_R = """
table <- read.csv(commandArgs(TRUE)[1], check.names = FALSE, na.strings = "")
hex <- function(x) ifelse(is.na(x), "NA", sapply(as.character(x), function(one) paste(charToRaw(one), collapse = "")))
for (name in names(table)) cat(hex(name), class(table[[name]]), paste(hex(table[[name]]), collapse = ","), "\\n")
"""


def read_in_r(path: Path) -> dict[str, tuple[str, list[str | None]]]:
    """The columns of a CSV file as R reads them: the class and the values of each."""
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed (Debian: r-base-core)")
    line = ["Rscript", "--vanilla", "-e", READ_IN_R, str(path)]
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=os.environ | {"LC_ALL": "C.UTF-8"})
    found = {}
    for row in done.stdout.splitlines():
        name, kind, cells = row.split(" ")[:3]
        values = [None if cell == "NA" else bytes.fromhex(cell).decode() for cell in cells.split(",")]
        found[bytes.fromhex(name).decode()] = (kind, values)
    return found


def test_r_reads_each_column_with_its_name_its_type_and_what_is_unknown(tmp_path: Path) -> None:
    classes = ["dog bark", "猫", 'say "x"', "two\nlines", "cr\rhere", "NA", "#1", "a'b", "tab\there", "label", "TRUE"]
    began = datetime(2020, 4, 10, 16, 34, 56)
    rows = [
        Row(f"d, e/ü {n}.wav", label, 0.5, {label: 0.5} if n % 2 else {}, dict.fromkeys(classes, 0.125), 0.25 * n,
            0.25 * n + 1, began if n % 3 else None, began if n % 3 else None, label, not n % 2)
        for n, label in enumerate(classes)
    ]  # fmt: skip
    form = find("csv")("window", classes, 16000, True, True)
    form.pack(tmp_path / "r.csv", ["".join(form.lines(row, 0) for row in rows)])
    found = read_in_r(tmp_path / "r.csv")
    fixed = ["path", "start", "end", "begin_time", "end_time", "label", "score", "nearest", "rejected", "labels"]
    read = [label.replace("\r", "\n") for label in classes]  # as R reads every line break
    assert list(found) == [*fixed, *(f"score:{name}" if name == "label" else name for name in read)]
    assert all(re.fullmatch(r"[a-z][a-z_]*", name) for name in fixed)  # names that R needs no quotes for
    assert {name: kind for name, (kind, _) in found.items() if kind != "numeric"} == {
        "path": "character", "begin_time": "character", "end_time": "character", "label": "character",
        "nearest": "character", "rejected": "logical", "labels": "character",
    }  # fmt: skip
    assert found["path"][1] == [row.path for row in rows]
    assert found["label"][1] == read
    assert found["labels"][1] == [label if n % 2 else None for n, label in enumerate(read)]
    assert found["begin_time"][1] == ["2020-04-10T16:34:56.000" if n % 3 else None for n in range(len(rows))]
    assert [float(value or "nan") for value in found["start"][1]] == [row.start for row in rows]
    assert found["rejected"][1] == ["TRUE" if row.rejected else "FALSE" for row in rows]


def test_r_reads_counts(tmp_path: Path) -> None:
    form = find("csv")("event", summary=True)
    form.pack(tmp_path / "c.csv", ["".join(form.lines(row, 0) for row in COUNTS)])
    assert read_in_r(tmp_path / "c.csv") == {
        "path": ("character", ["ü.wav", "b.wav"]),
        "label": ("character", ["a, b", None]),
        "count": ("integer", ["3", "0"]),
        "seconds": ("numeric", ["2.5", "0"]),
        "best_score": ("numeric", ["0.75", None]),
        "first_start": ("numeric", ["0.125", None]),
    }


# ----------------------------------------------------------------------------------------------------------------------


def test_a_table_is_a_line_a_row() -> None:
    row = Row("a.wav", "dog", 0.75, {"dog": 0.75, "cat": 0.5}, SCORES)
    assert find("table")("clip").lines(row, 0) == "a.wav\tdog 0.7500\tcat 0.5000\n"
    assert find("table")("event").lines(EVENTS[1], 0) == "a.wav\t0.25\t3600.12\ttab\\there 0.6000\n"


def test_errors_are_reported_where_there_is_a_place_for_them() -> None:
    told = {name: find(name)("event").error("a.wav", "no such file") for name in FORMATS if find(name).text}
    assert told.pop("table") == "a.wav\terror: no such file\n"
    assert json.loads(told.pop("jsonl")) == {"path": "a.wav", "error": "no such file"}
    assert set(told.values()) == {""}


@pytest.mark.parametrize("name", ["audacity", "raven"])
def test_labels_of_a_time_are_not_given_of_whole_clips(name: str) -> None:
    with pytest.raises(CallError) as caught:
        find(name)("clip")
    assert str(caught.value) == f"{name} labels have a start and an end: use --per event or --per window"


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_known_by_one_name(name: str) -> None:
    assert find(name).name == name


def test_a_file_of_a_sound_is_its_header_and_its_rows() -> None:
    for name in ("audacity", "raven"):
        form = find(name)("event", rate=16000)
        assert form.file_per_sound
        assert form.one_file is (name == "raven")
        assert form.document("".join(form.lines(row, n) for n, row in enumerate(EVENTS))) == written(form, EVENTS)


def test_names_are_known_without_what_writes_them_and_no_format_needs_numpy() -> None:
    code = (
        "import sys; from soundbench.inference.formats import FORMATS, find; print('attrs' in sys.modules)\n"
        "for name in FORMATS: find(name)\n"
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n[]\n"
