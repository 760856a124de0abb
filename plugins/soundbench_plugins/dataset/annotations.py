"""Annotations: long recordings with tables of what sounds in them, and when; cut into clips of equal length.

| table | content |
|---|---|
| Raven's selections | `Begin Time (s)`, `End Time (s)`, a label; of several files `Begin Path`, `File Offset (s)` |
| Audacity's labels | one line per label: begin, tab, end, tab, label; no header |
| any other: CSV, TSV | `begin` (`start`, `onset`), `end` (`stop`, `offset`), `label`; perhaps `path`, `fold`, `group` |

A table that names no sound file is of the recording that it is named after: `a.txt`, `a.wav.txt` and
`a.Table.1.selections.txt` are of `a.wav`. What `soundbench infer` writes in these formats is read back as it is.

A recording is cut into clips as a network's windows are: each begins where the one before ends, and one more ends with
the recording. A clip has the label of each annotation that covers at least half of the clip, or of which at least half
is in the clip, so that every annotation is in a clip. A clip with no label is a negative if no annotation touches it;
otherwise it is left out, since it holds the edge of something. The clips of a recording are one group.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from soundbench import audio
from soundbench.contracts import Annotation, Clip, Recording
from soundbench.errors import DataError, MissingDataError, SoundError
from soundbench_plugins.layers.annotation_tables import SUFFIXES, Marked, marks_of, names_of
from soundbench_plugins.layers.example_sounds import write_sounds
from soundbench_plugins.layers.label_list import classes_of, normal_label
from soundbench_plugins.layers.manifest_rows import BadRow, Faults
from soundbench_plugins.layers.sound_files import sounds_below

__all__ = ["Annotations"]

SHARE = 0.5  # of a clip, or of an annotation, for the clip to have its label
SLACK = 0.1  # seconds by which an annotation may end after its recording, as one that is drawn to the end does
OFTEN = 5  # annotations of a label that another, used once, may be a misspelling of
MOST = 5_000_000  # annotations, which are kept in memory: about a gigabyte
LISTED = 5  # recordings that a message names


@attrs.define
class _Annotated:
    """A recording with what the tables say of it.

    Attributes:
        path: the sound file.
        table: the table that it is annotated in.
        seconds: its length; None if its header cannot be read.
        fold: its fold, as in the table.
        group: its group.
        marks: its annotations.
    """

    path: str
    table: Path
    seconds: float | None
    fold: str | None
    group: str | None
    marks: list[Annotation] = attrs.field(factory=list)


class Annotations:
    """Annotated recordings: Raven, Audacity or CSV tables with times, cut into clips; a group is a recording.

    Args:
        tables: a table, or a folder of tables (`.txt`, `.csv`, `.tsv`) at any depth.
        sounds: the folder of the recordings. By default the folder of the tables.
        clip: length of a clip in seconds; as a rule, `audio.window`.
        negatives: the class of clips in which nothing is annotated, such as "background". By default they are left out.
        multilabel: whether a clip may have several labels, as annotations that overlap give it; if not, such clips are
            left out.
        labels: a file with the class names, one per line. By default the classes are the labels of the tables, sorted.
        label: the column of the label, for tables that have several such columns, such as "Species".
    """

    reads_headers = True

    def __init__(
        self,
        *,
        tables: Path,
        sounds: Path | None = None,
        clip: float = 3.0,
        negatives: str | None = None,
        multilabel: bool = True,
        labels: Path | None = None,
        label: str | None = None,
    ) -> None:
        if not 0.01 <= clip <= 3600:
            raise ValueError(f"clip must be from 0.01 to 3600 seconds, is {clip:g}")
        if negatives is not None and not negatives.strip():
            raise ValueError("negatives must be the name of a class")
        self.tables, self.sounds = Path(tables), sounds and Path(sounds)
        self.clip, self.multilabel, self.label = clip, multilabel, label
        self.labels = labels and Path(labels)
        self.negatives = None if negatives is None else normal_label(negatives)
        self._reader: _Reader | None = None

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Two recordings of a quarter of a second, with a label file each."""
        write_sounds(folder, "1.wav", "2.wav")
        (folder / "1.txt").write_text("0.0\t0.1\tdog\n0.05\t0.2\tcat\n", encoding="utf-8")
        (folder / "2.txt").write_text("0.1\t0.2\tcat\n", encoding="utf-8")
        return {"tables": folder, "clip": 0.1, "negatives": "nothing"}

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the label list, or sorted if there is none; then that of negatives.

        Raises:
            DataError: see `recordings`; and a label that looks like a misspelling of another.
        """
        tables = self._tables()
        if tables.known is None:
            tables.refuse_misspelt()
        names = tables.known or tuple(sorted(tables.places.keys() - {self.negatives}))
        return names if self.negatives is None or self.negatives in names else (*names, self.negatives)

    def recordings(self) -> Iterator[Recording]:
        """The recordings with their annotations, in the order of the tables.

        Raises:
            MissingDataError: a table or a recording does not exist.
            DataError: a table has bad rows, each named by its line; or two tables are of one recording.
        """
        for one in self._tables().found.values():
            yield Recording(one.path, tuple(one.marks), one.group)

    def clips(self) -> Iterator[Clip]:
        """The clips of one recording after another; see `recordings` for what is raised."""
        for one in self._tables().found.values():
            fold = int(one.fold) if one.fold is not None and one.fold.isdecimal() else one.fold
            for start, stop, labels in _cut(one, self.clip, self.negatives):
                if self.multilabel or len(labels) == 1:
                    yield Clip(one.path, labels, start, stop, fold, one.group or one.path)

    # Reading the tables -----------------------------------------------------------------------------------------------

    def _tables(self) -> _Reader:
        if self._reader is None:
            reader = _Reader(self.tables, self.sounds, self.label, self.labels)
            reader.read()
            self._reader = reader
        return self._reader


class _Reader:
    """Reads tables, and finds the recordings that they are of."""

    def __init__(self, tables: Path, sounds: Path | None, label: str | None, labels: Path | None) -> None:
        self.tables, self.label, self.list = tables, label, labels
        self.folder = sounds or (tables if tables.is_dir() else tables.parent)
        self.known = classes_of(labels) if labels else None
        self.found: dict[str, _Annotated] = {}  # by their real paths
        self.places: dict[str, str] = {}  # where each label is first
        self.count = 0  # of annotations
        self.missing: list[str] = []  # what is said of recordings that are not there
        self._below: dict[str, list[str]] | None = None

    def read(self) -> None:
        """Find all recordings, each with its annotations by their begin."""
        if not self.folder.is_dir():
            raise MissingDataError(f"{self.folder}: no such folder; dataset.sounds must be that of the recordings")
        for table in self._tables():
            self._read(table)
        if self.missing:
            lines = [f"{one} in {self.folder}" for one in self.missing[:LISTED]]
            if len(self.missing) > LISTED:
                lines.append(f"{len(self.missing) - LISTED} more recordings are missing")
            raise MissingDataError(
                "\n".join([*lines, "give the folder of the recordings: dataset.sounds, or --sounds"])
            )
        if not self.found:
            raise DataError(f"{self.tables}: no recordings in it; each table must be named after one, or name it")
        for one in self.found.values():
            one.marks.sort(key=lambda mark: (mark.start, mark.stop, mark.label))

    def _tables(self) -> list[Path]:
        if not self.tables.exists():
            raise MissingDataError(f"{self.tables}: no such table of annotations, or folder of such")
        if not self.tables.is_dir():
            return [self.tables]
        found = [one for one in _below(self.tables) if one.suffix.lower() in SUFFIXES and one != self.list]
        if not found:
            raise MissingDataError(f"{self.tables}: no table of annotations in it; known: {', '.join(SUFFIXES)}")
        return found

    def _read(self, table: Path) -> None:
        faults, rows, named = Faults(table), 0, dict[tuple[str, ...], str | None]()
        for line, mark in marks_of(table, self.label):
            rows += 1
            if isinstance(mark, BadRow):
                faults.add(line, mark)
                continue
            if mark.paths not in named:
                named[mark.paths] = self._sound(table, mark.paths)
                if named[mark.paths] is None:
                    self.missing.append(
                        f"{table}, line {line}: no recording {mark.paths[-1]}" if mark.paths else _own(table)
                    )
            if (path := named[mark.paths]) is None:
                continue
            try:
                self._add(self._recording(table, path, mark), mark, f"{table}, line {line}")
            except BadRow as error:
                faults.add(line, error)
        faults.check()
        if not rows:
            path = self._sound(table, ())
            if path is None:
                self.missing.append(_own(table))
            else:
                self._recording(table, path, Marked((), None))

    def _recording(self, table: Path, path: str, mark: Marked) -> _Annotated:
        real = os.path.realpath(path)
        one = self.found.get(real)
        if one is None:
            self.found[real] = one = _Annotated(path, table, _seconds(path), mark.fold, mark.group)
        elif one.table != table:
            raise DataError(
                f"{table}: is of {path}, as is {one.table}; put the annotations of a recording in one table"
            )
        elif (one.fold, one.group) != (mark.fold, mark.group):
            raise BadRow(f"another fold or group than in the rows above of {os.path.basename(path)}")
        return one

    def _add(self, one: _Annotated, mark: Marked, place: str) -> None:
        """Add an annotation, whose times must be within the recording."""
        if mark.label is None:
            return
        if self.known is not None and mark.label not in self.known:
            near = difflib.get_close_matches(mark.label, self.known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise BadRow(f"label {mark.label!r} is not among the {len(self.known)} of the label list{hint}")
        name, lasts = os.path.basename(one.path), one.seconds
        if lasts is not None and (mark.start >= lasts or mark.stop > lasts + SLACK):
            what = f"begins at {mark.start:g} s" if mark.start >= lasts else f"ends at {mark.stop:g} s"
            raise BadRow(
                f"{what}, but {name} ends at {lasts:g} s; are the times of another recording, or is this one cut off?"
            )
        self.count += 1
        if self.count > MOST:
            raise DataError(f"{place}: more than {MOST:,} annotations; train and evaluate on a part of them")
        self.places.setdefault(mark.label, place)
        one.marks.append(Annotation(mark.label, mark.start, mark.stop if lasts is None else min(mark.stop, lasts)))

    def refuse_misspelt(self) -> None:
        """Raise an error for a label that is used once and one letter away from one that is used often."""
        counts = Counter(mark.label for one in self.found.values() for mark in one.marks)
        often = [label for label, count in counts.items() if count >= OFTEN]
        for label in (label for label, count in counts.items() if count == 1):
            if near := next((other for other in often if _one_letter_apart(label, other)), None):
                raise DataError(
                    f"{self.places[label]}: label {label!r} is there only once; did you mean {near!r} "
                    f"({counts[near]} times)? If not, list the classes in a file for dataset.labels"
                )

    # Finding the recordings -------------------------------------------------------------------------------------------

    def _sound(self, table: Path, paths: Sequence[str]) -> str | None:
        """The sound file that a row names, or that the table is named after."""
        spelt = [one for path in paths for one in dict.fromkeys((path, path.replace("\\", "/")))]
        for path in spelt:  # relative paths are of the folder, or as infer wrote them in the working directory
            for one in (os.path.join(self.folder, path), path):
                if os.path.isfile(one):
                    return one
        if spelt:
            names = [(os.path.basename(spelt[-1]), os.path.dirname(spelt[-1]))]
        else:
            inside = os.path.relpath(table.parent, self.tables) if self.tables.is_dir() else ""
            names = [(name, inside) for name in names_of(table.name)]
        for name, inside in names:
            if found := self._nearest(table, name, inside):
                return found
        return None

    def _nearest(self, table: Path, name: str, inside: str) -> str | None:
        """The sound file of this name, with or without suffix, whose folders are most like those in `inside`."""
        if self._below is None:
            self._below = {}
            for path in sounds_below(str(self.folder)):
                file = os.path.basename(path)
                for key in {file, os.path.splitext(file)[0]}:
                    self._below.setdefault(key, []).append(path)
        found = self._below.get(name, [])
        shared = [_shared(os.path.dirname(path), inside) for path in found]
        best = [path for path, count in zip(found, shared, strict=True) if count == max(shared)]
        if len(best) > 1:
            raise DataError(f"{table}: may be of {best[0]} or of {best[1]}; name the recording in a column path")
        return best[0] if best else None


def _below(folder: Path) -> Iterator[Path]:
    """The files below a folder, sorted; names that begin with a dot are left out."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from None
    for path in entries:
        if not path.name.startswith("."):
            yield from _below(path) if path.is_dir() and not path.is_symlink() else [path]


