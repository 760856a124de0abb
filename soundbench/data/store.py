"""The store: the sound of a clip table, decoded, mixed down and resampled once, and cached on disk.

A store is a folder in the cache folder, named by the key of its sound (`sounds.py`); `samples.py` describes its files.
It is made under a temporary name and renamed, by one process that holds the lock of the key, while others wait for it.
A folder `tmp-<pid>-<key>` whose lock is free was left by a process that was killed; it is removed when the next store
is made.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np

from soundbench import audio
from soundbench.data.clips import ClipTable
from soundbench.data.samples import AUDIO, Index, Store, finish, read_meta
from soundbench.data.sounds import Sounds
from soundbench.data.windowing.quantizing import Quantized, quantize
from soundbench.errors import DataError, SoundError
from soundbench.files import lock, room
from soundbench.messages import megabytes, printable
from soundbench.terminal import PATIENCE, Throttle

__all__ = ["Store", "cache_folder", "open_store", "quantize", "refuse_unreadable"]

# The most unreadable sounds that a message lists.
LISTED = 10
FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
ELSEWHERE = "set SOUNDBENCH_CACHE to another folder, or use --no-cache"

Say = Callable[[str], None]


def cache_folder() -> Path:
    """The cache folder: $SOUNDBENCH_CACHE, or else `soundbench` in the user's cache folder."""
    if chosen := os.environ.get("SOUNDBENCH_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "soundbench"


def open_store(
    table: ClipTable,
    dataset: Any,
    rate: int,
    folder: Path | None = None,
    on_error: Literal["fail", "skip"] = "fail",
    say: Say = print,
    workers: int | None = None,
    trim: float | Literal["off"] = "off",
) -> Store:
    """Open the store of a table's sound, or make it.

    Args:
        table: the clips.
        dataset: the dataset of the clips; if it has `read`, it reads the sound.
        rate: sample rate of the store in Hz.
        folder: the cache folder; None for `cache_folder()`.
        on_error: whether a sound that cannot be read is an error, or recorded in `errors`.
        say: called with progress messages.
        workers: threads for decoding; None for one per core.
        trim: threshold for trimming the ends, in dB below the loudest frame, or `off`.

    Raises:
        DataError: sound that cannot be read, with the first few listed; or a folder that cannot be written.
    """
    sounds = Sounds.of(table, dataset, rate, trim)
    root = (folder or cache_folder()).absolute()
    place = root / sounds.key
    store = Store(place, sounds.of_rows)
    with _explained(root):
        if _is_good(place, sounds, say):
            say(f"sound: {_count(len(sounds))} in {place}, {megabytes(store.size_bytes)}")
        else:
            with _locked(root, sounds.key, say):
                if not _is_good(place, sounds, lambda _: None):
                    _sweep(root, sounds.key)
                    _make(root, sounds, say, workers)
    errors = [(sounds.path(number), reason) for number, reason in Index.read(place).errors.items()]
    refuse_unreadable(errors, len(sounds), on_error)
    if errors:
        say(f"sound: {_counted(len(errors), len(sounds))} and are skipped")
    return store


def _is_good(place: Path, sounds: Sounds, say: Say) -> bool:
    """Whether a complete store exists, and the sounds that could not be read then cannot be read now."""
    if not place.exists():
        return False
    try:
        meta = read_meta(place)
    except ValueError as error:
        say(f"sound: {place} is damaged ({error}) and will be made again")
        return False
    if not meta["unreadable"]:
        return True
    for number in Index.read(place).errors:
        if not isinstance(_read(sounds, number), SoundError):
            say(printable(f"sound: {sounds.path(number)} can be read now, so {place} will be made again"))
            return False
    return True


def refuse_unreadable(errors: Sequence[tuple[str, str]], count: int, on_error: str) -> None:
    """Refuse sounds that cannot be read, unless they may be skipped and others are left.

    Args:
        errors: the path of each sound that cannot be read, and why.
        count: the number of sounds.
        on_error: `fail` or `skip`.

    Raises:
        DataError: with the first few of them.
    """
    if not errors or (on_error == "skip" and len(errors) < count):
        return
    listed = [printable(f"  {path}: {reason}") for path, reason in errors[:LISTED]]
    if len(errors) > LISTED:
        listed.append(f"  ... and {len(errors) - LISTED} more")
    remedy = "fix or remove them"
    if len(errors) < count:
        remedy += ', or skip them with audio.on_error = "skip"'
    raise DataError("\n".join([f"{_counted(len(errors), count)}:", *listed, remedy]))


def _counted(errors: int, count: int) -> str:
    return f"{errors} of {_count(count)} cannot be read"


# Making ---------------------------------------------------------------------------------------------------------------


@attrs.define
class _Progress:
    """Progress of making a store: sounds done, and their samples."""

    total: int
    done: int = 0
    samples: int = 0
    began: float = attrs.field(factory=time.monotonic)
    throttle: Throttle = attrs.field(factory=Throttle)

    def add(self, samples: int, say: Say) -> None:
        self.done, self.samples = self.done + 1, self.samples + samples
        if self.throttle.due(PATIENCE):
            say(f"sound: {self.done:,} of {self.total:,} read")


def _make(root: Path, sounds: Sounds, say: Say, workers: int | None) -> None:
    """Make a store in a temporary folder, and rename it."""
    place, beside = root / sounds.key, root / f"tmp-{os.getpid()}-{sounds.key}"
    progress = _Progress(len(sounds))
    say(f"sound: reading {_count(len(sounds))} into {place}")
    _refuse_full(root, sounds.expected_bytes())
    try:
        beside.mkdir()
        index, digest = _fill(beside, sounds, progress, say, workers)
        meta = {"rate": sounds.rate, "digest": digest, "libraries": audio.VERSIONS}
        finish(beside, index, meta)
        _sync(beside)
        if place.exists():
            place.rename(root / f"tmp-{os.getpid()}-old-{sounds.key}")
        beside.rename(place)
        _sync(root)
    except OSError as error:
        if error.errno not in FULL:
            raise
        needed = megabytes(2 * progress.samples * progress.total // max(progress.done, 1))
        raise DataError(
            f"{root}: the disk is full: the sound needs about {needed}; free some space, {ELSEWHERE}"
        ) from error
    finally:
        for name in (beside, root / f"tmp-{os.getpid()}-old-{sounds.key}"):
            shutil.rmtree(name, ignore_errors=True)
    seconds, took = progress.samples / sounds.rate, time.monotonic() - progress.began
    say(f"sound: {seconds:,.0f} s of sound read in {took:.0f} s, {megabytes(2 * progress.samples)}")


def _refuse_full(root: Path, needed: int) -> None:
    """Raise an error before reading if the store will not fit on the disk."""
    if needed > (free := room(root)):
        raise DataError(
            f"{root}: the sound needs about {megabytes(needed)}, but {megabytes(free)} are free; "
            f"free some space, {ELSEWHERE}"
        )


def _fill(folder: Path, sounds: Sounds, progress: _Progress, say: Say, workers: int | None) -> tuple[Index, str]:
    """Write the samples of all sounds; return their index and digest."""
    lengths = np.zeros(len(sounds), dtype=np.int64)
    scales = np.ones(len(sounds), dtype=np.float32)
    errors: dict[int, str] = {}
    digest = hashlib.blake2b(digest_size=16)
    stream = sounds.each(partial(_read, sounds), workers)
    with open(folder / AUDIO, "wb") as file, contextlib.closing(stream):
        for number, sound in enumerate(stream):
            if isinstance(sound, SoundError):
                errors[number] = sound.reason
                progress.add(0, say)
                continue
            samples, scales[number] = sound
            lengths[number] = len(samples)
            progress.add(len(samples), say)
            file.write(samples.data)
            digest.update(samples.data)
        file.flush()
        os.fsync(file.fileno())
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    for column in (offsets, scales):
        digest.update(column.data)
    return Index(offsets, scales, errors), digest.hexdigest()


def _read(sounds: Sounds, number: int) -> Quantized | SoundError:
    try:
        return quantize(sounds.load(number))
    except SoundError as error:
        return error


# The cache folder -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _explained(root: Path) -> Iterator[None]:
    """Turn an `OSError` about the cache folder into a `DataError` of one line."""
    try:
        yield
    except BrokenPipeError:  # the reader of the messages of `say` has ended
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{root}: the cache folder cannot be used ({reason}); {ELSEWHERE}") from error


@contextlib.contextmanager
def _locked(root: Path, key: str, say: Say) -> Iterator[None]:
    """Hold the lock of a key in the body."""
    root.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        if not held.enter_context(lock(root / f"{key}.lock", wait=False)):
            say(f"sound: waiting for another process, which reads it into {root / key}")
            held.enter_context(lock(root / f"{key}.lock"))
        yield


def _sweep(root: Path, key: str) -> None:
    """Remove temporary folders of killed processes; the lock of `key` is held."""
    for left in root.glob("tmp-*"):
        owner = left.name.rpartition("-")[2]
        with contextlib.ExitStack() as held:
            if owner == key or held.enter_context(lock(root / f"{owner}.lock", wait=False)):
                shutil.rmtree(left, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Make a rename survive a power failure, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _count(sounds: int) -> str:
    return f"{sounds:,} clip{'s' * (sounds != 1)}"
