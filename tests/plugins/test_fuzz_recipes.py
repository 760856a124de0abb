"""Mutated recipes: each is described, or refused by an exception of soundbench, within five seconds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import tomli
import tomli_w
import torch
from helpers.clock import within
from helpers.mutations import mutated_tables, mutated_text

from soundbench.errors import BrokenPlugin, SoundbenchError
from soundbench.model.describing import describe
from soundbench.recipe import read
from soundbench.recipe.registry import Registry

QUICK, ALL = 50, 500
REGISTRY = Registry()

BASES = [
    """
name = "small"
[dataset]
use = "tones"
[split]
test = [4]
validation = 0.2
crossing = "purge"
[audio]
rate = 8000
window = 0.5
hop = 0.25
level = -20.0
[[augmentation]]
use = "gain"
low = -3.0
[[augmentation]]
use = "spec-augment"
[featurizer]
use = "fbank"
bands = 16
frame = 0.025
[backbone]
use = "tdnn"
channels = 16
[pooling]
use = "asp"
[head]
embedding = 8
dropout = 0.1
[loss]
use = "aam-softmax"
margin = 0.2
[optimizer]
use = "adamw"
lr = 0.001
[scheduler]
use = "warmup-cosine"
[train]
epochs = 3
batch_size = 8
class_weights = { a = 1.0 }
freeze = ["pooling"]
rates = { backbone = 0.1 }
[[observer]]
use = "progress"
every = 3.0
""",
    """
dataset = { use = "manifest", path = "sounds.csv", multilabel = true }
backbone = { use = "resnet-se", layers = [1, 1, 1, 1], widths = [8, 8, 8, 16] }
featurizer = { use = "mel-spectrogram", bands = 16, n_fft = 512 }
pooling = "tsp"
loss = "bce"
[audio]
rate = 8000
window = 0.5
[init]
from = "weights.pt"
[train]
threads = 1
""",
    """
dataset = { use = "tones" }
backbone = { use = "campplus", growth = 8 }
featurizer = { use = "mfcc", coefficients = 20 }
augmentation = ["speed", { use = "mixup", alpha = 0.5 }]
[audio]
rate = 8000
window = 0.5
""",
]


def mutant(number: int) -> bytes:
    """A recipe: every second one is mutated as text, the others as tables."""
    chance = random.Random(number)
    text = chance.choice(BASES)
    if number % 2:
        return mutated_text(text, chance).encode("utf-8", errors="surrogatepass")
    tables: dict[str, Any] = mutated_tables(tomli.loads(text), chance)
    return tomli_w.dumps(tables).encode()


def tried(number: int, folder: Path) -> str:
    """What becomes of a mutant: the type of the exception, or nothing."""
    path = folder / "mutant.toml"
    path.write_bytes(mutant(number))
    found: SoundbenchError | None = None
    try:
        with within():
            describe(read(path, registry=REGISTRY))
    except SoundbenchError as error:
        found = error
    assert not isinstance(found, BrokenPlugin)  # that would blame a component
    assert len(str(found)) < 100_000
    return type(found).__name__ if found else ""


@pytest.fixture(autouse=True)
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sounds.csv").write_text("path,labels\na.wav,dog;cat\nb.wav,dog\n")
    torch.save({"network": {}}, "weights.pt")


def test_mutated_recipes_are_described_or_refused(tmp_path: Path) -> None:
    for number in range(QUICK):
        tried(number, tmp_path)


@pytest.mark.slow
def test_many_mutated_recipes_are_described_or_refused(tmp_path: Path) -> None:
    ends = [tried(number, tmp_path) for number in range(QUICK, ALL)]
    assert ends.count("") > 10  # some mutations are harmless
    assert ends.count("RecipeError") > 200
