"""Parquet: the columns of CSV with types. Times are float64, scores float32, labels strings; what is unknown is null.

Rows are JSON until the file is written, a group of rows at a time, since a Parquet file cannot be continued.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from soundbench.errors import NotInstalled
from soundbench.inference.formats.base import COUNTED, Count, Format, Row, encoded, iso

__all__ = ["Parquet", "pyarrow"]

# Rows of a group. Readers hold one group in memory, and skip groups by their smallest and largest values.
GROUP = 50_000

_TYPES = {
    "start": "float64",
    "end": "float64",
    "seconds": "float64",
    "first_start": "float64",
    "score": "float32",
    "best_score": "float32",
    "count": "int64",
    "rejected": "bool_",
}


@attrs.frozen
class Parquet(Format):
    """Typed columns, named as in CSV; `labels` is a list. `begin_time` and its like are text, with zones of any kind.

    Raises:
        NotInstalled: pyarrow is not installed.
    """

    name = "parquet"
    suffix = ".parquet"
    dated = True
    text = False

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        pyarrow()

    def lines(self, row: Row | Count, number: int) -> str:
        """The row as JSON, by the names of the columns."""
        if isinstance(row, Count):
            values: dict[str, Any] = {name: getattr(row, name) for name in COUNTED}
            values["first_begin_time"] = iso(row.first_begin_time) or None
        else:
            values = {name: getattr(row, name) for name in self.columns if name not in self.stated}
            values |= {name: iso(values[name]) or None for name in ("begin_time", "end_time") if name in values}
            values |= {"labels": list(row.labels)} if "labels" in values else {}
            values |= {column: (row.scores or {})[label] for label, column in self.score_columns.items()}
        values |= {"path": encoded(row.path).decode(), **self.stated}
        return json.dumps({name: value for name, value in values.items() if value is not None}) + "\n"

    def pack(self, path: Path, sounds: Iterable[str]) -> None:
        """Write the file, with the rows of all sounds."""
        arrow, parquet = pyarrow()
        types = {name: getattr(arrow, _TYPES.get(name, "string"))() for name in self.columns}
        types |= {"labels": arrow.list_(arrow.string())} if "labels" in types else {}
        schema = arrow.schema(types | dict.fromkeys(self.score_columns.values(), arrow.float32()))
        rows: list[dict[str, Any]] = []
        with parquet.ParquetWriter(path, schema) as file:
            for lines in sounds:
                rows += [json.loads(line) for line in lines.splitlines()]
                if len(rows) >= GROUP:
                    file.write_table(arrow.Table.from_pylist(rows, schema))
                    rows = []
            file.write_table(arrow.Table.from_pylist(rows, schema))


def pyarrow() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        NotInstalled: they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise NotInstalled('Parquet needs pyarrow, which is not installed: pip install "soundbench[parquet]"') from None
    return pyarrow, pyarrow.parquet
