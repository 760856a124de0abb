"""What an exported file says of its model: all that scoring sound needs beside the program. docs/design.md explains it.

A runtime without torch reads this object and nothing else, so every key is part of a contract: a change of a key's
meaning, or of what the program computes, is a new `FORMAT`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from soundbench import files
from soundbench.data import digests
from soundbench.errors import RunError
from soundbench.inference.classifier import Classifier
from soundbench.model.exported.metadata import FORMAT

__all__ = ["card_of", "metadata_of"]

_COMPONENTS = ("featurizer", "backbone", "pooling", "head", "loss", "calibration", "reject")


def metadata_of(
    classifier: Classifier, folder: Path, tables: Mapping[str, Any], card: Mapping[str, Any]
) -> dict[str, Any]:
    """The metadata of a model.

    Args:
        classifier: the model.
        folder: its model folder.
        tables: the content of its `model.toml`.
        card: what is said of it for people (see `card_of`).
    """
    grid, scorer = classifier.grid, classifier.scorer
    shortest, longest = scorer.window_limits(classifier.rate)
    return {
        "format": FORMAT,
        "made_by": f"soundbench {version('soundbench')}",
        "classes": list(classifier.classes),
        "multilabel": classifier.multilabel,
        "thresholds": None if classifier.thresholds is None else [float(one) for one in classifier.thresholds],
        "rate": classifier.rate,
        "window": grid.window,
        "hop": grid.hop,
        "trim": grid.trim,
        "level": scorer.level,
        "shortest_window": shortest,
        "longest_window": longest,
        "calibration": tables.get("calibration"),
        "reject": _reject(classifier, tables),
        "components": {name: tables[name] for name in _COMPONENTS if name in tables},
        "weights": digests.of_file(folder / "weights.safetensors"),
        "card": dict(card),
    }


def _reject(classifier: Classifier, tables: Mapping[str, Any]) -> dict[str, Any] | None:
    """What rejects sound: the component's name, the thresholds, and whether digital silence is rejected."""
    rejector = classifier.scorer.rejector
    if rejector is None:
        return None
    thresholds = {"clip_threshold": rejector.clip, "window_threshold": rejector.window}
    return {"use": tables["reject"]["use"], **thresholds, "silence": rejector.silence}


def card_of(folder: Path, classifier: Classifier, macs: int) -> dict[str, Any]:
    """What people want to know of a model: its name, its size, and how it was tested.

    Args:
        folder: its run directory or model folder.
        classifier: the model.
        macs: multiply-adds of a window.
    """
    card: dict[str, Any] = {
        "name": folder.resolve().name,
        "parameters": sum(weight.numel() for weight in classifier.network.parameters()),
        "macs": macs,
    }
    try:
        report = files.read_json(folder / "report.json", "metrics", "protocol")
    except RunError:  # a model folder alone, or a run that is not tested
        return card
    tested = {key: report[key] for key in ("name", "metrics", "clips", "groups") if key in report}
    protocol = dict(report["protocol"])
    if isinstance(protocol.get("dataset"), Mapping):  # its other keys are paths of this machine, or as good as those
        protocol["dataset"] = protocol["dataset"].get("use")
    return card | tested | {"protocol": protocol}
