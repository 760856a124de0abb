"""Read recipe files: `extends` and `--set` merged into one draft of plain tables, not checked yet."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from soundbench import files, limits
from soundbench.contracts import KINDS
from soundbench.errors import Problem, RecipeError, Source
from soundbench.messages import join, nearest, show
from soundbench.recipe import toml
from soundbench.recipe.registry import is_file
from soundbench.recipe.tables import FORMAT, TABLES

__all__ = [
    "Draft",
    "check_format",
    "draft_of",
    "find_recipe",
    "is_bare",
    "merge_component",
    "merge_tables",
    "read_draft",
    "shipped_recipes",
]


@attrs.define
class Draft:
    """Merged tables, not checked yet, and the origin of each key.

    Attributes:
        file: the recipe's file, or what stands for it.
        name: the name of the recipe.
        tables: the merged tables.
        origins: the origin of each dotted path; empty for the recipe's own file.
        given: the argument of `--set` that gave each dotted path, for those that one did.
        problems: mistakes found so far.
    """

    file: str
    name: str
    tables: dict[str, Any] = attrs.field(factory=dict)
    origins: dict[str, str] = attrs.field(factory=dict)
    given: dict[str, str] = attrs.field(factory=dict)
    problems: list[Problem] = attrs.field(factory=list)

    @property
    def source(self) -> str:
        """The name of the recipe in messages, which blame the command line for what `--set` gave."""
        return Source(self.file, self.given) if self.given else self.file

    def located(self, problem: Problem) -> Problem:
        """The problem with the origin of its key added to the message, if that is not the recipe's own file."""
        if problem.key in self.given:
            return problem
        above = [key for key in self.origins if problem.key == key or problem.key.startswith((f"{key}.", f"{key}["))]
        where = self.origins[max(above, key=len)] if above else ""
        return attrs.evolve(problem, message=f"{problem.message} ({where})") if where else problem

    def put(self, tables: Mapping[str, Any], base: Path, where: str = "", given: str = "") -> None:
        """Merge tables over the present ones.

        Args:
            tables: the tables, from a file or from Python.
            base: the folder that local files are relative to.
            where: the origin to show in messages; empty for the recipe's own file.
            given: the argument of `--set`, if it gave the tables.
        """
        for key, value in tables.items():
            value = normal(key, value, base)
            below = self.tables.get(key)
            self.tables[key] = _merged(key, below, value)
            self._mark(key, value, where, given)
            if given and isinstance(below, Mapping) and self.tables[key] != value:
                del self.given[key]  # some of its keys are still the recipe's own

    def _mark(self, key: str, value: Any, where: str, given: str) -> None:
        self.origins[key] = where
        if given:
            self.given[key] = given
        items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        for part, item in items:
            self._mark(join(key, part), item, where, given)

    def set(self, path: Sequence[str | int], value: Any, given: str) -> None:
        """Set the value at a path, creating tables as needed; `given` is the argument of `--set`.

        Raises:
            ValueError: there is no such place.
        """
        if path == ["name"]:
            self.name = value
            self.given["name"] = given
            return
        if len(path) == 1:
            self.put({str(path[0]): value}, Path(), given=given)
            return
        node, dotted = self.tables, ""
        for part in path[:-1]:
            if isinstance(part, str) and isinstance(node, dict) and part not in node and part not in TABLES:
                self.given[join(dotted, part)] = given
            node, dotted = self._step(node, part, dotted), join(dotted, part)
        last = str(path[-1])
        if not isinstance(node, dict):
            raise ValueError(f"{dotted} is not a table, it is {show(node)}")
        if last == "use" and isinstance(value, str):
            value = _absolute(value, Path())
            if node.get("use") != value:
                node.clear()
                self.given[dotted] = given
        node[last] = merge_tables({"it": node.get(last)}, {"it": value})["it"]
        self._mark(join(dotted, last), value, "", given)

    def varied(self, values: Mapping[str, Any], base: Path) -> Draft:
        """A copy with other values at dotted keys, as `--set` puts them; what cannot be put is among its problems.

        Args:
            values: the values by their keys, such as `optimizer.lr`.
            base: the folder that local files are relative to.
        """
        made = Draft(self.file, self.name, copy.deepcopy(self.tables), dict(self.origins), problems=[*self.problems])
        paths = [(key, _path(key)) for key in values]
        for key, path in sorted(paths, key=lambda item: not _of_component(item[1])):
            value = copy.deepcopy(values[key])
            try:
                if not path:
                    raise ValueError("must be a dotted key, such as optimizer.lr")
                if len(path) == 1:
                    made.put({str(path[0]): value}, base)
                else:
                    made.set(
                        path, _absolute(value, base) if path[-1] == "use" and isinstance(value, str) else value, ""
                    )
            except ValueError as error:
                made.problems.append(Problem(key, str(error)))
        made.given.clear()  # the command line gave none of them
        return made

    def _step(self, node: Any, part: str | int, dotted: str) -> Any:
        """The table or entry one step down, created if missing."""
        if isinstance(part, str) and isinstance(node, dict):
            kind = KINDS.get(part) if node is self.tables else None
            below = node.get(part, [] if kind and kind.many else {})
            node[part] = normal(part, below, Path()) if kind else below
            return node[part]
        if isinstance(part, str):
            raise ValueError(f"{dotted} is not a table, it is {show(node)}")
        if not isinstance(node, list):
            raise ValueError(f"{dotted} is not a list, it is {show(node)}")
        if part > len(node):
            raise ValueError(f"there is no {dotted}[{part}], {dotted} has {len(node)}")
        if part == len(node):
            node.append({})
        return node[part]


