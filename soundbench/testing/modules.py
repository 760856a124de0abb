"""What featurizers, backbones and poolings promise: lengths, padding, gradients, seeds, bf16, states, export.

The output for a row alone is compared with the output for the same row padded with noise, and in a batch. Weights are
moved from their initial values first, since a bias of zero hides padding that was not masked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, wraps
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks
from soundbench.testing.cases import Case, quiet, seeded_states, watched_states
from soundbench.testing.results import Broken, NotApplicable

__all__ = [
    "NEAR",
    "Output",
    "Probe",
    "checks_of",
    "compare",
    "counts",
    "finite",
]

Output = tuple[Tensor, Tensor | None]

NEAR = 1e-4  # allowed difference, as a share of the largest value
COSINE = 0.95  # least cosine similarity of bf16 and float32
BEYOND = 9  # positions of noise after the longest row


@attrs.define(slots=False)
class Probe:
    """How a module of a kind is made, and its input.

    Attributes:
        case: the component under check.
        supplied: the constructor's positional argument.
        noise: `(rows, size)` to data `(rows, ..., size)`, from torch's global state.
        size: an ordinary length.
        lengths: lengths of an ordinary batch, the longest first.
        differing: tensors that differ between two modules made with the same seed.
    """

    case: Case
    supplied: int
    noise: Callable[[int, int], Tensor]
    size: int
    lengths: tuple[int, ...]
    differing: list[str] = attrs.field(factory=list, init=False)

    def make(self, seed: int = 0) -> nn.Module:
        """A new module, in evaluation mode."""
        module: nn.Module = self.case.make(self.supplied, seed=seed)
        return module.eval()

    @cached_property
    def module(self) -> nn.Module:
        """A module as after some training: running statistics of two batches, all vectors of weights changed."""
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

    def evaluate(self, module: nn.Module | None = None) -> Output:
        """The output for the ordinary batch, without gradients."""
        with torch.no_grad():
            return call(self.module if module is None else module, *self.batch())


def checks_of(probe: Callable[[Case], Probe], *, files: bool = True) -> dict[str, Callable[[Case], str]]:
    """The checks of every part of a network, for a kind whose probe is given; with docstrings, which pages show.

    Args:
        probe: makes what the checks run.
        files: whether the kind may have files of its own (`assets`).
    """

    def of(check: Callable[[Probe], str]) -> Callable[[Case], str]:
        @wraps(check)
        def checked(case: Case) -> str:
            return check(probe(case))

        return checked

    checks = {
        "padding": padding,
        "gradients": gradients,
        "seed": seeds,
        "bf16": bf16,
        "state": states,
        "export": export,
    }
    return {name: of(check) for name, check in (checks | ({"assets": assets} if files else {})).items()}


def call(module: nn.Module, data: Tensor, lengths: Tensor) -> Output:
    """A module's output, and its lengths if it returns any."""
    out = module(data, lengths)
    return out if isinstance(out, tuple) else (out, None)


def finite(what: str, out: Tensor) -> None:
    """Refuse NaN and infinity."""
    if not out.isfinite().all():
        raise Broken(f"{what} has {int((~out.isfinite()).sum())} of {out.numel()} values that are not finite")


def counts(what: str, lengths: Tensor | None, out: Tensor) -> Tensor:
    """Refuse invalid lengths: they must be one whole number per row, from 1 to the size of `out`."""
    if not isinstance(lengths, Tensor) or lengths.shape != out.shape[:1] or lengths.dtype != torch.int64:
        found = f"{tuple(lengths.shape)} {lengths.dtype}" if isinstance(lengths, Tensor) else repr(lengths)
        raise Broken(f"{what}: lengths must be ({out.shape[0]},) int64, are {found}")
    if lengths.min() < 1 or lengths.max() > out.shape[-1]:
        raise Broken(f"{what}: lengths must be from 1 to {out.shape[-1]}, are {lengths.tolist()}")
    return lengths


