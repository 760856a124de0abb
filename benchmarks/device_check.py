"""What a GPU has to show, in one command of at most five minutes: a Markdown table, without a network or sound files.

    python benchmarks/device_check.py [--device auto] [--minutes 5] [--only engine store ...] [--out TABLE.md]

| check | what it measures |
|---|---|
| engine | clips/s of training CAM++, soundbench's engine over a bare loop, on batches in the device's memory |
| store | the engine with windows from the store, read by 0, 1 and 4 workers, over the bare loop |
| infer | files/s and windows/s of a folder of WAV files, over the network alone on windows in the device's memory |
| precision | clips/s of training, and the device's memory, in each precision |
| tests | `pytest -m gpu`: a GPU's scores and losses are the CPU's, resuming, fp16 and bf16, one process over NCCL |
| compile | clips/s of training with `train.compile` "on" and "graphs" over "off", on a GPU alone |

All sound is synthetic. Each check runs in a process of its own, so that one that fails or takes too long costs its own
rows only. On a CPU sizes are small, figures say little, and what is skipped is named. The table is printed, and written
after each check where `--out` says. The exit status is 1 if a check failed; a goal that is missed is no failure. It
needs what soundbench needs (PyTorch from 2.7; the extra `export`, which wants 2.9, has no part in it), and pytest.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import attrs
import torch
from device_measures import CHECKS, Place, Row
from turns import line

import soundbench
from soundbench.errors import CallError
from soundbench.machine import cores, settle

# The least time that a check is started with, in seconds.
LEAST = 10


def checked(name: str, device: str, limit: float) -> list[Row]:
    """The rows of a check in a process of its own; where it fails or ends too late, those that it had by then."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "rows.jsonl"
        command = [sys.executable, __file__, "--device", device, "--only", name, "--rows", str(found)]
        own = {**os.environ, "TMPDIR": folder}  # what a killed check leaves behind goes with it
        process = subprocess.Popen(command, stdout=sys.__stderr__, env=own, process_group=0)
        try:
            status = process.wait(limit)
            error = f"ended with status {status}" if status else ""
        except subprocess.TimeoutExpired:
            error = f"not done after {limit:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started may be left, too
            process.wait()
        lines = found.read_text(encoding="utf-8").splitlines(keepends=True) if found.exists() else []
    rows = [Row(**json.loads(text)) for text in lines if text.endswith("\n")]
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return [*rows, Row(name, "the check itself", error, "", "failed")] if error else rows


def work(name: str, device: str, found: Path) -> None:
    """Do one check in this process; each row is a line of JSON in a file as soon as it is there."""

    def keep(row: Row) -> None:
        with open(found, "a", encoding="utf-8") as file:
            file.write(json.dumps(attrs.asdict(row)) + "\n")

    try:
        for row in CHECKS[name][0](Place(device, Path(tempfile.mkdtemp()))):
            keep(row)
    except Exception as error:
        traceback.print_exc()
        keep(Row(name, "the check itself", f"{type(error).__name__}: {error}"[:200], "", "failed"))


def table(rows: Sequence[Row], device: str) -> str:
    """The rows below a line that describes the machine."""
    where = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"CPU ({platform.machine()})"
    version = f", CUDA {torch.version.cuda}" if device.startswith("cuda") else ""
    about = f"{where}, {cores()} cores, PyTorch {torch.__version__}{version}, Python {platform.python_version()}, "
    about += f"soundbench {soundbench.__version__}; {datetime.date.today():%d %B %Y}"
    head = [line(("check", "what", "figure", "goal", "")), line(["---"] * 5)]
    cells = [line(re.sub(r"[|\n]", " ", cell) for cell in attrs.astuple(row)) for row in rows]
    return "\n".join([about, "", *head, *cells, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--out", type=Path, help="a file for the table")
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rows:
        work(options.only[0], options.device, options.rows)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no check is left behind
    try:
        device = str(settle(options.device).device)
    except CallError as error:
        sys.exit(str(error))
    end, rows = time.monotonic() + 60 * options.minutes, []
    for name in options.only:
        left = end - time.monotonic()
        if left < LEAST:
            rows.append(Row(name, "the check itself", f"{options.minutes:g} minutes are over", "", "skipped"))
        else:
            rows += checked(name, device, min(left, CHECKS[name][1]))
        if options.out:  # after each check, so that little is lost if this is stopped
            options.out.write_text(table(rows, device), encoding="utf-8")
    print(table(rows, device))
    sys.exit(any(row.verdict == "failed" for row in rows))


if __name__ == "__main__":
    main()
