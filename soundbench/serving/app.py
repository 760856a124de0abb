"""The application: which address is answered by what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, Router, WebSocketRoute
from starlette.types import ASGIApp

from soundbench.inference.classifier import Classifier
from soundbench.serving import asking, openapi, page
from soundbench.serving.answers import Answers
from soundbench.serving.bodies import Bodies
from soundbench.serving.figures import CONTENT_TYPE, Figures
from soundbench.serving.guard import Guard
from soundbench.serving.jobs import Job, Jobs
from soundbench.serving.refusals import Limits, Refused
from soundbench.serving.sharing import SharedBatches
from soundbench.serving.streaming import Streams

__all__ = ["Application"]

Work = Callable[[Job, Path, str, Mapping[str, Any]], str]


class Application:
    """What a server answers.

    Args:
        classifier: the model.
        card: what there is to know of it: the name of its `model`, its `digest`, and the version of `soundbench`.
        folder: of the sounds that arrive.
        limits: what is taken on.
        token: what clients must send; None lets anybody in.
    """

    def __init__(
        self, classifier: Classifier, card: Mapping[str, str], folder: Path, limits: Limits, token: str | None
    ) -> None:
        self._classifier, self._card, self._limits = classifier, dict(card), limits
        self._jobs = Jobs(limits)
        self._figures = Figures(lambda: self._jobs.waiting, lambda: self.streams.count)
        self._shared = SharedBatches(classifier, self._figures.batch)
        self._bodies = Bodies(folder, limits)
        self.streams = Streams(classifier, self._shared, limits)
        self._openapi = openapi.describe(card.get("soundbench", ""), limits, token is not None)
        answers = Answers(classifier, self._shared, limits, self._figures.sound)
        routes: list[Route | WebSocketRoute] = [
            Route("/predict", self._sound(answers.predict, asking.PREDICT), methods=["POST"]),
            Route("/events", self._sound(answers.events, asking.EVENTS), methods=["POST"]),
            WebSocketRoute("/stream", self.streams.serve),
            Route("/stream", _no_stream),
            Route("/model", self._model),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._document),
            Route("/", self._page),
        ]
        router = Router(routes, redirect_slashes=False)
        self.asgi: ASGIApp = Guard(router, token, [route.path for route in routes], self._figures.answered)

    def close(self) -> None:
        """End the threads."""
        self._jobs.close()
        self.streams.close()
        self._shared.close()

    def _sound(self, work: Work, known: tuple[asking.Parameter, ...]) -> Callable[[Request], Any]:
        """An endpoint that answers about the sound in a request."""

        async def endpoint(request: Request) -> Response:
            asked = asking.read(known, request.query_params.multi_items())
            async with self._bodies.received(request) as body:
                name = asked.get("name", body.name)
                text = await self._jobs.run(lambda job: work(job, body.path, name, asked), lambda: _gone(request))
            return Response(text.encode("utf-8", "backslashreplace"), media_type="application/json")

        return endpoint

    async def _model(self, _request: Request) -> Response:
        model, grid = self._classifier, self._classifier.grid_of(None, None)
        thresholds = None if model.thresholds is None else dict(zip(model.classes, model.thresholds, strict=True))
        return JSONResponse(
            {
                "classes": list(model.classes),
                "rate": model.rate,
                "window": grid.window / model.rate,
                "hop": grid.hop / model.rate,
                "several_labels": model.multilabel,
                "thresholds": thresholds,
                "rejects": model.scorer.rejector is not None,
                "card": {**self._card, "network": repr(model)},
            }
        )

    async def _health(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _metrics(self, _request: Request) -> Response:
        return Response(self._figures.text(), media_type=CONTENT_TYPE)

    async def _document(self, _request: Request) -> Response:
        return JSONResponse(self._openapi)

    async def _page(self, _request: Request) -> Response:
        return HTMLResponse(page.html(), headers=page.headers())


async def _gone(request: Request) -> None:
    """Return when the client of a request whose body was read has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _no_stream(_request: Request) -> Response:
    raise Refused(426, "a stream is a WebSocket", upgrade="websocket", connection="upgrade")
