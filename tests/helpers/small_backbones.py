"""Options that make each built-in backbone small, with every kind of layer that it has."""

from __future__ import annotations

from typing import Any

# Networks as deep as by default take a minute each to export; benchmarks/export.py compares those.
SMALL_BACKBONES: dict[str, dict[str, Any]] = {
    "campplus": {"layers": [2, 2, 2], "growth": 16, "width": 64, "front": 16},
    "ecapa-tdnn": {"channels": 64, "aggregation": 96, "scale": 4},
    "eres2net": {"layers": [1, 2, 1, 1], "width": 16},
    "eres2netv2": {"layers": [1, 1, 1, 1], "width": 16},
    "mobilenet": {"width": 0.4},
    "panns-cnn6": {"channels": [16, 32, 64, 64]},
    "panns-cnn10": {"channels": [16, 32, 64, 64]},
    "panns-cnn14": {"channels": [8, 16, 32, 64, 64, 64]},
    "res2net": {"layers": [1, 2, 1, 1]},
    "resnet-se": {"layers": [1, 2, 1, 1], "widths": [16, 24, 32, 48]},
    "tdnn": {"channels": 96},
}
