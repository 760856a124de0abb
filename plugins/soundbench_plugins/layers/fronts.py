"""Prepare waveforms as input for the audio encoders of transformers, each row at its own length.

A front takes waveforms `(B, S)` and lengths, and returns the encoder's arguments and the lengths `(B,)` of its
frames. `frames` turns hidden states `(B, N, D)` into frames `(B, T, D)`. `ragged` says whether padding does not change
a row, `shortest` to how many samples rows are extended.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from soundbench import masks

__all__ = ["Front", "front_of"]

# Encoders that ignore everything beyond an attention mask, in their convolutions too, unless one has a group norm.
_MASKING = {"hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm"}


class Front(Protocol):
    """The interface of all fronts."""

    ragged: bool
    shortest: int

    def __call__(self, waveform: Tensor, lengths: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The encoder's arguments, and the lengths of its frames."""
        ...

    def frames(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Hidden states `(B, N, D)` as frames `(B, T, D)` of those lengths."""
        ...


class Waves:
    """For wav2vec 2.0 and similar encoders of waveforms, normalised to mean 0 and deviation 1 if configured so.

    Convolutions with a group norm take statistics over a whole row with its padding, and stacked convolutions carry
    padding into a row: such an encoder is not ragged, and gets no attention masks.
    """

    def __init__(self, config: Any, extractor: Any) -> None:
        self.ragged = config.model_type in _MASKING and config.feat_extract_norm == "layer"
        self.steps = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.normalize = extractor.do_normalize
        self.shortest = 1
        for kernel, stride in reversed(self.steps):
            self.shortest = (self.shortest - 1) * stride + kernel

    def __call__(self, waveform: Tensor, lengths: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        if self.normalize:
            variance, mean = masks.variance_mean(waveform.unsqueeze(1), lengths, unbiased=False)
            waveform = (waveform - mean) / (variance + 1e-7).sqrt()
        waveform, lengths = masks.extend(waveform, lengths, self.shortest)
        arguments = {"input_values": waveform}
        if self.ragged and not masks.full(lengths, waveform.shape[1]):
            arguments["attention_mask"] = masks.mask(lengths, waveform.shape[1]).long()
        for kernel, stride in self.steps:
            lengths = (lengths - kernel) // stride + 1
        return arguments, lengths

    def frames(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        return hidden


class Whisper:
    """For Whisper, whose input is always 30 s: log mels, each row separately extended with silence.

    Its encoder attends to that silence too, as in its training; the frames of the silence are dropped.
    """

    ragged = True
    shortest = 1

    def __init__(self, config: Any, extractor: Any) -> None:
        self.extractor, self.hop, self.longest = extractor, 2 * extractor.hop_length, extractor.n_samples

    def __call__(self, waveform: Tensor, lengths: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        _check_longest(waveform, self.longest, self.extractor.sampling_rate)
        rows, device = _rows(waveform, lengths), str(waveform.device)
        made = self.extractor(rows, sampling_rate=self.extractor.sampling_rate, return_tensors="pt", device=device)
        return {"input_features": made["input_features"].to(waveform.device)}, masks.strided(lengths, self.hop)

    def frames(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        return hidden[:, : int(lengths.max())]


class Patches:
    """For the Audio Spectrogram Transformer, whose input is patches of a spectrogram of fixed length, about 10 s.

    Each row is extended separately; patches of the extension are dropped. A frame is the mean of the patches of all
    bands at one time. The two tokens for the whole input are dropped too, since they depend on the extension.
    """

    ragged = True

    def __init__(self, config: Any, extractor: Any) -> None:
        self.extractor, self.patch, self.stride = extractor, config.patch_size, config.time_stride
        self.rows = (config.num_mel_bins - self.patch) // config.frequency_stride + 1
        self.frame, self.hop = (int(extractor.sampling_rate * seconds) for seconds in (0.025, 0.010))
        self.longest = self.frame + (config.max_length - 1) * self.hop + self.hop - 1
        self.shortest = self.frame

    def __call__(self, waveform: Tensor, lengths: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        _check_longest(waveform, self.longest, self.extractor.sampling_rate)
        waveform, lengths = masks.extend(waveform, lengths, self.shortest)
        rows = _rows(waveform, lengths)
        made = self.extractor(rows, sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
        lengths = 1 + (lengths - self.frame) // self.hop
        lengths = 1 + (lengths - self.patch).clamp(min=0) // self.stride
        return {"input_values": made["input_values"].to(waveform.device)}, lengths

    def frames(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        patches = hidden[:, 2:].reshape(len(hidden), self.rows, -1, hidden.shape[2])
        return patches[:, :, : int(lengths.max())].mean(1)


class Stacked:
    """For w2v-BERT, whose input is Kaldi's filter bank with two frames stacked, normalised per row."""

    ragged = True

    def __init__(self, config: Any, extractor: Any) -> None:
        self.extractor = extractor
        # Two steps of the encoder: a single frame has no deviation.
        self.shortest = 400 + 160 * (2 * extractor.stride - 1)

    def __call__(self, waveform: Tensor, lengths: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        waveform, lengths = masks.extend(waveform, lengths, self.shortest)
        rows = _rows(waveform, lengths)
        made = self.extractor(rows, sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
        mask = made["attention_mask"].to(waveform.device)
        return {"input_features": made["input_features"].to(waveform.device), "attention_mask": mask}, mask.sum(1)

    def frames(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        return hidden[:, : int(lengths.max())]


def front_of(config: Any, extractor: Any) -> Front:
    """The front for an encoder with that configuration and feature extractor.

    Raises:
        ValueError: the feature extractor is not supported.
    """
    kinds: dict[type, type[Front]] = {
        transformers.Wav2Vec2FeatureExtractor: Waves,
        transformers.WhisperFeatureExtractor: Whisper,
        transformers.ASTFeatureExtractor: Patches,
        transformers.SeamlessM4TFeatureExtractor: Stacked,
    }
    for kind, front in kinds.items():
        if isinstance(extractor, kind):
            return front(config, extractor)  # type: ignore[call-arg]
    raise ValueError(f"with features of {', '.join(kind.__name__ for kind in kinds)}, not {type(extractor).__name__}")


def _rows(waveform: Tensor, lengths: Tensor) -> list[NDArray[np.float32]]:
    """Each row at its own length, as NumPy arrays for a feature extractor."""
    rows = waveform.detach().to("cpu", torch.float32).numpy()
    return [row[:length] for row, length in zip(rows, lengths.tolist(), strict=True)]


def _check_longest(waveform: Tensor, longest: int, rate: int) -> None:
    if waveform.shape[1] > longest:
        raise ValueError(f"the encoder takes at most {longest / rate:g} s at a time, not {waveform.shape[1] / rate:g}")
