"""`soundbench-runtime` beside soundbench: the first answer, one clip, a folder, and an hour's stream.

    python benchmarks/runtime.py RUN MODEL.onnx --python PYTHON --clips FOLDER

MODEL.onnx is RUN exported; PYTHON is that of an environment with soundbench-runtime alone, without torch. Both programs
classify the same clips in turns, each in a process of its own. Prints the figures of `benchmarks/results/runtime.md`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resident import resident

ONE, FOLDER = 20, 200
FIRST = (
    "import time; began = time.perf_counter()\n"
    "import sys, soundbench_runtime\n"
    "soundbench_runtime.load(sys.argv[1]).predict(sys.argv[2])\n"
    "print(time.perf_counter() - began, time.process_time())"
)


def loaded(kind: str, model: str) -> Any:
    if kind == "runtime":
        import soundbench_runtime

        return soundbench_runtime.load(model)
    import soundbench
    from soundbench.cli.process import own_process

    own_process("cpu")
    return soundbench.load(model, device="cpu")


def work(kind: str, model: str, clips: Path) -> None:
    """Answer each command with clips per processor second and per second."""
    classifier, paths = loaded(kind, model), sorted(clips.glob("*.wav"))[:FOLDER]
    classifier.predict(paths[0])
    for command in sys.stdin:
        given = paths[:ONE] if command.strip() == "one" else paths
        began = time.process_time(), time.perf_counter()
        if command.strip() == "one":
            found = [classifier.predict(path) for path in given]
        else:
            found = [prediction for _, prediction in classifier.predict_files(given)]
        spent = time.process_time() - began[0], time.perf_counter() - began[1]
        labels = [one.label for one in found]
        print(json.dumps([len(given) / spent[0], len(given) / spent[1], labels]), flush=True)


def stream(model: str) -> None:
    """Print the memory after each ten minutes of an hour's noise."""
    import numpy as np

    classifier, draws = loaded("runtime", model), np.random.default_rng(0)
    block = classifier.rate // 10
    noise = (0.1 * draws.standard_normal(600 * block)).astype(np.float32)

    def blocks() -> Iterator[np.ndarray]:
        for number in range(36_000):
            if number % 6_000 == 0:
                print(f"{number // 600} min: at most {resident('VmHWM') / 1e6:.1f} MB", flush=True)
            at = number % 600 * block
            yield noise[at : at + block]

    began = time.process_time()
    windows = sum(type(item).__name__ == "StreamedWindow" for item in classifier.stream(blocks()))
    spent = time.process_time() - began
    print(f"60 min: at most {resident('VmHWM') / 1e6:.1f} MB; {windows} windows, {spent:.0f} CPU s")


def compare(run: str, model: str, python: str, clips: Path, rounds: int) -> None:
    from turns import in_turns, ratio, runner

    first = sorted(clips.glob("*.wav"))[0]
    firsts, times = [], 2 * rounds
    for _ in range(times):
        done = subprocess.run([python, "-c", FIRST, model, first], capture_output=True, text=True, check=True)
        firsts.append(tuple(map(float, done.stdout.split())))
    wall, cpu = (min(values) for values in zip(*firsts, strict=True))
    print(f"import to first answer: {wall:.2f} s, {cpu:.2f} CPU s; the least of {times}", flush=True)
    for what in ("one", "folder"):
        found: list[list[Any]] = [[], []]
        with (
            runner(sys.executable, "runtime.py", "--work", "soundbench", run, "-", "--clips", clips) as eager,
            runner(python, "runtime.py", "--work", "runtime", model, "-", "--clips", clips) as own,
        ):
            for index in in_turns(rounds, 2):
                found[index].append((eager, own)[index].ask(what))
        cpu = [[one[0] for one in answers] for answers in found]
        flipped = sum(a != b for a, b in zip(found[0][0][2], found[1][0][2], strict=True))
        print(
            f"{what}: clips a processor second, soundbench {max(cpu[0]):.1f}, runtime {max(cpu[1]):.1f}, "
            f"ratio {ratio(cpu[1], cpu[0]):.2f}; {flipped} of {len(found[0][0][2])} labels differ"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("model")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", choices=("soundbench", "runtime"))
    parser.add_argument("--stream", action="store_true", help="only the stream, with this process's soundbench_runtime")
    asked = parser.parse_args()
    if asked.work:
        work(asked.work, asked.run, asked.clips)
    elif asked.stream:
        stream(asked.model)
    else:
        compare(asked.run, asked.model, asked.python, asked.clips, asked.rounds)


if __name__ == "__main__":
    main()
