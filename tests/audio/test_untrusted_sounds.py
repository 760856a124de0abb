"""Sound files that somebody else made: they are files, nothing else is opened, and none hangs or ends the process."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.fuzzing import SECONDS, run
from helpers.sound_files import by_pyav, files, noise

from soundbench import audio
from soundbench.errors import SoundError


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """A read that waits for something ends the test."""
    signal.alarm(60)
    yield
    signal.alarm(0)


def refused(path: Path | str) -> str:
    found = set()
    for read in (audio.decode, audio.info, lambda source: list(audio.blocks(source, 16000))):
        with pytest.raises(SoundError) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        found.add(str(caught.value).removeprefix(f"{path}: "))
    assert len(found) == 1
    return found.pop()


# Mutations ------------------------------------------------------------------------------------------------------------


def fuzz(numbers: range) -> None:
    results = run(numbers)
    assert [result["number"] for result in results] == list(numbers)
    assert [result for result in results if "crash" in result] == []
    assert max(result["seconds"] for result in results) < SECONDS
    # Both happen: the mutations are neither all harmless nor all fatal.
    assert 0.1 < np.mean(["error" in result for result in results]) < 0.9


def test_a_mutated_file_gives_sound_or_one_error() -> None:
    fuzz(range(200))


@pytest.mark.slow
def test_two_thousand_mutated_files_give_sound_or_one_error() -> None:
    for first in range(200, 2200, 250):
        fuzz(range(first, first + 250))


@pytest.mark.parametrize("size", [0, 1, 23, 24])
def test_a_chunk_that_does_not_move_the_reader_on_is_the_end(tmp_path: Path, size: int) -> None:
    head = bytes.fromhex("72696666 2e91cf11 a5d628db 04c10000")
    wave = bytes.fromhex("77617665 f3acd311 8cd100c0 4f8edb8a")
    path = tmp_path / "a.w64"
    path.write_bytes(head + struct.pack("<Q", 200) + wave + (bytes(16) + struct.pack("<Q", size)) * 10)
    if size < 24:
        wanted = f"damaged W64 file: the chunk at byte 40 states a length of {size} bytes; copy or convert it again"
        assert refused(path) == wanted
    else:
        assert refused(path) == "damaged W64 file: it has no data chunk; copy or convert it again"
    path.write_bytes(head + struct.pack("<Q", 200) + wave + (bytes(16) + struct.pack("<Q", 24)) * 100_000)
    assert refused(path) == "damaged W64 file: it has more than 10,000 chunks; copy or convert it again"


@pytest.mark.parametrize("name", ["16.wav", "rf64.wav", "a.w64", "a.aiff", "a.caf", "a.au"])
def test_sizes_of_zero_and_below_end_every_reader(tmp_path: Path, name: str) -> None:
    """Every four and every eight bytes of a header are zero, minus one and minus eight, in turn."""
    data = files(0.6)[name]
    path = tmp_path / name
    for width, order in ((4, "little"), (4, "big"), (8, "little"), (8, "big")):
        for place in range(4, 112 - width, 4):
            for value in (0, -1, -8):
                path.write_bytes(data[:place] + value.to_bytes(width, order, signed=True) + data[place + width :])
                for read in (audio.info, audio.decode):
                    with contextlib.suppress(SoundError):
                        read(path)


# Only regular files ---------------------------------------------------------------------------------------------------


def test_a_pipe_a_socket_and_a_device_are_no_sound_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.wav")
    assert refused(tmp_path / "x.wav") == "cannot be opened: this is a named pipe, not a file"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "y.wav"))
        assert refused(tmp_path / "y.wav") == "cannot be opened: this is a socket, not a file"
    (tmp_path / "z.wav").symlink_to("/dev/zero")
    assert refused(tmp_path / "z.wav") == "cannot be opened: this is a device, not a file"


def test_a_file_called_minus_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("16.wav", "a.m4a"):
        if name in files():
            Path("-").write_bytes(files()[name])
            assert len(audio.decode("-")[0]) >= 32000


def test_a_name_beside_a_file_is_not_opened(tmp_path: Path) -> None:
    """libsndfile looks for a resource fork, and takes `.au` and `.gsm` files of any content for samples."""
    for name in ("a.wav", "a.au", "a.snd", "a.gsm", "a.vox", "a.raw"):
        os.mkfifo(tmp_path / f"._{name}")
        (tmp_path / name).write_bytes(b"no sound at all\n" * 300)
        assert refused(tmp_path / name).startswith("is not a sound file of a known format")


# Paths are files, never addresses -------------------------------------------------------------------------------------


class Counting(http.server.BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine, and what it was asked."""
    asked: list[str] = []
    handler = type("Handler", (Counting,), {"asked": asked})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{serving.server_port}", asked
        serving.shutdown()


