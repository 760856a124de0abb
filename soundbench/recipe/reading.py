"""A recipe's file, what it extends, and what the command line sets, merged into one draft of plain tables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import tomli

from soundbench.contracts import KINDS
from soundbench.errors import Problem, RecipeError
from soundbench.messages import join, nearest, show
from soundbench.recipe.registry import is_file
from soundbench.recipe.tables import FORMAT

__all__ = ["Draft", "check_format", "draft_of", "find_recipe", "merge_component", "merge_tables", "read_draft"]

_SET = "given by --set"


@attrs.define
class Draft:
    """Tables not checked yet, and which file each key comes from.

    Attributes:
        source: the recipe's file, as messages name it.
        name: the recipe's name.
        tables: the merged tables.
        origins: dotted path to where it was written, unless that is the recipe's file.
        problems: mistakes found so far.
    """

    source: str
    name: str
    tables: dict[str, Any] = attrs.field(factory=dict)
    origins: dict[str, str] = attrs.field(factory=dict)
    problems: list[Problem] = attrs.field(factory=list)

    def located(self, problem: Problem) -> Problem:
        """The problem, told where it was written if that is not the recipe's own file."""
        above = [key for key in self.origins if problem.key == key or problem.key.startswith((f"{key}.", f"{key}["))]
        where = self.origins[max(above, key=len)] if above else ""
        return attrs.evolve(problem, message=f"{problem.message} ({where})") if where else problem

    def put(self, tables: Mapping[str, Any], base: Path, where: str = "") -> None:
        """Lay tables over what is there.

        Args:
            tables: from a file or from Python.
            base: the folder that local files are relative to.
            where: how messages tell these tables from the recipe's own; empty for its own.
        """
        for key, value in tables.items():
            value = normal(key, value, base)
            self.tables[key] = _merged(key, self.tables.get(key), value)
            self._mark(key, value, where)

    def _mark(self, key: str, value: Any, where: str) -> None:
        self.origins[key] = where
        items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        for part, item in items:
            self._mark(join(key, part), item, where)

    def set(self, path: Sequence[str | int], value: Any) -> None:
        """Put one value where a path leads, making the tables on the way.

        Raises:
            ValueError: the path leads nowhere.
        """
        if path == ["name"]:
            self.name = value
            return
        if len(path) == 1:
            self.put({str(path[0]): value}, Path(), _SET)
            return
        node, dotted = self.tables, ""
        for part in path[:-1]:
            node, dotted = self._step(node, part, dotted), join(dotted, part)
        last = str(path[-1])
        if not isinstance(node, dict):
            raise ValueError(f"{dotted} is no table, it is {show(node)}")
        if last == "use" and isinstance(value, str):
            value = _absolute(value, Path())
            if node.get("use") != value:
                node.clear()
        node[last] = merge_tables({"it": node.get(last)}, {"it": value})["it"]
        self._mark(join(dotted, last), value, _SET)

    def _step(self, node: Any, part: str | int, dotted: str) -> Any:
        """One table further down; made if it is not there."""
        if isinstance(part, str) and isinstance(node, dict):
            kind = KINDS.get(part) if node is self.tables else None
            below = node.get(part, [] if kind and kind.many else {})
            node[part] = normal(part, below, Path()) if kind else below
            return node[part]
        if isinstance(part, str):
            raise ValueError(f"{dotted} is no table, it is {show(node)}")
        if not isinstance(node, list):
            raise ValueError(f"{dotted} is no list, it is {show(node)}")
        if part > len(node):
            raise ValueError(f"there is no {dotted}[{part}], {dotted} has {len(node)}")
        if part == len(node):
            node.append({})
        return node[part]


def _absolute(use: str, base: Path) -> str:
    """A local file's `use`, independent of the folder that it was written for."""
    if not is_file(use):
        return use
    path, colon, name = use.rpartition(":") if ":" in use else (use, "", "")
    return os.path.abspath(base / Path(path).expanduser()) + colon + name


def normal(key: str, value: Any, base: Path) -> Any:
    """A component's table in its long form: `"name"` is short for a table with `use` alone."""
    kind = KINDS.get(key)
    if kind is None:
        return dict(value) if isinstance(value, Mapping) else value
    if kind.many and isinstance(value, list | tuple):
        return [_long(item, base) for item in value]
    return value if kind.many else _long(value, base)


def _long(value: Any, base: Path) -> Any:
    if isinstance(value, str) or callable(value):
        value = {"use": value}
    if not isinstance(value, Mapping):
        return value
    use = value.get("use")
    return {**value, "use": _absolute(use, base)} if isinstance(use, str) else dict(value)


