"""The only place that creates components and connects them.

Every `ValueError` of a constructor is collected under its table's path, and a silent batch is sent through the network,
so that two components whose shapes do not match are named before any sound is read.
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

from soundbench import limits
from soundbench.contracts import KINDS, Augmentation, Calibration, Dataset, Loss, Reject
from soundbench.data.clips import class_names
from soundbench.errors import BrokenPlugin, DataError, Problem, RecipeError, SoundbenchError
from soundbench.messages import out_of_memory, show, with_article
from soundbench.model.bounds import made_within_bounds
from soundbench.model.folder import ASSETS
from soundbench.model.network import Head, Network, by_length, refuse_output, with_attributes
from soundbench.model.rejecting.left_out import without
from soundbench.model.weights import unknown_part
from soundbench.recipe import ComponentSpec, Model, Recipe
from soundbench.recipe.catalogue import check_kind
from soundbench.recipe.entry_points import import_failure
from soundbench.recipe.registry import Registry
from soundbench.recipe.source_code import place_of
from soundbench.recipe.structuring import problems_of

__all__ = [
    "Assembly",
    "Placed",
    "assemble",
    "create",
    "make_calibration",
    "make_component",
    "make_dataset",
    "make_loss",
    "make_network",
    "make_optimizer",
    "make_reject",
    "make_scheduler",
]

Placed = list[tuple[str, Augmentation]]

# The number of classes that is assumed while looking for a recipe's other mistakes.
_ASSUMED = 10


@attrs.frozen
class Assembly:
    """The components of a recipe.

    Attributes:
        dataset: it has read nothing yet but the names of its classes.
        classes: how many classes there are.
        network: from featurizer to head.
        loss: it also turns logits into scores.
        calibration: fitted after training.
        on_waveform: augmentations of waveforms, each with its place in the recipe.
        on_features: augmentations of features, each with its place in the recipe.
    """

    dataset: Dataset
    classes: int
    network: Network
    loss: Loss
    calibration: Calibration
    on_waveform: Placed
    on_features: Placed

    def prepare(self, recipe: Recipe) -> None:
        """Let the augmentations that need files read them.

        Args:
            recipe: the recipe that names these components.

        Raises:
            DataError: a file does not exist or cannot be used; the message names the augmentation.
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
    """Create a component; None if its constructor refuses its options, which is added to `problems` under `key`."""
    component = spec.component
    try:
        return with_attributes(spec.kind, made_within_bounds(component.obj, supplied, spec.options))
    except (ValueError, OverflowError) as error:
        problems.extend(problems_of(error, key, [field.name for field in attrs.fields(component.options)]))
    except SoundbenchError:
        raise
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise _broken(key, spec, error) from error
        problems.append(Problem(key, "needs more memory than this machine has; lower its options"))
    except ImportError as error:
        raise import_failure(f"{spec.kind} {spec.use!r}", error, component.obj.__module__) from error
    except Exception as error:
        raise _broken(key, spec, error) from error
    return None


def create(kind: str, use: str | Callable[..., Any], /, **options: Any) -> Any:
    """Make a component by its kind and name.

        backbone = soundbench.create("backbone", "campplus", bands=80, growth=16)

    Args:
        kind: such as `backbone`.
        use: as in a recipe: `name`, `distribution/name`, `./file.py:Name`, or the class itself.
        **options: what the framework supplies to components of this kind, such as `bands`, and the component's options.

    Raises:
        CallError: there is no such kind, or an option is missing, unknown or out of range; all of them at once.
        PluginError: there is no such component, or it cannot be used.
    """
    check_kind(str(kind))
    component, supplied = Registry().get(kind, use), KINDS[kind].supplied
    needs = f"is missing; {with_article(kind)} needs {', '.join(supplied)}"
    problems = [Problem(f"{kind}.{name}", needs) for name in supplied if name not in options]
    table = {name: value for name, value in options.items() if name not in supplied}
    checked, faults = component.structure(table, kind)
    problems += faults
    if not problems:
        spec = ComponentSpec(kind, component.name, checked, component)
        made = make_component(problems, kind, spec, *(options[name] for name in supplied))
    if problems:
        raise RecipeError("create", problems)
    return made


