"""What goes into a network's batch norms, observed while it computes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Input", "inputs_of"]

# Exactly these: a class made from one of them may use its weight in another way.
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)


@attrs.frozen
class Input:
    """What goes into a batch norm.

    Attributes:
        layer: the layer whose output it is, all of it, and which has no other use; None if there is no such layer.
        innermost: whether the channels lie side by side in memory.
    """

    layer: nn.Module | None
    innermost: bool


@attrs.define
class _Calls:
    """The calls of layers and norms so far.

    Attributes:
        made: for the memory of an output, its layer, the number of values, and the stride of the channels.
        count: the calls of each layer.
        taken: for each norm, the memory of each of its inputs, the layer that made it, and whether it is innermost.
    """

    made: dict[int, tuple[nn.Module, int, int]] = attrs.field(factory=dict)
    count: Counter[nn.Module] = attrs.field(factory=Counter)
    taken: dict[nn.Module, list[tuple[int, nn.Module | None, bool]]] = attrs.field(factory=lambda: defaultdict(list))

    def note_output(self, layer: Any, _: Any, out: Tensor) -> None:
        self.count[layer] += 1
        if out.dim() == layer.weight.dim() or isinstance(layer, nn.Linear):
            channels = out.stride(-1 if isinstance(layer, nn.Linear) else 1)
            self.made[_memory(out)] = layer, out.numel(), channels

    def note_input(self, norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        values = args[0]
        layer, size, channels = self.made.get(_memory(values), (None, 0, 0))
        fits = (values.numel(), values.stride(1)) == (size, channels)
        self.taken[norm].append((_memory(values), layer if fits else None, values.stride(1) == 1))


class _Uses(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that read or change each piece of memory; views are the memory that they show."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: Counter[int] = Counter()
        self._kept: list[Any] = []  # so that no memory is used twice

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to say so PyTorch would import its compiler, in half a second

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._kept.append(out)
        shown = set() if func._schema.is_mutable else {_memory(one) for one in _tensors(out)}
        given = _tensors([*args, *(kwargs or {}).values()])
        self.count.update(memory for memory in map(_memory, given) if memory not in shown)
        return out


def inputs_of(
    norms: Iterable[nn.Module], network: nn.Module, compute: Callable[[], Tensor]
) -> tuple[dict[nn.Module, Input], Tensor]:
    """What goes into each norm that is used, and what the network gives.

    Args:
        norms: batch norms over channels, the second dimension.
        network: the network that they are in.
        compute: runs it; each module may be called several times.
    """
    calls = _Calls()
    layers = [one for one in network.modules() if type(one) in _LAYERS and not _hooked(one)]
    hooks = [layer.register_forward_hook(calls.note_output) for layer in layers]
    hooks += [norm.register_forward_pre_hook(calls.note_input) for norm in norms]
    try:
        with _Uses() as uses:
            result = compute()
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for norm, each in calls.taken.items():
        layer = each[0][1]
        if not _alone(layer, norm, calls, uses.count):
            layer = None
        found[norm] = Input(layer, all(innermost for _, _, innermost in each))
    return found, result


def _alone(layer: Any, norm: Any, calls: _Calls, uses: Counter[int]) -> bool:
    """Whether a layer and a norm are used together, and only together."""
    each = calls.taken[norm]
    return (
        layer is not None
        and len(layer.weight) == norm.num_features
        and calls.count[layer] == len(each) == uses[_memory(layer.weight)] == uses[_memory(norm.running_mean)]
        and all(made_by is layer and uses[memory] == 1 for memory, made_by, _ in each)
    )


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors among what an operation takes or gives, which may be in lists."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for one in values:
            yield from _tensors(one)


def _memory(tensor: Tensor) -> int:
    found: int = tensor.untyped_storage()._cdata
    return found
