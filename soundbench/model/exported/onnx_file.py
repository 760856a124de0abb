"""Reads an ONNX file of `soundbench export`, and says what is wrong with one that is none.

Only the fields of the outermost message are looked at (protocol buffers, `ModelProto` of onnx.proto): enough to know a
file that is cut short, and to find the metadata, before a runtime is given the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from soundbench import files, limits
from soundbench.errors import RunError

__all__ = ["read_onnx"]

_KEY = b"soundbench"
# Fields of `ModelProto`, and of the entries of its metadata.
_VERSION, _GRAPH, _METADATA = 1, 7, 14
_NAME, _VALUE = 1, 2
# A file begins with the number and type of its first field, `ir_version`.
_FIRST = b"\x08"


def read_onnx(path: Path) -> tuple[bytes, Any]:
    """The content of a file, and its metadata: a value of JSON.

    Raises:
        RunError: it cannot be read, is no ONNX file of soundbench, or is cut short.
    """
    with files.explain_os_errors(path), files.open_regular(path) as file:
        if file.read(1) != _FIRST:
            raise RunError(f"{path}: not an ONNX file")
    with files.explain_os_errors(path):
        data = files.read_bytes(path, limits.TABLE)
    try:
        fields = list(_fields(memoryview(data)))
        found = [dict(_fields(value)) for number, value in fields if number == _METADATA]
        entries = {bytes(entry[_NAME]): bytes(entry[_VALUE]) for entry in found}
    except EOFError as error:
        raise RunError(f"{path}: cut short: it has {len(data):,} bytes, and {error}") from None
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{path}: not an ONNX file, or damaged") from None
    if _GRAPH not in dict(fields):
        raise RunError(f"{path}: an ONNX file without a network, or cut short")
    if _KEY not in entries:
        raise RunError(f"{path}: an ONNX file, but not of soundbench export: it has no metadata of that name")
    try:
        return data, files.parse_json(entries[_KEY])
    except ValueError:
        raise RunError(f"{path}: damaged: its metadata are not JSON") from None


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """The number and the value of each field of a message.

    Raises:
        ValueError: it is no message.
        EOFError: it ends within a field; says where that field would end.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind not in (0, 1, 2, 5) or not number:
            raise ValueError("no message")
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        size, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if at + size > len(data):
            raise EOFError(f"one of its parts ends at {at + size:,}")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number that begins there, and where it ends."""
    value = 0
    for place in range(10):
        if at + place >= len(data):
            raise EOFError("its last number is not complete")
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("no number")