def _broken(key: str, spec: ComponentSpec, error: Exception) -> BrokenPlugin:
    whose = f"{spec.kind} {spec.use!r} of {spec.component.distribution or spec.component.source}"
    place = place_of(error, spec.component.obj.__module__)
    return BrokenPlugin(f"{key}: creating {whose} raised {type(error).__name__}: {error}{place}")


def make_dataset(recipe: Recipe) -> Dataset:
    """Create only the dataset of a recipe. It reads nothing yet.

    Raises:
        RecipeError: an option is out of range.
    """
    problems: list[Problem] = []
    dataset: Dataset = make_component(problems, "dataset", recipe.dataset)
    if problems:
        raise RecipeError(recipe.source, problems)
    return without(dataset, recipe.reject.own.leave_out)


def assemble(recipe: Recipe, assumed: int | None = None) -> Assembly:
    """Create dataset, network, loss and augmentations of a recipe, seeded by `train.seed`.

    Args:
        recipe: resolved.
        assumed: the number of classes to assume if the dataset cannot name them because its files do not exist.

    Raises:
        RecipeError: options out of range, all of them at once; or two components whose shapes do not match.
        DataError: the dataset cannot name its classes, and `assumed` is None.
    """
    problems: list[Problem] = []
    torch.manual_seed(recipe.train.seed)
    dataset = make_component(problems, "dataset", recipe.dataset)
    dataset = dataset and without(dataset, recipe.reject.own.leave_out)
    classes, unnamed = _classes(problems, dataset, assumed or _ASSUMED)
    network, loss = _network(problems, recipe, classes)
    calibration = make_component(problems, "calibration", recipe.calibration, classes)
    make_component(problems, "reject", recipe.reject, classes)
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
    if unnamed is not None and assumed is None:
        raise unnamed
    _probe(recipe, network, classes, recipe.source)
    return Assembly(dataset, classes, network, loss, calibration, on_waveform, on_features)


def make_loss(spec: ComponentSpec, classes: int, source: str) -> Loss:
    """Create a loss alone, for its scores; arguments and errors as of `make_calibration`."""
    loss: Loss = _alone(spec, classes, source)
    return loss


def make_calibration(spec: ComponentSpec, classes: int, source: str) -> Calibration:
    """Create a calibration with its fitted options.

    Args:
        spec: the component with its options.
        classes: how many classes there are.
        source: the name of the recipe or model in messages.

    Raises:
        RecipeError: an option is out of range.
    """
    calibration: Calibration = _alone(spec, classes, source)
    return calibration


def make_reject(spec: ComponentSpec, classes: int, source: str) -> Reject:
    """Create what gives reject scores, not fitted yet; arguments and errors as of `make_calibration`."""
    reject: Reject = _alone(spec, classes, source)
    return reject


def _alone(spec: ComponentSpec, classes: int, source: str) -> Any:
    """A component that needs no other."""
    problems: list[Problem] = []
    made = make_component(problems, spec.kind, spec, classes)
    if problems:
        raise RecipeError(source, problems)
    return made


def _classes(problems: list[Problem], dataset: Dataset | None, assumed: int) -> tuple[int, DataError | None]:
    """How many classes there are; or the assumed number, and the error that says why they are not known."""
    if dataset is None:
        return assumed, None
    try:
        classes = class_names(dataset)
    except DataError as error:
        return assumed, error
    if len(classes) == 1 and not dataset.multilabel:
        text = f"has only one class, {show(classes[0])}; at least two are needed"
        problems.append(Problem("dataset", text))
    return len(classes), None


def make_network(model: Model, source: str, folder: Path | None = None) -> tuple[Network, Loss]:
    """Create the network and loss that a `model.toml` describes, with weights not loaded yet.

    Args:
        model: the content of `model.toml`.
        source: its name in messages.
        folder: of the model, with the files that featurizer and backbone wrote when it was saved.
    """
    problems: list[Problem] = []
    if folder is not None:
        model = attrs.evolve(
            model,
            featurizer=_from_assets(model.featurizer, folder),
            backbone=_from_assets(model.backbone, folder),
        )
    network, loss = _network(problems, model, len(model.classes))
    if problems or network is None or loss is None:
        raise RecipeError(source, problems)
    return network, loss


