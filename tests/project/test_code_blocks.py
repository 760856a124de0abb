"""Every code block of the README and of the pages runs, or its fence says why not."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers.furnished import ROOT, RUNS, furnish
from helpers.pages import CODE, Workshop, blocks, without_training

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted(page for page in (ROOT / "docs").rglob("*.md") if ".zh." not in page.name)
CI = (ROOT / ".ci" / "run").read_text()
# Pages whose code other tests run: one with trainings of its own, and one that `new-plugin` has written.
ELSEWHERE = {
    ROOT / "docs" / "notebook.md": "tests/project/test_notebook.py",
    ROOT / "docs" / "examples" / "soundbench-tiny" / "README.md": "tests/plugins/test_new_plugins.py",
}


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

        trained = run(read_recipe("mine.toml", ["train.epochs=2"]), out="RUN").path.resolve()
    shutil.copy(trained / "predictions.csv", furnished)
    for name in RUNS[1:]:
        shutil.copytree(trained, furnished / name)
    return furnished


@pytest.fixture
def workshop(furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    shutil.copytree(furnished, tmp_path / "page", symlinks=True)
    monkeypatch.chdir(tmp_path / "page")
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(tmp_path / "cache"))
    # Stand-ins for programs that record and convert, then those of this environment.
    path = [tmp_path / "page" / "bin", Path(sys.executable).parent, os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, path)))
    return Workshop(tmp_path / "page", monkeypatch)


def test_fences_say_what_is_in_them_and_most_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    for page in PAGES:
        for block in blocks(page):
            assert block.language in {*CODE, "text"}, f"{block}: a fence names its language, `text` if it is no code"
            assert set(block.says) <= {"no-run", "run", "file", "fails"}, block
            if block.says.get("run"):
                assert runs_in_ci(block.text), f"{block}: .ci/run does not run this"
            if block.language != "text":
                counts["not run" if "no-run" in block.says else "run"] += 1
    with capsys.disabled():
        print(f"\ncode blocks of {len(PAGES)} pages: {counts['run']} run, {counts['not run']} not: ")
        for block in [block for page in PAGES for block in blocks(page) if "no-run" in block.says]:
            print(f"  {block}: {block.says['no-run']}")
    assert counts["run"] >= 0.75 * counts.total()


def runs_in_ci(text: str) -> bool:
    """Whether .ci/run runs these lines: the first two blocks of the README."""
    return text in [block.text for block in blocks(ROOT / "README.md")[:2]] and "README.md" in CI


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


def run_all(page: Path, workshop: Workshop) -> None:
    for block in blocks(page):
        if block.language != "text" and not {"no-run", "run"} & set(block.says):
            workshop.run(block)
