"""Whole runs by a real compiler, in processes of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.runs import RECIPE, command, done, weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("c++") is None, reason="Inductor needs a C++ compiler, and there is none here"),
]


def test_two_processes_that_compile_are_killed_and_resume_to_the_same_bits(tmp_path: Path) -> None:
    recipe, whole, cut, kill = (tmp_path / name for name in ("r.toml", "whole", "cut", "kill"))
    recipe.write_text(RECIPE)
    rules = [f"--set=train.{rule}" for rule in ("compile=on", "epochs=2", "checkpoint_steps=2")]
    kept = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled"), "SOUNDBENCH_CACHE": str(tmp_path / "cache")}
    errors = [done(command("run", recipe, "--out", whole, *rules, "--processes", 2, **kept))]
    kill.write_text("2 17")
    process = command("run", recipe, "--out", cut, *rules, "--processes", 2, SOUNDBENCH_TOY_KILL=str(kill), **kept)
    errors += process.communicate(timeout=300)
    assert not kill.exists(), errors
    assert not (cut / "report.json").exists()
    done(command("run", "--resume", cut, "--trust-code", "--processes", 2, **kept))
    assert weights(whole) == weights(cut)
    for run in (whole, cut):
        environment = json.loads((run / "environment.json").read_text())
        assert environment["compile"] == {"asked": "on", "used": "on", "reason": "as asked"}
        assert environment["processes"] == 2
