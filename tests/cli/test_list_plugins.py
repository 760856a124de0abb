"""`soundbench list-plugins`, over entry points that are made up."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from helpers.entry_points import TOYS, fake

from soundbench import API_VERSION, __version__
from soundbench.cli.main import invoke
from soundbench.contracts import KINDS

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls `list-plugins` where nothing but the toys, and the entry points given, is installed."""

    def call(*arguments: str, more: tuple[EntryPoint, ...] = ()) -> tuple[int, str, str]:
        entries = [*(fake(*toy) for toy in TOYS), *more]
        monkeypatch.setattr("soundbench.recipe.registry.entry_points", lambda: EntryPoints(entries))
        code = invoke(["list-plugins", *arguments])
        return code, *capsys.readouterr()

    return call


def test_everything_is_listed_in_columns(call: Call) -> None:
    code, out, err = call()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["KIND", "NAME", "DISTRIBUTION", "VERSION", "SUMMARY"]
    assert lines[1] == (
        "dataset       noise     toys          1.0      Two classes of noise, low and high; sounds from 0.05 to 0.4 s."
    )
    assert [line.split()[0] for line in lines[1:]] == sorted((kind for kind, *_ in TOYS), key=list(KINDS).index)


def test_a_kind_is_listed_alone(call: Call) -> None:
    assert call("pooling") == (
        0,
        "KIND     NAME  DISTRIBUTION  VERSION  SUMMARY\n"
        "pooling  mean  toys          1.0      The mean over true frames.\n",
        "",
    )


def test_json_is_one_array_of_the_names_that_scripts_rely_on(call: Call) -> None:
    code, out, _ = call("pooling", "--json")
    assert code == 0
    assert json.loads(out) == [
        {
            "kind": "pooling",
            "name": "mean",
            "distribution": "toys",
            "version": "1.0",
            "summary": "The mean over true frames.",
        }
    ]
    assert len(json.loads(call("--json")[1])) == len(TOYS)


def test_a_name_shows_options_and_docs(call: Call) -> None:
    assert call("dataset", "noise") == (
        0,
        "dataset noise\n"
        "toys 1.0, helpers.toys:ToyDataset\n"
        "\n"
        "Two classes of noise, low and high; sounds from 0.05 to 0.4 s.\n"
        "\n"
        "Args:\n"
        "    clips: how many.\n"
        "    seed: of the noise.\n"
        "\n"
        "OPTION  TYPE  DEFAULT  MEANING\n"
        "clips   int   40       how many.\n"
        "seed    int   0        of the noise.\n",
        "",
    )
    assert call("pooling", "mean")[1].endswith("The mean over true frames.\n\nIt has no options.\n")


def test_a_name_in_json_holds_its_options(call: Call) -> None:
    code, out, _ = call("dataset", "noise", "--json")
    (told,) = json.loads(out)
    assert code == 0
    assert told["module"] == "helpers.toys"
    assert told["object"] == "ToyDataset"
    assert told["doc"].startswith("Two classes of noise")
    assert told["options"] == [
        {"name": "clips", "type": "int", "default": 40, "doc": "how many."},
        {"name": "seed", "type": "int", "default": 0, "doc": "of the noise."},
    ]


