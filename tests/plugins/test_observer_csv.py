from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import TESTS
from helpers.observers import run_info, take_steps
from soundbench_plugins.observer.csv_log import CsvLog

from soundbench.errors import RunError


def told(directory: Path, steps: range, start_step: int = 0, **options: str) -> None:
    take_steps(CsvLog, directory, steps, start_step=start_step, **options)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_each_time_it_is_told(tmp_path: Path) -> None:
    told(tmp_path, range(1, 4))

    table = rows(tmp_path / "progress.csv")
    assert list(table[0]) == ["step", "epoch", "loss", "rate", "clips_per_second", "seconds"]
    assert [row["step"] for row in table] == ["1", "2", "3"]
    assert table[2]["loss"] == "0.333333"
    assert float(table[2]["seconds"]) >= float(table[0]["seconds"]) >= 0


def test_a_resumed_run_cuts_what_lies_beyond_its_checkpoint(tmp_path: Path) -> None:
    told(tmp_path, range(1, 8))
    told(tmp_path, range(5, 10), start_step=4)

    assert [int(row["step"]) for row in rows(tmp_path / "progress.csv")] == list(range(1, 10))


def test_a_run_from_the_start_keeps_nothing(tmp_path: Path) -> None:
    told(tmp_path, range(1, 8))
    told(tmp_path, range(1, 3))

    assert [row["step"] for row in rows(tmp_path / "progress.csv")] == ["1", "2"]


def test_seconds_go_on_after_a_resume(tmp_path: Path) -> None:
    told(tmp_path, range(1, 3))
    path = tmp_path / "progress.csv"
    path.write_text(path.read_text().replace(path.read_text().rsplit(",", 1)[1], "100.00\n"))
    told(tmp_path, range(3, 4), start_step=2)

    assert float(rows(path)[-1]["seconds"]) >= 100


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_torn_last_row_is_cut_wherever_it_is_torn(tmp_path: Path, cut: int) -> None:
    told(tmp_path, range(1, 5))
    path = tmp_path / "progress.csv"
    path.write_bytes(path.read_bytes()[:-cut])
    told(tmp_path, range(5, 6), start_step=4)

    table = rows(path)
    steps = [int(row["step"]) for row in table]
    assert steps in ([1, 2, 3, 5], [1, 2, 5])
    assert all(None not in row.values() and None not in row for row in table)


def test_a_killed_process_leaves_a_table_that_goes_on(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from helpers.observers import take_steps\n"
        "from soundbench_plugins.observer.csv_log import CsvLog\n"
        "print('going', flush=True); take_steps(CsvLog, Path(sys.argv[1]), range(1, 10**9))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(TESTS)], stdout=subprocess.PIPE)
    path = tmp_path / "progress.csv"
    while not (path.exists() and path.stat().st_size > 1000):
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    told(tmp_path, range(11, 12), start_step=10)

    assert [int(row["step"]) for row in rows(path)] == [*range(1, 11), 11]


@pytest.mark.parametrize("file", ["../up.csv", "a/b.csv", "/tmp/x.csv", "table.txt", "history.csv", ""])
def test_a_name_that_is_not_its_own_is_refused(tmp_path: Path, file: str) -> None:
    with pytest.raises(ValueError, match=r"a name that ends in \.csv, and none of clips\.csv") as caught:
        CsvLog(run_info(tmp_path), file=file)

    assert str(caught.value).endswith(f', is "{file}"')


def test_another_table_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")

    with pytest.raises(RunError, match=r"mine\.csv: not a progress table: its first row is 'a,b'"):
        told(tmp_path, range(1, 2), file="mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "a,b\n1,2\n"
