"""What a pooling promises."""

from __future__ import annotations

import torch

from soundbench.testing import modules
from soundbench.testing.cases import Case
from soundbench.testing.modules import Probe, call, finite
from soundbench.testing.results import Broken, Checks

__all__ = ["CHECKS"]

CHANNELS = (1, 7, 24)
FRAMES = (1, 2, 3, 50)


def probe(case: Case) -> Probe:
    """Its input is noise of 24 channels."""
    if "probe" not in case.memory:
        case.memory["probe"] = Probe(case, 24, lambda rows, size: torch.randn(rows, 24, size), 30, (30, 17, 2, 1))
    made: Probe = case.memory["probe"]
    return made


def shapes(case: Case) -> str:
    """`(B, C, T)` and lengths to one vector per row `(B, D)`, where D is `features`."""
    for channels in CHANNELS:
        module = case.make(channels).eval()
        with torch.no_grad():
            out = module(torch.randn(3, channels, 20), torch.tensor([20, 7, 1]))
        features = getattr(module, "features", None)
        if not isinstance(out, torch.Tensor) or out.shape != (3, features):
            found = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
            raise Broken(f"{channels} channels: returns {found}, but features says (3, {features})")
    return f"(3, 24, 20) to (3, {features})"


def any_length(case: Case) -> str:
    """Finite for any number of frames from 1, of noise or of a constant."""
    module = probe(case).module
    for frames in FRAMES:
        for name, data in (("noise", torch.randn(2, 24, frames)), ("zeros", torch.zeros(2, 24, frames))):
            with torch.no_grad():
                out, _ = call(module, data, torch.tensor([frames, 1]))
            finite(f"{frames} frames of {name}: the output", out)
    return f"1 to {FRAMES[-1]} frames"


CHECKS: Checks = {
    "shapes": shapes,
    "any length": any_length,
    **modules.checks_of(probe, files=False),
}
