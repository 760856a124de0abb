"""A server in a process of its own, and clients that ask it as they should and as they should not."""

from __future__ import annotations

import http.client
import io
import json
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from helpers.runs import start


class Server:
    """A server; `ask` is one request on a connection of its own."""

    def __init__(self, run: Path, *options: object, **environment: str) -> None:
        self.process = start("serve", run, "--trust-code", "--port", 0, *options, **environment)
        assert self.process.stdout
        self.address = self.process.stdout.readline().strip()
        assert self.address, self.process.communicate()
        self.host, port = self.address.removeprefix("http://").strip("/").rsplit(":", 1)
        self.port = int(port)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        link = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            link.request(method, path, body, dict(headers or {}))
            answer = link.getresponse()
            return answer.status, answer.read()
        finally:
            link.close()

    def json(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        status, text = self.ask(method, path, body, headers)
        assert status == 200, text
        return json.loads(text)

    def send(self, data: bytes, shut: bool = False) -> bytes:
        """Raw bytes on a connection; returns all that comes back until the server closes it."""
        with socket.create_connection((self.host, self.port), timeout=60) as link:
            link.sendall(data)
            if shut:
                link.shutdown(socket.SHUT_WR)
            found = b""
            while data := link.recv(1 << 16):
                found += data
            return found

    def figure(self, line: str) -> float:
        """A figure of `/metrics`, by its name and labels; 0 if there is none yet."""
        rows = self.ask("GET", "/metrics")[1].decode().splitlines()
        return next((float(row.removeprefix(line)) for row in rows if row.startswith(f"{line} ")), 0.0)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it by a signal, or wait for its end with 0; returns its exit code and its standard error."""
        if self.process.poll() is None and number:
            self.process.send_signal(number)
        errors = self.process.communicate(timeout=60)[1]
        return self.process.returncode, errors


@contextmanager
def serving(run: Path, *options: object, **environment: str) -> Iterator[Server]:
    """A server that ends by SIGTERM without a word."""
    server = Server(run, *options, **environment)
    try:
        yield server
    finally:
        code, errors = server.end()
    assert not errors, errors
    assert code == 0


def at_once(count: int, work: Any) -> list[Any]:
    """The results of some work, called with 0 to count - 1 in as many threads."""
    found: list[Any] = [None] * count

    def one(number: int) -> None:
        found[number] = work(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def noise(seconds: float, seed: int = 0, rate: int = 8000) -> np.ndarray:
    """Noise of changing colour and loudness."""
    draws = np.random.default_rng(seed)
    steps = np.repeat(draws.uniform(0.01, 0.3, round(seconds * 5) + 1), rate // 5)[: round(seconds * rate)]
    white = draws.standard_normal(len(steps))
    return (steps * np.where(steps > 0.15, white, np.convolve(white, np.ones(8) / 8, "same")) / 4).astype(np.float32)


def wav(samples: np.ndarray, rate: int = 8000, form: str = "WAV", subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def form_of(*files: tuple[str, bytes], boundary: str = "xx") -> tuple[bytes, dict[str, str]]:
    """The body of a form with files, and its headers."""
    head = '--{}\r\nContent-Disposition: form-data; name="file"; filename="{}"\r\n\r\n'
    parts = [head.format(boundary, name).encode() + data + b"\r\n" for name, data in files]
    kind = f"multipart/form-data; boundary={boundary}"
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), {"Content-Type": kind}
