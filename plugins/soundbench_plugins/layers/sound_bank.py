"""A sound bank: files held in memory, from which every row of a batch gets a stretch of one.

Sounds lie back to back in one tensor, 16 bits a sample (115 MB an hour at 16 kHz), each at its own peak, so that a
quiet one loses nothing; how loud it was is not kept, since whoever mixes sounds sets their level. Each goes round: at
its end stands its beginning once more, so that a stretch is gathered in blocks, not sample by sample.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from soundbench import audio
from soundbench.errors import DataError, SoundError

__all__ = ["SoundBank"]

# Samples that are gathered at a time; a sound shorter than that is repeated until it is not.
_BLOCK = 256

# How many of the files that cannot be used a message lists.
_LISTED = 10


class SoundBank(nn.Module):
    """Sounds held in memory, each going round.

    Args:
        sounds: samples of each sound, int16 `(n,)`, one at least.

    Attributes:
        lengths: samples of each sound `(N,)`.
        peaks: where each is loudest `(N,)`.
    """

    lengths: Tensor
    peaks: Tensor
    _data: Tensor
    _starts: Tensor
    _rounds: Tensor

    def __init__(self, sounds: Sequence[NDArray[np.int16]]) -> None:
        super().__init__()
        rounds = [np.tile(sound, -(-_BLOCK // len(sound))) for sound in sounds]
        stored = torch.tensor([len(sound) for sound in rounds])
        buffers = {
            "lengths": torch.tensor([len(sound) for sound in sounds]),
            "peaks": torch.tensor([int(np.abs(sound.astype(np.int32)).argmax()) for sound in sounds]),
            "_data": torch.from_numpy(np.concatenate([part for sound in rounds for part in (sound, sound[:_BLOCK])])),
            "_starts": (stored + _BLOCK).cumsum(0) - stored - _BLOCK,
            "_rounds": stored,
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    @classmethod
    def read(cls, paths: Sequence[str], rate: int) -> SoundBank:
        """The sounds of files at a rate.

        Raises:
            DataError: files that cannot be read, or that hold nothing but zeros, the first of them listed.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(lambda path: _read(path, rate), paths))
        wrong = [f"  {sound.path}: {sound.reason}" for sound in found if isinstance(sound, SoundError)]
        if wrong:
            more = [f"  ... and {len(wrong) - _LISTED} more"] if len(wrong) > _LISTED else []
            counted = f"{len(wrong)} of {len(paths)} sound{'s' * (len(paths) != 1)} cannot be used:"
            raise DataError("\n".join([counted, *wrong[:_LISTED], *more, "mend or remove them"]))
        return cls([sound for sound in found if not isinstance(sound, SoundError)])

    def __len__(self) -> int:
        return len(self.lengths)

    def stretches(self, which: Tensor, begins: Tensor, size: int) -> Tensor:
        """A stretch of one sound for each row, float32 `(B, size)`, in 16-bit steps of its peak.

        Args:
            which: sounds, `(B,)`.
            begins: where each stretch begins in its sound, `(B,)`; before its beginning and past its end it goes round.
            size: samples of a stretch.
        """
        blocks = torch.arange(0, size, _BLOCK, device=which.device)
        places = (begins.unsqueeze(1) + blocks) % self._rounds[which].unsqueeze(1) + self._starts[which].unsqueeze(1)
        return self._data.unfold(0, _BLOCK, 1)[places].flatten(1)[:, :size].float()


def _read(path: str, rate: int) -> NDArray[np.int16] | SoundError:
    try:
        samples = audio.load(path, rate)
    except SoundError as error:
        return error
    peak = np.abs(samples).max()
    if not peak:
        return SoundError(path, f"holds only zeros ({len(samples) / rate:.3g} s); it must hold sound")
    steps: NDArray[np.int16] = np.rint(samples * (32767 / peak)).astype(np.int16)
    return steps
