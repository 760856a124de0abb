"""The contract suite on datasets that each break a promise: it says which, with the numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from helpers.contract_suite import says
from helpers.toys import ToyDataset

from soundbench.contracts import Clip
from soundbench.errors import MissingDataError, SoundError
from soundbench.testing import ContractError, check_component

pytestmark = pytest.mark.usefixtures("only_toys")


class Files:
    """Sounds of a folder a class.

    Args:
        root: where.
    """

    multilabel = False

    def __init__(self, *, root: Path) -> None:
        self.root = root

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        for name in ("cat/1.wav", "cat/2.wav", "dog/3.wav"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(name.encode())
        return {"root": folder}

    @property
    def classes(self) -> tuple[str, ...]:
        if not self.root.is_dir():
            raise MissingDataError(f"{self.root}: no such folder")
        return tuple(sorted(path.name for path in self.root.iterdir()))

    def clips(self) -> Iterator[Clip]:
        for label in self.classes:
            for path in sorted((self.root / label).iterdir()):
                yield self.clip(path, label)

    def clip(self, path: Path, label: str) -> Clip:
        return Clip(str(path), (label,), fold=1)


class Unsorted(Files):
    """Takes files as they come.

    Args:
        root: where.
    """

    def clips(self) -> Iterator[Clip]:
        for label in self.classes:
            for path in (self.root / label).iterdir():
                yield self.clip(path, label)


class Strange(Files):
    """Labels that are no classes.

    Args:
        root: where.
    """

    def clip(self, path: Path, label: str) -> Clip:
        return Clip(str(path), ("cow",))


class Reading(Files):
    """Looks into sounds.

    Args:
        root: where.
    """

    def clip(self, path: Path, label: str) -> Clip:
        return Clip(str(path), (label,), stop=float(len(path.read_bytes())))


class Headers(Files):
    """Reads the beginning of each sound, for its length.

    Args:
        root: where.
    """

    reads_headers = True

    def clip(self, path: Path, label: str) -> Clip:
        with path.open("rb") as file:
            return Clip(str(path), (label,), stop=float(file.read(8)[0]))


class HeadersOrMore(Files):
    """Says that it reads headers, and reads to the end.

    Args:
        root: where.
    """

    reads_headers = True

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        options = Files.example(folder)
        for path in folder.rglob("*.wav"):
            path.write_bytes(b"a" * 5000)
        return options

    def clip(self, path: Path, label: str) -> Clip:
        return Clip(str(path), (label,), stop=float(path.read_bytes()[-1]))


class Group(Files):
    """A group that is a number.

    Args:
        root: where.
    """

    def clip(self, path: Path, label: str) -> Clip:
        return Clip(str(path), (label,), group=7)  # type: ignore[arg-type]


class Extra(Files):
    """Gives further values that are no text.

    Args:
        root: where.
    """

    def clip(self, path: Path, label: str) -> Clip:
        return Clip(str(path), (label,), extra={"site": 4})  # type: ignore[dict-item]


class Eager(Files):
    """Looks for its data when it is made.

    Args:
        root: where.
    """

    def __init__(self, *, root: Path) -> None:
        super().__init__(root=root)
        self.names = self.classes


class Nameless(Files):
    """Does not say what is missing.

    Args:
        root: where.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        if not self.root.is_dir():
            raise MissingDataError("the data is missing")
        return super().classes


