from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from soundbench_plugins.dataset.annotations import Annotations

from soundbench.contracts import Annotation, Clip, Recording
from soundbench.data.clips import ClipTable
from soundbench.data.splits import split
from soundbench.errors import DataError, MissingDataError
from soundbench.inference.formats import find
from soundbench.inference.formats.base import Row
from soundbench.recipe import Split

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"


def sound(path: Path, seconds: float = 10.0, rate: int = 1000) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(size=round(seconds * rate)) / 10, rate)
    return str(path)


def table(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def labels(*marks: tuple[str, float, float]) -> list[str]:
    return [f"{start}\t{stop}\t{label}" for label, start, stop in marks]


def read(folder: Path, **options: Any) -> dict[str, list[tuple[str, float, float]]]:
    """The annotations by the names of their recordings."""
    dataset = Annotations(tables=folder, **options)
    assert dataset.classes
    found = dataset.recordings()
    return {Path(one.path).name: [(mark.label, mark.start, mark.stop) for mark in one.annotations] for one in found}


# Tables ---------------------------------------------------------------------------------------------------------------

MARKS = [("dog", 1.0, 2.5), ("rain, heavy", 2.0, 4.25)]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.txt", labels(*MARKS)),
        ("a.wav.txt", labels(*MARKS)),
        ("a.labels.txt", ["1.0\t2.5\tdog", "\\\t200.0\t300.0", "2\t4.25\train, heavy", ""]),
        (
            "a.Table.1.selections.txt",
            [f"{RAVEN}\tAnnotation", "1\tS 1\t1\t1\t2.5\t0\t9\tdog", "2\tS 1\t1\t2\t4.25\t0\t9\train, heavy"],
        ),
        (
            "a.selections.txt",
            [f"{RAVEN}\tSpecies"]
            + [
                f"{n}\t{view}\t1\t{a}\t{b}\t0\t9\t{label}"
                for n, (label, a, b) in enumerate(MARKS)
                for view in ("W", "S")
            ],
        ),
        ("a.csv", ["begin,end,label", "1,2.5,dog", '2,4.25,"rain, heavy"']),
        ("a.tsv", ["onset\toffset\tevent_label", "1\t2.5\tdog", "2\t4.25\train, heavy"]),
        ("all.csv", ["file;start;stop;species", "a.wav;1;2.5;dog", "a.wav;2;4.25;rain, heavy"]),
        (
            "all.txt",
            [
                f"{RAVEN}\tLabel\tBegin Path\tFile Offset (s)",
                "1\tS\t1\t1\t2.5\t0\t9\tdog\tC:\\sounds\\a.wav\t1",
                "2\tS\t1\t602\t604.25\t0\t9\train, heavy\tC:\\sounds\\a.wav\t2",
            ],
        ),
    ],
)
def test_the_same_annotations_in_every_kind_of_table(tmp_path: Path, name: str, lines: list[str]) -> None:
    sound(tmp_path / "a.wav")
    sound(tmp_path / "other.wav")
    table(tmp_path / name, *lines)
    assert read(tmp_path) == {"a.wav": MARKS}


@pytest.mark.parametrize("name", ["raven", "audacity", "csv"])
def test_what_infer_writes_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "day").mkdir()
    sound(Path("day/a.wav"))
    sound(Path("night/a.wav"))
    random, expected, lines = np.random.default_rng(1), {}, {}
    form = find(name)("event", rate=8000)
    for path in ("day/a.wav", "night/a.wav"):
        spans = np.sort(np.round(random.uniform(0, 10, (5, 2)), 6), axis=1)
        expected[path] = sorted((a, b, f"class {n % 2}") for n, (a, b) in enumerate(spans.tolist()))
        rows = [Row(path, label, 0.5, {label: 0.5}, None, a, b) for a, b, label in expected[path]]
        lines[path] = "".join(form.lines(row, number) for number, row in enumerate(rows))
    if form.file_per_sound:
        tables = Path("out/labels")
        for path, text in lines.items():
            table(tables / f"{path}.txt", form.document(text).rstrip("\n"))
    else:
        tables = table(Path("out/results.csv"), form.header() + "".join(lines.values()).rstrip("\n"))
    for options in ({"sounds": tmp_path}, {} if form.one_file else {"sounds": Path()}):
        found = list(Annotations(tables=tables, **options).recordings())
        assert [Path(one.path).resolve().relative_to(tmp_path).as_posix() for one in found] == list(expected)
        for one, own in zip(found, expected.values(), strict=True):
            assert [(mark.start, mark.stop, mark.label) for mark in one.annotations] == own


