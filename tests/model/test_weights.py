"""Weights: those loaded from a file, those trained and their learning rates, and averaging."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers.entry_points import NAMES, toy_registry
from helpers.training import go, made, same
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.data.order import Order, balanced_order, members
from soundbench.errors import RecipeError, RunError
from soundbench.model import folder as model_folder
from soundbench.model.assembly import assemble
from soundbench.model.weights import Average, freeze, load_matching, parameter_groups, unknown_part
from soundbench.recipe import Recipe
from soundbench.training import checkpoints
from soundbench.training.run import run

RIGHT = "give a run directory, a model folder, a .safetensors file or a dictionary of tensors by torch.save"


def network(classes: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))


def filled(value: float, classes: int = 2) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(tensor, value) for name, tensor in network(classes).state_dict().items()}


@pytest.mark.parametrize("kind", ["model", "run", "safetensors", "checkpoint", "average", "bare"])
def test_weights_are_loaded_from_any_kind_of_file(tmp_path: Path, kind: str) -> None:
    given = filled(3)
    source = {
        "model": tmp_path,
        "run": tmp_path,
        "safetensors": tmp_path / "weights.safetensors",
    }.get(kind, tmp_path / "some.pt")
    if kind in ("model", "run", "safetensors"):
        folder = tmp_path / "model" if kind == "run" else tmp_path
        folder.mkdir(exist_ok=True)
        safetensors.torch.save_file(given, folder / "weights.safetensors")
    else:
        shell = {"checkpoint": {"network": given, "average": {}, "step": 3}, "bare": given}
        torch.save(shell.get(kind, {"network": filled(1), "average": given}), source)
    net = network()
    weights = load_matching(net, source)
    assert not weights.left
    assert not weights.unused
    assert all((value == 3).all() for name, value in net.state_dict().items() if "num_batches" not in name)


def test_what_does_not_fit_is_not_loaded_and_logged(tmp_path: Path) -> None:
    given = filled(3, classes=5)
    del given["1.running_var"]
    torch.save(given | {"teacher.weight": torch.zeros(3)}, tmp_path / "a.pt")
    net = network()
    drawn = net.state_dict()["2.weight"].clone()
    weights = load_matching(net, tmp_path / "a.pt")
    assert torch.equal(net.state_dict()["2.weight"], drawn)
    assert (net.state_dict()["0.weight"] == 3).all()
    assert weights.lines() == [
        f"init: 5 of 8 tensors are from {tmp_path / 'a.pt'}",
        "init: not loaded: 1.running_var (not in the file), 2.weight ((5, 8) in the file, (2, 8) needed), "
        "2.bias ((5,) in the file, (2,) needed)",
        "init: in the file but not in the network: teacher.weight",
    ]


class Headed(nn.Module):
    """A backbone and a classifier, named as in a network."""

    def __init__(self, classes: int, bias: bool = True) -> None:
        super().__init__()
        self.backbone = nn.Linear(4, 8)
        self.head = nn.ModuleDict({"classify": nn.Linear(8, classes, bias=bias)})


def model_of(folder: Path, classes: list[str], bias: bool = True) -> Path:
    """A model folder whose classifier has the rows 1, 2, ..."""
    folder.mkdir(parents=True)
    tensors = {name: torch.full_like(tensor, 7) for name, tensor in Headed(len(classes), bias).state_dict().items()}
    rows = torch.arange(1.0, len(classes) + 1)
    tensors["head.classify.weight"] = rows[:, None].repeat(1, 8)
    if bias:
        tensors["head.classify.bias"] = rows.clone()
    safetensors.torch.save_file(tensors, folder / "weights.safetensors")
    (folder / "model.toml").write_text(f"classes = {classes}\n".replace("'", '"'))
    model_folder.accept(folder)
    return folder


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("theirs", "classes", "rows", "said"),
    [
        (["dog", "cat"], ["dog", "cat"], [1, 2], None),
        (["dog", "cat"], ["cat", "dog"], [2, 1], "the classifier's rows are matched by the names of the classes"),
        (
            ["dog", "cat"],
            ["cat", "cow"],
            [2, 0],
            "1 of 2 classes have a row of the same name in the file; these begin ",
        ),
        (
            ["dog", "cat", "cow"],
            ["cow", "dog"],
            [3, 1],
            "the classifier's rows are matched by the names of the classes",
        ),
        (["caf\u00e9", "cat"], ["cat", "caf\u00e9"], [2, 1], "the classifier's rows are matched by the names of"),
        (["cafe\u0301", "cat"], ["cat", "caf\u00e9"], [2, 1], "the classifier's rows are matched by the names of"),
        (["dog", "cat"], ["cow", "hen"], [0, 0], "0 of 2 classes have a row of the same name in the file; these begin"),
    ],
)
def test_rows_of_the_classifier_are_those_of_the_same_class(
    tmp_path: Path, theirs: list[str], classes: list[str], rows: list[int], said: str | None, bias: bool
) -> None:
    net = Headed(len(classes), bias)
    drawn = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    weights = load_matching(net, model_of(tmp_path / "run/model", theirs, bias).parent, classes)
    for name, tensor in net.head["classify"].state_dict().items():
        for row, value in enumerate(rows):
            own = tensor[row]
            assert (own == value).all() if value else torch.equal(own, drawn[f"head.classify.{name}"][row])
    assert (net.backbone.weight == 7).all()
    lines = weights.lines()
    assert [line for line in lines if said and line.startswith(f"init: {said}")] or not said
    assert (len(lines) == 1) == (said is None)
    anew = [name for name, value in zip(classes, rows, strict=True) if not value]
    assert not anew or lines[1].endswith(f"anew: {', '.join(anew)}")
    counts = 40 + sum(map(bool, rows)) * (9 if bias else 8)
    assert weights.share == pytest.approx(counts / (40 + len(rows) * (9 if bias else 8)))


def test_a_checkpoint_of_a_run_knows_its_classes(tmp_path: Path) -> None:
    tensors = safetensors.torch.load_file(model_of(tmp_path / "model", ["dog", "cat"]) / "weights.safetensors")
    (tmp_path / "checkpoints").mkdir()
    torch.save({"network": tensors}, tmp_path / "checkpoints" / "best.pt")
    net = Headed(2)
    load_matching(net, tmp_path / "checkpoints" / "best.pt", ["cat", "dog"])
    assert net.head["classify"].bias.tolist() == [2, 1]


def test_weights_without_names_of_classes_are_taken_in_their_order_and_that_is_said(tmp_path: Path) -> None:
    folder = model_of(tmp_path / "model", ["dog", "cat"])
    (folder / "model.toml").unlink()
    net = Headed(2)
    lines = load_matching(net, folder, ["cat", "dog"]).lines()
    assert net.head["classify"].bias.tolist() == [1, 2]
    assert lines[1] == "init: the file names no classes: the classifier's rows are taken in their order"


def test_a_model_that_names_another_number_of_classes_than_its_weights_have_is_refused(tmp_path: Path) -> None:
    folder = model_of(tmp_path / "model", ["dog", "cat"])
    (folder / "model.toml").write_text('classes = ["dog"]')
    model_folder.accept(folder)
    with pytest.raises(RunError, match=r"names 1 classes, but head\.classify\.(weight|bias) has 2 rows"):
        load_matching(Headed(2), folder, ["cat", "dog"])


def test_a_file_that_fills_little_of_the_network_gives_a_warning(tmp_path: Path) -> None:
    """As one of another architecture does that shares a layer's name and shape."""
    net = network()  # 90 numbers: 40 in the first layer, 32 in the batch norm, 18 in the last layer
    torch.save({"0.bias": torch.zeros(8)}, tmp_path / "a.pt")
    weights = load_matching(net, tmp_path / "a.pt")
    assert weights.share == pytest.approx(8 / 90)
    assert weights.lines()[1] == (
        "WARNING: init: only 8.9% of the network's weights are from that file; the other 91.1% are random. "
        "Does the file belong to this architecture?"
    )
    torch.save({"0.weight": torch.zeros(8, 4), "0.bias": torch.zeros(8), "1.weight": torch.zeros(8)}, tmp_path / "b.pt")
    assert not any("WARNING" in line for line in load_matching(network(), tmp_path / "b.pt").lines())


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    """Though a classifier of as many classes may fit."""
    given = {"conv.weight": torch.zeros(3, 3), "2.bias": torch.zeros(2)}
    torch.save(given, tmp_path / "a.pt")
    with pytest.raises(RunError) as caught:
        load_matching(network(), tmp_path / "a.pt")
    assert str(caught.value) == (
        f"{tmp_path / 'a.pt'}: of another architecture: none of its 2 tensors fits the network's 0; "
        "it has conv.weight, 2.bias; the network has 0.weight, 0.bias"
    )


