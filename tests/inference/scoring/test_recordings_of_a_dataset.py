"""Any dataset with `recordings` can be evaluated: here one in a local file, with a class that is no event."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import toys
from helpers.group import in_one_group
from helpers.runs import RECIPE, toy_run

from soundbench import files
from soundbench.contracts import Clip
from soundbench.errors import CallError, DataError
from soundbench.inference.scoring.figures import Criteria
from soundbench.inference.scoring.recordings import EVENTS, evaluate_events

pytestmark = pytest.mark.usefixtures("cache")

MARKED = '''
"""Recordings of a second of low noise, then one of high noise."""

from pathlib import Path

from soundbench.contracts import Annotation, Clip, Recording


class Marked:
    """Annotated recordings.

    Args:
        root: where.
        odd: how many have a label that no model knows.
    """

    multilabel = False
    negatives = "high"
    classes = ("high", "low", "odd")

    def __init__(self, *, root: Path, odd: int = 0) -> None:
        self.root, self.odd = root, odd

    def paths(self):
        return sorted(map(str, self.root.glob("*.wav")))

    def clips(self):
        for number, path in enumerate(self.paths()):
            fold = "test" if number else "train"
            yield Clip(path, ("low",), 0.0, 1.0, fold)
            yield Clip(path, ("high",), 1.0, None, fold)

    def recordings(self):
        for number, path in enumerate(self.paths()):
            yield Recording(path, (Annotation("odd" if number <= self.odd else "low", 0.0, 1.0),))
'''


def trained(folder: Path) -> Path:
    """A run, and beside it four recordings and their dataset."""
    (folder / "toy.toml").write_text(RECIPE)
    noise = toys.ToyDataset(seed=5)
    for number in range(4):
        halves = [np.resize(noise.read(Clip(str(number), (label,)))[0], 8000) for label in ("low", "high")]
        soundfile.write(folder / f"{number}.wav", np.concatenate(halves), 8000)
    (folder / "marked.py").write_text(MARKED)
    return toy_run(folder / "toy.toml", folder / "run")


def write(recipe: Path, more: str = "", on_error: str = "fail") -> None:
    """A recipe of the recordings beside it."""
    table = f'dataset = {{use = "./marked.py:Marked", root = "{recipe.parent}"{more}}}'
    rest = RECIPE.partition("\naugmentation")[2].replace("test = [4]", 'test = ["test"]')
    recipe.write_text(f"{table}\naugmentation{rest}".replace("[audio]", f'[audio]\non_error = "{on_error}"'))


def test_the_recordings_of_its_test_set_are_scored_without_the_class_of_negatives(tmp_path: Path) -> None:
    run, recipe = trained(tmp_path), tmp_path / "events.toml"
    write(recipe)
    said: list[str] = []
    done = evaluate_events(run, recipe, how=Criteria(collar=0.3), trust_code=True, say=said.append)
    found = done.report
    assert (found["classes"], found["protocol"]["no_events"]) == (["low"], ["high"])
    assert (found["annotations"], found["recordings"]) == (3, 3)
    assert found["metrics"]["onset_f1"]["value"] == found["metrics"]["overlap_f1"]["value"] == 1
    paths = {row["path"] for row in files.read_rows(done.path / EVENTS, "path", "kind")}
    assert paths == {str(tmp_path / f"{number}.wav") for number in (1, 2, 3)}
    assert any(line.startswith("events ") for line in said)

    write(recipe, ", odd = 2")
    with pytest.raises(
        CallError, match=r"not among the model's classes, with their number of annotations: 'odd' \(2\)"
    ):
        evaluate_events(run, recipe, trust_code=True, say=said.append)
    again = evaluate_events(run, recipe, ignore=["odd"], trust_code=True, say=said.append).report
    assert again["annotations"] == 1
    assert again["metrics"]["overlap_precision"]["value"] == pytest.approx(1 / 3)

    (tmp_path / "2.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"2\.wav: is not a sound file .*; fix or remove this recording"):
        evaluate_events(run, recipe, ignore=["odd"], trust_code=True, say=said.append)
    write(recipe, ", odd = 2", "skip")
    again = evaluate_events(run, recipe, ignore=["odd"], trust_code=True, say=said.append).report
    assert again["recordings"] == 2
    assert any("2.wav" in line and line.endswith("it is not scored") for line in said)


@pytest.mark.slow
def test_several_processes_score_recordings_as_one_does(tmp_path: Path) -> None:
    """A recording that cannot be read is left out, or is an error of one of them; and one of them may have none."""
    run, recipe, few = trained(tmp_path), tmp_path / "events.toml", tmp_path / "few"
    few.mkdir()
    for name in ("0.wav", "1.wav", "marked.py"):
        shutil.copy(tmp_path / name, few)
    write(recipe, on_error="skip")
    write(tmp_path / "strict.toml")
    write(few / "events.toml")
    (tmp_path / "2.wav").write_bytes(b"RIFF")
    one = evaluate_events(run, recipe, out=tmp_path / "one", trust_code=True)
    line = ["evaluate", run, "--trust-code", "--events"]
    lines = {
        "skip": [*line, recipe, "--out", tmp_path / "two"],
        "few": [*line, few / "events.toml", "--out", tmp_path / "three"],
        "fail": [*line, tmp_path / "strict.toml", "--out", tmp_path / "none"],
    }
    ends = in_one_group(lines, tmp_path)
    assert [end[:2] for end in ends["skip"]] == [[0, f"{tmp_path / 'two'}\n"], [0, ""]]
    assert [end[2].count("2.wav: is not a sound file") for end in ends["skip"]] == [1, 0]
    two = json.loads((tmp_path / "two" / "report.json").read_text())
    assert one.report["recordings"] == 2
    for key in ("recordings", "annotations", "events", "classes", "metrics"):
        assert two[key] == one.report[key]
    assert files.read_rows(tmp_path / "two" / EVENTS) == files.read_rows(one.path / EVENTS)
    assert [end[0] for end in ends["few"]] == [0, 0]
    assert "more processes (2) than recordings (1): some have nothing to do\n" in ends["few"][0][2]
    assert [end[0] for end in ends["fail"]] == [1, 1]
    assert ends["fail"][1][2].endswith("fix or remove this recording\n")
    assert "lost the connection to another process" in ends["fail"][0][2]  # it does not wait for the other
