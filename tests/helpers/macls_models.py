"""Models as macls 1.0.6 leaves them: the names and shapes of their tensors, the YAML, and the folders of a checkout."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

CLASSES = ["siren", "dog bark", "drilling"]


def norm(name: str, width: int, affine: bool = True) -> Shapes:
    affine_shapes = {f"{name}.weight": (width,), f"{name}.bias": (width,)} if affine else {}
    statistics = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,), f"{name}.num_batches_tracked": ()}
    return {**affine_shapes, **statistics}


def layer(name: str, *shape: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": shape, **({f"{name}.bias": shape[:1]} if bias else {})}


def campplus(
    growth: int, bottleneck: int, width: int, embedding: int, bands: int = 80, classes: int = len(CLASSES)
) -> Shapes:
    """Names and shapes of a CAM++ of macls."""
    front = 32
    shapes = {**layer("head.conv1", front, 1, 3, 3, bias=False), **norm("head.bn1", front)}
    for stage in (1, 2):
        for block in (0, 1):
            at = f"head.layer{stage}.{block}"
            for number in (1, 2):
                shapes |= layer(f"{at}.conv{number}", front, front, 3, 3, bias=False)
                shapes |= norm(f"{at}.bn{number}", front)
            if block == 0:
                shapes |= {
                    **layer(f"{at}.shortcut.0", front, front, 1, 1, bias=False),
                    **norm(f"{at}.shortcut.1", front),
                }
    shapes |= {**layer("head.conv2", front, front, 3, 3, bias=False), **norm("head.bn2", front)}
    shapes |= layer("xvector.tdnn.linear", width, front * math.ceil(bands / 8), 5, bias=False)
    shapes |= norm("xvector.tdnn.nonlinear.batchnorm", width)
    inner = growth * bottleneck
    for block, count in enumerate((12, 24, 16), start=1):
        for number in range(1, count + 1):
            at = f"xvector.block{block}.tdnnd{number}"
            shapes |= {
                **norm(f"{at}.nonlinear1.batchnorm", width),
                **layer(f"{at}.linear1", inner, width, 1, bias=False),
            }
            shapes |= norm(f"{at}.nonlinear2.batchnorm", inner)
            shapes |= layer(f"{at}.cam_layer.linear_local", growth, inner, 3, bias=False)
            shapes |= layer(f"{at}.cam_layer.linear1", inner // 2, inner, 1)
            shapes |= layer(f"{at}.cam_layer.linear2", growth, inner // 2, 1)
            width += growth
        shapes |= norm(f"xvector.transit{block}.nonlinear.batchnorm", width)
        shapes |= layer(f"xvector.transit{block}.linear", width // 2, width, 1, bias=False)
        width //= 2
    shapes |= norm("xvector.out_nonlinear.batchnorm", width)
    shapes |= layer("xvector.dense.linear", embedding, 2 * width, 1, bias=False)
    shapes |= norm("xvector.dense.nonlinear.batchnorm", embedding, affine=False)
    return {**shapes, **layer("fc", classes, embedding)}


def tdnn(width: int, embedding: int, bands: int = 80) -> Shapes:
    """Names and shapes of a TDNN of macls with its attentive pooling."""
    shapes: Shapes = {}
    for number, kernel in enumerate((5, 3, 3, 1, 1), start=1):
        shapes |= layer(f"td_layer{number}", width, bands if number == 1 else width, kernel)
    for number in range(1, 5):
        shapes |= norm(f"bn{number}", width)
    shapes |= {**layer("pooling.tdnn.conv.conv", 128, 3 * width, 1), **norm("pooling.tdnn.norm.norm", 128)}
    shapes |= {**layer("pooling.conv.conv", width, 128, 1), **norm("bn5", 2 * width)}
    shapes |= {
        **layer("linear", embedding, 2 * width),
        **norm("bn6", embedding),
        **layer("fc", len(CLASSES), embedding),
    }
    return shapes


def drawn(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors of those shapes, with statistics that a batch norm could have."""
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(12)
        elif name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            tensors[name] = 0.5 + torch.rand(shape, generator=generator)
        else:
            fan = math.prod(shape[1:]) if len(shape) > 1 else 25
            tensors[name] = torch.randn(shape, generator=generator) / math.sqrt(fan)
    return tensors


def settings(model: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The YAML of macls, with what its files say where nobody changed them."""
    return {
        "dataset_conf": {
            "dataset": {"min_duration": 0.4, "max_duration": 3, "sample_rate": 16000}
            | {"use_dB_normalization": True}
            | {"target_dB": -20},
            "dataLoader": {"batch_size": 64, "drop_last": True, "num_workers": 8},
            "label_list_path": "dataset/label_list.txt",
        },
        "preprocess_conf": {
            "use_hf_model": False,
            "feature_method": "Fbank",
            "method_args": {"sample_frequency": 16000, "num_mel_bins": 80},
        },
        "model_conf": {"model": model, "model_args": {"num_class": None, **(arguments or {})}},
        "optimizer_conf": {"optimizer": "Adam", "optimizer_args": {"lr": 0.001, "weight_decay": 1e-5}},
        "train_conf": {"enable_amp": False, "label_smoothing": 0.1, "max_epoch": 60},
    }


def write(
    folder: Path,
    tables: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    classes: Sequence[str] = CLASSES,
    config: str = "model.yml",
) -> Path:
    """Write a checkout of macls with a trained model, and return the model's folder."""
    name = tables["model_conf"]["model"]
    best = folder / "models" / f"{name}_Fbank" / "best_model"
    for place in (best, folder / "configs", folder / "dataset"):
        place.mkdir(parents=True, exist_ok=True)
    torch.save(dict(tensors), best / "model.pth")
    state = {"last_epoch": 7, "accuracy": 0.9, "version": "1.0.6", "model": name, "feature_method": "Fbank"}
    (best / "model.state").write_text(json.dumps(state))
    (folder / "configs" / config).write_text(yaml.safe_dump(tables))
    (folder / "dataset" / "label_list.txt").write_text("".join(f"{one}\n" for one in classes))
    return best
