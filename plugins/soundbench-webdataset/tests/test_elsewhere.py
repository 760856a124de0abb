"""Shards elsewhere: in the memory file system of fsspec, and on a server of this machine that may fail."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from soundbench_webdataset import WebDataset
from test_webdataset import GOOD, said, write

from soundbench.errors import MissingDataError, SoundError
from soundbench.sources import remote


def tar() -> bytes:
    made = io.BytesIO()
    write(made, GOOD)
    return made.getvalue()


class Server:
    """Serves `content` at every path; counts requests, and does what `trouble` says before it answers.

    Attributes:
        content: what is served.
        ranges: whether parts of it can be asked for.
        tag: of the content.
        trouble: called with the request and its number among those of its method; True if it has answered.
    """

    def __init__(self) -> None:
        self.content, self.ranges, self.tag = tar(), True, "one"
        self.asked: list[str] = []
        self.trouble: Callable[[Any, int], bool] = lambda request, number: False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer("HEAD")

            def do_GET(self) -> None:
                self.answer("GET")

            def answer(self, method: str) -> None:
                outer.asked.append(method)
                if outer.trouble(self, outer.asked.count(method)):
                    return
                asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                content = outer.content
                if asked and outer.ranges:
                    content = content[int(asked[1]) : int(asked[2]) + 1]
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {asked[1]}-{asked[2]}/{len(outer.content)}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("ETag", outer.tag)
                self.end_headers()
                if method == "GET":
                    self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/a.tar"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "WAITS", (0.01, 0.02))
    monkeypatch.setattr(remote, "ANSWER", 0.3)
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


def sounds(dataset: WebDataset) -> list[np.ndarray]:
    """The samples of all clips, none of which fails."""
    return [samples(found) for found in dataset.read_many(list(dataset.clips()))]


def samples(found: tuple[np.ndarray, int] | SoundError) -> np.ndarray:
    assert not isinstance(found, SoundError)
    return found[0]


@pytest.fixture
def wanted(tmp_path: Path) -> list[np.ndarray]:
    (tmp_path / "a.tar").write_bytes(tar())
    return sounds(WebDataset(root=tmp_path))


def test_shards_in_another_file_system(wanted: list[np.ndarray]) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("00", "01"):
        memory.pipe(f"/shards/{name}.tar", tar())
    for patterns in (["memory://shards/{00..01}.tar"], ["memory://shards/*.tar"]):
        dataset = WebDataset(shards=patterns)
        assert [re.sub("/+", "/", name) for name in dataset.shards()] == [
            "memory:/shards/00.tar",
            "memory:/shards/01.tar",
        ]
        clips = list(dataset.clips())
        np.testing.assert_array_equal(samples(next(iter(dataset.read_many(clips[2:])))), wanted[0])
    before = dataset.shards()
    memory.pipe("/shards/01.tar", tar())
    after = WebDataset(shards=["memory://shards/*.tar"]).shards()
    assert [before[name] == after[name] for name in before] == [True, False]


@pytest.mark.parametrize("ranges", [True, False])
def test_shards_on_a_server(server: Server, wanted: list[np.ndarray], ranges: bool) -> None:
    server.ranges = ranges
    dataset = WebDataset(shards=[server.url])
    np.testing.assert_array_equal(sounds(dataset), wanted)
    for clip, one in zip(dataset.clips(), wanted, strict=True):
        np.testing.assert_array_equal(dataset.read(clip)[0], one)


def test_a_server_that_fails_at_first_is_asked_again(server: Server, wanted: list[np.ndarray]) -> None:
    def trouble(request: Any, number: int) -> bool:
        if number <= 2:
            request.send_error(503)
        return number <= 2

    server.trouble = trouble
    np.testing.assert_array_equal(sounds(WebDataset(shards=[server.url])), wanted)


def test_a_connection_that_breaks_in_the_middle_goes_on(server: Server, wanted: list[np.ndarray]) -> None:
    def trouble(request: Any, number: int) -> bool:
        if request.command != "GET" or number > 2:
            return False
        request.send_response(200)
        request.send_header("Content-Length", str(len(server.content)))
        request.end_headers()
        request.wfile.write(server.content[:3000])
        request.close_connection = True
        return True

    server.trouble = trouble
    np.testing.assert_array_equal(sounds(WebDataset(shards=[server.url])), wanted)


@pytest.mark.parametrize("silent", [True, False])
def test_a_server_that_stops_answering_is_named_after_some_tries(server: Server, silent: bool) -> None:
    ended = threading.Event()

    def trouble(request: Any, number: int) -> bool:
        if silent:
            ended.wait(20)
        else:
            request.send_error(500)
        return True

    dataset = WebDataset(shards=[server.url])
    clips = list(dataset.clips())
    before = len(server.asked)
    server.trouble = trouble
    text = said(lambda: list(dataset.read_many(clips)))
    ended.set()
    assert text.startswith(f"{server.url}: does not answer, tried 3 times: ")
    assert len(server.asked) - before >= 3


@pytest.mark.parametrize("status", [404, 410])
def test_a_shard_that_is_not_there_is_named_at_once(server: Server, status: int) -> None:
    def trouble(request: Any, number: int) -> bool:
        request.send_error(status)
        return True

    server.trouble = trouble
    with pytest.raises(MissingDataError, match=f"^{server.url}: no such file$"):
        list(WebDataset(shards=[server.url]).clips())
    assert server.asked.count("GET") <= 1


def test_a_server_that_refuses_is_not_asked_again(server: Server) -> None:
    def trouble(request: Any, number: int) -> bool:
        request.send_error(403)
        return True

    server.trouble = trouble
    assert said(lambda: WebDataset(shards=[server.url]).classes).startswith(f"{server.url}: ClientResponseError 403")
    assert server.asked.count("HEAD") == 1


def test_a_shard_that_changes_on_the_server(server: Server) -> None:
    dataset = WebDataset(shards=[server.url])
    clips = list(dataset.clips())
    server.tag = "two"
    assert (
        said(lambda: dataset.read(clips[0])) == f"{server.url}: it has changed since it was looked through; start again"
    )


def test_an_address_of_no_known_kind() -> None:
    text = said(lambda: WebDataset(shards=["nowhere://a.tar"]).classes)
    assert text.startswith("nowhere://a.tar: Protocol not known")
