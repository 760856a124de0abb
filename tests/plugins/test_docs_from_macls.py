"""docs/from-macls.md leaves out nothing that macls 1.0.6 has, and names nothing that is not here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import attrs
import click
import pytest
from soundbench_plugins.importer.macls import FEATURES, Options

import soundbench
from soundbench.cli.main import group
from soundbench.contracts import KINDS
from soundbench.inference.classifier import Classifier
from soundbench.recipe import compose
from soundbench.recipe.registry import Registry
from soundbench.recipe.tables import CORE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "from-macls.md").read_text(encoding="utf-8")
NETWORKS = tomllib.loads((ROOT / "plugins/soundbench_plugins/importer/macls.toml").read_text(encoding="utf-8"))
REGISTRY = Registry()

# Of the seven files in macls/configs, which have the same keys, and of augmentation.yml beside them.
YAML = {
    "dataset_conf": {
        "dataset": ["min_duration", "max_duration", "sample_rate", "use_dB_normalization", "target_dB"],
        "dataLoader": ["batch_size", "drop_last", "num_workers"],
        "eval_conf": ["batch_size", "max_duration"],
        "": ["train_list", "test_list", "label_list_path"],
    },
    "preprocess_conf": {
        "": ["use_hf_model", "feature_method", "method_args"],
        "method_args": ["sample_frequency", "num_mel_bins"],
    },
    "model_conf": {"": ["model", "model_args"], "model_args": ["num_class"]},
    "optimizer_conf": {
        "": ["optimizer", "scheduler"],
        "optimizer_args": ["lr", "weight_decay"],
        "scheduler_args": ["min_lr", "max_lr", "warmup_epoch"],
    },
    "train_conf": {"": ["enable_amp", "use_compile", "label_smoothing", "max_epoch", "log_interval"]},
    "speed": {"": ["prob"]},
    "volume": {"": ["prob", "min_gain_dBFS", "max_gain_dBFS"]},
    "noise": {"": ["prob", "noise_dir", "min_snr_dB", "max_snr_dB"]},
    "reverb": {"": ["prob", "reverb_dir"]},
    "spec_aug": {
        "": ["prob", "freq_mask_ratio", "n_freq_masks", "time_mask_ratio", "n_time_masks", "max_time_warp"],
    },
}
KEYS = [".".join(filter(None, (top, middle, key))) for top in YAML for middle in YAML[top] for key in YAML[top][middle]]

SCRIPTS = {
    "create_data.py": [],
    "extract_features.py": ["configs", "save_dir", "max_duration"],
    "train.py": [
        *("configs", "data_augment_configs", "local_rank", "use_gpu", "save_model_path", "log_dir", "resume_model"),
        *("pretrained_model", "overwrites"),
    ],
    "eval.py": ["configs", "use_gpu", "save_matrix_path", "resume_model", "overwrites"],
    "infer.py": ["configs", "use_gpu", "audio_path", "model_path"],
    "infer_record.py": ["configs", "use_gpu", "record_seconds", "model_path"],
    "record_audio.py": [],
    "tools/download_language_data.sh": [],
}
CALLS = {
    "MAClsTrainer": ["configs", "use_gpu", "data_augment_configs", "num_class", "overwrites", "log_level"],
    ".train": ["save_model_path", "log_dir", "max_epoch", "resume_model", "pretrained_model"],
    ".evaluate": ["resume_model", "save_matrix_path"],
    ".extract_features": ["save_dir", "max_duration"],
    ".export": [],
    "MAClsPredictor": ["configs", "model_path", "use_gpu", "overwrites", "log_level"],
    ".predict": ["audio_data", "sample_rate"],
    ".predict_batch": ["audio_data_list", "sample_rate"],
    "RecordAudio": ["channels", "sample_rate"],
}


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def table(title: str) -> list[list[str]]:
    """The cells of all tables of a section, but for their heads."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    marks = [index for index, row in enumerate(rows) if set("".join(row)) <= set("-|")]
    return [row for index, row in enumerate(rows) if index not in marks and index + 1 not in marks]


def options(kind: str, name: str) -> set[str]:
    return {field.name for field in attrs.fields(REGISTRY.get(kind, name).options)}


def known(key: str) -> bool:
    """Whether a dotted key of a recipe is one: of the core's table, or an option of some component of the kind."""
    first, _, last = key.partition(".")
    if first in CORE:
        return last in {field.name.removesuffix("_") for field in attrs.fields(CORE[first])}
    return first in KINDS and (last == "use" or any(last in options(first, name) for name in REGISTRY.names(first)))


def commands() -> dict[str, click.Command]:
    context = click.Context(group)
    return {name: found for name in group.list_commands(context) if (found := group.get_command(context, name))}


