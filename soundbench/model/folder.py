"""The model folder, `model.toml` and `weights.safetensors`: written as a whole, read without executing any code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import tomli_w
from safetensors import SafetensorError
from torch import nn

from soundbench import files, limits
from soundbench.errors import RunError
from soundbench.recipe import toml

__all__ = ["load_weights", "read_model_tables", "save_model"]


def save_model(folder: Path, tables: Mapping[str, Any], network: nn.Module) -> None:
    """Write `model.toml` and `weights.safetensors`: all that scoring needs."""
    folder.mkdir(parents=True, exist_ok=True)
    files.refuse_full(folder / "weights.safetensors", sum(tensor.nbytes for tensor in network.state_dict().values()))
    with files.atomic(folder / "weights.safetensors") as part:
        safetensors.torch.save_model(network, str(part), force_contiguous=True)
    files.write_text(folder / "model.toml", tomli_w.dumps(dict(tables)))


def read_model_tables(folder: Path) -> dict[str, Any]:
    """The content of `model.toml`.

    Raises:
        RunError: it does not exist, or is not TOML.
    """
    path = folder / "model.toml"
    try:
        return toml.parse(files.read_bytes(path, limits.TEXT))
    except FileNotFoundError:
        raise RunError(f"{folder}: no model here: model.toml is missing") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RunError(f"{path}: damaged: {error}") from None


def load_weights(folder: Path, network: nn.Module, classes: int) -> None:
    """Load the weights of a model folder into a network.

    Raises:
        RunError: the weights are missing, damaged, or do not fit the network that `model.toml` describes.
    """
    path = folder / "weights.safetensors"
    try:
        files.open_regular(path).close()  # safetensors reports a file without read permission as missing
        weights = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise RunError(f"{folder}: no model here: weights.safetensors is missing") from None
    except OSError as error:
        raise RunError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except SafetensorError as error:
        raise RunError(f"{path}: damaged: {error}") from None
    last = weights.get("head.classify.weight")
    if last is not None and len(last) != classes:
        raise RunError(f"{folder}: model.toml names {classes} classes, but the weights have {len(last)}")
    wanted = network.state_dict()
    others = [name for name in weights if name in wanted and weights[name].shape != wanted[name].shape]
    if others:
        name, more = others[0], len(others) - 1
        raise RunError(
            f"{path}: the weights do not fit model.toml: {name} has the shape {tuple(weights[name].shape)}, "
            f"not {tuple(wanted[name].shape)}; {more} more differ"
        )
    missing, unknown = safetensors.torch.load_model(network, path, strict=False)
    if missing or unknown:
        names = ", ".join(sorted([*missing, *unknown])[:5])
        raise RunError(
            f"{path}: the weights do not fit model.toml: {len(missing)} missing, {len(unknown)} unknown: {names}"
        )
