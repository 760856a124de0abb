"""WavLM: hidden states of a transformer trained on 94,000 hours of speech, also mixed and noisy.

Chen et al., "WavLM: large-scale self-supervised pre-training for full stack speech processing", IEEE JSTSP 2022; the
weighted sum of all layers is that of SUPERB (Yang et al., INTERSPEECH 2021). Uses the library transformers.

Shapes: `(B, S)` to `(B, F, T)`, F the width (768, 1024 of the large one), one frame per 20 ms; any S from 1: rows are
extended to one frame. The base models have a group norm over time: a batch contains only rows of equal length
(`ragged = False`). The large model uses attention masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from soundbench_plugins.layers.encoders import Encoder, Layer, save_example

__all__ = ["WavLM"]


class WavLM(Encoder):
    """A pretrained WavLM, frozen or fine-tuned.

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
        model: Path | str = "microsoft/wavlm-base-plus",
        layer: Layer = "weighted",
        frozen: bool = True,
    ) -> None:
        super().__init__(rate, model, layer, frozen, types=("wavlm",))

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Options that need no download: a small untrained model."""
        return save_example(folder, transformers.WavLMConfig)
