"""The optimizers are torch's, over the groups they are given."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from soundbench_plugins.optimizer.adam import adam
from soundbench_plugins.optimizer.adamw import adamw
from soundbench_plugins.optimizer.sgd import sgd
from soundbench_plugins.optimizer.torch_optim import torch_optim
from torch import nn

MAKERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": adam,
    "adamw": adamw,
    "sgd": sgd,
    "torch": lambda groups, **options: torch_optim(groups, name="RMSprop", **options),
}


def _step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.manual_seed(5)
    network(torch.randn(8, 4)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_group_keeps_what_it_brings(make: Callable[..., torch.optim.Optimizer]) -> None:
    network = nn.Linear(4, 3)
    groups = [{"params": [network.weight], "lr": 0.5}, {"params": [network.bias], "weight_decay": 0.0}]
    given = copy.copy(groups[0])
    optimizer = make(groups, lr=0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]
    assert optimizer.param_groups[1]["weight_decay"] == 0.0
    assert groups[0].keys() == given.keys()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_it_goes_on_from_its_state(make: Callable[..., torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    network = nn.Linear(4, 3)
    optimizer = make([{"params": list(network.parameters())}])
    _step(network, optimizer)
    other = copy.deepcopy(network)
    resumed = make([{"params": list(other.parameters())}])
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _step(network, optimizer)
    _step(other, resumed)
    assert torch.equal(network.weight, other.weight)


@pytest.mark.parametrize(
    ("make", "expected", "options"),
    [
        (adam, torch.optim.Adam, {"weight_decay": 1e-5}),
        (adamw, torch.optim.AdamW, {"weight_decay": 1e-2}),
        (sgd, torch.optim.SGD, {"weight_decay": 1e-4, "momentum": 0.9}),
    ],
)
def test_its_steps_are_torchs(
    make: Callable[..., torch.optim.Optimizer],
    expected: Callable[..., torch.optim.Optimizer],
    options: dict[str, Any],
) -> None:
    network = nn.Linear(4, 3)
    other = copy.deepcopy(network)
    ours = make([{"params": list(network.parameters())}], lr=0.01)
    theirs = expected(other.parameters(), lr=0.01, **options)
    for _ in range(3):
        _step(network, ours)
        _step(other, theirs)
    torch.testing.assert_close(network.weight, other.weight)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (adam, {"betas": [0.9]}, "betas must be two numbers from 0 to below 1, is [0.9]"),
        (adamw, {"betas": [0.9, 1.0]}, "betas must be two numbers from 0 to below 1, is [0.9, 1.0]"),
        (adam, {"lr": -1.0}, "lr must be at least 0 and finite, is -1"),
        (adamw, {"decay": -0.5}, "decay must be at least 0 and finite, is -0.5"),
        (adamw, {"eps": float("inf")}, "eps must be at least 0 and finite, is inf"),
        (sgd, {"lr": float("nan")}, "lr must be at least 0 and finite, is nan"),
        (sgd, {"decay": -1.0}, "decay must be at least 0 and finite, is -1"),
        (sgd, {"momentum": 0.0, "nesterov": True}, "nesterov must be false if momentum is 0, is true"),
        (sgd, {"momentum": 1.0}, "momentum must be from 0 to below 1, is 1.0"),
    ],
)
def test_an_option_out_of_range_is_refused(
    make: Callable[..., torch.optim.Optimizer], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make([{"params": [nn.Parameter(torch.zeros(1))]}], **options)
    assert str(caught.value) == message
