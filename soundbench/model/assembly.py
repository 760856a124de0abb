"""The only place that makes components and fits them to each other.

Every `ValueError` of a constructor is gathered under its table's path, and one silent batch is sent through the chain,
so that two parts whose shapes disagree are named before any sound is read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from soundbench.contracts import Augmentation, Dataset, Loss
from soundbench.errors import BrokenPlugin, DataError, Problem, RecipeError, SoundbenchError
from soundbench.messages import show
from soundbench.model.network import Head, Network
from soundbench.model.weights import unknown_part
from soundbench.recipe import ComponentSpec, Model, Recipe
from soundbench.recipe.entry_points import import_failure
from soundbench.recipe.structuring import problems_of

__all__ = [
    "Assembly",
    "Placed",
    "assemble",
    "make_component",
    "make_dataset",
    "make_network",
    "make_optimizer",
    "make_scheduler",
]

Placed = list[tuple[str, Augmentation]]

# So many classes are assumed for as long as it takes to find a recipe's other mistakes.
_ASSUMED = 10


@attrs.frozen
class Assembly:
    """What a recipe names, made.

    Attributes:
        dataset: it has read nothing yet but the names of its classes.
        classes: how many there are.
        network: featurizer to head.
        loss: with the scores of its logits.
        on_waveform: augmentations of waveforms, each with its place in the recipe.
        on_features: augmentations of features, likewise.
    """

    dataset: Dataset
    classes: int
    network: Network
    loss: Loss
    on_waveform: Placed
    on_features: Placed

    def prepare(self, recipe: Recipe) -> None:
        """Have the augmentations that need files read them.

        Args:
            recipe: that this was made of.

        Raises:
            DataError: what is not there or cannot be used, and which augmentation wants it.
        """
        modules: dict[str, Any] = dict([*self.on_waveform, *self.on_features])
        for number, spec in enumerate(recipe.augmentation):
            place = f"augmentation[{number}]"
            if hasattr(modules[place], "prepare"):
                try:
                    modules[place].prepare()
                except DataError as error:
                    error.args = (f"{place} ({spec.use}): {error}",)
                    raise


def make_component(problems: list[Problem], key: str, spec: ComponentSpec, *supplied: Any) -> Any:
    """The component; None when its constructor refused its options, which is written down under its key."""
    component = spec.component
    try:
        return component.obj(*supplied, **spec.options)
    except ValueError as error:
        problems.extend(problems_of(error, key, [field.name for field in attrs.fields(component.options)]))
    except SoundbenchError:
        raise
    except ImportError as error:
        raise import_failure(f"{spec.kind} {spec.use!r}", error, component.obj.__module__) from error
    except Exception as error:
        whose = f"{spec.kind} {spec.use!r} of {component.distribution or component.source}"
        raise BrokenPlugin(f"{key}: making {whose} raised {type(error).__name__}: {error}") from error
    return None


def make_dataset(recipe: Recipe) -> Dataset:
    """The dataset of a recipe alone. It reads nothing yet.

    Raises:
        RecipeError: an option is out of range.
    """
    problems: list[Problem] = []
    dataset: Dataset = make_component(problems, "dataset", recipe.dataset)
    if problems:
        raise RecipeError(recipe.source, problems)
    return dataset


def assemble(recipe: Recipe, assumed: int | None = None) -> Assembly:
    """Everything of a recipe that learns or is learnt from, seeded by `train.seed`.

    Args:
        recipe: resolved.
        assumed: how many classes to assume where the dataset cannot name its own, for want of its files.

    Raises:
        RecipeError: options out of range, all of them at once; or two parts whose shapes disagree.
        DataError: the dataset cannot name its classes, and nothing is assumed.
    """
    problems: list[Problem] = []
    torch.manual_seed(recipe.train.seed)
    dataset = make_component(problems, "dataset", recipe.dataset)
    classes, without = _classes(problems, dataset, assumed or _ASSUMED)
    network, loss = _network(problems, recipe, classes)
    on_waveform: Placed = []
    on_features: Placed = []
    for number, spec in enumerate(recipe.augmentation):
        place = f"augmentation[{number}]"
        module = make_component(problems, place, spec, recipe.audio.rate)
        if module is not None:
            (on_waveform if module.on == "waveform" else on_features).append((place, module))
    _try_optimizer(problems, recipe)
    _name_parts(problems, recipe, network)
    if recipe.train.extracted:
        _refuse_bypassed(problems, recipe, network)
    if problems or network is None or loss is None:
        raise RecipeError(recipe.source, problems)
    if without is not None and assumed is None:
        raise without
    _probe(recipe, network, classes, recipe.source)
    return Assembly(dataset, classes, network, loss, on_waveform, on_features)


def _classes(problems: list[Problem], dataset: Dataset | None, assumed: int) -> tuple[int, DataError | None]:
    """How many classes there are, or are assumed to be, and why that is not known."""
    if dataset is None:
        return assumed, None
    try:
        classes = dataset.classes
    except DataError as error:
        return assumed, error
    if len(classes) == 1 and not dataset.multilabel:
        text = f"has one class alone, {show(classes[0])}, and nothing to tell it from; two are needed"
        problems.append(Problem("dataset", text))
    return len(classes), None


def make_network(model: Model, source: str, assets: Path | None = None) -> tuple[Network, Loss]:
    """The network and loss that a `model.toml` describes, not yet filled with weights.

    Args:
        model: read from there.
        source: how messages call it.
        assets: the folder of what the featurizer wrote when the model was saved.
    """
    problems: list[Problem] = []
    if assets is not None and hasattr(model.featurizer.component.obj, "from_assets"):
        remake = functools.partial(model.featurizer.component.obj.from_assets, assets)
        component = attrs.evolve(model.featurizer.component, obj=remake)
        model = attrs.evolve(model, featurizer=attrs.evolve(model.featurizer, component=component))
    network, loss = _network(problems, model, len(model.classes))
    if problems or network is None or loss is None:
        raise RecipeError(source, problems)
    return network, loss


def _network(problems: list[Problem], of: Recipe | Model, classes: int) -> tuple[Network | None, Loss | None]:
    """The network and its loss; a part is only tried when those before it could be made."""
    loss = make_component(problems, "loss", of.loss, classes)
    featurizer = make_component(problems, "featurizer", of.featurizer, of.audio.rate)
    if featurizer is None:
        return None, loss
    backbone = make_component(problems, "backbone", of.backbone, featurizer.bands)
    if backbone is None:
        return None, loss
    pooling = make_component(problems, "pooling", of.pooling, backbone.channels)
    if pooling is None or loss is None:
        return None, loss
    head = Head(pooling.features, classes, classifier=loss.classifier, **attrs.asdict(of.head))
    return Network(featurizer, backbone, pooling, head), loss


def _probe(of: Recipe, network: Network, classes: int, source: str) -> None:
    """Send one silent batch through, and name the two parts whose shapes disagree."""
    samples = of.audio.window_samples
    lengths = torch.tensor([samples, max(1, samples // 2)])
    data = torch.zeros(2, samples)
    stages: list[tuple[str, ComponentSpec | None, Callable[..., Any], int | None]] = [
        ("featurizer", of.featurizer, network.features, network.featurizer.bands),
        ("backbone", of.backbone, network.backbone, network.backbone.channels),
        ("pooling", of.pooling, network.pooling, network.pooling.features),
        ("head", None, network.head, classes),
    ]
    network.eval()
    before = "the waveform"
    for key, spec, stage, wanted in stages:
        name = f"{key} {spec.use!r}" if spec else key
        try:
            with torch.no_grad():
                out = stage(data) if key == "head" else stage(data, lengths)
        except Exception as error:
            text = " ".join(str(error).split())
            problem = Problem(key, f"{name} cannot take what {before} gives, {tuple(data.shape)}: {text}")
            raise RecipeError(source, [problem]) from error
        data, lengths = out if isinstance(out, tuple) else (out, lengths)
        if data.shape[1] != wanted:
            said = {"featurizer": "bands", "backbone": "channels", "pooling": "features", "head": "classes"}[key]
            problem = Problem(key, f"{name} says {wanted} {said}, but gives {data.shape[1]}: {tuple(data.shape)}")
            raise RecipeError(source, [problem])
        before = name
    network.train()


def _try_optimizer(problems: list[Problem], recipe: Recipe) -> None:
    """Make optimizer and scheduler once for a parameter of no consequence, to hear what they refuse."""
    toy = [{"params": [nn.Parameter(torch.zeros(2, 2))]}]
    optimizer = make_component(problems, "optimizer", recipe.optimizer, toy)
    if optimizer is not None:
        make_component(problems, "scheduler", recipe.scheduler, optimizer, 10, 5)


def _name_parts(problems: list[Problem], recipe: Recipe, network: Network | None) -> None:
    """Check the names of parts of the network, and that something is left to train."""
    if network is None:
        return
    train = recipe.train
    for key, names in (("freeze", train.freeze), ("rates", train.rates)):
        wrong = [unknown for name in names if (unknown := unknown_part(network, name))]
        problems.extend(Problem(f"train.{key}", text) for text in wrong)
        if wrong:
            return
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    if all(any(name.startswith(f"{part}.") for part in train.freeze) for name in trained):
        problems.append(Problem("train.freeze", "leaves nothing to train"))


def _refuse_bypassed(problems: list[Problem], recipe: Recipe, network: Network | None) -> None:
    """Refuse what features made ahead would pass by: augmentations of waveforms, and a featurizer that learns."""
    remedy = "or make features as they are needed, with train.extracted = false"
    for number, spec in enumerate(recipe.augmentation):
        if spec.component.obj.on == "waveform":  # type: ignore[attr-defined]
            text = f"{spec.use!r} changes waveforms, which features made ahead cannot follow; leave it out, {remedy}"
            problems.append(Problem(f"augmentation[{number}]", text))
    parameters = network.named_parameters() if network is not None else ()
    trained = [name for name, parameter in parameters if parameter.requires_grad and name.startswith("featurizer.")]
    trained = [name for name in trained if not any(name.startswith(f"{part}.") for part in recipe.train.freeze)]
    if trained:
        text = (
            f"featurizer {recipe.featurizer.use!r} is trained ({trained[0]}{', ...' * (len(trained) > 1)}), so its "
            f'features change from step to step; freeze it, with train.freeze = ["featurizer"], {remedy}'
        )
        problems.append(Problem("train.extracted", text))


def make_optimizer(recipe: Recipe, groups: Sequence[dict[str, Any]]) -> Optimizer:
    """The optimizer over ready groups."""
    optimizer: Optimizer = recipe.optimizer.component.obj(groups, **recipe.optimizer.options)
    return optimizer


def make_scheduler(
    recipe: Recipe, optimizer: Optimizer, steps: int, steps_per_epoch: int
) -> tuple[LRScheduler, Literal["step", "epoch"]]:
    """The scheduler, and whether it is stepped after each step or each epoch."""
    function = recipe.scheduler.component.obj
    scheduler = function(optimizer, steps, steps_per_epoch, **recipe.scheduler.options)
    return scheduler, getattr(scheduler, "every", getattr(function, "every", "step"))
