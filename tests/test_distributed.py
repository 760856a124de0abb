"""Processes: what connects them, and the one line where that fails."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import pytest
import torch
from helpers.one_rank import WHOLE, only_rank
from helpers.runs import free_port

from soundbench import distributed
from soundbench.errors import CallError, LostProcess, Problem, RecipeError, RunError, SoundError
from soundbench.machine import settle, started_by
from soundbench.recipe import Recipe
from soundbench.training import run
from soundbench.training.environment import explaining_out_of_memory, refuse_other_recipes, shared_threads
from soundbench.training.log import Log


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID")
    for name in (*torchrun, "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("device", "there", "backend"),
    [
        ("auto", True, "nccl"),
        ("cuda", True, "nccl"),
        ("cuda:1", True, "nccl"),
        ("cpu", True, "gloo"),
        ("auto", False, "gloo"),
        ("cuda", False, "gloo"),  # then the device itself is refused, by each in one line
    ],
)
@pytest.mark.parametrize("starter", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_processes_on_gpus_are_joined_by_nccl(
    device: str, there: bool, backend: str, starter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[tuple[str, str | None]] = []

    def initialize(backend: str, timeout: timedelta) -> None:
        chosen.append((backend, os.environ.get("SLURM_JOB_ID")))

    monkeypatch.setenv(starter, "2")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(idist, "initialize", initialize)
    distributed.join(device)
    assert chosen == [(backend, "77" if starter == "SLURM_STEP_NUM_TASKS" else None)]  # torchrun knows better
    assert os.environ["SLURM_JOB_ID"] == "77"


@pytest.mark.parametrize(("there", "backend"), [(True, "nccl"), (False, "gloo")])
def test_the_only_process_of_torchrun_joins_itself(there: bool, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So NCCL can be tried on one GPU; a world of one that no torchrun names is any program on a container platform."""
    chosen: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(idist, "initialize", lambda backend, timeout: chosen.append(backend))
    distributed.join("auto")
    assert (started_by(), chosen) == (None, [])
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    distributed.join("auto")
    assert (started_by(), chosen) == ("torchrun", [backend])


@pytest.fixture
def only_rank_of_gloo(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}
    interfaces = dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), distributed._LOOPBACK)
    for name, value in {**torchrun, **ranks, **interfaces}.items():
        monkeypatch.setenv(name, value)


def test_the_only_rank_over_gloo_does_all_that_several_do(only_rank_of_gloo: None) -> None:
    assert only_rank("cpu") == WHOLE | {"backend": "gloo"}
    assert idist.backend() is None


@pytest.mark.skipif(sys.platform != "linux", reason="threads have names in /proc")
def test_no_thread_of_a_stopped_run_is_left_when_the_interpreter_ends(only_rank_of_gloo: None) -> None:
    """One that lets go of a tensor then would abort the process. Nor does a thread that is at work hold up its end."""

    def threads() -> int:
        return sum("gloo" in path.read_text() for path in Path("/proc/self/task").glob("*/comm"))

    at_work, own = threading.Event(), threading.get_ident()

    def work(_: object) -> None:
        if threading.get_ident() != own:  # it needs Python's lock once more, after a second
            at_work.set()
            time.sleep(1)

    def stopped() -> None:
        distributed.join("cpu")
        wrapped = distributed.wrap(torch.nn.Linear(3, 2), torch.device("cpu"))
        wrapped(torch.ones(4, 3)).sum().backward()
        while not at_work.is_set():
            torch.distributed.all_reduce(torch.ones(1), async_op=True).get_future().then(work)
        assert threads() > before
        raise KeyboardInterrupt

    def left() -> None:
        try:
            stopped()
        finally:
            distributed.leave()

    before = threads()
    with pytest.raises(KeyboardInterrupt) as kept:  # as long as it is kept, so are its frames
        left()
    assert threads() == before, kept


