"""The code blocks of pages, and how each kind of them runs, in the folder that `furnished` fills."""

from __future__ import annotations
import __future__

import contextlib
import copy
import csv
import glob
import io
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import textwrap
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import attrs
import pytest

from helpers.fake_sounddevice import FakeAudio
from helpers.furnished import ROOT, tone
from helpers.runtime_package import write_package
from helpers.served import Server
from helpers.sweeps import PROGRAM

TRANSLATED: dict[tuple[str, int], Any] = {}
CODE = ("sh", "console", "python", "toml", "r")
FENCE = re.compile(r"^( *)```(\w*)((?: [\w-]+=\"[^\"]*\")*)\s*$")


@attrs.frozen
class Block:
    """A fenced block: where it begins, its language, what its fence says beside it, its text."""

    page: Path
    line: int
    language: str
    says: dict[str, str]
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All blocks of a page; a fence that is not understood is an error."""
    found, inside = [], None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if inside is not None and line.strip() == "```":
            indent, language, says, start, lines = inside
            text = "".join(f"{one.removeprefix(indent)}\n" for one in lines)
            found.append(Block(page, start, language, says, text))
            inside = None
        elif inside is not None:
            inside[-1].append(line)
        elif line.lstrip().startswith("```"):
            match = FENCE.match(line)
            assert match, f'{page}:{number}: a fence must be a language and NAME="TEXT", is {line}'
            inside = (match[1], match[2], dict(re.findall(r"([\w-]+)=\"([^\"]*)\"", match[3])), number, [])
    assert inside is None, page
    return found


def commands(block: Block) -> list[str]:
    """The commands of a block, each on one line; what they print is left out."""
    joined = block.text.replace("\\\n", " ")
    if block.language == "console":
        return re.findall(r"^\$ (.*)$", joined, re.MULTILINE)
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def outputs(block: Block) -> list[str]:
    """What a block shows after each of its commands."""
    if block.language != "console":
        return [""] * len(commands(block))
    return re.split(r"^\$ .*\n", block.text.replace("\\\n", " "), flags=re.MULTILINE)[1:]


def without_training(patch: pytest.MonkeyPatch, trained: Path) -> None:
    """Let a run of this process prepare what its recipe says, and end as a copy of one that was trained.

    The runs of a sweep, which are processes, end with results that are made up. Since all runs have one network, it is
    translated for ONNX once.
    """
    from soundbench import recipe as recipes
    from soundbench.cli import sweep
    from soundbench.recipe.registry import Registry
    from soundbench.report.results.run import Run
    from soundbench.training import folds, run, stages

    def copied(recipe: Any, *, out: Any = None, **_: Any) -> Run:
        prepared = stages.prepare(recipes.given(recipe), cache=False, say=print)
        path = Path(out or f"runs/{prepared.recipe.name}-{len(list(Path('runs').glob('*')))}")
        shutil.copytree(trained, path, dirs_exist_ok=True)
        return Run(path)

    patch.setattr(run, "run", copied)
    patch.setattr(folds, "run_folds", copied)
    patch.setattr(sweep, "_PROGRAM", PROGRAM)
    exporter = Registry().get("exporter", "onnx").obj
    patch.setattr(exporter, "_model", _translated_once(exporter._model))


def _translated_once(translate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def translated(exporter: Any) -> Any:
        key = (exporter.program.metadata["weights"], exporter.opset)
        if key not in TRANSLATED:
            TRANSLATED[key] = translate(exporter)
        return copy.deepcopy(TRANSLATED[key])

    return translated


def given_names() -> dict[str, Any]:
    """What the Python of a page finds that is the reader's own: a source of sound, a table, a network, a function."""
    from soundbench.backbones import Identity

    own = {"blocks": [tone(1.0, 48000, 500)], "table": {"path": ["a.wav", "b.wav"]}, "MyNet": Identity}
    return {"__name__": "page", "my_optimizer": lambda groups, *, name="SGD": None, **own}


