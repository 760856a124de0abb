"""What several processes of `evaluate` and `infer` do together: what one does, each clip once, in order."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers import toys
from helpers.group import in_one_group
from helpers.near import near
from helpers.runs import RECIPE, command, done, start, toy_run

import soundbench
from soundbench import files
from soundbench.cli.main import invoke
from soundbench.contracts import Clip
from soundbench.inference import journal
from soundbench.inference.many_files import _into
from soundbench.inference.progress import Progress
from soundbench.report.run_directory import RunDirectory

ONCE = ("seconds", "command")
Both = tuple[Path, dict[str, list[Any]]]


pytestmark = pytest.mark.usefixtures("one_cache")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a calibration and with thresholds that reject sound."""
    folder = tmp_path_factory.mktemp("toys")
    (folder / "toys.toml").write_text(RECIPE.replace("clips = 64", "clips = 399"))
    return toy_run(folder / "toys.toml", folder / "run", "train.epochs=1")


@pytest.fixture
def sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nine sounds of the two classes and of many lengths, of which one is broken; below the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("s").mkdir()
    noise = toys.ToyDataset(seed=5)
    for number in range(9):
        samples = noise.read(Clip(str(number), (("low", "high")[number % 2],)))[0]
        soundfile.write(f"s/{number}.wav", np.resize(samples, 1000 * (9 - number)), 8000)
    Path("s/5.wav").write_text("no sound")
    return sorted(map(str, Path("s").iterdir()))


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def report(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "report.json").read_text())
    return {name: value for name, value in found.items() if name not in ONCE}


def alike(one: Path, other: Path) -> None:
    near(report(one), report(other))
    rows = [files.read_rows(RunDirectory(folder).predictions) for folder in (one, other)]
    for mine, theirs in zip(*rows, strict=True):
        assert list(mine) == list(theirs)
        for name, value in mine.items():
            if name.startswith("score"):
                assert float(value) == pytest.approx(float(theirs[name]), rel=0, abs=1e-6)
            else:
                assert value == theirs[name]


# -- evaluate --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_evaluate_as_one_does(run: Path, tmp_path: Path) -> None:
    """Calibrated, and with what is rejected; the clips are no multiple of the processes."""
    one, two = tmp_path / "one", tmp_path / "two"
    soundbench.evaluate(run, out=one, trust_code=True)
    assert done(command("evaluate", run, "--out", two, "--trust-code", "--processes", 2)) == f"{two}\n"
    found = report(two)
    assert {"calibration", "reject"} <= set(found)
    assert found["clips"] == 99
    assert 0 < found["reject"]["kept"]["value"] < 1
    alike(one, two)
    assert (two / "log.txt").read_text().count("evaluation: ") == 1


# -- infer -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_infer_as_one_does(run: Path, sounds: list[str]) -> None:
    """Paths from standard input too, which only the command itself can read."""
    Path("list").write_text("\n".join(sounds) + "\n")
    line = ["infer", str(run), "--trust-code", "--format", "jsonl"]
    assert invoke([*line, "s", "--out", "one"]) == 1
    with Path("list").open() as listed:
        before = os.dup(0)
        os.dup2(listed.fileno(), 0)
        try:
            process = command(*line, "-", "--out", "two", "--processes", 2)
        finally:
            os.dup2(before, 0)
            os.close(before)
    out, errors = process.communicate(timeout=100)
    assert (process.returncode, out) == (1, "two\n"), errors
    assert errors == "1 of 9 files could not be scored; see two/errors.csv\n"
    one, two = (lines(Path(name, "results.jsonl")) for name in ("one", "two"))
    assert [row["path"] for row in two] == [path for path in sounds if path != "s/5.wav"]
    near(one, two)
    assert Path("one/errors.csv").read_text() == Path("two/errors.csv").read_text()
    shares = [[row["path"] for row in lines(Path(f"two/parts/{part}.jsonl"))] for part in range(2)]
    assert sorted(path for share in shares for path in share) == sounds
    assert all(shares)


@pytest.mark.slow
def test_stopped_by_hand_they_go_on_by_another_number(run: Path, sounds: list[str]) -> None:
    Path("many").mkdir()
    for number in range(3000):
        os.link(sounds[number % 5], f"many/{number:04}.wav")
    line = ["infer", run, "many", "--trust-code", "--format", "csv", "--batch", 1, "--out", "out"]
    process, parts = start(*line, "--processes", 2), [Path(f"out/parts/{part}.jsonl") for part in (0, 1)]
    while process.poll() is None and not all(part.exists() and part.stat().st_size for part in parts):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=100)
    assert (process.returncode, out, errors.strip()) == (130, "", "stopped by hand")
    before = journal.read(Path("out"))
    assert 0 < len(before) < 3000
    for path in before:
        Path(path).unlink()  # what is done is not read again
        Path(path).touch()
    assert invoke([*map(str, line), "--batch", "32"]) == 0
    rows = files.read_rows(Path("out/results.csv"))
    assert [row["path"] for row in rows] == [f"many/{number:04}.wav" for number in range(3000)]
    for number, row in enumerate(rows):
        assert row | {"path": "", "score": ""} == rows[number % 5] | {"path": "", "score": ""}


