"""What the server offers, as OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from soundbench.serving.asking import EVENTS, PREDICT, STREAM, Parameter
from soundbench.serving.guard import OPEN
from soundbench.serving.refusals import Limits

__all__ = ["describe"]

_NUMBER, _TEXT, _WHOLE = {"type": "number"}, {"type": "string"}, {"type": "integer"}
_SCORES = {"type": "object", "additionalProperties": _NUMBER, "description": "The score of each class, best first."}
_TIME = {"type": ["string", "null"], "description": "ISO 8601, where the sound or its name states when it began."}
_TIMES = {"begin_time": _TIME, "end_time": _TIME}
_SPAN = {"start": {**_NUMBER, "description": "Seconds from the beginning."}, "end": _NUMBER}
_FOUND = {
    "label": {**_TEXT, "description": "The best class; unknown where the sound is of none of the classes."},
    "score": _NUMBER,
    "nearest": {**_TEXT, "description": "The best class in any case; only of models that reject sound."},
    "rejected": {"type": "boolean", "description": "Whether it is of none of the classes; as nearest."},
    "labels": {"type": "array", "items": _TEXT, "description": "The predicted classes."},
    "scores": _SCORES,
}


def _object(properties: dict[str, Any], optional: Sequence[str] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_REJECTING = ("nearest", "rejected")
_SCHEMAS = {
    "Prediction": _object({"path": _TEXT, **_TIMES, **_FOUND}, _REJECTING),
    "Window": _object({"path": _TEXT, **_SPAN, **_TIMES, **_FOUND}, _REJECTING),
    "Event": _object({"path": _TEXT, **_SPAN, **_TIMES, "label": _TEXT, "score": _NUMBER}),
    "Events": _object(
        {
            "path": _TEXT,
            "seconds": {**_NUMBER, "description": "How long the sound is."},
            "events": {"type": "array", "items": _ref("Event")},
            "windows": {"type": "array", "items": _ref("Window")},
        },
        ("windows",),
    ),
    "Model": _object(
        {
            "classes": {"type": "array", "items": _TEXT},
            "rate": {**_WHOLE, "description": "Its sample rate in Hz."},
            "window": {**_NUMBER, "description": "Seconds."},
            "hop": {**_NUMBER, "description": "Seconds."},
            "several_labels": {"type": "boolean", "description": "Whether a sound may have several classes."},
            "thresholds": {
                "type": ["object", "null"],
                "additionalProperties": _NUMBER,
                "description": "Of each class; null where the model has none.",
            },
            "rejects": {"type": "boolean", "description": "Whether it says that sound is of none of its classes."},
            "card": _object({"model": _TEXT, "network": _TEXT, "digest": _TEXT, "soundbench": _TEXT}),
        }
    ),
    "Error": _object({"path": _TEXT, "error": {**_TEXT, "description": "What is wrong, in a sentence."}}, ("path",)),
}
_REFUSALS = {
    400: "A parameter or the form is wrong.",
    401: "The token is missing or wrong.",
    403: "A page of another origin asks.",
    408: "The request did not arrive in time.",
    413: "The body has too many bytes, or the sound too many seconds.",
    422: "The body is no sound that can be read, or empty.",
    503: "Too many requests wait, or too much sound is held.",
    504: "There was no answer in time.",
}


def describe(version: str, limits: Limits, token: bool) -> dict[str, Any]:
    """The document.

    Args:
        version: of soundbench.
        limits: of the server.
        token: whether it needs one.
    """
    binary = {"schema": {"type": "string", "format": "binary"}}
    form = _object({"file": {"type": "string", "format": "binary"}})
    body = {
        "required": True,
        "description": f"A sound file of any format that soundbench reads, whatever the content type, or a form with "
        f"one file: at most {limits.size:,} bytes and {limits.seconds:,g} seconds.",
        "content": {"multipart/form-data": {"schema": form}, "*/*": binary},
    }
    stream = (
        "A WebSocket. Send samples as binary messages, then the text `end`. Each answer is a JSON text with a `type`: "
        "`window`, `begin` or `event` as `soundbench stream --json` prints them, `error`, and at the end `summary`."
    )
    page = _answer("text/html", _TEXT, "The page.")
    paths: dict[str, dict[str, Any]] = {
        "/predict": {"post": _operation("Classify a sound.", _json("Prediction"), PREDICT, body)},
        "/events": {"post": _operation("Find the events of a sound.", _json("Events"), EVENTS, body)},
        "/stream": {"get": _operation("Classify sound as it arrives.", {101: {"description": stream}}, STREAM)},
        "/model": {"get": _operation("Describe the model.", _json("Model"))},
        "/healthz": {"get": _operation("Say that the server is up.", _answer("text/plain", _TEXT, "ok"))},
        "/metrics": {"get": _operation("Figures for Prometheus.", _answer("text/plain", _TEXT, "The figures."))},
        "/openapi.json": {"get": _operation("This document.", _answer("application/json", {"type": "object"}, "It."))},
        "/": {"get": _operation("A page for people.", page)},
    }
    components: dict[str, Any] = {"schemas": _SCHEMAS}
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "soundbench serve", "version": version},
        "paths": paths,
        "components": components,
    }
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
        for path in OPEN:
            paths[path]["get"]["security"] = []
    return found


def _json(schema: str) -> dict[int, Any]:
    return _answer("application/json", _ref(schema), schema)


def _answer(kind: str, schema: dict[str, Any], what: str) -> dict[int, Any]:
    return {200: {"description": what, "content": {kind: {"schema": schema}}}}


def _operation(
    summary: str, answers: dict[int, Any], parameters: Sequence[Parameter] = (), body: dict[str, Any] | None = None
) -> dict[str, Any]:
    refused = _REFUSALS if body else {status: _REFUSALS[status] for status in (400, 401, 403, 503) if parameters}
    error = {"application/json": {"schema": _ref("Error")}}
    every = answers | {status: {"description": text, "content": error} for status, text in refused.items()}
    found: dict[str, Any] = {"summary": summary, "responses": {str(status): one for status, one in every.items()}}
    if parameters:
        found["parameters"] = [_parameter(one) for one in parameters]
    return found | ({"requestBody": body} if body else {})


def _parameter(one: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": {float: "number", int: "integer", bool: "boolean", str: "string"}[one.kind]}
    schema |= {} if one.least is None else {"minimum": one.least}
    schema |= {} if one.most is None else {"maximum": one.most}
    return {"name": one.name, "in": "query", "description": one.meaning, "schema": schema}
