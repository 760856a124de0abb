"""Exports of the built-in components compute what the components compute: alone, padded, in company, of any length."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_backbones import SMALL_BACKBONES
from torch import Tensor, nn

from soundbench import audio
from soundbench.contracts import Program
from soundbench.data.batches import Grid
from soundbench.inference.classifier import Classifier
from soundbench.inference.export.program import program_of
from soundbench.machine import settle
from soundbench.model.network import Head, Network
from soundbench.model.scoring import Scorer
from soundbench.recipe.registry import Registry

pytest.importorskip("onnx")
RATE, CLASSES = 16000, 10
# How many times as far from float64 as the network in float32 an export may be.
FACTOR = 4


def made(kind: str, use: str, *supplied: Any, **options: Any) -> Any:
    return Registry().get(kind, use).obj(*supplied, **options)


def runner_of(exporter: str, program: Program) -> Any:
    component: Any = Registry().get("exporter", exporter).obj
    return component.read(component(program).export())


def apart(program: Program, runner: Any, inputs: dict[str, np.ndarray]) -> float:
    """The largest difference of an output, as a share of its largest value."""
    with torch.no_grad():
        wanted = program.module(*(torch.from_numpy(inputs[name]) for name in program.inputs))
    found = runner(inputs)
    pairs = zip(program.outputs, (tensor.numpy() for tensor in wanted), strict=True)
    return max(float(np.abs(found[name] - right).max() / max(1e-9, np.abs(right).max())) for name, right in pairs)


class Heads(nn.Module):
    """Every loss's scores, every calibration's logits and every reject score, of logits and embeddings."""

    def __init__(self) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        slopes = torch.rand(CLASSES, generator=draws).tolist()
        self.losses = nn.ModuleList(
            made("loss", use, CLASSES) for use in ("cross-entropy", "bce", "focal", "aam-softmax")
        )
        self.calibrations = nn.ModuleList(
            [
                made("calibration", "none", CLASSES),
                made("calibration", "temperature", CLASSES, temperature=1.7),
                made("calibration", "platt", CLASSES, slopes=slopes, offsets=slopes[::-1]),
            ]
        )
        self.rejects = nn.ModuleList(made("reject", use, CLASSES) for use in ("none", "energy", "max-logit"))
        for metric in ("relative", "mahalanobis", "cosine"):
            reject = made("reject", "distance", CLASSES, metric=metric)
            targets = torch.eye(CLASSES + 1)[torch.arange(200) % (CLASSES + 1), :CLASSES]
            vectors = torch.randn(200, 12, generator=draws) + targets @ torch.randn(CLASSES, 12, generator=draws) * 3
            reject.fit(torch.randn(200, CLASSES, generator=draws), vectors, targets)
            self.rejects.append(reject)

    def forward(self, logits: Tensor, embeddings: Tensor) -> tuple[Tensor, ...]:
        scores = [loss.scores(logits) for loss in self.losses]  # type: ignore[operator]
        calibrated = [calibration(logits) for calibration in self.calibrations]
        return *scores, *calibrated, *(reject(logits, embeddings) for reject in self.rejects)


@pytest.mark.parametrize("exporter", ["onnx", "pt2"])
def test_losses_calibrations_and_reject_scores(exporter: str) -> None:
    module = Heads().eval()
    outputs = tuple(f"output{number}" for number in range(13))
    batch = {0: "batch"}
    inputs = {"logits": torch.randn(3, CLASSES), "embeddings": torch.randn(3, 12)}
    program = Program(module, inputs, {"logits": batch, "embeddings": batch}, outputs)
    runner = runner_of(exporter, program)
    draws = np.random.default_rng(1)
    for rows in (1, 2, 50):
        given = {
            name: 3 * draws.standard_normal((rows, size)).astype(np.float32)
            for name, size in (("logits", CLASSES), ("embeddings", 12))
        }
        assert apart(program, runner, given) <= 1e-5


class Poolings(nn.Module):
    """Every pooling, of frames and their lengths."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.each = nn.ModuleList(made("pooling", use, 24) for use in ("asp", "max-mean", "sap", "tap", "tsp"))

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        return tuple(pooling(frames, lengths) for pooling in self.each)


def test_poolings() -> None:
    inputs = {"frames": torch.randn(2, 24, 40), "lengths": torch.tensor([40, 20])}
    dynamic = {"frames": {0: "batch", 2: "frames"}, "lengths": {0: "batch"}}
    program = Program(Poolings().eval(), inputs, dynamic, ("asp", "max-mean", "sap", "tap", "tsp"))
    runner, draws = runner_of("onnx", program), np.random.default_rng(1)
    for rows, size in ((1, 1), (1, 7), (4, 300)):
        lengths = draws.integers(1, size + 1, rows)
        frames = draws.standard_normal((rows, 24, size)).astype(np.float32)
        assert apart(program, runner, {"frames": frames, "lengths": lengths}) <= 1e-5


