"""A search: values drawn from ranges by Optuna, trial after trial, by the validation loss of the runs before.

The test set has no part in it. The study is a journal in the folder of the sweep, which one process holds at a time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from soundbench import files, limits
from soundbench.errors import NotInstalled
from soundbench.studies.cells import Cell
from soundbench.studies.folder import JOURNAL, SweepFolder
from soundbench.studies.sweep import Standing, standing_of
from soundbench.studies.sweep_file import Sweep

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

__all__ = ["Search"]

_LOSS = "validation_loss"
_DRAWS = 100  # of values that have all been drawn before, after which there are no new ones


class Search:
    """The trials of a sweep, those of earlier calls and then new ones: a `Queue` of cells.

    Args:
        folder: the folder of the sweep, which this process holds.
        sweep: a sweep with ranges.
        resolve: makes the cell of some values.

    Attributes:
        cells: one for each trial.
        standing: where they stand.

    Raises:
        NotInstalled: Optuna is not installed.
    """

    def __init__(self, folder: SweepFolder, sweep: Sweep, resolve: Callable[[Mapping[str, Any]], Cell]) -> None:
        self._folder, self._sweep, self._resolve = folder, sweep, resolve
        self._study = _study(folder, sweep)
        self.cells: list[Cell] = []
        self.standing = Standing({})
        self._trials: dict[str, Trial] = {}
        self._reported: dict[str, set[int]] = {}
        self._waiting: deque[Cell] = deque()
        self._take_up()

    def _take_up(self) -> None:
        """The trials of earlier calls; those that did not end, failed ones too, go on."""
        from optuna.trial import Trial, TrialState

        for frozen in self._study.trials:
            if "cell" not in frozen.user_attrs:
                if not frozen.state.is_finished():  # a kill came before its cell was known
                    self._study.tell(frozen.number, state=TrialState.FAIL)
                continue
            cell = Cell(**frozen.user_attrs["cell"])
            self._add(cell, set(frozen.intermediate_values))
            if frozen.state == TrialState.PRUNED:
                self.standing.early.add(cell.name)
            elif not frozen.state.is_finished():
                self._trials[cell.name] = Trial(self._study, frozen._trial_id)
                if self.standing.states[cell.name] == "finished":
                    self.ended(cell)
                elif cell.name not in self.standing.failures:
                    self._waiting.append(cell)

    def _add(self, cell: Cell, reported: set[int]) -> None:
        self.cells.append(cell)
        self._reported[cell.name] = reported
        found = standing_of(self._folder, [cell])
        self.standing.states |= found.states
        self.standing.failures |= found.failures

    def title(self, cell: Cell) -> str:
        """See `Queue`."""
        return f"trial {self.cells.index(cell) + 1} of {self._sweep.trials}"

    def take(self) -> Cell | None:
        """See `Queue`."""
        if self._waiting:
            return self._waiting.popleft()
        for _ in range(_DRAWS if len(self.cells) < self._sweep.trials else 0):
            trial = self._study.ask()
            cell = self._resolve(_drawn(trial, self._sweep))
            if cell in self.cells:  # drawn before
                loss = self._lowest(cell)
                self._study.tell(trial, loss, state=None if loss is not None else _failed())
                continue
            self._trials[cell.name] = trial
            self._add(cell, set())
            self._folder.write(self._sweep, self.cells)
            trial.set_user_attr("cell", attrs.asdict(cell))
            return cell
        return None

    def look(self, cell: Cell) -> bool:
        """See `Queue`: stopped early is a run whose validation loss is above the median of the others at its epoch."""
        trial = self._trials[cell.name]
        for epoch, loss in self._losses(cell).items():
            if epoch not in self._reported[cell.name]:
                self._reported[cell.name].add(epoch)
                trial.report(loss, epoch)
        return self._sweep.stop_early and trial.should_prune()

    def ended(self, cell: Cell) -> None:
        """See `Queue`."""
        from optuna.trial import TrialState

        trial = self._trials[cell.name]
        if cell.name in self.standing.early:
            self._study.tell(trial, state=TrialState.PRUNED)
        elif self.standing.states[cell.name] == "finished" and cell.name not in self.standing.failures:
            loss = self._lowest(cell)
            if loss is None:
                self.standing.failures[cell.name] = "has no validation loss, which a search needs; see split.validation"
            else:
                self._study.tell(trial, loss)

    def best(self) -> str:
        """The finished trial with the lowest validation loss, in a line."""
        losses = {cell.label: self._lowest(cell) for cell in self.cells if cell.name in self.standing.of("finished")}
        known = {name: loss for name, loss in losses.items() if loss is not None}
        name = min(known, key=lambda name: known[name], default="")
        return f"lowest validation loss {known[name]:.4f}: {name}" if name else "no trial is finished"

    def _losses(self, cell: Cell) -> dict[int, float]:
        """The validation loss of each epoch so far."""
        rows = files.read_rows(self._folder.run(cell).history)
        return {int(row["epoch"]): float(row[_LOSS]) for row in rows if row.get(_LOSS)}

    def _lowest(self, cell: Cell) -> float | None:
        return min(self._losses(cell).values(), default=None)


def _failed() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL


def _study(folder: SweepFolder, sweep: Sweep) -> Study:
    """The study in the folder of a sweep; each version of the sweep file has its own."""
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise NotInstalled(
            'ranges need optuna, which is not installed: pip install "soundbench[optuna]", or give lists of values'
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = folder.path / JOURNAL
    _cut(path)
    held: Any = _Held()
    storage = JournalStorage(JournalFileBackend(str(path), lock_obj=held))
    names = optuna.study.get_all_study_names(storage)
    begun = len(optuna.load_study(study_name=sweep.digest(), storage=storage).trials) if sweep.digest() in names else 0
    return optuna.create_study(
        study_name=sweep.digest(),
        storage=storage,
        # Its state is not in the journal: with the same seed, a sweep that goes on would draw the same values again.
        sampler=optuna.samplers.TPESampler(seed=begun, constant_liar=True),
        pruner=optuna.pruners.MedianPruner(),
        load_if_exists=True,
    )


class _Held:
    """The lock of the journal: the folder is held already. Optuna's own would outlast a kill."""

    def acquire(self) -> bool:
        """Get the lock."""
        return True

    def release(self) -> None:
        """Give it back."""


def _cut(path: Path) -> None:
    """Remove an incomplete last line, which a kill has left; Optuna would refuse all that follows it."""
    with files.explain_os_errors(path):
        if not path.exists():
            return
        data = files.read_bytes(path, limits.TABLE)
        if (end := data.rfind(b"\n") + 1) < len(data):
            with files.open_to_append(path) as file:
                os.ftruncate(file.fileno(), end)


def _drawn(trial: Trial, sweep: Sweep) -> dict[str, Any]:
    """The values of a trial: of a list one of its items, of a range a number in it."""
    values: dict[str, Any] = {}
    for key, items in sweep.axes.items():
        values[key] = items[trial.suggest_categorical(key, list(range(len(items))))]
    for key, one in sweep.ranges.items():
        if isinstance(one.low, int) and isinstance(one.high, int):
            values[key] = trial.suggest_int(key, one.low, one.high, log=one.log)
        else:
            values[key] = trial.suggest_float(key, one.low, one.high, log=one.log)
    return values
