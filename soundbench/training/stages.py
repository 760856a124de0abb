"""The stages of a run, each a value made from the one before: prepared, opened, trained, scored; then its report.

What belongs between two of them, such as calibration between training and test, is a function from one to the next in a
file of its own, called in `run.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from ignite.engine import Engine
from numpy.typing import NDArray

from soundbench import distributed, files
from soundbench import recipe as recipes
from soundbench.data.batches import Grid, RawBatch, training_batches
from soundbench.data.clips import ClipTable
from soundbench.data.features import Features
from soundbench.data.order import Order, class_weights, members
from soundbench.data.shared_store import sound_store
from soundbench.data.splits import SplitResult, split
from soundbench.data.store import Store
from soundbench.errors import DataError, RunError
from soundbench.machine import Machine
from soundbench.model import assembly
from soundbench.model import folder as model_folder
from soundbench.model.assembly import Assembly
from soundbench.model.scoring import ClipScores, Scorer, score_clips
from soundbench.recipe import Recipe
from soundbench.report import pages, run_directory
from soundbench.report.assessment import assess
from soundbench.report.protocol import protocol, skipped
from soundbench.report.run_directory import RunDirectory
from soundbench.report.thresholds import choose_thresholds
from soundbench.signals import Stop
from soundbench.training import checkpoints, loop
from soundbench.training.environment import (
    note_data,
    refuse_one_of_all,
    refuse_other_recipes,
    refuse_small_batches,
    settle_recipe,
)
from soundbench.training.extraction import features_of
from soundbench.training.log import Log
from soundbench.training.profiling import Profile, StepTimes
from soundbench.training.step import Rules, TrainSetup, make_setup

__all__ = ["Opened", "Prepared", "Scored", "Trained", "open_sound", "prepare", "score_test", "train", "write_report"]

Rows = NDArray[np.int64]
Notify = Callable[..., None]

RESAMPLES = 2000
PARTS = ("train", "validation", "test")


# Prepared -------------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Prepared:
    """All that is known before any sound is read.

    Attributes:
        recipe: resolved, `auto` settled.
        machine: the device and how it is used.
        made: the recipe's components.
        table: the clips.
        cut: which part each clip is in.
        class_weights: of each class in the loss, `(K,)`.
    """

    recipe: Recipe
    machine: Machine
    made: Assembly
    table: ClipTable
    cut: SplitResult
    class_weights: NDArray[np.float32]

    @property
    def grid(self) -> Grid:
        """How a clip is cut into windows to be scored; a store's sounds are trimmed already."""
        return Grid(self.recipe.audio.window_samples, self.recipe.audio.hop_samples)

    def plan(self, rows: Rows) -> Order:
        """Which of the clips to train on each step shows."""
        return _plan(self.recipe, self.table, rows)


def _plan(recipe: Recipe, table: ClipTable, rows: Rows) -> Order:
    train = recipe.train
    classes = members(table, rows) if train.sampler == "balanced" else None
    return Order(rows, train.batch_size, train.seed, distributed.rank(), distributed.world(), classes)


def prepare(recipe: Recipe) -> Prepared:
    """Make what a recipe names, and refuse what cannot be trained.

    Raises:
        SoundbenchError: a mistake in the recipe, or data that cannot be used.
    """
    machine, recipe = settle_recipe(recipe)
    refuse_other_recipes(recipe)
    made = assembly.assemble(recipe)
    table = ClipTable.of(made.dataset)
    refuse_one_of_all(recipe, made, table)
    cut = split(table, recipe.split, recipe.train.seed, recipe.source)
    rows = cut.rows("train")
    refuse_small_batches(recipe, _plan(recipe, table, rows))
    weights = class_weights(recipe.train.class_weights, table, rows, recipe.source)
    made.prepare(recipe)
    return Prepared(recipe, machine, made, table, cut, weights)


# Opened ---------------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Opened:
    """A run whose sound is there.

    Attributes:
        prepared: what came before.
        directory: of the run.
        store: the decoded sound.
        source: what batches are made of: the store, or features made ahead.
        parts: the rows of `train`, `validation` and `test` that could be read.
    """

    prepared: Prepared
    directory: RunDirectory
    store: Store
    source: Store | Features
    parts: Mapping[str, Rows]


