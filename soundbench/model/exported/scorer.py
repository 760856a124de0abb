"""Scores windows with an exported model, by ONNX Runtime."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundbench.data.windowing.packing import RawBatch
from soundbench.errors import NotInstalled, RunError
from soundbench.machine import auto_threads, local_processes
from soundbench.model.exported.metadata import Metadata, RejectRule
from soundbench.model.exported.onnx_file import read_onnx

__all__ = ["ExportedScorer"]

Values = NDArray[np.float32]

# Rows that are computed at a time, by a thread of their own: with more, what they need no longer fits into the caches.
_ROWS = 4

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
        self._threads = auto_threads(local_processes())
        self._session = _session(path, data, self._threads)
        wanted = _OUTPUTS | ({"reject"} if self.metadata.reject else set())
        inputs = {value.name for value in self._session.get_inputs()}
        outputs = {value.name: value.shape for value in self._session.get_outputs()}
        if inputs != _INPUTS or not wanted <= set(outputs) or outputs["scores"][1:] != [len(self.metadata.classes)]:
            raise RunError(f"{path}: damaged: its inputs and outputs do not fit its metadata")

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
        tables = (self.metadata.components.get(kind, {}) for kind in ("featurizer", "backbone"))
        return ", ".join([*(str(table["use"]) for table in tables if "use" in table), "ONNX, cpu"])

    def rated(self, raw: RawBatch) -> Values:
        """The scores of each window of a batch and its evidence, `(B, K + 2)`; see `Scorer.rated`."""
        if self.rejector is None:
            (scores,) = self.outputs(raw, "scores")
            reject = np.zeros(len(scores), np.float32)
        else:
            scores, reject = self.outputs(raw, "scores", "reject")
        loud = np.any(np.asarray(raw.samples), axis=1, keepdims=True)
        found: Values = np.concatenate([scores, reject[:, None], loud], axis=1, dtype=np.float32)
        return found

    def logits(self, raw: RawBatch) -> Values:
        """The logits of each window of a batch, `(B, K)`: the output of the network, not calibrated."""
        return self.outputs(raw, "logits")[0]

    def embeddings(self, raw: RawBatch) -> Values:
        """The embedding of each window of a batch, `(B, D)`: the input of the last layer."""
        return self.outputs(raw, "embeddings")[0]

    def outputs(self, raw: RawBatch, *names: str) -> list[Values]:
        """These outputs of the program for the windows of a batch, whose arrays may be tensors."""
        return self.run(np.asarray(raw.samples, np.float32) * np.asarray(raw.scales)[:, None], raw.lengths, *names)

    def run(self, waveform: Values, lengths: Any, *names: str) -> list[Values]:
        """These outputs of the program for waveforms `(B, S)` and lengths `(B,)`."""
        inputs = {"waveform": waveform, "lengths": np.asarray(lengths)}

        def run(first: int) -> list[Values]:
            found: list[Values] = self._session.run(
                list(names), {name: rows[first : first + _ROWS] for name, rows in inputs.items()}
            )
            return found

        starts = range(0, len(waveform), _ROWS)
        if len(starts) == 1 or self._threads == 1:
            parts = list(map(run, starts))
        else:
            with ThreadPoolExecutor(min(self._threads, len(starts))) as pool:
                parts = list(pool.map(run, starts))
        return [np.concatenate(rows) for rows in zip(*parts, strict=True)]


def _session(path: Path, data: bytes, threads: int) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        text = 'pip install onnxruntime, or "soundbench[export]"'
        raise NotInstalled(f"{path}: an ONNX file needs onnxruntime, which is not installed: {text}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting awake took half of all time
    options.log_severity_level = 4  # an error is raised; what else there is to say is not for a user
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise RunError(
            f"{path}: damaged, or needs a newer onnxruntime than {onnxruntime.__version__}: {text}"
        ) from None