class Empty(Files):
    """Is silent about what is missing.

    Args:
        root: where.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        return super().classes if self.root.is_dir() else ("cat", "dog")

    def clips(self) -> Iterator[Clip]:
        return super().clips() if self.root.is_dir() else iter(())


class Absent(Files):
    """Names files that are not there.

    Args:
        root: where.
    """

    def clip(self, path: Path, label: str) -> Clip:
        return Clip(f"{path}.wav", (label,))


class Loud(ToyDataset):
    """Sounds beyond full scale.

    Args:
        clips: how many.
        seed: of the noise.
    """

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        samples, rate = super().read(clip)
        return samples * 100, rate


class Fickle(ToyDataset):
    """Other samples in every call.

    Args:
        clips: how many.
        seed: of the noise.
    """

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        self.seed += 1
        return super().read(clip)


class Threaded(ToyDataset):
    """May be read by several threads, it says; the thread that comes next changes what the one before is to return.

    Args:
        clips: how many.
        seed: of the noise.
    """

    threads = True

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        self.last = clip
        time.sleep(0.02)
        return super().read(self.last)


class Crowded(ToyDataset):
    """May be read by several threads, it says; it keeps one file open for all.

    Args:
        clips: how many.
        seed: of the noise.
    """

    threads, reading = True, 0

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        self.reading += 1
        try:
            if self.reading > 1:
                raise OSError("it is busy")
            time.sleep(0.001)
            return super().read(clip)
        finally:
            self.reading -= 1


class Sharded(ToyDataset):
    """In two shards.

    Args:
        clips: how many.
        seed: of the noise.
    """

    def clips(self) -> Iterator[Clip]:
        for number, clip in enumerate(super().clips()):
            yield attrs.evolve(clip, path=f"{'ab'[number % 2]}/{number}")

    def shards(self) -> Mapping[str, str]:
        return {"a": "1", "b": "1"}

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        name = clip.path.split("/")[-1]
        if not name.isdecimal():
            raise SoundError(clip.path, "it is not there")
        return super().read(attrs.evolve(clip, path=name))

    def read_many(self, clips: Sequence[Clip]) -> Iterator[tuple[np.ndarray, int] | SoundError]:
        for clip in clips:
            try:
                yield self.read(clip)
            except SoundError as error:
                yield error


class Beside(Sharded):
    """Clips that are in no shard.

    Args:
        clips: how many.
        seed: of the noise.
    """

    def shards(self) -> Mapping[str, str]:
        return {"a": "1"}


class Nested(Sharded):
    """A shard inside of another.

    Args:
        clips: how many.
        seed: of the noise.
    """

    def clips(self) -> Iterator[Clip]:
        yield from (attrs.evolve(clip, path=f"c/{clip.path}") for clip in super().clips())

    def shards(self) -> Mapping[str, str]:
        return {"c/a": "1", "c/b": "1", "c": "1"}


class Moving(Sharded):
    """Other fingerprints each time.

    Args:
        clips: how many.
        seed: of the noise.
    """

    def shards(self) -> Mapping[str, str]:
        return {name: str(time.monotonic_ns()) for name in "ab"}


class Backwards(Sharded):
    """Gives a shard in the order that suits it.

    Args:
        clips: how many.
        seed: of the noise.
    """

    def read_many(self, clips: Sequence[Clip]) -> Iterator[tuple[np.ndarray, int] | SoundError]:
        yield from super().read_many(clips[::-1])


class Dropping(Sharded):
    """Leaves out what it cannot read.

    Args:
        clips: how many.
        seed: of the noise.
    """

    def read_many(self, clips: Sequence[Clip]) -> Iterator[tuple[np.ndarray, int] | SoundError]:
        yield from (found for found in super().read_many(clips) if not isinstance(found, SoundError))


class Raising(Sharded):
    """Ends at the first clip that it cannot read.

    Args:
        clips: how many.
        seed: of the noise.
    """

    def read_many(self, clips: Sequence[Clip]) -> Iterator[tuple[np.ndarray, int] | SoundError]:
        yield from map(self.read, clips)


@pytest.mark.parametrize(
    ("component", "promise", "message"),
    [
        (Beside, "shards", r"clip b/1 is in no shard of a"),
        (Nested, "shards", r"clip c/a/0 is in two shards of c/a, c/b, c"),
        (Moving, "shards", r"in a second call, shards\(\) returns \{'a': .*\}, not \{'a': .*\}"),
        (Backwards, "shards", r"read_many gives other samples for a/0 than read"),
        (Dropping, "shards", r"read_many yields 11 sounds for 12 clips, one of which may not be there"),
        (Raising, "shards", r"read_many raises a SoundError, which it should yield: a/0-absent: it is not there"),
        (
            Unsorted,
            "order",
            r"with folders listed in (reverse|alphabetical) order, clip \d is .*\.wav \('cat',\), not .*",
        ),
        (Strange, "labels", r".*1\.wav: label 'cow' is not one of the 2 classes of the dataset"),
        (Reading, "no sound read", r"clips\(\) must read no sound, but opens 1\.wav"),
        (HeadersOrMore, "no sound read", r"with damaged sound files, clip 0, .*1\.wav, has other values: .*"),
        (Extra, "folds and groups", r"clip 0, .*1\.wav: extra must map names to text, none empty, is \{'site': 4\}"),
        (Group, "folds and groups", r"clip 0, .*1\.wav: group must be str or None, is 7"),
        (
            Eager,
            "missing",
            r"the constructor must not look for data: a recipe is described without it: .*",
        ),
        (Nameless, "missing", r"MissingDataError must name the missing path, says: the data is missing"),
        (Empty, "missing", r"without its data it must raise MissingDataError, but has 2 classes and 0 clips"),
        (Absent, "sounds", r"3 of 3 clips name a file that does not exist: .*1\.wav\.wav"),
        (Loud, "sounds", r"read\(0\) returns samples up to \d+(\.\d)? \(allowed -1 to 1\)"),
        (Fickle, "sounds", r"read\(0\) returns different samples when called again"),
        (Threaded, "sounds", r"read\(\d+\) returns other samples while threads call it; it has threads = True"),
        (
            Crowded,
            "sounds",
            r"read\(\d+\) raises OSError: it is busy while threads call it; it has threads = True",
        ),
    ],
)
def test_a_dataset_that_breaks_a_promise(component: type[Any], promise: str, message: str) -> None:
    says("dataset", component, promise, message)


def test_a_dataset_is_checked_with_its_example() -> None:
    report = check_component("dataset", Files)
    states = {result.promise: result.state for result in report.results}
    assert states.pop("processes") == states.pop("shards") == "not applicable"
    assert set(states.values()) == {"ok"}


def test_a_dataset_in_shards_is_checked() -> None:
    (result,) = [one for one in check_component("dataset", Sharded).results if one.promise == "shards"]
    assert (result.state, result.message) == ("ok", "40 clips in 2 shards")


def test_a_dataset_may_say_that_it_reads_headers() -> None:
    (result,) = [one for one in check_component("dataset", Headers).results if one.promise == "no sound read"]
    assert (result.state, result.message) == ("ok", "reads headers of 3")


def test_without_an_example_only_missing_data_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Files, "example")
    states = {result.promise: result.state for result in check_component("dataset", Files).results}
    assert states.pop("missing") == "ok"
    assert [promise for promise, state in states.items() if state == "not applicable"] == [
        "labels",
        "folds and groups",
        "order",
        "processes",
        "no sound read",
        "sounds",
        "shards",
    ]


def test_data_that_the_caller_names_is_checked_and_not_changed(tmp_path: Path) -> None:
    check_component("dataset", Files, options=Files.example(tmp_path))
    assert (tmp_path / "dog" / "3.wav").read_bytes() == b"dog/3.wav"


SETS = '''
from soundbench.contracts import Clip


class Sets:
    """Takes a set as it comes."""

    multilabel = False
    fingerprint = "sets"
    classes = ("cat", "dog")

    def clips(self):
        for name in {"a", "b", "c", "d", "e", "f", "g", "h"}:
            yield Clip(name, ("cat",))

    def read(self, clip):
        import numpy as np

        return np.zeros(9, np.float32), 8000
'''


def test_an_order_that_differs_between_processes_is_found_if_thorough(tmp_path: Path) -> None:
    path = tmp_path / "sets.py"
    path.write_text(SETS)
    check_component("dataset", f"{path}:Sets")
    with pytest.raises(
        ContractError, match=r"breaks 1 of 12 .*\n  processes: the order differs between processes: Clip.* and Clip"
    ):
        check_component("dataset", f"{path}:Sets", thorough=True)
    path.write_text(SETS.replace("in {", "in [").replace('"h"}', '"h"]'))
    check_component("dataset", f"{path}:Sets", thorough=True)
