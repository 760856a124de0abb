"""A server beside the same model in this process, under load, and under requests that no client should send.

    SOUNDBENCH_DATA=... python benchmarks/serving.py MODEL [--clips 256] [--rounds 5] [--requests 10000]
                                                     [--hostile 500]

The clips are those of UrbanSound8K under SOUNDBENCH_DATA, cut or repeated to three seconds and written as WAV at their
own sample rate. The server is `soundbench serve MODEL` in a process of its own; clients are threads of this one.

- Alone: one client sends one clip after another; each is also given to `Classifier.predict`, in turns.
- 32 clients at once, each with a connection of its own, against the code of `soundbench infer` on the same clips, in
  turns.
- `--requests` requests of 32 clients with the first 0.3 s of the clips, `/predict` and `/events` in turns; the memory
  of the server after each tenth.
- `--hostile` hostile requests, eight at a time, to a server that waits 20 s at most; another client sends clips all the
  while.

The tables that it prints are those of `benchmarks/results/serving.md`.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import attrs
import numpy as np
import soundfile
from hostile import KINDS
from turns import in_turns, line, machine_info, ratio

import soundbench
from soundbench import audio
from soundbench.cli.process import own_process, shorten_waiting
from soundbench.inference.classifier import Classifier
from soundbench.inference.many_files import Done, Wanted, score_files

CLIENTS = 32


@attrs.frozen
class Server:
    process: subprocess.Popen[str]
    port: int

    def memory(self) -> float:
        """MB that it has in memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024


@contextmanager
def serving(model: Path, *options: object) -> Iterator[Server]:
    command = [sys.executable, "-m", "soundbench", "serve", str(model), "--port", "0", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process, int(process.stdout.readline().rstrip("/\n").rpartition(":")[2]))
        finally:
            process.send_signal(signal.SIGTERM)
    if process.returncode:
        raise SystemExit(f"the server ended with {process.returncode}")


class Client:
    """Sends sounds on one connection."""

    def __init__(self, server: Server) -> None:
        self.link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)

    def ask(self, sound: bytes, path: str = "/predict") -> tuple[int, float]:
        """The status of the answer, and the seconds until it was there."""
        began = time.perf_counter()
        self.link.request("POST", path, sound)
        answer = self.link.getresponse()
        answer.read()
        return answer.status, time.perf_counter() - began


