"""Convert TOML values to typed Python values, strictly, and report every mistake with its path.

TOML is typed, so nothing is coerced: a string is not a number, 3.7 is not an integer, true is not 1. The one exception:
an integer is a valid number. cattrs walks the types and collects the mistakes; `structure` turns them into `Problem`s:
the path, what is allowed, the given value, and the nearest known name.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import (
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
    StructureHandlerNotFoundError,
)
from cattrs.gen import make_dict_structure_fn, override

from soundbench import limits
from soundbench.errors import Problem
from soundbench.messages import (
    describe,
    is_mapping,
    is_sequence,
    is_set,
    is_union,
    join,
    nearest,
    parts_of,
    show,
    spell,
    unknown_key,
)

__all__ = ["key_of", "plain", "problems_of", "structure", "unfit_fields"]

T = TypeVar("T")

_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes of a file's name, and of a path


def structure(cls: type[T], table: Any, key: str) -> tuple[T | None, list[Problem]]:
    """Make an instance of an attrs class from a table, or list all mistakes in the table.

    Args:
        cls: the attrs class; its fields are the keys, their validators check the ranges.
        table: the table in the recipe.
        key: the table's dotted path, for the problems.
    """
    try:
        return _converter.structure(table, cls), []
    except Exception as error:
        return None, problems_of(error, key)


def key_of(field: attrs.Attribute[Any]) -> str:
    """A field's key in a table: its name, or `key` in its metadata if the key is a Python keyword."""
    return str(field.metadata.get("key", field.name))


def unfit_fields(cls: type) -> list[str]:
    """The faults of a component's options: types that a recipe cannot hold, defaults of another type."""
    faults = []
    for field in attrs.fields(cls):
        if not _can_hold(field.type):
            faults.append(f'option "{field.name}" has the type {spell(field.type)}, which a recipe cannot hold')
        elif field.default not in (None, attrs.NOTHING):
            try:
                _converter.structure(field.default, field.type)
            except Exception as error:
                reason = "; ".join(problem.message for problem in problems_of(error, ""))
                faults.append(f'option "{field.name}" has a default that is not of its type: it {reason}')
    return faults


def _can_hold(kind: Any) -> bool:
    try:
        _converter.get_structure_hook(kind)
    except (StructureHandlerNotFoundError, TypeError):
        return False
    return all(_can_hold(part) for part in parts_of(kind))


def plain(value: Any) -> Any:
    """The value for TOML: paths as strings, tuples as lists, attrs objects as tables, None left out."""
    if attrs.has(type(value)):
        value = {key_of(field): getattr(value, field.name) for field in attrs.fields(type(value))}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


# -- strict hooks --------------------------------------------------------------------------------------------------


def _wrong(kind: Any, value: Any) -> ValueError:
    near = ""
    if isinstance(value, str):
        literals = [part for part in (kind, *get_args(kind)) if get_origin(part) is Literal]
        near = nearest(value, [item for part in literals for item in get_args(part) if isinstance(item, str)])
    return ValueError(f"must be {describe(kind)}, is {show(value)}{near}")


