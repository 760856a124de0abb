from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile
from helpers import TESTS
from helpers.observers import attached, notify
from mlflow import MlflowClient
from mlflow.entities import Run
from soundbench_plugins.observer.mlflow import MLflow

import soundbench
from soundbench.testing import check_component

STEPS = ("loss/step", "learning rate", "clips per second")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store for several runs: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The artifacts of a store are kept below the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def own(directory: Path) -> str:
    return f"sqlite:///{directory / 'mlflow' / 'mlflow.db'}"


def read(store: str, directory: Path) -> Run:
    """What MLflow itself finds."""
    client = MlflowClient(store)
    found = client.search_runs([each.experiment_id for each in client.search_experiments()])
    (one,) = (each for each in found if each.info.run_id == (directory / "mlflow" / "run_id.txt").read_text().strip())
    return one


def points(store: str, directory: Path, name: str) -> list[tuple[int, float]]:
    history = MlflowClient(store).get_metric_history(read(store, directory).info.run_id, name)
    return sorted((point.step, point.value) for point in history)


@pytest.mark.slow
def test_it_keeps_its_promises() -> None:
    report = check_component("observer", MLflow)
    assert not report.broken, report.to_text()


def test_curves_of_steps_and_of_epochs(tmp_path: Path, store: str) -> None:
    notify(MLflow, tmp_path, range(1, 9), store=store)
    assert points(store, tmp_path, "loss/step") == [(step, 1 / step) for step in range(1, 9)]
    assert points(store, tmp_path, "learning rate")[-1] == (8, 8e-3)
    assert points(store, tmp_path, "clips per second")[0] == (1, 100.0)
    assert points(store, tmp_path, "loss/epoch") == [(4, 0.5), (8, 0.5)]
    assert points(store, tmp_path, "loss/validation") == [(4, 0.25), (8, 0.25)]
    assert points(store, tmp_path, "validation/accuracy") == [(4, 0.04), (8, 0.08)]
    assert points(store, tmp_path, "test/accuracy") == [(8, 0.75)]
    found = read(store, tmp_path)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == tmp_path.name
    assert found.data.params == {"audio.rate": "8000"}
    assert set(found.data.metrics) == {*STEPS, "loss/epoch", "loss/validation", "validation/accuracy", "test/accuracy"}


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")], ids=["failed", "stopped"]
)
def test_a_resumed_run_continues_the_same_run_and_adds_no_value_twice(
    tmp_path: Path, store: str, error: BaseException, status: str
) -> None:
    notify(MLflow, tmp_path, range(1, 8), store=store, error=error)
    first = read(store, tmp_path)
    assert first.info.status == status
    notify(MLflow, tmp_path, range(5, 9), start_step=4, store=store)
    second = read(store, tmp_path)
    assert (second.info.run_id, second.info.status) == (first.info.run_id, "FINISHED")
    assert points(store, tmp_path, "loss/step") == [(step, 1 / step) for step in range(1, 9)]
    assert points(store, tmp_path, "validation/accuracy") == [(4, 0.04), (8, 0.08)]


def test_the_environment_names_a_store_too(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    notify(MLflow, tmp_path, range(1, 3))
    assert points(store, tmp_path, "loss/step") == [(1, 1.0), (2, 0.5)]
    assert not (tmp_path / "mlflow" / "mlflow.db").exists()


def test_names_that_mlflow_refuses_are_written_with_others(tmp_path: Path, store: str) -> None:
    hook = attached(MLflow, tmp_path, store=store, spectrograms=0).hook
    hook.run_started()
    hook.run_finished(report={"metrics": {"recall: c++ (größe)": {"value": 0.5}}})
    assert read(store, tmp_path).data.metrics == {"test/recall: c__ _größe_": 0.5}


def test_spectrograms_and_the_confusion_matrix_are_artifacts(tmp_path: Path, store: str) -> None:
    sound = tmp_path / "tone.wav"
    soundfile.write(sound, 0.1 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 8000), 8000)
    head = "path,start,stop,fold,group,label,predicted,score,score:a,score:b"
    rows = [f"{sound},0.0,,1,g,a,a,0.99,0.99,0.01", f"{sound},0.5,1.0,1,g,a,b,0.6,0.4,0.6"]
    (tmp_path / "predictions.csv").write_text("\n".join([head, *rows]) + "\n")
    (tmp_path / "figures").mkdir()
    matplotlib.image.imsave(tmp_path / "figures" / "confusion.png", np.linspace(0, 1, 75).reshape(5, 5, 3))
    notify(MLflow, tmp_path, range(1, 3), store=store)
    client, number = MlflowClient(store), read(store, tmp_path).info.run_id
    assert {each.path for each in client.list_artifacts(number, "test clips")} == {
        "test clips/01 a predicted as b 0.60.png",
        "test clips/02 a predicted as a 0.99.png",
    }
    found = matplotlib.image.imread(client.download_artifacts(number, "test/confusion.png", str(tmp_path)))
    np.testing.assert_array_equal(found, matplotlib.image.imread(tmp_path / "figures" / "confusion.png")[..., :3])
    tone = matplotlib.image.imread(client.download_artifacts(number, "test clips/02 a predicted as a 0.99.png"))
    assert abs(int(tone.sum(axis=2).mean(axis=1).argmax()) - 192) <= 1  # 1 kHz of 4 kHz, from below, in 257 rows


