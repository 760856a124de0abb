"""Featurizer, backbone, pooling and head composed into one module, and a summary of it without data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from soundbench.contracts import Backbone, Featurizer, Pooling
from soundbench.errors import CallError
from soundbench.recipe import Head as HeadTable

__all__ = ["Head", "Layer", "Network", "Summary", "by_length", "cost", "refuse_output", "summarize", "with_attributes"]

# What the framework reads of a component of a kind when it has been made.
_NEEDED = {
    "augmentation": "on",
    "featurizer": "bands",
    "backbone": "channels",
    "pooling": "features",
    "loss": "classifier",
}


class Head(nn.Module):
    """From one vector per row to logits: an optional embedding layer, and the classifier.

    Shape: `(B, D)` to `(B, K)`.

    Args:
        features: D, the size of the pooled vectors.
        classes: K.
        embedding: size of the embedding layer; 0 classifies the pooled vector itself.
        norm_before: batch norm on the pooled vector.
        bias: whether the embedding layer has a bias.
        norm_after: batch norm on the embedding: `none`, `plain` (without scale and shift) or `affine`.
        activation: `none` or `relu`, after the embedding's norm.
        dropout: share of values dropped before the embedding layer and before the classifier.
        classifier: `linear`, or `cosine`: unit vectors against unit class weights, so that logits lie in [-1, 1].
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        embedding: int = 192,
        norm_before: bool = False,
        bias: bool = True,
        norm_after: str = "none",
        activation: str = "none",
        dropout: float = 0.0,
        classifier: str = "linear",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if norm_before:
            layers.append(nn.BatchNorm1d(features))
        if dropout:
            layers.append(nn.Dropout(dropout))
        if embedding:
            layers.append(nn.Linear(features, embedding, bias=bias))
        width = embedding or features
        if norm_after != "none":
            layers.append(nn.BatchNorm1d(width, affine=norm_after == "affine"))
        if activation == "relu":
            layers.append(nn.ReLU())
        self.embed = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout) if dropout and embedding else nn.Identity()
        self.classify = nn.Linear(width, classes, bias=classifier == "linear")
        self.cosine = classifier == "cosine"

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits `(B, K)` of pooled vectors `(B, D)`."""
        embedded = self.dropout(self.embed(vectors))
        if self.cosine:
            unit = nn.functional.normalize(self.classify.weight)
            return nn.functional.linear(nn.functional.normalize(embedded), unit)
        logits: Tensor = self.classify(embedded)
        return logits


class Network(nn.Module):
    """Waveform in, logits out: featurizer, backbone, pooling, head.

    Shape: waveforms `(B, S)` and lengths `(B,)` in samples to logits `(B, K)`.

    Args:
        featurizer: a component, made.
        backbone: a component, made.
        pooling: a component, made.
        head: a module from vectors `(B, D)` to logits `(B, K)`, such as `soundbench.model.network.Head`; not a
            `soundbench.Head`, which is the table of a recipe, and knows neither D nor K.

    Raises:
        CallError: one of them is no module.
    """

    def __init__(self, featurizer: Featurizer, backbone: Backbone, pooling: Pooling, head: nn.Module) -> None:
        super().__init__()
        for name, part in (("featurizer", featurizer), ("backbone", backbone), ("pooling", pooling), ("head", head)):
            if not isinstance(part, nn.Module):
                raise CallError(f"{name} must be a torch.nn.Module, {_instead(name, part)}")
        self.featurizer = featurizer
        self.backbone = backbone
        self.pooling = pooling
        self.head = head

    def __repr__(self) -> str:
        parts = (self.featurizer, self.backbone, self.pooling, self.head)
        count = sum(parameter.numel() for parameter in self.parameters())
        return f"Network({', '.join(type(part).__name__ for part in parts)}: {count:,} parameters)"

    def features(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)` and lengths in frames.

        Features that were extracted before, `(B, F, T)`, are returned as they are.
        """
        return (waveform, lengths) if waveform.dim() == 3 else by_length(self.featurizer, waveform, lengths)

    def pooled(self, features: Tensor, lengths: Tensor) -> Tensor:
        """One vector per row, `(B, D)`, of features `(B, F, T)` and their lengths in frames."""
        return self.pooling(*by_length(self.backbone, features, lengths))

    def classify(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(B, K)` of features `(B, F, T)` and their lengths in frames."""
        logits: Tensor = self.head(self.pooled(features, lengths))
        return logits

    def embed(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """The input of the classifier, `(B, D)`: the head's embedding, or the pooled vector if there is none."""
        vectors: Tensor = self.head.get_submodule("embed")(self.pooled(*self.features(waveform, lengths)))
        return vectors

    def outputs(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Logits and, after them, the input of the classifier, `(B, K + D)`."""
        vectors = self.pooled(*self.features(waveform, lengths))
        return torch.cat([self.head(vectors), self.head.get_submodule("embed")(vectors)], dim=1)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(B, K)`."""
        return self.classify(*self.features(waveform, lengths))


def by_length(module: Featurizer | Backbone, data: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The output `(B, C, T)` of a featurizer or backbone, and its lengths.

    A module with `ragged = False` cannot ignore padding (it has a group norm over time, or convolutions without masks),
    and gets rows of equal length at a time, in training too.

    Args:
        module: the featurizer or backbone.
        data: waveforms `(B, S)` or features `(B, F, T)`, padded at the end.
        lengths: of the rows, `(B,)`.
    """
    if getattr(module, "ragged", True) or bool((lengths == data.shape[-1]).all()):
        return module(data, lengths)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for length in sorted(set(lengths.tolist())):
        rows = (lengths == length).nonzero().squeeze(1)
        found.append((rows, *module(data[rows, ..., :length], lengths[rows])))
    longest = max(frames.shape[2] for _, frames, _ in found)
    out = found[0][1].new_zeros(len(lengths), found[0][1].shape[1], longest)
    counts = torch.zeros_like(lengths)
    for rows, frames, count in found:
        out[rows, :, : frames.shape[2]] = frames
        counts[rows] = count.to(counts.dtype)
    return out, counts


def refuse_output(out: Any) -> None:
    """Refuse what a featurizer or backbone may not return.

    Raises:
        TypeError: it is not data `(B, C, T)` and lengths `(B,)`.
        ValueError: the data have other dimensions, or the lengths are not from 1 to T.
    """
    if not isinstance(out, tuple) or len(out) != 2 or not all(isinstance(part, Tensor) for part in out):
        raise TypeError("it must return a tuple of two tensors, data and lengths")
    data, lengths = out
    if data.dim() != 3:
        raise ValueError(f"it returns data {tuple(data.shape)}, not of three dimensions: rows, channels, frames")
    if lengths.shape != data.shape[:1] or not 1 <= int(lengths.min()) <= int(lengths.max()) <= data.shape[-1]:
        raise ValueError(f"it returns data {tuple(data.shape)}, whose lengths cannot be {lengths.tolist()}")


def with_attributes(kind: str, component: Any) -> Any:
    """A component, which has the attribute that the network is put together by, if its kind has one.

    Raises:
        AttributeError: it has not.
    """
    needed = _NEEDED.get(kind)
    if needed is not None and not hasattr(component, needed):
        raise AttributeError(f"it has no attribute {needed!r}, see the contract of its kind")
    return component


def _instead(name: str, part: object) -> str:
    """What was given in the place of a module, and what to give."""
    if isinstance(part, HeadTable):
        return "is a soundbench.Head, the table of a recipe; give soundbench.model.network.Head(features, classes)"
    if isinstance(part, type):
        return f"is the class {part.__name__}; give one that is made, such as {part.__name__}(...)"
    return f"is of the type {type(part).__name__}"


@attrs.frozen
class Layer:
    """One layer of a network, after a forward pass of one row.

    Attributes:
        name: its path in the network.
        type: the class of the module.
        shape: the shape of its output.
        parameters: trainable numbers, including those of the layers inside it.
        macs: multiply-adds.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    parameters: int
    macs: int


@attrs.frozen
class Summary:
    """A summary of a network, made without data.

    Attributes:
        layers: down to the third level, in the order of the forward pass.
        parameters: trainable numbers.
        macs: multiply-adds of one window, convolutions and matrix products counted (the Fourier transform is not).
        receptive_frames: how many feature frames one frame of the backbone's output depends on; None for all of them.
        shortest_samples: the shortest input, in samples, that is not extended with silence.
        window_samples: samples in the window that shapes and multiply-adds are for.
    """

    layers: tuple[Layer, ...]
    parameters: int
    macs: int
    receptive_frames: int | None
    shortest_samples: int
    window_samples: int


def cost(network: Network, window: int) -> dict[str, int]:
    """What a report says of a network: its `parameters`, frozen ones too, and `macs`, of one window as in `Summary`."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters": parameters, "macs": _counted(network, window).get_total_flops() // 2}


def summarize(network: Network, window: int) -> Summary:
    """Run one silent window of `window` samples through the network and record its layers."""
    shapes: dict[str, tuple[int, ...]] = {}
    handles = []
    for name, module in network.named_modules():
        if name and name.count(".") < 3:
            handles.append(module.register_forward_pre_hook(_open(shapes, name)))
            handles.append(module.register_forward_hook(_note(shapes, name)))
    try:
        counter = _counted(network, window)
    finally:
        for handle in handles:
            handle.remove()
    modules = dict(network.named_modules())
    flops = {name: sum(kinds.values()) // 2 for name, kinds in counter.get_flop_counts().items()}
    layers = tuple(
        Layer(name, type(modules[name]).__name__, shape, _count(modules[name]), flops.get(f"Network.{name}", 0))
        for name, shape in shapes.items()
    )
    receptive = receptive_frames(network.backbone, network.featurizer.bands)
    total = counter.get_total_flops() // 2
    return Summary(layers, _count(network), total, receptive, shortest_samples(network), window)


def _counted(network: Network, window: int) -> FlopCounterMode:
    """The operations of one silent window of `window` samples."""
    device = next(network.parameters()).device
    waveform, lengths = torch.zeros(1, window, device=device), torch.tensor([window], device=device)
    counter, training = FlopCounterMode(display=False), network.training
    network.eval()
    try:
        with torch.no_grad(), counter:
            network(waveform, lengths)
    finally:
        network.train(training)
    return counter


def _count(module: nn.Module) -> int:
    """How many trainable numbers a module has."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def _open(shapes: dict[str, tuple[int, ...]], name: str) -> Callable[..., None]:
    """A hook that lists a module before the modules inside it."""

    def hook(*_: Any) -> None:
        shapes.setdefault(name, ())

    return hook


def _note(shapes: dict[str, tuple[int, ...]], name: str) -> Callable[..., None]:
    """A hook that records the shape of a module's output, or of the first tensor in it."""

    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor):
            shapes[name] = tuple(first.shape)

    return hook


def receptive_frames(backbone: Backbone, bands: int, frames: int = 512) -> int | None:
    """How many input frames one output frame of a backbone depends on; None for all of them.

    Measured by the gradient of the middle output frame with respect to `frames` frames of noise. Networks with a
    context of the whole clip (squeeze-excitation, CAM++'s masks) depend on all.
    """
    module = backbone
    assert isinstance(module, nn.Module)
    training = module.training
    module.eval()
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, bands, frames, generator=generator).to(device).requires_grad_()
    try:
        out, _ = backbone(features, torch.tensor([frames], device=device))
        (gradient,) = torch.autograd.grad(out[:, :, out.shape[2] // 2].square().sum(), features)
    finally:
        module.train(training)
    touched = gradient.abs().sum(dim=(0, 1)).nonzero().squeeze(1)
    span = int(touched[-1] - touched[0]) + 1 if len(touched) else 0
    return None if span >= frames - 1 else span


def shortest_samples(network: Network) -> int:
    """The shortest input, in samples, that neither featurizer nor backbone extends, by their optional `shortest`."""
    own = int(getattr(network.featurizer, "shortest", 1))
    wanted = int(getattr(network.backbone, "shortest", 1))
    device = next(network.parameters()).device

    def frames(samples: int) -> int:
        with torch.no_grad():
            _, counts = network.featurizer(
                torch.zeros(1, samples, device=device), torch.tensor([samples], device=device)
            )
        return int(counts[0])

    low, high = own, own
    while frames(high) < wanted:
        low, high = high + 1, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if frames(middle) >= wanted else (middle + 1, high)
    return low
