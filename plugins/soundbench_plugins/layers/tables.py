"""Tables and lists of a dataset or of another program as text; every failure is one message that names the file."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from soundbench import files, limits
from soundbench.errors import DataError

__all__ = ["opened"]


@contextmanager
def opened(path: Path, limit: int = limits.TABLE) -> Iterator[TextIO]:
    """A text file in UTF-8, with its line ends as they are.

    Raises:
        DataError: it is no regular file, larger than `limit` bytes, not UTF-8, or not CSV where the body reads that.
    """
    try:
        with files.open_text(path, limit, newline="") as text:
            yield text
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: invalid byte at offset {error.start}") from None
    except csv.Error as error:
        raise DataError(f"{path}: damaged: {error}") from None
