"""The store of a work's sounds, opened: one for the processes of a machine, in the cache folder or for a while only."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from soundbench import distributed
from soundbench.data.clips import ClipTable
from soundbench.data.store import Say, Store, open_store
from soundbench.recipe import Audio

__all__ = ["sound_store"]


@contextmanager
def sound_store(
    table: ClipTable,
    dataset: Any,
    audio: Audio,
    cache: Path | bool,
    say: Say,
    on_error: Literal["fail", "skip"] | None = None,
) -> Iterator[Store]:
    """While the store of a table's sounds is open; every process calls it, and the first of each machine reads.

    Args:
        table: the clips.
        dataset: where they are from.
        audio: the rate and the trimming that count.
        cache: the folder of stores; True for the user's own, False for one that goes afterwards.
        say: is given a line now and then.
        on_error: whether a sound that cannot be read is an error or skipped; None for what `audio` says.

    Raises:
        DataError: sounds that cannot be read, or a folder that cannot be written.
    """
    with ExitStack() as stack:
        folder = None if cache is True else cache
        if folder is False:
            own = stack.enter_context(tempfile.TemporaryDirectory(prefix="soundbench-"))
            folder = Path(distributed.gather(own)[distributed.rank() - distributed.local_rank()])
        wanted = on_error or audio.on_error
        yield distributed.first_here(
            lambda: open_store(table, dataset, audio.rate, folder, wanted, say, trim=audio.trim)
        )
