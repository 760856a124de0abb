"""The toy dataset, as if its sound were in shards of eight clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np

from helpers.toys import ToyDataset
from soundbench.contracts import Clip


class ToyShards(ToyDataset):
    """Two classes of noise, in shards.

    Args:
        clips: how many.
        seed: of the noise.
    """

    def clips(self) -> Iterator[Clip]:
        for number, clip in enumerate(super().clips()):
            yield attrs.evolve(clip, path=f"shard-{number // 8:02d}/{number}")

    def shards(self) -> Mapping[str, str]:
        return {f"shard-{number:02d}": "1" for number in range(-(-self.count // 8))}

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        return super().read(attrs.evolve(clip, path=clip.path.split("/")[1]))

    def read_many(self, clips: Sequence[Clip]) -> Iterator[tuple[np.ndarray, int]]:
        yield from map(self.read, clips)
