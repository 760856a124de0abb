"""The program of a model: waveforms in, the scores of windows out; and those of its parts, to find one that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from soundbench.contracts import Featurizer, Program
from soundbench.data.batches import set_level
from soundbench.inference.classifier import Classifier

__all__ = ["parts_of", "program_of"]

Sizes = dict[str, dict[int, str]]

_BATCH = {0: "batch"}
_SOUND: Sizes = {"waveform": {**_BATCH, 1: "samples"}, "lengths": _BATCH}
_FRAMES = {**_BATCH, 2: "frames"}

# A short input is padded to so many frames: what is exported for several frames may not hold for one.
_FEWEST = 16


class _Scored(nn.Module):
    """What a model computes for windows.

    Shape: waveforms `(B, S)` and lengths `(B,)` to scores `(B, K)`, logits `(B, K)`, embeddings `(B, D)` and, where
    sound is rejected, reject scores `(B,)`.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        scorer = classifier.scorer
        self.network, self.loss, self.calibration = scorer.network, scorer.loss, scorer.calibration
        self.reject: Any = None if scorer.rejector is None else scorer.rejector.module
        self.level: float | Literal["off"] = scorer.level
        self.classes, self.embeds = len(classifier.classes), scorer.embeds
        self.fewest = _fewest(scorer.network.featurizer)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Scores, logits, embeddings, and reject scores if there are any."""
        missing = torch.sym_max(self.fewest - waveform.shape[1], 0)  # type: ignore[no-untyped-call]
        waveform = nn.functional.pad(waveform, (0, missing))
        if self.level != "off":
            waveform = set_level(waveform, lengths, self.level)
        both = self.network.outputs(waveform, lengths).float()
        logits, embeddings = both[:, : self.classes], both[:, self.classes :]
        scores = self.loss.scores(logits if self.calibration is None else self.calibration(logits))
        found = scores.float(), logits, embeddings
        if self.reject is None:
            return found
        return *found, self.reject(logits, embeddings if self.embeds else None).float()


def _fewest(featurizer: Featurizer) -> int:
    """How many samples give `_FEWEST` frames, up to a factor of two."""
    samples = 1
    with torch.no_grad():
        while int(featurizer(torch.zeros(1, samples), torch.tensor([samples]))[1]) < _FEWEST:
            samples *= 2
    return samples


def program_of(classifier: Classifier, metadata: Mapping[str, Any]) -> Program:
    """The program of a model on the CPU, for windows of any number and length."""
    names = ("scores", "logits", "embeddings", *(["reject"] if classifier.scorer.rejector is not None else []))
    return Program(_Scored(classifier).eval(), _noise(classifier), _SOUND, names, metadata)


def _noise(classifier: Classifier) -> dict[str, Tensor]:
    """Two windows of noise, the second one shorter."""
    size = max(classifier.grid.window, 2)
    noise = torch.randn(2, size, generator=torch.Generator().manual_seed(0))
    return {"waveform": 0.1 * noise, "lengths": torch.tensor([size, size // 2])}


class _Part(nn.Module):
    """A part of a model, whose result is always a tuple of tensors."""

    def __init__(self, part: Any, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.part, self.compute = part, compute

    def forward(self, data: Tensor) -> tuple[Tensor, ...]:
        """The result of the part."""
        return _tuple(self.compute(data))


class _PartOfTwo(_Part):
    """The same with two inputs; a function of any number of inputs cannot be exported like others."""

    def forward(self, data: Tensor, more: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """The result of the part."""
        return _tuple(self.compute(data, more))


def _tuple(found: Any) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def parts_of(classifier: Classifier) -> Iterator[tuple[str, Any, Program]]:
    """The parts of a model in the order of computation: kind, component, and its program.

    Each one's example inputs are what those before it give for noise.
    """
    scorer, network = classifier.scorer, classifier.network
    featurizer, backbone, pooling, head = network.featurizer, network.backbone, network.pooling, network.head
    with torch.no_grad():
        sound = _noise(classifier)
        features, counts = featurizer(*sound.values())
        frames, lengths = backbone(features, counts)
        vectors = pooling(frames, lengths)
        logits, embeddings = head(vectors), head.get_submodule("embed")(vectors)
    yield _part("featurizer", featurizer, featurizer, _SOUND, *sound.values())
    yield _part("backbone", backbone, backbone, {"features": _FRAMES, "lengths": _BATCH}, features, counts)
    yield _part("pooling", pooling, pooling, {"frames": _FRAMES, "lengths": _BATCH}, frames, lengths)
    yield _part("head", head, head, {"vectors": _BATCH}, vectors)
    if scorer.calibration is not None:
        yield _part("calibration", scorer.calibration, scorer.calibration, {"logits": _BATCH}, logits)
    yield _part("loss", scorer.loss, scorer.loss.scores, {"logits": _BATCH}, logits)
    if scorer.rejector is not None and scorer.embeds:
        sizes = {"logits": _BATCH, "embeddings": _BATCH}
        yield _part("reject", scorer.rejector.module, scorer.rejector.module, sizes, logits, embeddings)
    elif scorer.rejector is not None:
        module = scorer.rejector.module
        yield _part("reject", module, lambda given: module(given, None), {"logits": _BATCH}, logits)


def _part(kind: str, part: Any, compute: Callable[..., Any], sizes: Sizes, *inputs: Tensor) -> tuple[str, Any, Program]:
    with torch.no_grad():
        count = len(_tuple(compute(*inputs)))
    names = tuple(f"output{number}" for number in range(count))
    module = (_Part if len(inputs) == 1 else _PartOfTwo)(part, compute)
    return kind, part, Program(module.eval(), dict(zip(sizes, inputs, strict=True)), sizes, names)
