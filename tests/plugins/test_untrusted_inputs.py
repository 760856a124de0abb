"""Hostile files for the built-in datasets, importers and observers: each is refused at once, in one message."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.clock import within
from soundbench_plugins.layers.encoders import Encoder
from soundbench_plugins.observer.csv_log import CsvLog

from soundbench.cli.main import invoke
from soundbench.contracts import RunInfo
from soundbench.data.clips import ClipTable
from soundbench.errors import SoundbenchError
from soundbench.recipe.registry import Registry

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        with within():
            code = invoke(arguments)
        out, text = capsys.readouterr()
        assert "Traceback" not in out + text
        assert "--debug" not in text
        return code, text

    return call


TABLES = {
    "esc50": ("meta/esc50.csv", "root"),
    "urbansound8k": ("metadata/UrbanSound8K.csv", "root"),
    "speech-commands": ("testing_list.txt", "root"),
}
CONTENT = {
    "pipe": lambda path: os.mkfifo(path),
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00" * 99),
    "NUL": lambda path: path.write_bytes(b"a,b\n\0\0,\0\n"),
    "one field": lambda path: path.write_bytes(b"filename,fold\n" + b"x" * 300_000),
    "digits": lambda path: path.write_text("filename,fold,target,category,src_file\na," + "9" * 5000 + ",0,dog,1\n"),
    "large": lambda path: (path.touch(), os.truncate(path, 3 << 30)),
}


@pytest.mark.parametrize("content", CONTENT)
@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_a_dataset_is_a_file_of_text(tmp_path: Path, name: str, content: str) -> None:
    component = Registry().get("dataset", name).obj
    component.example(tmp_path)
    table = tmp_path / TABLES[name][0]
    table.unlink()
    CONTENT[content](table)
    dataset = component(**{TABLES[name][1]: tmp_path})
    with within(), pytest.raises(SoundbenchError) as caught:
        ClipTable.of(dataset)
    assert str(tmp_path) in str(caught.value)


LAUGHS = "a0: &a0 [ha]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))
MERGES = "m0: &m0 {a: 1}\n" + "".join(f"m{n}: &m{n}\n  <<: [{', '.join([f'*m{n - 1}'] * 9)}]\n" for n in range(1, 20))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "has aliases (*name), which are not read"),
        (MERGES, "has aliases (*name), which are not read"),
        ("model_conf: " + "[" * 20_000, "nested too deeply"),
        ("model_conf: {model: " + "9" * 5000 + "}", "not YAML: "),
        ("model_conf: {model: 2001-99-99}", "not YAML: "),
        ("a: 1\n" * 40_000, "more than the 0.1 MB that are read of such a file"),
        ("model_conf: [\0]", "not YAML: "),
        ("model_conf: [1, 2]", "must be a table"),
    ],
)
def test_a_hostile_yaml_is_refused(call: Call, text: str, message: str) -> None:
    pytest.importorskip("yaml")
    Path("model").mkdir()
    torch.save({}, "model/model.pth")
    Path("config.yml").write_text(text)
    code, said = call("import", "macls", "model", "--config", "config.yml")
    assert code in (1, 2)
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["model/model.pth", "config.yml", "labels.txt", "model/model.state"])
@pytest.mark.parametrize("content", ["pipe", "zero", "folder", "bytes"])
def test_an_importer_reads_files_only(call: Call, name: str, content: str) -> None:
    pytest.importorskip("yaml")
    Path("model").mkdir()
    torch.save({}, "model/model.pth")
    Path("config.yml").write_text("model_conf: {model: TDNN}\n")
    Path("labels.txt").write_text("a\nb\n")
    Path(name).unlink(missing_ok=True)
    CONTENT[content](Path(name))
    code, said = call("import", "macls", "model", "--config", "config.yml", "--labels", "labels.txt")
    assert code in (1, 2)
    assert said.count("\n") == 1


@pytest.mark.parametrize("target", ["precious", "new"])
def test_a_progress_table_is_not_written_through_a_link(tmp_path: Path, target: str) -> None:
    (tmp_path / "precious").write_text("untouched")
    (tmp_path / "run").mkdir()
    info = RunInfo(tmp_path / "run", "r", {}, ("a", "b"), {}, 1, 1, 0)
    observer = CsvLog(info)
    observer.run_started()
    (tmp_path / "run" / "progress.csv").unlink()
    (tmp_path / "run" / "progress.csv").symlink_to(tmp_path / target)
    with pytest.raises(OSError, match="this is a link"):
        observer.progressed(1, 1, 0.5, 0.1, 9.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "run"]
    assert (tmp_path / "precious").read_text() == "untouched"


def test_a_model_without_its_assets_asks_nobody_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder of two parts is spelled like a name on the hub."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        Encoder.from_assets(Path("model/assets"), 16000, layer=1, frozen=True)
