"""The model folder: `model.toml` and `weights.safetensors`, written as a whole, read without executing any code.

`digests.json` beside them has the digest of each file that scores depend on, `code/` and `assets/` included. They are
checked whenever the model is loaded: one that is not as it was written is refused, until a user accepts it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import safetensors.torch
import tomli_w
from safetensors import SafetensorError
from torch import Tensor, nn

from soundbench import files
from soundbench.data import digests
from soundbench.errors import RunError
from soundbench.model.exported.metadata import Metadata
from soundbench.model.exported.onnx_file import read_onnx
from soundbench.model.named.names import bringing
from soundbench.model.network import Network
from soundbench.model.rejecting.rejector import fill
from soundbench.model.stored.reading import (
    DIGESTS,
    TABLES,
    WEIGHTS,
    known_digests,
    missing,
    parsed,
    read,
    read_tables,
    refuse,
)

__all__ = [
    "ASSETS",
    "MARKED",
    "StoredModel",
    "accept",
    "check",
    "check_tables",
    "check_weights",
    "load_weights",
    "load_reject",
    "open_model",
    "read_model_tables",
    "save_model",
    "save_thresholds",
    "scores_digest",
]

MARKED = "thresholds.csv"
"""How the thresholds of the classes came about, where they are from a person's marks."""

ASSETS = {"featurizer": "assets", "backbone": "assets/backbone"}
"""Where the files are that a part of the network is created from again."""

_REJECT = "reject.safetensors"  # what a component that rejects sound was fitted to, if it is fitted to anything

# Writing --------------------------------------------------------------------------------------------------------------