def compare(what: str, one: Tensor, other: Tensor, near: float = NEAR) -> float:
    """The largest difference of two tensors, as a share of the largest value; refused above `near`."""
    if one.shape != other.shape:
        raise Broken(f"{what}: shapes are {tuple(one.shape)} and {tuple(other.shape)}")
    finite(what, one)
    apart = float((one - other).abs().max() / one.abs().max().clamp(min=1e-12)) if one.numel() else 0.0
    if not apart <= near:
        raise Broken(f"{what} by {apart:.1e} (allowed {near:.0e})")
    return apart


def padding(probe: Probe) -> str:
    """A row gives the same output alone, padded with noise, and in a batch."""
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
                worst = max(worst, _same_row(f"{name} differs from the same row with padding", (alone, end), padded))
            inside = together[row : row + 1], None if ends is None else ends[row : row + 1]
            worst = max(worst, _same_row(f"{name} differs from the same row in a batch", (alone, end), inside))
    rows = "" if ragged else ", rows of equal length (ragged = False)"
    return f"differs by at most {worst:.0e} (allowed {NEAR:.0e}){rows}"


def _like(data: Tensor) -> tuple[int, ...]:
    return data.shape[0], *[1] * (data.dim() - 2), data.shape[-1]


def _same_row(what: str, alone: Output, other: Output) -> float:
    """Compare two outputs for one row, within its length."""
    if alone[1] is None or other[1] is None:
        return compare(what, alone[0], other[0])
    if alone[1].tolist() != other[1].tolist():
        raise Broken(f"{what}: lengths are {alone[1].tolist()} and {other[1].tolist()}")
    end = int(alone[1])
    return compare(what, alone[0][..., :end], other[0][..., :end])


def gradients(probe: Probe) -> str:
    """Every trainable parameter gets a finite gradient that is not zero."""
    module = probe.module
    trained = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    if not trained:
        raise NotApplicable("it has no trainable parameters")
    module.train().zero_grad(set_to_none=True)
    out, ends = call(module, *probe.batch())
    weights = torch.randn_like(out)
    (out * (weights if ends is None else masks.apply(weights, ends))).sum().backward()  # type: ignore[no-untyped-call]
    module.eval()
    found = {name: weight.grad for name, weight in trained.items()}
    module.zero_grad(set_to_none=True)
    wrong = {
        "get no gradient": [name for name, grad in found.items() if grad is None],
        "get a gradient that is not finite": [
            name for name, grad in found.items() if grad is not None and not bool(grad.isfinite().all())
        ],
        "get a gradient of zeros": [name for name, grad in found.items() if grad is not None and not bool(grad.any())],
    }
    faults = [
        f"{len(names)} of {len(found)} parameters {fault}: {_some(names)}" for fault, names in wrong.items() if names
    ]
    if faults:
        raise Broken("; ".join(faults))
    return f"reach all {len(found)} parameters"


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def seeds(probe: Probe) -> str:
    """The same seed gives the same weights and the same outputs, in evaluation and in training mode.

    In evaluation mode it draws nothing from the random states that all code shares; in training mode it may, but a run
    seeds them at each step.
    """
    module, batch = probe.module, probe.batch()
    if probe.differing:
        raise Broken(f"made twice with the same seed, {len(probe.differing)} tensors differ: {_some(probe.differing)}")

    def output() -> Tensor:
        with torch.no_grad():
            return call(module, batch[0].clone(), batch[1].clone())[0]

    with watched_states() as touched:
        outs = [output(), output()]
    _equal("in evaluation mode, a batch computed twice differs", *outs)
    if touched:
        raise Broken(f"in evaluation mode it uses the global random state of {' and '.join(touched)}")
    module.train()
    outs.clear()
    for _ in range(2):
        torch.manual_seed(2)
        outs.append(output())
    seeded = seeded_states(output)
    module.eval()
    _equal("in training mode with the same seed, a batch computed twice differs", *outs)
    if seeded:
        raise Broken(f"it seeds the global random state of {' and '.join(seeded)}; a run seeds it at each step")
    return "same weights, same outputs"


