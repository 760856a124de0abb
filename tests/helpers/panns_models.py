"""The published checkpoints of PANNs, in their layout: names and shapes of tensors, and their filters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor


def slaney_mel(size: int, rate: int, low: float, high: float, bands: int = 64) -> np.ndarray:
    """Slaney's bands `(N / 2 + 1, bands)`: 3 mels in 200 Hz up to 1 kHz, 27 in a factor of 6.4 above; unit area."""
    step = math.log(6.4) / 27

    def hertz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(step * (mel - 15)))

    def mel(frequency: float) -> float:
        return frequency * 3 / 200 if frequency < 1000 else 15 + math.log(frequency / 1000) / step

    edges = hertz(np.linspace(mel(low), mel(high), bands + 2))
    bins = np.arange(size // 2 + 1)[:, None] * rate / size
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * 2 / (edges[2:] - edges[:-2])).astype(np.float32)


def checkpoint(
    depth: int, widths: list[int], embedding: int, classes: int = 527, size: int = 1024
) -> dict[str, Tensor]:
    """Tensors named and shaped as in the published files; they keep no biases of convolutions."""
    rate, high = {1024: (32000, 14000.0), 512: (16000, 8000.0)}[size]
    torch.manual_seed(depth)
    window = np.hanning(size + 1)[:-1]
    turns = 2 * np.pi * np.outer(np.arange(size // 2 + 1), np.arange(size)) / size
    tensors: dict[str, Any] = {
        "spectrogram_extractor.stft.conv_real.weight": (window * np.cos(turns))[:, None],
        "spectrogram_extractor.stft.conv_imag.weight": (-window * np.sin(turns))[:, None],
        "logmel_extractor.melW": slaney_mel(size, rate, 50, high),
    }
    tensors = {name: torch.from_numpy(value.astype(np.float32)) for name, value in tensors.items()}

    def norm(name: str, width: int, shift: float = 0.0, spread: float = 1.0) -> None:
        tensors[f"{name}.weight"] = 0.5 + torch.rand(width)
        tensors[f"{name}.bias"] = 0.2 * torch.randn(width)
        tensors[f"{name}.running_mean"] = shift + 0.1 * torch.randn(width)
        tensors[f"{name}.running_var"] = spread * (0.5 + torch.rand(width))
        tensors[f"{name}.num_batches_tracked"] = torch.tensor(1000)

    norm("bn0", 64, -30.0, 100.0)
    before = 1
    for number, width in enumerate(widths, start=1):
        for layer in (1,) if depth == 6 else (1, 2):
            kernel = 5 if depth == 6 else 3
            inside = before if layer == 1 else width
            scale = math.sqrt(2 / (inside * kernel**2))
            tensors[f"conv_block{number}.conv{layer}.weight"] = scale * torch.randn(width, inside, kernel, kernel)
            norm(f"conv_block{number}.bn{layer}", width)
        before = width
    for name, out, inside in (("fc1", embedding, before), ("fc_audioset", classes, embedding)):
        tensors[f"{name}.weight"] = torch.randn(out, inside) / math.sqrt(inside)
        tensors[f"{name}.bias"] = 0.1 * torch.randn(out)
    return tensors
