"""What bad input gets on the command line where a built-in is at fault: the whole message, and an exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from soundbench.audio import SUFFIXES
from soundbench.cli.main import invoke

Call = Callable[..., tuple[int, str]]
KNOWN = ", ".join(sorted(SUFFIXES))


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the program in an empty folder; returns its exit code and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(tmp_path / "cache"))

    def call(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = invoke(arguments)
        out, text = capsys.readouterr()
        assert "Traceback" not in out + text
        return code, text

    return call


def mine(*lines: str, dataset: str = 'use = "tones"') -> None:
    Path("mine.toml").write_text("\n".join(['backbone = "campplus"', "[dataset]", dataset, *lines, ""]))


# Recipes


def test_a_missing_table_names_what_there_is(call: Call) -> None:
    Path("mine.toml").write_text('backbone = "campplus"\n')
    known = (
        "3dspeaker-dialects, annotations, esc50, folder, manifest, speech-commands, tones, urbansound8k, "
        "voxceleb-cnceleb"
    )
    message = f'mine.toml: dataset: this table is missing; write dataset = "NAME", known: {known}\n'
    assert call("run", "mine.toml") == (2, message)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["[pooling]", 'use = "asb"'], 'pooling.use: there is no pooling "asb"; did you mean "asp"? known: '),
        (["[featurizer]", "band = 3"], 'featurizer.band: unknown key; did you mean "bands"? known: bands, '),
        (["[featurizer]", 'bands = "80"'], 'featurizer.bands: must be an integer, is "80"\n'),
        (["[optimizer]", "lr = -1.0"], "optimizer.lr: must be at least 0 and finite, is -1\n"),
        (["[optimizer]", "betas = [0.9]"], "optimizer.betas: must be two numbers from 0 to below 1, is [0.9]\n"),
    ],
)
def test_a_mistake_in_a_component_is_reported_under_its_key(call: Call, lines: list[str], message: str) -> None:
    mine(*lines)
    code, text = call("describe", "mine.toml")
    assert code == 2
    assert text.startswith(f"mine.toml: {message}")
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ('use = "tones"\nclips = 3', "dataset.clips: must be at least 10, one of each class, is 3"),
        ('use = "urbansound8k"\nfolds = [0]', "dataset.folds: must be some of 1 to 10, is [0]"),
        ('use = "esc50"\nsubset = "esc11"', 'dataset.subset: must be "esc50" or "esc10", is "esc11"; did you mean'),
    ],
)
def test_a_mistake_in_a_dataset_is_reported_under_its_key(call: Call, dataset: str, message: str) -> None:
    mine(dataset=dataset)
    code, text = call("run", "mine.toml")
    assert code == 2
    assert text.startswith(f"mine.toml: {message}")
    assert text.count("\n") == 1


# Data that is not there


@pytest.mark.parametrize("command", [["run"], ["data", "check"]])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "no such folder; dataset.root must be a folder of class folders"),
        ("esc50", "no such folder; dataset.root must be the folder of ESC-50 (meta/, audio/)"),
        (
            "urbansound8k",
            "no such folder; dataset.root must be the folder of UrbanSound8K (metadata/, audio/)",
        ),
    ],
)
def test_a_root_that_is_not_there(call: Call, tmp_path: Path, command: list[str], name: str, message: str) -> None:
    mine(dataset=f'use = "{name}"\nroot = "nowhere"')
    assert call(*command, "mine.toml") == (2, f"{tmp_path}/nowhere: {message}\n")
    assert not Path("runs").exists()


def test_metadata_that_lists_a_missing_file(call: Call, tmp_path: Path) -> None:
    mine("[split]", "test = [2]", dataset='use = "urbansound8k"\nroot = "us"\nfolds = [1, 2]')
    for folder in ("metadata", "audio/fold1", "audio/fold2"):
        Path("us", folder).mkdir(parents=True)
    rows = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    rows += ["1-3-0-0.wav,1,0,1,1,1,3,dog_bark", "2-8-0-0.wav,2,0,1,1,2,8,siren"]
    Path("us/metadata/UrbanSound8K.csv").write_text("\n".join(rows) + "\n")
    Path("us/audio/fold1/1-3-0-0.wav").touch()
    assert call("run", "mine.toml") == (
        2,
        f"{tmp_path}/us/audio/fold2/2-8-0-0.wav: no such file; missing: 1 of the 2 clips in the metadata of "
        "folds 1, 2\n",
    )


def test_a_folder_that_is_laid_out_otherwise(call: Call, tmp_path: Path) -> None:
    mine(dataset='use = "folder"\nroot = "sounds"')
    Path("sounds").mkdir()
    assert call("run", "mine.toml") == (
        2,
        f"{tmp_path}/sounds: no class folders in it; it must contain one folder per class\n",
    )
    Path("sounds/dog").mkdir()
    Path("sounds/rain").mkdir()
    Path("sounds/dog/1.wav").touch()
    assert call("run", "mine.toml") == (
        1,
        f"{tmp_path}/sounds: no sound file in 1 of 2 class folders: rain; known: {KNOWN}\n",
    )


def test_bad_rows_of_a_manifest_are_reported_by_their_lines(call: Call, tmp_path: Path) -> None:
    mine(dataset='use = "manifest"\npath = "list.csv"')
    assert call("run", "mine.toml") == (2, f"{tmp_path}/list.csv: no such file; it must be a manifest\n")
    Path("list.csv").write_text("path,label,gruop\n1.wav,dog,a\n")
    column = "column 'gruop' is unknown; did you mean 'group'?"
    assert call("run", "mine.toml") == (1, f"{tmp_path}/list.csv, line 1: {column}\n")
    Path("list.csv").write_text("path,label,start,stop\n1.wav,dog,x,1\n2.wav,dog,2,1\n3.wav,,,\n,dog,,\n5.wav,dog\n")
    faults = [
        "start must be seconds, at least 0, is 'x'",
        "stop 1 is not after start 2",
        "no label",
        "no path",
        "2 cells under 4 columns",
    ]
    lines = "".join(f"{tmp_path}/list.csv, line {line}: {fault}\n" for line, fault in enumerate(faults, 2))
    assert call("run", "mine.toml") == (1, lines)


def test_a_manifest_of_a_folder_names_what_lies_in_no_class(call: Call) -> None:
    message = "no such folder; expected a folder with one folder per class"
    assert call("data", "manifest", "nowhere") == (2, f"nowhere: {message}\n")
    Path("sounds").mkdir()
    assert call("data", "manifest", "sounds") == (2, f"sounds: no sound file in this folder; known: {KNOWN}\n")
    Path("sounds/1.wav").touch()
    assert call("data", "manifest", "sounds") == (
        1,
        "sounds/1.wav: is not in a class folder; move it into the folder of its class\n",
    )
