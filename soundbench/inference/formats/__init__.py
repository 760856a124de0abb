"""Output formats by name, one file each. A new one is a file here, a line in `FORMATS`, and its test."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soundbench.inference.formats.base import Format

__all__ = ["FORMATS", "find"]

# Named without importing them, since `soundbench infer --help` lists the names.
FORMATS = {
    "table": "soundbench.inference.formats.table:Table",
    "csv": "soundbench.inference.formats.csv:Csv",
    "jsonl": "soundbench.inference.formats.jsonl:JsonLines",
    "parquet": "soundbench.inference.formats.parquet:Parquet",
    "audacity": "soundbench.inference.formats.audacity:Audacity",
    "raven": "soundbench.inference.formats.raven:Raven",
}


def find(name: str) -> type[Format]:
    """The class of a format, one of `FORMATS`."""
    module, attribute = FORMATS[name].split(":")
    found: type[Format] = getattr(import_module(module), attribute)
    return found
