"""Import a model of another program: write a model folder, as a run does.

An importer reads the other program's files. Here the network that it describes is created, filled with all of its
tensors, and saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from soundbench import recipe as recipes
from soundbench.contracts import Imported
from soundbench.errors import BrokenPlugin, CallError, RecipeError, RunError, RunPlaceError, SoundbenchError
from soundbench.files import explain_os_errors
from soundbench.model import assembly
from soundbench.model import folder as model_folder
from soundbench.model.network import Network
from soundbench.recipe.registry import Component, Registry
from soundbench.recipe.structuring import problems_of

__all__ = ["ImportResult", "import_model"]

# How far a model's constant may be from the network's, relative to its largest value: other programs compute theirs in
# float32, too.
_NEAR = 1e-4

# Batch norm's count of its steps is used in training only; old programs do not save it.
_COUNTER = "num_batches_tracked"


@attrs.frozen
class ImportResult:
    """The result of an import.

    Attributes:
        folder: the model folder, for `soundbench infer` and `load`.
        classes: how many classes the model has.
        parameters: how many learnt numbers it has.
        notes: notes of the importer.
    """

    folder: Path
    classes: int
    parameters: int
    notes: Sequence[str]


def import_model(
    use: str,
    path: str | Path,
    out: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> ImportResult:
    """Make a model folder from another program's model.

    Args:
        use: the name of the importer.
        path: the other program's file or folder.
        out: the folder to write, new or empty; by default `imported/` and the model's name.
        options: the importer's options.
        registry: where components are found; None for those that are installed.

    Raises:
        CallError: the path does not exist, or an option is wrong or missing.
        RunError: the model cannot be used, its tensors are not those of the network, or the folder cannot be written.
        PluginError: the importer, or a component that it names, cannot be used.
    """
    registry = registry or Registry()
    component = registry.get("importer", use)
    path = Path(path)
    if not path.exists():
        raise CallError(f"{path}: no such file or folder")
    imported = _read(component, path, options or {})
    model = recipes.read_model(imported.tables, registry=registry, source=f"{path}, read by {use}")
    network, _ = assembly.make_network(model, str(path))
    _compare(path, network, imported.constants)
    fill(path, network, imported.weights)
    folder = _new(Path(out) if out is not None else Path("imported", imported.name))
    model_folder.save_model(
        folder, recipes.model_tables(model, model.classes, model.multilabel, model.thresholds), network
    )
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return ImportResult(folder, len(model.classes), parameters, imported.notes)


def _read(component: Component, path: Path, options: Mapping[str, Any]) -> Imported:
    """Read the path with the importer."""
    source = f"import {component.name}"
    values, problems = component.structure(options, "")
    if problems:
        raise RecipeError(source, problems)
    try:
        imported = component.obj(path, **values)
    except ValueError as error:
        problems = problems_of(error, "", [field.name for field in attrs.fields(component.options)])
        raise RecipeError(source, problems) from error
    except (SoundbenchError, OSError):
        raise
    except Exception as error:
        what = f"importer {component.name!r} of {component.distribution or component.source}"
        raise BrokenPlugin(f"{what} raised {type(error).__name__} on {path}: {error}") from error
    if not isinstance(imported, Imported):
        raise BrokenPlugin(f"importer {component.name!r} returned {type(imported).__name__}, not Imported")
    return imported


def _compare(path: Path, network: Network, constants: Mapping[str, Tensor]) -> None:
    """Refuse a model whose constants are not those that the network computes itself."""
    own = dict(network.named_buffers())
    for name, given in constants.items():
        if name not in own:
            raise RunError(f"{path}: the network has no constant {name}, which the model has")
        here = own[name].detach()
        if here.shape != given.shape:
            raise RunError(f"{path}: {name} has the shape {tuple(given.shape)}, the network's is {tuple(here.shape)}")
        apart = float((here - given).abs().max() / here.abs().max().clamp(min=torch.finfo(here.dtype).tiny))
        if not apart <= _NEAR:
            raise RunError(f"{path}: {name} differs from the network's by {apart:.2g} of its largest value")


def fill(path: Path, network: Network, weights: Mapping[str, Tensor]) -> None:
    """Fill each of a network's tensors with the one of the same name; none may be left over.

    Ones at the end of a shape do not count: a matrix and a convolution over one frame have the same numbers.

    Raises:
        RunError: tensors are missing, left over, or of another shape; the message names them.
    """
    own = network.state_dict()
    shared = [name for name in own if name in weights]
    wrong = [
        f"{name} has the shape {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
        for name in shared
        if _shape(weights[name]) != _shape(own[name])
    ]
    missing = [name for name in own if name not in weights and not name.endswith(_COUNTER)]
    over = [name for name in weights if name not in own]
    mismatches = [
        *([f"{len(missing)} missing: {_few(missing)}"] if missing else []),
        *([f"{len(over)} left over: {_few(over)}"] if over else []),
        *([f"{len(wrong)} of another shape: {_few(wrong)}"] if wrong else []),
    ]
    if mismatches:
        raise RunError(f"{path}: its tensors are not those of the network: {'; '.join(mismatches)}")
    infinite = [name for name in shared if not bool(torch.isfinite(weights[name]).all())]
    if infinite:
        raise RunError(f"{path}: NaN or infinity in {_few(infinite)}")
    network.load_state_dict({name: weights[name].reshape(own[name].shape) for name in shared}, strict=False)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape without the ones at its end."""
    sizes = list(tensor.shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _new(folder: Path) -> Path:
    """Create a folder, or use an empty one."""
    with explain_os_errors(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunPlaceError(f"{folder}: exists and is not empty; give another folder with --out")
        folder.mkdir(parents=True, exist_ok=True)
    return folder
