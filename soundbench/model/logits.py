"""Logits of clips that a network was not trained on, in a file: what calibrations are fitted on.

`logits.safetensors` has five tensors: `logits` `(V, K)` float32, of V windows; `clip` `(V,)` int64, the clip of each
window, from 0 to N - 1, ascending; `target` `(N, K)` uint8, the labels of each clip; `group` `(N,)` int64, equal for
clips of one group; `identity` `(N,)` int64, a digest of each clip's path and start. Where they are known there are two
more: `reject` `(V,)` float32, the reject score of each window, and `silent` `(V,)` uint8, 1 for a window whose samples
are all zero. Its metadata has `classes`, a JSON list, and `reject`, the name of the component that gave the scores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from soundbench import files
from soundbench.data.clips import ClipTable
from soundbench.errors import RunError
from soundbench.model.outputs.window_logits import WindowLogits

__all__ = ["HeldOutLogits", "joined", "of_windows", "read", "refuse_learnt", "write"]

_DTYPES = {"logits": np.float32, "clip": np.int64, "target": np.uint8, "group": np.int64, "identity": np.int64}
_OF_REJECT = {"reject": np.float32, "silent": np.uint8}
_NAMES = {"float32": "F32", "int64": "I64", "uint8": "U8"}


@attrs.frozen(eq=False)
class HeldOutLogits:
    """The logits of V windows of N clips, and what is known of the clips.

    Attributes:
        classes: the K classes, in the order of the logits.
        logits: not calibrated, `(V, K)` float32.
        clip: the clip of each window, from 0 to N - 1, ascending, `(V,)`.
        target: the labels of each clip, `(N, K)`, 0 or 1.
        group: equal for clips of one group, `(N,)`.
        identity: a digest of each clip's path and start, `(N,)`.
        reject: the reject score of each window, `(V,)`; None where it is not known.
        silent: whether all samples of each window are zero, `(V,)`; None where `reject` is.
        reject_by: the component that gave the reject scores.
    """

    classes: tuple[str, ...]
    logits: NDArray[np.float32]
    clip: NDArray[np.int64]
    target: NDArray[np.uint8]
    group: NDArray[np.int64]
    identity: NDArray[np.int64]
    reject: NDArray[np.float32] | None = None
    silent: NDArray[np.bool_] | None = None
    reject_by: str = ""

    @property
    def clips(self) -> int:
        """N."""
        return len(self.target)

    @property
    def groups(self) -> int:
        """How many groups the clips are of."""
        return len(np.unique(self.group))


def of_windows(windows: WindowLogits, table: ClipTable) -> HeldOutLogits:
    """The logits of windows of a table's clips."""
    rows = windows.rows
    target = (table.targets(rows) > 0).astype(np.uint8)
    groups = table.group_codes[rows].astype(np.int64)
    return HeldOutLogits(table.classes, windows.logits, windows.clip, target, groups, _identities(table, rows))


def _identities(table: ClipTable, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """A digest of each clip's place: the last two parts of its path, which do not depend on where the data are."""
    clips = zip(table.paths.values(rows), table.starts[rows].tolist(), strict=True)
    places = ("/".join(str(path).replace("\\", "/").split("/")[-2:]) + f"@{start:.6f}" for path, start in clips)
    encoded = (place.encode("utf-8", "surrogateescape") for place in places)
    digests = b"".join(hashlib.blake2b(one, digest_size=8).digest() for one in encoded)
    return np.frombuffer(digests, "<i8").astype(np.int64)


def refuse_learnt(
    path: Path,
    held_out: HeldOutLogits,
    table: ClipTable,
    test: NDArray[np.int64],
    key: str = "calibration.predictions",
) -> None:
    """Refuse to fit on clips that a run is to be tested on.

    Args:
        path: the file of the logits, for the message.
        held_out: its content.
        table: the clips of the run.
        test: the rows of its test set.
        key: the key of the recipe that names the file, for the message.

    Raises:
        RunError: the logits are of clips of the test set.
    """
    both = int(np.isin(_identities(table, test), held_out.identity).sum())
    if both:
        raise RunError(
            f"{path}: {both} of its clips are in the test set, which nothing may be fitted on; train on everything "
            f"with split.test = 0, or leave {key} out"
        )


def joined(parts: Sequence[HeldOutLogits]) -> HeldOutLogits:
    """The logits of several runs on one clip table."""
    firsts = np.cumsum([0, *(part.clips for part in parts)])
    return HeldOutLogits(
        parts[0].classes,
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.clip + first for part, first in zip(parts, firsts, strict=False)]),
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.group for part in parts]),
        np.concatenate([part.identity for part in parts]),
        _joined([part.reject for part in parts]),
        _joined([part.silent for part in parts]),
        parts[0].reject_by,
    )


