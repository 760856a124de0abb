"""The network's weights: where they begin, which are trained and at what rate, and their average that is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from soundbench.errors import Problem, RecipeError, RunError
from soundbench.messages import nearest, show
from soundbench.model.network import Network
from soundbench.recipe import Recipe

__all__ = ["Average", "Taken", "freeze", "parameter_groups", "take", "unknown_part"]


# Batch norm's count of its steps: nothing is computed from it.
_COUNTER = "num_batches_tracked"

_RIGHT = "a run directory, a model folder, a .safetensors file or a dictionary of tensors by torch.save"


# -- where they begin ----------------------------------------------------------------------------------------------


@attrs.frozen
class Taken:
    """What `take` did.

    Attributes:
        source: the file that the weights came from.
        kept: the network's tensors that were filled.
        left: the network's tensors that stay as drawn, each with the reason.
        unused: the file's tensors that the network has no place for.
        share: of the network's numbers, those that were filled.
    """

    source: Path
    kept: tuple[str, ...]
    left: Mapping[str, str]
    unused: tuple[str, ...]
    share: float

    def lines(self) -> list[str]:
        """What a log should say of it; loudly where most of the network begins by chance."""
        whole = len(self.kept) + len(self.left)
        said = [f"init: {len(self.kept)} of {whole} tensors are from {self.source}"]
        if self.share < 0.5:
            said.append(
                f"WARNING: init: only {self.share:.1%} of the network's weights are from that file; "
                f"the other {1 - self.share:.1%} begin by chance. Is it a file of this architecture?"
            )
        if self.left:
            said.append("init: left as drawn: " + _few([f"{name} ({why})" for name, why in self.left.items()]))
        if self.unused:
            said.append(f"init: not used of the file: {_few(self.unused)}")
        return said


def initialize(recipe: Recipe, network: nn.Module, say: Callable[[str], None]) -> None:
    """Begin with the weights that the recipe's `[init]` names.

    Raises:
        RecipeError: there are none, or none that fits.
    """
    if recipe.init.from_ is None:
        return
    try:
        taken = take(network, recipe.init.from_)
    except RunError as error:
        raise RecipeError(recipe.source, [Problem("init.from", str(error))]) from error
    for line in taken.lines():
        say(line)


def take(network: nn.Module, source: Path) -> Taken:
    """Fill a network with what fits it, by name and shape, of the weights in a file.

    Args:
        network: changed in place.
        source: a run directory, a model folder, `weights.safetensors`, or a file of `torch.save` with a dictionary of
            tensors, such as a run's checkpoint.

    Raises:
        RunError: no weights there, a damaged file, or one of another architecture: nothing in it fits the part of the
            network, pooling and head aside, that most weights are in.
    """
    path = _weights_file(source)
    given = {name: tensor for name, tensor in _read(path).items() if not name.endswith(_COUNTER)}
    own = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_COUNTER)}
    left = {name: _misfit(tensor, given.get(name)) for name, tensor in own.items()}
    kept = [name for name, why in left.items() if not why]
    part = _hearing(network)
    if not any(name.startswith(f"{part}.") for name in kept):
        wanted = [name for name, _ in network.named_parameters() if name.startswith(f"{part}.")]
        raise RunError(
            f"{path}: of another architecture: none of its {len(given)} tensors fits the network's {part}; "
            f"it has {_few(given)}; the network wants {_few(wanted)}"
        )
    network.load_state_dict({name: given[name] for name in kept}, strict=False)
    reasons = {name: why for name, why in left.items() if why}
    share = sum(own[name].numel() for name in kept) / sum(tensor.numel() for tensor in own.values())
    return Taken(path, tuple(kept), reasons, tuple(name for name in given if name not in own), share)


def _hearing(network: nn.Module) -> str:
    """The part of a network that an architecture is known by: the one with most weights, featurizer or backbone.

    Poolings and heads of one size are in many networks, and may be most of one; they count where nothing else learns.
    """
    weights = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    others = {name: count for name, count in weights.items() if name not in ("pooling", "head") and count}
    return max(others or weights, key=weights.__getitem__)


def _misfit(wanted: Tensor, given: Tensor | None) -> str:
    if given is None:
        return "not in the file"
    return "" if given.shape == wanted.shape else f"{tuple(given.shape)} in the file, {tuple(wanted.shape)} wanted"


def _weights_file(source: Path) -> Path:
    if not source.is_dir():
        return source
    for path in (source / "weights.safetensors", source / "model" / "weights.safetensors"):
        if path.exists():
            return path
    raise RunError(f"{source}: no run and no model: there is no weights.safetensors in it")


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name."""
    try:
        path.open("rb").close()
        if path.suffix == ".safetensors":
            weights: dict[str, Tensor] = safetensors.torch.load_file(path)
            return weights
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise RunError(f"{path}: damaged: {error}") from None
    except Exception as error:  # torch raises half a dozen kinds for a damaged file, and for one that holds code
        raise RunError(f"{path}: {_no_weights(path)}; {_RIGHT} would be right") from error
    found = found if isinstance(found, Mapping) else {}
    inside = [found.get(key) for key in ("average", "network", "model", "state_dict")]
    found = next((weights for weights in inside if isinstance(weights, Mapping) and weights), found)
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise RunError(f"{path}: there are no tensors in it")
    return tensors


