"""The contract suite on losses, optimizers, schedulers and observers that each break a promise: it says which."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import pytest
import torch
from helpers.contract_suite import says
from helpers.toys import ToyLoss
from torch import Tensor, nn

from soundbench.contracts import hookimpl
from soundbench.testing import check_component

pytestmark = pytest.mark.usefixtures("only_toys")


# Losses


class Summed(ToyLoss):
    """One number for all rows."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().forward(logits, target).sum()


class Naive(ToyLoss):
    """Takes the logarithm of a softmax that has come to zero."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return -(logits.softmax(1).log() * target).sum(1)


class Hard(ToyLoss):
    """Takes whole classes alone."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if not bool(((target == 0) | (target == 1)).all()):
            raise ValueError("targets must be one-hot")
        return super().forward(logits, target)


class Unbounded(ToyLoss):
    """Its scores are logits."""

    def scores(self, logits: Tensor) -> Tensor:
        return logits


class Learning(ToyLoss):
    """Learns."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.scale = nn.Parameter(torch.ones(()))


class Angular(ToyLoss):
    """Asks for a last layer that there is not."""

    classifier: ClassVar[Literal["linear"]] = "angular"  # type: ignore[assignment]


class BatchSize(ToyLoss):
    """Its loss for a row depends on the size of the batch."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().forward(logits, target) / len(logits)


@pytest.mark.parametrize(
    ("component", "promise", "message"),
    [
        (Summed, "shapes", r"hard targets of 2 classes: returns \(\), not \(6,\)"),
        (Naive, "large logits", r"for hard targets and logits of 100, the loss has \d of 6 values that are not finite"),
        (Hard, "shapes", r"raised ValueError: targets must be one-hot"),
        (Unbounded, "scores", r"scores are from -\d\.\d* to \d\.\d* \(allowed 0 to 1\)"),
        (Learning, "parameters", r"a loss must have no parameters, .*; has scale"),
        (Angular, "classifier", r"classifier must be \"linear\" or \"cosine\", is 'angular'"),
        (BatchSize, "rows", r"row 0 alone differs from the same row in a batch by 8\.3e-01 \(allowed 1e-04\)"),
    ],
)
def test_a_loss_that_breaks_a_promise(component: type[nn.Module], promise: str, message: str) -> None:
    says("loss", component, promise, message)


# Optimizers


def merging(groups: Any) -> torch.optim.Optimizer:
    """Puts all groups into one."""
    return torch.optim.SGD([p for group in groups for p in group["params"]], lr=0.1)


def even(groups: Any) -> torch.optim.Optimizer:
    """Gives all groups its own rate."""
    return torch.optim.SGD([{**group, "lr": 0.1} for group in groups], lr=0.1)


def rotting(groups: Any) -> torch.optim.Optimizer:
    """Lets all groups decay."""
    return torch.optim.SGD([{**group, "weight_decay": 0.1} for group in groups], lr=0.1)


def still(groups: Any) -> torch.optim.Optimizer:
    """Does not move."""
    return torch.optim.SGD(groups, lr=0.0)


class _Hidden(torch.optim.SGD):
    """Counts its steps where no state keeps them."""

    def step(self, closure: Any = None) -> Any:
        self.count = getattr(self, "count", 0) + 1
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(self.count)
        return super().step(closure)


def hidden(groups: Any) -> torch.optim.Optimizer:
    """Loses its state."""
    return _Hidden(groups, lr=0.1)


def nothing(groups: Any) -> Any:
    """Is no optimizer."""
    return groups


@pytest.mark.parametrize(
    ("component", "promise", "message"),
    [
        (merging, "groups", r"given 3 groups of 1 parameter, it has groups of \[3\]"),
        (even, "groups", r"a group's own lr of 1e-05 becomes 0\.1"),
        (even, "learning rates", r"a group with 0\.001 of the learning rate takes steps of 1 of the size .*"),
        (rotting, "decay", r"with weight_decay = 0 and gradients of zero, parameters change by \d\.\de-0\d"),
        (still, "step", r"a step must change parameters with a gradient; it changes them by 0\.0e\+00 and 0\.0e\+00"),
        (hidden, "state", r"three steps after loading its state, parameters differ by \d\.\de[-+]\d\d \(allowed 0\)"),
        (nothing, "step", r"returns a list, not a torch\.optim\.Optimizer"),
    ],
)
def test_an_optimizer_that_breaks_a_promise(component: Callable[..., Any], promise: str, message: str) -> None:
    says("optimizer", component, promise, message)


# Schedulers

Lambda = torch.optim.lr_scheduler.LambdaLR


