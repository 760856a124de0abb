"""What a run on a manifest says of its data, and does with them: folds, classes, repeats, columns, the command line."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tomli
from helpers.runs import TOYS

from soundbench import files
from soundbench.cli.main import invoke

RECIPE = f"""
backbone = "{TOYS}:ToyBackbone"
featurizer = "{TOYS}:ToyFeaturizer"
pooling = "{TOYS}:ToyPooling"
observer = []
dataset = {{use = "manifest", path = "list.csv"}}
audio = {{rate = 8000, window = 0.1}}
train = {{epochs = 1, batch_size = 8, device = "cpu", precision = "fp32", threads = 1}}
"""
NAMES = [f"{label}{number}" for label in ("dog", "cat") for number in range(8)]
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the recipe on a manifest of these rows into `run`, and gives its log."""
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(RECIPE)
    Path("wav").mkdir()
    for number, name in enumerate(NAMES):
        noise = np.random.default_rng(number).uniform(-0.1, 0.1, 800)
        soundfile.write(f"wav/{name}.wav", noise, 8000)

    def run(rows: list[str], *sets: str, code: int = 0) -> str:
        if rows:
            Path("list.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        options = [part for text in sets for part in ("--set", text)]
        assert invoke(["run", "mine.toml", "--out", "run", *options]) == code
        return capsys.readouterr().err

    return run


def parts() -> dict[str, set[str]]:
    """The names of the clips of each part, by `clips.csv`."""
    found: dict[str, set[str]] = {}
    for row in files.read_rows(Path("run/clips.csv")):
        found.setdefault(row["part"], set()).add(Path(row["path"]).stem)
    return found


def test_the_folds_of_the_data_are_the_split(run: Run) -> None:
    folds = {name: ("train", "train", "val", "test")[number % 4] for number, name in enumerate(NAMES)}
    log = run(["path,label,fold", *(f"wav/{name}.wav,{name[:3]},{fold}" for name, fold in folds.items())])
    assert 'split: by the folds of the data: test on "test", validation on folds "val"\n' in log
    named = {"train": "train", "val": "validation", "test": "test"}
    for fold, part in named.items():
        assert parts()[part] == {name for name, own in folds.items() if own == fold}
    recipe = tomli.loads(Path("run/recipe.toml").read_text())
    assert recipe["split"].items() >= {"test": ["test"], "validation": ["val"], "crossing": "purge"}.items()


def test_lists_of_a_predecessor_are_the_split(run: Run) -> None:
    for name, numbers in (("train", "012345"), ("test", "67")):
        rows = [f"wav/{label}{n}.wav\t{code}\n" for code, label in enumerate(("dog", "cat")) for n in numbers]
        Path(f"{name}_list.txt").write_text("".join(rows))
    Path("label_list.txt").write_text("dog\ncat\n")
    lists = ("dataset.path=train_list.txt", "dataset.test=test_list.txt", "dataset.labels=label_list.txt")
    assert "split: by the folds of the data: test on " in run([], *lists)
    assert parts()["test"] == {"dog6", "dog7", "cat6", "cat7"}


def test_folds_of_numbers_are_not_used_and_that_is_said(run: Run) -> None:
    rows = [f"wav/{name}.wav,{name[:3]},{1 + number % 4}" for number, name in enumerate(NAMES)]
    assert "split: the folds of the data (1, 2, 3, 4) are not used: 20% of" in run(["path,label,fold", *rows])


def test_repeats_and_contradictions_are_said(run: Run) -> None:
    rows = [f"wav/{name}.wav,{name[:3]}" for name in NAMES]
    log = run(["path,label", *rows, "./wav/dog1.wav,dog", "wav/../wav/dog2.wav,dog", "wav/dog0.wav,cat"])
    assert "WARNING: 2 clips listed more than once: wav/dog1.wav; wav/dog2.wav\n" in log
    assert "WARNING: 1 clips listed with different labels: wav/dog0.wav (dog; cat)\n" in log
    groups: dict[str, set[str]] = {}
    for row in files.read_rows(Path("run/clips.csv")):
        groups.setdefault(row["path"], set()).add(row["part"])
    assert len(groups) == 16
    assert all(len(own) == 1 for own in groups.values())


def test_classes_that_differ_in_case_alone_are_said(run: Run) -> None:
    rows = [f"wav/{name}.wav,{name[:3].title() if number % 2 else name[:3]}" for number, name in enumerate(NAMES)]
    log = run(["path,label", *rows])
    assert "WARNING: classes that differ in case alone: 'Cat', 'cat'; 'Dog', 'dog'\n" in log


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_one_name_in_two_unicode_forms_is_one_class_whose_files_are_found(run: Run, forms: tuple[str, str]) -> None:
    stored, written = (unicodedata.normalize(form, "caf\u00e9") for form in forms)
    Path("wav", stored).mkdir()
    for number in range(4):
        Path(f"wav/dog{number}.wav").rename(f"wav/{stored}/{number}.wav")
    rows = [f"wav/{written if number % 2 else stored}/{number}.wav,{written}" for number in range(4)]
    run(["path,label", *rows, *(f"wav/cat{number}.wav,rain" for number in range(8))])
    assert tomli.loads(Path("run/model/model.toml").read_text())["classes"] == ["caf\u00e9", "rain"]


def test_further_columns_are_kept_and_may_be_the_group(run: Run) -> None:
    rows = [f"wav/{name}.wav,{name[:3]},{'abcd'[number // 2 % 4]}" for number, name in enumerate(NAMES)]
    run(["path,label,site", *rows], "dataset.group=site", "split.test=0.3", "split.validation=0")
    sites: dict[str, set[str]] = {}
    for row in files.read_rows(Path("run/clips.csv")):
        assert row["group"] == row["site"]
        sites.setdefault(row["part"], set()).add(row["site"])
    assert sites["train"] | sites["test"] == set("abcd")
    assert not sites["train"] & sites["test"]


def test_a_mistake_on_the_command_line_is_blamed_on_it(run: Run) -> None:
    rows = ["path,label", *(f"wav/{name}.wav,{name[:3]}" for name in NAMES)]
    for given, message in (
        ("train.epochs=x", 'must be an integer, is "x"'),
        ("split.test=[3]", "no fold 3: the dataset has no folds; give a fraction, such as 0.2"),
        ("train.class_weights={cow=2.0}", "no class 'cow'; the classes are: cat, dog"),
        ("dataset.pth=x", 'unknown key; did you mean "path"?'),
    ):
        log = run(rows, given, code=2)
        assert log.startswith(f"--set {given}: {message}")
        assert "mine.toml" not in log


def test_the_rows_of_the_classifier_go_to_the_classes_of_the_same_name(run: Run) -> None:
    rows = ["path,label", *(f"wav/{name}.wav,{name[:3]}" for name in NAMES)]
    Path("dc.txt").write_text("dog\ncat\n")
    Path("cd.txt").write_text("cat\ndog\n")
    run(rows, "dataset.labels=dc.txt")
    Path("run").rename("first")
    log = run(rows, "dataset.labels=cd.txt", "init.from=first")
    assert "init: the classifier's rows are matched by the names of the classes\n" in log
