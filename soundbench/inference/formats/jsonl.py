"""JSON lines: one object per row, and one per sound that could not be scored."""

from __future__ import annotations

import json

import attrs

from soundbench.inference.formats.base import COUNTED, Count, Format, Row, iso
from soundbench.messages import escaped

__all__ = ["JsonLines"]


@attrs.frozen
class JsonLines(Format):
    """One JSON object per line, in UTF-8, with numbers in full precision."""

    name = "jsonl"
    suffix = ".jsonl"
    dated = True

    def lines(self, row: Row | Count, number: int) -> str:
        """The row as an object."""
        if isinstance(row, Count):
            counted = {name: getattr(row, name) for name in COUNTED}
            counted |= {"first_begin_time": iso(row.first_begin_time) or None} if self.times else {}
            return _line(counted | self.stated)
        values: dict[str, object] = {"path": row.path}
        if row.start is not None:
            values |= {"start": row.start, "end": row.end}
        if self.times:
            values |= {"begin_time": iso(row.begin_time) or None, "end_time": iso(row.end_time) or None}
        values |= {"label": row.label, "score": row.score}
        if row.scores is not None:
            values |= {"nearest": row.nearest, "rejected": row.rejected} if self.rejects else {}
            values |= {"labels": list(row.labels), "scores": dict(row.scores)}
        return _line(values | self.stated)

    def error(self, path: str, reason: str) -> str:
        """An object with the path and the reason."""
        return _line({"path": path, "error": reason})


def _line(values: dict[str, object]) -> str:
    """The values in UTF-8, also if a name is not."""
    return escaped(json.dumps(values, ensure_ascii=False)) + "\n"