def test_the_column_of_the_label_is_the_one_called_so_or_chosen(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    path = table(tmp_path / "a.csv", "begin,end,Species,label,Type", "1,2,Turdus merula,blackbird,song")
    assert read(path) == {"a.wav": [("blackbird", 1, 2)]}
    assert read(path, label="type") == {"a.wav": [("song", 1, 2)]}
    with pytest.raises(
        DataError, match=r"a\.csv, line 1: no column 'call', which dataset\.label names; has begin, end"
    ):
        read(path, label="call")


def test_a_recording_without_annotations_is_one(tmp_path: Path) -> None:
    """As an empty file of Audacity, a table of Raven with a header alone, and a row without times."""
    for name in "abcd":
        sound(tmp_path / f"{name}.wav", 3.0)
    table(tmp_path / "a.txt")
    table(tmp_path / "b.txt", f"{RAVEN}\tAnnotation")
    table(tmp_path / "c.csv", "path,begin,end,label", "c.wav,,,", "d.wav,0,1,dog")
    assert read(tmp_path) == {"a.wav": [], "b.wav": [], "c.wav": [], "d.wav": [("dog", 0, 1)]}
    clips = list(Annotations(tables=tmp_path, clip=3.0, negatives="nothing").clips())
    assert [(Path(clip.path).name, clip.labels) for clip in clips[:3]] == [(f"{n}.wav", ("nothing",)) for n in "abc"]


def test_of_recordings_with_one_name_the_one_in_the_folder_of_that_name_is_meant(tmp_path: Path) -> None:
    sounds = [sound(tmp_path / "sounds" / site / "a.flac") for site in ("north", "south")]
    for site in ("south", "north"):
        table(tmp_path / "tables" / site / "a.txt", *labels((site, 0, 1)))
    dataset = Annotations(tables=tmp_path / "tables", sounds=tmp_path / "sounds")
    assert [(one.path, one.annotations[0].label) for one in dataset.recordings()] == [
        (sounds[0], "north"),
        (sounds[1], "south"),
    ]
    table(tmp_path / "tables" / "a.txt", *labels(("west", 0, 1)))
    with pytest.raises(DataError, match=r"a\.txt: may be of .*north/a\.flac or of .*south/a\.flac"):
        read(tmp_path / "tables", sounds=tmp_path / "sounds")


def test_fold_and_group_are_columns_of_any_table(tmp_path: Path) -> None:
    for name in "ab":
        sound(tmp_path / f"{name}.wav", 3.0)
    path = table(
        tmp_path / "all.csv", "path,begin,end,label,fold,group", "a.wav,0,1,dog,1,pond", "b.wav,0,1,dog,test,pond"
    )
    clips = list(Annotations(tables=path).clips())
    assert [(clip.fold, clip.group) for clip in clips] == [(1, "pond"), ("test", "pond")]
    assert [one.group for one in Annotations(tables=path).recordings()] == ["pond", "pond"]


# Clips ----------------------------------------------------------------------------------------------------------------


def test_clips_are_cut_one_after_the_other_and_the_last_ends_with_the_recording(tmp_path: Path) -> None:
    """Half of a clip, or of the annotation, gives the label; what is touched by less is left out."""
    path = sound(tmp_path / "a.wav", 11.0)
    table(tmp_path / "a.txt", *labels(("dog", 1.0, 2.0), ("rain", 1.5, 5.6), ("cat", 7.6, 8.8)))
    dataset = Annotations(tables=tmp_path, clip=2.0, negatives="nothing")
    assert dataset.classes == ("cat", "dog", "rain", "nothing")
    assert list(dataset.clips()) == [
        Clip(path, ("dog",), 0.0, 2.0, group=path),  # 0.5 of 4.1 s of rain, and of 2 s
        Clip(path, ("rain",), 2.0, 4.0, group=path),
        Clip(path, ("rain",), 4.0, 6.0, group=path),
        # 6 to 8 has 0.4 of 1.2 s of cat
        Clip(path, ("cat",), 8.0, 10.0, group=path),
        Clip(path, ("nothing",), 9.0, 11.0, group=path),
    ]
    assert [clip.labels for clip in Annotations(tables=tmp_path, clip=2.0).clips()] == [
        ("dog",),
        ("rain",),
        ("rain",),
        ("cat",),
    ]


def test_annotations_that_overlap_are_several_labels(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav", 6.0)
    table(tmp_path / "a.txt", *labels(("rain", 0, 6), ("dog", 0.5, 1), ("dog", 1, 2.5)))
    assert [clip.labels for clip in Annotations(tables=tmp_path).clips()] == [("dog", "rain"), ("rain",)]
    assert Annotations(tables=tmp_path).multilabel
    alone = Annotations(tables=tmp_path, multilabel=False)
    assert not alone.multilabel
    assert [clip.labels for clip in alone.clips()] == [("rain",)]


@pytest.mark.parametrize("seed", range(20))
def test_every_annotation_is_in_a_clip_and_no_negative_touches_one(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    seconds, clip = float(random.uniform(1, 40)), float(random.uniform(0.3, 5))
    sound(tmp_path / "a.wav", seconds)
    marks = []
    for number in range(random.integers(0, 15)):
        start = random.uniform(0, seconds - 0.06)
        marks.append((f"class {number}", round(start, 3), round(random.uniform(start + 0.02, seconds), 3)))
    table(tmp_path / "a.txt", *labels(*sorted(marks, key=lambda mark: mark[1])))
    clips = list(Annotations(tables=tmp_path, clip=clip, negatives="nothing").clips())
    assert {label for one in clips for label in one.labels} >= {label for label, _, _ in marks}
    for one in clips:
        assert one.stop is not None
        assert 0 <= one.start < one.stop <= seconds + 1e-3
        touched = [label for label, start, stop in marks if start < one.stop - 1e-6 and stop > one.start + 1e-6]
        assert one.labels == ("nothing",) if not touched else set(one.labels) <= set(touched)


def test_no_recording_is_on_two_sides_of_a_split(tmp_path: Path) -> None:
    for number in range(12):
        sound(tmp_path / f"{number}.wav", 30.0)
        table(tmp_path / f"{number}.txt", *labels(("dog", 1, 2), ("rain", 10, 22)))
    found = ClipTable.of(Annotations(tables=tmp_path, negatives="nothing"))
    assert len(found) > 100
    for seed in range(5):
        parts = split(found, Split(test=0.3, validation=0.2, seed=seed), "a recipe").part
        for path in found.paths.names:
            assert len({int(part) for row, part in enumerate(parts) if found.paths[row] == path}) == 1
        assert set(parts.tolist()) == {0, 1, 2}


def test_a_damaged_recording_is_kept_so_that_its_sound_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", 4) + b"WAVE")
    table(tmp_path / "a.txt", *labels(("dog", 0, 5)))
    assert [(clip.start, clip.stop) for clip in Annotations(tables=tmp_path).clips()] == [(0, 3), (2, 5)]


def test_an_annotation_drawn_to_the_end_ends_there(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.wav", 5.0)
    table(tmp_path / "a.txt", *labels(("dog", 4.5, 5.05)))
    assert list(Annotations(tables=tmp_path).recordings()) == [Recording(path, (Annotation("dog", 4.5, 5.0),))]


# Bad input ------------------------------------------------------------------------------------------------------------

BEYOND = r"but a\.wav ends at 10 s; are the times of another recording, or is this one cut off\?"


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("a.txt", labels(("dog", 1, 2), ("dog", 9, 10.2)), rf"a\.txt, line 2: ends at 10\.2 s, {BEYOND}"),
        ("a.txt", labels(("dog", 1, 2), ("dog", 60, 62)), rf"a\.txt, line 2: begins at 60 s, {BEYOND}"),
        ("x.csv", ["path,begin,end,label", "a.wav,60,62,dog"], rf"x\.csv, line 2: begins at 60 s, {BEYOND}"),
        (
            "a.txt",
            labels(("dog", 8, 9), ("dog", 1, 2)),
            r"line 2: begins at 1 s, before the line above \(8 s\): are these labels of two",
        ),
        (
            "x.txt",
            [f"{RAVEN}\tLabel\tBegin File", "1\tS\t1\t1\t2\t0\t9\tdog\ta.wav", "2\tS\t1\t3\t4\t0\t9\tdog\tb.wav"],
            r"line 3: Begin Time may count from the first of several files; add the column File Offset \(s\)",
        ),
        (
            "a.txt",
            ["1\t2,5\tdog"],
            r"a\.txt, line 1: must be begin, tab, end, tab, label, with times in seconds, is '1",
        ),
        ("a.csv", ["begin,end,label", "1,x,dog"], r"a\.csv, line 2: begin and end must be seconds, are '1', 'x'"),
        ("a.csv", ["begin,end,label", "1,,dog"], r"a\.csv, line 2: begin and end must be seconds, are '1', ''"),
        ("a.csv", ["begin,end,label", ",,dog"], r"a\.csv, line 2: no times"),
        ("a.csv", ["begin,end,label", "1,2"], r"a\.csv, line 2: 2 cells under 3 columns"),
        ("a.csv", ["begin,end,lable", "1,2,dog"], r"a\.csv, line 1: column 'lable' is unknown; did you mean 'label'\?"),
        ("a.csv", ["begin,end,label,gruop", "1,2,a,b"], r"column 'gruop' is unknown; did you mean 'group'\?"),
        (
            "a.txt",
            ["Begin Tiem (s)\tEnd Time (s)\tLabel", "1\t2\tdog"],
            r"'Begin Tiem \(s\)' is unknown; did you mean 'begin time",
        ),
        ("a.csv", ["begin,label", "1,dog"], r"a\.csv, line 1: has begin, label; it must be a selection table of Raven"),
        ("a.csv", ["begin,end,end,label", "1,2,2,dog"], r"a\.csv, line 1: column 'end' appears twice"),
        ("a.txt", ["My sounds of last year."], r"a\.txt, line 1: is no table of annotations"),
        (
            "a.txt",
            [f"{RAVEN}\tSpecies\tAnnotation", "1\tS\t1\t1\t2\t0\t9\tdog\tx"],
            r"has Annotation, Species: rename one to label, or name it in dataset\.label",
        ),
        ("a.txt", labels(("dog", 1, 1)), r"a\.txt, line 1: a point at 1 s; an annotation has an end after its begin"),
        ("a.txt", labels(("dog", 2, 1)), r"a\.txt, line 1: ends at 1 s, before it begins at 2 s"),
        ("a.txt", ["1\t2\t "], r"a\.txt, line 1: an empty label"),
        ("a.txt", ["1\t2"], r"a\.txt, line 1: an empty label"),
        (
            "x.csv",
            ["path,begin,end,label,group", "a.wav,1,2,dog,x", "a.wav,3,4,dog,y"],
            r"line 3: another fold or group than in the rows above of a\.wav",
        ),
        (
            "a.txt",
            labels(*[("siren", n, n + 0.5) for n in range(5)], ("sirne", 6, 7)),
            r"a\.txt, line 6: label 'sirne' is there only once; did you mean 'siren' \(5 times\)\? If not, list",
        ),
    ],
)
def test_bad_tables_are_refused_with_the_line_and_the_cause(
    tmp_path: Path, name: str, lines: list[str], message: str
) -> None:
    for letter in "ab":
        sound(tmp_path / f"{letter}.wav")
    table(tmp_path / name, *lines)
    with pytest.raises(DataError, match=message):
        ClipTable.of(Annotations(tables=tmp_path))


@pytest.mark.parametrize("other", ["sirene", "siern", "sire", "Siren"])
def test_labels_that_are_alike_are_kept_where_they_are_used_or_listed(tmp_path: Path, other: str) -> None:
    sound(tmp_path / "a.wav")
    marks = [("siren", n, n + 0.5) for n in range(5)]
    table(tmp_path / "a.txt", *labels(*marks, (other, 6, 7)))
    with pytest.raises(DataError, match="did you mean 'siren'"):
        read(tmp_path)
    assert len(list(Annotations(tables=tmp_path).recordings())) == 1  # `evaluate` has the classes of the model
    listed = table(tmp_path / "names" / "classes.list", "siren", other)
    assert len(read(tmp_path, labels=listed)["a.wav"]) == 6
    table(tmp_path / "a.txt", *labels(*marks, (other, 6, 7), (other, 8, 9)))
    assert len(read(tmp_path)["a.wav"]) == 7
    for one, two in (("song1", "song2"), ("ab", "ac"), ("rain", "train wreck")):
        table(tmp_path / "a.txt", *labels(*[(one, n, n + 0.5) for n in range(5)], (two, 6, 7)))
        assert len(read(tmp_path)["a.wav"]) == 6


def test_with_a_list_of_classes_every_other_label_is_a_mistake(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    table(tmp_path / "a.txt", *labels(("dog", 1, 2), ("dgo", 3, 4)))
    names = table(tmp_path / "names" / "classes.list", "rain", "dog")
    message = r"line 2: label 'dgo' is not among the 2 of the label list; did you mean 'dog'\?"
    with pytest.raises(DataError, match=message):
        read(tmp_path, labels=names)
    table(tmp_path / "a.txt", *labels(("dog", 1, 2)))
    assert Annotations(tables=tmp_path, labels=names, negatives="nothing").classes == ("rain", "dog", "nothing")


def test_two_tables_of_one_recording_are_refused(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    table(tmp_path / "a.txt", *labels(("dog", 1, 2)))
    table(tmp_path / "all.csv", "path,begin,end,label", "./a.wav,1,2,dog")
    with pytest.raises(
        DataError, match=r"all\.csv: is of .*a\.wav, as is .*a\.txt; put the annotations of a recording"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.write_bytes(b"\xff\xfe\x00" * 99),
        lambda path: path.write_bytes(b"begin,end,label\n0,1,\0\n"),
        lambda path: path.write_bytes(b"PK\x03\x04"),
        lambda path: path.write_text("begin,end,label\n0,1," + "x" * 300_000),
        lambda path: path.write_text("begin,end,label\n0," + "9" * 5000 + ",dog\n"),
        lambda path: (path.touch(), os.truncate(path, 3 << 30)),
    ],
    ids=["pipe", "zeros", "bytes", "NUL", "workbook", "one cell", "digits", "large"],
)
def test_a_table_that_is_none_is_refused_at_once(tmp_path: Path, content: Callable[[Path], object]) -> None:
    sound(tmp_path / "a.wav")
    content(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"a\.csv"):
        ClipTable.of(Annotations(tables=tmp_path))


def test_missing_recordings_are_named_together(tmp_path: Path) -> None:
    table(tmp_path / "tables" / "a.txt", *labels(("dog", 1, 2)))
    table(tmp_path / "tables" / "b.csv", "path,begin,end,label", *[f"{n}.wav,1,2,dog" for n in range(9)])
    with pytest.raises(MissingDataError) as caught:
        read(tmp_path / "tables")
    lines = str(caught.value).replace(str(tmp_path), "").splitlines()
    assert lines[0] == "/tables/a.txt: no recording that it could be named after in /tables"
    assert lines[1] == "/tables/b.csv, line 2: no recording 0.wav in /tables"
    assert lines[-2:] == [
        "5 more recordings are missing",
        "give the folder of the recordings: dataset.sounds, or --sounds",
    ]
    with pytest.raises(MissingDataError, match=r"dataset\.sounds must be"):
        read(tmp_path / "tables", sounds=tmp_path / "nowhere")
    with pytest.raises(MissingDataError, match=r"no table of annotations in it; known: \.txt, \.csv, \.tsv"):
        read(Path(sound(tmp_path / "sounds" / "a.wav")).parent)


@pytest.mark.parametrize(
    ("options", "message"), [({"clip": 0.0}, "clip must be"), ({"negatives": " "}, "negatives must")]
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Annotations(tables=tmp_path, **options)
