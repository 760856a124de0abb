"""Features of every window of a recipe's sounds, computed once, before training, by its featurizer.

The name of their folder is a digest of all that they depend on: the samples, the grid of windows, the level, the
featurizer with its options, code and weights. They are computed in float32, block by block and always in the same
batches, so that the bytes are the same however many processes share the work. A block that exists is not made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import tomli_w
import torch
from numpy.typing import NDArray
from torch import nn

from soundbench import distributed, files, limits
from soundbench.data.batches import RawBatch, on_device, window_grid
from soundbench.data.features import Blocks, Features
from soundbench.data.store import Store
from soundbench.errors import DataError, RunError, RunPlaceError
from soundbench.machine import Machine
from soundbench.messages import megabytes
from soundbench.model.network import Network
from soundbench.recipe import Recipe
from soundbench.recipe.structuring import plain
from soundbench.terminal import PATIENCE, Throttle, clock
from soundbench.training.log import Say

__all__ = ["features_of"]

FORMAT = 1
# Windows in a batch of the featurizer.
BATCH = 16


def features_of(
    recipe: Recipe,
    network: Network,
    machine: Machine,
    store: Store,
    say: Say,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> Features:
    """The features of a store's sounds, in a folder beside it; missing ones are computed.

    Args:
        recipe: resolved.
        network: its network; the featurizer is moved to the device.
        machine: the device.
        store: the sounds.
        say: receives each line of progress.
        weights: the network's weights in a checkpoint, on a resume.
    """
    if weights is not None:
        _fill(network, weights)
    about = _identity(recipe, network, store)
    key = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=12).hexdigest()
    machine.place(network)
    maker = _Maker.of(recipe, network, machine, store)
    blocks = Blocks(store.path.parent / f"features-{key}", len(maker.rows), network.featurizer.bands)
    distributed.from_main(partial(_begin, blocks.folder, about))
    _make_missing(blocks, maker, say)
    firsts = np.searchsorted(maker.rows, np.arange(len(maker.sounds)))
    features = Features(blocks, store.sounds, store.lengths, firsts, maker.window, maker.hop)
    say(f"features: {blocks.windows:,} windows in {blocks.folder}, {megabytes(features.size_bytes)}")
    return features


# What they depend on --------------------------------------------------------------------------------------------------


def _fill(network: Network, weights: Mapping[str, torch.Tensor]) -> None:
    """Load the featurizer's weights from a checkpoint: the file that `[init]` names may no longer exist."""
    own = {name.removeprefix("featurizer."): one for name, one in weights.items() if name.startswith("featurizer.")}
    try:
        network.get_submodule("featurizer").load_state_dict(own)
    except RuntimeError as error:
        raise RunError(f"the checkpoint does not fit the recipe: {' '.join(str(error).split())}") from None


def _identity(recipe: Recipe, network: Network, store: Store) -> dict[str, Any]:
    """All that features depend on. It is the same for a resumed run, whose code is in another place."""
    spec, component = recipe.featurizer, recipe.featurizer.component
    file = getattr(sys.modules.get(component.obj.__module__), "__file__", None)
    return {
        "format": FORMAT,
        "samples": store.digest,
        "rate": recipe.audio.rate,
        "window": recipe.audio.window_samples,
        "hop": recipe.audio.hop_samples,
        "level": recipe.audio.level,
        "featurizer": {
            "name": getattr(component.obj, "__qualname__", spec.use),
            "distribution": component.distribution,
            "version": component.version,
            "options": plain(spec.options),
            "code": hashlib.blake2b(files.read_bytes(Path(file), limits.TABLE), digest_size=16).hexdigest()
            if file
            else "",
            "weights": _digest(network.get_submodule("featurizer")),
        },
    }


def _begin(folder: Path, about: Mapping[str, Any]) -> None:
    """Write what the folder's name is a digest of; of several commands at once, one does.

    Raises:
        RunPlaceError: the folder is a link, or holds one.
    """
    if folder.is_symlink():
        raise RunPlaceError(f"{folder}: {files.LINK}")
    files.refuse_links(folder)
    place = folder / "features.toml"
    if not place.exists():
        with files.lock(folder.with_name(f"{folder.name.removeprefix('features-')}.lock")):
            files.write_text(place, tomli_w.dumps(about))
    with contextlib.suppress(OSError):
        os.utime(place)  # the time of the last use, see `soundbench cache`


