"""Recipes: read, extended, set, checked with all mistakes at once, and written so that they read the same."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import tomli
from helpers import entry_points, toys
from helpers.entry_points import NAMES, fake, toy_registry

from soundbench.errors import CallError, RecipeError
from soundbench.inference.events import EventRules
from soundbench.recipe import (
    Audio,
    ComponentSpec,
    Head,
    Init,
    Recipe,
    Split,
    Train,
    compose,
    find_recipe,
    local_files,
    model_tables,
    read,
    read_model,
    relocated,
    write_code,
)
from soundbench.recipe.registry import Registry

BASE = """
dataset = "noise"
featurizer = "spectra"
backbone = "conv"
loss = "entropy"
optimizer = "descent"
scheduler = "line"
calibration = "divide"
observer = []
"""

Recipes = Callable[..., Recipe]


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipes:
    """Reads a recipe of toys from text; other files may lie beside it, which is also the working directory."""
    monkeypatch.chdir(tmp_path)

    def read_text(text: str, *sets: str, registry: Registry | None = None, **files: str) -> Recipe:
        for name, content in files.items():
            Path(f"{name}.toml").write_text(content, encoding="utf-8")
        Path("r.toml").write_text(text, encoding="utf-8")
        return read("r.toml", sets, registry or toy_registry())

    return read_text


def toy_recipe(**tables: Any) -> Recipe:
    return Recipe(**{"dataset": "noise", "backbone": "conv", **NAMES, **tables}, registry=toy_registry())


def mistakes(make: Callable[[], Any]) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        make()
    return str(caught.value).splitlines()


# -- what a recipe is ----------------------------------------------------------------------------------------------


def test_every_default_is_written_out(recipes: Recipes) -> None:
    recipe = recipes(BASE)
    assert recipe.name == "r"
    assert recipe.source == "r.toml"
    assert recipe.tables() == {
        "name": "r",
        "dataset": {"use": "noise", "clips": 40, "seed": 0},
        "split": {"test": "auto", "validation": "auto", "crossing": "purge", "seed": 1, "near_duplicates": "ignore"},
        "audio": {
            "rate": 16000,
            "window": 3.0,
            "level": "off",
            "trim": "off",
            "on_error": "fail",
            "store": True,
            "shards_in_memory": 8,
        },
        "augmentation": [],
        "featurizer": {"use": "spectra", "floor": 1e-5},
        "backbone": {"use": "conv", "channels": 16, "dropout": 0.2},
        "pooling": {"use": "mean"},
        "head": {
            "embedding": 8,
            "norm_before": False,
            "bias": True,
            "norm_after": "none",
            "activation": "none",
            "dropout": 0.0,
        },
        "init": {},
        "loss": {"use": "entropy"},
        "optimizer": {"use": "descent", "lr": 0.01},
        "scheduler": {"use": "line", "floor": 0.1},
        "train": {
            "epochs": 30,
            "batch_size": 64,
            "seed": 1,
            "device": "auto",
            "precision": "auto",
            "threads": "auto",
            "num_workers": 0,
            "channels_last": "auto",
            "compile": "auto",
            "tf32": False,
            "cudnn_benchmark": False,
            "sync_batch_norm": False,
            "accumulate": 1,
            "max_grad_norm": 0.0,
            "patience": 0,
            "class_weights": "none",
            "sampler": "uniform",
            "extracted": False,
            "freeze": [],
            "rates": {},
            "ema": 0.0,
            "swa": 0.0,
            "keep": 3,
            "checkpoint_steps": 0,
        },
        "calibration": {"use": "divide"},
        "reject": {"use": "distance", "keep": 0.95, "noise": True, "leave_out": [], "silence": True},
        "report": {"by": [], "sounds": 20, "license": "", "data_license": ""},
        "observer": [],
    }


def test_tables_that_are_left_out_have_the_defaults_of_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = {name: table for name, table in NAMES.items() if name != "observer"}
    defaults = {name: {"use": table} for name, table in defaults.items()} | {
        "augmentation": [],
        "observer": [{"use": "listener"}],
    }
    monkeypatch.setattr("soundbench.recipe.resolving.DEFAULTS", defaults)
    recipe = Recipe(dataset="noise", backbone="conv", loss={"use": "entropy"}, registry=toy_registry())
    assert [part.use for part in recipe.components()] == [
        "noise", "spectra", "conv", "mean", "entropy", "descent", "line", "divide", "distance",
        "listener",
    ]  # fmt: skip
    options_alone = Recipe(dataset="noise", backbone="conv", optimizer={"lr": 0.5}, registry=toy_registry())
    assert options_alone.optimizer.table() == {"use": "descent", "lr": 0.5}


def test_a_recipe_from_python_is_the_same_as_from_a_file(recipes: Recipes) -> None:
    text = (
        BASE.replace('observer = []\nbackbone = "conv"', "") + "[train]\nepochs = 3\n[[augmentation]]\nuse = 'gain'\n"
    )
    from_file = recipes(text)
    from_python = toy_recipe(
        backbone=toys.ToyBackbone, train=Train(epochs=3), augmentation=[{"use": toys.ToyGain, "most": 2}], audio=Audio()
    )
    assert from_python == from_file
    assert compose({"dataset": "noise", "backbone": "conv", **NAMES, "name": "n"}, registry=toy_registry()).name == "n"
    assert compose(from_file.tables(), registry=toy_registry()) == from_file


def test_parts_are_kept_as_they_are_when_a_recipe_is_changed() -> None:
    recipe = toy_recipe(augmentation=["gain", "drop"])
    changed = attrs.evolve(recipe, train=attrs.evolve(recipe.train, epochs=2), split=Split(test=[1]))
    assert changed.train.epochs == 2
    assert changed.augmentation == recipe.augmentation
    assert attrs.evolve(changed, train=recipe.train, split=recipe.split) == recipe


def test_short_forms(recipes: Recipes) -> None:
    recipe = recipes(BASE.replace("observer = []", 'observer = ["listener", {use = "listener", every = 2}]'))
    assert [part.options for part in recipe.observer] == [{"every": 1}, {"every": 2}]


def test_a_part_keeps_which_distribution_it_is_from() -> None:
    assert toy_recipe(pooling="toys/mean").pooling.use == "toys/mean"


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"augmentation": ["gain", {"use": "drop"}], "observer": ["listener"]},
        {"split": {"test": [1, "two"], "validation": 0}, "audio": {"hop": 0.5, "level": -20}},
        {"train": {"class_weights": {"dog bark": 2, "猫 \"'": 0.5}, "threads": 2, "channels_last": True}},
        {"head": Head(embedding=0, dropout=0.25), "featurizer": {"use": "spectra", "floor": 1e-30}},
    ],
)
def test_a_written_recipe_reads_the_same(tmp_path: Path, tables: dict[str, Any]) -> None:
    recipe = toy_recipe(name="first", **tables)
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    again = read(path, registry=toy_registry())
    assert again == recipe
    assert again.name == "first"
    assert again.to_toml() == recipe.to_toml()


def test_a_written_recipe_opens_with_where_its_components_came_from() -> None:
    lines = toy_recipe(augmentation=["gain"]).to_toml().splitlines()
    assert lines[0].startswith("# Resolved by soundbench")
    assert lines[1:4] == [
        "# dataset noise: toys 1.0",
        "# augmentation gain: toys 1.0",
        "# featurizer spectra: toys 1.0",
    ]


# -- extends and --set ---------------------------------------------------------------------------------------------


def test_extends_merges_tables_below(recipes: Recipes) -> None:
    base = BASE + "[train]\nepochs = 9\nbatch_size = 8\nclass_weights = {a = 1}\n[[augmentation]]\nuse = 'gain'\n"
    own = "extends = 'base.toml'\naugmentation = ['drop', 'gain']\n[train]\nepochs = 2\nclass_weights = {b = 2}\n"
    recipe = recipes(own, base=base)
    assert (recipe.train.epochs, recipe.train.batch_size) == (2, 8)
    assert recipe.train.class_weights == {"a": 1.0, "b": 2.0}
    assert [part.use for part in recipe.augmentation] == ["drop", "gain"]
    assert recipe.name == "r"


def test_a_table_that_names_another_component_drops_the_options_of_the_old(recipes: Recipes) -> None:
    base = BASE.replace('"conv"', '{use = "conv", channels = 4}').replace('"descent"', '{use = "descent", lr = 1}')
    registry = toy_registry(fake("backbone", "other", "helpers.toys:ToyBackbone"))
    same = recipes("extends = 'base.toml'\nbackbone = {dropout = 0}\noptimizer = 'descent'", base=base)
    assert same.backbone.options == {"channels": 4, "dropout": 0.0}
    assert same.optimizer.options == {"lr": 1.0}
    other = recipes("extends = 'base.toml'\nbackbone = 'other'", base=base, registry=registry)
    assert other.backbone.options == {"channels": 16, "dropout": 0.2}


def test_extends_is_relative_to_the_recipe_and_goes_on(recipes: Recipes, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "middle.toml").write_text("extends = '../base.toml'\n[audio]\nrate = 8000\n")
    recipe = recipes("extends = 'deep/middle.toml'\n[audio]\nwindow = 1", base=BASE + "[audio]\nrate = 1000\n")
    assert (recipe.audio.rate, recipe.audio.window) == (8000, 1.0)


def test_local_files_are_relative_to_the_recipe_that_names_them(recipes: Recipes, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mine.py").write_text("class Net:\n    def __init__(self, bands): ...\n")
    (tmp_path / "deep" / "base.toml").write_text(BASE.replace('"conv"', '"./mine.py:Net"') + "pooling = 'mean'\n")
    recipe = recipes("extends = 'deep/base.toml'")
    assert recipe.backbone.use == f"{tmp_path}/deep/mine.py:Net"
    assert recipe.backbone.component.source == tmp_path / "deep" / "mine.py"


@pytest.mark.parametrize(
    ("sets", "get", "value"),
    [
        (["train.epochs=3"], lambda r: r.train.epochs, 3),
        (["train.epochs = 3", "train.epochs=4"], lambda r: r.train.epochs, 4),
        (["split.test=[2]"], lambda r: r.split.test, [2]),
        (["split.test=['a', 2]"], lambda r: r.split.test, ["a", 2]),
        (["audio.level=off"], lambda r: r.audio.level, "off"),
        (["train={epochs=2, batch_size=5}"], lambda r: (r.train.epochs, r.train.batch_size, r.train.keep), (2, 5, 7)),
        (["train.class_weights.dog=2"], lambda r: r.train.class_weights, {"dog": 2.0}),
        (['train.class_weights."dog bark"=2'], lambda r: r.train.class_weights, {"dog bark": 2.0}),
        (["augmentation.0.most=3"], lambda r: r.augmentation[0].options, {"most": 3.0}),
        (["augmentation[0].most=3"], lambda r: r.augmentation[0].options, {"most": 3.0}),
        (["augmentation.1.use=drop"], lambda r: [p.use for p in r.augmentation], ["gain", "drop"]),
        (["augmentation.0.use=drop"], lambda r: r.augmentation[0].table(), {"use": "drop"}),
        (["augmentation=['drop']"], lambda r: [p.use for p in r.augmentation], ["drop"]),
        (["augmentation=[]"], lambda r: r.augmentation, ()),
        (["backbone.dropout=0.5"], lambda r: r.backbone.options["dropout"], 0.5),
        (["pooling=mean"], lambda r: r.pooling.use, "mean"),
        (["name=other"], lambda r: r.name, "other"),
        (["backbone.dropout=0.5", "backbone.use=wide"], lambda r: r.backbone.options, {"channels": 16, "dropout": 0.5}),
        (["backbone=wide"], lambda r: r.backbone.options, {"channels": 16, "dropout": 0.2}),
    ],
)
def test_set_changes_a_key(recipes: Recipes, sets: Sequence[str], get: Callable[[Recipe], Any], value: Any) -> None:
    text = (
        BASE.replace('"conv"', '{use = "conv", channels = 4}') + "[train]\nkeep = 7\n[[augmentation]]\nuse = 'gain'\n"
    )
    assert (
        get(recipes(text, *sets, registry=toy_registry(fake("backbone", "wide", "helpers.toys:ToyBackbone")))) == value
    )


def test_a_local_file_that_is_set_is_relative_to_the_working_directory(recipes: Recipes, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Net:\n    def __init__(self, bands): ...\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "r.toml").write_text(BASE)
    recipe = read("deep/r.toml", ["backbone.use=./mine.py:Net", "pooling=mean"], toy_registry())
    assert recipe.backbone.use == f"{tmp_path}/mine.py:Net"


# -- mistakes ------------------------------------------------------------------------------------------------------


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_recipe(recipes: Recipes) -> None:
    text = """