def merge_tables(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merge; everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge_tables(merged[key], value) if both else value
    return merged


def merge_component(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A component's tables merge while they name the same one; another one starts from its own defaults."""
    if "use" in above and above["use"] != below.get("use"):
        return dict(above)
    return merge_tables(below, above)


def _merged(key: str, below: Any, above: Any) -> Any:
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return merge_component(below, above) if key in KINDS else merge_tables(below, above)


# -- files ---------------------------------------------------------------------------------------------------------


def shipped() -> Path | None:
    """The folder of the recipes that come with soundbench: inside the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    return next((folder for folder in (package / "recipes", package.parent / "recipes") if folder.is_dir()), None)


def find_recipe(path: str | Path) -> Path:
    """The recipe's file: as given, else the one of that name among those that ship with soundbench.

    Raises:
        RecipeError: it is not there.
    """
    given, folder = Path(path), shipped()
    if given.exists():
        return given
    if found := _ours(given):
        return found
    ours = sorted(item.name for item in folder.glob("*.toml")) if folder else []
    beside = [item.name for item in given.parent.glob("*.toml")] if given.parent.is_dir() else []
    hint = nearest(given.name, [*beside, *ours]) or ";"
    raise RecipeError(
        str(path), [Problem("", f"there is no such file{hint} soundbench brings {', '.join(ours) or 'none'}")]
    )


def _ours(given: Path) -> Path | None:
    """The recipe that ships with soundbench, of a path such as `recipes/quickstart.toml`."""
    folder = shipped()
    known = folder and given.parent in (Path(), Path("recipes")) and (folder / given.name).is_file()
    return folder / given.name if folder and known else None


def check_format(source: str, version: Any) -> None:
    """Refuse what a newer soundbench wrote.

    Raises:
        RecipeError: it is of a format that this one does not know.
    """
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version <= FORMAT:
        message = (
            f"is {show(version)}; this soundbench reads up to {FORMAT}: use the version that wrote it, or a newer one"
        )
        raise RecipeError(source, [Problem("format", message)])


def read_draft(path: Path, sets: Sequence[str] = ()) -> Draft:
    """The draft of a recipe's file."""
    draft = Draft(str(path), path.stem)
    chain = [path]
    layers = [(path, _parse(path))]
    while "extends" in layers[-1][1]:
        below = _extended(draft.source, *layers[-1], chain)
        chain.append(below)
        layers.append((below, _parse(below)))
    for file, tables in reversed(layers):
        name = tables.pop("name", None)
        tables.pop("extends", None)
        check_format(str(file), tables.pop("format", 0))
        draft.put(tables, file.parent, "" if file == path else f"in {file}")
    if name is not None:
        draft.name = name
    _apply(draft, sets)
    return draft


def draft_of(tables: Mapping[str, Any], name: str, source: str, base: Path | None) -> Draft:
    """The draft of tables given from Python."""
    draft = Draft(source, name)
    tables = dict(tables)
    draft.name = tables.pop("name", name)
    check_format(source, tables.pop("format", 0))
    draft.put({key: value for key, value in tables.items() if value is not None}, base or Path())
    return draft


def _extended(source: str, path: Path, tables: Mapping[str, Any], chain: list[Path]) -> Path:
    """The file that a recipe extends; without it nothing else can be said of the recipe."""
    given = tables["extends"]
    below = Path(os.path.normpath(path.parent / given)) if isinstance(given, str) else path
    below = below if below.is_file() else _ours(Path(str(given))) or below
    if not isinstance(given, str):
        message = f"must be the path of a recipe, is {show(given)}"
    elif below.resolve() in [item.resolve() for item in chain]:
        message = f"recipes extend each other in a circle: {' -> '.join(str(item) for item in [*chain, below])}"
    elif not below.is_file():
        beside = [item.name for item in below.parent.glob("*.toml")] if below.parent.is_dir() else []
        message = f"there is no file {below}{nearest(below.name, beside)}"
    else:
        return below
    raise RecipeError(source, [Problem("extends", message + ("" if len(chain) == 1 else f" (in {path})"))])


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomli.loads(path.read_text(encoding="utf-8-sig"))
    except tomli.TOMLDecodeError as error:
        message, _, place = str(error).rpartition(" (at ")
        place = place.rstrip(")").replace("end of document", "the end of the file")
        raise RecipeError(str(path), [Problem("", f"{place}: {message[:1].lower()}{message[1:]}")]) from error
    except UnicodeDecodeError as error:
        raise RecipeError(str(path), [Problem("", f"no UTF-8 text: byte {error.start} is not")]) from error
    except OSError as error:
        raise RecipeError(str(path), [Problem("", f"cannot be read: {error.strerror}")]) from error


# -- the command line ----------------------------------------------------------------------------------------------


def _apply(draft: Draft, sets: Sequence[str]) -> None:
    parsed = []
    for text in sets:
        key, equals, value = text.partition("=")
        path = _path(key.strip())
        if not equals or not path:
            draft.problems.append(Problem(f"--set {text}", "must be KEY=VALUE, such as train.epochs=3"))
        else:
            parsed.append((key.strip(), path, _value(value.strip())))
    # First which component, then its options: in whatever order they were given, none of them is lost.
    for key, path, value in sorted(parsed, key=lambda item: not (len(item[1]) == 1 or item[1][-1] == "use")):
        try:
            draft.set(path, value)
        except ValueError as error:
            draft.problems.append(Problem(f"--set {key}", str(error)))


def _path(key: str) -> list[str | int]:
    """The steps of a dotted key; numbers, bare or in brackets, count entries of a list."""
    dotted = re.sub(r"\[([0-9]+)\]", r".\1", key)
    try:
        nested: Any = tomli.loads(f"{dotted} = 0")
    except tomli.TOMLDecodeError:
        return []
    path: list[str | int] = []
    while isinstance(nested, dict):
        (part, nested), *others = nested.items()
        if others:
            return []
        counts = len(path) == 1 and part.isdigit() and path[0] in KINDS
        path.append(int(part) if counts else part)
    return path


def _value(text: str) -> Any:
    """A TOML value; what is none is a string."""
    try:
        tables = tomli.loads(f"value = {text}")
    except tomli.TOMLDecodeError:
        return text
    return tables["value"] if list(tables) == ["value"] else text
