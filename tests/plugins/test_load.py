"""`soundbench.load` changes nothing of the process that it is called in; what computes the scores of what it loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch

import soundbench
from soundbench import Recipe
from soundbench.model import folder as model_folder
from soundbench.model.assembly import assemble
from soundbench.recipe import model_tables

LOADED = """
import ctypes, os, random, signal, sys
import numpy
import torch

def process():
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    cudnn = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    modes = torch.is_grad_enabled(), torch.get_default_dtype(), torch.initial_seed()
    draws = torch.get_rng_state().tolist(), repr(numpy.random.get_state()), random.getstate()
    return signals, cudnn, modes, draws, torch.get_num_threads(), dict(os.environ)

torch.set_num_threads(3)
touched = []
find = ctypes.CDLL.__getattr__
ctypes.CDLL.__getattr__ = lambda self, name: touched.append(name) or find(self, name)
before = process()
import soundbench
soundbench.load(sys.argv[1]).predict(sys.argv[2])
print(process() == before, "mallopt" in touched, 'soundbench.cli' in sys.modules)
"""


def test_threads_signals_memory_and_modes_are_as_they_were(tmp_path: Path) -> None:
    recipe = Recipe(dataset="tones", backbone={"use": "campplus", "growth": 4, "width": 8, "front": 2, "layers": [1]})
    made = assemble(recipe)
    model_folder.save_model(tmp_path / "model", model_tables(recipe, made.dataset.classes), made.network)
    soundfile.write(tmp_path / "a.wav", np.zeros(60 * 16000, np.float32), 16000)
    line = [sys.executable, "-c", LOADED, str(tmp_path / "model"), str(tmp_path / "a.wav")]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout == "True False False\n"


def test_scores_are_computed_without_norms_in_float32_and_by_the_network_itself_otherwise(tmp_path: Path) -> None:
    recipe = Recipe(dataset="tones", backbone={"use": "campplus", "growth": 4, "width": 8, "front": 2, "layers": [1]})
    made = assemble(recipe)
    model_folder.save_model(tmp_path / "model", model_tables(recipe, made.dataset.classes), made.network)
    found = soundbench.load(tmp_path / "model", device="cpu")
    sound = 0.1 * np.random.default_rng(0).standard_normal(40_000)
    scores = found.predict_proba(sound, 16000)
    assert found.scorer.computing is not found.scorer.network
    calls = []
    found.network.backbone.register_forward_hook(lambda *_: calls.append(1))
    np.testing.assert_allclose(scores, found.predict_proba(sound, 16000), rtol=0, atol=1e-5)
    assert calls
    with torch.no_grad():  # what a network learns after it was loaded
        for weight in found.network.backbone.parameters():
            weight.zero_()
    silence = found.predict_proba(np.zeros(40_000), 16000)
    np.testing.assert_allclose(found.predict_proba(sound, 16000), silence, rtol=0, atol=1e-6)
    rough = soundbench.load(tmp_path / "model", device="cpu", precision="bf16")
    assert rough.scorer.computing is rough.network
