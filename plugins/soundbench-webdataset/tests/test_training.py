"""A training on shards is one on the same clips in files: to the last bit of its weights."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file
from soundbench_webdataset import WebDataset
from test_webdataset import write

import soundbench
from soundbench.contracts import Clip
from soundbench.errors import DataError

CLASSES = ("dog", "cat", "owl")
COMMON: dict[str, Any] = {
    "split": {"test": [4], "validation": [3]},
    "audio": {"rate": 8000, "window": 0.1},
    "backbone": {"use": "tdnn", "channels": 16},
    "head": {"embedding": 8},
    "augmentation": [{"use": "gain"}],
    "train": {"epochs": 2, "batch_size": 8, "threads": 1},
}


def make(folder: Path, clips: int, shards: int) -> None:
    """Sounds in files with a manifest, and the same files in tar shards."""
    draws, rows = np.random.default_rng(5), list[dict[str, Any]]()
    members: list[dict[str, Any]] = [{} for _ in range(shards)]
    for number in range(clips):
        label, form = CLASSES[number % 3], ("wav", "flac", "ogg")[number // 3 % 3]
        samples = 0.1 * draws.standard_normal(draws.integers(500, 4000)) * (1 + number % 3)
        path = folder / f"{number:05d}.{form}"
        soundfile.write(path, samples, (8000, 11025)[number % 2])
        about = {"label": label, "fold": 1 + number // 4 % 4, "group": f"group {number // 4}"}
        rows.append({"path": path.name, **about})
        members[number * shards // clips] |= {path.name: path.read_bytes(), f"{number:05d}.json": about}
    with (folder / "files.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    for number, own in enumerate(members):
        write(folder / f"train-{number:03d}.tar", own)


def tensors(path: Path) -> dict[str, bytes]:
    """What a file of tensors holds, but the paths of clips."""
    return {name: array.tobytes() for name, array in load_file(path).items() if name != "identity"}


@pytest.fixture
def sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(tmp_path / "cache"))
    make(tmp_path, 48, 3)
    return tmp_path


def test_weights_are_those_of_the_same_clips_in_files(sounds: Path) -> None:
    tables = {
        "files": {"use": "manifest", "path": str(sounds / "files.csv")},
        "shards": {"use": "webdataset", "root": str(sounds)},
    }
    for name, table in tables.items():
        soundbench.run(soundbench.Recipe(dataset=table, **COMMON), out=sounds / name)
    for name in ("model/weights.safetensors", "logits.safetensors"):
        assert tensors(sounds / "shards" / name) == tensors(sounds / "files" / name)


def test_a_shard_that_changes_after_it_was_looked_through_is_named(
    sounds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = WebDataset.clips

    def clips(dataset: WebDataset) -> Iterator[Clip]:
        yield from found(dataset)
        path = sounds / "train-001.tar"
        path.write_bytes(path.read_bytes()[:5000])

    monkeypatch.setattr(WebDataset, "clips", clips)
    recipe = soundbench.Recipe(dataset={"use": "webdataset", "root": str(sounds)}, **COMMON)
    with pytest.raises(DataError, match=r"train-001\.tar: it has changed since it was looked through; start again"):
        soundbench.run(recipe, out=sounds / "run")
