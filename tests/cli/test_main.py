"""The command line: what it imports, and what it makes of errors."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from soundbench import __version__
from soundbench.cli import main as cli
from soundbench.errors import BrokenPlugin, CallError, MissingDataError, Problem, RecipeError, RunError, SoundbenchError

Call = Callable[[Exception | BaseException | None], tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a command that raises what it is given."""

    def call(raised: BaseException | None, *more: str) -> tuple[int, str, str]:
        @click.command()
        def command() -> None:
            click.echo("at work")
            if raised is not None:
                raise raised

        monkeypatch.setattr(cli._Commands, "get_command", lambda *_: command)
        code = cli.invoke([*more, "run"])
        return code, *capsys.readouterr()

    return call


def imported(*arguments: str) -> tuple[str, list[str]]:
    """What a call prints, and which of the heavy modules it imports."""
    script = (
        "import sys, json\n"
        "from soundbench.cli.main import invoke\n"
        f"code = invoke({list(arguments)!r})\n"
        "heavy = {'torch', 'numpy', 'ignite', 'matplotlib', 'sounddevice', 'soundfile', 'soundbench_plugins'}\n"
        "print(json.dumps([code, sorted(heavy & {name.partition('.')[0] for name in sys.modules})]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    *printed, last = done.stdout.splitlines()
    code, heavy = json.loads(last)
    assert code == 0
    return "\n".join(printed), heavy


def test_help_imports_nothing_heavy_and_names_every_command() -> None:
    printed, heavy = imported("--help")
    assert heavy == []
    assert [line.split()[0] for line in printed.partition("Commands:\n")[2].splitlines()] == list(cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    printed, heavy = imported(command, "--help")
    assert heavy == []
    assert printed.startswith(f"Usage: soundbench {command}")


def test_listing_imports_neither_torch_nor_numpy_nor_a_plugin() -> None:
    assert imported("list-plugins")[1] == []
    assert imported("list-plugins", "backbone", "--json")[1] == []


def test_the_version_and_the_module() -> None:
    done = subprocess.run([sys.executable, "-m", "soundbench", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"soundbench {__version__}, torch ")


def test_what_goes_well_exits_0(call: Call) -> None:
    assert call(None) == (0, "at work\n", "")


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (SoundbenchError("no"), 1, "no"),
        (RunError("no"), 1, "no"),
        (CallError("no"), 2, "no"),
        (MissingDataError("no"), 2, "no"),
        (RecipeError("r.toml", [Problem("a.b", "no"), Problem("", "nor")]), 2, "r.toml: a.b: no\nr.toml: nor"),
        (RecipeError("r.toml", [Problem("a.use", "no", plugin=True)]), 3, "r.toml: a.use: no"),
        (BrokenPlugin("no"), 3, "no"),
        (KeyboardInterrupt(), 130, "\nstopped by hand"),
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), 1, "/a/b: no space left on device"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "the disk: no space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), 1, "/a: permission denied"),
        (OSError(errno.EIO, "Bad"), 1, "OSError: [Errno 5] Bad (--debug shows the traceback)"),
        (ZeroDivisionError("x\n  y"), 1, "ZeroDivisionError: x y (--debug shows the traceback)"),
    ],
)
def test_what_is_raised_becomes_one_message_and_an_exit_code(
    call: Call, raised: BaseException, code: int, message: str
) -> None:
    assert call(raised) == (code, "at work\n", f"{message}\n")


@pytest.mark.parametrize(("raised", "code"), [(SystemExit(3), 3), (SystemExit(), 0), (click.exceptions.Exit(4), 4)])
def test_an_exit_code_that_a_command_asks_for_is_kept(call: Call, raised: BaseException, code: int) -> None:
    assert call(raised) == (code, "at work\n", "")


def test_debug_shows_the_traceback_wherever_it_stands(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, told = call(CallError("no"), "--debug")  # type: ignore[call-arg]
    assert code == 2
    assert told.startswith("Traceback (most recent call last):")
    assert told.endswith("soundbench.errors.CallError: no\nno\n")


def test_debug_may_follow_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.invoke(["list-plugins", "nothing", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_unknown_command_is_reported_with_the_nearest_and_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.invoke(["rnu"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        'Error: there is no command "rnu"; did you mean "run"? known: ' + ", ".join(cli.COMMANDS)
    )


def test_an_unknown_option_is_reported_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.invoke(["list-plugins", "--jsn"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("Error: No such option '--jsn'.")


def test_a_recipe_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.invoke(["describe", "nowhere/at_all.toml"]) == 2
    assert capsys.readouterr().err.startswith("nowhere/at_all.toml: there is no such file")
