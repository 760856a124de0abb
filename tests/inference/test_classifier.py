"""What a classifier takes, and what it refuses."""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile
import torch
from helpers import TESTS
from helpers.networks import toy_network
from helpers.toys import ToyLoss
from sklearn.metrics import log_loss, top_k_accuracy_score

from soundbench.audio import decoding
from soundbench.data.batches import Grid, RawBatch
from soundbench.errors import CallError, RunError, SoundError
from soundbench.inference.classifier import Classifier
from soundbench.inference.events import EventRules, find_events
from soundbench.inference.loading import load
from soundbench.machine import Machine
from soundbench.model import windows
from soundbench.model.scoring import Scorer

CLASSES = ("dog", "猫", "a, b", 'say "x"', "🐦")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    machine = Machine(torch.device("cpu"), "fp32", 1, False)
    return Classifier(Scorer(toy_network().eval(), ToyLoss(5), machine, "off"), CLASSES, 8000, Grid(1600, 1600))


@pytest.fixture
def samples() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(5000)).astype(np.float32)


def test_so_many_windows_are_scored_together_as_asked_for(classifier: Classifier) -> None:
    sizes: list[int] = []

    def counted(raw: RawBatch) -> np.ndarray:
        sizes.append(len(raw.samples))
        return np.zeros((len(raw.samples), 7), np.float32)

    ends = list(classifier.flow([np.ones(1600, np.float32)] * 500, 8000, batch=200, compute=counted))
    assert (sizes, len(ends)) == ([200, 200, 100], 1000)


def test_every_form_of_one_sound_gives_the_same_prediction(
    classifier: Classifier, samples: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, samples, 8000, subtype="FLOAT")
    wanted = classifier.predict(samples, rate=8000)
    assert wanted.label in CLASSES
    assert list(wanted.scores.values()) == sorted(wanted.scores.values(), reverse=True)
    assert sum(wanted.scores.values()) == pytest.approx(1.0, abs=1e-5)
    told = {"label": wanted.label, "nearest": wanted.label, "rejected": False}
    told |= {"score": wanted.score, "labels": [wanted.label], "scores": dict(wanted.scores)}
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


def test_a_list_is_classified_in_its_order_and_each_as_if_alone(classifier: Classifier, samples: np.ndarray) -> None:
    sounds = [samples[:size] for size in (5000, 10, 1600, 4999)]
    for batch in (1, 3, 32):
        together = classifier.predict(sounds, rate=8000, batch=batch)
        for sound, prediction in zip(sounds, together, strict=True):
            assert prediction.scores == pytest.approx(classifier.predict(sound, rate=8000).scores, abs=1e-5)
    assert classifier.predict([]) == []


def test_probabilities_are_arrays_in_the_order_of_the_classes(classifier: Classifier, samples: np.ndarray) -> None:
    sounds = [samples[:size] for size in (5000, 10, 1600)]
    table = classifier.predict_proba(sounds, rate=8000)
    assert (table.shape, table.dtype) == ((3, 5), np.float32)
    for row, sound in zip(table, sounds, strict=True):
        prediction = classifier.predict(sound, rate=8000)
        assert (prediction.probabilities.shape, prediction.probabilities.dtype) == ((5,), np.float32)
        named = [prediction.scores[name] for name in classifier.classes]
        np.testing.assert_array_equal(prediction.probabilities, np.array(named, np.float32))
        np.testing.assert_allclose(row, named, atol=1e-5)
        assert classifier.classes[row.argmax()] == prediction.label
    assert classifier.predict_proba(sounds[0], rate=8000).shape == (1, 5)
    assert classifier.predict_proba([]).shape == (0, 5)
    one = next(classifier.windows(samples, rate=8000, hop=0.1))
    assert one.probabilities.shape == (5,)
    assert one.probabilities.base is None  # a view would keep its whole batch
    with pytest.raises(SoundError, match=r"nowhere\.wav"):
        classifier.predict_proba([samples, "nowhere.wav"], rate=8000)


def test_scikit_learns_metrics_take_the_scores_once_they_are_sorted(
    classifier: Classifier, samples: np.ndarray
) -> None:
    """As docs/infer.md has it; the reference is the definition of the log loss."""
    scores = classifier.predict_proba([samples[:size] for size in (5000, 3000, 1700)], rate=8000)
    truth = ["猫", "dog", "🐦"]
    own = [scores[row, CLASSES.index(name)] for row, name in enumerate(truth)]
    order = np.argsort(classifier.classes_)
    assert classifier.classes_.tolist() == list(CLASSES) != sorted(CLASSES)
    found = log_loss(truth, scores[:, order], labels=classifier.classes_[order])
    assert found == pytest.approx(-np.mean(np.log(own)), rel=1e-5)
    best = [CLASSES[row.argmax()] for row in scores]
    assert top_k_accuracy_score(best, scores[:, order], k=1, labels=classifier.classes_[order]) == 1


