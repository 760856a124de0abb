"""The network's weights: initial weights from a file, frozen parts, learning rates of parts, and weight averaging."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from soundbench import files
from soundbench.data import digests
from soundbench.data.clips import normal
from soundbench.errors import PluginError, Problem, RecipeError, RunError, SoundbenchError
from soundbench.messages import nearest, show
from soundbench.model import folder as model_folder
from soundbench.model.named.names import bringing, model_path
from soundbench.model.network import Network
from soundbench.model.stored.reading import TABLES, WEIGHTS, missing
from soundbench.recipe import Recipe

__all__ = [
    "Average",
    "LoadedWeights",
    "freeze",
    "initialize",
    "load_matching",
    "parameter_groups",
    "place_of",
    "unknown_part",
]


# Batch norm's count of its steps, which nothing is computed from.
_COUNTER = "num_batches_tracked"

# The classifier, whose tensors have a row for each class.
_CLASSIFIER = "head.classify."

_RIGHT = "a run directory, a model folder, a .safetensors file or a dictionary of tensors by torch.save"


# -- initial weights from a file -----------------------------------------------------------------------------------


@attrs.frozen
class LoadedWeights:
    """The result of `load_matching`.

    Attributes:
        source: the file of the weights.
        loaded: the network's tensors that were loaded.
        left: the network's tensors that keep their random initial values, each with the reason.
        unused: the file's tensors that do not belong to the network.
        share: the share of the network's numbers that were loaded.
        rows: a line about the rows of the classifier, if there is something to say.
    """

    source: Path
    loaded: tuple[str, ...]
    left: Mapping[str, str]
    unused: tuple[str, ...]
    share: float
    rows: str = ""

    def lines(self) -> list[str]:
        """Lines for the log, with a warning if most of the network was not loaded."""
        whole = len(self.loaded) + len(self.left)
        lines = [f"init: {len(self.loaded)} of {whole} tensors are from {self.source}"]
        if self.share < 0.5:
            lines.append(
                f"WARNING: init: only {self.share:.1%} of the network's weights are from that file; "
                f"the other {1 - self.share:.1%} are random. Does the file belong to this architecture?"
            )
        if self.rows:
            lines.append(f"init: {self.rows}")
        if self.left:
            lines.append("init: not loaded: " + _few([f"{name} ({why})" for name, why in self.left.items()]))
        if self.unused:
            lines.append(f"init: in the file but not in the network: {_few(self.unused)}")
        return lines


def initialize(
    recipe: Recipe,
    network: nn.Module,
    classes: Sequence[str],
    say: Callable[[str], None],
    accept_changes: bool = False,
) -> None:
    """Load the weights that the recipe's `[init]` names, if any.

    Args:
        recipe: the recipe.
        network: its network, changed in place.
        classes: the names of its classes, in the order of its outputs.
        say: receives lines about what was loaded.
        accept_changes: whether they may have changed since soundbench wrote them.

    Raises:
        RecipeError: there are no weights, or none that fit, or they have changed since soundbench wrote them.
    """
    if recipe.init.from_ is None:
        return
    try:
        weights = load_matching(network, place_of(recipe.init.from_), classes, accept_changes)
    except SoundbenchError as error:
        installed = isinstance(error, PluginError)
        raise RecipeError(recipe.source, [Problem("init.from", str(error), installed)]) from error
    for line in weights.lines():
        say(line)


def place_of(source: Path | str) -> Path:
    """The place of the weights that `[init]` names; what is no path that is there may be an installed model.

    A recipe gives paths in full. One in the working directory may have been meant as a name.

    Raises:
        CallError: there is no model of this name.
        PluginError: it cannot be used.
    """
    beside = isinstance(source, Path) and source.parent == Path.cwd()
    return model_path(source.name if isinstance(source, Path) and beside else source)


def load_matching(
    network: nn.Module, source: Path, classes: Sequence[str] = (), accept_changes: bool = False
) -> LoadedWeights:
    """Load those weights of a file that match the network by name and shape; rows of the classifier by class.

    Args:
        network: changed in place.
        source: a run directory, a model folder, `weights.safetensors`, or a file of `torch.save` with a dictionary of
            tensors, such as a run's checkpoint.
        classes: the names of the network's classes. If a `model.toml` names those of the file, each row of the
            classifier is that of the class of the same name; classes that the file lacks begin anew. Otherwise the
            rows are taken in their order.
        accept_changes: whether weights may have changed since soundbench wrote them.

    Raises:
        RunError: there are no weights, the file is damaged or has changed since soundbench wrote it, or it belongs to
            another architecture: nothing in it fits the part of the network that has most weights, pooling and head not
            counted.
    """
    path = _weights_file(source)
    if not accept_changes:
        model_folder.check_weights(path)
    given = {name: tensor for name, tensor in _read(path).items() if not name.endswith(_COUNTER)}
    own = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_COUNTER)}
    theirs = _classes_of(path, accept_changes) if classes else ()
    known = tuple(name for name in classes if name in theirs)
    if theirs:
        given = {name: _by_class(name, tensor, own.get(name), classes, theirs) for name, tensor in given.items()}
    left = {name: _misfit(tensor, given.get(name)) for name, tensor in own.items()}
    if theirs and not known:
        left |= {name: "no class of the same name" for name in left if name.startswith(_CLASSIFIER)}
    loaded = [name for name, why in left.items() if not why]
    part = _main_part(network)
    if not any(name.startswith(f"{part}.") for name in loaded):
        wanted = [name for name, _ in network.named_parameters() if name.startswith(f"{part}.")]
        raise RunError(
            f"{path}: of another architecture: none of its {len(given)} tensors fits the network's {part}; "
            f"it has {_few(given)}; the network has {_few(wanted)}"
        )
    network.load_state_dict({name: given[name] for name in loaded}, strict=False)
    reasons = {name: why for name, why in left.items() if why}
    parts = {name: len(known) / len(classes) for name in own if theirs and name.startswith(_CLASSIFIER)}
    share = sum(own[name].numel() * parts.get(name, 1.0) for name in loaded) / sum(one.numel() for one in own.values())
    unused = tuple(name for name in given if name not in own)
    rows = _said_of_rows(classes, theirs, any(name.startswith(_CLASSIFIER) for name in loaded))
    return LoadedWeights(path, tuple(loaded), reasons, unused, share, rows)


def _classes_of(path: Path, accept_changes: bool) -> tuple[str, ...]:
    """The classes of a file of weights, by the `model.toml` of its folder or its run; none if there is none."""
    folder = path.parent.parent / "model" if path.parent.name == "checkpoints" else path.parent
    if not (folder / TABLES).exists():
        if bringing(folder):
            raise missing(folder, TABLES)
        return ()
    if not accept_changes:
        model_folder.check_tables(folder)
    named = model_folder.read_model_tables(folder).get("classes")
    return tuple(map(normal, named)) if isinstance(named, list) else ()


def _by_class(name: str, given: Tensor, own: Tensor | None, classes: Sequence[str], theirs: Sequence[str]) -> Tensor:
    """A tensor of the file; of the classifier, with the rows of the network's classes, and its own where none fits."""
    if not name.startswith(_CLASSIFIER) or own is None or given.shape[1:] != own.shape[1:]:
        return given
    if len(given) != len(theirs):
        raise RunError(f"model.toml beside the weights names {len(theirs)} classes, but {name} has {len(given)} rows")
    rows = own.clone()
    for place, label in enumerate(classes):
        if label in theirs:
            rows[place] = given[theirs.index(label)].to(rows)
    return rows


