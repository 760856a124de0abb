"""wav2vec 2.0: hidden states of a transformer trained on unlabelled speech.

Baevski et al., "wav2vec 2.0: a framework for self-supervised learning of speech representations", NeurIPS 2020; the
weighted sum of all layers is that of SUPERB (Yang et al., INTERSPEECH 2021). Uses the library transformers.

Shapes: `(B, S)` to `(B, F, T)`, F the width (768, 1024 of the large ones), one frame per 20 ms; any S from 1: rows are
extended to one frame. The base model has a group norm over time: a batch contains only rows of equal length
(`ragged = False`). Large models such as `facebook/wav2vec2-large-lv60` use attention masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from soundbench_plugins.layers.encoders import Encoder, Layer, save_example

__all__ = ["Wav2Vec2"]


class Wav2Vec2(Encoder):
    """A pretrained wav2vec 2.0, frozen or fine-tuned.

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
        model: Path | str = "facebook/wav2vec2-base",
        layer: Layer = "weighted",
        frozen: bool = True,
    ) -> None:
        super().__init__(rate, model, layer, frozen, types=("wav2vec2",))

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Options that need no download: a small untrained model."""
        return save_example(folder, transformers.Wav2Vec2Config)
