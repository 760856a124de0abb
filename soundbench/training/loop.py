"""Training from the first step or a checkpoint to the last: epochs, checkpoints, the best network, patience."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from ignite.engine import Engine, Events
from torch import Tensor

from soundbench import distributed
from soundbench.data.batches import RawBatch
from soundbench.errors import RunError
from soundbench.signals import Stop
from soundbench.training import checkpoints
from soundbench.training.profiling import StepTimes
from soundbench.training.step import Rules, TrainSetup, make_trainer

__all__ = ["Validation", "train"]

# Several processes agree every so many steps on whether to stop: to agree costs them a message each.
_AGREE = 8


@attrs.frozen
class Validation:
    """How well an epoch's network did.

    Attributes:
        score: the higher one is the better one.
        row: for the history.
        thresholds: of each class, chosen on validation; none where a clip has one label.
    """

    score: float
    row: Mapping[str, float]
    thresholds: Sequence[float] = ()


@attrs.define
class _Progress:
    """What a checkpoint keeps of a run besides the states of the network, its optimizer and their like."""

    loss: float = 0.0
    clips: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0


@attrs.define
class _Loop:
    """One training: its engine, and what its handlers share."""

    setup: TrainSetup
    rules: Rules
    folder: Path
    validate: Callable[[], Validation | None]
    notify: Callable[..., None]
    on_better: Callable[[Validation | None], None]
    on_epoch: Callable[[Mapping[str, float]], None]
    stop: Stop
    times: StepTimes
    progress: _Progress = attrs.field(factory=_Progress)
    clock: float = 0.0
    shown: float = 0.0
    shown_clips: int = 0
    shown_loss: float = 0.0
    pending: list[Tensor] = attrs.field(factory=list)

    def step_completed(self, engine: Engine) -> None:
        self.pending.append(engine.state.output)
        step = (engine.state.iteration - 1) % self.setup.plan.steps
        self.progress.clips += self.setup.plan.size(step)
        self.shown_clips += self.setup.plan.size(step)
        if time.monotonic() - self.shown >= 0.2:
            self._report(engine)
        if step + 1 == self.setup.plan.steps:
            return  # the end of the epoch saves, once it is validated
        every, iteration = self.rules.checkpoint_steps, engine.state.iteration
        asked = self._asked(iteration)
        if asked or (every and iteration % every == 0):
            self._collect(iteration)
            distributed.same_buffers(self.setup.network)
            self.save(engine)
        if asked:
            self.stop.obey(asked)

    def epoch_started(self, engine: Engine) -> None:
        """Hold the processes to the same steps: one that has fewer would leave the others waiting."""
        steps = distributed.gather((self.setup.plan.steps, engine.state.iteration))
        if len(set(steps)) > 1:
            each = ", ".join(f"{count} from step {first + 1}" for count, first in steps)
            raise RunError(f"the processes do not agree on the steps of epoch {engine.state.epoch}: {each}")

    def _asked(self, step: int) -> int:
        """The signal that asked any of the processes to stop; 0 for none."""
        if distributed.world() > 1 and step % _AGREE and step % self.setup.plan.steps:
            return 0
        return max(distributed.gather(self.stop.signal))

    def _report(self, engine: Engine) -> None:
        """Let observers know how it goes; not each step, for a hook costs microseconds and a GPU would have to wait."""
        before = self.progress.loss
        self._collect(engine.state.iteration)
        self.shown_loss += self.progress.loss - before
        now = time.monotonic()
        self.notify(
            "progressed",
            epoch=engine.state.epoch,
            step=engine.state.iteration,
            loss=self.shown_loss / max(self.shown_clips, 1),
            rate=self.rate(),
            clips_per_second=self.shown_clips / max(now - self.shown, 1e-9),
        )
        self.shown, self.shown_clips, self.shown_loss = now, 0, 0.0

    def _collect(self, step: int) -> None:
        """Move the losses of the last steps from the device into the epoch's sum."""
        if self.pending:
            losses = torch.stack(self.pending)
            self.pending.clear()
            if not bool(losses.isfinite().all()):
                raise RunError(
                    f"the loss is no longer finite at step {step}; "
                    "lower optimizer.lr, set train.max_grad_norm, or use train.precision = 'fp32'"
                )
            self.progress.loss += float(losses.double().sum())
            self.times.collect()
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = now

    def rate(self) -> float:
        """Of the first group."""
        return float(self.setup.optimizer.param_groups[0]["lr"])

    def epoch_completed(self, engine: Engine) -> None:
        rate = self.rate()
        if self.setup.every == "epoch":
            self.setup.scheduler.step()
        self._collect(engine.state.iteration)
        progress = self.progress
        distributed.same_buffers(self.setup.network)
        distributed.same_buffers(self.setup.evaluated)
        row = {
            "epoch": engine.state.epoch,
            "step": engine.state.iteration,
            "train_loss": sum(distributed.gather(progress.loss)) / max(progress.clips, 1),
            "rate": rate,
            "clips_per_second": progress.clips / max(progress.seconds, 1e-9),
            "seconds": progress.seconds,
        }
        progress.loss, progress.clips, progress.seconds = 0.0, 0, 0.0
        self._select(engine, row)
        self.clock = self.shown = time.monotonic()
        self.shown_clips, self.shown_loss = 0, 0.0

    def _select(self, engine: Engine, row: dict[str, float]) -> None:
        """Validate, keep the best, write the epoch down, and stop when nothing has become better for long."""
        progress = self.progress
        validation = self.validate()
        row |= validation.row if validation else {}
        better = validation is None or progress.best is None or validation.score > progress.best
        if better:
            progress.best = validation.score if validation else None
            progress.best_epoch = engine.state.epoch
        self.on_epoch(row)
        if better:
            self.on_better(validation)
        self.save(engine, best=better)
        self.notify("epoch_completed", epoch=engine.state.epoch, row=row)
        if asked := self._asked(engine.state.iteration):
            self.stop.obey(asked)
        if self.stale(engine.state.epoch):
            engine.terminate()

    def stale(self, epoch: int) -> bool:
        """Whether patience has run out."""
        return bool(self.rules.patience) and epoch - self.progress.best_epoch >= self.rules.patience

    def save(self, engine: Engine, best: bool = False) -> None:
        """Write a checkpoint. It holds the losses of all processes; a resume gives them to the main one."""
        loss = sum(distributed.gather(self.progress.loss))
        distributed.from_main(lambda: self._write(engine.state.iteration, loss, best))

    def _write(self, step: int, loss: float, best: bool) -> None:
        setup = self.setup
        state = {
            "network": setup.network.state_dict(),
            "average": setup.average.state() if setup.average else {},
            "optimizer": setup.optimizer.state_dict(),
            "scheduler": setup.scheduler.state_dict(),
            "scaler": setup.scaler.state_dict(),
            "step": step,
            "steps_per_epoch": setup.plan.steps,
            "progress": attrs.asdict(attrs.evolve(self.progress, loss=loss)),
        }
        path = checkpoints.save(self.folder, step, state)
        if best:
            checkpoints.keep_best(path)
        checkpoints.prune(self.folder, self.rules.keep, path)
        self.notify("checkpoint_saved", path=path)


