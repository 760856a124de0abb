"""From a table of marks to the thresholds in a model folder, and what they change."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tomli_w
from helpers.runs import RECIPE

import soundbench
from soundbench.cli.main import invoke
from soundbench.errors import DataError, MissingDataError
from soundbench.inference.review.marks import Mark, read_marks
from soundbench.model import folder as model_folder
from soundbench.recipe import toml

HEAD = "clip,path,start,end,label,score,per,model,correct\n"


def line(path: str, label: str, score: object, correct: str, per: str = "event", model: str = "") -> str:
    return f"c.wav,{path},0,1,{label},{score},{per},{model},{correct}\n"


def table(place: Path, *lines: str) -> Path:
    place.write_text(HEAD + "".join(lines), encoding="utf-8")
    return place


# The table ------------------------------------------------------------------------------------------------------------


def test_marks_are_yes_or_no_in_the_spellings_of_spreadsheets(tmp_path: Path) -> None:
    words = ["yes", "Y", "TRUE", "1", "no", "n", "False", "0", " Yes ", "", "?"]
    marks = read_marks(table(tmp_path / "m.csv", *(line("a.wav", "dog", 0.5, word) for word in words)))
    assert [mark.right for mark in marks] == [True] * 4 + [False] * 4 + [True]


def test_a_table_saved_by_a_spreadsheet_is_read_alike(tmp_path: Path) -> None:
    plain = table(tmp_path / "a.csv", line("ü.wav", "猫", 0.25, "yes"), line('"b,c.wav"', "dog", 0.5, "no"))

    def wanted(path: Path) -> list[Mark]:
        return [
            Mark("ü.wav", "猫", 0.25, True, f"{path}: line 2", "event"),
            Mark("b,c.wav", "dog", 0.5, False, f"{path}: line 3", "event"),
        ]

    assert read_marks(plain) == wanted(plain)
    text = HEAD.replace(",", ";") + "c.wav;ü.wav;0;1;猫;0,25;event;;yes\nc.wav;b,c.wav;0;1;dog;0,5;event;;no\n"
    for name, data in {"b": text, "c": text.replace(";", "\t"), "d": text.replace("\n", "\r\n")}.items():
        path = tmp_path / f"{name}.csv"
        path.write_bytes(b"\xef\xbb\xbf" + data.encode())
        assert read_marks(path) == wanted(path)


def test_each_mistake_has_its_line_and_what_is_allowed(tmp_path: Path) -> None:
    path = table(
        tmp_path / "m.csv",
        line("a.wav", "dog", 0.5, "yse"),
        line("a.wav", "dog", 0.5, "no"),
        line("a.wav", "dog", "o.5", "no"),
        line("a.wav", "dog", 1.5, "no"),
        line("", "dog", 0.5, "no"),
        line("a.wav", "dog", 0.5, "no", "clip"),
        line("a.wav", "dog", "not marked, not read", ""),
    ).with_name("m.csv")
    path.write_text(path.read_text().replace("not marked, not read", "-"))
    with pytest.raises(DataError) as caught:
        read_marks(path)
    assert str(caught.value).replace(f"{path}: ", "").splitlines() == [
        'line 2: correct must be yes or no (or y, n, true, false, 1, 0; empty or ? if it is open), is "yse"',
        'line 4: score must be a number from 0 to 1, is "o.5"',
        'line 5: score must be a number from 0 to 1, is "1.5"',
        "line 6: path is empty",
        'line 7: per must be window or event, is "clip"',
    ]
    many = table(tmp_path / "n.csv", *(line("a.wav", "dog", 0.5, "x") for _ in range(100)))
    with pytest.raises(DataError, match="80 more lines with mistakes") as caught:
        read_marks(many)
    assert len(str(caught.value).splitlines()) == 21


def test_what_is_no_marked_table_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    with pytest.raises(MissingDataError, match="no such table; segments writes one as segments"):
        read_marks(path)
    with pytest.raises(DataError, match="none of its 2 rows is marked; write yes or no into the column correct"):
        read_marks(table(path, line("a.wav", "dog", 0.5, ""), line("a.wav", "dog", 0.5, "?")))
    path.write_text("path,label\na.wav,dog\n")
    with pytest.raises(DataError, match="has no column score, correct; segments writes clip, path, start"):
        read_marks(path)
    table(path, "a.wav,dog\n")
    with pytest.raises(DataError, match="line 2: has not as many cells as the header"):
        read_marks(path)
    path.write_bytes(HEAD.encode() + "é".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8; save it as CSV UTF-8"):
        read_marks(path)


# The model ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.toml").write_text(RECIPE)
    recipe = soundbench.read_recipe(folder / "toy.toml", ["train.epochs=1", "dataset.clips=24"])
    return soundbench.run(recipe, out=folder / "run", cache=False).path


@pytest.fixture
def model(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of the classes low and high; 30 s of noise beside it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run / "model", "model")
    soundfile.write("a.wav", 0.1 * np.random.default_rng(0).standard_normal(30 * 8000), 8000)
    return Path("model")


def marked(label: str = "low", per: str = "event", model: str = "") -> list[str]:
    """40 marks of 20 sounds, right above a score of about 0.6."""
    random = np.random.default_rng(0)
    scores = random.random(40)
    right = random.random(40) < 1 / (1 + np.exp(-20 * (scores - 0.6)))
    return [
        line(f"{n % 20}.wav", label, f"{score:.6f}", "yes" if true else "no", per, model)
        for n, (score, true) in enumerate(zip(scores, right, strict=True))
    ]


def test_a_table_goes_from_infer_to_segments_and_back_into_the_model(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    infer = ["infer", "model", "--trust-code", "a.wav", "--hop", "0.1"]
    assert invoke([*infer, "--per", "window", "--threshold", "0.01", "--json", "--out", "found"]) == 0
    assert invoke(["segments", "found", "--out", "review", "--most", "40", "--pad", "0.1"]) == 0
    rows = list(csv.DictReader(Path("review/segments.csv").read_text().splitlines()))
    assert {row["model"] for row in rows} == {model_folder.scores_digest(model)}
    assert {row["per"] for row in rows} == {"window"}
    middle = {
        name: np.median([float(row["score"]) for row in rows if row["label"] == name]) for name in ("low", "high")
    }
    for number, row in enumerate(rows):  # as of two sounds, right if the score is high for the class
        right = float(row["score"]) > middle[row["label"]]
        row |= {"correct": "yes" if right else "no", "path": f"{number % 2}.wav"}
    with open("marked.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    capsys.readouterr()
    before = (model / "model.toml").read_bytes()
    assert invoke(["thresholds", "model", "marked.csv"]) == 0
    assert "from these scores on, at least 90.0% are right:" in capsys.readouterr().out
    assert (model / "model.toml").read_bytes() == before  # nothing is written unless asked for
    assert invoke(["thresholds", "model", "marked.csv", "--write"]) == 0
    assert capsys.readouterr().out.endswith("model/model.toml\n")
    assert model_folder.check(model) == []
    written = toml.parse((model / "model.toml").read_bytes())["thresholds"]
    for own, row in zip(written, csv.DictReader(Path("model/thresholds.csv").read_text().splitlines()), strict=True):
        assert own == pytest.approx(float(row["threshold"]), abs=1e-4)
        assert (row["precision"], row["per"], row["sounds"]) == ("0.9", "window", "2")
    assert soundbench.load("model", trust_code=True).thresholds == pytest.approx(written)
    # the same marks again: thresholds change no score, so the marks are still of this model
    assert invoke(["thresholds", "model", "marked.csv", "--precision", "0.8", "--write"]) == 0


def test_a_class_without_a_threshold_keeps_what_it_has(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(Path("m.csv"), *marked("low"), line("a.wav", "high", 0.5, "yes"))
    assert invoke(["thresholds", "model", "m.csv", "--write"]) == 0
    assert "all marks are right; both kinds are needed" in capsys.readouterr().out
    low, high = (soundbench.load("model", trust_code=True).classes.index(name) for name in ("low", "high"))
    thresholds = soundbench.load("model", trust_code=True).thresholds
    assert thresholds is not None
    assert thresholds[high] == 0
    assert 0.6 < thresholds[low] < 1
    table(Path("m.csv"), line("a.wav", "high", 0.5, "yes"))
    assert invoke(["thresholds", "model", "m.csv", "--write"]) == 1
    assert capsys.readouterr().err == "model: nothing to write: no class has a threshold\n"
    assert soundbench.load("model", trust_code=True).thresholds == thresholds


def test_a_threshold_of_a_class_acts_on_labels_and_events(model: Path) -> None:
    plain = soundbench.load("model", trust_code=True)
    windows = list(plain.windows("a.wav"))
    best = max(window.score for window in windows)
    some = sorted(window.score for window in windows)[len(windows) // 2]
    values = [some if name == "low" else 0.0 for name in plain.classes]
    model_folder.save_thresholds(model, values)
    strict = soundbench.load("model", trust_code=True)
    assert not strict.multilabel
    assert len({window.label for window in windows}) >= 1
    for one, other in zip(windows, strict.windows("a.wav"), strict=True):
        assert (other.label, other.score, other.scores) == (one.label, one.score, one.scores)
        passes = bool(one.labels) and (one.label != "low" or one.score >= some)
        assert other.labels == ((one.label,) if passes else ())
    assert strict.event_rules().on == tuple(some if name == "low" else 0.5 for name in plain.classes)
    assert plain.event_rules().on == 0.5
    model_folder.save_thresholds(model, [min(best + 0.1, 1.0)] * len(values))
    assert soundbench.load("model", trust_code=True).events("a.wav") == []


def test_a_kill_at_any_moment_leaves_a_model_that_loads(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the three writes fails in turn."""
    real = model_folder.files.write_bytes
    for fails_at in range(3):
        calls = 0

        def write(path: Path, data: bytes, last: int = fails_at) -> None:
            nonlocal calls
            calls += 1
            if calls > last:
                raise KeyboardInterrupt
            real(path, data)

        with monkeypatch.context() as patch:
            patch.setattr("soundbench.files.write_bytes", write)
            patch.setattr("soundbench.model.folder.files.write_bytes", write)
            with pytest.raises(KeyboardInterrupt):
                model_folder.save_thresholds(model, [0.1 * (fails_at + 1)] * 2)
        soundbench.load("model", trust_code=True)


