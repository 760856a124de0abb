"""Packages of plugins as an installer leaves them: modules in a folder, with metadata beside them."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path


def install(package: Path, site: Path) -> None:
    """Copy the module of a package to a folder of libraries, with the metadata that its pyproject.toml states."""
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stem = project["name"].replace("-", "_")
    shutil.copy(package / f"{stem}.py", site)
    info = site / f"{stem}-{project['version']}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.4", f"Name: {project['name']}", f"Version: {project['version']}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    (info / "METADATA").write_text("\n".join([*lines, "", ""]), encoding="utf-8")
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())])
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n\n".join([*groups, ""]), encoding="utf-8")
