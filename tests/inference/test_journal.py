"""The journal of the files that are done: rows out in the order asked for, from few open files, and damage seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundbench import files
from soundbench.errors import RunError
from soundbench.inference import journal
from soundbench.inference.journal import Journal


def written(folder: Path, processes: int = 3, count: int = 60) -> dict[str, bytes]:
    """Journals of several processes; the rows of each file, some of which are none."""
    draws = np.random.default_rng(0)
    rows = {f"{number}.wav": draws.bytes(int(draws.integers(0, 200))) for number in range(count)}
    for rank in range(processes):
        with Journal(folder, rank) as out:
            for path in list(rows)[rank::processes]:
                out.write(rows[path])
                out.done(path)
    return rows


def test_rows_come_in_the_order_of_the_records(tmp_path: Path) -> None:
    rows = written(tmp_path)
    found = journal.read(tmp_path)

    for order in (list(rows), list(reversed(rows)), np.random.default_rng(1).permutation(list(rows)).tolist()):
        assert list(journal.rows(tmp_path, [found[path] for path in order])) == [rows[path] for path in order]


def test_each_part_is_opened_once_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = written(tmp_path)
    opened: dict[str, list[Any]] = {}

    def counted(path: Path, real: Any = files.open_regular) -> Any:
        opened.setdefault(path.name, []).append(real(path))
        return opened[path.name][-1]

    records = journal.read(tmp_path)
    monkeypatch.setattr(files, "open_regular", counted)

    assert list(journal.rows(tmp_path, [records[path] for path in rows])) == list(rows.values())
    assert {name: len(files) for name, files in opened.items()} == {"0.rows": 1, "1.rows": 1, "2.rows": 1}
    assert all(file.closed for files in opened.values() for file in files)


def test_rows_without_a_record_and_records_with_an_error_give_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path, 0) as out:
        out.write(b"half a file")
        out.done("a.wav", "cannot be read")
        out.write(b"whole")
        out.done("b.wav")
        out.write(b"never done")
    with Journal(tmp_path, 0) as out:
        out.write(b"again")
        out.done("a.wav")

    found = journal.read(tmp_path)
    assert list(journal.rows(tmp_path, [found["a.wav"], found["b.wav"]])) == [b"again", b"whole"]
    assert (tmp_path / "parts/0.rows").read_bytes() == b"half a filewholeagain"


def test_a_part_that_is_shorter_or_missing_is_one_line(tmp_path: Path) -> None:
    rows = written(tmp_path, processes=1)
    found = journal.read(tmp_path)
    part = tmp_path / "parts/0.rows"
    part.write_bytes(part.read_bytes()[:-1])

    with pytest.raises(RunError, match=r"0\.rows: is shorter than its journal says; delete .* and start again$"):
        list(journal.rows(tmp_path, [found[path] for path in rows]))
    part.unlink()
    with pytest.raises(RunError, match=r"o such file or directory$"):
        list(journal.rows(tmp_path, [found[path] for path in rows]))


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    written(tmp_path, processes=1)
    log = tmp_path / "parts/0.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:7], b'{"path": 3, "begin": 0, "end": 1, "error": null}\n', *lines[7:]]))

    with pytest.raises(RunError, match=r"0\.jsonl: damaged: line 8 is not a record$"):
        journal.read(tmp_path)