def _joined(parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def write(path: Path, held_out: HeldOutLogits) -> None:
    """Write the file as a whole.

    Raises:
        RunError: it cannot be written.
    """
    dtypes, metadata = _DTYPES, {"classes": json.dumps(held_out.classes)}
    if held_out.reject is not None:
        dtypes, metadata = _DTYPES | _OF_REJECT, metadata | {"reject": held_out.reject_by}
    tensors = {name: np.ascontiguousarray(getattr(held_out, name), dtype) for name, dtype in dtypes.items()}
    _save(path, tensors, metadata)


def _save(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors; its library would copy all into memory, and the logits may be mapped from disk."""
    aligned = sorted(tensors.items(), key=lambda one: -one[1].itemsize)  # each begins at a multiple of its size
    ends = np.cumsum([tensor.nbytes for _, tensor in aligned]).tolist()
    header: dict[str, Any] = {"__metadata__": metadata}
    for (name, tensor), end in zip(aligned, ends, strict=True):
        place = [end - tensor.nbytes, end]
        header[name] = {"dtype": _NAMES[tensor.dtype.name], "shape": tensor.shape, "data_offsets": place}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with files.atomic(path) as beside, open(beside, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in aligned:
            file.write(tensor.data)


def read(path: Path, classes: Sequence[str] | None = None) -> HeldOutLogits:
    """Read such a file.

    Args:
        path: the file.
        classes: what its classes must be, in their order; None for any.

    Raises:
        RunError: it is missing, damaged, or of other classes.
    """
    found, metadata = _opened(path)
    named: Any = metadata.get("classes")
    if wrong := _wrong(found, named):
        raise RunError(f"{path}: not the logits of a run: {wrong}")
    if classes is not None and list(classes) != named:
        raise RunError(f"{path}: its classes are {_few(named)}; those of the data are {_few(list(classes))}")
    columns: dict[str, Any] = {name: found[name] for name in _DTYPES}
    if "silent" in found:  # a file without it is of an earlier soundbench, whose scores of silent windows are lost
        columns |= {"reject": found["reject"], "silent": found["silent"] > 0}
        columns["reject_by"] = str(metadata.get("reject", ""))
    return HeldOutLogits(tuple(named), **columns)


def _opened(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of a file, and its metadata with the list of classes."""
    try:
        files.open_regular(path).close()
        with safe_open(path, "numpy") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            metadata = file.metadata() or {}
            return found, metadata | {"classes": json.loads(metadata.get("classes", "null"))}
    except (SafetensorError, ValueError) as error:
        raise RunError(f"{path}: not the logits of a run: {error}") from None
    except FileNotFoundError:
        made = "soundbench run RECIPE --folds all writes what calibration.predictions and reject.predictions name"
        raise RunError(f"{path}: no such file; {made}") from None
    except OSError as error:
        raise RunError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def _wrong(found: dict[str, Any], named: Any) -> str:
    """What a file of logits cannot hold; empty if nothing is wrong."""
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named) or not named:
        return "it names no classes"
    for name, dtype in _DTYPES.items():
        if name not in found or found[name].dtype != dtype:
            return f"{name} is missing, or is no array of {np.dtype(dtype).name}"
    logits, clip, target, group, _ = (found[name] for name in _DTYPES)
    wanted = (clip.size, len(named)), (clip.size,), (group.size, len(named)), (group.size,), (group.size,)
    if [found[name].shape for name in _DTYPES] != list(wanted):
        return f"shapes {', '.join(f'{name} {found[name].shape}' for name in _DTYPES)} for {len(named)} classes"
    if not len(clip) or not np.array_equal(np.unique(clip), np.arange(len(target))) or (np.diff(clip) < 0).any():
        return "clip must number the clips from 0, each with a window"
    if not np.isfinite(logits).all():
        return "it has logits that are not finite"
    for name, dtype in _OF_REJECT.items() if "silent" in found else ():
        own = found.get(name)
        if own is None or own.dtype != dtype or own.shape != clip.shape or not np.isfinite(own).all():
            return f"{name} must be a number for each window"
    return ""


def _few(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + f" and {len(names) - 5} more" * (len(names) > 5)
