"""Finished run directories of made-up scores, written as a run writes them, without training. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from helpers.clip_tables import table_of
from soundbench import files
from soundbench.contracts import Clip
from soundbench.data import digests
from soundbench.data.clips import fingerprint
from soundbench.report import run_directory
from soundbench.report.assessment import assess
from soundbench.report.run_directory import RunDirectory

CLASSES = ("rain", "wind", "dog")


def clips_of(count: int, groups: int, classes: Sequence[str] = CLASSES, root: str = "/data") -> list[Clip]:
    """Clips whose groups, of uneven size, have one label."""
    draws = np.random.default_rng(0)
    group = np.minimum((groups * draws.random(count) ** 2).astype(int), groups - 1)
    return [Clip(f"{root}/a/{n}.wav", (classes[g % len(classes)],), group=f"g{g}") for n, g in enumerate(group)]


def finished(
    path: Path,
    clips: Sequence[Clip] | None = None,
    *,
    classes: Sequence[str] = CLASSES,
    seed: int = 1,
    lean: float = 0.5,
    scores: np.ndarray | None = None,
    multilabel: bool = False,
    protocol: dict[str, Any] | None = None,
    train: Sequence[Clip] = (),
    **report: Any,
) -> Path:
    """Write a finished run.

    Args:
        path: its directory.
        clips: those of the test set.
        classes: all classes.
        seed: of training, and of the scores.
        lean: how far scores lean to the truth.
        scores: given, `(N, K)`.
        multilabel: whether a clip may have several labels.
        protocol: keys of the protocol that differ from the usual; None for a key that is missing.
        train: the clips of training.
        report: further keys of the report; None for a key that is missing.
    """
    clips = clips_of(120, 30, classes) if clips is None else clips
    table = table_of([*clips, *train], classes, multilabel=multilabel)
    rows = np.arange(len(clips))
    targets = table.targets(rows)
    if scores is None:
        scores = np.random.default_rng(seed).random(targets.shape) + lean * targets
    scores = np.asarray(scores, np.float32)
    run = RunDirectory(path)
    path.mkdir(parents=True)
    parts = np.array([2] * len(clips) + [0] * len(train), np.int8)
    files.write_text(run.recipe, "format = 2\n")
    files.write_json(run.environment, {"data": fingerprint(table, parts, np.ones(len(table), np.int64)), "digests": {}})
    run_directory.write_clips(run, table, [("train", "validation", "test", "purged")[part] for part in parts])
    thresholds = [0.5] * len(classes) if multilabel else None
    figures = assess(scores, targets, table.group_codes[rows], classes, thresholds=thresholds, resamples=200)
    usual = {
        "dataset": {"use": "toy", "root": "/data", "clips": 120},
        "split": {"test": [1], "validation": 0.1, "crossing": "purge", "seed": 1},
        "audio": {"rate": 16000, "window": 3.0, "level": "off", "trim": "off", "on_error": "fail"},
        "seed": seed,
        "best_epoch": seed,
    }
    content = {"name": path.name, "protocol": _without_none(usual | (protocol or {})), **figures, "seconds": 12.5}
    content |= {"parameters": 1234567, "macs": 7654321}
    files.write_json(run.report_json, _without_none(content | report))
    run_directory.write_predictions(run, table, rows, scores)
    run_directory.seal_results(run)
    return path


def sealed(path: Path) -> Path:
    """Record the results of a run as they are now, as an older or newer version would have written them."""
    digests.write_table(path / "digests.json", digests.table_of(path, files.read_json(path / "digests.json")))
    return path


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}