def restore(loop: _Loop, engine: Engine, state: Mapping[str, Any]) -> None:
    """Bring everything to where a checkpoint was written."""
    setup = loop.setup
    if state["steps_per_epoch"] != setup.plan.steps:
        raise RunError(
            f"the checkpoint has {state['steps_per_epoch']} steps an epoch and the data now gives {setup.plan.steps}; "
            "resume with the data and the batch that the run was started with"
        )
    try:
        setup.network.load_state_dict(state["network"])
    except RuntimeError as error:
        raise RunError(f"the checkpoint does not fit the recipe: {' '.join(str(error).split())}") from None
    if setup.average is not None:
        setup.average.restore(state["average"], state["step"])
    setup.optimizer.load_state_dict(state["optimizer"])
    setup.scheduler.load_state_dict(state["scheduler"])
    setup.scaler.load_state_dict(state["scaler"])
    loop.progress = _Progress(**state["progress"])
    if not distributed.is_main():
        loop.progress.loss = 0.0
    elif state["step"] == loop.progress.best_epoch * setup.plan.steps:  # a kill may have come before it was said so
        checkpoints.keep_best(checkpoints.path_of(loop.folder, state["step"]))
    distributed.barrier()
    engine.load_state_dict(
        {"iteration": state["step"], "epoch_length": setup.plan.steps, "max_epochs": loop.rules.epochs}
    )


def train(
    setup: TrainSetup,
    rules: Rules,
    batches: Callable[[int], Iterable[RawBatch]],
    folder: Path,
    *,
    validate: Callable[[], Validation | None],
    notify: Callable[..., None],
    on_better: Callable[[Validation | None], None],
    on_epoch: Callable[[Mapping[str, float]], None],
    state: Mapping[str, Any] | None = None,
    stop: Stop | None = None,
    times: StepTimes | None = None,
    watch: Callable[[Engine], None] = lambda trainer: None,
) -> int:
    """Train to the end, from a checkpoint's state where one is given; the epoch of the best network.

    Args:
        setup: what to train.
        rules: how.
        batches: gives the batches from a step of the whole run to its end.
        folder: where checkpoints go.
        validate: scores the validation set; None where there is none, and then the last epoch is the best.
        notify: calls a hook of the observers with its arguments.
        on_better: takes the validation of a network that is better than before, after the history is written.
        on_epoch: takes an epoch's row of the history.
        state: a checkpoint's.
        stop: is listening to what signals ask for; they are obeyed when a checkpoint is written.
        times: where the time goes.
        watch: is given the trainer before it runs.
    """
    stop, times = stop or Stop(), times or StepTimes(setup.machine.device)
    trainer = make_trainer(setup, rules, times)
    loop = _Loop(setup, rules, folder, validate, notify, on_better, on_epoch, stop, times)
    if state is not None:
        restore(loop, trainer, state)
    done = trainer.state.iteration or 0
    if done >= rules.epochs * setup.plan.steps or loop.stale(done // setup.plan.steps):
        return loop.progress.best_epoch
    watch(trainer)
    trainer.add_event_handler(Events.EPOCH_STARTED, loop.epoch_started)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, loop.step_completed)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, loop.epoch_completed)
    loop.clock = loop.shown = time.monotonic()
    with stop.deferred(), distributed.contact():
        trainer.run(batches(done), max_epochs=rules.epochs, epoch_length=setup.plan.steps)
    return loop.progress.best_epoch
