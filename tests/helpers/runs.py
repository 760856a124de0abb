"""A recipe of toys, and runs of it: in this process, in another, in two, stopped by hand. Imports no torch."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import soundbench
from helpers import TESTS

TOYS = TESTS / "helpers" / "toys.py"

RECIPE = f"""
dataset = {{ use = "{TOYS}:ToyDataset", clips = 64 }}
augmentation = ["{TOYS}:ToyGain", "{TOYS}:ToyDrop"]
featurizer = "{TOYS}:ToyFeaturizer"
backbone = "{TOYS}:ToyBackbone"
pooling = "{TOYS}:ToyPooling"
head = {{ embedding = 8, norm_after = "affine" }}
loss = "{TOYS}:ToyLoss"
optimizer = "{TOYS}:toy_optimizer"
scheduler = "{TOYS}:toy_scheduler"
calibration = "{TOYS}:ToyCalibration"
reject = "{TOYS}:ToyReject"
observer = []

[split]
test = [4]
validation = 0.2

[audio]
rate = 8000
window = 0.2

[train]
epochs = 3
batch_size = 6
device = "cpu"
precision = "fp32"
threads = 1
"""


def command(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "soundbench", *(str(argument) for argument in arguments)]
    return subprocess.Popen(
        line, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def done(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return out


def weights(run: Path) -> bytes:
    return (run / "model" / "weights.safetensors").read_bytes()


def toy_run(recipe: Path, out: Path, *sets: str, **options: Any) -> Path:
    return soundbench.run(soundbench.read_recipe(recipe, sets), out=out, **options).path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def pair(*arguments: object) -> list[subprocess.Popen[str]]:
    """One command in two processes that know of each other."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    both = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", **place}
    return [command(*arguments, RANK=str(rank), LOCAL_RANK=str(rank), **both) for rank in range(2)]


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a terminal starts it; Ctrl-C is heard whatever started us."""
    line = [sys.executable, "-m", "soundbench", *(str(argument) for argument in arguments)]
    return subprocess.Popen(
        line,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )


def torchrun(*arguments: object) -> subprocess.Popen[str]:
    """What `torchrun` starts as its only process: a file, or `-m` and a module; and its arguments."""
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    line += [str(argument) for argument in arguments]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def steps(run: Path) -> list[int]:
    return sorted(int(path.stem.split("-")[1]) for path in (run / "checkpoints").glob("step-*.pt"))


def wait_for_checkpoint(process: subprocess.Popen[str], run: Path, least: int = 1) -> None:
    """Wait until a run has written a checkpoint of at least so many steps."""
    deadline = time.monotonic() + 100
    while not any(step >= least for step in steps(run)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)