def test_a_pooling_and_a_head_that_fit_are_no_architecture(tmp_path: Path) -> None:
    """Though most of the weights are in them."""

    def parts(width: int) -> nn.Module:
        layers = {"backbone": nn.Linear(4, width), "pooling": nn.Linear(8, 8), "head": nn.Linear(8, 2)}
        return nn.Sequential(OrderedDict(layers))

    torch.save(parts(3).state_dict(), tmp_path / "a.pt")
    load_matching(parts(3), tmp_path / "a.pt")
    with pytest.raises(RunError, match=r"of another architecture: .* has backbone\.weight, backbone\.bias"):
        load_matching(parts(5), tmp_path / "a.pt")


def test_a_run_that_cannot_begin_with_the_weights_makes_no_directory(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"init\.from: .*nowhere: No such file or directory"):
        run(recipe(init={"from": tmp_path / "nowhere"}), out=tmp_path / "run", cache=False, say=lambda line: None)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        (b"", f"an empty file; {RIGHT}"),
        (b"no weights at all", f"not a file of weights; {RIGHT}"),
        (b"a,b\n1,2\n", f"not a file of weights; {RIGHT}"),  # torch's reader ends in an IndexError
        (b"PK\x03\x04abc", "damaged, or with Python objects other than tensors, which are never executed; give a run"),
        ({"epoch": 3}, "has no tensors"),
        ([torch.zeros(3)], "has no tensors"),
        ({"a": Path("x")}, "damaged, or with Python objects other than tensors"),  # it would execute something
    ],
)
def test_a_file_that_holds_no_weights_is_said(tmp_path: Path, content: object, said: str) -> None:
    path = tmp_path / "a.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(RunError) as caught:
        load_matching(network(), path)
    assert str(caught.value).startswith(f"{path}: {said}")
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        load_matching(network(), tmp_path)
    assert str(caught.value) == f"{tmp_path}: not a run and not a model: it has no weights.safetensors"


