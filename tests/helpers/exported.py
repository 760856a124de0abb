"""A small ONNX file as `soundbench export` writes them, made by hand, and what it computes in NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = ("low", "high", "quiet")
RATE = 8000
# Features (power, mean size, power of the difference) to logits, and what calibrates those.
WEIGHTS = np.array([[-40.0, 30.0, 5.0], [9.0, -3.0, -8.0], [-50.0, 60.0, 1.0]], np.float32)
DIVISOR = 1.5

METADATA: dict[str, Any] = {
    "format": 1,
    "made_by": "soundbench 0.1.0",
    "classes": list(CLASSES),
    "multilabel": False,
    "thresholds": None,
    "rate": RATE,
    "window": 1600,
    "hop": 800,
    "trim": "off",
    "level": "off",
    "shortest_window": 80,
    "longest_window": 600 * RATE,
    "calibration": None,
    "reject": {"use": "power", "clip_threshold": -9.0, "window_threshold": -8.0, "silence": True},
    "components": {"featurizer": {"use": "three"}, "backbone": {"use": "none"}},
    "weights": "0" * 32,
    "card": {"name": "by-hand", "parameters": 9, "macs": 9},
}


def expected(waveform: np.ndarray) -> tuple[np.ndarray, float]:
    """The scores `(K,)` and the reject score of one window, in float64."""
    sound = waveform.astype(np.float64)
    power = np.square(sound).mean()
    features = np.array([power, np.abs(sound).mean(), np.square(np.diff(sound)).sum() / len(sound)])
    scores = np.exp(features @ WEIGHTS.astype(np.float64) / DIVISOR)
    return scores / scores.sum(), float(np.log(power + 1e-6))


def model(metadata: Any = METADATA, classes: int = len(CLASSES)) -> onnx.ModelProto:
    """The program, with these metadata; None for none."""
    constants = {
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "ones": np.array([1], np.int64),
        "zeros": np.array([0], np.int64),
        "end": np.array([np.iinfo(np.int64).max], np.int64),
        "last": np.array([-1], np.int64),
        "tiny": np.array(1e-6, np.float32),
        "divisor": np.array(DIVISOR, np.float32),
        "weights": WEIGHTS[:, :classes],
    }
    steps = [
        ("Shape", ["waveform"], "shape", {"start": 1, "end": 2}),
        ("Squeeze", ["shape"], "size", {}),
        ("Range", ["zero", "size", "one"], "places", {}),
        ("Unsqueeze", ["lengths", "ones"], "column", {}),
        ("Less", ["places", "column"], "inside", {}),
        ("Cast", ["inside"], "mask", {"to": TensorProto.FLOAT}),
        ("Mul", ["waveform", "mask"], "sound", {}),
        ("Cast", ["column"], "count", {"to": TensorProto.FLOAT}),
        ("ReduceSumSquare", ["sound", "ones"], "squares", {}),
        ("Div", ["squares", "count"], "power", {}),
        ("ReduceL1", ["sound", "ones"], "sizes", {}),
        ("Div", ["sizes", "count"], "mean", {}),
        ("Slice", ["sound", "ones", "end", "ones"], "later", {}),
        ("Slice", ["sound", "zeros", "last", "ones"], "earlier", {}),
        ("Slice", ["mask", "ones", "end", "ones"], "mask_later", {}),
        ("Sub", ["later", "earlier"], "difference", {}),
        ("Mul", ["difference", "mask_later"], "valid", {}),
        ("ReduceSumSquare", ["valid", "ones"], "changes", {}),
        ("Div", ["changes", "count"], "rough", {}),
        ("Concat", ["power", "mean", "rough"], "embeddings", {"axis": 1}),
        ("MatMul", ["embeddings", "weights"], "logits", {}),
        ("Div", ["logits", "divisor"], "calibrated", {}),
        ("Softmax", ["calibrated"], "scores", {"axis": 1}),
        ("Add", ["power", "tiny"], "above", {}),
        ("Log", ["above"], "logs", {}),
        ("Squeeze", ["logs", "ones"], "reject", {}),
    ]
    nodes = [helper.make_node(kind, given, [out], **options) for kind, given, out, options in steps]
    shapes = {"scores": ["batch", classes], "logits": ["batch", classes], "embeddings": ["batch", 3]}
    inputs = [
        helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", "samples"]),
        helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (shapes | {"reject": ["batch"]}).items()
    ]
    kept = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "by_hand", inputs, outputs, kept)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if metadata is not None:
        helper.set_model_props(made, {"soundbench": metadata if isinstance(metadata, str) else json.dumps(metadata)})
    return made


def write(path: Path, metadata: Any = METADATA, classes: int = len(CLASSES)) -> Path:
    path.write_bytes(model(metadata, classes).SerializeToString())
    return path
