"""Arrays that grow on disk, where there is more than fits into memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundbench import files

__all__ = ["OnDisk"]


class OnDisk:
    """Rows of numbers in a temporary file, which lasts as long as the array that is mapped from it.

    Args:
        like: an array without rows, of the shape and type of these.
    """

    def __init__(self, like: NDArray[Any]) -> None:
        self._like, self._count = like, 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # it ends with the last map of it

    def add(self, rows: NDArray[Any]) -> None:
        """Add rows.

        Raises:
            RunError: there is no room for them.
        """
        with files.explain_os_errors(Path(tempfile.gettempdir())):
            self._file.write(np.ascontiguousarray(rows).data)
        self._like, self._count = rows[:0], self._count + len(rows)

    def mapped(self) -> NDArray[Any]:
        """All rows. What is written into the array stays in memory."""
        with files.explain_os_errors(Path(tempfile.gettempdir())):
            self._file.flush()
        if not self._count:
            return self._like
        shape = (self._count, *self._like.shape[1:])
        return np.asarray(np.memmap(self._file, self._like.dtype, "c", shape=shape))
