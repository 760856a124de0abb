"""Where time goes: the shares of a step in the log, and the page of `--profile`."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import toy_run, weights
from torch import nn

import soundbench
from soundbench.cli.main import invoke
from soundbench.training.profiling import Profile, StepTimes, advice

pytestmark = pytest.mark.usefixtures("cache")
CPU = torch.device("cpu")


def test_shares_are_of_the_time_within_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of 4 and 4 s; the 100 s between them are nobody's."""
    clock = iter([0.0, 1.0, 3.0, 4.0, 104.0, 105.0, 108.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    times = StepTimes(CPU)
    times.start()
    for part in ("data", "forward", "backward"):
        times.mark(part)
    times.start()
    for part in ("data", "forward"):
        times.mark(part)
    assert times.shares == {"data": 0.25, "move": 0, "augment": 0, "forward": 0.625, "backward": 0.125, "update": 0}
    assert times.line() == (
        "time of a step: 25% waiting for data, 0% moving it, 0% augmentations, 62% forward, 12% backward, "
        "0% optimizer; 4000 ms in all, mean of 2"
    )


def spent(steps: int = 50, **seconds: float) -> StepTimes:
    times = StepTimes(CPU)
    times.steps = steps
    times.seconds |= seconds
    return times


def test_advice_is_given_where_there_is_some() -> None:
    assert advice(spent(forward=1.0), 0, 8) == []
    assert advice(spent(data=0.3, forward=0.7), 0, 8) == ["steps wait for data (30%): set train.num_workers to 1 or 2"]
    assert advice(spent(data=0.3, forward=0.7), 2, 8) == [
        "steps wait for data (30%): raise train.num_workers, or put the cache on a faster disk"
    ]
    assert advice(spent(augment=0.5, update=0.5), 0, 8) == [
        "augmentations take 50%: use fewer, or apply them less often",
        "the optimizer takes 50%: raise train.batch_size",
    ]


@pytest.mark.parametrize(
    ("steps", "threads", "share", "said"),
    [(49, 8, 0.9, False), (50, 8, 0.13, True), (50, 8, 0.12, False), (50, 2, 0.49, False), (50, 2, 0.5, True)],
)
def test_a_worker_is_advised_where_it_saves_time(steps: int, threads: int, share: float, said: bool) -> None:
    """It takes one of the threads, so that the rest of a step takes threads / (threads - 1) of its time."""
    assert bool(advice(spent(steps, data=share, forward=1 - share), 0, threads)) == said


def test_the_last_line_of_the_log_says_where_time_went(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The toy's augmentation sleeps, so that it is most of a step."""
    monkeypatch.setenv("SOUNDBENCH_TOY_DELAY", "0.03")
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1")
    last = (run / "log.txt").read_text().splitlines()[-1].split(" ", 1)[1]
    assert last.startswith("time of a step: ")
    assert int(re.findall(r"(\d+)% augmentations", last)[0]) > 50
    assert abs(sum(int(share) for share in re.findall(r"(\d+)% ", last.split(";")[0])) - 100) <= 3
    assert "mean of 7" in last
    assert "augmentations take" in last
    took = float(re.findall(r"([\d.]+) ms in all", last)[0])
    assert took >= 30


def test_a_profiled_run_is_the_same_run_with_a_page_more(recipe: Path, tmp_path: Path) -> None:
    said: list[str] = []
    plain = toy_run(recipe, tmp_path / "plain")
    run = toy_run(recipe, tmp_path / "run", profile=True, say=said.append)
    assert weights(run) == weights(plain)
    page = (run / "profile.txt").read_text()
    assert f"profile: {run / 'profile.txt'}" in said
    assert page.startswith("Steps 8 to 12 of training on the CPU, profiled.\n")
    assert re.search(r"^backbone +1 +\d+\.\d\d +\d+\.\d%$", page, re.MULTILINE)
    assert re.search(r"^backbone\.conv \(Conv1d\) +1 +\d+\.\d\d +\d+\.\d%$", page, re.MULTILINE)
    assert re.search(r"^BatchNorm1d +2 +\d", page, re.MULTILINE)  # the backbone's and the head's
    assert re.search(r"^aten::convolution_backward +1 +\d", page, re.MULTILINE)
    assert "time of a step: " in page
    assert page.splitlines()[-1].startswith("To train faster: ")
    assert not (plain / "profile.txt").exists()


def test_a_run_of_few_steps_is_profiled_from_its_first(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1", "train.batch_size=24", profile=True)
    assert (run / "profile.txt").read_text().startswith("Steps 1 to 2 of training")


def test_a_resumed_run_is_profiled_where_it_goes_on(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run")
    for name in ("report.json", "checkpoints/step-00000021.pt", "checkpoints/step-00000014.pt"):
        (run / name).unlink()
    soundbench.resume(run, trust_code=True, profile=True, say=lambda _: None)
    assert (run / "profile.txt").read_text().startswith("Steps 15 to 19 of training")
    assert json.loads((run / "report.json").read_text())["clips"] == 16


def test_time_of_a_layer_is_without_the_layers_inside_it(tmp_path: Path) -> None:
    """A container that sleeps 20 ms around a layer that sleeps 5 ms, in a list, which is no layer itself."""

    class Sleeps(nn.Module):
        def __init__(self, seconds: float, *inside: nn.Module) -> None:
            super().__init__()
            self.seconds, self.inside = seconds, nn.ModuleList(inside)

        def forward(self, data: Any) -> Any:
            for module in self.inside:
                data = module(data)
            time.sleep(self.seconds)
            return data + 1

    from ignite.engine import Engine

    network = nn.Sequential(Sleeps(0.02, Sleeps(0.005)))
    trainer = Engine(lambda engine, batch: network(torch.zeros(1)) and None)
    times = StepTimes(CPU)
    Profile(network, CPU, times, 0, tmp_path / "page", lambda _: None).attach(trainer)
    trainer.run([1, 2], max_epochs=1)
    page = (tmp_path / "page").read_text()
    outer = float(re.findall(r"^0 \(Sleeps\) +1 +([\d.]+)", page, re.MULTILINE)[0])
    inner = float(re.findall(r"^0\.inside\.0 \(Sleeps\) +1 +([\d.]+)", page, re.MULTILINE)[0])
    assert 5 <= inner < 20 <= outer
    whole = float(re.findall(r"^0 +1 +([\d.]+) +100.0%", page, re.MULTILINE)[0])
    assert outer == pytest.approx(whole - inner, abs=0.02)
    assert float(re.findall(r"^Sleeps +2 +([\d.]+)", page, re.MULTILINE)[0]) == pytest.approx(whole, abs=0.02)


@pytest.mark.parametrize("folder", ["recipe", "resumed"])
def test_the_profile_is_of_one_run(
    recipe: Path, tmp_path: Path, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folds.json").write_text("{}")
    call = [str(recipe), "--folds", "all"] if folder == "recipe" else ["--resume", str(tmp_path)]
    assert invoke(["run", "--profile", *call]) == 2
    assert "--profile is for a single run: " in capsys.readouterr().err