def save_model(
    folder: Path, tables: Mapping[str, Any], network: Network, reject: Mapping[str, Tensor] | None = None
) -> dict[str, str]:
    """Write all that scoring needs but the code; returns the digest of each file.

    `reject` has the tensors of what rejects sound, if it has any.

    While files are replaced, `digests.json` has the digests of the old and of the new ones, so that the model can be
    loaded at any time, also after a kill.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _before(folder)
    _write_assets(folder, network, before)
    text = tomli_w.dumps(dict(tables)).encode("utf-8", "backslashreplace")  # as `files` writes text
    fitted = safetensors.torch.save(dict(reject)) if reject else None
    files.refuse_full(folder / WEIGHTS, sum(tensor.nbytes for tensor in network.state_dict().values()))
    with files.atomic(folder / WEIGHTS) as part:
        safetensors.torch.save_model(network, str(part), force_contiguous=True)
        now = {TABLES: digests.of_bytes(text), WEIGHTS: digests.of_file(part), **_of_others(folder)}
        now |= {_REJECT: digests.of_bytes(fitted)} if fitted else {}
        both = {name: [*before.get(name, ()), digest] for name, digest in now.items()}
        digests.write_table(folder / DIGESTS, both)
    if fitted:
        files.write_bytes(folder / _REJECT, fitted)
    files.write_bytes(folder / TABLES, text)
    digests.write_table(folder / DIGESTS, {name: [digest] for name, digest in now.items()})
    return now


def save_thresholds(folder: Path, thresholds: Sequence[float]) -> None:
    """Replace the thresholds in `model.toml` and its digest; all else stays as it is.

    Raises:
        RunError: there is no model, a package brings it, or it cannot be written.
    """
    if brought := bringing(folder):
        raise RunError(f"{folder}: is part of {brought.origin}, and stays as it is; copy the folder, and give the copy")
    tables = read_model_tables(folder) | {"thresholds": [float(value) for value in thresholds]}
    text = tomli_w.dumps(tables).encode("utf-8", "backslashreplace")
    before, now = _before(folder), digests.of_bytes(text)
    digests.write_table(folder / DIGESTS, {**before, TABLES: [*before.get(TABLES, ()), now]})
    files.write_bytes(folder / TABLES, text)
    digests.write_table(folder / DIGESTS, {**before, TABLES: [now]})


def scores_digest(folder: Path) -> str:
    """A digest of what scores depend on: the weights, and `model.toml` without its thresholds.

    Raises:
        RunError: there is no model, or it cannot be read.
    """
    tables = {name: value for name, value in read_model_tables(folder).items() if name != "thresholds"}
    with files.explain_os_errors(folder / WEIGHTS):
        weights = digests.of_file(folder / WEIGHTS)
    return digests.of_bytes(json.dumps([tables, weights], sort_keys=True, default=str).encode())


def _before(folder: Path) -> digests.Table:
    """The digests of the model that is replaced; none if they cannot be read."""
    try:
        return digests.read_table(folder / DIGESTS) or {}
    except RunError:
        return {}


def _write_assets(folder: Path, network: Network, before: digests.Table) -> None:
    """Let featurizer and backbone write the files that they are created from again, unless they are there."""
    for part, place in ASSETS.items():
        write = getattr(network.get_submodule(part), "assets", None)
        known = {name: digest for name, digest in before.items() if name.startswith(f"{place}/")}
        if write is not None and (not known or digests.changed(folder, known)):
            (folder / place).mkdir(parents=True, exist_ok=True)
            write(folder / place)


def _of_others(folder: Path) -> dict[str, str]:
    """The digests of code and assets."""
    found = [path for inside in ("code", "assets") for path in sorted((folder / inside).rglob("*")) if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): digests.of_file(path) for path in found if not path.name.startswith(".")
    }


# Reading --------------------------------------------------------------------------------------------------------------


def open_model(folder: Path, accept_changes: bool = False) -> StoredModel:
    """Read the tables of a model and check them, its code and its assets; its weights are checked meanwhile.

    Args:
        folder: the model folder.
        accept_changes: whether files may have changed since soundbench wrote them; their digests are then replaced.

    Raises:
        RunError: there is no model, or a file has changed; one message names all.
    """
    data = read(folder)
    if not (folder / DIGESTS).exists():
        parsed(folder, data)  # what is no model at all has no need of digests
    known = known_digests(folder, accept_changes)
    others = {name: digest for name, digest in known.items() if name not in (TABLES, WEIGHTS)}
    wrong = digests.changed(folder, others)
    if digests.of_bytes(data) not in [*known.get(TABLES, ()), *_again(folder, TABLES)]:
        wrong.insert(0, TABLES)
    if not accept_changes:
        refuse(folder, wrong)
    pool = ThreadPoolExecutor(1)
    digest = pool.submit(digests.of_file, folder / WEIGHTS)
    pool.shutdown(wait=False)
    return StoredModel(folder, parsed(folder, data), known, digest, accept_changes, bool(wrong))


@attrs.frozen(eq=False)
class StoredModel:
    """A model on disk, whose weights are not loaded yet.

    Attributes:
        folder: the model folder.
        tables: the content of `model.toml`.
        known: the digests that its files may have.
        digest: that of the weights, which is being computed.
        accept_changes: whether files may have changed.
        wrong: whether a file other than the weights has.
    """

    folder: Path
    tables: dict[str, Any]
    known: digests.Table
    digest: Future[str]
    accept_changes: bool
    wrong: bool

    def fill(self, network: nn.Module, classes: int) -> None:
        """Load the weights into a network.

        Raises:
            RunError: the weights are missing, damaged, or do not fit the network that `model.toml` describes.
        """
        wrong = self.wrong
        try:
            digest = self.digest.result()
        except OSError:  # `load_weights` will say why
            digest = ""
        if digest not in [*self.known.get(WEIGHTS, ()), *_again(self.folder, WEIGHTS)]:
            wrong = True
            if digest and not self.accept_changes:
                refuse(self.folder, [WEIGHTS])
        load_weights(self.folder, network, classes)
        if wrong:
            accept(self.folder)


def check(folder: Path) -> list[str]:
    """The files of a model that are missing or have changed; `digests.json` if it is itself missing or damaged."""
    try:
        known = digests.read_table(folder / DIGESTS)
    except RunError:
        known = None
    if known is None:
        return [DIGESTS]
    return digests.changed(folder, {TABLES: [], WEIGHTS: [], **known})


def check_weights(path: Path) -> None:
    """Check weights that are used without their model; those that are in no model folder have no digest.

    Raises:
        RunError: they have changed since soundbench wrote them, or the folder's digests are lost.
    """
    folder = path.parent
    if path.name == WEIGHTS and any((folder / name).exists() for name in (TABLES, DIGESTS)):
        _check_one(folder, WEIGHTS)


def check_tables(folder: Path) -> None:
    """Check `model.toml` where it is used without its weights.

    Raises:
        RunError: it has changed since soundbench wrote it, or the folder's digests are lost.
    """
    _check_one(folder, TABLES)


def _check_one(folder: Path, name: str) -> None:
    refuse(folder, digests.changed(folder, {name: known_digests(folder, False).get(name, [])}))


def read_model_tables(folder: Path) -> dict[str, Any]:
    """The content of `model.toml`, unchecked; of an ONNX file, the same from its metadata.

    Raises:
        RunError: it does not exist, or is not TOML.
    """
    if folder.is_file():
        return Metadata.of(read_onnx(folder)[1], str(folder)).tables
    return read_tables(folder)


def _again(folder: Path, name: str) -> list[str]:
    """The digests that a file may have now: a run may have written a better model since they were first read."""
    return _before(folder).get(name, [])


def accept(folder: Path) -> None:
    """Replace the digests by those of the files as they are, unless the folder is read-only or part of a package."""
    if bringing(folder):
        return
    names = [TABLES, WEIGHTS, *([_REJECT] if (folder / _REJECT).exists() else []), *_of_others(folder)]
    with suppress(RunError):
        digests.write_table(folder / DIGESTS, digests.table_of(folder, names))


def load_reject(folder: Path, module: nn.Module) -> None:
    """Give a component that rejects sound what it was fitted to; nothing where it is fitted to nothing.

    Raises:
        RunError: the file is missing or damaged.
    """
    if not module.state_dict():
        return
    path = folder / _REJECT
    fill(module, _tensors(path), str(path))


def load_weights(folder: Path, network: nn.Module, classes: int | None = None) -> None:
    """Load the weights of a model folder into a network, unchecked.

    Args:
        folder: the model folder.
        network: changed in place.
        classes: how many classes `model.toml` names; None where it is not read.

    Raises:
        RunError: the weights are missing, damaged, or do not fit the network that `model.toml` describes.
    """
    path = folder / WEIGHTS
    weights = _tensors(path)
    last = weights.get("head.classify.weight")
    if last is not None and classes not in (None, len(last)):
        raise RunError(f"{folder}: model.toml names {classes} classes, but the weights have {len(last)}")
    wanted = network.state_dict()
    others = [name for name in weights if name in wanted and weights[name].shape != wanted[name].shape]
    if others:
        name, more = others[0], len(others) - 1
        raise RunError(
            f"{path}: the weights do not fit model.toml: {name} has the shape {tuple(weights[name].shape)}, "
            f"not {tuple(wanted[name].shape)}; {more} more differ"
        )
    network.load_state_dict(weights, strict=False)
    filled = {wanted[name].data_ptr() for name in weights if name in wanted}  # shared tensors are stored once
    missing = [name for name, tensor in wanted.items() if name not in weights and tensor.data_ptr() not in filled]
    unknown = [name for name in weights if name not in wanted]
    if missing or unknown:
        names = ", ".join(sorted([*missing, *unknown])[:5])
        raise RunError(
            f"{path}: the weights do not fit model.toml: {len(missing)} missing, {len(unknown)} unknown: {names}"
        )


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of a model folder."""
    try:
        files.open_regular(path).close()  # safetensors reports a file without read permission as missing
        found: dict[str, Tensor] = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise missing(path.parent, path.name) from None
    except OSError as error:
        raise RunError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except SafetensorError as error:
        raise RunError(f"{path}: damaged: {error}") from None
    return found
