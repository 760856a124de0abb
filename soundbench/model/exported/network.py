"""An exported model as a network of torch, to be evaluated as others are: from the logits of its windows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from soundbench import recipe as recipes
from soundbench.machine import settle
from soundbench.model import assembly
from soundbench.model.exported.scorer import ExportedScorer
from soundbench.model.rejecting.rejector import Rejector
from soundbench.model.scoring import Scorer

__all__ = ["as_scorer"]


class _Exported(nn.Module):
    """Computes what an exported program does. The reject score, where there is one, is all of its embedding."""

    def __init__(self, scorer: ExportedScorer) -> None:
        super().__init__()
        self.scorer = scorer

    def outputs(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Logits and, after them, the reject score, `(B, K + 1)`."""
        logits, reject = self.scorer.run(waveform.numpy(), lengths.numpy(), "logits", "reject")
        return torch.cat([torch.from_numpy(logits), torch.from_numpy(reject)[:, None]], dim=1)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(B, K)`."""
        return torch.from_numpy(self.scorer.run(waveform.numpy(), lengths.numpy(), "logits")[0])


class _Rejects(nn.Module):
    """Gives the reject scores that the program has computed."""

    embeddings = True

    def forward(self, logits: Tensor, embeddings: Tensor) -> Tensor:
        """The reject scores `(B,)`."""
        return embeddings[:, 0]


class _Scorer(Scorer):
    """The scorer of an exported model."""

    def cost(self, window: int) -> dict[str, int]:
        """What the file says."""
        card = self.network.scorer.metadata.values.get("card", {})  # type: ignore[operator, union-attr]
        return {name: int(card[name]) for name in ("parameters", "macs") if name in card}


def as_scorer(exported: ExportedScorer | Scorer, source: str) -> Scorer:
    """A scorer of torch that computes with an exported model; one of torch as it is.

    Its loss and its calibration, which turn the logits into scores, are the components that the file names.

    Args:
        exported: the model.
        source: its name in messages.

    Raises:
        RecipeError: the components that the file names cannot be made.
    """
    if isinstance(exported, Scorer):
        return exported
    about = exported.metadata
    model = recipes.read_model(about.tables, source=source)
    classes = len(about.classes)
    spec, rule = model.calibration, about.reject
    calibration = None if spec is None else assembly.make_calibration(spec, classes, source)
    rejector = None if rule is None else Rejector(_Rejects(), rule.clip, rule.window, rule.silence)
    network: Any = _Exported(exported)
    loss = assembly.make_loss(model.loss, classes, source)
    return _Scorer(network, loss, settle("cpu", precision="fp32"), "off", calibration, rejector)
