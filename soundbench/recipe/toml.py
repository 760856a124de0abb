"""TOML text to plain tables, within limits: a hostile file is refused at once, and not after minutes."""

from __future__ import annotations

import re
from typing import Any

import tomli

from soundbench import limits

__all__ = ["parse", "parse_value"]


def parse(data: bytes | str) -> dict[str, Any]:
    """The tables of TOML text.

    Args:
        data: the text; bytes are UTF-8, with or without a mark.

    Raises:
        ValueError: it is not UTF-8 or not TOML, or exceeds one of `soundbench.limits`; the message is a phrase.
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text: invalid byte at offset {error.start}") from error
    _refuse_many(text)
    try:
        tables = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        message, _, place = str(error).rpartition(" (at ")
        place = place.rstrip(")").replace("end of document", "the end of the file")
        raise ValueError(f"{place}: {message[:1].lower()}{message[1:]}") from error
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:  # an integer of more than 4,300 digits
        raise ValueError(f"a number that is too long: {error}".partition(";")[0]) from error
    _refuse_deep(tables)
    return tables


def parse_value(text: str) -> Any:
    """The value of TOML that a text is, as after `--set KEY=`; any other text is a string."""
    try:
        tables = parse(f"value = {text}")
    except ValueError:
        return text
    return tables["value"] if list(tables) == ["value"] else text


_TOO_DEEP = f"tables or lists are nested more than {limits.NESTING} deep"


def _refuse_many(text: str) -> None:
    """Refuse what would take the parser long: its time grows with the square of the parts of a dotted key."""
    if max(text.count("="), text.count("[")) > limits.KEYS:
        raise ValueError(f"more than {limits.KEYS:,} keys or lists")
    if text.count(",") > limits.ITEMS:
        raise ValueError(f"lists of more than {limits.ITEMS:,} items")
    for line in text.splitlines():
        if line.count(".") > limits.NESTING and not line.lstrip().startswith("#"):
            keys = re.findall(r"[^=,{}\[\]]+", line)  # and values, of which no number and few strings have many dots
            if any(key.count(".") > limits.NESTING and not _QUOTED.fullmatch(key) for key in keys):
                raise ValueError(_TOO_DEEP)


_QUOTED = re.compile(r"""\s*("[^"]*"|'[^']*')\s*""")


def _refuse_deep(tables: dict[str, Any]) -> None:
    pending: list[tuple[Any, int]] = [(tables, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > limits.NESTING:
            raise ValueError(_TOO_DEEP)
        if isinstance(value, dict | list):
            inside = value.values() if isinstance(value, dict) else value
            pending += [(item, depth + 1) for item in inside if isinstance(item, dict | list)]
