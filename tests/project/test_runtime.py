"""`soundbench-runtime`: the files that it takes from the core, without torch, and the same answers as soundbench."""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("onnx")
from helpers.exported import METADATA, RATE, write
from helpers.runtime_package import HERE, OWN, core_files, write_package

import soundbench
from soundbench.cli.main import invoke

ROOT = Path(__file__).parents[2]
CORE = ROOT / "soundbench"
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))
FILES = set(PROJECT["tool"]["soundbench-runtime"]["files"])
LIBRARIES = ("attrs", "numpy", "onnxruntime", "soundfile", "soxr")
# Those of the libraries that are used for what is run here; cffi's own, pycparser, is not imported.
THEIRS = ("cffi", "flatbuffers", "packaging", "protobuf", "typing_extensions")


# The files ------------------------------------------------------------------------------------------------------------


def module_file(module: str, package: str) -> str | None:
    """The file of a module of the core, by its path there; None for what is no module."""
    parts = module.split(".")[1:]
    for path in (Path(*parts, "__init__.py"), Path(*parts).with_suffix(".py")) if parts else ():
        if (CORE / path).is_file():
            return path.as_posix()
    return None


def needed(text: str, package: str) -> Iterator[str]:
    """The files of the core that a file imports when it is imported."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            for alias in node.names:
                found = module_file(f"{node.module}.{alias.name}", package) or module_file(str(node.module), package)
                if found is not None:
                    yield found


def test_the_files_that_are_named_are_those_that_are_needed() -> None:
    todo = {name for path in OWN.glob("*.py") for name in needed(path.read_text(), "soundbench_runtime")}
    found: set[str] = set()
    while todo - found:
        name = (todo - found).pop()
        found.add(name)
        todo |= set(needed((CORE / name).read_text(encoding="utf-8"), "soundbench"))
    packages = {name for name in found if name.endswith("/__init__.py")} - FILES  # these are empty in the runtime
    assert found - packages == FILES, "name them in plugins/soundbench-runtime/pyproject.toml"
    assert not [name for name in packages if list(needed((CORE / name).read_text(), "soundbench"))]


def test_both_distributions_have_one_version_and_the_runtime_needs_no_more_than_its_libraries() -> None:
    project = PROJECT["project"]
    core = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["version"], project["license"]) == (soundbench.__version__, core["license"])
    assert (HERE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert [re.match(r"\w+", one)[0] for one in project["dependencies"]] == list(LIBRARIES)  # type: ignore[index]
    same = {one for one in core["dependencies"] if one.split(">")[0] in LIBRARIES}
    same |= {one for one in core["optional-dependencies"]["export"] if one.startswith("onnxruntime")}
    assert set(project["dependencies"]) == same


def test_the_copies_differ_from_the_core_in_the_name_that_they_import() -> None:
    for name, text in core_files().items():
        assert not re.search(r"^\s*(from|import) soundbench\b(?!_)", text, re.MULTILINE), name
        if text:
            assert text.replace("soundbench_runtime", "soundbench") == (CORE / name).read_text(encoding="utf-8")


# The answers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as it is in the wheel."""
    folder = tmp_path_factory.mktemp("runtime")
    write_package(folder)
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of other rates, channels, codings and lengths, and one that is broken."""
    folder, draws = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    envelope = np.repeat(np.array([0.3, 0.001, 0.1, 0.0, 0.2, 0.02, 0.3]), 8000)
    long = envelope * draws.standard_normal(len(envelope))
    soundfile.write(folder / "a_long.wav", long.clip(-1, 1), 8000, subtype="PCM_16")
    soundfile.write(folder / "b_stereo.flac", 0.1 * draws.standard_normal((30_000, 2)).clip(-5, 5), 22_050)
    soundfile.write(folder / "c_float.wav", 0.01 * draws.standard_normal(5_000), 16_000, subtype="FLOAT")
    soundfile.write(folder / "d_short.ogg", 0.2 * np.sin(np.arange(900)), 8000)
    (folder / "e_broken.wav").write_bytes(b"RIFF and no more")
    soundfile.write(folder / "f_minutes.wav", np.tile(long, 10).clip(-1, 1), 8000, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("model") / "model.onnx", METADATA | {"trim": 40.0})


Run = Callable[..., subprocess.CompletedProcess[bytes]]
# Before anything else: in this process, torch cannot be imported.
NO_TORCH = "import sys; sys.modules['torch'] = sys.modules['soundbench'] = None\n"


@pytest.fixture
def run(package: Path) -> Run:
    """Runs Python where neither torch nor soundbench can be imported."""

    def run(code: str, *arguments: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(package), *sys.path])}
        line = [sys.executable, "-c", NO_TORCH + code, *map(str, arguments)]
        return subprocess.run(line, input=given, env=environment, capture_output=True, timeout=120, check=False)

    return run


ANSWERS = """
import json
from pathlib import Path
from attrs import asdict

