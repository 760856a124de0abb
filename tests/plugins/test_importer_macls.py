"""Folders in macls 1.0.6's layout: whole ones, odd ones, and, where macls itself is at hand, its own predictions.

`SOUNDBENCH_MACLS` names the Python of an environment that holds macls 1.0.6.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from helpers import TESTS
from helpers.macls_models import CLASSES, campplus, drawn, layer, norm, settings, tdnn, write
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import soundbench
from soundbench import audio
from soundbench.errors import CallError, NotInstalled, RunError
from soundbench.model.folder import read_model_tables
from soundbench.model.importing import import_model

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Save:
    """Writes a checkout of macls with a trained model, goes into it, and gives the model's folder."""
    monkeypatch.chdir(tmp_path)

    def save(tables: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
        return write(tmp_path, tables, tensors)

    return save


SMALL = {"growth_rate": 4, "bn_size": 2, "init_channels": 16, "embd_dim": 24}
CONFIG = {"config": Path("configs/model.yml")}


def content(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()


def test_every_tensor_of_campplus_has_its_place(save: Save, tmp_path: Path) -> None:
    tensors = drawn(campplus(4, 2, 16, 24))
    assert len(tensors) == 939
    done = import_model("macls", save(settings("CAMPPlus", SMALL), tensors), tmp_path / "out", CONFIG)
    assert list(done.notes) == []
    here = load_file(done.folder / "weights.safetensors")
    assert len(here) == len(tensors)
    assert Counter(map(content, here.values())) == Counter(map(content, tensors.values()))
    for ours, theirs in [
        ("backbone.front.first.weight", "head.conv1.weight"),
        ("backbone.front.stages.2.shortcut_norm.running_var", "head.layer2.0.shortcut.1.running_var"),
        ("backbone.front.stages.3.second.weight", "head.layer2.1.conv2.weight"),
        ("backbone.blocks.0.layers.11.local.weight", "xvector.block1.tdnnd12.cam_layer.linear_local.weight"),
        ("backbone.blocks.2.layers.0.expand.bias", "xvector.block3.tdnnd1.cam_layer.linear2.bias"),
        ("backbone.blocks.1.norm.running_mean", "xvector.transit2.nonlinear.batchnorm.running_mean"),
        ("head.embed.0.weight", "xvector.dense.linear.weight"),
        ("head.embed.1.running_mean", "xvector.dense.nonlinear.batchnorm.running_mean"),
        ("head.classify.weight", "fc.weight"),
    ]:
        assert torch.equal(here[ours], tensors[theirs].reshape(here[ours].shape)), ours


@pytest.mark.slow
def test_the_published_size(save: Save, tmp_path: Path) -> None:
    tensors = drawn(campplus(32, 4, 128, 512))
    done = import_model("macls", save(settings("CAMPPlus"), tensors), tmp_path / "out", CONFIG)
    assert done.parameters == 7_181_354 - 7 * 513  # ten classes in the predecessor's table


def test_what_the_yaml_says_becomes_tables(save: Save, tmp_path: Path) -> None:
    tables = settings("CAMPPlus", SMALL)
    tables["preprocess_conf"]["method_args"] |= {"frame_length": 32, "high_freq": -200}
    best = save(tables, drawn(campplus(4, 2, 16, 24)))
    found = read_model_tables(import_model("macls", best, tmp_path / "out", CONFIG).folder)
    assert found["classes"] == CLASSES
    assert found["audio"] | {"rate": 16000, "window": 60.0, "level": -20.0} == found["audio"]
    assert found["featurizer"] == {
        "use": "fbank", "bands": 80, "frame": 0.032, "hop": 0.01, "low": 20.0, "high": -200.0,
        "preemphasis": 0.97, "normalize": "mean",
    }  # fmt: skip
    assert found["backbone"] | {"growth": 4, "bottleneck": 2, "width": 16} == found["backbone"]
    assert found["loss"] == {"use": "cross-entropy", "smoothing": 0.1}


def forward(tensors: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """The logits of macls's TDNN, features `(B, F, T)`, written out in float64."""
    at = {name: tensor.double() for name, tensor in tensors.items()}

    def normed(x: Tensor, name: str) -> Tensor:
        weights = (at[f"{name}.{what}"] for what in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *weights, training=False)

    def conv(x: Tensor, name: str, dilation: int = 1) -> Tensor:
        return F.conv1d(x, at[f"{name}.weight"], at[f"{name}.bias"], dilation=dilation)

    x = features.double()
    for number, dilation in enumerate((1, 2, 3, 1), start=1):
        x = normed(conv(x, f"td_layer{number}", dilation).relu(), f"bn{number}")
    x = conv(x, "td_layer5").relu()
    mean, std = x.mean(2, keepdim=True), x.var(2, keepdim=True, correction=0).clamp(min=1e-12).sqrt()
    context = torch.cat([x, mean.expand_as(x), std.expand_as(x)], 1)
    hidden = normed(conv(context, "pooling.tdnn.conv.conv").relu(), "pooling.tdnn.norm.norm").tanh()
    weights = conv(hidden, "pooling.conv.conv").softmax(2)
    mean = (weights * x).sum(2)
    std = (weights * (x - mean[:, :, None]).square()).sum(2).clamp(min=1e-12).sqrt()
    x = normed(torch.cat([mean, std], 1), "bn5")
    x = normed(F.linear(x, at["linear.weight"], at["linear.bias"]), "bn6")
    return F.linear(x, at["fc.weight"], at["fc.bias"])


def test_tdnn_scores_like_its_layers_written_out(save: Save, tmp_path: Path) -> None:
    tensors = drawn(tdnn(24, 16))
    assert len(tensors) == 53
    best = save(settings("TDNN", {"channels": 24, "embd_dim": 16}), tensors)
    network = soundbench.load(import_model("macls", best, tmp_path / "out", CONFIG).folder, device="cpu").network
    features = torch.randn(2, 80, 50, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = network.classify(features, torch.tensor([50, 50]))
    torch.testing.assert_close(logits.double(), forward(tensors, features), atol=1e-5, rtol=1e-5)


def test_a_whole_clip_is_one_window(save: Save, tmp_path: Path) -> None:
    """Five minutes of windows would be twenty times as much as the sound: what is scored is as long as the sound."""
    best = save(settings("TDNN", {"channels": 24, "embd_dim": 16}), drawn(tdnn(24, 16)))
    done = import_model("macls", best, tmp_path / "out", {**CONFIG, "window": 300.0})
    classifier = soundbench.load(done.folder, device="cpu")
    sounds = [np.full(16000 * seconds, 0.1, np.float32) for seconds in (2, 14)]
    spans = [[(window.start, window.end) for window in classifier.windows(sound, 16000)] for sound in sounds]
    assert spans == [[(0, 2)], [(0, 14)]]


def test_poolings_and_arguments_of_others(save: Save, tmp_path: Path) -> None:
    shapes = {name: shape for name, shape in tdnn(24, 16).items() if not name.startswith("pooling")}
    for kind, width, table in [("TSP", 48, {"use": "tsp", "spread": "variance"}), ("SAP", 24, {"use": "sap"})]:
        own = shapes | norm("bn5", width) | layer("linear", 16, width)
        if kind == "SAP":
            own |= layer("pooling.linear1", 128, 24, 1) | layer("pooling.linear2", 24, 128, 1)
        best = save(settings("TDNN", {"channels": 24, "embd_dim": 16, "pooling_type": kind}), drawn(own))
        tables = read_model_tables(import_model("macls", best, tmp_path / kind, CONFIG).folder)
        assert tables["pooling"] | table == tables["pooling"]


@pytest.mark.parametrize(
    ("method", "arguments", "table"),
    [
        (
            "MelSpectrogram",
            {"n_mels": 64, "n_fft": 512},
            {"use": "mel-spectrogram", "bands": 64, "hop": 256, "log": "none"},
        ),
        ("Spectrogram", {}, {"use": "spectrogram", "frame": 400, "hop": 200, "n_fft": 400, "log": "none"}),
        ("MFCC", {"n_mfcc": 20}, {"use": "mfcc", "coefficients": 20, "bands": 128, "log": "decibel"}),
        ("Fbank", {"num_mel_bins": 23}, {"use": "fbank", "bands": 23}),
    ],
)
def test_features_of_other_methods(
    save: Save, tmp_path: Path, method: str, arguments: dict[str, Any], table: dict[str, Any]
) -> None:
    tables = settings("TDNN", {"channels": 24, "embd_dim": 16})
    tables["preprocess_conf"] |= {"feature_method": method, "method_args": arguments}
    bands = {"MelSpectrogram": 64, "Spectrogram": 201, "MFCC": 20, "Fbank": 23}[method]
    done = import_model("macls", save(tables, drawn(tdnn(24, 16, bands))), tmp_path / "out", CONFIG)
    found = read_model_tables(done.folder)["featurizer"]
    assert found | table | {"normalize": "mean"} == found
    assert [note.split(":")[0] for note in done.notes] == (["MFCC"] if method == "MFCC" else [])


def test_files_are_found_beside_the_model(save: Save, tmp_path: Path) -> None:
    best = save(settings("TDNN", {"channels": 24, "embd_dim": 16}), drawn(tdnn(24, 16)))
    with pytest.raises(CallError, match=r"give the YAML file of its training, such as --config .*; macls does not"):
        import_model("macls", best, tmp_path / "out")
    Path("configs/model.yml").rename(best.parent / "model.yml")
    Path("dataset/label_list.txt").rename(best / "label_list.txt")
    assert import_model("macls", best.parent, tmp_path / "out").classes == 3
    (best / "label_list.txt").unlink()
    with pytest.raises(CallError, match=r"list not found: give it with --labels \(tried dataset/label_"):
        import_model("macls", best, tmp_path / "other")
    (best / "other.yml").write_text("")
    with pytest.raises(CallError, match="there are 2 beside it"):
        import_model("macls", best, tmp_path / "other")


Change = Callable[[dict[str, Any]], None]


def _set(*path: str, value: Any) -> Change:
    def change(tables: dict[str, Any]) -> None:
        for key in path[:-1]:
            tables = tables[key]
        tables[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _set("model_conf", "model", value="Conformer"),
            "Conformer is not a network of macls; known: CAMPPlus",
        ),
        (_set("model_conf", "model_args", "depth", value=3), "cannot be imported with depth"),
        (_set("model_conf", "model_args", "pooling_type", value="MAX"), "pooling_type: 'MAX' cannot be imported, only"),
        (_set("model_conf", "model_args", value=[1]), "model_conf.model_args must be a table"),
        (_set("preprocess_conf", "method_args", "dither", value=1.0), "dither: 1.0 cannot be imported, 0.0 can"),
        (_set("preprocess_conf", "method_args", "use_energy", value=True), "cannot be imported with use_energy"),
        (
            _set("preprocess_conf", "feature_method", value="facebook/wav2vec2-base"),
            "features of facebook/wav2vec2-base cannot be imported, only Fbank, MelSpectrogram, Spectrogram, MFCC",
        ),
        (
            _set("dataset_conf", "dataset", "sample_rate", value=8000),
            "sample_frequency: 16000 cannot be imported",
        ),
        (_set("model_conf", "model_args", "channels", value=32), "of another shape: backbone"),
    ],
)
def test_what_cannot_be_imported_is_reported(save: Save, tmp_path: Path, change: Change, message: str) -> None:
    tables = settings("TDNN", {"channels": 24, "embd_dim": 16})
    change(tables)
    best = save(tables, drawn(tdnn(24, 16)))
    with pytest.raises((RunError, CallError), match=message):
        import_model("macls", best, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out").exists()


def test_files_that_do_not_belong_together_are_refused(save: Save, tmp_path: Path) -> None:
    best = save(settings("TDNN", {"channels": 24, "embd_dim": 16}), drawn(tdnn(24, 16)))
    other = tmp_path / "other.yml"
    other.write_text(yaml.safe_dump(settings("CAMPPlus")))
    with pytest.raises(CallError, match=r"is for a CAMPPlus, but \S+ holds a TDNN: give its file with --config"):
        import_model("macls", best, tmp_path / "out", {"config": other})
    for text, message in [("a: [", "not YAML"), ("a: 1", "not a configuration of macls: model_conf is missing")]:
        other.write_text(text)
        with pytest.raises(CallError, match=message):
            import_model("macls", best, tmp_path / "out", {"config": other})
    Path("dataset/label_list.txt").write_text("one\ntwo\n")
    with pytest.raises(CallError, match="has 3 classes, but the label list names 2: give it with --labels"):
        import_model("macls", best, tmp_path / "out", CONFIG)
    with pytest.raises(RunError, match=r"not a model of macls: model\.pth is missing"):
        import_model("macls", tmp_path / "dataset", tmp_path / "out", CONFIG)


def test_without_pyyaml_the_extra_is_named(save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = save(settings("TDNN"), drawn(tdnn(24, 16)))
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(NotInstalled, match=r'needs PyYAML, which is not installed: pip install "soundbench\[yaml\]"'):
        import_model("macls", best, tmp_path / "out", CONFIG)


# -- beside macls itself -------------------------------------------------------------------------------------------

NETWORKS = {
    "CAMPPlus": 7_181_354,
    "EcapaTdnn": 6_195_978,
    "TDNN": 2_772_810,
    "Res2Net": 5_613_770,
    "ResNetSE": 9_125_826,
    "ERes2Net": 6_612_618,
    "ERes2NetV2": 5_460_132,
    "PANNS_CNN6": 4_573_226,
    "PANNS_CNN10": 4_956_010,
    "PANNS_CNN14": 79_702_378,
}


@pytest.fixture
def by_macls(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Runs macls_reference.py where macls is, and gives what it says of each sound."""
    python = os.environ.get("SOUNDBENCH_MACLS")
    if not python:
        pytest.skip("SOUNDBENCH_MACLS is not set: no Python with macls 1.0.6 to compare with")

    def run(task: str, *arguments: str) -> list[dict[str, Any]]:
        line = [python, str(TESTS / "helpers" / "macls_reference.py"), task, str(tmp_path), *arguments]
        done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        return [json.loads(line.removeprefix("JSON ")) for line in done.stdout.splitlines() if line.startswith("JSON ")]

    return run


@pytest.fixture
def sounds(data: Path, tmp_path: Path) -> list[str]:
    """A hundred clips of UrbanSound8K of at least 0.45 s, at 16 kHz, so that no two resamplers are compared."""
    folder, found = tmp_path / "sounds", []
    folder.mkdir()
    for path in sorted((data / "UrbanSound8K" / "audio").glob("fold*/*.wav"))[::9]:
        samples = audio.load(path, 16000)
        if len(samples) >= 7200 and np.abs(samples).max() > 0 and len(found) < 100:
            found.append(str(folder / path.name))
            soundfile.write(found[-1], np.clip(samples, -1, 1), 16000, subtype="PCM_16")
    assert len(found) == 100
    return found


@pytest.mark.slow
@pytest.mark.parametrize("model", NETWORKS)
def test_each_network_scores_like_macls(
    model: str, by_macls: Callable[..., list[dict[str, Any]]], sounds: list[str], tmp_path: Path
) -> None:
    """Random weights, batch norms that saw real sound; what macls computed is given to the network as features too."""
    by_macls("train", model, "{}", *sounds[::4])
    wanted = by_macls("predict", *sounds[:8])
    options = {"config": tmp_path / "model.yml"}
    done = import_model("macls", tmp_path / f"{model}_Fbank", tmp_path / "out", options)
    assert done.parameters == NETWORKS[model]
    classifier = soundbench.load(done.folder, device="cpu")
    for sound, said in zip(sounds, wanted, strict=False):
        features = torch.tensor(said["features"]).t().unsqueeze(0)
        with torch.no_grad():
            logits = classifier.network.classify(features, torch.tensor([features.shape[2]]))[0]
        torch.testing.assert_close(logits, torch.tensor(said["logits"]), atol=1e-3, rtol=1e-3)
        assert classifier.predict(sound).label == said["label"]


@pytest.mark.slow
def test_a_hundred_clips_get_macls_label_and_score(
    by_macls: Callable[..., list[dict[str, Any]]], sounds: list[str], tmp_path: Path
) -> None:
    by_macls("train", "CAMPPlus", "{}", *sounds[::2])
    wanted = by_macls("predict", *sounds)
    options = {"config": tmp_path / "model.yml"}
    done = import_model("macls", tmp_path / "CAMPPlus_Fbank", tmp_path / "out", options)
    predictions = soundbench.load(done.folder, device="cpu").predict([*sounds])
    assert [one.label for one in predictions] == [said["label"] for said in wanted]
    assert len({said["label"] for said in wanted}) >= 3
    # Weights that nobody trained multiply what float32 rounds off in the features, one clip in a hundred beyond 1e-3,
    # where macls is as far from itself in float64. With trained weights it is 3e-5.
    apart = sorted(abs(one.score - said["score"]) for one, said in zip(predictions, wanted, strict=True))
    assert apart[98] < 1e-3
    assert apart[99] < 5e-3
