"""Parquet, read by pandas, by pyarrow and by polars; counts."""

from __future__ import annotations

import csv
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers.runs import RECIPE

import soundbench
from soundbench.cli.main import invoke
from soundbench.errors import NotInstalled
from soundbench.inference.formats import find
from soundbench.inference.formats import parquet as parquet_format
from soundbench.inference.formats.base import Count, Row

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (the extra parquet)")

SCORES = {"dog": 0.7, "label": 0.2, '猫, "x"': float(np.float32(0.1))}
TIME = datetime(2020, 4, 10, 16, 34, 56)
ROWS = [
    Row(f"d/ü {n}.wav", "dog", 0.7, {"dog": 0.7} if n else {}, SCORES, 1 / 3 + n, 4 / 3 + n, TIME if n else None,
        TIME if n else None, "dog", not n)
    for n in range(3)
]  # fmt: skip


def packed(path: Path, form: Any, *sounds: list[Any]) -> Path:
    form.pack(path, ["".join(form.lines(row, n) for n, row in enumerate(rows)) for rows in sounds])
    return path


def test_columns_have_the_names_of_csv_and_types_of_their_own(tmp_path: Path) -> None:
    form = find("parquet")("window", list(SCORES), 16000, True, True)
    path = packed(tmp_path / "a.parquet", form, ROWS[:1], [], ROWS[1:])
    schema = parquet.read_schema(path)
    twin = find("csv")("window", list(SCORES), 16000, True, True)
    assert schema.names == next(csv.reader([twin.header()]))
    types = dict(zip(schema.names, map(str, schema.types), strict=True))
    assert {types.pop(name) for name in ("start", "end")} == {"double"}
    assert {types.pop(name) for name in ("score", "dog", "score:label", '猫, "x"')} == {"float"}
    assert types.pop("rejected") == "bool"
    assert types.pop("labels").startswith("list<")
    assert types == dict.fromkeys(("path", "begin_time", "end_time", "label", "nearest"), "string")


@pytest.mark.parametrize("reader", ["pandas", "polars"])
def test_values_are_read_as_they_were_written(reader: str, tmp_path: Path) -> None:
    library = pytest.importorskip(reader)
    form = find("parquet")("window", list(SCORES), 16000, True, True)
    table = library.read_parquet(packed(tmp_path / "a.parquet", form, ROWS))
    assert list(table["path"]) == [row.path for row in ROWS]
    assert list(table["start"]) == [row.start for row in ROWS]  # float64: to the last bit
    assert list(table["end"]) == [row.end for row in ROWS]
    assert np.array_equal(np.array(table['猫, "x"'], np.float32), np.full(3, 0.1, np.float32))
    assert [list(labels) for labels in table["labels"]] == [[], ["dog"], ["dog"]]
    assert list(table["rejected"]) == [True, False, False]
    known = table["begin_time"].is_not_null() if reader == "polars" else table["begin_time"].notna()
    assert list(known) == [False, True, True]
    assert table["begin_time"][1] == "2020-04-10T16:34:56.000"


def test_counts_and_tables_without_rows_have_their_columns(tmp_path: Path) -> None:
    counts = [Count("a.wav", "dog", 2, 1.5, 0.75, 0.25, TIME), Count("b.wav")]
    form = find("parquet")("event", times=True, summary=True)
    rows = parquet.read_table(packed(tmp_path / "a.parquet", form, counts)).to_pylist()
    columns = ["path", "label", "count", "seconds", "best_score", "first_start", "first_begin_time"]
    assert rows == [
        dict(zip(columns, ["a.wav", "dog", 2, 1.5, 0.75, 0.25, "2020-04-10T16:34:56.000"], strict=True)),
        dict(zip(columns, ["b.wav", None, 0, 0.0, None, None, None], strict=True)),
    ]
    empty = parquet.read_table(packed(tmp_path / "b.parquet", form))
    assert (empty.column_names, empty.num_rows) == (columns, 0)


def test_rows_are_written_group_by_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_format, "GROUP", 100)
    sounds = [[Row(f"{n}.wav", "a", 0.5, {"a": 0.5}, None, 0.0, 1.0)] * 60 for n in range(7)]
    file = parquet.ParquetFile(packed(tmp_path / "a.parquet", find("parquet")("event"), *sounds))
    sizes = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
    assert sum(sizes) == 420
    assert max(sizes) == 120
    paths = file.read().column("path").to_pylist()
    assert paths == [f"{n}.wav" for n in range(7) for _ in range(60)]


