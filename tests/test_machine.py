"""What `auto` means: how images are stored, as the backbone says, on a CPU; and how many cores there are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers.entry_points import NAMES, toy_registry
from helpers.toys import ToyBackbone

from soundbench import machine
from soundbench.recipe import Recipe
from soundbench.training.environment import settle_recipe


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Settling sets this process's threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class LaidOut(ToyBackbone):
    """A backbone whose images are best as it lays them out."""

    channels_last = False


@pytest.mark.parametrize(
    ("backbone", "given", "settled"),
    [(ToyBackbone, "auto", True), (LaidOut, "auto", False), (LaidOut, True, True), (ToyBackbone, False, False)],
)
def test_auto_leaves_images_as_the_backbone_has_them_if_it_says_so(backbone: Any, given: Any, settled: bool) -> None:
    tables = NAMES | {"dataset": "noise", "backbone": backbone, "train": {"device": "cpu", "channels_last": given}}
    made, recipe = settle_recipe(Recipe(**tables, registry=toy_registry()))
    assert made.channels_last is recipe.train.channels_last is settled


def test_a_network_is_left_as_its_backbone_laid_it_out() -> None:
    network = torch.nn.Conv2d(4, 4, 3)
    machine.settle("cpu", fits=False).place(network)
    assert network.weight.is_contiguous()
    machine.settle("cpu").place(network)
    assert network.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system keeps no process off a core")
def test_cores_that_a_process_is_kept_off_are_not_counted() -> None:
    """And none needs torch to count them: a store does, too."""
    lines = """
import os, sys
from soundbench.machine import cores
before = cores()
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
print(before, cores(), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert done.stdout == f"{len(os.sched_getaffinity(0))} 1 False\n"