extends = "base.toml"
backbone = {use = "conv", chanels = 3, dropout = "much"}
trian = {epochs = 3}
pooling = "men"
[split]
test = 10
validation = []
[audio]
rate = 16000.0
hop = 4.0
[[augmentation]]
use = "gain"
most = true
[[augmentation]]
chance = 0.5
"""
    base = BASE + "[train]\nepochs = 0\nsead = 3\n"
    assert mistakes(lambda: recipes(text, "train.keep=x", "train.batch_size", base=base)) == [
        'r.toml: backbone.dropout: must be a number, is "much"',
        'r.toml: backbone.chanels: unknown key; did you mean "channels"? known: channels, dropout',
        "--set train.batch_size: must be KEY=VALUE, such as train.epochs=3",
        "r.toml: train.epochs: must be at least 1, is 0 (in base.toml)",
        '--set train.keep=x: must be an integer, is "x"',
        'r.toml: train.sead: unknown key; did you mean "seed"? known: epochs, batch_size, seed, device, precision, '
        "threads, num_workers, channels_last, compile, tf32, cudnn_benchmark, sync_batch_norm, "
        "accumulate, max_grad_norm, patience, class_weights, sampler, "
        "extracted, freeze, rates, ema, swa, "
        "keep, checkpoint_steps "
        "(in base.toml)",
        'r.toml: trian: unknown table; did you mean "train"? known: dataset, split, audio, augmentation, featurizer, '
        "backbone, pooling, head, init, loss, optimizer, scheduler, train, calibration, reject, report, observer",
        'r.toml: pooling.use: there is no pooling "men"; did you mean "mean"? known: mean',
        "r.toml: split.test: must be a fraction at least 0 and below 1, is 10.0; for fold 10 write [10]",
        "r.toml: audio.rate: must be an integer, is 16000.0",
        "r.toml: augmentation[0].most: must be a number, is true",
        "r.toml: augmentation[1].use: is missing; known: drop, gain",
    ]


def test_missing_tables_are_reported_with_what_could_be_there(recipes: Recipes) -> None:
    without = "\n".join(BASE.splitlines()[2:]).replace('backbone = "conv"', "")
    assert mistakes(lambda: recipes(without)) == [
        'r.toml: dataset: this table is missing; write dataset = "NAME", known: noise',
        'r.toml: backbone: this table is missing; write backbone = "NAME", known: conv',
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[train]\nepochs = 0", "train.epochs: must be at least 1, is 0"),
        ("[train]\nbatch_size = -1", "train.batch_size: must be at least 1, is -1"),
        ("[train]\nseed = -1", "train.seed: must be from 0 to 9223372036854775807, is -1"),
        ("[train]\nkeep = 0", "train.keep: must be at least 1, is 0"),
        ("[train]\nmax_grad_norm = -0.5", "train.max_grad_norm: must be at least 0, is -0.5"),
        (
            "[train]\ndevice = 'gpu'",
            'train.device: must be "auto", "cpu", "cuda" or one such as "cuda:1", is "gpu"',
        ),
        (
            "[train]\nprecision = 'half'",
            'train.precision: must be "auto", "fp32", "bf16" or "fp16", is "half"',
        ),
        (
            "[train]\nclass_weights = {'dog bark' = -1}",
            'train.class_weights: must be at least 0 for every class, "dog bark" has -1.0',
        ),
        ("[audio]\nrate = 8", "audio.rate: must be from 1000 to 384000, is 8"),
        ("[audio]\ntrim = -40", "audio.trim: must be above 0, is -40.0"),
        ("[audio]\nwindow = 0", "audio.window: must be above 0, is 0.0"),
        ("[audio]\nwindow = inf", "audio.window: must be finite, is inf"),
        ("[train.class_weights]\ndog = inf", 'train.class_weights: must be finite for every class, "dog" has inf'),
        ("[audio]\nwindow = 1e-5", "audio.window: must be at least one sample long at 16000 Hz, is 1e-05 s"),
        ("[audio]\nlevel = 3", "audio.level: must be from -100 to 0, is 3.0"),
        ("[audio]\nlevel = 'on'", 'audio.level: must be a number or "off", is "on"'),
        ("[audio]\nhop = 4", "audio.hop: must be at most window (3.0 s), or sound is skipped; is 4.0"),
        ("[head]\ndropout = 1", "head.dropout: must be at least 0 and below 1, is 1.0"),
        ("[split]\ntest = []", "split.test: must name at least one fold, is []; for no test set write 0"),
        ("[split]\ntest = -0.1", "split.test: must be a fraction at least 0 and below 1, is -0.1"),
        ("[split]\nvalidation = 1.5", "split.validation: must be a fraction at least 0 and below 1, is 1.5"),
        (
            "[split]\ntest = [1, 2]\nvalidation = [2]",
            "split.validation: must not use folds of test; both have 2",
        ),
        (
            "[split]\ncrossing = 'refused'",
            'split.crossing: must be "purge", "refuse" or "allow", is "refused"; did you mean "refuse"?',
        ),
        ("[split]\ntest = [1.5]", "split.test[0]: must be an integer or a string, is 1.5"),
        ("split = 3", "split: must be a table, is 3"),
        ("pooling = 3", 'pooling: must be a table with "use", or a name, is 3'),
        ("pooling = {use = 3}", "pooling.use: must be a string, is 3"),
        ("augmentation = 'gain'", 'augmentation: must be a list, written [[augmentation]], is "gain"'),
        ("[augmentation]\nuse = 'gain'", 'augmentation: must be a list, written [[augmentation]], is {use = "gain"}'),
        ("augmentation = [3]", 'augmentation[0]: must be a table with "use", or a name, is 3'),
        ("name = 'a/b'", 'name: must be usable as a folder name, is "a/b"'),
        ("name = 3", "name: must be a string, is 3"),
        ("zebra = 3", None),
        ("init = 3", "init: must be a table, is 3"),
    ],
)
def test_a_value_of_the_wrong_range_or_type_is_reported(recipes: Recipes, more: str, message: str | None) -> None:
    found = mistakes(lambda: recipes(BASE + more))
    known = "dataset, split, audio, augmentation, featurizer, backbone, pooling, head, init, loss, optimizer, scheduler"
    known += ", train, calibration, reject, report, observer"
    assert found == [f"r.toml: {message or f'zebra: unknown table; known: {known}'}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train = 3\n[audio\n", "line 2, column 7: expected ']' at the end of a table declaration"),
        ("a = \n", "line 1, column 5: invalid value"),
        ('a = "x', "the end of the file: unterminated string"),
        ("a = 1\na = 2\n", "line 2, column 6: cannot overwrite a value"),
    ],
)
def test_a_syntax_error_is_one_line_with_its_place(recipes: Recipes, text: str, message: str) -> None:
    assert mistakes(lambda: recipes(text)) == [f"r.toml: {message}"]
    assert mistakes(lambda: recipes("extends = 'base.toml'", base=text)) == [f"base.toml: {message}"]


def test_a_file_that_is_no_text_or_no_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("soundbench.recipe.reading.shipped", lambda: None)
    Path("latin.toml").write_bytes(b'a = "\xe9"')
    Path("folder.toml").mkdir()
    assert mistakes(lambda: read("latin.toml")) == ["latin.toml: not UTF-8 text: invalid byte at offset 5"]
    assert mistakes(lambda: read("folder.toml")) == ["folder.toml: cannot be read: this is a folder, not a file"]
    assert mistakes(lambda: read("lation.toml")) == [
        'lation.toml: there is no such file; did you mean "latin.toml"? recipes of soundbench: none'
    ]


def test_recipes_that_ship_are_found_by_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "a.toml").write_text(BASE)
    monkeypatch.setattr("soundbench.recipe.reading.shipped", lambda: tmp_path / "ours")
    for name in ("a.toml", "recipes/a.toml"):
        assert find_recipe(name) == tmp_path / "ours" / "a.toml"
    assert mistakes(lambda: find_recipe("elsewhere/a.toml")) == [
        'elsewhere/a.toml: there is no such file; did you mean "a.toml"? recipes of soundbench: a.toml'
    ]
    (tmp_path / "a.toml").write_text(BASE)
    assert find_recipe("a.toml") == Path("a.toml")


def test_recipes_that_ship_are_extended_from_anywhere(
    recipes: Recipes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "a.toml").write_text(BASE + "[audio]\nrate = 8000\n")
    monkeypatch.setattr("soundbench.recipe.reading.shipped", lambda: tmp_path / "ours")
    assert recipes("extends = 'recipes/a.toml'").audio.rate == 8000
    assert recipes("extends = 'a.toml'", a=BASE + "[audio]\nrate = 1000\n").audio.rate == 1000  # one's own comes first
    message = "extends: there is no file elsewhere/a.toml"
    assert mistakes(lambda: recipes("extends = 'elsewhere/a.toml'")) == [f"r.toml: {message}"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"r": "extends = 'r.toml'"}, "recipes extend each other in a circle: r.toml -> r.toml"),
        (
            {"r": "extends = 'base.toml'", "base": "extends = 'r.toml'"},
            "recipes extend each other in a circle: r.toml -> base.toml -> r.toml (in base.toml)",
        ),
        ({"r": "extends = 'bas.toml'", "base": ""}, 'there is no file bas.toml; did you mean "base.toml"?'),
        ({"r": "extends = 'base.toml'", "base": "extends = 3"}, "must be the path of a recipe, is 3 (in base.toml)"),
    ],
)
def test_an_extends_that_leads_nowhere_is_reported(recipes: Recipes, files: dict[str, str], message: str) -> None:
    text = files.pop("r")
    assert mistakes(lambda: recipes(text, **files)) == [f"r.toml: extends: {message}"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("train.epochs", "must be KEY=VALUE, such as train.epochs=3"),
        ("=3", "must be KEY=VALUE, such as train.epochs=3"),
        ("a b=3", "must be KEY=VALUE, such as train.epochs=3"),
        ("backbone.use.deep=3", 'backbone.use is not a table, it is "conv"'),
        ("augmentation.2.most=3", "there is no augmentation[2], augmentation has 0"),
        ("train.epochs.x.y=3", None),
        ("dataset.0.x=1", None),
    ],
)
def test_a_set_that_leads_nowhere_is_reported(recipes: Recipes, given: str, message: str | None) -> None:
    found = mistakes(lambda: recipes(BASE + "[train]\nepochs = 3", given))
    expected = {
        "train.epochs.x.y=3": "train.epochs is not a table, it is 3",
        "dataset.0.x=1": 'dataset is not a list, it is {use = "noise"}',
    }
    assert found == [f"--set {given}: {message or expected[given]}"]


def test_a_plugin_that_cannot_be_imported_is_reported_and_is_the_cause(recipes: Recipes) -> None:
    registry = toy_registry(fake("pooling", "torn", "helpers.toys:NoSuchClass", "torn-dist", "0.1"))
    with pytest.raises(RecipeError) as caught:
        recipes(BASE + "pooling = 'torn'", registry=registry)
    assert str(caught.value) == (
        'r.toml: pooling.use: pooling "torn" (torn-dist 0.1, module helpers.toys) cannot be used: '
        'the module has no "NoSuchClass"'
    )
    assert caught.value.exit_code == 3
    assert caught.value.__cause__ is not None
    with pytest.raises(RecipeError) as caught:
        recipes(BASE + "pooling = 'torn'\ntrian = 3", registry=registry)
    assert caught.value.exit_code == 2
    assert recipes(BASE, registry=registry).pooling.use == "mean"  # harms nobody who does not ask for it


def test_an_unknown_default_is_reported_as_such(recipes: Recipes) -> None:
    registry = Registry([fake(*toy) for toy in entry_points.TOYS if toy[0] != "pooling"])
    assert mistakes(lambda: recipes(BASE, registry=registry)) == [
        'r.toml: pooling.use: there is no pooling "mean"; known: none'
    ]


class Plain:
    """A backbone that says nothing of pooling and head."""

    def __init__(self, bands: int) -> None: ...


class Odd(Plain):
    default_pooling = "mean"
    default_head = 3


def test_a_backbone_without_defaults_wants_the_pooling_named() -> None:
    assert mistakes(lambda: toy_recipe(backbone=Plain)) == [
        '<python>: pooling: this table is missing; write pooling = "NAME", known: mean'
    ]
    assert toy_recipe(backbone=Plain, pooling="mean").head == Head()
    use = f"{Path(__file__).resolve()}:Odd"
    assert mistakes(lambda: toy_recipe(backbone=Odd)) == [
        f'<python>: pooling: default_pooling of backbone {use} must be a table with "use", is "mean"',
        f"<python>: head: default_head of backbone {use} must be a table, is 3",
    ]


def test_an_unknown_table_from_python_is_reported() -> None:
    assert mistakes(lambda: toy_recipe(optimiser="descent"))[0].startswith(
        '<python>: optimiser: unknown table; did you mean "optimizer"? known: dataset, '
    )


# -- local files and models ----------------------------------------------------------------------------------------

OWN = """
class Net:
    default_pooling = {"use": "mean"}
    default_head = {"embedding": 2}
    def __init__(self, bands, *, depth: int = 1): ...
