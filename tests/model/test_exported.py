"""Exported files in use: what they score, and what is said of one that cannot be used."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
from helpers.exported import CLASSES, METADATA, RATE, expected, model, write

import soundbench
from soundbench.errors import CallError, NotInstalled, RunError
from soundbench.model.exported.metadata import FORMAT
from soundbench.model.exported.onnx_file import read_onnx


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("exported") / "model.onnx")


def sounds() -> list[np.ndarray]:
    """16-bit sounds from a twentieth of a window to five windows, of many levels."""
    draws = np.random.default_rng(0)
    sizes = (80, 799, 1600, 1601, 4000, 8000, 2400, 3200, 1700)
    levels = (0.3, 0.01, 0.1, 0.05, 0.2, 0.03, 0.002, 0.15, 0.4)
    noise = [level * draws.standard_normal(size) for size, level in zip(sizes, levels, strict=True)]
    return [(np.rint(one * 32768).clip(-32768, 32767) / 32768).astype(np.float32) for one in noise]


def windows_of(sound: np.ndarray, window: int = 1600, hop: int = 800) -> list[np.ndarray]:
    last = max(len(sound) - window, 0)
    starts = sorted({*range(0, last + 1, hop), last})
    return [sound[start : start + window] for start in starts]


def test_a_file_gives_the_scores_of_its_program_in_the_windows_of_its_metadata(path: Path) -> None:
    classifier, given = soundbench.load(path), sounds()
    assert (classifier.classes, classifier.rate, classifier.thresholds) == (CLASSES, RATE, None)
    wanted = [np.mean([expected(cut)[0] for cut in windows_of(sound)], axis=0) for sound in given]
    np.testing.assert_allclose(classifier.predict_proba(given, RATE), wanted, atol=1e-5)
    for sound, right in zip(given, wanted, strict=True):
        found = classifier.predict(sound, RATE)
        reject = np.mean([expected(cut)[1] for cut in windows_of(sound)])
        assert found.rejected == (reject < METADATA["reject"]["clip_threshold"])
        assert found.nearest == CLASSES[int(np.argmax(right))]
        assert len(list(classifier.windows(sound, RATE))) == len(windows_of(sound))
    assert {classifier.predict(sound, RATE).rejected for sound in given} == {True, False}


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_score_does_not_depend_on_the_batch_or_on_threads(
    path: Path, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soundbench.model.exported.scorer.auto_threads", lambda _processes: int(threads))
    classifier = soundbench.load(path)
    alone = np.concatenate([classifier.predict_proba(sound, RATE, batch=1) for sound in sounds()])
    for batch in (2, 5, 32):
        np.testing.assert_allclose(classifier.predict_proba(sounds(), RATE, batch=batch), alone, atol=1e-6)


def test_digital_silence_is_rejected_and_embeddings_and_logits_are_those_of_the_program(path: Path) -> None:
    classifier = soundbench.load(path)
    assert classifier.predict(np.zeros(4000, np.float32), RATE).rejected
    sound = sounds()[2]
    (scores,), (logits,) = classifier.predict_proba(sound, RATE), classifier.predict_logits(sound, RATE)
    shifted = np.exp(logits.astype(np.float64) / 1.5)
    np.testing.assert_allclose(shifted / shifted.sum(), scores, atol=1e-5)
    np.testing.assert_allclose(classifier.embed(sound, RATE)[0], np.square(sound.astype(np.float64)).mean(), rtol=1e-5)


def test_a_model_with_several_labels_has_the_thresholds_of_its_file(tmp_path: Path) -> None:
    tagger = {"multilabel": True, "thresholds": [0.0, 0.0, 1.0], "reject": None}
    found = soundbench.load(write(tmp_path / "tags.onnx", METADATA | tagger)).predict(sounds()[0], RATE)
    assert set(found.labels) == {"low", "high"}
    assert not found.rejected


def test_other_windows_are_limited_by_the_file(path: Path) -> None:
    classifier = soundbench.load(path)
    assert len(list(classifier.windows(sounds()[5], RATE, window=0.5))) == 2
    with pytest.raises(CallError, match=r"window must be from 0\.01 s, the shortest input of the network, to 600 s"):
        classifier.predict(sounds()[5], RATE, window=0.005)


# What cannot be used --------------------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(RunError) as caught:
        soundbench.load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


def test_a_file_that_is_cut_short_is_refused_wherever_it_is_cut(path: Path, tmp_path: Path) -> None:
    data, cut = path.read_bytes(), tmp_path / "cut.onnx"
    cut.write_bytes(data[: len(data) // 2])
    assert refused(cut).startswith(f"cut short: it has {len(data) // 2:,} bytes, and one of its parts ends at ")
    for size in range(0, len(data), 7):
        cut.write_bytes(data[:size])
        refused(cut)


def test_what_is_no_file_of_soundbench_export_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    write(path, None)
    assert refused(path) == "an ONNX file, but not of soundbench export: it has no metadata of that name"
    path.write_bytes(b"RIFF and so on")
    assert refused(path) == "not an ONNX file"
    path.write_bytes(b"")
    assert refused(path) == "not an ONNX file"
    path.write_bytes(b"\x08\x0a\x12\x02ab")
    assert refused(path) == "an ONNX file without a network, or cut short"
    path.write_bytes(b"\x08" + bytes(1000))
    assert refused(path) == "not an ONNX file, or damaged"


def test_a_newer_format_is_refused_and_names_what_made_it(tmp_path: Path) -> None:
    newer = METADATA | {"format": FORMAT + 1, "made_by": "soundbench 9.0"}
    path = write(tmp_path / "newer.onnx", {"format": newer["format"], "made_by": newer["made_by"]})
    assert refused(path) == "its format is 2, made by soundbench 9.0; this version reads up to 1: update it"


def test_keys_that_are_not_known_are_ignored(tmp_path: Path) -> None:
    assert soundbench.load(write(tmp_path / "more.onnx", METADATA | {"more": [1]})).rate == RATE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": ["low", "low", "quiet"]}, "damaged: classes in its metadata is .*, not a list of distinct names"),
        ({"classes": []}, "damaged: classes"),
        ({"thresholds": [0.5]}, "damaged: thresholds in its metadata is .*, not null, or one per class"),
        ({"thresholds": [0.5, float("nan"), 1]}, "damaged: thresholds"),
        ({"rate": 0}, "damaged: rate in its metadata is 0, not Hz"),
        ({"window": 1.5}, "damaged: window"),
        ({"hop": True}, "damaged: hop"),
        ({"trim": "on"}, 'damaged: trim in its metadata is "on", not a number or "off"'),
        ({"multilabel": None}, "damaged: multilabel"),
        ({"reject": {"clip_threshold": 1.0}}, "damaged: its metadata have no window_threshold"),
        ({"reject": [1]}, "damaged: reject"),
        ({"components": {"backbone": 3}}, "damaged: components"),
        ({"format": "new"}, "damaged: format"),
        ({"classes": ["a", "b"]}, "damaged: its inputs and outputs do not fit its metadata"),
    ],
)
def test_metadata_that_cannot_be_are_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "wrong.onnx", METADATA | change)
    with pytest.raises(RunError, match=said):
        soundbench.load(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000])
def test_metadata_that_are_no_table_are_refused(text: str, tmp_path: Path) -> None:
    assert refused(write(tmp_path / "wrong.onnx", text)).startswith("damaged: its metadata ")


def test_damage_anywhere_is_refused_or_harmless_to_the_process(path: Path, tmp_path: Path) -> None:
    data, draws, wrong = path.read_bytes(), np.random.default_rng(3), tmp_path / "wrong.onnx"
    for _ in range(60):
        changed = bytearray(data)
        for place in draws.integers(0, len(data), 4).tolist():
            changed[place] = int(draws.integers(256))
        wrong.write_bytes(changed)
        with suppress(RunError):  # all else would be a bug
            soundbench.load(wrong)


def test_a_graph_that_onnxruntime_cannot_run_is_refused(tmp_path: Path) -> None:
    made = model()
    made.graph.node[0].op_type = "NoSuchOperation"
    path = tmp_path / "strange.onnx"
    path.write_bytes(made.SerializeToString())
    assert refused(path).startswith("damaged, or needs a newer onnxruntime than ")


def test_without_onnxruntime_one_line_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(NotInstalled) as caught:
        soundbench.load(path)
    wanted = 'an ONNX file needs onnxruntime, which is not installed: pip install onnxruntime, or "soundbench[export]"'
    assert str(caught.value) == f"{path}: {wanted}"


def test_a_device_that_is_not_the_cpu_is_refused(path: Path) -> None:
    with pytest.raises(CallError, match="an exported file is computed on the CPU; use the device 'auto' or 'cpu'"):
        soundbench.load(path, device="cuda")


def test_a_file_is_read_without_a_runtime_and_a_pipe_is_not_waited_for(path: Path, tmp_path: Path) -> None:
    assert read_onnx(path)[1] == METADATA
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(RunError, match="this is a named pipe, not a file"):
        read_onnx(tmp_path / "pipe.onnx")