def test_what_a_notebook_shows_says_what_it_is(classifier: Classifier, samples: np.ndarray) -> None:
    shown = repr(classifier)
    parts = "ToyBackbone", "5 classes", "8000 Hz", "windows of 0.2 s", "1,765 parameters", "single-label", "cpu"
    assert all(part in shown for part in parts), shown
    prediction = classifier.predict(samples, rate=8000)
    assert repr(prediction).startswith(f"Prediction(labels={[prediction.label]}, scores={{{prediction.label!r}: 0.")
    assert repr(prediction).endswith(", ... 2 more})")
    *_, last = classifier.windows(samples, rate=8000)
    assert repr(last).startswith("WindowPrediction(start=0.425, end=0.625, labels=[")
    assert "\n" not in shown + repr(prediction) + repr(last)


@pytest.mark.parametrize(
    ("sound", "rate", "message"),
    [
        (np.zeros(100), None, "samples need a sample rate: predict(samples, rate=16000)"),
        (np.zeros(100), -1, "rate must be a sample rate in Hz, above 0, is -1"),
        (np.zeros(0), 8000, "samples of shape (0,) are not sound; give (samples,) or (channels, samples)"),
        (np.zeros((2, 3, 4)), 8000, "samples of shape (2, 3, 4) are not sound; give (samples,) or (channels, samples)"),
        (
            np.zeros((100, 2)),
            8000,
            "samples of shape (100, 2): more channels than samples; give (channels, samples), channels first",
        ),
        (np.array([0.0, np.nan]), 8000, "samples contain NaN or infinity"),
        (np.array(["a"]), 8000, "samples of type <U1 are not sound; give floats in [-1, 1] or integers"),
    ],
)
def test_samples_that_are_no_sound_are_refused(
    classifier: Classifier, sound: np.ndarray, rate: int | None, message: str
) -> None:
    with pytest.raises(CallError) as caught:
        classifier.predict(sound, rate=rate)
    assert str(caught.value) == message


