"""One optimizer step, with all that it needs, and the Ignite engine that runs such steps."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Literal

import attrs
import numpy as np
import torch
from ignite.engine import Engine, Events, State
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from soundbench import distributed
from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench.data.batches import RawBatch, keep_on_host, on_device
from soundbench.data.order import Order
from soundbench.machine import Machine
from soundbench.model import assembly
from soundbench.model.assembly import Assembly
from soundbench.model.network import Network
from soundbench.model.weights import Average, freeze, parameter_groups
from soundbench.recipe import Recipe
from soundbench.training.compiling.compiler import Compiler, Compiling, names_of, planned
from soundbench.training.compiling.train_step import Placed, TrainStep, tensors_of
from soundbench.training.profiling import StepTimes

__all__ = ["Placed", "Rules", "TrainSetup", "TrainStep", "make_setup", "make_trainer", "seed_step"]


@attrs.frozen
class Rules:
    """How to train.

    Attributes:
        epochs: the largest number of epochs.
        seed: of all random draws.
        level: RMS level in dB that each window is scaled to, or `off`.
        accumulate: how many pieces a step's batch is split into; their gradients are added up.
        max_grad_norm: the largest norm of the gradient; 0 for no limit.
        patience: training stops after this many epochs without a better validation; 0 for never.
        keep: checkpoints kept beside the best.
        checkpoint_steps: write a checkpoint every this many steps, too; 0 for at the end of an epoch only.
    """

    epochs: int
    seed: int
    level: float | Literal["off"] = "off"
    accumulate: int = 1
    max_grad_norm: float = 0.0
    patience: int = 0
    keep: int = 3
    checkpoint_steps: int = 0

    @classmethod
    def of(cls, recipe: Recipe) -> Rules:
        """The rules of a recipe."""
        train = recipe.train
        return cls(
            epochs=train.epochs,
            seed=train.seed,
            level=recipe.audio.level,
            accumulate=train.accumulate,
            max_grad_norm=train.max_grad_norm,
            patience=train.patience,
            keep=train.keep,
            checkpoint_steps=train.checkpoint_steps,
        )


@attrs.frozen
class TrainSetup:
    """All that a trainer needs.

    Attributes:
        network: the network itself, on the device.
        step: a `TrainStep` around it, wrapped by DDP or not.
        augmentations: on waveforms, with their places.
        optimizer: over the network's parameters.
        scheduler: of the learning rates.
        every: whether the scheduler is stepped after each step or each epoch.
        scaler: of gradients, for fp16; disabled otherwise.
        class_weights: `(K,)`, with mean 1 over the training clips; on the device.
        plan: which clips each step trains on.
        machine: the device and how it is used.
        frozen: modules that stay in evaluation mode.
        average: of the network's weights, if any; it is evaluated and saved instead of them.
        compiler: of the step, if it is to be compiled.
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
    compiler: Compiler | None = None

    @property
    def evaluated(self) -> Network:
        """The network that is evaluated and saved: the average, once there is one."""
        averaged = self.average.network if self.average else None
        return self.network if averaged is None else averaged


