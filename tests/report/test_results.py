"""`soundbench.Run`: what it reads is what the files hold, with pandas and without, whatever the labels are."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.clip_tables import table_of
from matplotlib import image, rc_context
from matplotlib.figure import Figure

import soundbench
from soundbench import files
from soundbench.contracts import Clip
from soundbench.errors import CallError, RunError, RunPlaceError
from soundbench.report import figures, pages, run_directory
from soundbench.report.assessment import assess
from soundbench.report.results.tables import Table
from soundbench.report.run_directory import FOLDS, RunDirectory

# In several scripts, hostile, and named like columns.
CLASSES = ("猫 叫", "شرطة", "🎸", "<script>alert(1)</script>", "label", "score:dog", "path", "a, b")
HISTORY = (
    {"epoch": 1, "step": 7, "train_loss": 2.5, "validation_loss": 2.0, "validation_accuracy": 0.25},
    {"epoch": 2, "step": 14, "train_loss": 1.5, "validation_loss": 1.75, "validation_accuracy": 0.5},
)


def begun(path: Path, classes: Sequence[str] = CLASSES, multilabel: bool = False) -> tuple[RunDirectory, Any]:
    """A run of two epochs that is not finished, and its clips."""
    run = RunDirectory.create(path)
    files.write_text(run.recipe, 'name = "toy"\n')
    extra = {"path": "a name of clips.csv itself", "score:dog": "three"}
    clips = [
        Clip(f"{number}.wav", (classes[number % len(classes)],), 0.5 * number, None if number % 2 else 30.0, 1, **more)
        for number, more in ((number, {"group": f"g{number // 3}", "extra": extra}) for number in range(40))
    ]
    table = table_of(clips, classes, multilabel)
    run_directory.write_clips(run, table, ["train", "test"] * 20)
    for row in HISTORY:
        files.append_row(run.history, row)
    return run, table


def finished(path: Path, classes: Sequence[str] = CLASSES, multilabel: bool = False, broken: bool = False) -> Any:
    """A finished run of made-up scores; the first clip has NaN scores if `broken`."""
    run, table = begun(path, classes, multilabel)
    rows = np.arange(1, 40, 2)
    targets = table.targets(rows)
    scores = (np.random.default_rng(1).random((20, len(classes))) + 0.4 * targets).astype(np.float32)
    if broken:
        scores[0] = np.nan
    thresholds = np.full(len(classes), 0.5) if multilabel else None
    numbers = assess(scores, targets, table.group_codes[rows], classes, thresholds=thresholds, resamples=100)
    run_directory.write_predictions(run, table, rows, scores)
    pages.write(run, {"name": "toy", "protocol": {"best_epoch": 2}, **numbers})
    return soundbench.Run(run.path)


@pytest.fixture(autouse=True)
def without_pictures_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all else, and nothing here reads `figures/confusion.png`."""
    monkeypatch.setattr(figures, "confusion_png", lambda *_: (b"", False))