def _absolute(use: str, base: Path) -> str:
    """The `use` of a local file with an absolute path."""
    if not is_file(use):
        return use
    path, colon, name = use.rpartition(":") if ":" in use else (use, "", "")
    return os.path.abspath(base / os.path.expanduser(path)) + colon + name


def normal(key: str, value: Any, base: Path) -> Any:
    """A component's table in its long form: `"name"` stands for a table with only `use`."""
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
    """Merge tables recursively; other values are replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge_tables(merged[key], value) if both else value
    return merged


def merge_component(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the tables of a component; if `use` changes, the options of the old component are dropped."""
    if "use" in above and above["use"] != below.get("use"):
        return dict(above)
    return merge_tables(below, above)


def _merged(key: str, below: Any, above: Any) -> Any:
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return merge_component(below, above) if key in KINDS else merge_tables(below, above)


# -- files ---------------------------------------------------------------------------------------------------------


def shipped() -> Path | None:
    """The folder of the recipes that ship with soundbench: in the package, or next to it in a checkout."""
    package = Path(__file__).parents[1]
    return next((folder for folder in (package / "recipes", package.parent / "recipes") if folder.is_dir()), None)


def shipped_recipes() -> dict[str, Path]:
    """The recipes that ship with soundbench, by their names, which have no suffix."""
    folder = shipped()
    return {path.stem: path for path in sorted(folder.glob("*.toml"))} if folder else {}


def find_recipe(path: str | Path) -> Path:
    """The path of a recipe: as given, or else a recipe of that name that ships with soundbench.

    A bare name such as `quickstart` stands for the file `quickstart.toml` of the working folder, or for that recipe.

    Raises:
        RecipeError: it is empty, or there is no such file.
    """
    given = Path(path)
    if path == "":
        raise RecipeError(show(path), [Problem("", "it is empty; give a file, or a name of soundbench recipes")])
    if "\0" in str(path):
        raise RecipeError(show(str(path)), [Problem("", "a path cannot have a NUL character")])
    bare = is_bare(path)
    named = Path(f"{path}.toml") if bare else given
    if os.path.exists(given) and not (bare and os.path.isdir(given)):  # Path.exists raises for a name that is too long
        return given
    if bare and os.path.exists(named):
        return named
    if found := _ours(named):
        return found
    if os.path.exists(given):
        return given
    ours = [item.name for item in shipped_recipes().values()]
    beside = [item.name for item in given.parent.glob("*.toml")] if os.path.isdir(given.parent) else []
    hint = nearest(given.name, [*beside, *ours]) or ";"
    raise RecipeError(
        str(path), [Problem("", f"there is no such file{hint} recipes of soundbench: {', '.join(ours) or 'none'}")]
    )


def is_bare(path: str | Path) -> bool:
    """Whether what names a recipe is a name and no path: without folder or suffix."""
    return str(path) == Path(path).stem != ""


def _ours(given: Path) -> Path | None:
    """The recipe that ships with soundbench under a path such as `recipes/quickstart.toml`."""
    folder = shipped()
    known = folder and given.parent in (Path(), Path("recipes")) and os.path.isfile(folder / given.name)
    return folder / given.name if folder and known else None


def check_format(source: str, version: Any) -> None:
    """Raise an error for a file of a newer format.

    Raises:
        RecipeError: this version does not know the format.
    """
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version <= FORMAT:
        known = f"but this soundbench knows formats up to {FORMAT}"
        message = f"is {show(version)}, {known}; use the version that wrote it, or a newer one"
        raise RecipeError(source, [Problem("format", message)])