def answers(module, model, folder):
    loaded = module.load(model)
    found = {"classes": loaded.classes, "rate": loaded.rate}
    for path in sorted(Path(folder).iterdir()):
        if "broken" in path.name:
            try:
                loaded.predict(path)
            except module.SoundbenchError as error:
                found[path.name] = str(error)
            continue
        proba = loaded.predict_proba([path, path.read_bytes()])
        found[path.name] = {
            "predict": loaded.predict(str(path)).to_dict(),
            "proba": proba.tolist(),
            "windows": [one.to_dict() for one in loaded.windows(path, window=0.3, hop=0.1)],
            "events": [asdict(one) for one in loaded.events(path, rules=loaded.event_rules(on=0.6, smooth=3))],
        }
        assert type(loaded.predict(path).scores) is dict
    return found

def streamed(module, model, samples):
    items = module.load(model).stream((samples[at : at + 777] for at in range(0, len(samples), 777)), 11025, hop=0.05)
    found = [getattr(one, "event", one).to_dict() for one in items]
    return [{name: value for name, value in one.items() if name != "latency"} for one in found]
"""

PROGRAM = (
    ANSWERS
    + """
import numpy as np
import soundbench_runtime
samples = np.load(sys.argv[3])
found = answers(soundbench_runtime, sys.argv[1], sys.argv[2]), streamed(soundbench_runtime, sys.argv[1], samples)
assert not [name for name in sys.modules if name.split(".")[0] in ("torch", "soundbench") and sys.modules[name]]
print(json.dumps(found))
"""
)


def wanted(model: Path, sounds: Path, samples: np.ndarray) -> Any:
    space: dict[str, Any] = {}
    exec(ANSWERS, space)
    found = space["answers"](soundbench, model, sounds), space["streamed"](soundbench, model, samples)
    return json.loads(json.dumps(found))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some seconds at 11,025 Hz."""
    path, draws = tmp_path_factory.mktemp("samples") / "samples.npy", np.random.default_rng(1)
    np.save(path, (np.repeat([0.3, 0.001, 0.2], 11025) * draws.standard_normal(33075)).astype(np.float32))
    return path


def test_the_runtime_gives_the_answers_of_soundbench(run: Run, exported: Path, sounds: Path, samples: Path) -> None:
    done = run(PROGRAM, exported, sounds, samples)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == wanted(exported, sounds, np.load(samples))


