"""What bad input gets on the command line: one message that says what, where and what would be right, and a code."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import toys

from soundbench.cli.main import invoke

TOYS = Path(toys.__file__)

RECIPE = f"""
featurizer = "{TOYS}:ToyFeaturizer"
backbone = "{TOYS}:ToyBackbone"
pooling = "{TOYS}:ToyPooling"
loss = "{TOYS}:ToyLoss"
optimizer = "{TOYS}:toy_optimizer"
scheduler = "{TOYS}:toy_scheduler"
calibration = "{TOYS}:ToyCalibration"
observer = []

[dataset]
use = "./sounds.py:Sounds"

[split]
test = [2]
validation = 0

[audio]
rate = 8000
window = 0.1

[train]
epochs = 1
batch_size = 4
device = "cpu"
precision = "fp32"
threads = 1
"""

SOUNDS = '''
"""Sounds of a folder a class, in two folds."""

from collections.abc import Iterator
from pathlib import Path

from soundbench.contracts import Clip


class Sounds:
    """Sounds of a folder a class."""

    multilabel = False

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(path.name for path in Path("sounds").iterdir()))

    def clips(self) -> Iterator[Clip]:
        for label in self.classes:
            for number, path in enumerate(sorted(Path("sounds", label).iterdir())):
                yield Clip(str(path), (label,), fold=1 + number % 2)
'''

Told = Callable[..., tuple[int, str]]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Calls the program beside a recipe, and gives its exit code and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(tmp_path / "cache"))
    Path("mine.toml").write_text(RECIPE)
    Path("sounds.py").write_text(SOUNDS)

    def told(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = invoke(arguments)
        out, text = capsys.readouterr()
        assert "Traceback" not in out + text
        return code, text

    return told


def write(folder: Path, samples: int = 800, channels: int = 1, rate: int = 8000, subtype: str = "PCM_16") -> Path:
    """A sound of noise; with no folder of that name yet, that too."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal((samples, channels))
    soundfile.write(folder, noise, rate, subtype=subtype)
    return folder


@pytest.fixture
def bad(told: Told) -> Path:
    """Where a bad sound may be put among good ones."""
    for label in ("dog", "rain"):
        for number in range(4):
            write(Path("sounds", label, f"{number}.wav"))
    return Path("sounds/dog/0.wav").resolve()


def test_one_class_is_nothing_to_learn(told: Told) -> None:
    """As where a folder above or below the right one is named; it would get a perfect score."""
    for number in range(4):
        write(Path("sounds", "dog", f"{number}.wav"))
    message = 'mine.toml: dataset: has only one class, "dog"; at least two are needed\n'
    assert told("run", "mine.toml", "--out", "run") == (2, message)
    assert told("describe", "mine.toml") == (2, message)
    assert not Path("run").exists()


# Recipes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "audio.windw=2",
            '--set audio.windw=2: unknown key; did you mean "window"? known: rate, window, hop, level, trim, on_error',
        ),
        ("audio.rate=3.7", "--set audio.rate=3.7: must be an integer, is 3.7"),
        ('train.batch_size="3"', '--set train.batch_size="3": must be an integer, is "3"'),
        ("train.batch_size=0", "--set train.batch_size=0: must be at least 1, is 0"),
        (
            "split.test=10",
            "--set split.test=10: must be a fraction at least 0 and below 1, is 10.0; for fold 10 write [10]",
        ),
        (
            f'backbone={{use="{TOYS}:ToyBackbone",channels=0}}',
            f'--set backbone={{use="{TOYS}:ToyBackbone",channels=0}}: backbone.channels: must be at least 1, not 0',
        ),
        (
            f'backbone={{use="{TOYS}:ToyBackbone",chanels=3}}',
            f'--set backbone={{use="{TOYS}:ToyBackbone",chanels=3}}: backbone.chanels: unknown key; did you mean '
            '"channels"? known: channels, dropout',
        ),
        (
            "trian.epochs=3",
            '--set trian.epochs=3: trian: unknown table; did you mean "train"? known: dataset, split, audio, '
            "augmentation, featurizer, backbone, pooling, head, init, loss, optimizer, scheduler, train, calibration, "
            "reject, report, observer",
        ),
        (
            f'backbone="{TOYS}:ToyBackbon"',
            f'--set backbone="{TOYS}:ToyBackbon": backbone.use: {TOYS}:ToyBackbon: {TOYS} defines no '
            '"ToyBackbon"; did you mean "ToyBackbone"?',
        ),
        ("train.epochs", "--set train.epochs: must be KEY=VALUE, such as train.epochs=3"),
    ],
)
def test_a_mistake_in_a_recipe(told: Told, bad: Path, change: str, message: str) -> None:
    code, text = told("run", "mine.toml", "--set", change)
    assert code == 2
    assert text.startswith(message)
    assert text.count("\n") == 1
    assert not Path("runs").exists()