def _equal(what: str, one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape or not torch.equal(one, other):
        compare(what, one, other, 0.0)


def bf16(probe: Probe) -> str:
    """Under autocast the output is finite and close to float32."""
    plain, ends = probe.evaluate()
    with torch.autocast("cpu", torch.bfloat16):
        half, half_ends = probe.evaluate()
    finite("under bf16 autocast, the output", half)
    if ends is not None and half_ends is not None:
        if ends.tolist() != half_ends.tolist():
            raise Broken(f"lengths are {half_ends.tolist()} under bf16 autocast, {ends.tolist()} without")
        plain, half = masks.apply(plain, ends), masks.apply(half, ends)
    cosine = float(F.cosine_similarity(plain.double().flatten(), half.double().flatten(), dim=0))
    if cosine < COSINE:
        raise Broken(f"the cosine of the bf16 and float32 outputs is {cosine:.3f} (must be at least {COSINE})")
    return f"cosine {cosine:.4f}"


def states(probe: Probe) -> str:
    """Its state_dict, loaded into a module made with another seed, gives the same output."""
    state = probe.module.state_dict()
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise Broken(f"state_dict must contain only tensors, but has {_some(others)}")
    other = probe.make(seed=1)
    try:
        other.load_state_dict(state)
    except RuntimeError as error:
        raise Broken(f"its state_dict does not load: {' '.join(str(error).split())}") from None
    compare("a new module with its state_dict differs", probe.evaluate()[0], probe.evaluate(other)[0], 1e-6)
    return f"{len(state)} tensors"


def assets(probe: Probe) -> str:
    """What `from_assets` makes of the files of `assets`, with the same weights, gives the same output."""
    write, remake = getattr(probe.module, "assets", None), getattr(probe.module, "from_assets", None)
    if write is None and remake is None:
        raise NotApplicable("it has neither assets() nor from_assets()")
    folder = probe.case.folder / "assets"
    folder.mkdir()
    if write is not None:
        write(folder)
    written = ", ".join(sorted(path.name for path in folder.rglob("*"))) or "nothing written"
    if remake is not None:
        again: nn.Module = remake(folder, probe.supplied, **probe.case.options).eval()
        try:
            again.load_state_dict(probe.module.state_dict())
        except RuntimeError as error:
            raise Broken(f"from_assets makes another module: {' '.join(str(error).split())}") from None
        compare("what from_assets makes differs", probe.evaluate()[0], probe.evaluate(again)[0], 1e-6)
    return written


def export(probe: Probe) -> str:
    """The program of `torch.export`, with any batch and length, computes what the module computes."""
    if not probe.case.thorough:
        raise NotApplicable("checked only with --thorough (thorough=True)")
    if len(set(probe.lengths)) == 1:
        raise NotApplicable("rows must be of equal length (ragged = False)")
    if reason := getattr(probe.module, "unexportable", ""):
        raise NotApplicable(f"it says that it cannot be exported: {reason}")
    data, lengths = probe.batch()
    dynamic = torch.export.Dim.DYNAMIC
    sizes: tuple[dict[int, Any], ...] = ({0: dynamic, data.dim() - 1: dynamic}, {0: dynamic})
    with quiet(), _tracing("torch.export"):
        exported = torch.export.export(probe.module, (data, lengths), dynamic_shapes=sizes).module()
    worst = 0.0
    for rows, size in ((2, probe.size), (3, 2 * probe.size), (7, probe.lengths[1])):
        data = probe.noise(rows, size)
        lengths = torch.randint(1, size + 1, (rows,))
        with torch.no_grad():
            here = call(probe.module, data, lengths)
            with _tracing(f"the program, with {rows} rows of length {size},"):
                there = call(exported, data, lengths)
        for row in range(rows):
            one = here[0][row : row + 1], None if here[1] is None else here[1][row : row + 1]
            other = there[0][row : row + 1], None if there[1] is None else there[1][row : row + 1]
            worst = max(worst, _same_row(f"exported, with {rows} rows of length {size}, row {row} differs", one, other))
    return f"any batch and length, differs by at most {worst:.0e} (allowed {NEAR:.0e})"


@contextmanager
def _tracing(what: str) -> Iterator[None]:
    """An exception in the body breaks the promise, with advice for a component that cannot keep it."""
    try:
        yield
    except Exception as error:  # torch raises many kinds
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        advice = "what cannot be traced for any length, such as a recurrent layer, gives the reason in `unexportable`"
        raise Broken(f"{what} raised {text}; {advice}") from error
