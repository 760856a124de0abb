"""The published checkpoints of PANNs: Cnn6, Cnn10 and Cnn14, trained on the 527 classes of AudioSet.

Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition", IEEE/ACM TASLP 2020.
Their files also contain the spectrogram, as the matrices of a Fourier transform and of 64 mel bands; the featurizer
`mel-spectrogram` computes its own matrices, which are compared with these.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from soundbench import files, limits
from soundbench.contracts import Imported
from soundbench.errors import CallError, RunError
from soundbench_plugins.layers.third_party_checkpoints import read_tensors, renamed

__all__ = ["panns"]

_REAL, _IMAGINARY = "spectrogram_extractor.stft.conv_real.weight", "spectrogram_extractor.stft.conv_imag.weight"
_BANKS = "logmel_extractor.melW"

_NAMES = {
    "bn0": "backbone.bn0",
    "conv_block#.conv1": "backbone.blocks.#.conv1",
    "conv_block#.bn1": "backbone.blocks.#.bn1",
    "conv_block#.conv2": "backbone.blocks.#.conv2",
    "conv_block#.bn2": "backbone.blocks.#.bn2",
    "fc1": "head.embed.1",
    "fc_audioset": "head.classify",
}

_HEAD = {"norm_before": False, "bias": True, "norm_after": "none", "activation": "relu", "dropout": 0.5}


class Sound(NamedTuple):
    """The settings that belong to one length of the Fourier transform."""

    rate: int
    hop: int
    high: float


# Cnn14 was also published for 16 and 8 kHz.
_SOUND = {1024: Sound(32000, 320, 14000.0), 512: Sound(16000, 160, 8000.0), 256: Sound(8000, 80, 4000.0)}


def panns(path: Path, *, labels: Path | None = None, window: float = 10.0) -> Imported:
    """A published PANNs checkpoint, Cnn6, Cnn10 or Cnn14, with the 527 classes of AudioSet.

    Args:
        path: the file, such as Cnn14_mAP=0.431.pth.
        labels: AudioSet's class_labels_indices.csv. Without it, classes are named by their numbers.
        window: length of the windows in seconds; AudioSet's clips have ten.
    """
    tensors = read_tensors(path, "model")
    wanted = [_REAL, _IMAGINARY, _BANKS, "fc1.weight", "fc_audioset.weight", "conv_block1.conv1.weight"]
    missing = [name for name in wanted if name not in tensors]
    if missing:
        raise RunError(f"{path}: not a Cnn6, Cnn10 or Cnn14 of PANNs: it lacks {', '.join(missing)}")
    banks, bins = tensors.pop(_BANKS), _window(path, tensors.pop(_REAL), tensors.pop(_IMAGINARY))
    sound = _SOUND[len(bins)]
    weights = renamed(tensors, _NAMES)
    classes, notes = _classes(labels, len(tensors["fc_audioset.weight"]))
    widths = [len(tensors[name]) for number in range(1, 7) if (name := f"conv_block{number}.conv1.weight") in tensors]
    depth = 14 if len(widths) == 6 else 10 if "conv_block1.conv2.weight" in tensors else 6
    backbone = {"use": f"panns-cnn{depth}", "channels": widths, "bias": False}
    tables = {"classes": classes, "multilabel": True, "audio": {"rate": sound.rate, "window": window}}
    tables |= {"featurizer": _featurizer(sound, len(bins), banks.shape[1]), "backbone": backbone}
    tables |= {"pooling": "max-mean", "head": _HEAD | {"embedding": len(tensors["fc1.weight"])}, "loss": "bce"}
    constants = {"featurizer.mel.banks": banks, "featurizer.mel.spectra.window": bins}
    return Imported(path.stem, tables, weights, constants, notes)


def _window(path: Path, real: Tensor, imaginary: Tensor) -> Tensor:
    """The window `(N,)` of the matrices of a Fourier transform `(N / 2 + 1, 1, N)`, after checking them."""
    size = real.shape[-1]
    if size not in _SOUND or real.shape != (size // 2 + 1, 1, size) or imaginary.shape != real.shape:
        raise RunError(f"{path}: a Fourier transform of the shape {tuple(real.shape)} is not that of PANNs")
    window = real[0, 0].double()
    turns = torch.arange(size // 2 + 1).unsqueeze(1) * torch.arange(size) % size * (2 * math.pi / size)
    wanted = torch.stack([window * turns.cos(), -window * turns.sin()])
    apart = float((torch.stack([real[:, 0], imaginary[:, 0]]) - wanted).abs().max())
    if not apart <= 1e-4:
        raise RunError(f"{path}: its spectrogram is not a windowed Fourier transform: it differs by {apart:.2g}")
    return window.float()


def _featurizer(sound: Sound, size: int, bands: int) -> dict[str, Any]:
    return {
        "use": "mel-spectrogram",
        "bands": bands,
        "frame": size,
        "hop": sound.hop,
        "n_fft": size,
        "low": 50.0,
        "high": sound.high,
        "scale": "slaney",
        "norm": "slaney",
        "power": 2.0,
        "log": "decibel",
        "normalize": "none",
    }


def _classes(labels: Path | None, count: int) -> tuple[list[str], list[str]]:
    """The names of the classes, and notes on them."""
    if labels is None:
        note = "classes are named by their numbers: give AudioSet's class_labels_indices.csv with --labels"
        return [str(number) for number in range(count)], [note]
    try:
        with files.open_text(labels, limits.TEXT, newline="") as file:
            rows = {int(row["index"]): row["display_name"] for row in csv.DictReader(file)}
    except OSError as error:
        raise CallError(f"{labels}: cannot be read: {error.strerror}") from error
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise CallError(f"{labels}: not a table of classes: it must have the columns index and display_name") from error
    if sorted(rows) != list(range(count)):
        raise CallError(f"{labels}: names {len(rows)} classes, numbered from 0, but the checkpoint has {count}")
    return [rows[number] for number in range(count)], []
