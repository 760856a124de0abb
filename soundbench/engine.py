"""One optimizer step as an Ignite engine, made by functions from ready parts; no name is known here."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal

import attrs
import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from soundbench import distributed
from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench.laps import Laps
from soundbench.loading import Order, RawBatch, on_device
from soundbench.machine import Machine
from soundbench.network import Network
from soundbench.step import Placed
from soundbench.weights import Average

__all__ = ["Parts", "Rules", "make_trainer", "seed_step"]


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


def make_trainer(parts: Parts, rules: Rules, laps: Laps | None = None) -> Engine:
    """An engine whose every iteration is one optimizer step; its output is the step's summed loss, detached.

    Args:
        parts: what to train.
        rules: how.
        laps: where the time goes.
    """
    clock = laps or Laps(parts.machine.device)

    def process(engine: Engine, raw: RawBatch) -> Tensor:
        state = engine.state
        seed_step(rules.seed, state.iteration, distributed.rank())
        parts.step.train()
        for module in parts.frozen:
            module.eval()
        batch = on_device(raw, parts.machine.device, rules.level)
        clock.lap("move")
        for place, augment in parts.augmentations:
            batch = augment(batch, Chance(rules.seed, state.epoch, place))
        clock.lap("augment")
        total = parts.plan.size((state.iteration - 1) % parts.plan.steps)
        loss = _backward(parts, batch, state.epoch, total, rules.accumulate, clock)
        _update(parts, rules.clip_gradient)
        if parts.average is not None:
            parts.average.update(parts.network, state.iteration)
        clock.lap("update")
        return loss

    trainer = Engine(process)
    trainer.add_event_handler(Events.GET_BATCH_STARTED, clock.start)
    trainer.add_event_handler(Events.GET_BATCH_COMPLETED, clock.lap, "data")
    return trainer


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch, NumPy and `random` from the step's address, so that dropout draws the same after a resume."""
    bits = int(Chance(seed, step, "step").bits(np.array([rank]), "seed")[0])
    torch.manual_seed(bits)
    np.random.seed(bits & 0xFFFFFFFF)
    random.seed(bits)


def _backward(parts: Parts, batch: Batch, epoch: int, total: int, pieces: int, clock: Laps) -> Tensor:
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
            clock.lap("forward")
            parts.scaler.scale(loss * distributed.world() / total).backward()
            clock.lap("backward")
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
