"""The pages of the site that are made from the code: commands, tables, components, kinds, Python."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import click

from soundbench import contracts
from soundbench.cli.main import group as program
from soundbench.contracts import KINDS
from soundbench.errors import PluginError
from soundbench.messages import show, spell
from soundbench.recipe.catalogue import Details, details
from soundbench.recipe.registry import Registry
from soundbench.recipe.source_code import argument_docs
from soundbench.recipe.structuring import key_of
from soundbench.recipe.tables import CORE, DEFAULTS, OWN, TABLES
from soundbench.testing.checking import CHECKS

__all__ = ["EXAMPLES", "MODULES", "pages"]

ROOT = Path(__file__).parents[2]
# The modules whose names others may use.
MODULES = (
    *("soundbench", "soundbench.contracts", "soundbench.testing", "soundbench.errors", "soundbench.audio"),
    *("soundbench.chance", "soundbench.masks", "soundbench.terminal", "soundbench.files", "soundbench.limits"),
    "soundbench.sources",
)
# A built-in component of each kind that shows, whole, what one has to be.
EXAMPLES = {
    "dataset": "folder",
    "augmentation": "gain",
    "featurizer": "spectrogram",
    "backbone": "identity",
    "pooling": "tap",
    "loss": "bce",
    "optimizer": "adamw",
    "scheduler": "warmup-cosine",
    "calibration": "temperature",
    "reject": "energy",
    "observer": "csv",
    "importer": "panns",
    "exporter": "pt2",
}
_CONTRACTS = {"optimizer": "MakeOptimizer", "scheduler": "MakeScheduler", "observer": "Hooks"}
_SECTIONS = ("Args", "Attributes", "Raises", "Returns", "Yields")


def pages() -> dict[str, str]:
    """Every generated page, by its path in the site."""
    registry = Registry()
    made = {"docs/reference/commands.md": commands()}
    made |= {f"docs/reference/recipe/{table}.md": table_page(table, registry) for table in TABLES}
    made |= {f"docs/reference/components/{kind}.md": components(kind, registry) for kind in KINDS}
    made |= {f"docs/reference/kinds/{kind}.md": kind_page(kind, registry) for kind in KINDS}
    made |= {f"docs/reference/python/{module}.md": module_page(module) for module in MODULES}
    return made


def commands() -> str:
    """Every command with its options, from click."""
    head = "# Commands\n\nWhat `soundbench COMMAND --help` prints. Every command also takes `--debug`, which shows the "
    return head + "traceback of an error.\n\n" + "\n".join(_command(program, "soundbench"))


def _command(command: click.Command, path: str) -> Iterator[str]:
    """The help of a command, and of those below it."""
    with click.Context(command, info_name=path) as context:
        yield f"## {path} {{ #{path.replace(' ', '-')} }}\n\n```text\n{command.get_help(context)}\n```\n"
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from _command(found, f"{path} {name}")


def table_page(table: str, registry: Registry) -> str:
    """One table of a recipe: its keys if it is the framework's, its components if it is of a kind."""
    lines = [f"# The table `[{table}]`", "", "[All tables and how they are written](../../recipes.md#tables).", ""]
    settings = CORE.get(table) or OWN.get(table)
    if table in KINDS:
        lines += [_first_line(_contract(table)), "", _default_of(table), ""]
        lines += [f"The keys of a component are in [its documentation](../components/{table}.md).", ""]
        lines += ["| component | what it is |", "|---|---|"]
        for item in registry.listings(table):
            lines.append(f"| [`{item.name}`](../components/{table}.md#{item.name}) | {_cell(item.summary())} |")
    if settings is not None:
        lines += ["", "Beside the component's own keys:" if table in KINDS else _first_line(settings), ""]
        lines += keys(settings)
    return "\n".join(lines) + "\n"


def keys(settings: type) -> list[str]:
    """The keys of a settings table: type, default and meaning."""
    cls = attrs.resolve_types(settings)
    docs = argument_docs(cls.__doc__, "Attributes:")
    rows = []
    for field in attrs.fields(cls):
        value = field.default.factory() if isinstance(field.default, attrs.Factory) else field.default
        kind = spell(field.type).replace(" | None", "").replace(" | ", " or ")
        rows.append(
            f"| `{key_of(field)}` | {_cell(kind)} | {'' if value is None else show(value)} | {docs[field.name]} |"
        )
    return _table_of("key", rows)


