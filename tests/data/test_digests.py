"""Digests of files: no flipped bit goes unseen, and any program reads a sealed archive."""

from __future__ import annotations

import hashlib
import json
import random
import zipfile
from pathlib import Path

import pytest

from soundbench.data import digests
from soundbench.errors import RunError


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_a_digest_is_that_of_blake2b(tmp_path: Path) -> None:
    data = random.Random(0).randbytes(3_000_000)
    (tmp_path / "a").write_bytes(data)
    wanted = hashlib.blake2b(data, digest_size=16).hexdigest()
    assert (digests.of_file(tmp_path / "a"), digests.of_bytes(data)) == (wanted, wanted)


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one.txt", "of it" * 20)
    assert digests.is_sealed(path) is None
    digests.seal_archive(path)
    return path


def test_a_sealed_archive_is_still_an_archive(sealed: Path) -> None:
    assert digests.is_sealed(sealed) is True
    with zipfile.ZipFile(sealed) as archive:
        assert archive.testzip() is None
        assert archive.read("one.txt") == b"of it" * 20
        assert archive.comment.startswith(b"soundbench BLAKE2b ")


def test_every_bit_of_a_sealed_archive_is_under_its_seal(sealed: Path) -> None:
    for bit in range(8 * sealed.stat().st_size):
        flip(sealed, bit)
        assert not digests.is_sealed(sealed), bit
        flip(sealed, bit)
    assert digests.is_sealed(sealed) is True


def test_what_is_missing_or_other_has_changed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    table = digests.table_of(tmp_path, ["a", "b", "c", "none"])
    assert sorted(table) == ["a", "b", "c"]
    (tmp_path / "b").write_text("B")
    (tmp_path / "c").unlink()
    assert digests.changed(tmp_path, table) == ["b", "c"]
    assert digests.changed(tmp_path, {"a": ["other", *table["a"]]}) == []
    with pytest.raises(RunError) as caught:
        digests.refuse_changed(tmp_path, ["b", "c"])
    assert str(caught.value) == (
        f"{tmp_path / 'b'}, {tmp_path / 'c'}: were changed or removed since soundbench wrote them, by damage or by "
        "hand; put them back, or accept them with --accept-changes (accept_changes=True)"
    )


@pytest.mark.parametrize("content", ["", "[]", '{"a": "b"}', "[" * 100_000, "\0"])
def test_a_table_that_is_damaged_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "digests.json"
    assert digests.read_table(path) is None
    path.write_text(content)
    with pytest.raises(RunError) as caught:
        digests.read_table(path)
    assert str(caught.value) == f"{path}: damaged"


def test_a_table_is_json(tmp_path: Path) -> None:
    digests.write_table(tmp_path / "t.json", {"a": ["b", "c"]})
    assert json.loads((tmp_path / "t.json").read_text()) == {"a": ["b", "c"]}
    assert digests.read_table(tmp_path / "t.json") == {"a": ["b", "c"]}
