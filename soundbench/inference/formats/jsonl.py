"""JSON lines: one object per row, and one per sound that could not be scored."""

from __future__ import annotations

import json

import attrs

from soundbench.inference.formats.base import Format, Row, iso

__all__ = ["JsonLines"]


@attrs.frozen
class JsonLines(Format):
    """One JSON object per line, in UTF-8, with numbers in full precision."""

    name = "jsonl"
    suffix = ".jsonl"
    dated = True

    def lines(self, row: Row, number: int) -> str:
        """The row as an object."""
        values: dict[str, object] = {"path": row.path}
        if row.start is not None:
            values |= {"start": row.start, "end": row.end}
        if self.times:
            values |= {"begin_time": iso(row.begin_time) or None, "end_time": iso(row.end_time) or None}
        values |= {"label": row.label, "score": row.score}
        if row.scores is not None:
            values |= {"labels": list(row.labels), "scores": dict(row.scores)}
        return json.dumps(values, ensure_ascii=False) + "\n"

    def error(self, path: str, reason: str) -> str:
        """An object with the path and the reason."""
        return json.dumps({"path": path, "error": reason}, ensure_ascii=False) + "\n"
