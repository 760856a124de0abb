"""The store: the sound of a clip table, decoded, mixed down and resampled once, and cached on disk.

The sound of all tables that is read in one way (rate, trimming, versions of libraries) is in one pool of the cache
folder, in shards (`shards/`); the store of a table says where in them its own sounds lie. Sounds that the pool lacks
are read when a store is opened, by all processes that open it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from soundbench.data.clips import ClipTable
from soundbench.data.samples import Store
from soundbench.data.shards.filling import Filling
from soundbench.data.shards.pool import Placed, Pool, name_of
from soundbench.data.shards.tending import kept
from soundbench.data.shards.unkept import unkept
from soundbench.data.sounds import Sounds
from soundbench.errors import CallError, DataError
from soundbench.files import room
from soundbench.messages import megabytes, printable

__all__ = ["Store", "cache_folder", "open_store", "refuse_unreadable"]

# The most unreadable sounds that a message lists.
LISTED = 10
FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
ELSEWHERE = "set SOUNDBENCH_CACHE to another folder, or use --no-cache"

Say = Callable[[str], None]


def cache_folder() -> Path:
    """The cache folder: $SOUNDBENCH_CACHE, or else `soundbench` in the user's cache folder.

    Raises:
        CallError: neither is known, since the user has no home folder.
    """
    if chosen := os.environ.get("SOUNDBENCH_CACHE"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "soundbench"
    except RuntimeError:
        raise CallError("no folder to keep decoded sound in: this user has no home; set SOUNDBENCH_CACHE") from None


def open_store(
    table: ClipTable,
    dataset: Any,
    rate: int,
    folder: Path | None = None,
    on_error: Literal["fail", "skip"] = "fail",
    say: Say = print,
    workers: int | None = None,
    trim: float | Literal["off"] = "off",
    unreadable: Mapping[int, str] | None = None,
    in_memory: int | None = None,
) -> Store:
    """Open the store of a table's sound; what of it is not decoded yet is.

    Args:
        table: the clips.
        dataset: the dataset of the clips; if it has `read`, it reads the sound.
        rate: sample rate of the store in Hz.
        folder: the cache folder; None for `cache_folder()`.
        on_error: whether a sound that cannot be read is an error, or recorded in `errors`.
        say: called with progress messages.
        workers: threads for decoding; None for one per core.
        trim: threshold for trimming the ends, in dB below the loudest frame, or `off`.
        unreadable: why other processes could not read rows of the same table: they are not in this store either.
        in_memory: keep no sound on disk, and so many of the dataset's shards in memory; None to keep it.

    Raises:
        DataError: sound that cannot be read, with the first few listed; or a folder that cannot be written.
    """
    sounds = Sounds.of(table, dataset, rate, trim)
    root = (folder or cache_folder()).absolute()
    with _explained(root):
        # Processes whose tables differ are refused once their stores are open.
        known = {int(sounds.of_rows[row]): why for row, why in (unreadable or {}).items() if row < len(table)}
        if in_memory is None:
            store, errors = _kept(root, sounds, known, say, workers)
        else:
            store, errors = unkept(sounds, root, in_memory, known, say, workers)
    reasons = [(sounds.path(number), reason) for number, reason in errors.items()]
    refuse_unreadable(reasons, len(sounds), on_error)
    if errors:
        say(f"sound: {_counted(len(errors), len(sounds))} and are skipped")
    return store


def _kept(
    root: Path, sounds: Sounds, unreadable: Mapping[int, str], say: Say, workers: int | None
) -> tuple[Store, Mapping[int, str]]:
    """The store of sounds that are kept in the cache folder; and why some cannot be read, by their number."""
    pool = Pool(root / name_of(sounds.made))
    placed, errors = _placed(pool, sounds, unreadable, say, workers)
    pool.used()
    return Store(pool.folder, placed, errors, sounds.of_rows), errors


def _placed(
    pool: Pool, sounds: Sounds, unreadable: Mapping[int, str], say: Say, workers: int | None
) -> tuple[Placed, Mapping[int, str]]:
    """Where all sounds lie, after reading those that were missing; and why some cannot be read, by their number."""
    keys = sounds.keys.copy()
    keys[list(unreadable)] = b""  # which no sound has
    contents = pool.contents()
    placed = pool.place(keys, contents)
    missing = placed.missing
    there = len(sounds) - len(missing)
    if there:
        some = f"{there:,} of " if len(missing) else ""
        say(f"sound: {some}{_count(len(sounds))} in {pool.folder}, {megabytes(2 * int(placed.lengths.sum()))}")
    missing = np.setdiff1d(missing, list(unreadable))
    if not len(missing):
        return placed, unreadable
    for one in contents:
        if one.problem:
            say(f"sound: {one.samples} is damaged ({one.problem}); what cannot be used of it is read again")
    if not pool.folder.exists():
        _mention_older(pool.folder.parent, say)
    say(f"sound: reading {_count(len(missing))} into {pool.folder}")
    _refuse_full(pool.folder.parent, sounds.expected_bytes(missing))
    pool.create({"made": sounds.made, "rate": sounds.rate})
    filling = Filling(pool, sounds, missing, say, workers)
    try:
        filling.run()
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DataError(
            f"{pool.folder.parent}: the disk is full: the sound needs about {megabytes(filling.expected_bytes)}; "
            f"free some space, {ELSEWHERE}; what was read is kept"
        ) from error
    placed = pool.place(keys, pool.contents())
    errors = {**unreadable, **filling.errors}
    lost = set(placed.missing.tolist()) - errors.keys()
    if lost:
        raise DataError(f"{pool.folder}: {_count(len(lost))} went missing while others were read; was it changed?")
    return placed, {number: reason for number, reason in sorted(errors.items()) if placed.shard[number] < 0}


def _mention_older(root: Path, say: Say) -> None:
    """Say what of a cache folder is not read any more, if everything in it can be looked at."""
    with contextlib.suppress(OSError):
        size = sum(one.size for one in kept(root) if one.kind == "older")
        if size:
            say(f"sound: {megabytes(size)} in {root} are of an older version, and not read; see soundbench cache prune")


def _refuse_full(root: Path, needed: int) -> None:
    """Raise an error before reading if the store will not fit on the disk."""
    if needed > (free := room(root)):
        raise DataError(
            f"{root}: the sound needs about {megabytes(needed)}, but {megabytes(free)} are free; "
            f"free some space, {ELSEWHERE}"
        )


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
    lines: dict[str, int] = {}
    for path, reason in errors:
        of_shard = path.startswith(f"{reason.partition(': ')[0]}/")  # said once, for all clips of the shard
        line = reason if of_shard else f"{path}: {reason}"
        lines[line] = lines.get(line, 0) + 1
    shown = list(lines.items())[:LISTED]
    listed = [printable(f"  {line}") + (f" ({count:,} clips)" if count > 1 else "") for line, count in shown]
    if left := len(errors) - sum(count for _, count in shown):
        listed.append(f"  ... and {left} more")
    remedy = "fix or remove them"
    if len(errors) < count:
        remedy += ', or skip them with audio.on_error = "skip"'
    raise DataError("\n".join([f"{_counted(len(errors), count)}:", *listed, remedy]))


def _counted(errors: int, count: int) -> str:
    return f"{errors} of {_count(count)} cannot be read"


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


def _count(sounds: int) -> str:
    return f"{sounds:,} clip{'s' * (sounds != 1)}"
