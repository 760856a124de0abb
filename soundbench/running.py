"""The conductor: a recipe in, a run directory out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine
from numpy.typing import NDArray

from soundbench import assembly, checkpoints, distributed, report, rundir, statistics, tagging, training
from soundbench import recipe as recipes
from soundbench.contracts import RunInfo
from soundbench.environment import describe_environment, fingerprint, settle_recipe
from soundbench.errors import DataError, RunError
from soundbench.extracting import features_of
from soundbench.features import Features
from soundbench.judging import Grid, Judge, Judged, judge_clips
from soundbench.laps import Laps, advice
from soundbench.loading import Order, RawBatch, class_weights, members, training_batches
from soundbench.parts import initialize, make_parts, refuse_one_of_all, refuse_small_batches
from soundbench.profiling import Profile
from soundbench.recipe import Recipe
from soundbench.results import protocol, skipped
from soundbench.rundir import RunDirectory
from soundbench.splits import ClipTable, split
from soundbench.stopping import Stop
from soundbench.store import Store, open_store
from soundbench.telling import Log, Say, resume_line, to_stderr

__all__ = ["device_set", "new_directory", "resume", "run"]

Rows = NDArray[np.int64]


def new_directory(out: Path | None, name: str) -> RunDirectory:
    """A new run directory: `out`, or one under `runs/` called after the recipe. The main process makes it for all."""
    found: RunDirectory | RunError | None = None
    if distributed.is_main():
        try:
            found = RunDirectory.create(out) if out else RunDirectory.new(Path("runs"), name)
        except RunError as error:
            found = error
    made = distributed.broadcast(found)
    if not isinstance(made, RunDirectory):
        assert made is not None
        raise made  # on all, or the others would wait for what never comes
    return made


def run(
    recipe: Recipe,
    *,
    out: Path | None = None,
    cache: Path | bool = True,
    profile: bool = False,
    say: Say = to_stderr,
) -> RunDirectory:
    """Train and judge what a recipe describes.

    Args:
        recipe: as `soundbench.Recipe` or `recipe.read` give it.
        out: the run directory, which must be empty or not be there; by default a new one under `runs/`.
        cache: the folder of decoded sound; True for the user's own, False for one that goes with the run.
        profile: whether to look closely at a few steps; `profile.txt` then tells what takes their time.
        say: what is told of the work; by default lines on standard error.

    Raises:
        SoundbenchError: a mistake in the recipe, unusable data, or a failure while working.
    """
    distributed.join(recipe.train.device)
    session = _Session(recipe, cache, say, profile)
    session.begin(out)
    return session.train_and_judge(None)


def resume(
    directory: Path,
    *,
    trust_code: bool = False,
    device: str | None = None,
    cache: Path | bool = True,
    profile: bool = False,
    say: Say = to_stderr,
) -> RunDirectory:
    """Go on with a run where its last checkpoint was written, as if nothing had stopped it.

    Args:
        directory: the run directory.
        trust_code: whether code that the run carries (`use = "./mine.py:Net"`) may be executed.
        device: another one than the run was begun on; None for the same.
        cache: as in `run`.
        profile: as in `run`.
        say: as in `run`.

    Raises:
        RunError: no run directory, changed data, or checkpoints that cannot be read.
    """
    found = RunDirectory.open(directory)
    if found.report_json.exists():
        say(f"{found.path}: this run is finished; nothing to resume")
        return found
    recipe = recipes.read(found.recipe, device_set(device), trust_code=trust_code)
    distributed.join(recipe.train.device)
    session = _Session(recipe, cache, say, profile)
    session.open(found)
    state = checkpoints.latest(found.checkpoints, session.say)
    if state is None:
        session.initialize()
    return session.train_and_judge(state)


def device_set(device: str | None) -> list[str]:
    """What `--device` is short for: the settings that a recipe is read with."""
    return [] if device is None else [f'train.device="{device}"']


class _Session:
    """One run at work: what its steps share, in the order in which they come to know it."""

    directory: RunDirectory
    store: Store
    heard: Store | Features  # what batches are made of
    parts: dict[str, Rows]
    trained: training.Parts
    thresholds: Sequence[float] = ()  # of a multilabel dataset's classes

    def __init__(self, recipe: Recipe, cache: Path | bool, say: Say, profile: bool) -> None:
        self.say = Log(say)
        self.cache, self.profile = cache, profile
        self.stop = Stop()
        self.began = time.monotonic()
        self.machine, self.recipe = settle_recipe(recipe)
        self.laps = Laps(self.machine.device)
        recipe = self.recipe
        self.made = assembly.assemble(recipe)
        self.table = ClipTable.of(self.made.dataset)
        refuse_one_of_all(recipe, self.made, self.table)
        cut = recipe.split
        self.cut = split(self.table, cut.test, cut.validation, cut.crossing, recipe.train.seed, recipe.source)
        refuse_small_batches(recipe, self._plan(self.cut.rows("train")))
        self.weights = class_weights(recipe.train.class_weights, self.table, self.cut.rows("train"), recipe.source)
        self.grid = Grid(recipe.audio.window_samples, recipe.audio.hop_samples)
        self.made.prepare(recipe)

    def begin(self, out: Path | None) -> None:
        """Make the run directory and write down all that is known before any sound is read."""
        self.initialize()
        self.open(new_directory(out, self.recipe.name))
        if distributed.is_main():
            recipes.write_code(self.recipe, self.directory.model / "code")
            rundir.write_text(self.directory.recipe, recipes.relocated(self.recipe, "./model/code").to_toml())
        distributed.barrier()

    def initialize(self) -> None:
        """Begin with the weights that the recipe names."""
        initialize(self.recipe, self.made, self.say)

    def open(self, directory: RunDirectory) -> None:
        """Take up a run directory that is there."""
        self.directory = self.say.directory = directory
        self.say(f"run: {directory.path}")

    def train_and_judge(self, state: Mapping[str, Any] | None) -> RunDirectory:
        """Train to the end, judge the test set once, and write the report."""
        tell: Callable[..., None] = _tell_nobody
        try:
            with self.stop.listening(), ExitStack() as stack:
                self._open_store(stack)
                self.heard = self._extract(state) if self.recipe.train.extracted else self.store
                if distributed.is_main():
                    tell = assembly.make_observers(self.recipe, self._info(state), self.say).tell
                tell("run_started")
                self._train(state, tell)
                found = self._report(self._judge_test(resumed=state is not None))
                tell("run_finished", report=found)
                if self.laps.steps:
                    self.say("; ".join([self.laps.line(), *advice(self.laps.shares, self.recipe.train.workers)]))
        except BaseException as error:
            tell("run_failed", error=error)
            self.say(f"stopped; to go on: {resume_line(self.recipe, self.directory)}")
            raise
        return self.directory

    def _open_store(self, stack: ExitStack) -> None:
        """Decode what is not decoded yet, leave unreadable clips out, and write the clip table."""
        folder = None if self.cache is True else self.cache
        if folder is False:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soundbench-")))
        audio = self.recipe.audio
        self.store = open_store(
            self.table, self.made.dataset, audio.rate, folder, audio.on_error, self.say, trim=audio.trim
        )
        readable = self.store.lengths > 0
        self.parts = {}
        for name in ("train", "validation", "test"):
            rows = self.cut.rows(name)
            self.parts[name] = rows[readable[rows]]
        for name in ("train", "test"):
            if not len(self.parts[name]):
                raise DataError(f"no clip is left to {name} on: none of {len(self.cut.rows(name))} can be read")
        self._note_data(readable)
        counts = ", ".join(f"{len(rows)} {name}" for name, rows in self.parts.items())
        self.say(f"clips: {counts}, {len(self.cut.rows('purged'))} purged, {len(self.store.errors)} unreadable")

    def _extract(self, state: Mapping[str, Any] | None) -> Features:
        weights = state["network"] if state else None
        return features_of(self.recipe, self.made.network, self.machine, self.store, self.say, weights)

    def _note_data(self, readable: NDArray[np.bool_]) -> None:
        """Write down which clips there are; on a resume they must be the same as before."""
        data = fingerprint(self.table, self.cut.part, self.store.lengths)
        if any(other != data for other in distributed.gather(data)):
            raise DataError("the processes do not see the same data: their clip tables differ")
        path = self.directory.environment
        if path.exists() and rundir.read_json(path)["data"] != data:
            raise RunError(f"{self.directory.path}: the data has changed since the run began; start it anew")
        if distributed.is_main():
            rundir.write_json(path, describe_environment(self.recipe, self.machine, data))
            rundir.write_clips(self.directory, self.table, self._part_names(readable))
        distributed.barrier()

    def _part_names(self, readable: NDArray[np.bool_]) -> list[str]:
        names = np.array(["train", "validation", "test", "purged"], dtype=object)[self.cut.part]
        names[~readable] = "unreadable"
        return list(names)

    def _info(self, state: Mapping[str, Any] | None) -> RunInfo:
        clips = {name: len(rows) for name, rows in self.parts.items()}
        return RunInfo(
            directory=self.directory.path,
            name=self.recipe.name,
            recipe=self.recipe.tables(),
            classes=self.table.classes,
            clips={**clips, "purged": len(self.cut.rows("purged"))},
            epochs=self.recipe.train.epochs,
            steps_per_epoch=self._plan(self.parts["train"]).steps,
            start_step=int(state["step"]) if state else 0,
        )

    def _plan(self, rows: Rows) -> Order:
        train = self.recipe.train
        classes = members(self.table, rows) if train.sampler == "balanced" else None
        return Order(rows, train.batch, train.seed, distributed.rank(), distributed.world(), classes)

    def _train(self, state: Mapping[str, Any] | None, tell: Callable[..., None]) -> None:
        recipe, plan = self.recipe, self._plan(self.parts["train"])
        refuse_small_batches(recipe, plan)  # again: some clips may not have been readable
        self.trained = make_parts(recipe, self.made, self.machine, plan, self.weights)
        rules = training.Rules(
            level=self.recipe.audio.level,
            **{name: getattr(recipe.train, name) for name in _RULES},
        )
        if distributed.is_main():
            rundir.cut_history(self.directory, int(state["step"]) // plan.steps if state else 0)
        if state:
            self.say(f"resumed after step {state['step']} of {rules.epochs * plan.steps}")

        def batches(step: int) -> Iterable[RawBatch]:
            return training_batches(
                self.heard, self.table, plan, self.grid.window, rules.epochs, step, recipe.train.workers
            )

        self.best_epoch = training.train(
            self.trained,
            rules,
            batches,
            self.directory.checkpoints,
            validate=self._validate,
            tell=tell,
            on_better=self._save_model,
            on_epoch=self._write_epoch,
            state=state,
            stop=self.stop,
            laps=self.laps,
            watch=self._watch,
        )

    def _watch(self, trainer: Engine) -> None:
        """Profile a few steps, if asked to; of several processes, the main one's."""
        if self.profile and distributed.is_main():
            place, workers = self.directory.profile, self.recipe.train.workers
            Profile(self.made.network, self.machine.device, self.laps, workers, place, self.say).attach(trainer)

    def _judge(self, part: str) -> Judged:
        """Judge the clips of a part; every process gets the whole."""
        by = Judge(self.trained.judged, self.made.loss, self.machine, self.recipe.audio.level)
        train = self.recipe.train
        return judge_clips(by, self.heard, self.table, self.parts[part], self.grid, train.batch, train.workers)

    def _evaluate(self, judged: Judged, resamples: int) -> dict[str, Any]:
        targets = self.table.targets(judged.index)
        groups = self.table.group_codes[judged.index]
        if self.table.multilabel:
            thresholds, seed = self.thresholds or [0.5] * len(self.table.classes), self.recipe.train.seed
            return tagging.evaluate_tags(
                judged.scores, targets, groups, self.table.classes, thresholds, resamples, seed
            )
        prior = self._prior()
        return statistics.evaluate(
            judged.scores, targets, groups, self.table.classes, prior, resamples, self.recipe.train.seed
        )

    def _prior(self) -> NDArray[np.int64]:
        """How many training clips each class has, `(K,)`."""
        return self.table.class_counts(self.parts["train"])

    def _validate(self) -> training.Validation | None:
        """The loss on the validation set decides which epoch is the best.

        A validation set is often a hundred clips of a dozen recordings, of which accuracy says little: an early network
        that calls most of them by the commonest class can look best. The loss is a proper score and varies less.
        """
        if not len(self.parts["validation"]):
            return None
        judged = self._judge("validation")
        if self.table.multilabel:
            self.thresholds = tagging.choose_thresholds(judged.scores, self.table.targets(judged.index)).tolist()
        metrics = self._evaluate(judged, resamples=0)["metrics"]
        loss = float(judged.losses.mean(dtype=np.float64))
        first = "mean_average_precision" if self.table.multilabel else "accuracy"
        named = {f"validation_{name}": metrics[name]["value"] for name in (first, "macro_f1")}
        return training.Validation(-loss, {"validation_loss": loss, **named})

    def _write_epoch(self, row: Mapping[str, float]) -> None:
        if distributed.is_main():
            rundir.append_row(self.directory.history, row)

    def _save_model(self) -> None:
        if distributed.is_main():
            tables = recipes.model_tables(
                recipes.relocated(self.recipe, "./code"), self.table.classes, self.table.multilabel, self.thresholds
            )
            checkpoints.save_model(self.directory.model, tables, self.trained.judged)
            assets = getattr(self.made.network.featurizer, "assets", None)
            if assets is not None:
                self.directory.assets.mkdir(exist_ok=True)
                assets(self.directory.assets)

    def _judge_test(self, resumed: bool) -> Judged:
        """Judge the test set, once, with the best network.

        A kill between model and checkpoint leaves the model of an epoch that is trained again after a resume, on a GPU
        not to the same bits: then the best checkpoint's is written anew.
        """
        try:
            best = checkpoints.load(self.directory.checkpoints / "best.pt")
        except RunError as error:
            self.say(f"{error}; the weights in {self.directory.model} are judged instead")
            checkpoints.load_weights(self.directory.model, self.trained.judged, len(self.table.classes))
        else:
            self.trained.judged.load_state_dict(best["average"] or best["network"])
            self.thresholds = checkpoints.read_model_tables(self.directory.model).get("thresholds", ())
            if resumed:
                self._save_model()
        return self._judge("test")

    def _report(self, judged: Judged) -> dict[str, Any]:
        """Write down what the test set's judgement says."""
        as_written = recipes.relocated(self.recipe, "./model/code")
        found = {
            "name": self.recipe.name,
            "protocol": protocol(as_written, self.table, self.cut, self.parts, self.best_epoch),
            **(figures := self._evaluate(judged, resamples=2000)),
            "folds": [{"test": self.recipe.tables()["split"]["test"], "metrics": figures["metrics"]}],
            "prior": self._prior().tolist(),
            "parts": {name: len(rows) for name, rows in self.parts.items()},
            "skipped": skipped(self.table, self.store),
            "device": str(self.machine.device),
            "precision": self.machine.precision,
            "seconds": round(time.monotonic() - self.began, 1),
        }
        if distributed.is_main():
            rundir.write_predictions(self.directory, self.table, judged.index, judged.scores)
            report.write(self.directory, found)
            self.say(report.summary(found))
        distributed.barrier()
        return found


_RULES = ("epochs", "seed", "accumulate", "clip_gradient", "patience", "keep", "checkpoint_steps")


def _tell_nobody(_hook: str, **_arguments: Any) -> None:
    """Observers live in the main process alone."""