def test_a_missing_table_and_another_mistake_are_reported_together(told: Told) -> None:
    Path("mine.toml").write_text(RECIPE.replace('[dataset]\nuse = "./sounds.py:Sounds"', "") + "epoch = 3\n")
    code, text = told("run", "mine.toml")
    first, second = text.splitlines()
    assert code == 2
    assert first.startswith('mine.toml: dataset: this table is missing; write dataset = "NAME", known: ')
    assert second.startswith(
        'mine.toml: train.epoch: unknown key; did you mean "epochs"? known: epochs, batch_size, seed,'
    )


def test_a_device_that_is_none(told: Told, bad: Path) -> None:
    message = '--device must be "auto", "cpu", "cuda" or one such as "cuda:1", is "gpu"\n'
    assert told("run", "mine.toml", "--device", "gpu") == (2, message)


def test_an_unknown_fold(told: Told, bad: Path) -> None:
    assert told("run", "mine.toml", "--set", "split.test=[3]") == (
        2,
        "--set split.test=[3]: no fold 3; known: 1, 2\n",
    )


# Plugins


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package", "needs no_such_package, which is not installed"),
        ("def (", "cannot be imported: SyntaxError: invalid syntax"),
        ("raise RuntimeError('two\\nlines')", "cannot be imported: RuntimeError: two lines"),
        ("raise SystemExit(0)", "cannot be imported: SystemExit: 0"),
    ],
)
def test_a_local_file_that_fails_to_import(told: Told, tmp_path: Path, text: str, message: str) -> None:
    Path("net.py").write_text(text)
    code, said = told("describe", "mine.toml", "--set", 'backbone="./net.py:Net"')
    whole = f'--set backbone="./net.py:Net": backbone.use: backbone {tmp_path}/net.py:Net, line 1, {message}\n'
    assert (code, said) == (3, whole)