def test_both_can_be_used_in_one_process(
    package: Path, exported: Path, sounds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(package)
    runtime = importlib.import_module("soundbench_runtime")
    one, other = (each.load(exported).predict(sounds / "a_long.wav") for each in (soundbench, runtime))
    assert one.to_dict() == other.to_dict()
    assert type(one) is not type(other)


# The command ----------------------------------------------------------------------------------------------------------

COMMAND = "from soundbench_runtime.command import main; main()"


@pytest.mark.parametrize("options", [(), ("--per", "event", "--window", "0.4"), ("--per", "window", "--hop", "0.2")])
def test_the_command_prints_what_infer_prints(
    run: Run, exported: Path, sounds: Path, options: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    done = run(COMMAND, exported, sounds, *options)
    assert invoke(["infer", str(exported), str(sounds), "--json", *options]) == done.returncode == 1
    printed = capfd.readouterr()
    assert done.stdout.decode() == printed.out
    assert done.stderr.decode() == printed.err == "1 of 6 files could not be scored\n"


def test_the_command_prints_what_stream_prints(run: Run, exported: Path, sounds: Path) -> None:
    data = (sounds / "a_long.wav").read_bytes()
    line = [sys.executable, "-m", "soundbench", "stream", str(exported), "--source", "-", "--json"]
    streamed = subprocess.run(line, input=data, capture_output=True, timeout=120, check=True).stdout
    done = run(COMMAND, exported, "-", given=data)
    assert done.returncode == 0, done.stderr.decode()
    both = [[json.loads(row) for row in out.splitlines()] for out in (streamed, done.stdout)]
    for rows in both:
        for row in rows:
            for name in [name for name in row if name.startswith(("latency", "core"))]:
                del row[name]
    assert both[0] == both[1]
    assert {row["type"] for row in both[0]} == {"window", "begin", "event", "summary"}


def test_the_command_reads_raw_samples(run: Run, exported: Path, sounds: Path) -> None:
    whole = (sounds / "a_long.wav").read_bytes()
    raw = soundfile.read(io.BytesIO(whole), dtype="int16")[0].astype("<i2").tobytes()
    plain = run(COMMAND, exported, "-", given=whole).stdout.splitlines()
    done = run(COMMAND, exported, "-", "--format", "s16le", "--rate", RATE, given=raw)
    windows = [
        [json.loads(row)["scores"] for row in rows if b'"window"' in row] for rows in (plain, done.stdout.splitlines())
    ]
    assert windows[0] == windows[1] != []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nothing.onnx", "x.wav"], 1, "nothing.onnx: no such file or directory"),
        (["{model}", "-", "x.wav"], 2, "-: sound on standard input cannot be mixed with files"),
        (["{model}", "x.wav", "--rate", "8000"], 2, "--format, --rate and --channels are for raw samples on standard"),
        (["{model}", "-", "--per", "clip"], 2, "--per is for files; of standard input, windows and events are printed"),
        (["{model}", "-", "--format", "s16le"], 2, "raw samples need their rate: --format s16le --rate 16000"),
        (["{model}", "x.wav", "--window", "0"], 2, "window must be from 0.01 s, the shortest input of the network"),
        (["{readme}", "x.wav"], 1, "{readme}: not an ONNX file"),
        (["{model}", "{folder}"], 2, "{folder}: no sound file in this folder; known: "),
    ],
)
def test_a_mistake_gets_one_line(
    run: Run, exported: Path, arguments: list[str], code: int, said: str, tmp_path: Path
) -> None:
    names = {"model": exported, "readme": HERE / "README.md", "folder": tmp_path}
    done = run(COMMAND, *[one.format(**names) for one in arguments])
    text = done.stderr.decode()
    assert (done.returncode, done.stdout) == (code, b"")
    assert text.lower().startswith(said.format(**names).lower()), text
    assert text.count("\n") == 1


def test_without_onnxruntime_the_command_says_so(run: Run, exported: Path) -> None:
    done = run("sys.modules['onnxruntime'] = None\n" + COMMAND, exported, "x.wav")
    assert (done.returncode, done.stderr.decode()) == (
        3,
        f"{exported}: an ONNX file needs onnxruntime, which is not installed: "
        'pip install onnxruntime, or "soundbench[export]"\n',
    )


# The wheel ------------------------------------------------------------------------------------------------------------


def backend(folder: Path) -> dict[str, str]:
    """An environment that has hatchling."""
    if importlib.util.find_spec("hatchling"):
        return dict(os.environ)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--target", str(folder)]
    subprocess.run([*pip, *PROJECT["build-system"]["requires"]], check=True)
    return os.environ | {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel installs, which is built of the source distribution, away from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    environment = backend(folder / "backend")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), "-t"]
    subprocess.run([*build, "sdist"], cwd=HERE, env=environment, check=True, capture_output=True)
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    subprocess.run([*build, "wheel"], cwd=source.with_name(source.name[:-7]), env=environment, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the libraries of the runtime and theirs, and with no other."""
    folder = tmp_path_factory.mktemp("libraries")
    for name in (*LIBRARIES, *THEIRS):
        found = distribution(name)
        for top in {Path(file).parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            (folder / top).symlink_to(Path(str(found.locate_file(top))).resolve())
    return folder


@pytest.mark.slow
def test_the_wheel_runs_where_torch_is_not_installed(
    installed: Path, libraries: Path, exported: Path, sounds: Path, samples: Path, tmp_path: Path
) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(installed), str(libraries)])}

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-S", *map(str, arguments)]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    for other in ("torch", "soundbench", "av", "matplotlib", "cattrs", "click"):
        assert f"No module named '{other}'" in call("-c", f"import {other}").stderr
    done = call("-c", "import sys\n" + PROGRAM, exported, sounds, samples)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == wanted(exported, sounds, np.load(samples))
    done = call("-m", "soundbench_runtime", exported, sounds / "a_long.wav")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["path"] == str(sounds / "a_long.wav")


@pytest.mark.slow
def test_the_wheel_holds_its_licence_its_types_and_its_command(installed: Path) -> None:
    (about,) = installed.glob("soundbench_runtime-*.dist-info")
    assert (about / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "soundbench-run-onnx = soundbench_runtime.command:main" in (about / "entry_points.txt").read_text()
    assert (installed / "soundbench_runtime" / "py.typed").is_file()
    assert {path.name for path in installed.iterdir()} == {"soundbench_runtime", about.name}
