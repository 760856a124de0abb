"""The network as a whole: what is said of it, and rows of equal length for featurizers that cannot mask."""

from __future__ import annotations

import pytest
import torch
from helpers.networks import toy_network
from helpers.toys import ToyBackbone, ToyFeaturizer, ToyPooling
from torch import Tensor, nn

import soundbench
from soundbench import masks
from soundbench.errors import CallError
from soundbench.model.network import Head, Network, receptive_frames, summarize


def test_the_summary_counts_what_pencil_and_paper_count() -> None:
    """A convolution of 3 taps from 32 bands to 16 channels over 25 frames, then 16 to 8 to 5."""
    found = summarize(toy_network(), 1600)
    assert found.parameters == (3 * 32 * 16 + 16) + (16 + 16) + (16 * 8 + 8) + (8 * 5 + 5)
    assert found.macs == 25 * 3 * 32 * 16 + 16 * 8 + 8 * 5
    layers = {layer.name: layer for layer in found.layers}
    assert layers["backbone.conv"].shape == (1, 16, 25)
    assert layers["backbone.conv"].macs == 25 * 3 * 32 * 16
    assert layers["head"].parameters == 16 * 8 + 8 + 8 * 5 + 5
    assert found.receptive_frames == 3
    assert found.shortest_samples == 64


def test_a_network_with_context_of_the_whole_clip_reaches_everywhere() -> None:
    class Context(ToyBackbone):
        def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            frames, lengths = super().forward(features, lengths)
            return frames * frames.mean(dim=2, keepdim=True), lengths

    assert receptive_frames(Context(32), 32) is None


def test_a_featurizer_that_cannot_mask_is_given_rows_of_equal_length() -> None:
    class Ragged(ToyFeaturizer):
        ragged = False

        def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            assert bool((lengths == waveform.shape[1]).all())
            features, counts = super().forward(waveform, lengths)
            return features - features.mean(dim=2, keepdim=True), counts

    network = toy_network(Ragged(8000)).eval()
    sounds = [torch.randn(size) for size in (640, 1600, 640, 64)]
    lengths = torch.tensor([len(sound) for sound in sounds])
    padded = nn.utils.rnn.pad_sequence(sounds, batch_first=True)
    together = network(padded, lengths)
    for row, sound in enumerate(sounds):
        torch.testing.assert_close(network(sound[None], lengths[row : row + 1])[0], together[row])


def test_a_backbone_that_cannot_mask_is_given_rows_of_equal_length() -> None:
    """In scoring, embedding and training; the rows are as each alone."""

    class Unaware(ToyBackbone):
        ragged = False

        def __init__(self, bands: int) -> None:
            super().__init__(bands)
            self.mirrored = nn.Conv1d(bands, 16, 3, padding=1, padding_mode="replicate")

        def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            assert bool((lengths == features.shape[2]).all())
            return self.mirrored(features)[..., ::2], masks.strided(lengths, 2)

    network = Network(ToyFeaturizer(8000), Unaware(32), ToyPooling(16), Head(16, 5)).eval()
    sounds = [torch.randn(size) for size in (640, 1600, 640, 64)]
    lengths = torch.tensor([len(sound) for sound in sounds])
    padded = nn.utils.rnn.pad_sequence(sounds, batch_first=True)
    for compute in (network, network.embed, network.train()):
        together = compute(padded, lengths)
        for row, sound in enumerate(sounds):
            torch.testing.assert_close(compute(sound[None], lengths[row : row + 1])[0], together[row])


def test_what_is_no_module_is_refused_when_the_network_is_made() -> None:
    parts = ToyFeaturizer(8000), ToyBackbone(32), ToyPooling(16)
    with pytest.raises(CallError, match=r"^head must be a torch.nn.Module, is a soundbench.Head, the table"):
        Network(*parts, soundbench.Head())  # type: ignore[arg-type]
    with pytest.raises(CallError, match=r"^pooling must be a torch.nn.Module, is the class ToyPooling; give one that"):
        Network(*parts[:2], ToyPooling, Head(16, 5))  # type: ignore[arg-type]
    with pytest.raises(CallError, match=r"^backbone must be a torch.nn.Module, is of the type str$"):
        Network(parts[0], "conv", parts[2], Head(16, 5))  # type: ignore[arg-type]


@pytest.mark.parametrize("norm_after", ["none", "plain", "affine"])
def test_a_cosine_head_gives_cosines(norm_after: str) -> None:
    head = Head(16, 3, embedding=8, norm_after=norm_after, classifier="cosine").eval()
    vectors = torch.randn(50, 16)
    logits = head(vectors)
    embedded = head.embed(vectors)
    torch.testing.assert_close(
        logits, nn.functional.cosine_similarity(embedded[:, None], head.classify.weight[None], dim=2)
    )
    assert head.classify.bias is None


def test_a_head_without_embedding_classifies_the_pooled_vector() -> None:
    head = Head(16, 3, embedding=0, dropout=0.5).eval()
    vectors = torch.randn(4, 16)
    torch.testing.assert_close(head(vectors), head.classify(vectors))
