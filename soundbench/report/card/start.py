"""What is known of the weights that a network began with (`[init]`): what they learnt from, by their own model card."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from soundbench import files, limits
from soundbench.report.card import front_matter

__all__ = ["known_of", "licences", "sentence"]

_CARD = "README.md"
_UNKNOWN = "not stated"


def known_of(given: str | os.PathLike[str], place: Path) -> list[dict[str, str]]:
    """The weights that a network began with, those that these began with, and so on, as far as cards say.

    Args:
        given: what the recipe names.
        place: where that is: a run directory, a model folder or a file of weights.

    Returns:
        For each the `name`, and by its card the `data` that it learnt from, the licence of that (`data_license`) and
        its own (`license`), each empty where that is not known.
    """
    text = _card(place)
    facts = front_matter.facts_of(text)
    own = facts.get("own_data_license", facts.get("data_license"))
    one = {
        "name": _name(Path(given)),
        "data": str(facts.get("data") or ""),
        "data_license": str(own or ""),
        "license": front_matter.scalar_of(text, "license").removeprefix("unknown"),
    }
    before = facts.get("began_with")
    earlier = [item for item in (before if isinstance(before, list) else []) if isinstance(item, Mapping)]
    return [one, *({key: str(item.get(key, "")) for key in one} for item in earlier)]


def _card(place: Path) -> str:
    """The text of the card beside weights; empty if there is none."""
    folders = [place / "model", place]
    if place.is_file():
        of_run = [place.parent.parent / "model"] if place.parent.name == "checkpoints" else []
        folders = [place.parent] if place.name == "weights.safetensors" else of_run
    for folder in folders:
        try:
            return files.read_bytes(folder / _CARD, limits.TEXT).decode()
        except (OSError, ValueError):
            continue
    return ""


def _name(given: Path) -> str:
    """What a reader knows weights by: a name without the folders of this machine."""
    names = [name for name in given.parts if name not in ("model", "weights.safetensors", "checkpoints", os.sep)]
    return names[-1] if names else given.name


def sentence(began_with: Sequence[Mapping[str, str]]) -> str:
    """With which weights the network began, and what these learnt from; empty if it began with none."""
    if not began_with:
        return ""
    said = ", which began with those of ".join(f"{one['name']} ({_learnt(one)})" for one in began_with)
    return f"It began with the weights of {said}."


def _learnt(one: Mapping[str, str]) -> str:
    known = [one[key] for key in ("data", "data_license") if one[key]]
    if not known:
        return "what these learnt from is not stated here"
    return ", ".join(known if one["data_license"] else [*known, f"licence {_UNKNOWN}"])


def licences(own: str, began_with: Sequence[Mapping[str, str]], what: str) -> str:
    """A licence with those of the weights at the start, so that it does not look complete where those are unknown.

    Args:
        own: that of the model or of its data; empty where nobody has stated it.
        began_with: of `known_of`.
        what: `license` or `data_license`.
    """
    parts = [f"{one['name']}: {one[what] or _UNKNOWN}" for one in began_with]
    return "; ".join([own or _UNKNOWN, *parts]) if parts else own
