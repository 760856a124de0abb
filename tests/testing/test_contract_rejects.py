"""The contract suite on components that reject sound and break a promise each: it says which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from helpers.contract_suite import says
from helpers.toys import ToyReject
from torch import Tensor

from soundbench.testing import check_component

pytestmark = pytest.mark.usefixtures("only_toys")


def test_a_component_that_keeps_its_promises_raises_nothing() -> None:
    assert len(check_component("reject", ToyReject).results) > 5


class Undeclared(ToyReject):
    """Does not say what it needs."""

    embeddings: ClassVar[bool] = "some"  # type: ignore[assignment]


class Summed(ToyReject):
    """One number for all windows."""

    def forward(self, logits: Tensor, embeddings: Tensor | None) -> Tensor:
        return super().forward(logits, embeddings).sum()


class Ranked(ToyReject):
    """Depends on the batch."""

    def forward(self, logits: Tensor, embeddings: Tensor | None) -> Tensor:
        return super().forward(logits, embeddings) - logits.mean()


class Upside(ToyReject):
    """Higher for noise."""

    def forward(self, logits: Tensor, embeddings: Tensor | None) -> Tensor:
        return -super().forward(logits, embeddings)


class Exponential(ToyReject):
    """Overflows."""

    def forward(self, logits: Tensor, embeddings: Tensor | None) -> Tensor:
        return logits.exp().sum(1)


class Forgetful(ToyReject):
    """Keeps what it was fitted to where no file has it."""

    def fit(self, logits: Tensor, embeddings: Tensor | None, targets: Tensor) -> None:
        self.own = logits.amax(1).mean()

    def forward(self, logits: Tensor, embeddings: Tensor | None) -> Tensor:
        return logits.amax(1) - getattr(self, "own", torch.zeros(()))


@pytest.mark.parametrize(
    ("component", "promise", "message"),
    [
        (Undeclared, "embeddings", "embeddings must be True or False, is 'some'"),
        (Summed, "shapes", r"2 classes: returns \(\), not \(36,\)"),
        (Ranked, "rows", "window 0 alone differs from the same window in a batch by .*"),
        (Exponential, "large", r"for logits and embeddings times 10000, the score has \d+ of \d+ values .*"),
        (Upside, "order", "2 classes: windows of them score .*, noise .*: must not be higher"),
        (Forgetful, "state", "a new one with its state differs by .*"),
    ],
)
def test_a_broken_promise_is_named(component: Callable[..., Any], promise: str, message: str) -> None:
    says("reject", component, promise, message)
