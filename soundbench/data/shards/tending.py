"""What is kept in a cache folder: listing it, checking it, and removing what no run needs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np

from soundbench.data.shards import shard
from soundbench.data.shards.pool import ABOUT, FORMAT, PREFIX, Pool, made_by
from soundbench.data.shards.shard import Contents
from soundbench.data.shards.unkept import PREFIX as LENGTHS
from soundbench.data.sounds import VERSION
from soundbench.files import lock, open_regular
from soundbench.messages import megabytes

__all__ = ["Kept", "damage", "kept", "prune"]

Kind = Literal["sound", "features", "lengths", "older"]

# The names of folders that soundbench makes: pools, features, and stores before there were shards, whole or unfinished.
_NAMED = re.compile(rf"({PREFIX}|features-|{LENGTHS}|tmp-\d+-(?:old-)?|)[0-9a-f]{{24}}")
# Files of a store before there were shards.
_FORMER = ("meta.toml", "audio.i16")
_IN_USE = "a process is writing to it; it stays"


@attrs.frozen
class Kept:
    """A folder in a cache folder.

    Attributes:
        path: the folder.
        kind: decoded sound, features computed in advance, lengths of sound that is not kept, or what an older version
            of soundbench or of the libraries that decode has made, which is not read any more.
        size: bytes.
        shards: of sound, the number of shards.
        sounds: of sound, the number of sounds that can be read.
        used: when it was last opened or written, in seconds since 1970.
        made: how its sound was decoded; empty if unknown.
        problems: what is wrong with its shards, without a look at their samples.
    """

    path: Path
    kind: Kind
    size: int
    shards: int = 0
    sounds: int = 0
    used: float = 0.0
    made: str = ""
    problems: tuple[str, ...] = ()

    @property
    def days(self) -> float:
        """Days since it was last used."""
        return max(0.0, time.time() - self.used) / 86400

    @property
    def what(self) -> str:
        """What it is, in words."""
        if self.kind == "sound":
            return f"sound, {self.made.removeprefix(VERSION).lstrip(', ')}"
        other = {"lengths": "lengths of clips whose sound is not kept", "older": "of an older version, not read"}
        return other.get(self.kind, self.kind)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return attrs.asdict(self) | {"path": str(self.path), "problems": list(self.problems)}


def kept(root: Path) -> list[Kept]:
    """What is in a cache folder, by name; files and folders that soundbench has not made are left out.

    Raises:
        OSError: the folder, or something in it, cannot be read.
    """
    return [one for path in sorted(root.iterdir()) if path.is_dir() and (one := _look(path))] if root.exists() else []


def _look(path: Path) -> Kept | None:
    """What a folder is; None if it is not of soundbench."""
    named = _NAMED.fullmatch(path.name)
    if not named:
        return None
    stats = list(_stats(path))
    size = sum(one.st_size for one in stats)
    if named[1] == PREFIX:
        return _look_at_pool(path, size)
    if named[1] in ("features-", LENGTHS):
        used = max(one.st_mtime for one in (path.stat(), *stats))
        return Kept(path, "lengths" if named[1] == LENGTHS else "features", size, used=used)
    if named[1] or all((path / name).exists() for name in _FORMER):
        return Kept(path, "older", size, used=path.stat().st_mtime)
    return None


def _look_at_pool(path: Path, size: int) -> Kept:
    """What a pool is, which has so many bytes."""
    format_, made = made_by(path)
    about = path / ABOUT
    used = (about if about.exists() else path).stat().st_mtime
    if format_ != FORMAT or not made.startswith(f"{VERSION}, "):
        return Kept(path, "older", size, used=used, made=made)
    found = Pool(path).contents()
    sounds = len(np.unique(np.concatenate([one.records["key"] for one in found]))) if found else 0
    problems = tuple(f"{one.samples}: {one.problem}" for one in found if one.problem)
    return Kept(path, "sound", size, len(found), sounds, used, made, problems)


def _stats(folder: Path) -> Iterator[os.stat_result]:
    """Of each file of a folder; those that another process has just removed are left out."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file():
                    yield os.stat(entry)


def damage(folder: Path) -> Iterator[tuple[Contents, str]]:
    """Read a pool: of each shard, what it holds, and what is wrong with it; empty for nothing.

    Raises:
        OSError: a file cannot be read.
    """
    for one in Pool(folder).contents():
        wrong = 0
        if len(one.records):
            with open_regular(one.samples) as file:
                for record in one.records:
                    file.seek(2 * int(record["offset"]))
                    samples = np.frombuffer(file.read(2 * int(record["length"])), dtype="<i2")
                    digest = shard.digest_of(samples, record["scale"])
                    wrong += digest.rstrip(b"\0") != record["digest"]  # NumPy gives texts without zeros at their end
        changed = f"the samples of {wrong:,} of {len(one.records):,} clips have changed" if wrong else ""
        yield one, "; ".join(filter(None, [one.problem, changed]))


def prune(root: Path, unused: float | None, damaged: bool, say: Callable[[str], None]) -> int:
    """Remove from a cache folder what older versions have left; what a process is writing stays.

    Args:
        root: the cache folder.
        unused: also remove what was not used for so many days; None for nothing of it.
        damaged: also remove shards in which samples or records have changed; all samples are read for it.
        say: called with a line for each thing that is removed, or stays.

    Returns:
        The number of bytes that were removed.

    Raises:
        OSError: something cannot be read or removed.
    """
    freed = 0
    for one in kept(root):
        if one.kind == "older" or (unused is not None and one.days >= unused):
            gone = _remove(one.path)
            say(f"{one.path}: {megabytes(one.size)} removed" if gone else f"{one.path}: {_IN_USE}")
            freed += one.size * gone
        elif damaged and one.kind == "sound":
            for contents, problem in damage(one.path):
                if problem:
                    samples = contents.samples
                    size = samples.stat().st_size if samples.exists() else 0
                    gone = _remove_shard(samples)
                    say(f"{samples}: {problem}; " + (f"{megabytes(size)} removed" if gone else _IN_USE))
                    freed += size * gone
    return freed


def _remove(folder: Path) -> bool:
    """Remove a folder, unless a process is reading sound into it; says whether it did."""
    shards = (samples.with_suffix(".lock") for samples in Pool(folder).shards())
    with contextlib.ExitStack() as held:
        for place in (*folder.glob("piece-*.lock"), *shards):
            if not held.enter_context(lock(place, wait=False)):
                return False
        for path in list(folder.rglob("*")):
            if path.suffix != ".lock" and not path.is_dir():
                path.unlink()
    shutil.rmtree(folder)  # the locks are no longer open: Windows removes nothing that is
    return True


def _remove_shard(samples: Path) -> bool:
    """Remove a shard, unless a process is writing it; says whether it did."""
    with lock(samples.with_suffix(".lock"), wait=False) as mine:
        if mine:
            samples.unlink(missing_ok=True)  # first: a kill then leaves a shard that is seen to be damaged
            samples.with_suffix(".journal").unlink()
        return mine
