from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundbench.audio import SUFFIXES
from soundbench.cli.main import invoke

CODE = '''
from pathlib import Path
from torch import nn
from soundbench.contracts import Clip

class Listed:
    """Clips of a folder; the class is the first letter."""
    classes = ("a", "b")
    multilabel = False
    def __init__(self, *, root: Path, gone: int = 0) -> None:
        self.root, self.gone = Path(root), gone
    def clips(self):
        for path in [*sorted(self.root.glob("*.wav")), *(self.root / f"a{n}.gone" for n in range(self.gone))]:
            yield Clip(str(path), (path.name[0],), fold=int(path.stem[1]) % 2)

class Net(nn.Module):
    """Nothing."""
    default_pooling = {"use": "./code.py:Pool"}
    default_head = {}
    def __init__(self, bands: int) -> None:
        super().__init__()
        self.channels = bands
        self.scale = nn.Conv1d(bands, bands, 1)
    def forward(self, features, lengths):
        return self.scale(features), lengths

class Pool(nn.Module):
    """Nothing."""
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = channels
    def forward(self, frames, lengths):
        return frames.mean(dim=2)
'''
RECIPE = """
dataset = {use = "./code.py:Listed", root = "sounds"}
backbone = "./code.py:Net"
pooling = "./code.py:Pool"
split = {test = [1], validation = 0}
audio = {window = 0.5}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a recipe and eight sounds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.py").write_text(CODE)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "sounds").mkdir()
    for number, name in enumerate(f"{label}{fold}" for label in "ab" for fold in range(4)):
        draws = np.random.default_rng(number)
        soundfile.write(tmp_path / f"sounds/{name}.wav", draws.uniform(-0.1, 0.1, 16000), 16000)
    return tmp_path


def test_check_of_good_data_prints_a_table_and_ends_with_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = invoke(["data", "check", "recipe.toml"])
    lines = capsys.readouterr().out.splitlines()

    assert code == 0
    assert lines[0] == "8 clips of 2 classes: 4 train, 4 test; 0.1 minutes of sound"
    assert lines[2].split() == ["check", "count", "examples"]
    assert lines[3].split() == ["missing", "0"]


def test_check_ends_with_1_when_a_run_would_fail(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "sounds/a0.wav").write_bytes(b"")

    code = invoke(["data", "check", "recipe.toml", "--set", "dataset.gone=1"])
    out, err = capsys.readouterr()

    assert code == 1
    assert "sounds/a0.wav: is empty (0 bytes); a sound file is needed" in out
    assert err.splitlines()[0] == "2 of 9 clips cannot be read:"
    assert f"  {folder}/sounds/a0.gone: no such file" in err.splitlines()


def test_check_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = invoke(["data", "check", "recipe.toml", "--json", "--set", "audio.window=2.0"])
    told = json.loads(capsys.readouterr().out)

    assert code == 0
    assert told["clips"] == {"train": 4, "validation": 0, "test": 4, "purged": 0}
    assert told["classes"]["a"] == {"train": 2, "validation": 0, "test": 2, "purged": 0}
    assert told["fatal"] is False
    assert {check["name"]: check["count"] for check in told["checks"]}["shorter than the window, 2 s"] == 8


def test_check_of_a_split_that_cannot_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = invoke(["data", "check", "recipe.toml", "--set", "split.test=[7]"])

    assert code == 2
    assert capsys.readouterr().err.strip() == "--set split.test=[7]: no fold 7; known: 0, 1"


LABELS = ["rock, paper", 'say "hi"', "two  words", "狗叫", "🐕"]


def test_manifest_lists_a_folder_of_class_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in LABELS:
        (folder / "mine" / label / "tape 1").mkdir(parents=True)
        (folder / "mine" / label / "b.wav").touch()
        (folder / "mine" / label / "tape 1" / "a.flac").touch()
        (folder / "mine" / label / "notes.txt").touch()
    (folder / "mine/.cache").mkdir()
    (folder / "mine/.cache/c.wav").touch()
    (folder / "lists").mkdir()

    code = invoke(["data", "manifest", "mine", "--out", "lists/mine.csv"])
    with (folder / "lists/mine.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    assert code == 0
    assert capsys.readouterr().err == "10 sound files listed in lists/mine.csv\n"
    assert {(row["path"], row["label"], row["group"]) for row in rows} == {
        row
        for label in LABELS
        for row in (
            (f"../mine/{label}/b.wav", label, ""),
            (f"../mine/{label}/tape 1/a.flac", label, f"{label}/tape 1"),
        )
    }


def test_manifest_on_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine/dog").mkdir(parents=True)
    (folder / "mine/dog/a.wav").touch()

    assert invoke(["data", "manifest", "mine"]) == 0
    assert capsys.readouterr().out == "path,label,group\nmine/dog/a.wav,dog,\n"


@pytest.mark.parametrize(
    ("argument", "code", "message"),
    [
        ("gone", 2, "gone: no such folder; expected a folder with one folder per class"),
        ("lists", 2, f"lists: no sound file in this folder; known: {', '.join(sorted(SUFFIXES))}"),
        ("sounds", 1, "sounds/a0.wav: is not in a class folder; move it into the folder of its class"),
    ],
)
def test_folders_that_cannot_be_listed(
    folder: Path, capsys: pytest.CaptureFixture[str], argument: str, code: int, message: str
) -> None:
    (folder / "lists").mkdir()

    assert invoke(["data", "manifest", argument]) == code
    assert capsys.readouterr().err.strip().endswith(message)


def test_a_manifest_that_cannot_be_written_is_reported_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine/dog").mkdir(parents=True)
    (folder / "mine/dog/a.wav").touch()

    assert invoke(["data", "manifest", "mine", "--out", "recipe.toml/list.csv"]) == 1
    assert "recipe.toml/list.csv" in capsys.readouterr().err


def test_help_shows_the_whole_summary_of_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["data", "--help"]) == 0
    assert capsys.readouterr().out.partition("Commands:\n")[2].splitlines() == [
        "  check     Check the sound files of a recipe before a run.",
        "  manifest  Write a manifest of a folder that has one folder per class.",
    ]
