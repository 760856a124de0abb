"""What a run trains, validates and tests on, and what of it cannot be trained: decided here for every command."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from soundbench import distributed
from soundbench.data.clips import ClipTable
from soundbench.data.order import Order, class_weights, members
from soundbench.data.sounds import shards_of
from soundbench.data.splits import SplitResult
from soundbench.errors import DataError, Problem, RecipeError
from soundbench.messages import nearest, show
from soundbench.model.assembly import Assembly
from soundbench.model.network import Network
from soundbench.recipe import MULTILABEL_LOSS, Recipe

__all__ = ["Plan", "plan", "refuse_unknown_columns"]

Rows = NDArray[np.int64]


@attrs.frozen(eq=False)
class Plan:
    """What a run trains, validates and tests on.

    Attributes:
        parts: the rows of `train`, `validation` and `test`, without unreadable ones.
        order: which clips each step trains on.
        class_weights: the weight of each class in the loss, `(K,)`.
    """

    parts: Mapping[str, Rows]
    order: Order
    class_weights: NDArray[np.float32]


def plan(
    recipe: Recipe, made: Assembly, table: ClipTable, cut: SplitResult, readable: NDArray[np.bool_] | None = None
) -> Plan:
    """What is trained and tested on; refuse what cannot be. Commands agree because all ask here.

    Args:
        recipe: resolved.
        made: its components.
        table: the clips.
        cut: which part each clip is in.
        readable: which clips can be read, `(N,)`; None before any sound is read, as if all can.

    Raises:
        RecipeError: the loss or the batch size does not suit the data, class weights name no class, `report.by` no
            column, a class is left out where there is no test set to compare it with, or batch norms cannot use the
            clips of all processes.
        DataError: no clip is left in a part, or only one class to train on.
    """
    _refuse_single_label(recipe, made, table)
    _refuse_left_out_without_test(recipe)
    refuse_unknown_columns(recipe, table)
    rows = {name: cut.rows(name) for name in ("train", "validation", "test")}
    parts = rows if readable is None else {name: own[readable[own]] for name, own in rows.items()}
    for name in ("train", "test"):
        if not len(parts[name]) and (name == "train" or recipe.split.test != 0):
            raise DataError(f"no clip is left to {name} on: none of {len(rows[name])} can be read")
    _refuse_one_class(table, rows["train"], parts["train"])
    weights = class_weights(recipe.train.class_weights, table, parts["train"], recipe.source)
    train = recipe.train
    balanced = members(table, parts["train"]) if train.sampler == "balanced" else None
    rank, world = distributed.rank(), distributed.world()
    shards = None if recipe.audio.store else _shards(recipe, made, table)[parts["train"]]
    at_once = recipe.audio.shards_in_memory
    order = Order(parts["train"], train.batch_size, train.seed, rank, world, balanced, shards, at_once)
    _refuse_small_batches(recipe, made.network, order)
    if train.sync_batch_norm and world > 1:
        _refuse_unsynchronised(recipe, made.network)
    return Plan(parts, order, weights)


def _shards(recipe: Recipe, made: Assembly, table: ClipTable) -> NDArray[np.int32]:
    """The shard of each clip, `(N,)`, of a recipe by which no sound is kept; refuse one that needs all at once."""
    if not hasattr(made.dataset, "shards"):
        text = f"must be true: the sound of the dataset {recipe.dataset.use!r} is not in shards"
        raise RecipeError(recipe.source, [Problem("audio.store", text)])
    problems = []
    if recipe.train.sampler == "balanced":
        text = 'must be "uniform" if audio.store is false: "balanced" draws from all shards at once'
        problems.append(Problem("train.sampler", text))
    if recipe.train.num_workers:
        text = "must be 0 if audio.store is false: each process would read and hold shards of its own"
        problems.append(Problem("train.num_workers", text))
    if problems:
        raise RecipeError(recipe.source, problems)
    return shards_of(table.paths.names, made.dataset)[table.paths.codes]


def _refuse_single_label(recipe: Recipe, made: Assembly, table: ClipTable) -> None:
    """Refuse what is for one class a clip on a multi-label dataset: a loss whose scores add up to 1, augmentations."""
    if not table.multilabel:
        return
    what = "{!r} is for one class a clip, but the dataset is multi-label; "
    problems = []
    if not getattr(made.loss, "multilabel", False):
        text = f'use loss = "{MULTILABEL_LOSS}", which scores each class independently'
        problems.append(Problem("loss", what.format(recipe.loss.use) + text))
    modules = dict([*made.on_waveform, *made.on_features])
    for number, spec in enumerate(recipe.augmentation):
        place = f"augmentation[{number}]"
        if not getattr(modules[place], "multilabel", True):
            problems.append(Problem(place, what.format(spec.use) + "leave it out"))
    if problems:
        raise RecipeError(recipe.source, problems)


def _refuse_left_out_without_test(recipe: Recipe) -> None:
    if recipe.reject.own.leave_out and recipe.split.test == 0:
        text = "clips of a class that is left out are compared with those of the test set, but split.test is 0"
        raise RecipeError(recipe.source, [Problem("reject.leave_out", text)])


def refuse_unknown_columns(recipe: Recipe, table: ClipTable) -> None:
    """Refuse figures by a column that the clips do not have.

    Raises:
        RecipeError: with each such key of `report.by`, the nearest name and all.
    """
    known = sorted(table.columns)
    problems = [
        Problem(
            f"report.by[{place}]",
            f"the clips have no column {show(name)}{nearest(name, known) or ';'} columns: {', '.join(known)}",
        )
        for place, name in enumerate(recipe.report.by)
        if name not in known
    ]
    if problems:
        raise RecipeError(recipe.source, problems)


def _refuse_one_class(table: ClipTable, before: Rows, after: Rows) -> None:
    """Refuse to train on clips of one class where a clip has one: the network could predict nothing else."""
    counts = table.class_counts(after)
    if table.multilabel or (counts > 0).sum() > 1:
        return
    lost = [name for name, own in zip(table.classes, table.class_counts(before) * (counts == 0), strict=True) if own]
    why = f": no training clip of {', '.join(map(repr, lost))} can be read" if lost else ""
    only = table.classes[int(counts.argmax())]
    raise DataError(f"all clips to train on are of one class, {only!r}; at least two are needed{why}")


def _refuse_small_batches(recipe: Recipe, network: Network, order: Order) -> None:
    """Refuse steps with pieces without a clip; or with one, if the network cannot be trained on one."""
    pieces = order.world * recipe.train.accumulate
    smallest = order.smallest
    if smallest // pieces > 1 or (smallest // pieces == 1 and _trains_on_one(recipe, network)):
        return
    clips = f"{smallest} clip{'s' * (smallest != 1)} in {pieces} piece{'s' * (pieces != 1)}"
    shared = f" ({recipe.train.accumulate} in each of {order.world} processes)" if order.world > 1 else ""
    fewer = "processes" if order.world > 1 and recipe.train.accumulate == 1 else "pieces"
    has = "fewer than 2 clips, which batch norm cannot train on" if smallest // pieces else "no clip"
    text = f"a step of {clips}{shared} has pieces of {has}; use more clips, a larger batch size, or fewer {fewer}"
    raise RecipeError(recipe.source, [Problem("train.batch_size", text)])


# Those that PyTorch makes synchronised ones of; from a class of somebody's own, it would take what that adds.
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def _refuse_unsynchronised(recipe: Recipe, network: Network) -> None:
    """Refuse batch norms that cannot use the clips of all processes, or for which processes would wait forever."""
    frozen = {part for name in recipe.train.freeze for part in network.get_submodule(name).modules()}
    for kind, part in network.named_children():
        trained = [one for one in part.modules() if isinstance(one, _BatchNorm) and one not in frozen]
        own = next((type(one).__name__ for one in trained if type(one) not in _BATCH_NORMS), None)
        if own is not None:
            text = f"{kind} has a batch norm of the class {own}, which PyTorch cannot synchronise; leave it out"
        elif trained and not getattr(part, "ragged", True):
            text = f"{kind} takes rows of equal length (ragged = False), so that processes would wait for each other"
        else:
            continue
        raise RecipeError(recipe.source, [Problem("train.sync_batch_norm", text)])


def _trains_on_one(recipe: Recipe, network: Network) -> bool:
    """Whether a step of one clip works, tried out: batch norm over vectors needs two values of each channel."""
    kept, training = {name: tensor.clone() for name, tensor in network.state_dict().items()}, network.training
    samples = recipe.audio.window_samples
    network.train()
    for name in recipe.train.freeze:
        network.get_submodule(name).eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            network(torch.zeros(1, samples), torch.tensor([samples]))
    except ValueError:
        return False
    finally:
        network.load_state_dict(kept)
        network.train(training)
    return True
