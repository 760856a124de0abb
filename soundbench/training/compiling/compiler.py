"""Whether steps are compiled: what `train.compile` means on a machine, the first compilation, and what if it fails.

A step that cannot be compiled is computed as it is, and one line says why: compiling changes the speed of a run, never
whether it can be done.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import attrs
import numpy as np
import torch
from torch import Tensor

from soundbench import distributed
from soundbench.contracts import Batch
from soundbench.errors import CallError
from soundbench.machine import Machine
from soundbench.messages import out_of_memory, printable
from soundbench.model.network import by_length
from soundbench.recipe import Recipe
from soundbench.training.compiling.train_step import TrainStep, tensors_of

__all__ = ["Compiler", "Compiling", "names_of", "planned"]

BACKEND: Any = "inductor"
"""The backend of `torch.compile`; tests take others, which need less time."""

# The longest reason that is given.
_LONGEST = 300


@attrs.frozen
class Compiling:
    """How steps are computed.

    Attributes:
        asked: `train.compile`.
        used: what it came to: `graphs` is compiled, too, and recorded as CUDA graphs.
        reason: why.
    """

    asked: Literal["auto", "off", "on", "graphs"]
    used: Literal["off", "on", "graphs"]
    reason: str


def planned(asked: Literal["auto", "off", "on", "graphs"], device: torch.device) -> Compiling:
    """How steps will be computed on a device, if nothing fails.

    Raises:
        CallError: CUDA graphs on a CPU.
    """
    if asked == "graphs" and device.type != "cuda":
        raise CallError("train.compile: 'graphs' needs a GPU; on a CPU use 'on' or 'off'")
    if asked != "auto":
        return Compiling(asked, asked, "as asked")
    # Measured: on a CPU (AVX2), four minutes of compiling made CAM++ 0.97 times as fast.
    measured = "was not measured to pay on a CPU" if device.type == "cpu" else "has not been measured on a GPU"
    return Compiling(asked, "off", f"compiling {measured}")


def names_of(recipe: Recipe) -> dict[str, str]:
    """What messages call the parts of a step."""
    kinds = ("featurizer", "backbone", "pooling", "loss")
    named = {kind: f'{kind} "{getattr(recipe, kind).use}"' for kind in kinds}
    placed = {f"augmentation[{place}]": f'augmentation "{one.use}"' for place, one in enumerate(recipe.augmentation)}
    return {**named, **placed, "head": "the head"}


class Compiler:
    """Compiles a step when its first batch is there.

    Args:
        step: the step, not wrapped.
        machine: how it is computed.
        rows: the most rows that it gets.
        how: what is planned.
        names: what messages call the parts of the step.
        settled: called with what came of it.
    """

    def __init__(
        self,
        step: TrainStep,
        machine: Machine,
        rows: int,
        how: Compiling,
        names: Mapping[str, str],
        settled: Callable[[Compiling], None],
    ) -> None:
        self.step, self.machine, self.rows, self.how = step, machine, rows, how
        self.names, self.settled = names, settled
        self._compiled: Callable[..., Any] | None = None
        self._begun = False
        self._keys: dict[int, Tensor] = {}

    def begin(self, batch: Batch) -> bool:
        """Compile for batches like this one, which may take minutes; False if that has been done before.

        It is as full as a batch can be, since a compiler may choose by its size: a run that goes on from a step with
        fewer rows computes the same bits.
        """
        if self._begun:
            return False
        self._begun = True
        rows = torch.arange(self.rows, device=batch.data.device) % len(batch.data)
        self._begin(Batch(*(tensor[rows] for tensor in tensors_of(batch))))
        return True

    def address(self, epoch: int) -> tuple[Any, ...]:
        """What a step gets beside the tensors of a batch: the epoch, or the keys of its random draws."""
        if self._compiled is None:
            return (epoch,)
        if epoch not in self._keys:
            self._keys = {epoch: self.step.keys(epoch).to(self.machine.device)}
        return 0, self._keys[epoch]

    def _begin(self, batch: Batch) -> None:
        """Compile, and try the result with the batch; every process does so, or none."""
        torch._dynamo.reset()  # what runs before in this process compiled: of one function only so much is kept
        graphs = {"triton.cudagraphs": True} if self.how.used == "graphs" else {}
        # Dropout draws as it does without compiling.
        options: dict[str, Any] | None = {"fallback_random": True, **graphs} if BACKEND == "inductor" else None
        if distributed.world() > 1:
            torch._dynamo.config.optimize_ddp = False  # or what is tried here would be compiled again, in pieces
        self._compiled = torch.compile(self.step.losses, fullgraph=True, backend=BACKEND, options=options)
        reason = ""
        with self._unchanged(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of a compiler about itself
            try:
                self.step.note_draws(batch)
                self._try(batch)
            except Exception as error:  # whatever it is: the step itself, without compiling, raises what is its own
                reason = self._reason(error, batch)
        first = next(filter(None, distributed.gather(reason)), "")
        if first:
            self._give_up(first)
        else:
            self.step.compute = self._computed
        self.settled(self.how)

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Leave statistics and random states as they are."""
        before = {name: buffer.clone() for name, buffer in self.step.named_buffers()}
        states = random.getstate(), np.random.get_state()
        with torch.random.fork_rng([self.machine.device] if self.machine.device.type == "cuda" else []):
            yield
        random.setstate(states[0])
        np.random.set_state(states[1])
        with torch.no_grad():
            for name, buffer in self.step.named_buffers():
                buffer.copy_(before[name])

    def _try(self, batch: Batch) -> None:
        """Forward and backward for this number of rows and for another; no gradient is kept."""
        weights = [parameter for parameter in self.step.parameters() if parameter.requires_grad]
        keys = self.step.keys(1).to(self.machine.device)
        assert self._compiled is not None
        for rows in (self.rows, self.rows - 1)[: 2 if self.rows > 2 else 1]:
            tensors = [tensor[:rows] for tensor in tensors_of(batch)]
            for tensor in tensors:
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
            with self.machine.autocast():
                losses, _ = self._compiled(*tensors, 0, keys)
            torch.autograd.grad(losses.sum(), weights, allow_unused=True)

    def _computed(self, *given: Any) -> tuple[Tensor, Tensor]:
        """The compiled step; if a later batch needs another compilation, and that fails, the step as it is."""
        assert self._compiled is not None
        try:
            losses, target = self._compiled(*given)
        except torch._dynamo.exc.TorchDynamoException as error:
            self._give_up(_text(error))
            self.settled(self.how)
            return self.step.losses(*given)
        return losses, target

    def _give_up(self, reason: str) -> None:
        self._compiled = self.step.compute = None
        self.how = attrs.evolve(self.how, used="off", reason=reason)
        torch._dynamo.reset()

    def _reason(self, error: Exception, batch: Batch) -> str:
        """Why a step cannot be compiled: the part of it that cannot be traced, or else what the compiler says."""
        if out_of_memory(_inner(error)):
            return "memory ran out while compiling"
        if type(_inner(error)).__name__ == "InvalidCxxCompiler":
            return "this machine has no C++ compiler, such as g++"
        try:
            with torch.no_grad():
                self._trace_parts(batch)
        except _CannotTrace as found:
            return f"{self.names.get(found.part, found.part)} cannot be traced: {_text(found.error)}"
        except Exception:
            pass  # a part that fails without tracing, too; the step will say so
        return _text(error)

    def _trace_parts(self, batch: Batch) -> None:
        """Trace each part of the step alone.

        Raises:
            _CannotTrace: the first that cannot be.
        """
        step, network = self.step, self.step.network
        keys = step.keys(1).to(self.machine.device)

        def part(name: str, compute: Callable[..., Any], *given: Any) -> Any:
            torch._dynamo.reset()
            try:
                return torch.compile(compute, backend="eager", fullgraph=True)(*given)
            except Exception as error:
                raise _CannotTrace(name, error) from error

        data, lengths = part("featurizer", network.features, batch.data, batch.lengths)
        batch = attrs.evolve(batch, data=data, lengths=lengths)
        for place in step.places:
            part(
                place, lambda *tensors, at=place: step.augmented(at, Batch(*tensors), 0, keys).data, *tensors_of(batch)
            )
            batch = step.augmented(place, batch, 0, keys)
        frames = part("backbone", by_length, network.backbone, batch.data, batch.lengths)
        logits = part("head", network.head, part("pooling", network.pooling, *frames))
        part("loss", step.loss, logits.float(), batch.target)


class _CannotTrace(Exception):
    def __init__(self, part: str, error: Exception) -> None:
        super().__init__(part)
        self.part, self.error = part, error


def _inner(error: BaseException) -> BaseException:
    """The error that a compiler's error is made from."""
    inner = getattr(error, "inner_exception", None) or error.__cause__
    return error if inner is None else _inner(inner)


def _text(error: BaseException) -> str:
    """What an error says, on one line, and where in the code that was traced."""
    error = _inner(error)
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    text = next(filter(None, lines), "")
    stack = getattr(error, "real_stack", None)
    place = f" ({stack[-1].filename}, line {stack[-1].lineno})" if stack else ""
    return printable(f"{type(error).__name__}: {text[:_LONGEST]}".rstrip(": ") + place)
