"""Reads a component's signature: positional parameters are supplied by the framework, keyword-only ones are options.

Only the annotations of keyword-only parameters are evaluated, so that the others can use names that are imported only
for type checking.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import attrs

__all__ = ["options_of"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def options_of(obj: Callable[..., Any], supplied: tuple[str, ...]) -> tuple[type, list[str]]:
    """An attrs class of a component's options, and the faults of its signature.

    Args:
        obj: the class or function.
        supplied: the names of the parameters that the framework supplies, in order.
    """
    try:
        parameters = inspect.signature(obj).parameters.values()
    except (TypeError, ValueError) as error:
        return attrs.make_class("Options", {}), [f"its signature cannot be read: {error}"]
    faults = _check_positional([p.name for p in parameters if p.kind in _POSITIONAL], supplied)
    faults += [f"{_VARIADIC[p.kind]}{p.name} hides its options" for p in parameters if p.kind in _VARIADIC]
    fields, namespace = {}, _namespace(obj)
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            try:
                fields[parameter.name] = _field(parameter, namespace)
            except ValueError as error:
                faults.append(f'option "{parameter.name}" {error}')
    return attrs.make_class("Options", fields, frozen=True, kw_only=True), faults


def _check_positional(given: list[str], supplied: tuple[str, ...]) -> list[str]:
    if tuple(name.lstrip("_") for name in given) == supplied:
        return []
    return [
        f"its positional parameters are ({', '.join(given)}), but the framework supplies "
        f"({', '.join(supplied)}); options must be keyword-only, after the star"
    ]


def _field(parameter: inspect.Parameter, namespace: dict[str, Any]) -> Any:
    if parameter.name == "use":
        raise ValueError("has a reserved name: in a recipe, this key names the component")
    if parameter.annotation is parameter.empty:
        raise ValueError("has no type")
    try:
        hints = SimpleNamespace(__annotations__={"it": parameter.annotation})
        kind = typing.get_type_hints(hints, globalns=namespace, include_extras=True)["it"]
    except Exception as error:
        raise ValueError(f"has a type that cannot be evaluated, {parameter.annotation}: {error}") from error
    if parameter.default is parameter.empty:
        return attrs.field(type=kind)
    return attrs.field(type=kind, default=parameter.default)


def _namespace(obj: Callable[..., Any]) -> dict[str, Any]:
    """The namespace of the annotations of a component's constructor."""
    function = obj.__init__ if inspect.isclass(obj) else obj
    function = inspect.unwrap(function)
    module = sys.modules.get(getattr(function, "__module__", ""))
    return {**(vars(module) if module else {}), **getattr(function, "__globals__", {})}
