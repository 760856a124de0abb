"""Runs of several processes beside runs of one: the same clips, steps and scores, whatever stops them in between."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from helpers import toys
from helpers.runs import command, done, free_port, pair, start, steps, torchrun, toy_run, wait_for_checkpoint, weights
from helpers.training import CPU, WINDOW, ArrayStore, go, made

from soundbench import distributed, files, read_recipe
from soundbench.cli.launch import launch
from soundbench.contracts import Clip
from soundbench.data.batches import Grid
from soundbench.data.clips import ClipTable
from soundbench.data.order import Order
from soundbench.errors import CallError, DataError, RunError
from soundbench.model.scoring import Scorer, score_clips
from soundbench.recipe import Train
from soundbench.training import checkpoints
from soundbench.training.rejecting import others
from soundbench.training.run import extract

pytestmark = pytest.mark.usefixtures("cache")
ME = Path(__file__)
TWO = ("--processes", 2)


class Moody(toys.ToyDataset):
    """Labels depend on who asks."""

    def clips(self) -> Any:
        for clip in super().clips():
            turned = os.environ.get("RANK") == "1" and clip.path == "5"
            yield Clip(clip.path, ("low",), fold=clip.fold, group=clip.group) if turned else clip


def joined(work: Any, *arguments: Any) -> Any:
    """What a process of `launch` does: join the others, work, and leave them."""
    try:
        distributed.join("cpu")
        return work(*arguments)
    finally:
        distributed.leave()


def together(work: Any, *arguments: Any, count: int = 2) -> Any:
    return launch(joined, (work, *arguments), count)


# -- the same as one -------------------------------------------------------------------------------------------------


def trained_and_scored(folder: Path) -> tuple[Any, Any, list[Any]]:
    """Weights and history of 20 steps with batch norm frozen, and the scores of 2 and of 17 clips."""
    weights, history = go(folder, epochs=4, parts={"dropout": 0.0, "frozen": True})
    dataset = toys.ToyDataset(clips=26)
    table, store = ClipTable.of(dataset), ArrayStore(dataset)
    network = made(Order(np.arange(26), 6, 5), 1).network
    network.load_state_dict(weights)
    by = Scorer(network, toys.ToyLoss(2), CPU, "off")
    rows = np.arange(26)[::-1]
    scored = [score_clips(by, store, table, rows[:count], Grid(WINDOW, WINDOW // 2), 4) for count in (2, 17)]
    return {name: value.numpy() for name, value in weights.items()}, history, scored


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_train_and_score_as_one_does(count: int, tmp_path: Path) -> None:
    """Steps of 5 and 6 clips, which neither 2 nor 3 divide; 17 clips to score, and fewer clips than processes."""
    one, history, alone = trained_and_scored(tmp_path / "one")
    several, their_history, shared = together(trained_and_scored, tmp_path / "several", count=count)
    assert history[-1]["step"] == 20
    for name, value in one.items():
        np.testing.assert_allclose(several[name], value, rtol=0, atol=1e-5, err_msg=name)
    for own, other in zip(history, their_history, strict=True):
        assert (own["epoch"], own["step"], own["rate"]) == (other["epoch"], other["step"], other["rate"])
        assert own["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
    for number, own, other in zip((2, 17), alone, shared, strict=True):
        assert own.index.tolist() == other.index.tolist() == list(range(26 - number, 26))
        np.testing.assert_allclose(other.scores, own.scores, rtol=0, atol=1e-6)
        np.testing.assert_allclose(other.losses, own.losses, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_only_process_of_torchrun_trains_as_one_alone(recipe: Path, tmp_path: Path) -> None:
    """As the only rank of a group, to the bit."""
    rank, alone = tmp_path / "rank", tmp_path / "alone"
    assert done(torchrun("-m", "soundbench", "run", recipe, "--out", rank)) == f"{rank}\n"
    toy_run(recipe, alone)
    assert weights(rank) == weights(alone)
    assert columns(rank) == columns(alone)


class Crossed(torch.nn.Module):
    """Its layers run in another order than they are registered in."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(61, 61) for _ in range(5))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        for number in (3, 0, 4, 1, 2):
            rows = self.layers[number](rows)
        return rows


