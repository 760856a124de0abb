"""The order of an epoch, the sizes of its steps, and the clips of each class, against the plain definitions of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers.clip_tables import table_of

from soundbench.chance import order
from soundbench.contracts import Clip
from soundbench.data.order import Order, members, order_by_shards

SIZES = [(1, 64), (63, 64), (65, 64), (100, 7), (1000, 3), (4097, 64)]


@pytest.mark.parametrize(("clips", "batch"), SIZES)
def test_steps_cut_the_order_of_an_epoch_at_even_edges(clips: int, batch: int) -> None:
    rows = np.random.default_rng(clips).permutation(10 * clips)[:clips]
    steps = max(1, -(-clips // batch))
    edges = [step * clips // steps for step in range(steps + 1)]
    whole = rows[order(clips, 5, 3)]

    for rank, world in ((0, 1), (0, 3), (1, 3), (2, 3)):
        plan = Order(rows, batch, 5, rank, world)
        assert plan.steps == steps
        for step, (first, last) in enumerate(itertools.pairwise(edges)):
            own, positions = plan.step(3, step)
            assert positions.tolist() == list(range(first, last))[rank::world]
            assert own.tolist() == whole[first:last][rank::world].tolist()
            assert plan.size(step) == last - first


@pytest.mark.parametrize(("clips", "batch"), SIZES)
def test_the_smallest_step_is_the_smallest_of_all(clips: int, batch: int) -> None:
    plan = Order(np.arange(clips), batch, 1)
    sizes = [plan.size(step) for step in range(plan.steps)]

    assert plan.smallest == min(sizes)
    assert max(sizes) <= min(min(sizes) + 1, batch)


def test_a_step_of_ten_billion_clips_is_computed_from_its_number_alone() -> None:
    rows = np.broadcast_to(np.int64(0), (10**10,))
    plan = Order(rows, 64, 1)

    assert plan.steps == 156_250_000
    assert {plan.size(step) for step in (0, 1, plan.steps // 2, plan.steps - 1)} == {64}
    assert plan.smallest == 64


def test_the_members_of_classes_are_the_clips_that_carry_them() -> None:
    draws = np.random.default_rng(0)
    names = [f"class {number}" for number in range(12)]
    carried = [draws.choice(9, size=draws.integers(1, 5)) for _ in range(300)]  # three classes have no clip
    table = table_of([Clip("a.wav", tuple(names[code] for code in own)) for own in carried], names, multilabel=True)
    rows = np.sort(draws.permutation(300)[:200])

    found = members(table, rows)

    expected = [[place for place, row in enumerate(rows) if code in carried[row]] for code in range(12)]
    assert [own.tolist() for own in found] == [own for own in expected if own]
    assert {own.dtype for own in found} == {np.dtype(np.int64)}


# Shards ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_clips_of_few_shards_follow_one_another(at_once):
    shards = np.random.default_rng(1).integers(0, 10, 500).astype(np.int32)
    found = order_by_shards(shards, at_once, 3, 2)
    assert sorted(found) == list(range(500))
    seen: list[set[int]] = [set()]
    for shard in shards[found].tolist():
        if shard not in seen[-1] and len(seen[-1]) == at_once:
            seen.append(set())
        seen[-1].add(shard)
    assert [len(window) for window in seen] == [at_once] * (10 // at_once) + [10 % at_once] * (10 % at_once > 0)
    assert sum(map(len, seen)) == 10


def test_where_all_shards_fit_the_order_is_that_of_files():
    shards = np.arange(300, dtype=np.int32) % 8
    for epoch in (1, 2):
        plain = Order(np.arange(300), 32, 5)
        for at_once in (8, 100):
            windowed = Order(np.arange(300), 32, 5, shards=shards, at_once=at_once)
            for step in range(plain.steps):
                assert [one.tolist() for one in windowed.step(epoch, step)] == [
                    one.tolist() for one in plain.step(epoch, step)
                ]


def test_shards_and_clips_are_shuffled_anew_in_each_epoch_and_by_each_seed():
    shards = (np.arange(300) // 30).astype(np.int32)
    orders = {tuple(order_by_shards(shards, 2, seed, epoch)) for seed in (1, 2) for epoch in (1, 2)}
    assert len(orders) == 4
    firsts = {tuple(np.unique(shards[list(found[:60])])) for found in orders}
    assert len(firsts) > 1
