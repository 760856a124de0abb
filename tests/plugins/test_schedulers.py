"""The schedules: what rate each step runs at."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from soundbench_plugins.scheduler.constant import constant
from soundbench_plugins.scheduler.torch_scheduler import torch_scheduler
from soundbench_plugins.scheduler.warmup_cosine import warmup_cosine
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

MAKERS: dict[str, Callable[..., LRScheduler]] = {
    "constant": constant,
    "warmup-cosine": warmup_cosine,
    "torch": lambda *given: torch_scheduler(*given, name="StepLR", args={"step_size": 3}, every="step"),
}


def _optimizer() -> torch.optim.Optimizer:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    return torch.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.1}], lr=1.0)


def _rates(optimizer: torch.optim.Optimizer, scheduler: LRScheduler, steps: int) -> list[list[float]]:
    """The rates that each step runs at."""
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_each_group_keeps_its_own_rate(make: Callable[..., LRScheduler]) -> None:
    optimizer = _optimizer()
    for first, second in _rates(optimizer, make(optimizer, 20, 5), 20):
        assert second == pytest.approx(0.1 * first)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_it_goes_on_from_its_state(make: Callable[..., LRScheduler]) -> None:
    optimizer = _optimizer()
    scheduler = make(optimizer, 20, 5)
    _rates(optimizer, scheduler, 7)
    resumed_optimizer = _optimizer()
    resumed = make(resumed_optimizer, 20, 5)
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    assert _rates(resumed_optimizer, resumed, 13) == _rates(optimizer, scheduler, 13)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_its_state_can_be_read_with_weights_only(make: Callable[..., LRScheduler], tmp_path: Any) -> None:
    torch.save(make(_optimizer(), 20, 5).state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["last_epoch"] == 0


def test_the_constant_stays() -> None:
    optimizer = _optimizer()
    assert _rates(optimizer, constant(optimizer, 5, 5), 5) == [[1.0, 0.1]] * 5


def test_the_warm_up_rises_from_its_first_step_and_the_cosine_falls_to_the_floor() -> None:
    optimizer = _optimizer()
    scheduler = warmup_cosine(optimizer, 20, 4, warmup=1.0, floor=0.1)
    rates = [first for first, _ in _rates(optimizer, scheduler, 20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    expected = [0.1 + 0.45 * (1 + math.cos(math.pi * step / 16)) for step in range(16)]
    assert rates[4:] == pytest.approx(expected)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_without_a_warm_up_the_first_step_is_the_peak() -> None:
    optimizer = _optimizer()
    assert _rates(optimizer, warmup_cosine(optimizer, 4, 2, warmup=0.0), 1)[0][0] == 1.0


@pytest.mark.parametrize(("steps", "each"), [(1, 1), (3, 10), (10, 10)])
def test_a_warm_up_as_long_as_the_run_or_longer_rises_to_its_end(steps: int, each: int) -> None:
    optimizer = _optimizer()
    rates = [first for first, _ in _rates(optimizer, warmup_cosine(optimizer, steps, each, warmup=1.0), steps)]
    assert rates == pytest.approx([(step + 1) / each for step in range(steps)])


def test_past_the_end_the_floor_stays() -> None:
    optimizer = _optimizer()
    rates = _rates(optimizer, warmup_cosine(optimizer, 4, 2, warmup=0.0, floor=0.2), 10)
    assert [first for first, _ in rates[4:]] == pytest.approx([0.2] * 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": -1.0}, "warmup must be at least 0 epochs, and finite, is -1.0"),
        ({"warmup": math.inf}, "warmup must be at least 0 epochs, and finite, is inf"),
        ({"floor": 2.0}, "floor must be from 0 to 1, is 2.0"),
    ],
)
def test_a_warm_up_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        warmup_cosine(_optimizer(), 10, 5, **options)
    assert str(caught.value) == message


def test_one_of_torchs_says_when_it_is_stepped() -> None:
    assert torch_scheduler(_optimizer(), 20, 5, name="ExponentialLR", args={"gamma": 0.9}).every == "epoch"
    scheduler = torch_scheduler(_optimizer(), 20, 5, name="ExponentialLR", args={"gamma": 0.9}, every="step")
    assert scheduler.every == "step"


def test_the_words_steps_and_epochs_stand_for_the_runs() -> None:
    scheduler = torch_scheduler(_optimizer(), 20, 5, name="CosineAnnealingLR", args={"T_max": "epochs"})
    assert scheduler.T_max == 4
    args = {"max_lr": 0.5, "total_steps": "steps"}
    assert torch_scheduler(_optimizer(), 20, 5, name="OneCycleLR", args=args, every="step").total_steps == 20


def test_an_unknown_schedule_gets_the_nearest_and_all() -> None:
    with pytest.raises(
        ValueError, match=r"no 'CosineAnealingLR' .*; did you mean 'CosineAnnealingLR'\? There are .*St"
    ):
        torch_scheduler(_optimizer(), 20, 5, name="CosineAnealingLR")


@pytest.mark.parametrize("name", ["ReduceLROnPlateau", "LambdaLR", "SequentialLR"])
def test_one_that_a_recipe_cannot_describe_is_not_offered(name: str) -> None:
    with pytest.raises(ValueError, match=f"has no usable scheduler {name!r}"):
        torch_scheduler(_optimizer(), 20, 5, name=name)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"step": 3}, "StepLR has no option step; it has step_size, gamma"),
        ({"last_epoch": 3}, "StepLR has no option last_epoch; it has step_size, gamma"),
        ({}, "StepLR refuses its options: "),
    ],
)
def test_wrong_options_of_a_schedule_are_told(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        torch_scheduler(_optimizer(), 20, 5, name="StepLR", args=args)
    assert str(caught.value).startswith(message)


def test_another_interval_is_refused() -> None:
    with pytest.raises(ValueError, match='every must be "step" or "epoch", is \'clip\''):
        torch_scheduler(_optimizer(), 20, 5, name="StepLR", args={"step_size": 1}, every="clip")
