"""One observer, attached to a run that is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pluggy

from soundbench.contracts import Hooks, RunInfo

REPORT = {"metrics": {"accuracy": {"value": 0.75, "low": 0.5, "high": 1.0}}}


def run_info(directory: Path, start_step: int = 0) -> RunInfo:
    """A run of three epochs of four steps."""
    recipe = {"audio": {"rate": 8000}}
    return RunInfo(directory, "toy", recipe, ("a", "b"), {"train": 8}, 3, steps_per_epoch=4, start_step=start_step)


def attached(
    observer: Callable[..., Any], directory: Path, start_step: int = 0, **options: Any
) -> pluggy.PluginManager:
    """A manager of that observer alone."""
    manager = pluggy.PluginManager("soundbench")
    manager.add_hookspecs(Hooks)
    manager.register(observer(run_info(directory, start_step), **options))
    manager.check_pending()
    return manager


def take_steps(observer: Callable[..., Any], directory: Path, steps: range, **options: Any) -> None:
    """The observer's run starts, and takes these steps."""
    hook = attached(observer, directory, **options).hook
    hook.run_started()
    for step in steps:
        hook.progressed(epoch=(step - 1) // 4 + 1, step=step, loss=1 / step, rate=1e-3, clips_per_second=100.0)


def notify(
    observer: Callable[..., Any],
    directory: Path,
    steps: range,
    start_step: int = 0,
    error: BaseException | None = None,
    **options: Any,
) -> None:
    """The observer's run takes these steps, ends its epochs, and finishes with `REPORT` or fails with an error."""
    hook = attached(observer, directory, start_step, **options).hook
    hook.run_started()
    for step in steps:
        hook.progressed(epoch=1 + (step - 1) // 4, step=step, loss=1 / step, rate=1e-3 * step, clips_per_second=100.0)
        if step % 4 == 0:
            row = {"epoch": step // 4, "step": step, "train_loss": 0.5, "validation_loss": 0.25, "rate": 1e-3}
            hook.epoch_completed(epoch=step // 4, row={**row, "validation_accuracy": step / 100})
    if error is None:
        hook.run_finished(report=REPORT)
    else:
        hook.run_failed(error=error)
