"""One run at work: from its data to its report, in the order of the way."""

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

from soundbench import assembly, checkpoints, distributed, report, rundir, training
from soundbench import recipe as recipes
from soundbench.assessment import assess
from soundbench.contracts import RunInfo
from soundbench.environment import (
    agreed_fingerprint,
    describe_environment,
    refuse_other_recipes,
    settle_recipe,
)
from soundbench.errors import DataError, RunError
from soundbench.extracting import features_of
from soundbench.features import Features
from soundbench.judging import Grid, Judge, Judged, judge_clips
from soundbench.laps import Laps, advice
from soundbench.loading import Order, RawBatch, class_weights, members, training_batches
from soundbench.parts import initialize, make_parts, refuse_one_of_all, refuse_small_batches, saying_what_to_lower
from soundbench.profiling import Profile
from soundbench.recipe import Recipe
from soundbench.results import protocol, skipped
from soundbench.rundir import RunDirectory
from soundbench.splits import ClipTable, split
from soundbench.stopping import Stop
from soundbench.store import Store, open_store
from soundbench.telling import Log, Say, resume_line
from soundbench.thresholds import choose_thresholds

__all__ = ["Session"]

Rows = NDArray[np.int64]


class Session:
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
        self.stop = Stop(aloud=distributed.is_main())
        self.began = time.monotonic()
        self.machine, self.recipe = settle_recipe(recipe)
        refuse_other_recipes(self.recipe)
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

    def begin(self, directory: RunDirectory) -> None:
        """Take up a new run directory, and write down all that is known before any sound is read."""
        self.open(directory)
        distributed.from_main(self._write_recipe)

    def _write_recipe(self) -> None:
        recipes.write_code(self.recipe, self.directory.model / "code")
        rundir.write_text(self.directory.recipe, recipes.relocated(self.recipe, "./model/code").to_toml())

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
            with self.stop.listening(), saying_what_to_lower(self.recipe), ExitStack() as stack:
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
            note = f"stopped; to go on: {resume_line(self.recipe, self.directory)}"
            error.add_note(note)  # for who has started several processes: the one that says it may be dead
            self.say(note)
            raise
        return self.directory

    def _open_store(self, stack: ExitStack) -> None:
        """Decode what is not decoded yet, leave unreadable clips out, and write the clip table."""
        folder = None if self.cache is True else self.cache
        if folder is False:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soundbench-")))
            folder = distributed.gather(folder)[distributed.rank() - distributed.local_rank()]  # its machine's first's
        audio = self.recipe.audio
        self.store = distributed.first_here(
            lambda: open_store(
                self.table, self.made.dataset, audio.rate, folder, audio.on_error, self.say, trim=audio.trim
            )
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
        data = agreed_fingerprint(self.table, self.cut.part, self.store.lengths)

        def write() -> None:
            path = self.directory.environment
            if path.exists() and rundir.read_json(path)["data"] != data:
                raise RunError(f"{self.directory.path}: the data has changed since the run began; start it anew")
            rundir.write_json(path, describe_environment(self.recipe, self.machine, data))
            rundir.write_clips(self.directory, self.table, self._part_names(readable))

        distributed.from_main(write)

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
        done = int(state["step"]) // plan.steps if state else 0
        distributed.from_main(lambda: rundir.cut_history(self.directory, done))
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
        table, rows = self.table, judged.index
        return assess(
            judged.scores,
            table.targets(rows),
            table.group_codes[rows],
            table.classes,
            prior=self._prior(),
            thresholds=(self.thresholds or [0.5] * len(table.classes)) if table.multilabel else None,
            resamples=resamples,
            seed=self.recipe.train.seed,
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
            self.thresholds = choose_thresholds(judged.scores, self.table.targets(judged.index)).tolist()
        metrics = self._evaluate(judged, resamples=0)["metrics"]
        loss = float(judged.losses.mean(dtype=np.float64))
        first = "mean_average_precision" if self.table.multilabel else "accuracy"
        named = {f"validation_{name}": metrics[name]["value"] for name in (first, "macro_f1")}
        return training.Validation(-loss, {"validation_loss": loss, **named})

    def _write_epoch(self, row: Mapping[str, float]) -> None:
        distributed.from_main(lambda: rundir.append_row(self.directory.history, row))

    def _save_model(self) -> None:
        distributed.from_main(self._write_model)

    def _write_model(self) -> None:
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
        weights, self.thresholds = distributed.from_main(self._best)
        self.trained.judged.load_state_dict(weights)
        if resumed:
            self._save_model()
        return self._judge("test")

    def _best(self) -> tuple[Mapping[str, Any], Sequence[float]]:
        """The best network's weights and thresholds; the others' machines may have no run directory."""
        thresholds = checkpoints.read_model_tables(self.directory.model).get("thresholds", ())
        try:
            best = checkpoints.load(self.directory.checkpoints / "best.pt")
        except RunError as error:
            self.say(f"{error}; the weights in {self.directory.model} are judged instead")
            checkpoints.load_weights(self.directory.model, self.trained.judged, len(self.table.classes))
            return {name: value.cpu() for name, value in self.trained.judged.state_dict().items()}, thresholds
        return best["average"] or best["network"], thresholds

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

        def write() -> None:
            rundir.write_predictions(self.directory, self.table, judged.index, judged.scores)
            report.write(self.directory, found)
            self.say(report.summary(found))

        distributed.from_main(write)
        return found


_RULES = ("epochs", "seed", "accumulate", "clip_gradient", "patience", "keep", "checkpoint_steps")


def _tell_nobody(_hook: str, **_arguments: Any) -> None:
    """Observers live in the main process alone."""