def test_a_part_has_its_own_rate_and_the_innermost_counts() -> None:
    net = nn.ModuleDict({"backbone": network(), "head": nn.Linear(2, 2)})
    groups = parameter_groups(net, {"backbone": 0.1, "backbone.2": 0.2})
    found = {
        id(parameter): (group.get("lr"), group.get("weight_decay")) for group in groups for parameter in group["params"]
    }
    names = {name: found[id(parameter)] for name, parameter in net.named_parameters()}
    assert names == {
        "backbone.0.weight": (0.1, None),
        "backbone.0.bias": (0.1, 0.0),
        "backbone.1.weight": (0.1, 0.0),
        "backbone.1.bias": (0.1, 0.0),
        "backbone.2.weight": (0.2, None),
        "backbone.2.bias": (0.2, 0.0),
        "head.weight": (None, None),
        "head.bias": (None, 0.0),
    }


def test_parts_are_known_by_their_path() -> None:
    net = nn.ModuleDict({"backbone": network(), "act": nn.ReLU()})
    assert unknown_part(net, "backbone.1") == ""
    assert unknown_part(net, "bakbone").startswith('the network has no part "bakbone" with weights; did you mean')
    assert "it has backbone" in unknown_part(net, "act")


def recipe(**tables: object) -> Recipe:
    small = {"dataset": "noise", "backbone": "conv", "audio": {"window": 0.2, "rate": 8000}, **NAMES, **tables}
    return Recipe(registry=toy_registry(), **small)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"freeze": ["bakbone"]}, 'train.freeze: the network has no part "bakbone"'),
        ({"rates": {"hed": 0.1}}, 'train.rates: the network has no part "hed"'),
        ({"freeze": ["pooling"]}, 'train.freeze: the network has no part "pooling" with weights'),
        ({"freeze": ["backbone", "head"]}, "train.freeze: leaves nothing to train"),
    ],
)
def test_a_part_that_there_is_not_is_a_mistake_of_the_recipe(train: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said.replace("[", r"\[")):
        assemble(recipe(train=train))


def test_frozen_parts_do_not_learn_nor_do_their_batch_norms(tmp_path: Path) -> None:
    tables = {
        "train": {"epochs": 1, "batch_size": 8, "freeze": ["backbone"], "device": "cpu"},
        "split": {"validation": 0},
    }
    drawn = {name: value.clone() for name, value in assemble(recipe(**tables)).network.state_dict().items()}
    found = run(recipe(**tables), out=tmp_path / "run", cache=False, say=lambda line: None)
    learnt = safetensors.torch.load_file(found.directory.weights)
    for name, value in learnt.items():
        assert torch.equal(value, drawn[name]) == (name.startswith("backbone") or name.startswith("featurizer")), name


def test_a_run_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    """With a rate of nothing it ends with them, and the log says so."""
    tables = {"train": {"epochs": 1, "batch_size": 8, "device": "cpu"}, "split": {"validation": 0}}
    first = run(recipe(**tables), out=tmp_path / "one", cache=False, say=lambda line: None)
    said: list[str] = []
    tables |= {"init": {"from": first.path}, "optimizer": {"use": "descent", "lr": 1e-30}}
    second = run(recipe(**tables), out=tmp_path / "two", cache=False, say=said.append)
    one, two = (safetensors.torch.load_file(found.directory.weights) for found in (first, second))
    for name in one:
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(one[name], two[name]), name
    assert any(line.startswith("init: ") and " of " in line for line in said)
    assert f'from = "{first.path}"' in second.directory.recipe.read_text()