def _table_of(first: str, rows: list[str]) -> list[str]:
    """A table of keys or options; on a narrow screen, `site.css` lays the meaning of each below it."""
    head = [f"| {first} | type | default | meaning |", "|---|---|---|---|"]
    return ['<div class="options" markdown>', "", *head, *rows, "", "</div>"]


def components(kind: str, registry: Registry) -> str:
    """Every built-in component of a kind: what it is, its paper, its options; of a backbone its size and cost."""
    lines = [f"# Components: {kind}", "", f"What they have in common: [the kind {kind}](../kinds/{kind}.md).", ""]
    for item in registry.listings(kind):
        lines += [f"## {item.name} {{ #{item.name} }}", ""]
        try:
            lines += _component(details(registry, kind, item.name))
        except PluginError as error:
            lines += [item.summary(), "", f"Not installed where these pages were made: {error}.", ""]
    return "\n".join(lines)


def _component(found: Details) -> list[str]:
    obj, kind = found.component.obj, found.component.kind
    lines = [_paragraphs(_before_sections(found.doc)), ""]
    if obj.__module__.startswith("soundbench_plugins."):
        lines += [_paragraphs(inspect.getdoc(import_module(obj.__module__)) or ""), ""]
    if kind == "backbone":
        lines += _size(found.component.name)
    options = found.options()
    if not options:
        return [*lines, "It has no options.", ""]
    rows = []
    for option in options:
        default = "required" if "default" not in option else f"`{show(option['default'])}`"
        default = "none" if option.get("default", "") is None else default
        rows.append(f"| `{option['name']}` | {_cell(option['type'])} | {_cell(default)} | {_cell(option['doc'])} |")
    return [*lines, *_table_of("option", rows), ""]


