"""Whether steps on a GPU wait for data, for Python, or for the GPU: on a simulated one, of which that is known."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import toy_run
from helpers.simulated_gpu import SimulatedGPU
from ignite.engine import Engine
from torch import nn
from torch.autograd import DeviceType

from soundbench.training import run as runs
from soundbench.training.compiling import compiler
from soundbench.training.profiling import Profile, StepTimes, advice

CUDA = torch.device("cuda")
BATCH = "the GPU waits for Python to launch its work: raise train.batch_size"
COMPILE = f"{BATCH}, or set train.compile to 'on'"
WORKER = "steps wait for data (%d%%): set train.num_workers to 1 or 2"

# A step of CAM++: launches by phase.
LAUNCHES = {"move": 5, "augment": 40, "forward": 1200, "backward": 2000, "update": 250}


Draw = Callable[[float, float], tuple[float, float]]


def fixed(host: float, device: float) -> tuple[float, float]:
    return host, device


class Steps:
    """Steps on a simulated GPU, whose losses are read every 0.2 s.

    Attributes:
        gpu: the GPU.
        times: what is measured.
        idle: how long the GPU was idle in phases other than waiting for data.
        read: when losses were last read.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.gpu = SimulatedGPU()
        self.gpu.use(patch)
        self.times = StepTimes(CUDA)
        self.idle = self.read = 0.0

    def run(self, steps: int, host: float, device: float, data: float = 0.0, draw: Draw = fixed) -> None:
        """Steps whose launches take the thread and the GPU so many seconds, after so many of waiting for data."""
        gpu, times = self.gpu, self.times
        for _ in range(steps):
            times.start()
            gpu.now += data
            times.mark("data")
            before = gpu.idle
            for phase, count in LAUNCHES.items():
                for _ in range(count):
                    gpu.launch(*draw(host, device))
                times.mark(phase)
            self.idle += gpu.idle - before
            if gpu.now - self.read >= 0.2:
                self.collect()
        self.collect()

    def collect(self) -> None:
        self.gpu.wait()
        self.times.collect()
        self.read = self.gpu.now

    @property
    def advice(self) -> list[str]:
        return advice(self.times, 0, 8)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def test_where_python_is_slow_it_sets_the_pace(steps: Steps) -> None:
    """3,495 launches of 7 us, of which the GPU does each in 3 us."""
    steps.run(60, 7e-6, 3e-6)
    assert steps.times.pace > 0.98
    assert steps.times.shares["data"] < 0.01
    assert sum(steps.times.seconds.values()) / 60 == pytest.approx(3495 * 7e-6, rel=0.02)
    assert steps.times.shares["backward"] == pytest.approx(2000 / 3495, abs=0.01)
    assert steps.advice == [COMPILE]
    steps.times.compiled = True
    assert steps.advice == [BATCH]
    pace = f"{steps.times.pace:.0%} of it at the pace of Python, which launches the GPU's work"
    assert steps.times.line().endswith(f" ms in all, mean of 60; {pace}")


def test_where_the_gpu_is_slow_python_does_not_though_it_waits_to_launch_more(steps: Steps) -> None:
    """No more than 1,024 launches wait: Python launches a phase nearly as late as the GPU ends it."""
    steps.run(60, 4e-6, 10e-6)
    assert steps.times.pace < 0.02
    assert sum(steps.times.seconds.values()) / 60 == pytest.approx(3495 * 10e-6, rel=0.02)
    assert steps.advice == []
    assert "; 0% of it at the pace of Python" in steps.times.line()


def test_waiting_for_data_is_not_waiting_for_python(steps: Steps) -> None:
    """The GPU has the last 1,024 launches of 10 us each to do when Python begins to wait for a batch, for 30 ms."""
    steps.run(60, 4e-6, 10e-6, data=0.03)
    waited = 0.03 - 1024 * 10e-6
    assert steps.times.shares["data"] == pytest.approx(waited / (3495 * 10e-6 + waited), abs=0.04)
    assert steps.times.pace < 0.1
    assert steps.advice == [WORKER % round(100 * steps.times.shares["data"])]


def test_both_are_said(steps: Steps) -> None:
    steps.run(60, 7e-6, 3e-6, data=0.01)
    assert steps.times.shares["data"] == pytest.approx(0.01 / (0.01 + 3495 * 7e-6), abs=0.02)
    assert steps.advice == [WORKER % round(100 * steps.times.shares["data"]), COMPILE]


def test_a_few_steps_say_nothing(steps: Steps) -> None:
    steps.run(49, 7e-6, 3e-6)
    assert steps.times.pace > 0.98
    assert steps.advice == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ratio", [0.3, 0.6, 1.3, 3.0])
def test_the_pace_is_right_where_kernels_differ_a_lot(steps: Steps, ratio: float, seed: int) -> None:
    """Launches and kernels of random length, half of the GPU's work in kernels that are 500 times as long as others."""
    draws = np.random.default_rng(seed)

    def draw(host: float, device: float) -> tuple[float, float]:
        return draws.exponential(host), draws.exponential(device / 2) + (draws.random() < 0.002) * 250 * device

    steps.run(16, 6e-6, 6e-6 * ratio, draw=draw)
    assert steps.times.pace > 0.5 if ratio < 1 else steps.times.pace < 0.1
    assert steps.idle <= steps.times.paced + 0.03 * sum(steps.times.seconds.values())


