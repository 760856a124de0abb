"""A run that is killed before any of its file operations ends, once resumed, as one that nothing has stopped.

The kills are at operations, not at times: each point is reached once and on every machine.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import weights

from soundbench import files

pytestmark = [
    pytest.mark.usefixtures("cache"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and reads /proc"),
]

SETS = ["dataset.clips=16", "train.epochs=2", "train.checkpoint_steps=1", "train.keep=2", "split.validation=0.25"]
TIMES = ("seconds", "clips_per_second")


def ordered(tmp_path: Path, orders: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Runs with their kills, one after the other; the last time each goes on to its end."""
    path = tmp_path / "orders.json"
    path.write_text(json.dumps(orders))
    line = [sys.executable, "-m", "helpers.kill_points", str(path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=3000)
    assert done.returncode == 0, done.stderr
    return [json.loads(answer) for answer in done.stdout.splitlines()]


def results(run: Path) -> dict[str, Any]:
    """All that a run has computed, without the times that it took."""
    history = [{name: row[name] for name in row if name not in TIMES} for row in files.read_rows(run / "history.csv")]
    report = json.loads((run / "report.json").read_text())
    kept = sorted(path.name for path in (run / "checkpoints").iterdir())
    return {
        "weights": weights(run),
        "model": (run / "model" / "model.toml").read_bytes(),
        "history": history,
        "predictions": (run / "predictions.csv").read_bytes(),
        "clips": (run / "clips.csv").read_bytes(),
        "report": {name: report[name] for name in report if name != "seconds"},
        "checkpoints": kept,
        "files": sorted(
            path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file() and ".tmp" not in path.name
        ),
    }


def compare(recipe: Path, tmp_path: Path, kills: Sequence[Sequence[float]], folds: bool = False) -> tuple[int, int]:
    """Kill runs at operations, given by number or as a share; how many were killed, and how many ended exactly right.

    The first of them is not killed: its operations are counted, and the others must end as it did.
    """
    folders = [tmp_path / f"run-{number}" for number in range(len(kills) + 1)]
    more = {"recipe": str(recipe), "sets": SETS, "folds": folds}
    orders = [{"folder": str(one), "kills": at, **more} for one, at in zip(folders, [[0], *kills], strict=True)]
    runs = [f"fold-{fold:02d}" for fold in range(1, 5)] if folds else ["."]
    killed = exact = 0
    for number, answer in enumerate(ordered(tmp_path, orders)):
        folder, log = Path(answer["folder"]), Path(answer["folder"] + ".log").read_text()
        assert set(answer["codes"][:-1]) <= {0, -9}, f"{orders[number]}: {log}"
        assert answer["codes"][-1] == 0, f"{orders[number]}: {log}"
        found = [results(folder / run) for run in runs]
        if not number:
            wanted = found
            continue
        killed += answer["codes"].count(-9)
        wrong = [name for one, other in zip(found, wanted, strict=True) for name in one if one[name] != other[name]]
        assert not wrong, f"{orders[number]}: {wrong}: {log}"
        exact += 1
        shutil.rmtree(folder)
    return killed, exact


def operations(tmp_path: Path) -> list[str]:
    return (tmp_path / "run-0.operations").read_text().split()


def test_a_run_killed_before_some_of_its_file_operations_ends_the_same(recipe: Path, tmp_path: Path) -> None:
    assert compare(recipe, tmp_path, [[share / 5] for share in range(1, 5)]) == (4, 4)
    names = {"open", "write", "fsync", "truncate", "os.rename", "os.remove", "os.mkdir", "os.link"}
    assert names <= set(operations(tmp_path))


@pytest.mark.slow
def test_a_run_killed_before_a_hundred_of_its_file_operations_ends_the_same(recipe: Path, tmp_path: Path) -> None:
    """Every second one, of some two hundred."""
    for _ in range(2):  # the first decodes the sound, and logs it
        compare(recipe, tmp_path, [])
        count = len(operations(tmp_path))
        shutil.rmtree(tmp_path / "run-0")
        (tmp_path / "run-0.operations").unlink()
    assert count >= 200
    points = range(1, count + 1, 2)
    assert compare(recipe, tmp_path, [[at] for at in points]) == (len(points), len(points))


@pytest.mark.slow
def test_a_run_killed_twice_or_three_times_ends_the_same(recipe: Path, tmp_path: Path) -> None:
    draws = random.Random(17)
    kills = [[draws.uniform(0.02, 0.5), *draws.sample(range(1, 60), draws.choice([1, 2]))] for _ in range(15)]
    killed, exact = compare(recipe, tmp_path, kills)
    assert killed > 30
    assert exact == 15


@pytest.mark.slow
def test_folds_killed_before_some_of_their_file_operations_end_the_same(recipe: Path, tmp_path: Path) -> None:
    kills: list[list[float]] = [[at] for at in range(1, 16, 2)] + [[share / 13] for share in range(1, 13)]
    assert compare(recipe, tmp_path, kills, folds=True) == (20, 20)
