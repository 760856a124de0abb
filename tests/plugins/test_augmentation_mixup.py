"""Mixup and between-class mixing: who is mixed with whom, how much, and what becomes of targets and lengths."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
from soundbench_plugins.augmentation.mixup import Mixup, beta
from soundbench_plugins.loss.cross_entropy import CrossEntropy

from soundbench.chance import Chance
from soundbench.contracts import Batch

RATE = 16000
CHANCE = Chance(1, 1, "augmentation[0]")


def _batch(data: torch.Tensor, classes: list[int], lengths: list[int] | None = None, first: int = 0) -> Batch:
    whole = torch.tensor(lengths) if lengths else torch.full((len(data),), data.shape[1])
    for row, length in zip(data, whole, strict=True):
        row[length:] = 0.0
    index = torch.arange(first, first + len(data))
    target = torch.eye(max(classes) + 1)[classes]
    return Batch(data=data, lengths=whole, target=target, index=index, position=index)


def _apart(count: int) -> Batch:
    """Rows of a class and a sample each: their new values show what they were mixed from."""
    return _batch(torch.eye(count) * 0.5, list(range(count)))


def _tone(frequency: float, amplitude: float = 1.0, samples: int = RATE) -> torch.Tensor:
    return amplitude * torch.sin(2 * torch.pi * frequency / RATE * torch.arange(samples))


def test_a_row_and_its_target_are_mixed_alike() -> None:
    out = Mixup(RATE)(_apart(50), CHANCE)
    torch.testing.assert_close(out.data, 0.5 * out.target)
    torch.testing.assert_close(out.target.sum(1), torch.ones(50))
    assert ((out.target > 0).sum(1) == 2).all()
    assert (out.target.diagonal() > 0).all()


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 4.0, 40.0])
def test_the_ratio_has_betas_distribution(alpha: float) -> None:
    drawn = beta(alpha, torch.arange(20000), CHANCE).double()
    assert ((drawn >= 0) & (drawn <= 1)).all()
    # Central moments 2 and 4 of Beta(a, a): 1 / (4 (2a + 1)) and 3 / (16 (2a + 1)(2a + 3)).
    centred = drawn - 0.5
    assert centred.mean().abs() < 0.01
    assert centred.pow(2).mean().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)
    assert centred.pow(4).mean().item() == pytest.approx(3 / (16 * (2 * alpha + 1) * (2 * alpha + 3)), rel=0.06)


def test_partners_are_drawn_alike() -> None:
    counts = torch.zeros(8, 8)
    for epoch in range(1, 400):
        counts += Mixup(RATE, alpha=50.0)(_apart(8), Chance(1, epoch, "a")).target > 0.1
    assert (counts.diagonal() == 399).all()
    others = counts[~torch.eye(8, dtype=torch.bool)]
    assert (others - 399 / 7).abs().max() < 5 * math.sqrt(399 / 7)


def test_between_takes_another_class() -> None:
    batch = _batch(torch.randn(60, 100), [0] * 50 + [1] * 9 + [2])
    out = Mixup(RATE, between=True)(batch, CHANCE)
    own = (out.target * batch.target).sum(1)
    assert ((out.target > 0).sum(1) == 2).all()
    assert own.mean().item() == pytest.approx(0.5, abs=0.12)
    several = attrs.evolve(batch, target=torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]] * 20))
    out = Mixup(RATE, between=True)(several, CHANCE)
    assert torch.equal(out.target[1::3], several.target[1::3])
    assert (out.target[0::3, 2] > 0).all()


def test_where_there_is_no_partner_the_row_stays() -> None:
    alone = _batch(torch.randn(1, 500), [1])
    alike = _batch(torch.randn(5, 500), [1] * 5)
    for batch, between in ((alone, False), (alone, True), (alike, True)):
        out = Mixup(RATE, between=between)(batch, CHANCE)
        assert torch.equal(out.data, batch.data)
        assert torch.equal(out.target, batch.target)
        assert torch.equal(out.lengths, batch.lengths)


def _paper(one: torch.Tensor, other: torch.Tensor, g1: float, g2: float, r: float) -> torch.Tensor:
    """The paper's equations 3 and 5, in Python floats."""
    p = 1 / (1 + 10 ** ((g1 - g2) / 20) * (1 - r) / r)
    return (p * one + (1 - p) * other) / math.sqrt(p**2 + (1 - p) ** 2)


@pytest.mark.parametrize("quieter", [0.0, 12.0, 30.0])
def test_between_mixes_by_loudness(quieter: float) -> None:
    # 1 kHz weighs 0 dB and 100 Hz -19.1 dB, of IEC 61672's table 3.
    data = torch.stack([_tone(1000, 0.5), _tone(100, 0.5 * 10 ** (-quieter / 20))])
    out = Mixup(RATE, between=True)(_batch(data.clone(), [0, 1]), CHANCE)
    for row, own in ((0, 0), (1, 1)):
        ratio = out.target[row, own].item()
        levels = (0.0, -19.1 - quieter) if row == 0 else (-19.1 - quieter, 0.0)
        expected = _paper(data[row], data[1 - row], *levels, ratio)
        torch.testing.assert_close(out.data[row], expected, rtol=0, atol=0.005)


