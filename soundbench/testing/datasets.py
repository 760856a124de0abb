"""What a dataset promises.

What its `example` wrote is proved with sounds overwritten, with folders listed backwards, and at last with everything
taken away; the data of a user is never touched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from soundbench.audio import SUFFIXES
from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.errors import DataError, MissingDataError
from soundbench.recipe.structuring import plain
from soundbench.testing.cases import Case
from soundbench.testing.findings import Broken, Checks, Moot
from soundbench.testing.watching import Watch

__all__ = ["CHECKS"]

MOST = 20  # clips that are read


def table(case: Case) -> ClipTable:
    """Its clips, where its data is there.

    Raises:
        Moot: nothing is there, and it brings no example.
    """
    if "table" not in case.memory:
        if case.given is None and not case.exemplified and case.paths:
            raise Moot("it offers no example(folder), so there is no data to prove it on")
        case.memory["table"] = ClipTable.of(case.make())
    found: ClipTable = case.memory["table"]
    return found


def _clips(case: Case) -> list[Clip]:
    clips = list(case.make().clips())
    for clip in clips:
        if not isinstance(clip, Clip):
            raise Broken(f"clips() gives a {type(clip).__name__}, not a Clip")
    return clips


def labels(case: Case) -> str:
    """Class names, each once, and clips whose labels are among them; times that can be."""
    try:
        found = table(case)
    except MissingDataError:
        raise
    except DataError as error:
        raise Broken(str(error)) from error
    strange = [name for name in found.classes if not isinstance(name, str) or not name]
    if strange:
        raise Broken(f"a class name is text, not {strange[0]!r}")
    return f"{len(found)} clips of {len(found.classes)} classes"


def fields(case: Case) -> str:
    """Paths, folds and groups of the right types; `multilabel` true or false."""
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
    found = table(case)
    return f"{len(found.folds.names)} folds, {len(found.groups.names)} groups"


def order(case: Case) -> str:
    """The same clips in the same order, whenever it is asked, and however the machine lists its folders."""
    table(case)
    dataset = case.make()
    classes, first = list(dataset.classes), _clips(case)
    _same("asked again, ", first, list(dataset.clips()))
    _same("asked a second time, ", first, list(dataset.clips()))
    for reverse in (False, True):
        with _listed(reverse):
            other = case.make()
            when = f"where folders are listed {'backwards' if reverse else 'forwards'}, "
            if list(other.classes) != classes:
                raise Broken(f"{when}classes are {list(other.classes)}, not {classes}")
            _same(when, first, list(other.clips()))
    return f"{len(first)} clips"


def _same(when: str, one: list[Clip], other: list[Clip]) -> None:
    if len(one) != len(other):
        raise Broken(f"{when}there are {len(other)} clips, not {len(one)}")
    for number, (a, b) in enumerate(zip(one, other, strict=True)):
        if a != b:
            raise Broken(f"{when}clip {number} is {b.path} {b.labels}, not {a.path} {a.labels}")


@contextmanager
def _listed(reverse: bool) -> Iterator[None]:
    """A machine whose file system lists folders by name, or the other way round; a real one does as it likes."""
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
    """The same order in every process: a set of texts has another in each."""
    table(case)
    if not case.thorough:
        raise Moot("tried where asked for: thorough")
    component = case.component
    if "<locals>" in component.name:
        raise Moot("another process cannot find it")
    options = json.dumps({name: plain(value) for name, value in case.options.items()})
    told = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", _PROCESS, component.name, options],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Broken(f"in a process of its own it fails: {done.stderr.strip().splitlines()[-1]}")
        told.append(done.stdout.splitlines())
    for one, other in zip_longest(*told, fillvalue="nothing"):
        if one != other:
            raise Broken(f"two processes give {one} and {other} at one place")
    return f"{len(told[0])} classes and clips in two processes"


_PROCESS = """
import json, sys
from soundbench.recipe.registry import Registry
component = Registry().get("dataset", sys.argv[1])
options, _ = component.structure(json.loads(sys.argv[2]), "")
dataset = component.obj(**options)
print(*dataset.classes, *dataset.clips(), sep="\\n")
"""


def silent(case: Case) -> str:
    """`clips()` reads no sound: it opens none, and gives the same where the sounds are damaged."""
    table(case)
    before = _clips(case)
    with Watch() as watch:
        _clips(case)
    opened = [path for path in watch.read if path.suffix.lower() in SUFFIXES]
    if opened:
        raise Broken(f"clips() opens {opened[0].name}")
    if not case.exemplified:
        return "opens none"
    sounds = [path for path in (case.folder / "example").rglob("*") if path.suffix.lower() in SUFFIXES]
    kept = {path: path.read_bytes() for path in sounds}
    for path, data in kept.items():
        path.write_bytes(b"\x5a" * len(data))
    try:
        _same("with damaged sounds, ", before, _clips(case))
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"with damaged sounds, clips() raised {type(error).__name__}: {error}") from error
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
    return f"opens none of {len(sounds)}"


def sounds(case: Case) -> str:
    """Every clip's sound is there: a file, or what `read` gives, the same twice."""
    table(case)
    dataset, clips = case.make(), _clips(case)
    read: Callable[[Clip], tuple[Any, Any]] | None = getattr(dataset, "read", None)
    if read is None:
        missing = [clip.path for clip in clips if not Path(clip.path).is_file()]
        if missing:
            raise Broken(f"{len(missing)} of {len(clips)} clips name no file: {missing[0]}")
        return "files"
    if not isinstance(getattr(dataset, "fingerprint", None), str):
        raise Broken("it reads sound itself, and so needs fingerprint, a text that changes whenever the sound would")
    for clip in clips[:MOST]:
        samples, rate = read(clip)
        if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.ndim != 1 or not samples.size:
            told = f"{samples.dtype} {samples.shape}" if isinstance(samples, np.ndarray) else type(samples).__name__
            raise Broken(f"read({clip.path}) must give float32 (S,), gives {told}")
        if not np.isfinite(samples).all() or np.abs(samples).max() > 1.0:
            raise Broken(f"read({clip.path}) gives samples up to {np.abs(samples).max():.3g} (allowed -1 to 1)")
        if not isinstance(rate, int) or rate < 1:
            raise Broken(f"read({clip.path}) gives a rate of {rate!r}")
        if not np.array_equal(samples, read(clip)[0]):
            raise Broken(f"read({clip.path}) gives other samples when asked again")
    return f"read {min(len(clips), MOST)} of {len(clips)}"


def missing(case: Case) -> str:
    """It is made without its data; what is missing is named by `classes` or `clips()`, in a `MissingDataError`."""
    if not case.paths:
        raise Moot("it needs no files")
    changed = case.bereft()  # last of all
    try:
        dataset = case.make(**changed)
    except DataError as error:
        raise Broken(f"the constructor looks for data, and a recipe cannot be described without: {error}") from error
    try:
        classes, count = list(dataset.classes), len(list(dataset.clips()))
    except MissingDataError as error:
        if str(case.folder) not in str(error):
            raise Broken(f"MissingDataError names no path: {error}") from error
        return str(error).replace(str(case.folder), "...")
    raise Broken(f"with nothing there it gives {len(classes)} classes and {count} clips, no MissingDataError")


CHECKS: Checks = {
    "labels": labels,
    "folds and groups": fields,
    "order": order,
    "processes": processes,
    "no sound read": silent,
    "sounds": sounds,
    "missing": missing,
}
