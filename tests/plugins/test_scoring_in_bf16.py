"""Logits of real sound in bf16: near those in float32, from the same features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import soundbench
from soundbench import audio
from soundbench.data.batches import Grid
from soundbench.inference.classifier import Classifier
from soundbench.machine import settle
from soundbench.model.assembly import Assembly, assemble
from soundbench.model.scoring import Scorer

RATE = 16000
# By their numbers in the names of the files: a dog barks, an engine idles, music in a street.
CLASSES = ("3", "5", "9")
# As a share of the range of logits: a number in bf16 is rounded by up to 2^-9 of itself in each of about thirty layers,
# whose errors add up by the root of their number, to about 3 * 2^-8 at most; twice that.
ROUNDING = 6 * 2**-8


def learnt(sounds: list[np.ndarray]) -> Assembly:
    """A small network that has learnt which class the first second of each sound is of; they come in turns."""
    recipe = soundbench.Recipe(
        dataset="tones",
        backbone={"use": "campplus", "growth": 8, "width": 32, "front": 8, "layers": [2, 2, 2]},
        audio={"window": 1.0},
    )
    made = assemble(recipe)
    data = torch.stack([torch.from_numpy(np.resize(sound, RATE)) for sound in sounds])
    target = torch.eye(len(made.dataset.classes))[torch.arange(len(sounds)) % len(CLASSES)]
    optimizer = torch.optim.AdamW(made.network.parameters(), lr=3e-3)
    made.network.train()
    for _ in range(25):
        optimizer.zero_grad()
        made.loss(made.network(data, torch.full((len(data),), RATE)), target).mean().backward()
        optimizer.step()
    return made


@pytest.mark.slow
def test_logits_of_real_clips_in_bf16_are_near_those_in_float32(data: Path) -> None:
    """The two best classes change places only where they are nearly equal."""
    folder = data / "UrbanSound8K" / "audio" / "fold2"
    paths = zip(*(sorted(folder.glob(f"*-{number}-*.wav"))[:64:8] for number in CLASSES), strict=True)
    sounds = [audio.load(path, RATE) for group in paths for path in group]
    torch.manual_seed(0)
    made = learnt(sounds)
    seen: list[torch.Tensor] = []

    def note(_module: Any, inputs: Any) -> None:
        seen.append(inputs[0])

    made.network.get_submodule("backbone").register_forward_pre_hook(note)
    found = {}
    for precision in ("fp32", "bf16"):
        scorer = Scorer(made.network, made.loss, settle("cpu", "fp32"), "off", precision=precision)  # type: ignore[arg-type]
        classifier = Classifier(scorer, made.dataset.classes, RATE, Grid(RATE, RATE))
        found[precision] = classifier.predict_logits(sounds, RATE, batch=8)  # by one thread, in order
    half = len(seen) // 2
    assert all(one.dtype == torch.float32 for one in seen)
    assert all(map(torch.equal, seen[:half], seen[half:]))
    exact, rough = found["fp32"], found["bf16"]
    assert np.ptp(exact) > 5  # logits that are all alike would be near anything
    difference = np.abs(rough - exact).max()
    assert 0 < difference < ROUNDING * np.ptp(exact)
    best = np.sort(exact, 1)
    changed = exact.argmax(1) != rough.argmax(1)
    assert (best[changed, -1] - best[changed, -2] <= 2 * difference).all()
