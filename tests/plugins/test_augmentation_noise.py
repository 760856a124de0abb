"""Noise: at which ratio, which stretch of which file, whose draw it is, and errors of folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from helpers.waveforms import padded
from soundbench_plugins.augmentation.noise import Noise

from soundbench.audio import SUFFIXES
from soundbench.chance import Chance
from soundbench.cli.main import invoke
from soundbench.contracts import Batch
from soundbench.errors import DataError, MissingDataError

RATE = 16000
CHANCE = Chance(1, 1, "augmentation[0]")
LENGTHS = [4000, 2500, 700, 1]


def _write(path: Path, samples: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT")


def _sound(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of all lengths, in folders too, beside what is no sound."""
    for number, samples in enumerate([90, 256, 3000, 40000]):
        _write(tmp_path / "noise" / f"{number % 2}" / f"{number}.wav", _sound(samples, number))
    (tmp_path / "noise" / "LICENSE").write_text("free")
    return tmp_path / "noise"


def _noise(folder: Path, **options: Any) -> Noise:
    return Noise(RATE, folder=folder, **{"chance": 1.0, **options})


def _ratios(before: Batch, after: Batch) -> torch.Tensor:
    added = after.data.double() - before.data.double()
    return 10 * torch.log10(before.data.double().square().sum(1) / added.square().sum(1))


def test_the_ratio_is_the_drawn_one_over_the_rows_true_length(folder: Path) -> None:
    batch = padded(torch.randn(40, 4000), LENGTHS[:3] * 13 + [4000])
    for snr in (-10.0, 0.0, 25.0):
        assert _ratios(batch, _noise(folder, snr=(snr, snr))(batch, CHANCE)).numpy() == pytest.approx(snr, abs=0.05)


def test_ratios_are_spread_over_their_range(folder: Path) -> None:
    batch = padded(torch.randn(2000, 100))
    ratios = _ratios(batch, _noise(folder, snr=(5.0, 20.0))(batch, CHANCE))
    counts = torch.histc(ratios, 5, 4.999, 20.001)
    assert counts.sum() == 2000
    assert (counts / 2000).tolist() == pytest.approx([0.2] * 5, abs=0.04)


def test_how_loud_the_files_are_changes_nothing(folder: Path, tmp_path: Path) -> None:
    for path in folder.rglob("*.wav"):
        _write(tmp_path / "quiet" / path.relative_to(folder), soundfile.read(path)[0] * 1e-4)
    batch = padded(torch.randn(8, 4000))
    loud, quiet = (_noise(place)(batch, CHANCE).data for place in (folder, tmp_path / "quiet"))
    torch.testing.assert_close(loud, quiet, rtol=0, atol=1e-4)


def test_longer_noise_is_cut_at_a_random_place(tmp_path: Path) -> None:
    noise = _sound(4003)
    _write(tmp_path / "1.wav", noise)
    batch = padded(torch.randn(400, 4000))
    added = _noise(tmp_path)(batch, CHANCE).data - batch.data
    cuts = torch.from_numpy(noise).unfold(0, 4000, 1)
    likeness = torch.nn.functional.normalize(added) @ torch.nn.functional.normalize(cuts).T
    assert likeness.amax(1).min() > 0.9999
    assert torch.bincount(likeness.argmax(1)).div(400).tolist() == pytest.approx([0.25] * 4, abs=0.07)


@pytest.mark.parametrize("samples", [1, 90, 1000])
def test_shorter_noise_is_repeated_from_anywhere_in_it(tmp_path: Path, samples: int) -> None:
    noise = _sound(samples) + 0.6
    _write(tmp_path / "1.wav", noise)
    batch = padded(torch.zeros(60, 4000) + 0.5)
    added = _noise(tmp_path, snr=(0.0, 0.0))(batch, CHANCE).data - batch.data
    torch.testing.assert_close(added[:, samples:], added[:, :-samples])
    wanted = torch.from_numpy(np.tile(noise, 2)).unfold(0, samples, 1)[:samples]
    wanted = wanted / wanted.square().mean(1, keepdim=True).sqrt() * 0.5
    apart = torch.cdist(added[:, :samples], wanted)
    torch.testing.assert_close(apart.amin(1), torch.zeros(60), rtol=0, atol=0.05)
    assert len(apart.argmin(1).unique()) > min(samples, 60) // 2


def test_each_file_is_as_likely_however_long(tmp_path: Path) -> None:
    _write(tmp_path / "short.wav", np.full(300, 0.5, np.float32))
    _write(tmp_path / "long.wav", np.full(90000, -0.5, np.float32))
    batch = padded(torch.ones(1000, 50))
    added = _noise(tmp_path)(batch, CHANCE).data - batch.data
    assert (added.mean(1) > 0).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_files_are_resampled(tmp_path: Path) -> None:
    _write(tmp_path / "1.wav", np.sin(2 * np.pi * 1000 / 8000 * np.arange(16000)) * 0.5, 8000)
    batch = padded(torch.full((1, 8000), 1.0))
    added = _noise(tmp_path)(batch, CHANCE).data - batch.data
    assert torch.fft.rfft(added[0]).abs().argmax().item() * RATE / 8000 == 1000


