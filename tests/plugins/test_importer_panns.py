"""PANNs' published checkpoints, in their layout: whole, compared with a forward pass that is written out here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.panns_models import checkpoint
from torch import Tensor
from torch.nn import functional as F

import soundbench
from soundbench.errors import CallError, RunError
from soundbench.model.importing import import_model

Save = Callable[..., Path]


def forward(tensors: dict[str, Tensor], wave: Tensor, hop: int = 320) -> Tensor:
    """The scores `(B, K)` of waveforms `(B, S)`, in float64."""
    at = {name: tensor.double() for name, tensor in tensors.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        weights = (at[f"{name}.{what}"] for what in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *weights, training=False)

    size = at["spectrogram_extractor.stft.conv_real.weight"].shape[-1]
    padded = F.pad(wave.double()[:, None], (size // 2, size // 2), mode="reflect")
    real = F.conv1d(padded, at["spectrogram_extractor.stft.conv_real.weight"], stride=hop)
    imaginary = F.conv1d(padded, at["spectrogram_extractor.stft.conv_imag.weight"], stride=hop)
    power = (real.square() + imaginary.square()).transpose(1, 2)
    x = norm(10 * (power @ at["logmel_extractor.melW"]).clamp(min=1e-10).log10().transpose(1, 2), "bn0")
    x = x.transpose(1, 2)[:, None]  # (B, 1, T, F)
    blocks = [number for number in range(1, 7) if f"conv_block{number}.conv1.weight" in at]
    for number in blocks:
        for layer in (1, 2):
            kernel = at.get(f"conv_block{number}.conv{layer}.weight")
            if kernel is not None:
                x = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
                x = norm(x, f"conv_block{number}.bn{layer}").relu()
        if number < 6:
            x = F.avg_pool2d(x, 2)
    x = x.mean(3)
    x = x.max(2).values + x.mean(2)
    x = F.linear(x, at["fc1.weight"], at["fc1.bias"]).relu()
    return F.linear(x, at["fc_audioset.weight"], at["fc_audioset.bias"]).sigmoid()


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a checkpoint as PANNs' own program does."""

    def save(tensors: dict[str, Any], name: str = "Cnn.pth", **beside: Any) -> Path:
        torch.save({"iteration": 600000, "model": tensors, **beside}, tmp_path / name)
        return tmp_path / name

    return save


NARROW = {6: [8, 12, 16, 20], 10: [8, 12, 16, 20], 14: [8, 12, 16, 20, 24, 28]}


@pytest.mark.parametrize("depth", [6, 10, 14])
def test_scores_are_those_of_a_forward_pass_written_out(save: Save, tmp_path: Path, depth: int) -> None:
    tensors = checkpoint(depth, NARROW[depth], embedding=24)
    done = import_model("panns", save(tensors), tmp_path / "out")
    assert done.classes == 527
    network = soundbench.load(done.folder, device="cpu").network
    wave = 0.1 * torch.randn(2, 32000, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        given = network(wave, torch.tensor([32000, 32000])).sigmoid()
    torch.testing.assert_close(given.double(), forward(tensors, wave), atol=2e-5, rtol=0)


def test_predict_says_the_labels_of_the_table(save: Save, tmp_path: Path) -> None:
    table = tmp_path / "class_labels_indices.csv"
    lines = [f'{number},/m/{number:05d},"Sound, the {number}th"' for number in reversed(range(527))]
    table.write_text("\n".join(["index,mid,display_name", *lines]))
    tensors = checkpoint(6, NARROW[6], embedding=24)
    done = import_model("panns", save(tensors), tmp_path / "out", {"labels": table})
    assert list(done.notes) == []
    wave = 0.1 * torch.randn(1, 48000, generator=torch.Generator().manual_seed(4))
    prediction = soundbench.load(done.folder, device="cpu").predict(wave, rate=32000)
    wanted = forward(tensors, wave)[0]
    assert prediction.label == f"Sound, the {int(wanted.argmax())}th"
    assert prediction.score == pytest.approx(float(wanted.max()), abs=1e-4)
    assert sum(prediction.scores.values()) > 2  # each class for itself


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "widths", "embedding", "parameters"),
    [
        (6, [64, 128, 256, 512], 512, 4_837_455),
        (10, [64, 128, 256, 512], 512, 5_219_279),
        (14, [64, 128, 256, 512, 1024, 2048], 2048, 80_753_615),
    ],
)
def test_the_published_sizes(
    save: Save, tmp_path: Path, depth: int, widths: list[int], embedding: int, parameters: int
) -> None:
    tensors = checkpoint(depth, widths, embedding)
    done = import_model("panns", save(tensors), tmp_path / "out")
    assert done.parameters == parameters  # as the paper counts them
    wave = 0.1 * torch.randn(1, 32000, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        given = soundbench.load(done.folder, device="cpu").network(wave, torch.tensor([32000])).sigmoid()
    torch.testing.assert_close(given.double(), forward(tensors, wave), atol=5e-5, rtol=0)


def test_the_network_for_16_khz(save: Save, tmp_path: Path) -> None:
    tensors = checkpoint(14, NARROW[14], embedding=24, size=512)
    network = soundbench.load(import_model("panns", save(tensors), tmp_path / "out").folder, device="cpu").network
    wave = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        given = network(wave, torch.tensor([16000])).sigmoid()
    torch.testing.assert_close(given.double(), forward(tensors, wave, hop=160), atol=2e-5, rtol=0)


def test_numpys_values_beside_the_tensors_do_no_harm(save: Save, tmp_path: Path) -> None:
    sampler = {"pointer": np.int64(7), "indexes": [np.arange(5), np.zeros(3, np.float32)], "share": np.float64(0.5)}
    path = save(checkpoint(6, NARROW[6], embedding=24), sampler=sampler, state=("MT19937", np.zeros(9, np.uint32)))
    assert import_model("panns", path, tmp_path / "out").classes == 527


def test_the_state_dict_alone_will_do_and_so_does_the_format_of_2019(tmp_path: Path) -> None:
    tensors = checkpoint(6, NARROW[6], embedding=24)
    torch.save(tensors, tmp_path / "bare.pth", _use_new_zipfile_serialization=False)
    done = import_model("panns", tmp_path / "bare.pth", tmp_path / "out")
    assert list(done.notes) == [
        "classes are named by their numbers: give AudioSet's class_labels_indices.csv with --labels"
    ]


class Harmful:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("harm"),)


