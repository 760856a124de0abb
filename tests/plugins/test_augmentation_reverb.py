"""Reverb: compared with direct convolution; level, alignment, lengths, whose draw it is, errors of folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from helpers.waveforms import padded
from soundbench_plugins.augmentation.reverb import Reverb

from soundbench.chance import Chance
from soundbench.errors import DataError, MissingDataError

RATE = 16000
CHANCE = Chance(1, 1, "augmentation[0]")
LENGTHS = [4000, 2500, 700, 1]


def _response(samples: int, peak: int, seed: int = 0) -> np.ndarray:
    """An echo that dies away over `samples`, with its direct path at `peak`."""
    echo = np.random.default_rng(seed).uniform(-0.3, 0.3, samples) * np.exp(-3 * np.arange(samples) / samples)
    echo[:peak] *= 0.1
    echo[peak] = 0.9
    return echo


def _write(path: Path, samples: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT")


def _reverb(folder: Path, **options: Any) -> Reverb:
    return Reverb(RATE, folder=folder, **{"chance": 1.0, **options})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Responses of all lengths, the longest longer than any row."""
    for number, (samples, peak) in enumerate([(1, 0), (300, 20), (3000, 0), (9000, 150)]):
        _write(tmp_path / "rooms" / f"{number}.wav", _response(samples, peak, number))
    return tmp_path / "rooms"


@pytest.mark.parametrize(
    ("samples", "peak"),
    [(200, 0), (200, 60), (3000, 5), (20000, 30), (20000, 15000)],
    ids=["short", "with a delay", "long", "longer than the row", "with a delay longer than the row"],
)
def test_it_is_the_convolution_aligned_and_at_the_level_before(tmp_path: Path, samples: int, peak: int) -> None:
    response = _response(samples, peak)
    _write(tmp_path / "1.wav", response)
    batch = padded(torch.randn(4, 4000), LENGTHS)
    out = _reverb(tmp_path)(batch, CHANCE)
    assert out.lengths.tolist() == LENGTHS
    for before, after, length in zip(batch.data, out.data, LENGTHS, strict=True):
        row = before[:length].double().numpy()
        wanted = np.convolve(row, response)[peak : peak + length]
        wanted *= np.sqrt((row**2).mean() / (wanted**2).mean())
        # Of thousands of echoes, each kept with 16 bits, the errors add up to -60 dB.
        assert after[:length].numpy() == pytest.approx(wanted, abs=3e-3)
        assert not after[length:].any()


def test_a_lone_direct_path_changes_nothing_however_late(tmp_path: Path) -> None:
    batch = padded(torch.randn(4, 4000), LENGTHS)
    for number, delay in enumerate((0, 1, 777, 9000)):
        _write(tmp_path / f"{number}" / "1.wav", np.r_[np.zeros(delay), 0.5, np.zeros(50)])
        out = _reverb(tmp_path / f"{number}")(batch, CHANCE).data
        torch.testing.assert_close(out, batch.data, rtol=0, atol=1e-5)


def test_the_level_is_kept_and_nothing_is_shifted(folder: Path) -> None:
    data = torch.randn(40, 4000)
    data[:, :1000] = 0.0
    batch = padded(data, [4000, 3000] * 20)
    out = _reverb(folder)(batch, CHANCE).data
    torch.testing.assert_close(out.norm(dim=1), batch.data.norm(dim=1), rtol=1e-5, atol=0)
    assert (out[:, :800].norm(dim=1) < 0.05 * out.norm(dim=1)).all()


def test_responses_are_resampled(tmp_path: Path) -> None:
    _write(tmp_path / "1.wav", np.r_[np.zeros(100), 1.0, np.zeros(399), 0.5, np.zeros(99)], 8000)
    data = torch.zeros(1, 4000)
    data[0, 100:130] = torch.hann_window(30)
    out = _reverb(tmp_path)(padded(data), CHANCE).data[0]
    # Half as loud, 400 samples of 8 kHz and so 800 of 16 kHz later.
    torch.testing.assert_close(out[900:930], 0.5 * out[100:130], rtol=0, atol=0.02)