def _said_of_rows(classes: Sequence[str], theirs: Sequence[str], loaded: bool) -> str:
    """The line about which rows of the classifier were loaded; empty where each class has its own."""
    if not theirs:
        return "the file names no classes: the classifier's rows are taken in their order" if loaded and classes else ""
    anew = [name for name in classes if name not in theirs]
    if not loaded and len(anew) < len(classes):
        return ""
    if not anew:
        same = list(classes) == list(theirs)
        return "" if same else "the classifier's rows are matched by the names of the classes"
    matched = f"{len(classes) - len(anew)} of {len(classes)} classes have a row of the same name in the file"
    return f"{matched}; these begin anew: {_few(anew, 10)}"


def _main_part(network: nn.Module) -> str:
    """The part that identifies the architecture: featurizer or backbone, whichever has more weights.

    Poolings and heads of one size are in many networks; they count only if no other part has weights.
    """
    weights = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    others = {name: count for name, count in weights.items() if name not in ("pooling", "head") and count}
    return max(others or weights, key=weights.__getitem__)


def _misfit(wanted: Tensor, given: Tensor | None) -> str:
    if given is None:
        return "not in the file"
    return "" if given.shape == wanted.shape else f"{tuple(given.shape)} in the file, {tuple(wanted.shape)} needed"


