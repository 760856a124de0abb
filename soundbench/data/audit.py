"""Check the sound of a dataset before training: what cannot be used, and what looks wrong.

Every distinct section of sound is read once, as a run reads it, and gives one row of measurements. What a run says of
its data in its log is here too: `doubts`, `repeated`, `lost`.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import numpy.typing as npt

from soundbench import audio
from soundbench.data.clips import ClipTable, similar_names
from soundbench.data.likeness.fingerprint import NONE, Fingerprints, Peaks, at_rate, peaks
from soundbench.data.likeness.pairs import NearDuplicates, near_duplicates, once
from soundbench.data.sounds import Sounds
from soundbench.data.splits import PARTS, SplitResult, absent
from soundbench.errors import CancellationWarning, SoundError, SoundWarning
from soundbench.messages import printable

if TYPE_CHECKING:
    from soundbench.contracts import Dataset
    from soundbench.recipe import Audio

__all__ = ["Audit", "Check", "audit", "doubts", "lost", "repeated"]

EXAMPLES = 5  # the most examples of a check
SHOWN = 2  # the most of them in the table
SHORTEST = 0.010  # seconds; less than a hop of the usual features
FULL_SCALE = 32766.5 / 32768

AGAIN = "clips listed more than once"
CONTRADICTED = "clips listed with different labels"
SIMILAR = "classes that differ in case alone"

MISSING, UNREADABLE, EMPTY, SILENT, CLIPPED, CANCELLED = (1 << bit for bit in range(6))
UNUSABLE = MISSING | UNREADABLE | EMPTY

Rows = npt.NDArray[np.int64]


@attrs.frozen
class Check:
    """The result of one check.

    Attributes:
        name: what is checked.
        count: how many were found.
        examples: the first few.
    """

    name: str
    count: int
    examples: tuple[str, ...] = ()


@attrs.frozen
class Audit:
    """The result of all checks.

    Attributes:
        clips: the number of clips in each part.
        sounds: the number of distinct sections of sound.
        seconds: their total length.
        classes: for each class, the number of clips in each part.
        checks: the checks, in the order of the table.
        errors: the path of each sound that cannot be read, and why, in the order in which a run lists them.
        readable: which clips can be read, `(N,)`.
    """

    clips: Mapping[str, int]
    sounds: int
    seconds: float
    classes: Mapping[str, Mapping[str, int]]
    checks: tuple[Check, ...]
    errors: Sequence[tuple[str, str]]
    readable: npt.NDArray[np.bool_]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values, for JSON."""
        return attrs.asdict(self, filter=attrs.filters.exclude("errors", "readable"))

    def to_text(self) -> str:
        """The result as a table."""
        hours = f"{self.seconds / 3600:.1f} hours" if self.seconds >= 3600 else f"{self.seconds / 60:.1f} minutes"
        parts = ", ".join(f"{count} {part}" for part, count in self.clips.items() if count)
        lines = [f"{sum(self.clips.values())} clips of {len(self.classes)} classes: {parts}; {hours} of sound", ""]
        width = max(len(check.name) for check in self.checks)
        lines.append(f"{'check':{width}}  {'count':>7}  examples")
        for check in self.checks:
            shown = "; ".join(check.examples[:SHOWN]) + "; ..." * (check.count > SHOWN < len(check.examples))
            lines.append(f"{check.name:{width}}  {check.count:>7}  {printable(shown)}".rstrip())
        return "\n".join(lines)


