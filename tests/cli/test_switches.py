"""What every command has: `--quiet`, `--verbose`, `--version`, completion, one spelling of each option, no colours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from soundbench.cli.main import COMMANDS, group, invoke

PROGRAM = [sys.executable, "-m", "soundbench"]


def options() -> Iterator[tuple[str, click.Option]]:
    """Every option, with the command that has it."""
    waiting: list[tuple[str, click.Command]] = [("", group)]
    for name, (place, _) in COMMANDS.items():
        module, attribute = place.split(":")
        waiting.append((name, getattr(import_module(module), attribute)))
    while waiting:
        name, command = waiting.pop()
        yield from ((name, option) for option in command.params if isinstance(option, click.Option))
        if name != "import":  # importers are plugins
            waiting += [(f"{name} {inner}", one) for inner, one in getattr(command, "commands", {}).items()]


def test_one_meaning_has_one_spelling() -> None:
    """Options whose help begins with the same sentence are spelt alike, in whichever command they are."""
    spelt = defaultdict(set)
    for _, option in options():
        spelt[(option.help or "").partition(".")[0]].add(tuple(option.opts))
    assert {sentence: names for sentence, names in spelt.items() if len(names) > 1} == {}


def test_no_option_is_short_but_that_for_help() -> None:
    assert not [(name, option.opts) for name, option in options() if any(len(one) == 2 for one in option.opts)]


def test_an_option_that_may_stand_anywhere_is_not_taken_from_behind_two_dashes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert invoke(["describe", "--", "--debug"]) == 2
    assert capsys.readouterr().err.startswith("--debug: there is no such file")


def test_quiet_and_verbose_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["recipes", "--quiet", "--verbose"]) == 2
    assert "--quiet and --verbose: give one of them" in capsys.readouterr().err


def test_quiet_leaves_results_warnings_and_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`extract` prints progress; the same call, quiet, prints its result alone; a mistake is printed as ever."""
    environment = {**os.environ, "SOUNDBENCH_CACHE": str(tmp_path / "cache")}
    call = [*PROGRAM, "extract", "quickstart", "--set", "dataset.clips=50"]

    def done(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*call, *more], capture_output=True, text=True, env=environment, check=False)

    loud, quiet, wrong = done(), done("--quiet"), done("--quiet", "--set", "train.epoch=1")
    assert "clips" in loud.stderr
    assert all(line and "\r" not in line for line in loud.stderr.split("\n")[:-1])  # whole lines, in a pipe
    assert (quiet.returncode, quiet.stdout) == (0, loud.stdout)
    assert quiet.stderr == "to train on these features, set train.extracted=true\n"
    assert wrong.returncode == 2
    assert 'did you mean "epochs"' in wrong.stderr


def test_quiet_reaches_processes_and_ends_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOUNDBENCH_QUIET", raising=False)
    seen: list[bool] = []

    @click.command()
    def command() -> None:
        seen.append("SOUNDBENCH_QUIET" in os.environ)

    monkeypatch.setattr(type(group), "get_command", lambda *_: command)
    invoke(["run", "--quiet"])
    invoke(["run"])
    assert seen == [True, False]


def test_verbose_prints_what_libraries_log() -> None:
    code = (
        "import click, logging, warnings\nfrom soundbench.cli import main\n"
        "@click.command()\ndef command():\n    logging.getLogger('library').info('at work')\n"
        "    for _ in range(2): warnings.warn('odd', DeprecationWarning)\n"
        "main._Commands.get_command = lambda *_: command\nmain.invoke({})"
    )
    loud, plain = (
        subprocess.run([sys.executable, "-c", code.format(words)], capture_output=True, text=True, check=True).stderr
        for words in (["run", "--verbose"], ["run"])
    )
    assert loud.count("library: at work") == 1
    assert loud.count("odd") >= 2
    assert "library" not in plain
    assert plain.count("odd") == 1


def test_the_version_is_that_of_soundbench_torch_and_python_and_imports_no_torch() -> None:
    code = (
        "import sys\nfrom soundbench.cli.main import invoke\n"
        "assert invoke(['--version']) == 0\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    python = ".".join(map(str, sys.version_info[:3]))
    assert done.stdout == f"soundbench {version('soundbench')}, torch {version('torch')}, Python {python}\nFalse\n"


def asked(*words: str) -> list[str]:
    """What bash is offered in the place of the last word."""
    environment = {**os.environ, "COMP_WORDS": " ".join(["soundbench", *words]), "COMP_CWORD": str(len(words))}
    environment["_SOUNDBENCH_COMPLETE"] = "bash_complete"
    done = subprocess.run(PROGRAM, capture_output=True, text=True, env=environment, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_options_and_recipes_are_completed() -> None:
    assert asked("rec") == ["plain,record", "plain,recipes"]
    assert asked("infer", "--prec") == ["plain,--precision"]
    assert asked("infer", "--precision", "b") == ["plain,bf16"]
    assert asked("run", "quick") == ["file,quick", "plain,quickstart"]
    assert asked("nothing", "x") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_takes_the_script(shell: str, tmp_path: Path) -> None:
    done = subprocess.run([*PROGRAM, "completion", shell], capture_output=True, text=True, check=True)
    assert f"_SOUNDBENCH_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell) is None:
        return
    (tmp_path / "script").write_text(done.stdout)
    subprocess.run([shell, "-n", str(tmp_path / "script")], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_a_command(tmp_path: Path) -> None:
    """In a real bash: the function that the script defines fills COMPREPLY."""
    program = tmp_path / "soundbench"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m soundbench "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(soundbench completion bash)"\nCOMP_WORDS=(soundbench desc)\nCOMP_CWORD=1\n'
        '_soundbench_completion soundbench\necho "${COMPREPLY[@]}"\n'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, env={**os.environ, "PATH": path}
    )
    assert done.stdout == "describe\n"


@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--need", "wav"], ["recipes"], ["rnu"]])
def test_nothing_is_coloured_not_even_on_a_terminal(arguments: list[str]) -> None:
    """So that `NO_COLOR` has nothing to switch off: on a terminal, without it."""
    ours, theirs = pytest.importorskip("pty", reason="this system has no pseudo-terminals").openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm"}
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    process.wait()
    os.close(ours)
    assert len(seen) > 20
    assert b"\x1b" not in seen
