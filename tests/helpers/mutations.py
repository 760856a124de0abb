"""Mutations of text and of parsed tables, for tests that no input ends in a traceback."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from datetime import date
from typing import Any

# Values that recipes and tables do not expect; a fresh copy of a list or a table is taken each time.
VALUES: list[Any] = [
    *(0, -1, 1, 3, 2**31, 2**63 - 1, -(2**63), 10**18, 10**9, 100_000_000, 4097, 65537),
    *(0.0, -0.0, 0.5, 1e308, -1e308, 1e-308, 1e9, float("inf"), float("-inf"), float("nan")),
    *(True, False, "", " ", "auto", "off", "none", "\0", "a\0b", "\x1b[31m", "two\nlines", "\u202e", "x" * 5000),
    *("/dev/zero", "/", ".", "..", "~", "~nobody/x", "./x.py:X", "fbank", "tdnn", "manifest", "[", "{}", "9" * 400),
    *([], [[]], [1, "a", 0.5], [-1] * 3, [100_000_000, 1, 1], {}, {"use": "fbank"}, {"use": 3}, {"a": {"b": [{}]}}),
    date(1979, 5, 27),
]

PIECES = [
    *("[", "]", "[[", "{", "}", "=", ".", ",", '"', "'", '"""', "\n", "\r\n", "\0", "\x1b", "#", "\\", "\\u0000", "\t"),
    *("[" * 500, "{a=" * 200, ".a" * 200, "9" * 5000, "0x" + "f" * 9000, "1e999", "nan", "-inf", "\ufeff", "\ud800"),
    *("extends = 'x.toml'\n", "[train]\n", "use", "1979-05-27", "猫", "\u202e", "a" * 10_000, "\n[[observer]]\n", ";"),
]


def mutated_text(text: str, chance: random.Random) -> str:
    """The text with up to four pieces removed, doubled, replaced or put in."""
    for _ in range(chance.randint(1, 4)):
        begin = chance.randrange(len(text) + 1)
        end = min(len(text), begin + chance.choice([0, 1, 3, 20, 200]))
        put = chance.choice([*PIECES, text[begin:end] * 2, "", chr(chance.randrange(1, 0x3000))])
        text = text[:begin] + put + text[end:]
    return text


def mutated_tables(tables: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """A copy of the tables with one to three values replaced, removed, renamed or moved."""
    tables = copy.deepcopy(tables)
    for _ in range(chance.choice([1, 1, 2, 3])):
        places = list(_places(tables))
        if not places:
            break
        inside, key = chance.choice(places)
        if type(inside[key]) in (int, float) and chance.random() < 0.5:
            inside[key] *= chance.choice([0, -1, 2, 3, 10, 1000, 10**6, 10**12])
        elif (what := chance.randrange(6)) == 0:
            del inside[key]
        elif what == 1 and isinstance(inside, dict):
            inside[chance.choice(["use", "x", "", "a.b", "two\nlines", "\x1b", key.upper(), key + "s"])] = inside[key]
        elif what == 2:
            inside[key] = [inside[key]] if chance.random() < 0.5 else {"x": inside[key]}
        elif what == 3:
            other, name = chance.choice(places)
            inside[key] = copy.deepcopy(other[name])
        else:
            inside[key] = copy.deepcopy(chance.choice(VALUES))
    return tables


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    items = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    for key, value in items:
        yield node, key
        yield from _places(value)
