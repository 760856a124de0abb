"""The head of a Markdown page as model hubs read it: YAML between lines of `---`, written and read without a library.

A page that soundbench has written carries a seal, a digest of all of it, which shows whether somebody has edited it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["facts_of", "is_as_written", "page", "scalar_of", "unread"]

OWN = "soundbench"
"""The key of what soundbench itself reads of the page: one line of JSON, which is YAML too."""

STATED = ("data_license", "own_data_license")
"""The facts that anybody may state anew. A change of any other is seen by the digest of the facts, which leaves these
out."""

_SEAL = re.compile(r'(?<="seal": ")[0-9a-f]{32}(?="\})')
_EMPTY = "0" * 32
# What YAML refuses even in quotes, or reads as the end of a line.
_UNPRINTABLE = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
# A string without quotes: no other type, no indicator, nothing that ends it.
_BARE = re.compile(r"[a-z][a-z0-9_./-]*(?: [a-z0-9_./-]+)*", re.IGNORECASE)
_OTHER_TYPES = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def page(head: Mapping[str, Any], facts: Mapping[str, Any], body: str) -> str:
    """A page with its head, sealed.

    Args:
        head: the keys for hubs: strings, numbers, lists and mappings.
        facts: what soundbench reads again by `facts_of`; values of JSON.
        body: the Markdown below the head.
    """
    own = _json({**facts, "digest": _digest_of(facts), "seal": _EMPTY})
    text = "\n".join(["---", *_block(head), f"{OWN}: {own}", "---", "", body])
    return _SEAL.sub(_digest(text), text, count=1)


def is_as_written(text: str) -> bool:
    """Whether a page is as `page` made it, to the letter."""
    found = _SEAL.search(text)
    return found is not None and found[0] == _digest(_SEAL.sub(_EMPTY, text, count=1))


def facts_of(text: str) -> dict[str, Any]:
    """The facts of a page that `page` made; where one was changed, only those that anybody may state anew."""
    facts, why_not = _own(text)
    return {key: facts[key] for key in STATED if key in facts} if why_not else facts


def unread(text: str) -> str:
    """Why `facts_of` lacks facts of a page that `page` made, in a line; empty if it does not."""
    return _own(text)[1]


def _own(text: str) -> tuple[dict[str, Any], str]:
    """What is at the key of soundbench, and why it is not what `page` wrote there; empty if it is, or was not there."""
    lines = [line for line in _head(text) if re.match(rf"{OWN}\s*:", line)]
    if not lines:
        return {}, ""
    try:
        found = json.loads(lines[0].partition(":")[2])
        facts = {key: value for key, value in found.items() if key not in ("digest", "seal")}
        same = found["digest"] == _digest_of(facts) or is_as_written(text)
        return facts, "" if same else "what soundbench wrote on its card was changed by hand"
    except (ValueError, RecursionError, AttributeError, KeyError):
        return {}, f'the line "{OWN}:" of its card is no longer the JSON that soundbench wrote'


def scalar_of(text: str, key: str) -> str:
    """The text at a key of the head, on its line or below; the items of a list with commas; empty if there is none."""
    lines = _head(text)
    for place, line in enumerate(lines):
        if found := re.match(rf"{re.escape(key)}\s*:(?=\s|$)", line):
            below = itertools.takewhile(lambda one: re.match(r"\s+\S|- ", one), lines[place + 1 :])
            value = _plain(line[found.end() :])
            items = [_plain(one.strip().removeprefix("- ")) for one in below]
            return ", ".join(items) if value.rstrip("+-") in ("", "|", ">") else value.strip("[]")
    return ""


def _plain(value: str) -> str:
    """A value of a line, without quotes and comment."""
    value = value.strip()
    quoted = re.fullmatch(r"""(["'])(.*)\1\s*(#.*)?""", value)
    return quoted[2] if quoted else re.sub(r"\s+#.*|^#.*", "", value)


def _head(text: str) -> list[str]:
    """The lines of the head."""
    first, *lines = text.removeprefix("\ufeff").splitlines() or [""]
    return lines[: lines.index("---")] if first.rstrip() == "---" and "---" in lines else []


def _digest_of(facts: Mapping[str, Any]) -> str:
    """A digest of facts in any order, as JSON has them."""
    return _digest(json.dumps({key: value for key, value in facts.items() if key not in STATED}, sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def _block(value: Mapping[str, Any] | Sequence[Any], indent: str = "") -> Iterator[str]:
    """Lines of YAML in block style."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _entry(f"{indent}{_scalar(key)}:", item, indent + "  ")
    else:
        for item in value:
            if isinstance(item, Mapping) and item:
                first, *more = _block(item, indent + "  ")
                yield from (f"{indent}- {first.lstrip()}", *more)
            else:
                yield from _entry(f"{indent}-", item, indent + "  ")


def _entry(head: str, item: Any, indent: str) -> Iterator[str]:
    if isinstance(item, Mapping | list | tuple) and item:
        yield head
        yield from _block(item, indent)
    else:
        yield f"{head} {_json(item) if isinstance(item, Mapping | list | tuple) else _scalar(item)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value) and value.lower() not in _OTHER_TYPES:
        return value
    text = _json(value)
    return re.sub(r"^(-?\d+)e", r"\1.0e", text) if isinstance(value, float) else text  # YAML 1.1 wants the point


def _json(value: Any) -> str:
    """A value as JSON that is YAML too: without the characters that YAML refuses."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
