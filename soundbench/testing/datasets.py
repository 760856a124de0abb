"""What a dataset promises.

Files that its `example` wrote are checked with sound files overwritten, with folders listed in reverse order, and at
last deleted; the data of a user is never changed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import zip_longest
from pathlib import Path
from threading import Barrier
from typing import Any
from unittest import mock

import attrs
import numpy as np

from soundbench.audio import SUFFIXES
from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.errors import DataError, MissingDataError, SoundError
from soundbench.recipe.structuring import plain
from soundbench.sources import shard_of
from soundbench.testing.cases import Case
from soundbench.testing.file_access import FileAccess
from soundbench.testing.results import Broken, Checks, NotApplicable

__all__ = ["CHECKS"]

MOST = 20  # clips whose sound is read
HEADER = 1024  # bytes of a sound file that hold its header


def table(case: Case) -> ClipTable:
    """Its clips.

    Raises:
        NotApplicable: it has no example, and its data is not available.
    """
    if "table" not in case.memory:
        if case.given is None and not case.has_example and case.paths:
            raise NotApplicable("it has no example(folder), so there is no data to check it with")
        case.memory["table"] = ClipTable.of(case.make())
    found: ClipTable = case.memory["table"]
    return found


def _clips(case: Case) -> list[Clip]:
    clips = list(case.make().clips())
    for clip in clips:
        if not isinstance(clip, Clip):
            raise Broken(f"clips() yields a {type(clip).__name__}, not a Clip")
    return clips


def labels(case: Case) -> str:
    """Unique class names, clips whose labels are among them, and valid times."""
    try:
        found = table(case)
    except MissingDataError:
        raise
    except DataError as error:
        raise Broken(str(error)) from error
    invalid = [name for name in found.classes if not isinstance(name, str) or not name]
    if invalid:
        raise Broken(f"class names must be non-empty text, not {invalid[0]!r}")
    return f"{len(found)} clips of {len(found.classes)} classes"


def fields(case: Case) -> str:
    """Paths, folds, groups and further values of the right types; `multilabel` is a bool."""
    table(case)
    multilabel = getattr(case.make(), "multilabel", False)
    if not isinstance(multilabel, bool):
        raise Broken(f"multilabel must be True or False, is {multilabel!r}")
    for number, clip in enumerate(_clips(case)):
        kinds: tuple[tuple[str, Any, tuple[type, ...]], ...] = (
            ("path", clip.path, (str,)),
            ("fold", clip.fold, (int, str, type(None))),
            ("group", clip.group, (str, type(None))),
        )
        for name, value, allowed in kinds:
            if not isinstance(value, allowed) or isinstance(value, bool):
                words = " or ".join("None" if kind is type(None) else kind.__name__ for kind in allowed)
                raise Broken(f"clip {number}, {clip.path}: {name} must be {words}, is {value!r}")
        if not isinstance(clip.extra, Mapping) or not all(
            isinstance(text, str) and text for pair in clip.extra.items() for text in pair
        ):
            raise Broken(f"clip {number}, {clip.path}: extra must map names to text, none empty, is {clip.extra!r}")
    found = table(case)
    more = f", {', '.join(found.extra)}" if found.extra else ""
    return f"{len(found.folds.names)} folds, {len(found.groups.names)} groups{more}"


def order(case: Case) -> str:
    """The same clips in the same order in every call, whatever the order in which folders are listed."""
    table(case)
    dataset = case.make()
    classes, first = list(dataset.classes), _clips(case)
    _same("in another instance, ", first, list(dataset.clips()))
    _same("in a second call, ", first, list(dataset.clips()))
    for reverse in (False, True):
        with _listed(reverse):
            other = case.make()
            when = f"with folders listed in {'reverse' if reverse else 'alphabetical'} order, "
            if list(other.classes) != classes:
                raise Broken(f"{when}classes are {list(other.classes)}, not {classes}")
            _same(when, first, list(other.clips()))
    return f"{len(first)} clips"


def _same(when: str, one: list[Clip], other: list[Clip]) -> None:
    if len(one) != len(other):
        raise Broken(f"{when}there are {len(other)} clips, not {len(one)}")
    for number, (a, b) in enumerate(zip(one, other, strict=True)):
        if a != b:
            if (a.path, a.labels) == (b.path, b.labels):
                raise Broken(f"{when}clip {number}, {a.path}, has other values: {b}, not {a}")
            raise Broken(f"{when}clip {number} is {b.path} {b.labels}, not {a.path} {a.labels}")


@contextmanager
def _listed(reverse: bool) -> Iterator[None]:
    """List folders in alphabetical or reverse order; a real file system guarantees neither."""
    listdir, scandir = os.listdir, os.scandir

    class Entries(AbstractContextManager["Entries"]):
        def __init__(self, *place: Any) -> None:
            with scandir(*place) as entries:
                self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=reverse))

        def __iter__(self) -> Iterator[Any]:
            return self.entries

        def __next__(self) -> Any:
            return next(self.entries)

        def __exit__(self, *_: object) -> None:
            self.close()

        def close(self) -> None:
            self.entries = iter(())

    def names(*place: Any) -> list[Any]:
        return sorted(listdir(*place), reverse=reverse)

    with mock.patch.object(os, "scandir", Entries), mock.patch.object(os, "listdir", names):
        yield


def processes(case: Case) -> str:
    """The same order in every process: the order of a set of strings differs between processes."""
    table(case)
    if not case.thorough:
        raise NotApplicable("checked only with --thorough (thorough=True)")
    component = case.component
    if "<locals>" in component.name:
        raise NotApplicable("it is defined inside a function, so another process cannot import it")
    options = json.dumps({name: plain(value) for name, value in case.options.items()})
    outputs = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", _PROCESS, component.name, options],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Broken(f"in another process it fails: {done.stderr.strip().splitlines()[-1]}")
        outputs.append(done.stdout.splitlines())
    for one, other in zip_longest(*outputs, fillvalue="nothing"):
        if one != other:
            raise Broken(f"the order differs between processes: {one} and {other} at the same position")
    return f"{len(outputs[0])} classes and clips in two processes"


_PROCESS = """
import json, sys
from soundbench.recipe.registry import Registry
component = Registry().get("dataset", sys.argv[1])
options, _ = component.structure(json.loads(sys.argv[2]), "")
dataset = component.obj(**options)
print(*dataset.classes, *dataset.clips(), sep="\\n")
"""


def no_sound_read(case: Case) -> str:
    """`clips()` opens no sound file, and yields the same clips when sound files are damaged.

    With `reads_headers` it may open them, and their first bytes stay as they are.
    """
    table(case)
    before = _clips(case)
    headers = HEADER if getattr(case.make(), "reads_headers", False) else 0
    with FileAccess() as access:
        _clips(case)
    opened = [path for path in access.read if path.suffix.lower() in SUFFIXES]
    if opened and not headers:
        raise Broken(f"clips() must read no sound, but opens {opened[0].name}")
    if not case.has_example:
        return "reads headers" if headers else "opens none"
    sounds = [path for path in (case.folder / "example").rglob("*") if path.suffix.lower() in SUFFIXES]
    kept = {path: path.read_bytes() for path in sounds}
    for path, data in kept.items():
        path.write_bytes(data[:headers] + b"\x5a" * len(data[headers:]))
    try:
        _same("with damaged sound files, ", before, _clips(case))
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"with damaged sound files, clips() raised {type(error).__name__}: {error}") from error
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
    return f"reads headers of {len(sounds)}" if headers else f"opens none of {len(sounds)}"


def sounds(case: Case) -> str:
    """Every clip has sound: an existing file, or what `read` returns, the same in every call."""
    table(case)
    dataset, clips = case.make(), _clips(case)
    read: Callable[[Clip], tuple[Any, Any]] | None = getattr(dataset, "read", None)
    if read is None:
        missing = [clip.path for clip in clips if not Path(clip.path).is_file()]
        if missing:
            raise Broken(f"{len(missing)} of {len(clips)} clips name a file that does not exist: {missing[0]}")
        return "files"
    if not isinstance(getattr(dataset, "fingerprint", None), str):
        raise Broken("a dataset with read() needs fingerprint, a text that changes whenever its sound changes")
    for clip in clips[:MOST]:
        samples, rate = read(clip)
        if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.ndim != 1 or not samples.size:
            found = f"{samples.dtype} {samples.shape}" if isinstance(samples, np.ndarray) else type(samples).__name__
            raise Broken(f"read({clip.path}) must return float32 (S,), returns {found}")
        if not np.isfinite(samples).all() or np.abs(samples).max() > 1.0:
            raise Broken(f"read({clip.path}) returns samples up to {np.abs(samples).max():.3g} (allowed -1 to 1)")
        if not isinstance(rate, int) or rate < 1:
            raise Broken(f"read({clip.path}) returns a sample rate of {rate!r}")
        if not np.array_equal(samples, read(clip)[0]):
            raise Broken(f"read({clip.path}) returns different samples when called again")
    if getattr(dataset, "threads", False) is True:
        _read_by_threads(read, clips[:MOST])
    return f"read {min(len(clips), MOST)} of {len(clips)}"


def _read_by_threads(read: Callable[[Clip], tuple[Any, Any]], clips: Sequence[Clip]) -> None:
    """Raise an error if `read` fails, or gives other samples, where threads call it at once."""
    alone, begin = [read(clip)[0] for clip in clips], Barrier(len(clips))

    def again(clip: Clip) -> Any:
        begin.wait()
        return read(clip)[0]

    with ThreadPoolExecutor(len(clips)) as threads:
        reads = [threads.submit(again, clip) for clip in clips]
    for clip, samples, found in zip(clips, alone, reads, strict=True):
        error = found.exception()
        if error or not np.array_equal(samples, found.result()):
            what = f"raises {type(error).__name__}: {error}" if error else "returns other samples"
            raise Broken(f"read({clip.path}) {what} while threads call it; it has threads = True")


def shards(case: Case) -> str:
    """Each clip is in one shard; `read_many` gives what `read` does, and an error of one clip is its own."""
    found, dataset = table(case), case.make()
    if not hasattr(dataset, "shards"):
        raise NotApplicable("its sound is not in shards")
    names = dataset.shards()
    if not isinstance(names, Mapping) or not all(
        isinstance(text, str) and text for pair in names.items() for text in pair
    ):
        raise Broken(f"shards() must map the name of each shard to its fingerprint, both text, returns {names!r}")
    for when, again in (("in a second call", dataset.shards()), ("in another instance", case.make().shards())):
        if list(again.items()) != list(names.items()):
            raise Broken(f"{when}, shards() returns {again!r}, not {names!r}")
    by_shard: dict[str, list[Clip]] = {name: [] for name in names}
    for clip in map(found.clip, range(len(found))):
        name = shard_of(clip.path, names)
        if name is None or shard_of(name, names):
            raise Broken(f"clip {clip.path} is in {'no shard' if name is None else 'two shards'} of {', '.join(names)}")
        by_shard[name].append(clip)
    for clips in filter(None, by_shard.values()):
        _read_many(dataset, clips[:MOST])
    return f"{len(found)} clips in {len(names)} shards"


def _read_many(dataset: Any, clips: list[Clip]) -> None:
    """Raise an error if `read_many` gives other sound than `read`; one of the clips that it gets is not there."""
    absent = attrs.evolve(clips[0], path=f"{clips[0].path}-absent")
    for given in (clips, [clips[0], absent, *clips[1::2]]):
        try:
            sounds = list(dataset.read_many(given))
        except SoundError as error:
            raise Broken(f"read_many raises a SoundError, which it should yield: {error}") from error
        if len(sounds) != len(given):
            raise Broken(f"read_many yields {len(sounds)} sounds for {len(given)} clips, one of which may not be there")
        for clip, sound in zip(given, sounds, strict=True):
            try:
                alone = dataset.read(clip)
            except SoundError as error:
                alone = error
            failed = isinstance(sound, SoundError)
            if failed != isinstance(alone, SoundError):
                raise Broken(f"read_many gives {sound!r} for {clip.path}, read {alone!r}")
            if not failed and not (sound[1] == alone[1] and np.array_equal(sound[0], alone[0])):
                raise Broken(f"read_many gives other samples for {clip.path} than read")


def missing(case: Case) -> str:
    """The constructor needs no data; `classes` or `clips()` names what is missing, in a `MissingDataError`."""
    if not case.paths:
        raise NotApplicable("it reads no files")
    changed = case.without_data()  # this check is the last
    try:
        dataset = case.make(**changed)
    except DataError as error:
        raise Broken(f"the constructor must not look for data: a recipe is described without it: {error}") from error
    try:
        classes, count = list(dataset.classes), len(list(dataset.clips()))
    except MissingDataError as error:
        if str(case.folder) not in str(error):
            raise Broken(f"MissingDataError must name the missing path, says: {error}") from error
        return str(error).replace(str(case.folder), "...")
    raise Broken(f"without its data it must raise MissingDataError, but has {len(classes)} classes and {count} clips")


CHECKS: Checks = {
    "labels": labels,
    "folds and groups": fields,
    "order": order,
    "processes": processes,
    "no sound read": no_sound_read,
    "sounds": sounds,
    "shards": shards,
    "missing": missing,
}
