"""The built-in featurizers, each imported on first use: `soundbench.featurizers.Fbank`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soundbench_plugins.featurizer.fbank import Fbank
    from soundbench_plugins.featurizer.mel_spectrogram import MelSpectrogram
    from soundbench_plugins.featurizer.mfcc import MFCC
    from soundbench_plugins.featurizer.pcen import PCEN
    from soundbench_plugins.featurizer.spectrogram import Spectrogram
    from soundbench_plugins.featurizer.transformers_encoder import Transformers
    from soundbench_plugins.featurizer.wav2vec2 import Wav2Vec2
    from soundbench_plugins.featurizer.wavlm import WavLM

__all__ = [
    "Fbank",
    "MFCC",
    "MelSpectrogram",
    "PCEN",
    "Spectrogram",
    "Transformers",
    "Wav2Vec2",
    "WavLM",
]


def __getattr__(name: str) -> Any:
    from soundbench.recipe.catalogue import built_in

    return built_in("featurizer", name)


def __dir__() -> list[str]:
    return sorted(__all__)
