"""Requests that no client should send to a server: each kind with what it gets."""

from __future__ import annotations

import http.client
import io
import itertools
import json
import socket
import struct
from collections.abc import Callable, Iterable

import numpy as np
import soundfile
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

__all__ = ["KINDS"]

Kind = Callable[[int, bytes], str]
MB = bytes(1 << 20)


def flac(seconds: float) -> bytes:
    """Silence, which takes few bytes."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 8000, 1, "PCM_16", format="FLAC") as out:
        for _ in range(round(seconds / 100)):
            out.write(np.zeros(800_000, np.int16))
    return file.getvalue()


BOMB = flac(36_000)


def post(*headers: str, path: str = "/predict") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def exchange(port: int, parts: Iterable[bytes]) -> str:
    """Send as much as the server takes, and return the status that it answers with, and why."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        try:
            for part in parts:
                link.sendall(part)
        except OSError:
            pass  # it has answered and closed
        return answered(link)


def answered(link: socket.socket) -> str:
    answer = http.client.HTTPResponse(link)
    try:
        answer.begin()
    except (http.client.HTTPException, ConnectionError):
        return "closed without a word"
    return str(answer.status)


def raw(*parts: Iterable[bytes]) -> Kind:
    return lambda port, _good: exchange(port, itertools.chain(*parts))


def body(make: Callable[[bytes], bytes], *headers: str, path: str = "/predict") -> Kind:
    """A request whose body is made from a good sound."""

    def run(port: int, good: bytes) -> str:
        made = make(good)
        return exchange(port, [post(f"Content-Length: {len(made)}", *headers, path=path), made])

    return run


def slow(first: bytes, then: Callable[[bytes], bytes]) -> Kind:
    """A sender of ten bytes a second."""

    def run(port: int, good: bytes) -> str:
        rest = then(good)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
            link.sendall(first)
            link.settimeout(1)
            for start in range(0, 600, 10):
                try:
                    link.sendall(rest[start : start + 10])
                    return answered(link)
                except TimeoutError:
                    continue
                except OSError:
                    return "closed without a word"
        return "held for a minute"

    return run


def cut(reset: bool, share: float) -> Kind:
    """A socket that is closed, or reset, in the middle of a request, or before its answer."""

    def run(port: int, good: bytes) -> str:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
            link.sendall(post(f"Content-Length: {len(good)}") + good[: round(share * len(good))])
            if reset:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return "nobody waits for one"

    return run


def stream(message: bytes | str | None, query: str = "") -> Kind:
    """A message to a WebSocket, which the server may close while it is sent; None cuts it."""

    def run(port: int, _good: bytes) -> str:
        try:
            with connect(f"ws://127.0.0.1:{port}/stream{query}") as link:
                if message is None:
                    link.send(MB[:4000])
                    link.socket.close()
                    return "nobody waits for one"
                lines = []
                try:
                    link.send(message)
                    while True:
                        lines.append(json.loads(link.recv(timeout=60)))
                except ConnectionClosed:
                    return f"closed with {link.close_code}"
        except InvalidStatus as error:
            return str(error.response.status_code)

    return run


def half_shut(port: int, good: bytes) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        link.sendall(post(f"Content-Length: {len(good)}") + good[:1000])
        link.shutdown(socket.SHUT_WR)
        return answered(link)


def form(*parts: bytes) -> bytes:
    inside = b"".join(b"--a\r\n" + part + b"\r\n" for part in parts)
    return inside + b"--a--\r\n"


FILE = b'Content-Disposition: form-data; name="file"; filename="x.wav"\r\n\r\n'
FIELD = b'Content-Disposition: form-data; name="x"\r\n\r\n1'
FORM = "Content-Type: multipart/form-data; boundary=a"
CHUNK = b"%x\r\n%s\r\n" % (len(MB), MB)

KINDS: dict[str, Kind] = {
    "1 GB, stated": raw([post("Content-Length: 1000000000")], [MB] * 954),
    "1 GB, not stated": raw([post("Transfer-Encoding: chunked")], [CHUNK] * 954),
    "no body": body(lambda _: b""),
    "a bomb: ten hours of silence in a FLAC": body(lambda _: BOMB),
    "a bomb: a WAV that states 4 GB": body(lambda _: b"RIFF\xff\xff\xff\xffWAVEfmt " + bytes(4000)),
    "a bomb: a form of 10,000 fields": body(lambda _: form(*[FIELD] * 10_000), FORM),
    "a bomb: a field of 10 MB": body(lambda _: form(FIELD + bytes(10_000_000)), FORM),
    "a bomb: 1 MB of headers": body(lambda good: good, f"X: {'x' * 1_000_000}"),
    "a bomb: windows of 30 s, every 10 ms of a minute": body(
        lambda _: flac(100), path="/events?windows=true&window=30&hop=0.01"
    ),
    "half of a sound": body(lambda good: good[: len(good) // 2]),
    "half of a FLAC": body(lambda _: BOMB[: len(BOMB) // 2]),
    "half a body, then nothing more": half_shut,
    "a slow head": slow(b"POST /predict HTTP/1.1\r\n", lambda _: b"X-A: " + b"x" * 595),
    "a slow body": slow(post("Content-Length: 600"), lambda good: good),
    "text": body(lambda _: b"hello"),
    "JSON": body(lambda _: b'{"sound": 1}', "Content-Type: application/json"),
    "noise": body(lambda _: np.random.default_rng(0).bytes(100_000), "Content-Type: audio/wav"),
    "a form without a boundary": body(lambda good: good, "Content-Type: multipart/form-data"),
    "a form of two files": body(lambda good: form(FILE + good, FILE + good), FORM),
    "a form that is cut": body(lambda good: form(FILE + good)[:-300], FORM),
    "a length that is no number": body(lambda good: good, "Content-Length: many"),
    "no HTTP": raw([b"\x16\x03\x01\x02\x00" + bytes(200)]),
    "another address": body(lambda good: good, path="/../../etc/passwd"),
    "an unknown parameter": body(lambda good: good, path="/predict?windw=1"),
    "a window of 1e9 s": body(lambda good: good, path="/predict?window=1e9"),
    "a socket closed in the middle": cut(False, 0.5),
    "a socket reset in the middle": cut(True, 0.5),
    "a socket reset before its answer": cut(True, 1),
    "a stream of NaN": stream(np.full(1000, np.nan, "<f4").tobytes()),
    "a stream of text": stream("hello"),
    "a stream's message of 2 MB": stream(MB * 2),
    "a stream at 1 Hz": stream(b"", "?rate=1"),
    "a stream that brings nothing": stream(b""),
    "a stream that is cut": stream(None),
}
