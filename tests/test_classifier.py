"""What a classifier takes, and what it refuses."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from test_network import toy
from toys import ToyLoss

from soundbench import audio
from soundbench.classifier import Classifier, load
from soundbench.errors import CallError, RunError, SoundError
from soundbench.judging import Grid, Judge
from soundbench.machine import Machine

CLASSES = ("dog", "猫", "a, b", 'say "x"', "🐦")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    machine = Machine(torch.device("cpu"), "fp32", 1, False)
    return Classifier(Judge(toy().eval(), ToyLoss(5), machine, "off"), CLASSES, 8000, Grid(1600, 1600))


@pytest.fixture
def samples() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(5000)).astype(np.float32)


def test_every_form_of_one_sound_gives_the_same_prediction(
    classifier: Classifier, samples: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, samples, 8000, subtype="FLOAT")
    wanted = classifier.predict(samples, rate=8000)
    assert wanted.label in CLASSES
    assert list(wanted.scores.values()) == sorted(wanted.scores.values(), reverse=True)
    assert sum(wanted.scores.values()) == pytest.approx(1.0, abs=1e-5)
    told = {"label": wanted.label, "score": wanted.score, "labels": [wanted.label], "scores": dict(wanted.scores)}
    assert wanted.to_dict() == told
    forms = [
        path,
        str(path),
        path.read_bytes(),
        io.BytesIO(path.read_bytes()),
        torch.from_numpy(samples),
        samples.astype(np.float64),
        np.stack([samples, samples]),
    ]
    for form in forms:
        rate = 8000 if isinstance(form, np.ndarray | torch.Tensor) else None
        assert classifier.predict(form, rate=rate).scores == pytest.approx(wanted.scores, abs=1e-5)
    integers = np.rint(samples * 32768).astype(np.int16)
    for whole in (integers, integers.astype(np.int32) * 65536):
        assert classifier.predict(whole, rate=8000).scores == pytest.approx(wanted.scores, abs=1e-3)


def test_a_list_is_judged_in_its_order_and_each_as_if_alone(classifier: Classifier, samples: np.ndarray) -> None:
    sounds = [samples[:size] for size in (5000, 10, 1600, 4999)]
    for batch in (1, 3, 32):
        together = classifier.predict(sounds, rate=8000, batch=batch)
        for sound, prediction in zip(sounds, together, strict=True):
            assert prediction.scores == pytest.approx(classifier.predict(sound, rate=8000).scores, abs=1e-5)
    assert classifier.predict([]) == []


@pytest.mark.parametrize(
    ("sound", "rate", "message"),
    [
        (np.zeros(100), None, "samples need their rate: predict(samples, rate=16000)"),
        (np.zeros(100), -1, "rate: -1 is no rate; it is samples a second"),
        (np.zeros(0), 8000, "samples of shape (0,) are no sound; give (samples,) or (channels, samples)"),
        (np.zeros((2, 3, 4)), 8000, "samples of shape (2, 3, 4) are no sound; give (samples,) or (channels, samples)"),
        (
            np.zeros((100, 2)),
            8000,
            "samples of shape (100, 2): more channels than samples; give (channels, samples), channels first",
        ),
        (np.array([0.0, np.nan]), 8000, "samples hold NaN or infinity"),
        (np.array(["a"]), 8000, "samples of type <U1 are no sound; give floats in [-1, 1] or integers"),
    ],
)
def test_samples_that_are_no_sound_are_refused(
    classifier: Classifier, sound: np.ndarray, rate: int | None, message: str
) -> None:
    with pytest.raises(CallError) as caught:
        classifier.predict(sound, rate=rate)
    assert str(caught.value) == message


def test_bad_files_are_rows_and_good_ones_are_judged(
    classifier: Classifier, samples: np.ndarray, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{name}.wav" for name in ("good", "empty", "text", "missing", "good2")]
    for path in (paths[0], paths[4]):
        soundfile.write(path, samples, 8000)
    paths[1].write_bytes(b"")
    paths[2].write_text("no sound")
    judged = list(classifier.predict_files(paths, batch=2))
    assert [path for path, _ in judged] == paths
    kinds = [isinstance(result, SoundError) for _, result in judged]
    assert kinds == [False, True, True, True, False]


def test_of_many_long_files_one_at_a_time_is_in_memory(
    classifier: Classifier, samples: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that fills a batch by itself waits for no other."""
    read: list[str] = []

    def load_and_tell(path: Path, rate: int) -> np.ndarray:
        read.append(path.name)
        return load_sound(path, rate)

    load_sound = audio.load
    monkeypatch.setattr(audio, "load", load_and_tell)
    paths = [tmp_path / f"{number}.wav" for number in range(5)]
    for path, copies in zip(paths, (3, 3, 1, 1, 1), strict=True):
        soundfile.write(path, np.tile(samples, copies), 8000)
    seen = [(path.name, len(read)) for path, _ in classifier.predict_files(paths, batch=8)]
    assert seen == [("0.wav", 1), ("1.wav", 2), ("2.wav", 5), ("3.wav", 5), ("4.wav", 5)]


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(CallError) as caught:
        load(tmp_path / "nothing")
    assert str(caught.value) == f"{tmp_path / 'nothing'}: no such run directory or model folder"
    with pytest.raises(RunError) as missing:
        load(tmp_path)
    assert str(missing.value) == f"{tmp_path}: no model here: model.toml is missing"
    (tmp_path / "model.toml").write_text("classes = [")
    with pytest.raises(RunError, match=r"model.toml: damaged: "):
        load(tmp_path)


