"""What an observer promises: it hears every hook, writes inside the run directory alone, and changes nothing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from soundbench.contracts import Hooks, hookimpl
from soundbench.errors import BrokenPlugin
from soundbench.testing.cases import Case, global_states
from soundbench.testing.declared import run_info
from soundbench.testing.findings import Broken, Checks
from soundbench.testing.watching import Watch
from soundbench.training.observers import Observers

__all__ = ["CHECKS"]

Call = tuple[str, dict[str, Any]]


def story(directory: Path, first: int = 0, fails: bool = False) -> Iterator[Call]:
    """What a run of two epochs of ten steps tells, from a step on; it may end with an error."""
    yield "run_started", {}
    for step in range(first + 1, 21):
        told = {"epoch": 1 + (step - 1) // 10, "step": step, "loss": 2.0 / step, "rate": 1e-3, "clips_per_second": 99.0}
        yield "progressed", told
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
    """An observer that raises whatever it is told."""

    @hookimpl
    def run_started(self) -> None:
        raise OSError("no space left")

    @hookimpl
    def progressed(self) -> None:
        raise OSError("no space left")


def hears(case: Case) -> str:
    """It implements hooks, and none that does not exist."""
    observer = case.memory["made"]
    observers = Observers(lambda text: None)
    try:
        observers.add("it", observer)
    except BrokenPlugin as error:
        raise Broken(str(error)) from error
    heard = [hook for hook in vars(Hooks) if hook in _implemented(observers, observer)]
    if not heard:
        raise Broken("it listens to nothing: no method is marked with hookimpl")
    return ", ".join(heard)


def _implemented(observers: Observers, observer: object) -> set[str]:
    return {caller.name for caller in observers.manager.get_hookcallers(observer) or []}


def told(case: Case) -> str:
    """No hook raises: in a whole run, in one that fails, and in one that goes on from a checkpoint."""
    for name, first, fails in (("a run", 0, False), ("a resumed run", 10, False), ("a failing run", 0, True)):
        with _quiet():
            _tell(case, name, first, fails)
    return "a run, a resumed one, a failing one"


def _tell(case: Case, name: str, first: int, fails: bool) -> None:
    said = list[str]()
    observers = Observers(said.append)
    observers.add("faulty", _Faulty())
    observers.add("it", case.make(run_info(case, first)))
    before = global_states()
    for hook, arguments in story(case.folder / "run", first, fails):
        observers.notify(hook, **arguments)
    after = global_states()
    case.memory["touched"] = [name for name in before if before[name] != after[name]]
    own = [text for text in said if "'it'" in text]
    if own:
        raise Broken(f"in {name}, {own[0]}")
    if not observers.manager.has_plugin("it"):
        raise Broken(f"in {name} another observer's error took it along")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on the terminal, whatever an observer prints."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


def inside(case: Case) -> str:
    """It writes inside its run directory alone."""
    run = case.folder / "run"
    with Watch() as watch:
        told(case)
    outside = [path for path in watch.written if not path.is_relative_to(run)]
    if outside:
        raise Broken(f"it writes to {outside[0]}, outside of the run directory {run}")
    names = sorted({str(path.relative_to(run)) for path in watch.written if path != run})
    return f"wrote {', '.join(names)}" if names else "wrote nothing"


def changes_nothing(case: Case) -> str:
    """It draws nothing from the global states of chance, which the run's steps draw from."""
    told(case)
    touched = case.memory["touched"]
    if touched:
        raise Broken(f"it changes the global state of {' and '.join(touched)}")
    return "no global state"


CHECKS: Checks = {"hooks": hears, "told": told, "inside": inside, "global chance": changes_nothing}
