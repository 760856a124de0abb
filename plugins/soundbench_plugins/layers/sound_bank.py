"""A sound bank: sound files in memory; every row of a batch gets a stretch of one of them.

Sounds lie back to back in one tensor, 16 bits a sample (115 MB an hour at 16 kHz), each scaled to full
range, so that quiet ones keep their precision; the original level is not kept, since the callers set it. Each is
circular: its beginning is repeated after its end, so that a stretch is gathered in blocks, not sample by sample.
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

# Samples that are gathered at a time; a shorter sound is repeated to at least this length.
_BLOCK = 256

# Number of unusable files that a message lists.
_LISTED = 10


class SoundBank(nn.Module):
    """Sounds in memory, each circular.

    Args:
        sounds: samples of each sound, int16 `(n,)`, at least one.

    Attributes:
        lengths: length of each sound in samples `(N,)`.
        peaks: index of the loudest sample of each sound `(N,)`.
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
        """Read sound files at a sample rate.

        Raises:
            DataError: files cannot be read, or contain only zeros; it lists the first of them.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(lambda path: _read(path, rate), paths))
        wrong = [f"  {sound.path}: {sound.reason}" for sound in found if isinstance(sound, SoundError)]
        if wrong:
            more = [f"  ... and {len(wrong) - _LISTED} more"] if len(wrong) > _LISTED else []
            counted = f"{len(wrong)} of {len(paths)} sound file{'s' * (len(paths) != 1)} cannot be used:"
            raise DataError("\n".join([counted, *wrong[:_LISTED], *more, "fix or remove them"]))
        return cls([sound for sound in found if not isinstance(sound, SoundError)])

    def __len__(self) -> int:
        return len(self.lengths)

    def stretches(self, which: Tensor, begins: Tensor, size: int) -> Tensor:
        """A stretch of one sound for each row, float32 `(B, size)`, in 16-bit steps of its peak.

        Args:
            which: index of the sound for each row, `(B,)`.
            begins: first sample of each stretch, `(B,)`; indices before the beginning or past the end wrap around.
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
        return SoundError(path, f"contains only zeros ({len(samples) / rate:.3g} s)")
    steps: NDArray[np.int16] = np.rint(samples * (32767 / peak)).astype(np.int16)
    return steps
