"""The mel spectrogram against torchaudio's and PANNs' formula, and its promises to the rows of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from soundbench_plugins.featurizer.mel_spectrogram import MelSpectrogram
from soundbench_plugins.layers.torchaudio_import import import_torchaudio

pytestmark = pytest.mark.filterwarnings("ignore:torchaudio's compiled part", "ignore:At least one mel")

PANNS = {
    "bands": 64,
    "frame": 1024,
    "hop": 320,
    "low": 50.0,
    "high": 14000.0,
    "scale": "slaney",
    "norm": "slaney",
    "log": "decibel",
    "normalize": "none",
}


def torchaudios(rate: int, **options: object) -> Callable[[torch.Tensor], torch.Tensor]:
    import_torchaudio()
    from torchaudio.transforms import MelSpectrogram as Theirs

    return Theirs(rate, **options)


def lone(featurizer: torch.nn.Module, row: torch.Tensor) -> torch.Tensor:
    features, frames = featurizer(row[None], torch.tensor([len(row)]))
    assert frames.tolist() == [features.shape[2]]
    return features[0]


@pytest.mark.parametrize(
    ("rate", "ours", "theirs"),
    [
        (16000, {}, {"n_fft": 512, "win_length": 400, "hop_length": 160, "f_min": 20.0, "n_mels": 80}),
        (
            32000,
            {"frame": 0.032, "hop": 512, "bands": 64, "high": -2000.0, "scale": "slaney", "norm": "slaney"},
            {"n_fft": 1024, "hop_length": 512, "f_min": 20.0, "f_max": 14000.0, "n_mels": 64}
            | {"mel_scale": "slaney", "norm": "slaney"},
        ),
        (
            22050,
            {"frame": 600, "hop": 200, "n_fft": 1001, "bands": 30, "low": 0.0, "power": 1.0},
            {"n_fft": 1001, "win_length": 600, "hop_length": 200, "n_mels": 30, "power": 1.0},
        ),
    ],
)
def test_a_lone_row_is_torchaudios(rate: int, ours: dict[str, object], theirs: dict[str, object]) -> None:
    torch.manual_seed(1)
    row = torch.randn(12345) * 0.1
    features = lone(MelSpectrogram(rate, log="none", normalize="none", **ours), row)
    torch.testing.assert_close(features, torchaudios(rate, **theirs)(row), rtol=1e-4, atol=1e-6)


def test_it_computes_panns_log_mels() -> None:
    """Step by step as Kong et al. (2020) have it: stft, power, Slaney's mel bands, 10 log10 of at least 1e-10."""
    torch.manual_seed(2)
    row = torch.randn(32000, dtype=torch.float64) * 0.1
    row[8000:16000] = 0.0
    window = torch.hann_window(1024, periodic=True, dtype=torch.float64)
    power = torch.stft(row, 1024, 320, window=window, center=True, pad_mode="reflect", return_complex=True).abs() ** 2

    def mel(hertz: float) -> float:
        return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)

    edges = torch.linspace(mel(50.0), mel(14000.0), 66, dtype=torch.float64)
    edges = torch.where(edges < 15, edges * 200 / 3, 1000 * torch.exp((edges - 15) * math.log(6.4) / 27))
    bins = torch.arange(513, dtype=torch.float64)[:, None] * 32000 / 1024
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    banks = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0)
    energies = (banks * 2 / (right - left)).T @ power
    expected = 10 * energies.clamp(min=1e-10).log10()
    features = lone(MelSpectrogram(32000, **PANNS), row.float())
    assert features.shape == (64, 101)
    assert (features - expected).abs().max() < 0.01
    assert features.min() == pytest.approx(-100)


def test_full_rows_and_a_ragged_batch_take_the_same_mirror() -> None:
    waveform = torch.randn(2, 4000)
    featurizer = MelSpectrogram(16000)
    full, _ = featurizer(waveform, torch.tensor([4000, 4000]))
    ragged, _ = featurizer(waveform, torch.tensor([4000, 3999]))
    torch.testing.assert_close(full[0], ragged[0], rtol=0, atol=1e-5)


def test_a_row_shorter_than_half_a_frame_is_mirrored_to_and_fro() -> None:
    row = torch.tensor([0.1, -0.2, 0.3, 0.5])
    mirrored = torch.tensor([row[abs((place + 3) % 6 - 3)].item() for place in range(-32, 4 + 32)])
    window = torch.hann_window(64)
    power = torch.fft.rfft(torch.stack([mirrored[:64], mirrored[2:66], mirrored[4:68]]) * window).abs().square().T
    expected = torchaudios(1000, n_fft=64, n_mels=8).mel_scale(power)
    ours = MelSpectrogram(1000, frame=64, hop=2, bands=8, low=0.0, log="none", normalize="none")
    torch.testing.assert_close(lone(ours, row), expected)


@pytest.mark.parametrize(
    ("options", "floor"),
    [
        ({}, math.log(1e-10)),
        ({"log": "decibel"}, -100.0),
        ({"log": "decibel", "power": 1.0}, -200.0),
        ({"log": "none"}, 0.0),
    ],
)
def test_silence_is_the_floor(options: dict[str, object], floor: float) -> None:
    features = lone(MelSpectrogram(16000, normalize="none", **options), torch.zeros(4000))
    torch.testing.assert_close(features, torch.full_like(features, floor))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": 0}, "bands must be at least 1, is 0"),
        ({"frame": 1}, "frame must be at least 2 samples, 0.000125 s at 16000 Hz, is 1"),
        ({"hop": 0.0}, "hop must be at least 1 sample, 6.25e-05 s at 16000 Hz, is 0.0"),
        ({"n_fft": 256}, "n_fft must be 0 or at least a frame, 400 samples, is 256"),
        ({"high": 8001.0}, "high must be at most 8000 Hz, half the sample rate of 16000 Hz, is 8001"),
        ({"high": -7990.0}, "low must be from 0 to below high, 10 Hz, is 20"),
        ({"low": -1.0}, "low must be from 0 to below high, 8000 Hz, is -1"),
        ({"power": 0.0}, "power must be above 0, is 0"),
        ({"scale": "bark"}, 'scale must be "htk" or "slaney", is \'bark\''),
        ({"norm": "area"}, 'norm must be "slaney" or "none", is \'area\''),
        ({"log": "two"}, 'log must be "natural", "decibel" or "none", is \'two\''),
        ({"normalize": "max"}, 'normalize must be "mean", "mean-std" or "none", is \'max\''),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        MelSpectrogram(16000, **options)
    assert str(caught.value) == message