# -- by torchrun -----------------------------------------------------------------------------------------------------


def late(folder: Path) -> bool:
    """Whether the process finds the results of files when it goes on; the first one needs a while for them."""
    results = folder / "late" / "results"

    def work(out: journal.Journal, left: list[Path]) -> None:
        for path in left:
            out.done(str(path))

    def merge(records: list[journal.Record]) -> None:
        time.sleep(0.5)
        results.touch()

    _into(results.parent, [Path("a"), Path("b")], {"work": "infer", "model": ""}, work, merge)
    return results.exists()


@pytest.fixture(scope="module")
def both(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """The folder in which two processes worked, and how each command ended in both."""
    folder, noise = tmp_path_factory.mktemp("both"), toys.ToyDataset(seed=5)
    for name in ("data", "broken"):
        (folder / name / "low").mkdir(parents=True)
        soundfile.write(folder / name / "low" / "a.wav", noise.read(Clip("0", ("low",)))[0], 8000)
    (folder / "broken" / "low" / "b.wav").write_text("no sound")
    evaluate, infer = ["evaluate", run, "--trust-code"], ["infer", run, folder / "data", "--trust-code"]
    lines = {
        "own": evaluate,
        "one clip": [*evaluate, "--dataset", folder / "data", "--out", folder / "clip"],
        "broken": [*evaluate, "--dataset", folder / "broken", "--out", folder / "none"],
        "one file": [*infer, "--format", "csv", "--out", folder / "file"],
        "other settings": [*infer, "--format", "csv", "--hop", 0.1, "--out", folder / "file"],
        "no folder": infer,
    }
    return folder, in_one_group(lines, folder, late)


@pytest.mark.slow
def test_processes_of_torchrun_make_one_evaluation(run: Path, both: Both) -> None:
    (made,) = (run / "evaluations").iterdir()
    first, second = both[1]["own"]
    assert first[:2] == [0, f"{made}\n"]
    assert second == [0, "", ""]
    assert report(made)["clips"] == 99


@pytest.mark.slow
def test_more_processes_than_clips_or_files_score_them(run: Path, both: Both, tmp_path: Path) -> None:
    folder, ends = both
    for name, what in (("one clip", "clips"), ("one file", "files")):
        first, second = ends[name]
        assert first[0] == 0
        assert first[2].count(f"more processes (2) than {what} (1): some have nothing to do\n") == 1
        assert second == [0, "", ""]
    soundbench.evaluate(run, folder / "data", out=tmp_path / "one", trust_code=True)
    alike(tmp_path / "one", folder / "clip")
    (row,) = files.read_rows(folder / "file" / "results.csv")
    assert row["path"] == str(folder / "data" / "low" / "a.wav")


@pytest.mark.slow
def test_what_is_refused_is_refused_by_all(both: Both) -> None:
    for name, code, message in (
        ("broken", 1, "b.wav: is not a sound file"),
        ("other settings", 2, "file: was begun with hop None, now 0.1;"),
        ("no folder", 2, "several processes need --out DIR for their results\n"),
    ):
        ends = both[1][name]
        assert [end[:2] for end in ends] == [[code, ""]] * 2
        assert all(message in end[2] for end in ends)


@pytest.mark.slow
def test_none_ends_before_the_results_are_written(both: Both) -> None:
    """Whoever ends with errors would end the others."""
    assert both[1]["then"] == [True, True]


def test_results_of_several_processes_need_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which is said before anything is opened."""
    assert invoke(["infer", str(tmp_path), "s", "--processes", "2"]) == 2
    assert capsys.readouterr() == ("", "several processes need --out DIR for their results\n")


def test_the_first_process_alone_shows_its_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    both = [Progress(4, 1000.0, rank, 2) for rank in (0, 1)]
    now = 125.0
    for one in both:
        one.finish(250, 50.0)
        one.close()
    line = "1 of 4 files in the first of 2 processes, 0:50 of sound, 2.0 x real time, 1:15 left\n"
    assert capsys.readouterr().err == 2 * line
