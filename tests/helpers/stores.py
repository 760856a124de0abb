"""What a store is made of: a table of paths and stretches, and a dataset that makes its sounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from soundbench.contracts import Clip
from soundbench.errors import SoundError

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


class Sharded:
    """Shards by their names, with fingerprints; a sound is a constant, a hundredth of its number."""

    fingerprint = "sharded 1"

    def __init__(self, *names: str, threads: bool = False, **changed: str) -> None:
        self.names = {name: changed.get(name, "first") for name in names or ("b", "a-1", "a")}
        self.threads = threads
        self.passes: list[list[str]] = []
        self.failing: dict[str, Exception] = {}

    def shards(self) -> dict[str, str]:
        return self.names

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        if error := self.failing.get(clip.path):
            raise error
        return np.full(100, int(clip.path.split("/")[1]) / 100, np.float32), RATE

    def read_many(self, clips: Sequence[Clip]) -> Iterator:
        self.passes.append([clip.path for clip in clips])
        for clip in clips:
            try:
                yield self.read(clip)
            except SoundError as error:
                yield error
