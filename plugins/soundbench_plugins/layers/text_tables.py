"""Text files of rows: decoded by their mark, read line by line in little memory, with the separator of their header.

UTF-8, or UTF-16 and UTF-32 that begin with a byte order mark. In UTF-8, other bytes are decoded as Python decodes them
in file names. Cells are separated by commas, tabs, semicolons or bars.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from soundbench import files
from soundbench.errors import DataError, MissingDataError

__all__ = ["MOST_COLUMNS", "Cells", "cells_of", "header_of", "opened"]

LONGEST = 1 << 20  # characters of a line
MOST_COLUMNS = 1000
SEPARATORS = ",\t;|"
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like the next
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
OTHERS = {b"PK\x03\x04": "a workbook or an archive", b"\x1f\x8b": "compressed"}

Cells = tuple[int, list[str]]  # a row: the number of its line, and its cells


@contextmanager
def opened(file: Path, what: str) -> Iterator[Iterator[str]]:
    """The lines of a text file, with their ends.

    Args:
        file: the file.
        what: what it must be, for the message.

    Raises:
        MissingDataError: it does not exist.
        DataError: it cannot be read, is no text, or has a line of more than a million characters.
    """
    with _binary(file, what) as binary:
        first = binary.read(4)
        binary.seek(0)
        if other := next((kind for begin, kind in OTHERS.items() if first.startswith(begin)), None):
            raise DataError(f"{file}: is {other}, not text; save it as CSV in UTF-8")
        encoding = next((name for mark, name in MARKS if first.startswith(mark)), "utf-8")
        errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
        with io.TextIOWrapper(binary, encoding, errors, newline="") as text:
            yield _lines(file, text, encoding)


def _binary(file: Path, what: str) -> BinaryIO:
    try:
        return files.open_regular(file)
    except (FileNotFoundError, IsADirectoryError):
        raise MissingDataError(f"{file}: no such file; it must be {what}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _lines(file: Path, text: io.TextIOWrapper, encoding: str) -> Iterator[str]:
    number = 1
    while True:
        try:
            line = text.readline(LONGEST)
        except UnicodeDecodeError as error:
            name = encoding.upper()
            reason = f"begins with the mark of {name}, but is none: {error.reason}; save it as UTF-8"
            raise DataError(f"{file}, after line {number - 1}: {reason}") from None
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
        if not line:
            return
        if "\0" in line:
            reason = "a NUL character, so it is no text in UTF-8; save it as UTF-8, or as UTF-16 with its mark"
            raise DataError(f"{file}, line {number}: {reason}")
        if len(line) == LONGEST and not line.endswith(("\n", "\r")):
            raise DataError(f"{file}, line {number}: longer than {LONGEST:,} characters; it must be one row")
        yield line
        number += 1


def header_of(
    file: Path, lines: Iterator[str], known: Callable[[Sequence[str]], bool]
) -> tuple[int, str, list[str], str]:
    """The first line that is not blank: its number, itself, its cells, and the separator that makes it a header.

    If it is `known` with no separator, the cells are those by the one that gives most; a number of 0 means that there
    is no such line. A line `sep=;` before it, as Excel writes it, is skipped.

    Raises:
        DataError: more than a thousand columns.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lower().startswith("sep="):
            split = {mark: _cells(line, mark) for mark in SEPARATORS}
            fits = next((mark for mark in SEPARATORS if known(split[mark])), None)
            cells = split[fits or max(split, key=lambda mark: len(split[mark]))]
            if len(cells) > MOST_COLUMNS:
                raise DataError(f"{file}, line {number}: {len(cells):,} columns; at most {MOST_COLUMNS} are read")
            return number, line, cells, fits or ""
    return 0, "", [], ""


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    except (csv.Error, StopIteration):
        return []


def cells_of(file: Path, lines: Iterator[str], line: str, number: int, separator: str) -> Iterator[Cells]:
    """The rows after a header `line`; blank ones are left out, and blanks around cells are cut off.

    Raises:
        DataError: quotes that are not closed, or a cell of more than 131,072 characters.
    """
    reader = csv.reader(chain([line], lines), delimiter=separator, strict=True)
    last = number - 1
    try:
        for row, cells in enumerate(reader):
            first, last = last + 1, number - 1 + reader.line_num
            if row and any(map(str.strip, cells)):
                yield first, cells
    except csv.Error as error:
        raise DataError(f"{file}, line {last + 1}: {error}") from None
