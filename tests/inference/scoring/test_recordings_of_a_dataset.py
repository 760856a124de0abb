"""Any dataset with `recordings` can be evaluated: here one in a local file, with a class that is no event."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import toys
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


def test_the_recordings_of_its_test_set_are_scored_without_the_class_of_negatives(tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(RECIPE)
    run = toy_run(tmp_path / "toy.toml", tmp_path / "run")
    noise = toys.ToyDataset(seed=5)
    for number in range(4):
        halves = [np.resize(noise.read(Clip(str(number), (label,)))[0], 8000) for label in ("low", "high")]
        soundfile.write(tmp_path / f"{number}.wav", np.concatenate(halves), 8000)
    (tmp_path / "marked.py").write_text(MARKED)
    recipe = tmp_path / "events.toml"
    rest = RECIPE.partition("\naugmentation")[2].replace("test = [4]", 'test = ["test"]')

    def write(more: str = "") -> None:
        table = f'dataset = {{use = "./marked.py:Marked", root = "{tmp_path}"{more}}}'
        recipe.write_text(f"{table}\naugmentation{rest}")

    write()
    said: list[str] = []
    done = evaluate_events(run, recipe, how=Criteria(collar=0.3), trust_code=True, say=said.append)
    found = done.report
    assert (found["classes"], found["protocol"]["no_events"]) == (["low"], ["high"])
    assert (found["annotations"], found["recordings"]) == (3, 3)
    assert found["metrics"]["onset_f1"]["value"] == found["metrics"]["overlap_f1"]["value"] == 1
    paths = {row["path"] for row in files.read_rows(done.path / EVENTS, "path", "kind")}
    assert paths == {str(tmp_path / f"{number}.wav") for number in (1, 2, 3)}
    assert any(line.startswith("events ") for line in said)

    write(", odd = 2")
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
    recipe.write_text(recipe.read_text().replace("[audio]", '[audio]\non_error = "skip"'))
    again = evaluate_events(run, recipe, ignore=["odd"], trust_code=True, say=said.append).report
    assert again["recordings"] == 2
    assert any("2.wav" in line and line.endswith("it is not scored") for line in said)
