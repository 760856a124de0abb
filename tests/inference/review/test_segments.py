"""Review clips: which are chosen, what is cut, the table beside them, and what bad results get."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundbench.cli.main import invoke
from soundbench.errors import CallError, DataError, MissingDataError
from soundbench.inference.formats import find
from soundbench.inference.formats.base import Row
from soundbench.inference.review.results import Detection, Results
from soundbench.inference.review.segments import COLUMNS, Choice, choose, write_segments

RATE = 8000


@pytest.fixture
def sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two recordings of 10 s of the same name: a ramp to full scale, and one to half of it."""
    monkeypatch.chdir(tmp_path)
    for folder, scale in (("a", 1.0), ("b", 0.5)):
        Path(folder).mkdir()
        soundfile.write(f"{folder}/day.wav", scale * np.arange(10 * RATE) / (10 * RATE), RATE, subtype="FLOAT")


def events(*found: tuple[str, float, float, str, float]) -> list[Row]:
    return [Row(path, label, score, {label: score}, None, start, end) for path, start, end, label, score in found]


def written(name: str, per: str, rows: list[Row], classes: tuple[str, ...] = ()) -> Results:
    form = find(name)(per, classes)
    form.pack(path := Path(f"results{form.suffix}"), ["".join(form.lines(row, 0) for row in rows)])
    return Results.of(path)


FOUND = [
    ("a/day.wav", 2.0, 3.5, "dog", 0.95),
    ("b/day.wav", 2.0, 3.5, "dog", 0.95),
    ("a/day.wav", 0.25, 1.0, "a/b", 0.4),
    ("a/day.wav", 9.5, 10.0, "dog", 1.0),
]


@pytest.mark.usefixtures("sounds")
@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_clips_hold_the_sound_of_their_rows_and_the_sound_around(name: str) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow")
    assert write_segments(Path("out"), written(name, "event", events(*FOUND)), Choice(), pad=0.5) == {}
    rows = list(csv.DictReader(Path("out/segments.csv").read_text().splitlines()))
    assert list(rows[0]) == list(COLUMNS)
    assert {(row["per"], row["model"], row["correct"]) for row in rows} == {("event", "", "")}
    found = {(row["path"], float(row["start"]), float(row["end"]), row["label"]) for row in rows}
    assert found == {one[:4] for one in FOUND}
    assert len({row["clip"] for row in rows}) == 4
    for row in rows:
        samples, rate = soundfile.read(Path("out", row["clip"]))
        begin, end = max(float(row["start"]) - 0.5, 0.0), min(float(row["end"]) + 0.5, 10.0)
        scale = 0.5 if row["path"].startswith("b/") else 1.0
        wanted = scale * np.arange(round(begin * RATE), round(end * RATE)) / (10 * RATE)
        assert rate == RATE
        assert samples == pytest.approx(wanted, abs=1e-4)  # 16 bits
    folders = {str(Path(row["clip"]).parent) for row in rows}
    assert folders == {"clips/dog/0.9-1", "clips/a_b/0.4-0.5"}


@pytest.mark.usefixtures("sounds")
@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_results_of_nothing_are_no_mistake(name: str) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow")
    assert list(written(name, "event", []).detections()) == []


@pytest.mark.usefixtures("sounds")
def test_long_names_are_cut_to_what_a_disk_takes() -> None:
    sound = Path("a", "鸮" * 83 + ".wav")  # of 253 bytes
    Path("a/day.wav").rename(sound)
    label = "Käuzchen " * 40
    assert (
        write_segments(Path("out"), written("csv", "event", events((str(sound), 1.0, 2.0, label, 0.9))), Choice()) == {}
    )
    (clip,) = Path("out/clips").rglob("*.wav")
    assert clip.name.startswith("0.9000_鸮鸮")
    assert clip.parent.parent.name.startswith("Käuzchen Käuzchen")


@pytest.mark.usefixtures("sounds")
def test_no_folder_has_the_name_of_a_device_of_windows() -> None:
    labels = ("con", "Aux", "lpt1.left", "nul ", "console", "com", "auxiliary")
    found = events(*(("a/day.wav", 1.0 + place, 1.5 + place, label, 0.9) for place, label in enumerate(labels)))
    write_segments(Path("out"), written("csv", "event", found), Choice())
    folders = {path.name for path in Path("out/clips").iterdir()}
    assert folders == {"_con", "_Aux", "_lpt1.left", "_nul", "console", "com", "auxiliary"}


