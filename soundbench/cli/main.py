"""The command line: finds a command, calls it, and turns an exception into one message and an exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from soundbench.cli import output
from soundbench.cli.process import shorten_waiting
from soundbench.messages import out_of_memory, printable

__all__ = ["COMMANDS", "invoke", "main"]

# A command's module is imported only when the command is called, so that help does not wait for torch.
COMMANDS = {
    "run": ("soundbench.cli.run:command", "Train and test the model that a recipe describes."),
    "sweep": ("soundbench.cli.sweep:command", "Run the recipes of a sweep file, and summarize their results."),
    "evaluate": ("soundbench.cli.evaluate:command", "Evaluate a model on its test set or on other labelled sound."),
    "report": ("soundbench.cli.report:command", "Make the pages of a run's report anew."),
    "compare": ("soundbench.cli.compare:command", "Compare runs: metrics, and whether they differ by chance."),
    "infer": ("soundbench.cli.infer:command", "Classify sound files with a trained model."),
    "segments": ("soundbench.cli.segments:command", "Cut clips to listen to from the results of infer."),
    "thresholds": ("soundbench.cli.thresholds:command", "Find thresholds for a wanted precision from marks."),
    "embed": ("soundbench.cli.embed:command", "Write embeddings of sound files from a trained model."),
    "stream": ("soundbench.cli.stream:command", "Classify sound from a microphone, file or pipe as it arrives."),
    "serve": ("soundbench.cli.serve:command", "Answer requests over HTTP with a trained model."),
    "record": ("soundbench.cli.record:command", "Record from a microphone to WAV files."),
    "extract": ("soundbench.cli.extract:command", "Compute a recipe's features before training."),
    "describe": ("soundbench.cli.describe:command", "Show a recipe with its defaults, and its network."),
    "export": ("soundbench.cli.export:command", "Write a model as one file for another runtime."),
    "import": ("soundbench.cli.import_model:command", "Convert a model of another program to a model folder."),
    "data": ("soundbench.cli.data:command", "Check a recipe's sound files, or list those of a folder."),
    "cache": ("soundbench.cli.cache:command", "List, check or remove decoded sound and features."),
    "recipes": ("soundbench.cli.recipes:command", "List the recipes of soundbench, or copy one to change it."),
    "completion": ("soundbench.cli.completion:command", "Print what lets a shell complete commands and options."),
    "doctor": ("soundbench.cli.doctor:command", "Show what this machine has, and how to get what is missing."),
    "models": ("soundbench.cli.models:command", "List the models that installed packages bring."),
    "list-plugins": ("soundbench.cli.list_plugins:command", "List the components that a recipe can name."),
    "new-plugin": ("soundbench.cli.new_plugin:command", "Write a package for a component of your own."),
}

# Errors of the system that the user can fix: no space left, no permission, a name that is too long.
_NOT_OURS = frozenset(
    getattr(errno, name, -1)
    for name in (
        *("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "ENAMETOOLONG", "ELOOP", "ENOTDIR", "EISDIR"),
        *("EMFILE", "ENFILE", "ENOMEM", "ESTALE", "EBADF"),
    )
)


class _Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # a shell asks what could stand here
                return None
            from soundbench.messages import nearest

            hint = nearest(cmd_name, COMMANDS) or ";"
            ctx.fail(f'there is no command "{cmd_name}"{hint} known: {", ".join(COMMANDS)}')
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        begun = [(name, summary) for name, (_, summary) in COMMANDS.items() if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=summary) for name, summary in begun), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def _versions(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the versions of soundbench, of torch as its metadata have it, and of Python."""
    if not asked or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in ("soundbench", "torch"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} (not installed)")
    output.result(f"{', '.join(found)}, Python {'.'.join(map(str, sys.version_info[:3]))}")
    ctx.exit()


@click.command(cls=_Commands, name="soundbench", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of any error. May stand anywhere in the call.")
@click.option(
    "--quiet", is_flag=True, help="Print no progress: results, warnings and errors alone. May stand anywhere."
)
@click.option("--verbose", is_flag=True, help="Print what libraries log, and every warning. May stand anywhere.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_versions, help="Show versions and exit."
)
def group(debug: bool, quiet: bool, verbose: bool) -> None:
    """Train, evaluate and use sound classifiers that TOML recipes describe."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The program: exits 0 done, 1 failed, 2 a mistake in the call, 3 an unusable plugin, 130 or 143 stopped."""
    shorten_waiting()
    _open_standard_streams()
    sys.exit(invoke(sys.argv[1:] if arguments is None else arguments))


def _open_standard_streams() -> None:
    """Open what the caller has closed of standard input, output and error: no other file may get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115 (as Python's own)


def invoke(arguments: Sequence[str]) -> int:
    """Run the command line with these arguments; returns the exit code."""
    switches, plain = _switches(arguments)
    output.prepare()
    try:
        if sys.stdout is None:
            raise click.UsageError("standard output is closed; to discard the results, send them to /dev/null")
        if {"--quiet", "--verbose"} <= switches:
            raise click.UsageError("--quiet and --verbose: give one of them")
        with output.how_much(quiet="--quiet" in switches, verbose="--verbose" in switches):
            code = group.main(args=plain, prog_name="soundbench", standalone_mode=False)
    except SystemExit as asked:
        return asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        output.say(text.getvalue().rstrip("\n"))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        output.say("stopped by hand")
        return 130
    except Exception as error:
        if "--debug" in switches:
            traceback.print_exc()
        message, code = _explain(error)
        output.say(message)
        return code
    return code if isinstance(code, int) else 0


def _switches(arguments: Sequence[str]) -> tuple[set[str], list[str]]:
    """The options that may stand anywhere before `--`, and the other arguments."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    asked = set(words[:end]) & {"--debug", "--quiet", "--verbose"}
    return asked, [word for word in words[:end] if word not in asked] + words[end:]


def _explain(error: Exception) -> tuple[str, int]:
    """The message and the exit code of an exception."""
    from soundbench.errors import DataError, RecipeError, SoundbenchError

    if isinstance(error, SoundbenchError):
        lines = [str(error)]  # each stays on its line, whatever names are in it
        if isinstance(error, RecipeError):
            lines = list(error.lines)
        elif type(error) is DataError:  # some of these list several sounds or rows
            lines = str(error).split("\n")
        return "\n".join(printable(line) for line in lines), error.exit_code
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _NOT_OURS:
        if error.filename is None:
            with contextlib.suppress(OSError, ValueError):
                output.drop_the_rest()  # it may be standard output that has no room; Python would try once more
        return printable(f"{error.filename or 'the disk'}: {(error.strerror or text).lower()}"), 1
    if out_of_memory(error):
        return "out of memory: something needs more than this machine has", 1
    return f"{type(error).__name__}: {text} (--debug shows the traceback)", 1
