"""What pages say of places: paths relative to the data or the working directory, never absolute.

A page is sent to others. A path of the machine that made it tells them nothing but who made it, and where.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import PureWindowsPath
from typing import Any

import attrs

__all__ = ["Places"]

# An absolute path in running text: not within a word, an address or a relative path; and one of Windows, also where a
# page is made anew elsewhere, and with each backslash doubled, as Python's messages have it.
_ABSOLUTE = re.compile(
    r"(?<![\w.~:/*?+-])/(?:[^\s'\"`,;:()<>|/]+/)*[^\s'\"`,;:()<>|/]+"
    r"|(?<![\w.~:/\\+-])(?:[A-Za-z]:[/\\]+|\\{2,}(?=\w))(?:[^\s'\"`,;:()<>|/\\]+[/\\]+)*[^\s'\"`,;:()<>|/\\]+"
)

# How the address of a file on this machine begins; and an address up to the name of a user, with a password or without.
_FILE = re.compile(r"\b(?:file|local):/+(?=(?P<drive>[A-Za-z]:[/\\])?[^/\s])")
_USER = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/@]*@", re.IGNORECASE)


@attrs.frozen
class Places:
    """Turns absolute paths into names that tell nothing of the machine.

    Attributes:
        roots: folders that paths are made relative to; of several, the innermost counts.
        home: the user's home folder, whose name is nowhere in the result.
    """

    roots: tuple[str, ...]
    home: str

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Places:
        """The places that a report is about: the folders of its datasets, and the working directory."""
        protocol = report.get("protocol") or {}
        given = [value for table in ("dataset", "trained_on") for value in _texts(protocol.get(table) or {})]
        folders = [value if os.path.isdir(value) else os.path.dirname(value) for value in given if os.path.isabs(value)]
        home = os.path.expanduser("~")
        inside = (os.path.normpath(folder) for folder in (*folders, os.getcwd()))
        # What is relative to a folder above the user's home would begin with the user's name.
        kept = {folder for folder in inside if folder != os.sep and (folder == home or not _below(home, folder))}
        return cls(tuple(sorted(kept, key=len, reverse=True)), home)

    def name(self, path: str) -> str:
        """A path, relative to the innermost root that it is in, or else its last part; an address without its user."""
        if _FILE.match(path):
            return self.name(_without_scheme(path))
        if not os.path.isabs(path):
            of_windows = PureWindowsPath(path)  # of a report that was written there
            return of_windows.name if of_windows.root else _USER.sub(r"\1", path)
        path = os.path.normpath(path)
        root = next((root for root in self.roots if _below(path, root)), None)
        own = os.path.basename(path) if root in (None, path) else os.path.relpath(path, root)
        user, parts = os.path.basename(self.home), own.split(os.sep)
        if user not in parts:
            return own
        return "~" if parts[-1] == user else parts[-1]

    def text(self, text: str) -> str:
        """Running text with each absolute path in it replaced by its name."""
        text = _without_scheme(text)
        for root in (*self.roots, self.home):  # they may have spaces in them
            text = re.sub(rf"(?<![\w./~-]){re.escape(root + os.sep)}", "", text)
        return _ABSOLUTE.sub(lambda found: self.name(found[0]), text)

    def command(self, line: str) -> str:
        """A command of the shell with the names of its paths."""
        return shlex.join(self.name(word) for word in shlex.split(line))

    def report(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """A report as pages show it; names of classes stay what they are, also where they look like paths."""
        shown = dict(report)
        if "protocol" in report:
            protocol = {key: self._value(value) for key, value in report["protocol"].items() if key != "notes"}
            shown["protocol"] = protocol | {
                key: report["protocol"][key] for key in ("notes",) if key in report["protocol"]
            }
        for name in ("calibration", "reject"):  # their `use` may be local code
            if isinstance(report.get(name), Mapping):
                own = report[name]
                shown[name] = {
                    key: self._value(value) if isinstance(value, str) else value for key, value in own.items()
                }
        if "command" in report:
            shown["command"] = self.command(report["command"])
        if "skipped" in report:
            clips = [
                {"path": self.name(clip["path"]), "reason": self.text(clip["reason"])}
                for clip in report["skipped"].get("clips", [])
            ]
            shown["skipped"] = {**report["skipped"], "clips": clips}
        return shown

    def _value(self, value: Any) -> Any:
        """A value of the protocol, tables and lists included; local code is a path, a colon and a name."""
        if isinstance(value, Mapping):
            return {key: self._value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item) for item in value]
        if not isinstance(value, str):
            return value
        path, name = _local_code(value)
        return self.name(path) + name


def _local_code(value: str) -> tuple[str, str]:
    """The path of local code, and the colon and name after it, which other paths and addresses have not.

    The colon after the drive of a path of Windows is followed by no name.
    """
    path, colon, name = value.rpartition(":")
    if path and all(part.isidentifier() for part in name.split(".")):
        return path, colon + name
    return value, ""


def _without_scheme(text: str) -> str:
    """Text with the paths of the files on this machine that addresses in it are of."""
    return _FILE.sub(lambda found: "" if found["drive"] else "/", text)


def _texts(value: Any) -> Iterable[str]:
    """The strings in a table, at any depth."""
    if isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield _local_code(value)[0]


def _below(path: str, folder: str) -> bool:
    """Whether a path is a folder or inside it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
