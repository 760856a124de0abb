"""Models by name: what a name stands for, among packages that are made up but found as real ones are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.model_packages import install

import soundbench
from soundbench.cli.main import invoke
from soundbench.data import digests
from soundbench.errors import BrokenPlugin, CallError, ClaimedTwice, RunPlaceError
from soundbench.model.named import names
from soundbench.model.named.names import installed, model_path
from soundbench.report.card import front_matter


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, in which packages are installed, and an empty one to work in."""
    made, work = tmp_path / "site", tmp_path / "work"
    made.mkdir()
    work.mkdir()
    monkeypatch.syspath_prepend(made)
    monkeypatch.setenv("SOUNDBENCH_PLUGINS", "acme-sounds,Zoo.Sounds")
    monkeypatch.chdir(work)
    names._say_once.cache_clear()
    return made


def test_a_name_is_the_folder_that_the_entry_point_names(site: Path) -> None:
    folder = install(site, "owls")
    assert model_path("owls") == folder
    assert [(model.name, model.origin) for model in installed()] == [("owls", "acme-sounds 1.0")]


def test_a_package_of_several_folders_has_its_model_in_one_of_them(site: Path, tmp_path: Path) -> None:
    """As a namespace package, which other distributions share, and as an editable installation may leave it."""
    other = tmp_path / "elsewhere" / "acme_sounds"
    other.mkdir(parents=True)
    folder = install(site, "owls")
    (site / "acme_sounds" / "__init__.py").unlink()
    sys.path.insert(0, str(other.parent))
    try:
        assert model_path("owls") == folder
    finally:
        sys.path.remove(str(other.parent))


