"""Batch norms without their cost: folded into the layer before them, else a factor and a summand for each channel.

In evaluation mode a batch norm multiplies each channel by a constant and adds another. Both can be constants of the
convolution or linear layer before it (Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2). Where the norm comes first, one pass over the values is
left; torch's own batch norm of rows `(N, C)` takes four times as long on a CPU.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from soundbench.model.folding.uses import inputs_of
from soundbench.model.network import Network
from soundbench.model.rows import on_one_core

__all__ = ["folded"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# Frames of the noise that a copy is tried on, and how far its result may be from the network's, as a share.
_FRAMES, _NEAR = 32, 1e-3
# Products of a layer for each of its values, from which the norm after it takes about 2% of its time at most.
_PRODUCTS = 2048


class _Affine(nn.Module):
    """A batch norm in evaluation mode, of channels that are innermost: `(N, C, ...)` to the same."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.float())
        self.register_buffer("shift", shift.float())

    def forward(self, x: Tensor) -> Tensor:
        """Each channel by its factor, and its summand added."""
        shape = (-1,) + (1,) * (x.dim() - 2)
        return torch.addcmul(self.shift.view(shape), x, self.scale.view(shape))


def folded(network: Network) -> Network:
    """A copy of a network in evaluation mode, without batch norms; it shares all other weights with the network.

    Norms after large layers stay: they take little of the time, and a copy of the layers' weights much memory. The
    scores differ by rounding alone. The network itself is returned if it has no batch norms, or if a part of it cannot
    be copied, or computes something else without them: one that is not the author's of this file may use its norms in
    ways of its own.

    Args:
        network: in evaluation mode, on its device, in float32.
    """
    norms = [module for module in network.modules() if type(module) in _NORMS and _is_constant(module)]
    if not norms:
        return network
    try:
        return on_one_core(lambda: _without(norms, network))
    except Exception:  # code of others: what stops it here, if anything, is reported where it computes scores
        return network


def _without(norms: list[nn.Module], network: Network) -> Network:
    """A copy without these norms, or the network if the copy computes something else."""
    with torch.inference_mode():
        noise = _noise(network)
        inputs, wanted = inputs_of(norms, network, lambda: _result(network, *noise))
    shared: dict[int, Tensor] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    names = {module: name for name, module in network.named_modules()}
    found = copy.deepcopy(network, dict(shared))
    for norm, given in inputs.items():
        if given.layer is not None and _pays(given.layer):
            _fold(found, names[norm], names[given.layer])
        elif given.innermost:
            _put(found, names[norm], _Affine(*_constants(norm)))
    with torch.inference_mode():
        result = _result(found, *noise)
    near = bool(((result - wanted).abs() <= _NEAR * wanted.abs().max()).all())  # False for NaN
    return found if near else network


def _pays(layer: Any) -> bool:
    """Whether the norm takes a share of the time that is worth the memory of a copy of the layer's weights."""
    return bool(layer.weight[0].numel() <= _PRODUCTS)


def _is_constant(norm: Any) -> bool:
    """Whether a norm has running statistics, and nothing hangs on it."""
    return norm.running_mean is not None and not (norm._forward_hooks or norm._forward_pre_hooks)


def _noise(network: Network) -> tuple[Tensor, Tensor]:
    """Features `(2, F, T)` of noise, the second row shorter, and their lengths."""
    device = next(network.parameters()).device
    frames = max(_FRAMES, 2 * int(getattr(network.backbone, "shortest", 1)))
    noise = torch.randn(2, network.featurizer.bands, frames, generator=torch.Generator().manual_seed(0))
    return noise.to(device), torch.tensor([frames, frames // 2], device=device)


def _result(network: Network, features: Tensor, lengths: Tensor) -> Tensor:
    """The logits of noise, padded and not."""
    whole = torch.full_like(lengths, features.shape[2])
    return torch.cat([network.classify(features, lengths), network.classify(features, whole)])


def _fold(network: nn.Module, name: str, before: str) -> None:
    """Fold the constants of a norm into the layer before it."""
    scale, shift = _constants(network.get_submodule(name))
    layer: Any = network.get_submodule(before)
    weight = layer.weight.detach()
    layout = torch.channels_last if _innermost(weight) else torch.contiguous_format
    changed = (weight.double() * scale.view(-1, *(1,) * (weight.dim() - 1))).float()
    added = shift if layer.bias is None else shift + layer.bias.detach().double() * scale
    layer.weight = nn.Parameter(changed.contiguous(memory_format=layout), requires_grad=False)
    layer.bias = nn.Parameter(added.float(), requires_grad=False)
    _put(network, name, nn.Identity())


def _innermost(weight: Tensor) -> bool:
    return weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last)


def _constants(norm: Any) -> tuple[Tensor, Tensor]:
    """The factor and the summand of each channel, `(C,)` float64."""
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach().double()


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in evaluation mode in the place of another."""
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module.eval())
