"""Counts of a sound's windows or events: a row a class, from rows that arrive in the order of their starts."""

from __future__ import annotations

import attrs

from soundbench.inference.formats.base import Count, Row

__all__ = ["Counts"]


class Counts:
    """Counts the labels of one sound's rows."""

    def __init__(self) -> None:
        self._found: dict[str, Count] = {}
        self._until: dict[str, float] = {}  # how far the rows of a class reach

    def add(self, row: Row) -> None:
        """Count the labels of a window or an event."""
        start, end = row.start or 0.0, row.end or 0.0
        for label, score in row.labels.items():
            known = self._found.get(label) or Count(
                row.path, label, best_score=score, first_start=start, first_begin_time=row.begin_time
            )
            self._found[label] = attrs.evolve(
                known,
                count=known.count + 1,
                seconds=known.seconds + max(0.0, end - max(start, self._until.get(label, 0.0))),
                best_score=max(known.best_score or 0.0, score),
            )
            self._until[label] = max(end, self._until.get(label, 0.0))

    def take(self, path: str) -> list[Count]:
        """The counts of the sound, in the order in which its classes began; one without a class if it has none."""
        found = list(self._found.values()) or [Count(path)]
        self._found, self._until = {}, {}
        return found
