"""What a calibration promises."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from soundbench.contracts import HeldOut
from soundbench.testing.cases import Case
from soundbench.testing.modules import NEAR, compare, finite
from soundbench.testing.results import Broken, Checks, NotApplicable

__all__ = ["CHECKS"]

CLASSES = (2, 10)
ROWS = 6
CLIPS, WINDOWS = 60, 3
# How much of a log loss rounding may cost.
ROUNDING = 1e-6


def fittings(case: Case) -> Iterator[tuple[str, nn.Module, HeldOut]]:
    """A calibration that is not fitted, with clips of several windows, of one label and of several."""
    for classes in CLASSES:
        generator = torch.Generator().manual_seed(classes)
        truth = torch.randint(classes, (CLIPS,), generator=generator)
        clip = torch.arange(CLIPS).repeat_interleave(WINDOWS)
        noise = torch.randn(len(clip), classes, generator=generator, dtype=torch.float64)
        one = nn.functional.one_hot(truth, classes).double()
        for name, target in (("one label", one), ("several labels", (one + one.roll(1, 1)).clamp(max=1))):
            several = name != "one label"
            scores = torch.sigmoid if several else _softmax
            held_out = HeldOut(4 * (noise + target[clip] - 0.5), clip, target, scores, several)
            yield f"{classes} classes, {name}", case.make(classes).eval(), held_out


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(1)


def unfitted(case: Case) -> str:
    """Before anything is fitted, logits are returned as they are."""
    if case.given is not None:
        raise NotApplicable("options are given")
    for name, module, held_out in fittings(case):
        compare(f"{name}: logits that nothing was fitted on are changed", module(held_out.logits), held_out.logits)
    return "unchanged"


def fits(case: Case) -> str:
    """What `fit` returns are options, and they do not raise the log loss of the clips that they were fitted on."""
    if not case.fields:
        raise NotApplicable("it has no options, and is never fitted")
    worst = 0.0
    for name, module, held_out in fittings(case):
        options = dict(module.fit(held_out))  # type: ignore[operator]
        made = case.make(held_out.logits.shape[1], **options).eval()
        before, after = (float(held_out.log_loss(how(held_out.logits))) for how in (module, made))
        worst = max(worst, after / before)
        if not after <= before + ROUNDING:
            raise Broken(f"{name}: fitted with {options}, the log loss rises from {before:.4f} to {after:.4f}")
        if again := dict(made.fit(held_out)):
            raise Broken(f"{name}: options that are given are fitted again: {again}")
    return f"at most {worst:.2f} of the log loss before"


def small(case: Case) -> str:
    """Clips without an error, and classes that no clip has, give finite logits."""
    if not case.fields:
        raise NotApplicable("it has no options, and is never fitted")
    for name, _, held_out in fittings(case):
        classes = held_out.logits.shape[1]
        target = nn.functional.one_hot(torch.arange(4) % (classes - 1), classes).double()
        logits = 20 * (target - 0.5)
        easy = HeldOut(logits, torch.arange(4), target, held_out.scores, held_out.multilabel)
        made = case.make(classes, **dict(case.make(classes).fit(easy))).eval()
        finite(f"{name}, all scored without an error: the array of logits", made(logits))
    return "finite"


def rows(case: Case) -> str:
    """The logits of a row do not depend on the other rows, and keep their type and shape."""
    worst = 0.0
    for name, module, held_out in fittings(case):
        options = dict(module.fit(held_out)) if case.fields else {}  # type: ignore[operator]
        made = case.make(held_out.logits.shape[1], **options).eval()
        logits = held_out.logits[:ROWS].float()
        together = made(logits)
        if together.shape != logits.shape or together.dtype != logits.dtype:
            raise Broken(f"{name}: returns {tuple(together.shape)} {together.dtype}, not {tuple(logits.shape)} float32")
        finite(f"{name}: the array of logits", made(1e4 * logits))
        for row in range(ROWS):
            what = f"{name}: row {row} alone differs from the same row in a batch"
            worst = max(worst, compare(what, made(logits[row : row + 1]), together[row : row + 1]))
    return f"differs by at most {worst:.0e} (allowed {NEAR:.0e})"


def no_parameters(case: Case) -> str:
    """It has no parameters: the optimizer would not train them."""
    names = [name for name, _ in case.memory["made"].named_parameters()]
    if names:
        raise Broken(f"a calibration must have no parameters, since none is trained; has {', '.join(names[:4])}")
    return "none"


CHECKS: Checks = {"not fitted": unfitted, "fit": fits, "few clips": small, "rows": rows, "parameters": no_parameters}