def test_marks_of_another_model_are_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = model_folder.scores_digest(model)
    cases = {
        "m.csv: line 2: the model has no class 'lwo'; did you mean \"low\"? it has: ": marked("lwo"),
        f"m.csv: line 2: is of another model, 0123; model is {own}\n": marked(model="0123"),
        "m.csv: line 42: is of a window, others are of events, whose scores differ: give them apart\n": [
            *marked(), *marked(per="window")
        ],
    }  # fmt: skip
    for message, lines in cases.items():
        table(Path("m.csv"), *lines)
        assert invoke(["thresholds", "model", "m.csv"]) == 1
        assert capsys.readouterr().err.startswith(message)
    table(Path("m.csv"), *marked(model=own))
    assert invoke(["thresholds", "model", "m.csv"]) == 0
    Path("model.onnx").touch()
    capsys.readouterr()
    assert invoke(["thresholds", "model.onnx", "m.csv"]) == 2
    assert capsys.readouterr().err == "model.onnx: is a file; give the run directory, or its model folder\n"
    assert invoke(["thresholds", "model", "m.csv", "--precision", "90"]) == 2
    assert capsys.readouterr().err == "precision must be between 0 and 1, is 90\n"
    text = (model / "model.toml").read_text()
    (model / "model.toml").write_text(text + "\n# by hand\n")
    assert invoke(["thresholds", "model", "m.csv"]) == 1
    assert "model.toml: was changed since soundbench wrote it" in capsys.readouterr().err
    assert invoke(["thresholds", "model", "m.csv", "--accept-changes"]) == 0
    assert model_folder.check(model) == []


