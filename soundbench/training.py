"""Ignite engines that train, made by functions from ready parts; nothing here knows a name or an entry point."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from soundbench import checkpoints, distributed
from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench.errors import RunError
from soundbench.loading import Order, RawBatch, on_device
from soundbench.machine import Machine
from soundbench.network import Network
from soundbench.step import Placed
from soundbench.weights import Average

__all__ = ["Parts", "Rules", "Validation", "make_trainer", "train"]


@attrs.frozen
class Rules:
    """How to train.

    Attributes:
        epochs: at most.
        seed: of everything.
        level: dB of RMS that each window is brought to, or `off`.
        accumulate: pieces in which a step's batch goes through the network.
        clip_gradient: largest norm of the gradient; 0 leaves it alone.
        patience: epochs without a better validation after which training stops; 0 goes on to the end.
        keep: checkpoints kept beside the best.
        checkpoint_steps: also write a checkpoint every so many steps; 0 at the end of an epoch only.
    """

    epochs: int
    seed: int
    level: float | Literal["off"] = "off"
    accumulate: int = 1
    clip_gradient: float = 0.0
    patience: int = 0
    keep: int = 3
    checkpoint_steps: int = 0


@attrs.frozen
class Validation:
    """How well an epoch's network did: the higher `score` is the better one; `row` is written to the history."""

    score: float
    row: Mapping[str, float]


@attrs.frozen
class Parts:
    """What a trainer is made of.

    Attributes:
        network: the network itself, on the device.
        step: a `TrainStep` around it, wrapped or not.
        augmentations: on waveforms, with their places.
        optimizer: over the network's parameters.
        scheduler: of its rates.
        every: whether the scheduler is stepped after each step or each epoch.
        scaler: of gradients, for fp16; disabled otherwise.
        class_weights: `(K,)`, with mean 1 over the training clips; on the device.
        plan: which clips each step shows.
        machine: the device and how it is used.
        frozen: modules that stay in evaluation mode.
        average: of the network's weights; judged and kept in their place.
    """

    network: Network
    step: nn.Module
    augmentations: Placed
    optimizer: Optimizer
    scheduler: LRScheduler
    every: Literal["step", "epoch"]
    scaler: torch.amp.GradScaler
    class_weights: Tensor
    plan: Order
    machine: Machine
    frozen: Sequence[nn.Module] = ()
    average: Average | None = None

    @property
    def judged(self) -> Network:
        """The network that is judged: the average, once there is one."""
        averaged = self.average.network if self.average else None
        return self.network if averaged is None else averaged


def make_trainer(parts: Parts, rules: Rules) -> Engine:
    """An engine whose every iteration is one optimizer step; its output is the step's summed loss, detached."""

    def process(engine: Engine, raw: RawBatch) -> Tensor:
        state = engine.state
        seed_step(rules.seed, state.iteration, distributed.rank())
        parts.step.train()
        for module in parts.frozen:
            module.eval()
        batch = on_device(raw, parts.machine.device, rules.level)
        for place, augment in parts.augmentations:
            batch = augment(batch, Chance(rules.seed, state.epoch, place))
        total = parts.plan.size((state.iteration - 1) % parts.plan.steps)
        loss = _backward(parts, batch, state.epoch, total, rules.accumulate)
        _update(parts, rules.clip_gradient)
        if parts.average is not None:
            parts.average.update(parts.network, state.iteration)
        return loss

    return Engine(process)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch, NumPy and `random` from the step's address, so that dropout draws the same after a resume."""
    bits = int(Chance(seed, step, "step").bits(np.array([rank]), "seed")[0])
    torch.manual_seed(bits)
    np.random.seed(bits & 0xFFFFFFFF)
    random.seed(bits)


def _backward(parts: Parts, batch: Batch, epoch: int, total: int, pieces: int) -> Tensor:
    """Add up the gradients of a step's batch, piece by piece; DDP averages over processes, so that is undone."""
    summed = torch.zeros((), device=parts.machine.device)
    chunks = _split(batch, pieces)
    for number, piece in enumerate(chunks):
        last = number == len(chunks) - 1
        together = nullcontext() if last or distributed.world() == 1 else parts.step.no_sync()  # type: ignore[operator]
        with together:
            with parts.machine.autocast():
                losses, target = parts.step(piece, epoch)
            weights = target @ parts.class_weights / target.sum(1)  # their mean for a clip of several labels
            loss = (losses * weights).sum()
            parts.scaler.scale(loss * distributed.world() / total).backward()
        summed += loss.detach()
    return summed


def _split(batch: Batch, pieces: int) -> list[Batch]:
    """The rows of a batch in at most `pieces` pieces of nearly equal size."""
    if pieces == 1:
        return [batch]
    columns = [torch.tensor_split(getattr(batch, field.name), pieces) for field in attrs.fields(Batch)]
    return [Batch(*piece) for piece in zip(*columns, strict=True) if len(piece[0])]


def _update(parts: Parts, clip_gradient: float) -> None:
    if clip_gradient:
        parts.scaler.unscale_(parts.optimizer)
        torch.nn.utils.clip_grad_norm_(parts.network.parameters(), clip_gradient)
    parts.scaler.step(parts.optimizer)
    parts.scaler.update()
    parts.optimizer.zero_grad(set_to_none=True)
    if parts.every == "step":
        parts.scheduler.step()


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
        every = self.rules.checkpoint_steps
        if every and engine.state.iteration % every == 0 and step + 1 < self.parts.plan.steps:
            self._collect(engine.state.iteration)
            self.save(engine)

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
        if self.stale(engine.state.epoch):
            engine.terminate()

    def stale(self, epoch: int) -> bool:
        """Whether patience has run out."""
        return bool(self.rules.patience) and epoch - self.progress.best_epoch >= self.rules.patience

    def save(self, engine: Engine, best: bool = False) -> None:
        """Write a checkpoint. It holds the losses of all processes; a resume gives them to the main one."""
        loss = sum(distributed.gather(self.progress.loss))
        if distributed.is_main():
            parts, progress = self.parts, self.progress
            state = {
                "network": parts.network.state_dict(),
                "average": parts.average.state() if parts.average else {},
                "optimizer": parts.optimizer.state_dict(),
                "scheduler": parts.scheduler.state_dict(),
                "scaler": parts.scaler.state_dict(),
                "step": engine.state.iteration,
                "steps_per_epoch": parts.plan.steps,
                "progress": attrs.asdict(attrs.evolve(progress, loss=loss)),
            }
            path = checkpoints.save(self.folder, engine.state.iteration, state)
            if best:
                checkpoints.keep_best(path)
            checkpoints.prune(self.folder, self.rules.keep, path)
            self.tell("checkpoint_saved", path=path)
        distributed.barrier()


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
    """
    trainer = make_trainer(parts, rules)
    session = _Session(parts, rules, folder, validate, tell, on_better, on_epoch)
    if state is not None:
        restore(session, trainer, state)
    done = trainer.state.iteration or 0
    if done >= rules.epochs * parts.plan.steps or session.stale(done // parts.plan.steps):
        return session.progress.best_epoch
    trainer.add_event_handler(Events.ITERATION_COMPLETED, session.step_completed)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, session.epoch_completed)
    session.clock = session.told = time.monotonic()
    trainer.run(batches(done), max_epochs=rules.epochs, epoch_length=parts.plan.steps)
    return session.progress.best_epoch