@contextmanager
def open_sound(
    prepared: Prepared, directory: RunDirectory, cache: Path | bool, state: Mapping[str, Any] | None, log: Log
) -> Iterator[Opened]:
    """Decode what is not decoded yet, leave unreadable clips out, and write the clip table.

    Args:
        prepared: the run.
        directory: its directory.
        cache: the folder of decoded sound; True for the user's own, False for one that goes with the run.
        state: a checkpoint's, where the run goes on.
        log: of the run.

    Raises:
        DataError: sound that cannot be read.
        RunError: the data has changed since the run began.
    """
    recipe, cut = prepared.recipe, prepared.cut
    with sound_store(prepared.table, prepared.made.dataset, recipe.audio, cache, log) as store:
        readable = store.lengths > 0
        parts = {name: (rows := cut.rows(name))[readable[rows]] for name in PARTS}
        for name in ("train", "test"):
            if not len(parts[name]):
                raise DataError(f"no clip is left to {name} on: none of {len(cut.rows(name))} can be read")
        note_data(directory, recipe, prepared.machine, prepared.table, cut, store.lengths)
        counts = ", ".join(f"{len(rows)} {name}" for name, rows in parts.items())
        log(f"clips: {counts}, {len(cut.rows('purged'))} purged, {len(store.errors)} unreadable")
        source: Store | Features = store
        if recipe.train.extracted:
            weights = state["network"] if state else None
            source = features_of(recipe, prepared.made.network, prepared.machine, store, log, weights)
        yield Opened(prepared, directory, store, source, parts)


# Trained --------------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Trained:
    """A run whose best network is found.

    Attributes:
        opened: what came before.
        scorer: the best network, ready to score.
        thresholds: of each class, chosen on validation; none where a clip has one label.
        best_epoch: that the network is of.
    """

    opened: Opened
    scorer: Scorer
    thresholds: Sequence[float]
    best_epoch: int


def train(
    opened: Opened,
    state: Mapping[str, Any] | None,
    log: Log,
    *,
    notify: Notify,
    stop: Stop,
    times: StepTimes,
    profile: bool = False,
) -> Trained:
    """Train to the end, from a checkpoint's state where one is given, and take the best network.

    Args:
        opened: the run.
        state: a checkpoint's, or None.
        log: of the run.
        notify: calls a hook of the observers with its arguments.
        stop: is listening to what signals ask for.
        times: where the time of steps goes.
        profile: whether to look closely at a few steps; of several processes, at the main one's.
    """
    prepared, directory = opened.prepared, opened.directory
    recipe, plan = prepared.recipe, prepared.plan(opened.parts["train"])
    refuse_small_batches(recipe, plan)  # again: some clips may not have been readable
    setup = make_setup(recipe, prepared.made, prepared.machine, plan, prepared.class_weights)
    rules = Rules(level=recipe.audio.level, **{name: getattr(recipe.train, name) for name in _RULES})
    done = int(state["step"]) // plan.steps if state else 0
    distributed.from_main(lambda: run_directory.cut_history(directory, done))
    if state:
        log(f"resumed after step {state['step']} of {rules.epochs * plan.steps}")

    def batches(step: int) -> Iterable[RawBatch]:
        window, workers = prepared.grid.window, recipe.train.num_workers
        return training_batches(opened.source, prepared.table, plan, window, rules.epochs, step, workers)

    def watch(trainer: Engine) -> None:
        if profile and distributed.is_main():
            network, device = prepared.made.network, prepared.machine.device
            Profile(network, device, times, recipe.train.num_workers, directory.profile, log).attach(trainer)

    best_epoch = loop.train(
        setup,
        rules,
        batches,
        directory.checkpoints,
        validate=lambda: _validate(opened, setup),
        notify=notify,
        on_better=lambda validation: _save_model(opened, setup, validation.thresholds if validation else ()),
        on_epoch=lambda row: distributed.from_main(lambda: files.append_row(directory.history, row)),
        state=state,
        stop=stop,
        times=times,
        watch=watch,
    )
    weights, thresholds = distributed.from_main(lambda: _best(opened, setup, log))
    setup.evaluated.load_state_dict(weights)
    if state is not None:
        # A kill between model and checkpoint leaves the model of an epoch that is trained again after a resume, on a
        # GPU not to the same bits: the best checkpoint's is written anew.
        _save_model(opened, setup, thresholds)
    return Trained(opened, _scorer(prepared, setup), thresholds, best_epoch)


_RULES = ("epochs", "seed", "accumulate", "max_grad_norm", "patience", "keep", "checkpoint_steps")


def _scorer(prepared: Prepared, setup: TrainSetup) -> Scorer:
    return Scorer(setup.evaluated, prepared.made.loss, prepared.machine, prepared.recipe.audio.level)


def _score(opened: Opened, scorer: Scorer, part: str) -> ClipScores:
    """The scores of a part's clips; every process gets the whole."""
    prepared, train = opened.prepared, opened.prepared.recipe.train
    rows = opened.parts[part]
    return score_clips(scorer, opened.source, prepared.table, rows, prepared.grid, train.batch_size, train.num_workers)


