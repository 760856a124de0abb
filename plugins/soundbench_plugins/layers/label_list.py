"""Labels as people write them, in their normal form, and lists of class names, one per line."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from soundbench.errors import DataError
from soundbench_plugins.layers.manifest_rows import BadRow, short
from soundbench_plugins.layers.text_tables import opened

__all__ = ["classes_of", "normal_label"]

BYTES = re.compile("[\ud800-\udfff]")  # the decoding of bytes that are not UTF-8


def normal_label(text: str) -> str:
    """A label in its normal form.

    Raises:
        BadRow: it is empty, or no text.
    """
    label = text.strip()
    if not label:
        raise BadRow("an empty label")
    if "\0" in label:
        raise BadRow("a label with a NUL character")
    if label.isascii():
        return label
    if BYTES.search(label):
        raise BadRow("a label that is not UTF-8; save the table as UTF-8")
    return unicodedata.normalize("NFC", label)


def classes_of(file: Path) -> tuple[str, ...]:
    """The classes of a label list, one per line, in their normal form.

    Raises:
        DataError: it is empty, or names a class twice.
    """
    names = dict[str, int]()
    blank = 0
    with opened(file, "a label list") as text:
        for line, given in enumerate(text, start=1):
            name = unicodedata.normalize("NFC", given.strip())
            if not name:
                blank = blank or line
                continue
            if blank or BYTES.search(name):
                raise DataError(f"{file}, line {blank or line}: {'an empty class name' if blank else 'not UTF-8'}")
            if name in names:
                raise DataError(f"{file}, line {line}: class {short(name)!r} appears twice")
            names[name] = line
    if not names:
        raise DataError(f"{file}: no class names in it")
    return tuple(names)
