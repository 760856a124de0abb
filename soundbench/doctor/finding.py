"""What a check of `soundbench doctor` finds: whether the thing is there, what it is, and how to get it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import attrs

from soundbench.errors import SoundbenchError

__all__ = ["Check", "Finding", "absent", "broken", "ok"]

Status = Literal["ok", "absent", "broken"]
Values: TypeAlias = Mapping[str, Any]


@attrs.frozen
class Finding:
    """The answer of a check.

    Attributes:
        status: `ok`; `absent`, which is no mistake unless it is needed; or `broken`, what is there and does not work.
        says: one line about it.
        cure: how to get it or mend it; empty if there is nothing to do.
        details: further lines.
        values: the same for programs, as JSON takes it.
    """

    status: Status
    says: str
    cure: str = ""
    details: tuple[str, ...] = ()
    values: Values = attrs.field(factory=dict)


@attrs.frozen
class Check:
    """One thing that is looked at.

    Attributes:
        part: the heading that it stands below.
        name: what `--need` calls it.
        look: looks at it; what it raises is reported as broken.
    """

    part: str
    name: str
    look: Callable[[], Finding]

    def run(self) -> Finding:
        """The finding; a check that fails itself is one, so that the others are still made."""
        try:
            return self.look()
        except SoundbenchError as error:
            return broken(str(error))
        except (Exception, SystemExit) as error:
            reason = " ".join(str(error).split())
            return broken(f"cannot be looked at: {type(error).__name__}{f': {reason}' if reason else ''}")


def ok(says: str, values: Values | None = None, cure: str = "", details: tuple[str, ...] = ()) -> Finding:
    """It is there and works."""
    return Finding("ok", says, cure, details, values or {})


def absent(says: str, values: Values | None = None, cure: str = "", details: tuple[str, ...] = ()) -> Finding:
    """It is not there."""
    return Finding("absent", says, cure, details, values or {})


def broken(says: str, values: Values | None = None, cure: str = "", details: tuple[str, ...] = ()) -> Finding:
    """It is there and does not work."""
    return Finding("broken", says, cure, details, values or {})
