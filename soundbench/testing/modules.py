"""What featurizers, backbones and poolings promise alike: lengths, padding, gradients, seeds, bf16, states, export.

A row of `size` samples or frames that is judged "alone" is compared with itself padded by garbage, and within a batch.
Weights are moved off their first values before, since a bias of zero hides padding that was not masked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks
from soundbench.testing.cases import Case
from soundbench.testing.findings import Broken, Moot

__all__ = [
    "Outcome",
    "Probe",
    "bf16",
    "compare",
    "counts",
    "export",
    "finite",
    "gradients",
    "padding",
    "seeds",
    "states",
]

Outcome = tuple[Tensor, Tensor | None]

NEAR = 1e-4  # of the largest value
COSINE = 0.95  # of bf16 with float32
BEYOND = 9  # positions of garbage after the longest row


@attrs.define(slots=False)
class Probe:
    """How a module of a kind is made and fed.

    Attributes:
        case: the component.
        supplied: what the framework gives its constructor.
        noise: `(rows, size)` to data `(rows, ..., size)`, from torch's global state.
        size: an ordinary length.
        lengths: of an ordinary batch, the longest first.
        differing: the tensors that were not the same when it was made again from the same seed.
    """

    case: Case
    supplied: int
    noise: Callable[[int, int], Tensor]
    size: int
    lengths: tuple[int, ...]
    differing: list[str] = attrs.field(factory=list, init=False)

    def make(self, seed: int = 0) -> nn.Module:
        """A new one, in evaluation."""
        module: nn.Module = self.case.make(self.supplied, seed=seed)
        return module.eval()

    @cached_property
    def module(self) -> nn.Module:
        """One that has lived: statistics moved by two batches, and no vector of weights as it began."""
        module = self.make()
        first, second = self.case.memory["made"].state_dict(), module.state_dict()
        self.differing = [name for name in first if not torch.equal(first[name], second[name])]
        module.train()
        with torch.no_grad():
            for _ in range(2):
                call(module, self.noise(4, self.size), torch.full((4,), self.size))
            for weight in (parameter for parameter in module.parameters() if parameter.requires_grad):
                if weight.ndim < 2 or not weight.any():
                    scale = torch.where(weight == 0, 1.0, weight.abs())
                    weight.add_(0.1 * scale * torch.randn_like(weight).clamp(-2, 2))
        return module.eval()

    def batch(self) -> tuple[Tensor, Tensor]:
        """An ordinary batch, zero beyond each length."""
        torch.manual_seed(1)
        lengths = torch.tensor(self.lengths)
        return masks.apply(self.noise(len(lengths), self.lengths[0]), lengths), lengths

    def judge(self, module: nn.Module | None = None) -> Outcome:
        """What comes of the ordinary batch, without gradients."""
        with torch.no_grad():
            return call(self.module if module is None else module, *self.batch())


def call(module: nn.Module, data: Tensor, lengths: Tensor) -> Outcome:
    """What a module gives, and the lengths of it where it gives any."""
    out = module(data, lengths)
    return out if isinstance(out, tuple) else (out, None)


def finite(what: str, out: Tensor) -> None:
    """Refuse NaN and infinity."""
    if not out.isfinite().all():
        raise Broken(f"{what} has {int((~out.isfinite()).sum())} values of {out.numel()} that are not finite")


def counts(what: str, lengths: Tensor | None, out: Tensor) -> Tensor:
    """Refuse lengths that cannot be: one whole number a row, from 1 to the size of what they are of."""
    if not isinstance(lengths, Tensor) or lengths.shape != out.shape[:1] or lengths.dtype != torch.int64:
        told = f"{tuple(lengths.shape)} {lengths.dtype}" if isinstance(lengths, Tensor) else repr(lengths)
        raise Broken(f"{what}: lengths must be ({out.shape[0]},) int64, are {told}")
    if lengths.min() < 1 or lengths.max() > out.shape[-1]:
        raise Broken(f"{what}: lengths must be from 1 to {out.shape[-1]}, are {lengths.tolist()}")
    return lengths


def compare(what: str, one: Tensor, other: Tensor, near: float = NEAR) -> float:
    """How far two tensors are apart, as a share of the largest value; refused beyond `near`."""
    if one.shape != other.shape:
        raise Broken(f"{what}: {tuple(one.shape)} and {tuple(other.shape)}")
    finite(what, one)
    apart = float((one - other).abs().max() / one.abs().max().clamp(min=1e-12)) if one.numel() else 0.0
    if not apart <= near:
        raise Broken(f"{what} by {apart:.1e} (allowed {near:.0e})")
    return apart


def padding(probe: Probe) -> str:
    """A row is the same alone, padded by garbage, and in a batch of others."""
    data, lengths = probe.batch()
    ragged = len(set(probe.lengths)) > 1
    if ragged:
        data = F.pad(data, (0, BEYOND))
        data = torch.where(masks.mask(lengths, data.shape[-1]).view(_like(data)), data, 10 * torch.randn_like(data))
    with torch.no_grad():
        together, ends = call(probe.module, data, lengths)
        worst = 0.0
        for row, length in enumerate(probe.lengths):
            size = lengths[row : row + 1]
            alone, end = call(probe.module, data[row : row + 1, ..., :length], size)
            name = f"row {row} of length {length}, alone,"
            if ragged:
                padded = call(probe.module, data[row : row + 1], size)
                worst = max(worst, _same_row(f"{name} differs from itself padded", (alone, end), padded))
            inside = together[row : row + 1], None if ends is None else ends[row : row + 1]
            worst = max(worst, _same_row(f"{name} differs from itself in a batch", (alone, end), inside))
    return f"at most {worst:.0e} of {NEAR:.0e}" + ("" if ragged else ", rows of equal length (ragged = False)")


def _like(data: Tensor) -> tuple[int, ...]:
    return data.shape[0], *[1] * (data.dim() - 2), data.shape[-1]


def _same_row(what: str, alone: Outcome, other: Outcome) -> float:
    """Compare two outcomes of one row, within its length."""
    if alone[1] is None or other[1] is None:
        return compare(what, alone[0], other[0])
    if alone[1].tolist() != other[1].tolist():
        raise Broken(f"{what}: lengths {alone[1].tolist()} and {other[1].tolist()}")
    end = int(alone[1])
    return compare(what, alone[0][..., :end], other[0][..., :end])


def gradients(probe: Probe) -> str:
    """After an ordinary batch every trained parameter has a finite gradient that is not zero."""
    module = probe.module
    trained = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    if not trained:
        raise Moot("it trains nothing")
    module.train().zero_grad(set_to_none=True)
    out, ends = call(module, *probe.batch())
    weights = torch.randn_like(out)
    (out * (weights if ends is None else masks.apply(weights, ends))).sum().backward()  # type: ignore[no-untyped-call]
    module.eval()
    found = {name: weight.grad for name, weight in trained.items()}
    module.zero_grad(set_to_none=True)
    wrong = {
        "get none": [name for name, grad in found.items() if grad is None],
        "get one that is not finite": [
            name for name, grad in found.items() if grad is not None and not bool(grad.isfinite().all())
        ],
        "get zeros": [name for name, grad in found.items() if grad is not None and not bool(grad.any())],
    }
    told = [f"{len(names)} of {len(found)} {words}: {_some(names)}" for words, names in wrong.items() if names]
    if told:
        raise Broken("; ".join(told))
    return f"reach {len(found)} parameters"


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def seeds(probe: Probe) -> str:
    """One seed, one module, one outcome: made twice, judged twice, trained twice."""
    module, outs = probe.module, list[Tensor]()
    if probe.differing:
        raise Broken(f"made twice under one seed, {len(probe.differing)} tensors differ: {_some(probe.differing)}")
    _equal("judged twice, a batch differs", probe.judge()[0], probe.judge()[0])
    module.train()
    for _ in range(2):
        data, lengths = probe.batch()
        torch.manual_seed(2)
        with torch.no_grad():
            outs.append(call(module, data, lengths)[0])
    module.eval()
    _equal("in training, under one seed, a batch differs", *outs)
    return "made, judged and trained alike"


def _equal(what: str, one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape or not torch.equal(one, other):
        compare(what, one, other, 0.0)


def bf16(probe: Probe) -> str:
    """Under autocast it is finite, and near to float32."""
    plain, ends = probe.judge()
    with torch.autocast("cpu", torch.bfloat16):
        half, half_ends = probe.judge()
    finite("under bf16 autocast it", half)
    if ends is not None and half_ends is not None:
        if ends.tolist() != half_ends.tolist():
            raise Broken(f"lengths are {half_ends.tolist()} under bf16 autocast, {ends.tolist()} without")
        plain, half = masks.apply(plain, ends), masks.apply(half, ends)
    cosine = float(F.cosine_similarity(plain.double().flatten(), half.double().flatten(), dim=0))
    if cosine < COSINE:
        raise Broken(f"under bf16 autocast its cosine with float32 is {cosine:.3f} (at least {COSINE})")
    return f"cosine {cosine:.4f}"


def states(probe: Probe) -> str:
    """Its state_dict, loaded by one made from another seed, gives the same outcome."""
    state = probe.module.state_dict()
    strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise Broken(f"state_dict holds what is no tensor: {_some(strange)}")
    other = probe.make(seed=1)
    try:
        other.load_state_dict(state)
    except RuntimeError as error:
        raise Broken(f"its state_dict does not load: {' '.join(str(error).split())}") from None
    compare("one that has loaded its state_dict differs", probe.judge()[0], probe.judge(other)[0], 1e-6)
    return f"{len(state)} tensors"


def export(probe: Probe) -> str:
    """`torch.export`, with any batch and length, gives what the module gives."""
    if not probe.case.thorough:
        raise Moot("tried where asked for: thorough")
    if len(set(probe.lengths)) == 1:
        raise Moot("rows must be of equal length (ragged = False)")
    data, lengths = probe.batch()
    dynamic = torch.export.Dim.DYNAMIC
    sizes: tuple[dict[int, Any], ...] = ({0: dynamic, data.dim() - 1: dynamic}, {0: dynamic})
    exported = torch.export.export(probe.module, (data, lengths), dynamic_shapes=sizes).module()
    worst = 0.0
    for rows, size in ((2, probe.size), (3, 2 * probe.size), (7, probe.lengths[1])):
        data = probe.noise(rows, size)
        lengths = torch.randint(1, size + 1, (rows,))
        with torch.no_grad():
            here, there = call(probe.module, data, lengths), call(exported, data, lengths)
        for row in range(rows):
            one = here[0][row : row + 1], None if here[1] is None else here[1][row : row + 1]
            other = there[0][row : row + 1], None if there[1] is None else there[1][row : row + 1]
            worst = max(worst, _same_row(f"exported, given {rows} rows of {size}, row {row} differs", one, other))
    return f"any batch and length, at most {worst:.0e} of {NEAR:.0e}"
