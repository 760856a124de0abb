"""The stages of a run until its network is trained: `Prepared`, `Opened`, `Trained`, each made from the one before.

Those that follow are in `finishing.py`. All are called in `run.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from ignite.engine import Engine
from numpy.typing import NDArray
from torch import Tensor

from soundbench import distributed, files
from soundbench import recipe as recipes
from soundbench.data.audit import doubts, lost, repeated
from soundbench.data.batches import Grid, training_batches
from soundbench.data.clips import ClipTable
from soundbench.data.features import Features
from soundbench.data.likeness.groups import grouped
from soundbench.data.shared_store import sound_store
from soundbench.data.splits import SplitResult, settled, split
from soundbench.data.store import Store
from soundbench.errors import RunError
from soundbench.machine import Machine
from soundbench.model import assembly, logits
from soundbench.model import folder as model_folder
from soundbench.model.assembly import Assembly
from soundbench.model.logits import HeldOutLogits
from soundbench.model.network import Network
from soundbench.model.outputs.window_logits import WindowLogits, refuse_not_finite, window_logits
from soundbench.model.plan import Plan, plan
from soundbench.model.scoring import ClipScores, Scorer, score_clips
from soundbench.recipe import ComponentSpec, Recipe
from soundbench.report import run_directory
from soundbench.report.assessment import assess
from soundbench.report.run_directory import RunDirectory
from soundbench.report.thresholds import choose_thresholds
from soundbench.signals import Stop
from soundbench.training import checkpoints, loop
from soundbench.training.compiling.compiler import Compiling
from soundbench.training.environment import (
    for_resuming,
    notes_on,
    record_compiling,
    record_data,
    refuse_other_recipes,
    settle_recipe,
)
from soundbench.training.extraction import features_of
from soundbench.training.log import Log, Say, to_stderr
from soundbench.training.profiling import Profile, StepTimes
from soundbench.training.step import Rules, make_setup

__all__ = ["Opened", "Prepared", "Trained", "held_out_scores", "open_sound", "prepare", "save_model", "train"]

Rows = NDArray[np.int64]
Notify = Callable[..., None]


# Prepared -------------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Prepared:
    """A run before any sound is read.

    Attributes:
        recipe: resolved, `auto` settled.
        machine: the device and how it is used.
        made: the recipe's components.
        table: the clips.
        cut: which part each clip is in.
        said: lines for the log about the data, and about settings that have a price.
        learnt: a line about test clips that the weights of `init.from` have learnt from; empty for none.
    """

    recipe: Recipe
    machine: Machine
    made: Assembly
    table: ClipTable
    cut: SplitResult
    said: Sequence[str]
    learnt: str = ""

    @property
    def grid(self) -> Grid:
        """How a clip is cut into windows to be scored; a store's sounds are trimmed already."""
        return Grid(self.recipe.audio.window_samples, self.recipe.audio.hop_samples)

    def plan(self, readable: NDArray[np.bool_] | None = None) -> Plan:
        """What is trained and tested on of the clips that are readable, `(N,)`; refuse what cannot be."""
        return plan(self.recipe, self.made, self.table, self.cut, readable)

    def scorer(self, network: Network) -> Scorer:
        """A network of this run, ready to score."""
        return Scorer(network, self.made.loss, self.machine, self.recipe.audio.level)


def prepare(
    recipe: Recipe, threads: int | None = None, *, cache: Path | str | bool = True, say: Say = to_stderr
) -> Prepared:
    """Create a recipe's components and split its clips; refuse what cannot be trained.

    Args:
        recipe: the recipe.
        threads: CPU threads of this process, if a run that goes on has settled them before.
        cache: the folder of decoded sound; True for the user's cache, False for a temporary one.
        say: called with progress messages.

    Raises:
        SoundbenchError: a mistake in the recipe, or data that cannot be used.
    """
    machine, recipe = settle_recipe(recipe, threads)
    refuse_other_recipes(recipe)
    made = assembly.assemble(recipe)
    table = ClipTable.of(made.dataset)
    how, folds = settled(table, recipe.split)
    recipe = recipe.with_tables(split=how)
    cut = split(table, how, recipe.source)
    prepared = Prepared(recipe, machine, made, table, cut, [*filter(None, [folds]), *doubts(table), *notes_on(machine)])
    prepared.plan()
    if stored := recipe.calibration.own.predictions:
        logits.refuse_learnt(stored, logits.read(stored, table.classes), table, cut.rows("test"))
    if scores := held_out_scores(recipe, table.classes):
        stored = Path(recipe.reject.own.predictions)
        logits.refuse_learnt(stored, scores, table, cut.rows("test"), "reject.predictions")
    made.prepare(recipe)
    if how.near_duplicates == "group":
        table = grouped(table, made.dataset, cache, say)
        prepared = attrs.evolve(prepared, table=table, cut=split(table, how, recipe.source))
        prepared.plan()
    return prepared


