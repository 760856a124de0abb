"""The parameters that a request may have in its address: their types and ranges, for the server and for its OpenAPI."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from soundbench.messages import show, unknown_key
from soundbench.serving.refusals import Refused

__all__ = ["EVENTS", "PREDICT", "STREAM", "Parameter", "read"]

# The longest window and the shortest hop, in seconds, that anybody may ask for: others wait, and share the memory.
WINDOW, HOP = 30.0, 0.01


@attrs.frozen
class Parameter:
    """A parameter in an address.

    Attributes:
        name: its name.
        kind: `float`, `int`, `bool` or `str`.
        meaning: what it does, and its default.
        least: its least value, if it is a number.
        most: its largest value.
    """

    name: str
    kind: type
    meaning: str
    least: float | None = None
    most: float | None = None

    def value(self, text: str) -> Any:
        """The value of some text.

        Raises:
            Refused: it is none.
        """
        if self.kind is str:
            return text
        if self.kind is bool:
            if text not in {"true", "false"}:
                raise self._refused("true or false", text)
            return text == "true"
        try:
            number = self.kind(text)
            if self._allows(number):
                return number
        except (ValueError, OverflowError):  # no number, or one beyond those of float
            pass
        raise self._refused(self._range(), text)

    def _allows(self, number: float) -> bool:
        high = self.most is None or number <= self.most
        return math.isfinite(number) and high and (self.least is None or number >= self.least)

    def _range(self) -> str:
        ends = [f"at least {self.least:g}"] if self.least is not None else []
        ends += [f"at most {self.most:g}"] if self.most is not None else []
        kind = "an integer" if self.kind is int else "a number"
        return ", ".join([kind, *([" and ".join(ends)] if ends else [])])

    def _refused(self, right: str, text: str) -> Refused:
        return Refused(400, f"{self.name} must be {right}, is {show(text)}")


NAME = Parameter("name", str, "The name of the sound in the answer. Default: the file's name in a form, or -.")
WINDOWING = (
    Parameter("window", float, "Length of the windows in seconds. Default: the model's.", 0, WINDOW),
    Parameter("hop", float, "Seconds between the starts of windows. Default: window, or the model's hop.", HOP),
)
THRESHOLD = Parameter(
    "threshold",
    float,
    "Report classes, or events, scoring at least this. Default: the model's thresholds, or the best class "
    "(0.5 for events).",
    0,
    1,
)
TOP = Parameter("top", int, "Report the N best classes. Default: those that pass, with the scores of all.", 1)
RULES = (
    Parameter(
        "off", float, "Score at which an event begins and below which it ends. Default: 0.8 x the threshold.", 0, 1
    ),
    Parameter("smooth", int, "Average scores over N windows before finding events; N is odd. Default: 1.", 1, 9999),
    Parameter("shortest", float, "Drop events shorter than this, in seconds. Default: 0.", 0),
    Parameter("gap", float, "Join events of a class no further apart than this, in seconds. Default: 0.", 0),
    Parameter(
        "refractory",
        float,
        "Drop events that begin within this time after another of their class, in seconds. Default: 0.",
        0,
    ),
)
PREDICT = (NAME, *WINDOWING, THRESHOLD, TOP)
EVENTS = (
    NAME,
    *WINDOWING,
    THRESHOLD,
    *RULES,
    Parameter("windows", bool, "Whether to answer with the scores of the windows, too. Default: false."),
)
STREAM = (
    Parameter("rate", int, "Sample rate of the samples in Hz. Default: the model's.", 1000, 1_000_000),
    Parameter("format", str, "Format of the samples, as arecord or FFmpeg call it, such as s16le. Default: f32le."),
    Parameter("channels", int, "Channels, one sample of each in turn. Default: 1.", 1, 64),
    *WINDOWING,
    Parameter("gate", float, "Skip windows quieter than this, in dB of full scale. Default: score all windows."),
    THRESHOLD,
    *RULES,
)


def read(known: Sequence[Parameter], given: Iterable[tuple[str, str]]) -> Mapping[str, Any]:
    """The values of the parameters in an address, by their names; those that are not given are not among them.

    Raises:
        Refused: an unknown parameter, one given twice, or a value that is not allowed.
    """
    by_name = {one.name: one for one in known}
    found: dict[str, Any] = {}
    for name, text in given:
        if name not in by_name:
            raise Refused(400, f"{show(name)}: {unknown_key(name, by_name).replace('key', 'parameter', 1)}")
        if name in found:
            raise Refused(400, f"{name} is given twice")
        found[name] = by_name[name].value(text)
    return found