@attrs.frozen(eq=False)
class _Measurements:
    """The measurements of M distinct sections of sound, in the order of their first `rows` in the table.

    `places` are the places in that order of the sections as `Sounds` numbers them; `prints` are in the order of those.
    """

    rows: Rows
    state: npt.NDArray[np.uint8]
    rates: npt.NDArray[np.int32]
    seconds: npt.NDArray[np.float64]
    digests: npt.NDArray[np.uint64]
    reasons: dict[int, str]
    places: npt.NDArray[np.int64]
    prints: Fingerprints

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Which can be read, `(M,)`."""
        usable: npt.NDArray[np.bool_] = (self.state & UNUSABLE) == 0
        return usable


def audit(table: ClipTable, cut: SplitResult, dataset: Dataset, settings: Audio) -> Audit:
    """Check all sound of a dataset.

    Args:
        table: the clips.
        cut: which part each clip is in.
        dataset: the dataset of the clips.
        settings: the audio settings.

    Raises:
        BrokenPlugin: the dataset reads its sound itself, but has no fingerprint.
    """
    sounds = Sounds.of(table, dataset, settings.rate)
    found = _measure_all(sounds)
    near = near_duplicates(sounds, once(found.prints, found.digests[found.places]))
    readable = found.usable[found.places[sounds.of_rows]]
    checks = [
        *_unusable(table, found),
        *_odd(table, found, settings),
        *_twice(table, found, cut),
        *_nearly_twice(table, sounds.rows, near, cut),
        *_listed_again(table, sounds.of_rows, cut),
        Check("groups in more than one part", cut.crossing_groups, cut.crossing_names),
        *_classes(table, cut, readable),
    ]
    unreadable = np.flatnonzero(~found.usable[found.places])
    return Audit(
        clips=cut.counts(),
        sounds=len(found.rows),
        seconds=float(found.seconds.sum()),
        classes=_balance(table, cut),
        checks=tuple(checks),
        errors=[(sounds.path(number), found.reasons[found.places[number]]) for number in unreadable.tolist()],
        readable=readable,
    )


# What a run says ------------------------------------------------------------------------------------------------------


def doubts(table: ClipTable) -> Iterator[str]:
    """Lines about a table whose sound has not been read."""
    if similar := similar_names(table.classes):
        yield f"WARNING: {SIMILAR}: {_few([_alike(names) for names in similar])}"


def repeated(table: ClipTable, of_rows: npt.NDArray[np.int32]) -> Iterator[str]:
    """Lines about clips that are listed more than once; `of_rows` is the section of sound of each row, `(N,)`."""
    for name, pairs in zip((AGAIN, CONTRADICTED), _again(table, of_rows), strict=True):
        if len(pairs):
            yield f"WARNING: {len(pairs)} {name}: {_few([_pair(table, pair) for pair in pairs[:EXAMPLES]])}"


def lost(table: ClipTable, cut: SplitResult, readable: npt.NDArray[np.bool_]) -> Iterator[str]:
    """Lines about the classes of clips that cannot be read, `(N,)` False in `readable`."""
    missing = table.class_counts(np.flatnonzero(~readable))
    counts = table.class_counts(np.arange(len(table)))
    named = [f"{table.classes[code]} {missing[code]} of {counts[code]}" for code in np.flatnonzero(missing)]
    if named:
        yield f"unreadable clips of each class: {', '.join(named)}"
    trained = cut.part == PARTS.index("train")
    gone = [name for name in absent(table, trained & readable) if name not in cut.classes_without_train]
    if gone:
        yield f"WARNING: no training clip of these classes can be read, so they are not learned: {', '.join(gone)}"


def _few(items: Sequence[str]) -> str:
    return "; ".join(items[:SHOWN]) + "; ..." * (len(items) > SHOWN)


# Reading --------------------------------------------------------------------------------------------------------------


def _measure_all(sounds: Sounds) -> _Measurements:
    """Read and measure each distinct section of sound once."""
    count = len(sounds)
    order = np.argsort(sounds.rows)
    places = np.argsort(order)
    found = _Measurements(
        sounds.rows[order],
        np.zeros(count, np.uint8),
        np.zeros(count, np.int32),
        np.zeros(count),
        np.zeros((count, 2), np.uint64),
        {},
        places,
        Fingerprints(),
    )
    for place, measured in zip(places.tolist(), sounds.each(partial(_measure, sounds)), strict=True):
        found.state[place], found.rates[place], found.seconds[place], digest, print_, reason = measured
        found.prints.add(print_)
        found.digests[place] = np.frombuffer(digest, dtype=np.uint64)
        if reason:
            found.reasons[place] = reason
    return found


_Measured = tuple[int, int, float, bytes, Peaks, str]


def _measure(sounds: Sounds, number: int) -> _Measured:
    """State, rate, seconds, digest of the samples, fingerprint, and the reason if it cannot be used."""
    nothing = bytes(16)
    odd: list[SoundWarning] = []
    try:
        samples, rate = sounds.native(number, odd.append)
    except SoundError as error:
        return _why(sounds.path(number), sounds.of_files), 0, 0.0, nothing, NONE, error.reason
    loud = np.abs(samples) >= FULL_SCALE
    # A peak may touch full scale; three samples in a row at full scale were clipped.
    clipped = bool((loud[2:] & loud[1:-1] & loud[:-2]).any())
    silent = not samples.any()
    cancelled = any(isinstance(one, CancellationWarning) for one in odd)
    for one in odd:
        if not isinstance(one, CancellationWarning):
            warnings.warn(one, stacklevel=2)
    digest = hashlib.blake2b(np.ascontiguousarray(samples).tobytes(), digest_size=16).digest()
    state = SILENT * (silent and not cancelled) | CLIPPED * clipped | CANCELLED * cancelled
    found = peaks(at_rate(samples, rate))
    return state, rate, len(samples) / rate, nothing if silent else digest, found, ""


def _why(path: str, is_file: bool) -> int:
    """Why a sound cannot be read: missing, empty or unreadable."""
    if is_file and not os.path.exists(path):
        return MISSING
    try:
        empty = is_file and (os.path.getsize(path) == 0 or audio.info(path).seconds == 0)
    except (OSError, SoundError):
        empty = False
    return EMPTY if empty else UNREADABLE


# Checks ---------------------------------------------------------------------------------------------------------------


def _named(table: ClipTable, row: int) -> str:
    """A clip in an example: its path, and its start if it is not the whole file."""
    clip = table.clip(row)
    inside = os.path.isabs(clip.path) and clip.path.startswith(os.getcwd() + os.sep)
    path = os.path.relpath(clip.path) if inside else clip.path
    return path if clip.start == 0 and clip.stop is None else f"{path} from {clip.start:g} s"


def _unusable(table: ClipTable, sounds: _Measurements) -> Iterator[Check]:
    for name, bit in (("missing", MISSING), ("unreadable", UNREADABLE), ("empty", EMPTY)):
        found = np.flatnonzero(sounds.state & bit)
        examples = []
        for number in found[:EXAMPLES].tolist():
            reason = "" if bit == MISSING else f": {sounds.reasons.get(number, '')}".rstrip(": ")
            examples.append(_named(table, sounds.rows[number]) + reason)
        yield Check(name, len(found), tuple(examples))


def _odd(table: ClipTable, sounds: _Measurements, settings: Audio) -> Iterator[Check]:
    usable = sounds.usable
    seconds, rates = sounds.seconds, sounds.rates
    # A sound of exactly one window may be a sample shorter after resampling.
    short = seconds < settings.window - 1 / settings.rate
    for name, found in (
        ("silent", sounds.state & SILENT > 0),
        ("clipped", sounds.state & CLIPPED > 0),
        ("channels cancel each other", sounds.state & CANCELLED > 0),
        (f"shorter than {SHORTEST * 1000:g} ms", usable & (seconds < SHORTEST)),
        (f"shorter than the window, {settings.window:g} s", usable & short),
    ):
        yield _check(name, found, lambda number: f"{_named(table, sounds.rows[number])} ({seconds[number]:.3g} s)")

    def with_rate(number: int) -> str:
        return f"{_named(table, int(sounds.rows[number]))} ({rates[number]} Hz)"

    common = Counter(rates[usable].tolist()).most_common(1)
    usual = common[0][0] if common else settings.rate
    yield _check(f"other sample rate than most, {usual} Hz", usable & (rates != usual), with_rate)
    yield _check(f"sample rate below audio.rate, {settings.rate} Hz", usable & (rates < settings.rate), with_rate)


def _check(name: str, found: npt.NDArray[np.bool_], describe: Callable[[int], str]) -> Check:
    numbers = np.flatnonzero(found)
    return Check(name, len(numbers), tuple(describe(number) for number in numbers[:EXAMPLES].tolist()))


def _twice(table: ClipTable, sounds: _Measurements, result: SplitResult) -> Iterator[Check]:
    """Sound with the same samples as an earlier one, and duplicates that distort a result."""
    sounding = np.flatnonzero(sounds.digests.any(axis=1))
    _, first, same = np.unique(sounds.digests[sounding], axis=0, return_index=True, return_inverse=True)
    earlier = sounding[first][same.reshape(-1)]
    later, earlier = sounding[sounding != earlier], earlier[sounding != earlier]
    pairs = sounds.rows[np.stack([earlier, later], axis=1)]
    parts = result.part[pairs]
    purged = (parts == PARTS.index("purged")).any(axis=1)
    labels = [table.labels(one) != table.labels(other) for one, other in pairs]
    for name, found in (
        ("duplicate sound", np.ones(len(pairs), dtype=bool)),
        ("duplicates in different parts", (parts[:, 0] != parts[:, 1]) & ~purged),
        ("duplicates with different labels", np.array(labels, dtype=bool)),
    ):
        yield _check(name, found, lambda number: " = ".join(_named(table, row) for row in pairs[number].tolist()))


def _nearly_twice(
    table: ClipTable, rows: npt.NDArray[np.int64], near: NearDuplicates, result: SplitResult
) -> Iterator[Check]:
    """Sound of one recording whose samples differ; clips of one group are known to be of one."""
    pairs = np.sort(rows[near.pairs], axis=1)
    parts, groups = result.part[pairs], table.group_codes[pairs]
    purged = (parts == PARTS.index("purged")).any(axis=1)
    apart = groups[:, 0] != groups[:, 1]
    labels = np.array([set(table.labels(one)) != set(table.labels(other)) for one, other in pairs.tolist()], dtype=bool)

    def described(number: int) -> str:
        likeness = near.likenesses[number]
        names = " = ".join(_named(table, row) for row in pairs[number].tolist())
        return f"{names} ({likeness.kind}, {likeness.score:.2f})"

    for name, found in (
        ("near duplicates", np.ones(len(pairs), dtype=bool)),
        ("near duplicates in different groups", apart),
        ("near duplicates in different parts", apart & (parts[:, 0] != parts[:, 1]) & ~purged),
        ("near duplicates with different labels", labels),
    ):
        yield _check(name, found, described)


def _again(table: ClipTable, of_rows: npt.NDArray[np.int32]) -> tuple[Rows, Rows]:
    """Rows with the same section of sound, the first and a later one `(n, 2)`: with the same labels, or not."""
    _, firsts, sections = np.unique(of_rows, return_index=True, return_inverse=True)
    earlier = firsts[sections.reshape(-1)]
    later = np.flatnonzero(earlier != np.arange(len(table)))
    pairs = np.stack([earlier[later], later], axis=1)
    same = np.array([set(table.labels(one)) == set(table.labels(other)) for one, other in pairs.tolist()], dtype=bool)
    return pairs[same], pairs[~same]


def _pair(table: ClipTable, pair: Rows) -> str:
    """A clip that is listed twice: its name, and its labels if they differ."""
    one, other = (", ".join(table.labels(row)) for row in pair.tolist())
    return _named(table, int(pair[0])) + (f" ({one}; {other})" if one != other else "")


def _listed_again(table: ClipTable, of_rows: npt.NDArray[np.int32], result: SplitResult) -> Iterator[Check]:
    """Clips that are listed more than once, and which of them are in two parts."""
    again, contradicted = _again(table, of_rows)
    pairs = np.concatenate([again, contradicted])
    parts = result.part[pairs]
    crossing = pairs[(parts[:, 0] != parts[:, 1]) & (parts != PARTS.index("purged")).all(axis=1)]
    for name, found in ((AGAIN, again), (CONTRADICTED, contradicted), ("clips listed again in another part", crossing)):
        yield Check(name, len(found), tuple(_pair(table, pair) for pair in found[:EXAMPLES]))


def _alike(names: Sequence[str]) -> str:
    """Names that are nearly the same, quoted, so that spaces show."""
    return ", ".join(map(repr, names))


def _balance(table: ClipTable, result: SplitResult) -> dict[str, dict[str, int]]:
    parts = np.repeat(result.part, np.diff(table.label_offsets)).astype(np.int64)
    places = table.label_values * len(PARTS) + parts
    counts = np.bincount(places, minlength=len(table.classes) * len(PARTS)).reshape(-1, len(PARTS)).tolist()
    return {name: dict(zip(PARTS, row, strict=True)) for name, row in zip(table.classes, counts, strict=True)}


def _classes(table: ClipTable, result: SplitResult, readable: npt.NDArray[np.bool_]) -> Iterable[Check]:
    for part, name in (("train", "training"), ("test", "test")):
        without = absent(table, readable & (result.part == PARTS.index(part)))
        yield Check(f"classes without a {name} clip", len(without), without[:EXAMPLES])
    similar = similar_names(table.classes)
    yield Check(SIMILAR, len(similar), tuple(_alike(names) for names in similar[:EXAMPLES]))
    counts = np.bincount(table.label_values, minlength=len(table.classes))
    least, most = (f"{table.classes[code]}: {counts[code]}" for code in (counts.argmin(), counts.argmax()))
    ends = (least, most) if counts.min() < counts.max() else (f"each: {counts.min()}",)
    yield Check("classes: smallest and largest", len(table.classes), ends)