@pytest.mark.parametrize("own", [{"LOCAL_RANK": "2"}, {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "3"}])
@pytest.mark.parametrize(
    ("device", "message"),
    [
        (
            "auto",
            "process 3 on this machine has no GPU of its own: 2 visible; start one process per GPU, ",
        ),
        ("cuda:1", "device 'cuda:1' is a single GPU; use 'cuda', which gives each process its own"),
    ],
)
def test_more_processes_than_gpus_are_reported_so(
    device: str, message: str, own: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the first process too, which would wait for those that have no GPU."""
    for name, value in {"WORLD_SIZE": "3", **own}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(CallError) as caught:
        distributed.join(device)
    assert str(caught.value).startswith(message)


def test_one_process_joins_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_NTASKS", "4")  # a program in a batch script is one, whatever the job may start
    distributed.join("cpu")
    assert started_by() is None
    assert (distributed.rank(), distributed.world(), distributed.is_main()) == (0, 1, True)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer"), True),
        (torch.distributed.DistBackendError("NCCL error in: NCCLUtils.cpp"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_only_lost_contact_is_reported_as_such(error: RuntimeError, lost: bool) -> None:
    with pytest.raises(LostProcess if lost else RuntimeError) as caught, distributed.contact():
        raise error
    assert (caught.value is not error) == lost


@pytest.mark.parametrize(
    "error",
    [
        SoundError("a.wav", "is empty"),
        RecipeError("r.toml", [Problem("train.epochs", "must be at least 1", plugin=True)]),
        RunError("the disk is full"),
    ],
)
def test_errors_travel_between_processes(error: Any) -> None:
    error.add_note("to go on")
    there = pickle.loads(pickle.dumps(error))
    assert (type(there), str(there), there.exit_code) == (type(error), str(error), error.exit_code)
    assert there.__notes__ == ["to go on"]


@pytest.mark.parametrize(
    ("threads", "workers", "processes", "own"),
    [
        ("auto", 0, 1, 8),
        ("auto", 2, 1, 6),
        ("auto", 0, 3, 2),
        ("auto", 1, 2, 3),
        ("auto", 9, 2, 1),
        (16, 0, 1, 16),
        (8, 0, 2, 4),
        (2, 0, 2, 2),
        (1, 0, 4, 1),
    ],
)
def test_cores_are_shared_out_among_the_processes_of_a_machine(
    threads: Any, workers: int, processes: int, own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soundbench.machine.cores", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    machine = settle("cpu", "fp32", threads, workers=workers, local_world=processes)
    assert machine.threads == own


@pytest.mark.parametrize(
    ("threads", "before", "now", "own"),
    [
        (8, 1, 2, 4),
        (4, 2, 1, 8),
        (1, 1, 2, 1),
        (3, 2, 4, 1),
        (8, 2, 1, 8),  # they were on two machines
        (8, 4, 2, 8),
        (16, 1, 1, 16),  # as its recipe says
    ],
)
def test_a_run_that_goes_on_by_other_processes_takes_the_cores_it_had(
    threads: int, before: int, now: int, own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soundbench.training.environment.cores", lambda: 8)
    monkeypatch.setattr(distributed, "world", lambda: now)
    assert shared_threads(threads, before) == own


def test_cores_are_shared_out_by_who_had_them_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun by one process of 8 threads, taken up by two, again by two, and by one."""
    before, found = {"threads": 8, "processes": 1}, []
    monkeypatch.setattr("soundbench.training.environment.cores", lambda: 8)
    for now in (2, 2, 1, 1):
        monkeypatch.setattr(distributed, "world", lambda now=now: now)
        threads = run._threads_before(before, Log(lambda line: None))
        found.append(threads)
        before = {"threads": threads, "processes": now}
    assert found == [4, 4, 8, 8]


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ({"train": {"epochs": 4}}, "train.epochs is 4 in process 1 and 3 in process 2"),
        ({"backbone": {"use": "conv", "channels": 8}}, "backbone.channels is 8 in process 1 and 4 in process 2"),
        ({"augmentation": ["gain"]}, "augmentation[0].use is 'gain' in process 1 and None in process 2"),
        ({"train": {"epochs": 3, "threads": 7, "num_workers": 1, "device": "cuda"}}, None),
        ({"init": {"from": "/elsewhere/model"}}, None),
    ],
)
def test_processes_of_different_recipes_are_refused(
    first: dict[str, Any], message: str | None, only_toys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from helpers.entry_points import NAMES

    plain = {**NAMES, "dataset": "noise", "backbone": {"use": "conv", "channels": 4}, "pooling": "mean"}
    plain |= {"train": {"epochs": 3}, "init": {"from": "/here/model"}}
    own, other = Recipe(**plain), Recipe(**(plain | first))
    told: list[Any] = []
    monkeypatch.setattr(distributed, "broadcast", lambda item: told.append(item) or item)
    refuse_other_recipes(other)
    monkeypatch.setattr(distributed, "broadcast", lambda item: told[0])
    monkeypatch.setattr(distributed, "gather", lambda item: [[], item])
    if message is None:
        refuse_other_recipes(own)
        return
    with pytest.raises(CallError) as caught:
        refuse_other_recipes(own)
    assert str(caught.value) == f"the processes do not run the same recipe: {message}"


def test_memory_that_runs_out_is_reported_with_what_to_lower(only_toys: None) -> None:
    from helpers.entry_points import NAMES

    recipe = Recipe(
        **NAMES, dataset="noise", backbone="conv", pooling="mean", train={"batch_size": 48, "accumulate": 2}
    )
    for spend in (lambda: torch.empty(1 << 60), lambda: bytearray(1 << 60), _out_of_gpu):
        with pytest.raises(RunError) as caught, explaining_out_of_memory(recipe):
            spend()
        assert str(caught.value) == (
            "out of memory with train.batch_size = 48 and audio.window = 3.0; lower one of them, or raise "
            "train.accumulate (2), which splits a batch into pieces"
        )
    with pytest.raises(RuntimeError, match="another"), explaining_out_of_memory(recipe):
        raise RuntimeError("another")


def _out_of_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
