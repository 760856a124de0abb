"""One ONNX file, for ONNX Runtime, OpenVINO and others: https://onnx.ai, by `torch.onnx.export`.

Spectra are matrix products, since several runtimes cannot compute a Fourier transform, and batch and length may have
any size. The metadata are one JSON object under `soundbench` in `metadata_props`.

8 bits: static quantisation by ONNX Runtime in the QDQ form, one scale for each channel of weights, of convolutions and
matrix products with constant weights (`Gemm`) alone; all else, the spectrum among it, stays in float32. The ranges of
values are the smallest and largest of the examples.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
import onnxscript  # noqa: F401  # torch.onnx needs it; if it is missing, this says so
import torch
from numpy.typing import NDArray
from onnxruntime import quantization

from soundbench.contracts import Program
from soundbench.errors import RunError
from soundbench_plugins.layers.exporting import exported

__all__ = ["ONNX"]

_KEY = "soundbench"
# The versions of ONNX's operations that `torch.onnx.export` writes.
_LEAST, _MOST = 18, 23


class ONNX:
    """One file for ONNX Runtime, OpenVINO and others.

    Args:
        opset: version of ONNX's operations, from 18 to 23; older runtimes read the lower ones.
    """

    suffix: ClassVar[str] = ".onnx"

    def __init__(self, program: Program, *, opset: int = 18) -> None:
        if not _LEAST <= opset <= _MOST:
            raise ValueError(f"opset must be from {_LEAST} to {_MOST}, is {opset}")
        self.program, self.opset = program, opset

    def export(self) -> bytes:
        """The content of the file."""
        return self._described(self._model(), self.program.metadata)

    def int8(self, examples: Sequence[Mapping[str, NDArray[Any]]]) -> bytes:
        """The content of the file in 8 bits, with the ranges of these examples."""
        model = self._model()
        with tempfile.TemporaryDirectory(prefix="soundbench-") as folder:
            whole, small = Path(folder, "whole.onnx"), Path(folder, "small.onnx")
            onnx.save_model(model, str(whole))
            quantization.quantize_static(
                str(whole),
                str(small),
                _Examples(examples),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                op_types_to_quantize=["Conv", "Gemm"],
            )
            found = onnx.load_model(str(small))
        return self._described(found, self.program.metadata)

    @staticmethod
    def with_metadata(data: bytes, metadata: Mapping[str, Any]) -> bytes:
        """The content of a file with other metadata."""
        return ONNX._described(onnx.load_model_from_string(data), metadata)

    def _model(self) -> onnx.ModelProto:
        """The program as a model of ONNX.

        Raises:
            RunError: torch wrote operations of another version.
        """
        made: Any = torch.onnx.export(
            exported(self.program),
            dynamo=True,
            opset_version=self.opset,
            input_names=list(self.program.inputs),
            output_names=list(self.program.outputs),
            optimize=True,
            verbose=False,
        )
        model = made.model_proto
        del model.graph.value_info[:]  # a runtime infers these shapes itself; some contradict what quantisation finds
        written = {entry.domain: entry.version for entry in model.opset_import}[""]
        if written != self.opset:
            raise RunError(f"opset: {self.opset} was asked for, but torch writes {written}")
        self._name_sizes(model)
        return model

    def _name_sizes(self, model: onnx.ModelProto) -> None:
        """Give the sizes that may vary the names of the program, in place of torch's."""
        names = {}
        for value in model.graph.input:
            for index, name in self.program.dynamic.get(value.name, {}).items():
                names[value.type.tensor_type.shape.dim[index].dim_param] = name
        for value in (*model.graph.input, *model.graph.output):
            for size in value.type.tensor_type.shape.dim:
                if size.dim_param in names:
                    size.dim_param = names[size.dim_param]

    @staticmethod
    def _described(model: onnx.ModelProto, metadata: Mapping[str, Any]) -> bytes:
        """The content of the file of a model with these metadata."""
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, {_KEY: json.dumps(dict(metadata), ensure_ascii=False)})
        data: bytes = model.SerializeToString()
        return data

    @staticmethod
    def read(data: bytes) -> ONNXRunner:
        """What computes with the content of a file, with as many threads as PyTorch would use."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            metadata = json.loads(session.get_modelmeta().custom_metadata_map[_KEY])
        except KeyError:
            raise RunError("an ONNX file, but not of soundbench: it has no metadata of that name") from None
        except Exception as error:
            raise RunError(f"not an ONNX file, or damaged: {' '.join(str(error).split())[:200]}") from None
        return ONNXRunner(session, metadata)


class ONNXRunner:
    """Computes with an ONNX file."""

    def __init__(self, session: Any, metadata: Mapping[str, Any]) -> None:
        self.session, self.metadata = session, metadata
        self.names = [output.name for output in session.get_outputs()]

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs by their names."""
        return dict(zip(self.names, self.session.run(self.names, dict(inputs)), strict=True))


class _Examples(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Gives the examples one by one."""

    def __init__(self, examples: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        self._left = iter(examples)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next example; None after the last."""
        found = next(self._left, None)
        return None if found is None else dict(found)
