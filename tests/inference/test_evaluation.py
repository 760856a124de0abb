"""Evaluation of a trained model: on its run's test set, on other sound, with other weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers import toys
from helpers.runs import RECIPE, toy_run

import soundbench
from soundbench import files
from soundbench.cli.main import invoke
from soundbench.errors import CallError, RunError
from soundbench.report.run_directory import RunDirectory

pytestmark = pytest.mark.usefixtures("cache")
MINE = Path(__file__)


class Strange(toys.ToyDataset):
    """Toy data with a class that nothing else knows; the classes in another order."""

    @property
    def classes(self) -> tuple[str, ...]:
        return ("high", "odd", "low")

    @property
    def fingerprint(self) -> str:
        return f"strange {self.count} {self.seed}"

    def clips(self) -> Iterator[soundbench.Clip]:
        for number in range(self.count):
            label = "low" if number % 2 == 0 else "odd" if number % 4 == 3 and self.seed == 3 else "high"
            yield soundbench.Clip(str(number), (label,), fold=1 + number // 2 % 4, group=str(number // 2))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe, and a run of it."""
    folder = tmp_path_factory.mktemp("evaluating")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUNDBENCH_CACHE", str(folder / "cache"))
        recipe = folder / "toy.toml"
        recipe.write_text(RECIPE)
        return recipe, toy_run(recipe, folder / "run")


def evaluate(run: Path, *arguments: Any, **options: Any) -> tuple[RunDirectory, dict[str, Any]]:
    done = soundbench.evaluate(run, *arguments, trust_code=True, say=lambda _: None, **options).directory
    return done, json.loads(done.report_json.read_text())


def test_the_own_test_set_gives_the_runs_own_numbers(made: tuple[Path, Path]) -> None:
    run = RunDirectory(made[1])
    done, found = evaluate(run.path)
    own = json.loads(run.report_json.read_text())
    assert found["metrics"] == own["metrics"]
    assert found["baseline"] == own["baseline"]
    assert found["confusion"] == own["confusion"]
    assert found["own"] == {name: own[name] for name in ("metrics", "clips", "groups")}
    assert done.predictions.read_text() == run.predictions.read_text()
    assert done.path.parent == run.path / "evaluations"
    assert done.confusion_csv.exists()
    page = done.report_md.read_text()
    assert "## Compared with the run's own test set" in page
    assert "| evaluated | the run's own test set |" in page
    assert f"\nsoundbench evaluate {run.path.name} --trust-code\n" in page
    assert str(run.path.parent) not in page


def test_another_recipes_test_set_is_evaluated_with_the_models_classes(made: tuple[Path, Path], tmp_path: Path) -> None:
    """Its classes stand in another order; it holds one more, which no clip of its carries."""
    recipe, run = made
    other = soundbench.read_recipe(
        recipe, [f'dataset={{use="{MINE}:Strange", clips=40, seed=5}}', "split.test=[1, 2]", 'name="other"']
    )
    done, found = evaluate(run, other, out=tmp_path / "out")
    assert done.path == tmp_path / "out"
    assert (found["clips"], found["groups"], found["classes"]) == (20, 10, ["low", "high"])
    assert found["metrics"]["accuracy"]["value"] >= 0.8
    protocol = found["protocol"]
    assert protocol["dataset"]["seed"] == 5
    assert protocol["trained_on"]["clips"] == 64
    assert protocol["split"]["test"] == [1, 2]
    assert protocol["notes"] == ["this protocol differs from the run's own: the results are for other sound"]
    classifier = soundbench.load(run, trust_code=True)
    dataset = other.dataset.component.obj(clips=40, seed=5)
    clips = {clip.path: clip for clip in dataset.clips()}
    for row in files.read_rows(done.predictions):
        clip = clips[row["path"]]
        assert row["label"] == clip.labels[0]
        samples, rate = dataset.read(clip)
        found = classifier.predict(samples, rate=rate)
        assert float(row["score:high"]) == pytest.approx(found.scores["high"], abs=1e-5)


def test_clips_that_the_run_was_trained_on_are_counted(made: tuple[Path, Path], tmp_path: Path) -> None:
    """Toy clips are called by their numbers: those of folds 1 to 3 are the run's training and validation."""
    recipe, run = made
    _, found = evaluate(run, soundbench.read_recipe(recipe, ["split.test=[3, 4]"]), out=tmp_path / "out")
    assert found["protocol"]["notes"][-1] == "16 of the clips come from files that the run was trained or validated on"


def test_labels_that_the_model_does_not_know_are_named(made: tuple[Path, Path]) -> None:
    recipe, run = made
    other = soundbench.read_recipe(recipe, [f'dataset={{use="{MINE}:Strange", clips=40, seed=3}}', "split.test=[2, 4]"])
    with pytest.raises(CallError) as caught:
        evaluate(run, other)
    assert str(caught.value) == (
        "labels that are not among the model's classes, with their number of clips: 'odd' (10); its classes: low, high"
    )