def _own(table: Path) -> str:
    return f"{table}: no recording that it could be named after"


def _shared(one: str, other: str) -> int:
    """How many folders two paths have in common at their end."""
    pairs = zip(reversed(Path(one).parts), reversed(Path(other).parts), strict=False)
    return next(
        (count for count, (a, b) in enumerate(pairs) if a != b), min(len(Path(one).parts), len(Path(other).parts))
    )


def _seconds(path: str) -> float | None:
    """The length of a recording; None if its header cannot be read, which is said when its sound is."""
    try:
        return audio.info(path).seconds
    except SoundError:
        return None


def _one_letter_apart(one: str, other: str) -> bool:
    """Whether a letter is wrong, missing, too many or exchanged with the next one; digits and signs are not letters."""
    short, long = sorted((one, other), key=len)
    if len(long) - len(short) == 1:
        return len(short) > 2 and any(
            long[:at] + long[at + 1 :] == short and long[at].isalpha() for at in range(len(long))
        )
    wrong = [at for at in range(len(one)) if one[at] != other[at]] if len(one) == len(other) > 2 else []
    exchanged = (
        len(wrong) == 2 and wrong[1] - wrong[0] == 1 and [one[at] for at in wrong] == [other[at] for at in wrong[::-1]]
    )
    return (len(wrong) == 1 or exchanged) and all((one[at] + other[at]).isalpha() for at in wrong)


