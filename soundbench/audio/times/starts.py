"""When recordings began: by their headers, by their names, or by names of a pattern of one's own.

The names that are known, each with where it is documented; all but the first may have anything before and after:

- AudioMoth: `5E90A4D4.WAV`, Unix time in eight hexadecimal digits (seewave's `audiomoth`); since firmware 1.3
  `20200410_163456.WAV`, and `20200410_163456T.WAV` for triggered recordings (Open Acoustic Devices).
- Song Meter: `PREFIX_20200410_163456.wav`, `PREFIX_0+1_20200410_163456.wav`, with `$` between date and time where GPS
  set the clock, with milliseconds `_123` or microseconds `_123456` (Wildlife Acoustics' guides for SM3BAT and SMART).
- Frontier Labs: `20200410T163456+1000_REC.flac`; and what else QUT Ecoacoustics lists as dates and times of files: `-`,
  `T` or `_` between date and time, then `Z`, `+10` or `+1000`.
- ISO 8601 and what file systems make of it: `2020-04-10T16:34:56Z`, `2020-04-10T16-34-56`, `2020-04-10 16.34.56`,
  `20200410163456`.

A name states a time only if it can mean nothing else. So these state none: an impossible date, two different times, and
a time before a number that is no offset from UTC (`20200410-163456-002`, the second of a series that began then).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import attrs

from soundbench.audio.times.headers import header_time, plausible
from soundbench.errors import CallError

__all__ = ["SOURCES", "StartTimes", "name_time", "recorded_at"]

# Where a start is looked for. `auto`: in the header, else in the name. Both are of one clock, but a header is the more
# exact: recorders name a file for its place in the schedule and write the header with the first samples (Frontier
# Labs), and headers state the zone that most names leave out.
SOURCES = ("auto", "header", "name", "none")
# Seconds by which a header and a name may differ.
APART = 2.0

_TIME = re.compile(
    r"""
    (?<!\d)(?P<year>\d{4})(?P<dash>[-._]?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)
    (?P<between>[T_ $.-]?)
    (?P<hour>\d\d)(?P<colon>[-:._]?)(?P<minute>\d\d)(?P=colon)(?P<second>\d\d)(?!\d)
    (?: [.,](?P<fraction>\d{1,6})(?![0-9A-Za-z]) | _(?P<thousandths>\d{3}|\d{6})(?![0-9A-Za-z]) )?
    (?P<zone> [-_ ]?(?:Z|UTC)(?![0-9A-Za-z]) | [+-](?:0\d|1[0-4])(?::?(?:00|15|30|45))?(?![\d.:]) )?
    (?P<after> [+-]\d )?
    """,
    re.VERBOSE,
)
# AudioMoth was first built in 2014. Eight decimal digits are more likely a number than a time.
_HEX, _HEX_FIRST = re.compile(r"(?=.*[A-F])[0-9A-F]{8}"), datetime(2014, 1, 1, tzinfo=UTC)
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}$")


def recorded_at(path: str | Path, source: str = "auto", pattern: str | None = None) -> datetime | None:
    """When a recording began; with the zone that its header or name states, else without one.

    Args:
        path: the sound file. No more than the chunks of its header are read.
        source: where to look: `header`, `name`, `auto` for the header, else the name, or `none`.
        pattern: how the name is written, as for `strptime`, without the suffix, with `*` for anything:
            `REC_%Y%m%d-%H%M%S`; None for the names of known recorders, and ISO 8601.

    Returns:
        None if neither states it, or what is stated is impossible. What cannot be read states nothing.

    Raises:
        CallError: an unknown source, or a pattern without a whole date and time.
    """
    return StartTimes(source, pattern).of(Path(path))


@attrs.define
class StartTimes:
    """Finds when recordings began; arguments as of `recorded_at`.

    Attributes:
        conflicts: how many files had a header and a name that state different times; the header's was taken.
        example: the first of them, with both times.
        tried: how many files were looked at.
        found: how many of them state a time.
    """

    source: str = "auto"
    pattern: str | None = None
    tried: int = attrs.field(default=0, init=False)
    found: int = attrs.field(default=0, init=False)
    conflicts: int = attrs.field(default=0, init=False)
    example: str = attrs.field(default="", init=False)
    _own: _Pattern | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.source not in SOURCES:
            raise CallError(f"times are taken from one of {', '.join(SOURCES)}, not from {self.source!r}")
        if self.pattern is not None and self.source in {"header", "none"}:
            raise CallError(
                f"a time pattern is for file names; times are taken from auto or name then, not {self.source}"
            )
        self._own = None if self.pattern is None else _Pattern.of(self.pattern)

    def of(self, path: Path, name: str = "") -> datetime | None:
        """When the recording of a file began; None if unknown. `name` is its own, where it lies under another one."""
        name = name or path.name
        if self.source == "none":
            return None
        header = None if self.source == "name" else header_time(path)
        if self.source == "header":
            return header
        named = self._own.time(name) if self._own else name_time(name)
        self.tried, self.found = self.tried + 1, self.found + (header is not None or named is not None)
        if header is None or named is None:
            return header or named
        if _apart(header, named):
            self.conflicts += 1
            self.example = self.example or f"{path}: {_shown(header)} in the header, {_shown(named)} in the name"
        elif header.tzinfo is None and named.tzinfo and not _apart(header, named.replace(tzinfo=None)):
            return header.replace(tzinfo=named.tzinfo)  # the name completes it
        return header

    @staticmethod
    def doubts(of: Sequence[StartTimes]) -> str:
        """What a user should know of the times that were found, by several processes, in one line; else empty."""
        conflicts, tried = sum(one.conflicts for one in of), sum(one.tried for one in of)
        if conflicts:
            example = next(one.example for one in of if one.example)
            return (
                f"{conflicts} of {tried} files state two times at which they begin ({example}); "
                "those in the headers are written, --time-from name takes the others"
            )
        if tried and of[0].pattern is not None and not any(one.found for one in of):
            return f"no name is of the pattern {of[0].pattern!r}, so that no times are known"
        return ""


def name_time(name: str) -> datetime | None:
    """When a recording began, by the name of its file, with or without the suffix."""
    stem = _stem(name)
    if _HEX.fullmatch(stem):
        moment = datetime.fromtimestamp(int(stem, 16), UTC)
        return moment if _HEX_FIRST <= moment <= datetime.now(UTC) + timedelta(days=1) else None
    stated = {_moment(parts, stem) for parts in _TIME.finditer(stem)} - {None}
    return stated.pop() if len(stated) == 1 else None


def _stem(name: str) -> str:
    return _SUFFIX.sub("", name)


def _moment(parts: re.Match[str], stem: str) -> datetime | None:
    """The time of a match; None for one that is impossible, or that may be something else."""
    west = re.match(r"-\d", parts["zone"] or "")
    if parts["after"] or (west and "-" in {parts["between"], parts["colon"]}):  # 20200410-163456-12: the twelfth?
        return None
    if not parts["between"] and not _fourteen_digits(parts, stem):
        return None
    fraction = (parts["fraction"] or parts["thousandths"] or "").ljust(6, "0")
    text = "{year}-{month}-{day}T{hour}:{minute}:{second}".format_map(parts.groupdict())
    try:
        return plausible(datetime.fromisoformat(f"{text}.{fraction}").replace(tzinfo=_zone(parts["zone"])))
    except ValueError:
        return None


def _fourteen_digits(parts: re.Match[str], stem: str) -> bool:
    """Whether date and time without a separator stand alone, and are no part of a hexadecimal number."""
    begin, end = parts.start("year"), parts.end("second")
    return end - begin == 14 and not stem[max(begin - 1, 0) : begin].isalnum() and not stem[end : end + 1].isalnum()


def _zone(text: str | None) -> timezone | None:
    if not text:
        return None
    digits = re.sub(r"\D", "", text)
    offset = timedelta(hours=int(digits[:2] or 0), minutes=int(digits[2:] or 0))
    return timezone(-offset if text[0] == "-" else offset)


def _apart(one: datetime, other: datetime) -> bool:
    """Whether two times differ by more than a moment; one without a zone may be local or UTC."""
    if one.tzinfo and other.tzinfo:
        return abs((one - other).total_seconds()) > APART
    return all(abs((a - b).total_seconds()) > APART for a in _clocks(one) for b in _clocks(other))


def _clocks(moment: datetime) -> list[datetime]:
    utc = [moment.astimezone(UTC).replace(tzinfo=None)] if moment.tzinfo else []
    return [moment.replace(tzinfo=None), *utc]


def _shown(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")


# Patterns of one's own ------------------------------------------------------------------------------------------------

_DIRECTIVES = {
    **dict.fromkeys("ymdHIMS", r"\d\d"),
    **{"Y": r"\d{4}", "j": r"\d{3}", "f": r"\d{1,6}"},
    **{"b": "[A-Za-z]{3}", "p": "[AaPp][Mm]", "z": r"Z|[+-]\d\d:?\d\d"},
}
# What a pattern may leave out; and the ways to state the rest: year, day, hour and minute.
_OPTIONAL = dict.fromkeys(map(ord, "Sfz"))
_WHOLE = [sorted(f"{year}{day}{hour}M") for year in "Yy" for day in ("md", "bd", "j") for hour in ("H", "Ip")]


@attrs.frozen
class _Pattern:
    """A pattern as a regular expression with a group for each of its directives."""

    names: re.Pattern[str]
    directives: str

    @classmethod
    def of(cls, text: str) -> _Pattern:
        parts = re.split(r"(%.?|\*)", text)
        directives = "".join(part[1:] for part in parts[1::2] if part not in {"*", "%%"})
        unknown = [part for part in parts[1::2] if part not in {"*", "%%"} and part[1:] not in _DIRECTIVES]
        if unknown:
            known = " ".join(f"%{letter}" for letter in _DIRECTIVES)
            raise CallError(f"time pattern {text!r}: {unknown[0]} is unknown; known: {known} %% *")
        once = len(set(directives)) == len(directives)
        if not once or sorted(directives.translate(_OPTIONAL)) not in _WHOLE:
            raise CallError(f"time pattern {text!r}: date and time are needed, once each, such as %Y%m%d_%H%M%S")
        written = {"*": ".*?", "%%": "%"}
        names = "".join(
            written.get(part) or f"({_DIRECTIVES[part[1:]]})" if number % 2 else re.escape(part)
            for number, part in enumerate(parts)
        )
        return cls(re.compile(names, re.DOTALL), directives)

    def time(self, name: str) -> datetime | None:
        """The time in a name that is of the pattern, with its suffix or without; None if it is not, or impossible."""
        parts = self.names.fullmatch(_stem(name)) or self.names.fullmatch(name)
        if not parts:
            return None
        try:
            stated = datetime.strptime(" ".join(parts.groups()), " ".join(f"%{letter}" for letter in self.directives))
        except ValueError:
            return None
        return plausible(stated)
