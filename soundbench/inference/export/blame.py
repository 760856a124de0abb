"""Which part of a model an exporter cannot export, and what stops it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from soundbench.errors import BrokenPlugin
from soundbench.inference.classifier import Classifier
from soundbench.inference.export.program import parts_of
from soundbench.recipe.registry import Component
from soundbench.recipe.source_code import place_of

__all__ = ["named", "to_blame"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# The longest reason that is given.
_LONGEST = 300


def to_blame(
    component: Component, classifier: Classifier, tables: Mapping[str, Any], values: Mapping[str, Any], error: Exception
) -> BrokenPlugin:
    """The error for an export that has failed: each part is exported alone, and the first that fails is named.

    Args:
        component: the exporter.
        classifier: the model.
        tables: the content of its `model.toml`.
        values: the exporter's options.
        error: what stopped the export of the whole.
    """
    for kind, part, program in parts_of(classifier):
        try:
            component.obj(program, **values).export()
        except Exception as own:
            place = place_of(own, type(part).__module__)
            return BrokenPlugin(f"{named(tables, kind)} cannot be exported to {component.name}: {_reason(own)}{place}")
    place = place_of(error, component.obj.__module__)
    return BrokenPlugin(f'exporter "{component.name}" cannot export this model: {_reason(error)}{place}')


def named(tables: Mapping[str, Any], kind: str) -> str:
    """A component of a model, for a message."""
    use = tables.get(kind, {}).get("use")
    return f'{kind} "{use}"' if use else f"the {kind}"


def _reason(error: BaseException) -> str:
    """What the innermost cause of an error says, on one line."""
    while inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = inner
    lines = [" ".join(line.split()) for line in _COLOUR.sub("", str(error)).splitlines()]
    text = next(filter(None, lines), "")
    return f"{type(error).__name__}: {text[:_LONGEST]}".rstrip(": ")
