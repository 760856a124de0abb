"""Sound that arrives over a WebSocket: samples in, windows and events out, as `soundbench stream` says them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from soundbench.audio.codings import Coding, find_format
from soundbench.data.batches import RawBatch
from soundbench.errors import CallError, SoundError
from soundbench.inference.classifier import Classifier
from soundbench.inference.stream import Item, Stream, named
from soundbench.messages import escaped
from soundbench.serving import asking
from soundbench.serving.answers import event_rules
from soundbench.serving.guard import SUBPROTOCOL
from soundbench.serving.refusals import BUSY, Gone, Limits, Refused
from soundbench.serving.sharing import SharedBatches

__all__ = ["END", "MESSAGE", "STREAMS", "Streams"]

# Streams that are open at the same time; the most bytes of a message; the text that ends a stream.
STREAMS = 32
MESSAGE = 1 << 20
END = "end"
# Close codes of RFC 6455: all is done, the server goes, the client broke the rules.
DONE, GOING, WRONG = 1000, 1001, 1008


class Streams:
    """Serves streams, each in turn with a thread of a pool.

    Args:
        classifier: the model.
        shared: scores its windows.
        limits: how long a stream may bring nothing.
    """

    def __init__(self, classifier: Classifier, shared: SharedBatches, limits: Limits) -> None:
        self._classifier, self._shared, self._limits = classifier, shared, limits
        self._pool = ThreadPoolExecutor(STREAMS, "stream")
        self._open: set[asyncio.Event] = set()
        self._going = False

    @property
    def count(self) -> int:
        """The number of open streams."""
        return len(self._open)

    async def end(self) -> None:
        """Let every stream say what it has left, and end; no other begins."""
        self._going = True
        for one in self._open:
            one.set()
        while self._open:
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """End the threads that are idle."""
        self._pool.shutdown(wait=False)

    async def serve(self, socket: WebSocket) -> None:
        """Serve one stream until its client or this server ends it."""
        if self._going:
            raise Refused(503, "the server is stopping")
        if len(self._open) >= STREAMS:
            sentence = f"{STREAMS} streams are open already; try again later"
            raise Refused(503, sentence, retry_after=str(BUSY))
        asked = asking.read(asking.STREAM, socket.query_params.multi_items())
        one = _Stream(self._classifier, self._shared, asked)
        stop = asyncio.Event()
        self._open.add(stop)
        try:
            await socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
            await self._run(socket, one, stop)
        except (Gone, WebSocketDisconnect):
            pass
        finally:
            one.stop()
            self._open.discard(stop)

    async def _run(self, socket: WebSocket, one: _Stream, stop: asyncio.Event) -> None:
        code, error = await self._listen(socket, one, stop)
        await self._send(socket, one.finish())
        if error:
            await socket.send_text(_line({"type": "error", "error": error}))
        await socket.send_text(_line({"type": "summary", **attrs.asdict(one.stream.figures)}))
        if socket.application_state is WebSocketState.CONNECTED:
            await socket.close(code)

    async def _listen(self, socket: WebSocket, one: _Stream, stop: asyncio.Event) -> tuple[int, str]:
        """Score what arrives until the stream ends; returns the code that it ends with, and what was wrong."""
        stopped = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                message = asyncio.ensure_future(socket.receive())
                both = {message, stopped}
                done, _ = await asyncio.wait(both, timeout=self._limits.timeout, return_when=asyncio.FIRST_COMPLETED)
                if message not in done:
                    message.cancel()
                    if not stop.is_set():
                        return WRONG, f"no sound arrived within {self._limits.timeout:g} s"
                    break
                given = message.result()
                if given["type"] == "websocket.disconnect":
                    raise Gone
                data = given.get("bytes")
                if data is None:
                    wrong = "" if given["text"] == END else f'samples are binary messages, and the last one is "{END}"'
                    return (WRONG if wrong else DONE), wrong
                await self._send(socket, one.feed(data))
        except SoundError as error:
            return WRONG, error.reason
        finally:
            stopped.cancel()
        return GOING, ""

    async def _send(self, socket: WebSocket, items: Iterator[list[Item]]) -> None:
        """Send items as they come."""
        loop = asyncio.get_running_loop()
        while (found := await loop.run_in_executor(self._pool, self._some, items)) is not None:
            for item in found:
                kind, shown = named(item)
                await socket.send_text(_line({"type": kind, **shown.to_dict()}))

    def _some(self, items: Iterator[list[Item]]) -> list[Item] | None:
        with self._shared.working():
            return next(items, None)


class _Stream:
    """One stream: its samples, and what scores them.

    Raises:
        Refused: its parameters do not fit.
    """

    def __init__(self, classifier: Classifier, shared: SharedBatches, asked: Mapping[str, Any]) -> None:
        self._gone = False
        mine = shared.classifier(self._check)
        rules = event_rules(mine, asked)
        try:
            form = find_format(asked.get("format", "f32le"))
            self._coding = Coding(asked.get("rate", mine.rate), asked.get("channels", 1), form)
            self.stream = Stream(
                mine,
                self._coding.rate,
                window=asked.get("window"),
                hop=asked.get("hop"),
                gate=asked.get("gate"),
                rules=rules,
            )
        except CallError as error:
            raise Refused(400, str(error).removeprefix("--")) from None
        self._rest = b""

    def stop(self) -> None:
        """End what is being scored."""
        self._gone = True

    def _check(self, _raw: RawBatch) -> None:
        if self._gone:
            raise Gone

    def feed(self, data: bytes) -> Iterator[list[Item]]:
        """Score samples, a second at a time; yields what they give."""
        data = self._rest + data
        whole = len(data) // self._coding.frame * self._coding.frame
        self._rest = data[whole:]
        second = self._coding.rate * self._coding.frame
        for start in range(0, whole, second):
            samples = self._coding.decode(data[start : min(start + second, whole)]).mean(axis=1)
            if not np.isfinite(samples).all():
                raise SoundError("stream", "contains NaN or infinity; does the format match the data?")
            yield list(self.stream.feed(samples))

    def finish(self) -> Iterator[list[Item]]:
        """What is left when no sample follows."""
        yield list(self.stream.finish())


def _line(values: Mapping[str, Any]) -> str:
    return escaped(json.dumps(values, ensure_ascii=False))
