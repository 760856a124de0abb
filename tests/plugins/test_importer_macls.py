"""Folders in macls 1.0.6's layout: whole ones, odd ones, and, where macls itself is at hand, its own judgements.

`SOUNDBENCH_MACLS` names the Python of an environment that holds macls 1.0.6.
"""

from __future__ import annotations

import json
import math
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
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import soundbench
from soundbench import audio
from soundbench.errors import CallError, NotInstalled, RunError
from soundbench.model.folder import read_model_tables
from soundbench.model.importing import import_model

Save = Callable[..., Path]
Shapes = dict[str, tuple[int, ...]]

CLASSES = ["siren", "dog bark", "drilling"]


def norm(name: str, width: int, affine: bool = True) -> Shapes:
    affine_shapes = {f"{name}.weight": (width,), f"{name}.bias": (width,)} if affine else {}
    statistics = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,), f"{name}.num_batches_tracked": ()}
    return {**affine_shapes, **statistics}


def layer(name: str, *shape: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": shape, **({f"{name}.bias": shape[:1]} if bias else {})}


def campplus(growth: int, bottleneck: int, width: int, embedding: int, bands: int = 80) -> Shapes:
    """Names and shapes of a CAM++ of macls."""
    front = 32
    shapes = {**layer("head.conv1", front, 1, 3, 3, bias=False), **norm("head.bn1", front)}
    for stage in (1, 2):
        for block in (0, 1):
            at = f"head.layer{stage}.{block}"
            for number in (1, 2):
                shapes |= layer(f"{at}.conv{number}", front, front, 3, 3, bias=False)
                shapes |= norm(f"{at}.bn{number}", front)
            if block == 0:
                shapes |= {
                    **layer(f"{at}.shortcut.0", front, front, 1, 1, bias=False),
                    **norm(f"{at}.shortcut.1", front),
                }
    shapes |= {**layer("head.conv2", front, front, 3, 3, bias=False), **norm("head.bn2", front)}
    shapes |= layer("xvector.tdnn.linear", width, front * math.ceil(bands / 8), 5, bias=False)
    shapes |= norm("xvector.tdnn.nonlinear.batchnorm", width)
    inner = growth * bottleneck
    for block, count in enumerate((12, 24, 16), start=1):
        for number in range(1, count + 1):
            at = f"xvector.block{block}.tdnnd{number}"
            shapes |= {
                **norm(f"{at}.nonlinear1.batchnorm", width),
                **layer(f"{at}.linear1", inner, width, 1, bias=False),
            }
            shapes |= norm(f"{at}.nonlinear2.batchnorm", inner)
            shapes |= layer(f"{at}.cam_layer.linear_local", growth, inner, 3, bias=False)
            shapes |= layer(f"{at}.cam_layer.linear1", inner // 2, inner, 1)
            shapes |= layer(f"{at}.cam_layer.linear2", growth, inner // 2, 1)
            width += growth
        shapes |= norm(f"xvector.transit{block}.nonlinear.batchnorm", width)
        shapes |= layer(f"xvector.transit{block}.linear", width // 2, width, 1, bias=False)
        width //= 2
    shapes |= norm("xvector.out_nonlinear.batchnorm", width)
    shapes |= layer("xvector.dense.linear", embedding, 2 * width, 1, bias=False)
    shapes |= norm("xvector.dense.nonlinear.batchnorm", embedding, affine=False)
    return {**shapes, **layer("fc", len(CLASSES), embedding)}


def tdnn(width: int, embedding: int, bands: int = 80) -> Shapes:
    """Names and shapes of a TDNN of macls with its attentive pooling."""
    shapes: Shapes = {}
    for number, kernel in enumerate((5, 3, 3, 1, 1), start=1):
        shapes |= layer(f"td_layer{number}", width, bands if number == 1 else width, kernel)
    for number in range(1, 5):
        shapes |= norm(f"bn{number}", width)
    shapes |= {**layer("pooling.tdnn.conv.conv", 128, 3 * width, 1), **norm("pooling.tdnn.norm.norm", 128)}
    shapes |= {**layer("pooling.conv.conv", width, 128, 1), **norm("bn5", 2 * width)}
    shapes |= {
        **layer("linear", embedding, 2 * width),
        **norm("bn6", embedding),
        **layer("fc", len(CLASSES), embedding),
    }
    return shapes


def drawn(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors of those shapes, with statistics that a batch norm could have."""
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(12)
        elif name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            tensors[name] = 0.5 + torch.rand(shape, generator=generator)
        else:
            fan = math.prod(shape[1:]) if len(shape) > 1 else 25
            tensors[name] = torch.randn(shape, generator=generator) / math.sqrt(fan)
    return tensors


def settings(model: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The YAML of macls, with what its files say where nobody changed them."""
    return {
        "dataset_conf": {
            "dataset": {"min_duration": 0.4, "max_duration": 3, "sample_rate": 16000}
            | {"use_dB_normalization": True}
            | {"target_dB": -20},
            "dataLoader": {"batch_size": 64, "drop_last": True, "num_workers": 8},
            "label_list_path": "dataset/label_list.txt",
        },
        "preprocess_conf": {
            "use_hf_model": False,
            "feature_method": "Fbank",
            "method_args": {"sample_frequency": 16000, "num_mel_bins": 80},
        },
        "model_conf": {"model": model, "model_args": {"num_class": None, **(arguments or {})}},
        "optimizer_conf": {"optimizer": "Adam", "optimizer_args": {"lr": 0.001, "weight_decay": 1e-5}},
        "train_conf": {"enable_amp": False, "label_smoothing": 0.1, "max_epoch": 60},
    }


@pytest.fixture
def save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Save:
    """Writes a checkout of macls with a trained model, goes into it, and gives the model's folder."""
    monkeypatch.chdir(tmp_path)

    def save(tables: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
        name = tables["model_conf"]["model"]
        best = tmp_path / "models" / f"{name}_Fbank" / "best_model"
        for folder in (best, tmp_path / "configs", tmp_path / "dataset"):
            folder.mkdir(parents=True, exist_ok=True)
        torch.save(dict(tensors), best / "model.pth")
        state = {"last_epoch": 7, "accuracy": 0.9, "version": "1.0.6", "model": name, "feature_method": "Fbank"}
        (best / "model.state").write_text(json.dumps(state))
        (tmp_path / "configs" / "model.yml").write_text(yaml.safe_dump(tables))
        (tmp_path / "dataset" / "label_list.txt").write_text("".join(f"{name}\n" for name in CLASSES))
        return best

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
    told = read_model_tables(import_model("macls", best, tmp_path / "out", CONFIG).folder)
    assert told["classes"] == CLASSES
    assert told["audio"] | {"rate": 16000, "window": 60.0, "level": -20.0} == told["audio"]
    assert told["featurizer"] == {
        "use": "fbank", "bands": 80, "frame": 0.032, "hop": 0.01, "low": 20.0, "high": -200.0,
        "preemphasis": 0.97, "normalize": "mean",
    }  # fmt: skip
    assert told["backbone"] | {"growth": 4, "bottleneck": 2, "width": 16} == told["backbone"]
    assert told["loss"] == {"use": "cross-entropy", "smoothing": 0.1}


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


def test_tdnn_judges_as_its_layers_written_out(save: Save, tmp_path: Path) -> None:
    tensors = drawn(tdnn(24, 16))
    assert len(tensors) == 53
    best = save(settings("TDNN", {"channels": 24, "embd_dim": 16}), tensors)
    network = soundbench.load(import_model("macls", best, tmp_path / "out", CONFIG).folder, device="cpu").network
    features = torch.randn(2, 80, 50, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = network.classify(features, torch.tensor([50, 50]))
    torch.testing.assert_close(logits.double(), forward(tensors, features), atol=1e-5, rtol=1e-5)


def test_a_whole_clip_is_one_window(save: Save, tmp_path: Path) -> None:
    """Five minutes of windows would be twenty times as much as the sound: what is judged is as long as the sound."""
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
        told = read_model_tables(import_model("macls", best, tmp_path / kind, CONFIG).folder)
        assert told["pooling"] | table == told["pooling"]


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
    told = read_model_tables(done.folder)["featurizer"]
    assert told | table | {"normalize": "mean"} == told
    assert [note.split(":")[0] for note in done.notes] == (["MFCC"] if method == "MFCC" else [])


def test_files_are_found_beside_the_model(save: Save, tmp_path: Path) -> None:
    best = save(settings("TDNN", {"channels": 24, "embd_dim": 16}), drawn(tdnn(24, 16)))
    with pytest.raises(
        CallError, match=r"give the YAML file of its training, such as --config .*; macls does not save it"
    ):
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
def test_what_cannot_be_imported_is_told(save: Save, tmp_path: Path, change: Change, message: str) -> None:
    tables = settings("TDNN", {"channels": 24, "embd_dim": 16})
    change(tables)
    best = save(tables, drawn(tdnn(24, 16)))
    with pytest.raises((RunError, CallError), match=message):
        import_model("macls", best, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out").exists()


def test_files_that_do_not_belong_together_are_told(save: Save, tmp_path: Path) -> None:
    best = save(settings("TDNN", {"channels": 24, "embd_dim": 16}), drawn(tdnn(24, 16)))
    other = tmp_path / "other.yml"
    other.write_text(yaml.safe_dump(settings("CAMPPlus")))
    with pytest.raises(CallError, match=r"is of a CAMPPlus, but \S+ holds a TDNN: give its own with --config"):
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
def test_each_network_judges_as_in_macls(
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
    judged = soundbench.load(done.folder, device="cpu").predict([*sounds])
    assert [one.label for one in judged] == [said["label"] for said in wanted]
    assert len({said["label"] for said in wanted}) >= 3
    # Weights that nobody trained multiply what float32 rounds off in the features, one clip in a hundred beyond 1e-3,
    # where macls is as far from itself in float64. With trained weights it is 3e-5.
    apart = sorted(abs(one.score - said["score"]) for one, said in zip(judged, wanted, strict=True))
    assert apart[98] < 1e-3
    assert apart[99] < 5e-3
