"""Every code block of the README and of the pages runs, or its fence says why not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import model_packages
from helpers.furnished import ROOT, RUNS, furnish, furnish_city, furnish_models
from helpers.pages import CODE, Block, Workshop, blocks, commands, without_training

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted(page for page in (ROOT / "docs").rglob("*.md") if ".zh." not in page.name)
# What .ci/run runs the marked blocks of, beside those of the README.
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
(PAGES_OF_CI,) = map(str.split, re.findall(r"^ *for page in (.*); do$", CI, re.MULTILINE))
# Pages whose code other tests run: one with trainings of its own, and one that `new-plugin` has written.
ELSEWHERE = {
    ROOT / "docs" / "notebook.md": "tests/project/test_notebook.py",
    ROOT / "docs" / "examples" / "soundbench-tiny" / "README.md": "tests/plugins/test_new_plugins.py",
}
# The blocks that need a package below plugins/, by its name.
NEEDED: dict[str, list[Block]] = {}
for needy in [block for page in PAGES for block in blocks(page) if "needs" in block.says]:
    NEEDED.setdefault(needy.says["needs"], []).append(needy)


def runs(page: Path) -> bool:
    """Whether a page has blocks that take a trained network or a training."""
    return any(block.language in {"sh", "console", "python"} for block in blocks(page))


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "furnished"
    folder.mkdir()
    furnish(folder)
    return folder


@pytest.fixture(scope="module")
def with_runs(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a trained run in all places that pages name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUNDBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.chdir(furnished)
        from soundbench import read_recipe, run

        trained = run(read_recipe("mine.toml", ["backbone.layers=[1]", "train.epochs=2"]), out="RUN").path.resolve()
    shutil.copy(trained / "predictions.csv", furnished)
    owls = model_packages.install(furnished / "installed", "owls", model=None)
    shutil.copytree(trained / "model", owls)
    furnish_models(furnished)
    furnish_city(furnished)
    for name in RUNS[1:]:
        shutil.copytree(trained, furnished / name)
    return furnished


@pytest.fixture
def workshop(furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    shutil.copytree(furnished, tmp_path / "page", symlinks=True)
    monkeypatch.chdir(tmp_path / "page")
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(tmp_path / "cache"))
    # Stand-ins for programs that record and convert, then those of this environment.
    path = [tmp_path / "page" / "bin", Path(sys.executable).parent, os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, path)))
    workshop = Workshop(tmp_path / "page", monkeypatch)
    workshop.find(tmp_path / "page" / "installed")
    yield workshop
    workshop.close()


def test_fences_say_what_is_in_them_and_most_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    for page in PAGES:
        for block in blocks(page):
            assert block.language in {*CODE, "text"}, f"{block}: a fence names its language, `text` if it is no code"
            assert set(block.says) <= {"no-run", "run", "file", "fails", "needs", "prints"}, block
            if "run" in block.says:
                assert runs_in_ci(block), f"{block}: .ci/run does not run this"
            if "needs" in block.says:
                installs = {line for line in commands(block) if line.startswith("pip ")}
                assert installs <= {line_of(block.says["needs"])}, f"{block}: .ci/packages has no such package or line"
            if block.language != "text":
                counts["not run" if "no-run" in block.says else "run"] += 1
    with capsys.disabled():
        print(f"\ncode blocks of {len(PAGES)} pages: {counts['run']} run, {counts['not run']} not: ")
        for block in [block for page in PAGES for block in blocks(page) if "no-run" in block.says]:
            print(f"  {block}: {block.says['no-run']}")
    assert counts["run"] >= 0.95 * counts.total()


def runs_in_ci(block: Block) -> bool:
    """Whether .ci/run runs this: the second or third block of the README, or one of a page that it names."""
    page = block.page.relative_to(ROOT).as_posix()
    return block.text in [one.text for one in blocks(ROOT / "README.md")[1:3]] or page in PAGES_OF_CI


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no bash of its own")
def test_ci_takes_the_marked_blocks_from_pages_each_command_in_a_line_of_its_own() -> None:
    """Under `set -e`, the first of two commands with `&&` between them may fail and the lines below go on."""
    (functions,) = re.findall(r"^block\(\).*?^\}$", CI, re.MULTILINE | re.DOTALL)

    def taken(call: str) -> str:
        line = ["bash", "-euc", f"{functions}\n{call}"]
        return subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout

    for number, block in enumerate(blocks(ROOT / "README.md")[1:3], 2):
        assert taken(f"block {number}") == block.text
    for page in PAGES_OF_CI:
        marked = [line for block in blocks(ROOT / page) if "run" in block.says for line in commands(block)]
        assert taken(f"commands {page}").splitlines() == marked != []
        assert not [line for line in marked if re.search(r"&&|\|", line)]


def line_of(package: str) -> str:
    """The line that .ci/packages installs a package with tests by: that of its page."""
    folder = ROOT / "plugins" / package
    assert (folder / "tests").is_dir()
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("pip install"))


@pytest.mark.parametrize("page", [page for page in PAGES if not runs(page)], ids=lambda page: page.stem)
def test_recipes_of_a_page_resolve(page: Path, workshop: Workshop) -> None:
    run_all(page, workshop)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if runs(page) and page not in ELSEWHERE], ids=lambda page: page.stem
)
def test_the_code_of_a_page_runs(
    page: Path, with_runs: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_training(monkeypatch, with_runs / "RUN")
    run_all(page, workshop)


@pytest.mark.slow
@pytest.mark.parametrize("package", sorted(NEEDED))
def test_the_code_that_needs_a_package_runs(package: str, workshop: Workshop) -> None:
    if find_spec(package.replace("-", "_")) is None:
        pytest.skip(f"{package} is not installed; .ci/packages runs this where it is")
    for block in NEEDED[package]:
        workshop.run(block)


def run_all(page: Path, workshop: Workshop) -> None:
    for block in blocks(page):
        if block.language != "text" and not {"no-run", "run", "needs"} & set(block.says):
            workshop.run(block)