def read_draft(path: Path, sets: Sequence[str] = ()) -> Draft:
    """The draft of a recipe file."""
    draft = Draft(str(path), path.stem.encode("utf-8", errors="replace").decode())
    chain = [path]
    layers = [(path, _parse(path))]
    while "extends" in layers[-1][1]:
        below = _extended(draft.source, *layers[-1], chain)
        chain.append(below)
        layers.append((below, _parse(below)))
    for file, tables in reversed(layers):
        name = tables.pop("name", None)
        tables.pop("extends", None)
        _put(draft, tables, str(file), file.parent, "" if file == path else f"in {file}")
    if name is not None:
        draft.name = name
    _apply(draft, sets)
    return draft


def draft_of(tables: Mapping[str, Any], name: str, source: str, base: Path | None) -> Draft:
    """The draft of tables given from Python."""
    draft = Draft(source, name)
    tables = dict(tables)
    draft.name = tables.pop("name", name)
    _put(draft, {key: value for key, value in tables.items() if value is not None}, source, base or Path())
    return draft


def _put(draft: Draft, tables: dict[str, Any], source: str, base: Path, where: str = "") -> None:
    """Merge tables over a draft; in those of an older format, each key has the meaning that it had then."""
    version = tables.pop("format", 0)
    check_format(source, version)
    draft.put(tables, base, where)
    if version == 1:
        draft.put(_split_seed(draft.tables), base, where)


def _split_seed(tables: Mapping[str, Any]) -> dict[str, Any]:
    """What tables of format 1 lack: the seed of their split, which was `train.seed`."""
    train, how = tables.get("train"), tables.get("split", {})
    if not isinstance(train, Mapping) or "seed" not in train or not isinstance(how, Mapping) or "seed" in how:
        return {}
    return {"split": {"seed": train["seed"]}}


def _extended(source: str, path: Path, tables: Mapping[str, Any], chain: list[Path]) -> Path:
    """The file that a recipe extends; if it is missing, the recipe cannot be checked further."""
    given = tables["extends"]
    usable = isinstance(given, str) and given and "\0" not in given
    below = Path(os.path.normpath(path.parent / given)) if usable else path
    below = below if os.path.exists(below) else _ours(Path(str(given))) or below
    if not usable:
        message = f"must be the path of a recipe, is {show(given)}"
    elif len(chain) > limits.EXTENDS:
        message = f"a chain of more than {limits.EXTENDS} recipes that extend one another"
    elif below.resolve() in [item.resolve() for item in chain]:
        message = f"recipes extend each other in a circle: {' -> '.join(str(item) for item in [*chain, below])}"
    elif not os.path.exists(below):
        beside = [item.name for item in below.parent.glob("*.toml")] if os.path.isdir(below.parent) else []
        message = f"there is no file {below}{nearest(below.name, beside)}"
    else:
        return below
    raise RecipeError(source, [Problem("extends", message + ("" if len(chain) == 1 else f" (in {path})"))])


def _parse(path: Path) -> dict[str, Any]:
    try:
        return toml.parse(files.read_bytes(path, limits.TEXT))
    except ValueError as error:
        raise RecipeError(str(path), [Problem("", str(error))]) from error
    except OSError as error:
        raise RecipeError(str(path), [Problem("", f"cannot be read: {error.strerror}")]) from error


# -- the command line ----------------------------------------------------------------------------------------------


def _apply(draft: Draft, sets: Sequence[str]) -> None:
    parsed = []
    for text in sets:
        key, equals, value = text.partition("=")
        path = _path(key.strip())
        if not equals or not path:
            draft.given[text] = text
            draft.problems.append(Problem(text, "must be KEY=VALUE, such as train.epochs=3"))
        else:
            parsed.append((text, path, toml.parse_value(value.strip())))
    # First the components, then their options, whatever their order: a new `use` drops the options set before it.
    for text, path, value in sorted(parsed, key=lambda item: not _of_component(item[1])):
        try:
            draft.set(path, value, text)
        except ValueError as error:
            key = text.partition("=")[0].strip()
            draft.given[key] = text
            draft.problems.append(Problem(key, str(error)))


def _of_component(path: Sequence[str | int]) -> bool:
    """Whether a path is that of a table, or of the name of its component."""
    return len(path) == 1 or path[-1:] == ["use"]


def _path(key: str) -> list[str | int]:
    """The steps of a dotted key; numbers, bare or in brackets, are indices of a list."""
    dotted = re.sub(r"\[([0-9]+)\]", r".\1", key)
    try:
        nested: Any = toml.parse(f"{dotted} = 0")
    except ValueError:
        return []
    path: list[str | int] = []
    while isinstance(nested, dict):
        (part, nested), *others = nested.items()
        if others:
            return []
        counts = len(path) == 1 and part.isdecimal() and len(part) <= limits.DIGITS and path[0] in KINDS
        path.append(int(part) if counts else part)
    return path
