"""The result of checking a component: each promise of its contract, whether it holds, and the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import attrs

from soundbench.errors import NotInstalled
from soundbench.recipe.source_code import place_of

__all__ = ["Broken", "Checks", "ContractError", "NotApplicable", "Report", "Result", "run_checks"]

State = Literal["ok", "broken", "not applicable"]

Checks = Mapping[str, Callable[[Any], str]]
"""The promises of a kind, each with its check of a `Case`.

A check returns what it measured, or raises `Broken` or `NotApplicable`.
"""


class Broken(Exception):
    """A promise is broken: what was measured, and what is allowed."""


class NotApplicable(Exception):
    """A promise does not apply to this component: the reason."""


@attrs.frozen
class Result:
    """The result for one promise.

    Attributes:
        promise: its name, such as `padding`.
        state: whether it holds.
        message: what was measured, with the numbers.
        place: the last line of the author's code that an exception passed through, as ` (FILE, line N)`; empty if none.
    """

    promise: str
    state: State
    message: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.promise}: {self.message}{self.place}" if self.message else self.promise

    def to_dict(self) -> dict[str, str]:
        """As plain data; without an empty place."""
        table = attrs.asdict(self)
        return {**table, "place": self.place.strip(" ()")} if table.pop("place") else table


@attrs.frozen
class Report:
    """The results for one component.

    Attributes:
        kind: its kind.
        name: its name, or where it is defined.
        results: one for each promise, in the order of the checks.
        seconds: how long the checks took.
    """

    kind: str
    name: str
    results: tuple[Result, ...]
    seconds: float

    @property
    def broken(self) -> tuple[Result, ...]:
        """The promises that do not hold."""
        return tuple(result for result in self.results if result.state == "broken")

    def to_dict(self) -> dict[str, Any]:
        """The table that `--json` prints; its key for the results is `findings`."""
        table = attrs.asdict(self, recurse=False)
        findings = [result.to_dict() for result in table.pop("results")]
        return {"ok": not self.broken, "findings": findings, **table}

    def to_text(self) -> str:
        """One line for each promise."""
        marks = {"ok": "ok", "broken": "BROKEN", "not applicable": "-"}
        lines = [f"{marks[result.state]:7} {result}" for result in self.results]
        return "\n".join([f"{self.kind} {self.name}", *(" ".join(line.split("\n")) for line in lines)])


class ContractError(AssertionError):
    """A component breaks promises of its contract.

    Attributes:
        report: the results of all checks.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        count, total = len(report.broken), len(report.results)
        head = f"{report.kind} {report.name} breaks {count} of {total} promises"
        super().__init__("\n".join([head, *(f"  {result}" for result in report.broken)]))


def run_checks(checks: Checks, case: Any) -> Iterator[Result]:
    """Check promises one after another; an exception raised by the component breaks the promise being checked."""
    module = case.component.obj.__module__
    for promise, check in checks.items():
        try:
            yield Result(promise, "ok", check(case))
        except NotApplicable as reason:
            yield Result(promise, "not applicable", str(reason))
        except Broken as error:
            yield Result(promise, "broken", str(error), place_of(error, module))
        except NotInstalled:
            raise
        except Exception as error:  # a component is third-party code
            text = " ".join(str(error).split())
            yield Result(promise, "broken", f"raised {type(error).__name__}: {text}"[:400], place_of(error, module))