@pytest.mark.parametrize(("frequency", "weight"), [(100, -19.1), (200, -10.9), (1000, 0.0), (4000, 1.0), (6300, -0.1)])
def test_levels_are_a_weighted(frequency: float, weight: float) -> None:
    level = Mixup(RATE).amplitude(_tone(frequency)[None])
    assert 20 * level.log10().item() == pytest.approx(weight + 10 * math.log10(0.5), abs=0.15)


def test_the_level_is_that_of_the_loudest_window_however_the_row_is_padded() -> None:
    mixup, sound = (
        Mixup(RATE),
        torch.cat([_tone(1000, 0.01, RATE // 2), _tone(1000, 0.5, RATE // 5), torch.zeros(3000)]),
    )
    level = mixup.amplitude(sound[None]).item()
    assert level == pytest.approx(0.5 / math.sqrt(2), rel=0.03)
    for samples in (1, 799, 800, 5000):
        padded = torch.cat([sound, torch.zeros(samples)])
        assert mixup.amplitude(padded[None]).item() == pytest.approx(level, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_silence_and_single_samples_stay_finite(dtype: torch.dtype) -> None:
    first = torch.eye(4000)[0]
    assert Mixup(RATE).amplitude(first[None]).item() > 0.001
    data = torch.stack([torch.zeros(4000), torch.randn(4000), torch.randn(4000) * 1e4]).to(dtype)
    out = Mixup(RATE, between=True)(_batch(data, [0, 1, 2], [4000, 1, 4000]), CHANCE)
    assert out.data.dtype == dtype
    assert torch.isfinite(out.data).all()
    assert torch.isfinite(out.target).all()


def test_a_mixed_row_is_as_long_as_the_longer_and_padding_stays_zero() -> None:
    batch = _batch(torch.randn(3, 900), [0, 1, 1], [900, 400, 7])
    batch.data[1, 400:] = float("nan")
    out = Mixup(RATE, between=True)(batch, CHANCE)
    assert out.lengths.tolist() == [900, 900, 900]
    assert torch.isfinite(out.data).all()
    short = _batch(torch.randn(3, 900), [0, 1, 1], [300, 400, 7])
    out = Mixup(RATE, between=True)(short, CHANCE)
    assert out.lengths[0] in (300, 400)
    assert out.lengths[1:].tolist() == [400, 300]
    for row, length in zip(out.data, out.lengths, strict=True):
        assert not row[length:].any()


def test_rows_that_are_not_mixed_keep_their_length() -> None:
    batch = _batch(torch.randn(400, 20), [0, 1] * 200, [20, 10] * 200)
    out = Mixup(RATE, between=True, chance=0.25)(batch, CHANCE)
    same = (out.target == batch.target).all(1)
    assert same.float().mean().item() == pytest.approx(0.75, abs=0.07)
    assert torch.equal(out.data[same], batch.data[same])
    assert torch.equal(out.lengths[same], batch.lengths[same])
    assert (out.lengths[~same] == 20).all()


def test_the_draw_is_the_positions_not_the_batchs() -> None:
    """Whom a row meets depends on the batch; whether, and how much it keeps, does not."""
    data, classes = torch.randn(12, 50), [0, 1, 2] * 4
    mixup = Mixup(RATE, between=True, chance=0.7)
    together = mixup(_batch(data, classes), CHANCE)
    for first in (0, 3, 6, 9):
        part = mixup(_batch(data[first : first + 3], classes[:3], first=first), CHANCE)
        own = torch.arange(3)
        torch.testing.assert_close(part.target[own, own], together.target[first + own, own])


def test_epochs_draw_anew_and_the_batch_given_is_left_as_it_is() -> None:
    mixup, batch = Mixup(RATE), _apart(20)
    before = batch.data.clone()
    first = mixup(batch, CHANCE)
    assert torch.equal(mixup(batch, CHANCE).data, first.data)
    assert not torch.equal(mixup(batch, Chance(1, 2, "augmentation[0]")).data, first.data)
    assert torch.equal(batch.data, before)
    assert torch.equal(first.index, batch.index)


def test_cross_entropy_of_what_was_mixed_is_the_mix_of_both() -> None:
    batch = _apart(6)
    out = Mixup(RATE)(batch, CHANCE)
    logits, loss = torch.randn(6, 6), CrossEntropy(6)
    each = torch.stack([loss(logits, torch.eye(6)[[k] * 6]) for k in range(6)], 1)
    torch.testing.assert_close(loss(logits, out.target), (each * out.target).sum(1))


def test_it_holds_nothing_that_a_checkpoint_would_keep() -> None:
    assert not Mixup(RATE).state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "alpha must be above 0, is 0.0"),
        ({"alpha": math.inf}, "alpha must be above 0, is inf"),
        ({"chance": 1.5}, "chance must be from 0 to 1, is 1.5"),
        ({"chance": math.nan}, "chance must be from 0 to 1, is nan"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Mixup(RATE, **options)
    assert str(caught.value) == message
