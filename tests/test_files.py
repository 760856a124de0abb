from __future__ import annotations

import errno
import os
import random
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from soundbench import files
from soundbench.errors import RunError

LABELS = [
    "plain",
    "with, comma",
    'a "quoted" one',
    "two\nlines",
    "cr\rlf\r\n",
    "猫 叫",
    "🎸🎶",
    " spaces ",
    "",
    "a|b\\c",
]


def killed(script: str, *arguments: object, after: float) -> None:
    """Run a script in a process of its own, and kill it that many seconds after it said that it goes."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"going\n"
    time.sleep(after)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


# Reading


def test_only_regular_files_are_opened_and_nothing_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/dev/zero")
    there = os.getcwd()
    os.chdir(tmp_path)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("socket")
            for name, kind in {"pipe": "named pipe", "folder": "folder", "link": "device", "socket": "socket"}.items():
                with pytest.raises(OSError, match=f"this is a {kind}, not a file"):
                    files.open_regular(tmp_path / name)
    finally:
        os.chdir(there)


def test_a_file_larger_than_its_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"12345")

    assert files.read_bytes(path, 5) == b"12345"
    with pytest.raises(OSError, match=r"more than the 0\.0 MB"):
        files.read_bytes(path, 4)


def test_an_archive_that_unpacks_to_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    for kind, name in ((zipfile.ZIP_DEFLATED, "bomb.pt"), (zipfile.ZIP_STORED, "plain.pt")):
        with zipfile.ZipFile(tmp_path / name, "w", kind) as archive:
            archive.writestr("archive/data/0", bytes(1 << 20))
    (tmp_path / "other.pt").write_bytes(b"\x80\x02")
    with pytest.raises(OSError, match="has compressed parts"):
        files.refuse_compressed(tmp_path / "bomb.pt")
    files.refuse_compressed(tmp_path / "plain.pt")
    files.refuse_compressed(tmp_path / "other.pt")


# Whole files


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "b" / "text.txt", "猫\n")

    assert (tmp_path / "a" / "b" / "text.txt").read_bytes() == "猫\n".encode()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["text.txt"]


def test_a_body_that_raises_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_text(path, "old")

    def fail(beside: Path) -> None:
        beside.write_text("new, half")
        raise KeyError

    with pytest.raises(KeyError), files.atomic(path) as beside:
        fail(beside)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_reader_has_open_stays_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_text(path, "old")
    with open(path) as reader:
        files.write_text(path, "new and longer")
        assert reader.read() == "old"
    assert path.read_text() == "new and longer"


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from soundbench import files\n"
        "path, number = Path(sys.argv[1]), 0\n"
        "print('going', flush=True)\n"
        "while True:\n"
        "    files.write_bytes(path, bytes([number % 256]) * (1 << 20)); number += 1"
    )
    path = tmp_path / "file"
    files.write_bytes(path, bytes(1 << 20))
    for attempt in range(6):
        killed(script, path, after=0.02 + 0.023 * attempt)
        data = path.read_bytes()
        assert data == data[:1] * (1 << 20)
    files.write_text(path, "and on")

    assert path.read_text() == "and on"
    assert list(tmp_path.iterdir()) == [path]


def test_text_without_utf8_is_written_so_that_it_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    files.write_rows(path, ["path"], [[b"caf\xe9.wav".decode("utf-8", "surrogateescape")]])

    assert files.read_rows(path) == [{"path": "caf\\udce9.wav"}]


def test_json_comes_back_and_nan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    files.write_json(path, {"猫": [1, 0.1, None, "🎸"]})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"value": float("nan")})

    assert files.read_json(path) == {"猫": [1, 0.1, None, "🎸"]}
    assert "猫" in path.read_text(encoding="utf-8")


def test_json_that_is_missing_or_damaged_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    with pytest.raises(RunError) as missing:
        files.read_json(path)
    path.write_text('{"a": 1')
    with pytest.raises(RunError) as damaged:
        files.read_json(path)

    assert str(missing.value) == f"{path}: missing"
    assert str(damaged.value) == f"{path}: damaged: Expecting ',' delimiter: line 1 column 8 (char 7)"


# Tables


def test_cells_of_any_text_come_back(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    files.write_rows(path, LABELS, [LABELS, LABELS[::-1]])
    columns, rows = files.read_table(path)

    assert columns == LABELS
    assert list(rows) == [LABELS, LABELS[::-1]]
    assert path.read_bytes().endswith(b"plain\n")


def test_numbers_and_none_are_written_plainly(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    files.write_rows(path, ["a", "b", "c"], [[1, 0.1, None]])

    assert path.read_bytes() == b"a,b,c\n1,0.1,\n"


def test_a_missing_table_is_empty(tmp_path: Path) -> None:
    assert files.read_rows(tmp_path / "none.csv") == []


def test_columns_grow_with_a_row_that_has_more_and_a_row_with_less_leaves_them_empty(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    files.append_row(path, {"epoch": 1, "loss": 0.5})
    files.append_row(path, {"epoch": 2, "accuracy": 0.25, "loss": 0.4})
    files.append_row(path, {"epoch": 3})

    assert path.read_text() == "epoch,loss,accuracy\n1,0.5,\n2,0.4,0.25\n3,,\n"


def test_a_table_torn_at_any_byte_keeps_its_whole_rows_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rows = [{"number": str(number), 'la,"b\nel': label} for number, label in enumerate(LABELS)]
    ends = []
    for row in rows:
        files.append_row(path, row)
        ends.append(path.stat().st_size)
    data = path.read_bytes()
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = rows[: sum(end <= cut for end in ends)]
        assert files.read_rows(path) == whole, data[:cut]
        files.append_row(path, rows[3])
        assert files.read_rows(path) == [*whole, rows[3]], data[:cut]


def test_zeros_that_a_power_cut_leaves_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    files.append_row(path, {"number": 1})
    with open(path, "ab") as file:
        file.write(bytes(4096))

    assert files.read_rows(path) == [{"number": "1"}]
    files.append_row(path, {"number": 2})
    assert path.read_bytes() == b"number\n1\n2\n"


def test_a_process_killed_while_it_appends_loses_one_row_at_most(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from soundbench import files\n"
        "path = Path(sys.argv[1]); number = len(files.read_rows(path))\n"
        "print('going', flush=True)\n"
        "while True:\n"
        "    files.append_row(path, {'number': number, 'label': 'two\\nlines, \"quoted\"' * 500}); number += 1"
    )
    path = tmp_path / "table.csv"
    kept = 0
    for attempt in range(6):
        killed(script, path, after=0.05 + 0.013 * attempt)
        rows = files.read_rows(path)
        assert [int(row["number"]) for row in rows] == list(range(len(rows)))
        assert all(row["label"] == 'two\nlines, "quoted"' * 500 for row in rows)
        assert len(rows) >= kept
        kept = len(rows)
    assert kept > 6


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1,2\n3\n4,5\n", "damaged: row 3 has 1 cells, its header has 2"),
        (b'a,b\n"x"y,1\n2,3\n', "damaged: ',' expected after '\"'"),
        (b'a,"b"c\n1,2\n', "damaged: ',' expected after '\"'"),
        (b"a\n\xff\xfe\n1\n", "damaged: 'utf-8' codec can't decode byte 0xff in position 2: invalid start byte"),
    ],
)
def test_damage_before_the_last_row_is_reported(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(data)

    with pytest.raises(RunError) as caught:
        files.read_rows(path)
    assert str(caught.value) == f"{path}: {message}"


# Logs


def test_a_log_grows_by_lines_and_a_torn_one_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    files.append_line(path, 'first "')
    files.append_line(path, "second\nwith more\n")
    with open(path, "ab") as file:
        file.write(b"torn \xe7\x8c")
    files.append_line(path, "猫")

    assert path.read_text(encoding="utf-8") == 'first "\nsecond\nwith more\n猫\n'


# What the system refuses


def test_a_path_through_a_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "table.csv", tmp_path / "file" / "deeper" / "table.csv"):
        with pytest.raises(RunError) as caught:
            files.write_text(path, "text")
        assert str(caught.value) == f"{path}: a part of this path is a file, not a folder"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EACCES, "no permission to write here"),
        (errno.EPERM, "no permission to write here"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_refusal_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: str) -> None:
    path = tmp_path / "table.csv"
    files.append_row(path, {"number": 1})
    before = path.read_bytes()

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    messages = []
    for write in (
        lambda: files.append_row(path, {"number": 2}),
        lambda: files.append_row(path, {"number": 2, "more": 3}),
        lambda: files.append_line(path, "text"),
        lambda: files.write_text(path, "text"),
        lambda: files.write_rows(path, ["a"], [[1]]),
    ):
        with pytest.raises(RunError) as caught:
            write()
        messages.append(str(caught.value))
        assert path.read_bytes() == before
    assert set(messages) == {f"{path}: {reason}"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_through_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "report.json"

    with pytest.raises(RunError) as caught:
        files.write_json(path, {})
    assert str(caught.value) in (
        f"{path}: a part of this path is a file, not a folder",
        f"{path}: File exists",
    )


def test_a_full_disk_leaves_the_file_before(small_disk: Path) -> None:
    path = small_disk / "file"
    files.write_bytes(path, b"old")

    with pytest.raises(RunError) as caught:
        files.write_bytes(path, bytes(1 << 20))
    assert str(caught.value) == f"{path}: the disk is full"
    assert path.read_bytes() == b"old"
    assert list(small_disk.iterdir()) == [path]


def test_a_full_disk_is_named_whatever_a_library_says_of_it(small_disk: Path) -> None:
    path = small_disk / "weights"

    def library(place: Path) -> None:
        with pytest.raises(OSError, match="No space left"):
            place.write_bytes(bytes(1 << 20))
        raise RuntimeError("enforce fail at inline_container.cc:603")

    with pytest.raises(RunError) as caught, files.atomic(path) as beside:
        library(beside)
    assert str(caught.value) == f"{path}: the disk is full"


def test_a_library_that_fails_with_room_on_the_disk_is_not_renamed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="something else"), files.atomic(tmp_path / "weights"):
        raise RuntimeError("something else")


def test_a_table_that_fills_the_disk_keeps_its_whole_rows(small_disk: Path) -> None:
    path = small_disk / "history.csv"
    count, message = 0, ""
    while not message:
        try:
            files.append_row(path, {"number": count, "label": "x" * random.Random(count).randint(1, 9000)})
            count += 1
        except RunError as error:
            message = str(error)

    assert message == f"{path}: the disk is full"
    assert [int(row["number"]) for row in files.read_rows(path)] == list(range(count))
    assert path.read_bytes().endswith(b"x\n")


# Links


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("untouched")
    folder = tmp_path / "run"
    folder.mkdir()
    for target in ("precious", "new"):
        for name in (".file.tmp", "log.txt", "table.csv"):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(tmp_path / target)
        files.write_text(folder / "file", "text")  # its temporary file takes the place of the link
        for append in (
            lambda: files.append_line(folder / "log.txt", "line"),
            lambda: files.append_row(folder / "table.csv", {"a": 1}),
            lambda: files.refuse_links(folder),
        ):
            with pytest.raises(RunError, match="this is a link, and nothing is written through links; remove it"):
                append()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "run"]
    assert (tmp_path / "precious").read_text() == "untouched"
    assert (folder / "file").read_text() == "text"


def test_a_file_is_replaced_where_a_link_is(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("untouched")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    files.write_text(tmp_path / "link", "text")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "precious").read_text() == "untouched"


def test_what_a_killed_process_left_is_replaced_whatever_its_permissions(tmp_path: Path) -> None:
    (tmp_path / ".file.tmp").write_text("torn")
    (tmp_path / ".file.tmp").chmod(0o400)
    before = os.umask(0o027)
    try:
        with files.atomic(tmp_path / "file") as beside:
            assert beside.read_bytes() == b""
            beside.unlink()  # a library that makes a file of its own, for its owner alone
            beside.touch(mode=0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_log_with_another_name_gets_a_copy_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "backup").write_text("first\n")
    os.link(tmp_path / "backup", tmp_path / "log.txt")
    files.append_line(tmp_path / "log.txt", "second")
    assert (tmp_path / "log.txt").read_text() == "first\nsecond\n"
    assert (tmp_path / "backup").read_text() == "first\n"


def test_a_folder_with_pipes_or_sockets_is_refused(tmp_path: Path) -> None:
    files.refuse_links(tmp_path / "nothing here")
    (tmp_path / "below").mkdir()
    files.refuse_links(tmp_path)
    os.mkfifo(tmp_path / "below" / "pipe")
    with pytest.raises(RunError) as caught:
        files.refuse_links(tmp_path)
    assert str(caught.value) == f"{tmp_path}/below/pipe: this is a named pipe, not a file; remove it"


def test_a_lock_is_held_by_one_and_is_no_link(tmp_path: Path) -> None:
    with files.lock(tmp_path / "one.lock") as mine, files.lock(tmp_path / "one.lock", wait=False) as other:
        assert (mine, other) == (True, False)
    with files.lock(tmp_path / "one.lock", wait=False) as again:
        assert again
    (tmp_path / "link.lock").symlink_to(tmp_path / "new")
    with pytest.raises(OSError, match="this is a link"), files.lock(tmp_path / "link.lock"):
        pass
    assert not (tmp_path / "new").exists()
