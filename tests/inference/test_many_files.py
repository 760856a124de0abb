"""Many files: their rows, what a kill leaves, pictures."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.networks import toy_network
from helpers.runs import RECIPE
from helpers.toys import ToyLoss

import soundbench
from soundbench import files
from soundbench.audio.times.starts import StartTimes
from soundbench.cli.main import invoke
from soundbench.data.batches import Grid
from soundbench.errors import CallError, RunError
from soundbench.inference import many_files
from soundbench.inference.classifier import Classifier
from soundbench.inference.events import EventRules
from soundbench.inference.formats import FORMATS, find
from soundbench.inference.formats.base import Row
from soundbench.inference.journal import Journal
from soundbench.inference.many_files import Done, Wanted, score_files, score_into
from soundbench.inference.predictions import ScoredWindow
from soundbench.inference.progress import Progress
from soundbench.inference.timeline import plot_sound
from soundbench.machine import Machine
from soundbench.model.scoring import Scorer

# Those that can be printed; the tests of the others are in test_parquet.py.
TEXTS = [name for name in FORMATS if find(name).text]
CLASSES = ("dog", "猫", "a, b", 'say "x"', "$bird$")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    scorer = Scorer(toy_network().eval(), ToyLoss(5), Machine(torch.device("cpu"), "fp32", 1, False), "off")
    return Classifier(scorer, CLASSES, 8000, Grid(1600, 1600))


@pytest.fixture
def sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Twelve sounds of 0.1 to 1.2 s, relative to the working directory; one is broken."""
    monkeypatch.chdir(tmp_path)
    Path("s").mkdir()
    draws = np.random.default_rng(0)
    for number in range(12):
        noise = np.cumsum(draws.standard_normal(800 * (number + 1))) % 1 - 0.5
        soundfile.write(f"s/{number:02}.wav", draws.uniform(0.1, 1) * noise, 8000)
    Path("s/05.wav").write_text("no sound")
    return sorted(Path("s").glob("*.wav"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.toml").write_text(RECIPE)
    recipe = soundbench.read_recipe(folder / "toy.toml", ["train.epochs=1", "dataset.clips=24"])
    return soundbench.run(recipe, out=folder / "run", cache=False).path


def progress(left: list[Path]) -> Progress:
    return Progress(len(left), 1.0)


def into(folder: Path, classifier: Classifier, paths: list[Path], wanted: Wanted, name: str = "csv") -> dict[str, str]:
    return score_into(folder, classifier, paths, wanted, find(name)(wanted.per), "toy", progress)


def without_last_digits(text: str) -> str:
    """A score in another batch differs by rounding."""
    return re.sub(r"0\.\d{5,}", lambda number: f"{float(number[0]):.4f}", text)


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_rows_are_what_the_classifier_says_of_each_sound_alone(
    classifier: Classifier, sounds: list[Path], batch: int
) -> None:
    rules = EventRules(on=0.21, gap=0.1)
    for per in ("clip", "window", "event"):
        found = list(score_files(classifier, sounds, Wanted(per, hop=0.15, rules=rules, batch=batch)))
        done = [one for one in found if isinstance(one, Done)]
        assert [one.path for one in done] == sounds
        assert [one.path.name for one in done if one.error] == ["05.wav"]
        assert [one.seconds for one in done if not one.error] == pytest.approx(
            [(n + 1) / 10 for n in range(12) if n != 5]
        )
        for path in sounds[:5] + sounds[6:]:
            rows = [one for one in found if isinstance(one, Row) and one.path == str(path)]
            if per == "event":
                alone = classifier.events(path, rules=rules, hop=0.15)
                assert [(row.label, row.start, row.end) for row in rows] == [(e.label, e.start, e.end) for e in alone]
            else:
                windows = list(classifier.windows(path, hop=0.15))
                if per == "window":
                    assert [(row.start, row.end) for row in rows] == [(w.start, w.end) for w in windows]
                mean = {label: np.mean([w.scores[label] for w in windows]) for label in CLASSES}
                assert all(row.scores is not None for row in rows)
                told = {label: np.mean([row.scores[label] for row in rows if row.scores]) for label in CLASSES}
                assert told == pytest.approx(mean, abs=1e-5)


def test_a_threshold_and_a_number_of_classes_choose_what_is_shown(classifier: Classifier, sounds: list[Path]) -> None:
    def shown(**options: float) -> list[str]:
        (row, _) = score_files(classifier, sounds[:1], Wanted(**options))  # type: ignore[arg-type]
        assert isinstance(row, Row)
        return list(row.labels)

    scores = classifier.predict(sounds[0]).scores
    assert shown() == list(scores)[:1]
    assert shown(top=3) == list(scores)[:3]
    assert shown(threshold=0.19) == [label for label, score in scores.items() if score >= 0.19]
    assert shown(threshold=1.0) == []
    assert shown(threshold=0.0, top=2) == list(scores)[:2]


@pytest.mark.parametrize("name", TEXTS)
def test_a_folder_holds_what_is_printed_however_often_it_was_stopped(
    classifier: Classifier, sounds: list[Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Wanted("window", batch=2)
    form = find(name)("window")
    rows = [one for one in score_files(classifier, sounds, wanted) if isinstance(one, Row)]
    lines = {str(path): [row for row in rows if row.path == str(path)] for path in sounds}
    text = {path: "".join(form.lines(row, n) for n, row in enumerate(own)) for path, own in lines.items()}
    scored, calls = Scorer.rated, 0

    def stop_often(self: Classifier, raw: object) -> object:
        nonlocal calls
        calls += 1
        if calls % 7 == 0:
            raise KeyboardInterrupt
        return scored(self, raw)  # type: ignore[arg-type]

    monkeypatch.setattr(Scorer, "rated", stop_often)
    stops = 0
    while True:
        try:
            errors = into(Path("out"), classifier, sounds, wanted, name)
            break
        except KeyboardInterrupt:
            stops += 1
            with open("out/parts/0.jsonl", "ab") as file:  # torn, as by a kill
                file.write(b'{"path": "s/11.w')
            with open("out/parts/0.rows", "ab") as file:
                file.write(b"half a row")
    assert stops > 1
    assert list(errors) == ["s/05.wav"]
    if form.file_per_sound:
        told = {path: Path(f"out/labels/{path}{form.suffix}").read_text() for path in text if path not in errors}
        assert told == {path: form.document(own) for path, own in text.items() if path not in errors}
    else:
        found = Path(f"out/results{form.suffix}").read_text()
        assert without_last_digits(found) == without_last_digits(form.header() + "".join(text.values()))
    assert [row["path"] for row in files.read_rows(Path("out/errors.csv"))] == ["s/05.wav"]


def test_what_was_broken_is_tried_again_and_new_files_are_added(classifier: Classifier, sounds: list[Path]) -> None:
    assert into(Path("out"), classifier, sounds[:8], Wanted())
    shutil.copy("s/04.wav", "s/05.wav")
    for path in sounds[:5]:  # scored already: not read again
        path.write_text("broken since")
    assert not into(Path("out"), classifier, sounds, Wanted())
    rows = files.read_rows(Path("out/results.csv"))
    assert [row["path"] for row in rows] == [str(path) for path in sounds]
    assert rows[4] | {"path": ""} == rows[5] | {"path": ""}
    assert files.read_rows(Path("out/errors.csv")) == []


def test_a_folder_of_another_question_is_refused(classifier: Classifier, sounds: list[Path]) -> None:
    into(Path("out"), classifier, sounds[:1], Wanted())
    with pytest.raises(CallError) as caught:
        into(Path("out"), classifier, sounds, Wanted(hop=0.1))
    assert str(caught.value) == "out: was begun with hop None, now 0.1; use another --out, or the same settings"
    with pytest.raises(CallError) as caught:
        score_into(Path("out"), classifier, sounds, Wanted(), find("csv")("clip"), "toy", progress, StartTimes("name"))
    assert str(caught.value).startswith("out: was begun with time_from 'none', now 'name'; use another --out")
    with pytest.raises(CallError, match="s: is not empty and holds no results to continue; use another --out"):
        into(Path("s"), classifier, sounds, Wanted())
    with Journal(Path("out"), 0), pytest.raises(RunError, match="out: another process is writing to it"):
        into(Path("out"), classifier, sounds, Wanted())


def test_a_full_disk_is_one_line_and_loses_nothing_that_was_finished(
    classifier: Classifier, sounds: list[Path], small_disk: Path
) -> None:
    soundfile.write("long.wav", 0.1 * np.random.default_rng(0).standard_normal(400_000), 8000)
    paths = [*sounds[:3], Path("long.wav")]
    wanted = Wanted("window", hop=0.005)
    into(small_disk / "out", classifier, paths[:3], wanted)
    with pytest.raises(RunError, match="the disk is full"):
        into(small_disk / "out", classifier, paths, wanted)
    assert not into(small_disk / "out", classifier, paths[:3], wanted)


def test_a_picture_of_a_sound_is_drawn(classifier: Classifier, sounds: list[Path]) -> None:
    for path in (sounds[-1], sounds[0]):
        windows: list[ScoredWindow] = []
        list(score_files(classifier, [path], Wanted(hop=0.05), windows=windows))
        plot_sound(classifier, path, windows, EventRules(on=0.2), Path("out.png"))
        assert Path("out.png").read_bytes().startswith(b"\x89PNG")


def test_progress_says_how_fast_and_how_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = Progress(4, 1000.0)
    progress.finish(100, 30.0)
    now = 110.0
    assert progress.line() == "1 of 4 files, 0:30 of sound, 3.0 x real time, 1:30 left"
    assert progress.line(100, 60.0) == "1 of 4 files, 1:30 of sound, 9.0 x real time, 0:40 left"
    assert capsys.readouterr().err == ""
    now = 125.0
    progress.report()
    assert capsys.readouterr().err == "1 of 4 files, 0:30 of sound, 1.2 x real time, 3:45 left\n"


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_prints_each_format(run: Path, sounds: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    line = ["infer", str(run), "--trust-code", "s/11.wav"]
    for more in (["--per", "event"], ["--format", "audacity"], ["--format", "raven", "--plot", "out.png"]):
        assert invoke([*line, *more, "--hop", "0.1", "--threshold", "0.1"]) == 0
        assert ("low" in (out := capsys.readouterr().out)) or "high" in out
    assert Path("out.png").exists()
    assert invoke([*line, "s/05.wav", "--format", "csv", "--scores"]) == 1
    out, errors = capsys.readouterr()
    (row,) = csv.DictReader(out.splitlines())
    assert float(row["low"]) + float(row["high"]) == pytest.approx(1, abs=1e-5)
    assert errors.startswith("s/05.wav: is not a sound file")


@pytest.mark.parametrize("name", TEXTS)
def test_the_command_prints_what_it_writes_into_a_folder(
    run: Path, sounds: list[Path], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["infer", str(run), "--trust-code", "s/11.wav", "--format", name, "--per", "window"]
    assert invoke(line) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") >= 6
    assert invoke([*line, "--out", "out"]) == 0
    form = find(name)
    place = f"labels/s/11.wav{form.suffix}" if form.file_per_sound else f"results{form.suffix}"
    assert Path("out", place).read_text(encoding="utf-8") == printed


def recordings(folder: Path) -> list[str]:
    """Sounds of 1 s: of names with a zone and without, one whose header states another time, one that states none."""
    folder.mkdir()
    noise = 0.1 * np.random.default_rng(0).standard_normal(8000)
    names = ["20200329T015959+0100.wav", "A_20200410_163456_250.wav", "A_20200411_163456.wav", "dog.wav"]
    for name in names:
        soundfile.write(folder / name, noise, 8000)
    with open(folder / names[2], "ab") as file:
        text = b"GUANO|Version: 1.0\nTimestamp: 2020-04-11T15:00:00Z\n"
        file.write(b"guan" + len(text).to_bytes(4, "little") + text + b"\0" * (len(text) % 2))
    return [str(folder / name) for name in names]


SPANS = [  # of each recording, in windows of half a second
    ("2020-03-29T01:59:59.000+01:00", "2020-03-29T01:59:59.500+01:00"),
    ("2020-03-29T01:59:59.500+01:00", "2020-03-29T02:00:00.000+01:00"),
    ("2020-04-10T16:34:56.250", "2020-04-10T16:34:56.750"),
    ("2020-04-10T16:34:56.750", "2020-04-10T16:34:57.250"),
    ("2020-04-11T15:00:00.000+00:00", "2020-04-11T15:00:00.500+00:00"),
    ("2020-04-11T15:00:00.500+00:00", "2020-04-11T15:00:01.000+00:00"),
    ("", ""),
    ("", ""),
]


@pytest.mark.parametrize("name", ["csv", "jsonl", "raven"])
def test_rows_have_the_date_and_time_that_header_or_name_state(
    run: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = recordings(tmp_path / "r")
    line = ["infer", str(run), "--trust-code", *paths, "--window", "0.5", "--per", "window", "--format", name]

    def spans(text: str) -> list[tuple[str, str]]:
        if name == "jsonl":
            rows = [json.loads(row) for row in text.splitlines()]
            return [(row["begin_time"] or "", row["end_time"] or "") for row in rows]
        rows = list(csv.DictReader(text.splitlines(), delimiter="," if name == "csv" else "\t"))
        columns = ("begin_time", "end_time") if name == "csv" else ("Begin Date Time", "End Date Time")
        return [(row[columns[0]], row[columns[1]]) for row in rows]

    assert invoke(line) == 0
    printed, errors = capsys.readouterr()
    assert spans(printed) == SPANS
    assert errors == (
        f"1 of 4 files state two times at which they begin ({paths[2]}: 2020-04-11 15:00:00+00:00 in the header, "
        "2020-04-11 16:34:56 in the name); those in the headers are written, --time-from name takes the others\n"
    )
    out = tmp_path / "out"
    assert invoke([*line, "--out", str(out)]) == 0
    assert Path(out, f"results{find(name).suffix}").read_text(encoding="utf-8") == printed
    assert capsys.readouterr().err == errors
    assert invoke([*line, "--time-from", "none", "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith(f"{out}: was begun with time_from 'auto', now 'none'; use another --out")
    assert invoke([*line, "--time-from", "header"]) == 0
    assert [span for span in spans(capsys.readouterr().out) if span != ("", "")] == SPANS[4:6]
    assert invoke([*line, "--time-pattern", "A_%Y%m%d_%H%M%S_*"]) == 0
    stated = [begin for begin, _ in spans(capsys.readouterr().out) if begin]
    assert stated == ["2020-04-10T16:34:56.000", "2020-04-10T16:34:56.500"]
    assert invoke([*line, "--time-pattern", "REC_%Y%m%d%H%M"]) == 0
    assert capsys.readouterr().err == "no name is of the pattern 'REC_%Y%m%d%H%M', so that no times are known\n"
    assert invoke([*line, "--time-from", "none"]) == 0
    assert not re.search("begin_time|Date Time|2020-", re.sub(r"\S*/\S*|\S*\.wav", "", capsys.readouterr().out))


def test_a_clip_has_the_time_from_its_begin_to_its_end(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = recordings(tmp_path / "r")
    assert invoke(["infer", str(run), "--trust-code", *paths, "--json"]) == 0
    first, *_, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["begin_time"], first["end_time"]) == (SPANS[0][0], SPANS[1][1])
    assert (last["begin_time"], last["end_time"]) == (None, None)


def test_one_raven_table_serves_all_sounds(run: Path, sounds: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    line = ["infer", str(run), "--trust-code", "s", "--format", "raven", "--per", "window", "--threshold", "0"]
    assert invoke([*line, "--top", "2"]) == 1
    printed = capsys.readouterr().out
    rows = list(csv.DictReader(printed.splitlines(), delimiter="\t"))
    assert [int(row["Selection"]) for row in rows] == list(range(1, len(rows) + 1))
    windows = list(dict.fromkeys((row["Begin Path"], row["Begin Time (s)"]) for row in rows))
    assert len(rows) == 2 * len(windows)
    assert list(dict.fromkeys(row["Begin Path"] for row in rows)) == [
        str(path.absolute()) for path in sounds if path.name != "05.wav"
    ]
    assert all(row["Begin File"] == Path(row["Begin Path"]).name for row in rows)
    assert invoke([*line, "--top", "2", "--out", "out"]) == 1
    assert Path("out/results.txt").read_text(encoding="utf-8") == printed
    own = list(csv.DictReader(Path("out/labels/s/11.wav.txt").read_text().splitlines(), delimiter="\t"))
    assert [int(row["Selection"]) for row in own] == list(range(1, len(own) + 1))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--format", "raven", "--per", "clip"], "raven labels have a start and an end"),
        (["--format", "audacity"], "audacity labels are one file per sound; for 12 sounds use --out DIR"),
        (["--time-pattern", "REC_%H"], "table has no place for date and time"),
        (["--json", "--time-pattern", "REC_%H"], "time pattern 'REC_%H': date and time are needed, once each"),
        (["--json", "--time-pattern", "%Y%m%d%H%M", "--time-from", "header"], "a time pattern is for file names; "),
        (["--plot", "a.png"], "--plot draws a single sound, not 12"),
        (["--plot", "a.png", "--out", "o"], "--plot cannot be used with --out"),
        (["--scores", "--top", "2"], "--scores reports every class; leave out --top"),
        (["--hop", "0"], "hop must be a number of seconds, at least one sample (0.000125 s at 8000 Hz), is 0"),
        (["--smooth", "2"], "smooth must be odd and at least 1, is 2"),
        (["--off", "0.9"], "off must be at most on (0.5), is 0.9"),
    ],
)
def test_what_does_not_go_together_is_said(
    run: Path, sounds: list[Path], capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert invoke(["infer", str(run), "--trust-code", "s", *more]) == 2
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.slow
def test_a_list_comes_on_standard_input(run: Path, sounds: list[Path]) -> None:
    line = [sys.executable, "-m", "soundbench", "infer", str(run), "-", "--trust-code"]
    told = subprocess.run(line, input="s/1*.wav\n\ns/00.wav\n", capture_output=True, text=True, check=True)
    assert [row.split("\t")[0] for row in told.stdout.splitlines()] == ["s/10.wav", "s/11.wav", "s/00.wav"]
    none = subprocess.run(line, input="", capture_output=True, text=True, check=False)
    assert (none.returncode, none.stderr) == (2, "-: no paths on standard input; give one path per line\n")


@pytest.mark.parametrize("per", ["clip", "window"])
def test_embeddings_are_written_with_their_index(run: Path, sounds: list[Path], per: str) -> None:
    assert invoke(["embed", str(run), "s", "--out", "e", "--per", per, "--trust-code"]) == 1
    found, rows = np.load("e/embeddings.npy"), files.read_rows(Path("e/index.csv"))
    classifier = soundbench.load(run, trust_code=True)
    assert [int(row["row"]) for row in rows] == list(range(len(found)))
    for path in (sounds[0], sounds[11]):
        own = found[[row["path"] == str(path) for row in rows]]
        assert len(own) == (1 if per == "clip" else -(-soundfile.info(path).frames // 1600))
        np.testing.assert_allclose(own.mean(axis=0), classifier.embed(path), atol=1e-5)
    assert [row["path"] for row in files.read_rows(Path("e/errors.csv"))] == ["s/05.wav"]


@pytest.mark.slow
def test_killed_at_any_moment_a_second_call_goes_on(run: Path, sounds: list[Path]) -> None:
    """SIGKILL in a real process, until it has been killed three times after something new was done."""
    Path("many").mkdir()
    for number in range(4000):
        os.link(sounds[number % 5], f"many/{number:04}.wav")
    line = [sys.executable, "-m", "soundbench", "infer", str(run), "many", "--trust-code", "--batch", "1"]
    line += ["--format", "csv", "--out", "out"]
    journal, kills, before = Path("out/parts/0.jsonl"), 0, 0
    while kills < 3:
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and (not journal.exists() or journal.stat().st_size <= before):
            time.sleep(0.01)
        assert process.poll() is None, "it was done before it could be killed"
        time.sleep(0.05 * kills)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills, before = kills + 1, journal.stat().st_size
    done = [json.loads(row)["path"] for row in journal.read_bytes().decode().splitlines()]
    assert 0 < len(done) < 4000
    for path in done[:100]:
        os.unlink(path)
        Path(path).touch()
    subprocess.run(line, check=True, capture_output=True)
    rows = files.read_rows(Path("out/results.csv"))
    assert [row["path"] for row in rows] == [f"many/{number:04}.wav" for number in range(4000)]
    for number, row in enumerate(rows):
        assert row | {"path": ""} == rows[number % 5] | {"path": ""}
    assert many_files.model_digest(run) == many_files.model_digest(run / "model")


def test_what_is_odd_about_a_sound_is_one_line_that_names_it(run: Path, sounds: list[Path]) -> None:
    """Of each sound once, and the rows are those of any other sound."""
    left = 0.3 * np.random.default_rng(0).standard_normal(8000)
    soundfile.write("antiphase.wav", np.stack([left, -left], axis=1), 8000)
    soundfile.write("integers.wav", 10000 * left, 8000, subtype="FLOAT")
    names = ["antiphase.wav", "integers.wav", "s/01.wav"]
    line = [sys.executable, "-m", "soundbench", "infer", str(run), *names, "--trust-code", "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert [json.loads(row)["path"] for row in done.stdout.splitlines()] == names
    peak = f"{np.abs(10000 * left.astype(np.float32)).max():.6g}"
    assert done.stderr.splitlines() == [
        "antiphase.wav: its channels cancel each other: hardly anything is left when they are mixed to one; use one of "
        "them",
        f"integers.wav: its peak is {peak}, where 1.0 is full scale: are these integers, to be divided by 32768?",
    ]