class Pool:
    def __init__(self, channels): ...
"""


@pytest.fixture
def own(tmp_path: Path) -> Recipe:
    """A recipe with components of two local files that have one name."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(OWN)
    return toy_recipe(backbone="./a/mine.py:Net", pooling="./b/mine.py:Pool", loss="entropy", base=tmp_path)


def test_local_files_go_with_the_run_and_are_found_there(own: Recipe, tmp_path: Path) -> None:
    assert local_files(own) == {"mine_2.py": tmp_path / "b" / "mine.py", "mine.py": tmp_path / "a" / "mine.py"}
    write_code(own, tmp_path / "run" / "model" / "code")
    moved = relocated(own, "./model/code")
    assert (moved.backbone.use, moved.pooling.use) == ("./model/code/mine.py:Net", "./model/code/mine_2.py:Pool")
    assert moved.loss == own.loss
    assert "# backbone ./model/code/mine.py:Net: mine.py\n" in moved.to_toml()
    path = tmp_path / "run" / "recipe.toml"
    path.write_text(moved.to_toml(), encoding="utf-8")
    again = read(path, registry=toy_registry())
    assert again.backbone.component.source == tmp_path / "run" / "model" / "code" / "mine.py"
    assert again.tables()["head"] == own.tables()["head"]


