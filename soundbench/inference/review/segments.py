"""Clips to listen to: cut from results by class and score, with a table beside them to mark which are right.

How often results of a score are right is asked of all scores alike, so each bin of scores gives as many clips: of those
that are more, a draw that depends on the seed and the detection alone, not on the order or the format of the results.
"""

from __future__ import annotations

import hashlib
import heapq
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs
import numpy as np
import soundfile

from soundbench import audio, files
from soundbench.errors import CallError, MissingDataError, SoundError
from soundbench.inference.review.results import Detection, Results
from soundbench.messages import nearest

__all__ = ["COLUMNS", "TABLE", "Choice", "choose", "write_segments"]

TABLE = "segments.csv"
COLUMNS = ("clip", "path", "start", "end", "label", "score", "per", "model", "correct")
# Results that end later than their sound by more seconds are of another sound.
SLACK = 0.1
# The most bytes of a name that are of a sound or a class; file systems take 255 in all.
NAME = 120


@attrs.frozen
class Choice:
    """Which results to cut.

    Attributes:
        classes: the classes; none for all.
        bins: the edges of the score bins, ascending; a bin holds its lower edge, and the last one also its upper.
        most: the largest number of clips of a class and bin.
        seed: of the draw among those that are more.

    Raises:
        CallError: the edges are fewer than two, do not ascend, or are not from 0 to 1.
    """

    classes: tuple[str, ...] = ()
    bins: tuple[float, ...] = tuple(n / 10 for n in range(11))
    most: int = 10
    seed: int = 1

    def __attrs_post_init__(self) -> None:
        ascending = all(low < high for low, high in zip(self.bins, self.bins[1:], strict=False))
        if len(self.bins) < 2 or not ascending or not 0 <= self.bins[0] <= self.bins[-1] <= 1:
            given = ", ".join(f"{edge:g}" for edge in self.bins)
            raise CallError(f"bins are two or more ascending scores from 0 to 1, such as 0.2,0.5,0.8,1; given: {given}")

    def bin(self, score: float) -> int | None:
        """The bin of a score; None if it is in none."""
        if not self.bins[0] <= score <= self.bins[-1]:
            return None
        return min(int(np.searchsorted(self.bins, score, "right")) - 1, len(self.bins) - 2)

    def draw(self, one: Detection) -> int:
        """A number of 64 bits; those with the smallest are chosen."""
        address = "\0".join([str(self.seed), one.path, f"{one.start:.6f}", f"{one.end:.6f}", one.label])
        return int.from_bytes(hashlib.blake2b(address.encode(errors="backslashreplace"), digest_size=8).digest())


def choose(detections: Iterable[Detection], choice: Choice) -> dict[tuple[str, int], list[Detection]]:
    """The chosen detections of each class and bin, by score; memory does not grow with the detections.

    Raises:
        CallError: a class of the choice is not among the detections.
    """
    held: dict[tuple[str, int], list[tuple[int, int, Detection]]] = {}
    classes: dict[str, None] = {}
    for number, one in enumerate(detections):
        classes.setdefault(one.label)
        place = choice.bin(one.score)
        if place is None or (choice.classes and one.label not in choice.classes):
            continue
        heap = held.setdefault((one.label, place), [])
        item = (-choice.draw(one), -number, one)  # the root is the one to drop
        (heapq.heappush if len(heap) < choice.most else heapq.heappushpop)(heap, item)
    for label in choice.classes:
        if label not in classes:
            hint = nearest(label, classes) or ";"
            raise CallError(f"the results have no class {label!r}{hint} they have: {', '.join(classes) or 'none'}")
    order = list(classes)
    return {
        place: sorted((one for _, _, one in heap), key=lambda one: (one.score, one.path, one.start))
        for place, heap in sorted(held.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
    }


def write_segments(folder: Path, results: Results, choice: Choice, pad: float = 1.0) -> dict[str, str]:
    """Cut the chosen clips, and write `segments.csv` with a row for each and an empty column `correct`.

    Args:
        folder: receives `clips/`, a folder a class and in it one a bin, the table, and `errors.csv`.
        results: what was found.
        choice: which of it to cut.
        pad: seconds of sound before and after each.

    Returns:
        The stretches that could not be cut, each with the reason.

    Raises:
        CallError: the folder is not empty, or nothing is chosen.
        MissingDataError: sounds are not where the results say.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise CallError(f"{folder}: is not empty; use another --out, or delete it")
    chosen = choose(results.detections(), choice)
    if not chosen:
        raise CallError(f"{results.path}: nothing in it is of these classes and bins")
    _refuse_missing({one.path for ones in chosen.values() for one in ones})
    names: set[str] = set()
    rows: list[Sequence[object]] = []
    errors: dict[str, str] = {}
    for (label, place), ones in chosen.items():
        into = Path("clips", _name(label), f"{choice.bins[place]:g}-{choice.bins[place + 1]:g}")
        for one in ones:
            clip = _unused(into / f"{one.score:.4f}_{_name(Path(one.path).stem)}_{one.start:.2f}s", names)
            try:
                files.write_bytes(folder / clip, _cut(one, pad))
            except SoundError as error:
                errors[f"{one.path} from {one.start:g} to {one.end:g} s"] = error.reason
                continue
            values = f"{one.start:.6f}", f"{one.end:.6f}", one.label, f"{one.score:.6f}"
            rows.append((clip.as_posix(), one.path, *values, results.per, results.scores, None))
    files.write_rows(folder / "errors.csv", ["stretch", "error"], errors.items())
    files.write_rows(folder / TABLE, COLUMNS, rows)
    return errors


def _refuse_missing(paths: set[str]) -> None:
    missing = sorted(path for path in paths if not os.path.exists(path))
    if missing:
        raise MissingDataError(
            f"{missing[0]}: no such sound ({len(missing)} of {len(paths)} are missing); results name sounds as infer "
            "was given them: run segments in the same folder, or put the sounds back"
        )


def _cut(one: Detection, pad: float) -> bytes:
    """A clip with the sound around it, mono, at the sound's own rate, as WAV of 16 bits.

    Raises:
        SoundError: the sound cannot be read, or is shorter than the results say.
    """
    lasts = audio.info(one.path).seconds
    if one.end > lasts + SLACK:
        raise SoundError(one.path, f"ends at {lasts:g} s; are the results of another sound of this name?")
    samples, rate = audio.decode(one.path, max(one.start - pad, 0.0), min(one.end + pad, lasts))
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _name(text: str) -> str:
    """A name that any file system takes; Windows has devices of some names, with any suffix."""
    plain = re.sub(r'[\x00-\x1f\ud800-\udfff/\\:*?"<>|]', "_", text)
    named = plain.encode()[:NAME].decode(errors="ignore").strip(". ") or "_"
    return f"_{named}" if re.match(r"(con|prn|aux|nul|com\d|lpt\d) *(\.|$)", named, re.IGNORECASE) else named


def _unused(stem: Path, names: set[str]) -> Path:
    """A name that no other clip has, also on a disk where capital letters make no difference."""
    found, number = Path(f"{stem}.wav"), 1
    while str(found).casefold() in names:
        number += 1
        found = Path(f"{stem}-{number}.wav")
    names.add(str(found).casefold())
    return found
