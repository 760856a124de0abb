from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import TESTS
from helpers.observers import attached, notify
from PIL import Image
from soundbench_plugins.observer.tensorboard import TensorBoard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import soundbench
from soundbench.testing import check_component


def read(directory: Path) -> EventAccumulator:
    """TensorBoard's own reader."""
    return EventAccumulator(str(directory / "tensorboard"), {"scalars": 0, "images": 0}).Reload()


def points(directory: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, pytest.approx(event.value, rel=1e-5)) for event in read(directory).Scalars(tag)]


def test_it_keeps_its_promises() -> None:
    report = check_component("observer", TensorBoard)
    assert not report.broken, report.to_text()


def test_curves_of_steps_and_of_epochs(tmp_path: Path) -> None:
    notify(TensorBoard, tmp_path, range(1, 9))
    assert points(tmp_path, "loss/step") == [(step, 1 / step) for step in range(1, 9)]
    assert points(tmp_path, "learning rate")[-1] == (8, 8e-3)
    assert points(tmp_path, "clips per second")[0] == (1, 100.0)
    assert points(tmp_path, "loss/epoch") == [(4, 0.5), (8, 0.5)]
    assert points(tmp_path, "loss/validation") == [(4, 0.25), (8, 0.25)]
    assert points(tmp_path, "validation/accuracy") == [(4, 0.04), (8, 0.08)]
    assert points(tmp_path, "test/accuracy") == [(8, 0.75)]
    assert "epoch/rate" not in read(tmp_path).Tags()["scalars"]  # it is the learning rate, drawn already


def test_a_resumed_run_purges_values_after_its_checkpoint(tmp_path: Path) -> None:
    notify(TensorBoard, tmp_path, range(1, 8), error=RuntimeError("no"))
    notify(TensorBoard, tmp_path, range(5, 9), start_step=4)
    assert points(tmp_path, "loss/step") == [(step, 1 / step) for step in range(1, 9)]
    assert points(tmp_path, "validation/accuracy") == [(4, 0.04), (8, 0.08)]


@pytest.mark.slow
def test_logged_values_survive_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; sys.path[:0] = [sys.argv[2]]\n"
        "from pathlib import Path\n"
        "from helpers.observers import attached, notify\n"
        "from soundbench_plugins.observer.tensorboard import TensorBoard\n"
        "hook = attached(TensorBoard, Path(sys.argv[1])).hook\n"
        "hook.run_started()\n"
        "hook.epoch_completed(epoch=1, row={'epoch': 1, 'step': 4, 'train_loss': 0.5})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    line = [sys.executable, "-c", code, str(tmp_path), str(TESTS)]
    killed = subprocess.run(line, env=os.environ, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert points(tmp_path, "loss/epoch") == [(4, 0.5)]


def pictures(directory: Path) -> dict[str, np.ndarray]:
    found = read(directory)
    tags = found.Tags()["images"]
    return {tag: np.asarray(Image.open(io.BytesIO(found.Images(tag)[0].encoded_image_string)))[..., :3] for tag in tags}


def predictions(directory: Path, *rows: str) -> None:
    head = "path,start,stop,fold,group,label,predicted,score,score:a,score:b"
    (directory / "predictions.csv").write_text("\n".join([head, *rows]) + "\n")


def test_spectrograms_show_the_sound_and_what_it_was_taken_for(tmp_path: Path) -> None:
    """A tone of 1 kHz, at a sample rate of 8 kHz: a bright line a quarter of the way up, and dark elsewhere."""
    sound = tmp_path / "tone.wav"
    soundfile.write(sound, 0.1 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 8000), 8000)
    predictions(
        tmp_path,
        f"{sound},0.0,,1,g,a,a,0.99,0.99,0.01",
        f"{sound},0.5,1.0,1,g,a,b,0.6,0.4,0.6",
        f"{sound},0.0,1.0,1,g,a,b,0.9,0.1,0.9",
        f"{tmp_path / 'gone.wav'},0.0,,1,g,a,b,0.95,0.05,0.95",
    )
    notify(TensorBoard, tmp_path, range(1, 3))
    shown = pictures(tmp_path)
    assert list(shown) == [
        "test clips/01 a predicted as b 0.90",
        "test clips/02 a predicted as b 0.60",
        "test clips/03 a predicted as a 0.99",
    ]
    whole = shown["test clips/03 a predicted as a 0.99"].astype(int).sum(axis=2)
    assert whole.shape[0] == 257
    assert abs(int(whole.mean(axis=1).argmax()) - 192) <= 1  # 64 of 256 from below
    assert whole[192].mean() > 4 * whole[64].mean()
    widths = {tag: picture.shape[1] for tag, picture in shown.items()}
    assert widths["test clips/01 a predicted as b 0.90"] == pytest.approx(whole.shape[1] / 2, abs=3)


def test_as_many_spectrograms_as_asked_for(tmp_path: Path) -> None:
    sound = tmp_path / "short.wav"
    soundfile.write(sound, np.full(10, 0.1), 8000)
    predictions(tmp_path, *(f"{sound},0.0,,1,g,a,b,0.6,0.4,0.6" for _ in range(5)))
    notify(TensorBoard, tmp_path, range(1, 3), spectrograms=2)
    assert len(pictures(tmp_path)) == 2
    (tmp_path / "none").mkdir()
    predictions(tmp_path / "none", f"{sound},0.0,,1,g,a,b,0.6,0.4,0.6")
    notify(TensorBoard, tmp_path / "none", range(1, 3), spectrograms=0)
    assert not pictures(tmp_path / "none")
    with pytest.raises(ValueError, match="spectrograms must be at least 0, is -1"):
        attached(TensorBoard, tmp_path, spectrograms=-1)


def test_a_run_shows_its_curves_confusion_and_spectrograms(tmp_path: Path) -> None:
    draws, time = np.random.default_rng(0), np.arange(4000) / 16000
    for number in range(16):
        hum = np.sin(2 * np.pi * draws.uniform(200, 400) * time)
        for label, sound in (("noise", draws.normal(size=4000)), ("hum", hum)):
            (tmp_path / "sounds" / label).mkdir(exist_ok=True, parents=True)
            soundfile.write(tmp_path / "sounds" / label / f"{number}.wav", 0.1 * sound, 16000)
    recipe = soundbench.Recipe(
        dataset={"use": "folder", "root": str(tmp_path / "sounds")},
        split={"test": 0.25, "validation": 0.2},
        audio={"window": 0.25},
        featurizer={"use": "fbank", "bands": 24},
        backbone={"use": "tdnn", "channels": 16},
        train={"epochs": 2, "batch_size": 8, "device": "cpu", "precision": "fp32", "threads": 1},
        observer=["tensorboard"],
    )
    run = soundbench.run(recipe, out=tmp_path / "run", cache=False, say=lambda _: None)
    tags = read(run.path).Tags()["scalars"]
    assert {"loss/epoch", "loss/validation", "validation/accuracy", "test/accuracy"} <= set(tags)
    shown = pictures(run.path)
    assert shown["test/confusion"].shape[:2] == np.asarray(Image.open(run.directory.confusion_png)).shape[:2]
    assert len(shown) == 1 + min(8, 12)
