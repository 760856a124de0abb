"""Settings of a GPU: what they change and when, what a run says of them, and what is refused without one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from helpers.toys import ToyDataset
from helpers.training import CPU, WINDOW, ArrayStore, made, same
from torch import nn

import soundbench
from soundbench import distributed
from soundbench.contracts import Batch
from soundbench.data.batches import training_batches
from soundbench.data.clips import ClipTable
from soundbench.data.order import Order
from soundbench.errors import CallError, RecipeError
from soundbench.machine import Machine, settle
from soundbench.model.weights import freeze, parameter_groups
from soundbench.studies.cells import cells_of
from soundbench.studies.sweep_file import read_sweep
from soundbench.training.environment import describe_environment, settle_recipe
from soundbench.training.stages import prepare
from soundbench.training.step import Rules, TrainSetup, make_trainer

GPU = Machine(torch.device("cuda", 0), "fp32", 1, False)
ORDER = Order(np.arange(26), batch=6, seed=5)
EXACT, FAST = ("highest", False, False), ("high", True, True)


def float32() -> tuple[str, bool, bool]:
    """How float32 is computed: by the older names of the settings, which fail where the newer ones say otherwise."""
    cudnn = torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        assert (torch.backends.cuda.matmul.fp32_precision == "tf32") is torch.backends.cuda.matmul.allow_tf32
        assert (cudnn.conv.fp32_precision == "tf32") is cudnn.allow_tf32
    return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave the process as it was; PyTorch's advice to use other names is an error."""
    before, threads = float32(), torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[1:]
    torch.set_num_threads(threads)


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU of 2018, of which only its name and its capability are real."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)


# TF32 and cuDNN's choice of algorithms --------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_gpu")
def test_a_run_on_a_gpu_computes_float32_as_float32_whatever_pytorch_does_by_itself() -> None:
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    GPU.use()
    assert float32() == EXACT


@pytest.mark.parametrize(
    ("settings", "inside"),
    [
        ({}, EXACT),
        ({"tf32": True}, ("high", True, False)),
        ({"cudnn_benchmark": True}, ("highest", False, True)),
        ({"tf32": True, "cudnn_benchmark": True}, FAST),
    ],
)
def test_what_a_step_may_do_ends_with_it(settings: dict[str, bool], inside: tuple[str, bool, bool]) -> None:
    machine = attrs.evolve(GPU, **settings)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False

    def fails() -> None:
        with machine.training():
            assert float32() == inside
            with machine.exact():
                assert float32() == EXACT
            assert float32() == inside
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert float32() == EXACT


@pytest.mark.parametrize("own", ["medium", "high", "highest"])
def test_scoring_in_a_program_with_settings_of_its_own_leaves_them(own: str) -> None:
    torch.set_float32_matmul_precision(own)
    torch.backends.cudnn.allow_tf32 = True
    with GPU.exact():
        assert float32() == EXACT
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == (own, True)


def test_only_forward_backward_and_update_of_a_step_use_them() -> None:
    torch.backends.cudnn.allow_tf32 = False
    seen: dict[str, set[tuple[str, bool, bool]]] = {"forward": set(), "backward": set(), "between": set()}

    def forward(*_: Any) -> None:
        seen["forward"].add(float32())

    def gained(batch: Batch, _: Any) -> Batch:
        return batch

    ready = attrs.evolve(
        made(ORDER, 1), machine=attrs.evolve(CPU, tf32=True, cudnn_benchmark=True), augmentations=[("a", gained)]
    )
    ready.network.register_forward_pre_hook(forward)
    ready.network.get_submodule("backbone").register_forward_pre_hook(forward)
    ready.network.get_parameter("backbone.conv.weight").register_hook(lambda _: seen["backward"].add(float32()))
    dataset = ToyDataset(clips=26)

    def batches() -> Iterator[Any]:
        for raw in training_batches(ArrayStore(dataset), ClipTable.of(dataset), ORDER, WINDOW, 1):
            seen["between"].add(float32())
            yield raw

    make_trainer(ready, Rules(epochs=1, seed=5)).run(batches(), max_epochs=1, epoch_length=ORDER.steps)
    assert seen == {"forward": {FAST}, "backward": {FAST}, "between": {EXACT}}
    assert float32() == EXACT


@pytest.mark.parametrize("key", ["tf32", "cudnn_benchmark"])
def test_without_a_gpu_they_are_refused(key: str, recipe: Path) -> None:
    with pytest.raises(CallError, match=rf"^train\.{key}: true needs a GPU; on a CPU leave it out$"):
        prepare(soundbench.read_recipe(recipe, [f"train.{key}=true"]))


@pytest.mark.usefixtures("one_gpu")
def test_a_gpu_without_tf32_is_named() -> None:
    assert settle("cuda", "fp32", cudnn_benchmark=True).cudnn_benchmark
    with pytest.raises(CallError, match=r"compute capability 8\.0 or more; Tesla T4 has 7\.5; leave it out$"):
        settle("cuda", "fp32", tf32=True)