# Cutting --------------------------------------------------------------------------------------------------------------


def _cut(one: _Annotated, clip: float, negatives: str | None) -> Iterator[tuple[float, float, tuple[str, ...]]]:
    """The clips of a recording: start, stop and labels of each."""
    lasts = one.seconds if one.seconds is not None else max((mark.stop for mark in one.marks), default=clip)
    starts = _starts(lasts, clip)
    stops = np.minimum(starts + clip, lasts)
    labels: dict[int, set[str]] = {}  # of the clips that an annotation touches
    for mark in one.marks:
        first, last = np.searchsorted(stops, mark.start, "right"), np.searchsorted(starts, mark.stop, "left")
        for number in range(int(first), int(last)):
            inside = min(mark.stop, stops[number]) - max(mark.start, starts[number])
            own = labels.setdefault(number, set())
            if inside >= SHARE * min(stops[number] - starts[number], mark.stop - mark.start) - 1e-9:
                own.add(mark.label)
    between = () if negatives is None else (negatives,)
    for number, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        if found := tuple(sorted(labels[number])) if number in labels else between:
            yield round(start, 6), round(stop, 6), found


def _starts(lasts: float, clip: float) -> Any:
    """Where clips begin, in seconds: one after the other, and the last so that it ends with the recording."""
    count = max(int((lasts + 1e-6) // clip), 1)
    starts = np.arange(count) * clip
    return np.append(starts, lasts - clip) if lasts - count * clip > 1e-3 else starts
