"""Shards: any number of processes make them together, a kill loses little, tables that overlap share them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.stores import RATE, Made, Table

from soundbench.data.shards import shard, tending
from soundbench.data.shards.pool import FORMAT, Pool, made_by
from soundbench.data.shards.shard import Writer, read
from soundbench.data.sounds import Sounds
from soundbench.data.store import Store, open_store

# Makes a store of the sounds 0 to N - 1; writes a line for each that is read, and for each message.
PROGRAM = """
import os, resource, sys, time
from pathlib import Path
import numpy as np
from helpers.stores import Made, Table
from soundbench.errors import DataError
from soundbench.data.store import open_store

root, count, seconds, limit = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])

def note(name, line):
    with open(root / name, "a") as file:
        file.write(line + "\\n")

class Slow(Made):
    def read(self, clip):
        while not (root / "gate").exists():
            time.sleep(0.01)
        time.sleep(seconds)
        note("reads.txt", clip.path)
        return np.full(50_000, int(clip.path) / 100, np.float32), 16000

if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
table = Table(*((str(k),) for k in range(count)))
try:
    store = open_store(table, Slow(), 16000, root / "cache", say=lambda line: note(f"said-{os.getpid()}.txt", line))
    print(store.digest)
except DataError as error:
    print(error)
"""


class Maker:
    """Processes that make one store, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.started = folder, []
        self.open()

    def open(self) -> None:
        (self.folder / "gate").touch()

    def close(self) -> None:
        (self.folder / "gate").unlink()

    def start(self, count: int = 40, seconds: float = 0.02, limit: int = 0) -> subprocess.Popen:
        arguments = [str(self.folder), str(count), str(seconds), str(limit)]
        self.started.append(subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE))
        return self.started[-1]

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def reads(self) -> Counter[str]:
        return Counter(self.lines("reads.txt"))

    def said(self, process: subprocess.Popen) -> list[str]:
        return self.lines(f"said-{process.pid}.txt")


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[Maker]:
    made = Maker(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen) -> str:
    return process.communicate(timeout=60)[0].decode().strip()


def wait_until(holds: Callable[[], object], process: subprocess.Popen) -> None:
    while not holds():
        assert process.poll() is None
        time.sleep(0.005)


def made_in(folder: Path, *names: int, say: Callable[[str], None] = lambda _: None, dataset=None) -> Store:
    return open_store(Table(*((str(name),) for name in names)), dataset or Made(), RATE, folder, say=say)


def right(store: Store, *names: int) -> None:
    """Every row has the samples of its name."""
    assert store.lengths.tolist() == [100] * len(names)
    rows = np.arange(len(names))
    samples, scales = store.gather(rows, np.zeros(len(rows), int), store.lengths, 100)
    np.testing.assert_allclose(samples * scales[:, None], np.outer(names, np.full(100, 0.1)), atol=1e-3)


# Several processes ----------------------------------------------------------------------------------------------------


def test_processes_that_want_the_same_sound_read_each_once(maker: Maker) -> None:
    maker.close()
    processes = [maker.start() for _ in range(3)]
    for process in processes:
        wait_until(lambda process=process: maker.said(process), process)
    maker.open()
    digests = {finish(process) for process in processes}
    assert maker.reads == dict.fromkeys(map(str, range(40)), 1)
    assert len(digests) == 1
    (pool,) = (maker.folder / "cache").iterdir()
    assert {len(read(samples).records) > 0 for samples in pool.glob("*.i16")} == {True}
    assert len(list(pool.glob("*.i16"))) == 3
    assert not list(pool.glob("piece-*"))


def test_a_process_that_waits_says_so(maker: Maker) -> None:
    maker.close()
    first = maker.start(1)
    wait_until(lambda: list(maker.folder.glob("cache/*/piece-*")), first)
    second = maker.start(1)
    (pool,) = (maker.folder / "cache").iterdir()
    waits = f"sound: waiting for another process, which reads it into {pool}"
    wait_until(lambda: waits in maker.said(second), second)
    maker.open()
    assert finish(first) == finish(second)
    assert maker.said(second) == [f"sound: reading 1 clip into {pool}", waits]
    assert maker.reads == {"0": 1}


def test_what_another_process_has_read_meanwhile_is_not_waited_for(tmp_path: Path) -> None:
    class Other(Made):
        def read(self, clip):
            if clip.path == "1":
                made_in(tmp_path, 0)
            return super().read(clip)

    def say(line: str) -> None:
        assert "waiting" not in line

    pool = Pool(made_in(tmp_path, 9).path)
    table = Table(("0",), ("1",))
    with pool.piece(f"{Sounds.of(table, Other(), RATE).key}-0", wait=False) as mine:
        assert mine
        right(open_store(table, Other(), RATE, tmp_path, say=say), 0, 1)


