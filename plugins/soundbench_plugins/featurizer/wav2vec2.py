"""wav2vec 2.0: hidden states of a transformer that has learned from unlabelled speech.

Baevski et al., "wav2vec 2.0: a framework for self-supervised learning of speech representations", NeurIPS 2020; the
weighted sum of all layers is that of SUPERB (Yang et al., INTERSPEECH 2021). By the library transformers.

Shapes: `(B, S)` to `(B, F, T)`, F the width (768, 1024 of the large ones), a frame each 20 ms; any S from 1: rows are
extended to one frame. The base model has a group norm over time: rows of equal length alone go through together
(`ragged = False`). Large ones such as `facebook/wav2vec2-large-lv60` honour attention masks.
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
        model: a local folder, or a name on the hub.
        layer: which hidden state: 0 is what the first layer hears, 1 what it says, -1 what the last says; "weighted"
            is a weighted sum of all of these, learned.
        frozen: whether it stays as it is; if not, `train.rates` can give it a learning rate of its own.
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
        """Options that need no network: a small model that has learned nothing."""
        return save_example(folder, transformers.Wav2Vec2Config)
