"""The size of a network while it is made."""

from __future__ import annotations

import pytest
import torch
from helpers.clock import within
from torch import nn

from soundbench import limits
from soundbench.model.bounds import made_within_bounds


class Deep(nn.Module):
    """So many layers."""

    def __init__(self, *, layers: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4)) for _ in range(layers)))


class Wide(nn.Module):
    """Layers of this width, or a constant."""

    def __init__(self, *, width: int, constant: bool = False) -> None:
        super().__init__()
        if constant:
            self.register_buffer("table", torch.empty(width, width))
        else:
            self.layers = nn.Sequential(nn.Linear(width, 4), nn.Linear(width, width))


@pytest.mark.parametrize(
    ("make", "options", "what"),
    [
        (Deep, {"layers": 60_000}, "5,000 layers"),
        (Deep, {"layers": 1500}, ""),
        (Wide, {"width": 60_000}, "300,000,000 numbers"),
        (Wide, {"width": 60_000, "constant": True}, "300,000,000 numbers"),
        (Wide, {"width": 1000}, ""),
    ],
)
def test_a_module_is_made_or_refused_at_once(make: type[nn.Module], options: dict[str, int], what: str) -> None:
    if what:
        with within(), pytest.raises(ValueError, match=f"would have more than {what}; lower its options"):
            made_within_bounds(make, (), options)
    else:
        assert isinstance(made_within_bounds(make, (), options), make)
    nn.Linear(2, 2)  # nothing is counted any more
    assert not torch.nn.modules.module._global_module_registration_hooks


def test_without_an_unusual_option_a_network_may_be_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIZED", 100)
    assert made_within_bounds(Wide, (), {"width": 20})
    with pytest.raises(ValueError, match="100 numbers"):
        made_within_bounds(Wide, (), {"width": 2000})