def same_step_again() -> list[bool]:
    """Whether a first step and the same one as a second, which resumes make a first one, are the same to the bit."""
    torch.manual_seed(1)
    wrapped = distributed.wrap(Crossed(), CPU.device)
    rows, found = torch.randn(9, 61, generator=torch.Generator().manual_seed(distributed.rank())), []
    for _ in range(2):
        wrapped.zero_grad()
        wrapped(rows).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in wrapped.parameters()])
    return [torch.equal(one, other) for one, other in zip(*found, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_a_step_is_the_same_whether_it_is_the_first_or_not(count: int) -> None:
    assert together(same_step_again, count=count) == [True] * 10


def disagreeing(folder: Path, what: str, command: str) -> None:
    batch = 6 if distributed.is_main() else 5
    if what == "steps":
        go(folder, plan={"batch": batch})
        return
    if what == "negatives":
        others.find_sounds = lambda _: sorted((folder / "others").iterdir())[: 2 - distributed.rank()]  # type: ignore[attr-defined]
        toy_run(folder / "toy.toml", folder / "run", f'reject.negatives="{folder / "others"}"')
        return
    fixed = f"train.batch_size={batch}" if what == "recipe" else f'dataset.use="{ME}:Moody"'
    if command == "extract":
        extract(read_recipe(folder / "toy.toml", [fixed, "augmentation=[]"]), say=lambda _: None)
        return
    toy_run(folder / "toy.toml", folder / "run", fixed)


DISAGREEMENTS: dict[str, tuple[type[Exception], str]] = {
    "steps": (RunError, "the processes do not agree on the steps of epoch 1: 5 from step 1, 6 from step 1"),
    "recipe": (
        CallError,
        "the processes do not run the same recipe: train.batch_size is 6 in process 1 and 5 in process 2",
    ),
    "data": (DataError, "the processes do not have the same data: their clip tables differ"),
    "negatives": (DataError, "the processes do not have the same data: their clip tables differ"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "command"),
    [
        ("steps", "run"),
        ("recipe", "run"),
        ("recipe", "extract"),
        ("data", "run"),
        ("data", "extract"),
        ("negatives", "run"),
    ],
)
def test_processes_that_disagree_say_so_and_wait_for_nothing(
    what: str, command: str, recipe: Path, tmp_path: Path
) -> None:
    kind, message = DISAGREEMENTS[what]
    (tmp_path / "others").mkdir()
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / "others" / name, np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    with pytest.raises(kind) as caught:
        together(disagreeing, tmp_path, what, command)
    assert str(caught.value) == message


def filling(folder: Path) -> None:
    """A run whose main process has no room left for the second epoch's checkpoint."""
    save = checkpoints.save

    def fills(place: Path, step: int, state: Any) -> Path:
        if step > 7:
            shutil.disk_usage = lambda _: shutil._ntuple_diskusage(0, 0, 10)  # type: ignore[assignment,attr-defined]
        return save(place, step, state)

    checkpoints.save = fills
    toy_run(folder / "toy.toml", folder / "run")


@pytest.mark.slow
def test_a_full_disk_ends_all_at_once(recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match=r"step-00000014.pt: the disk is full: .* needed, .* free"):
        together(filling, tmp_path)
    errors = capfd.readouterr().err
    assert errors.count("stopped; to resume: ") == 1
    assert "Traceback" not in errors
    assert steps(tmp_path / "run") == [7]


# -- killed and gone on with -----------------------------------------------------------------------------------------


def shown(journal: Path) -> dict[tuple[int, int], int]:
    """Which clip each place of each epoch showed: the same one every time."""
    found: dict[tuple[int, int], int] = {}
    for line in journal.read_text().splitlines():
        epoch, position, clip = map(int, line.split())
        assert found.setdefault((epoch, position), clip) == clip, line
    return found


def uninterrupted(count: int, seed: int, epochs: int) -> dict[tuple[int, int], int]:
    """Which of `count` training clips each place must show."""
    orders = {epoch: Order(np.arange(count), count, seed).step(epoch, 0)[0] for epoch in range(1, epochs + 1)}
    return {(epoch, place): clip for epoch, order in orders.items() for place, clip in enumerate(order.tolist())}


def columns(run: Path) -> list[list[str]]:
    names = ("epoch", "step", "rate", "validation_loss", "validation_accuracy")
    return [[row[name] for name in names] for row in files.read_rows(run / "history.csv")]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_killed_five_times_ends_with_the_same_weights_bit_for_bit(
    processes: int, recipe: Path, tmp_path: Path
) -> None:
    """SIGKILL of the process that trains on a clip, anywhere in an epoch, again and again after each resume."""
    whole, cut, kill = tmp_path / "whole", tmp_path / "cut", tmp_path / "kill"
    many = ("--processes", processes)
    rules = ("--set", "train.epochs=6", "--set", "train.checkpoint_steps=2")
    done(command("run", recipe, "--out", whole, *rules, *many))
    draws = random.Random(20 + processes)
    points = sorted((epoch, draws.randrange(38)) for epoch in draws.sample(range(1, 7), 5))
    arguments: list[object] = ["run", recipe, "--out", cut, *rules]
    for epoch, position in points:
        kill.write_text(f"{epoch} {position}")
        process = command(*arguments, *many, SOUNDBENCH_TOY_KILL=str(kill))
        out, errors = process.communicate(timeout=300)
        assert not kill.exists(), errors
        if processes == 1:
            assert process.returncode == -signal.SIGKILL
        else:
            assert (process.returncode, out) == (1, "")
            assert errors.count(f"stopped; to resume: soundbench run --resume {cut} --processes 2 --trust-code\n") == 1
            assert errors.splitlines()[-1].endswith(
                " of 2 was killed (SIGKILL), probably because the system ran out of memory"
            )
            assert "Traceback" not in errors
        arguments = ["run", "--resume", cut, "--trust-code"]
    assert not (cut / "report.json").exists()
    done(command(*arguments, *many))
    assert weights(whole) == weights(cut)
    assert columns(whole) == columns(cut)
    reports = [json.loads((run / "report.json").read_text()) for run in (whole, cut)]
    assert reports[0]["metrics"] == reports[1]["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_killed_run_goes_on_by_another_number_of_processes(
    before: int, after: int, recipe: Path, tmp_path: Path
) -> None:
    run, kill, journal = tmp_path / "run", tmp_path / "kill", tmp_path / "journal"
    kill.write_text("2 17")
    note = {"SOUNDBENCH_TOY_JOURNAL": str(journal)}
    rules = ("--set", "train.checkpoint_steps=2", "--set", "train.threads=2")
    process = command("run", recipe, "--out", run, *rules, "--processes", before, SOUNDBENCH_TOY_KILL=str(kill), **note)
    process.communicate(timeout=300)
    assert not kill.exists()
    done(command("run", "--resume", run, "--trust-code", "--processes", after, **note))
    rows = files.read_rows(run / "history.csv")
    assert [row["step"] for row in rows] == ["7", "14", "21"]
    found = shown(journal)
    clips = sorted(set(found.values()))
    assert {place: clips.index(clip) for place, clip in found.items()} == uninterrupted(38, Train().seed, 3)
    environment = json.loads((run / "environment.json").read_text())
    cores = len(os.sched_getaffinity(0))
    assert (environment["processes"], environment["threads"]) == (after, min(2, cores) if after == 1 else 1)
    assert json.loads((run / "report.json").read_text())["clips"] == 16
    assert len({row["path"] for row in files.read_rows(run / "predictions.csv")}) == 16


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system keeps no process off a core")
def test_a_resumed_run_keeps_its_threads_on_fewer_cores(recipe: Path, tmp_path: Path) -> None:
    """Their number decides in what order numbers are added."""
    whole, cut, kill = tmp_path / "whole", tmp_path / "cut", tmp_path / "kill"
    rules = ("--set", "train.checkpoint_steps=2", "--set", "train.threads=2")
    done(command("run", recipe, "--out", whole, *rules))
    kill.write_text("2 17")
    assert command("run", recipe, "--out", cut, *rules, SOUNDBENCH_TOY_KILL=str(kill)).wait(timeout=300) < 0

    def one_core() -> None:
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])

    line = [sys.executable, "-m", "soundbench", "run", "--resume", str(cut), "--trust-code"]
    went_on = subprocess.run(line, capture_output=True, text=True, timeout=300, preexec_fn=one_core)
    assert went_on.returncode == 0, went_on.stderr
    assert "the run began with 2 threads in each process, which is more than the cores here (1)" in went_on.stderr
    assert json.loads((cut / "environment.json").read_text())["threads"] == 2
    assert weights(whole) == weights(cut)
    assert columns(whole) == columns(cut)