def colours() -> tuple[Tensor, Tensor]:
    """Noises `(40, S)` of half a second with a tone of one of `CLASSES` pitches, and their one-hot labels."""
    numbers = torch.arange(40) % CLASSES
    turns = torch.arange(RATE // 2) * 2 * torch.pi * 150 / RATE
    sounds = 0.03 * torch.randn(40, RATE // 2) + 0.1 * torch.sin(turns * 1.5 ** numbers[:, None])
    return sounds, nn.functional.one_hot(numbers, CLASSES).float()


def classifier(featurizer: str, backbone: str) -> Classifier:
    """A network that was trained for a few steps; the logits of each class have the mean 0 and the deviation 2."""
    torch.manual_seed(19)
    front = made("featurizer", featurizer, RATE)
    body = made("backbone", backbone, front.bands, **SMALL_BACKBONES.get(backbone, {}))
    table = dict(body.default_pooling)
    pooling = made("pooling", table.pop("use"), body.channels, **table)
    network = Network(front, body, pooling, Head(pooling.features, CLASSES, **body.default_head))
    machine = settle("cpu", precision="fp32", fits=getattr(body, "channels_last", True))
    machine.place(network).train()
    loss, (sounds, targets) = made("loss", "cross-entropy", CLASSES), colours()
    lengths = torch.full((len(sounds),), sounds.shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(8):
        optimizer.zero_grad()
        loss(network(sounds, lengths), targets).mean().backward()
        optimizer.step()
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                norm.reset_running_stats()
                norm.momentum = None  # the mean over all that it is given
        network(sounds, lengths)
        logits, last = network.eval()(sounds, lengths), network.head.classify
        scale = 2 / logits.std(0)
        last.weight.mul_(scale[:, None])
        last.bias = nn.Parameter(((0.0 if last.bias is None else last.bias) - logits.mean(0)) * scale)
    scorer = Scorer(network, loss, machine, "off")
    return Classifier(scorer, [str(number) for number in range(CLASSES)], RATE, Grid(3 * RATE, 3 * RATE))


@pytest.fixture(scope="module")
def sounds() -> list[np.ndarray]:
    """From one sample to 20 s: noise, tones and noise, and real clips where there are any."""
    draws = np.random.default_rng(0)
    torch.manual_seed(20)
    found = [(0.1 * draws.standard_normal(size)).astype(np.float32) for size in (1, 200, 401, 1600, 5555, 20 * RATE)]
    folder = Path(os.environ.get("SOUNDBENCH_DATA", "/none")) / "UrbanSound8K" / "audio"
    paths = sorted(folder.rglob("*.wav"))
    found += list(colours()[0][:20].numpy())
    return found + [audio.load(path, RATE) for path in paths[:: max(1, len(paths) // 10)][:10]]


PAIRS = [
    *(("fbank", name) for name in ("campplus", "ecapa-tdnn", "eres2net", "eres2netv2", "identity", "mobilenet")),
    *(("fbank", name) for name in ("panns-cnn6", "panns-cnn10", "panns-cnn14", "res2net", "resnet-se", "tdnn")),
    *((name, "identity") for name in ("mel-spectrogram", "mfcc", "pcen", "spectrogram")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("featurizer", "backbone"), PAIRS)
def test_a_row_has_the_scores_of_the_network_alone_padded_and_in_company(
    featurizer: str, backbone: str, sounds: list[np.ndarray]
) -> None:
    """Scores are within 1e-4 of those in float64, or as near as the network's own in float32.

    Logarithms of bins with little energy have errors in float32 that are larger, however the spectrum is computed.
    """
    program = program_of(classifier(featurizer, backbone), {})
    runner, exact = runner_of("onnx", program), copy.deepcopy(program.module).double()
    wanted = [scores_of(exact, sound.astype(np.float64)) for sound in sounds]
    assert len({int(right.argmax()) for right in wanted}) >= 3
    assert np.median([right.max() for right in wanted]) < 0.95  # scores of 0 and 1 would be the same in any file
    # A few bins decide it, so that one rounding alone says little; the scales differ by the last bits of a sample.
    scales = [np.float32(1 + way * 2.0**-22) for way in range(8 if featurizer == "spectrogram" else 1)]
    each = list(zip(sounds, wanted, strict=True))
    own = [apart_of(scores_of(program.module, scale * sound), right) for scale in scales for sound, right in each]
    limit = max(1e-4, FACTOR * max(own))
    for sound, right in zip(sounds, wanted, strict=True):
        found = runner({"waveform": sound[None], "lengths": np.array([len(sound)])})["scores"][0]
        assert apart_of(found, right) <= limit
    short = [number for number, sound in enumerate(sounds) if len(sound) <= 5 * RATE]
    width = 777 + max(len(sounds[number]) for number in short)
    together = np.random.default_rng(1).standard_normal((len(short), width)).astype(np.float32)
    for row, number in zip(together, short, strict=True):
        row[: len(sounds[number])] = sounds[number]
    scores = runner({"waveform": together, "lengths": np.array([len(sounds[number]) for number in short])})["scores"]
    for found, number in zip(scores, short, strict=True):
        assert apart_of(found, wanted[number]) <= limit


def scores_of(module: nn.Module, sound: np.ndarray) -> np.ndarray:
    """The scores of one window, `(K,)`."""
    with torch.no_grad():
        found: np.ndarray = module(torch.from_numpy(sound[None]), torch.tensor([len(sound)]))[0][0].numpy()
    return found


def apart_of(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def test_an_encoder_of_transformers_is_refused_in_one_line() -> None:
    pytest.importorskip("transformers")
    for use in ("transformers", "wav2vec2", "wavlm"):
        reason = Registry().get("featurizer", use).obj.unexportable  # type: ignore[attr-defined]
        assert reason.startswith("encoders of transformers are not exported")
        assert "\n" not in reason
