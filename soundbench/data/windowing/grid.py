"""How sound is cut into windows."""

from __future__ import annotations

from typing import Literal

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["Grid", "window_counts", "window_grid"]

Rows = NDArray[np.int64]


@attrs.frozen
class Grid:
    """How sound is cut into windows.

    Attributes:
        window: length of a window in samples.
        hop: samples between the starts of two windows.
        trim: threshold of the trimming before, in dB below the loudest frame, or `off`; a store is trimmed already.
    """

    window: int
    hop: int
    trim: float | Literal["off"] = "off"


def window_grid(lengths: Rows, window: int, hop: int) -> tuple[Rows, Rows]:
    """The windows for scoring clips of `lengths` samples: for each window, the clip and the start in samples.

    Windows start at k · hop while a whole one fits; a remainder gets a window that ends at the end; a shorter clip is
    one window.
    """
    last = np.maximum(lengths - window, 0)
    counts = window_counts(lengths, window, hop)
    owner = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return owner, np.minimum(number * hop, last[owner])


def window_counts(lengths: Rows, window: int, hop: int) -> Rows:
    """How many windows each clip of `lengths` samples has in this grid, `(N,)`."""
    counts: Rows = 1 - (-np.maximum(lengths - window, 0) // hop)
    return counts