@pytest.mark.usefixtures("sounds")
def test_a_window_stands_for_each_of_its_labels_whose_score_is_known() -> None:
    scores = {"dog": 0.6, "a|b": 0.5, "cat": 0.1}
    rows = [
        Row("a/day.wav", "dog", 0.6, {"dog": 0.6, "a|b": 0.5}, scores, 0.0, 1.0, None, None, "dog"),
        Row("a/day.wav", "unknown", 0.9, {}, scores, 1.0, 2.0, None, None, "dog", True),
    ]
    wanted = [("dog", 0.6), ("a|b", 0.5)]

    def found(name: str, classes: tuple[str, ...] = ()) -> list[tuple[str, float]]:
        results = written(name, "window", rows, classes)
        assert results.per == "window"
        return [(one.label, pytest.approx(one.score)) for one in results.detections()]

    assert found("jsonl") == wanted
    assert found("csv", tuple(scores)) == wanted
    assert found("csv") == wanted[:1]
    pytest.importorskip("pyarrow")
    assert found("parquet", tuple(scores)) == wanted


def test_the_choice_depends_on_the_detections_and_the_seed_not_on_their_order() -> None:
    random = np.random.default_rng(0)
    detections = [
        Detection(f"{n % 7}.wav", float(n), n + 1.0, "ab"[n % 2], score) for n, score in enumerate(random.random(2000))
    ]
    choice = Choice(bins=(0.0, 0.25, 0.5, 1.0), most=15)
    chosen = choose(detections, choice)
    assert {place: len(ones) for place, ones in chosen.items()} == {(a, b): 15 for a in "ab" for b in range(3)}
    for (label, place), ones in chosen.items():
        assert {one.label for one in ones} == {label}
        assert all(choice.bins[place] <= one.score <= choice.bins[place + 1] for one in ones)
    again = choose([detections[n] for n in random.permutation(2000)], choice)
    assert {place: set(ones) for place, ones in again.items()} == {place: set(ones) for place, ones in chosen.items()}
    assert choose(detections, Choice(bins=choice.bins, most=15, seed=2)) != chosen
    assert set(choose(detections, Choice(classes=("b",), bins=choice.bins))) == {("b", 0), ("b", 1), ("b", 2)}


