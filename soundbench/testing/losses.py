"""What a loss promises."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from soundbench.testing.cases import Case
from soundbench.testing.modules import NEAR, compare, finite
from soundbench.testing.results import Broken, Checks

__all__ = ["CHECKS"]

CLASSES = (2, 10)
ROWS = 6


def losses(case: Case) -> Iterator[tuple[int, nn.Module, Tensor, dict[str, Tensor]]]:
    """For several numbers of classes: the loss, ordinary logits, and hard and soft targets."""
    for classes in CLASSES:
        module = case.make(classes).eval()
        torch.manual_seed(1)
        logits = torch.randn(ROWS, classes)
        if classifier(case) == "cosine":
            logits = logits.clamp(-1, 1)
        hard = nn.functional.one_hot(torch.arange(ROWS) % classes, classes).float()
        soft = 0.7 * hard + 0.3 * hard.roll(1, 0)
        yield classes, module, logits, {"hard": hard, "soft": soft}


def classifier(case: Case) -> str:
    """The last layer that it asks for."""
    return str(getattr(case.component.obj, "classifier", None))


def last_layer(case: Case) -> str:
    """`classifier` is "linear" or "cosine"."""
    if classifier(case) not in ("linear", "cosine"):
        raise Broken(f'classifier must be "linear" or "cosine", is {getattr(case.component.obj, "classifier", None)!r}')
    return classifier(case)


def shapes(case: Case) -> str:
    """One finite loss per row, for hard and soft targets."""
    for classes, module, logits, targets in losses(case):
        for name, target in targets.items():
            out = module(logits, target)
            if out.shape != (ROWS,):
                raise Broken(f"{name} targets of {classes} classes: returns {tuple(out.shape)}, not ({ROWS},)")
            finite(f"{name} targets of {classes} classes: the loss", out)
    return "one per row, for hard and soft targets"


def alone(case: Case) -> str:
    """A row's loss does not depend on the other rows."""
    worst = 0.0
    for _, module, logits, targets in losses(case):
        for target in targets.values():
            together = module(logits, target)
            for row in range(ROWS):
                one = module(logits[row : row + 1], target[row : row + 1])
                what = f"row {row} alone differs from the same row in a batch"
                worst = max(worst, compare(what, one, together[row : row + 1]))
    return f"differs by at most {worst:.0e} (allowed {NEAR:.0e})"


def large(case: Case) -> str:
    """Loss and gradient are finite for very large logits."""
    sizes = (1.0,) if classifier(case) == "cosine" else (1e2, 1e4)
    for _, module, logits, targets in losses(case):
        for size in sizes:
            for name, target in targets.items():
                extreme = (size * logits.sign()).requires_grad_()
                out = module(extreme, target)
                finite(f"for {name} targets and logits of {size:g}, the loss", out)
                (gradient,) = torch.autograd.grad(out.sum(), extreme)
                finite(f"for {name} targets and logits of {size:g}, the gradient", gradient)
    return f"logits up to {sizes[-1]:g}"


def gradient(case: Case) -> str:
    """Logits get a finite gradient that is not zero everywhere."""
    for _, module, logits, targets in losses(case):
        for name, target in targets.items():
            data = logits.clone().requires_grad_()
            (found,) = torch.autograd.grad(module(data, target).sum(), data)
            finite(f"for {name} targets, the gradient", found)
            if not found.any():
                raise Broken(f"for {name} targets, the gradient is zero in all {ROWS} rows")
    return "finite"


def scores(case: Case) -> str:
    """Scores in [0, 1], `(B, K)`, for any logits."""
    sizes = (1.0,) if classifier(case) == "cosine" else (1.0, 1e4)
    for classes, module, logits, _ in losses(case):
        for size in sizes:
            out = module.scores(size * logits)  # type: ignore[operator]
            if out.shape != (ROWS, classes):
                raise Broken(f"scores returns {tuple(out.shape)}, not ({ROWS}, {classes})")
            finite(f"for logits of {size:g}, the scores array", out)
            if out.min() < 0 or out.max() > 1:
                raise Broken(f"scores are from {out.min():.3g} to {out.max():.3g} (allowed 0 to 1)")
    return "in [0, 1]"


def no_parameters(case: Case) -> str:
    """It has no parameters: the optimizer would not train them."""
    names = [name for name, _ in case.memory["made"].named_parameters()]
    if names:
        raise Broken(f"a loss must have no parameters, since none of them would be trained; has {', '.join(names[:4])}")
    return "none"


CHECKS: Checks = {
    "classifier": last_layer,
    "shapes": shapes,
    "rows": alone,
    "large logits": large,
    "gradients": gradient,
    "scores": scores,
    "parameters": no_parameters,
}
