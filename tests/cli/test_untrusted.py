"""What somebody else made: run directories with links, pipes and devices in them, huge and hostile text, odd names.

Nothing outside is written, no command waits or fills the memory, and each ends with one message.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tomli
import tomli_w
from helpers.clock import within
from helpers.runs import RECIPE, TOYS, command, toy_run

from soundbench.cli.main import invoke

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run of toys, and one sound; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    before = os.environ.get("SOUNDBENCH_CACHE")
    os.environ["SOUNDBENCH_CACHE"] = str(folder / "cache")
    (folder / "toy.toml").write_text(RECIPE)
    toy_run(folder / "toy.toml", folder / "run", "train.epochs=1", say=lambda _: None)
    noise = 0.1 * np.random.default_rng(0).standard_normal(4000)
    soundfile.write(folder / "a.wav", noise, 8000)
    yield folder
    os.environ.pop("SOUNDBENCH_CACHE")
    if before is not None:
        os.environ["SOUNDBENCH_CACHE"] = before


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run without its report, so that it can be resumed; `outside` is beside it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished / "run", "run")
    shutil.copy(finished / "a.wav", "a.wav")
    shutil.copy(finished / "toy.toml", "toy.toml")
    Path("run/report.json").unlink()
    Path("outside").mkdir()
    Path("outside/precious").write_text("untouched")
    return Path("run")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls the program in this process; it must not take long, nor show a traceback."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with within():
            code = invoke(arguments)
        out, text = capsys.readouterr()
        assert "Traceback" not in out + text
        assert "--debug" not in text
        return code, out, text

    return call


def untouched() -> bool:
    return Path("outside/precious").read_text() == "untouched" and os.listdir("outside") == ["precious"]


def put(path: Path, what: str) -> None:
    """Replace a path by something that is no file of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if what == "pipe":
        os.mkfifo(path)
    elif what == "socket":
        there = os.getcwd()
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
        os.chdir(there)
    elif what == "folder":
        path.mkdir()
    else:
        targets = {"file": "outside/precious", "dangling": "outside/new", "outside": "outside", "zero": "/dev/zero"}
        path.symlink_to(Path(targets[what]).absolute())


# Nothing is written through a link

WRITTEN = [
    *("log.txt", "history.csv", "clips.csv", "predictions.csv", "report.md", "report.html", "report.json"),
    "confusion.csv",
    *("environment.json", "profile.txt", "progress.csv", "model/model.toml", "model/weights.safetensors"),
    *(".report.json.tmp", ".history.csv.tmp", ".predictions.csv.tmp", "model/.weights.safetensors.tmp"),
    *("checkpoints/best.pt", "checkpoints/.best.pt.tmp", "figures/confusion.png", "recipe.toml.lock", "fold-01/x"),
]
FOLDERS = ["figures", "evaluations", "checkpoints", "model", "model/code", "model/assets", "fold-01"]
FOLDERS += ["tensorboard", "mlflow"]


@pytest.mark.parametrize(
    ("name", "what"),
    [(name, what) for name in WRITTEN for what in ("file", "dangling")]
    + [(name, what) for name in FOLDERS for what in ("outside", "dangling")],
)
def test_a_run_with_a_link_is_not_resumed(run: Path, call: Call, name: str, what: str) -> None:
    put(run / name, what)
    code, _, text = call("run", "--resume", "run", "--trust-code")
    assert code in (1, 2)
    assert text.count("\n") == 1
    assert "link" in text or "not a run directory" in text
    assert untouched()


def test_a_run_of_folds_with_a_link_is_not_resumed(run: Path, call: Call) -> None:
    (run / "folds.json").write_text('{"folds": [1, 2]}')
    put(run / "fold-02", "outside")
    assert call("run", "--resume", "run", "--trust-code")[0] == 2
    assert untouched()


def test_weights_that_unpack_to_more_than_they_hold_are_refused(run: Path, call: Call) -> None:
    with zipfile.ZipFile("weights.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"")
        archive.writestr("archive/data/0", bytes(1 << 24))
    code, _, text = call("run", "toy.toml", "--out", "new", "--set", "init.from=weights.pt")
    assert (code, text.count("\n")) == (2, 1)
    assert "has compressed parts" in text


def test_a_run_directory_may_be_a_link_itself(run: Path, call: Call) -> None:
    Path("elsewhere").symlink_to(run.absolute())
    assert call("run", "--resume", "elsewhere", "--trust-code")[0] == 0


@pytest.mark.parametrize("what", ["outside", "dangling", "file"])
def test_an_evaluation_is_not_written_through_a_link(run: Path, call: Call, what: str) -> None:
    put(run / "evaluations", what)
    code, _, text = call("evaluate", "run", "--trust-code", "--device", "cpu")
    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith("run/evaluations: this is a link")
    assert untouched()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (name, what)
        for name in (
            "settings.json",
            "parts/0.rows",
            "parts/0.jsonl",
            "parts/0.lock",
            "results.csv",
            ".results.csv.tmp",
        )
        for what in ("file", "dangling")
    ]
    + [(name, "outside") for name in ("parts", "labels")]
    + [("errors.csv", "dangling"), ("parts/0.lock", "pipe"), ("parts/0.jsonl", "zero")],
)
def test_results_are_not_written_through_a_link(run: Path, call: Call, name: str, what: str) -> None:
    put(Path("out") / name, what)
    code, _, text = call("infer", "run", "a.wav", "--format", "csv", "--out", "out", "--trust-code", "--device", "cpu")
    assert code in (1, 2)
    assert text.count("\n") == 1
    assert untouched()