def test_a_multi_label_model_keeps_its_own_thresholds_where_none_is_fitted(model: Path) -> None:
    tables = model_folder.read_model_tables(model) | {"multilabel": True, "thresholds": [0.3, 0.7]}
    (model / "model.toml").write_text(tomli_w.dumps(tables))
    model_folder.accept(model)
    name = tables["classes"][1]
    table(Path("m.csv"), *marked(name))
    assert invoke(["thresholds", "model", "m.csv", "--write"]) == 0
    classifier = soundbench.load("model", trust_code=True)
    assert classifier.multilabel
    assert classifier.thresholds is not None
    assert classifier.thresholds[0] == 0.3
    assert classifier.thresholds[1] != 0.7


def test_what_scores_depend_on_changes_their_digest_and_thresholds_do_not(model: Path) -> None:
    before = model_folder.scores_digest(model)
    model_folder.save_thresholds(model, [0.25, 0.75])
    assert model_folder.scores_digest(model) == before
    data = bytearray((model / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (model / "weights.safetensors").write_bytes(data)
    assert model_folder.scores_digest(model) != before


def test_results_say_which_model_they_are_of(model: Path, run: Path) -> None:
    assert invoke(["infer", "model", "--trust-code", "a.wav", "--per", "window", "--json", "--out", "found"]) == 0
    settings = json.loads(Path("found/settings.json").read_text())
    assert settings["scores"] == model_folder.scores_digest(model) == model_folder.scores_digest(run / "model")