def test_a_local_file_that_is_not_there_is_a_mistake_in_the_recipe(told: Told, tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    assert told("describe", "mine.toml", "--set", 'backbone="./net.py:Net"') == (
        2,
        f'--set backbone="./net.py:Net": backbone.use: {path}:Net: there is no file {path}\n',
    )


def distribution(folder: Path, name: str, module: str, points: str) -> None:
    """An installed distribution, as `pip install --target` leaves it."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(points)
    (folder / f"{name}_module.py").write_text(module)


def test_distributions_that_are_broken_or_claim_one_name(tmp_path: Path) -> None:
    distribution(tmp_path, "broken", "import no_such_package", "[soundbench.pooling]\nbust = broken_module:Bust\n")
    for name in ("one", "two"):
        distribution(tmp_path, name, "class Same: ...", f"[soundbench.pooling]\nsame = {name}_module:Same\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "SOUNDBENCH_PLUGINS": "broken,one,two"}

    def listed(*arguments: str) -> tuple[int, str, str]:
        line = [sys.executable, "-m", "soundbench", "list-plugins", *arguments]
        done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        return done.returncode, done.stdout, done.stderr

    bust = 'pooling "bust" (broken 1.0, module broken_module) needs no_such_package, which is not installed'
    twice = 'is provided by one 1.0 and two 1.0; choose one: use = "one/same" or use = "two/same"'
    assert listed("pooling", "bust") == (3, "", f"{bust}\n")
    assert listed("pooling", "same") == (3, "", f'a pooling "same" {twice}\n')
    odd = "[soundbench.pooling]\n\x1b[31mred\x9b = odd_module:Red\n"
    distribution(tmp_path, "odd", "class Red: ...", odd)
    environment["SOUNDBENCH_PLUGINS"] = "odd"
    for arguments in (("pooling",), ("pooling", "--json"), ("pooling", "--check"), ("pooling", "x")):
        _, out, errors = listed(*arguments)
        assert "\\u001b[31mred\\u009b" in out + errors
        assert (out + errors).replace("\n", "").isprintable()
    environment["SOUNDBENCH_PLUGINS"] = "broken,one,two"
    assert listed("pooling", "bst") == (
        2,
        "",
        'there is no pooling "bst"; did you mean "bust"? known: bust, same '
        "(SOUNDBENCH_PLUGINS allows broken,one,two)\n",
    )
    assert listed()[0] == 0
    code, table, _ = listed("--check")
    assert code == 3
    assert bust in table.splitlines()


# Sounds


def _damage(kind: str, path: Path) -> None:
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif kind == "corrupt":
        path.write_bytes(b"RIFF" + bytes(range(250)) * 4)
    elif kind == "not audio":
        path.write_text("a letter to somebody")
    elif kind == "no samples":
        write(path, samples=0)
    elif kind == "NaN":
        samples = np.zeros(800, np.float32)
        samples[[3, 5]] = np.nan
        soundfile.write(path, samples, 8000, subtype="FLOAT")
    elif kind == "gone":
        path.unlink()
        path.symlink_to("nowhere.wav")


_NO_SOUND = (
    "is not a sound file of a known format (WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF, AU, CAF, W64; with soundbench[av] "
    "also M4A, AAC, WebM)"
)
BAD_SOUNDS = {
    "empty": "is empty (0 bytes); a sound file is needed",
    "truncated": "truncated: the header states 1600 bytes of sound, the file has 956; copy it again",
    "corrupt": _NO_SOUND,
    "not audio": _NO_SOUND,
    "no samples": "holds no samples",
    "NaN": "2 of 800 samples are NaN or infinite; samples are finite numbers",
    "gone": "no such file",
}


@pytest.mark.parametrize("kind", BAD_SOUNDS)
def test_a_bad_sound_ends_a_run_with_its_name_and_what_is_wrong(told: Told, bad: Path, kind: str) -> None:
    _damage(kind, bad)
    code, text = told("run", "mine.toml")
    assert code == 1
    assert text.endswith(
        "\n1 of 8 clips cannot be read:\n"
        f"  sounds/dog/0.wav: {BAD_SOUNDS[kind]}\n"
        'fix or remove them, or skip them with audio.on_error = "skip"\n'
    )


def test_bad_sounds_are_left_out_if_so_wanted_and_counted(told: Told, bad: Path) -> None:
    _damage("empty", bad)
    _damage("NaN", bad.with_name("1.wav"))
    code, text = told("run", "mine.toml", "--set", "audio.on_error=skip", "--out", "run")
    assert code == 0
    assert "sound: 2 of 8 clips cannot be read and are skipped\n" in text
    assert json.loads(Path("run/report.json").read_text())["skipped"] == {
        "count": 2,
        "clips": [
            {"path": "sounds/dog/0.wav", "reason": BAD_SOUNDS["empty"]},
            {"path": "sounds/dog/1.wav", "reason": BAD_SOUNDS["NaN"]},
        ],
    }


def test_when_nothing_is_left_to_test_on_it_is_said(told: Told, bad: Path) -> None:
    for path in Path("sounds").rglob("[13].wav"):
        _damage("empty", path)
    code, text = told("run", "mine.toml", "--set", "audio.on_error=skip")
    assert code == 1
    assert text.endswith("\nno clip is left to test on: none of 4 can be read\n")


@pytest.mark.parametrize(("channels", "rate", "samples"), [(100, 8000, 800), (1, 8, 40)])
def test_odd_sounds_are_taken_as_they_are(told: Told, bad: Path, channels: int, rate: int, samples: int) -> None:
    write(bad, samples, channels, rate)
    assert told("run", "mine.toml", "--out", "run")[0] == 0
    assert told("infer", "run", str(bad), "--trust-code") == (0, "")


def test_a_class_without_a_test_clip_is_named(told: Told, bad: Path) -> None:
    for number in (1, 2, 3):  # what is left is in fold 1, and fold 2 is tested on
        Path(f"sounds/rain/{number}.wav").unlink()
    assert told("run", "mine.toml", "--out", "run")[0] == 0
    assert json.loads(Path("run/report.json").read_text())["classes_without_clips"] == ["rain"]
    assert "Note: classes without a test clip: rain." in Path("run/report.md").read_text()


def test_labels_of_any_kind_come_back_as_they_were(told: Told, tmp_path: Path) -> None:
    labels = sorted(["a, b", 'the "x"', "it's", " sp ace ", "狗叫", "🐶🐱", "a|b", "a\\b"])
    for label in labels:
        for number in range(2):
            write(Path("sounds", label, f"{number}.wav"))
    assert told("run", "mine.toml", "--out", "run")[0] == 0
    report = json.loads(Path("run/report.json").read_text(encoding="utf-8"))
    assert [row["class"] for row in report["per_class"]] == labels
    with Path("run/predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["label"] for row in rows) == labels
    assert [name.removeprefix("score:") for name in rows[0] if name.startswith("score:")] == labels
    with Path("run/confusion.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file))[1:] == labels


def test_sounds_that_cannot_be_scored_are_reported_and_the_others_scored(
    told: Told, bad: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told("run", "mine.toml", "--out", "run")[0] == 0
    _damage("empty", bad)
    line = ["infer", "run", "--trust-code", "--json", "sounds/dog/0.wav", "sounds/dog/1.wav", "nope.wav"]
    assert invoke(line) == 1
    out, text = capsys.readouterr()
    rows = {row["path"]: row for row in map(json.loads, out.splitlines())}
    assert rows["sounds/dog/0.wav"] == {"path": "sounds/dog/0.wav", "error": BAD_SOUNDS["empty"]}
    assert rows["nope.wav"] == {"path": "nope.wav", "error": "no such file"}
    columns = ["begin_time", "end_time", "label", "labels", "nearest", "path", "rejected", "score", "scores"]
    assert sorted(rows["sounds/dog/1.wav"]) == columns
    assert text == "2 of 3 files could not be scored\n"


# Folders, disks, and what a run left


def test_a_run_directory_that_is_taken(told: Told, bad: Path) -> None:
    Path("taken").mkdir()
    Path("taken/something").touch()
    code, text = told("run", "mine.toml", "--out", "taken")
    assert (code, text.splitlines()[-1]) == (
        2,
        "taken: exists and is not empty; give another folder with --out",
    )


def test_a_run_directory_without_permission(told: Told, bad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = Path.mkdir

    def refuse(path: Path, *arguments: int, **options: bool) -> None:
        if path.name == "forbidden":
            raise PermissionError(13, "Permission denied", str(path))
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    code, text = told("run", "mine.toml", "--out", "forbidden")
    assert (code, text.splitlines()[-1]) == (1, "forbidden: no permission to write here")


def test_a_full_disk_under_the_run_directory(told: Told, bad: Path, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(116 << 10))
    code, text = told("run", "mine.toml", "--out", f"{small_disk}/run")
    assert code == 1
    assert text.splitlines()[-1].startswith(f"{small_disk}/run/")
    assert text.splitlines()[-1].endswith(": the disk is full")


def test_a_full_disk_under_the_cache(told: Told, bad: Path, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(120 << 10))
    code, text = told("run", "mine.toml", "--cache", str(small_disk))
    assert (code, text.splitlines()[-1]) == (
        1,
        f"{small_disk}: the sound needs about 0.0 MB, but 0.0 MB are free; free some space, set SOUNDBENCH_CACHE to "
        "another folder, or use --no-cache",
    )


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_checkpoint_cut_in_half(told: Told, bad: Path) -> None:
    assert told("run", "mine.toml", "--out", "run", "--set", "train.epochs=2")[0] == 0
    Path("run/report.json").unlink()
    last = max(Path("run/checkpoints").glob("step-*.pt"))
    _halve(last)
    code, text = told("run", "--resume", "run", "--trust-code")
    assert code == 0
    assert f"{last}: the checkpoint is damaged and cannot be read; trying the one before\n" in text
    Path("run/report.json").unlink()
    for path in Path("run/checkpoints").iterdir():
        _halve(path)
    code, text = told("run", "--resume", "run", "--trust-code")
    assert (code, text.splitlines()[-1]) == (1, "run/checkpoints: every checkpoint is damaged; start a new run")


def test_a_model_that_does_not_hold_together(told: Told, bad: Path) -> None:
    assert told("run", "mine.toml", "--out", "run")[0] == 0
    model = Path("run/model")
    described, weights = (model / "model.toml").read_text(), (model / "weights.safetensors").read_bytes()

    def infer(text: str, *more: str) -> tuple[int, str]:
        (model / "model.toml").write_text(text)
        return told("infer", "run", str(bad), "--accept-changes", *(more or ["--trust-code"]))

    assert infer(described.replace('    "dog",\n', "")) == (
        1,
        "run/model: model.toml names 1 classes, but the weights have 2\n",
    )
    assert infer(described.replace("channels = 16", "channels = 8")) == (
        1,
        "run/model/weights.safetensors: the weights do not fit model.toml: backbone.conv.bias has the shape "
        "(16,), not (8,); 6 more differ\n",
    )
    assert infer(described.replace("channels = 16", "chanels = 16")) == (
        2,
        'run/model/model.toml: backbone.chanels: unknown key; did you mean "channels"? known: channels, dropout\n',
    )
    code, text = infer(described, "--top", "2")
    assert code == 2
    assert text.splitlines()[-1] == (
        f'run/model/model.toml: calibration.use: "{model.resolve()}/code/toys.py:ToyCalibration" is code from the run; '
        "add --trust-code (trust_code=True) to execute it"
    )
    code, text = infer(described[: described.index('"dog"') + 3])
    assert code == 1
    assert text.startswith("run/model/model.toml: damaged: ")
    (model / "weights.safetensors").write_bytes(weights[: len(weights) // 2])
    code, text = infer(described)
    assert code == 1
    assert text.startswith("run/model/weights.safetensors: damaged: ")
    (model / "weights.safetensors").unlink()
    assert infer(described) == (1, "run/model: no model here: weights.safetensors is missing\n")


def test_weights_that_may_not_be_read_are_not_called_missing(
    told: Told, bad: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told("run", "mine.toml", "--out", "run")[0] == 0
    opened = os.open

    def refuse(path: Path, *arguments: int, **options: int) -> int:
        if Path(path).name == "weights.safetensors":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert told("infer", "run", str(bad), "--trust-code") == (
        1,
        "run/model/weights.safetensors: permission denied\n",
    )
