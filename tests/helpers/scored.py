"""Made-up scores of clips, of one label each and of several."""

from __future__ import annotations

from typing import Any

import numpy as np

from soundbench.report.assessment import assess

Scored = tuple[np.ndarray, np.ndarray, np.ndarray]


def scored(clips: int, classes: int, groups: int, seed: int = 0, lean: float = 0.3) -> Scored:
    """Scores that lean to the truth, targets, and groups of uneven size that share a truth."""
    draws = np.random.default_rng(seed)
    group = np.minimum((groups * draws.random(clips) ** 2).astype(int), groups - 1)
    truth = draws.integers(0, classes, groups)[group]
    scores = draws.random((clips, classes)).astype(np.float32)
    scores[np.arange(clips), truth] += lean
    return scores, np.eye(classes, dtype=np.float32)[truth], group


def names(classes: int) -> list[str]:
    return [f"class {number}" for number in range(classes)]


def found(scores: Any, truth: Any, groups: Any = None, prior: Any = None, **options: int) -> dict[str, Any]:
    scores = np.asarray(scores, np.float32)
    classes = scores.shape[1]
    groups = np.arange(len(scores)) if groups is None else np.asarray(groups)
    prior = np.ones(classes) if prior is None else prior
    return assess(scores, np.eye(classes)[truth], groups, names(classes), prior=prior, **options)


def values(report: dict[str, Any]) -> dict[str, float]:
    return {name: figure["value"] for name, figure in report["metrics"].items()}


def several(clips: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with many ties, targets that go with them somewhat, and groups."""
    random = np.random.default_rng(seed)
    target = random.random((clips, 4)) < [0.5, 0.3, 0.1, 0.02]
    scores = np.round(random.random((clips, 4)) * 0.7 + target * 0.3, 1)
    return scores, target.astype(np.float32), random.integers(0, 60, clips)
