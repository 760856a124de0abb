"""Formatting for messages: values and types in the notation of recipes, nearest known names, sizes."""

from __future__ import annotations

import difflib
import inspect
import re
import types
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

__all__ = [
    "describe",
    "escaped",
    "is_mapping",
    "is_sequence",
    "is_set",
    "is_union",
    "join",
    "markdown",
    "megabytes",
    "nearest",
    "normal",
    "out_of_memory",
    "parts_of",
    "printable",
    "show",
    "spell",
    "unknown_key",
    "with_article",
]

_WORDS: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a string",
    Path: "a path",
}


# What a name must not do to a terminal or to a table: move the cursor, begin a line, change the direction of the text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    r"""Text on one line: control characters, line breaks and lone surrogates as `\n`, `\t` and `\u001b`, as in JSON."""
    return _CONTROL.sub(lambda found: _SHORT.get(found[0], f"\\u{ord(found[0]):04x}"), text)


def escaped(text: str) -> str:
    """Text for a terminal: as `printable`, but line breaks and tabs are kept. JSON and TOML stay what they are."""
    return re.sub(r"[^\n\t]+", lambda found: printable(found[0]), text)


def markdown(text: str) -> str:
    """Text on one line, escaped so that Markdown shows it as it is."""
    one_line = printable(" ".join(text.split()))
    escaped = re.sub(r"[\\`*|~<>\[\]]|&(?=#?\w+;)|(?<!\w)_|_(?!\w)", r"\\\g<0>", one_line)
    return f"\\{escaped}" if escaped.startswith(("#", "-", "+")) and escaped != "-" else escaped


def megabytes(count: int) -> str:
    """A number of bytes, as `12 MB` or `1.2 MB`."""
    return f"{count / 1e6:,.0f} MB" if count >= 10_000_000 else f"{count / 1e6:.1f} MB"


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, in whichever words: Python's, NumPy's or torch's."""
    words = ("DefaultCPUAllocator", "not enough memory")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and any(word in str(error) for word in words))


def join(key: str, part: str | int) -> str:
    """Append a key or an index to a dotted path; a key is quoted where TOML requires it."""
    if isinstance(part, int):
        return f"{key}[{part}]"
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", part):
        part = show(part)
    return f"{key}.{part}" if key else part


def show(value: Any) -> str:
    """The value in TOML notation, shortened to 80 characters."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = '"' + printable(value[:200].replace("\\", "\\\\").replace('"', '\\"')) + '"'
    elif isinstance(value, int) and value.bit_length() > 10_000:  # Python writes no more than 4,300 digits
        text = f"an integer of {value.bit_length():,} bits"
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{join('', str(key))} = {show(item)}" for key, item in list(value.items())[:9]) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(show(item) for item in value[:20]) + "]"
    else:
        text = str(value)
    return text if len(text) <= 80 else text[:76] + " ..."


def with_article(noun: str) -> str:
    """A noun after `a` or `an`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def nearest(name: str, known: Collection[str]) -> str:
    """`; did you mean "x"?` if a known name is similar, else an empty string."""
    lowered = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f'; did you mean "{lowered[close[0]]}"?' if close else ""


def spell(kind: Any) -> str:
    """A type as Python source without module names: `float | "off"`."""
    if kind is type(None):
        return "None"
    if get_origin(kind) is Literal:
        return " | ".join(show(value) for value in get_args(kind))
    if is_union(kind):
        return " | ".join(spell(part) for part in get_args(kind))
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", inspect.formatannotation(kind))


def _or(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def describe(kind: Any) -> str:
    """A description of the values of a type, such as `a number`."""
    if kind in _WORDS:
        return _WORDS[kind]
    if get_origin(kind) is Literal:
        return _or(show(value) for value in get_args(kind))
    if is_union(kind):
        return _or(describe(part) for part in sorted(parts_of(kind), key=_is_container))
    parts = [describe(part) for part in parts_of(kind)]
    if is_sequence(kind):
        return "a list" + (f" (each {_or(dict.fromkeys(parts))})" if parts and parts != ["anything"] else "")
    if is_mapping(kind) or hasattr(kind, "__attrs_attrs__"):
        return "a table"
    return "anything" if kind is Any else f"of the type {spell(kind)}"


def is_union(kind: Any) -> bool:
    """`X | Y`, or `X | None`."""
    return get_origin(kind) in (Union, types.UnionType)


def is_sequence(kind: Any) -> bool:
    """A list or tuple of something."""
    origin = get_origin(kind) or kind
    return inspect.isclass(origin) and issubclass(origin, Sequence) and not issubclass(origin, str | bytes)


def is_set(kind: Any) -> bool:
    """A set of something; TOML has no sets."""
    origin = get_origin(kind) or kind
    return inspect.isclass(origin) and issubclass(origin, Set)


def is_mapping(kind: Any) -> bool:
    """A dict of something."""
    origin = get_origin(kind) or kind
    return inspect.isclass(origin) and issubclass(origin, Mapping)


def _is_container(kind: Any) -> bool:
    return is_sequence(kind) or is_mapping(kind)


def parts_of(kind: Any) -> tuple[Any, ...]:
    """The type arguments of a type."""
    if get_origin(kind) is Literal:
        return ()
    return tuple(part for part in get_args(kind) if part not in (Ellipsis, type(None)))


def normal(name: Any) -> Any:
    """A name in the form in which names are compared: NFC, so that `é` is one character; other values as they are."""
    return unicodedata.normalize("NFC", name) if isinstance(name, str) else name


def unknown_key(name: str, known: Collection[str]) -> str:
    """The message for a key that a table does not have."""
    return f"unknown key{nearest(name, known) or ';'} known: {', '.join(known) or 'none'}"