def test_what_is_committed_is_used_while_the_rest_is_still_being_read(maker: Maker) -> None:
    def committed() -> set[bytes]:
        return {
            key
            for folder in maker.folder.glob("cache/*")
            for one in Pool(folder).contents()
            for key in one.records["key"]
        }

    filling = maker.start(40)
    wait_until(lambda: len(committed()) >= 5, filling)
    maker.close()
    dataset, said = type("Slow", (Made,), {})(), []
    sounds = Sounds.of(Table(*((str(number),) for number in range(40))), dataset, 16000)
    names = [sounds.path(number) for number in np.flatnonzero(np.isin(sounds.keys, list(committed())))]
    store = open_store(Table(*((name,) for name in names)), dataset, 16000, maker.folder / "cache", say=said.append)
    samples, scales = store.gather(np.arange(len(names)), np.zeros(len(names), int), store.lengths, 50_000)
    np.testing.assert_allclose(samples[:, 0] * scales, [int(name) / 100 for name in names], atol=1e-3)
    assert len(said) == 1
    assert "reading" not in said[0]
    assert filling.poll() is None
    maker.open()
    finish(filling)
    assert maker.reads == dict.fromkeys(map(str, range(40)), 1)


def test_what_a_killed_process_held_is_read_by_the_one_that_waits(maker: Maker) -> None:
    maker.close()
    first = maker.start(1)
    wait_until(lambda: list(maker.folder.glob("cache/*/piece-*")), first)
    second = maker.start(1)
    wait_until(lambda: any("waiting" in line for line in maker.said(second)), second)
    first.send_signal(signal.SIGKILL)
    first.wait()
    maker.open()
    finish(second)
    assert maker.reads == {"0": 1}


def test_of_what_a_killed_process_has_read_a_tenth_is_read_again_at_most(maker: Maker) -> None:
    first = maker.start(100, 0.03)
    wait_until(lambda: len(maker.lines("reads.txt")) >= 50, first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = maker.reads.total()
    second = maker.start(100, 0.0)
    digest = finish(second)
    assert maker.reads.keys() == set(map(str, range(100)))
    assert maker.reads.total() - 100 <= done / 10
    assert any(line.startswith("sound: reading ") and " 100 clips" not in line for line in maker.said(second))

    class AtOnce(Made):
        def read(self, clip):
            return np.full(50_000, int(clip.path) / 100, np.float32), RATE

    assert made_in(maker.folder / "at once", *range(100), dataset=AtOnce()).digest == digest


def test_a_file_that_may_not_grow_is_a_full_disk(maker: Maker) -> None:
    message = finish(maker.start(20, 0.0, limit=1_000_000))
    assert message == (
        f"{maker.folder / 'cache'}: the disk is full: the sound needs about 2.0 MB; free some space, set "
        "SOUNDBENCH_CACHE to another folder, or use --no-cache; what was read is kept"
    )
    second = maker.start(20, 0.0)
    finish(second)
    assert maker.said(second)[0].startswith("sound: ")
    assert " of 20 clips in " in maker.said(second)[0]


def test_processes_of_the_same_number_on_two_machines_may_begin_a_pool_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, real = Pool(tmp_path / "pool"), Path.write_bytes

    def written(path: Path, data: bytes) -> int:
        monkeypatch.undo()
        size = real(path, data)
        pool.create({"made": "by the other"})
        return size

    monkeypatch.setattr(Path, "write_bytes", written)
    pool.create({"made": "by one"})
    assert made_by(pool.folder) == (FORMAT, "by one")
    assert [path.name for path in pool.folder.iterdir()] == ["about.toml"]


# Tables that grow or overlap ------------------------------------------------------------------------------------------


class Watched(Made):
    def __init__(self) -> None:
        self.reads: list[str] = []

    def read(self, clip):
        self.reads.append(clip.path)
        return super().read(clip)


def test_one_clip_more_reads_one_clip(tmp_path: Path) -> None:
    dataset = Watched()
    before = made_in(tmp_path, *range(500), dataset=dataset)
    dataset.reads.clear()
    after = made_in(tmp_path, *range(501), dataset=dataset)
    assert dataset.reads == ["500"]
    right(before, *range(500))
    right(after, *range(501))
    assert len(list(after.path.glob("*.i16"))) == 1


def test_tables_that_overlap_share_what_they_have_in_common(tmp_path: Path) -> None:
    dataset = Watched()
    made_in(tmp_path, *range(0, 60), dataset=dataset)
    second = made_in(tmp_path, *range(100, 30, -1), dataset=dataset)
    assert Counter(dataset.reads) == dict.fromkeys(map(str, range(101)), 1)
    right(second, *range(100, 30, -1))
    made_in(tmp_path, 99, 3, 40, dataset=dataset)
    assert len(dataset.reads) == 101


def test_a_shard_that_is_full_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "LARGEST", 2 * 100 * 7)
    store = made_in(tmp_path, *range(45))
    right(store, *range(45))
    assert [len(read(path).records) for path in sorted(store.path.glob("*.i16"))] == [7] * 6 + [3]
    draw = np.random.default_rng(0)
    rows = draw.integers(0, 45, 200)
    starts, counts = draw.integers(0, 50, 200), draw.integers(0, 51, 200)
    samples, _ = store.gather(rows, starts, counts, 60)
    for row, start, count, found in zip(rows, starts, counts, samples, strict=True):
        np.testing.assert_array_equal(found[:count], store.read(row, start, count))
        assert not found[count:].any()
    right(made_in(tmp_path, *range(50)), *range(50))


