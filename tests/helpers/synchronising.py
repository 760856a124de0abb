"""Counts what makes the host wait for a device, without a device.

Tensors on `meta` have a device that is not the CPU, so that code takes the branches of a GPU, and no values: whatever
asks for one is where the host would wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

META = torch.device("meta")

aten = torch.ops.aten
_COPIES = (aten._to_copy.default, aten.copy_.default)
_INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
# Operations whose result has a size that depends on values.
_SIZED = ("masked_select", "unique", "_unique2", "unique_consecutive", "unique_dim", "bincount", "histc")


class _Synchronising(TorchDispatchMode):
    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # such as `to` in inference mode, which consists of others
                return func.decompose(*args, **kwargs)
        if func is aten._local_scalar_dense.default and _on_meta(args[0]):
            self.calls.append("item")
            return False if args[0].dtype == torch.bool else 1 if not args[0].is_floating_point() else 1.0
        if func is aten.nonzero.default and _on_meta(args[0]):
            self.calls.append("nonzero")
            return torch.empty(args[0].shape[0], args[0].dim(), dtype=torch.int64, device=META)
        if func is aten.equal.default and _on_meta(*args[:2]):
            self.calls.append("equal")
            return False
        if func in _COPIES:
            return self._copied(func, args, kwargs)
        if func in _INDEXED and _on_meta(args[0]):
            args = [args[0], [self._index(index) for index in args[1]], *args[2:]]
        if func.overloadpacket.__name__ in _SIZED and _on_meta(args[0]):
            raise AssertionError(f"{func} makes the host wait, and this test cannot go on")
        return func(*args, **kwargs)

    def _copied(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """A copy, which does not wait if it is to the device and asked not to."""
        new = func is aten._to_copy.default
        source, goal = (args[0], kwargs.get("device") or args[0].device) if new else (args[1], args[0].device)
        if source.device.type == torch.device(goal).type:
            return func(*args, **kwargs)
        waits = not (kwargs.get("non_blocking") or (not new and len(args) > 2 and args[2]))
        if source.device.type == "meta":
            self.calls.append("copy to the host")
            made = torch.ones(source.shape, dtype=kwargs.get("dtype") or source.dtype)
            return made if new else args[0].copy_(made)
        if waits:
            self.calls.append("copy to the device")
        return func(*args, **kwargs)

    def _index(self, index: Tensor | None) -> Tensor | None:
        """An index of a tensor on the device: a mask is counted there, and one on the host is copied."""
        if index is None or (_on_meta(index) and index.dtype != torch.bool):
            return index
        self.calls.append("index by a mask" if _on_meta(index) else "index from the host")
        size = (index.shape[0],) if index.dtype == torch.bool else index.shape
        return torch.empty(size, dtype=torch.int64, device=META)


class _Made(TorchFunctionMode):
    """Counts tensors made on the device from values of the host."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.calls = calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or "cpu").type == "meta":
            self.calls.append("tensor from values of the host")
        return func(*args, **kwargs)


@contextmanager
def synchronising() -> Iterator[list[str]]:
    """The names of what made the host wait in the body; the body goes on as if there were an answer."""
    calls: list[str] = []
    with pytest.MonkeyPatch.context() as patch, _Made(calls), _Synchronising(calls):
        patch.setattr(torch, "autocast", _autocast)
        yield calls


def _autocast(device: str, *arguments: Any, **options: Any) -> Any:
    return nullcontext() if device == "meta" else torch.amp.autocast(device, *arguments, **options)


def _on_meta(*tensors: Tensor) -> bool:
    return all(tensor.device.type == "meta" for tensor in tensors)
