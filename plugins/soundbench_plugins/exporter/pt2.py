"""The file of `torch.export`, which PyTorch loads without the code of the model: `torch.export.load("model.pt2")`.

The metadata are in the file's extra file `soundbench`, as JSON. What is loaded is called with
`module(check_guards=False)`: tracing notes as conditions what the sizes of its example happened to fulfil, such as more
than one row, although the program does not depend on it.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from soundbench.contracts import Program
from soundbench.errors import RunError
from soundbench_plugins.layers.exporting import exported

__all__ = ["PT2"]

_KEY = "soundbench"


class PT2:
    """A program of PyTorch (`torch.export`)."""

    suffix: ClassVar[str] = ".pt2"

    def __init__(self, program: Program) -> None:
        self.program = program

    def export(self) -> bytes:
        """The content of the file."""
        made, file = exported(self.program), io.BytesIO()
        about = {"metadata": dict(self.program.metadata), "inputs": list(self.program.inputs)}
        torch.export.save(made, file, extra_files={_KEY: json.dumps(about | {"outputs": self.program.outputs})})
        return file.getvalue()

    @staticmethod
    def read(data: bytes) -> PT2Runner:
        """What computes with the content of a file."""
        extra = {_KEY: ""}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program = torch.export.load(io.BytesIO(data), extra_files=extra).module(check_guards=False)
            about = json.loads(extra[_KEY])
            return PT2Runner(program, about["metadata"], about["inputs"], about["outputs"])
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise RunError(f"not a pt2 file of soundbench, or damaged: {type(error).__name__}: {text}") from None


class PT2Runner:
    """Computes with a file of `torch.export`."""

    def __init__(self, module: Any, metadata: Mapping[str, Any], inputs: list[str], outputs: list[str]) -> None:
        self.module, self.metadata, self.inputs, self.outputs = module, metadata, inputs, outputs

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs by their names."""
        with torch.inference_mode():
            given = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in self.inputs]
            found = self.module(*given)
        return {name: tensor.numpy() for name, tensor in zip(self.outputs, found, strict=True)}
