from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from helpers import TESTS
from helpers.clip_tables import table_of

from soundbench import files
from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.errors import RunError
from soundbench.report import run_directory
from soundbench.report.run_directory import RunDirectory, default_name

NOW = datetime(2026, 11, 22, 10, 15, 0)
CLASSES = ("a, b", 'quoted "x"', "two\nlines", "猫 叫", "🎸", "bar|and\\slash")


def table(clips: list[Clip], multilabel: bool = False) -> ClipTable:
    return table_of(clips, CLASSES, multilabel)


def scores(clips: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((clips, len(CLASSES))).astype(np.float32)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run")


@pytest.fixture
def forbidden() -> Iterator[Path]:
    """An empty folder in which this process may not write, root or not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)
            os.chmod(folder, 0o755)


# Names


def test_every_name_is_where_the_design_has_it(run: RunDirectory) -> None:
    places = {
        name: getattr(run, name).relative_to(run.path).as_posix()
        for name, place in vars(RunDirectory).items()
        if isinstance(place, run_directory._Place)
    }

    assert places == {
        "recipe": "recipe.toml",
        "environment": "environment.json",
        "clips": "clips.csv",
        "history": "history.csv",
        "profile": "profile.txt",
        "log": "log.txt",
        "checkpoints": "checkpoints",
        "model": "model",
        "model_toml": "model/model.toml",
        "weights": "model/weights.safetensors",
        "card": "model/README.md",
        "code": "model/code",
        "assets": "model/assets",
        "predictions": "predictions.csv",
        "logits": "logits.safetensors",
        "report_json": "report.json",
        "report_md": "report.md",
        "report_html": "report.html",
        "confusion_csv": "confusion.csv",
        "figures": "figures",
        "confusion_png": "figures/confusion.png",
        "confusion_labels": "figures/confusion_labels.txt",
        "digests": "digests.json",
    }


def test_the_page_on_run_directories_names_every_file_and_column() -> None:
    page = (Path(__file__).parents[2] / "docs" / "run-directory.md").read_text(encoding="utf-8")
    places = [place.name for place in vars(RunDirectory).values() if isinstance(place, run_directory._Place)]

    for name in {part for place in places for part in place.split("/")}:
        assert re.search(rf"[`/]{re.escape(name)}[`/]", page), name
    for name in (*run_directory._CLIP_COLUMNS, *run_directory._PREDICTION_COLUMNS, "rejected", "score:<class>"):
        assert f"`{name}`" in page, name


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ("urbansound_campplus", "urbansound_campplus-20261122-101500"),
        ("my sounds/№ 1", "my-sounds-1-20261122-101500"),
        ("猫の声", "猫の声-20261122-101500"),
        ("../..", "run-20261122-101500"),
        ("x" * 300, "x" * 80 + "-20261122-101500"),
    ],
)
def test_a_default_name_says_recipe_and_time(recipe: str, name: str) -> None:
    assert default_name(recipe, NOW) == name


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    made = [RunDirectory.new(tmp_path, "toy", NOW).path.name for _ in range(3)]

    assert made == ["toy-20261122-101500", "toy-20261122-101500-2", "toy-20261122-101500-3"]


def test_runs_that_start_at_one_moment_get_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: RunDirectory.new(tmp_path / "runs", "toy", NOW).path, range(64)))

    assert len(set(made)) == 64


@pytest.mark.parametrize(
    ("fold", "name"), [(1, "fold-01"), ("7", "fold-07"), (10, "fold-10"), ("a/b", "fold-a-b"), ("Süd", "fold-Süd")]
)
def test_a_fold_has_a_directory_inside(tmp_path: Path, fold: int | str, name: str) -> None:
    assert RunDirectory(tmp_path).fold(fold).path == tmp_path / name


# Making and finding


def test_a_run_is_made_with_its_parents_and_in_an_empty_folder(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "a" / "b")

    assert list(run.path.iterdir()) == []
    assert RunDirectory.create(str(run.path)) == run


def test_a_run_is_not_made_over_something(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_text("")
    messages = []
    for path in (tmp_path / "note.txt", tmp_path, tmp_path / "run"):
        with pytest.raises(RunError) as caught:
            RunDirectory.create(path)
        messages.append(str(caught.value))

    assert messages == [
        f"{tmp_path / 'note.txt'}: is a file; a run needs a new folder or an empty one",
        f"{tmp_path}: exists and is not empty; give another folder with --out",
        f"{tmp_path / 'run'}: exists and is not empty; give another folder with --out, "
        f"or resume this run with --resume {tmp_path / 'run'}",
    ]


def test_a_place_where_nothing_may_be_written_is_told(forbidden: Path) -> None:
    for path in (forbidden, forbidden / "run"):
        with pytest.raises(RunError) as caught:
            RunDirectory.create(path)
        assert str(caught.value) == f"{path}: no permission to write here"
    with pytest.raises(RunError, match="toy-20261122-101500: no permission to write here"):
        RunDirectory.new(forbidden, "toy", NOW)


def test_a_path_through_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "run"

    with pytest.raises(RunError) as caught:
        RunDirectory.create(path)
    assert str(caught.value) == f"{path}: a part of this path is a file, not a folder"


def test_a_run_is_opened_by_its_recipe(run: RunDirectory) -> None:
    files.write_text(run.recipe, "")

    assert RunDirectory.open(run.path) == run


def test_what_is_no_run_is_told(tmp_path: Path, run: RunDirectory) -> None:
    (tmp_path / "file").write_text("")

    def message(path: Path, *needed: str) -> str:
        with pytest.raises(RunError) as caught:
            RunDirectory.open(path, *needed)
        return str(caught.value)

    assert message(tmp_path / "none") == f"{tmp_path / 'none'}: no such run directory"
    assert message(tmp_path / "file") == f"{tmp_path / 'file'}: is a file, not a run directory"
    assert message(run.path) == (
        f"{run.path}: not a run directory: recipe.toml is missing; no run has begun here: start one with "
        f"soundbench run RECIPE --out {run.path}"
    )
    files.write_text(run.recipe, "")
    assert message(tmp_path) == f"{tmp_path}: not a run directory: recipe.toml is missing; did you mean {run.path}?"
    assert message(run.path, "recipe.toml", "model/model.toml", "predictions.csv") == (
        f"{run.path}: the run is not finished: model/model.toml, predictions.csv missing"
    )


# Logs


def test_the_log_has_the_time_before_each_text(run: RunDirectory) -> None:
    run_directory.log(run, "begun", NOW)
    run_directory.log(run, "猫")

    lines = run.log.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "2026-11-22T10:15:00 begun"
    assert datetime.fromisoformat(lines[1].split()[0]).tzinfo is not None
    assert lines[1].endswith(" 猫")


def test_no_text_looks_like_another_entry_of_the_log(run: RunDirectory) -> None:
    run_directory.log(run, "cannot read a\n2026-11-22T10:15:00 done.wav\x1b[2J", NOW)
    run_directory.log(run, "last", NOW)
    assert run.log.read_text(encoding="utf-8") == (
        "2026-11-22T10:15:00 cannot read a\n    2026-11-22T10:15:00 done.wav\\u001b[2J\n2026-11-22T10:15:00 last\n"
    )


HISTORY = [{"epoch": epoch, "step": 7 * epoch, "train_loss": 1 / epoch, "note": None} for epoch in range(1, 4)]


def write_history(run: RunDirectory, epochs: int) -> bytes:
    """The table as a run of so many epochs appends it."""
    for epoch in range(1, epochs + 1):
        files.append_row(run.history, HISTORY[0] | {"epoch": epoch, "step": 7 * epoch, "train_loss": 1 / epoch})
    return run.history.read_bytes()


def test_history_is_cut_at_the_checkpoint(run: RunDirectory) -> None:
    whole = write_history(run, 3)
    write_history(RunDirectory(run.path / "longer"), 5)
    run.history.write_bytes((run.path / "longer" / "history.csv").read_bytes() + b"6,42,0.")

    assert run_directory.restore_history(run, HISTORY) is False
    assert run.history.read_bytes() == whole


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"epoch,step,train_loss,note\n",
        b"precious\n1\n",
        b"epoch,step,train_loss,note\n1,7,1.0,\n",
        b"epoch,step,train_loss,note\n1,7,1.0,\n2,14,0.5,\n3,21,0.25,\n",
        b"epoch,step,train_loss,note\n1,7,1.0\n2,14,0.5,\n",
        b"\xff\x00",
    ],
    ids=["missing", "empty", "header", "other", "cut", "changed", "torn within", "no text"],
)
def test_a_history_that_is_damaged_is_made_anew(run: RunDirectory, content: bytes | None) -> None:
    whole = write_history(run, 3)
    run.history.unlink()
    if content is not None:
        run.history.write_bytes(content)

    assert run_directory.restore_history(run, HISTORY) is True
    assert run.history.read_bytes() == whole


def test_without_a_checkpoint_there_is_no_history(run: RunDirectory) -> None:
    assert run_directory.restore_history(run, []) is False
    write_history(run, 1)
    assert run_directory.restore_history(run, []) is False
    assert not run.history.exists()
    run.history.write_bytes(b"precious\n1\n")
    assert run_directory.restore_history(run, []) is True


# The first moments of a run


@pytest.mark.parametrize(
    "left",
    [
        [".probe"],
        ["folds.json"],
        [".lock", ".lock.json"],
        [".lock", "environment.json", ".recipe.toml.tmp"],
        [".lock", "..lock.json.tmp", "model/code/mine.py", "model/code/.other.py.tmp", ".folds.json.1f.tmp"],
    ],
)
def test_a_run_killed_before_its_recipe_is_written_leaves_an_empty_folder(run: RunDirectory, left: list[str]) -> None:
    for name in left:
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text("{}")

    assert RunDirectory.create(run.path) == run
    with pytest.raises(RunError, match="no run has begun here: start one"):
        RunDirectory.open(run.path)
    run.clear()
    assert {path.name for path in run.path.iterdir()} <= {".lock", ".lock.json"}


def test_a_folder_with_a_link_is_not_empty(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (run.path / "model").symlink_to(tmp_path / "precious")

    with pytest.raises(RunError, match="exists and is not empty"):
        RunDirectory.create(run.path)


@pytest.mark.parametrize("name", ["notes.txt", "model/weights.safetensors", "model/code/a/b.py", "log.txt", ".probe/a"])
def test_a_folder_with_anything_else_is_not_empty(run: RunDirectory, name: str) -> None:
    (run.path / name).parent.mkdir(parents=True, exist_ok=True)
    (run.path / name).write_text("")

    with pytest.raises(RunError, match="exists and is not empty"):
        RunDirectory.create(run.path)


# Clips and predictions


def test_clips_are_written_with_their_part(run: RunDirectory) -> None:
    clips = [
        Clip("a.wav", ("a, b",)),
        Clip("dir/猫, 1.wav", ("猫 叫",), 0.5, 4.25, fold=3, group="take 1"),
        Clip("b.wav", ("🎸", "bar|and\\slash"), fold="south"),
    ]
    run_directory.write_clips(run, table(clips, multilabel=True), ["train", "test", "purged"])

    rows = [list(row.values()) for row in files.read_rows(run.clips)]
    assert list(files.read_rows(run.clips)[0]) == ["part", "path", "start", "stop", "fold", "group", "labels"]
    assert rows == [
        ["train", "a.wav", "0.0", "", "", "a.wav", "a, b"],
        ["test", "dir/猫, 1.wav", "0.5", "4.25", "3", "take 1", "猫 叫"],
        ["purged", "b.wav", "0.0", "", "south", "b.wav", "🎸|bar\\|and\\\\slash"],
    ]


def test_further_values_of_clips_are_columns_of_their_names(run: RunDirectory) -> None:
    clips = [
        Clip("a.wav", CLASSES[:1], extra={"site": "north, east", "part": "2"}),
        Clip("b.wav", CLASSES[1:2], extra={"month": "5"}),
    ]
    run_directory.write_clips(run, table(clips), ["train", "test"])

    rows = files.read_rows(run.clips)
    assert [(row["part"], row["site"], row["dataset:part"], row["month"]) for row in rows] == [
        ("train", "north, east", "2", ""),
        ("test", "", "", "5"),
    ]


def test_the_rows_of_many_clips_are_those_of_each(run: RunDirectory) -> None:
    draws = np.random.default_rng(0)
    clips = []
    for number in range(9000):
        labels = tuple(CLASSES[code] for code in draws.permutation(6)[: 1 + number % 3])
        stop, group = (None, 2.5)[number % 2], (None, f"g{number % 7}")[number % 2]
        extra = {"site": f"s{number % 5}"} if number % 3 else {}
        fold = number % 4 or None
        clips.append(Clip(f"{number}.wav", labels, number / 4, stop and number + stop, fold, group, extra))
    whole, rows = table(clips, multilabel=True), draws.permutation(9000)[:5000]
    run_directory.write_clips(run, whole, ["train", "test", "purged"] * 3000)
    run_directory.write_predictions(run, whole, rows, scores(5000))

    expected = [
        ("" if value is None else str(value))
        for clip in clips
        for value in (clip.path, clip.start, clip.stop, clip.fold, clip.group or clip.path, clip.extra.get("site"))
    ]
    written = files.read_rows(run.clips)
    columns = ("path", "start", "stop", "fold", "group", "site")
    assert [row[name] for row in written for name in columns] == expected
    assert [row["part"] for row in written] == ["train", "test", "purged"] * 3000
    read = run_directory.read_predictions(run)
    assert [(clip.path, clip.start, set(clip.labels)) for clip in read.clips] == [
        (clips[row].path, clips[row].start, set(clips[row].labels)) for row in rows
    ]


def test_predictions_come_back_as_they_were(run: RunDirectory) -> None:
    clips = [Clip(f"{name}.wav", (name,), fold=number, group=f"g{number // 2}") for number, name in enumerate(CLASSES)]
    rows, own = np.array([5, 0, 3, 2]), scores(4)
    run_directory.write_predictions(run, table(clips), rows, own)
    read = run_directory.read_predictions(run)

    assert read.classes == CLASSES
    assert [clip.path for clip in read.clips] == [clips[row].path for row in rows]
    assert [clip.labels for clip in read.clips] == [clips[row].labels for row in rows]
    assert [clip.fold for clip in read.clips] == ["5", "0", "3", "2"]
    assert read.predicted == [CLASSES[best] for best in own.argmax(1)]
    assert np.array_equal(read.scores.astype(np.float32), own)
    assert np.array_equal(read.targets, np.eye(6, dtype=np.float32)[rows])
    assert read.groups == ["g2", "g0", "g1", "g1"]


def test_the_columns_of_predictions_are_those_that_the_page_names(run: RunDirectory) -> None:
    run_directory.write_predictions(
        run, table([Clip("a.wav", ("🎸",), 1.5)]), np.array([0]), np.full((1, 6), 0.1, np.float32)
    )

    (row,) = files.read_rows(run.predictions)
    assert list(row) == ["path", "start", "stop", "fold", "group", "label", "predicted", "score", "rejected"] + [
        f"score:{name}" for name in CLASSES
    ]
    assert list(row.values()) == ["a.wav", "1.5", "", "", "a.wav", "🎸", "a, b", "0.1", "false"] + ["0.1"] * 6


def test_which_clips_are_rejected_comes_back_and_older_files_have_none(run: RunDirectory) -> None:
    clips, own = [Clip("a.wav", ("🎸",)), Clip("b.wav", ("🎸",))], scores(2)
    run_directory.write_predictions(run, table(clips), np.arange(2), own, np.array([True, False]))
    read = run_directory.read_predictions(run)
    assert read.rejected.tolist() == [True, False]
    assert read.predicted == [CLASSES[best] for best in own.argmax(1)]
    columns, rows = files.read_table(run.predictions)
    place = columns.index("rejected")
    files.write_rows(
        run.predictions,
        [*columns[:place], *columns[place + 1 :]],
        [[*row[:place], *row[place + 1 :]] for row in list(rows)],
    )
    older = run_directory.read_predictions(run)
    assert older.rejected.tolist() == [False, False]
    assert np.array_equal(older.scores, read.scores)


def test_scores_of_either_precision_and_any_size_come_back(run: RunDirectory) -> None:
    for kind in (np.float32, np.float64):
        own = np.array([[1e-38, 1 / 3, 0.1, 1.0, 1e-5, 123456.789]], kind)
        run_directory.write_predictions(run, table([Clip("a.wav", ("🎸",))]), np.array([0]), own)

        assert np.array_equal(run_directory.read_predictions(run).scores.astype(kind), own)


def test_predictions_with_several_labels_and_scores_that_are_none_come_back(run: RunDirectory) -> None:
    clips = [Clip("a.wav", ("🎸", "bar|and\\slash")), Clip("b.wav", ("two\nlines", "a, b", "猫 叫"))]
    own = scores(2)
    own[0, :3] = np.nan, np.nan, 2
    run_directory.write_predictions(run, table(clips, multilabel=True), np.arange(2), own)
    read = run_directory.read_predictions(run)

    assert [set(clip.labels) for clip in read.clips] == [set(clip.labels) for clip in clips]
    assert read.predicted[0] == CLASSES[2]
    assert np.array_equal(read.scores.astype(np.float32), own, equal_nan=True)


def test_no_predictions_are_a_table_all_the_same(run: RunDirectory) -> None:
    run_directory.write_predictions(run, table([Clip("a.wav", ("🎸",))]), np.arange(0), np.zeros((0, 6)))
    read = run_directory.read_predictions(run)

    assert read.scores.shape == (0, 6)
    assert read.targets.shape == (0, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "missing"),
        (lambda text: text.replace("path,start", "start,path"), "damaged: its first row"),
        (lambda text: text.replace("a.wav,0.0", "a.wav,x"), "damaged: row 2: could not convert string to float: 'x'"),
        (lambda text: text.replace(",🎸,", ",dog,", 1), "damaged: row 2: 'dog' is not among its classes"),
        (lambda text: text.replace("false", "no"), "damaged: row 2: rejected must be true or false, is 'no'"),
    ],
)  # fmt: skip
def test_damaged_predictions_are_told(run: RunDirectory, change, message: str) -> None:
    run_directory.write_predictions(run, table([Clip("a.wav", ("🎸",))]), np.array([0]), scores(1))
    run.predictions.write_text(change(run.predictions.read_text()))

    with pytest.raises(RunError) as caught:
        run_directory.read_predictions(run)
    assert str(caught.value) == f"{run.predictions}: {message}"


def test_a_run_killed_while_it_writes_its_predictions_has_none_or_all(run: RunDirectory) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "import numpy as np\n"
        "from helpers.clip_tables import table_of\n"
        "from soundbench.report import run_directory\n"
        "from soundbench.contracts import Clip\n"
        "run = run_directory.RunDirectory(sys.argv[1])\n"
        "clips = table_of([Clip(f'{n}.wav', ('two\\nlines',)) for n in range(20000)], ('a', 'two\\nlines'))\n"
        "scores = np.random.default_rng(0).random((20000, 2)).astype(np.float32)\n"
        "print('going', flush=True)\n"
        "while True: run_directory.write_predictions(run, clips, np.arange(20000), scores)\n"
    )
    command = [sys.executable, "-c", script, str(run.path), str(TESTS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"going\n"
    while not list(run.path.glob(".predictions.csv.tmp")):
        time.sleep(0.002)
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()

    assert not run.predictions.exists() or len(run_directory.read_predictions(run).clips) == 20000
    run_directory.write_predictions(run, table([Clip("a.wav", ("🎸",))]), np.array([0]), scores(1))
    assert [path.name for path in run.path.iterdir()] == ["predictions.csv"]


@pytest.mark.usefixtures("bound")
def test_a_run_directory_without_permission(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(RunError) as caught:
        RunDirectory.create(closed / "run")
    assert str(caught.value) == f"{closed / 'run'}: no permission to write here"
