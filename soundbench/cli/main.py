"""The command line: finds a command, calls it, and turns an exception into one message and an exit code."""

from __future__ import annotations

import errno
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

__all__ = ["COMMANDS", "invoke", "main"]

# A command's module is imported only when the command is called, so that help does not wait for torch.
COMMANDS = {
    "run": ("soundbench.cli.run:command", "Train and test the model that a recipe describes."),
    "evaluate": ("soundbench.cli.evaluate:command", "Evaluate a model on its test set or on other labelled sound."),
    "infer": ("soundbench.cli.infer:command", "Classify sound files with a trained model."),
    "embed": ("soundbench.cli.embed:command", "Write embeddings of sound files from a trained model."),
    "stream": ("soundbench.cli.stream:command", "Classify sound from a microphone, file or pipe as it arrives."),
    "record": ("soundbench.cli.record:command", "Record from a microphone to WAV files."),
    "extract": ("soundbench.cli.extract:command", "Compute a recipe's features before training."),
    "describe": ("soundbench.cli.describe:command", "Show a recipe with its defaults, and its network."),
    "import": ("soundbench.cli.import_model:command", "Convert a model of another program to a model folder."),
    "data": ("soundbench.cli.data:command", "Check a recipe's sound files, or list those of a folder."),
    "list-plugins": ("soundbench.cli.list_plugins:command", "List the components that a recipe can name."),
}

# Errors of the system that the user can fix: no space left, no permission.
_NOT_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


class _Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in COMMANDS:
            from soundbench.messages import nearest

            hint = nearest(cmd_name, COMMANDS) or ";"
            ctx.fail(f'there is no command "{cmd_name}"{hint} known: {", ".join(COMMANDS)}')
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.command(cls=_Commands, name="soundbench", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of any error. May stand anywhere in the call.")
@click.version_option(package_name="soundbench", prog_name="soundbench", message="%(prog)s %(version)s")
def group(debug: bool) -> None:
    """Train, evaluate and use sound classifiers that TOML recipes describe."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The program: exits 0 done, 1 failed, 2 a mistake in the call, 3 an unusable plugin, 130 or 143 stopped."""
    sys.exit(invoke(sys.argv[1:] if arguments is None else arguments))


def invoke(arguments: Sequence[str]) -> int:
    """Run the command line with these arguments; returns the exit code."""
    plain = [argument for argument in arguments if argument != "--debug"]
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        code = group.main(args=plain, prog_name="soundbench", standalone_mode=False)
    except SystemExit as asked:
        return asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped by hand", err=True)
        return 130
    except Exception as error:
        if len(plain) < len(arguments):
            traceback.print_exc()
        message, code = _explain(error)
        click.echo(message, err=True)
        return code
    return code if isinstance(code, int) else 0


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Print a warning: one about a sound file is one line."""
    from soundbench.errors import SoundWarning
    from soundbench.terminal import on_terminal

    if not issubclass(category, SoundWarning):
        filename, lineno = place[:2]
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))
        return
    start = "\r\x1b[K" if on_terminal() else ""  # a status line may stand there
    sys.stderr.write(f"{start}{message}\n")


def _explain(error: Exception) -> tuple[str, int]:
    """The message and the exit code of an exception."""
    from soundbench.errors import SoundbenchError

    if isinstance(error, SoundbenchError):
        return str(error), error.exit_code
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _NOT_OURS:
        return f"{error.filename or 'the disk'}: {(error.strerror or text).lower()}", 1
    return f"{type(error).__name__}: {text} (--debug shows the traceback)", 1
