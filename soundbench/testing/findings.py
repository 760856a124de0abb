"""What was found of a component: each promise of its contract, whether it holds, and the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import attrs

from soundbench.errors import NotInstalled

__all__ = ["Broken", "Checks", "ContractError", "Finding", "Moot", "Report", "prove"]

State = Literal["ok", "broken", "not applicable"]

Checks = Mapping[str, Callable[[Any], str]]
"""The promises of a kind, each with what proves it of a case: it returns what it saw, or raises `Broken` or `Moot`."""


class Broken(Exception):
    """A promise is broken: what was seen, and what is allowed."""


class Moot(Exception):
    """A promise does not apply: why."""


@attrs.frozen
class Finding:
    """One promise.

    Attributes:
        promise: in a word or two, such as `padding`.
        state: whether it holds.
        message: what was seen, with the numbers.
    """

    promise: str
    state: State
    message: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.message}" if self.message else self.promise


@attrs.frozen
class Report:
    """All that was found of one component.

    Attributes:
        kind: its kind.
        name: its name, or where it is.
        findings: a promise each, in the order in which they were tried.
        seconds: how long that took.
    """

    kind: str
    name: str
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The promises that do not hold."""
        return tuple(finding for finding in self.findings if finding.state == "broken")

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {"ok": not self.broken, **attrs.asdict(self)}

    def to_text(self) -> str:
        """Every promise in a line."""
        marks = {"ok": "ok", "broken": "BROKEN", "not applicable": "-"}
        lines = [f"{marks[finding.state]:7} {finding}" for finding in self.findings]
        return "\n".join([f"{self.kind} {self.name}", *(" ".join(line.split("\n")) for line in lines)])


class ContractError(AssertionError):
    """A component breaks promises of its contract.

    Attributes:
        report: all that was found.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        count, total = len(report.broken), len(report.findings)
        head = f"{report.kind} {report.name} breaks {count} of {total} promises"
        super().__init__("\n".join([head, *(f"  {finding}" for finding in report.broken)]))


def prove(checks: Checks, case: Any) -> Iterator[Finding]:
    """Try promises one after another; whatever a component raises breaks the one that was tried."""
    for promise, check in checks.items():
        try:
            yield Finding(promise, "ok", check(case))
        except Moot as reason:
            yield Finding(promise, "not applicable", str(reason))
        except Broken as error:
            yield Finding(promise, "broken", str(error))
        except NotInstalled:
            raise
        except Exception as error:  # a component is somebody else's code
            text = " ".join(str(error).split())
            yield Finding(promise, "broken", f"raised {type(error).__name__}: {text}"[:400])