def _size(backbone: str) -> list[str]:
    """Parameters and cost of a backbone, which a test holds `docs/models.md` to; nothing if no recipe shows them."""
    for row in (ROOT / "docs" / "models.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if row.startswith("| [urbansound_") and cells[1] == backbone:
            size, cost = cells[4], cells[6]
            text = f"With 80 bands and ten classes: {size} parameters, {cost} multiply-adds for a window of {cells[3]}"
            return [f"{text} ([all models](../../models.md)).", ""]
    return []


def kind_page(kind: str, registry: Registry) -> str:
    """What a component of a kind has to be: the contract, what is checked, a whole example."""
    of, contract = KINDS[kind], _contract(kind)
    given = ", ".join(f"`{name}`" for name in of.supplied) or "nothing"
    lines = [
        f"# Writing a plugin: {kind}",
        "",
        "[How a plugin is written, tested and distributed](../../plugins.md).",
        "",
    ]
    lines += [f"The framework gives it, by position: {given}. Its entry point is in the group `{of.group}`.", ""]
    lines += [f"## The contract `soundbench.contracts.{contract.__name__}`", "", *_class_body(contract, 3)]
    lines += ["## What `soundbench.testing.check_component` checks", ""]
    lines += [f"- **{name}**{_check_doc(check)}" for name, check in CHECKS[kind].items()]
    example = registry.get(kind, EXAMPLES[kind])
    source = inspect.getsource(import_module(example.obj.__module__))
    lines += ["", "## An example", "", f"The whole file of the built-in component `{EXAMPLES[kind]}`:", ""]
    if "from soundbench_plugins." in source:
        of_its_own = f"[one to copy](../../kinds.md#{kind}) does not."
        lines += [f"It imports from `soundbench_plugins`, as built-ins may; {of_its_own}", ""]
    lines += [
        "```python",
        source.rstrip(),
        "```",
        "",
        f"[All built-in components of this kind](../components/{kind}.md).",
    ]
    return "\n".join(lines) + "\n"


def _check_doc(check: Callable[..., Any]) -> str:
    first = (inspect.getdoc(check) or "").partition("\n")[0]
    return f": {first[0].lower()}{first[1:]}" if first else ""


def module_page(module: str) -> str:
    """Every public name of a module, with its signature and docstring."""
    found = import_module(module)
    lines = [f"# {module}", "", _paragraphs(inspect.getdoc(found) or ""), ""]
    for name in sorted(found.__all__, key=str.lower):
        if not name.startswith("__"):
            lines += [f"## {name} {{ #{name} }}", "", *_member(name, getattr(found, name), 3)]
    return "\n".join(lines)


def _member(name: str, obj: Any, depth: int) -> list[str]:
    if inspect.isclass(obj):
        return ["```python", f"class {name}{signature(obj)}", "```", "", *_class_body(obj, depth)]
    if callable(obj) and hasattr(obj, "__name__"):
        return ["```python", f"def {name}{signature(obj)}", "```", "", _paragraphs(inspect.getdoc(obj) or ""), ""]
    value = f": `{show(obj)}`" if isinstance(obj, int | float | str) else ""
    return [f"A constant, `{type(obj).__name__}`{value}.", ""]


def _class_body(cls: type, depth: int) -> list[str]:
    """The docstring of a class, and its public methods and properties."""
    lines = [_paragraphs(inspect.getdoc(cls) or ""), ""]
    for name, member in inspect.getmembers_static(cls):
        function = member.fget if isinstance(member, property) else inspect.unwrap(getattr(member, "__func__", member))
        ours = (getattr(function, "__module__", None) or "").startswith("soundbench")
        called = name == "__call__" and getattr(cls, "_is_protocol", False)
        if not (inspect.isfunction(function) and ours and (called or not name.startswith("_"))):
            continue
        shown = name if isinstance(member, property) else f"{name}{signature(function)}"
        lines += [f"{'#' * depth} `{name}` {{ #{cls.__name__}.{name.strip('_')} }}", "", "```python", shown, "```", ""]
        lines += [_paragraphs(inspect.getdoc(function) or ""), ""]
    return lines


class _As:
    """An annotation that is shown as it is written."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def signature(obj: Callable[..., Any]) -> str:
    """The parameters and what is returned, on one line or a line for each; empty where there is none to show."""
    try:
        found = inspect.signature(obj)
    except (TypeError, ValueError):
        return ""
    shown = [one.replace(annotation=_written(one.annotation)) for one in found.parameters.values()]
    returned = inspect.Signature.empty if inspect.isclass(obj) else _written(found.return_annotation)
    line = str(found.replace(parameters=shown, return_annotation=returned))
    if len(line) <= 90:
        return line
    texts = [str(inspect.Signature([one]))[1:-1].removeprefix("*, ").removesuffix(", /") for one in shown]
    first = next((place for place, one in enumerate(shown) if one.kind is one.KEYWORD_ONLY), None)
    if first is not None:
        texts.insert(first, "*")
    end = "" if returned is inspect.Signature.empty else f" -> {returned!r}"
    return "(\n    " + ",\n    ".join(texts) + f",\n){end}"


def _written(annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty:
        return annotation
    return _As(annotation if isinstance(annotation, str) else spell(annotation))


def _contract(kind: str) -> type:
    found: type = getattr(contracts, _CONTRACTS.get(kind, kind.title()))
    return found


def _default_of(table: str) -> str:
    default = DEFAULTS.get(table)
    if isinstance(default, list):
        return "Default: " + (", ".join(f"`{one['use']}`" for one in default) or "none") + "."
    if default is None:
        return {"pooling": "Default: that of the backbone's paper."}.get(table, "Required.")
    return f"Default: `{default['use']}`."


def _first_line(obj: Any) -> str:
    return (inspect.getdoc(obj) or "").partition("\n")[0]


def _before_sections(doc: str) -> str:
    return re.split(rf"^(?:{'|'.join(_SECTIONS)}):$", doc, maxsplit=1, flags=re.MULTILINE)[0].rstrip()


def _paragraphs(doc: str) -> str:
    """A docstring as Markdown: its sections as lists."""
    parts = re.split(rf"^({'|'.join(_SECTIONS)}):$", doc, flags=re.MULTILINE)
    lines = [parts[0].rstrip()]
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        listed = argument_docs(f"\n{name}:{body}", f"{name}:") if name in ("Args", "Attributes", "Raises") else {}
        lines += ["", f"**{name}**", ""]
        lines += [f"- `{key}`: {text}" for key, text in listed.items()] or [" ".join(body.split())]
        rest = re.split(r"\n(?=\S)", body, maxsplit=1)[1:]
        lines += ["", *rest]
    return "\n".join(lines).rstrip()


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