def _from_assets(spec: ComponentSpec, folder: Path) -> ComponentSpec:
    """A component that is created from its files in the model's folder, if it can be."""
    remake = getattr(spec.component.obj, "from_assets", None)
    if remake is None:
        return spec
    remake = functools.partial(remake, folder / ASSETS[spec.kind])
    return attrs.evolve(spec, component=attrs.evolve(spec.component, obj=remake))


def _network(problems: list[Problem], of: Recipe | Model, classes: int) -> tuple[Network | None, Loss | None]:
    """The network and its loss; a component is only created if those before it could be."""
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
    try:
        options = attrs.asdict(of.head) | {"classifier": loss.classifier}
        head = made_within_bounds(Head, (pooling.features, classes), options)
    except ValueError as error:
        problems.append(Problem("head", str(error)))
        return None, loss
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        problems.append(Problem("head", "needs more memory than this machine has; lower head.embedding"))
        return None, loss
    return Network(featurizer, backbone, pooling, head), loss


def _probe(of: Recipe, network: Network, classes: int, source: str) -> None:
    """Send a silent batch through the network; name the two components whose shapes do not match."""
    samples = min(of.audio.window_samples, limits.PROBE * of.audio.rate)
    lengths = torch.tensor([samples, max(1, samples // 2)])
    data = torch.zeros(2, samples)
    stages: list[tuple[str, ComponentSpec | None, Callable[..., Any], int | None]] = [
        ("featurizer", of.featurizer, network.features, network.featurizer.bands),
        ("backbone", of.backbone, functools.partial(by_length, network.backbone), network.backbone.channels),
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
            if key in ("featurizer", "backbone"):
                refuse_output(out)
        except Exception as error:
            full = "it needs more memory than this machine has"
            said = full if out_of_memory(error) else " ".join(str(error).split())
            place = place_of(error, spec.component.obj.__module__) if spec else ""
            text = f"{name} cannot process the output of {before}, {tuple(data.shape)}: {said}{place}"
            raise RecipeError(source, [Problem(key, text)]) from error
        data, lengths = out if isinstance(out, tuple) else (out, lengths)
        if data.shape[1] != wanted:
            size = {"featurizer": "bands", "backbone": "channels", "pooling": "features", "head": "classes"}[key]
            problem = Problem(key, f"{name} declares {wanted} {size}, but gives {data.shape[1]}: {tuple(data.shape)}")
            raise RecipeError(source, [problem])
        before = name
    network.train()


def _try_optimizer(problems: list[Problem], recipe: Recipe) -> None:
    """Create optimizer and scheduler for a dummy parameter, to find options that they refuse."""
    toy = [{"params": [nn.Parameter(torch.zeros(2, 2))]}]
    optimizer = make_component(problems, "optimizer", recipe.optimizer, toy)
    if optimizer is not None:
        make_component(problems, "scheduler", recipe.scheduler, optimizer, 10, 5)


def _name_parts(problems: list[Problem], recipe: Recipe, network: Network | None) -> None:
    """Check the names of the network's parts in `freeze` and `rates`, and that something is left to train."""
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
    """Refuse what extracted features do not allow: augmentations of waveforms, and a featurizer that is trained."""
    remedy = "or compute features during training, with train.extracted = false"
    for number, spec in enumerate(recipe.augmentation):
        if spec.component.obj.on == "waveform":  # type: ignore[attr-defined]
            text = f"{spec.use!r} changes waveforms, but features are extracted before training; remove it, {remedy}"
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
    """Create the optimizer for parameter groups."""
    optimizer: Optimizer = recipe.optimizer.component.obj(groups, **recipe.optimizer.options)
    return optimizer


def make_scheduler(
    recipe: Recipe, optimizer: Optimizer, steps: int, steps_per_epoch: int
) -> tuple[LRScheduler, Literal["step", "epoch"]]:
    """Create the scheduler; also gives whether it is stepped after each step or each epoch."""
    function = recipe.scheduler.component.obj
    scheduler = function(optimizer, steps, steps_per_epoch, **recipe.scheduler.options)
    return scheduler, getattr(scheduler, "every", getattr(function, "every", "step"))