CODE = """
import os, signal, sys
from pathlib import Path
from helpers.observers import attached
from soundbench_plugins.observer import mlflow as observed
kill = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "store":
    observed.MLflow._begin = kill
hook = attached(observed.MLflow, Path(sys.argv[1])).hook
hook.run_started()
hook.epoch_completed(epoch=1, row={"epoch": 1, "step": 4, "train_loss": 0.5})
kill()
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["store", "epoch"])
def test_a_kill_leaves_a_whole_store_or_none(tmp_path: Path, when: str) -> None:
    line = [sys.executable, "-c", CODE, str(tmp_path), when]
    paths = os.pathsep.join([str(TESTS), os.environ["PYTHONPATH"]])
    killed = subprocess.run(line, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not killed.stderr
    assert (tmp_path / "mlflow" / "mlflow.db").exists() == (when == "epoch")
    notify(MLflow, tmp_path, range(5, 9), start_step=4)
    assert points(own(tmp_path), tmp_path, "loss/epoch") == [(4, 0.5)] * (when == "epoch") + [(8, 0.5)]
    assert read(own(tmp_path), tmp_path).info.status == "FINISHED"
    assert len(MlflowClient(own(tmp_path)).search_experiments()) == 2  # MLflow's own, and that of the run
    assert {path.name for path in (tmp_path / "mlflow").iterdir()} == {"mlflow.db", "run_id.txt"}


@pytest.mark.slow
def test_a_run_has_a_store_of_its_own_that_works_as_it_is(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for number in range(16):
        for label, loud in (("loud", 0.5), ("soft", 0.05)):
            (tmp_path / "sounds" / label).mkdir(exist_ok=True, parents=True)
            soundfile.write(tmp_path / "sounds" / label / f"{number}.wav", loud * draws.uniform(-1, 1, 4000), 16000)
    recipe = soundbench.Recipe(
        dataset={"use": "folder", "root": str(tmp_path / "sounds")},
        split={"test": 0.25, "validation": 0.2},
        audio={"window": 0.25},
        featurizer={"use": "fbank", "bands": 24},
        backbone={"use": "tdnn", "channels": 16},
        train={"epochs": 2, "batch_size": 8, "device": "cpu", "precision": "fp32", "threads": 1},
        observer=["mlflow", "tensorboard"],
    )
    run = soundbench.run(recipe, out=tmp_path / "run", cache=False, say=lambda _: None)
    found = read(own(run.path), run.path)
    assert found.info.status == "FINISHED"
    assert found.data.metrics["test/accuracy"] == pytest.approx(run.metrics["accuracy"].value)
    assert (found.data.params["backbone.use"], found.data.params["train.epochs"]) == ("tdnn", "2")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    drawn = EventAccumulator(str(run.path / "tensorboard"), {"scalars": 0, "images": 0}).Reload()
    assert set(found.data.metrics) == set(drawn.Tags()["scalars"])
    for name in found.data.metrics:
        wanted = [(event.step, pytest.approx(event.value, rel=1e-5)) for event in drawn.Scalars(name)]
        assert points(own(run.path), run.path, name) == wanted
    artifacts = found.info.artifact_uri.removeprefix("file://")
    pictures = [str(path.relative_to(artifacts)) for path in Path(artifacts).rglob("*.png")]
    assert sorted(pictures) == sorted(f"{tag}.png" for tag in drawn.Tags()["images"])
    assert Path(artifacts).is_relative_to(run.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "sounds"]