def absolute(optimizer: Any, steps: int, steps_per_epoch: int) -> Any:
    """Goes down to one rate for all."""
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-3)


def brief(optimizer: Any, steps: int, steps_per_epoch: int) -> Any:
    """Ends before the run does."""
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=max(steps // 2, 1))


def negative(optimizer: Any, steps: int, steps_per_epoch: int) -> Any:
    """Goes below zero."""
    return Lambda(optimizer, lambda step: 1.0 - 2.0 * step / steps)


def forgetful(optimizer: Any, steps: int, steps_per_epoch: int) -> Any:
    """Counts where no state keeps it."""
    seen = [0]

    def factor(step: int) -> float:
        seen[0] += 1
        return 1.0 / seen[0]

    return Lambda(optimizer, factor)


class _Unkept(Lambda):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "made by": object()}


def unkept(optimizer: Any, steps: int, steps_per_epoch: int) -> Any:
    """Its state holds what no checkpoint can."""
    return _Unkept(optimizer, lambda step: 1.0)


def hourly(optimizer: Any, steps: int, steps_per_epoch: int) -> Any:
    """Is stepped at another time."""
    return Lambda(optimizer, lambda step: 1.0)


hourly.every = "hour"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("component", "promise", "message"),
    [
        (
            absolute,
            "learning rates",
            r"at call \d+, groups with learning rates of 0\.1 and 0\.0001 get .* must be equal",
        ),
        (brief, "whole run", r"call \d+ of 40 raised ValueError: Tried to step .*"),
        (negative, "whole run", r"learning rates must be finite .*; in a run of 40 steps they are \(-.*\)"),
        (forgetful, "state", r"with the state of call 20 loaded, learning rates at call \d+ are .*, not .*"),
        (unkept, "state", r"its state must contain only tensors and plain values; .*"),
        (hourly, "whole run", r"every must be \"step\" or \"epoch\", is 'hour'"),
    ],
)
def test_a_scheduler_that_breaks_a_promise(component: Callable[..., Any], promise: str, message: str) -> None:
    says("scheduler", component, promise, message)


# Observers


class Observer:
    """Writes a line an epoch."""

    def __init__(self, run: Any) -> None:
        self.run = run

    @hookimpl
    def run_started(self) -> None:
        (self.run.directory / "notes").mkdir(exist_ok=True)

    @hookimpl
    def epoch_completed(self, epoch: int) -> None:
        with open(self.run.directory / "notes" / "epochs.txt", "a") as file:
            file.write(f"{epoch}\n")


class Hookless:
    """Implements no hook."""

    def __init__(self, run: Any) -> None:
        pass


class Misspelt(Observer):
    """Marks a method that is no hook."""

    @hookimpl
    def run_finnished(self) -> None:
        """Not a hook."""


class Asking(Observer):
    """Asks for an argument that its hook does not have."""

    @hookimpl
    def epoch_completed(self, rows: Any) -> None:
        """Not an argument."""


class Raising(Observer):
    """Raises when a run fails."""

    @hookimpl
    def run_failed(self, error: BaseException) -> None:
        raise KeyError("no such run")


class Straying(Observer):
    """Writes beside the run directory."""

    @hookimpl
    def run_finished(self) -> None:
        (self.run.directory.parent / "last.txt").write_text("done")


class Drawing(Observer):
    """Draws from what the run draws from."""

    @hookimpl
    def progressed(self, step: int) -> None:
        torch.rand(1)
        random.random()


@pytest.mark.parametrize(
    ("component", "promise", "message"),
    [
        (Hookless, "hooks", r"no method is marked with hookimpl"),
        (
            Misspelt,
            "hooks",
            r"observer 'it' .*: there is no hook \"run_finnished\"; did you mean \"run_finished\"\? known: .*",
        ),
        (
            Asking,
            "hooks",
            r".*: hook epoch_completed has no argument \"rows\"; did you mean \"row\"\? known: epoch, row",
        ),
        (
            Raising,
            "no errors",
            r"in a failing run, observer 'it' is dropped: run_failed raised KeyError: 'no such run'",
        ),
        (Straying, "files", r"it writes to .*/last\.txt, outside the run directory .*/run"),
        (Drawing, "global random state", r"it changes the global random state of torch and random"),
    ],
)
def test_an_observer_that_breaks_a_promise(component: type[Any], promise: str, message: str) -> None:
    says("observer", component, promise, message)


def test_an_observer_that_keeps_to_its_directory() -> None:
    report = check_component("observer", Observer)
    messages = {result.promise: result.message for result in report.results}
    assert messages["files"] == "wrote notes, notes/epochs.txt"
    assert messages["hooks"] == "run_started, epoch_completed"
