"""Names outside of the encoding of standard output: nothing crashes, and what goes to programs is UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

# Without the two variables that make Python take UTF-8 all the same, the locale C has ASCII.
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
BIRD, ACUTE = "\N{BIRD}", "\N{LATIN SMALL LETTER E WITH ACUTE}"


@pytest.mark.parametrize(
    ("given", "last"),
    [
        (ASCII, f"{BIRD}: 1; {ACUTE}: 3".encode()),
        ({"PYTHONIOENCODING": "cp1252"}, b"\\U0001f426: 1; \xe9: 3"),  # as the user says
    ],
    ids=["ascii by the locale", "cp1252 by PYTHONIOENCODING"],
)
def test_a_name_that_the_encoding_has_not_is_printed(given: dict[str, str], last: bytes, tmp_path: Path) -> None:
    for number in range(4):
        samples = 0.1 * np.random.default_rng(number).standard_normal(16_000)
        soundfile.write(tmp_path / f"{number}.wav", samples, 16_000)
    rows = [f"{number}.wav,{BIRD if number == 0 else ACUTE},{number}" for number in range(4)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,group", *rows]), encoding="utf-8")
    table = 'backbone = "mobilenet"\n[dataset]\nuse = "manifest"\npath = "list.csv"\n[audio]\nwindow = 1.0\n'
    (tmp_path / "recipe.toml").write_text(table, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"} | given
    command = [sys.executable, "-m", "soundbench", "data", "check", "recipe.toml"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert b"Traceback" not in done.stderr, done.stderr
    assert done.stdout.rstrip().endswith(last), (done.stdout, done.stderr)