@pytest.mark.parametrize("rules", [{"ema": 0.5}, {"swa": 0.4}])
def test_the_average_is_of_the_weights_of_the_steps(rules: dict[str, float]) -> None:
    parts = made(Order(np.arange(26), 6, 5), 1)
    average = Average(parts.network, rules.get("ema", 0.0), 0 if "ema" in rules else 3)
    weight = parts.network.head.classify.weight
    expected: list[float] = []
    for step, value in enumerate((1.0, 2.0, 4.0, 8.0, 16.0), start=1):
        nn.init.constant_(weight, value)
        average.update(parts.network, step)
        expected.append(value)
    want = (8 + 16) / 2 if "swa" in rules else 0.5 * 16 + 0.25 * 8 + 0.125 * 4 + 0.0625 * 2 + 0.0625 * 1
    assert average.network is not None
    assert average.network.head.classify.weight.flatten()[0].item() == pytest.approx(want)


@pytest.mark.parametrize("decay", [0.99, 0.0])
def test_an_average_is_that_of_torch_to_the_bit(decay: float) -> None:
    network = made(Order(np.arange(26), 6, 5), 1).network
    draws = torch.Generator().manual_seed(1)
    average = Average(network, decay, 0)
    function = get_ema_multi_avg_fn(decay) if decay else None  # type: ignore[no-untyped-call]
    other = AveragedModel(network, multi_avg_fn=function, use_buffers=True)
    for step in range(1, 8):
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=draws))
        average.update(network, step)
        other.update_parameters(network)
    assert average.network is not None
    assert same(average.network.state_dict(), other.module.state_dict())


def test_an_average_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole, _ = go(tmp_path / "whole", rules={"checkpoint_steps": 1}, parts={"ema": 0.9})
    middle = checkpoints.load(tmp_path / "whole" / "step-00000007.pt")
    again, _ = go(tmp_path / "again", state=middle, parts={"ema": 0.9})
    assert same(whole, again)
    last = checkpoints.load(tmp_path / "whole" / "step-00000015.pt")
    assert same(whole, last["average"])
    assert not same(whole, last["network"])


def table(labels: list[tuple[str, ...]], multilabel: bool = False) -> ClipTable:
    class Given:
        classes = ("a", "b", "c")

        def clips(self) -> list[Clip]:
            return [Clip(f"{number}.wav", label) for number, label in enumerate(labels)]

    Given.multilabel = multilabel  # type: ignore[attr-defined]
    return ClipTable.of(Given())  # type: ignore[arg-type]


def test_a_balanced_epoch_shows_each_class_equally_often() -> None:
    given = table([("a",)] * 60 + [("b",)] * 30 + [("c",)] * 6)
    rows = np.arange(96)
    shown = balanced_order(members(given, rows), 96, 1, 1)
    counts = np.bincount(given.targets(rows)[shown].argmax(1))
    assert counts.tolist() == [32, 32, 32]
    assert (np.bincount(shown[shown >= 90] - 90) >= 5).all()  # a small class goes round and round
    assert len(np.unique(shown[shown < 60])) == 32  # a large one shows no clip twice before all were shown
    assert not np.array_equal(shown, balanced_order(members(given, rows), 96, 1, 2))
    assert np.array_equal(shown, balanced_order(members(given, rows), 96, 1, 1))


def test_a_clip_of_several_labels_stands_for_each_of_them() -> None:
    given = table([("a",), ("a", "b"), ("b",)], multilabel=True)
    assert [list(own) for own in members(given, np.arange(3))] == [[0, 1], [1, 2]]


def test_a_balanced_order_is_the_same_for_any_batch_and_number_of_processes() -> None:
    given = table([("a",)] * 20 + [("b",)] * 3)
    own = members(given, np.arange(23))

    def epoch(batch: int, world: int) -> list[int]:
        plans = [Order(np.arange(23), batch, 7, rank, world, own) for rank in range(world)]
        steps = range(plans[0].steps)
        pairs = [pair for step in steps for plan in plans for pair in zip(*plan.step(2, step), strict=True)]
        return [int(row) for row, _ in sorted(pairs, key=lambda pair: pair[1])]

    assert epoch(4, 1) == epoch(23, 1) == epoch(8, 2)


def test_freezing_takes_parameters_out() -> None:
    net = network()
    frozen = freeze(net, ["1"])
    assert frozen == [net[1]]
    assert [parameter.requires_grad for parameter in net.parameters()] == [True, True, False, False, True, True]
