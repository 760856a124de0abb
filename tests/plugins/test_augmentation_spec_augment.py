"""SpecAugment: how much is blotted out, with what, how time is warped, and whose draw it is."""

from __future__ import annotations

import pytest
import torch
from soundbench_plugins.augmentation.spec_augment import SpecAugment

from soundbench.chance import Chance
from soundbench.contracts import Batch

CHANCE = Chance(1, 1, "augmentation[1]")


def _batch(data: torch.Tensor, lengths: list[int] | None = None, first: int = 0) -> Batch:
    count = data.shape[0]
    index = torch.arange(first, first + count)
    whole = torch.tensor(lengths) if lengths else torch.full((count,), data.shape[2])
    for row, length in zip(data, whole, strict=True):
        row[:, length:] = 0.0
    return Batch(data=data, lengths=whole, target=torch.zeros(count, 2), index=index, position=index)


def _augment(**options: float) -> SpecAugment:
    return SpecAugment(16000, **{"chance": 1.0, **options})


def test_bars_are_whole_and_as_wide_as_allowed() -> None:
    batch = _batch(torch.randn(2000, 40, 100))
    changed = _augment(time_masks=0)(batch, CHANCE).data != batch.data
    bars = changed.all(2)
    assert torch.equal(changed.any(2), bars)
    widths = bars.sum(1)
    assert widths.unique().tolist() == [1, 2, 3, 4]
    assert torch.bincount(widths)[1:].float().div(2000).tolist() == pytest.approx([0.25] * 4, abs=0.04)
    # Every band is reached, the first and the last too.
    assert bars.any(0).all()
    assert (bars.int().diff(dim=1).abs().sum(1) <= 2).all()


def test_stretches_of_time_are_shares_of_the_rows_own_frames() -> None:
    batch = _batch(torch.randn(900, 10, 100), [100, 60, 19] * 300)
    changed = _augment(frequency_masks=0)(batch, CHANCE).data != batch.data
    widths = changed.any(1).sum(1)
    assert widths[0::3].unique().tolist() == [1, 2, 3, 4, 5]
    assert widths[1::3].unique().tolist() == [1, 2, 3]
    assert not widths[2::3].any()
    assert not changed[1::3, :, 60:].any()


def test_what_is_blotted_out_gets_the_mean_of_the_rows_own_frames() -> None:
    data = torch.randn(3, 30, 50) + 5.0
    batch = _batch(data, [50, 40, 20])
    out = _augment()(batch, CHANCE).data
    for before, after, length in zip(batch.data, out, batch.lengths, strict=True):
        filled = after[before != after]
        assert len(filled)
        torch.testing.assert_close(filled, before[:, :length].mean().expand_as(filled))


def test_lengths_and_padding_stay() -> None:
    batch = _batch(torch.randn(4, 20, 64), [64, 40, 2, 1])
    out = _augment(time_width=0.5)(batch, CHANCE)
    assert out.lengths.tolist() == [64, 40, 2, 1]
    for row, length in zip(out.data, out.lengths, strict=True):
        assert not row[:, length:].any()


@pytest.mark.parametrize("bands", [1, 9, 10, 128])
@pytest.mark.parametrize("frames", [1, 19, 20])
def test_any_size_will_do(bands: int, frames: int) -> None:
    out = _augment(time_masks=2, frequency_masks=2)(_batch(torch.randn(2, bands, frames)), CHANCE)
    assert out.data.shape == (2, bands, frames)
    assert torch.isfinite(out.data).all()


def test_several_masks_are_drawn_each_for_itself() -> None:
    batch = _batch(torch.randn(200, 40, 40))
    one = (_augment(frequency_masks=1, time_masks=0)(batch, CHANCE).data != batch.data).float().mean()
    four = (_augment(frequency_masks=4, time_masks=0)(batch, CHANCE).data != batch.data).float().mean()
    assert 2.8 * one < four < 4 * one


def test_the_draw_is_the_positions_not_the_batchs() -> None:
    data, lengths = torch.randn(6, 20, 50), [50, 40, 30, 50, 21, 1]
    augment = _augment()
    together = augment(_batch(data, lengths), CHANCE).data
    for i, length in enumerate(lengths):
        alone = augment(_batch(data[i : i + 1, :, :length].clone(), [length], first=i), CHANCE).data
        torch.testing.assert_close(alone[0], together[i, :, :length])


