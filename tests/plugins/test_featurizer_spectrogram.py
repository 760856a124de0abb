"""The spectrogram against torchaudio's and torch's own."""

from __future__ import annotations

import pytest
import torch
from soundbench_plugins.featurizer.spectrogram import Spectrogram
from soundbench_plugins.layers.torchaudio_import import import_torchaudio

pytestmark = pytest.mark.filterwarnings("ignore:torchaudio's compiled part")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"n_fft": 512, "win_length": 400, "hop_length": 160}),
        ({"frame": 1024, "hop": 320, "power": 1.0}, {"n_fft": 1024, "hop_length": 320, "power": 1.0}),
        ({"frame": 0.01, "n_fft": 301, "hop": 0.005}, {"n_fft": 301, "win_length": 160, "hop_length": 80}),
    ],
)
def test_a_lone_row_is_torchaudios(ours: dict[str, float], theirs: dict[str, float]) -> None:
    torch.manual_seed(1)
    import_torchaudio()
    from torchaudio.transforms import Spectrogram as Theirs

    row = torch.randn(12345) * 0.1
    featurizer = Spectrogram(16000, log="none", normalize="none", **ours)
    features, frames = featurizer(row[None], torch.tensor([len(row)]))
    expected = Theirs(**theirs)(row)
    assert features.shape == (1, featurizer.bands, frames.item())
    torch.testing.assert_close(features[0], expected, rtol=1e-4, atol=1e-5)
    logs, _ = Spectrogram(16000, log="decibel", normalize="none", **ours)(row[None], torch.tensor([len(row)]))
    decibels = (20 if "power" in ours else 10) * expected.clamp(min=1e-10).log10()
    torch.testing.assert_close(logs[0], decibels, rtol=0, atol=0.05)


def test_a_tone_lights_the_bin_it_lies_in() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    features, _ = Spectrogram(16000, frame=512, normalize="none")(tone[None], torch.tensor([16000]))
    assert (features[0, :, 3:-3].argmax(0) == 32).all()


def test_an_option_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^n_fft must be 0 or at least a frame, 400 samples, is 399$"):
        Spectrogram(16000, n_fft=399)