def held_out_scores(recipe: Recipe, classes: Sequence[str]) -> HeldOutLogits | None:
    """The reject scores that `reject.predictions` names; None if it names none.

    Raises:
        RunError: they are missing, damaged, of other classes, or of another component than the recipe's.
    """
    path, use = recipe.reject.own.predictions, recipe.reject.use
    if path is None:
        return None
    found = logits.read(path, classes)
    if found.reject is None or found.reject_by != use:
        given = f"those of {found.reject_by!r}" if found.reject is not None else "none"
        raise RunError(f"{path}: reject.predictions must hold the reject scores of {use!r}; it holds {given}")
    return found


# Opened ---------------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Opened:
    """A run with its sound decoded.

    Attributes:
        prepared: the stage before.
        directory: the run directory.
        store: the decoded sound.
        source: what batches are made from: the store, or features made ahead.
        plan: what is trained and tested on, without unreadable clips.
        cache: the folder of decoded sound; True for the user's cache, False for a temporary one.
    """

    prepared: Prepared
    directory: RunDirectory
    store: Store
    source: Store | Features
    plan: Plan
    cache: Path | str | bool

    @property
    def parts(self) -> Mapping[str, Rows]:
        """The readable rows of `train`, `validation` and `test`."""
        return self.plan.parts

    @property
    def prior(self) -> NDArray[np.int64]:
        """How many training clips each class has, `(K,)`."""
        return self.prepared.table.class_counts(self.parts["train"])

    def score(self, scorer: Scorer, part: str) -> ClipScores:
        """Score the clips of a part; every process gets all scores."""
        table, grid, train = self.prepared.table, self.prepared.grid, self.prepared.recipe.train
        return score_clips(scorer, self.source, table, self.parts[part], grid, train.batch_size, train.num_workers)

    def windows(self, scorer: Scorer, rows: Rows, embeddings: bool = False) -> WindowLogits:
        """The logits of the windows of clips, and embeddings if asked for; every process gets all of them."""
        table, grid, train = self.prepared.table, self.prepared.grid, self.prepared.recipe.train
        return window_logits(scorer, self.source, table, rows, grid, train.batch_size, train.num_workers, embeddings)

    def assess(self, scored: ClipScores, thresholds: Sequence[float], resamples: int) -> dict[str, Any]:
        """All metrics of scored clips; with resamples, also those for each value of the columns of `report.by`."""
        table, rows = self.prepared.table, scored.index
        return assess(
            scored.scores,
            table.targets(rows),
            table.group_codes[rows],
            table.classes,
            prior=self.prior,
            thresholds=(thresholds or [0.5] * len(table.classes)) if table.multilabel else None,
            by=table.values_of(self.prepared.recipe.report.by, rows) if resamples else None,
            resamples=resamples,
            seed=self.prepared.recipe.train.seed,
        )


@contextmanager
def open_sound(
    prepared: Prepared,
    directory: RunDirectory,
    cache: Path | str | bool,
    state: Mapping[str, Any] | None,
    before: Mapping[str, Any] | None,
    log: Log,
) -> Iterator[Opened]:
    """Decode what is not decoded yet, leave out unreadable clips, and write `environment.json` and `clips.csv`.

    Args:
        prepared: the run.
        directory: the run directory.
        cache: the folder of decoded sound; True for the user's cache, False for a temporary one.
        state: the checkpoint to resume from, or None.
        before: the content of `environment.json` before, or None.
        log: the run's log.

    Raises:
        DataError: sound that cannot be read, or none left to train or test on.
        RunError: the data has changed since the run began.
    """
    recipe, cut = prepared.recipe, prepared.cut
    with sound_store(prepared.table, prepared.made.dataset, recipe.audio, cache, log) as store:
        found = prepared.plan(store.lengths > 0)
        data, learnt = (prepared.table, cut, store.lengths), prepared.learnt
        lacked = record_data(directory, recipe, prepared.machine, *data, before, learnt)
        if state:
            log.made_anew(lacked)
        counts = ", ".join(f"{len(rows)} {name}" for name, rows in found.parts.items())
        log(f"clips: {counts}, {len(cut.rows('purged'))} purged, {len(store.errors)} unreadable")
        table = prepared.table
        for line in (*prepared.said, *lost(table, cut, store.lengths > 0), *repeated(table, store.sounds)):
            log(line)
        source: Store | Features = store
        if recipe.train.extracted:
            weights = state["network"] if state else None
            source = features_of(recipe, prepared.made.network, prepared.machine, store, log, weights)
        yield Opened(prepared, directory, store, source, found, cache)


