"""The training loop, from the first step or a checkpoint to the last: epochs, checkpoints, the best epoch, patience."""

from __future__ import annotations

import math
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
from soundbench.data.transfer.ahead import ahead
from soundbench.errors import RunError
from soundbench.signals import Stop
from soundbench.training import checkpoints
from soundbench.training.profiling import StepTimes
from soundbench.training.step import Rules, TrainSetup, make_trainer

__all__ = ["ADVICE", "Progress", "Validation", "train"]

# Several processes agree on whether to stop every this many steps: it costs each of them a message.
_AGREE = 8

# What helps where numbers are no longer finite.
ADVICE = "lower optimizer.lr, set train.max_grad_norm, or use train.precision = 'fp32'"


@attrs.frozen
class Validation:
    """The result of validating an epoch's network.

    Attributes:
        score: higher is better.
        row: columns for the history.
        thresholds: one for each class, chosen on the validation set; empty where a clip has one label.
    """

    score: float
    row: Mapping[str, float]
    thresholds: Sequence[float] = ()


@attrs.define
class Progress:
    """What a checkpoint holds beside the states of network, optimizer, scheduler and scaler.

    Attributes:
        loss: the sum of the epoch so far.
        clips: how many the epoch has trained on so far.
        seconds: what they took.
        best: the score of the best validation; None if there is no validation set.
        best_epoch: the epoch of the best network; 0 before the first.
        thresholds: those of the best network.
        model: what `on_better` returned for it.
        history: the row of each epoch.
    """

    loss: float = 0.0
    clips: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    thresholds: list[float] = attrs.field(factory=list)
    model: dict[str, str] = attrs.field(factory=dict)
    history: list[dict[str, float]] = attrs.field(factory=list)

    @classmethod
    def of(cls, state: Mapping[str, Any] | None) -> Progress:
        """That of a checkpoint; None is before the first step."""
        return cls(**state["progress"]) if state else cls()

    @property
    def spent(self) -> float:
        """The seconds that all steps so far took."""
        return self.seconds + sum(row["seconds"] for row in self.history)


@attrs.define
class _Loop:
    """One training: what the handlers of its engine share."""

    setup: TrainSetup
    rules: Rules
    folder: Path
    validate: Callable[[], Validation | None]
    notify: Callable[..., None]
    on_better: Callable[[Validation | None], Mapping[str, str] | None]
    on_epoch: Callable[[Mapping[str, float]], None]
    stop: Stop
    times: StepTimes
    beside: Mapping[str, Any]
    progress: Progress
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
            return  # the end of the epoch saves, after validation
        every, iteration = self.rules.checkpoint_steps, engine.state.iteration
        asked = self._asked(iteration)
        if asked or (every and iteration % every == 0):
            self._collect(iteration)
            distributed.same_buffers(self.setup.network)
            _refuse_not_finite(self.setup, iteration)
            self.save(engine)
        if asked:
            self.stop.obey(asked)

    def epoch_started(self, engine: Engine) -> None:
        """Refuse processes with different numbers of steps: those with more would wait for the others for ever."""
        steps = distributed.gather((self.setup.plan.steps, engine.state.iteration))
        if len(set(steps)) > 1:
            each = ", ".join(f"{count} from step {first + 1}" for count, first in steps)
            raise RunError(f"the processes do not agree on the steps of epoch {engine.state.epoch}: {each}")

    def _asked(self, step: int) -> int:
        """The signal that asked any of the processes to stop; 0 if there was none."""
        if distributed.world() > 1 and step % _AGREE and step % self.setup.plan.steps:
            return 0
        return max(distributed.gather(self.stop.signal))

    def _report(self, engine: Engine) -> None:
        """Notify observers of progress; not at each step, since reading the loss makes a GPU wait."""
        before = self.progress.loss
        self._collect(engine.state.iteration)
        self.shown_loss += self.progress.loss - before
        now = time.monotonic()
        self.notify(
            "progressed",
            epoch=engine.state.epoch,
            step=engine.state.iteration,
            loss=self.shown_loss / max(self.shown_clips, 1),
            rate=self.learning_rate(),
            clips_per_second=self.shown_clips / max(now - self.shown, 1e-9),
        )
        self.shown, self.shown_clips, self.shown_loss = now, 0, 0.0

    def _collect(self, step: int) -> None:
        """Add the losses of the last steps, which are still on the device, to the epoch's sum."""
        if self.pending:
            losses = torch.stack(self.pending)
            self.pending.clear()
            if not bool(losses.isfinite().all()):
                raise RunError(f"the loss is no longer finite at step {step}; {ADVICE}")
            self.progress.loss += float(losses.double().sum())
            self.times.collect()
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = now

    def learning_rate(self) -> float:
        """The learning rate of the first parameter group."""
        return float(self.setup.optimizer.param_groups[0]["lr"])

    def epoch_completed(self, engine: Engine) -> None:
        rate = self.learning_rate()
        if self.setup.every == "epoch":
            self.setup.scheduler.step()
        self._collect(engine.state.iteration)
        progress = self.progress
        distributed.same_buffers(self.setup.network)
        distributed.same_buffers(self.setup.evaluated)
        _refuse_not_finite(self.setup, engine.state.iteration)
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
        """Validate, keep the best network, write the epoch's row and checkpoint, and stop when patience runs out."""
        progress = self.progress
        validation = self.validate()
        if validation and not math.isfinite(validation.score):
            raise RunError(f"the validation loss is no longer finite after epoch {engine.state.epoch}; {ADVICE}")
        row |= validation.row if validation else {}
        better = validation is None or progress.best is None or validation.score > progress.best
        if better:
            progress.best = validation.score if validation else None
            progress.best_epoch = engine.state.epoch
            progress.thresholds = list(validation.thresholds) if validation else []
        progress.history.append(dict(row))
        self.on_epoch(row)
        if better:
            progress.model = dict(self.on_better(validation) or {})
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
        """Write a checkpoint. It holds the sum of all processes' losses; on a resume the main process gets it."""
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
            **self.beside,
        }
        path = checkpoints.save(self.folder, step, state)
        if best:
            checkpoints.keep_best(path)
        checkpoints.prune(self.folder, self.rules.keep, path)
        self.notify("checkpoint_saved", path=path)


