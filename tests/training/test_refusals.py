"""`data check`, `run` and `extract` refuse the same recipes and data, with the same exit code and reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.runs import TOYS

from soundbench.cli.main import invoke

DATASET = '''
from pathlib import Path

import numpy as np

from soundbench.contracts import Clip
from soundbench.errors import DataError


class Made:
    """Twelve clips of two classes in three folds, read as `bad` says for some of them.

    Args:
        bad: what `read` gives.
        of: the clips that are bad: their numbers.
        classes: the names of the classes.
        labels: the labels of the clips, in turn.
        clips: how many.
    """

    multilabel = False

    def __init__(
        self,
        *,
        bad: str = "nan",
        of: list[int] = [],
        classes: list[str] = ["dog", "cat"],
        labels: list[str] = ["dog", "cat"],
        clips: int = 12,
    ) -> None:
        self.bad, self.of, self.classes, self.labels, self.count = bad, of, classes, labels, clips

    @property
    def fingerprint(self):
        return f"{self.bad} {self.of}"

    def clips(self):
        for number in range(self.count):
            label = self.labels[number % len(self.labels)]
            yield Clip(str(number), (label,), fold=number // 2 % 3)

    def read(self, clip):
        good = np.random.default_rng(int(clip.path)).uniform(-0.1, 0.1, 1600).astype(np.float32)
        if int(clip.path) not in self.of:
            return good, 8000
        if self.bad == "error":
            raise OSError("the archive is closed")
        if self.bad == "key":
            raise KeyError(clip.path)
        if self.bad == "data":
            raise DataError("no such entry")
        return {
            "nan": (np.full(1600, np.nan, np.float32), 8000),
            "shape": (good[None], 8000),
            "none": (good[:0], 8000),
            "rate 0": (good, 0),
            "rate -1": (good, -8000),
            "rate text": (good, "fast"),
            "rate huge": (good, 10**12),
            "rate small": (good[:9], 1),
            "text": ("sound", 8000),
            "alone": good,
            "nothing": None,
        }[self.bad]


class Several(Made):
    """The same, multi-label."""

    multilabel = True


class Nameless(Made):
    """The same, without a fingerprint."""

    fingerprint = property()


class Files:
    """Files of a folder; the class is the first letter, and each half is a fold."""

    classes = ("a", "b")
    multilabel = False

    def __init__(self, *, root: Path) -> None:
        self.root = root

    def clips(self):
        for number in range(8):
            for label in self.classes:
                yield Clip(f"{self.root}/{label}{number}.wav", (label,), fold=number % 2)
'''
RECIPE = f"""
backbone = "{TOYS}:ToyBackbone"
featurizer = "{TOYS}:ToyFeaturizer"
pooling = "{TOYS}:ToyPooling"
loss = "{TOYS}:ToyLoss"
optimizer = "{TOYS}:toy_optimizer"
scheduler = "{TOYS}:toy_scheduler"
calibration = "{TOYS}:ToyCalibration"
observer = []
head = {{embedding = 8, norm_after = "affine"}}
dataset = "./data.py:Made"
split = {{test = [2], validation = 0}}
audio = {{rate = 8000, window = 0.2}}
train = {{epochs = 1, batch_size = 4, device = "cpu", precision = "fp32", threads = 1}}
"""
SKIP = "audio.on_error=skip"
PLAIN = "head.norm_after=none"
EVEN = [0, 2, 4, 6, 8, 10]


def of(*numbers: int) -> str:
    return f"dataset.of={list(numbers)}"


CASES: dict[str, tuple[tuple[str, ...], int, str]] = {
    "good": ((), 0, ""),
    "one class alone": (("dataset.classes=['dog']", "dataset.labels=['dog']"), 2, 'has only one class, "dog"'),
    "one class of two": (("dataset.labels=['dog']",), 1, "all clips to train on are of one class, 'dog'"),
    "no classes": (("dataset.classes=[]",), 1, "the dataset has no classes"),
    "a class twice": (("dataset.classes=['dog', 'dog', 'cat']",), 1, "names the class 'dog' twice"),
    "a label that is no class": (("dataset.labels=['dog', 'cow']",), 1, "label 'cow' is not one of the 2 classes"),
    "no clips": (("dataset.clips=0",), 1, "the dataset has no clips"),
    "no such fold": (("split.test=[7]",), 2, "--set split.test=[7]: no fold 7; known: 0, 1, 2"),
    "a weight for no class": (("train.class_weights={cow=2.0}",), 2, "no class 'cow'; the classes are: dog, cat"),
    "weights of nothing": (("train.class_weights={dog=0.0, cat=0.0}",), 2, "must not be 0 for every class"),
    "a batch of one": (("train.batch_size=1",), 2, "fewer than 2 clips, which batch norm cannot train on"),
    "a batch of one without batch norm": (("train.batch_size=1", PLAIN), 0, ""),
    "pieces without a clip": (("train.accumulate=8", PLAIN), 2, "has pieces of no clip"),
    "a frozen batch norm": (("train.batch_size=1", "train.freeze=['head.embed']"), 0, ""),
    "several labels": (
        ("dataset.use=./data.py:Several",),
        2,
        "is for one class a clip, but the dataset is multi-label",
    ),
    "no fingerprint": (("dataset.use=./data.py:Nameless",), 3, "needs the property fingerprint"),
    "no weights to begin with": (
        ("init.from=nowhere",),
        2,
        "no such run directory, model folder, ONNX file or installed model",
    ),
    "read: NaN": ((of(3),), 1, "3: its dataset returns NaN or infinite samples"),
    "read: shape": (("dataset.bad=shape", of(3)), 1, "3: its dataset returns the shape (1, 1600)"),
    "read: no samples": (("dataset.bad=none", of(3)), 1, "3: its dataset returns the shape (0,)"),
    "read: OSError": (("dataset.bad=error", of(3)), 1, "3: the archive is closed"),
    "read: DataError": (("dataset.bad=data", of(3)), 1, "3: no such entry"),
    "read: KeyError": (("dataset.bad=key", of(3)), 1, "3: its dataset's read fails: KeyError: '3' (data.py, line"),
    "read: rate 0": (("dataset.bad=rate 0", of(3)), 1, "3: its dataset returns the sample rate 0; expected 1 to"),
    "read: rate below 0": (("dataset.bad=rate -1", of(3)), 1, "returns the sample rate -8000; expected"),
    "read: rate of text": (("dataset.bad=rate text", of(3)), 1, "returns the sample rate 'fast'; expected"),
    "read: huge rate": (("dataset.bad=rate huge", of(3)), 1, "returns the sample rate 1000000000000; expected"),
    "read: rate of 1 Hz": (("dataset.bad=rate small", of(3)), 0, ""),
    "read: text": (("dataset.bad=text", of(3)), 1, "3: its dataset's read fails: ValueError"),
    "read: no rate": (("dataset.bad=alone", of(3)), 1, "3: its dataset's read fails: ValueError"),
    "read: nothing": (("dataset.bad=nothing", of(3)), 1, "3: its dataset's read fails: TypeError"),
    "read: rate 0, skipped": (("dataset.bad=rate 0", of(3), SKIP), 0, ""),
    "one clip skipped": ((of(3), SKIP), 0, ""),
    "a class skipped": ((of(*EVEN), SKIP), 1, "one class, 'cat'; at least two are needed: no training clip of 'dog'"),
    "all skipped": ((of(*range(12)), SKIP), 1, "12 of 12 clips cannot be read"),
    "the test set skipped": ((of(4, 5, 10, 11), SKIP), 1, "no clip is left to test on: none of 4 can be read"),
    "too few left": ((of(0, 1, 2), SKIP, "train.batch_size=2"), 2, "a step of 1 clip in 1 piece"),
    "too few left, no batch norm": ((of(0, 1, 2), SKIP, "train.batch_size=2", PLAIN), 0, ""),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.py").write_text(DATASET)
    (tmp_path / "mine.toml").write_text(RECIPE)
    return tmp_path


def agree(capsys: pytest.CaptureFixture[str], *sets: str) -> tuple[int, str]:
    """The exit code and the error that all commands end with."""
    options = [part for text in sets for part in ("--set", text)]
    capsys.readouterr()
    code = invoke(["data", "check", "mine.toml", *options])
    reason = "".join(
        line for line in capsys.readouterr().err.splitlines(True) if not line.startswith(("split:", "WARNING:"))
    )
    assert "Traceback" not in reason
    for command in ("run", "extract"):
        other = invoke([command, "mine.toml", *options])
        text = capsys.readouterr().err
        assert (command, other) == (command, code), text
        assert "Traceback" not in text
        if code:
            assert text.endswith(reason), text
    assert bool(reason) == bool(code)
    return code, reason


@pytest.mark.parametrize("case", CASES)
def test_commands_agree(folder: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    sets, code, reason = CASES[case]
    found = agree(capsys, *sets)
    assert found[0] == code, found
    assert reason in found[1]


def test_commands_agree_about_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder / "sounds"
    root.mkdir()
    for number in range(8):
        for label in "ab":
            noise = np.random.default_rng(number).uniform(-0.1, 0.1, 1600)
            soundfile.write(root / f"{label}{number}.wav", noise, 8000)
    files = ("dataset.use=./data.py:Files", f"dataset.root={root}", "split.test=[1]")
    assert agree(capsys, *files) == (0, "")
    (root / "a2.wav").unlink()
    (root / "a4.wav").write_bytes(b"")
    (root / "b1.wav").write_text("a letter")
    code, reason = agree(capsys, *files)
    assert code == 1
    assert reason.startswith("3 of 16 clips cannot be read:\n")
    assert "a2.wav: no such file\n" in reason
    assert agree(capsys, *files, SKIP) == (0, "")
    for number in range(0, 8, 2):
        (root / f"a{number}.wav").write_bytes(b"")
    assert agree(capsys, *files, SKIP)[0] == 1


def test_what_is_skipped_is_counted_for_each_class(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    three = ("dataset.classes=['dog', 'cat', 'cow']", "dataset.labels=['dog', 'cat', 'cow']", SKIP, of(0, 3, 6, 9, 1))
    assert invoke(["run", "mine.toml", "--out", "run", *(part for text in three for part in ("--set", text))]) == 0
    log = capsys.readouterr().err
    assert "unreadable clips of each class: dog 4 of 4, cat 1 of 4\n" in log
    assert "WARNING: no training clip of these classes can be read, so they are not learned: dog\n" in log
    assert "classes without a training clip: dog" in Path("run/report.json").read_text()


@pytest.mark.parametrize(
    ("changed", "code", "reason"),
    [
        ("", 0, ""),
        ("bad = 'nan', of = [4]", 1, "4: its dataset returns NaN or infinite samples"),
        ("bad = 'rate 0', of = [4]", 1, "4: its dataset returns the sample rate 0; expected 1 to"),
        ("bad = 'error', of = [4, 5, 10, 11]", 1, "4: the archive is closed"),
        ("bad = 'nan', of = [0]", 0, ""),  # not of the test set
        (
            "classes = ['dog', 'cat', 'cow'], labels = ['dog', 'cow']",
            2,
            "labels that are not among the model's classes",
        ),
    ],
)
def test_evaluate_refuses_of_what_it_reads_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str], changed: str, code: int, reason: str
) -> None:
    assert invoke(["run", "mine.toml", "--out", "run"]) == 0
    table = f'dataset = {{use = "./data.py:Made"{", " * bool(changed)}{changed}}}'
    (folder / "other.toml").write_text(RECIPE.replace('dataset = "./data.py:Made"', table))
    assert (invoke(["data", "check", "other.toml"]) == 1) is ("of =" in changed)
    assert reason in capsys.readouterr().err or "cow" in changed
    found = invoke(["evaluate", "run", "--dataset", "other.toml", "--trust-code", "--device", "cpu"])
    text = capsys.readouterr().err
    assert found == code, text
    assert reason in text
    assert "Traceback" not in text
