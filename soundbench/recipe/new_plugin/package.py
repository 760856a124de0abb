"""The package of a component of one's own: a module, its test, and what a distribution needs, from `templates/`.

NAME gives all other names: the component is `tiny`, its distribution `soundbench-tiny`, its module `soundbench_tiny`,
and in it the class `Tiny` or the function `tiny`. A NAME may also be that of the distribution, with its `soundbench-`.
"""

from __future__ import annotations

import keyword
import os
import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from soundbench.contracts import API_VERSION, KINDS
from soundbench.errors import CallError
from soundbench.files import write_text
from soundbench.messages import show, with_article
from soundbench.recipe.catalogue import check_kind
from soundbench.recipe.registry import Registry
from soundbench.recipe.tables import TABLES

__all__ = ["first_run", "package_of", "write_package"]

_PREFIX = "soundbench-"
# The names of devices, which Windows sees in `con` and in `con.toml`.
_DEVICE = re.compile(r"con|prn|aux|nul|(com|lpt)\d")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40  # letters of a name; the lines of the templates leave room for it
_FUNCTIONS = ("optimizer", "scheduler", "importer")  # the kinds that are functions; all others are classes

# A recipe that trains in half a minute; the component's own table replaces the one of its kind, or is added.
_RECIPE = {
    "dataset": 'use = "tones"',
    "split": "test = [5]",
    "audio": "window = 1.0",
    "backbone": 'use = "tdnn"\nchannels = 64',
    "optimizer": "lr = 3e-3",
    "train": "epochs = 6\nbatch_size = 32",
}
# What recipes do not name is used before or after training.
_TABLES_APART = {
    "importer": {
        "featurizer": 'use = "fbank"\nnormalize = "none"',
        "backbone": 'use = "identity"',
        "pooling": 'use = "tap"',
        "head": "embedding = 0",
        "init": 'from = "imported/model"',
    },
    "exporter": dict[str, str](),
}
_MODEL = "classes=['decay', 'swell'], weight=np.zeros((2, 80)), bias=np.zeros(2)"
_FIRST_RUN = ("soundbench run ${name}.toml",)
_FIRST_RUNS = {
    "importer": (
        f"python -c \"import numpy as np; np.savez('model.npz', {_MODEL})\"",
        "soundbench import ${name} model.npz",
        "soundbench run ${name}.toml",
    ),
    "exporter": ("soundbench run ${name}.toml --out run", "soundbench export run --to ${name}"),
}


def write_package(kind: str, name: str, registry: Registry | None = None, parent: Path | None = None) -> Path:
    """Write the folder `name`, the package of a component that trains and keeps its contract.

    Args:
        kind: one of `KINDS`.
        name: of the component, which is its name in recipes.
        registry: where components of this name are looked for; None for those that are installed.
        parent: the folder to write into; None for the working directory.

    Returns:
        The folder.

    Raises:
        CallError: there is no such kind, the name cannot be one or is taken, or the folder is not empty.
    """
    check_kind(kind)
    component = _component(name)
    for item in (registry or Registry()).listings(kind):
        if item.name == component:
            origin = f"{item.distribution} {item.version}".strip()
            raise CallError(f'there is {with_article(kind)} "{component}" already, of {origin}; choose another name')
    if find_spec(module := _module(component)) is not None:
        raise CallError(f'there is a module "{module}" already; choose another name than "{name}"')
    folder = (parent or Path()) / name
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise CallError(f"{folder}: there is such a folder or file already, and it is not an empty folder")
    for path, text in package_of(kind, name).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_text(folder / path, text)
    return folder


def package_of(kind: str, name: str) -> dict[str, str]:
    """The texts of the files of a package by their paths, for the same arguments as `write_package`."""
    component = _component(name)
    module, words = _module(component), component.split("-")
    code = _template(f"{kind}.py")
    own = "_".join(words) if kind in _FUNCTIONS else "".join(word.capitalize() for word in words)
    if keyword.iskeyword(own) or re.search(rf"\b{own}\b", code.template):
        own += f"_{kind}" if kind in _FUNCTIONS else kind.capitalize()
    if own.startswith("test"):  # pytest takes such a function for a test, in a module such as soundbench_test
        own = f"{kind}_{own}"
    values = {
        "kind": kind,
        "a_kind": with_article(kind),
        "name": component,
        "distribution": _PREFIX + component,
        "module": module,
        "object": own,
        "api": API_VERSION,
        "first_run": "\n".join(first_run(kind, name)),
        "steps": "\n".join(f"      - run: {line}" for line in first_run(kind, name)),
    }
    templates = {
        f"{module}.py": code,
        f"test_{module}.py": _template("test_component.py"),
        f"{component}.toml": Template(_recipe(kind)),
        "pyproject.toml": _template("pyproject.toml"),
        "README.md": _template("README.md"),
        ".github/workflows/test.yml": _template("test.yml"),
    }
    texts = {path: template.substitute(values) for path, template in templates.items()}
    return texts | {"LICENSE": files(__package__).joinpath("templates/LICENSE").read_text("utf-8")}


def first_run(kind: str, name: str) -> list[str]:
    """The commands that use a component of this kind for the first time, in the folder of its package."""
    return [Template(line).substitute(name=_component(name)) for line in _FIRST_RUNS.get(kind, _FIRST_RUN)]


def _component(name: str) -> str:
    """The name of the component.

    Raises:
        CallError: it is not a name.
    """
    component = name.removeprefix(_PREFIX)
    if not _NAME.fullmatch(component) or len(component) > _LONGEST:
        rule = f"lower-case letters, digits and single hyphens, a letter first, at most {_LONGEST} in all"
        raise CallError(f"{show(name)} cannot be the name of a plugin: it must be {rule}, such as my-net")
    if component == "pyproject":
        raise CallError(f"{show(name)} cannot be the name of a plugin: its recipe would be the file pyproject.toml")
    if _DEVICE.fullmatch(component):
        raise CallError(f"{show(name)} cannot be the name of a plugin: Windows has no files of that name")
    return component


def _module(component: str) -> str:
    return (_PREFIX + component).replace("-", "_")


def _template(name: str) -> Template:
    return Template(files(__package__).joinpath(f"templates/{name}.template").read_text("utf-8"))


def _recipe(kind: str) -> str:
    """A recipe that trains on tones with the component, as a template."""
    tables = _RECIPE | _TABLES_APART.get(kind, {kind: 'use = "${name}"'})
    heads = {table: f"[[{table}]]" if table in KINDS and KINDS[table].many else f"[{table}]" for table in tables}
    parts = [f"{heads[table]}\n{tables[table]}\n" for table in TABLES if table in tables]
    runs = "".join(f"#     {line}\n" for line in _FIRST_RUNS.get(kind, _FIRST_RUN))
    sounds = "two classes" if kind == "dataset" else "ten classes of synthetic sound"
    head = f"# Train on {sounds} with ${{name}}, ${{a_kind}}.\n#\n{runs}#\n"
    least = " Expect 10 to 25%: mean spectra tell little." if kind == "importer" else ""
    return "\n".join([head + f"# Needs ${{distribution}}, installed. Half a minute on two cores.{least}\n", *parts])
