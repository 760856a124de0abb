"""Decode mutated sound files in a process of its own, with limits: what each gives, and how long it takes.

Called as a program: reads a seed and numbers of mutations, and writes one JSON object a line.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.sound_files import files

__all__ = ["mutated", "run"]

resource = pytest.importorskip("resource")  # limits a process, on POSIX systems

MEMORY = 1 << 30
SECONDS = 5.0
# Bytes by which formats are recognised and divided.
WORDS = [
    b"data",
    b"fmt ",
    b"RIFF",
    b"OggS",
    b"fLaC",
    b"ID3\4\0\0",
    b"TAG",
    b"SSND",
    b"moov",
    b"\xff\xfb",
    bytes(8),
    b"\xff" * 8,
]


def mutated(data: bytes, draw: random.Random) -> bytes:
    """The file with one to four changes: bits, a cut, zeros, a size, a splice, a word."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        if len(found) < 16:
            break
        head = min(len(found), 256)
        place = draw.randrange(head if draw.random() < 0.5 else len(found))
        kind = draw.randrange(6)
        if kind == 0:
            for _ in range(draw.choice((1, 1, 8, 64))):
                found[draw.randrange(head if draw.random() < 0.3 else len(found))] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del found[place : len(found) if draw.random() < 0.5 else place + draw.randrange(1, 4096)]
        elif kind == 2:
            count = min(draw.choice((4, 64, 4096)), len(found) - place)
            found[place : place + count] = bytes([draw.choice((0, 255))]) * count
        elif kind == 3:
            place -= place % 4
            found[place : place + 4] = draw.choice((0, 1, 7, 0xFFFF, 1 << 31, (1 << 32) - 1, (1 << 32) - 8)).to_bytes(
                4, draw.choice(("little", "big"))
            )
        elif kind == 4:
            other = draw.randrange(len(found))
            found[place:place] = found[other : other + draw.choice((16, 1024, len(found)))]
        else:
            word = draw.choice(WORDS)
            found[place : place + len(word)] = word
    return bytes(found)


def run(numbers: Sequence[int], seed: int = 0) -> list[dict[str, Any]]:
    """What each of the mutations of these numbers gives; the last one of a process that died is a crash.

    The result has `number`, `file`, `seconds` and one of `samples`, `error` (the text of a `SoundError`) and `crash`.
    """
    found: list[dict[str, Any]] = []
    left = list(numbers)
    while left:
        words = [sys.executable, "-m", "helpers.fuzzing", str(seed), *map(str, left)]
        paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": paths}
        ) as child:
            out, errors = child.communicate(timeout=60 + 10 * SECONDS)
        done = [json.loads(line) for line in out.splitlines()]
        found += done
        left = left[len(done) :]
        if child.returncode and left:
            found.append({"number": left.pop(0), "crash": f"exit {child.returncode}: {errors[-2000:].decode()}"})
    return found


def _one(number: int, seed: int) -> dict[str, Any]:
    import soundbench.audio as audio
    from soundbench.errors import SoundError

    draw = random.Random(f"{seed} {number}")
    name = draw.choice(sorted(files(0.6)))
    data = mutated(files(0.6)[name], draw)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + 3 * SECONDS), resource.RLIM_INFINITY))
    result: dict[str, Any] = {"number": number, "file": name}
    began = time.process_time()
    try:
        samples, _ = audio.decode(data)
        result["samples"] = len(samples)
        assert np.isfinite(samples).all()
        result["blocks"] = sum(map(len, audio.blocks(data, 16000))) > 0
        audio.info(data)
        audio.decode(data, 0.0, 0.0001)
    except SoundError as error:
        result["error"] = str(error)
    except Exception as error:
        result["crash"] = f"{type(error).__name__}: {error}"
    result["seconds"] = time.process_time() - began
    return result


def _all(seed: int, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    import soundbench.audio  # noqa: F401

    files(0.6)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY + _mapped(), resource.RLIM_INFINITY))
    for number in numbers:
        yield _one(number, seed)


def _mapped() -> int:
    """The memory that the process has mapped already, most of it libraries."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    for result in _all(int(sys.argv[1]), [int(word) for word in sys.argv[2:]]):
        print(json.dumps(result), flush=True)
