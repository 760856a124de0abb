"""Background: which kinds are mixed in, how many, at which ratio, and errors of folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from helpers.waveforms import padded
from soundbench_plugins.augmentation.background import Background

from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench.errors import DataError, MissingDataError

RATE = 16000
CHANCE = Chance(1, 1, "augmentation[0]")
LENGTHS = [4000, 2500, 700, 1]

# Samples of a period: what a kind is known by.
KINDS = {"fan": 16, "hum": 40, "rain": 100}


def _write(path: Path, period: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * np.arange(9000) / period), RATE, subtype="FLOAT")


@pytest.fixture
def around(tmp_path: Path) -> Path:
    """A folder a kind, one file in the first, two in the second, five in the third."""
    for kind, files in zip(KINDS, (1, 2, 5), strict=True):
        for number in range(files):
            _write(tmp_path / "around" / kind / f"{number}.wav", KINDS[kind])
    return tmp_path / "around"


def _background(*folders: Path, **options: Any) -> Background:
    return Background(RATE, folders=list(folders), **{"chance": 1.0, **options})


def _kinds_in(before: Batch, after: Batch) -> torch.Tensor:
    """Which kinds are mixed into each row, bool `(B, 3)`: their tones stand in what was added."""
    spectra = torch.fft.rfft(after.data - before.data).abs()
    size = before.data.shape[1]
    tones = spectra[:, [size // period for period in KINDS.values()]]
    return tones > 0.1 * tones.amax(1, keepdim=True)


def test_each_kind_is_as_likely_however_many_files_it_has(around: Path) -> None:
    batch = padded(torch.randn(900, 800))
    for folders in ([around], [around / kind for kind in KINDS]):
        mixed = _kinds_in(batch, _background(*folders)(batch, CHANCE))
        assert (mixed.sum(1) == 1).all()
        assert mixed.float().mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.05)


def test_folders_of_kinds_and_kinds_themselves_go_together(around: Path, tmp_path: Path) -> None:
    for kind, period in KINDS.items():
        _write(tmp_path / ("two" if kind != "rain" else "") / kind / "in" / "depth.wav", period)
    batch = padded(torch.randn(900, 800))
    mixed = _kinds_in(batch, _background(tmp_path / "two", tmp_path / "rain")(batch, CHANCE))
    assert mixed.float().mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.05)


def test_up_to_so_many_are_mixed_each_as_loud(around: Path) -> None:
    batch = padded(torch.randn(900, 800))
    out = _background(around, most=2, snr=(0.0, 0.0))(batch, CHANCE)
    mixed = _kinds_in(batch, out)
    # One in half of the rows; two in the others, in a third of them of the same kind.
    assert (mixed.sum(1) == 2).float().mean().item() == pytest.approx(1 / 3, abs=0.05)
    tones = torch.fft.rfft(out.data - batch.data).abs()[:, [800 // period for period in KINDS.values()]]
    both = tones[mixed.sum(1) == 2].sort(1, descending=True).values
    torch.testing.assert_close(both[:, 0], both[:, 1], rtol=1e-2, atol=0)


@pytest.mark.parametrize("most", [1, 3])
def test_the_ratio_is_to_all_of_them_over_the_rows_true_length(around: Path, most: int) -> None:
    batch = padded(torch.randn(39, 4000), LENGTHS[:3] * 13)
    for snr in (-5.0, 20.0):
        added = _background(around, most=most, snr=(snr, snr))(batch, CHANCE).data.double() - batch.data.double()
        ratios = 10 * torch.log10(batch.data.double().square().sum(1) / added.square().sum(1))
        assert ratios.numpy() == pytest.approx(snr, abs=0.05)


def test_padding_stays_zero_and_a_row_is_the_same_alone(around: Path) -> None:
    background, data = _background(around, most=3, chance=0.7), torch.randn(24, 4000)
    together = background(padded(data, LENGTHS * 6), CHANCE)
    assert together.lengths.tolist() == LENGTHS * 6
    for i, length in enumerate(LENGTHS * 6):
        assert not together.data[i, length:].any()
        alone = background(padded(data[i : i + 1, :length].clone(), first=i), CHANCE).data
        torch.testing.assert_close(alone[0], together.data[i, :length], rtol=0, atol=1e-5)


def test_chance_says_how_often(around: Path) -> None:
    batch = padded(torch.randn(2000, 40))
    out = _background(around, chance=0.3)(batch, CHANCE).data
    assert (out != batch.data).any(1).float().mean().item() == pytest.approx(0.3, abs=0.04)
    assert torch.equal(_background(around, chance=0.0)(batch, CHANCE).data, batch.data)


def test_epochs_draw_anew_and_silence_stays_silent(around: Path) -> None:
    background, batch = _background(around, most=2), padded(torch.randn(8, 500))
    first = background(batch, CHANCE).data
    assert torch.equal(background(batch, CHANCE).data, first)
    assert not torch.equal(background(batch, Chance(1, 2, "augmentation[0]")).data, first)
    assert not background(padded(torch.zeros(3, 200)), CHANCE).data.any()
    assert not background.state_dict()


# Bad input


def test_folders_without_sounds_are_named_when_they_are_read(around: Path) -> None:
    background = _background(around, around / "sea")
    with pytest.raises(MissingDataError) as caught:
        background.prepare()
    message = "no such folder; background.folders must name folders of sound files"
    assert str(caught.value) == f"{around}/sea: {message}"
    (around / "sea").mkdir()
    for folder in (around, around / "sea"):
        with pytest.raises(MissingDataError, match=f"^{around}/sea: no sound file in this folder; known: "):
            _background(folder).prepare()


def test_sounds_beside_folders_are_refused(around: Path) -> None:
    _write(around / "lost.wav", 20)
    with pytest.raises(DataError) as caught:
        _background(around).prepare()
    assert str(caught.value) == (
        f"{around}: 1 sound file beside the folders in it, such as lost.wav; put each into the folder of its kind"
    )


def test_files_that_cannot_be_used_are_reported(around: Path) -> None:
    (around / "fan" / "a.wav").write_bytes(b"")
    with pytest.raises(DataError, match=f"^1 of 9 sound files cannot be used:\n  {around}/fan/a.wav: is empty"):
        _background(around).prepare()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folders": []}, "folders must name at least one folder, is []"),
        ({"snr": (20.0, 10.0)}, "snr must be two numbers in decibels, the lower one first, is [20.0, 10.0]"),
        ({"most": 0}, "most must be at least 1, is 0"),
        ({"chance": 1.5}, "chance must be from 0 to 1, is 1.5"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Background(RATE, **{"folders": [Path("around")], **options})
    assert str(caught.value) == message
