"""Training from the first step or a checkpoint to the last: epochs, checkpoints, the best network, patience."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from ignite.engine import Engine, Events
from torch import Tensor

from soundbench import checkpoints, distributed
from soundbench.engine import Parts, Rules, make_trainer
from soundbench.errors import RunError
from soundbench.laps import Laps
from soundbench.loading import RawBatch
from soundbench.stopping import Stop

__all__ = ["Parts", "Rules", "Validation", "make_trainer", "train"]

# Several processes agree every so many steps on whether to stop: to agree costs them a message each.
_AGREE = 8


@attrs.frozen
class Validation:
    """How well an epoch's network did: the higher `score` is the better one; `row` is written to the history."""

    score: float
    row: Mapping[str, float]


@attrs.define
class _Progress:
    """What a checkpoint keeps of a run besides the parts' own states."""

    loss: float = 0.0
    clips: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0


@attrs.define
class _Session:
    """One training: its engine, and what its handlers share."""

    parts: Parts
    rules: Rules
    folder: Path
    validate: Callable[[], Validation | None]
    tell: Callable[..., None]
    on_better: Callable[[], None]
    on_epoch: Callable[[Mapping[str, float]], None]
    stop: Stop
    laps: Laps
    progress: _Progress = attrs.field(factory=_Progress)
    clock: float = 0.0
    told: float = 0.0
    told_clips: int = 0
    told_loss: float = 0.0
    pending: list[Tensor] = attrs.field(factory=list)

    def step_completed(self, engine: Engine) -> None:
        self.pending.append(engine.state.output)
        step = (engine.state.iteration - 1) % self.parts.plan.steps
        self.progress.clips += self.parts.plan.size(step)
        self.told_clips += self.parts.plan.size(step)
        if time.monotonic() - self.told >= 0.2:
            self._report(engine)
        if step + 1 == self.parts.plan.steps:
            return  # the end of the epoch saves, once it is validated
        every, iteration = self.rules.checkpoint_steps, engine.state.iteration
        asked = self._asked(iteration)
        if asked or (every and iteration % every == 0):
            self._collect(iteration)
            distributed.same_buffers(self.parts.network)
            self.save(engine)
        if asked:
            self.stop.obey(asked)

    def epoch_started(self, engine: Engine) -> None:
        """Hold the processes to the same steps: one that has fewer would leave the others waiting."""
        steps = distributed.gather((self.parts.plan.steps, engine.state.iteration))
        if len(set(steps)) > 1:
            told = ", ".join(f"{count} from step {first + 1}" for count, first in steps)
            raise RunError(f"the processes do not agree on the steps of epoch {engine.state.epoch}: {told}")

    def _asked(self, step: int) -> int:
        """The signal that asked any of the processes to stop; 0 for none."""
        if distributed.world() > 1 and step % _AGREE and step % self.parts.plan.steps:
            return 0
        return max(distributed.gather(self.stop.signal))

    def _report(self, engine: Engine) -> None:
        """Tell observers how it goes; not each step, for a hook costs microseconds and a GPU would have to wait."""
        before = self.progress.loss
        self._collect(engine.state.iteration)
        self.told_loss += self.progress.loss - before
        now = time.monotonic()
        self.tell(
            "progressed",
            epoch=engine.state.epoch,
            step=engine.state.iteration,
            loss=self.told_loss / max(self.told_clips, 1),
            rate=self.rate(),
            clips_per_second=self.told_clips / max(now - self.told, 1e-9),
        )
        self.told, self.told_clips, self.told_loss = now, 0, 0.0

    def _collect(self, step: int) -> None:
        """Move the losses of the last steps from the device into the epoch's sum."""
        if self.pending:
            losses = torch.stack(self.pending)
            self.pending.clear()
            if not bool(losses.isfinite().all()):
                raise RunError(
                    f"the loss is no longer finite at step {step}; "
                    "lower optimizer.rate, set train.clip_gradient, or use train.precision = 'fp32'"
                )
            self.progress.loss += float(losses.double().sum())
            self.laps.collect()
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = now

    def rate(self) -> float:
        """Of the first group."""
        return float(self.parts.optimizer.param_groups[0]["lr"])

    def epoch_completed(self, engine: Engine) -> None:
        rate = self.rate()
        if self.parts.every == "epoch":
            self.parts.scheduler.step()
        self._collect(engine.state.iteration)
        progress = self.progress
        distributed.same_buffers(self.parts.network)
        distributed.same_buffers(self.parts.judged)
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
        self.clock = self.told = time.monotonic()
        self.told_clips, self.told_loss = 0, 0.0

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
            self.on_better()
        self.save(engine, best=better)
        self.tell("epoch_completed", epoch=engine.state.epoch, row=row)
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
        parts = self.parts
        state = {
            "network": parts.network.state_dict(),
            "average": parts.average.state() if parts.average else {},
            "optimizer": parts.optimizer.state_dict(),
            "scheduler": parts.scheduler.state_dict(),
            "scaler": parts.scaler.state_dict(),
            "step": step,
            "steps_per_epoch": parts.plan.steps,
            "progress": attrs.asdict(attrs.evolve(self.progress, loss=loss)),
        }
        path = checkpoints.save(self.folder, step, state)
        if best:
            checkpoints.keep_best(path)
        checkpoints.prune(self.folder, self.rules.keep, path)
        self.tell("checkpoint_saved", path=path)