def test_bad_files_are_rows_and_good_ones_are_classified(
    classifier: Classifier, samples: np.ndarray, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{name}.wav" for name in ("good", "empty", "text", "missing", "good2")]
    for path in (paths[0], paths[4]):
        soundfile.write(path, samples, 8000)
    paths[1].write_bytes(b"")
    paths[2].write_text("no sound")
    found = list(classifier.predict_files(paths, batch=2))
    assert [path for path, _ in found] == paths
    kinds = [isinstance(result, SoundError) for _, result in found]
    assert kinds == [False, True, True, True, False]


def test_errors_are_returned_in_their_places_or_raised(
    classifier: Classifier, samples: np.ndarray, tmp_path: Path
) -> None:
    good, gone = tmp_path / "good.wav", tmp_path / "gone.wav"
    soundfile.write(good, samples, 8000)
    first, error, last = classifier.predict([good, gone, good], errors="return")
    assert isinstance(error, SoundError)
    assert str(error) == f"{gone}: no such file"
    assert not isinstance(first, SoundError)
    assert not isinstance(last, SoundError)
    assert first.scores == pytest.approx(last.scores, abs=1e-6)
    assert str(classifier.predict(gone, errors="return")) == f"{gone}: no such file"
    with pytest.raises(SoundError, match="no such file"):
        classifier.predict([good, gone])
    with pytest.raises(CallError, match=r"^errors must be 'raise' or 'return', is 'skip'$"):
        classifier.predict(good, errors="skip")  # type: ignore[call-overload]


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """Three seconds of noise that grows, between silences, in 16 bits."""
    noise = np.random.default_rng(3).standard_normal(24000)
    envelope = np.concatenate([np.zeros(2000), np.linspace(0.02, 0.2, 20000), np.zeros(2000)])
    path = tmp_path / "long.wav"
    soundfile.write(path, envelope * noise, 8000)
    return path


def test_windows_are_those_of_the_grid_and_their_mean_is_the_prediction(classifier: Classifier, rendered: Path) -> None:
    found = list(classifier.windows(rendered, batch=4))
    assert [window.start for window in found] == pytest.approx([0.2 * k for k in range(15)])
    assert [window.end for window in found] == pytest.approx([0.2 * k + 0.2 for k in range(15)])
    mean = {label: np.mean([window.scores[label] for window in found]) for label in CLASSES}
    assert classifier.predict(rendered).scores == pytest.approx(mean, abs=1e-6)
    assert found[0].to_dict()["end"] == 0.2
    finer = list(classifier.windows(rendered, hop=0.15))
    assert [window.start for window in finer] == pytest.approx([*np.arange(19) * 0.15, 2.8])
    alone = classifier.predict(soundfile.read(rendered)[0][1200:2800], rate=8000)
    assert finer[1].scores == pytest.approx(alone.scores, abs=1e-3)


@pytest.mark.parametrize("trim", ["off", 20.0])
def test_a_long_sound_is_classified_in_blocks_as_it_is_as_a_whole(
    classifier: Classifier, rendered: Path, monkeypatch: pytest.MonkeyPatch, trim: float | Literal["off"]
) -> None:
    whole = Classifier(classifier.scorer, CLASSES, 8000, Grid(1600, 1000, trim))
    wanted, expected = whole.predict(rendered), list(whole.windows(rendered))
    if trim != "off":
        assert expected[0].start > 0.1
    monkeypatch.setattr(windows, "WHOLE", 0.5)
    for block in (700, 1, 5000):
        monkeypatch.setattr(decoding, "STRETCH", max(block, 100))
        for form in (rendered, rendered.read_bytes()):
            assert whole.predict(form).scores == pytest.approx(wanted.scores, abs=2e-4)
            for one, other in zip(whole.windows(form), expected, strict=True):
                assert (one.start, one.end) == (other.start, other.end)
                assert one.scores == pytest.approx(other.scores, abs=2e-3)


def test_events_are_those_of_the_windows(classifier: Classifier, rendered: Path) -> None:
    rules = EventRules(on=0.21, gap=0.2)
    windows = list(classifier.windows(rendered, hop=0.1))
    scores = [[window.scores[label] for label in CLASSES] for window in windows]
    wanted = find_events(scores, [w.start for w in windows], [w.end for w in windows], CLASSES, rules)
    assert wanted
    assert classifier.events(rendered, hop=0.1, rules=rules) == wanted
    tagger = Classifier(classifier.scorer, CLASSES, 8000, Grid(1600, 1600), [0.1, 0.2, 0.3, 0.4, 0.5])
    assert tagger.event_rules(gap=1).on == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert classifier.event_rules() == EventRules()


def test_an_embedding_is_what_the_last_layer_sees(classifier: Classifier, samples: np.ndarray) -> None:
    sounds = [samples[:1600], samples[:400]]
    found = classifier.embed(sounds, 8000)
    assert found.shape == (2, classifier.network.head.classify.in_features)
    logits = classifier.network.head.classify(torch.from_numpy(found))
    for row, sound in zip(logits.softmax(dim=1).tolist(), sounds, strict=True):
        assert dict(zip(CLASSES, row, strict=True)) == pytest.approx(classifier.predict(sound, 8000).scores, abs=1e-5)
    np.testing.assert_allclose(classifier.embed(samples[:400], 8000), found[1], atol=1e-5)


def test_several_threads_may_use_one_classifier(classifier: Classifier, samples: np.ndarray) -> None:
    sounds = [samples[: 500 + 37 * number] for number in range(60)]
    alone = [classifier.predict(sound, rate=8000).scores for sound in sounds]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(pool.map(lambda sound: classifier.predict(sound, rate=8000), sounds), alone, strict=True):
            assert one.scores == other


def test_what_breaks_in_the_middle_of_a_long_file_is_its_error_alone(
    classifier: Classifier, samples: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "WHOLE", 0.5)
    monkeypatch.setattr(decoding, "STRETCH", 4000)
    sound = np.tile(samples, 3)
    soundfile.write(tmp_path / "good.wav", sound, 8000)
    sound[9000] = np.nan
    soundfile.write(tmp_path / "bad.wav", sound, 8000, subtype="FLOAT")
    paths = [tmp_path / name for name in ("good.wav", "bad.wav", "good.wav")]
    first, broken, last = (found for _, found in classifier.predict_files(paths, batch=3))
    assert isinstance(broken, SoundError)
    assert broken.reason == "1 of 4000 samples are NaN or infinite; samples are finite numbers"
    assert not isinstance(first, SoundError)
    assert not isinstance(last, SoundError)
    assert last.scores == pytest.approx(first.scores, abs=1e-6)
    with pytest.raises(SoundError, match="NaN"):
        list(classifier.windows(paths[1]))


def test_windows_of_another_length_are_classified_as_sounds_of_that_length(
    classifier: Classifier, samples: np.ndarray
) -> None:
    found = list(classifier.windows(samples, 8000, window=0.1))
    assert [one.start for one in found] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.525])
    assert [one.end - one.start for one in found] == pytest.approx([0.1] * 7)
    alone = classifier.predict(samples[800:1600], 8000)
    assert found[1].scores == pytest.approx(alone.scores, abs=1e-3)
    mean = {label: np.mean([one.scores[label] for one in found]) for label in CLASSES}
    assert classifier.predict(samples, 8000, window=0.1).scores == pytest.approx(mean, abs=1e-6)
    finer = list(classifier.windows(samples, 8000, window=0.1, hop=0.05))
    assert [one.start for one in finer[:3]] == pytest.approx([0, 0.05, 0.1])
    rows = [classifier.embed(samples[at : at + 800], 8000) for at in (0, 800)]
    assert classifier.embed(samples[:1600], 8000, window=0.1) == pytest.approx(np.mean(rows, axis=0), abs=1e-3)


