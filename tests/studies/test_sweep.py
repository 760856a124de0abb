"""Sweeps as a user runs them: killed, stopped, failing, two at once, on a full disk, listed."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.runs import RECIPE, command, done, start, weights
from helpers.sweeps import PROGRAM, made_cell

from soundbench.cli.main import invoke
from soundbench.machine import cores
from soundbench.report import lock
from soundbench.studies.folder import SweepFolder
from soundbench.studies.sweep import Listed, Standing, run_cells, standing_of

# -- made-up runs: how processes are started, watched and passed over --------------------------------------------------


def go(folder: Path, orders: dict[str, str], jobs: int = 1, count: int = 4) -> tuple[Standing, list[str]]:
    """Run cells that do as they are ordered."""
    cells = [made_cell({"lr": number}) for number in range(count)]
    where, said = SweepFolder(folder), list[str]()
    for cell in cells:
        where.recipe(cell).parent.mkdir(parents=True, exist_ok=True)
        where.recipe(cell).write_text(cell.recipe)
        where.recipe(cell).with_suffix(".order").write_text(orders.get(str(cell.values["lr"]), ""))
    standing = standing_of(where, cells)
    run_cells(where, Listed(cells, standing), program=PROGRAM, more=[], jobs=jobs, say=said.append)
    return standing, said


@pytest.mark.parametrize("world", ["1", "2"])
def test_a_sweep_is_not_started_by_torchrun(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"WORLD_SIZE": world, "TORCHELASTIC_RUN_ID": "none"}.items():
        monkeypatch.setenv(name, value)
    assert invoke(["sweep", str(tmp_path / "sweep.toml")]) == 2
    line = "a sweep starts processes itself, but torchrun has started this one; leave torchrun out\n"
    assert capsys.readouterr().err == line


def test_what_fails_is_passed_over_with_its_last_line_and_tried_again(tmp_path: Path) -> None:
    standing, said = go(tmp_path, {"1": "fail", "2": "die"}, jobs=2)
    assert sorted(standing.failures.values()) == [
        "the disk is full",
        "was killed (SIGKILL), probably because the system ran out of memory",
    ]
    assert len(standing.of("finished")) == 2
    assert any("failed: the disk is full" in line for line in said)
    standing, said = go(tmp_path, {})
    assert not standing.failures
    assert len(standing.of("finished")) == 4
    assert sum(": lr = " in line for line in said) == 2  # the finished ones are not run again


def test_a_disk_that_is_full_half_way_costs_nothing_that_is_finished(small_disk: Path) -> None:
    standing, _ = go(small_disk, {}, count=1)
    assert standing.of("finished")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    with pytest.raises(OSError, match="No space left"):
        go(small_disk, {})  # not even the recipes of the others find room
    filler.write_bytes(bytes(filler.stat().st_size - 30_000))
    standing, said = go(small_disk, {})
    assert standing.failures
    assert all("the disk is full" in reason or "No space left" in reason for reason in standing.failures.values())
    filler.unlink()
    finished = set(standing.of("finished"))
    standing, said = go(small_disk, {})
    assert not standing.failures
    assert finished
    assert sum(": lr = " in line for line in said) == 4 - len(finished)


def test_the_cores_are_shared_out(tmp_path: Path) -> None:
    go(tmp_path, {}, jobs=2, count=2)
    shares = set((tmp_path / "threads.txt").read_text().split())
    assert shares == {str(min(int(os.environ.get("OMP_NUM_THREADS", cores())), max(1, cores() // 2)))}


def test_a_folder_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "toy.toml").write_text(RECIPE + "\n[sweep]\nseeds = 2\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    assert invoke(["sweep", str(tmp_path / "toy.toml"), "--out", str(tmp_path / "mine")]) == 2
    assert "holds something else than a sweep (thesis.tex); give another --out" in capsys.readouterr().err


def test_the_second_of_two_sweeps_in_a_folder_says_who_works_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toy.toml").write_text(RECIPE + "\n[sweep]\nseeds = 2\n")
    (tmp_path / "out").mkdir()
    with lock.held(tmp_path / "out"):
        holder = subprocess.run(
            [sys.executable, "-m", "soundbench", "sweep", str(tmp_path / "toy.toml"), "--out", str(tmp_path / "out")],
            capture_output=True,
            text=True,
            check=False,
        )
    assert holder.returncode == 1
    assert f"process {os.getpid()} on " in holder.stderr
    assert "wait until it has ended, or stop it" in holder.stderr


# -- real runs ---------------------------------------------------------------------------------------------------------

SWEEP = """
extends = "toy.toml"
[sweep]
"backbone.channels" = [8, 16]
seeds = 2
"""


def written(folder: Path, sweep: str = SWEEP, recipe: str = RECIPE) -> list[object]:
    (folder / "toy.toml").write_text(recipe)
    (folder / "toys.toml").write_text(sweep)
    return ["sweep", folder / "toys.toml", "--out", folder / "out"]


def orphans(folder: Path) -> list[str]:
    """The command lines of processes that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


