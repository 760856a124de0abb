"""Scores windows with an exported model, by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundbench.data.windowing.packing import RawBatch
from soundbench.errors import NotInstalled, RunError
from soundbench.machine import auto_threads
from soundbench.model.exported.metadata import Metadata, RejectRule
from soundbench.model.exported.onnx_file import read_onnx

__all__ = ["ExportedScorer"]

Values = NDArray[np.float32]

_INPUTS = {"waveform", "lengths"}
_OUTPUTS = {"scores", "logits", "embeddings"}


class ExportedScorer:
    """An ONNX file of `soundbench export`, ready to score batches of windows as `Scorer` does; threads may share it.

    Args:
        path: the file.

    Raises:
        RunError: it cannot be used.
        NotInstalled: ONNX Runtime is missing.
    """

    def __init__(self, path: Path) -> None:
        data, values = read_onnx(path)
        self.metadata = Metadata.of(values, str(path))
        self._session = _session(path, data)
        wanted = _OUTPUTS | ({"reject"} if self.metadata.reject else set())
        given = {value.name for value in self._session.get_inputs()}, {v.name for v in self._session.get_outputs()}
        if given[0] != _INPUTS or not wanted <= given[1]:
            raise RunError(f"{path}: damaged: its inputs and outputs are not those of format 1")

    @property
    def rejector(self) -> RejectRule | None:
        """Says which sound is of none of the classes; None where nothing is rejected."""
        return self.metadata.reject

    def set_evaluation(self) -> None:
        """There is nothing to set: an exported model does not train."""

    def window_limits(self, rate: int) -> tuple[int, int]:
        """The shortest and the longest window that may be asked for, in samples."""
        return self.metadata.window_limits

    def described(self) -> str:
        """The model in a few words."""
        uses = (
            self.metadata.values.get("components", {}).get(kind, {}).get("use") for kind in ("featurizer", "backbone")
        )
        return f"{', '.join(filter(None, uses))}, ONNX"

    def rated(self, raw: RawBatch) -> Values:
        """The scores of each window of a batch and its evidence, `(B, K + 2)`; see `Scorer.rated`."""
        if self.rejector is None:
            (scores,) = self.outputs(raw, "scores")
            reject = np.zeros(len(scores), np.float32)
        else:
            scores, reject = self.outputs(raw, "scores", "reject")
        loud = np.asarray(raw.samples).any(axis=1)
        found: Values = np.concatenate([scores, reject[:, None], loud[:, None]], axis=1, dtype=np.float32)
        return found

    def logits(self, raw: RawBatch) -> Values:
        """The logits of each window of a batch, `(B, K)`: the output of the network, not calibrated."""
        return self.outputs(raw, "logits")[0]

    def embeddings(self, raw: RawBatch) -> Values:
        """The embedding of each window of a batch, `(B, D)`: the input of the last layer."""
        return self.outputs(raw, "embeddings")[0]

    def outputs(self, raw: RawBatch, *names: str) -> list[Values]:
        """These outputs of the program for the windows of a batch, whose arrays may be tensors."""
        waveform = np.asarray(raw.samples, np.float32) * np.asarray(raw.scales)[:, None]
        found: list[Values] = self._session.run(list(names), {"waveform": waveform, "lengths": np.asarray(raw.lengths)})
        return found


def _session(path: Path, data: bytes) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        text = 'pip install onnxruntime, or "soundbench[export]"'
        raise NotInstalled(f"{path}: an ONNX file needs onnxruntime, which is not installed: {text}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = auto_threads(), 1
    options.log_severity_level = 4  # an error is raised; what else there is to say is not for a user
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise RunError(
            f"{path}: damaged, or needs a newer onnxruntime than {onnxruntime.__version__}: {text}"
        ) from None