def test_paths_are_never_names(site: Path) -> None:
    install(site, "owls")
    for path in ("./owls", "a/owls", "/owls", ".", "..", "owls/"):
        found = model_path(path)
        assert found == (Path.cwd() / "owls" if path in ("./owls", "owls/") else Path(path))
        assert model_path(found) == found  # whoever gets it may look again


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_folder_or_file_of_that_name_wins_and_that_is_said_once(
    site: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    install(site, "owls")
    Path("owls").mkdir() if kind == "folder" else Path("owls").write_text("")
    assert model_path("owls") == model_path("owls") == Path("owls")
    line = f"owls: taken for the {kind} of this name here, not for the model of acme-sounds 1.0; "
    assert capsys.readouterr() == ("", f"{line}for that, call it from another folder\n")
    Path("other").mkdir()
    assert model_path("other") == Path("other")
    assert capsys.readouterr() == ("", "")


def test_a_name_of_two_distributions_is_refused_with_both(site: Path) -> None:
    one = install(site, "owls")
    other = install(site, "owls", distribution="zoo-sounds", version="2.1")
    with pytest.raises(ClaimedTwice) as caught:
        model_path("owls")
    both = f"acme-sounds 1.0 ({one}) and zoo-sounds 2.1 ({other})"
    assert str(caught.value).startswith(f'two models are called "owls", of {both}: uninstall one, or give ')


def test_an_unknown_name_is_answered_with_the_nearest(site: Path) -> None:
    allowed = r" \(SOUNDBENCH_PLUGINS allows acme-sounds,Zoo\.Sounds\) \(see soundbench models\)$"
    with pytest.raises(CallError, match=rf"^owls: no such run .* installed: none{allowed}"):
        model_path("owls")
    install(site, "owls")
    with pytest.raises(CallError, match=rf'^owl: .*; did you mean "owls"\? installed: owls{allowed}'):
        model_path("owl")


def test_an_empty_name_is_refused_in_one_line() -> None:
    with pytest.raises(CallError, match=r"^the name of the run or model is empty: give "):
        soundbench.load("")


@pytest.mark.parametrize("given", [None, 5, b"owls"])
def test_what_is_no_path_is_refused_in_one_line(given: Any) -> None:
    with pytest.raises(CallError, match=r"^a run or model must be a path or a name, as str or Path, is ") as caught:
        soundbench.load(given)
    assert str(caught.value).endswith(repr(given))


def test_a_run_that_is_a_model_says_so(site: Path) -> None:
    install(site, "owls")
    with pytest.raises(
        RunPlaceError, match=r"^owls: no such run directory; it is an installed model: .*soundbench\.load"
    ):
        soundbench.Run("owls")


@pytest.mark.parametrize(
    "call", ["report RUN", "compare RUN RUN", "run --resume RUN", "run RUN", "describe RUN", "run quickstart --out RUN"]
)
def test_an_empty_path_is_not_the_working_folder(call: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([part.replace("RUN", "") for part in call.split()]) == 2
    assert "is empty" in capsys.readouterr().err.splitlines()[-1]


CALLS = (
    *("infer RUN a.wav", "infer RUN a.wav --processes 2 --out o", "embed RUN a.wav --out o", "stream RUN"),
    *("serve RUN --port 0", "evaluate RUN", "export RUN --to onnx", "thresholds RUN marks.csv", "report RUN"),
    *("compare RUN RUN", "run --resume RUN"),
)


@pytest.mark.parametrize(
    ("name", "calls", "line"),
    [
        ("owls", CALLS, "owls: no such run directory"),
        ("runs/owls", CALLS, "runs/owls: no such run directory"),
        (
            "quikstart",
            ("run RUN", "describe RUN", "extract RUN", "data check RUN"),
            "quikstart: there is no such file; ",
        ),
    ],
)
def test_a_typo_in_a_name_or_path_costs_no_import_of_torch(
    name: str, calls: tuple[str, ...], line: str, site: Path
) -> None:
    given = [call.replace("RUN", name).split() for call in calls]
    found = f"[invoke(call) for call in {given}], 'torch' in sys.modules"
    code = f"import sys; from soundbench.cli.main import invoke; print({found})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{[2] * len(calls)} False\n"
    said = done.stderr.splitlines()
    assert len(said) == len(calls)
    assert all(one.startswith(line) for one in said)


def test_a_folder_that_is_missing_is_named_with_its_package(site: Path) -> None:
    install(site, "owls", model=None)
    with pytest.raises(BrokenPlugin, match=r'^model "owls" \(acme-sounds 1\.0\): acme_sounds/models/owls, its folder '):
        model_path("owls")


@pytest.mark.parametrize("value", ["acme_sounds/models/owls", "acme_sounds.owls:Net", "acme_sounds..owls", "a.b [x]"])
def test_a_value_that_is_no_path_with_dots_is_told(site: Path, value: str) -> None:
    install(site, "owls", value=value)
    with pytest.raises(BrokenPlugin, match=r'^model "owls" \(acme-sounds 1\.0\): its entry point has the value '):
        model_path("owls")


def test_a_package_that_is_missing_is_told_apart_from_its_folder(site: Path) -> None:
    install(site, "owls", value="gone_sounds.owls")
    line = r'^model "owls" \(acme-sounds 1\.0\): its package gone_sounds is missing; install acme-sounds 1\.0 again$'
    with pytest.raises(BrokenPlugin, match=line):
        model_path("owls")


@pytest.mark.parametrize("name", ["a/owls", "..", "-owls"])
def test_a_name_that_no_command_can_take_is_listed_with_that(
    site: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    install(site, name, value="acme_sounds.models.owls")
    install(site, "owls")
    assert invoke(["models"]) == 0
    assert "cannot be used: " in (out := capsys.readouterr().out)
    assert "no command can be given this name" in out
    with pytest.raises(CallError, match="installed: owls "):
        model_path("gulls")


def test_what_needs_a_run_says_so_of_a_name(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "owls")
    for words in (["report", "owls"], ["run", "--resume", "owls"]):
        assert invoke(words) == 2
        assert capsys.readouterr().err.startswith("owls: no such run directory; it is an installed model, and this ")


def test_only_distributions_that_the_environment_allows_count(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "owls")
    install(site, "owls", distribution="zoo-sounds")
    monkeypatch.setenv("SOUNDBENCH_PLUGINS", "zoo_sounds")
    assert model_path("owls") == site / "zoo_sounds" / "models" / "owls"


CARD = front_matter.page(
    {"license": "cc-by-4.0"},
    {
        "data_license": "CC0-1.0",
        "figures": {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}},
        "summary": "accuracy 90%",
        "protocol": "fold 5",
    },
    "# owls\n",
)


def test_the_listing_says_what_folder_and_card_say(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = install(site, "owls")
    (folder / "README.md").write_text(CARD)
    (folder / "weights.safetensors").write_bytes(bytes(2_000_000))
    assert invoke(["models"]) == 0
    assert capsys.readouterr() == (
        "owls  (acme-sounds 1.0)\n"
        "  classes   2: dog, owl\n"
        "  size      2.0 MB\n"
        "  licence   cc-by-4.0; of the data: CC0-1.0\n"
        "  figures   accuracy 90%\n"
        "  protocol  fold 5\n"
        f"  folder    {folder}\n",
        "",
    )
    assert invoke(["models", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["classes"], row["figures"]["accuracy"]["high"], row["error"]) == (["dog", "owl"], 0.95, "")
    (folder / "README.md").write_text(CARD.replace("0.9,", "0.99,"))
    assert invoke(["models"]) == 0
    out = capsys.readouterr().out
    assert "  figures   not shown: what soundbench wrote on its card was changed by hand\n" in out
    assert "  licence   cc-by-4.0; of the data: CC0-1.0\n" in out


@pytest.mark.parametrize(
    ("license", "shown"), [("unknown", "not stated"), ("null", "not stated"), ("unknown-terms", "unknown-terms")]
)
def test_a_licence_is_shown_as_it_is(license: str, shown: str, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = install(site, "owls", version="")
    (folder / "README.md").write_text(f"---\nlicense: {license}\n---\n")
    assert invoke(["models"]) == 0
    out = capsys.readouterr().out
    assert f"  licence   {shown}; " in out
    assert out.startswith("owls  (acme-sounds)\n")


def test_what_cannot_be_used_is_listed_with_the_reason(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "newer", model='format = 99\nclasses = ["dog"]\n')
    install(site, "gone", distribution="zoo-sounds", model=None)
    assert invoke(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "gone  (zoo-sounds 1.0)"
    assert lines[1].startswith("  cannot be used: ")
    assert "zoo_sounds/models/gone" in lines[1]
    assert lines[3] == "newer  (acme-sounds 1.0)"
    assert "format: is 99, but this soundbench knows formats up to" in lines[4]


def test_files_that_are_missing_or_changed_are_listed_with_the_package(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = install(site, "owls")
    for content, what in ((b"short", "changed"), (None, "removed")):
        (folder / "weights.safetensors").write_bytes(bytes(100))
        table = digests.table_of(folder, ["model.toml", "weights.safetensors"])
        digests.write_table(folder / "digests.json", table)
        (folder / "weights.safetensors").unlink()
        if content is not None:
            (folder / "weights.safetensors").write_bytes(content)
        assert invoke(["models"]) == 0
        line = capsys.readouterr().out.splitlines()[1]
        assert line.startswith(f"  cannot be used: {folder / 'weights.safetensors'}: was {what} since ")
        assert "install acme-sounds 1.0 again" in line
    (folder / "digests.json").unlink()
    assert invoke(["models"]) == 0
    said = "digests.json: missing, so damage to the model cannot be seen; install acme-sounds 1.0 again, or accept "
    assert said in capsys.readouterr().out
    (folder / "model.toml").unlink()
    assert invoke(["models"]) == 0
    line = f"cannot be used: {folder}: no model here: model.toml is missing; install acme-sounds 1.0 again\n"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("", "classes: is missing"),
        ('classes = "dog"', "classes: "),
        ("classes = []", "classes: must be distinct names, at least one, is []"),
        ('classes = ["dog", 1]', "classes"),
        ('classes = ["dog", "dog"]', "classes: must be distinct names"),
        (
            'classes = ["dog"]\nmultilabel = true\nthresholds = [0.5, 0.5]',
            "thresholds: must have 1 values, one per class",
        ),
    ],
)
def test_what_is_wrong_with_the_classes_of_a_listed_model_is_said_in_a_line(
    said: str, error: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(site, "owls", model=f"format = 2\n{said}\n")
    assert invoke(["models"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("  cannot be used: ")
    assert "model.toml: " in line
    assert error in line
    assert invoke(["models", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["classes"] == []
    assert error in row["error"]


def test_a_model_without_a_card_or_with_a_damaged_one_is_listed(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = install(site, "owls")
    damaged = b'---\nlicense: "mit" # mine\nsoundbench: [1\n---\n'
    for content in (None, b"\xff\xfe", b"# mine\n", damaged):
        if content is not None:
            (folder / "README.md").write_bytes(content)
        assert invoke(["models"]) == 0
        out = capsys.readouterr().out
        said = 'not shown: the line "soundbench:" of its card is no longer' if content == damaged else "not stated"
        assert f"figures   {said}" in out
    assert "licence   mit; of the data: not stated" in out


def test_without_models_the_listing_says_where_they_come_from(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["models"]) == 0
    assert capsys.readouterr() == (
        "",
        "no model is installed: packages bring them, by the entry point group soundbench.model "
        "(SOUNDBENCH_PLUGINS allows acme-sounds,Zoo.Sounds)\n",
    )


def test_names_are_found_and_listed_without_torch_and_without_the_package(site: Path) -> None:
    install(site, "owls")
    code = (
        "import sys; from soundbench.cli.main import invoke; from soundbench.model.named.names import model_path;"
        "print(model_path('owls').name, invoke(['models']), sorted({'torch', 'acme_sounds'} & set(sys.modules)))"
    )
    line = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {code}"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "owls 0 []"
