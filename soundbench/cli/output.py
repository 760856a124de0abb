"""What commands print: results to standard output, the rest to standard error; control characters escaped."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from soundbench.messages import escaped

__all__ = ["drop_the_rest", "result", "result_json", "rows", "say"]


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
