r"""A journal of the files that are done, so that a second call continues where the first was stopped, even by a kill.

    parts/0.rows     the rows that the process of rank 0 wrote, file after file
    parts/0.jsonl    one line per file that is done: its path, and where its rows begin and end in 0.rows
    settings.json    the settings of the work; other settings need another folder

Rows reach the disk before their line in the journal: the next start cuts off rows that have no line, and a torn line.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from soundbench import files, limits
from soundbench.errors import CallError, RunError

__all__ = ["Journal", "check_settings", "read", "rows"]

PARTS, SETTINGS = "parts", "settings.json"
# The most seconds of work that a power cut may lose.
PATIENCE = 1.0

Record = dict[str, Any]
_KINDS: dict[str, Any] = {"path": str, "begin": int, "end": int, "error": (str, type(None))}


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings into a new folder, or check that they are those that the folder was begun with.

    `scores` is not compared: whatever changes it changes `model` too.

    Raises:
        CallError: the folder was begun with other settings, or holds something else.
    """
    files.refuse_links(folder)
    asked = json.loads(json.dumps(settings))
    if (folder / SETTINGS).exists():
        before = files.read_json(folder / SETTINGS, "work", "model")
        differ = [key for key in asked | before if key != "scores" and asked.get(key) != before.get(key)]
        if differ:
            changed = ", ".join(f"{key} {before.get(key)!r}, now {asked.get(key)!r}" for key in differ)
            raise CallError(f"{folder}: was begun with {changed}; use another --out, or the same settings")
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise CallError(f"{folder}: is not empty and holds no results to continue; use another --out")
    files.write_json(folder / SETTINGS, settings)


def read(folder: Path) -> dict[str, Record]:
    """The record of each path from the journals of all processes, with the name of the part that holds its rows."""
    found: dict[str, Record] = {}
    for path in sorted((folder / PARTS).glob("*.jsonl")):
        for record in _records(path, _whole(path)):
            if record["path"] not in found or not record["error"]:
                record["part"] = path.stem
                found[record["path"]] = record
    return found


def rows(folder: Path, records: Iterable[Record]) -> Iterator[bytes]:
    """The rows of each file that is done, in the order of these records; each part is opened once.

    Raises:
        RunError: a part is missing, cannot be read, or is shorter than its journal says.
    """
    with files.explain_os_errors(folder), contextlib.ExitStack() as held:
        parts: dict[str, BinaryIO] = {}
        for record in records:
            name, begin, end = f"{record['part']}.rows", record["begin"], record["end"]
            if name not in parts:
                parts[name] = held.enter_context(files.open_regular(folder / PARTS / name))
            part = parts[name]
            if part.tell() != begin:  # records of one process follow each other: seeking would read them once more
                part.seek(begin)
            data = part.read(end - begin)
            if len(data) < end - begin:
                where = folder / PARTS / name
                raise RunError(f"{where}: is shorter than its journal says; delete {folder} and start again")
            yield data


class Journal:
    """The journal and the rows of one process, opened for appending.

    Args:
        folder: the folder of the results.
        rank: the rank of the process.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder
        self._stem = folder / PARTS / str(rank)
        self._held = contextlib.ExitStack()
        self._waiting: list[str] = []
        self._synced = time.monotonic()

    def __enter__(self) -> Journal:
        with files.explain_os_errors(self.folder):
            self._stem.parent.mkdir(parents=True, exist_ok=True)
            if not self._held.enter_context(files.lock(Path(f"{self._stem}.lock"), wait=False)):
                raise RunError(f"{self.folder}: another process is writing to it")
            journal = Path(f"{self._stem}.jsonl")
            whole = _whole(journal)
            end = max((record["end"] for record in _records(journal, whole)), default=0)
            self._journal = _opened(journal, len(whole))
            self._rows = _opened(Path(f"{self._stem}.rows"), end)
        self._begin = self._rows.tell()
        return self

    def write(self, data: bytes) -> None:
        """Add rows of the current file."""
        with files.explain_os_errors(self.folder):
            self._rows.write(data)

    def done(self, path: str, error: str | None = None, **more: Any) -> None:
        """Mark the current file as done; with an error, its rows are ignored."""
        end = self._rows.tell()
        place = {"begin": end if error else self._begin, "end": end}
        self._waiting.append(json.dumps({"path": path, **place, "error": error, **more}) + "\n")
        self._begin = end
        if time.monotonic() - self._synced > PATIENCE:
            self.sync()

    def sync(self) -> None:
        """Write everything that is done to the disk."""
        with files.explain_os_errors(self.folder):
            for file, text in ((self._rows, ""), (self._journal, "".join(self._waiting))):
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        self._waiting.clear()
        self._synced = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not isinstance(error, RunError):  # otherwise the disk is full or gone
                self.sync()
        finally:
            for file in (self._rows, self._journal):
                with contextlib.suppress(OSError):
                    file.close()
            self._held.close()


def _opened(path: Path, end: int) -> BinaryIO:
    """A file cut off at `end`, and opened to append to it."""
    file = files.open_to_append(path)
    file.truncate(end)
    file.seek(end)
    return file


def _whole(path: Path) -> bytes:
    """A journal's complete lines; none if there is no journal."""
    data = files.read_bytes(path, limits.TABLE) if path.exists() else b""
    return data[: data.rstrip(b"\0").rfind(b"\n") + 1]


def _records(path: Path, lines: bytes) -> Iterator[Record]:
    """The records in the complete lines of a journal."""
    for number, line in enumerate(io.BytesIO(lines), start=1):
        try:
            record = files.parse_json(line)
            if not isinstance(record, dict) or any(
                not isinstance(record.get(key, ...), kind) for key, kind in _KINDS.items()
            ):
                raise ValueError
        except ValueError:
            raise RunError(f"{path}: damaged: line {number} is not a record") from None
        yield record