NAMES = [
    "http:/{host}/x.m4a",
    "https:/{host}/x.m4a",
    "12:30:05.m4a",
    "concat:a.m4a|b.m4a",
    "subfile,,start,0,end,0,,:x.m4a",
    "file:x.m4a",
    "data:audio;base64,x.m4a",
    "pipe:0",
    "cache:http:/{host}/x.m4a",
    "crypto+http:/{host}/x.m4a",
    "async:x.m4a",
    "tcp:/{host}",
    "%d.m4a",
    "-i.m4a",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_that_looks_like_an_address_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: tuple[str, list[str]], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    host, asked = server
    for kind in ("a.m4a", "16.wav", "a.mka"):
        if kind not in files():
            continue
        path = Path(name.format(host=host))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files()[kind])
        for spelled in (path, str(path), name.format(host=host)):
            assert len(audio.decode(spelled)[0]) >= 32000
            assert len(np.concatenate(list(audio.blocks(spelled, 16000)))) >= 32000
            assert audio.info(spelled).seconds == pytest.approx(2, abs=0.1)
    assert refused(f"http://{host}/missing.m4a") == "no such file"
    assert asked == []


SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n"
LISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
    "m3u": "#EXTM3U\n{target}\n",
    "pls": "[playlist]\nFile1={target}\n",
    "mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="audio/mp4">'
    '<Representation id="0" bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "sdp": SDP,
    "asx": "[Reference]\r\nRef1={target}\r\n",
    "rtsp": "RTSPtext\nrtsp://{host}/x\n",
    "smil": '<smil><body><audio src="{target}"/></body></smil>',
    "imf": '<?xml version="1.0"?><CompositionPlaylist>{target}</CompositionPlaylist>',
}


@pytest.mark.parametrize("suffix", ["m4a", "wav", "webm", "wma", ""])
@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_other_files_opens_none(
    tmp_path: Path, server: tuple[str, list[str]], kind: str, suffix: str
) -> None:
    """A file that would be opened is a named pipe: the test would not end."""
    host, asked = server
    os.mkfifo(tmp_path / "secret.m4a")
    path = tmp_path / f"list.{suffix or kind}"
    for target in (f"http://{host}/x.m4a", str(tmp_path / "secret.m4a"), "secret.m4a"):
        text = LISTS[kind].format(target=target, host=host, port=host.rpartition(":")[2])
        for before in ("", "\n", "ID3\x04\0\0\0\0\0\0", "RIFF\0\0\0\0"):
            path.write_bytes(before.encode() + text.encode())
            refused(path)
    assert asked == []


def test_a_container_that_names_another_file_opens_none(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    """An MP4 whose data reference is an address, and one of a file beside it."""
    host, asked = server
    data = by_pyav(noise(16000), "aac", "mp4", "mono")
    place = data.index(b"url ") - 4
    os.mkfifo(tmp_path / "secret.m4a")
    for target in (f"http://{host}/x.m4a", str(tmp_path / "secret.m4a")):
        entry = struct.pack(">I4sI", 12 + len(target) + 1, b"url ", 0) + target.encode() + b"\0"
        grown = bytearray(data[:place] + entry + data[place + 12 :])
        for name in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
            at = data.index(name) - 4
            size = int.from_bytes(grown[at : at + 4], "big") + len(entry) - 12
            grown[at : at + 4] = struct.pack(">I", size)
        (tmp_path / "a.m4a").write_bytes(grown)
        with contextlib.suppress(SoundError):
            audio.decode(tmp_path / "a.m4a")
    assert asked == []


def test_a_name_that_is_no_utf8_is_a_name(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9\n.wav"
    soundfile.write(name, noise(1000), 16000, format="WAV")
    assert len(audio.decode(os.fsdecode(name))[0]) == 1000