def _validate(opened: Opened, setup: TrainSetup) -> loop.Validation | None:
    """The loss on the validation set decides which epoch is the best.

    A validation set is often a hundred clips of a dozen recordings, of which accuracy says little: an early network
    that predicts the commonest class for most of them can look best. The loss is a proper score and varies less.
    """
    if not len(opened.parts["validation"]):
        return None
    table = opened.prepared.table
    found = _score(opened, _scorer(opened.prepared, setup), "validation")
    thresholds: Sequence[float] = ()
    if table.multilabel:
        thresholds = choose_thresholds(found.scores, table.targets(found.index)).tolist()
    metrics = _assess(opened, found, thresholds, resamples=0)["metrics"]
    loss = float(found.losses.mean(dtype=np.float64))
    first = "mean_average_precision" if table.multilabel else "accuracy"
    named = {f"validation_{name}": metrics[name]["value"] for name in (first, "macro_f1")}
    return loop.Validation(-loss, {"validation_loss": loss, **named}, thresholds)


def _save_model(opened: Opened, setup: TrainSetup, thresholds: Sequence[float]) -> None:
    """Write the model folder."""
    prepared, directory = opened.prepared, opened.directory
    table = prepared.table

    def write() -> None:
        recipe = recipes.relocated(prepared.recipe, "./code")
        tables = recipes.model_tables(recipe, table.classes, table.multilabel, thresholds)
        model_folder.save_model(directory.model, tables, setup.evaluated)
        assets = getattr(prepared.made.network.featurizer, "assets", None)
        if assets is not None:
            directory.assets.mkdir(exist_ok=True)
            assets(directory.assets)

    distributed.from_main(write)


def _best(opened: Opened, setup: TrainSetup, log: Log) -> tuple[Mapping[str, Any], Sequence[float]]:
    """The best network's weights and thresholds; the others' machines may have no run directory."""
    directory, network = opened.directory, setup.evaluated
    thresholds = model_folder.read_model_tables(directory.model).get("thresholds", ())
    try:
        best = checkpoints.load(directory.checkpoints / "best.pt")
    except RunError as error:
        log(f"{error}; the weights in {directory.model} are evaluated instead")
        model_folder.load_weights(directory.model, network, len(opened.prepared.table.classes))
        return {name: value.cpu() for name, value in network.state_dict().items()}, thresholds
    return best["average"] or best["network"], thresholds


# Scored ---------------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Scored:
    """A run whose test set is scored.

    Attributes:
        trained: what came before.
        test: the scores of the test clips.
    """

    trained: Trained
    test: ClipScores


def score_test(trained: Trained) -> Scored:
    """Score the test set; a run does so once."""
    return Scored(trained, _score(trained.opened, trained.scorer, "test"))


def write_report(scored: Scored, began: float, log: Log) -> dict[str, Any]:
    """Write the predictions and the report of a run.

    Args:
        scored: the run.
        began: when, by `time.monotonic`.
        log: of the run.
    """
    trained, opened = scored.trained, scored.trained.opened
    prepared, directory = opened.prepared, opened.directory
    recipe, table, machine = prepared.recipe, prepared.table, prepared.machine
    as_written = recipes.relocated(recipe, "./model/code")
    figures = _assess(opened, scored.test, trained.thresholds, RESAMPLES)
    found = {
        "name": recipe.name,
        "protocol": protocol(as_written, table, prepared.cut, opened.parts, trained.best_epoch),
        **figures,
        "folds": [{"test": recipe.tables()["split"]["test"], "metrics": figures["metrics"]}],
        "prior": _prior(opened).tolist(),
        "parts": {name: len(rows) for name, rows in opened.parts.items()},
        "skipped": skipped(table, opened.store),
        "device": str(machine.device),
        "precision": machine.precision,
        "seconds": round(time.monotonic() - began, 1),
    }

    def write() -> None:
        run_directory.write_predictions(directory, table, scored.test.index, scored.test.scores)
        pages.write(directory, found)
        log(pages.summary(found))

    distributed.from_main(write)
    return found


def _assess(opened: Opened, found: ClipScores, thresholds: Sequence[float], resamples: int) -> dict[str, Any]:
    """All metrics of scored clips."""
    table, rows = opened.prepared.table, found.index
    return assess(
        found.scores,
        table.targets(rows),
        table.group_codes[rows],
        table.classes,
        prior=_prior(opened),
        thresholds=(thresholds or [0.5] * len(table.classes)) if table.multilabel else None,
        resamples=resamples,
        seed=opened.prepared.recipe.train.seed,
    )


def _prior(opened: Opened) -> NDArray[np.int64]:
    """How many training clips each class has, `(K,)`."""
    return opened.prepared.table.class_counts(opened.parts["train"])