def test_a_row_is_the_same_alone_and_whatever_stands_in_its_padding(folder: Path) -> None:
    reverb, data = _reverb(folder, chance=0.7), torch.randn(24, 4000)
    batch = padded(data, LENGTHS * 6)
    together = reverb(batch, CHANCE).data
    for i, length in enumerate(LENGTHS * 6):
        alone = reverb(padded(data[i : i + 1, :length].clone(), first=i), CHANCE).data
        torch.testing.assert_close(alone[0], together[i, :length], rtol=0, atol=1e-5)
    data[1, 2500:] = torch.nan
    torch.testing.assert_close(reverb(batch, CHANCE).data, together)


def test_many_rows_are_convolved_a_few_at_a_time(folder: Path) -> None:
    data = torch.randn(20, 60000)
    reverb = _reverb(folder)
    together = reverb(padded(data), CHANCE).data
    for i in (0, 7, 19):
        alone = reverb(padded(data[i : i + 1], first=i), CHANCE).data
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-5)


def test_each_response_is_as_likely(tmp_path: Path) -> None:
    for number, echo in enumerate((0.25, 0.5, 0.75)):
        _write(tmp_path / f"{number}.wav", np.r_[1.0, echo])
    data = torch.zeros(900, 10)
    data[:, 0] = 1.0
    out = _reverb(tmp_path)(padded(data), CHANCE).data
    found = torch.bincount((out[:, 1] / out[:, 0] * 4).round().long(), minlength=4)
    assert (found / 900).tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3], abs=0.05)


def test_chance_says_how_often_and_the_others_stay_as_they_are(tmp_path: Path) -> None:
    _write(tmp_path / "1.wav", np.array([1.0, 0.5]))
    batch = padded(torch.randn(2000, 40))
    out = _reverb(tmp_path, chance=0.3)(batch, CHANCE).data
    assert (out != batch.data).any(1).float().mean().item() == pytest.approx(0.3, abs=0.04)
    assert torch.equal(_reverb(tmp_path, chance=0.0)(batch, CHANCE).data, batch.data)


def test_epochs_draw_anew_and_the_given_batch_stays(folder: Path) -> None:
    reverb, batch = _reverb(folder), padded(torch.randn(8, 500))
    before = batch.data.clone()
    first = reverb(batch, CHANCE).data
    assert torch.equal(batch.data, before)
    assert torch.equal(reverb(batch, CHANCE).data, first)
    assert not torch.equal(reverb(batch, Chance(1, 2, "augmentation[0]")).data, first)


def test_silence_stays_silent_and_no_checkpoint_keeps_a_response(folder: Path) -> None:
    reverb = _reverb(folder)
    assert not reverb(padded(torch.zeros(3, 200)), CHANCE).data.any()
    assert not reverb.state_dict()


# Bad input


def test_a_response_of_zeros_is_named(folder: Path) -> None:
    _write(folder / "9.wav", np.zeros(800))
    with pytest.raises(DataError) as caught:
        _reverb(folder).prepare()
    assert str(caught.value).splitlines() == [
        "1 of 5 sound files cannot be used:",
        f"  {folder}/9.wav: contains only zeros (0.05 s)",
        "fix or remove them",
    ]


def test_folders_without_responses_are_named_when_they_are_read(tmp_path: Path) -> None:
    reverb = _reverb(tmp_path / "nowhere")
    with pytest.raises(MissingDataError) as caught:
        reverb.prepare()
    assert str(caught.value) == f"{tmp_path}/nowhere: no such folder; reverb.folder must be a folder of sound files"
    with pytest.raises(MissingDataError, match="no sound file in this folder"):
        _reverb(tmp_path).prepare()


@pytest.mark.parametrize("chance", [-0.1, 1.01, float("nan")])
def test_a_chance_that_is_no_share_is_refused(chance: float) -> None:
    with pytest.raises(ValueError, match=f"chance must be from 0 to 1, is {chance}"):
        _reverb(Path("rooms"), chance=chance)
