"""What a featurizer promises."""

from __future__ import annotations

import torch

from soundbench import masks
from soundbench.testing import modules
from soundbench.testing.cases import RATE, Case
from soundbench.testing.modules import Probe, call, counts, finite
from soundbench.testing.results import Broken, Checks

__all__ = ["CHECKS"]

SAMPLES = (1, 2, 3, 10, 79, 80, 159, 160, 161, 399, 400, 401, 512, 800, 1023, 1024, 1025, 2400)
SIZE = 4000


def probe(case: Case) -> Probe:
    """Its input is a quarter of a second of noise; rows of equal length if it sets `ragged = False`."""
    if "probe" not in case.memory:
        lengths = (SIZE, 2501, 400, 1) if getattr(case.memory["made"], "ragged", True) else (SIZE,) * 4
        case.memory["probe"] = Probe(case, RATE, lambda rows, size: 0.1 * torch.randn(rows, size), SIZE, lengths)
    made: Probe = case.memory["probe"]
    return made


def shapes(case: Case) -> str:
    """`(B, S)` to `(B, F, T)` and lengths, where F is `bands`; zero beyond the lengths."""
    module = probe(case).module
    data, lengths = probe(case).batch()
    with torch.no_grad():
        out, ends = call(module, data, lengths)
    bands = getattr(module, "bands", None)
    if out.dim() != 3 or out.shape[:2] != (len(data), bands):
        raise Broken(f"returns {tuple(out.shape)}, but bands says ({len(data)}, {bands}, T)")
    finite("the output", out)
    ends = counts("the output", ends, out)
    beyond = (out - masks.apply(out, ends)).abs().amax(dim=(1, 2))
    if beyond.any():
        row = int(beyond.argmax())
        raise Broken(f"row {row} with {int(ends[row])} frames is not zero beyond its length: up to {beyond[row]:.1e}")
    return f"{tuple(data.shape)} to {tuple(out.shape)}"


def any_length(case: Case) -> str:
    """Any number of samples from 1, of noise or of digital silence, gives at least one frame of finite values."""
    module = probe(case).module
    for samples in SAMPLES:
        for name, data in (("noise", 0.1 * torch.randn(1, samples)), ("silence", torch.zeros(1, samples))):
            what = f"{samples} samples of {name}"
            try:
                with torch.no_grad():
                    out, ends = call(module, data, torch.tensor([samples]))
            except Exception as error:
                text = " ".join(str(error).split())
                raise Broken(f"{what}: raised {type(error).__name__}: {text}") from error
            finite(f"{what}: the output", out)
            counts(what, ends, out)
    return f"1 to {SAMPLES[-1]} samples"


CHECKS: Checks = {
    "shapes": shapes,
    "any length": any_length,
    **modules.checks_of(probe),
}
