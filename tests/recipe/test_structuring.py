"""Strict structuring: TOML is typed, and nothing is coerced."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from soundbench.recipe.structuring import plain, problems_of, structure, unfit_fields


def make(kind: Any, value: Any) -> Any:
    """The value of a field of that type, or the message that refuses it."""
    made, problems = structure(attrs.make_class("Table", {"it": attrs.field(type=kind)}), {"it": value}, "table")
    assert (made is None) == bool(problems)
    return made.it if made is not None else [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float, float("inf"), float("inf")),
        (bool, True, True),
        (str, "", ""),
        (float | None, None, None),
        (float | Literal["off"], "off", "off"),
        (list[int], [], []),
        (list[int | str], [1, "a"], [1, "a"]),
        (list[int | str] | float, 1, 1.0),
        (tuple[float, ...], [1, 2.5], (1.0, 2.5)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (dict[str, float], {"a b": 1}, {"a b": 1.0}),
        (dict[str, Any], {"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}),
        (list, [1, "a"], [1, "a"]),
        (Any, {"a": 1}, {"a": 1}),
    ],
)
def test_what_is_of_its_type_is_taken(kind: Any, value: Any, made: Any) -> None:
    found = make(kind, value)
    assert found == made
    assert type(found) is type(made)


@pytest.mark.parametrize("kind", [Path | str, str | Path, Path | str | None])
def test_a_path_or_a_name_is_a_path_where_there_is_one(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it is absolute once resolved; a name, of something on a hub, say, stays as it was written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "models" / "large").mkdir(parents=True)
    assert make(kind, "models/large") == make(kind, "~/models/large") == tmp_path / "models" / "large"
    for name in ("models/small", "~/models/small", str(tmp_path / "gone"), "x" * 5000, ""):
        assert make(kind, name) == name
    assert make(kind, Path("models/small")) == tmp_path / "models" / "small"


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (int, 3.7, "table.it: must be an integer, is 3.7"),
        (int, 3.0, "table.it: must be an integer, is 3.0"),
        (int, "3", 'table.it: must be an integer, is "3"'),
        (int, True, "table.it: must be an integer, is true"),
        (float, False, "table.it: must be a number, is false"),
        (float, float("nan"), "table.it: must be a number, is nan"),
        (float, 10**400, "table.it: must be a number, is 1" + "0" * 75 + " ..."),
        (bool, 1, "table.it: must be true or false, is 1"),
        (str, 5, "table.it: must be a string, is 5"),
        (str, ["a"], 'table.it: must be a string, is ["a"]'),
        (Path, 3, "table.it: must be a path, is 3"),
        (Path, "", 'table.it: must be a path, is ""'),
        (list[int], "12", 'table.it: must be a list (each an integer), is "12"'),
        (list[int], {"a": 1}, "table.it: must be a list (each an integer), is {a = 1}"),
        (list[int], [1, "2"], 'table.it[1]: must be an integer, is "2"'),
        (tuple[int, int], [1], "table.it: must be a list of 2, is [1]"),
        (dict[str, float], [1], "table.it: must be a table, is [1]"),
        (dict[str, float], {"dog bark": "x"}, 'table.it."dog bark": must be a number, is "x"'),
        (Literal["purge", "allow"], "purg", 'table.it: must be "purge" or "allow", is "purg"; did you mean "purge"?'),
        (float | Literal["off"], "on", 'table.it: must be a number or "off", is "on"'),
        (list[int | str] | float, "1", 'table.it: must be a number or a list (each an integer or a string), is "1"'),
        (list[int | str] | float, [1.5], "table.it[0]: must be an integer or a string, is 1.5"),
        (str, "new\nline " + "x" * 99, None),
    ],
)
def test_what_is_not_is_refused_with_what_is_allowed(kind: Any, value: Any, message: str | None) -> None:
    assert make(kind, value) == ([message] if message else value)


def positive(_: Any, attribute: Any, value: int) -> None:
    if value <= 0:
        raise ValueError(f"{attribute.name} must be above 0, is {value}")


@attrs.frozen
class Inner:
    depth: int = attrs.field(default=1, validator=positive)


@attrs.frozen
class Outer:
    width: int = attrs.field(validator=positive)
    height: int = attrs.field(default=1, validator=positive)
    inner: Inner = Inner()
    many: list[Inner] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        if self.width > 10 * self.height:
            raise ValueError("width must be at most ten times height")


def test_every_fault_is_reported_with_its_path() -> None:
    table = {"width": 0, "height": -1, "inner": {"depth": 0, "deep": 1}, "many": [{}, {"depth": 0.5}], "heigth": 2}
    _, problems = structure(Outer, table, "a")
    assert [str(problem) for problem in problems] == [
        "a.width: must be above 0, is 0",
        "a.height: must be above 0, is -1",
        "a.inner.depth: must be above 0, is 0",
        'a.inner.deep: unknown key; did you mean "depth"? known: depth',
        "a.many[1].depth: must be an integer, is 0.5",
        'a.heigth: unknown key; did you mean "height"? known: width, height, inner, many',
    ]


def test_what_two_fields_disagree_on_is_reported_at_the_one_that_the_message_names() -> None:
    assert [str(problem) for problem in structure(Outer, {"width": 11}, "a")[1]] == [
        "a.width: must be at most ten times height"
    ]


def test_what_is_no_table_is_reported() -> None:
    assert [str(problem) for problem in structure(Outer, [1], "a")[1]] == ["a: must be a table, is [1]"]
    assert [str(problem) for problem in structure(Outer, {}, "")[1]] == ["width: is missing; it must be an integer"]


def test_a_constructors_error_is_reported_at_the_option_that_it_names() -> None:
    assert [str(p) for p in problems_of(ValueError("width must be odd"), "backbone", ["width"])] == [
        "backbone.width: must be odd"
    ]
    assert [str(p) for p in problems_of(ValueError("too wide"), "backbone", ["width"])] == ["backbone: too wide"]


def test_types_that_toml_cannot_hold_and_false_defaults_are_named() -> None:
    cls = attrs.make_class(
        "Options",
        {
            "good": attrs.field(type=list[int], default=(1, 2)),
            "bad": attrs.field(type=set[int]),
            "object": attrs.field(type=list[Problemless], default=()),
            "wrong": attrs.field(type=tuple[int, ...], default=(1, "x")),
        },
        kw_only=True,
    )
    assert unfit_fields(cls) == [
        'option "bad" has the type set[int], which a recipe cannot hold',
        'option "object" has the type list[Problemless], which a recipe cannot hold',
        'option "wrong" has a default that is not of its type: it must be an integer, is "x"',
    ]


class Problemless:
    """Nothing that TOML knows."""


def test_plain_values_are_what_toml_holds() -> None:
    assert plain({"a": None, "b": Path("x"), "c": (1, Path("y")), "d": Inner(3)}) == {
        "b": "x",
        "c": [1, "y"],
        "d": {"depth": 3},
    }
