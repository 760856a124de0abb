"""`evaluate --events`: what a trained model finds in annotated recordings, against the annotations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import soundbench
from soundbench import files
from soundbench.cli.main import invoke

RATE = 4000


def recording(path: Path, seed: int, seconds: float = 12.0) -> list[tuple[float, float, str]]:
    """A recording with a hum and a hiss at a time each, over faint noise; returns what is in it."""
    random = np.random.default_rng(seed)
    samples = random.normal(0, 1e-3, round(seconds * RATE))
    marks = []
    for label, begin in zip(random.permutation(["hum", "hiss"]), (1.0, 7.0), strict=True):
        start = round(begin + random.uniform(0, 2), 2)
        stop = round(start + random.uniform(1, 2), 2)
        time = np.arange(round(start * RATE), round(stop * RATE))
        hum = np.sin(2 * np.pi * random.uniform(200, 500) * time / RATE)
        samples[time] += 0.2 * (hum if label == "hum" else random.normal(size=len(time)))
        marks.append((start, stop, str(label)))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)
    path.with_suffix(".txt").write_text("".join(f"{start}\t{stop}\t{label}\n" for start, stop, label in marks))
    return marks


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run on annotated recordings, and the recipe."""
    folder = tmp_path_factory.mktemp("annotated")
    for seed in range(16):
        recording(folder / "sounds" / f"{seed}.wav", seed)
    recipe = folder / "events.toml"
    recipe.write_text(f"""
        loss = "bce"
        observer = []
        dataset = {{use = "annotations", tables = "{folder}/sounds", clip = 0.5, negatives = "nothing"}}
        split = {{test = 0.25, validation = 0.25}}
        audio = {{rate = {RATE}, window = 0.5}}
        featurizer = {{use = "fbank", bands = 16, normalize = "none"}}
        backbone = {{use = "tdnn", channels = 16}}
        optimizer = {{use = "adamw", lr = 1e-2}}
        train = {{epochs = 4, batch_size = 32, device = "cpu", precision = "fp32", threads = 1}}
    """)
    run = soundbench.run(recipe, out=folder / "run", cache=folder / "cache", say=lambda _: None)
    return run.path, recipe


@pytest.fixture
def held(tmp_path: Path) -> Path:
    for seed in range(100, 104):
        recording(tmp_path / "held" / f"{seed}.wav", seed)
    return tmp_path / "held"


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[Path, dict[str, Any], str]:
    """The folder, the report and what is said."""
    capsys.readouterr()
    assert invoke(["evaluate", *map(str, arguments)]) == 0
    said = capsys.readouterr()
    folder = Path(said.out.strip())
    return folder, json.loads((folder / "report.json").read_text()), said.err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    assert invoke(["evaluate", *map(str, arguments)]) in (1, 2)
    return capsys.readouterr().err.strip()


