"""`logits.safetensors`: what is written is read back, by the library of safetensors too, and takes no memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from soundbench.model import logits
from soundbench.model.logits import HeldOutLogits
from soundbench.model.outputs.on_disk import OnDisk
from soundbench.training.rejecting.fitting import of_held_out


def held_out(clips: int, classes: int, reject: bool) -> HeldOutLogits:
    draws = np.random.default_rng(0)
    clip = np.repeat(np.arange(clips), draws.integers(1, 4, clips))
    names = tuple(f"狗 {number}" for number in range(classes))
    drawn = draws.normal(0, 5, (len(clip), classes)).astype(np.float32)
    target = draws.integers(0, 2, (clips, classes)).astype(np.uint8)
    group, identity = draws.integers(0, 9, clips), draws.integers(-(2**62), 2**62, clips)
    own = {"reject": drawn[:, 0], "silent": clip % 3 == 0, "reject_by": "energy"} if reject else {}
    return HeldOutLogits(names, drawn, clip, target, group, identity, **own)


@pytest.mark.parametrize(("clips", "classes"), [(1, 1), (7, 3), (50, 13)])
@pytest.mark.parametrize("reject", [False, True])
def test_logits_are_read_back_by_us_and_by_the_library(clips: int, classes: int, reject: bool, tmp_path: Path) -> None:
    given = held_out(clips, classes, reject)
    path = tmp_path / "logits.safetensors"
    logits.write(path, given)
    found = logits.read(path, given.classes)

    assert found.classes == given.classes
    assert found.reject_by == given.reject_by
    names = ["logits", "clip", "target", "group", "identity", *(["reject", "silent"] if reject else [])]
    with safe_open(path, "numpy") as file:
        assert sorted(file.keys()) == sorted(names)
        assert json.loads(file.metadata()["classes"]) == list(given.classes)
        for name in names:
            tensor = file.get_tensor(name)
            assert tensor.dtype == (np.uint8 if name == "silent" else getattr(given, name).dtype)
            np.testing.assert_array_equal(tensor, getattr(given, name))
            np.testing.assert_array_equal(tensor, getattr(found, name))


def test_a_clip_with_a_silent_window_scores_in_the_file_as_it_does_for_the_network(tmp_path: Path) -> None:
    clip = np.array([0, 0, 1, 1])
    scores, silent = np.array([2.0, -9.0, 3.0, 4.0], np.float32), np.array([False, True, False, False])
    labels = np.ones((2, 1), np.uint8)
    given = HeldOutLogits(("a",), np.zeros((4, 1), np.float32), clip, labels, *[np.arange(2)] * 2, scores, silent, "x")
    logits.write(tmp_path / "logits.safetensors", given)

    found = of_held_out(logits.read(tmp_path / "logits.safetensors"))

    assert found.of_clips.tolist() == [-3.5, 3.5]
    assert found.silent_clips.tolist() == [False, False]


def test_logits_on_a_disk_are_written_without_a_copy_in_memory(tmp_path: Path) -> None:
    kept = OnDisk(np.empty((0, 500), np.float32))
    for _ in range(20):
        kept.add(np.ones((500, 500), np.float32))
    clip = np.arange(10_000)
    given = HeldOutLogits(("a",) * 500, kept.mapped(), clip, np.zeros((10_000, 0), np.uint8), clip, clip)

    tracemalloc.start()
    logits.write(tmp_path / "logits.safetensors", given)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert most < 1_000_000 < (tmp_path / "logits.safetensors").stat().st_size / 20