def at_once(server: Server, sounds: Sequence[bytes], paths: Sequence[str] = ("/predict",)) -> list[tuple[int, float]]:
    """What `CLIENTS` clients get, who share the sounds."""

    def work(number: int) -> list[tuple[int, float]]:
        client = Client(server)
        mine = range(number, len(sounds), CLIENTS)
        return [client.ask(sounds[at], paths[at // CLIENTS % len(paths)]) for at in mine]

    with ThreadPoolExecutor(CLIENTS) as pool:
        return [one for found in pool.map(work, range(CLIENTS)) for one in found]


def write_clips(folder: Path, count: int, seconds: float) -> list[Path]:
    """Clips of real sound as WAV files."""
    root = Path(os.environ["SOUNDBENCH_DATA"]) / "UrbanSound8K"
    found = sorted(root.glob("audio/fold*/*.wav"))
    paths = []
    for number in range(count):
        samples, rate = audio.decode(found[number * len(found) // count])
        paths.append(folder / f"{seconds:g}-{number:04}.wav")
        soundfile.write(paths[-1], np.resize(samples, round(seconds * rate)), rate, subtype="PCM_16")
    return paths


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def alone(server: Server, classifier: Classifier, paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    client, sounds = Client(server), [path.read_bytes() for path in paths]
    seconds: tuple[list[float], list[float]] = ([], [])
    for path, sound in zip(paths, sounds, strict=True):
        for which in in_turns(2, 2):  # twice each, in both orders
            began = time.perf_counter()
            if which:
                classifier.predict(path)
            elif client.ask(sound)[0] != 200:
                raise SystemExit("a clip was refused")
            seconds[which].append(time.perf_counter() - began)
    served, direct = (one[16:] for one in seconds)
    p50 = [1000 * statistics.median(one) for one in (served, direct)]
    yield f"one client, {len(served)} requests: p50", f"{p50[0]:.1f} ms"
    yield "`Classifier.predict` of the same files, in turns: p50", f"{p50[1]:.1f} ms"
    yield "the first over the second (goal: at most 1.3)", f"{p50[0] / p50[1]:.2f}"


def together(server: Server, classifier: Classifier, paths: Sequence[Path], rounds: int) -> Iterator[tuple[str, str]]:
    sounds = [path.read_bytes() for path in paths]
    seconds: tuple[list[float], list[float]] = ([], [])
    waits: list[float] = []
    for which in (0, 1, *in_turns(rounds, 2)):
        began = time.perf_counter()
        if which:
            done = sum(isinstance(one, Done) for one in score_files(classifier, paths, Wanted("clip")))
        else:
            found = at_once(server, sounds)
            done = sum(status == 200 for status, _ in found)
            waits += [wait for _, wait in found]
        seconds[which].append(time.perf_counter() - began)
        if done != len(paths):
            raise SystemExit("a clip is missing")
    served, direct = (one[1:] for one in seconds)
    waits = waits[len(paths) :]
    speed = [rounds * len(paths) / sum(one) for one in (served, direct)]
    yield f"{CLIENTS} clients at once, {rounds} times {len(paths)} requests", f"{speed[0]:.1f} clips/s"
    yield "`infer` of the same files, in turns", f"{speed[1]:.1f} clips/s"
    yield "the first over the second (goal: at least 0.9)", f"{ratio(direct, served):.2f}"
    yield "its p50, p99", f"{percentile(waits, 0.5):.2f} s, {percentile(waits, 0.99):.2f} s"


def lasting(server: Server, paths: Sequence[Path], requests: int) -> Iterator[tuple[str, str]]:
    sounds = [path.read_bytes() for path in paths]
    part = [sounds[number % len(sounds)] for number in range(requests // 10)]
    statuses: Counter[int] = Counter()
    memory, began = [], time.perf_counter()
    for _ in range(10):
        statuses.update(status for status, _ in at_once(server, part, ("/predict", "/events")))
        memory.append(server.memory())
    took = time.perf_counter() - began
    yield f"{requests:,} requests of {CLIENTS} clients, clips of 0.3 s", f"{requests / took:.0f} a second"
    yield "answers by status", ", ".join(f"{status}: {count:,}" for status, count in statuses.items())
    yield "memory of the server after each tenth, MB", ", ".join(f"{one:.0f}" for one in memory)


def hostile(server: Server, good: bytes, count: int) -> Iterator[tuple[str, str]]:
    """What each kind of request gets, while another client sends clips."""
    done, others = threading.Event(), Counter[int]()
    waits: list[float] = []

    def clips() -> None:
        client = Client(server)
        while not done.is_set():
            status, wait = client.ask(good)
            others[status] += 1
            waits.append(wait)

    thread = threading.Thread(target=clips)
    thread.start()
    memory = [server.memory()]
    names, answers = list(islice(cycle(KINDS), count)), []
    try:
        with ThreadPoolExecutor(8) as pool:
            for answer in pool.map(lambda name: KINDS[name](server.port, good), names):
                answers.append(answer)
                if len(answers) % (count // 5) == 0:
                    memory.append(server.memory())
    finally:
        done.set()
        thread.join()
    for name in KINDS:
        found = Counter(answer for other, answer in zip(names, answers, strict=True) if other == name)
        yield name, ", ".join(f"{answer} ({times})" for answer, times in found.most_common())
    shown = ", ".join(f"{status}: {times:,}" for status, times in others.items())
    yield "**another client meanwhile**", f"{shown}; p50 {percentile(waits, 0.5):.2f} s, at most {max(waits):.2f} s"
    yield "memory of the server before, and after each fifth, MB", ", ".join(f"{one:.0f}" for one in memory)
    if server.process.poll() is not None:
        raise SystemExit("the server has ended")


def show(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print("", line(head), "|---|---|", sep="\n")
    for row in rows:
        print(line(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--hostile", type=int, default=500)
    asked = parser.parse_args()
    shorten_waiting()
    own_process("cpu")  # as `infer` and `serve` do
    classifier = soundbench.load(asked.model, device="cpu")
    print(f"{machine_info()}. Model: {classifier!r}.")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_clips(Path(folder), asked.clips, 3)
        short = write_clips(Path(folder), asked.clips, 0.3)
        with serving(asked.model) as server:
            show(("3-second clips", ""), alone(server, classifier, paths[:64]))
            show(("3-second clips", ""), together(server, classifier, paths, asked.rounds))
            show(("load", ""), lasting(server, short, asked.requests))
        with serving(asked.model, "--timeout", 20) as server:
            show(("request", "answer, and how often"), hostile(server, paths[0].read_bytes(), asked.hostile))


if __name__ == "__main__":
    main()
