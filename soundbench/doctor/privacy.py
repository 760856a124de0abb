"""Takes personal paths out of what goes into a bug report: the home folder, and the names of users."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["without_names"]

# Folders of users, on Linux, macOS and Windows; the one after them is a name.
_HOMES = re.compile(r"(/home/|/Users/|\\Users\\)[^/\\\s:;,'\"]+")
_VARIABLES = ("USER", "LOGNAME", "USERNAME", "SUDO_USER")


def without_names(value: Any) -> Any:
    """JSON values with the home folder as `~` and the name of a user as `USER`, in keys too."""
    if isinstance(value, str):
        return _cleaned(value)
    if isinstance(value, Mapping):
        return {_cleaned(str(key)): without_names(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_names(item) for item in value]
    return value


def _cleaned(text: str) -> str:
    for home in _homes():
        text = re.sub(re.escape(home) + r"(?![\w.-])", "~", text)
    text = _HOMES.sub(r"\1USER", text)
    for name in _users():
        text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", "USER", text)
    return text


def _homes() -> Iterator[str]:
    """The home folder, as it is written and as links in it resolve."""
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry for this user
        return
    for one in (str(home), str(home.resolve())):
        if len(one) > 1:
            yield one


def _users() -> set[str]:
    """The names of the user; `root` is no person's."""
    found = {os.environ.get(name, "") for name in _VARIABLES}
    if sys.platform != "win32":
        with contextlib.suppress(ImportError, KeyError):
            import pwd

            found.add(pwd.getpwuid(os.getuid()).pw_name)
    return found - {"", "root"}
