"""What a tar shard holds: its sounds and their labels, found in one pass in which nothing is unpacked.

A shard is a tar file that is not compressed. A sound is a member with a name that soundbench knows as one of a sound
file (WAV, FLAC, Ogg, MP3, ...); a member of the same name that ends in `.json` is an object with its labels. Other
members are passed over. Whatever else is wrong with a shard is an error, since the sound of it would be missing.
"""

from __future__ import annotations

import os
import sys
import tarfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, BinaryIO, Self

import attrs

from soundbench import audio, limits
from soundbench.errors import DataError
from soundbench.files import parse_json
from soundbench.sources import open_source, state_of

__all__ = ["Labels", "Listing", "Member", "listing"]

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
_NOTHING: Mapping[str, str] = {}
_OWN = frozenset({"start", "stop", "path"})  # names of columns that clips have for something else


@attrs.frozen
class Labels:
    """Which keys of a JSON object say what.

    Attributes:
        label: that of the label, or of the list of them if `multilabel`.
        multilabel: whether a clip has any number of labels.
        group: that of the group; None for `group`, if there is one.
    """

    label: str
    multilabel: bool
    group: str | None


@attrs.frozen
class Member:
    """A sound in a shard.

    Attributes:
        name: its name, without `./`.
        offset: where it begins, in bytes.
        size: bytes.
        labels: of its JSON.
        fold: of its JSON, if it has one.
        group: of its JSON, if it has one.
        extra: further texts and numbers of its JSON.
    """

    name: str
    offset: int
    size: int
    labels: tuple[str, ...]
    fold: int | str | None
    group: str | None
    extra: Mapping[str, str]


@attrs.frozen
class Listing:
    """A shard.

    Attributes:
        name: its path or address.
        state: what changes whenever it does.
        members: its sounds by their names, in order.
    """

    name: str
    state: str
    members: Mapping[str, Member]


def listing(name: str, keys: Labels) -> Listing:
    """Look through a shard.

    Raises:
        MissingDataError: there is no such shard.
        DataError: it cannot be read, or something in it is wrong; the first mistake is named.
    """
    state = state_of(name)
    with open_source(name) as file:
        sounds: dict[str, tarfile.TarInfo] = {}
        objects: dict[str, Any] = {}
        for member in _members(name, file):
            stem, suffix = os.path.splitext(member.name)
            suffix = suffix.lower()
            known: Mapping[str, Any] = objects if suffix == ".json" else sounds
            if suffix != ".json" and suffix not in audio.SUFFIXES:
                continue
            if stem in known:
                raise DataError(f"{name}: {_twice(member, known[stem])}; the stem of a name is its clip")
            if suffix == ".json":
                objects[stem] = _object(name, file, member)
            else:
                sounds[stem] = member
    for stem in sorted(objects.keys() - sounds.keys()):
        raise DataError(f"{name}: {stem}.json is of no sound: there is no other member {stem}.wav, .flac, .ogg, ...")
    members = (_member(name, sound, stem, objects, keys) for stem, sound in sounds.items())
    return Listing(name, state, {member.name: member for member in members})


def _twice(member: tarfile.TarInfo, other: Any) -> str:
    """What is said of a member whose stem a sound, or a JSON object, had before."""
    if isinstance(other, tarfile.TarInfo) and other.name != member.name:
        return f"{other.name!r} and {member.name!r} are two sounds of one stem"
    return f"two members are named {member.name!r}"


