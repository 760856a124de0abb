"""Tables of Hugging Face datasets in Parquet and Arrow files: their columns, names of classes, and rows."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

from soundbench.errors import DataError
from soundbench.sources import is_remote, open_source

__all__ = ["About", "about", "plain", "rows_of"]

# Rows of sound that are in memory at a time, at least; those that are beside one another in a file come together.
_AT_ONCE = 16
# How a stream of Arrow ends that was written to its end.
_END = b"\xff\xff\xff\xff\0\0\0\0"


@attrs.frozen
class About:
    """What a file says of its columns.

    Attributes:
        columns: the type of each, by its name.
        classes: the names of the classes in columns that hold their numbers, by the column.
    """

    columns: Mapping[str, pa.DataType]
    classes: Mapping[str, tuple[str, ...]]

    @property
    def sounds(self) -> list[str]:
        """The columns of sound that is not decoded."""
        return [name for name, kind in self.columns.items() if _is_sound(kind)]


def _is_sound(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    binary = [own.name for own in kind if pa.types.is_binary(own.type) or pa.types.is_large_binary(own.type)]
    return "bytes" in binary


def about(name: str) -> About:
    """What a file says of its columns; that it is whole is looked at, too.

    Raises:
        MissingDataError: there is no such file.
        DataError: it cannot be read.
    """
    with _named(name):
        if _is_parquet(name):
            with open_source(name, seeks=True) as file, pq.ParquetFile(file) as table:
                schema = table.schema_arrow
        else:
            with open_source(name, seeks=True) as file:
                file.seek(max(file.seek(0, 2) - len(_END), 0))
                if file.read() != _END:
                    raise DataError(f"{name}: has no end; it is cut off, or no stream of Arrow")
            with _stream(name) as reader:
                schema = reader.schema
        return About({field.name: field.type for field in schema}, _classes(schema.metadata or {}))


def rows_of(name: str, columns: list[str], wanted: Sequence[int] | None = None) -> Iterator[tuple[int, list[Any]]]:
    """The number of each row and its values in some columns, in order, without all being in memory.

    Args:
        name: the file.
        columns: the columns, in the order of the values.
        wanted: the rows, in order; None for all.

    Raises:
        DataError: the file cannot be read.
    """
    with _named(name):
        for first, batch in _batches(name, columns, wanted):
            last = first + batch.num_rows
            rows = range(first, last) if wanted is None else _between(wanted, first, last)
            values = [batch.column(batch.schema.get_field_index(column)) for column in columns]
            for row in rows:
                yield row, [value[row - first].as_py() for value in values]


def plain(name: str) -> str:
    """A path; or an address without a query, such as `?download=true`."""
    return name.partition("?")[0] if is_remote(name) else name


def _is_parquet(name: str) -> bool:
    return plain(name).endswith(".parquet")


def _between(rows: Sequence[int], first: int, last: int) -> Sequence[int]:
    """Those of the rows, which are in order, from `first` to before `last`."""
    return rows[bisect_left(rows, first) : bisect_left(rows, last)]


def _batches(name: str, columns: list[str], wanted: Sequence[int] | None) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Stretches of rows in order, each with the number of its first, but groups of Parquet without a wanted row."""
    first = 0
    if not _is_parquet(name):
        with _stream(name) as reader:
            for batch in reader:
                found = batch.select(columns)
                found.validate(full=True)  # damage would lead out of the memory of the file
                yield first, found
                first += batch.num_rows
        return
    with open_source(name, seeks=True) as file, pq.ParquetFile(file) as table:
        for group in range(table.num_row_groups):
            count = table.metadata.row_group(group).num_rows
            if wanted is None or _between(wanted, first, first + count):
                begin = first
                for batch in table.iter_batches(_AT_ONCE, [group], columns):
                    yield begin, batch
                    begin += batch.num_rows
            first += count


@contextmanager
def _stream(name: str) -> Iterator[pa.RecordBatchStreamReader]:
    """The batches of an Arrow file; one of this machine is mapped into memory."""
    with open_source(name) as opened, opened if is_remote(name) else pa.memory_map(name) as file:
        yield pa.ipc.open_stream(file)


def _classes(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """The names of classes by columns, from what the library datasets writes beside the columns."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        named = {column: _names(feature) for column, feature in features.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {column: names for column, names in named.items() if names}


def _names(feature: Any) -> tuple[str, ...]:
    """The names of a feature that is a class, or a list of classes."""
    while isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List", "LargeList"):
        feature = feature.get("feature")
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return ()
    return tuple(map(str, feature.get("names") or ()))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn what pyarrow says of a file into a `DataError` of one line."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name}: cannot be read: {' '.join(str(error).split())}") from error