# Trained --------------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Trained:
    """A trained run.

    Attributes:
        opened: the stage before.
        scorer: the network of the best epoch, ready to score.
        thresholds: one for each class, chosen on the validation set; empty where a clip has one label.
        best_epoch: the epoch whose network was kept.
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
    """Train to the end, from the start or from a checkpoint, and keep the network of the best epoch.

    Args:
        opened: the run.
        state: the checkpoint to resume from, or None.
        log: the run's log.
        notify: calls a hook of the observers with its arguments.
        stop: says whether a signal has asked the run to stop.
        times: collects the times of the steps.
        profile: whether to profile a few steps; with several processes, those of the main one.
    """
    prepared, directory = opened.prepared, opened.directory
    recipe, order = prepared.recipe, opened.plan.order

    def settled(how: Compiling) -> None:
        times.compiled = how.used != "off"
        if distributed.is_main():
            record_compiling(directory, how)
            log(f"train.compile: {how.reason}; steps are not compiled" if how.used == "off" else "steps are compiled")

    setup = make_setup(recipe, prepared.made, prepared.machine, order, opened.plan.class_weights, settled)
    rules, workers = Rules.of(recipe), recipe.train.num_workers
    if setup.compiler is not None:
        log("compiling a step, which may take minutes")
    done = int(state["step"]) if state else 0
    progress = loop.Progress.of(state)
    if distributed.from_main(lambda: run_directory.restore_history(directory, progress.history)):
        log.made_anew([directory.history.name])
    if state:
        log(f"resumed after step {done} of {rules.epochs * order.steps}")

    window = prepared.grid.window
    batches = partial(training_batches, opened.source, prepared.table, order, window, rules.epochs, workers=workers)

    def watch(trainer: Engine) -> None:
        if profile and distributed.is_main():
            network, device = prepared.made.network, prepared.machine.device
            Profile(network, device, times, workers, directory.profile, log).attach(trainer)

    loop.train(
        setup,
        rules,
        batches,
        directory.checkpoints,
        validate=lambda: _validate(opened, setup.evaluated),
        notify=notify,
        on_better=lambda validation: save_model(opened, setup.evaluated, validation.thresholds if validation else ()),
        on_epoch=lambda row: distributed.from_main(lambda: files.append_row(directory.history, row)),
        beside=distributed.from_main(lambda: for_resuming(directory)),
        state=state,
        progress=progress,
        stop=stop,
        times=times,
        watch=watch,
    )
    best = progress.best_epoch * order.steps
    read = partial(checkpoints.best_weights, directory, best, setup.evaluated, progress.model, log)
    setup.evaluated.load_state_dict(distributed.from_main(read))
    if state is not None:
        # After a kill between saving the model and its checkpoint, the model folder holds an epoch that was trained
        # again on resuming, on a GPU not to the same bits. The model of the best checkpoint replaces it.
        save_model(opened, setup.evaluated, progress.thresholds)
    return Trained(opened, prepared.scorer(setup.evaluated), progress.thresholds, progress.best_epoch)


def _validate(opened: Opened, network: Network) -> loop.Validation | None:
    """Score the validation set, if there is one; its mean loss decides which epoch is the best.

    A validation set often has a hundred clips of a dozen recordings, and accuracy on so few is noisy: an early network
    that predicts the most common class for most of them can look best. The loss is a proper score and varies less.
    """
    if not len(opened.parts["validation"]):
        return None
    table = opened.prepared.table
    scored = opened.score(opened.prepared.scorer(network), "validation")
    refuse_not_finite(scored.index, scored.scores, "validation", loop.ADVICE)
    thresholds: Sequence[float] = ()
    if table.multilabel:
        thresholds = choose_thresholds(scored.scores, table.targets(scored.index)).tolist()
    metrics = opened.assess(scored, thresholds, resamples=0)["metrics"]
    first = "mean_average_precision" if table.multilabel else "accuracy"
    loss = float(scored.losses.mean(dtype=np.float64))
    row = {"validation_loss": loss, **{f"validation_{name}": metrics[name]["value"] for name in (first, "macro_f1")}}
    return loop.Validation(-loss, row, thresholds)


def save_model(
    opened: Opened,
    network: Network,
    thresholds: Sequence[float],
    calibration: ComponentSpec | None = None,
    reject: ComponentSpec | None = None,
    rejects_by: Mapping[str, Tensor] | None = None,
) -> Mapping[str, str]:
    """Write the model folder; returns the digest of each file.

    Args:
        opened: the run.
        network: the network.
        thresholds: one for each class, if clips have several labels.
        calibration: the calibration, once it is fitted.
        reject: what rejects sound, once it is fitted.
        rejects_by: the tensors that this was fitted to.
    """
    prepared, folder = opened.prepared, opened.directory.model
    table = prepared.table
    fitted = {"calibration": calibration, "reject": reject}
    own = prepared.recipe.with_tables(**{name: spec for name, spec in fitted.items() if spec is not None})
    recipe = recipes.relocated(own, "./code")
    specs = [None if spec is None else getattr(recipe, name) for name, spec in fitted.items()]
    tables = recipes.model_tables(recipe, table.classes, table.multilabel, thresholds, *specs)
    return distributed.from_main(lambda: model_folder.save_model(folder, tables, network, rejects_by))