def test_code_that_came_with_a_run_is_only_executed_when_trusted(own: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(relocated(own, "./model/code").to_toml())
    code = tmp_path / "model" / "code"
    write_code(own, code)
    (code / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{OWN}")
    assert mistakes(lambda: read(path, registry=toy_registry(), trust_code=False)) == [
        f'{path}: backbone.use: "{code}/mine.py:Net" is code from the run; '
        "add --trust-code (trust_code=True) to execute it",
        f'{path}: pooling.use: "{code}/mine_2.py:Pool" is code from the run; '
        "add --trust-code (trust_code=True) to execute it",
    ]
    assert not (tmp_path / "ran").exists()
    read(path, registry=toy_registry())
    assert (tmp_path / "ran").exists()


def test_a_class_that_cannot_be_found_again_is_refused_only_when_a_run_is_written(tmp_path: Path) -> None:
    class Inside(toys.ToyBackbone):
        """Defined in a function."""

    namespace: dict[str, Any] = {"__name__": "typed_in"}
    exec(OWN, namespace)
    recipe = toy_recipe(backbone=Inside, pooling=namespace["Pool"])
    assert recipe.pooling.use == "<python>:Pool"
    where = f"{Path(__file__).resolve()}"
    name = "test_a_class_that_cannot_be_found_again_is_refused_only_when_a_run_is_written.<locals>.Inside"
    assert mistakes(lambda: local_files(recipe)) == [
        f"<python>: backbone: {name} cannot be saved with the run: it is defined inside a function; "
        f"move it to the top level of {where}",
        "<python>: pooling: Pool cannot be saved with the run: it has no source file; define it in a file",
    ]


@pytest.mark.parametrize(
    ("source", "module", "reason"),
    [
        (OWN, "__main__", 'importing {0} would run it again; put its work under if __name__ == "__main__":'),
        (OWN + "if __name__ == '__main__':\n    go()\n", "__main__", ""),
        (
            "from . import b\n" + OWN,
            "a.b",
            "{0} uses relative imports; make it a plugin, or a self-contained file",
        ),
    ],
)
def test_a_file_whose_copy_would_not_work_is_refused(tmp_path: Path, source: str, module: str, reason: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(source)
    namespace: dict[str, Any] = {"__name__": module}
    exec(OWN, namespace)
    recipe = toy_recipe()
    component = attrs.evolve(recipe.pooling.component, source=path, distribution="", obj=namespace["Pool"])
    recipe = attrs.evolve(recipe, pooling=ComponentSpec("pooling", f"{path}:Pool", {}, component))
    if reason:
        assert mistakes(lambda: local_files(recipe)) == [
            f"<python>: pooling: Pool cannot be saved with the run: {reason.format(path)}"
        ]
    else:
        assert local_files(recipe) == {"script.py": path}


def test_a_model_is_what_prediction_needs_of_a_recipe(own: Recipe, tmp_path: Path) -> None:
    write_code(own, tmp_path / "model" / "code")
    tables = model_tables(relocated(own, "./code"), ["猫", "a, b"])
    assert list(tables) == [
        "format", "classes", "multilabel", "audio", "featurizer", "backbone", "pooling", "head", "loss",
    ]  # fmt: skip
    assert set(tables["audio"]) == {"rate", "window", "level", "trim", "on_error"}
    model = read_model(tables, tmp_path / "model", toy_registry(), trust_code=True)
    assert model.classes == ("猫", "a, b")
    assert not model.multilabel
    assert (model.audio, model.head) == (own.audio, own.head)
    assert model.backbone.options == {"depth": 1}
    assert model.backbone.component.source == tmp_path / "model" / "code" / "mine.py"


def test_mistakes_of_a_model_are_reported() -> None:
    tables = model_tables(toy_recipe(), ["a", "b"])
    changed = {**tables, "classes": ["a", "a"], "backbone": {**tables["backbone"], "depth": 1}, "extra": {}}
    del changed["loss"]
    assert mistakes(lambda: read_model(changed, None, toy_registry(), source="model/model.toml")) == [
        'model/model.toml: classes: must be distinct names, at least one, is ["a", "a"]',
        'model/model.toml: loss: this table is missing; write loss = "NAME", known: entropy',
        "model/model.toml: backbone.depth: unknown key; known: channels, dropout",
        "model/model.toml: extra: unknown table; known: audio, featurizer, backbone, pooling, head, loss",
    ]
    untrusted = {**tables, "loss": {"use": "/somewhere/x.py:Loss"}}
    assert mistakes(lambda: read_model(untrusted, None, toy_registry())) == [
        'model.toml: loss.use: "/somewhere/x.py:Loss" is code from the run; '
        "add --trust-code (trust_code=True) to execute it"
    ]


OLD_KEYS = {
    "train.batch": ("[train]\nbatch = 8", "train.batch_size"),
    "train.workers": ("[train]\nworkers = 1", "train.num_workers"),
    "train.clip_gradient": ("[train]\nclip_gradient = 1.0", "train.max_grad_norm"),
    "optimizer.rate": ("[optimizer]\nuse = 'descent'\nrate = 0.1", "optimizer.lr"),
}


@pytest.mark.parametrize("key", OLD_KEYS)
def test_a_key_by_its_old_name_gets_one_line_with_the_new_one(key: str, tmp_path: Path) -> None:
    text, new = OLD_KEYS[key]
    path = tmp_path / "old.toml"
    path.write_text(f'dataset = "noise"\nbackbone = "conv"\npooling = "mean"\nloss = "entropy"\n{text}\n')
    with pytest.raises(RecipeError) as caught:
        read(path, registry=toy_registry())
    told = [str(problem) for problem in caught.value.problems if problem.key == key]
    assert told == [f"{key}: this key is now called {new}"]


@pytest.mark.parametrize("version", ["3", "-1", "true", '"1"'])
def test_what_a_newer_soundbench_wrote_is_refused(version: str, tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    path.write_text(f"format = {version}\n")
    with pytest.raises(RecipeError, match=r"format: is .*, but this soundbench knows formats up to 2"):
        read(path)


@pytest.mark.parametrize(
    ("text", "seed"),
    [
        ("format = 1\n[train]\nseed = 7\n", 7),
        ("format = 1\n[train]\nseed = 7\n[split]\ntest = 0.3\n", 7),
        ("format = 1\n[train]\nepochs = 2\n", 1),  # the default of old
        ("format = 1\n", 1),
        ("format = 1\n[train]\nseed = 7\n[split]\nseed = 3\n", 3),
        ("format = 2\n[train]\nseed = 7\n", 1),
        ("[train]\nseed = 7\n", 1),
    ],
)
def test_in_format_1_the_seed_of_training_drew_the_split(text: str, seed: int, recipes: Recipes) -> None:
    form, _, tables = text.partition("\n") if text.startswith("format") else ("", "", text)
    old = f"{form}{BASE}{tables}"
    assert recipes(old).split.seed == seed
    assert recipes(old, "train.seed=5").split.seed == seed
    above = recipes('extends = "old.toml"\n[train]\nseed = 9\n', old=old)
    assert (above.split.seed, above.train.seed) == (seed, 9)
    assert recipes(above.to_toml()).split == above.split
    assert Recipe(**tomli.loads(old), registry=toy_registry()).split.seed == seed


# In Python


@pytest.mark.parametrize(
    ("cls", "key", "near"),
    [
        (Train, "epoch", "epochs"),
        (Train, "workers", "num_workers"),
        (Split, "tests", "test"),
        (Audio, "windows", "window"),
        (Head, "embeddings", "embedding"),
        (Init, "form_", "from_"),
        (EventRules, "gaps", "gap"),
    ],
)
def test_an_unknown_keyword_is_refused_with_the_nearest(cls: type, key: str, near: str) -> None:
    with pytest.raises(CallError) as raised:
        cls(**{key: 1})
    message = str(raised.value)
    assert message.startswith(f'{cls.__name__}: {key}: unknown key; did you mean "{near}"? known: ')
    assert "\n" not in message


def test_tables_are_made_as_before() -> None:
    assert Split([1], crossing="allow") == Split(test=[1], crossing="allow")
    assert attrs.evolve(Train(epochs=2), seed=3) == Train(epochs=2, seed=3)
    assert pickle.loads(pickle.dumps(Audio(rate=8000))) == Audio(rate=8000)
    with pytest.raises(ValueError, match="epochs must be at least 1, is 0"):
        Train(epochs=0)


def test_what_a_notebook_shows_of_a_recipe() -> None:
    recipe = toy_recipe(train={"epochs": 3, "batch_size": 8})
    shown = repr(recipe)
    for part in ("'noise'", "'conv'", "3 epochs", "batch size 8", "16000 Hz"):
        assert part in shown
    assert "\n" not in shown
    assert len(shown) < 300
