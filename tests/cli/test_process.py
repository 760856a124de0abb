"""What the command line sets in its process, which `soundbench.load` and `run` never do in another program's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

AT_THE_END = """
import os, sys
from soundbench.cli.main import main
try:
    main(["--version"])
except SystemExit:
    print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "10000 None False"),
        ({"GOMP_SPINCOUNT": "7"}, "7 None False"),
        ({"OMP_WAIT_POLICY": "active"}, "None active False"),
    ],
)
def test_threads_that_wait_give_up_their_core_soon_unless_the_user_says_otherwise(
    given: dict[str, str], found: str
) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {key: value for key, value in os.environ.items() if key not in names} | given
    command = [sys.executable, "-c", AT_THE_END]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == found


def test_a_command_computes_with_the_threads_that_auto_means() -> None:
    lines = """
import torch
from soundbench.cli.process import own_process
torch.set_num_threads(5)
own_process("cpu")
print(torch.get_num_threads())
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "1\n"
