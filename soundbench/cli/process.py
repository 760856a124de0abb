"""What only the command line sets in its process: how threads wait, how many there are, and what becomes of memory."""

from __future__ import annotations

import os

__all__ = ["own_process", "shorten_waiting"]

# Turns that a thread waits awake for the others, before it sleeps; GNU OpenMP's own number is 300,000. Sleeping at once
# costs a quarter of a training step's speed on quiet cores; with 10,000 turns (under half a millisecond) it is the
# same, and on cores that other programs use as well, it is nearly three times as fast (`benchmarks/contention.py`).
_TURNS = "10000"


def shorten_waiting() -> None:
    """Let a thread that waits for others give up its core soon; has an effect only before torch is imported.

    `OMP_WAIT_POLICY` and `GOMP_SPINCOUNT` in the environment are the user's choice, and are kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _TURNS)


def own_process(device: str | None) -> None:
    """Set the number of threads; on a CPU, keep freed memory.

    Args:
        device: the device as given by `--device` or a recipe; None for `auto`.
    """
    import torch

    from soundbench.cli import memory
    from soundbench.machine import auto_threads, local_processes

    torch.set_num_threads(auto_threads(local_processes()))
    if device == "cpu" or not torch.cuda.is_available():
        memory.keep()