class _Header(tarfile.TarInfo):
    """The header of a member. `tarfile` takes one that is damaged or cut off for the end, and an end for no matter.

    It reads the texts that belong to a header whatever their size, and a size below 0 leads it back to where it was.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _TEXTS and found.size > limits.TEXT:
            raise tarfile.ReadError(f"a header has {found.size:,} bytes; one has at most {limits.TEXT:,}")
        return found

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            found = super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            kind = type(error).__name__
            if kind == "EOFHeaderError":  # of two blocks of zeros
                raise
            raise tarfile.ReadError(_CUT if kind in _SHORT else f"{error}") from None
        if found.size < 0:
            raise tarfile.ReadError(f"the size of {found.name!r} is {found.size}")
        return found


_SHORT = ("EmptyHeaderError", "TruncatedHeaderError")
_CUT = "it is cut off; copy it again"
# Headers that `tarfile` reads with what follows them: long names, and further values.
_TEXTS = frozenset(
    {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
)


def _members(name: str, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The files in a shard, with plain names.

    Raises:
        DataError: it is no tar file, is cut off, or holds what no shard of sound does.
    """
    begin = file.peek(2)[:2]  # type: ignore[attr-defined]
    if begin in _COMPRESSED:
        raise DataError(
            f"{name}: compressed by {_COMPRESSED[begin]}, so that no part can be read alone; unpack it once"
        )
    try:
        with tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined] # else it would keep them all
                member.name = member.name.removeprefix("./")
                _refuse_odd(name, member)
                if member.isreg():
                    yield member
    except tarfile.ReadError as error:
        reason = _CUT if "unexpected end" in str(error) else str(error)
        raise DataError(f"{name}: cannot be read as a tar file: {reason}") from None
    except (ValueError, OverflowError, RecursionError):  # that `tarfile` raises, some versions of it more often
        raise DataError(f"{name}: cannot be read as a tar file: a header in it is damaged") from None


def _refuse_odd(name: str, member: tarfile.TarInfo) -> None:
    """Refuse links, devices, and names that lead out of the shard: who made it wanted something else."""
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise DataError(f"{name}: {member.name!r} is a link or a device; a shard holds plain files only")
    if member.name.startswith("/") or ".." in member.name.split("/") or "\\" in member.name:
        raise DataError(f"{name}: the name {member.name!r} leads out of the shard; make it without .. and a leading /")


def _object(name: str, file: BinaryIO, member: tarfile.TarInfo) -> Any:
    """The value of a JSON member."""
    where = f"{name}: {member.name}"
    if member.size > limits.TEXT:
        raise DataError(f"{where}: has {member.size:,} bytes; JSON of a clip has at most {limits.TEXT:,}")
    file.seek(member.offset_data)
    data = file.read(member.size)
    if len(data) < member.size:
        raise DataError(f"{name}: cannot be read as a tar file: {_CUT}")
    try:
        value = parse_json(data)
    except ValueError as error:
        raise DataError(f"{where}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f'{where}: must be a JSON object, such as {{"label": "dog"}}, is {str(value)[:40]}')
    return value


def _member(name: str, sound: tarfile.TarInfo, stem: str, objects: Mapping[str, Any], keys: Labels) -> Member:
    """A sound with what its JSON says."""
    if stem not in objects:
        raise DataError(f"{name}: {sound.name} has no JSON: there is no member {stem}.json with its label")
    given, where = objects[stem], f"{name}: {stem}.json"
    if keys.label not in given:
        found = ", ".join(sorted(given)) or "nothing"
        raise DataError(f"{where}: has no {keys.label!r}, which dataset.label names; it has {found}")
    group = keys.group or "group"
    if keys.group and keys.group not in given:
        raise DataError(f"{where}: has no {keys.group!r}, which dataset.group names")
    texts = {sys.intern(key): sys.intern(str(one)) for key, one in given.items() if _is_plain(one) and str(one)}
    fold = texts.get("fold")
    extra = {key: text for key, text in texts.items() if key not in _OWN | {keys.label, "group", "fold", group}}
    labels = _labels(where, given[keys.label], keys)
    return Member(
        sound.name,
        sound.offset_data,
        sound.size,
        labels,
        int(fold) if fold and fold.isdecimal() and len(fold) <= limits.DIGITS else fold,
        texts.get(group),
        extra or _NOTHING,
    )


def _labels(where: str, value: Any, keys: Labels) -> tuple[str, ...]:
    """The labels that a JSON value gives."""
    given = value if keys.multilabel and isinstance(value, list) else [value]
    if not given or not all(_is_plain(one) and str(one) for one in given):
        wanted = "a list of texts" if keys.multilabel else "a text"
        advice = "" if keys.multilabel or not isinstance(value, list) else "; set dataset.multilabel = true"
        raise DataError(f"{where}: {keys.label!r} must be {wanted}, is {str(value)[:40]!r}{advice}")
    return _once(tuple(map(str, given)))


@lru_cache(1 << 12)
def _once(labels: tuple[str, ...]) -> tuple[str, ...]:
    """The same object for equal labels, which a million clips share."""
    return labels


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