def _no_weights(path: Path) -> str:
    """What a file is that `torch.load` does not take, by its first bytes."""
    with path.open("rb") as file:
        first = file.read(4)
    if not first:
        return "an empty file, with no weights in it"
    if first.startswith((b"PK", b"\x80")):  # an archive, as torch.save writes them now, or a bare pickle, as it did
        return "damaged, or it holds other Python objects than tensors, which are never executed"
    return "no file of weights"


def _few(names: Sequence[str] | Mapping[str, Any]) -> str:
    shown = list(names)[:4]
    return ", ".join(shown) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


# -- which are trained, and at what rate ---------------------------------------------------------------------------


def unknown_part(network: nn.Module, name: str) -> str:
    """What is wrong with the name of a part of the network; empty where there is such a part with weights."""
    parts = [path for path, module in network.named_modules() if path and any(True for _ in module.parameters())]
    if name in parts:
        return ""
    top = [path for path in parts if "." not in path]
    return f"no part {show(name)} with weights in the network{nearest(name, parts) or ';'} there are {', '.join(top)}"


def freeze(network: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Take parts of a network out of training; kept in evaluation mode too, their batch norms do not learn either."""
    frozen = [network.get_submodule(name) for name in names]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def parameter_groups(network: nn.Module, rates: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """The trained parameters for an optimizer, in groups: those of a part with a rate of its own apart, and of each
    the weights that decay, then norms and biases, which do not.

    Args:
        network: whose parameters.
        rates: the learning rate of parts, by their path; of a parameter in several, the innermost counts.
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


# -- their average -------------------------------------------------------------------------------------------------


class Average:
    """An average of a network's weights and running statistics over the steps of its training.

    Exponential (Polyak and Juditsky 1992, with the decay of Tarvainen and Valpola, NIPS 2017), or the mean of the last
    steps (Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018); batch norm's
    statistics are averaged along, where that paper goes through the data once more.

    Args:
        network: as it is on its device.
        decay: of each step; 0 for the mean.
        after: the step after which averaging begins.
    """

    def __init__(self, network: Network, decay: float, after: int) -> None:
        function = get_ema_multi_avg_fn(decay) if decay else None  # type: ignore[no-untyped-call]
        self.model = AveragedModel(network, multi_avg_fn=function, use_buffers=True)
        self.after = after

    def update(self, network: Network, step: int) -> None:
        """Take in the weights after `step` steps."""
        if step > self.after:
            self.model.update_parameters(network)

    @property
    def network(self) -> Network | None:
        """The averaged network; None before averaging began."""
        averaged = self.model.module
        assert isinstance(averaged, Network)
        return averaged if int(self.model.n_averaged) else None

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; empty before averaging began."""
        network = self.network
        return {} if network is None else network.state_dict()

    def restore(self, weights: Mapping[str, Any], step: int) -> None:
        """Bring back what `state` gave after `step` steps."""
        if weights:
            self.model.module.load_state_dict(weights)
            self.model.n_averaged.fill_(step - self.after)
