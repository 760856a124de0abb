"""Open the store of decoded sound: one per machine, in the cache folder or in a temporary folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
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
    cache: Path | str | bool,
    say: Say,
    on_error: Literal["fail", "skip"] | None = None,
) -> Iterator[Store]:
    """Open the store of a table's sound; every process calls this, and the first one of each machine decodes.

    Args:
        table: the clips.
        dataset: the dataset of the clips.
        audio: the sample rate and trimming, and whether sound is kept.
        cache: the cache folder; True for the user's default, False for a temporary folder.
        say: called with progress messages.
        on_error: whether a sound that cannot be read is an error or skipped; None for the setting of `audio`.

    Raises:
        DataError: sound that cannot be read, or a folder that cannot be written.
    """
    with ExitStack() as stack:
        folder = Path(cache) if not isinstance(cache, bool) else None
        if cache is False:
            own = stack.enter_context(tempfile.TemporaryDirectory(prefix="soundbench-"))
            folder = Path(distributed.gather(own)[distributed.rank() - distributed.local_rank()])
        wanted = on_error or audio.on_error
        # An evaluation on other data, in files, by a model whose recipe keeps no sound, does.
        most = None if audio.store or not hasattr(dataset, "shards") else audio.shards_in_memory
        open_ = partial(open_store, table, dataset, audio.rate, folder, wanted, say, trim=audio.trim, in_memory=most)
        yield _agreed(open_)


def _agreed(open_: Callable[..., Store]) -> Store:
    """The store in every process, opened by the first ones of each machine before the others.

    A sound that one of the first cannot read is in nobody's store, so that all have the same clips; no other tries it.
    """
    first = distributed.first_here(lambda: None if distributed.local_rank() else open_())
    found = distributed.gather({} if first is None else first.errors)
    unreadable = {row: reason for errors in reversed(found) for row, reason in errors.items()}
    if first is not None and first.errors.keys() == unreadable.keys():
        return first
    return open_(unreadable=unreadable)
