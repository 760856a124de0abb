"""The filter bank against torchaudio's and kaldi-native-fbank's, and its promises to the rows of a batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from soundbench_plugins.featurizer.fbank import Fbank
from soundbench_plugins.layers.torchaudio_import import import_torchaudio
from torch.export import Dim, export

pytestmark = pytest.mark.filterwarnings("ignore:torchaudio's compiled part")

SILENCE = math.log(torch.finfo(torch.float32).eps)


def _sounds(dtype: torch.dtype) -> torch.Tensor:
    """Noise, faint noise, a tone, clicks, an offset and silence, one second each."""
    torch.manual_seed(1)
    seconds = torch.arange(16000, dtype=torch.float64) / 16000
    sounds = torch.stack(
        [
            torch.randn(16000, dtype=torch.float64) * 0.1,
            torch.randn(16000, dtype=torch.float64) * 1e-4,
            torch.sin(2 * torch.pi * 440 * seconds) * 0.5,
            (torch.arange(16000) % 1000 == 0).double(),
            torch.randn(16000, dtype=torch.float64) * 0.01 + 0.7,
            torch.zeros(16000, dtype=torch.float64),
        ]
    )
    return sounds.to(dtype)


def _full(waveform: torch.Tensor) -> torch.Tensor:
    return torch.full((waveform.shape[0],), waveform.shape[1])


def _torchaudio(waveform: torch.Tensor, **options: object) -> torch.Tensor:
    import_torchaudio()
    from torchaudio.compliance import kaldi

    return torch.stack([kaldi.fbank(row[None], **options).T for row in waveform])


@pytest.mark.parametrize("bands", [23, 40, 80, 128])
def test_float64_is_within_a_thousandth_of_torchaudio(bands: int) -> None:
    waveform = _sounds(torch.float64)
    features, _ = Fbank(16000, bands=bands, normalize="none")(waveform, _full(waveform))
    assert features.dtype == torch.float64
    assert (features - _torchaudio(waveform, num_mel_bins=bands)).abs().max() < 1e-3


def test_float32_is_as_near_to_torchaudio_as_two_float32_programs_are() -> None:
    waveform = _sounds(torch.float32)
    features, _ = Fbank(16000, normalize="none")(waveform, _full(waveform))
    apart = (features - _torchaudio(waveform, num_mel_bins=80)).abs()
    assert apart.max() < 0.02
    assert apart.mean() < 1e-4


@pytest.mark.parametrize(
    ("rate", "ours", "theirs"),
    [
        (8000, {}, {}),
        (22050, {}, {}),
        (44100, {}, {}),
        (16000, {"low": 60.0, "high": 7600.0}, {"low_freq": 60.0, "high_freq": 7600.0}),
        (16000, {"high": -400.0}, {"high_freq": -400.0}),
        (16000, {"frame": 0.032, "hop": 0.016}, {"frame_length": 32.0, "frame_shift": 16.0}),
        (16000, {"frame": 512, "hop": 256}, {"frame_length": 32.0, "frame_shift": 16.0}),
        (16000, {"preemphasis": 0.0}, {"preemphasis_coefficient": 0.0}),
    ],
)
def test_every_option_is_kaldis(rate: int, ours: dict[str, float], theirs: dict[str, float]) -> None:
    waveform = _sounds(torch.float64)[:, : 3 * rate // 10]
    features, _ = Fbank(rate, bands=30, normalize="none", **ours)(waveform, _full(waveform))
    expected = _torchaudio(waveform, num_mel_bins=30, sample_frequency=rate, **theirs)
    assert features.shape == expected.shape
    assert (features - expected).abs().max() < 1e-3


def test_a_third_program_agrees() -> None:
    knf = pytest.importorskip("kaldi_native_fbank")
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = 80
    waveform = _sounds(torch.float32)[:3]
    features, lengths = Fbank(16000, normalize="none")(waveform, _full(waveform))
    for row, ours, frames in zip(waveform, features, lengths.tolist(), strict=True):
        theirs = knf.OnlineFbank(options)
        theirs.accept_waveform(16000, row.tolist())
        assert theirs.num_frames_ready == frames
        expected = np.stack([theirs.get_frame(i) for i in range(frames)], axis=1)
        apart = np.abs(ours.numpy() - expected)
        assert apart.max() < 0.02
        assert apart.mean() < 1e-4


@pytest.mark.parametrize("normalize", ["none", "mean", "mean-std"])
def test_a_row_is_the_same_alone_padded_and_in_any_batch(normalize: str) -> None:
    torch.manual_seed(2)
    featurizer = Fbank(16000, normalize=normalize)
    lengths = torch.tensor([48000, 1, 399, 400, 559, 560, 20001, 33333])
    waveform = torch.randn(8, 48000) * 0.1  # what is beyond the lengths is no silence
    features, frames = featurizer(waveform, lengths)
    assert frames.tolist() == [298, 1, 1, 1, 1, 2, 123, 206]
    for i, length in enumerate(lengths.tolist()):
        alone, count = featurizer(waveform[i : i + 1, :length], lengths[i : i + 1])
        assert count.item() == frames[i]
        torch.testing.assert_close(features[i, :, : frames[i]], alone[0], rtol=0, atol=2e-5)
        assert not features[i, :, frames[i] :].any()


def test_what_a_short_row_lacks_is_silence() -> None:
    waveform = torch.zeros(1, 400)
    waveform[0, :100] = torch.randn(100)
    whole, _ = Fbank(16000, normalize="none")(waveform, torch.tensor([400]))
    short, lengths = Fbank(16000, normalize="none")(waveform[:, :100], torch.tensor([100]))
    assert lengths.tolist() == [1]
    torch.testing.assert_close(short, whole)


def test_silence_is_the_floor_and_nothing_once_normalized() -> None:
    waveform, lengths = torch.zeros(1, 4000), torch.tensor([4000])
    assert torch.allclose(Fbank(16000, normalize="none")(waveform, lengths)[0], torch.tensor(SILENCE))
    for normalize in ("mean", "mean-std"):
        assert Fbank(16000, normalize=normalize)(waveform, lengths)[0].abs().max() < 1e-2


def test_normalizing_takes_mean_and_deviation_off_each_band() -> None:
    waveform, lengths = torch.randn(1, 16000), torch.tensor([16000])
    plain = Fbank(16000, normalize="none")(waveform, lengths)[0]
    mean = Fbank(16000)(waveform, lengths)[0]
    torch.testing.assert_close(mean, plain - plain.mean(2, keepdim=True), rtol=0, atol=1e-5)
    both = Fbank(16000, normalize="mean-std")(waveform, lengths)[0]
    torch.testing.assert_close(both, mean / plain.std(2, keepdim=True), rtol=1e-4, atol=1e-4)


def test_the_level_does_not_matter_once_the_mean_is_off() -> None:
    waveform, lengths = torch.randn(1, 16000), torch.tensor([16000])
    featurizer = Fbank(16000)
    torch.testing.assert_close(
        featurizer(waveform, lengths)[0], featurizer(waveform * 0.1, lengths)[0], rtol=0, atol=1e-3
    )


def test_a_tone_lights_the_band_it_lies_in() -> None:
    seconds = torch.arange(16000) / 16000
    featurizer = Fbank(16000, bands=40, normalize="none")
    mel = 1127 * torch.log1p(torch.tensor([20.0, 8000.0]) / 700)
    centres = 700 * (torch.linspace(mel[0].item(), mel[1].item(), 42)[1:-1] / 1127).expm1()
    for band in (5, 15, 25, 35):
        tone = torch.sin(2 * torch.pi * centres[band] * seconds)
        features, _ = featurizer(tone[None], torch.tensor([16000]))
        assert (features[0].argmax(0) == band).all()


def test_autocast_does_not_touch_it() -> None:
    waveform, lengths = torch.randn(2, 8000), torch.tensor([8000, 5000])
    featurizer = Fbank(16000)
    expected, _ = featurizer(waveform, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        features, _ = featurizer(waveform, lengths)
    assert features.dtype == torch.float32
    assert torch.equal(features, expected)


def test_it_adds_nothing_to_the_weights_of_a_model() -> None:
    assert not Fbank(16000).state_dict()


def test_gradients_flow_through_it() -> None:
    featurizer = Fbank(8000, bands=5, frame=0.01, hop=0.008)
    waveform = torch.randn(2, 300, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: featurizer(x, torch.tensor([300, 200]))[0], waveform)


@pytest.mark.slow
def test_it_is_exported_with_any_batch_and_length() -> None:
    featurizer = Fbank(16000).eval()
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": 0}, "bands must be at least 1, is 0"),
        ({"frame": 0.0}, "frame must be at least two samples, 0.000125 s at 16000 Hz, is 0.0"),
        ({"hop": 0.0}, "hop must be at least one sample, 6.25e-05 s at 16000 Hz, is 0.0"),
        ({"low": 5000.0, "high": 4000.0}, "low must be from 0 to below high, 4000 Hz, is 5000"),
        ({"high": 9000.0}, "high must be at most 8000 Hz, half the sample rate of 16000 Hz, is 9000"),
        ({"low": -1.0}, "low must be from 0 to below high, 8000 Hz, is -1"),
        ({"preemphasis": 1.5}, "preemphasis must be from 0 to 1, is 1.5"),
        ({"normalize": "max"}, 'normalize must be "mean", "mean-std" or "none", is \'max\''),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Fbank(16000, **options)
    assert str(caught.value) == message
