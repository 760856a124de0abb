"""`split.near_duplicates = "group"`: clips of one recording become one group, before the split is drawn.

Which sounds are alike is computed once, and kept beside the store under the key of the sounds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import distributed, files
from soundbench.data.clips import ClipTable, Column
from soundbench.data.likeness.fingerprint import NONE, RATE, Fingerprints, Peaks, at_rate, peaks
from soundbench.data.likeness.pairs import near_duplicates, once
from soundbench.data.sounds import Sounds
from soundbench.data.store import ELSEWHERE, Say, cache_folder
from soundbench.errors import DataError, RunError, SoundError

__all__ = ["grouped"]

# Part of the name of the file: change it whenever the pairs that are found change.
VERSION = 1

Pairs = list[list[int]]


def grouped(table: ClipTable, dataset: Any, cache: Path | str | bool, say: Say) -> ClipTable:
    """The table with one group for each set of groups whose clips have the same sound, or nearly the same.

    A group takes the name of the first of them in the table. Every process calls this; the main one reads the sound.

    Args:
        table: the clips.
        dataset: the dataset of the clips.
        cache: the folder of decoded sound; True for the user's, False to keep nothing.
        say: called with progress messages.

    Raises:
        DataError: the cache folder cannot be written.
    """
    found = distributed.from_main(lambda: _row_pairs(Sounds.of(table, dataset, RATE), cache, say))
    codes = table.group_codes
    groups = _joined(len(table.groups.names), ((int(codes[one]), int(codes[other])) for one, other in found))
    before, after = len(np.unique(codes)), len(np.unique(groups[codes]))
    say(f"split: {before - after} of {before} groups join others, of whose recordings they have copies or cuts")
    kept, renumbered = np.unique(groups[codes], return_inverse=True)
    names = tuple(table.groups.names[code] for code in kept)
    return attrs.evolve(table, groups=Column(names, renumbered.reshape(-1).astype(np.int32)))


def _joined(count: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.int32]:
    """The first group that each of `count` groups is joined to, through any number of pairs, `(count,)`."""
    first = list(range(count))

    def root(group: int) -> int:
        while first[group] != group:
            first[group] = first[first[group]]
            group = first[group]
        return group

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        first[high] = low
    return np.array([root(group) for group in range(count)], dtype=np.int32)


def _row_pairs(sounds: Sounds, cache: Path | str | bool, say: Say) -> Pairs:
    """The rows of sounds that are alike, from the cache or made."""
    if cache is False:
        pairs, _ = _made(sounds, say)
    else:
        folder = (cache_folder() if cache is True else Path(cache)).absolute()
        pairs = _kept(folder / f"near-duplicates-{VERSION}-{sounds.key}.json", sounds, say)
    rows = sounds.rows.tolist()
    return [[rows[one], rows[other]] for one, other in pairs]


def _made(sounds: Sounds, say: Say) -> tuple[Pairs, list[int]]:
    """The numbers of sounds that are alike, and of those that cannot be read."""
    say(f"split: comparing {len(sounds):,} sounds, for near duplicates")
    prints, digests, unreadable = Fingerprints(), np.zeros((len(sounds), 2), np.uint64), []
    for number, (digest, found) in enumerate(sounds.each(lambda number: _look(sounds, number))):
        prints.add(found)
        digests[number] = np.frombuffer(digest or bytes(16), np.uint64)
        unreadable += [number] * (digest is None)
    sounding = np.flatnonzero(digests.any(axis=1))
    _, first, same = np.unique(digests[sounding], axis=0, return_index=True, return_inverse=True)
    equal = np.stack([sounding[first][same.reshape(-1)], sounding], axis=1)
    near = near_duplicates(sounds, once(prints, digests)).pairs
    return [*equal[equal[:, 0] != equal[:, 1]].tolist(), *near.tolist()], unreadable


def _look(sounds: Sounds, number: int) -> tuple[bytes | None, Peaks]:
    """The digest of a sound, zeros if it is silent and None if it cannot be read; and its peaks."""
    try:
        samples, rate = sounds.native(number, lambda _: None)
    except SoundError:
        return None, NONE
    if not samples.any():
        return bytes(16), NONE
    digest = hashlib.blake2b(np.ascontiguousarray(samples).tobytes(), digest_size=16).digest()
    return digest, peaks(at_rate(samples, rate))


# The file -------------------------------------------------------------------------------------------------------------


def _kept(place: Path, sounds: Sounds, say: Say) -> Pairs:
    """The pairs in a file, which is made if need be, by one process while others wait."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with files.lock(place.with_suffix(".lock")):
            pairs = _read(place, sounds)
            if pairs is None:
                pairs, unreadable = _made(sounds, say)
                value = {"pairs": pairs, "unreadable": unreadable}
                files.write_json(place, {**value, "digest": _digest(value)})
            return pairs
    except (OSError, RunError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{place.parent}: the cache folder cannot be used ({reason}); {ELSEWHERE}") from error


def _read(place: Path, sounds: Sounds) -> Pairs | None:
    """The pairs in a file; None if there is none, it is damaged, or what could not be read then can be now."""
    try:
        kept = files.read_json(place, "pairs", "unreadable", "digest")
    except RunError:
        return None
    if kept.pop("digest") != _digest(kept) or any(_look(sounds, number)[0] for number in kept["unreadable"]):
        return None
    pairs: Pairs = kept["pairs"]
    return pairs


def _digest(value: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()
