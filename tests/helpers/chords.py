"""Sounds of several labels, their manifest and a recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

import soundbench

PITCHES = {"low": 250.0, "middle": 900.0, "high": 2600.0}


def make_chords(folder: Path) -> Path:
    """Write sounds of one, two or three pitches, and the manifest that says which; the folder."""
    random, time = np.random.default_rng(0), np.arange(8000) / 16000
    rows = ["path,labels,fold"]
    for number in range(96):
        names = [name for bit, name in enumerate(PITCHES) if (number % 7 + 1) >> bit & 1]
        tones = [np.sin(2 * np.pi * PITCHES[name] * time + random.uniform(0, 6)) for name in names]
        noise = random.normal(size=len(time))
        soundfile.write(folder / f"{number}.wav", 0.2 * np.sum(tones, 0) + 0.02 * noise, 16000)
        rows.append(f"{number}.wav,{';'.join(names)},{number % 4}")
    (folder / "chords.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def chord_recipe(folder: Path, **changes: object) -> soundbench.Recipe:
    """A short run on them, of built-ins."""
    tables = {
        "dataset": {"use": "manifest", "path": str(folder / "chords.csv"), "multilabel": True},
        "split": {"test": [0], "validation": 0.2},
        "audio": {"window": 0.5},
        "featurizer": {"use": "fbank", "bands": 24, "normalize": "none"},
        "backbone": {"use": "tdnn", "channels": 24},
        "loss": "bce",
        "optimizer": {"use": "adam", "lr": 0.01},
        "train": {"epochs": 8, "batch_size": 16, "device": "cpu", "precision": "fp32", "threads": 1},
        "observer": [],
        **changes,
    }
    return soundbench.Recipe(**tables)