def test_chance_says_how_often() -> None:
    batch = _batch(torch.randn(2000, 20, 20))
    rows = (_augment(chance=0.3)(batch, CHANCE).data != batch.data).any(2).any(1)
    assert rows.float().mean().item() == pytest.approx(0.3, abs=0.04)
    assert torch.equal(_augment(chance=0.0)(batch, CHANCE).data, batch.data)


def test_epochs_draw_anew() -> None:
    batch, augment = _batch(torch.randn(5, 40, 40)), _augment()
    first = augment(batch, CHANCE).data
    assert torch.equal(augment(batch, CHANCE).data, first)
    assert not torch.equal(augment(batch, Chance(1, 2, "augmentation[1]")).data, first)


def _warp(share: float = 0.2) -> SpecAugment:
    return _augment(frequency_masks=0, time_masks=0, time_warp=share)


def _ramp(rows: int, frames: int) -> torch.Tensor:
    """Frames that hold their own number: their new values show where they came from."""
    return torch.arange(1.0, frames + 1).expand(rows, 3, frames).clone()


def test_time_is_warped_about_one_frame_and_the_ends_stay() -> None:
    lengths = [100, 60, 7] * 200
    out = _warp()(_batch(_ramp(600, 100), lengths), CHANCE)
    assert out.lengths.tolist() == lengths
    moved: dict[int, list[float]] = {100: [], 60: [], 7: []}
    for row, length in zip(out.data, lengths, strict=True):
        assert torch.equal(row[0], row[2])
        assert not row[:, length:].any()
        source = row[0, :length]
        assert (source[0], source[-1]) == (1.0, length)
        steps = source.diff()
        assert (steps > 0).all()
        # One pace before the frame that moves, one after it, and at most one step between two frames holds both.
        early, late = steps[0], steps[-1]
        between = ((steps - early).abs() > 1e-4) & ((steps - late).abs() > 1e-4)
        assert between.sum() <= 1
        shifts = source - torch.arange(1, length + 1)
        moved[length].append(shifts[shifts.abs().argmax()].item())
    for length, shifts in moved.items():
        assert max(map(abs, shifts)) <= int(length * 0.2)
        assert max(shifts) > 0.8 * int(length * 0.2)
        assert min(shifts) < -0.8 * int(length * 0.2)


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_a_row_too_short_to_warp_is_spared(frames: int) -> None:
    batch = _batch(torch.randn(20, 5, 9), [frames] * 20)
    assert torch.equal(_warp()(batch, CHANCE).data, batch.data)


def test_the_warp_is_the_positions_not_the_batchs_and_comes_as_often_as_chance_says() -> None:
    data, lengths = torch.randn(6, 20, 50), [50, 40, 30, 50, 21, 1]
    augment = _augment(time_warp=0.3)
    together = augment(_batch(data, lengths), CHANCE).data
    for i, length in enumerate(lengths):
        alone = augment(_batch(data[i : i + 1, :, :length].clone(), [length], first=i), CHANCE).data
        torch.testing.assert_close(alone[0], together[i, :, :length])
    batch = _batch(_ramp(1000, 50))
    some = _augment(frequency_masks=0, time_masks=0, time_warp=0.2, chance=0.3)(batch, CHANCE).data
    assert (some != batch.data).any(2).any(1).float().mean().item() == pytest.approx(0.3, abs=0.05)


def test_the_masks_are_the_same_with_and_without_a_warp() -> None:
    batch = _batch(torch.randn(50, 20, 40))
    plain = _augment()(batch, CHANCE).data != batch.data
    warped = _warp()(batch, CHANCE).data
    both = _augment(time_warp=0.2)(batch, CHANCE).data
    assert torch.equal(both != warped, plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_stays(dtype: torch.dtype) -> None:
    out = _augment(time_warp=0.2)(_batch(torch.randn(3, 8, 30).to(dtype)), CHANCE).data
    assert out.dtype == dtype
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chance": 1.1}, "chance must be from 0 to 1, is 1.1"),
        ({"time_width": -0.1}, "time_width must be from 0 to 1, is -0.1"),
        ({"time_warp": 0.5}, "time_warp must be from 0 to below 0.5, is 0.5"),
        ({"frequency_masks": -1}, "frequency_masks must be at least 0, is -1"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        _augment(**options)
    assert str(caught.value) == message
