"""What an observer promises: its hooks never raise, and it writes only inside the run directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from soundbench.contracts import Hooks, hookimpl
from soundbench.errors import BrokenPlugin
from soundbench.testing.cases import Case, quiet, watched_states
from soundbench.testing.declared import run_info
from soundbench.testing.file_access import FileAccess
from soundbench.testing.results import Broken, Checks
from soundbench.training.observers import Observers

__all__ = ["CHECKS"]

Call = tuple[str, dict[str, Any]]


def hook_calls(directory: Path, first: int = 0, fails: bool = False) -> Iterator[Call]:
    """The hook calls of a run of two epochs of ten steps, after step `first`; it may end with an error."""
    yield "run_started", {}
    for step in range(first + 1, 21):
        arguments = {
            "epoch": 1 + (step - 1) // 10,
            "step": step,
            "loss": 2.0 / step,
            "rate": 1e-3,
            "clips_per_second": 99.0,
        }
        yield "progressed", arguments
        if step % 10 == 0:
            row = {"epoch": float(step // 10), "step": float(step), "train_loss": 0.5, "rate": 1e-3}
            row |= {"clips_per_second": 99.0, "seconds": 3.0, "validation_loss": 0.6}
            row |= {"validation_accuracy": 0.7, "validation_macro_f1": 0.6}
            yield "checkpoint_saved", {"path": directory / "checkpoints" / f"step-{step:08d}.pt"}
            yield "epoch_completed", {"epoch": step // 10, "row": row}
        if fails and step == 15:
            yield "run_failed", {"error": RuntimeError("the loss is no longer finite")}
            return
    yield "run_finished", {"report": _report()}


def _report() -> Mapping[str, Any]:
    interval = {"value": 0.7, "low": 0.6, "high": 0.8}
    return {"metrics": {"accuracy": interval, "macro_f1": interval}, "clips": 10, "groups": 10}


class _Faulty:
    """An observer whose hooks raise."""

    @hookimpl
    def run_started(self) -> None:
        raise OSError("no space left")

    @hookimpl
    def progressed(self) -> None:
        raise OSError("no space left")


def hooks(case: Case) -> str:
    """It implements at least one hook, and none that does not exist."""
    observer = case.memory["made"]
    observers = Observers(lambda text: None)
    try:
        observers.add("it", observer)
    except BrokenPlugin as error:
        raise Broken(str(error)) from error
    found = [hook for hook in vars(Hooks) if hook in _implemented(observers, observer)]
    if not found:
        raise Broken("no method is marked with hookimpl")
    return ", ".join(found)


def _implemented(observers: Observers, observer: object) -> set[str]:
    return {caller.name for caller in observers.manager.get_hookcallers(observer) or []}


def no_errors(case: Case) -> str:
    """No hook raises: in a whole run, in one that resumes from a checkpoint, and in one that fails."""
    for name, first, fails in (("a run", 0, False), ("a resumed run", 10, False), ("a failing run", 0, True)):
        with quiet():
            _notify(case, name, first, fails)
    return "in a run, a resumed run and a failing run"


def _notify(case: Case, name: str, first: int, fails: bool) -> None:
    observers = Observers(lambda text: None)
    observers.add("faulty", _Faulty())
    observers.add("it", case.make(run_info(case, first)))
    with watched_states() as touched:
        for hook, arguments in hook_calls(case.folder / "run", first, fails):
            observers.notify(hook, **arguments)
    case.memory["touched"] = touched
    if dropped := observers.dropped.get("it"):
        raise Broken(f"in {name}, {dropped.text}") from dropped.error
    if not observers.manager.has_plugin("it"):
        raise Broken(f"in {name}, it was dropped after an error of another observer")


def files(case: Case) -> str:
    """It writes only inside its run directory."""
    run = case.folder / "run"
    with FileAccess() as access:
        no_errors(case)
    outside = [path for path in access.written if not path.is_relative_to(run)]
    if outside:
        raise Broken(f"it writes to {outside[0]}, outside the run directory {run}")
    names = sorted({str(path.relative_to(run)) for path in access.written if path != run})
    return f"wrote {', '.join(names)}" if names else "wrote nothing"


def untouched(case: Case) -> str:
    """It does not draw from the global random states, which the run's steps use."""
    no_errors(case)
    touched = case.memory["touched"]
    if touched:
        raise Broken(f"it changes the global random state of {' and '.join(touched)}")
    return "not used"


CHECKS: Checks = {"hooks": hooks, "no errors": no_errors, "files": files, "global random state": untouched}