def test_a_name_that_is_not_utf_8_is_escaped_as_in_csv(tmp_path: Path) -> None:
    row = Row("a\udcff.wav", "dog", 0.5, {"dog": 0.5}, None, 0.0, 1.0)
    (found,) = parquet.read_table(packed(tmp_path / "a.parquet", find("parquet")("event"), [row])).to_pylist()
    assert found["path"] == "a\\udcff.wav"


def test_without_pyarrow_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(NotInstalled) as caught:
        find("parquet")("event")
    assert str(caught.value) == 'Parquet needs pyarrow, which is not installed: pip install "soundbench[parquet]"'


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.toml").write_text(RECIPE)
    recipe = soundbench.read_recipe(folder / "toy.toml", ["train.epochs=1", "dataset.clips=24"])
    return soundbench.run(recipe, out=folder / "run", cache=False).path


@pytest.fixture
def line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command for two sounds, of which the first is broken."""
    monkeypatch.chdir(tmp_path)
    Path("a.wav").write_text("no sound")
    soundfile.write("b.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 8000)
    return ["infer", str(run), "--trust-code", "a.wav", "b.wav"]


def test_the_command_writes_the_rows_that_csv_has(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    line = [*line, "--per", "window", "--scores"]
    assert invoke([*line, "--format", "parquet", "--out", "out"]) == 1
    assert capsys.readouterr().err == "1 of 2 files could not be scored; see out/errors.csv\n"
    assert invoke([*line, "--format", "csv"]) == 1
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    found = parquet.read_table("out/results.parquet").to_pylist()
    assert len(rows) == len(found) == 5
    for one, other in zip(rows, found, strict=True):
        assert (one["path"], one["label"]) == (other["path"], other["label"])
        assert float(one["start"]) == pytest.approx(other["start"], abs=1e-6)
        assert float(one["low"]) == pytest.approx(other["low"], abs=1e-6)


def test_what_cannot_be_done_is_one_line(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        ("--format", "parquet"): "parquet is no text to print: use --out DIR",
        ("--format", "parquet", "--out", "x.parquet"): "--out is a folder, which gets results.parquet: leave out .par",
        ("--format", "csv", "--summary", "--per", "clip"): "--summary counts events or windows: use --per event or ",
        ("--format", "csv", "--summary", "--scores"): "--summary has no column per class; leave out --scores",
        ("--format", "raven", "--summary"): "raven labels are of a time: use --summary with another format",
    }
    for options, message in cases.items():
        assert invoke([*line, *options]) == 2
        assert capsys.readouterr().err.startswith(message)
    assert not list(Path().glob("*x.parquet*"))


def test_a_summary_counts_the_rows_that_the_command_writes_without_it(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for per in ("event", "window"):
        assert (
            invoke([*line, "--per", per, "--threshold", "0.3", "--hop", "0.1", "--json", "--out", f"rows-{per}"]) == 1
        )
        more = [] if per == "event" else ["--per", per]
        summary = [*line, *more, "--threshold", "0.3", "--hop", "0.1", "--summary"]
        assert invoke([*summary, "--format", "parquet", "--out", f"counts-{per}"]) == 1
        pandas = pytest.importorskip("pandas")
        rows = pandas.read_json(f"rows-{per}/results.jsonl", lines=True)
        if per == "window":
            rows = rows.explode("labels").dropna(subset="labels")
            rows["score"] = [scores[label] for scores, label in zip(rows["scores"], rows["labels"], strict=True)]
            rows["label"] = rows["labels"]
        wanted = rows.groupby("label").agg(count=("label", "size"), best=("score", "max"), first=("start", "min"))
        found = pandas.read_parquet(f"counts-{per}/results.parquet").set_index("label").loc[wanted.index]
        assert len(wanted)
        assert list(found["count"]) == list(wanted["count"])
        assert list(found["best_score"]) == pytest.approx(list(wanted["best"]))
        assert list(found["first_start"]) == list(wanted["first"])
        assert invoke(summary) == 1
        assert f"{int(wanted['count'].iloc[0])} {per}" in capsys.readouterr().out
    rows = pandas.read_json("rows-event/results.jsonl", lines=True)
    covered = (rows["end"] - rows["start"]).groupby(rows["label"]).sum()
    found = pandas.read_parquet("counts-event/results.parquet").set_index("label").loc[covered.index]
    assert list(found["seconds"]) == pytest.approx(list(covered))
