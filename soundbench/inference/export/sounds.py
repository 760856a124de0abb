"""The sounds on which an export is compared with its model: clips of the run, or given files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import audio, files
from soundbench import recipe as recipes
from soundbench.data.clips import ClipTable
from soundbench.data.sound_files import find_sounds
from soundbench.data.sounds import Sounds
from soundbench.errors import RunError, SoundError
from soundbench.inference.classifier import Classifier
from soundbench.model import assembly
from soundbench.recipe import Recipe
from soundbench.report.run_directory import RunDirectory

__all__ = ["FEWEST", "MOST", "RunClips", "Sample", "given", "spread"]

FEWEST, MOST = 32, 100
"""How many sounds are compared."""


class Sample(NamedTuple):
    """A sound at the model's rate; its labels, and its row in the table of clips, None where they are not known."""

    samples: NDArray[np.float32]
    labels: tuple[str, ...] | None
    row: int | None = None


@attrs.frozen(eq=False)
class RunClips:
    """The clips of a run.

    Attributes:
        recipe: the run's recipe.
        table: all clips of its dataset.
        sounds: their sound.
        parts: the rows of `test`, `validation` and `train`, as the run has split them.
    """

    recipe: Recipe
    table: ClipTable
    sounds: Sounds
    parts: Mapping[str, NDArray[np.int64]]

    @classmethod
    def open(cls, run: Path, trust_code: bool) -> RunClips:
        """The clips of a run directory.

        Raises:
            SoundbenchError: its files or its data cannot be read, or the data has changed.
        """
        directory = RunDirectory.open(run)
        recipe = recipes.read(directory.recipe, trust_code=trust_code)
        rows = files.read_rows(directory.clips, "part", "path", "start")
        dataset: Any = assembly.make_dataset(recipe)
        table = ClipTable.of(dataset)
        places = zip(map(str, table.paths), table.starts.tolist(), strict=True)
        if [(row["path"], float(row["start"])) for row in rows] != list(places):
            raise RunError(f"{run}: the clips of its dataset are no longer those of {directory.clips.name}")
        part_of = np.array([row["part"] for row in rows])
        parts = {name: np.flatnonzero(part_of == name) for name in ("test", "validation", "train")}
        return cls(recipe, table, Sounds.of(table, dataset, recipe.audio.rate), parts)

    def samples(self, rows: Iterable[int]) -> list[Sample]:
        """The sound and the labels of rows of the table, without those that the run has skipped as unreadable.

        Raises:
            SoundError: one cannot be read, and the recipe does not skip such clips.
        """
        found = []
        for row in rows:
            try:
                samples = self.sounds.load(int(self.sounds.of_rows[row]))
            except SoundError:
                if self.recipe.audio.on_error == "fail":
                    raise
            else:
                found.append(Sample(samples, tuple(self.table.clip(row).labels), row))
        return found

    def to_compare(self) -> tuple[list[Sample], str]:
        """Up to `MOST` test clips, and what they are; where there are fewer than `FEWEST`, others of the run too."""
        chosen = spread(self.parts["test"].tolist(), MOST)
        others = np.concatenate([self.parts["validation"], self.parts["train"]]).tolist()
        more = spread(others, max(FEWEST - len(chosen), 0))
        what = f"{len(chosen)} test clips" + (f" and {len(more)} other clips of the run" if more else "")
        return self.samples([*chosen, *more]), what


def given(path: Path, classifier: Classifier, most: int = MOST) -> list[Sample]:
    """The sounds of a file or folder; those in a folder that is named like a class have its label.

    Raises:
        DataError: there is none, or one cannot be read.
    """
    found = []
    for file in spread(find_sounds([str(path)]), most):
        name = file.parent.name
        found.append(Sample(audio.load(file, classifier.rate), (name,) if name in classifier.classes else None))
    return found


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[number * len(items) // most] for number in range(most)]