# -- started and stopped ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ctrl_c_stops_all_with_one_checkpoint_and_one_word(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("run", recipe, "--out", run, *TWO, "--set", "train.epochs=50", SOUNDBENCH_TOY_DELAY="0.05")
    wait_for_checkpoint(process, run, 7)
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=100)
    assert (process.returncode, out) == (130, ""), errors
    assert errors.count("stopping after this step, with a checkpoint; a second signal stops immediately\n") == 1
    assert errors.count(f"stopped; to resume: soundbench run --resume {run} --processes 2 --trust-code\n") == 1
    assert errors.splitlines()[-1] == "stopped by hand"
    assert "Traceback" not in errors
    assert steps(run)[-1] > 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--set", "train.epochs=0"), 2, "--set train.epochs=0: must be at least 1, is 0"),
        (
            ("--processes", 4),
            2,
            "toy.toml: train.batch_size: a step of 5 clips in 4 pieces (1 in each of 4 processes) has pieces of "
            "fewer than 2 clips, which batch norm cannot train on; use more clips, a larger batch size, or fewer "
            "processes",
        ),
        (("--device", "cuda"), 2, "device 'cuda': torch finds no CUDA device; use 'auto' or 'cpu'"),
    ],
)
def test_a_mistake_is_said_once(more: Sequence[object], code: int, message: str, recipe: Path, tmp_path: Path) -> None:
    if "cuda" in more and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    process = command("run", recipe, "--out", tmp_path / "run", *TWO, *more)
    out, errors = process.communicate(timeout=200)
    assert (process.returncode, out) == (code, "")
    assert errors.replace(f"{tmp_path}/", "") == f"{message}\n"


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_under_torchrun_too(recipe: Path, tmp_path: Path) -> None:
    for process in pair("run", recipe, "--out", tmp_path / "run", "--device", "cuda"):
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 2
        assert errors == "device 'cuda': torch finds no CUDA device; use 'auto' or 'cpu'\n"


