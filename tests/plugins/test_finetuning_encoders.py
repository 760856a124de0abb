"""A pretrained encoder in its folder, fine-tuned: extracted while it is frozen, then thawed with its own rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

pytest.importorskip("transformers")

from soundbench_plugins.featurizer.wavlm import WavLM

import soundbench

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

RATE = 1e-4


def run(cache: Path, out: Path, featurizer: dict[str, Any], **tables: Any) -> dict[str, torch.Tensor]:
    """The weights of a run with the encoder."""
    rules = {"epochs": 2, "batch_size": 10, "device": "cpu", "precision": "fp32"}
    recipe = soundbench.Recipe(
        dataset={"use": "tones", "clips": 50, "seconds": 0.5},
        split={"test": [5], "validation": 0},
        audio={"window": 0.5},
        featurizer={"use": "wavlm", "layer": "weighted", **featurizer},
        backbone="identity",
        reject="none",
        observer=[],
        train=rules | tables.pop("train"),
        **tables,
    )
    found = soundbench.run(recipe, out=out, cache=cache, say=lambda _: None)
    return safetensors.torch.load_file(found.directory.weights)


def test_an_encoder_is_frozen_then_thawed(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    options = WavLM.example(folder)
    theirs = WavLM(16000, **options).encoder.state_dict()
    front, rates = "featurizer.encoder.feature_extractor", {"featurizer.encoder": RATE}
    first = run(cache, tmp_path / "first", options, train={"extracted": True, "freeze": ["featurizer"]})
    for name, value in theirs.items():
        assert torch.equal(first[f"featurizer.encoder.{name}"], value), name
    assert not first["featurizer.weights"].any()
    second = run(
        cache,
        tmp_path / "second",
        options | {"frozen": False},
        init={"from": tmp_path / "first"},
        train={"freeze": [front], "rates": rates},
    )
    moved = {name: float((second[name] - first[name]).abs().max()) for name in first}
    assert all(moved[name] == 0 for name in moved if name.startswith(front))
    inside = [moved[name] for name in moved if name.startswith("featurizer.encoder.encoder.layers.0.")]
    # Adam moves a weight by its rate at a step, and by 3.2 times that at most; there are 2 epochs of 4 steps.
    assert 0 < max(inside) < 3.2 * RATE * 8
    assert moved["head.classify.weight"] > 3.2 * RATE * 8
