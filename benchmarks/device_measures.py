"""What `device_check.py` measures: each check gives rows of its table.

A check is a generator of rows over a `Place`; it may fail, or be killed, and keeps the rows that it has given.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import attrs
import numpy as np
import soundfile
import torch
from engine import CLASSES, bare, batches, wait
from ignite.engine import Engine, Events
from turns import ratio

import soundbench
from soundbench.data.batches import RawBatch, training_batches
from soundbench.data.clips import ClipTable
from soundbench.data.order import Order
from soundbench.data.store import open_store
from soundbench.inference.classifier import Classifier
from soundbench.machine import Machine, settle
from soundbench.model.assembly import Assembly, assemble
from soundbench.training import loop
from soundbench.training.step import Rules, make_setup

ROOT = Path(__file__).parents[1]
RATE = 16000


@attrs.frozen
class Sizes:
    """How much is measured: `steps` after `warm` ones, in each of `rounds`; `clips` are in the store."""

    batches: tuple[int, ...]
    network: dict[str, Any]
    window: float
    steps: int
    warm: int
    rounds: int
    clips: int
    files: int


GPU = Sizes((64, 256), {}, 3.0, 30, 8, 3, 512, 400)
CPU = Sizes((4, 8), {"growth": 8, "width": 32, "layers": [4, 4, 4], "front": 8}, 1.0, 3, 1, 2, 32, 6)


@attrs.frozen
class Row:
    """A row of the table; `verdict` is `met`, `missed`, `skipped`, `failed`, or empty where there is no goal."""

    check: str
    what: str
    figure: str = ""
    goal: str = ""
    verdict: str = ""


@attrs.frozen
class Place:
    """The device, and a folder for what is only needed meanwhile."""

    device: str
    folder: Path

    @property
    def gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.device.startswith("cuda")

    @property
    def sizes(self) -> Sizes:
        """How much is measured."""
        return GPU if self.gpu else CPU

    def recipe(self, batch: int, **rules: Any) -> soundbench.Recipe:
        """CAM++ on tones, without a validation or test set; eager, unless `rules` have it otherwise."""
        sizes = self.sizes
        return soundbench.Recipe(
            dataset={"use": "tones", "clips": sizes.clips, "seconds": sizes.window + 1},
            split={"test": 0, "validation": 0},
            audio={"window": sizes.window},
            augmentation=rules.pop("augmentation", []),
            backbone={"use": "campplus", **sizes.network},
            observer=[],
            train={"device": self.device, "batch_size": batch, "epochs": 1, "compile": "off"} | rules,
        )

    def data(self, batch: int) -> list[RawBatch]:
        """The batches of a measurement; few, used again and again, so that they fit into memory."""
        few = batches(4, batch, self.sizes.window, self.device)
        return list(islice(cycle(few), self.sizes.warm + self.sizes.steps))

    def goal(self, value: float, least: float) -> tuple[str, str]:
        """The goal of a ratio, and whether it is met; a CPU's sizes are too small for one."""
        return (f">= {least:g}", "met" if value >= least else "missed") if self.gpu else ("", "")

    def machine(self, precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto", tf32: bool = False) -> Machine:
        """The device, used as by a run; for this process, too."""
        machine = settle(self.device, precision, tf32=tf32)
        machine.use()
        return machine


def engine(
    recipe: soundbench.Recipe, made: Assembly, data: Sequence[RawBatch], machine: Machine, warm: int, **more: Any
) -> float:
    """Seconds of soundbench's training on batches in the device's memory, after the first `warm`."""
    batch = len(data[0].lengths)
    plan = Order(np.arange(len(data) * batch), batch, seed=0)
    # A run copies batches to a GPU ahead of its steps; these are there.
    with patch.object(loop, "ahead", lambda batches, _device: nullcontext(batches)):
        return trained(recipe, made, plan, data, machine, warm, **more)


def trained(
    recipe: soundbench.Recipe,
    made: Assembly,
    plan: Order,
    data: Iterable[RawBatch],
    machine: Machine,
    warm: int,
    **more: Any,
) -> float:
    """Seconds of an epoch of soundbench's training after the first `warm` steps; `make_setup` takes `more`."""
    setup = make_setup(recipe, made, machine, plan, np.ones(CLASSES, np.float32), **more)
    times: list[float] = []

    def completed(trainer: Engine) -> None:
        if trainer.state.iteration in (warm, plan.steps):
            wait(machine)
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        loop.train(
            setup,
            Rules.of(recipe),
            lambda _first: data,
            Path(folder),
            validate=lambda: None,
            notify=lambda hook, **_: None,
            on_better=lambda _: None,
            on_epoch=lambda _: None,
            watch=lambda trainer: trainer.add_event_handler(Events.ITERATION_COMPLETED, completed),
        )
    return times[1] - times[0]


# -- the device's busy share --------------------------------------------------------------------------------------


@contextmanager
def sampled(device: str) -> Iterator[list[int]]:
    """The percentages of time in which a GPU computed anything while the body ran, as nvidia-smi samples them.

    The list is filled at the end; it stays empty where there is no nvidia-smi, and on a CPU.
    """
    found: list[int] = []
    sampler = None
    if device.startswith("cuda"):
        uuid = str(torch.cuda.get_device_properties(device).uuid).removeprefix("GPU-")
        query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=100", f"--id=GPU-{uuid}"]
        with suppress(OSError):
            sampler = subprocess.Popen(
                ["nvidia-smi", *query], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
    try:
        yield found
    finally:
        if sampler is not None:
            sampler.terminate()
            shares = [int(text) for text in sampler.communicate()[0].split() if text.isdecimal()]
            found += shares[1:-1]  # the first and the last one reach beyond the body


# -- the checks ---------------------------------------------------------------------------------------------------


def check_tests(place: Place) -> Iterator[Row]:
    """`pytest -m gpu`."""
    if not place.gpu:
        yield Row("tests", "pytest -m gpu", "no CUDA device", verdict="skipped")
        return
    marked = [str(path) for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in path.read_text()]
    options = ["-o", "addopts=", "-m", "gpu", "-q", "--tb=line", "-p", "no:cacheprovider", "-rfE"]
    # -P: the installed soundbench, or that of PYTHONPATH, and not whatever is in the working directory.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *options, *marked], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
    lines = (done.stdout.strip() or done.stderr.strip() or "no output").splitlines()
    yield Row("tests", "pytest -m gpu", lines[-1].strip("= "), "all pass", "met" if done.returncode == 0 else "failed")
    for text in lines:
        if text.startswith(("FAILED", "ERROR")):
            yield Row("tests", text.split(" - ")[0].rpartition("::")[2], text.partition(" - ")[2][:80], "", "failed")


def check_engine(place: Place) -> Iterator[Row]:
    """The engine over a bare loop, in turns."""
    machine, sizes = place.machine(), place.sizes
    ways = {"": [], ", speed and spec-augment": ["speed", "spec-augment"]}
    for batch in sizes.batches:
        data = place.data(batch)
        for name, augmentation in ways.items() if batch == sizes.batches[0] else [("", [])]:
            recipe = place.recipe(batch, augmentation=augmentation)
            made = assemble(recipe)
            seconds: dict[str, list[float]] = {"bare": [], "engine": []}
            for number in range(sizes.rounds):
                for which in ("bare", "engine") if number % 2 else ("engine", "bare"):
                    if which == "bare":
                        spent = bare(made.network, data, machine, sizes.warm)
                    else:
                        spent = engine(recipe, made, data, machine, sizes.warm)
                    seconds[which].append(spent / sizes.steps)
            speed = ratio(seconds["bare"], seconds["engine"])
            one, other = (statistics.median(seconds[which]) for which in ("bare", "engine"))
            figure = f"{speed:.2f}: {batch / other:,.0f} of {batch / one:,.0f} clips/s"
            figure += f", {1000 * (other - one):+.1f} ms a step"
            what = f"engine over bare loop, batch {batch}, {machine.precision}{name}"
            yield Row("engine", what, figure, *(place.goal(speed, 0.9) if not augmentation else ()))


def check_compile(place: Place) -> Iterator[Row]:
    """Compiled training over eager training; on a CPU, compiling takes longer than the whole check should."""
    if not place.gpu:
        yield Row("compile", "compiled over eager training", "no CUDA device", verdict="skipped")
        return
    machine, batch, steps = place.machine(), place.sizes.batches[0], place.sizes.steps
    data = place.data(batch)
    eager: list[float] = []
    for way in ("off", "on", "graphs"):
        recipe = place.recipe(batch, compile=way)
        settled: list[Any] = []
        began = time.perf_counter()
        spent = engine(recipe, assemble(recipe), data, machine, place.sizes.warm, settled=settled.append)
        before = time.perf_counter() - began - spent
        if way == "off":
            eager.append(spent)
            continue
        eager.append(engine(place.recipe(batch, compile="off"), assemble(recipe), data, machine, place.sizes.warm))
        speed = statistics.mean(eager[-2:]) / spent
        figure = f"{speed:.2f}: {steps * batch / spent:,.0f} clips/s; {before:.0f} s before"
        fallen = [how.reason for how in settled if how.used == "off"]
        what = f"train.compile = {way} over off, batch {batch}, {machine.precision}"
        yield Row("compile", what, "; ".join([figure, *fallen]), *(place.goal(speed, 1.5) if way == "on" else ()))


def check_store(place: Place) -> Iterator[Row]:
    """Training with windows from the store, over the bare loop."""
    machine, sizes = place.machine(), place.sizes
    for batch in sizes.batches:
        recipe = place.recipe(batch)
        made = assemble(recipe)
        table = ClipTable.of(made.dataset)
        store = open_store(table, made.dataset, RATE, place.folder / "cache")
        plan = Order(np.resize(np.arange(len(table)), (sizes.warm + sizes.steps) * batch), batch, seed=0)
        alone = bare(made.network, place.data(batch), machine, sizes.warm)
        for workers in (0, 1, 4):
            data = training_batches(store, table, plan, recipe.audio.window_samples, epochs=1, workers=workers)
            spent = trained(recipe, made, plan, data, machine, sizes.warm)
            one, other = (batch * sizes.steps / seconds for seconds in (alone, spent))
            what = f"windows from the store over bare loop, batch {batch}, train.num_workers = {workers}"
            figure = f"{alone / spent:.2f}: {other:,.0f} of {one:,.0f} clips/s"
            yield Row("store", what, figure, *(place.goal(alone / spent, 0.9) if workers < 4 else ()))


def check_infer(place: Place) -> Iterator[Row]:
    """Files of ten seconds, as `soundbench infer` scores them, over the network alone."""
    sizes, draws = place.sizes, np.random.default_rng(0)
    recipe = place.recipe(sizes.batches[0])
    run = soundbench.run(recipe, out=place.folder / "infer", cache=place.folder / "cache", say=lambda _: None)
    paths = [place.folder / f"{number:04}.wav" for number in range(sizes.files)]
    for path in paths:
        soundfile.write(path, draws.integers(-9000, 9000, 10 * RATE, dtype=np.int16), RATE)
    classifier = soundbench.load(run, device=place.device)
    done, spent, shares = scored(place, classifier, paths)
    windows = -(-10 // int(sizes.window)) * done
    alone = network_alone(place, classifier.network, min(windows, 8 * sizes.files))
    figure = f"{done / spent:,.0f} files/s, {windows / spent:,.0f} windows/s"
    if place.gpu:
        figure += f"; the GPU was busy {statistics.mean(shares):.0f}% of the time" if shares else "; busy share unknown"
    yield Row("infer", "files of 10 s, float32, in batches of the default size", figure)
    figure = f"{windows / spent / alone:.2f}: {alone:,.0f} windows/s alone"
    yield Row("infer", "files over the network alone, batches of 32", figure)
    faster = soundbench.load(run, device=place.device, precision="bf16")
    other, there, _ = scored(place, faster, paths)
    yield Row("infer", "the same in bf16", f"{other / there:,.0f} files/s")


def scored(place: Place, classifier: Classifier, paths: Sequence[Path]) -> tuple[int, float, list[int]]:
    """How many files were scored, again and again, in how many seconds, and the shares of `sampled`."""
    list(classifier.predict_files(paths[:32]))
    done, began = 0, time.perf_counter()
    with sampled(place.device) as shares:
        while not done or (place.gpu and time.perf_counter() - began < 6):  # long enough to be sampled
            done += sum(1 for _ in classifier.predict_files(paths))
        spent = time.perf_counter() - began
    return done, spent, shares


def network_alone(place: Place, network: torch.nn.Module, windows: int) -> float:
    """Windows/s for about so many windows in the device's memory, in batches of 32."""
    machine, steps = place.machine(), -(-windows // 32)
    (raw,) = batches(1, 32, place.sizes.window, place.device)
    data = raw.samples.float() * raw.scales[:, None]
    with torch.inference_mode():
        network(data, raw.lengths)
        wait(machine)
        began = time.perf_counter()
        for _ in range(steps):
            network(data, raw.lengths)
        wait(machine)
    return 32 * steps / (time.perf_counter() - began)


def check_precision(place: Place) -> Iterator[Row]:
    """Training in each precision."""
    sizes, batch = place.sizes, place.sizes.batches[0]
    data = place.data(batch)
    ways: tuple[tuple[Literal["fp32", "bf16", "fp16"], bool], ...]
    ways = ("fp32", False), ("fp32", True), ("bf16", False), ("fp16", False)
    for precision, tf32 in ways:
        what = f"training in {precision}{' with TF32' if tf32 else ''}, batch {batch}"
        if not place.gpu and (precision, tf32) != ways[0]:
            yield Row("precision", what, "no CUDA device", verdict="skipped")
            continue
        machine = place.machine(precision, tf32)
        if place.gpu:
            torch.cuda.reset_peak_memory_stats(place.device)
        recipe = place.recipe(batch, precision=precision, tf32=tf32)
        spent = engine(recipe, assemble(recipe), data, machine, sizes.warm)
        memory = f", {torch.cuda.max_memory_allocated(place.device) / 1e9:.2f} GB at most" if place.gpu else ""
        yield Row("precision", what, f"{sizes.steps * batch / spent:,.0f} clips/s{memory}")


CHECKS: dict[str, tuple[Callable[[Place], Iterator[Row]], int]] = {
    "engine": (check_engine, 60),
    "store": (check_store, 60),
    "infer": (check_infer, 50),
    "precision": (check_precision, 40),
    "tests": (check_tests, 150),
    "compile": (check_compile, 240),
}
"""Each check with the most seconds that it may take; the one that takes longest is last, and gets what is left."""
