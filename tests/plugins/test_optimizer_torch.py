"""Any optimizer of torch.optim, by its name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from soundbench_plugins.optimizer.torch_optim import torch_optim
from torch import nn


def _make(**options: Any) -> torch.optim.Optimizer:
    return torch_optim([{"params": [nn.Parameter(torch.zeros(2, 2))]}], **options)


@pytest.mark.parametrize(
    ("name", "args"),
    [("RMSprop", {"alpha": 0.95}), ("NAdam", {"betas": [0.8, 0.9]}), ("Adagrad", {}), ("RAdam", {})],
)
def test_it_is_made_with_its_options(name: str, args: dict[str, Any]) -> None:
    optimizer = _make(name=name, lr=0.02, args=args)
    assert type(optimizer) is getattr(torch.optim, name)
    assert optimizer.param_groups[0]["lr"] == 0.02
    for key, value in args.items():
        assert optimizer.param_groups[0][key] == (tuple(value) if isinstance(value, list) else value)


def test_an_unknown_name_gets_the_nearest_and_all() -> None:
    with pytest.raises(ValueError, match=r"no 'RMSProp' .*; did you mean 'RMSprop'\? There are .*Adam.*SGD"):
        _make(name="RMSProp")


def test_one_that_calls_back_is_not_offered() -> None:
    with pytest.raises(ValueError, match=r"^torch.optim has no usable optimizer 'LBFGS'"):
        _make(name="LBFGS")


def test_an_unknown_option_gets_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^torch.optim.RMSprop has no option beta, gamma; it has alpha, eps,"):
        _make(name="RMSprop", args={"gamma": 1, "beta": 2})


@pytest.mark.parametrize("args", [{"lr": 0.1}, {"params": []}])
def test_what_has_its_own_place_is_no_option(args: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has no option"):
        _make(name="SGD", args=args)


@pytest.mark.parametrize("args", [{"alpha": -1.0}, {"alpha": "much"}])
def test_a_value_that_torch_refuses_is_told(args: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^torch.optim.RMSprop refuses its options: "):
        _make(name="RMSprop", args=args)
