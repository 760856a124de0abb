"""Any convolutional image network of timm as a backbone: features are images of one channel.

Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models. Networks, blocks and weights are
those of the library; each has its own paper and, for weights, its own licence.

Shapes: `(B, F, T)` to `(B, C, T')`: the last feature maps of the network, the mean over what is left of the bands. Most
networks leave one frame in 32. Any F and T: features smaller than the smallest image of the network are extended by
zeros to it, and to a multiple of 32 or 64 where the network takes no others. Both are found by trying when it is made.

Padding: convolutions and norms of an image network read what is beyond the end of a row. So rows of a batch must be of
equal length (`ragged = False`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Timm"]

_WEIGHTS = "model.safetensors"
_LARGEST = 256  # bands and frames of the largest image that is tried as the smallest


def _import_timm() -> ModuleType:
    """Timm, also beside a torchvision whose compiled operators do not load.

    That is so of the torchvision of PyPI, which is built for CUDA, beside a CPU build of PyTorch: its import fails
    where it describes two operators that are not there. Timm takes transforms of images from it, and no operators.
    """
    try:
        import timm
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import timm
    return timm


timm = _import_timm()


class Timm(nn.Module):
    """A convolutional image network of timm, on features as images of one channel.

    Args:
        model: its name in timm, such as "resnet18", or with the name of its weights, "resnet18.a1_in1k".
        pretrained: whether it begins with weights for images, which must be in this machine's cache of the Hugging Face
            hub; nothing is downloaded.
    """

    default_pooling: ClassVar[Mapping[str, Any]] = {"use": "tap"}
    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 0}
    ragged: ClassVar[bool] = False

    def __init__(self, bands: int, *, model: str = "resnet18", pretrained: bool = False) -> None:
        super().__init__()
        _check_name(model)
        self.net = _with_weights(model, _cached_weights(model)) if pretrained else _feature_maps(model)
        self.channels: int = self.net.feature_info.channels()[-1]
        fitting = _fitting(self.net.eval(), self.channels)
        self.net.train()
        if fitting is None:
            raise ValueError(f"model must take images of any size, is {model!r}, which does not")
        self.shortest, self.grain = fitting

    @classmethod
    def from_assets(cls, _folder: Path, bands: int, **options: Any) -> Self:
        """A network whose weights are loaded afterwards, so that those of timm are not needed."""
        return cls(bands, **options | {"pretrained": False})

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)`, rows of equal length, to frame-level vectors `(B, C, T')` and their lengths."""
        bands, frames = (self._extended(size) for size in features.shape[1:])
        images = F.pad(features, (0, frames - features.shape[2], 0, bands - features.shape[1])).unsqueeze(1)
        vectors = _maps(self.net, images).mean(2)
        return vectors, torch.full_like(lengths, vectors.shape[2])

    def _extended(self, size: int) -> int:
        """The bands or frames of the image for so many of the features."""
        return -(-max(size, self.shortest) // self.grain) * self.grain


def _check_name(model: str) -> None:
    """Refuse what is no name of timm's own, such as one that would be read from the hub, and transformers."""
    architecture, dot, _ = model.partition(".")
    known = timm.list_models()
    if architecture not in known:
        raise ValueError(f"model must be a network of timm, is {model!r}{_nearest(architecture, known)}")
    if dot:
        tagged = timm.list_models(f"{architecture}.*", pretrained=True)
        if model not in tagged:
            names = ", ".join(tagged) or "none"
            raise ValueError(f"model must name weights that timm knows, is {model!r}; of {architecture}: {names}")
    if timm.get_pretrained_cfg(model).fixed_input_size:
        raise ValueError(
            f"model must take images of any size, is {model!r}, which takes those of one size, as transformers do"
        )


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else "; timm.list_models() lists them"


def _cached_weights(model: str) -> Path:
    """The file of a network's weights in the cache of the hub."""
    source = timm.get_pretrained_cfg(model).hf_hub_id
    if not source:
        raise ValueError(f"pretrained must be false, since timm has no weights of {model!r}")
    found = try_to_load_from_cache(source, _WEIGHTS)
    if not isinstance(found, str):
        raise ValueError(
            f"pretrained is true, but this machine does not have the weights of {model!r}; "
            f"where there is a network, `hf download {source} {_WEIGHTS}` gets them"
        )
    return Path(found)


def _feature_maps(model: str, **weights: Any) -> Any:
    """The network without its classifier, whose output is a list of its last feature maps."""
    try:
        return timm.create_model(model, in_chans=1, features_only=True, out_indices=[-1], **weights)
    except Exception as error:  # of any type: the library has some hundred kinds of network
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"model must have feature maps of one channel's image, is {model!r}: {reason}") from error


def _with_weights(model: str, file: Path) -> Any:
    """The same with the weights of a file."""
    try:
        return _feature_maps(model, pretrained=True, pretrained_cfg_overlay={"file": str(file), "custom_load": False})
    except ValueError as error:
        _feature_maps(model)  # refused if it is not the weights
        reason = str(error).partition(": ")[2]
        raise ValueError(f"pretrained is true, but {file} cannot be read as weights of {model!r}: {reason}") from error


def _fitting(net: nn.Module, channels: int) -> tuple[int, int] | None:
    """The bands and frames of the smallest image that gives two frames, and what those of every image are multiples of.

    Two, so that batch norm has values to compute statistics of, even if the batch has one row.

    Args:
        net: the network, in evaluation mode.
        channels: of its output.
    """
    for grain in (1, 32, 64):
        step = max(grain, 16)
        sizes = range(step + (grain == 1), _LARGEST + 2, step)  # one more than a multiple of its stride
        smallest = next((size for size in sizes if _frames(net, channels, size, size) >= 2), None)
        more = grain if grain > 1 else 13
        if smallest and _frames(net, channels, smallest + 2 * more, smallest + more):
            return smallest, grain
    return None


@torch.no_grad()
def _frames(net: nn.Module, channels: int, bands: int, frames: int) -> int:
    """How many frames the network leaves of an image of one channel; 0 if it does not take it."""
    try:
        maps = _maps(net, torch.zeros(1, 1, bands, frames))
    except Exception:  # whatever a layer says of a size that it was not made for
        return 0
    return int(maps.shape[3]) if maps.dim() == 4 and maps.shape[1] == channels else 0


def _maps(net: nn.Module, images: Tensor) -> Tensor:
    """The last feature maps of images `(B, 1, F, T)`, `(B, C, F', T')`."""
    maps: Tensor = net(images)[-1]
    return maps.permute(0, 3, 1, 2) if getattr(net, "output_fmt", None) == "NHWC" else maps
