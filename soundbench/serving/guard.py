"""What stands before every endpoint: the token, requests of other web pages, errors as JSON, headers, counting."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from soundbench.messages import printable
from soundbench.serving.refusals import Gone, Refused

__all__ = ["OPEN", "SUBPROTOCOL", "Guard"]

# What needs no token: the page, which asks for it, whether the server is up, and how to use it.
OPEN = frozenset({"/", "/healthz", "/openapi.json"})
# A browser can send no header with a WebSocket: its token is a subprotocol, `bearer.` and the token in base64url.
SUBPROTOCOL, BEARER = "soundbench", "bearer."
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_log = logging.getLogger("soundbench.serving")


class Guard:
    """An application before another.

    Args:
        app: the other.
        token: what a client must send; None lets anybody in.
        endpoints: the paths that are counted by their own name.
        answered: called with the endpoint, the status and the seconds of each answer.
    """

    def __init__(
        self, app: ASGIApp, token: str | None, endpoints: Collection[str], answered: Callable[[str, int, float], None]
    ) -> None:
        self._app, self._token, self._endpoints, self._answered = app, token, frozenset(endpoints), answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        try:
            self._check(scope)
            await self._app({**scope, "app": self}, receive, watched)  # with an app, errors of the router are raised
        except Gone:
            status = status or 499
        except Refused as error:
            await self._say(scope, watched, error, status)
        except HTTPException as error:
            what = HTTPStatus(error.status_code).phrase.lower()
            known = ", ".join(sorted(self._endpoints))
            sentence = f"{what}: there are {known}" if error.status_code == 404 else what
            await self._say(scope, watched, Refused(error.status_code, sentence, **dict(error.headers or {})), status)
        except Exception:
            _log.exception("%s %s failed", scope.get("method", "STREAM"), printable(scope["path"]))
            await self._say(scope, watched, Refused(500, "the server failed; its log says why"), status)
        finally:
            endpoint = scope["path"] if scope["path"] in self._endpoints else "other"
            self._answered(endpoint, status, time.perf_counter() - began)

    def _check(self, scope: Scope) -> None:
        """Refuse requests of other web pages, which a browser would send along, and those without the token."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is not None and _host(origin) != headers.get("host", "").lower():
            raise Refused(403, f"pages of {printable(origin[:200])} may not use this server")
        if self._token is None or scope["path"] in OPEN:
            return
        tokens = list(_tokens(headers, scope))
        if not any(hmac.compare_digest(given, self._token.encode()) for given in tokens):
            wrong = "the token is wrong" if tokens else "a token is needed"
            sentence = f"{wrong}: Authorization: Bearer TOKEN, with that of SOUNDBENCH_TOKEN on the server"
            raise Refused(401, sentence, www_authenticate="Bearer")

    async def _say(self, scope: Scope, send: Send, error: Refused, status: int) -> None:
        """Answer with an error, unless an answer has begun: then the connection ends."""
        if status:
            raise error
        kind = "http.response" if scope["type"] == "http" else "websocket.http.response"
        body = json.dumps(error.to_dict(), ensure_ascii=False).encode("utf-8", "backslashreplace")
        given: Mapping[str, str] = {"content-type": "application/json", "content-length": str(len(body))}
        headers = [(name.encode(), value.encode()) for name, value in {**given, **error.headers}.items()]
        await send({"type": f"{kind}.start", "status": error.status, "headers": headers})
        await send({"type": f"{kind}.body", "body": body})


def _host(origin: str) -> str | None:
    """The host and port of an origin; None if it is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _tokens(headers: Headers, scope: Scope) -> Iterable[bytes]:
    """The tokens that a request brings."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield given.strip().encode("latin-1")
    for name in scope.get("subprotocols", []):
        if name.startswith(BEARER):
            text = name.removeprefix(BEARER)
            try:
                yield base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            except ValueError:
                continue