def restore(session: _Session, engine: Engine, state: Mapping[str, Any]) -> None:
    """Bring everything to where a checkpoint was written."""
    parts = session.parts
    if state["steps_per_epoch"] != parts.plan.steps:
        raise RunError(
            f"the checkpoint has {state['steps_per_epoch']} steps an epoch and the data now gives {parts.plan.steps}; "
            "resume with the data and the batch that the run was started with"
        )
    try:
        parts.network.load_state_dict(state["network"])
    except RuntimeError as error:
        raise RunError(f"the checkpoint does not fit the recipe: {' '.join(str(error).split())}") from None
    if parts.average is not None:
        parts.average.restore(state["average"], state["step"])
    parts.optimizer.load_state_dict(state["optimizer"])
    parts.scheduler.load_state_dict(state["scheduler"])
    parts.scaler.load_state_dict(state["scaler"])
    session.progress = _Progress(**state["progress"])
    if not distributed.is_main():
        session.progress.loss = 0.0
    elif state["step"] == session.progress.best_epoch * parts.plan.steps:  # a kill may have come before it was said so
        checkpoints.keep_best(checkpoints.path_of(session.folder, state["step"]))
    distributed.barrier()
    engine.load_state_dict(
        {"iteration": state["step"], "epoch_length": parts.plan.steps, "max_epochs": session.rules.epochs}
    )


def train(
    parts: Parts,
    rules: Rules,
    batches: Callable[[int], Iterable[RawBatch]],
    folder: Path,
    *,
    validate: Callable[[], Validation | None],
    tell: Callable[..., None],
    on_better: Callable[[], None],
    on_epoch: Callable[[Mapping[str, float]], None],
    state: Mapping[str, Any] | None = None,
    stop: Stop | None = None,
    laps: Laps | None = None,
    watch: Callable[[Engine], None] = lambda trainer: None,
) -> int:
    """Train to the end, from a checkpoint's state where one is given; the epoch of the best network.

    Args:
        parts: what to train.
        rules: how.
        batches: gives the batches from a step of the whole run to its end.
        folder: where checkpoints go.
        validate: judges the validation set; None where there is none, and then the last epoch is the best.
        tell: tells observers of a hook and its arguments.
        on_better: called when the network is better than before, after the history is written.
        on_epoch: takes an epoch's row of the history.
        state: a checkpoint's.
        stop: is listening to what signals ask for; they are obeyed when a checkpoint is written.
        laps: is told where the time goes.
        watch: is given the trainer before it runs.
    """
    stop, laps = stop or Stop(), laps or Laps(parts.machine.device)
    trainer = make_trainer(parts, rules, laps)
    session = _Session(parts, rules, folder, validate, tell, on_better, on_epoch, stop, laps)
    if state is not None:
        restore(session, trainer, state)
    done = trainer.state.iteration or 0
    if done >= rules.epochs * parts.plan.steps or session.stale(done // parts.plan.steps):
        return session.progress.best_epoch
    watch(trainer)
    trainer.add_event_handler(Events.EPOCH_STARTED, session.epoch_started)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, session.step_completed)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, session.epoch_completed)
    session.clock = session.told = time.monotonic()
    with stop.deferred(), distributed.contact():
        trainer.run(batches(done), max_epochs=rules.epochs, epoch_length=parts.plan.steps)
    return session.progress.best_epoch
