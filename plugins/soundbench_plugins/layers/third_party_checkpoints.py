"""Read the tensors of checkpoints of other programs without executing code, and rename them to soundbench's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from soundbench import files
from soundbench.errors import RunError

__all__ = ["read_tensors", "renamed"]


def read_tensors(path: Path, key: str = "") -> dict[str, Tensor]:
    """The tensors of a file of `torch.save`, by name.

    Args:
        path: the file. It may contain tensors, plain values and NumPy arrays; code is refused.
        key: the key of the tensors in the file's dictionary, if it has that key.

    Raises:
        RunError: the file is damaged, contains code, or no tensors.
    """
    try:
        files.refuse_compressed(path)
        with torch.serialization.safe_globals(_of_numpy()):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # torch raises several types for a damaged file, or one that contains code
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = f"it contains code, {code[1]}, which is not executed" if code else "it is damaged, or not a checkpoint"
        raise RunError(f"{path}: {why}") from error
    if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
        found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise RunError(f"{path}: not a state dict: it must contain only tensors by their names")
    return dict(found)


def _of_numpy() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """The functions that pickles of NumPy values call, by their old and new names; none of them executes code."""
    array = np.zeros(1)
    rebuild, scalar = array.__reduce__()[0], array[0].__reduce__()[0]
    assert callable(rebuild)
    assert callable(scalar)
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    kinds = [type(np.dtype(kind)) for kind in "?bhilBHILefd"]
    named = [(call, f"{module}.{call.__name__}") for module in modules for call in (rebuild, scalar)]
    return [*named, np.ndarray, np.dtype, *kinds]


def renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors renamed to the parameter names here; a name without a rule is kept, and later reported as left over.

    Args:
        tensors: tensors by the names of the other program.
        names: its module names, each with the name here. `#` is a number that it counts from one, `*` one that it
            counts from zero; the name here has a `#` for each of them, counted from zero.
    """
    rules = list(_rules(names))
    found = {}
    for name, tensor in tensors.items():
        module, _, what = name.rpartition(".")
        target = next((fill(match) for pattern, fill in rules if (match := pattern.fullmatch(module))), module)
        found[f"{target}.{what}"] = tensor
    return found


def _rules(names: Mapping[str, str]) -> Iterator[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]:
    for theirs, ours in names.items():
        pieces = re.split(r"([#*])", theirs)
        pattern = "".join(r"(\d+)" if piece in ("#", "*") else re.escape(piece) for piece in pieces)
        yield re.compile(pattern), _filled(ours, [piece == "#" for piece in pieces if piece in ("#", "*")])


def _filled(ours: str, from_one: list[bool]) -> Callable[[re.Match[str]], str]:
    def fill(found: re.Match[str]) -> str:
        numbers = iter([str(int(text) - one) for text, one in zip(found.groups(), from_one, strict=True)])
        return re.sub("#", lambda _: next(numbers), ours)

    return fill
