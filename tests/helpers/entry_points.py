"""Entry points that no installed distribution has, and a registry of toys, for tests of the core."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import Distribution, EntryPoint
from typing import Any

from soundbench.contracts import hookimpl
from soundbench.recipe.registry import Registry


class FakeDistribution(Distribution):
    """A distribution that consists of its metadata."""

    def __init__(self, name: str, version: str, requires: Sequence[str] = ()) -> None:
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        self.text = "\n".join([*lines, *(f"Requires-Dist: {line}" for line in requires), "", ""])

    def read_text(self, filename: str) -> str | None:
        return self.text if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        raise NotImplementedError


def fake(
    kind: str, name: str, value: str, distribution: str = "toys", version: str = "1.0", requires: Sequence[str] = ()
) -> EntryPoint:
    """An entry point of a made-up distribution."""
    entry = EntryPoint(name, value, f"soundbench.{kind}")
    vars(entry).update(dist=FakeDistribution(distribution, version, requires))
    return entry


class Listener:
    """Remembers the epochs that it was told of."""

    def __init__(self, run: Any, *, every: int = 1) -> None:
        self.run, self.every, self.epochs = run, every, list[int]()

    @hookimpl
    def epoch_completed(self, epoch: int) -> None:
        self.epochs.append(epoch)


TOYS = (
    ("dataset", "noise", "helpers.toys:ToyDataset"),
    ("augmentation", "gain", "helpers.toys:ToyGain"),
    ("augmentation", "drop", "helpers.toys:ToyDrop"),
    ("featurizer", "spectra", "helpers.toys:ToyFeaturizer"),
    ("backbone", "conv", "helpers.toys:ToyBackbone"),
    ("pooling", "mean", "helpers.toys:ToyPooling"),
    ("loss", "entropy", "helpers.toys:ToyLoss"),
    ("optimizer", "descent", "helpers.toys:toy_optimizer"),
    ("scheduler", "line", "helpers.toys:toy_scheduler"),
    ("calibration", "divide", "helpers.toys:ToyCalibration"),
    ("reject", "distance", "helpers.toys:ToyReject"),
    ("reject", "none", "helpers.toys:ToyReject"),
    ("observer", "listener", "helpers.entry_points:Listener"),
    ("importer", "stranger", "helpers.toys:toy_importer"),
    ("exporter", "program", "helpers.toys:ToyExporter"),
)

# What a recipe names where the core's own defaults would name built-ins.
NAMES: dict[str, Any] = {
    "featurizer": "spectra",
    "loss": "entropy",
    "optimizer": "descent",
    "scheduler": "line",
    "calibration": "divide",
    "reject": "distance",
    "observer": [],
}


def toy_registry(*more: EntryPoint) -> Registry:
    """A registry of the toys, and of what is given."""
    return Registry([*(fake(*toy) for toy in TOYS), *more])