def test_no_more_than_a_minute_goes_through_the_network_at_once(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    monkeypatch.setattr(Scorer, "rated", lambda self, raw: rows.append(len(raw.index)) or np.zeros((rows[-1], 5)))
    sound = np.full(8000 * 100, 0.1, np.float32)
    for window, wanted in ((0.1, 256), (0.2, 160), (1.5, 32), (7.0, 8), (90.0, 1)):
        rows.clear()
        list(classifier.windows(sound, 8000, window=window))
        assert rows[0] == wanted
    rows.clear()
    list(classifier.windows(sound, 8000, window=7.0, batch=15))
    assert rows == [15]


def test_the_hop_of_a_model_is_that_of_its_own_windows(classifier: Classifier, samples: np.ndarray) -> None:
    dense = Classifier(classifier.scorer, CLASSES, 8000, Grid(1600, 400))
    starts = {own: [one.start for one in dense.windows(samples, 8000, window=own)][:3] for own in (None, 0.2, 0.1)}
    assert starts == {None: [0, 0.05, 0.1], 0.2: [0, 0.2, 0.4], 0.1: [0, 0.1, 0.2]}


@pytest.mark.parametrize("window", [0, -1, float("nan"), 0.007, 601, float("inf")])
def test_a_window_that_is_none_is_refused(classifier: Classifier, samples: np.ndarray, window: float) -> None:
    wanted = r"window must be from 0\.008 s, the shortest input of the network, to 600 s, is "
    with pytest.raises(CallError, match=wanted):
        classifier.predict(samples, 8000, window=window)


@pytest.mark.parametrize("hop", [0, -1, float("nan"), 1e-9, float("inf")])
def test_a_hop_that_is_none_is_refused(classifier: Classifier, samples: np.ndarray, hop: float) -> None:
    with pytest.raises(CallError, match="hop must be a number of seconds, at least one sample"):
        list(classifier.windows(samples, 8000, hop=hop))


MEMORY = """
import resource, sys, torch
sys.path.insert(0, {tests!r})
from helpers.networks import toy_network
from helpers.toys import ToyLoss
from soundbench.inference.classifier import Classifier
from soundbench.inference.events import EventRules, find_events
from soundbench.data.batches import Grid
from soundbench.model.scoring import Scorer
from soundbench.machine import Machine
scorer = Scorer(toy_network().eval(), ToyLoss(5), Machine(torch.device("cpu"), "fp32", 1, False), "off")
Classifier(scorer, list("abcde"), 8000, Grid(80000, 80000)).predict({path!r})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_hours_take_the_memory_of_a_minute(tmp_path: Path) -> None:
    peaks = []
    for minutes in (1, 120):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 11025, 1) as file:
            minute = 0.1 * np.random.default_rng(0).standard_normal(11025 * 60)
            for _ in range(minutes):
                file.write(minute)
        code = MEMORY.format(tests=str(TESTS), path=str(path))
        peaks.append(
            int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        )
    assert peaks[1] <= 1.2 * peaks[0], peaks


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(CallError) as caught:
        load(tmp_path / "nothing")
    assert str(caught.value) == f"{tmp_path / 'nothing'}: no such run directory, model folder or ONNX file"
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
    assert str(caught.value) == f"{tmp_path}: holds one run per fold; give one of them, such as {tmp_path}/fold-01"


def test_with_trimming_silence_at_the_ends_changes_nothing(samples: np.ndarray, tmp_path: Path) -> None:
    machine = Machine(torch.device("cpu"), "fp32", 1, False)
    grids = Grid(1600, 1600), Grid(1600, 1600, trim=40.0)
    scorer = Scorer(toy_network().eval(), ToyLoss(5), machine, "off")
    plain, trimming = (Classifier(scorer, CLASSES, 8000, grid) for grid in grids)
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
    levelled = Classifier(Scorer(toy_network().eval(), ToyLoss(5), machine, -20), CLASSES, 8000, grid)
    loud, quiet = (levelled.predict(gain * samples, rate=8000).scores for gain in (1.0, 0.1))
    assert quiet == pytest.approx(loud, abs=1e-3)
    plain = Classifier(Scorer(toy_network().eval(), ToyLoss(5), machine, "off"), CLASSES, 8000, grid)
    loud, quiet = (plain.predict(gain * samples, rate=8000).scores for gain in (1.0, 0.1))
    assert quiet != pytest.approx(loud, abs=1e-2)
