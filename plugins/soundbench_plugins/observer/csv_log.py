"""A table of the training's progress in the run directory: one row each time the engine reports it.

Columns: `step` and `epoch`, `loss` and `clips_per_second` since the previous row, learning `rate`, and `seconds` of
training so far. A resumed run continues at its checkpoint: rows after it are removed first, and so is an incomplete
last row.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic

from soundbench import files, limits
from soundbench.contracts import RunInfo, hookimpl
from soundbench.errors import RunError

__all__ = ["CsvLog"]

_COLUMNS = "step,epoch,loss,rate,clips_per_second,seconds\n"
_TAKEN = ("clips.csv", "confusion.csv", "history.csv", "predictions.csv")


class CsvLog:
    """Progress as a CSV table in the run directory.

    Args:
        run: the run.
        file: file name of the table.
    """

    def __init__(self, run: RunInfo, *, file: str = "progress.csv") -> None:
        if Path(file).name != file or not file.endswith(".csv") or file in _TAKEN:
            raise ValueError(f'file must be a name that ends in .csv, and none of {", ".join(_TAKEN)}, is "{file}"')
        self.run = run
        self.path = run.directory / file
        self._before = 0.0
        self._began = monotonic()

    @hookimpl
    def run_started(self) -> None:
        """Keep the rows up to the step at which the run continues."""
        kept = self._kept() if self.path.exists() else []
        self._before = float(kept[-1].rsplit(",", 1)[1]) if kept else 0.0
        files.write_text(self.path, "".join([_COLUMNS, *kept]))
        self._began = monotonic()

    @hookimpl
    def progressed(self, epoch: int, step: int, loss: float, rate: float, clips_per_second: float) -> None:
        """Append a row."""
        seconds = self._before + monotonic() - self._began
        with files.open_to_append(self.path) as file:
            file.write(f"{step},{epoch},{loss:.6g},{rate:.6g},{clips_per_second:.1f},{seconds:.2f}\n".encode())

    def _kept(self) -> list[str]:
        """Complete rows up to the run's first step.

        Raises:
            RunError: the file is not such a table.
        """
        text = files.read_bytes(self.path, limits.TABLE).decode("utf-8", errors="replace")
        head, *rows = text.splitlines(keepends=True) or [_COLUMNS]
        if head != _COLUMNS:
            raise RunError(f"{self.path}: not a progress table: its first row is {head.strip()!r}")
        whole = [row for row in rows if row.endswith("\n") and row.count(",") == _COLUMNS.count(",")]
        return [row for row in whole if int(row.split(",")[0]) <= self.run.start_step]
