"""Classifies sound with an ONNX file that `soundbench export` wrote, without torch.

    import soundbench_runtime

    model = soundbench_runtime.load("model.onnx")
    print(model.predict("yard.wav"))

All but this file and `command.py` is soundbench's own code, copied when the distribution is built: see pyproject.toml.
"""

from __future__ import annotations

from soundbench_runtime.errors import SoundbenchError
from soundbench_runtime.inference.classifier import Classifier
from soundbench_runtime.inference.export.using import load_export as load
from soundbench_runtime.inference.predictions import Prediction

__all__ = ["Classifier", "Prediction", "SoundbenchError", "load"]
