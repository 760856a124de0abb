"""Curves and images for MLflow, in a store of the run's own in `mlflow/` of the run directory, or in any other one.

The values are those of TensorBoard; the recipe is kept as parameters. A resumed run continues the same run of MLflow:
values up to the last one that it has of a curve are not added again.

Ignite's handler (`ignite.handlers.mlflow_logger`) is not used: it needs the engines, which observers are not given,
works on the one active run of a process, and cannot continue a run.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from soundbench import files
from soundbench.contracts import RunInfo, hookimpl
from soundbench_plugins.layers.curves import Curves, Picture

# A run connects to nobody but its store, and does not wait for minutes for one that does not answer.
for _variable, _value in (
    ("DISABLE_TELEMETRY", "true"),
    ("HTTP_REQUEST_MAX_RETRIES", "2"),
    ("HTTP_REQUEST_TIMEOUT", "10"),
):
    os.environ.setdefault(f"MLFLOW_{_variable}", _value)
try:
    import alembic  # noqa: F401 (a store of SQLite needs it)
    import mlflow
    import sqlalchemy  # noqa: F401
    from mlflow.entities import Metric, Param
except ModuleNotFoundError as error:  # `mlflow` is what two distributions bring
    raise ModuleNotFoundError(str(error), name="mlflow-skinny" if error.name == "mlflow" else error.name) from error

__all__ = ["MLflow"]

# The most seconds that values wait to be written together; and the most that MLflow takes at once.
_WAIT, _VALUES, _PARAMETERS = 10.0, 1000, 100
# The most characters of a parameter's value.
_LONGEST = 6000


class MLflow(Curves):
    """Losses, metrics, learning rate, speed, confusion matrix, spectrograms and the recipe for MLflow.

    Args:
        run: the run.
        spectrograms: number of test clips with a spectrogram; 0 for none.
        store: address of a store or server, such as `sqlite:///mlflow.db`; by default that of `MLFLOW_TRACKING_URI`, or
            if there is none a store in the run directory.
    """

    def __init__(self, run: RunInfo, *, spectrograms: int = 12, store: str = "") -> None:
        super().__init__(run, spectrograms)
        self._store = store or os.environ.get("MLFLOW_TRACKING_URI", "")
        self._folder = run.directory / "mlflow"
        self._client: Any = None
        self._id = ""
        self._waiting: list[Metric] = []
        self._written = time.monotonic()
        self._last: dict[str, int] = {}  # of each curve, the last step that MLflow has

    @hookimpl
    def run_started(self) -> None:
        """Begin a run of MLflow, or continue that of a resumed run."""
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        files.refuse_links(self.run.directory)
        known, database = self._folder / "run_id.txt", self._folder / "mlflow.db"
        if known.exists() and (self._store or database.exists()):
            self._client = mlflow.MlflowClient(self._store or _address(database))
            self._id = known.read_text(encoding="utf-8").strip()
            self._continue()
            return
        self._folder.mkdir(exist_ok=True)
        if self._store:
            self._client = mlflow.MlflowClient(self._store)
            self._begin(known)
            return
        with files.atomic(database) as whole:
            self._client = mlflow.MlflowClient(_address(whole))
            self._begin(known)
        self._client = mlflow.MlflowClient(_address(database))

    @hookimpl
    def run_finished(self, report: Mapping[str, Any]) -> None:
        """Log the results, and end the run of MLflow."""
        self._log_results(report)
        self._flush()
        self._client.set_terminated(self._id, "FINISHED")

    @hookimpl
    def run_failed(self, error: BaseException) -> None:
        """End the run of MLflow as failed, or as killed if somebody stopped it."""
        if self._id:
            self._flush()
            self._client.set_terminated(self._id, "FAILED" if isinstance(error, Exception) else "KILLED")

    def _begin(self, known: Path) -> None:
        """Create the run, in the experiment of its recipe's name."""
        experiment = self._client.get_experiment_by_name(self.run.name)
        if experiment:
            number = experiment.experiment_id
        else:
            place = None if self._store else (self._folder / "artifacts").absolute().as_uri()
            number = self._client.create_experiment(self.run.name, artifact_location=place)
        self._id = self._client.create_run(number, run_name=self.run.directory.name).info.run_id
        parameters = [Param(_name(key), value[:_LONGEST]) for key, value in _flat(self.run.recipe)]
        for start in range(0, len(parameters), _PARAMETERS):
            self._client.log_batch(self._id, params=parameters[start : start + _PARAMETERS])
        files.write_text(known, self._id + "\n")

    def _continue(self) -> None:
        for tag in self._client.get_run(self._id).data.metrics:
            self._last[tag] = max(point.step for point in self._client.get_metric_history(self._id, tag))
        self._client.update_run(self._id, status="RUNNING")

    def _write(self, tag: str, value: float, step: int) -> None:
        name = _name(tag)
        if step > self._last.get(name, -1):
            self._waiting.append(Metric(name, value, round(1000 * time.time()), step))
        if time.monotonic() - self._written > _WAIT:
            self._flush()

    def _write_picture(self, tag: str, picture: Picture, step: int) -> None:
        self._client.log_image(self._id, picture, artifact_file=f"{_name(tag)}.png")

    def _flush(self) -> None:
        while self._waiting:
            self._client.log_batch(self._id, metrics=self._waiting[:_VALUES])
            del self._waiting[:_VALUES]
        self._written = time.monotonic()


def _address(database: Path) -> str:
    return f"sqlite:///{database.absolute()}"


def _name(text: str) -> str:
    """A name with the characters that MLflow allows."""
    return re.sub(r"[^\w .:/-]", "_", text)


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The values of tables within tables, by the names that `--set` has for them."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, str(value)