@pytest.fixture(params=["pandas", "no pandas"])
def with_pandas(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The same test with pandas and where it is not installed."""
    if request.param == "pandas":
        return True
    monkeypatch.setitem(sys.modules, "pandas", None)
    return False


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def is_frame(table: Any) -> bool:
    return type(table).__module__.startswith("pandas")


# What is read


def test_tables_hold_what_the_files_hold(tmp_path: Path, with_pandas: bool) -> None:
    run = finished(tmp_path / "run")
    numbers = {"start", "stop", "score", "epoch", "step", "train_loss", "validation_loss", "validation_accuracy"}
    for name in ("predictions", "history", "clips"):
        table, rows = getattr(run, name), rows_of(getattr(run.directory, name))
        assert is_frame(table) == with_pandas
        assert isinstance(table, Table) != with_pandas
        assert list(table) == list(table.columns) == list(rows[0])
        assert (len(table), table.shape) == (len(rows), (len(rows), len(rows[0])))
        for column in rows[0]:
            cells, found = [row[column] for row in rows], np.asarray(table[column])
            if column in numbers or (name == "predictions" and column.startswith("score:")):
                np.testing.assert_array_equal(found.astype(float), [float(cell or "nan") for cell in cells])
            else:
                assert found.tolist() == cells
            assert column in table
        assert "nothing" not in table
        with pytest.raises(KeyError):
            table["nothing"]
    assert np.asarray(run.history["epoch"]).dtype == np.int64
    assert np.asarray(run.clips["dataset:path"]).tolist() == ["a name of clips.csv itself"] * 40
    assert np.asarray(run.clips["score:dog"]).tolist() == ["three"] * 40


def test_the_confusion_matrix_is_that_of_the_predictions(tmp_path: Path, with_pandas: bool) -> None:
    run = finished(tmp_path / "run")
    wanted = np.zeros((8, 8), int)
    truth, predicted = ([CLASSES.index(name) for name in run.predictions[column]] for column in ("label", "predicted"))
    np.add.at(wanted, (truth, predicted), 1)
    np.testing.assert_array_equal(np.asarray(run.confusion), wanted)
    if with_pandas:
        assert list(run.confusion.index) == list(run.confusion.columns) == list(CLASSES)
        assert run.confusion.loc["🎸", "path"] == wanted[2, 6]
    else:
        assert type(run.confusion) is np.ndarray


def test_metrics_are_those_of_the_report_in_its_order(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert run.report == report
    assert list(run.metrics) == list(report["metrics"])
    assert list(run.metrics)[:4] == ["accuracy", "macro_f1", "balanced_accuracy", "top3"]
    for name, figure in report["metrics"].items():
        found = run.metrics[name]
        assert (found.value, found.low, found.high) == (figure["value"], figure["low"], figure["high"])
    assert run.metrics["accuracy"].low < run.metrics["accuracy"].value < run.metrics["accuracy"].high
    right = np.asarray(run.predictions["label"]) == np.asarray(run.predictions["predicted"])
    assert run.metrics["accuracy"].value == right.mean()
    assert run.classes == CLASSES
    assert repr(soundbench.Run(run).metrics["top3"]).startswith(
        f"Estimate(value={run.metrics['top3'].value:.4g}, low=0."
    )


def test_a_run_is_a_path(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    assert os.fspath(run) == str(tmp_path / "run")
    assert Path(run) == run.path == run.directory.path
    assert soundbench.Run(run) == run


def test_scores_that_are_not_finite_are_nan(tmp_path: Path, with_pandas: bool) -> None:
    run = finished(tmp_path / "run", broken=True)
    assert run.report["clips_without_finite_scores"] == 1
    for name in CLASSES:
        column = np.asarray(run.predictions[f"score:{name}"])
        assert np.isnan(column[0])
        assert np.isfinite(column[1:]).all()
    assert "accuracy" in repr(run)


def test_several_labels_have_no_confusion_matrix(tmp_path: Path, with_pandas: bool) -> None:
    run = finished(tmp_path / "run", ("dog", "cat", "bird"), multilabel=True)
    assert next(iter(run.metrics)) == "mean_average_precision"
    with pytest.raises(RunError, match="several labels"):
        _ = run.confusion
    assert run.plot().axes[0].get_ylabel() == "loss"  # the learning curves instead


# What is not there, or damaged


def test_of_an_unfinished_run_there_is_what_it_has_written(tmp_path: Path, with_pandas: bool) -> None:
    begun(tmp_path / "run")
    run = soundbench.Run(tmp_path / "run")
    assert np.asarray(run.history["train_loss"]).tolist() == [2.5, 1.5]
    assert len(run.clips) == 40
    assert repr(run) == f"Run('{tmp_path / 'run'}': not finished, 2 epochs)"
    assert "not finished, 2 epochs" in run._repr_html_()
    advice = f"{tmp_path / 'run'}: the run is not finished: %s is missing; soundbench run --resume {tmp_path / 'run'}"
    reads: dict[str, Callable[[], object]] = {
        "report.json": lambda: run.report,
        "predictions.csv": lambda: run.predictions,
    }
    for name, read in reads.items():
        with pytest.raises(RunError) as caught:
            read()
        assert str(caught.value) == advice % name
    for read in (lambda: run.metrics, lambda: run.confusion, lambda: run.classes, lambda: run.plot("confusion")):
        with pytest.raises(RunError, match=r"report\.json is missing"):
            read()
    run.directory.history.unlink()
    assert repr(run).endswith("not finished, 0 epochs)")
    with pytest.raises(RunError, match=r"no epoch is finished: history\.csv is missing$"):
        run.plot()


def test_what_is_no_run_is_refused_at_once(tmp_path: Path) -> None:
    finished(tmp_path / "runs" / "one")
    for place, said in {
        tmp_path / "nowhere": "no such run directory",
        tmp_path / "runs" / "one" / "recipe.toml": "is a file, not a run directory",
        tmp_path / "runs": f"did you mean {tmp_path / 'runs' / 'one'}?",
    }.items():
        with pytest.raises(RunPlaceError) as caught:
            soundbench.Run(place)
        assert str(caught.value).startswith(f"{place}: ")
        assert said in str(caught.value)


def test_an_evaluation_is_one_too_and_has_no_history(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run").path
    for name in ("recipe.toml", "history.csv", "clips.csv"):
        (folder / name).unlink()
    run = soundbench.Run(folder)
    assert len(run.predictions) == 20
    with pytest.raises(RunError, match=r"an evaluation has no history\.csv$"):
        _ = run.history
    assert "accuracy" in repr(run)


DAMAGE: dict[str, tuple[str, Callable[[str], str], str, str]] = {
    "cut JSON": ("report.json", lambda text: text[:100], "report", "damaged"),
    "no object": ("report.json", lambda text: "[]", "report", "it has no metrics"),
    "metrics of another kind": ("report.json", lambda text: '{"metrics": [1]}', "metrics", "must each have a value"),
    "a metric in words": (
        "report.json",
        lambda text: '{"metrics": {"accuracy": {"value": "high"}}}',
        "metrics",
        "must each have a value",
    ),
    "no classes": ("report.json", lambda text: '{"metrics": {}}', "classes", "classes must be a list"),
    "a ragged matrix": (
        "report.json",
        lambda text: '{"metrics": {}, "classes": ["a", "b"], "confusion": [[1, 2], [3]]}',
        "confusion",
        "must be 2 rows of 2 counts",
    ),
    "no table": ("predictions.csv", lambda text: "", "predictions", "has no column path"),
    "a column less": (
        "predictions.csv",
        lambda text: text.replace("predicted", "guess", 1),
        "predictions",
        "predicted",
    ),
    "a cell less": (
        "predictions.csv",
        lambda text: text + "1.wav,0.0\n",
        "predictions",
        "row 22 has 2 cells, its header has 17",
    ),
    "a score in words": (
        "predictions.csv",
        lambda text: re.sub(r"\n1\.wav,0\.5,", "\n1.wav,soon,", text),
        "predictions",
        "row 2, column start: 'soon' is not a number",
    ),
    "an open quote": ("clips.csv", lambda text: text + '"\na\n""\nb,\n"\n', "clips", "damaged"),
    "an epoch without number": ("history.csv", lambda text: text + ",21,1,1,1\n", "history", "column epoch"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, how: str) -> None:
    run = finished(tmp_path / "run")
    name, change, attribute, said = DAMAGE[how]
    path = run.path / name
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(RunError) as caught:
        getattr(run, attribute)
    assert str(caught.value).startswith(f"{path}: damaged")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert repr(run).count("\n") == 0
    ElementTree.fromstring(run._repr_html_())


def test_bytes_that_are_no_text_are_damage(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    for name in ("predictions.csv", "report.json"):
        (run.path / name).write_bytes(b"\xff\xfe\x00")
    for read in (lambda: run.predictions, lambda: run.report):
        with pytest.raises(RunError, match="damaged"):
            read()


def test_a_report_of_another_version_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    few = {"metrics": {"accuracy": {"value": 0.5}, "loudness": {"value": None, "low": 1, "high": 2}}, "new": [1]}
    run.directory.report_json.write_text(json.dumps(few))
    assert run.report == few
    assert (run.metrics["accuracy"].value, run.metrics["accuracy"].low) == (0.5, None)
    assert run.metrics["loudness"].value is None
    assert repr(run) == f"Run('{run.path}': accuracy 50.0%)"
    assert "loudness" in run._repr_html_()
    assert run.plot().axes  # no matrix and no best epoch: the learning curves


# Folds


def test_a_run_of_folds_has_its_runs_in_their_order(tmp_path: Path) -> None:
    outer = finished(tmp_path / "run")
    outer.directory.history.unlink()
    outer.directory.clips.unlink()
    outer.directory.predictions.unlink()
    files.write_json(outer.path / FOLDS, {"folds": [10, 2, "b", 7]})
    for name in ("10", "02", "b"):
        finished(outer.path / f"fold-{name}")
    assert [fold.path.name for fold in outer.folds] == ["fold-10", "fold-02", "fold-b"]
    assert len(outer.folds[0].history) == 2
    for read in (lambda: outer.history, lambda: outer.clips, lambda: outer.predictions):
        with pytest.raises(RunError, match=r"holds a run for each fold, and \w+\.csv is in each of them: see folds$"):
            read()
    assert finished(tmp_path / "single").folds == []
    outer.directory.report_json.unlink()
    assert repr(outer).endswith("not finished, 3 folds begun)")
    for damaged in ("{}", '{"folds": [[1]]}'):
        (outer.path / FOLDS).write_text(damaged)
        with pytest.raises(RunError, match=r"folds\.json: damaged"):
            _ = outer.folds
        assert "damaged" in repr(outer)


# What is shown


def test_one_line_says_what_it_is(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    accuracy = run.metrics["accuracy"]
    shown = f"accuracy {accuracy.value:.1%} ({100 * accuracy.low:.1f} to {accuracy.high:.1%})"
    assert repr(run) == f"Run('{run.path}': {shown}, 20 clips, 14 groups, 8 classes)"


def test_a_notebook_gets_escaped_html_without_colours(tmp_path: Path) -> None:
    run = finished(tmp_path / "a <b> & \u202e\nrun")
    page = ElementTree.fromstring(run._repr_html_())  # well-formed, so that nothing in it opened a tag
    assert {part.tag for part in page.iter()} <= {"div", "strong", "span", "table", "tr", "th", "td", "bdi"}
    text = "".join(page.itertext())
    assert "a <b> & \\u202e\\nrun" in text
    cells = [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]
    assert cells[0] == ["metric", "value", "95% interval", "baseline"]
    assert cells[1][:2] == ["accuracy", f"{run.metrics['accuracy'].value:.1%}"]
    assert len(cells) == 1 + len(run.metrics)
    assert not re.search(r"colou?r|background|<script", run._repr_html_())


def test_a_table_shows_its_first_rows_escaped() -> None:
    texts = np.array(["<script>", "شرطة", "a\nb", *(f"c{number}" for number in range(20))], object)
    table = Table({"name": texts, "share": np.linspace(0, 1, 23), "open": np.full(23, np.nan)})
    assert repr(table).splitlines()[0].split() == ["name", "share", "open"]
    assert repr(table).splitlines()[3].split() == ["a\\nb", "0.09091"]
    assert repr(table).splitlines()[-1] == "... 23 rows, 3 columns in all"
    page = ElementTree.fromstring(f"<div>{table._repr_html_()}</div>")
    assert [cell.text for cell in page.iter("bdi")][3] == "<script>"
    with pytest.raises(ValueError, match="read-only"):
        table["share"][0] = 1
    with pytest.raises(KeyError, match=r'no column .*nam.*; did you mean "name"?'):
        table["nam"]
    assert dict(table)["name"].tolist() == texts.tolist()
    assert (len(Table({})), repr(Table({"a": np.empty(0)}))) == (0, "a")
    wide = Table({f"a{'b' * 1000}{number}": np.zeros(2) for number in range(500)})
    assert max(map(len, repr(wide).splitlines())) < 600
    assert repr(wide).endswith("... 2 rows, 500 columns in all")


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}


def test_the_confusion_matrix_is_drawn_with_its_counts(tmp_path: Path, with_pandas: bool) -> None:
    run = finished(tmp_path / "run", ("$dog$", "cat", "bird"))
    with rc_context({"font.family": "a user's own"}):
        figure = run.plot()
    assert isinstance(figure, Figure)
    assert {"$dog$", "cat", "bird", "truth", "predicted"} <= texts(figure)
    assert {str(count) for count in np.asarray(run.confusion).ravel() if count} <= texts(figure)
    assert {tuple(text.get_fontfamily()) for text in figure.axes[0].get_xticklabels()} == {("DejaVu Sans",)}
    figure.savefig(tmp_path / "matrix.png")  # outside of the settings that it was drawn with: no formula is read
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_long_labels_are_not_cut_off(tmp_path: Path) -> None:
    shapes = []
    for name in ("a", "a" * 25):
        run = finished(tmp_path / name, (name, "b", "c"))
        run.plot().savefig(tmp_path / f"{name}.png")
        shapes.append(np.array(image.imread(tmp_path / f"{name}.png").shape[:2]))
    assert (shapes[1] > shapes[0] + 100).all()


def test_the_learning_curves_are_the_history(tmp_path: Path, with_pandas: bool) -> None:
    run = finished(tmp_path / "run")
    losses, metrics = run.plot("history").axes
    drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in losses.get_lines()}
    assert drawn == {"training": ([1, 2], [2.5, 1.5]), "validation": ([1, 2], [2.0, 1.75]), "tested": ([2, 2], [0, 1])}
    assert metrics.get_lines()[0].get_label() == "accuracy"
    assert list(metrics.get_lines()[0].get_ydata()) == [0.25, 0.5]
    assert [str(tick) for tick in metrics.get_xticks() if 1 <= tick <= 2] == ["1.0", "2.0"]
    run.directory.history.write_text("epoch,step,train_loss\n3,")
    with pytest.raises(RunError, match="no epoch is finished"):
        run.plot("history")
    with pytest.raises(CallError, match='what to plot must be "confusion" or "history", is \'loss\''):
        run.plot("loss")


def test_reading_imports_neither_torch_nor_pandas_before_it_is_needed(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    code = """
import sys
import soundbench
def known(): return sorted({"torch", "pandas", "matplotlib", "matplotlib.pyplot"} & set(sys.modules))
run = soundbench.Run(sys.argv[1])
run.report, run.metrics, run.classes, run.folds, repr(run), run._repr_html_()
print(known())
run.predictions, run.history, run.clips, run.confusion
print(known())
run.plot(), run.plot("history")._repr_png_()
print(known())
"""
    line = [sys.executable, "-c", code, str(run.path)]
    out = subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()
    assert out == ["[]", "['pandas']", "['matplotlib', 'pandas']"]
