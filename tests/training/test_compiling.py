"""A step that compiles: what is traced computes what the step computes, and what cannot be is named."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._inductor.exc
from helpers.runs import RECIPE
from helpers.toys import ToyDataset, ToyDrop, ToyPooling
from helpers.training import ASKED, CPU, WINDOW, ArrayStore, Stopped, go, made, same

import soundbench
from soundbench.chance import Chance, Keyed
from soundbench.contracts import Batch
from soundbench.data.batches import on_device, training_batches
from soundbench.data.clips import ClipTable
from soundbench.data.order import Order
from soundbench.errors import CallError
from soundbench.report.run_directory import RunDirectory
from soundbench.training import checkpoints
from soundbench.training.compiling import compiler
from soundbench.training.compiling.compiler import Compiler, Compiling, planned
from soundbench.training.compiling.train_step import tensors_of
from soundbench.training.step import TrainStep, seed_step

ORDER = Order(np.arange(26), batch=6, seed=5)


@pytest.fixture(autouse=True)
def _traces() -> Iterator[None]:
    """No trace of another test."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def batches(epochs: int) -> list[tuple[int, Batch]]:
    """Batches of 5 and 6 rows, each with its epoch."""
    dataset = ToyDataset(clips=26)
    raws = training_batches(ArrayStore(dataset), ClipTable.of(dataset), ORDER, WINDOW, epochs)
    return [(1 + step // ORDER.steps, on_device(raw, CPU.device, "off")) for step, raw in enumerate(raws)]


def test_a_step_is_traced_whole_and_draws_the_same_numbers_in_each_epoch() -> None:
    step = made(ORDER, 2).step.train()
    assert isinstance(step, TrainStep)
    given = batches(2)
    step.note_draws(given[0][1])
    assert step.draws == [("augmentation[1]", "band")]
    traced = torch.compile(step.losses, backend="eager", fullgraph=True)
    for number, (epoch, batch) in enumerate(given):
        tensors = tensors_of(batch)
        torch.manual_seed(number)
        plain, _ = step(*tensors, epoch)
        torch.manual_seed(number)
        own, _ = traced(*tensors, 0, step.keys(epoch))
        assert torch.equal(own, plain)


@pytest.mark.parametrize("epoch", [1, 7])
def test_keys_in_a_tensor_give_the_bits_of_their_addresses(epoch: int) -> None:
    place, position = "augmentation[3]", torch.arange(1000) * 7919
    one = Chance(2**63 - 1, epoch, place)
    keys = torch.tensor([one.key("a"), one.key("b")])
    other = Keyed(keys, [(place, "a"), (place, "b")], place)
    for draw in ("a", "b"):
        assert torch.equal(other.bits(position, draw), one.bits(position, draw))
        assert torch.equal(other.uniform(position, draw, -3.0, 5.0), one.uniform(position, draw, -3.0, 5.0))
        assert torch.equal(other.integers(position, draw, 13), one.integers(position, draw, 13))


# What becomes of `train.compile` --------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["auto", "off", "on"])
def test_only_on_compiles_on_a_cpu(asked: Any) -> None:
    how = planned(asked, torch.device("cpu"))
    assert (how.asked, how.used) == (asked, "on" if asked == "on" else "off")
    assert how.reason == {"auto": "compiling was not measured to pay on a CPU"}.get(asked, "as asked")


def test_graphs_need_a_gpu() -> None:
    assert planned("graphs", torch.device("cuda")).used == "graphs"
    with pytest.raises(CallError, match=r"^train.compile: 'graphs' needs a GPU; on a CPU use 'on' or 'off'$"):
        planned("graphs", torch.device("cpu"))


@pytest.fixture
def traced_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are traced, and what was traced is computed as it is: it takes a tenth of the time of a compiler."""
    monkeypatch.setattr(compiler, "BACKEND", "aot_eager")


@pytest.mark.slow
@pytest.mark.usefixtures("traced_only")
def test_a_compiled_training_resumes_to_the_same_bits_and_names_no_wrapper(tmp_path: Path) -> None:
    found: list[Compiling] = []
    plain, _ = go(tmp_path / "plain")
    whole, _ = go(tmp_path / "whole", parts={"compiled": found})
    assert whole.keys() == plain.keys()
    with pytest.raises(Stopped):
        go(tmp_path / "cut", rules={"checkpoint_steps": 1}, stop_at=7, parts={"compiled": found})
    state = checkpoints.latest(tmp_path / "cut", print)
    assert state is not None
    assert state["network"].keys() == plain.keys()
    resumed, _ = go(tmp_path / "cut", state=state, parts={"compiled": found})
    assert same(whole, resumed)
    assert found == [ASKED] * 3


class Drawing(ToyPooling):
    """Draws by all generators that there are, and cannot be traced."""

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        scale = random.random() + np.random.rand() + float(torch.rand(()))
        return super().forward(frames * scale, lengths)


@pytest.mark.usefixtures("traced_only")
@pytest.mark.parametrize("pooling", [ToyPooling, Drawing])
def test_trying_a_compiled_step_changes_no_weight_statistic_gradient_mode_or_random_state(
    pooling: type[ToyPooling],
) -> None:
    found: list[Compiling] = []
    ready = made(ORDER, 1, compiled=found)
    step = ready.step.train()
    ready.network.pooling = pooling(16)
    ready.network.featurizer.add_module("frozen", torch.nn.Dropout().eval())
    before = {name: value.clone() for name, value in step.state_dict().items()}
    modes = [module.training for module in step.modules()]
    seed_step(1, 1, 0)
    wanted = random.random(), np.random.rand(), float(torch.rand(()))
    seed_step(1, 1, 0)
    assert ready.compiler is not None
    batch = batches(1)[0][1]
    assert ready.compiler.begin(batch)
    assert not ready.compiler.begin(batch)
    assert [how.used for how in found] == ["off" if pooling is Drawing else "on"]
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == wanted
    assert all(torch.equal(value, before[name]) for name, value in step.state_dict().items())
    assert [module.training for module in step.modules()] == modes
    assert all(parameter.grad is None for parameter in step.parameters())


def test_what_is_compiled_does_not_depend_on_the_rows_of_the_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler may choose by sizes, and a run goes on from any step; one graph serves all of them."""
    rows: list[int] = []

    def noting(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        rows.extend(len(one) for one in inputs if isinstance(one, torch.Tensor) and one.shape[1:] == (WINDOW,))
        return graph.forward

    monkeypatch.setattr(compiler, "BACKEND", noting)
    for count in (5, 6):
        ready = made(ORDER, 1, compiled=[])
        ready.step.train()
        assert ready.compiler is not None
        ready.compiler.begin(next(batch for _, batch in batches(1) if len(batch.data) == count))
    assert rows == [6, 6]


class Branching(ToyPooling):
    """Python looks at what a tensor holds."""

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return super().forward(frames * 2 if frames.sum() > 0 else frames, lengths)


class BranchingDrop(ToyDrop):
    """Python looks at what a tensor holds."""

    def forward(self, batch: Batch, chance: Any) -> Batch:
        return super().forward(batch, chance) if float(batch.data.sum()) > 0 else batch


def _pooling(step: TrainStep) -> None:
    step.network.pooling = Branching(16)


def _augmentation(step: TrainStep) -> None:
    step.augmentations[0] = BranchingDrop(8000)


def _ragged(step: TrainStep) -> None:
    step.network.backbone.ragged = False  # such rows are sorted by their lengths, in Python


@pytest.mark.usefixtures("traced_only")
@pytest.mark.parametrize(
    ("change", "named"),
    [(_pooling, 'pooling "mean"'), (_augmentation, "augmentation[1]"), (_ragged, 'backbone "conv"')],
)
def test_a_part_that_cannot_be_traced_is_named_and_the_step_is_what_it_was(
    change: Callable[[TrainStep], None], named: str
) -> None:
    step = made(ORDER, 1).step.train()
    assert isinstance(step, TrainStep)
    change(step)
    found: list[Compiling] = []
    own = Compiler(step, CPU, 6, ASKED, {"pooling": 'pooling "mean"', "backbone": 'backbone "conv"'}, found.append)
    (epoch, batch), *_ = batches(1)
    own.begin(batch)
    assert found[0].used == "off"
    assert found[0].reason.startswith(f"{named} cannot be traced: ")
    assert "\n" not in found[0].reason
    assert own.address(epoch) == (epoch,)
    assert step(*tensors_of(batch), epoch)[0].isfinite().all()


def broken(*_: Any) -> Any:
    raise RuntimeError("the compiler has a bad day\nand much to say of it")


def full(*_: Any) -> Any:
    raise MemoryError


def without(*_: Any) -> Any:
    raise torch._inductor.exc.InvalidCxxCompiler


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run that is not to be compiled, with its recipe and its cache beside it."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "r.toml").write_text(RECIPE)
    return run_of(folder, folder / "run", "off", [])


def run_of(folder: Path, out: Path, asked: str, said: list[str]) -> RunDirectory:
    recipe = soundbench.read_recipe(folder / "r.toml", [f"train.compile={asked}", "train.epochs=1"])
    return soundbench.run(recipe, out=out, cache=folder / "cache", say=said.append).directory


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (broken, "RuntimeError: the compiler has a bad day"),
        (full, "memory ran out while compiling"),
        (without, "this machine has no C++ compiler, such as g++"),
    ],
)
def test_a_run_whose_compiler_fails_goes_on_without_it_and_says_so(
    backend: Any, reason: str, plain: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "BACKEND", backend)
    said: list[str] = []
    run = run_of(plain.path.parent, tmp_path / "run", "on", said)
    about = [line for line in said if line.startswith(("train.compile", "steps"))]
    assert about == [f"train.compile: {reason}; steps are not compiled"]
    how = [json.loads(one.environment.read_text())["compile"] for one in (run, plain)]
    assert how[0] == {"asked": "on", "used": "off", "reason": reason}
    assert how[1] == {"asked": "off", "used": "off", "reason": "as asked"}
    assert run.weights.read_bytes() == plain.weights.read_bytes()
