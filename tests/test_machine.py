"""What `auto` means: how images are stored, as the backbone says, on a CPU; how many cores and threads there are."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.entry_points import NAMES, toy_registry
from helpers.toys import ToyBackbone

from soundbench import machine
from soundbench.recipe import Recipe
from soundbench.training.environment import settle_recipe


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Settling sets this process's threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class LaidOut(ToyBackbone):
    """A backbone whose images are best as it lays them out."""

    channels_last = False


@pytest.mark.parametrize(
    ("amx", "avx512", "precision"), [(False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16")]
)
def test_auto_is_bf16_on_a_cpu_with_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert machine.settle("cpu").precision == precision


@pytest.mark.parametrize(
    ("backbone", "given", "settled"),
    [(ToyBackbone, "auto", True), (LaidOut, "auto", False), (LaidOut, True, True), (ToyBackbone, False, False)],
)
def test_auto_leaves_images_as_the_backbone_has_them_if_it_says_so(backbone: Any, given: Any, settled: bool) -> None:
    tables = NAMES | {"dataset": "noise", "backbone": backbone, "train": {"device": "cpu", "channels_last": given}}
    made, recipe = settle_recipe(Recipe(**tables, registry=toy_registry()))
    assert made.channels_last is recipe.train.channels_last is settled


def test_a_network_is_left_as_its_backbone_laid_it_out() -> None:
    network = torch.nn.Conv2d(4, 4, 3)
    machine.settle("cpu", fits=False).place(network)
    assert network.weight.is_contiguous()
    machine.settle("cpu").place(network)
    assert network.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system keeps no process off a core")
def test_cores_that_a_process_is_kept_off_are_not_counted() -> None:
    """And none needs torch to count them: a store does, too."""
    lines = """
import os, sys
from soundbench.machine import cores
before = cores()
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
print(before, cores(), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert done.stdout == f"{len(os.sched_getaffinity(0))} 1 False\n"


def groups(root: Path, said: str, **values: str) -> Path:
    """A file system with a process in these control groups; `values` are contents of files, by path."""
    for name, text in {"proc/self/cgroup": said, **values}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("said", "values", "quota"),
    [
        ("0::/", {}, math.inf),
        ("0::/", {"sys/fs/cgroup/cpu.max": "max 100000"}, math.inf),
        ("0::/", {"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        # the container's group is at the root of its file system, under a path of its host
        ("0::/kubepods/pod1", {"sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5),
        # a group above limits those in it
        (
            "0::/a/b",
            {"sys/fs/cgroup/a/cpu.max": "200000 100000", "sys/fs/cgroup/a/b/cpu.max": "max 100000"},
            2.0,
        ),
        ("4:memory:/\n1:cpu:/", {}, math.inf),
        (
            "1:cpu:/a",
            {"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "300000", "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000"},
            3.0,
        ),
        (
            "1:cpu,cpuacct:/a",
            {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            math.inf,
        ),
        ("0::/\n2:cpu:/", {"sys/fs/cgroup/cpu.max": "not a number"}, math.inf),
    ],
)
def test_the_quota_of_a_container_is_read_from_its_control_groups(
    said: str, values: dict[str, str], quota: float, tmp_path: Path
) -> None:
    assert machine._quota(groups(tmp_path, said, **values)) == quota


def test_a_system_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert machine._quota(tmp_path) == math.inf


@pytest.mark.parametrize(("quota", "count"), [(math.inf, 8), (64.0, 8), (3.9, 3), (1.0, 1), (0.5, 1)])
def test_a_quota_limits_the_cores(quota: float, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "_quota", lambda: quota)
    assert machine.cores() == count


@pytest.mark.parametrize(
    ("given", "processes", "threads"),
    [
        (None, 1, 8),
        ("1", 1, 1),
        ("3", 1, 3),
        ("16", 1, 8),
        ("6,2", 1, 6),
        ("3", 4, 2),
        ("many", 1, 8),
        ("0", 1, 1),
    ],
)
def test_auto_follows_the_number_of_threads_in_the_environment(
    given: str | None, processes: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert machine.settle("cpu", "fp32", local_world=processes).threads == threads


def test_the_one_thread_that_torchrun_sets_by_itself_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    for name, value in {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    assert machine.settle("cpu", "fp32", local_world=2).threads == 1  # as `--processes` starts them: the user's
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert machine.settle("cpu", "fp32", local_world=2).threads == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert machine.settle("cpu", "fp32", local_world=2).threads == 2
