"""The package of `soundbench-runtime` as its wheel has it: its own files, and those that it takes from the core."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from helpers import TESTS

HERE = TESTS.parent / "plugins" / "soundbench-runtime"
OWN = HERE / "soundbench_runtime"


def core_files() -> dict[str, str]:
    """What `hatch_build.py` adds to the package, without hatchling, which need not be installed."""
    name = "hatchling.builders.hooks.plugin.interface"
    stub: Any = types.ModuleType(name)
    stub.BuildHookInterface = object
    spec = importlib.util.spec_from_file_location("hatch_build", HERE / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, stub)
        spec.loader.exec_module(hook)
    found: dict[str, str] = hook.core_files()
    return found


def write_package(folder: Path) -> None:
    """Write the package into a folder of libraries."""
    files = core_files() | {path.name: path.read_text(encoding="utf-8") for path in OWN.glob("*.py")}
    for name, text in files.items():
        path = folder / "soundbench_runtime" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