def test_every_key_has_a_row_and_no_row_another() -> None:
    assert sorted(row[0].strip("`") for row in table("YAML keys")) == sorted(KEYS)


def test_every_key_of_a_recipe_that_replaces_one_exists() -> None:
    replaced = " ".join(row[1] for row in table("YAML keys")) + section("Networks") + section("Scripts and flags")
    keys = re.findall(r"`([a-z]+\.[a-z_]+)(?: = [^`]*)?`", replaced)
    assert len(keys) > 20
    assert [key for key in keys if not known(key) and not key.endswith((".toml", ".py", ".yml"))] == []
    for kind in ("optimizer", "scheduler"):
        assert {"torch"} <= set(REGISTRY.names(kind))


def test_every_option_of_a_component_that_replaces_a_key_exists() -> None:
    for _, here in table("YAML keys"):
        for option, name in re.findall(r"`([a-z_]+)` of (?:the observer )?`([a-z-]+)`", here):
            kind = "observer" if "observer" in here else "augmentation"
            assert option in options(kind, name), here


def scripts() -> Iterator[tuple[str, str, str]]:
    script = ""
    for name, flag, here in table("Scripts and flags"):
        script = name.strip("`") or script
        yield script, flag.strip("`"), here


def test_every_flag_has_a_row_and_no_row_another() -> None:
    found: dict[str, list[str]] = {}
    for script, flag, _ in scripts():
        found.setdefault(script, []).extend([flag] if flag else [])
    assert found == SCRIPTS


def test_every_command_and_option_that_replaces_a_script_exists() -> None:
    replacing = ""
    for script, flag, here in scripts():
        if not flag:
            replacing = next(iter(re.findall(r"`soundbench (\w+)", here)), "")
            assert not replacing or replacing in commands(), script
        taken = {option for part in commands()[replacing].params for option in part.opts} if replacing else set()
        assert set(re.findall(r"`(--[a-z-]+)", here)) <= taken, (script, flag)


def test_every_call_is_listed_and_its_replacement_exists() -> None:
    rows = table("Python")
    for call, arguments in CALLS.items():
        assert any(f"`{call}({', '.join(arguments)})`" in row[0] or f"`{call}({', '.join(arguments)})." in row[0]
                   for row in rows), call  # fmt: skip
    here = " ".join(row[1] for row in rows)
    assert set(re.findall(r"soundbench\.(\w+)", here)) <= set(soundbench.__all__)
    assert all(hasattr(Classifier, name) for name in re.findall(r"classifier\.(\w+)", here))


def test_the_configuration_of_cam_is_a_recipe() -> None:
    text = re.findall(r"```toml[^\n]*\n(.*?)```", PAGE, re.DOTALL)[0]
    whole = re.sub(r"^#( (?!macls)|$)", "", text, flags=re.MULTILINE)
    recipe = compose(tomllib.loads(whole))
    assert [item.use for item in recipe.augmentation] == ["speed", "noise", "reverb", "spec-augment"]
    assert recipe.audio.level == -20.0


@pytest.mark.parametrize("method", sorted(FEATURES))
def test_features_are_those_that_the_importer_makes(method: str) -> None:
    here = next(row[1] for row in table("Features") if row[0] == f"`{method}`")
    name, *given = re.findall(r"`([^`]+)`", here)
    theirs, _ = FEATURES[method](Options({"num_mel_bins": 80} if method == "Fbank" else {}, ROOT), 16000)
    assert theirs.pop("use") == name
    component = REGISTRY.get("featurizer", name)
    written, problems = component.structure(tomllib.loads("\n".join(given)), "featurizer")
    expected, faults = component.structure(theirs, "featurizer")
    assert problems == faults == []
    if expected.get("high") == 8000.0:
        expected["high"] = 0.0  # the same at 16 kHz
    assert written == expected


@pytest.mark.parametrize("model", sorted(NETWORKS.keys() - {"any"}))
def test_networks_are_those_that_the_importer_makes(model: str) -> None:
    network = NETWORKS[model]
    row = next(" ".join(row) for row in table("Networks") if f"`{model}`" in row[0])
    assert f"`{network['backbone']['use']}`" in row
    for theirs, (ours, default) in network.get("arguments", {}).items():
        assert f"`{ours}`" in row, ours
        assert f"`{theirs}`" in row or theirs == "aggregation", theirs
        if model == "Res2Net" and theirs in ("scale", "base_width"):
            assert f"`{ours} = {default}`" in row
    for name, value in network["backbone"].items():
        assert name == "use" or f"`{name} = {str(value).lower()}`" in row
