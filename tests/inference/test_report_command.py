"""`soundbench report`: the pages of a run, an evaluation and all folds, made anew from their files, without torch."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.html import Element, parsed
from helpers.runs import RECIPE, toy_run

import soundbench
from soundbench.cli.main import invoke
from soundbench.report import run_directory
from soundbench.report.html.renewal import renew
from soundbench.report.run_directory import RunDirectory

pytestmark = pytest.mark.usefixtures("cache")

NOISE = '''
import numpy as np
from soundbench.contracts import Clip


class Noise:
    """Noise of two kinds."""

    multilabel = False
    classes = ("low", "<i>high")
    fingerprint = "noise"

    def clips(self):
        for number in range(48):
            yield Clip(str(number), (self.classes[number % 2],), fold=1 + number // 2 % 3, group=str(number // 2))

    def read(self, clip):
        noise = np.random.default_rng(int(clip.path)).normal(0, 0.1, 2000).astype(np.float32)
        return noise, 8000
'''


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, a run of it, an evaluation, and a run of all folds; sounds of both kinds are alike."""
    folder = tmp_path_factory.mktemp("reports")
    (folder / "noise.py").write_text(NOISE)
    dataset = RECIPE[RECIPE.index("dataset =") : RECIPE.index("\naugmentation")]
    own = RECIPE.replace(dataset, f'dataset = "{folder}/noise.py:Noise"').replace("test = [4]", "test = [3]")
    (folder / "toy.toml").write_text(own.replace("epochs = 3", "epochs = 2"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUNDBENCH_CACHE", str(folder / "cache"))
        run = toy_run(folder / "toy.toml", folder / "run")
        soundbench.evaluate(run, out=folder / "evaluation", trust_code=True, say=lambda _: None)
        from soundbench.training.folds import run_folds

        run_folds(folder / "toy.toml", out=folder / "folds", say=lambda _: None)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(made / "run", tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def root_of(path: Path) -> Element:
    return parsed((path / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["run", "evaluation", "folds"])
def test_a_run_writes_its_page_and_the_command_writes_the_same(made: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(made / name, tmp_path / name)
    report = json.loads((copy / "report.json").read_text())
    root = root_of(copy)
    wrong = sum(map(sum, report["confusion"])) - sum(row[code] for code, row in enumerate(report["confusion"]))
    assert wrong > 0
    assert len(list(root.each("audio"))) == min(wrong, 20)

    def read() -> list[str]:
        """The files; each Ogg stream has a number of its own."""
        texts = [(copy / file).read_text(encoding="utf-8") for file in ("report.html", "report.md", "report.json")]
        return [re.sub(r"data:audio[^\"]*", "", text) for text in texts]

    before = read()
    for file in ("report.html", "report.md"):
        (copy / file).unlink()
    said: list[str] = []
    renew(copy, trust_code=True, say=said.append)
    assert said == []
    assert read() == before


def test_the_command_imports_no_torch(run: RunDirectory) -> None:
    run.report_html.unlink()
    script = (
        "import sys\nfrom soundbench.cli.main import invoke\n"
        f"code = invoke(['report', {str(run.path)!r}, '--trust-code'])\n"
        "print(code, {'torch', 'ignite'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(run.report_html), "0 set()"]
    assert done.stderr == ""
    assert list(root_of(run.path).each("audio"))


def test_code_of_the_run_is_executed_only_if_it_is_trusted(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["report", str(run.path)]) == 0
    out, text = capsys.readouterr()
    assert out == f"{run.report_html}\n"
    assert text.count("\n") == 1
    assert text.startswith(f"{run.report_html}: mistakes without sound: ")
    assert "add --trust-code" in text
    assert not list(root_of(run.path).each("audio"))
    assert "add --trust-code" in root_of(run.path).section("Worst mistakes").text


def test_the_digests_of_a_finished_run_stay_true(run: RunDirectory) -> None:
    run.report_html.write_text("edited")
    assert run_directory.changed_results(run) == ["report.html"]
    renew(run.path, trust_code=True, say=lambda _: None)
    assert run_directory.changed_results(run) == []


@pytest.mark.parametrize("name", ["predictions.csv", "report.json", "history.csv"])
def test_results_that_have_changed_are_refused_until_they_are_accepted(
    run: RunDirectory, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = run.report_html.read_bytes()
    text = (run.path / name).read_text()
    (run.path / name).write_text(re.sub(r"0\.(\d)", lambda digit: f"0.{(int(digit[1]) + 1) % 10}", text, count=1))
    assert invoke(["report", str(run.path), "--trust-code"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"{run.path / name}: was changed since soundbench wrote it" in message
    assert run.report_html.read_bytes() == page
    assert invoke(["report", str(run.path), "--trust-code", "--accept-changes"]) == 0
    assert run_directory.changed_results(run) == []


def test_damage_is_one_line(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    def message(*more: str) -> str:
        code = invoke(["report", str(run.path), "--trust-code", *more])
        text = capsys.readouterr().err
        assert (code, text.count("\n")) == (1, 1), text
        return text

    predictions = run.predictions.read_text()
    run.predictions.write_text(predictions.replace(",low,", ",nothing,", 1))
    assert "predictions.csv: damaged: row 2: 'nothing' is not among its classes" in message("--accept-changes")
    run.predictions.write_text(predictions)
    report = json.loads(run.report_json.read_text())
    for damaged in ('{"metrics"', "[]", json.dumps({**report, "metrics": {"accuracy": 3}})):
        run.report_json.write_text(damaged)
        assert "report.json: damaged: " in message("--accept-changes")
    run.report_json.unlink()
    assert message() == f"{run.path}: the run is not finished: report.json missing\n"


def test_what_is_no_run_is_one_line(tmp_path: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for path, what in (
        (tmp_path / "none", "no such run directory"),
        (tmp_path / "empty", "not a run directory: recipe.toml is missing"),
        (made / "toy.toml", "is a file, not a run directory"),
        (made / "run" / "model", "not a run directory"),
    ):
        assert invoke(["report", str(path)]) == 2
        text = capsys.readouterr().err
        assert text.startswith(f"{path}: {what}")
        assert text.count("\n") == 1


def test_nothing_is_written_through_a_link(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("untouched")
    run.report_html.unlink()
    run.report_html.symlink_to(tmp_path / "precious")
    assert invoke(["report", str(run.path), "--accept-changes"]) == 2
    assert (tmp_path / "precious").read_text() == "untouched"