@attrs.define
class Workshop:
    """A furnished folder, in which the blocks of one page run one after the other."""

    folder: Path
    patch: pytest.MonkeyPatch
    names: dict[str, Any] = attrs.field(factory=given_names)
    server: Server | None = None
    modules: list[str] = attrs.field(factory=list)

    def run(self, block: Block) -> None:
        self.patch.chdir(self.folder)
        getattr(self, f"_{block.language}")(block)

    def close(self) -> None:
        """Forget what the page has installed, and end the server that it has started."""
        for name in self.modules:
            sys.modules.pop(name, None)
        self._stop()

    def _stop(self) -> None:
        if self.server is not None:
            code, errors = self.server.end()
            assert code == 0, errors

    def _served(self, text: str) -> str:
        """The text with the port that the page's server has here, where others may use 8000."""
        return text if self.server is None else text.replace("localhost:8000", f"localhost:{self.server.port}")

    def _python(self, block: Block) -> None:
        text = "\n" * block.line + textwrap.dedent(self._served(block.text))
        exec(compile(text, block.page, "exec", __future__.annotations.compiler_flag), self.names)

    def _sh(self, block: Block) -> None:
        for line, shown in zip(commands(block), outputs(block), strict=True):
            with _captured() if "prints" in block.says else contextlib.nullcontext() as printed:
                code = self._line(self._served(line))
            assert (code != 0) == ("fails" in block.says), f"{block}: {line}: exit code {code}"
            assert printed is None or printed.getvalue().rstrip() == shown.rstrip(), f"{block}: {line}"

    _console = _sh

    def _toml(self, block: Block) -> None:
        from soundbench import read_recipe
        from soundbench.contracts import KINDS
        from soundbench.errors import RecipeError

        tables = tomllib.loads(block.text)
        if "project" in tables:
            groups = tables["project"].get("entry-points", {})
            assert all(name.removeprefix("soundbench.") in {*KINDS, "model"} for name in groups), block
            return
        path = self.folder / block.says.get("file", "shown.toml")
        path.write_text(block.text)
        missing = [
            f'{name} = "{use}"\n' for name, use in (("dataset", "tones"), ("backbone", "tdnn")) if name not in tables
        ]
        whole = self.folder / path.parent.relative_to(self.folder) / "whole.toml"
        whole.write_text(("" if "extends" in tables else "".join(missing)) + _without_sweep(block.text))
        with pytest.raises(RecipeError) if "fails" in block.says else contextlib.nullcontext():
            read_recipe(whole)

    def _line(self, line: str) -> int:
        """Run a line of a shell, up to the first command that fails; returns the exit code of the last that was run."""
        if " || " in line:
            return _shell(line)
        return next(filter(None, map(self._command, line.split(" && "))), 0)

    def _command(self, line: str) -> int:
        """Run one command, or two with a pipe between them; returns its exit code."""
        source, _, last = line.rpartition(" | ")
        words = shlex.split(last, comments=True)
        if words[:2] == ["pip", "install"]:
            return self._install(words[2:])
        if words[0] == "cd":
            self.patch.chdir(words[1])
            return 0
        if words[:2] == ["soundbench", "serve"]:
            self._stop()
            self.server = Server(Path(words[2]), *words[3:])
            return 0
        if words[:2] == ["soundbench", "thresholds"]:
            _mark(Path(words[3]))
        if words[0] not in {"soundbench", "soundbench-run-onnx"}:
            return _shell(line)
        target = words[-1] if len(words) > 2 and words[-2] == ">" else None
        with contextlib.ExitStack() as stack:
            if target:
                words = words[:-2]
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(target, "w"))))
            if source:
                piped = self.folder / "piped"
                with piped.open("wb") as file:
                    subprocess.run(["bash", "-ec", source], stdout=file, check=True)
                self.patch.setattr(sys, "stdin", stack.enter_context(piped.open()))
            elif words[1] in {"stream", "record"} and "--source" not in words:
                self._listen()
            return _invoke([*_expanded(words)])

    def _listen(self) -> None:
        """Give this process a microphone that hears two seconds; then somebody presses Ctrl-C."""
        fake = FakeAudio(tone(2.0, 16000, 500)[:, None], 16000)
        self.patch.setitem(sys.modules, "sounddevice", fake)

        def press() -> None:
            while fake.at < 3 * fake.rate:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=press, daemon=True).start()

    def _install(self, words: Sequence[str]) -> int:
        """Look whether what is installed exists; what a folder registers is found from then on."""
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for word in words:
            match = re.fullmatch(r"(?:soundbench|\.)\[(.*)\]", word)
            if match:
                assert set(match[1].split(",")) <= set(extras), word
            elif word.endswith("soundbench-runtime"):
                write_package(self.folder / "installed")
            elif (Path(word) / "pyproject.toml").is_file():
                self._register(Path(word))
            else:
                assert word.startswith("http") or "/" not in word or Path(word).exists(), word
        return 0

    def _register(self, package: Path) -> None:
        project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
        if any(distributions(name=project["name"])):
            return
        info = self.folder / "installed" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        groups = project.get("entry-points", {})
        lines = [f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in names.items()) for group, names in groups.items()]
        (info / "entry_points.txt").write_text("\n".join(lines))
        self.modules += [path.stem for path in package.glob("soundbench_*")]
        self.find(package.resolve())

    def find(self, folder: Path) -> None:
        """Let this process, and those that it starts, find what is installed in a folder."""
        self.patch.syspath_prepend(folder)
        self.patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


def _shell(line: str) -> int:
    done = subprocess.run(["bash", "-ec", line], stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="")
    return done.returncode


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
    """What is printed, on standard output and by this process on standard error too."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        yield text


def _mark(table: Path) -> None:
    """Be the person who listens: of what nobody has marked, the half of a class that scores more is right."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["score"]))
    for row in rows:
        scores = [float(other["score"]) for other in rows if other["label"] == row["label"]]
        row["correct"] = row["correct"] or ("yes" if float(row["score"]) > statistics.median(scores) else "no")
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _without_sweep(text: str) -> str:
    return re.split(r"^\[sweep\]$", text, maxsplit=1, flags=re.MULTILINE)[0]


def _expanded(words: Sequence[str]) -> Iterator[str]:
    """The words with files in place of patterns, and without `--processes N`: the work is done by this process."""
    left = iter(words)
    for word in left:
        if word == "--processes":
            next(left)
        else:
            yield from sorted(glob.glob(word)) if re.search(r"[*?]", word) and glob.glob(word) else [word]


def _invoke(words: list[str]) -> int:
    if words[0] == "soundbench-run-onnx":
        from soundbench_runtime.command import main

        try:
            return main(words[1:]) or 0
        except SystemExit as asked:
            return int(asked.code or 0)
    from soundbench.cli.main import invoke

    return invoke(words[1:])
