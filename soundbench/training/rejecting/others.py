"""Sound of none of the classes, scored: noise, the recipe's `reject.negatives`, and classes left out of training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from torch import nn

from soundbench import recipe as recipes
from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable, normal
from soundbench.data.shared_store import sound_store
from soundbench.data.sound_files import find_sounds
from soundbench.data.store import Store
from soundbench.errors import MissingDataError
from soundbench.model import assembly
from soundbench.model.outputs.window_logits import WindowLogits, window_logits
from soundbench.model.rejecting.left_out import Relabelled
from soundbench.model.rejecting.noise import Colour, NoiseStore
from soundbench.model.scoring import Scorer
from soundbench.recipe import Recipe
from soundbench.training.environment import agreed_fingerprint
from soundbench.training.log import Log
from soundbench.training.stages import Opened

__all__ = [
    "FITTED_ON",
    "FITTING",
    "NOISE_SECONDS",
    "REPORT",
    "Other",
    "fitted_on",
    "left_out",
    "negative_clips",
    "negatives",
    "noise",
    "read_negatives",
]

NOISE_SECONDS = 600
"""How much noise of each colour the report is on, if all windows of it are whole."""

FITTING, REPORT = 1, 2
"""What noise is for; each has its own."""

FITTED_ON, FITTED_ON_FEW = 384, 96
"""Windows of noise of each colour to fit on: where a component is fitted, and where its thresholds alone are."""


def fitted_on(module: nn.Module) -> int:
    """How many windows of noise of each colour what rejects sound and its thresholds are fitted on."""
    return FITTED_ON if hasattr(module, "fit") else FITTED_ON_FEW


@attrs.frozen(eq=False)
class Other:
    """Sound of none of the classes.

    Attributes:
        windows: what the network gives for its windows.
        seconds: how long it is.
    """

    windows: WindowLogits
    seconds: float

    def part(self, first: int) -> Other:
        """Every second clip, from the first (0) or the second (1) on; all of it if there is only one clip."""
        clip, count = self.windows.clip, len(self.windows.rows)
        if count < 2:
            return self
        own = clip % 2 == first
        return Other(self.windows.part(own), self.seconds * own.mean())


def noise(
    opened: Opened, scorer: Scorer, colour: Colour, purpose: int, embeddings: bool, count: int | None = None
) -> Other:
    """Noise, each window a clip of its own: so many, or as many as fill ten minutes."""
    window, rate = opened.prepared.grid.window, opened.prepared.recipe.audio.rate
    count = count or -(-NOISE_SECONDS * rate // window)
    table = opened.prepared.table
    clips = [Clip(f"{colour} noise {number}", (table.classes[0],)) for number in range(count)]
    rows = ClipTable.of(Relabelled(None, clips, table.classes))
    store = NoiseStore(colour, count, window, purpose)
    return Other(_windows(opened, scorer, store, rows, embeddings), float(store.lengths.sum()) / rate)


def negatives(opened: Opened, scorer: Scorer, embeddings: bool, log: Log) -> Other | None:
    """The sound that `reject.negatives` names, scored; None if it names none.

    Raises:
        DataError: as of `read_negatives`.
    """
    found = negative_clips(opened.prepared.recipe)
    return None if found is None else _of_clips(opened, scorer, *found, embeddings, log)


def read_negatives(opened: Opened, log: Log) -> None:
    """Decode the sound that `reject.negatives` names, so that mistakes show before training.

    Raises:
        DataError: it does not exist, holds no sound, cannot be read, or another process finds other sound.
    """
    found = negative_clips(opened.prepared.recipe)
    if found is not None:
        with _store(opened, *found, log):
            pass


def negative_clips(recipe: Recipe) -> tuple[Any, list[Clip]] | None:
    """The dataset of `reject.negatives`, None for files of a folder, and its clips; None if it names none.

    Raises:
        DataError: it does not exist, or holds no sound.
    """
    path = recipe.reject.own.negatives
    if path is None:
        return None
    if not path.exists():
        raise MissingDataError(f"reject.negatives: {path}: no such folder or manifest")
    if path.is_dir():
        return None, [Clip(str(sound), ("",)) for sound in find_sounds([str(path)])]
    whole = assembly.make_dataset(recipe.with_dataset(recipes.dataset_spec(path)))
    return whole, list(whole.clips())


def left_out(opened: Opened, scorer: Scorer, name: str, embeddings: bool, log: Log) -> Other:
    """The clips of a class that was left out of training."""
    whole: Any = opened.prepared.made.dataset
    whole = whole.whole
    clips = [clip for clip in whole.clips() if normal(clip.labels[0]) == name]
    if not clips:
        raise MissingDataError(f"--leave-out: the class {name!r} has no clips")
    return _of_clips(opened, scorer, whole, clips, embeddings, log)


def _of_clips(opened: Opened, scorer: Scorer, whole: Any, clips: Sequence[Clip], embeddings: bool, log: Log) -> Other:
    with _store(opened, whole, clips, log) as (store, table):
        rows: NDArray[np.int64] = np.flatnonzero(store.lengths > 0)
        found = _windows(opened, scorer, store, table, embeddings, rows)
        return Other(found, float(store.lengths[rows].sum()) / opened.prepared.recipe.audio.rate)


@contextmanager
def _store(opened: Opened, whole: Any, clips: Sequence[Clip], log: Log) -> Iterator[tuple[Store, ClipTable]]:
    """The decoded sound of clips of no class, and their table; the same in all processes."""
    dataset = Relabelled(whole, clips, opened.prepared.table.classes)
    table = ClipTable.of(dataset)
    with sound_store(table, dataset, opened.prepared.recipe.audio, opened.cache, log) as store:
        agreed_fingerprint(table, np.zeros(len(table), np.int8), store.lengths)
        yield store, table


def _windows(
    opened: Opened,
    scorer: Scorer,
    store: Any,
    table: ClipTable,
    embeddings: bool,
    rows: NDArray[np.int64] | None = None,
) -> WindowLogits:
    train = opened.prepared.recipe.train
    rows = np.arange(len(table)) if rows is None else rows
    return window_logits(scorer, store, table, rows, opened.prepared.grid, train.batch_size, 0, embeddings)