def test_any_checkpoint_can_be_evaluated(made: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = made
    best, first = run / "checkpoints" / "best.pt", run / "checkpoints" / "step-00000007.pt"
    done, found = evaluate(run, checkpoint=best, out=tmp_path / "best")
    assert done.predictions.read_text() == RunDirectory(run).predictions.read_text()
    _, last = evaluate(run, checkpoint="last", out=tmp_path / "last")
    note = "the checkpoint after step 21, not the one that validation selected"
    assert last["protocol"]["notes"] == [note]
    earlier, found = evaluate(run, checkpoint=str(first), out=tmp_path / "first")
    assert found["protocol"]["checkpoint"] == str(first)
    assert earlier.predictions.read_text() != done.predictions.read_text()
    with pytest.raises(RunError, match="no such checkpoint"):
        evaluate(run, checkpoint="next")
    (tmp_path / "broken.pt").write_bytes(first.read_bytes()[:99])
    with pytest.raises(RunError, match="damaged"):
        evaluate(run, checkpoint=tmp_path / "broken.pt")


def test_the_checkpoint_of_another_network_is_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, run = made
    wider = toy_run(recipe, tmp_path / "wider", "backbone.channels=20", "train.epochs=1")
    with pytest.raises(RunError, match="the checkpoint does not fit the run's model: "):
        evaluate(run, checkpoint=wider / "checkpoints" / "best.pt")


def test_a_test_set_that_has_changed_is_not_called_the_runs_own(recipe_changed: tuple[Path, Path]) -> None:
    _, run = recipe_changed
    with pytest.raises(
        RunError, match="the data, and with it the test set, has changed since the run began; use --dataset"
    ):
        evaluate(run, accept_changes=True)
    with pytest.raises(RunError, match="toml: was changed since soundbench wrote it"):
        evaluate(run)


@pytest.fixture
def recipe_changed(made: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A run whose data is no more what it was trained on."""
    recipe, _ = made
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1")
    text = (run / "recipe.toml").read_text()
    assert "seed = 0" in text
    (run / "recipe.toml").write_text(text.replace("seed = 0", "seed = 8"))
    return recipe, run


def test_an_unfinished_run_is_evaluated_with_its_best_weights_so_far(made: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, _ = made
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1")
    prior = json.loads((run / "report.json").read_text())["prior"]
    (run / "report.json").unlink()
    done, found = evaluate(run)
    assert "own" not in found
    assert found["prior"] == prior
    assert "Compared with the run's own" not in done.report_md.read_text()


def test_a_model_folder_is_evaluated_on_other_sound(made: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, run = made
    shutil.copytree(run / "model", tmp_path / "alone")
    _, found = evaluate(tmp_path / "alone", str(recipe), out=tmp_path / "out")
    own = json.loads((run / "report.json").read_text())
    for name, figure in own["metrics"].items():  # the batches are others
        assert found["metrics"][name] == pytest.approx(figure, abs=1e-6)
    assert "own" not in found
    assert "trained_on" not in found["protocol"]
    assert found["protocol"]["notes"][-1] == "it is not known what the model was trained on"
    assert found["baseline"]["accuracy"]["value"] == 0.5
    assert "as common as any class of these clips" in (tmp_path / "out" / "report.md").read_text()
    folder = tmp_path / "sounds"
    for label, pitch in (("low", 0.05), ("high", 2.5)):
        (folder / label).mkdir(parents=True)
        soundfile.write(folder / label / "a.wav", 0.1 * np.sin(pitch * np.arange(4000)), 8000)
    _, found = evaluate(tmp_path / "alone", folder, out=tmp_path / "second")
    assert (found["clips"], found["protocol"]["evaluated"]) == (2, "all clips of the dataset")
    with pytest.raises(CallError, match=r"alone: a model alone has no test set: give .* --dataset"):
        evaluate(tmp_path / "alone", out=tmp_path / "third")
    with pytest.raises(CallError, match=r"alone: a model alone has no place for reports: give a folder with --out"):
        evaluate(tmp_path / "alone", folder)


def test_the_command_prints_the_folder(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, run = made
    line = ["evaluate", str(run), "--dataset", str(recipe), "--out", str(tmp_path / "out"), "--trust-code"]
    assert invoke(line) == 0
    out, errors = capsys.readouterr()
    assert out == f"{tmp_path / 'out'}\n"
    assert "run's test set" in errors
    assert "baseline" in (tmp_path / "out" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{run}", "--trust-code", "--dataset", "nothing.csv"], 2, "nothing.csv: there is no such recipe, manifest or"),
        (["{run}", "--trust-code", "--dataset", "nothing.toml"], 2, "nothing.toml: there is no such file"),
        (["{run}"], 2, "add --trust-code"),
        (["{run}/nothing"], 2, "no such run directory"),
        (["{run}", "--trust-code", "--out", "{run}"], 2, "exists and is not empty"),
    ],
)
def test_mistakes_in_the_call(
    made: tuple[Path, Path], arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["evaluate", *(argument.format(run=made[1]) for argument in arguments)]) == code
    assert message in capsys.readouterr().err