def gone(folder: Path) -> bool:
    deadline = time.monotonic() + 30
    while orphans(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def cell_runs(folder: Path) -> dict[str, bytes]:
    return {path.parents[1].name: weights(path.parents[1]) for path in folder.glob("*/model/model.toml")}


def wait_for(process: subprocess.Popen[str], folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 200
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    done(command(*written(folder), SOUNDBENCH_CACHE=str(folder / "cache")))
    return folder / "out"


@pytest.mark.slow
def test_a_killed_sweep_leaves_no_process_and_goes_on_to_the_same_results(
    whole: Path, tmp_path: Path, cache: Path
) -> None:
    line = written(tmp_path)
    for pattern in ("*/checkpoints/step-*.pt", "*/digests.json"):
        sweep = start(*line, "--jobs", "2", SOUNDBENCH_TOY_DELAY="0.05")
        wait_for(sweep, tmp_path / "out", pattern)
        sweep.kill()
        sweep.communicate()
        assert pattern == "*/digests.json" or gone(tmp_path)  # the second time, the sweep goes on at once
    done(command(*line))
    assert not orphans(tmp_path)
    assert cell_runs(tmp_path / "out") == cell_runs(whole)
    assert len(cell_runs(whole)) == 4
    both = [json.loads((folder / "summary.json").read_text())["rows"] for folder in (tmp_path / "out", whole)]
    assert both[0] == both[1]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_sweep_keeps_checkpoints_and_says_how_to_go_on(
    tmp_path: Path, cache: Path, number: int, code: int
) -> None:
    line = written(tmp_path)
    sweep = start(*line, SOUNDBENCH_TOY_DELAY="0.05")
    wait_for(sweep, tmp_path / "out", "*/checkpoints/step-*.pt")
    sweep.send_signal(number)
    _, errors = sweep.communicate(timeout=60)
    assert sweep.returncode == code
    assert "1 stopped, 3 new; the same command goes on" in errors
    assert not orphans(tmp_path)


@pytest.mark.slow
def test_a_finished_sweep_returns_soon_and_without_torch(whole: Path) -> None:
    file = whole.parent / "toys.toml"
    code = (
        "import sys; from soundbench.cli.main import invoke\n"
        f"assert invoke(['sweep', {str(file)!r}, '--out', {str(whole)!r}]) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    spent = os.times()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = os.times()
    assert after.children_user + after.children_system - spent.children_user - spent.children_system < 2.5


@pytest.mark.slow
def test_a_failing_cell_is_passed_over_and_wrong_ones_are_named_before_any_begins(tmp_path: Path, cache: Path) -> None:
    wrong = command(*written(tmp_path, SWEEP.replace("[8, 16]", "[8, 0]")))
    _, errors = wrong.communicate(timeout=100)
    assert wrong.returncode == 2
    assert "backbone.channels = 0, seed 1: backbone.channels: must be at least 1, not 0" in errors
    assert not list((tmp_path / "out").glob("*/recipe.toml"))
    broken = RECIPE.replace(":ToyDataset", ":ToyBroken")
    failing = SWEEP.replace('"backbone.channels" = [8, 16]', '"audio.on_error" = ["fail", "skip"]').replace(
        "= 2", "= 1"
    )
    sweep = command(*written(tmp_path, failing, broken))
    out, errors = sweep.communicate(timeout=200)
    assert sweep.returncode == 1
    assert 'failed: audio.on_error = "fail", seed 1: ' in errors
    assert "the tape is torn" in errors
    assert "1 of 1" in out
    assert "0 of 1" in out


@pytest.mark.slow
def test_the_commands_of_a_list_are_the_runs_of_the_sweep(whole: Path, tmp_path: Path, cache: Path) -> None:
    line = written(tmp_path, recipe=RECIPE.replace('device = "cpu"', 'device = "cuda"'))  # which this machine may lack
    listed = done(command(*line, "--list", "--device", "cpu")).splitlines()
    assert len(listed) == 4
    for text in listed:
        words = shlex.split(text)
        assert words[0] == "soundbench"
        assert not subprocess.run([sys.executable, "-m", *words], capture_output=True).returncode
    assert not done(command(*line, "--list"))
    done(command(*line))  # the device is no part of what a cell is
    assert cell_runs(tmp_path / "out") == cell_runs(whole)


@pytest.mark.slow
def test_a_full_disk_half_way_loses_nothing_that_is_finished(small_disk: Path, tmp_path: Path, cache: Path) -> None:
    line = [*written(tmp_path)[:2], "--out", small_disk / "out"]
    sweep = command(*line)
    _, errors = sweep.communicate(timeout=300)
    assert sweep.returncode == 1
    assert "the disk is full" in errors
    assert "Traceback" not in errors
