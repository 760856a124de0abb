"""The check of a GPU, on a CPU: every row is there, what is skipped is named, and one check's trouble stays its own."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def device_check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("device_check")


def check(*options: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, ROOT / "benchmarks" / "device_check.py", "--device", "cpu", *map(str, options)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def cells(page: str) -> list[list[str]]:
    rows = [row.strip("|").split("|") for row in page.splitlines() if row.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.mark.slow
def test_a_cpu_has_every_row_and_says_what_it_skips(tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    done = check("--only", "engine", "precision", "--out", table)
    assert done.returncode == 0, done.stderr
    assert table.read_text() + "\n" == done.stdout
    rows = cells(done.stdout)
    assert [row[0] for row in rows] == ["engine"] * 3 + ["precision"] * 4
    skipped = {row[1]: row[2] for row in rows if row[4] == "skipped"}
    assert skipped == {
        "training in fp32 with TF32, batch 4": "no CUDA device",
        "training in bf16, batch 4": "no CUDA device",
        "training in fp16, batch 4": "no CUDA device",
    }
    assert all(row[4] == "" and row[2] for row in rows if row[1] not in skipped)


def test_a_check_that_takes_too_long_has_a_row_that_says_so(device_check: ModuleType) -> None:
    (row,) = device_check.checked("engine", "cpu", 0.2)
    assert (row.check, row.figure, row.verdict) == ("engine", "not done after 0 s", "failed")


def test_a_check_that_fails_keeps_its_rows_and_says_why(
    device_check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(_place: object) -> object:
        yield device_check.Row("engine", "the first", "1.00")
        raise RuntimeError("out of luck | and of memory")

    monkeypatch.setitem(device_check.CHECKS, "engine", (fails, 1))
    device_check.work("engine", "cpu", tmp_path / "rows")

    rows = [device_check.Row(**json.loads(text)) for text in (tmp_path / "rows").read_text().splitlines()]
    assert cells(device_check.table(rows, "cpu")) == [
        ["engine", "the first", "1.00", "", ""],
        ["engine", "the check itself", "RuntimeError: out of luck   and of memory", "", "failed"],
    ]


def test_a_device_that_is_not_there_is_one_line() -> None:
    done = check("--device", "cuda:99")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("device 'cuda:99': ")


@pytest.mark.slow
def test_the_tests_of_a_gpu_work_on_a_cpu() -> None:
    """Three of them, as far as a CPU goes: nobody else would notice that they no longer do."""
    line = [sys.executable, "-m", "pytest", "-o", "addopts=", "-m", "gpu", "-q", "tests/plugins/test_gpu.py"]
    environment = {**os.environ, "SOUNDBENCH_TEST_DEVICE": "cpu"}
    chosen = ["-k", "gpu_scores and campplus or resume and fp32 or autocast"]
    done = subprocess.run([*line, *chosen], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_wheels_are_gathered_into_a_new_folder_only(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    done = subprocess.run(
        [ROOT / "benchmarks" / "bundle.sh", tmp_path, "3.12"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, f"{tmp_path} is not empty; name a new folder\n")
