"""What a store is made of: a table of paths and stretches, and a dataset that makes its sounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from soundbench.contracts import Clip

RATE = 16000


class Table:
    """What a store asks of a clip table."""

    def __init__(self, *rows: Sequence) -> None:
        whole = [(str(row[0]), *(row[1:] or (0.0, None))) for row in rows]
        self.paths = [path for path, _, _ in whole]
        self.starts = np.array([start for _, start, _ in whole], dtype=np.float64)
        self.stops = np.array([np.nan if stop is None else stop for _, _, stop in whole])

    def __len__(self) -> int:
        return len(self.paths)

    def clip(self, row: int) -> Clip:
        stop = self.stops[row]
        return Clip(self.paths[row], ("a",), float(self.starts[row]), None if np.isnan(stop) else float(stop))


class Made:
    """A dataset that makes its sounds: a constant for each path, a tenth of its number."""

    fingerprint = "made 1"

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        return np.full(100, int(clip.path) / 10, np.float32), RATE