def test_events_are_scored_and_every_one_is_listed(
    trained: tuple[Path, Path], held: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, found, said = evaluated(capsys, trained[0], "--events", held, "--hop", "0.25")
    assert folder.parent == trained[0] / "evaluations"
    assert (found["annotations"], found["recordings"], found["groups"]) == (8, 4, 4)
    assert found["hours"] == pytest.approx(4 * 12 / 3600)
    assert [row["class"] for row in found["per_class"]] == ["hiss", "hum"]  # `nothing` is no event
    assert found["metrics"]["overlap_f1"]["value"] > 0.8
    assert found["metrics"]["time_f1"]["value"] > 0.8 > found["baseline"]["time_f1"]
    rows = list(files.read_rows(folder / "events.csv", "kind", "onset", "overlap"))
    for name in ("onset", "overlap"):
        right = {kind: [row[name] for row in rows if row["kind"] == kind] for kind in ("annotation", "event")}
        precision, recall = (right[kind].count("true") / len(right[kind]) for kind in ("event", "annotation"))
        assert found["metrics"][f"{name}_precision"]["value"] == pytest.approx(precision)
        assert found["metrics"][f"{name}_recall"]["value"] == pytest.approx(recall)
        alarms = right["event"].count("false") / found["hours"]
        assert found["metrics"][f"{name}_false_alarms_per_hour"]["value"] == pytest.approx(alarms)
    assert (found["protocol"]["window"], found["protocol"]["hop"]) == (0.5, 0.25)
    assert "8 annotations" in said
    page = (folder / "report.md").read_text()
    assert "| by onset: it begins within 0.5 s of the annotation |" in page
    assert "--hop 0.25" in page
    assert str(held.parent) not in page
    assert soundbench.Run(folder).metrics["onset_f1"].value == found["metrics"]["onset_f1"]["value"]


@pytest.mark.parametrize("form", ["raven", "audacity", "csv"])
def test_what_infer_writes_scores_as_wholly_right(
    trained: tuple[Path, Path], held: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    out = held.with_name("out")
    assert invoke(["infer", str(trained[0]), str(held), "--per", "event", "--format", form, "--out", str(out)]) == 0
    tables = out / "results.csv" if form == "csv" else out / "labels"
    _, found, _ = evaluated(capsys, trained[0], "--events", tables, "--sounds", held)
    assert found["annotations"] == found["events"] > 0
    assert {found["metrics"][f"{name}_f1"]["value"] for name in ("onset", "overlap")} == {1.0}
    assert found["metrics"]["time_f1"]["value"] == pytest.approx(1)
    assert found["metrics"]["onset_false_alarms_per_hour"]["value"] == 0


def test_of_a_recipe_the_recordings_of_the_test_set_are_scored(
    trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, recipe = trained
    folder, found, _ = evaluated(capsys, run, "--events", recipe)
    tested = {row["path"] for row in files.read_rows(run / "clips.csv", "part", "path") if row["part"] == "test"}
    assert {row["path"] for row in files.read_rows(folder / "events.csv", "path")} == tested
    assert found["recordings"] == len(tested) == 4
    assert found["protocol"]["notes"] == []
    _, found, _ = evaluated(capsys, run, "--events", recipe.parent / "sounds")
    assert found["protocol"]["notes"] == ["12 of the recordings are those that the run was trained or validated on"]


def test_a_model_alone_is_scored_and_labels_can_be_left_out(
    trained: tuple[Path, Path], held: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = shutil.copytree(trained[0] / "model", tmp_path / "model")
    (held / "100.txt").write_text("1\t2\tcough\n")
    assert "'cough' (1)" in refused(capsys, model, "--events", held, "--out", tmp_path / "a")
    ignore = ("--ignore", "cough", "--ignore", "nothing")
    _, found, _ = evaluated(capsys, model, "--events", held, "--out", tmp_path / "b", *ignore)
    assert [row["class"] for row in found["per_class"]] == ["hiss", "hum"]
    assert found["annotations"] == 6
    assert found["protocol"]["no_events"] == ["cough", "nothing"]
    assert found["protocol"]["notes"] == ["it is not known what the model was trained on"]


def test_the_collar_and_the_overlap_decide_what_is_right(
    trained: tuple[Path, Path], held: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loose, strict = (
        evaluated(capsys, trained[0], "--events", held, "--collar", collar, "--overlap", share)[1]["metrics"]
        for collar, share in (("3", "0.01"), ("0", "1"))
    )
    for name in ("onset_f1", "overlap_f1"):
        assert strict[name]["value"] < loose[name]["value"]
    assert strict["time_f1"] == loose["time_f1"]


def test_mistakes_get_one_line(
    trained: tuple[Path, Path], held: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run, recipe = trained
    assert "--collar is for events in annotated recordings, and needs --events" in refused(capsys, run, "--collar", "1")
    assert "one at a time" in refused(capsys, run, "--events", held, "--dataset", held)
    assert "--sounds is for tables" in refused(capsys, run, "--events", recipe, "--sounds", held)
    assert "give a folder with --out" in refused(capsys, run / "model", "--events", held)
    assert "no such table of annotations, or folder" in refused(capsys, run, "--events", tmp_path / "nowhere")
    assert 'did you mean "hum"?' in refused(capsys, run, "--events", held, "--ignore", "humm")
    other = tmp_path / "other.toml"
    other.write_text('backbone = "tdnn"\ndataset = {use = "tones"}\n')
    assert "its dataset has no annotated recordings" in refused(capsys, run, "--events", other)
    with (held / "100.txt").open("a") as table:
        table.write("11\t20\thum\n")
    line = refused(capsys, run, "--events", held)
    assert (
        line
        == f"{held}/100.txt, line 3: ends at 20 s, but 100.wav ends at 12 s; are the times of another recording, or is "
        "this one cut off?"
    )
    (held / "100.txt").unlink()
    (held / "101.txt").write_text("0.5\t1\thum\n")
    (held / "101.wav").write_bytes((held / "101.wav").read_bytes()[:20000])
    assert "101.wav: truncated" in refused(capsys, run, "--events", held)
    folder, _, _ = evaluated(capsys, run, "--events", recipe)
    capsys.readouterr()
    assert invoke(["report", str(folder)]) == 1
    assert "is an evaluation of events, whose page is report.md" in capsys.readouterr().err