def test_a_sound_that_would_make_a_shard_too_large_begins_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "LARGEST", 1500)
    store = made_in(tmp_path, *range(20))
    right(store, *range(20))
    assert [path.stat().st_size for path in sorted(store.path.glob("*.i16"))] == [1400, 1400, 1200]


# Damage ---------------------------------------------------------------------------------------------------------------


def test_what_a_kill_leaves_behind_is_removed_by_the_next_to_append(tmp_path: Path) -> None:
    store = made_in(tmp_path, *range(5))
    samples = store.path / "shard-00000.i16"
    for path, size in ((samples, 333), (samples.with_suffix(".journal"), 40)):
        with open(path, "ab") as file:
            file.write(os.urandom(size))
    right(made_in(tmp_path, *range(5)), *range(5))
    right(made_in(tmp_path, *range(8)), *range(8))
    found = read(samples)
    assert (len(found.records), found.problem, samples.stat().st_size) == (8, "", 2 * 800)


def test_a_shard_that_two_wrote_at_once_is_not_used(tmp_path: Path) -> None:
    pool = made_in(tmp_path, 1).path
    for file in pool.glob("shard-*"):
        file.unlink()
    samples = pool / "shard-00000.i16"
    key = np.zeros(1, "S16")
    with Writer(samples) as one, Writer(samples) as other:  # as where a file system has no locks
        for writer, value in ((one, 3), (other, 7)):
            writer.add(key[0], np.full(100, value, np.int16), 1.0)
            writer.commit()
    said: list[str] = []
    right(made_in(tmp_path, 1, 2, say=said.append), 1, 2)
    assert said[0] == (
        f"sound: {samples} is damaged (two processes wrote it at once: its file system does not keep locks); "
        "what cannot be used of it is read again"
    )
    assert sorted(path.name for path in pool.glob("*.i16")) == ["shard-00000.i16", "shard-00001.i16"]


def test_no_sound_is_called_changed_that_is_not(tmp_path: Path) -> None:
    pool = made_in(tmp_path, *range(3000)).path
    journal = (pool / "shard-00000.journal").read_bytes()
    ends = [journal[at + size - 1] for at in range(0, len(journal), 56) for size in (16, 32)]
    assert len(ends) == 6000
    assert ends[::2].count(0)  # keys and digests whose last byte is zero are among them
    assert ends[1::2].count(0)
    assert [problem for _, problem in tending.damage(pool)] == [""]


def test_a_changed_sample_is_found_by_a_check(tmp_path: Path) -> None:
    store = made_in(tmp_path, *range(5))
    assert [problem for _, problem in tending.damage(store.path)] == [""]
    data = bytearray((store.path / "shard-00000.i16").read_bytes())
    data[333] ^= 1
    (store.path / "shard-00000.i16").write_bytes(data)
    assert [problem for _, problem in tending.damage(store.path)] == ["the samples of 1 of 5 clips have changed"]


def test_what_an_older_version_has_made_is_said_and_made_anew(tmp_path: Path) -> None:
    older = tmp_path / "0123456789abcdef01234567"
    older.mkdir()
    (older / "meta.toml").write_text("format = 1\n")
    (older / "audio.i16").write_bytes(b"\0" * 30_000_000)
    said: list[str] = []
    right(made_in(tmp_path, 1, 2, say=said.append), 1, 2)
    assert said[0] == f"sound: 30 MB in {tmp_path} are of an older version, and not read; see soundbench cache prune"
    said.clear()
    made_in(tmp_path, 1, 2, 3, say=said.append)
    assert said[0].startswith("sound: 2 of 3 clips in ")


def test_a_pool_that_cannot_be_looked_at_keeps_no_other_from_being_made(tmp_path: Path) -> None:
    journal = made_in(tmp_path, 1).path / "shard-00000.journal"
    journal.unlink()
    journal.mkdir()
    store = open_store(Table(("1",)), Made(), 8000, tmp_path, say=lambda _: None)
    assert store.lengths.tolist() == [50]


def test_keys_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    keys = np.array([b"eight---" + bytes([first, 1] * 4) for first in (5, 3, 9, 4)], "S16")
    samples = tmp_path / "shard-00000.i16"
    with Writer(samples) as writer:
        for number in (0, 1, 1, 2):
            writer.add(keys[number], np.full(10 * (number + 1), number, np.int16), 1.0)
        writer.commit()
    pool = Pool(tmp_path)
    placed = pool.place(keys[[3, 2, 1, 0]], pool.contents())
    assert placed.missing.tolist() == [0]
    assert placed.lengths.tolist() == [0, 30, 20, 10]
    assert placed.offsets[1:].tolist() == [50, 10, 0]


def test_a_fingerprint_of_any_characters_makes_a_pool_of_this_version(tmp_path: Path) -> None:
    dataset = Made()
    dataset.fingerprint = 'of \udc80 and "\n'
    right(made_in(tmp_path, 1, 2, dataset=dataset), 1, 2)
    assert [(one.kind, one.sounds) for one in tending.kept(tmp_path)] == [("sound", 2)]
