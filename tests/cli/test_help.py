"""The help of every command and option: a sentence in the words of the field, with the default of a value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import click
import pytest

from soundbench.cli.main import COMMANDS, group


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command by its name, and those inside groups; importers are plugins, and not among them."""
    for name, (place, _) in COMMANDS.items():
        module, attribute = place.split(":")
        command = getattr(import_module(module), attribute)
        yield name, command
        if name != "import":
            yield from ((f"{name} {inner}", one) for inner, one in getattr(command, "commands", {}).items())


EVERY = dict(commands())
OPTIONS = [
    pytest.param(option, id=f"{name} {option.opts[0]}")
    for name, command in [("", group), *EVERY.items()]
    for option in command.params
    if isinstance(option, click.Option) and option.name != "version"
]


def default_of(option: click.Option) -> Any:
    found = option.to_info_dict()["default"]
    return found if isinstance(found, str | int | float) else None


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_says_what_it_does_and_its_default(option: click.Option) -> None:
    text = option.help or ""
    assert re.fullmatch(r"[A-Z].*\.", text)
    if option.is_flag or option.required or option.multiple:
        return
    _, known, default = text.partition(" Default: ")
    assert known
    if default_of(option) is not None:
        shown = default_of(option)
        assert default.startswith(f"{shown:g}" if isinstance(shown, float) else str(shown))


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_with_a_value_names_it(option: click.Option) -> None:
    assert option.is_flag or option.metavar or isinstance(option.type, click.Choice)


@pytest.mark.parametrize("name", EVERY)
def test_a_command_says_what_it_does_in_a_sentence(name: str) -> None:
    assert re.match(r"[A-Z].*\.(\n|$)", EVERY[name].help or "")
    assert EVERY[name].get_short_help_str(200).endswith(".")


@pytest.mark.parametrize("summary", [summary for _, summary in COMMANDS.values()])
def test_a_summary_is_a_sentence_that_fits_its_line(summary: str) -> None:
    assert re.fullmatch(r"[A-Z].{,60}\.", summary)


@pytest.mark.parametrize("name", EVERY)
def test_help_uses_the_words_of_the_field(name: str) -> None:
    page = EVERY[name].get_help(click.Context(EVERY[name], info_name=name))
    assert not re.search(r"\b(judg\w*|hears?|heard|told|tells?|sees|brought)\b", page)