def _refuse_not_finite(setup: TrainSetup, step: int) -> None:
    """Refuse to keep weights that are not finite; a step's loss is that of the weights before it.

    Raises:
        RunError: the network, or its average, has a weight that is NaN or infinite, or another number that is NaN.
    """
    for network in dict.fromkeys((setup.network, setup.evaluated)):
        wrong = [name for name, value in network.named_parameters() if not bool(value.isfinite().all())]
        wrong += [name for name, value in network.named_buffers() if bool(value.isnan().any())]
        if wrong:
            raise RunError(f"the network is no longer finite after step {step} ({wrong[0]}); {ADVICE}")


def restore(loop: _Loop, engine: Engine, state: Mapping[str, Any]) -> None:
    """Restore the state of a checkpoint."""
    setup = loop.setup
    if state["steps_per_epoch"] != setup.plan.steps:
        raise RunError(
            f"the checkpoint has {state['steps_per_epoch']} steps per epoch and there are now {setup.plan.steps}; "
            "resume with the data and the batch size that the run was started with"
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
    if distributed.is_main():  # what a kill may have prevented
        if state["step"] == loop.progress.best_epoch * setup.plan.steps:
            checkpoints.ensure_best(loop.folder, state["step"])
        checkpoints.prune(loop.folder, loop.rules.keep, checkpoints.path_of(loop.folder, state["step"]))
    else:
        loop.progress.loss = 0.0
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
    on_better: Callable[[Validation | None], Mapping[str, str] | None],
    on_epoch: Callable[[Mapping[str, float]], None],
    beside: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    times: StepTimes | None = None,
    watch: Callable[[Engine], None] = lambda trainer: None,
) -> int:
    """Train to the end, from the start or from a checkpoint; returns the best epoch.

    Args:
        setup: what to train.
        rules: how to train.
        batches: gives the batches from a step, counted over the whole run, to the end of training.
        folder: where checkpoints are written.
        validate: scores the validation set; gives None if there is none, and then the last epoch is the best.
        notify: calls a hook of the observers with its arguments.
        on_better: called with the validation of a network that is the best so far, after `on_epoch`; each checkpoint
            holds what it returned for the best network.
        on_epoch: called with an epoch's row of the history.
        beside: what else each checkpoint holds.
        state: the checkpoint to resume from, or None.
        progress: that of the state; it is changed, and holds at the end what is known of the best epoch.
        stop: says whether a signal has asked the run to stop; it does so once a checkpoint is written.
        times: collects the times of the steps.
        watch: called with the trainer before it runs.
    """
    stop, times = stop or Stop(), times or StepTimes(setup.machine.device)
    trainer = make_trainer(setup, rules, times)
    progress = progress or Progress.of(state)
    loop = _Loop(setup, rules, folder, validate, notify, on_better, on_epoch, stop, times, beside or {}, progress)
    if state is not None:
        restore(loop, trainer, state)
    done = trainer.state.iteration or 0
    if done >= rules.epochs * setup.plan.steps or loop.stale(done // setup.plan.steps):
        return progress.best_epoch
    watch(trainer)
    trainer.add_event_handler(Events.EPOCH_STARTED, loop.epoch_started)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, loop.step_completed)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, loop.epoch_completed)
    loop.clock = loop.shown = time.monotonic()
    with stop.deferred(), distributed.contact(), ahead(batches(done), setup.machine.device) as fed:
        trainer.run(fed, max_epochs=rules.epochs, epoch_length=setup.plan.steps)
    return progress.best_epoch
