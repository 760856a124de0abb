"""Any audio encoder of the library transformers: hidden states of its layers.

wav2vec 2.0 and similar encoders (HuBERT, WavLM, UniSpeech, data2vec, Conformers), w2v-BERT 2.0, Whisper's encoder, and
the Audio Spectrogram Transformer (AST), each from the hub or a local folder.

Shapes: `(B, S)` to `(B, F, T)`, F the encoder's width, one frame per 20 ms (AST: 100 ms); any S from 1. Padding:
- wav2vec 2.0, HuBERT, WavLM and UniSpeech get attention masks if they have no group norm over time (most large
  models). If they have one (most base models), and with data2vec and Conformers, whose convolutions read padding in
  spite of a mask, a batch contains only rows of equal length (`ragged = False`).
- w2v-BERT gets Kaldi's filter bank of each row, from its own feature extractor on the CPU, and attention masks.
- Whisper always takes 30 s and AST about 10 s: their feature extractors extend each row to that on the CPU, and the
  frames of the extension are dropped. So a row is the same in any batch; but the encoder attends to the silence, and
  costs as much as 30 or 10 s. Longer windows are refused.
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
        model: a local folder, or a name on the Hugging Face hub.
        layer: which hidden state: 0 is the input of the first layer, 1 its output, -1 the output of the last layer;
            "weighted" is a learned weighted sum of all of them.
        frozen: whether its weights are fixed; if not, `train.rates` can set its own learning rate.
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
        """Options that need no download: a small untrained model."""
        return save_example(folder, transformers.HubertConfig)
