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

    Raises:
        RunError: the file cannot be made.
    """

    def __init__(self, like: NDArray[Any]) -> None:
        self._like, self._count = like, 0
        self._folder = Path(tempfile.gettempdir())
        with files.explain_os_errors(self._folder):
            # Without a buffer: what did not fit on the disk would be written once more when the file is closed.
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # it ends with the last map of it

    def add(self, rows: NDArray[Any]) -> None:
        """Add rows.

        Raises:
            RunError: there is no room for them.
        """
        data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
        with files.explain_os_errors(self._folder):
            while data:
                data = data[self._file.write(data) :]
        self._like, self._count = rows[:0], self._count + len(rows)

    def mapped(self) -> NDArray[Any]:
        """All rows, to which none can be added any more. What is written into the array is written into the file."""
        shape = (self._count, *self._like.shape[1:])
        # Not copied on write ("c"): the system sets memory aside for that, and refuses more than the machine has.
        with files.explain_os_errors(self._folder), self._file:
            if not self._count:
                return self._like
            return np.asarray(np.memmap(self._file, self._like.dtype, "r+", shape=shape))