def test_processes_do_not_start_processes(recipe: Path) -> None:
    process = command("run", recipe, *TWO, WORLD_SIZE="2", RANK="0")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert (
        errors
        == "--processes starts processes itself, but torchrun has already started this process; use only one of them\n"
    )


# -- several machines ------------------------------------------------------------------------------------------------


def finished(run: Path, processes: Sequence[subprocess.Popen[str]]) -> None:
    outs = [done(process) for process in processes]
    assert "".join(outs).splitlines() == [str(run)]  # by one of them alone
    assert json.loads((run / "environment.json").read_text())["processes"] == 2
    assert json.loads((run / "report.json").read_text())["clips"] == 16


@pytest.mark.slow
def test_two_nodes_of_torchrun_s_rendezvous_make_one_run(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    line = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    line += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "toy"]
    line += ["-m", "soundbench", "run", str(recipe), "--out", str(run)]
    nodes = [
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        for _ in range(2)
    ]
    finished(run, nodes)


@pytest.mark.slow
def test_two_tasks_of_slurm_make_one_run(recipe: Path, tmp_path: Path) -> None:
    """The environment that `srun` gives its tasks, and its `scontrol`, which is asked for the first machine's name."""
    run, tools = tmp_path / "run", tmp_path / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text(
        '#!/bin/sh\ntest "$*" = "show hostnames here[1-2]" && echo 127.0.0.1 && echo there\n'
    )
    (tools / "scontrol").chmod(0o755)
    job = {
        "SLURM_JOB_ID": str(free_port()),
        "SLURM_JOB_NODELIST": "here[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_LOCALID": "0",
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
    }
    tasks = [command("run", recipe, "--out", run, SLURM_PROCID=str(rank), **job) for rank in range(2)]
    finished(run, tasks)
    assert json.loads((run / "environment.json").read_text())["threads"] == 1
