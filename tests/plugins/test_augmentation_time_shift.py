"""Time shift: round the row's own length or not, how far, and whose draw it is."""

from __future__ import annotations

import pytest
import torch
from helpers.waveforms import counting, waveforms
from soundbench_plugins.augmentation.time_shift import TimeShift

from soundbench.chance import Chance

CHANCE = Chance(1, 1, "augmentation[0]")


def test_a_row_turns_round_its_own_length() -> None:
    lengths = [100, 61, 2, 1] * 30
    out = TimeShift(16000)(waveforms(counting(120, 100), lengths), CHANCE)
    assert out.lengths.tolist() == lengths
    for row, length in zip(out.data, lengths, strict=True):
        first = int(row[0]) - 1
        assert torch.equal(row[:length], torch.arange(1.0, length + 1).roll(-first))
        assert not row[length:].any()


def test_every_beginning_is_reached() -> None:
    out = TimeShift(16000)(waveforms(counting(4000, 10)), CHANCE)
    shares = torch.bincount(out.data[:, 0].long())[1:] / 4000
    assert shares.min() > 0.07
    assert shares.max() < 0.17  # the shift by nothing comes as -10, 0 and 10


def test_share_says_how_far_at_most() -> None:
    out = TimeShift(16000, share=0.3)(waveforms(counting(900, 100), [100, 50, 3] * 300), CHANCE)
    first = out.data[:, 0].long() - 1
    for start, length, most in ((0, 100, 30), (1, 50, 15), (2, 3, 0)):
        earlier = first[start::3]
        later = torch.where(earlier > length // 2, earlier - length, earlier)
        assert (later.min(), later.max()) == (-most, most)


def test_silence_comes_in_where_it_is_not_circular() -> None:
    out = TimeShift(16000, circular=False, share=0.5)(waveforms(counting(300, 40), [40, 20, 1] * 100), CHANCE)
    seen = set()
    for row, length in zip(out.data, out.lengths.tolist(), strict=True):
        places = torch.nonzero(row).squeeze(1)
        by = {int(place + 1 - row[place]) for place in places}
        assert len(by) == 1
        later = by.pop()
        seen.add((length, later))
        expected = torch.zeros(40)
        inside = slice(max(later, 0), length + min(later, 0))
        expected[inside] = torch.arange(1.0, length + 1)[max(-later, 0) : length - max(later, 0)]
        assert torch.equal(row, expected)
    assert {(40, -20), (40, 20), (1, 0)} <= seen


def test_the_draw_is_the_positions_and_the_epochs() -> None:
    data, shift, lengths = torch.randn(9, 60), TimeShift(16000, chance=0.7), [60, 30, 11] * 3
    together = shift(waveforms(data, lengths), CHANCE).data
    for i, length in enumerate(lengths):
        alone = shift(waveforms(data[i : i + 1, :length], first=i), CHANCE).data
        assert torch.equal(alone[0], together[i, :length])
    assert not torch.equal(shift(waveforms(data, lengths), Chance(1, 2, "augmentation[0]")).data, together)


def test_chance_says_how_often() -> None:
    out = TimeShift(16000, chance=0.3)(waveforms(counting(3000, 200)), CHANCE)
    assert (out.data[:, 0] != 1).float().mean().item() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("name", ["share", "chance"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_an_option_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be from 0 to 1, is {value}"):
        TimeShift(16000, **{name: value})