def test_a_run_for_each_fold_is_no_model_but_names_one(tmp_path: Path) -> None:
    for name in ("fold-02", "fold-01"):
        (tmp_path / name / "model").mkdir(parents=True)
    with pytest.raises(CallError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path}: holds a run for each fold; give one of them, such as {tmp_path}/fold-01"


def test_with_trimming_silence_at_the_ends_changes_nothing(samples: np.ndarray, tmp_path: Path) -> None:
    machine = Machine(torch.device("cpu"), "fp32", 1, False)
    grids = Grid(1600, 1600), Grid(1600, 1600, trim=40.0)
    judge = Judge(toy().eval(), ToyLoss(5), machine, "off")
    plain, trimming = (Classifier(judge, CLASSES, 8000, grid) for grid in grids)
    samples = samples[:4800]
    wanted = plain.predict(samples, rate=8000).scores
    padded = np.concatenate([np.zeros(3200, np.float32), samples, np.zeros(1600, np.float32)])
    soundfile.write(tmp_path / "a.wav", padded, 8000, subtype="FLOAT")
    (_, of_file), *_ = trimming.predict_files([tmp_path / "a.wav"])
    assert not isinstance(of_file, SoundError)
    for found in (trimming.predict(padded, rate=8000), trimming.predict(tmp_path / "a.wav"), of_file):
        assert found.scores == pytest.approx(wanted, abs=1e-5)
    assert plain.predict(padded, rate=8000).scores != pytest.approx(wanted, abs=1e-3)


def test_with_a_level_how_loud_a_sound_is_changes_nothing(samples: np.ndarray) -> None:
    machine = Machine(torch.device("cpu"), "fp32", 1, False)
    grid = Grid(1600, 1600)
    levelled = Classifier(Judge(toy().eval(), ToyLoss(5), machine, -20), CLASSES, 8000, grid)
    loud, quiet = (levelled.predict(gain * samples, rate=8000).scores for gain in (1.0, 0.1))
    assert quiet == pytest.approx(loud, abs=1e-3)
    plain = Classifier(Judge(toy().eval(), ToyLoss(5), machine, "off"), CLASSES, 8000, grid)
    loud, quiet = (plain.predict(gain * samples, rate=8000).scores for gain in (1.0, 0.1))
    assert quiet != pytest.approx(loud, abs=1e-2)