def _integer(value: Any, _: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise _wrong(int, value)
    if abs(int(value)) > limits.INTEGER:
        raise ValueError(f"must be an integer of 64 bits, is {show(value)}")
    return int(value)


def _number(value: Any, _: Any) -> float:
    try:
        if not isinstance(value, bool) and isinstance(value, Real) and not math.isnan(value):
            return float(value)
    except OverflowError:
        pass
    raise _wrong(float, value)


def _truth(value: Any, _: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(bool, value)
    return value


def _string(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(str, value)
    return _utf8(value)


def _utf8(text: str) -> str:
    """The text, if a TOML file can hold it: arguments and names of files may have bytes that are not UTF-8."""
    if _SURROGATE.search(text):
        raise ValueError(f"must be UTF-8 text, is {show(text)}")
    return text


def _path(value: Any, _: Any) -> Path:
    """A path relative to the working directory, made absolute."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise _wrong(Path, value)
    text = _utf8(os.path.expanduser(os.fspath(value)))
    if "\0" in text:
        raise ValueError(f"must be a path, which has no NUL character, is {show(text)}")
    if len(text.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in text.split(os.sep)):
        raise ValueError(f"must be a path, whose names have at most {_LONGEST_NAME} bytes each, is {show(text)}")
    return Path(text).absolute()


def _literal(value: Any, kind: Any) -> Any:
    if not any(type(value) is type(item) and value == item for item in get_args(kind)):
        raise _wrong(kind, value)
    return value


def _union_hook(union: Any) -> Callable[[Any, Any], Any]:
    members = sorted(get_args(union), key=lambda member: member is not Path)

    def hook(value: Any, _: Any) -> Any:
        if value is None and NoneType in members:
            return None
        inside: Exception | None = None
        for member in members:
            if member is NoneType or (member is Path and str in members and not _is_there(value)):
                continue
            try:
                return _converter.structure(value, member)
            except (ClassValidationError, IterableValidationError) as error:
                inside = inside or error  # the right kind of value with a mistake inside: report that
            except ValueError:
                continue
        raise inside or _wrong(union, value)

    return hook


def _is_there(value: Any) -> bool:
    """Whether a string that could be a path or a name is a path: it is if it exists."""
    return isinstance(value, os.PathLike) or (isinstance(value, str) and os.path.exists(os.path.expanduser(value)))


def _items(kind: Any, items: Iterable[tuple[str | int, Any, Any]]) -> list[Any]:
    """Structure the items of a list or table, each (index or key, value, type), and collect the mistakes."""
    made: list[Any] = []
    errors: list[Exception] = []
    for index, value, part in items:
        try:
            made.append(_converter.structure(value, part))
        except Exception as error:
            error.add_note(IterableValidationNote("", index, part))
            errors.append(error)
            if len(errors) > limits.MISTAKES:
                break  # no more of them are listed
    if errors:
        raise IterableValidationError("", errors, kind)
    return made


def _sequence_hook(kind: Any) -> Callable[[Any, Any], Any]:
    """Lists and tuples; cattrs' own hook would accept a string as a list of its letters."""
    parts = get_args(kind) or (Any, ...)
    many = get_origin(kind) is not tuple or parts[-1] is Ellipsis
    made_of = tuple if issubclass(get_origin(kind) or kind, tuple) else list

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise _wrong(kind, value)
        if not many and len(value) != len(parts):
            raise ValueError(f"must be a list of {len(parts)}, is {show(value)}")
        kinds = [parts[0]] * len(value) if many else parts
        return made_of(_items(kind, [(index, *pair) for index, pair in enumerate(zip(value, kinds, strict=True))]))

    return hook


def _mapping_hook(kind: Any) -> Callable[[Any, Any], Any]:
    _, part = get_args(kind) or (str, Any)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise _wrong(kind, value)
        return dict(zip(value, _items(kind, [(key, item, part) for key, item in value.items()]), strict=True))

    return hook


def _field_hook(field: attrs.Attribute[Any]) -> Callable[[Any, Any], Any]:
    """Structure and validate one field, so that every value out of range is reported, not only the first."""

    def hook(value: Any, kind: Any) -> Any:
        if value is None and field.default is None:
            return None
        made = value if kind is Any else _converter.structure(value, kind)
        if field.validator is not None:
            field.validator(None, field, made)
        return made

    return hook


def _table_hook(cls: Any) -> Callable[[Any, Any], Any]:
    attrs.resolve_types(cls)
    hooks = {field.name: override(struct_hook=_field_hook(field), rename=key_of(field)) for field in attrs.fields(cls)}
    make = make_dict_structure_fn(cls, _converter, True, **hooks)  # type: ignore[arg-type]  # True: no unknown keys

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _wrong(cls, value)
        return make(value, cls)

    return hook


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _no_hook(kind: Any) -> Callable[[Any, Any], Any]:
    raise StructureHandlerNotFoundError(f"a recipe cannot hold {kind!r}", kind)


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(structure_fallback_factory=_no_hook)
    for kind, hook in ((int, _integer), (float, _number), (bool, _truth), (str, _string), (Path, _path)):
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_factory(is_set, _no_hook)
    converter.register_structure_hook_factory(is_sequence, _sequence_hook)
    converter.register_structure_hook_factory(is_mapping, _mapping_hook)
    converter.register_structure_hook_factory(is_union, _union_hook)
    converter.register_structure_hook_func(_is_literal, _literal)
    converter.register_structure_hook_factory(attrs.has, _table_hook)
    return converter


_converter = _make_converter()


# -- mistakes ------------------------------------------------------------------------------------------------------


def problems_of(error: BaseException, key: str, names: Collection[str] = ()) -> list[Problem]:
    """The problems for an exception from a type, a validator or a constructor.

    Args:
        error: the exception, or an exception group of cattrs.
        key: the dotted path of the table or value.
        names: the keys of the table; if the message starts with one of them, the problem is about that key.
    """
    if isinstance(error, ClassValidationError):
        keys = {field.name: key_of(field) for field in attrs.fields(error.cl)}
        names = list(keys.values())
        noted, others = error.group_exceptions()
        found = [
            problem for inner, note in noted for problem in _of_field(inner, join(key, keys[note.name]), note.type)
        ]
        return found + [problem for inner in others for problem in problems_of(inner, key, names)]
    if isinstance(error, IterableValidationError):
        return [p for inner, note in error.group_exceptions()[0] for p in problems_of(inner, join(key, note.index))]
    if isinstance(error, ForbiddenExtraKeysError):
        names, extras = [key_of(field) for field in attrs.fields(error.cl)], sorted(error.extra_fields)
        found = [Problem(join(key, extra), unknown_key(extra, names)) for extra in extras[: limits.MISTAKES]]
        return found + [Problem(join(key, extra), "unknown key") for extra in extras[limits.MISTAKES :]]
    return [_problem(str(error) or type(error).__name__, key, names)]


def _of_field(error: BaseException, key: str, kind: Any) -> list[Problem]:
    if isinstance(error, KeyError):  # raised by the code that cattrs generates
        return [Problem(key, f"is missing; it must be {describe(kind)}")]
    return problems_of(error, key)


def _problem(message: str, key: str, names: Collection[str]) -> Problem:
    """A problem; a key at the start of the message moves into its path."""
    first, _, rest = message.partition(" ")
    if rest and first in names:
        return Problem(join(key, first), rest)
    if rest and key.rpartition(".")[2] == first:
        return Problem(key, rest)
    return Problem(key, message)