def test_of_many_each_is_drawn_as_often() -> None:
    """5 of 20 detections under 2,000 seeds: each 500 times, within five standard deviations."""
    detections = [Detection("a.wav", float(n), n + 1.0, "a", 0.5) for n in range(20)]
    times = np.zeros(20)
    for seed in range(2000):
        for one in choose(detections, Choice(most=5, seed=seed))["a", 5]:
            times[int(one.start)] += 1
    assert np.abs(times - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


@pytest.mark.parametrize(("score", "place"), [(0.2, 0), (0.4999, 0), (0.5, 1), (1.0, 1), (0.1999, None)])
def test_a_bin_holds_its_lower_edge_and_the_last_one_its_upper(score: float, place: int | None) -> None:
    assert Choice(bins=(0.2, 0.5, 1.0)).bin(score) == place


@pytest.mark.parametrize("bins", [(), (0.5,), (0.5, 0.4), (0.0, 1.5), (0.5, 0.5)])
def test_bins_that_do_not_ascend_are_refused(bins: tuple[float, ...]) -> None:
    with pytest.raises(CallError, match="bins are two or more ascending scores from 0 to 1"):
        Choice(bins=bins)


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sounds")
def test_sounds_that_moved_are_named_before_anything_is_cut() -> None:
    results = written("csv", "event", events(*FOUND, ("gone/x.wav", 0.0, 1.0, "dog", 0.5)))
    with pytest.raises(MissingDataError) as caught:
        write_segments(Path("out"), results, Choice())
    assert str(caught.value) == (
        "gone/x.wav: no such sound (1 of 3 are missing); results name sounds as infer was given them: run segments in "
        "the same folder, or put the sounds back"
    )
    assert not Path("out").exists()


@pytest.mark.usefixtures("sounds")
def test_what_cannot_be_cut_is_listed_and_the_rest_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.wav").write_text("no sound")
    more = [("a/day.wav", 9.0, 12.0, "dog", 0.5), ("broken.wav", 0.0, 1.0, "dog", 0.5)]
    written("csv", "event", events(*FOUND, *more))
    assert invoke(["segments", "results.csv", "--out", "out"]) == 1
    printed, said = capsys.readouterr()
    assert printed == "out/segments.csv\n"
    assert "a/day.wav from 9 to 12 s: ends at 10 s; are the results of another sound of this name?" in said.splitlines()
    assert said.endswith("2 clips could not be cut; see out/errors.csv\n")
    assert len(Path("out/segments.csv").read_text().splitlines()) == 5
    assert len(Path("out/errors.csv").read_text().splitlines()) == 3
    assert invoke(["segments", "results.csv", "--out", "out"]) == 2
    assert capsys.readouterr().err == "out: is not empty; use another --out, or delete it\n"


@pytest.mark.usefixtures("sounds")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,score\na.wav,dog,0.5\n", "its rows are whole clips: run infer with --per event or --per window"),
        ("path,label,count\na.wav,dog,5\n", "holds counts, no windows or events: run infer without --summary"),
        ("Selection\tView\n1\tx\n", "has no path, start, end, label, score; it must be CSV, JSON lines or Parquet"),
        ("", "has no path, start, end, label, score"),
        (
            "path,start,end,label,score\na/day.wav,0,1,dog,high\n",
            "line 2: score must be a number from 0 to 1, is 'high'",
        ),
        ("path,start,end,label,score\na/day.wav,0,1,dog\n", "line 2: has not as many cells as the header"),
        ("path,start,end,label,score\na/day.wav,3,1,dog,0.5\n", "line 2: a stretch has 0 <= start < end, is 3 to 1"),
        ("path,start,end,label,score\na/day.wav,x,1,dog,0.5\n", "line 2: start must be seconds, is 'x'"),
        ('{"path": "a/day.wav"\n', "line 1: is no JSON"),
        ('{"path": "a/day.wav", "start": 0, "end": 1, "label": "dog", "score": 7}\n', "line 1: score must be a number"),
        (
            '{"path": "a/day.wav", "start": %s, "end": 1, "label": "dog", "score": 1}\n' % ("9" * 400),
            "line 1: start must",
        ),
        (
            '{"path": "a/day.wav", "start": 0, "end": 1, "label": "dog", "score": 0.7, "labels": 3}\n',
            "line 1: labels must be a list, is '3'",
        ),
    ],
)
def test_what_is_no_results_of_infer_is_refused_with_its_place(text: str, message: str) -> None:
    Path("r.txt").write_text(text)
    with pytest.raises(DataError) as caught:
        write_segments(Path("out"), Results.of(Path("r.txt")), Choice())
    assert str(caught.value).startswith("r.txt: ")
    assert message in str(caught.value)
    assert not Path("out").exists()


@pytest.mark.usefixtures("sounds")
def test_other_mistakes_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    written("csv", "event", events(*FOUND))
    Path("empty").mkdir()
    cases = {
        ("nowhere.csv",): "nowhere.csv: no such file or folder",
        ("empty",): "empty: holds no results.csv, results.jsonl or results.parquet, as infer --out writes them",
        ("results.csv", "--class", "dgo"): "the results have no class 'dgo'; did you mean \"dog\"? they have: dog, a/b",
        ("results.csv", "--bins", "0.5,x"): '--bins must be scores separated by commas, such as 0.2,0.5,0.8,1, is "0.5',
        ("results.csv", "--bins", "0.6,0.7"): "results.csv: nothing in it is of these classes and bins",
    }
    for options, message in cases.items():
        assert invoke(["segments", *options, "--out", "out"]) in (1, 2)
        assert capsys.readouterr().err.startswith(message)
    Path("results.parquet").write_bytes(b"PAR1 and then nothing")
    pytest.importorskip("pyarrow")
    assert invoke(["segments", "results.parquet", "--out", "out"]) == 1
    assert capsys.readouterr().err.startswith("results.parquet: damaged: ")


@pytest.mark.usefixtures("sounds")
def test_errors_of_infer_are_no_rows() -> None:
    row = dict(zip(("path", "start", "end", "label", "score"), FOUND[0], strict=True))
    lines = [{"path": "x.wav", "error": "no such file"}, row]
    Path("r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(Results.of(Path("r.jsonl")).detections()) == [Detection(*FOUND[0])]