def test_a_pickle_with_code_is_refused_and_not_executed(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(checkpoint(6, NARROW[6], embedding=24), optimizer=Harmful())
    with pytest.raises(RunError, match=r"Cnn\.pth: it contains code, \S+, which is not executed"):
        import_model("panns", path, tmp_path / "out")
    assert not Path("harm").exists()


def _changed(name: str, change: Callable[[Tensor], Tensor | None]) -> dict[str, Any]:
    tensors = checkpoint(6, NARROW[6], embedding=24)
    value = change(tensors.pop(name))
    return tensors if value is None else tensors | {name: value}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("fc_audioset.weight", lambda _: None, "not a Cnn6, Cnn10 or Cnn14 of PANNs: it lacks fc_audioset.weight"),
        ("bn0.weight", lambda _: None, "1 missing: backbone.bn0.weight"),
        (
            "logmel_extractor.melW",
            lambda banks: banks * 1.1,
            "featurizer.mel.banks differs from the network's by 0.1 of",
        ),
        (
            "spectrogram_extractor.stft.conv_imag.weight",
            lambda matrix: -matrix,
            "its spectrogram is not a windowed Fourier transform: it differs by 2",
        ),
        (
            "spectrogram_extractor.stft.conv_real.weight",
            lambda matrix: matrix[:, :, :1000],
            r"a Fourier transform of the shape \(513, 1, 1000\) is not that of PANNs",
        ),
    ],
)
def test_what_is_no_checkpoint_of_panns_is_refused(
    save: Save, tmp_path: Path, name: str, change: Callable[[Tensor], Tensor | None], message: str
) -> None:
    with pytest.raises(RunError, match=message):
        import_model("panns", save(_changed(name, change)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tensors_left_over_are_named(save: Save, tmp_path: Path) -> None:
    tensors = checkpoint(6, NARROW[6], embedding=24) | {"att_block.att.weight": torch.zeros(2)}
    with pytest.raises(RunError, match=r"1 left over: att_block\.att\.weight"):
        import_model("panns", save(tensors), tmp_path / "out")


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file.pth").write_bytes(b"no zip")
    with pytest.raises(RunError, match="it is damaged, or not a checkpoint"):
        import_model("panns", tmp_path / "file.pth", tmp_path / "out")
    torch.save({"model": {"a": 1}}, tmp_path / "file.pth")
    with pytest.raises(RunError, match="not a state dict"):
        import_model("panns", tmp_path / "file.pth", tmp_path / "out")


def test_a_table_of_other_classes_is_refused(save: Save, tmp_path: Path) -> None:
    path, table = save(checkpoint(6, NARROW[6], embedding=24)), tmp_path / "labels.csv"
    for text, message in [
        ("index,mid,display_name\n0,/m/0,Dog\n", "names 1 classes, numbered from 0, but the checkpoint has 527"),
        ("name\nDog\n", "not a table of classes: it must have the columns index and display_name"),
    ]:
        table.write_text(text)
        with pytest.raises(CallError, match=message):
            import_model("panns", path, tmp_path / "out", {"labels": table})
    with pytest.raises(CallError, match="cannot be read"):
        import_model("panns", path, tmp_path / "out", {"labels": tmp_path / "none.csv"})