def test_steps_wait_for_nothing(steps: Steps) -> None:
    """The thread does not wait for the GPU until losses are read; then it has nothing to wait for."""
    gpu, began = steps.gpu, steps.gpu.now
    for _ in range(5):
        steps.times.start()
        for phase in ("data", "move", "augment", "forward", "backward", "update"):
            gpu.launch(1e-6, 1e-3)
            steps.times.mark(phase)
    assert gpu.waits == 0
    assert gpu.now - began < 1e-3
    gpu.wait()
    before = gpu.now
    steps.times.collect()
    assert gpu.now - before < 1e-4
    assert sum(steps.times.seconds.values()) == pytest.approx(30e-3, rel=0.01)


def test_time_between_steps_and_of_compiling_is_nobodys(steps: Steps) -> None:
    gpu, times = steps.gpu, steps.times
    for _ in range(3):
        times.start()
        gpu.launch(1e-3, 1e-4)
        times.mark("forward")
        gpu.launch(100.0, 1e-4)
        times.skip()
        gpu.launch(1e-4, 2e-3)
        times.mark("backward")
        gpu.wait()
        gpu.now += 10.0
    times.collect()
    assert times.seconds["forward"] == pytest.approx(3 * 1.1e-3, rel=0.05)
    assert times.seconds["backward"] == pytest.approx(3 * 2.1e-3, rel=0.05)


def test_a_cpu_has_no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", None)
    times = StepTimes(torch.device("cpu"))
    times.start()
    times.mark("forward")
    times.collect()
    assert times.pace == 0
    assert "Python" not in times.line()


# With --profile -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("device", "said"), [(3e-6, [COMPILE]), (6.8e-6, [])])
def test_how_long_the_gpu_is_idle_is_known_from_its_kernels(steps: Steps, device: float, said: list[str]) -> None:
    """Python sets the pace of both, but only one of them has a GPU with much time left."""
    steps.run(5, 30e-6, device)  # profiled: slower
    assert steps.times.idle is None
    steps.times.profiled(3495 * device)
    assert steps.times.idle is None
    before = steps.idle
    steps.run(60, 7e-6, device, data=0.001)
    assert steps.times.pace > 0.9
    idle = (steps.idle - before) / (60 * (3495 * 7e-6 + 0.001))
    assert steps.times.idle == pytest.approx(idle, abs=0.01)
    assert steps.advice == said
    assert steps.times.line().endswith(f"; the GPU idle in {steps.times.idle:.0%}, beside waiting for data")


def kernel(name: str, start: float, end: float, device: Any = DeviceType.CUDA, layer: bool = False) -> Any:
    span = SimpleNamespace(start=start, end=end)
    return SimpleNamespace(name=name, time_range=span, device_type=device, is_user_annotation=layer)


KERNELS = [
    kernel("gemm", 1000, 3000),
    kernel("nccl", 2000, 4000),
    kernel("aten::mm", 0, 9000, DeviceType.CPU),
    kernel("layer: backbone", 1000, 9000, layer=True),
    kernel("Memcpy HtoD (Pinned -> Device)", 6000, 8000),
    kernel("add", 8000, 8500),
]


@pytest.mark.parametrize(
    ("events", "said", "idle"),
    [(KERNELS, "The GPU was busy for 1.75 ms of a step.", 1 - 1.75 / 5), ([], "No kernel was recorded.", None)],
)
def test_a_profile_says_how_long_the_gpu_was_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Any], said: str, idle: float | None
) -> None:
    """Two steps: two kernels at the same time, one alone; what is on the host, around them, or a copy, is no work."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    network = nn.Sequential(nn.Linear(1, 1))
    times = StepTimes(torch.device("cpu"))
    trainer = Engine(lambda engine, batch: network(torch.zeros(1)) and None)
    profile = Profile(network, torch.device("cpu"), times, 0, tmp_path / "page", lambda _: None)
    profile.cuda = True
    monkeypatch.setattr(profile.profiler, "events", lambda: events)
    profile.attach(trainer)
    trainer.run([1, 2], max_epochs=1)
    page = (tmp_path / "page").read_text()
    assert said in page
    assert "faster network" not in page
    times.start()
    times.seconds["forward"] += 0.005
    assert times.idle == (None if idle is None else pytest.approx(idle))


# Whole runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("device", "compiled", "said"),
    [
        (1e-5, "off", COMPILE),
        pytest.param(1e-5, "on", BATCH, marks=pytest.mark.slow),
        (1e-3, "off", ""),
    ],
)
def test_the_last_line_of_a_run_says_who_sets_the_pace(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: float, compiled: str, said: str
) -> None:
    """A run of toys on the CPU, whose steps launch into a simulated GPU: 50 times a phase, for 0.1 ms each."""
    gpu = SimulatedGPU()
    gpu.use(monkeypatch)

    class Simulated(StepTimes):
        def mark(self, phase: str) -> None:
            for _ in range(0 if phase == "data" else 50):
                gpu.launch(1e-4, device)
            super().mark(phase)

        def collect(self) -> None:
            gpu.wait()
            super().collect()

    monkeypatch.setattr(runs, "StepTimes", lambda _: Simulated(CUDA))
    monkeypatch.setattr(compiler, "BACKEND", "aot_eager")
    run = toy_run(recipe, tmp_path / "run", "train.epochs=8", f"train.compile={compiled}")
    last = (run / "log.txt").read_text().splitlines()[-1]
    assert "mean of 56" in last
    pace = int(re.findall(r"(\d+)% of it at the pace of Python", last)[0])
    assert pace > 95 if said else pace < 10
    assert last.endswith(said)
