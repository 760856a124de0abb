"""Any audio encoder of the library transformers: hidden states of its layers.

wav2vec 2.0 and its kin (HuBERT, WavLM, UniSpeech, data2vec, Conformers), w2v-BERT 2.0, Whisper's encoder, and the Audio
Spectrogram Transformer (AST), each from the hub or a local folder.

Shapes: `(B, S)` to `(B, F, T)`, F the encoder's width, a frame each 20 ms (AST: 100 ms); any S from 1. What each does
with padding:
- wav2vec 2.0, HuBERT, WavLM and UniSpeech get attention masks where they have no group norm over time (most large
  models). Where they have one (most base models), and with data2vec and Conformers, whose convolutions no mask keeps
  from the padding, rows of equal length alone go through together (`ragged = False`).
- w2v-BERT gets Kaldi's filter bank of each row, from its own feature extractor on the CPU, and attention masks.
- Whisper hears 30 s and AST about 10 s, always: each row is lengthened to that by itself, by their feature extractors
  on the CPU, and the frames of what it was lengthened by are left out. So a row is the same in any batch; but the
  encoder attends to the silence, and costs as much as 30 or 10 s do. Longer windows are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from soundbench_plugins.layers.encoders import Encoder, Layer, save_example

__all__ = ["Transformers"]


class Transformers(Encoder):
    """A pretrained audio encoder of transformers, frozen or fine-tuned.

    Args:
        model: a local folder, or a name on the hub.
        layer: which hidden state: 0 is what the first layer hears, 1 what it says, -1 what the last says; "weighted"
            is a weighted sum of all of these, learned.
        frozen: whether it stays as it is; if not, `train.rates` can give it a learning rate of its own.
    """

    def __init__(
        self,
        rate: int,
        *,
        model: Path | str,
        layer: Layer = "weighted",
        frozen: bool = True,
    ) -> None:
        super().__init__(rate, model, layer, frozen)

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Options that need no network: a small model that has learned nothing."""
        return save_example(folder, transformers.HubertConfig)