def test_the_environment_and_the_report_state_what_was_used(recipe: Path, cache: Path, tmp_path: Path) -> None:
    said: list[str] = []
    run = soundbench.run(soundbench.read_recipe(recipe, ["train.epochs=1"]), out=tmp_path / "run", say=said.append)
    environment = json.loads(run.directory.environment.read_text())
    assert [environment[key] for key in ("tf32", "cudnn_benchmark", "sync_batch_norm")] == [False] * 3
    assert run.report["tf32"] is False
    assert "| tf32 | False |" in run.directory.report_md.read_text()
    assert not [line for line in said if line.startswith("train.")]


def test_where_they_are_used_the_log_says_what_it_costs(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = attrs.evolve(CPU, tf32=True, cudnn_benchmark=True)
    own = soundbench.read_recipe(recipe)
    monkeypatch.setattr("soundbench.training.stages.settle_recipe", lambda *_: (used, own))
    assert [line for line in prepare(own).said if line.startswith("train.")] == [
        "train.tf32: steps multiply float32 as TF32; validation and test do not",
        "train.cudnn_benchmark: cuDNN chooses its algorithms by their time: last digits vary between runs, and on a "
        "resume",
    ]
    environment = describe_environment(own, used, "")
    assert environment["tf32"]
    assert environment["cudnn_benchmark"]


def test_a_cell_of_a_sweep_is_another_one_in_tf32_and_the_same_whichever_algorithms_are_chosen(recipe: Path) -> None:
    def name(*lines: str) -> str:
        sweep = recipe.parent / "sweep.toml"
        sweep.write_text("\n".join(['extends = "toy.toml"', "[sweep]", "seeds = [1]", "[train]", *lines]))
        return cells_of(read_sweep(sweep), lambda _: None)[0].name

    assert name("cudnn_benchmark = true") == name()
    assert len({name(), name("tf32 = true"), name("sync_batch_norm = true")}) == 3


# Batch norm over several processes ------------------------------------------------------------------------------------


def _setup(frozen: bool = False) -> tuple[TrainSetup, dict[str, torch.Tensor]]:
    ready = made(ORDER, 1, frozen=frozen)
    return ready, {name: value.clone() for name, value in ready.network.state_dict().items()}


def test_batch_norms_of_several_processes_keep_their_weights_their_names_and_what_they_compute_afterwards() -> None:
    ready, before = _setup()
    network = ready.network
    parameters = list(network.parameters())
    sound, lengths = torch.randn(3, WINDOW, generator=torch.Generator().manual_seed(0)), torch.full((3,), WINDOW)
    wanted = network.eval()(sound, lengths)
    distributed.synchronise(network)
    assert isinstance(network.get_submodule("backbone.norm"), nn.SyncBatchNorm)
    assert same(before, network.state_dict())
    assert all(one is other for one, other in zip(parameters, network.parameters(), strict=True))
    assert torch.equal(network.eval()(sound, lengths), wanted)
    plain = _setup()[0].network
    plain.load_state_dict(network.state_dict())  # as a model folder, and a resume without the setting, load it
    assert type(plain.get_submodule("backbone.norm")) is nn.BatchNorm1d
    assert len(parameter_groups(network)) == len(parameter_groups(plain))


def test_frozen_batch_norms_stay_as_they_are() -> None:
    ready, _ = _setup()
    frozen = freeze(ready.network, ["backbone.norm"])
    distributed.synchronise(ready.network, frozen)
    assert ready.network.get_submodule("backbone.norm") is frozen[0]
    assert type(frozen[0]) is nn.BatchNorm1d


def test_several_processes_on_cpus_are_refused_and_one_is_not(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = soundbench.read_recipe(recipe, ["train.sync_batch_norm=true"])
    settle_recipe(asked)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    line = r"^train\.sync_batch_norm: true needs a GPU for each process; on CPUs leave it out$"
    with pytest.raises(CallError, match=line):
        settle_recipe(asked)


class OwnNorm(nn.BatchNorm1d):
    """It does something more."""


def _own(network: nn.Module) -> None:
    network.get_submodule("backbone").norm = OwnNorm(16)


def _ragged(network: nn.Module) -> None:
    network.get_submodule("backbone").ragged = False  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_own, "backbone has a batch norm of the class OwnNorm, which PyTorch cannot synchronise; leave it out"),
        (_ragged, "backbone takes rows of equal length (ragged = False), so that processes would wait for each other"),
    ],
)
def test_batch_norms_that_cannot_be_synchronised_are_refused(
    change: Any, said: str, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(soundbench.read_recipe(recipe, ["train.sync_batch_norm=true"]))
    change(prepared.made.network)
    prepared.plan()  # one process has nothing to synchronise
    monkeypatch.setattr(distributed, "world", lambda: 2)
    with pytest.raises(RecipeError) as found:
        prepared.plan()
    assert str(found.value) == f"--set train.sync_batch_norm=true: {said}"
    frozen = soundbench.read_recipe(recipe, ["train.sync_batch_norm=true", 'train.freeze=["backbone.norm"]'])
    if change is _ragged:
        attrs.evolve(prepared, recipe=frozen).plan()
