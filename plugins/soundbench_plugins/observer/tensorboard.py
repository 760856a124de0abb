"""Curves and images for TensorBoard, in `tensorboard/` of the run directory: `tensorboard --logdir runs`.

A resumed run continues at its checkpoint: later values are purged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from soundbench import files
from soundbench.contracts import RunInfo, hookimpl
from soundbench_plugins.layers.curves import Curves, Picture

__all__ = ["TensorBoard"]


class TensorBoard(Curves):
    """Losses, metrics, learning rate, speed, confusion matrix and spectrograms for TensorBoard.

    Args:
        run: the run.
        spectrograms: number of test clips with a spectrogram; 0 for none.
    """

    def __init__(self, run: RunInfo, *, spectrograms: int = 12) -> None:
        super().__init__(run, spectrograms)
        self._writer: Any = None

    @hookimpl
    def run_started(self) -> None:
        """Open the folder; purge values after the checkpoint that the run continues from."""
        folder = self.run.directory / "tensorboard"
        files.refuse_links(self.run.directory)
        beyond = self.run.start_step + 1 if folder.exists() else None
        self._writer = SummaryWriter(str(folder), purge_step=beyond, flush_secs=10)

    @hookimpl
    def run_finished(self, report: Mapping[str, Any]) -> None:
        """Log the results, and close the file."""
        self._log_results(report)
        self._writer.close()

    @hookimpl
    def run_failed(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    def _write(self, tag: str, value: float, step: int) -> None:
        self._writer.add_scalar(tag, value, step)

    def _write_picture(self, tag: str, picture: Picture, step: int) -> None:
        self._writer.add_image(tag, picture, step, dataformats="HWC")

    def _flush(self) -> None:
        self._writer.flush()