def _digest(module: nn.Module) -> str:
    """A digest of the weights, whatever device they are on."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


# Making ---------------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Maker:
    """Computes the features of windows.

    Attributes:
        network: on the device; only its featurizer is used.
        machine: the device.
        level: RMS level in dB that each window is scaled to, or `off`.
        sounds: a row for each sound.
        rows: the sound of each window, ascending, `(W,)`.
        starts: the sample of the sound at which each window begins, `(W,)`.
        window: samples in a window.
        hop: samples from one window to the next.
    """

    network: Network
    machine: Machine
    level: Any
    sounds: Store
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    window: int
    hop: int

    @classmethod
    def of(cls, recipe: Recipe, network: Network, machine: Machine, store: Store) -> _Maker:
        """For every window, as scoring cuts them, of the sounds that can be read."""
        audio, sounds = recipe.audio, store.each_sound()
        window, hop = audio.window_samples, audio.hop_samples
        readable = np.flatnonzero(sounds.lengths)
        owner, starts = window_grid(sounds.lengths[readable], window, hop)
        return cls(network, machine, audio.level, sounds, readable[owner], starts, window, hop)

    def of_span(self, span: range) -> Iterator[NDArray[np.float32]]:
        """The features of windows, each `(T, F)`."""
        for first in range(span.start, span.stop, BATCH):
            part = slice(first, min(first + BATCH, span.stop))
            counts = self.counts(part)
            samples, scales = self.sounds.gather(self.rows[part], self.starts[part], counts, self.window)
            features, frames = self.features(samples, scales, counts)
            for row, count in zip(features, frames, strict=True):
                yield row[:count]

    def counts(self, part: slice) -> NDArray[np.int64]:
        """How many samples windows have."""
        counts: NDArray[np.int64] = self.sounds.lengths[self.rows[part]] - self.starts[part]
        return np.minimum(counts, self.window)

    def features(
        self, samples: NDArray[np.int16], scales: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], list[int]]:
        """The features of rows `(B, T, F)`, and how many frames each has."""
        none = torch.zeros(len(samples), 0)
        lengths = torch.from_numpy(counts)
        raw = RawBatch(torch.from_numpy(samples), torch.from_numpy(scales), lengths, none, lengths, lengths)
        batch = on_device(raw, self.machine.device, self.level)
        with torch.inference_mode(), self.machine.exact():
            features, frames = self.network.features(batch.data, batch.lengths)
        return features.float().transpose(1, 2).cpu().numpy(), frames.tolist()

    def expected_bytes(self, windows: NDArray[np.int64]) -> int:
        """About how many bytes the features of windows have, estimated from a full window."""
        whole, frames = self.features(
            np.zeros((1, self.window), np.int16), np.ones(1, np.float32), np.array([self.window])
        )
        lengths = np.minimum(self.sounds.lengths[self.rows[windows]], self.window)
        return int(4 * frames[0] * whole.shape[2] * (lengths / self.window).sum())


def _make_missing(blocks: Blocks, maker: _Maker, say: Say) -> None:
    """Make the blocks that are missing or damaged, all processes together."""
    missing = _look(blocks, say)
    if missing:
        network, training = maker.network, maker.network.training
        network.eval()
        try:
            distributed.from_main(partial(_announce, blocks, maker, missing, say))
            _make_all(blocks, maker, missing, say)
        finally:
            network.train(training)
    distributed.barrier()


def _look(blocks: Blocks, say: Say) -> list[int]:
    """The blocks that have to be made; the processes of a machine share the checking of its disk."""
    mine = range(distributed.local_rank(), len(blocks), distributed.local_world())
    looked = {number: blocks.wrong(number) for number in mine}
    wrong = {number: why for part in distributed.gather(looked) for number, why in part.items() if why is not None}
    for number, why in sorted(wrong.items()):
        if why:
            say(f"features: {blocks.path(number)} is damaged ({why}) and is made again")
    return sorted(wrong)


def _announce(blocks: Blocks, maker: _Maker, missing: list[int], say: Say) -> None:
    """Log what is going to be made; refuse if there is no room for it on the disk."""
    windows = np.concatenate([np.array(blocks.span(number)) for number in missing])
    needed, free = maker.expected_bytes(windows), files.room(blocks.folder)
    if needed > free:
        raise DataError(
            f"{blocks.folder}: the features need about {megabytes(needed)}, but only {megabytes(free)} are free; "
            "free some space, or set SOUNDBENCH_CACHE or --cache to another folder"
        )
    have = f" ({blocks.windows - len(windows):,} exist)" * (len(windows) < blocks.windows)
    say(f"features: extracting {len(windows):,} windows{have}: about {megabytes(needed)} in {blocks.folder}")


def _make_all(blocks: Blocks, maker: _Maker, missing: list[int], say: Say) -> None:
    """Make blocks; those that another process is making come last, in case it does not finish them."""
    rank, world = distributed.rank(), distributed.world()
    began, throttle = time.monotonic(), Throttle()
    turn = sorted(missing, key=lambda number: (number - rank) % world)
    later: list[int] = []
    for number in turn:
        if not _make(blocks, maker, number, wait=False):
            later.append(number)
        if throttle.due(PATIENCE):
            done = sum(blocks.path(one).exists() for one in missing)
            left = (time.monotonic() - began) * (len(missing) - done) / max(done, 1)
            say(f"features: {done:,} of {len(missing):,} blocks made, about {clock(left)} left")
    for number in later:
        _make(blocks, maker, number, wait=True)


def _make(blocks: Blocks, maker: _Maker, number: int, wait: bool) -> bool:
    """Make a block unless it exists; False if another process is making it and `wait` is False."""
    with blocks.locked(number, wait) as mine:
        if mine and blocks.wrong(number) is not None:
            blocks.write(number, maker.of_span(blocks.span(number)))
        return mine
