"""What a component that rejects sound promises."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import torch
from torch import Tensor, nn

from soundbench.model.rejecting.rejector import fill, state_of
from soundbench.testing.cases import Case
from soundbench.testing.modules import NEAR, compare, finite
from soundbench.testing.results import Broken, Checks, NotApplicable

__all__ = ["CHECKS"]

CLASSES = (2, 10)
EACH = 12  # windows of each class, and of noise
SIZE = 24  # of an embedding


@attrs.frozen(eq=False)
class Windows:
    """Windows of classes, each around a point of its own, and of noise around another."""

    logits: Tensor
    embeddings: Tensor
    targets: Tensor


def windows(classes: int, seed: int = 1) -> Windows:
    """`EACH` windows of each class, then of noise, whose logits are near zero."""
    drawn = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.eye(classes), torch.zeros(1, classes)]).repeat_interleave(EACH, 0)
    places = torch.cat([labels, labels.sum(1, keepdim=True) == 0], 1)
    logits = 6 * labels + 0.3 * torch.randn(len(labels), classes, generator=drawn)
    embeddings = places @ (3 * torch.eye(classes + 1, SIZE)) + 0.3 * torch.randn(len(labels), SIZE, generator=drawn)
    return Windows(logits, embeddings, labels)


def needs(case: Case) -> bool:
    """Whether it needs embeddings."""
    return bool(case.component.obj.embeddings)  # type: ignore[attr-defined]


def scored(case: Case, module: nn.Module, given: Windows) -> Tensor:
    """The reject scores of windows."""
    with torch.no_grad():
        found: Tensor = module(given.logits, given.embeddings if needs(case) else None)
    return found


def fitted(case: Case) -> Iterator[tuple[int, nn.Module, Windows]]:
    """For several numbers of classes: the component, fitted if it can be, and ordinary windows."""
    for classes in CLASSES:
        module, given = case.make(classes).eval(), windows(classes)
        if hasattr(module, "fit"):
            module.fit(given.logits, given.embeddings if needs(case) else None, given.targets)
        yield classes, module, given


def declared(case: Case) -> str:
    """`embeddings` is True or False."""
    found = getattr(case.component.obj, "embeddings", None)
    if not isinstance(found, bool):
        raise Broken(f"embeddings must be True or False, is {found!r}")
    return f"embeddings = {found}"


def shapes(case: Case) -> str:
    """One finite score per window."""
    for classes, module, given in fitted(case):
        out = scored(case, module, given)
        if not isinstance(out, Tensor) or out.shape != given.logits.shape[:1]:
            what = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise Broken(f"{classes} classes: returns {what}, not ({len(given.logits)},)")
        finite(f"{classes} classes: the score", out)
    return "one per window"


def alone(case: Case) -> str:
    """The score of a window does not depend on the other windows."""
    worst = 0.0
    for _, module, given in fitted(case):
        together = scored(case, module, given)
        for row in range(0, len(together), 5):
            one = Windows(*(part[row : row + 1] for part in (given.logits, given.embeddings, given.targets)))
            what = f"window {row} alone differs from the same window in a batch"
            worst = max(worst, compare(what, scored(case, module, one), together[row : row + 1]))
    return f"differs by at most {worst:.0e} (allowed {NEAR:.0e})"


def large(case: Case) -> str:
    """Finite for very large logits and embeddings."""
    for _, module, given in fitted(case):
        for size in (0.0, 1e4):
            extreme = Windows(size * given.logits, size * given.embeddings, given.targets)
            finite(f"for logits and embeddings times {size:g}, the score", scored(case, module, extreme))
    return "times 0 to 1e4"


def order(case: Case) -> str:
    """Windows of a class do not score lower than windows of noise, on average."""
    for classes, module, _ in fitted(case):
        given = windows(classes, seed=2)
        scores, of_class = scored(case, module, given), given.targets.sum(1) > 0
        known, other = float(scores[of_class].mean()), float(scores[~of_class].mean())
        if known < other:
            raise Broken(f"{classes} classes: windows of them score {known:.3g}, noise {other:.3g}: must not be higher")
    return "classes before noise"


def states(case: Case) -> str:
    """What it was fitted to, loaded into one that was not, gives the same scores."""
    count = 0
    for classes, module, given in fitted(case):
        other, state = case.make(classes, seed=1).eval(), state_of(module)
        fill(other, state, "its state")
        compare("a new one with its state differs", scored(case, module, given), scored(case, other, given), 1e-6)
        count = len(state)
    if not count:
        raise NotApplicable("it is not fitted")
    return f"{count} tensors"


CHECKS: Checks = {
    "embeddings": declared,
    "shapes": shapes,
    "rows": alone,
    "large": large,
    "order": order,
    "state": states,
}