def test_a_component_of_a_file_is_shown(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("class Net:\n    def __init__(self, bands, *, size: int | None = None, must: str): ...\n")
    code, out, _ = call("backbone", f"{path}:Net")
    assert code == 0
    assert out.splitlines()[3:] == [
        "It has no docstring.",
        "",
        "OPTION  TYPE        DEFAULT     MEANING",
        "size    int | None  none",
        "must    str         (required)",
    ]


def test_a_kind_that_is_none_is_reported_with_the_nearest_and_all(call: Call) -> None:
    kinds = "dataset, augmentation, featurizer, backbone, pooling, loss, optimizer, scheduler"
    kinds += ", calibration, reject, observer, importer, exporter"
    assert call("backbon") == (2, "", f'there is no kind "backbon"; did you mean "backbone"? known: {kinds}\n')
    assert call("backbon", "conv")[0] == 2


def test_an_unknown_name_is_reported_with_the_nearest_and_all(call: Call) -> None:
    assert call("backbone", "cnov") == (2, "", 'there is no backbone "cnov"; did you mean "conv"? known: conv\n')


TORN = fake("pooling", "torn", "helpers.toys:Nothing", "torn-dist", "0.1")
TOLD = 'pooling "torn" (torn-dist 0.1, module helpers.toys) cannot be used: the module has no "Nothing"'


def test_listing_says_nothing_of_what_is_broken_until_asked(call: Call) -> None:
    code, out, err = call("pooling", more=(TORN,))
    assert (code, err) == (0, "")
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["mean", "torn"]
    assert call("pooling", "torn", more=(TORN,)) == (3, "", f"{TOLD}\n")


def test_check_imports_each_and_names_the_broken(call: Call) -> None:
    code, out, _ = call("pooling", "--check", more=(TORN,))
    assert code == 3
    assert out == (
        "KIND     NAME  DISTRIBUTION  VERSION  STATUS  SUMMARY\n"
        "pooling  mean  toys          1.0      ok      The mean over true frames.\n"
        "pooling  torn  torn-dist     0.1      broken\n"
        f"\n{TOLD}\n"
    )
    code, out, _ = call("pooling", "--check", "--json", more=(TORN,))
    assert code == 3
    assert [(entry["ok"], entry["error"]) for entry in json.loads(out)] == [(True, None), (False, TOLD)]
    assert call("--check")[0] == 0


NEWER = fake("pooling", "newer", "helpers.toys:ToyPooling", "newer-dist", "2.0", ["torch", "soundbench>=7,<9"])
MADE = 'pooling "newer" (newer-dist 2.0, module helpers.toys) is made for soundbench<9,>=7, and this is '
CURE = "install another version of newer-dist, or of soundbench"


def test_what_is_made_for_another_api_is_told_apart_from_what_is_broken(call: Call) -> None:
    code, out, err = call("pooling", more=(NEWER,))
    assert (code, err) == (0, "")
    told = f"{MADE}{__version__}, plugin API {API_VERSION}: {CURE}"
    assert out.splitlines()[-1] == told
    assert call("pooling", "newer", more=(NEWER,)) == (3, "", f"{told}\n")
    code, out, _ = call("pooling", "--check", more=(NEWER, TORN))
    assert code == 3
    lines = out.splitlines()
    rows = {line.split()[1]: line for line in lines[1:4]}
    assert "  ok  " in rows["mean"]
    assert "  other API  " in rows["newer"]
    assert rows["torn"].endswith("  broken")
    assert lines[4:] == ["", told, TOLD]
    found = json.loads(call("pooling", "--check", "--json", more=(NEWER, TORN))[1])
    assert [entry["status"] for entry in found] == ["ok", "other API", "broken"]
    assert [entry["ok"] for entry in found] == [True, False, False]


def test_a_name_claimed_twice_is_listed_twice_with_the_way_out(call: Call) -> None:
    twin = fake("pooling", "mean", "helpers.toys:ToyPooling", "twins", "2.0")
    code, out, _ = call("pooling", more=(twin,))
    assert code == 0
    assert out.splitlines()[-1] == (
        'pooling "mean" is provided by 2 distributions; choose one: use = "toys/mean" or use = "twins/mean"'
    )
    assert call("pooling", "mean", more=(twin,))[0] == 3
    assert call("pooling", "twins/mean", more=(twin,))[1].startswith(
        "pooling mean\ntwins 2.0, helpers.toys:ToyPooling\n"
    )


def test_an_allow_list_hides_the_rest(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDBENCH_PLUGINS", "torn_dist,elsewhere")
    assert [line.split()[1] for line in call(more=(TORN,))[1].splitlines()[1:]] == ["torn"]
    monkeypatch.setenv("SOUNDBENCH_PLUGINS", "")
    assert call(more=(TORN,)) == (0, "nothing is installed\n", "")


SILENT = fake("pooling", "silent", "untold:Untold", "silent-dist", "0.1")


@pytest.fixture
def untold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooling without documentation that does not mask."""
    (tmp_path / "untold.py").write_text(
        "import torch\n\n\nclass Untold(torch.nn.Module):\n"
        "    def __init__(self, channels):\n        super().__init__()\n        self.features = channels\n\n"
        "    def forward(self, frames, lengths):\n        return frames.mean(2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_contract_holds_each_to_its_promises_and_names_the_broken_ones(call: Call, untold: None) -> None:
    code, out, err = call("pooling", "--check", "--contract", more=(SILENT, TORN))
    assert (code, err) == (3, "")
    lines = re.sub(r" +\d+\.\d  (?=ok|broken)", "  0.0  ", out).splitlines()
    assert lines[:5] == [
        "KIND     NAME    DISTRIBUTION  VERSION  SECONDS  CONTRACT",
        "pooling  mean    toys          1.0  0.0  ok, 9 promises (3 not applicable)",
        "pooling  silent  silent-dist   0.1  0.0  broken: summary, padding",
        "pooling  torn    torn-dist     0.1  0.0  broken: usable",
        "",
    ]
    assert lines[5] == "pooling silent: summary: no docstring; its first line is the summary in listings"
    assert re.fullmatch(r"pooling silent: padding: row 0 of length 30, alone, .* by .* \(allowed 1e-04\)", lines[6])
    assert lines[7] == f"pooling torn: usable: {TOLD}"
    assert re.fullmatch(r"3 components in \d+ s: 2 break promises", lines[9])


def test_contract_of_what_is_well(call: Call) -> None:
    code, out, _ = call("loss", "--contract")
    assert code == 0
    assert out.endswith(" all keep their contract\n")


def test_contract_of_one_reports_every_promise(call: Call, untold: None) -> None:
    code, out, _ = call("pooling", "silent", "--contract", more=(SILENT,))
    assert code == 3
    lines = out.splitlines()
    assert lines[0] == "pooling silent"
    assert lines[2] == "BROKEN  summary: no docstring; its first line is the summary in listings"
    assert "-       export: checked only with --thorough (thorough=True)" in lines
    assert call("pooling", "mean", "--thorough")[1].splitlines()[-1].startswith("ok      export: any batch and length")
    assert call("pooling", "maen", "--contract")[0] == 2


def test_contract_in_json_holds_every_result(call: Call, untold: None) -> None:
    code, out, _ = call("pooling", "--contract", "--json", more=(SILENT,))
    assert code == 3
    mean, silent = json.loads(out)
    assert (mean["kind"], mean["name"], mean["ok"], silent["ok"]) == ("pooling", "mean", True, False)
    assert mean["seconds"] >= 0
    assert {"promise": "summary", "state": "ok", "message": "The mean over true frames."} in mean["findings"]
