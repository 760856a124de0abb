"""What all featurizers of centred frames promise to the rows of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from soundbench_plugins.featurizer.mel_spectrogram import MelSpectrogram
from soundbench_plugins.featurizer.mfcc import MFCC
from soundbench_plugins.featurizer.pcen import PCEN
from soundbench_plugins.featurizer.spectrogram import Spectrogram
from torch.export import Dim, export

Make = Callable[..., torch.nn.Module]

every = pytest.mark.parametrize("make", [MelSpectrogram, MFCC, PCEN, Spectrogram])


def lone(featurizer: torch.nn.Module, row: torch.Tensor) -> torch.Tensor:
    features, frames = featurizer(row[None], torch.tensor([len(row)]))
    assert frames.tolist() == [features.shape[2]]
    return features[0]


@every
@pytest.mark.parametrize("normalize", ["none", "mean", "mean-std"])
@pytest.mark.parametrize("fill", [1.0, math.nan])
def test_a_row_is_the_same_alone_padded_and_in_any_batch(make: Make, normalize: str, fill: float) -> None:
    torch.manual_seed(3)
    featurizer = make(16000, normalize=normalize)
    lengths = torch.tensor([48000, 1, 2, 159, 160, 256, 257, 20001, 33333])
    waveform = torch.randn(9, 48000) * 0.1
    for row, length in zip(waveform, lengths.tolist(), strict=True):
        row[length:] = fill
    features, frames = featurizer(waveform, lengths)
    assert features.shape[1] == featurizer.bands
    assert frames.tolist() == [301, 1, 1, 1, 2, 2, 2, 126, 209]
    for i, length in enumerate(lengths.tolist()):
        alone = lone(featurizer, waveform[i, :length])
        torch.testing.assert_close(features[i, :, : frames[i]], alone, rtol=1e-5, atol=5e-5)
        assert not features[i, :, frames[i] :].any()


@every
def test_normalizing_takes_mean_and_deviation_off_each_band(make: Make) -> None:
    row = torch.randn(16000)
    plain = lone(make(16000, normalize="none"), row)
    mean = lone(make(16000, normalize="mean"), row)
    torch.testing.assert_close(mean, plain - plain.mean(1, keepdim=True), rtol=0, atol=2e-5)
    both = lone(make(16000, normalize="mean-std"), row)
    torch.testing.assert_close(both, mean / plain.std(1, keepdim=True), rtol=1e-4, atol=1e-4)


@every
def test_autocast_does_not_touch_it_and_a_model_keeps_nothing_of_it(make: Make) -> None:
    row = torch.randn(8000)
    featurizer = make(16000)
    expected = lone(featurizer, row)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lone(featurizer, row), expected)
    assert not featurizer.state_dict()


@every
@pytest.mark.parametrize("size", [1, 150])
def test_gradients_flow_through_it(make: Make, size: int) -> None:
    featurizer = make(8000, frame=64, hop=50, n_fft=64)
    torch.manual_seed(3)
    waveform = torch.randn(2, size, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([size, (size + 1) // 2])
    # Most bands of one repeated sample hold what rounding left: smaller differences than these are noise.
    assert torch.autograd.gradcheck(lambda x: featurizer(x, lengths)[0], waveform, eps=1e-5, fast_mode=True)
    silence = torch.zeros(1, 150, requires_grad=True)
    featurizer(silence, torch.tensor([150]))[0].sum().backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()


@every
@pytest.mark.slow
def test_it_is_exported_with_any_batch_and_length(make: Make) -> None:
    featurizer = make(16000).eval()
    example = (torch.randn(4, 16000), torch.tensor([16000, 100, 9000, 16000]))
    sizes = ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
    exported = export(featurizer, example, dynamic_shapes=sizes).module()
    for batch, size in ((1, 48000), (3, 560), (9, 12345)):
        waveform, lengths = torch.randn(batch, size), torch.randint(1, size + 1, (batch,))
        features, frames = exported(waveform, lengths)
        expected, counts = featurizer(waveform, lengths)
        assert torch.equal(frames, counts)
        # The spectrum is computed in another way while it is exported, as exactly: both are held to float64.
        truth = featurizer(waveform.double(), lengths)[0]
        mine, others = ((one.double() - truth).abs().mean() for one in (features, expected))
        assert mine <= 2 * others + 1e-7
