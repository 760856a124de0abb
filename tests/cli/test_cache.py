"""`soundbench cache`: what is kept is listed, what has changed is found, and nothing is removed that a run needs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from helpers.stores import RATE, Made, Table

from soundbench.cli.main import invoke
from soundbench.data.shards.pool import Pool
from soundbench.data.shards.shard import Writer
from soundbench.data.store import Store, open_store
from soundbench.files import lock

DAY = 86400
FEATURES = "features-0123456789abcdef01234567"


def made(root: Path, count: int = 5, rate: int = RATE) -> Store:
    return open_store(Table(*((str(name),) for name in range(count))), Made(), rate, root, say=lambda _: None)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with sound of two rates, features, and what an older version has left."""
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(tmp_path))
    made(tmp_path)
    made(tmp_path, 3, 8000)
    (tmp_path / FEATURES).mkdir()
    (tmp_path / FEATURES / "block-00000.f32").write_bytes(b"\0" * 4000)
    older = tmp_path / "0123456789abcdef01234567"
    older.mkdir()
    (older / "meta.toml").write_text("format = 1\n")
    (older / "audio.i16").write_bytes(b"\0" * 2_000_000)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("of somebody else")
    return tmp_path


def test_folders_are_listed_with_what_they_hold(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["cache", "list"]) == 0
    out, err = capsys.readouterr()
    head, *rows = (line.split("  ") for line in out.splitlines())
    cells = {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows}
    assert head[0] == "FOLDER"
    assert cells.pop("0123456789abcdef01234567") == ["2.0 MB", "0", "of an older version, not read"]
    assert cells.pop(FEATURES) == ["0.0 MB", "0", "features"]
    assert sorted(cells.values()) == [
        ["0.0 MB", "3", "1", "0", "sound, 8000 Hz, Made: made 1"],
        ["0.0 MB", "5", "1", "0", "sound, 16000 Hz, Made: made 1"],
    ]
    assert err == f"2.0 MB in {root}\n"


def test_json_has_the_same(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["cache", "list", "--json", "--cache", str(root)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cache"] == str(root)
    kinds = {(one["kind"], one["sounds"], one["shards"]) for one in found["folders"]}
    assert kinds == {("sound", 5, 1), ("sound", 3, 1), ("features", 0, 0), ("older", 0, 0)}
    sizes = {one["path"]: one["size"] for one in found["folders"]}
    assert sizes[str(root / FEATURES)] == 4000


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["cache", "list", "--json", "--cache", str(tmp_path / "none")]) == 0
    assert json.loads(capsys.readouterr().out)["folders"] == []
    assert invoke(["cache", "prune", "--cache", str(tmp_path / "none")]) == 0


def test_a_file_in_its_place_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for name in ("list", "check", "prune"):
        assert invoke(["cache", name, "--cache", str(tmp_path / "file")]) == 1
        assert capsys.readouterr().err == f"{tmp_path / 'file'}: not a directory\n"


def test_a_changed_sample_is_found_and_its_shard_removed_and_read_again(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["cache", "check"]) == 0
    assert capsys.readouterr().out == f"8 clips in 2 shards in {root}: all as they were written\n"
    store = made(root)
    samples, digest = store.path / "shard-00000.i16", store.digest
    data = bytearray(samples.read_bytes())
    data[777] ^= 16
    samples.write_bytes(data)
    line = f"{samples}: the samples of 1 of 5 clips have changed"
    assert invoke(["cache", "check"]) == 1
    out, err = capsys.readouterr()
    assert out == f"{line}\n"
    assert err.startswith(f"1 of 2 shards in {root} are damaged; soundbench cache prune --damaged removes them")
    assert invoke(["cache", "prune", "--damaged"]) == 0
    assert f"{line}; 0.0 MB removed\n" in capsys.readouterr().out
    again = made(root)
    assert again.digest == digest
    assert (again.path / "shard-00000.i16").read_bytes() != bytes(data)
    assert invoke(["cache", "check"]) == 0


def test_what_older_versions_have_left_is_removed_and_nothing_else(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name for path in root.iterdir()}
    assert invoke(["cache", "prune"]) == 0
    assert before - {path.name for path in root.iterdir()} == {"0123456789abcdef01234567"}
    out, err = capsys.readouterr()
    assert out == f"{root / '0123456789abcdef01234567'}: 2.0 MB removed\n"
    assert err == f"2.0 MB removed from {root}\n"


def test_folders_of_others_that_are_named_alike_stay(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("sound-effects", "tmp-thesis", "features-of-birds", "0123456789abcdef0123456f")
    for name in names:
        (root / name).mkdir()
        (root / name / "meta.toml").write_text("of somebody else")
    assert invoke(["cache", "list"]) == 0
    listed = capsys.readouterr().out
    assert invoke(["cache", "prune", "--unused", "0"]) == 0
    for name in names:
        assert (root / name / "meta.toml").exists()
        assert name not in listed


@pytest.mark.parametrize("looks", [0, 1])
def test_a_lock_that_is_removed_meanwhile_is_no_error(root: Path, monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    place = made(root).path / "piece-0.lock"
    place.touch()
    real, seen = os.stat, []

    def stat(path, **options):
        if os.fspath(path) == str(place):
            seen.append(path)
            if len(seen) > looks:
                place.unlink(missing_ok=True)
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert invoke(["cache", "list"]) == 0
    assert seen


def test_what_was_not_used_for_long_is_removed_where_that_is_asked_for(root: Path) -> None:
    (fast,) = (path for path in root.glob("sound-*") if path == made(root).path)
    (slow,) = (path for path in root.glob("sound-*") if path != fast)
    then = time.time() - 10 * DAY
    for path in (fast / "about.toml", slow / "about.toml", *(root / FEATURES).iterdir(), root / FEATURES):
        os.utime(path, (then, then))
    made(root)  # a use
    assert invoke(["cache", "prune", "--unused", "30"]) == 0
    assert slow.exists()
    assert invoke(["cache", "prune", "--unused", "9"]) == 0
    assert (fast.exists(), slow.exists(), (root / FEATURES).exists()) == (True, False, False)
    assert (root / "mine" / "notes.txt").exists()


def test_what_a_process_writes_stays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = made(root).path
    samples = pool / "shard-00000.i16"
    with lock(samples.with_suffix(".lock")), Writer(samples):
        assert invoke(["cache", "prune", "--unused", "0"]) == 0
    assert f"{pool}: a process is writing to it; it stays\n" in capsys.readouterr().out
    assert pool.exists()


def test_what_a_process_reads_sound_into_stays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = Pool(made(root).path)
    with pool.piece("0", wait=False):
        assert invoke(["cache", "prune", "--unused", "0"]) == 0
        assert f"{pool.folder}: a process is writing to it; it stays\n" in capsys.readouterr().out
        assert pool.folder.exists()
    assert invoke(["cache", "prune", "--unused", "0"]) == 0
    assert not pool.folder.exists()
