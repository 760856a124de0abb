"""Copies the files of soundbench that `pyproject.toml` names into the package when it is built.

In a checkout they are two folders above this one; in a source distribution they are in `core/`, as they are.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent
# An import of soundbench at the start of a line, and not that of another distribution such as soundbench_runtime.
_IMPORT = re.compile(r"^(\s*(?:from|import) )soundbench(?=[. ])", re.MULTILINE)


class CoreFiles(BuildHookInterface):
    """The files of soundbench in a wheel, where imports name this package, or in a source distribution."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add them to what is built."""
        if version == "editable":
            raise RuntimeError("soundbench-runtime cannot be installed with -e: its files are made when it is built")
        self._made = Path(tempfile.mkdtemp())
        wheel = self.target_name == "wheel"
        prefix = "soundbench_runtime" if wheel else "core/soundbench"
        for name, text in (core_files() if wheel else _originals()).items():
            path = self._made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            build_data["force_include"][str(path)] = f"{prefix}/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the copies."""
        shutil.rmtree(self._made)


def core_files() -> dict[str, str]:
    """The text of each file to add to the package, by its path inside: those named, and empty `__init__.py` files."""
    found = {name: _IMPORT.sub(r"\1soundbench_runtime", text) for name, text in _originals().items()}
    folders = {parent for name in found for parent in Path(name).parents} - {Path()}
    return {f"{folder.as_posix()}/__init__.py": "" for folder in folders} | found


def _originals() -> dict[str, str]:
    """The named files as they are, by their paths in the package soundbench."""
    names = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["soundbench-runtime"]["files"]
    roots = (HERE / "core" / "soundbench", HERE.parents[1] / "soundbench")
    root = next(root for root in roots if root.is_dir())
    return {name: (root / name).read_text(encoding="utf-8") for name in names}
