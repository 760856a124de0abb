"""The logits of many windows: on disk, divided among processes, and in blocks, they are those of the plain formula."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.clip_tables import table_of

from soundbench import distributed
from soundbench.contracts import Clip
from soundbench.data.batches import Grid, RawBatch
from soundbench.errors import RunError
from soundbench.model.outputs import window_logits as module
from soundbench.model.outputs.on_disk import OnDisk
from soundbench.model.outputs.window_logits import WindowLogits, clip_means, refuse_not_finite, window_logits

GRID = Grid(10, 5)


class Numbered:
    """A store whose samples are their places in the clip."""

    hop = 1

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = np.array(lengths)

    def gather(self, rows: Any, starts: Any, counts: Any, size: int) -> tuple[Any, Any]:
        return (starts[:, None] + np.arange(size)).astype(np.int16), np.ones(len(rows), np.float32)


class Tells:
    """A scorer whose outputs are a window's clip and its first sample."""

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        yield

    def outputs(self, raw: RawBatch, embeddings: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        both = torch.stack([raw.index, raw.samples[:, 0].long(), raw.index], 1).float()
        return both, both[:, :2] if embeddings else None


class Ranks:
    """Processes of a group, as threads."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.own, self.wait = count, threading.local(), threading.Barrier(count, timeout=60)
        self.items: list[Any] = [None] * count
        monkeypatch.setattr(distributed, "rank", lambda: self.own.rank)
        monkeypatch.setattr(distributed, "world", lambda: count)
        monkeypatch.setattr(distributed, "gather", self.gather)

    def gather(self, item: Any) -> list[Any]:
        self.items[self.own.rank] = item
        self.wait.wait()
        items = list(self.items)
        self.wait.wait()
        return items

    def each(self, work: Any) -> list[Any]:
        found: list[Any] = [None] * self.count

        def one(rank: int) -> None:
            self.own.rank = rank
            found[rank] = work()

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found


@pytest.mark.parametrize("block", [1 << 14, 4])
@pytest.mark.parametrize("world", [1, 2, 5])
@pytest.mark.parametrize("embeddings", [False, True])
def test_each_process_gets_all_windows_in_the_order_of_clips(
    world: int, block: int, embeddings: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    for lengths in ([3, 10, 11, 40, 200, 10, 1, 33, 12, 5], [7, 26, 10]):
        table, store = table_of([Clip(f"{row}.wav", ("a",)) for row in range(len(lengths))]), Numbered(lengths)
        rows = np.flatnonzero(np.arange(len(lengths)) != 1)
        starts = [
            [row, start]
            for row in rows.tolist()
            for start in sorted({*range(0, max(lengths[row] - 9, 1), 5), max(lengths[row] - 10, 0)})
        ]

        def scored(table: Any = table, store: Any = store, rows: Any = rows) -> WindowLogits:
            return window_logits(Tells(), store, table, rows, GRID, 3, embeddings=embeddings)  # type: ignore[arg-type]

        for found in Ranks(world, monkeypatch).each(scored):
            assert found.index.tolist() == [row for row, _ in starts]
            assert found.logits.dtype == np.float32
            assert found.logits[:, :2].tolist() == starts
            assert found.embeddings.tolist() == starts if embeddings else found.embeddings is None
            assert found.silent.tolist() == [False] * len(starts)
            assert found.rows.tolist() == rows.tolist()
            assert found.clip.tolist() == [rows.tolist().index(row) for row, _ in starts]


def test_no_clips_are_no_windows() -> None:
    table = table_of([Clip("a.wav", ("a",))])
    found = window_logits(Tells(), Numbered([10]), table, np.arange(0), GRID, 3)  # type: ignore[arg-type]

    assert found.logits.shape == (0, 3)
    assert found.rows.tolist() == found.clip.tolist() == list(found.blocks()) == []


class Soft(torch.nn.Module):
    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.softmax(dim=1)


def windows_of(counts: list[int], classes: int = 37) -> WindowLogits:
    """Windows of clips that have so many, drawn."""
    logits = np.random.default_rng(0).normal(0, 3, (sum(counts), classes)).astype(np.float32)
    return WindowLogits(np.repeat(3 * np.arange(len(counts)), counts), logits)


@pytest.mark.parametrize("block", [1, 5, 64, 10_000])
def test_means_of_clips_do_not_depend_on_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    counts = np.random.default_rng(1).integers(1, 9, 300).tolist()
    windows = windows_of([*counts, 100])

    scores = torch.from_numpy(windows.logits).softmax(dim=1).double().numpy()
    edges = np.cumsum([0, *counts, 100])
    expected = np.stack([scores[first:last].mean(axis=0) for first, last in itertools.pairwise(edges)])

    found = clip_means(windows, Soft(), None)  # type: ignore[arg-type]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)
    monkeypatch.setattr(module, "BLOCK", len(windows.index))
    assert np.array_equal(found, clip_means(windows, Soft(), None))  # type: ignore[arg-type]


@pytest.mark.parametrize("block", [1, 5, 64, 10_000])
def test_blocks_are_whole_clips_in_order(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    windows = windows_of([3, 1, 1, 30, 2, 2, 2, 1])
    parts = list(windows.blocks())

    assert np.array_equal(np.concatenate([part.logits for part in parts]), windows.logits)
    assert sum(len(part.rows) for part in parts) == len(windows.rows)  # no clip is in two
    assert all(len(part.index) <= max(block + 29, 30) for part in parts)
    assert len(parts) > 1 or block > 30


def test_clips_that_are_not_finite_are_counted_in_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 4)
    windows = windows_of([3, 3, 3, 3, 3])
    refuse_not_finite(windows.index, windows.logits, "test", "advice")
    windows.logits[[2, 3, 4, 5, 14], [0, 1, 2, 3, 36]] = np.nan, np.inf, 1, -np.inf, np.nan

    with pytest.raises(RunError, match=r"^3 of 5 test clips have scores that are not finite; advice$"):
        refuse_not_finite(windows.index, windows.logits, "test", "advice")


def test_rows_on_disk_are_a_file_without_a_name_and_can_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = np.arange(24, dtype=np.float32).reshape(8, 3)
    kept = OnDisk(rows[:0])
    for first, last in ((0, 3), (3, 3), (3, 8)):
        kept.add(rows[first:last])
    found = kept.mapped()
    del kept

    assert np.array_equal(found, rows)
    assert os.listdir(tmp_path) == []
    found[0] = 7
    assert found[0].tolist() == [7, 7, 7]
    assert OnDisk(rows[:0]).mapped().shape == (0, 3)


def test_rows_on_disk_are_mapped_where_the_process_may_have_no_more_memory() -> None:
    resource, status = pytest.importorskip("resource"), Path("/proc/self/status")
    if not status.exists():
        pytest.skip("the system does not say how much memory a process has")
    kept, row = OnDisk(np.empty((0, 1 << 20), np.float32)), np.ones((1, 1 << 20), np.float32)
    for _ in range(32):
        kept.add(row)
    used = next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmData:"))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + 16 * row.nbytes, hard))
    try:
        assert kept.mapped().shape == (32, 1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


FULL = """
import resource, signal, sys, numpy
from soundbench.errors import RunError
from soundbench.model.outputs.on_disk import OnDisk

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
kept = OnDisk(numpy.empty((0, 1000), numpy.float32))
try:
    kept.add(numpy.zeros((10, 1000), numpy.float32))
    kept.mapped()
except RunError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [100, 39_999])
def test_rows_that_do_not_fit_on_the_disk_are_one_line(size: int) -> None:
    pytest.importorskip("resource")
    # In this mode, errors of closing a file show in every version of Python.
    command = [sys.executable, "-X", "dev", "-W", "ignore::ResourceWarning", "-c", FULL, str(size)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)

    assert found.stderr == ""
    assert re.fullmatch(r".*: the limit on the size of files \(ulimit -f\) is reached\n", found.stdout)
