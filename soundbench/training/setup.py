"""What a recipe's run trains with, made ready: on the device, wrapped, with optimizer, schedule and average."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from soundbench import distributed
from soundbench.model import assembly
from soundbench.model.assembly import Assembly
from soundbench.data.clips import ClipTable
from soundbench.errors import Problem, RecipeError, RunError
from soundbench.data.batches import Order
from soundbench.machine import Machine
from soundbench.recipe import MULTILABEL_LOSS, Recipe
from soundbench.training.step import TrainSetup, TrainStep
from soundbench.model.weights import Average, freeze, parameter_groups, take

__all__ = ["initialize", "make_setup", "refuse_one_of_all", "refuse_small_batches", "advising_on_memory"]


def refuse_one_of_all(recipe: Recipe, made: Assembly, table: ClipTable) -> None:
    """Several classes a clip need scores that do not share out one.

    Raises:
        RecipeError: the loss tells one class from the others.
    """
    if table.multilabel and not getattr(made.loss, "multilabel", False):
        text = (
            f"{recipe.loss.use!r} tells one class from the others, but the dataset is multilabel; "
            f'loss = "{MULTILABEL_LOSS}" scores each class on its own'
        )
        raise RecipeError(recipe.source, [Problem("loss", text)])


def refuse_small_batches(recipe: Recipe, plan: Order) -> None:
    """Batch norm needs two rows in every piece that goes through the network.

    Raises:
        RecipeError: a step has fewer.
    """
    pieces = plan.world * recipe.train.accumulate
    smallest = min(plan.size(step) for step in range(plan.steps))
    if smallest // pieces < 2:
        clips = f"{smallest} clip{'s' * (smallest != 1)} in {pieces} piece{'s' * (pieces != 1)}"
        shared = f" ({recipe.train.accumulate} in each of {plan.world} processes)" if plan.world > 1 else ""
        fewer = "processes" if plan.world > 1 and recipe.train.accumulate == 1 else "pieces"
        text = (
            f"a step of {clips}{shared} leaves some with fewer than 2, "
            f"which batch norm cannot train on; give more clips, a larger batch, or fewer {fewer}"
        )
        raise RecipeError(recipe.source, [Problem("train.batch", text)])


@contextmanager
def advising_on_memory(recipe: Recipe) -> Iterator[None]:
    """Say what would take less, where memory runs out.

    Raises:
        RunError: it did.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        spent = isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
        if not spent:
            raise
        train = recipe.train
        raise RunError(
            f"out of memory with train.batch = {train.batch} and audio.window = {recipe.audio.window}; lower one of "
            f"them, or raise train.accumulate ({train.accumulate}), and a batch goes through in as many pieces"
        ) from error


def initialize(recipe: Recipe, made: Assembly, say: Callable[[str], None]) -> None:
    """Begin with the weights that the recipe's `[init]` names.

    Raises:
        RecipeError: there are none, or none that fits.
    """
    if recipe.init.from_ is None:
        return
    try:
        taken = take(made.network, recipe.init.from_)
    except RunError as error:
        raise RecipeError(recipe.source, [Problem("init.from", str(error))]) from error
    for line in taken.lines():
        say(line)


def make_setup(
    recipe: Recipe, made: Assembly, machine: Machine, plan: Order, class_weights: NDArray[np.float32]
) -> TrainSetup:
    """Everything that a trainer is made of.

    Args:
        recipe: resolved.
        made: its components.
        machine: the device and how it is used.
        plan: which clips each step shows.
        class_weights: of each class in the loss, `(K,)`.
    """
    rules = recipe.train
    machine.place(made.network)
    frozen = freeze(made.network, rules.freeze)
    step = TrainStep(made.network, made.on_features, made.loss, rules.seed).to(machine.device)
    for _, module in made.on_waveform:
        if isinstance(module, torch.nn.Module):
            module.to(machine.device)
    optimizer = assembly.make_optimizer(recipe, parameter_groups(made.network, rules.rates))
    scheduler, every = assembly.make_scheduler(recipe, optimizer, rules.epochs * plan.steps, plan.steps)
    steps = rules.epochs * plan.steps
    after = steps - round(rules.swa * steps) if rules.swa else 0
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
    )
