"""A server that listens: its socket, its limits on connections, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from soundbench.inference.classifier import Classifier
from soundbench.serving.app import Application
from soundbench.serving.refusals import Limits
from soundbench.serving.streaming import MESSAGE, Streams
from soundbench.signals import stoppable

__all__ = ["serve"]

# Open connections; those beyond are answered with 503 at once.
CONNECTIONS = 1000
# Connections that wait to be accepted.
BACKLOG = 1024


def serve(
    classifier: Classifier,
    card: Mapping[str, str],
    listener: socket.socket,
    limits: Limits,
    token: str | None,
    started: Callable[[], None],
) -> None:
    """Serve a model until Ctrl-C or SIGTERM; what is running then is finished.

    Args:
        classifier: the model.
        card: what there is to know of it.
        listener: a socket at the address to listen on.
        limits: what is taken on.
        token: what clients must send; None lets anybody in.
        started: called when the server can be reached.
    """
    for name in ("uvicorn.error", "python_multipart"):  # they log what clients do wrong; failures are logged by us
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="soundbench-serve-") as folder, stoppable():
        app = Application(classifier, card, Path(folder), limits, token)
        config = uvicorn.Config(
            app.asgi,
            http=_protocol(limits.timeout),
            ws="websockets-sansio",
            ws_max_size=MESSAGE,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            backlog=BACKLOG,
            timeout_graceful_shutdown=round(2 * limits.timeout) + 1,  # to arrive, and to be answered
        )
        try:
            _Server(config, app.streams, started).run(sockets=[listener])
        finally:
            app.close()


class _Server(uvicorn.Server):
    """A server that says when it can be reached, and lets streams end before it does."""

    def __init__(self, config: uvicorn.Config, streams: Streams, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._streams, self._say_started = streams, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._say_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._streams.end(), self.config.timeout_graceful_shutdown)
        await super().shutdown(sockets)


def _protocol(timeout: float) -> type[asyncio.Protocol]:
    """The protocol of connections on which the head of each request must arrive in so many seconds."""

    class Protocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._expect()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self._idle():
                self._forget()
            elif self._timer is None:
                self._expect()

        def _idle(self) -> bool:
            """Whether no request is being answered, and none has become a WebSocket."""
            answered = self.cycle is None or self.cycle.response_complete
            return answered and not self.transport.is_closing() and self.transport.get_protocol() is self

        def _expect(self) -> None:
            self._timer = self.loop.call_later(timeout, self._late)

        def _forget(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _late(self) -> None:
            self._timer = None
            if not self._idle():
                return
            if self.conn.our_state is h11.IDLE:
                self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()

    return Protocol