def make_setup(
    recipe: Recipe,
    made: Assembly,
    machine: Machine,
    plan: Order,
    class_weights: NDArray[np.float32],
    settled: Callable[[Compiling], None] = lambda _: None,
) -> TrainSetup:
    """Create all that a trainer needs.

    Args:
        recipe: resolved.
        made: its components.
        machine: the device and how it is used.
        plan: which clips each step trains on.
        class_weights: the weight of each class in the loss, `(K,)`.
        settled: called at the first step that is to be compiled, with what came of it.
    """
    rules = recipe.train
    machine.place(made.network)
    frozen = freeze(made.network, rules.freeze)
    if rules.sync_batch_norm and distributed.world() > 1:
        distributed.synchronise(made.network, frozen)
    step = TrainStep(made.network, made.on_features, made.loss, rules.seed).to(machine.device)
    for _, module in made.on_waveform:
        if isinstance(module, torch.nn.Module):
            module.to(machine.device)
    optimizer = assembly.make_optimizer(recipe, parameter_groups(made.network, rules.rates))
    scheduler, every = assembly.make_scheduler(recipe, optimizer, rules.epochs * plan.steps, plan.steps)
    how = planned(rules.compile, machine.device)
    steps = rules.epochs * plan.steps
    after = steps - round(rules.swa * steps) if rules.swa else 0
    most = -(-max(map(plan.size, range(plan.steps))) // (plan.world * rules.accumulate))
    return TrainSetup(
        network=made.network,
        step=distributed.wrap(step, machine.device),
        augmentations=made.on_waveform,
        optimizer=optimizer,
        scheduler=scheduler,
        every=every,
        scaler=torch.amp.GradScaler(machine.device.type, enabled=machine.precision == "fp16"),
        class_weights=torch.from_numpy(class_weights).to(machine.device),
        plan=plan,
        machine=machine,
        frozen=frozen,
        average=Average(made.network, rules.ema, after) if rules.ema or rules.swa else None,
        compiler=Compiler(step, machine, most, how, names_of(recipe), settled) if how.used != "off" else None,
    )


def make_trainer(setup: TrainSetup, rules: Rules, times: StepTimes | None = None) -> Engine:
    """An engine whose iterations are optimizer steps; its output is the step's summed loss, detached.

    Args:
        setup: what to train.
        rules: how to train.
        times: collects the times of the steps.
    """
    clock = times or StepTimes(setup.machine.device)

    def process(engine: Engine, raw: RawBatch) -> Tensor:
        with setup.machine.training():
            return compute(engine.state, raw)

    def compute(state: State, raw: RawBatch) -> Tensor:
        seed_step(rules.seed, state.iteration, distributed.rank())
        batch = on_device(raw, setup.machine.device, rules.level)
        clock.mark("move")
        for place, augment in setup.augmentations:
            batch = augment(batch, Chance(rules.seed, state.epoch, place))
        clock.mark("augment")
        total = setup.plan.size((state.iteration - 1) % setup.plan.steps)
        loss = _backward(setup, batch, state.epoch, total, rules.accumulate, clock)
        _update(setup, rules.max_grad_norm)
        if setup.average is not None:
            setup.average.update(setup.network, state.iteration)
        clock.mark("update")
        return loss

    def begin_epoch(_engine: Engine) -> None:
        """Once an epoch, not at each step: a large network has hundreds of modules."""
        setup.step.train()
        for module in setup.frozen:
            module.eval()

    trainer = Engine(process)
    trainer.add_event_handler(Events.EPOCH_STARTED, begin_epoch)
    trainer.add_event_handler(Events.GET_BATCH_STARTED, clock.start)
    trainer.add_event_handler(Events.GET_BATCH_COMPLETED, clock.mark, "data")
    return trainer


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch, NumPy and `random` from seed, step and rank, so that dropout draws the same after a resume."""
    bits = int(Chance(seed, step, "step").bits(np.array([rank]), "seed")[0])
    torch.manual_seed(bits)
    np.random.seed(bits & 0xFFFFFFFF)
    random.seed(bits)


def _backward(setup: TrainSetup, batch: Batch, epoch: int, total: int, pieces: int, clock: StepTimes) -> Tensor:
    """Add up the gradients of a step's batch, piece by piece; DDP averages over processes, which is undone here."""
    summed = torch.zeros((), device=setup.machine.device)
    chunks = _split(batch, pieces)
    if setup.compiler is not None and setup.compiler.begin(chunks[0]):
        clock.skip()
    address = (epoch,) if setup.compiler is None else setup.compiler.address(epoch)
    for number, piece in enumerate(chunks):
        last = number == len(chunks) - 1
        together = nullcontext() if last or distributed.world() == 1 else setup.step.no_sync()  # type: ignore[operator]
        with together:
            with setup.machine.autocast():
                losses, target = setup.step(*tensors_of(piece), *address)
            weights = target @ setup.class_weights / target.sum(1)  # for a clip with several labels, their mean
            loss = (losses * weights).sum()
            clock.mark("forward")
            setup.scaler.scale(loss * distributed.world() / total).backward()
            clock.mark("backward")
        summed += loss.detach()
    return summed


def _split(batch: Batch, pieces: int) -> list[Batch]:
    """The rows of a batch in at most `pieces` pieces of nearly equal size."""
    if pieces == 1:
        return [batch]
    columns = [torch.tensor_split(tensor, pieces) for tensor in tensors_of(batch)]
    chunks = [Batch(*piece) for piece in zip(*columns, strict=True) if len(piece[0])]
    for piece, on_host in zip(chunks, torch.tensor_split(batch.host_position, pieces), strict=False):
        keep_on_host(piece.position, on_host)
    return chunks


def _update(setup: TrainSetup, max_grad_norm: float) -> None:
    if max_grad_norm:
        setup.scaler.unscale_(setup.optimizer)
        torch.nn.utils.clip_grad_norm_(setup.network.parameters(), max_grad_norm)
    setup.scaler.step(setup.optimizer)
    setup.scaler.update()
    setup.optimizer.zero_grad(set_to_none=True)
    if setup.every == "step":
        setup.scheduler.step()