def _weights_file(source: Path) -> Path:
    if not source.is_dir():
        return source
    for path in (source / WEIGHTS, source / "model" / WEIGHTS):
        if path.exists():
            return path
    if bringing(source):
        raise missing(source, WEIGHTS)
    raise RunError(f"{source}: not a run and not a model: it has no {WEIGHTS}")


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name."""
    try:
        files.refuse_compressed(path)
        if path.suffix == ".safetensors":
            weights: dict[str, Tensor] = safetensors.torch.load_file(path)
            return weights
        if digests.is_sealed(path) is False:
            raise RunError(f"{path}: damaged: it is not as soundbench wrote it")
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}") from None
    except RunError:
        raise
    except SafetensorError as error:
        raise RunError(f"{path}: damaged: {error}") from None
    except Exception as error:  # torch raises several types for a damaged file or one with code
        raise RunError(f"{path}: {_no_weights(path)}; give {_RIGHT}") from error
    found = found if isinstance(found, Mapping) else {}
    inside = [found.get(key) for key in ("average", "network", "model", "state_dict")]
    found = next((weights for weights in inside if isinstance(weights, Mapping) and weights), found)
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise RunError(f"{path}: has no tensors")
    return tensors


def _no_weights(path: Path) -> str:
    """What is wrong with a file that `torch.load` refuses, by its first bytes."""
    with files.open_regular(path) as file:
        first = file.read(4)
    if not first:
        return "an empty file"
    if first.startswith((b"PK", b"\x80")):  # an archive, as torch.save writes now, or a pickle, as it did before
        return "damaged, or with Python objects other than tensors, which are never executed"
    return "not a file of weights"


def _few(names: Sequence[str] | Mapping[str, Any], most: int = 4) -> str:
    shown = list(names)[:most]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


# -- frozen parts and learning rates -------------------------------------------------------------------------------


def unknown_part(network: nn.Module, name: str) -> str:
    """What is wrong with the name of a part of the network; empty if there is such a part with weights."""
    parts = [path for path, module in network.named_modules() if path and any(True for _ in module.parameters())]
    if name in parts:
        return ""
    top = [path for path in parts if "." not in path]
    return f"the network has no part {show(name)} with weights{nearest(name, parts) or ';'} it has {', '.join(top)}"


def freeze(network: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Exclude parts of a network from training. In evaluation mode, their batch norms do not change either."""
    frozen = [network.get_submodule(name) for name in names]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def parameter_groups(network: nn.Module, rates: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """The trained parameters, in groups for an optimizer: by learning rate, and weights apart from norms and biases,
    which have no weight decay.

    Args:
        network: the network.
        rates: the learning rates of parts, by their path; for a parameter in several, that of the innermost.
    """
    chosen: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            inside = [part for part in rates or () if name.startswith(f"{part}.")]
            chosen.setdefault(max(inside, key=len, default=""), []).append(parameter)
    return [group for part in sorted(chosen) for group in _decaying(chosen[part], (rates or {}).get(part))]


def _decaying(parameters: Sequence[nn.Parameter], rate: float | None) -> Iterator[dict[str, Any]]:
    own = {} if rate is None else {"lr": rate}
    weights = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    if weights:
        yield {"params": weights, **own}
    if others:
        yield {"params": others, "weight_decay": 0.0, **own}


# -- weight averaging ----------------------------------------------------------------------------------------------


class Average:
    """An average of a network's weights and running statistics over the steps of its training.

    Exponential (Polyak and Juditsky 1992, with the decay of Tarvainen and Valpola, NIPS 2017), or the mean of the last
    steps (Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018). Batch norm's
    statistics are averaged, too, while that paper computes them in another pass over the data.

    Args:
        network: the network, on its device.
        decay: the decay of the exponential average at each step; 0 for the mean.
        after: the step after which averaging begins.
    """

    def __init__(self, network: Network, decay: float, after: int) -> None:
        self.decay, self.after = decay, after
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        self.steps = 0

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Add the weights after `step` steps to the average, in a few operations for all of them together.

        That of `torch.optim.swa_utils` copies each counter of a batch norm apart, and its own count to the device.
        """
        if step <= self.after:
            return
        kept, new = self._tensors(self.averaged), self._tensors(network)
        first = self.steps == 0
        averages = [(old, value) for old, value in zip(kept, new, strict=True) if old.is_floating_point() and not first]
        copies = [(old, value) for old, value in zip(kept, new, strict=True) if not old.is_floating_point() or first]
        if averages:
            olds, values = map(list, zip(*averages, strict=True))
            if self.decay:
                torch._foreach_lerp_(olds, values, 1 - self.decay)
            else:
                changes = torch._foreach_sub(values, olds)
                torch._foreach_div_(changes, self.steps + 1)
                torch._foreach_add_(olds, changes)
        if copies:
            torch._foreach_copy_([old for old, _ in copies], [value for _, value in copies])
        self.steps += 1

    @staticmethod
    def _tensors(network: Network) -> list[Tensor]:
        return [tensor.detach() for tensor in (*network.parameters(), *network.buffers())]

    @property
    def network(self) -> Network | None:
        """The averaged network; None before averaging begins."""
        return self.averaged if self.steps else None

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint; empty before averaging begins."""
        network = self.network
        return {} if network is None else network.state_dict()

    def restore(self, weights: Mapping[str, Any], step: int) -> None:
        """Restore a `state` that was saved after `step` steps."""
        if weights:
            self.averaged.load_state_dict(weights)
            self.steps = step - self.after