def test_features_are_not_written_through_a_link(run: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ("extract", "toy.toml", "--set", "augmentation=[]", "--cache", "cache", "--device", "cpu")
    monkeypatch.setattr("soundbench.training.stages.refuse_other_recipes", lambda _: None)
    code, out, _ = call(*line)
    assert code == 0
    folder = Path(out.strip())
    for name in ("features.toml", "block-00000.f32", ".block-00001.f32.tmp"):
        kept = (folder / name).read_bytes() if (folder / name).exists() else None
        put(folder / name, "file")
        code, _, text = call(*line)
        assert (code, "link" in text.splitlines()[-1]) == (2, True)
        (folder / name).unlink()
        if kept is not None:
            (folder / name).write_bytes(kept)
    shutil.rmtree(folder)
    folder.symlink_to(Path("outside").absolute())
    assert call(*line)[0] == 2
    assert untouched()


def test_a_log_that_is_a_hard_link_gets_a_copy_of_its_own(run: Path, call: Call) -> None:
    (run / "log.txt").unlink()
    os.link("outside/precious", run / "log.txt")
    assert call("run", "--resume", "run", "--trust-code")[0] == 0
    assert untouched()
    assert "run:" in (run / "log.txt").read_text()


def test_files_have_the_permissions_that_the_user_leaves(finished: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (finished / "run").rglob("*") if path.is_file()}
    assert set(modes.values()) == {0o666 & ~mask}, modes
    assert [name for name in modes if name.startswith(".")] in ([], [".lock"])


# Only files are read, and nothing waits


@pytest.mark.parametrize("what", ["pipe", "socket", "zero", "folder"])
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("toy.toml", ("describe", "toy.toml")),
        ("toy.toml", ("data", "check", "toy.toml")),
        ("below.toml", ("describe", "above.toml")),
        ("mine.py", ("describe", "toy.toml", "--set", "backbone='./mine.py:Net'")),
        ("weights.pt", ("run", "toy.toml", "--out", "new", "--set", "init.from=weights.pt")),
        ("weights.safetensors", ("run", "toy.toml", "--out", "new", "--set", "init.from=weights.safetensors")),
        ("run/model/model.toml", ("infer", "run", "a.wav", "--trust-code", "--device", "cpu")),
        ("run/model/weights.safetensors", ("infer", "run", "a.wav", "--trust-code", "--device", "cpu")),
        ("run/environment.json", ("evaluate", "run", "--trust-code", "--device", "cpu")),
        ("run/recipe.toml", ("run", "--resume", "run", "--trust-code")),
        ("run/history.csv", ("run", "--resume", "run", "--trust-code")),
        ("step.pt", ("evaluate", "run", "--checkpoint", "step.pt", "--trust-code", "--device", "cpu")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
def test_what_is_no_file_is_refused_in_one_line(
    run: Path, call: Call, name: str, line: tuple[str, ...], what: str
) -> None:
    Path("above.toml").write_text("extends = 'below.toml'\n")
    put(Path(name), what)
    code, _, text = call(*line)
    assert Path(name).name in text
    if name == "run/environment.json":  # a checkpoint has a copy of it
        assert code == 0
        return
    assert code in (1, 2)
    assert text.splitlines()[-1].count(": ") >= 1


# Hostile text


def chain(folder: Path) -> None:
    for number in range(3000):
        (folder / f"c{number}.toml").write_text(f"extends = 'c{number + 1}.toml'\n")
    (folder / "c3000.toml").write_text(RECIPE)
    (folder / "hostile.toml").write_text("extends = 'c0.toml'\n")


HOSTILE = {
    "lists in lists": "x = " + "[" * 100_000,
    "lists in lists, closed": "x = " + "[" * 300 + "]" * 300,
    "tables in tables": "x = " + "{a=" * 5000,
    "a dotted key": ".".join("a" * 100_000) + " = 1",
    "a dotted header": f"[{'.'.join('a' * 100_000)}]",
    "unknown tables": "".join(f"k{number} = 1\n" for number in range(200_000)),
    "fewer unknown tables": "".join(f"k{number} = 1\n" for number in range(15_000)),
    "unknown keys": "[train]\n" + "".join(f"epoch{number} = 1\n" for number in range(15_000)),
    "a long list": "[split]\ntest = [" + "1," * 1_500_000 + "]",
    "a list of mistakes": "[split]\ntest = [" + "1.5," * 90_000 + "]",
    "a fold of many digits": "[split]\ntest = [" + "9" * 5000 + "]",
    "a fold of many hexadecimal digits": "[split]\ntest = [0x" + "f" * 100_000 + "]",
    "a seed of 400 digits": "[train]\nseed = " + "9" * 400,
    "an infinite window": "[audio]\nwindow = inf",
    "a huge window": "[audio]\nwindow = 1e12",
    "a window of many samples": "[audio]\nwindow = 600\nrate = 384000",
    "a date": "[train]\nepochs = 1979-05-27",
    "an enormous embedding": "[head]\nembedding = 1000000000000",
    "an enormous backbone": f"backbone = {{ use = '{TOYS}:ToyBackbone', channels = 100000000 }}",
    "NUL in extends": 'extends = "a\\u0000b"',
    "NUL in a path": '[init]\nfrom = "a\\u0000b"',
    "NUL in use": 'backbone = "./a\\u0000b.py:Net"',
    "a long path": f"[init]\nfrom = '{'a' * 5000}'",
    "a long extends": f"extends = '{'a/' * 5000}'",
    "a path of nobody": "backbone = '~nobody-here/x.py:Net'",
    "a circle": "extends = 'hostile.toml'",
    "too much": "#" * (5 << 20),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_recipe_is_refused_at_once(tmp_path: Path, call: Call, name: str) -> None:
    path = tmp_path / "hostile.toml"
    tables = tomli.loads(RECIPE)
    table = HOSTILE[name].lstrip("[").partition(" ")[0].partition("]")[0]
    tables.pop(table, None)
    whole = tomli_w.dumps(tables)
    path.write_text(f"{whole}\n{HOSTILE[name]}\n" if HOSTILE[name].startswith("[") else f"{HOSTILE[name]}\n{whole}\n")
    code, _, text = call("describe", str(path))
    assert code == 2, text
    assert text.count("\n") <= 60
    assert len(text) < 50_000


def test_a_long_chain_of_recipes_is_refused_at_once(tmp_path: Path, call: Call) -> None:
    chain(tmp_path)
    code, _, text = call("describe", str(tmp_path / "hostile.toml"))
    assert (code, text.count("\n")) == (2, 1)
    assert "a chain of more than 20 recipes" in text


@pytest.mark.parametrize(
    "text",
    [
        "head.embedding=1e99",
        "a" + ".a" * 5000 + "=1",
        "train.epochs=" + "[" * 5000,
        "audio.rate=" + "9" * 5000,
        "\0=\0",
    ],
)
def test_a_hostile_setting_is_refused_at_once(run: Path, call: Call, text: str) -> None:
    code, _, said = call("describe", "toy.toml", "--set", text)
    assert (code, said.count("\n")) == (2, 1), said


@pytest.mark.parametrize("layers", ["1000000000", "[1]", "60000"])
def test_a_hostile_model_is_refused_at_once(run: Path, call: Call, layers: str) -> None:
    path = run / "model" / "model.toml"
    path.write_text(path.read_text().replace("channels = 16", f"channels = {layers}"))
    code, _, text = call("infer", "run", "a.wav", "--trust-code", "--device", "cpu")
    assert code in (1, 2)
    assert text.count("\n") == 1
    assert "model.toml" in text


def test_json_that_is_nested_deeply_is_damaged(run: Path, call: Call) -> None:
    (run / "model" / "digests.json").write_text("[" * 100_000)
    code, _, text = call("infer", "run", "a.wav", "--trust-code", "--device", "cpu")
    assert code == 1
    assert text.startswith("run/model/digests.json: damaged, so damage to the model")


SHAPES = ["[]", "{}", "3", "null", '"x"', '{"data": 3}', '{"folds": []}', '{"path": "a.wav"}\n', "a,b\n1,2\n", "\0\0"]


@pytest.mark.parametrize("text", [*SHAPES[:2], *(pytest.param(text, marks=pytest.mark.slow) for text in SHAPES[2:])])
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("run/environment.json", ("run", "--resume", "run", "--trust-code")),
        ("run/folds.json", ("run", "--resume", "run", "--trust-code")),
        ("run/report.json", ("evaluate", "run", "--trust-code", "--device", "cpu")),
        ("run/clips.csv", ("evaluate", "run", "--trust-code", "--device", "cpu")),
        ("run/model/model.toml", ("infer", "run", "a.wav", "--trust-code", "--device", "cpu")),
        ("out/settings.json", ("infer", "run", "a.wav", "--out", "out", "--trust-code", "--device", "cpu")),
        ("out/parts/0.jsonl", ("infer", "run", "a.wav", "--out", "out", "--trust-code", "--device", "cpu")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_text_of_another_shape_is_damaged(run: Path, call: Call, name: str, line: tuple[str, ...], text: str) -> None:
    if name.startswith("out/parts"):
        assert call(*line)[0] == 0
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
    code, _, said = call(*line)
    assert code in (0, 1, 2)  # a table without rows, or a line that a kill has cut, is none
    assert code == 0 or Path(name).name in said.splitlines()[-1] or "is not empty" in said


# Odd names

ODD = [
    "\x1b[31mred",
    "two\nlines",
    "tab\tstop",
    "\u202ebackwards",
    "\x9b31m",
    b"caf\xe9".decode("utf-8", "surrogateescape"),
]


@pytest.mark.parametrize("form", ["table", "jsonl"])
@pytest.mark.parametrize("name", ODD)
def test_odd_names_forge_no_row(run: Path, call: Call, name: str, form: str) -> None:
    Path(f"{name}.wav").write_bytes(Path("a.wav").read_bytes())
    code, out, _ = call("infer", "run", f"{name}.wav", "--format", form, "--trust-code", "--device", "cpu")
    assert code == 0
    assert out.rstrip("\n").replace("\t", "").isprintable()
    assert out.count("\n") == 1
    assert form == "table" or json.loads(out)["path"] == f"{name}.wav"


@pytest.mark.parametrize("name", ODD)
def test_odd_names_in_messages_are_escaped(run: Path, call: Call, name: str) -> None:
    for line in (
        ("infer", "run", f"{name}.wav", "--trust-code", "--device", "cpu"),
        ("run", "--resume", name),
        ("describe", f"{name}.toml"),
        ("list-plugins", "backbone", name),
        ("infer", name, "a.wav"),
        ("nothing", name),
    ):
        code, out, text = call(*line)
        assert code in (1, 2, 3), line
        assert (out + text).replace("\n", "").replace("\t", "").isprintable(), (line, out, text)
        if name == "two\nlines" and line[0] != "nothing":
            assert "\nlines" not in out + text, (line, out, text)


# Streams and limits of the system


@pytest.mark.parametrize(("redirected", "code"), [("<&-", 2), (">&-", 2), (">/dev/full", 1)])
def test_a_closed_or_full_stream_is_said_in_one_line(run: Path, redirected: str, code: int) -> None:
    paths = "-" if redirected.startswith("<") else "a.wav"
    line = f'"{sys.executable}" -m soundbench infer run {paths} --trust-code --device cpu {redirected}'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr


def test_paths_that_end_in_nul_are_refused(run: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a.wav\0b.wav\0")))
    code, _, text = call("infer", "run", "-", "--trust-code", "--device", "cpu")
    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith("a.wav\\u0000b.wav\\u0000: no path has a NUL character; ")


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_said_in_one_line(run: Path) -> None:
    for number in (1, 4, 16):  # blocks of 1,024 bytes: the limit meets one file or another
        line = f'ulimit -f {number}; exec "{sys.executable}" -m soundbench run toy.toml --no-cache --out new{number}'
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=100)
        assert "Traceback" not in done.stderr
        assert "--debug" not in done.stderr, done.stderr
        assert done.returncode in (0, 1)
        assert done.returncode == 0 or "ulimit" in done.stderr or "disk is full" in done.stderr, done.stderr


# Several processes


def family(number: int) -> list[int]:
    """A process and all that it started."""
    found = [number]
    for path in Path(f"/proc/{number}/task").glob("*/children"):
        found += [one for child in path.read_text().split() for one in family(int(child))]
    return found


def listening(numbers: list[int]) -> set[str]:
    """The addresses, in hexadecimal, at which processes wait for connections."""
    own: set[str] = set()
    for number in numbers:
        for link in Path(f"/proc/{number}/fd").glob("*"):
            target = os.readlink(link)
            own |= {target[8:-1]} if target.startswith("socket:[") else set()
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in own}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux")
def test_processes_of_one_machine_listen_on_its_own_address_only(run: Path) -> None:
    process = command("run", "toy.toml", "--processes", 2, "--out", "new", "--set", "train.epochs=4")
    seen: set[str] = set()
    while process.poll() is None:
        with contextlib.suppress(OSError):  # a process or a file has just gone
            seen |= listening(family(process.pid))
        time.sleep(0.02)
    assert process.returncode == 0, process.communicate()
    assert seen == {"0100007F"}  # 127.0.0.1
