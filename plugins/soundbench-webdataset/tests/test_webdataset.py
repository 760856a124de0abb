"""Tar shards as a dataset: what they hold, and what is said of those that are not as they should be."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from soundbench_webdataset import WebDataset

from soundbench import audio
from soundbench.contracts import Clip
from soundbench.errors import DataError, MissingDataError, SoundError
from soundbench.testing import check_component


def sound(seed: int = 0, count: int = 800, form: str = "WAV") -> bytes:
    made = io.BytesIO()
    noise = 0.1 * np.random.default_rng(seed).standard_normal(count)
    soundfile.write(made, noise, 8000, format=form)
    return made.getvalue()


def write(path: Path | io.BytesIO, members: Mapping[str, Any]) -> None:
    """A tar file; a dict is written as JSON, a `TarInfo` as it is."""
    where = {"fileobj": path} if isinstance(path, io.BytesIO) else {"name": path}
    with tarfile.open(mode="w", **where) as tar:
        for name, given in members.items():
            about = given if isinstance(given, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = json.dumps(given).encode() if isinstance(given, dict) else given
            data = b"" if isinstance(data, tarfile.TarInfo) else data
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.type, about.linkname = kind, target
    return about


GOOD: Mapping[str, Any] = {"1.wav": sound(1), "1.json": {"label": "dog"}, "2.wav": sound(2), "2.json": {"label": "cat"}}


def said(make: Callable[[], Any]) -> str:
    """The one line that is said."""
    with pytest.raises(DataError) as error:
        make()
    text = str(error.value)
    assert "\n" not in text
    return text


def test_the_contract() -> None:
    check_component("dataset", WebDataset)


# What shards hold -----------------------------------------------------------------------------------------------------


def test_clips_are_the_sounds_of_each_shard_in_order(tmp_path: Path) -> None:
    write(
        tmp_path / "b.tar", {"x/2.json": {"label": "dog", "fold": 2, "group": 7}, "x/2.wav": sound(), "note.txt": b"?"}
    )
    write(
        tmp_path / "a.tar", {"./9.flac": sound(form="FLAC"), "./9.json": {"label": "cat", "site": "north", "db": -3.5}}
    )
    dataset = WebDataset(root=tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert list(dataset.clips()) == [
        Clip(f"{tmp_path}/a.tar/9.flac", ("cat",), extra={"site": "north", "db": "-3.5"}),
        Clip(f"{tmp_path}/b.tar/x/2.wav", ("dog",), fold=2, group="7"),
    ]
    assert list(dataset.shards()) == [f"{tmp_path}/a.tar", f"{tmp_path}/b.tar"]


def test_several_labels_and_the_keys_that_options_name(tmp_path: Path) -> None:
    about = {"tags": ["dog", "cat"], "place": "pond", "group": "no"}
    write(tmp_path / "a.tar", {"1.wav": sound(), "1.json": about, "2.wav": sound(), "2.json": about | {"tags": "dog"}})
    dataset = WebDataset(root=tmp_path, label="tags", multilabel=True, group="place")
    assert [(clip.labels, clip.group) for clip in dataset.clips()] == [(("dog", "cat"), "pond"), (("dog",), "pond")]


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_sound_is_that_of_the_file(tmp_path: Path, form: str) -> None:
    data = sound(3, 5000, form)
    (tmp_path / "alone").write_bytes(data)
    write(tmp_path / "a.tar", {**GOOD, f"3.{form.lower()}": data, "3.json": {"label": "dog"}})
    dataset = WebDataset(root=tmp_path)
    clip = list(dataset.clips())[2]
    wanted, rate = audio.decode(tmp_path / "alone")
    for found in (dataset.read(clip), *dataset.read_many([clip])):
        assert not isinstance(found, SoundError)
        np.testing.assert_array_equal(found[0], wanted)
        assert found[1] == rate


def test_shards_by_patterns(tmp_path: Path) -> None:
    for name in ("a-00.tar", "a-01.tar", "a-02.tar", "b.tar"):
        write(tmp_path / name, GOOD)

    def names(*patterns: str) -> list[str]:
        return [Path(name).name for name in WebDataset(root=tmp_path, shards=list(patterns)).shards()]

    assert names("a-{02..01}.tar") == ["a-02.tar", "a-01.tar"]
    assert names("{b,a-00}.tar", "a*.tar") == ["b.tar", "a-00.tar", "a-01.tar", "a-02.tar"]
    assert names(str(tmp_path / "b.tar"), "a-0?.tar")[0] == "b.tar"
    with pytest.raises(MissingDataError, match=r"/a-03.tar: no such file$"):
        names("a-{02..03}.tar")
    with pytest.raises(MissingDataError, match=r"/c\*.tar: there are no such files$"):
        names("c*.tar")


def test_one_damaged_sound_is_not_the_loss_of_the_others(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", {"0.wav": b"RIFF", "0.json": {"label": "dog"}, **GOOD})
    dataset = WebDataset(root=tmp_path)
    bad, *good = dataset.read_many(list(dataset.clips()))
    assert isinstance(bad, SoundError)
    assert str(bad).startswith(f"{tmp_path}/a.tar/0.wav: ")
    assert [isinstance(found, SoundError) or len(found[0]) for found in good] == [800, 800]


# What is refused ------------------------------------------------------------------------------------------------------

LABEL = {"label": "dog"}


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"../1.wav": sound()}, "the name '../1.wav' leads out of the shard"),
        ({"a/../../1.wav": sound()}, "the name 'a/../../1.wav' leads out of the shard"),
        ({"/etc/1.wav": sound()}, "the name '/etc/1.wav' leads out of the shard"),
        ({"1.wav": special("1.wav", tarfile.SYMTYPE, "/etc/passwd")}, "'1.wav' is a link or a device"),
        ({"1.wav": special("1.wav", tarfile.LNKTYPE, "2.wav")}, "'1.wav' is a link or a device"),
        ({"1.wav": special("1.wav", tarfile.FIFOTYPE)}, "'1.wav' is a link or a device"),
        ({**GOOD, "3.wav": sound()}, "3.wav has no JSON: there is no member 3.json with its label"),
        ({**GOOD, "3.json": LABEL}, "3.json is of no sound"),
        ({**GOOD, "1.flac": sound()}, "'1.wav' and '1.flac' are two sounds of one stem"),
        ({"1.wav": sound(), "1.json": {"name": "x"}}, "1.json: has no 'label', which dataset.label names; it has name"),
        ({"1.wav": sound(), "1.json": b"{'label'"}, "1.json: not JSON: Expecting property name"),
        ({"1.wav": sound(), "1.json": b"\xff\xfe\xff"}, "1.json: not JSON: "),
        ({"1.wav": sound(), "1.json": b"[" * 100_000}, "1.json: not JSON: nested too deeply"),
        ({"1.wav": sound(), "1.json": b'"dog"'}, "1.json: must be a JSON object"),
        (
            {"1.wav": sound(), "1.json": {"label": ["dog"]}},
            "must be a text, is \"['dog']\"; set dataset.multilabel = true",
        ),
        ({"1.wav": sound(), "1.json": {"label": ""}}, "'label' must be a text"),
        ({"1.wav": sound(), "1.json": {"label": True}}, "'label' must be a text"),
    ],
)
def test_a_shard_that_holds_what_it_should_not(tmp_path: Path, members: Mapping[str, Any], reason: str) -> None:
    write(tmp_path / "a.tar", members)
    text = said(lambda: list(WebDataset(root=tmp_path).clips()))
    assert text.startswith(f"{tmp_path}/a.tar: ")
    assert reason in text


def test_two_members_of_one_name(tmp_path: Path) -> None:
    for name in ("1.wav", "1.json"):
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            for own in (*GOOD, name):
                data = json.dumps(GOOD[own]).encode() if own.endswith("json") else GOOD[own]
                about = tarfile.TarInfo(own)
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))
        text = said(lambda: list(WebDataset(root=tmp_path).clips()))
        assert text == f"{tmp_path}/a.tar: two members are named {name!r}; the stem of a name is its clip"


def test_a_shard_that_is_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    """Also between two members, and inside of a header: `tarfile` takes both for the end."""
    write(tmp_path / "whole.tar", GOOD)
    data = (tmp_path / "whole.tar").read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as tar:
        ends = [member.offset_data + -(-member.size // 512) * 512 for member in tar]
    for size in (0, 100, 700, len(data) // 8, *ends, *(end - 1 for end in ends), *(end + 256 for end in ends)):
        (tmp_path / "a.tar").write_bytes(data[:size])
        text = said(lambda: list(WebDataset(root=tmp_path, shards=["a.tar"]).clips()))
        assert text == f"{tmp_path}/a.tar: cannot be read as a tar file: it is cut off; copy it again", size


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", GOOD)
    data = bytearray((tmp_path / "a.tar").read_bytes())
    with tarfile.open(tmp_path / "a.tar") as tar:
        third = tar.getmembers()[2].offset
    data[third + 10] ^= 1
    (tmp_path / "a.tar").write_bytes(data)
    assert "cannot be read as a tar file: bad checksum" in said(lambda: list(WebDataset(root=tmp_path).clips()))


def header(kind: bytes, size: int, data: bytes = b"") -> bytes:
    """A header of a kind, whose size may be any, and what follows it."""
    about = tarfile.TarInfo("2.txt")
    about.type, about.size = kind, size
    return about.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


NEGATIVE, DAMAGED = r"(the size of '2\.txt' is -512|invalid offset)", "(a header in it is damaged|.*invalid header.*)"


def further(text: bytes) -> bytes:
    return header(tarfile.XHDTYPE, len(text), text)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (header(tarfile.REGTYPE, -512), NEGATIVE),
        (further(b"13 size=-512\n") + header(tarfile.REGTYPE, 0), NEGATIVE),
        (header(tarfile.GNUTYPE_LONGNAME, 1 << 30), "a header has 1,073,741,824 bytes; one has at most 4,194,304"),
        (header(tarfile.XHDTYPE, 1 << 30), "a header has 1,073,741,824 bytes; one has at most 4,194,304"),
        (header(tarfile.GNUTYPE_LONGNAME, 2, b"a\0") * 2000, DAMAGED),
        (header(tarfile.REGTYPE, 1 << 70), DAMAGED),
        (further(b"22 GNU.sparse.map=a,b\n") + header(tarfile.REGTYPE, 0), DAMAGED),
        (further(b"20 hdrcharset=\xff\xff\xff\xff\n") + header(tarfile.REGTYPE, 0), DAMAGED),
    ],
)
def test_headers_that_lead_tarfile_astray(tmp_path: Path, headers: bytes, reason: str) -> None:
    """Round in a circle, into memory without end, or to an error that is not of tar files."""
    write(tmp_path / "a.tar", GOOD)
    data = (tmp_path / "a.tar").read_bytes().rstrip(b"\0")
    (tmp_path / "a.tar").write_bytes(data + bytes(-len(data) % 512) + headers + bytes(10240))
    text = said(lambda: list(WebDataset(root=tmp_path).clips()))
    assert re.fullmatch(re.escape(f"{tmp_path}/a.tar: cannot be read as a tar file: ") + reason, text)


def test_what_is_no_tar_file(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"sound" * 1000)
    assert "a.tar: cannot be read as a tar file: " in said(lambda: WebDataset(root=tmp_path).classes)
    write(tmp_path / "b.tar", GOOD)
    (tmp_path / "a.tar").write_bytes(gzip.compress((tmp_path / "b.tar").read_bytes()))
    assert "a.tar: compressed by gzip" in said(lambda: WebDataset(root=tmp_path).classes)


def test_a_shard_that_vanishes_or_changes_after_it_was_looked_through(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", GOOD)
    dataset = WebDataset(root=tmp_path)
    clips = list(dataset.clips())
    write(tmp_path / "a.tar", {"0.wav": sound(), "0.json": LABEL, **GOOD})
    assert said(lambda: list(dataset.read_many(clips))) == (
        f"{tmp_path}/a.tar: it has changed since it was looked through; start again"
    )
    (tmp_path / "a.tar").unlink()
    assert said(lambda: dataset.read(clips[0])) == f"{tmp_path}/a.tar: no such file"


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"shards": []}, "shards must "), ({"shards": [""]}, "shards must "), ({"label": ""}, "label ")],
)
def test_options_without_a_meaning(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        WebDataset(**options)
