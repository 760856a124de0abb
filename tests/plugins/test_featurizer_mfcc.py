"""The cepstrum against torchaudio's and SciPy's cosine transform."""

from __future__ import annotations

import pytest
import torch
from soundbench_plugins.featurizer.mel_spectrogram import MelSpectrogram
from soundbench_plugins.featurizer.mfcc import MFCC
from soundbench_plugins.layers.torchaudio_import import import_torchaudio

pytestmark = pytest.mark.filterwarnings("ignore:torchaudio's compiled part")


def test_a_lone_row_is_torchaudios() -> None:
    torch.manual_seed(1)
    import_torchaudio()
    from torchaudio.transforms import MFCC as Theirs

    # Loud enough that the 1e-6 torchaudio adds to energies before its logarithm does not show.
    row = torch.randn(12345)
    features, frames = MFCC(16000, coefficients=20, normalize="none")(row[None], torch.tensor([len(row)]))
    melkwargs = {"n_fft": 512, "win_length": 400, "hop_length": 160, "f_min": 20.0, "n_mels": 80}
    expected = Theirs(16000, 20, log_mels=True, melkwargs=melkwargs)(row)
    assert frames.item() == expected.shape[1]
    torch.testing.assert_close(features[0], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("log", ["natural", "decibel"])
def test_it_is_scipys_cosine_transform_of_the_log_mels(log: str) -> None:
    fft = pytest.importorskip("scipy.fft")
    row, lengths = torch.randn(1, 4000), torch.tensor([4000])
    mels, _ = MelSpectrogram(16000, bands=40, log=log, normalize="none")(row, lengths)
    features, _ = MFCC(16000, coefficients=40, bands=40, log=log, normalize="none")(row, lengths)
    expected = torch.from_numpy(fft.dct(mels.numpy(), type=2, axis=1, norm="ortho"))
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("coefficients", [0, 81])
def test_more_coefficients_than_bands_are_refused(coefficients: int) -> None:
    with pytest.raises(ValueError, match=rf"^coefficients must be from 1 to bands, 80, is {coefficients}$"):
        MFCC(16000, coefficients=coefficients)
