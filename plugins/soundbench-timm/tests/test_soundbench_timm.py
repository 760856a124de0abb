"""The backbone `timm` keeps its contract, trains, is loaded elsewhere, and refuses in one line what it cannot use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from soundbench_timm import Timm, timm

import soundbench
from soundbench.testing import check_component

# Small ones: the first has strides with padding, the second without, and the third has its channels last.
SMALL = ("test_resnet", "test_convnext", "test_mambaout")


def test_the_contract() -> None:
    check_component("backbone", "timm", options={"model": SMALL[0]})


@pytest.mark.parametrize(
    ("model", "bands", "frames", "left"),
    [("test_resnet", 80, 320, 10), ("test_mambaout", 64, 320, 10), ("dla34", 80, 33, 2)],  # dla34: in 64 x 64
)
def test_frames_are_those_of_the_network(model: str, bands: int, frames: int, left: int) -> None:
    net = Timm(bands, model=model).eval()
    out, lengths = net(torch.randn(2, bands, frames), torch.tensor([frames, frames]))
    assert out.shape == (2, net.channels, left)
    assert lengths.tolist() == [left, left]


def test_vectors_are_means_over_bands_of_the_librarys_own_maps() -> None:
    torch.manual_seed(3)
    net = Timm(80, model="test_resnet").eval()
    whole = timm.create_model("test_resnet", in_chans=1, num_classes=0).eval()
    whole.load_state_dict(net.net.state_dict())
    images = torch.randn(1, 1, 96, 128)
    with torch.no_grad():
        maps = whole.forward_features(images)
        vectors, _ = net(images[:, 0], torch.tensor([128]))
    torch.testing.assert_close(vectors, maps.mean(2))


def test_one_frame_of_one_row_can_be_trained_on() -> None:
    for model in SMALL:
        out, _ = Timm(16, model=model).train()(torch.randn(1, 16, 1), torch.tensor([1]))
        assert out.isfinite().all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"model": "resnet81"}, r"^model must be a network of timm, is 'resnet81'; did you mean 'resnet18' or "),
        ({"model": "hf-hub:someone/net"}, r"^model must be a network of timm, is 'hf-hub:someone/net'"),
        ({"model": ""}, r"^model must be a network of timm, is ''; timm\.list_models\(\) lists them$"),
        ({"model": "resnet18."}, r"^model must name weights that timm knows, is 'resnet18\.'; .*a1_in1k"),
        (
            {"model": "resnet18.best"},
            r"^model must name weights that timm knows, is 'resnet18\.best'; .*a1_in1k",
        ),
        (
            {"model": "vit_tiny_patch16_224"},
            r"^model must take images of any size, .* takes those of one size",
        ),
        (
            {"model": "deepseek_vit_412m"},
            r"^model must take images of any size, .*, which does not$",
        ),
    ],
)
def test_what_it_cannot_use_is_refused_in_one_line(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text) as error:
        Timm(80, **options)
    assert "\n" not in str(error.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hugging Face hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_weights_that_the_machine_does_not_have_are_not_waited_for(hub: Path) -> None:
    with pytest.raises(ValueError, match=r"^pretrained is true, but .* `hf download timm/test_resnet\.r160_in1k model"):
        Timm(80, model="test_resnet.r160_in1k", pretrained=True)
    assert not hub.exists()


def cached(hub: Path) -> dict[str, torch.Tensor]:
    """Put weights of three channels and a thousand classes into the cache, as the hub's own client lays them out."""
    torch.manual_seed(5)
    weights: dict[str, torch.Tensor] = timm.create_model("test_resnet").state_dict()
    repo = hub / "models--timm--test_resnet.r160_in1k"
    (repo / "snapshots" / "0a").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0a")
    safetensors.torch.save_file(weights, repo / "snapshots" / "0a" / "model.safetensors")
    return weights


def test_weights_of_the_cache_are_taken_their_colours_added_up(hub: Path) -> None:
    weights = cached(hub)
    net = Timm(80, model="test_resnet", pretrained=True)
    own = net.net.state_dict()
    first = next(name for name, tensor in weights.items() if tensor.dim() == 4)
    torch.testing.assert_close(own[first], weights[first].sum(1, keepdim=True))
    same = [name for name in own if name in weights and name != first]
    assert len(same) > 40
    assert all(torch.equal(own[name], weights[name]) for name in same)


def test_weights_that_are_damaged_are_named(hub: Path) -> None:
    cached(hub)
    (file,) = hub.rglob("model.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    text = rf"^pretrained is true, but {file} cannot be read as weights of 'test_resnet': "
    with pytest.raises(ValueError, match=text) as error:
        Timm(80, model="test_resnet", pretrained=True)
    assert "\n" not in str(error.value)


RECIPE = """
backbone = {{ use = "timm", model = "test_resnet", pretrained = {pretrained} }}
featurizer = "mel-spectrogram"
[dataset]
use = "tones"
clips = 60
[split]
test = [5]
[audio]
window = 1.0
[train]
epochs = 1
batch_size = 16
"""


def test_a_run_from_pretrained_weights_is_loaded_where_they_are_not(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(hub)
    (tmp_path / "tones.toml").write_text(RECIPE.format(pretrained="true"))
    run = soundbench.run(tmp_path / "tones.toml", out=tmp_path / "run", cache=tmp_path / "cache", say=lambda line: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    classifier = soundbench.load(run)
    samples = torch.randn(24000).numpy()
    alone = classifier.predict(samples, rate=16000)
    assert sum(alone.scores.values()) == pytest.approx(1.0, abs=1e-5)
    together = classifier.predict([samples, samples[:9000]], rate=16000)[0]
    assert together.scores == pytest.approx(alone.scores, abs=1e-5)


def test_a_mistake_in_a_recipe_is_one_line_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "tones.toml").write_text(RECIPE.format(pretrained="false").replace("test_resnet", "test_resnets"))
    command = [sys.executable, "-m", "soundbench", "describe", "tones.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("tones.toml: backbone.model: must be a network of timm, is 'test_resnets'; did you")
    assert done.stderr.count("\n") == 1
