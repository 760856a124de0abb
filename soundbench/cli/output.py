"""What commands print: results to standard output, the rest to standard error; control characters escaped."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import click

from soundbench.messages import escaped, printable

__all__ = ["drop_the_rest", "how_much", "prepare", "result", "result_json", "rows", "say"]


def prepare() -> None:
    """Let the streams of this process take any name, and a warning about a sound be one line.

    To a pipe or a file, results are UTF-8 as what `--out` writes, unless PYTHONIOENCODING says otherwise: Windows has
    another encoding there.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may have bytes that are not UTF-8
    if isinstance(sys.stdout, io.TextIOWrapper) and not (sys.stdout.isatty() or os.environ.get("PYTHONIOENCODING")):
        sys.stdout.reconfigure(encoding="utf-8")
    warnings.showwarning = _show_warning  # type: ignore[assignment]


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Print a warning: one about a sound file is one line."""
    from soundbench.errors import SoundWarning
    from soundbench.terminal import on_terminal

    if not issubclass(category, SoundWarning):
        filename, lineno = place[:2]
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))
        return
    start = "\r\x1b[K" if on_terminal() else ""  # a status line may stand there
    sys.stderr.write(f"{start}{printable(str(message))}\n")


@contextlib.contextmanager
def how_much(quiet: bool, verbose: bool) -> Iterator[None]:
    """Print no progress in the body, in no process that it starts; or also what libraries log, and every warning."""
    if verbose:
        import logging

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
        warnings.simplefilter("always")
    if not quiet:
        yield
        return
    from soundbench.terminal import QUIET

    before = os.environ.get(QUIET)
    os.environ[QUIET] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[QUIET]


def result(text: object) -> None:
    """Print a result, for people or as JSON or TOML."""
    click.echo(escaped(str(text)))


def result_json(value: Any) -> None:
    """Print a result as JSON on one line; it is UTF-8 whatever names are in it."""
    result(json.dumps(value, ensure_ascii=False))


def rows(text: str) -> None:
    """Print rows of a table whose format has its own way to keep a name in its cell; a file gets them as they are."""
    click.echo(escaped(text) if sys.stdout.isatty() else text, nl=False)


def say(text: str) -> None:
    """Print a message."""
    click.echo(escaped(text), err=True)


def drop_the_rest() -> None:
    """Drop what is still buffered for standard output, which nobody reads any more, or which has no room."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