def test_padding_stays_zero_and_lengths_stay(folder: Path) -> None:
    batch = padded(torch.randn(4, 4000), LENGTHS)
    out = _noise(folder)(batch, CHANCE)
    assert out.lengths.tolist() == LENGTHS
    for row, length in zip(out.data, out.lengths, strict=True):
        assert not row[length:].any()


def test_a_row_is_the_same_alone_and_whatever_stands_in_its_padding(folder: Path) -> None:
    noise, data = _noise(folder, chance=0.5), torch.randn(24, 4000)
    batch = padded(data, LENGTHS * 6)
    together = noise(batch, CHANCE).data
    for i, length in enumerate(LENGTHS * 6):
        alone = noise(padded(data[i : i + 1, :length].clone(), first=i), CHANCE).data
        torch.testing.assert_close(alone[0], together[i, :length], rtol=0, atol=1e-5)
    data[1, 2500:] = torch.nan
    torch.testing.assert_close(noise(batch, CHANCE).data, together)


def test_chance_says_how_often_and_the_others_stay_as_they_are(folder: Path) -> None:
    batch = padded(torch.randn(2000, 40))
    out = _noise(folder, chance=0.3)(batch, CHANCE).data
    assert (out != batch.data).any(1).float().mean().item() == pytest.approx(0.3, abs=0.04)
    assert torch.equal(_noise(folder, chance=0.0)(batch, CHANCE).data, batch.data)


def test_epochs_draw_anew_and_the_given_batch_stays(folder: Path) -> None:
    noise, batch = _noise(folder), padded(torch.randn(4, 500))
    before = batch.data.clone()
    first = noise(batch, CHANCE).data
    assert torch.equal(batch.data, before)
    assert torch.equal(noise(batch, CHANCE).data, first)
    assert not torch.equal(noise(batch, Chance(1, 2, "augmentation[0]")).data, first)


def test_silence_stays_silent_and_silent_noise_adds_nothing(tmp_path: Path) -> None:
    _write(tmp_path / "1.wav", np.r_[np.zeros(60000), 0.5].astype(np.float32))
    data = torch.randn(6, 100)
    data[0] = 0.0
    out = _noise(tmp_path)(padded(data), CHANCE).data
    assert torch.isfinite(out).all()
    assert not out[0].any()
    assert torch.equal(out[1:], data[1:])


def test_the_folder_is_read_once_and_no_checkpoint_keeps_it(folder: Path) -> None:
    noise, batch = _noise(folder), padded(torch.randn(4, 500))
    first = noise(batch, CHANCE).data
    for path in folder.rglob("*.wav"):
        path.unlink()
    assert torch.equal(noise(batch, CHANCE).data, first)
    assert not noise.state_dict()


# Bad input


def test_folders_without_noise_are_named_when_it_is_read(tmp_path: Path) -> None:
    noise = _noise(tmp_path / "nowhere")
    with pytest.raises(MissingDataError) as caught:
        noise.prepare()
    assert str(caught.value) == (f"{tmp_path}/nowhere: no such folder; noise.folder must be a folder of sound files")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError) as caught:
        _noise(tmp_path / "empty").prepare()
    known = ", ".join(sorted(SUFFIXES))
    assert str(caught.value) == f"{tmp_path}/empty: no sound file in this folder; known: {known}"


def test_files_that_cannot_be_used_are_reported_together(folder: Path) -> None:
    (folder / "a.wav").write_bytes(b"")
    _write(folder / "b.wav", np.zeros(8000))
    with pytest.raises(DataError) as caught:
        _noise(folder).prepare()
    assert str(caught.value).splitlines() == [
        "2 of 6 sound files cannot be used:",
        f"  {folder}/a.wav: is empty (0 bytes); a sound file is needed",
        f"  {folder}/b.wav: contains only zeros (0.5 s)",
        "fix or remove them",
    ]
    for number in range(20):
        (folder / f"{number}.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"22 of 26 .* cannot be used:\n(  .*\n){10}  \.\.\. and 12 more\nfix"):
        _noise(folder).prepare()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snr": (20.0, 10.0)}, "snr must be two numbers in decibels, the lower one first, is [20.0, 10.0]"),
        ({"snr": (float("nan"), 1.0)}, "snr must be two numbers in decibels, the lower one first, is [nan, 1.0]"),
        ({"snr": (0.0, float("inf"))}, "snr must be two numbers in decibels, the lower one first, is [0.0, inf]"),
        ({"chance": 1.5}, "chance must be from 0 to 1, is 1.5"),
        ({"chance": -0.1}, "chance must be from 0 to 1, is -0.1"),
        ({"chance": float("nan")}, "chance must be from 0 to 1, is nan"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        _noise(Path("noise"), **options)
    assert str(caught.value) == message


def test_a_recipe_is_described_without_its_noise_but_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(
        'dataset = "tones"\nbackbone = {use = "campplus", growth = 8}\n'
        '[[augmentation]]\nuse = "noise"\nfolder = "nowhere"\nsnr = [0, 10]\n'
    )
    assert invoke(["describe", "mine.toml"]) == 0
    assert f'folder = "{tmp_path}/nowhere"' in capsys.readouterr().out
    assert invoke(["run", "mine.toml"]) == 2
    problem = f"{tmp_path}/nowhere: no such folder; noise.folder must be a folder of sound files"
    assert capsys.readouterr().err == f"augmentation[0] (noise): {problem}\n"
    assert not Path("runs").exists()
