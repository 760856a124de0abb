"""Read Python source without executing it, and import a component's file under a unique module name.

Listing plugins must not import them or their parent packages: the file of a module is found with the finders of
`sys.meta_path`, and its docstrings are read with `ast`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import io
import re
import sys
import tokenize
import traceback
from importlib.machinery import ModuleSpec, SourceFileLoader
from itertools import chain, islice
from pathlib import Path
from types import CodeType, ModuleType

from soundbench.files import read_bytes
from soundbench.limits import TEXT

__all__ = [
    "argument_docs",
    "defined_in",
    "find_source",
    "import_file",
    "imports_neighbours",
    "line_of",
    "place_of",
    "runs_when_imported",
    "summary_of",
]

_HEAD = re.compile(r"^(?:class|def|async def) +(\w+)", re.MULTILINE)

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def find_source(module: str) -> str | None:
    """The source text of a module, which is not imported; None if there is none."""
    spec: ModuleSpec | None = None
    locations = None
    for depth, _ in enumerate(parts := module.split(".")):
        if depth and (locations := spec.submodule_search_locations if spec else None) is None:
            return None
        spec = _find_spec(".".join(parts[: depth + 1]), locations)
    get_source = getattr(spec.loader, "get_source", None) if spec else None
    try:
        return get_source(module) if get_source else None
    except (ImportError, OSError, SyntaxError, UnicodeDecodeError):
        return None


def _find_spec(name: str, locations: object) -> ModuleSpec | None:
    """Like `importlib.util.find_spec`, but without importing the parent package."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find(name, locations) if find else None
        if spec is not None:
            return spec
    return None


def summary_of(module: str, attribute: str, hops: int = 5) -> str:
    """The first line of a definition's docstring, also if the module re-exports it; empty if it is not found."""
    source = find_source(module)
    if source is None:
        return ""
    doc = _docstring(source, attribute)
    return _parsed_summary(module, source, attribute, hops) if doc is None else doc.strip().partition("\n")[0].strip()


def _docstring(source: str, name: str) -> str | None:
    """The docstring of a class or function at the top level, read up to it: parsing all files takes most of a listing.

    None if there is none, or the source must be parsed to find it.
    """
    heads = [head for head in _HEAD.finditer(source) if head[1] == name]
    if not heads:
        return None
    tokens = tokenize.generate_tokens(io.StringIO(source[heads[-1].start() :]).readline)
    significant = (token for token in tokens if token.type not in (tokenize.NL, tokenize.COMMENT))
    try:
        while next(significant).type != tokenize.NEWLINE:
            pass  # the end of the first line, which may be several
        kinds, texts = zip(*((token.type, token.string) for token in islice(significant, 3)), strict=True)
        plain = kinds == (tokenize.INDENT, tokenize.STRING, tokenize.NEWLINE)
        value = ast.literal_eval(texts[1]) if plain else None
    except (StopIteration, SyntaxError, ValueError, tokenize.TokenError):
        return None
    return value if isinstance(value, str) else None


def _parsed_summary(module: str, source: str, attribute: str, hops: int) -> str:
    """The summary of a definition that is nested, or imported from elsewhere."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    for node in chain(tree.body, ast.walk(tree)):  # first the top level, then inside `if` and `try`
        if isinstance(node, _Definition) and node.name == attribute:
            return (ast.get_docstring(node) or "").strip().partition("\n")[0].strip()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and hops:
            for alias in node.names:
                if (alias.asname or alias.name) == attribute:
                    return summary_of(_absolute(module, node), alias.name, hops - 1)
    return ""


def _absolute(module: str, node: ast.ImportFrom) -> str:
    """The module that a `from` import names; packages are recognised by their module `__init__`."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    is_package = find_source(f"{module}.__init__") is not None
    package = parts[: len(parts) - node.level + is_package]
    return ".".join([*package, *([node.module] if node.module else [])])


def defined_in(source: str) -> list[str]:
    """The public classes and functions that a file defines at its top level."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deeply
        return []
    return [node.name for node in body if isinstance(node, _Definition) and not node.name.startswith("_")]


def runs_when_imported(source: str) -> bool:
    """Whether a script has no `if __name__ == "__main__":`, so that importing it does its work again."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return True
    return not any(isinstance(node, ast.If) and "__name__" in ast.unparse(node.test) for node in body)


def imports_neighbours(source: str) -> bool:
    """Whether a file uses relative imports, so that a copy elsewhere would not work."""
    try:
        return any(isinstance(node, ast.ImportFrom) and node.level > 0 for node in ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return True


class _Loader(SourceFileLoader):
    """Compiles the source each time: writes no bytecode next to a user's file, and uses no outdated one."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def import_file(path: Path) -> ModuleType:
    """Import a file as a module with a unique name; `sys.path` is not changed.

    The same file gives the same module until its content changes.
    """
    digest = hashlib.sha256(f"{path}\0".encode() + read_bytes(path, TEXT)).hexdigest()[:12]
    name = f"soundbench_file_{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = ModuleSpec(name, loader := _Loader(name, str(path)), origin=str(path))
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickle look their module up
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def line_of(error: BaseException, path: Path) -> int | None:
    """The line of a file that an exception came from."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def place_of(error: BaseException | None, module: str) -> str:
    """Where an exception passed through its author's code last, as ` (FILE, line N)`; empty if it did not.

    An exception raised from another one stands for that, too.

    Args:
        error: the exception.
        module: a module of the author; their code is all of the package that it belongs to.
    """
    own = module.partition(".")[0]
    while error is not None:
        for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
            if str(frame.f_globals.get("__name__")).partition(".")[0] == own:
                return f" ({frame.f_code.co_filename}, line {line})"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return ""


def argument_docs(docstring: str | None, section: str = "Args:") -> dict[str, str]:
    """The text for each name in a section of a docstring, on one line each."""
    found: dict[str, list[str]] = {}
    lines = inspect.cleandoc(docstring or "").splitlines()
    start = next((number for number, line in enumerate(lines) if line.strip() == section), len(lines))
    indent, current = None, None
    for line in lines[start + 1 :]:
        width = len(line) - len(line.lstrip())
        if line.strip() and width == 0:
            break
        indent = width if indent is None and line.strip() else indent
        match = re.match(r"\s*\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.*)", line) if width == indent else None
        if match:
            current = match[1]
            found[current] = [match[2]]
        elif current:
            found[current].append(line.strip())
    return {name: " ".join(" ".join(words).split()) for name, words in found.items()}
