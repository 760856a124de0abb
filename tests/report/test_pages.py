from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundbench.errors import RunError
from soundbench.report import figures, pages
from soundbench.report.assessment import assess, pooled
from soundbench.report.resampling import few
from soundbench.report.run_directory import RunDirectory

CLASSES = ["a, b", 'quoted "x" | bar', "two\nlines", "猫 叫", "🎸", "*x* <b> &amp; _y_ `z`", "no clips"]


def assessed(clips: int = 90, classes: list[str] = CLASSES, groups: int = 15, seed: int = 0) -> dict[str, Any]:
    """The evaluation of made-up clips; the last class has none."""
    draws = np.random.default_rng(seed)
    truth = draws.integers(0, len(classes) - 1, clips)
    scores = draws.random((clips, len(classes)))
    scores[np.arange(clips), truth] += 0.5
    group = np.arange(clips) % groups
    prior = np.arange(len(classes))
    return assess(scores, np.eye(len(classes))[truth], group, classes, prior=prior, resamples=200)


def whole(**changes: Any) -> dict[str, Any]:
    return {
        "name": "toy",
        "protocol": {
            "dataset": {"use": "toy", "root": Path("/data")},
            "split": {"test": [10], "validation": 0.1, "crossing": "allow"},
            "purged": 3,
            "selection": "last epoch",
            "notes": [
                "2 groups have clips on both sides of the split, as the recipe allows",
                "no validation set: last epoch",
            ],
        },
        **assessed(),
        "parts": {"train": 700, "validation": 0, "test": 90},
        "skipped": {"count": 2, "clips": [{"path": "a|b.wav", "reason": "empty"}, {"path": "c.wav", "reason": "cut"}]},
        "device": "cpu",
        "precision": "fp32",
        "seconds": np.float32(12.5),
        **changes,
    }


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run")


def page(run: RunDirectory, content: dict[str, Any]) -> str:
    pages.write(run, content)
    return run.report_md.read_text(encoding="utf-8")


def tables(markdown: str) -> list[list[list[str]]]:
    """The tables of a page as a Markdown reader sees them: cells between bars that are not escaped."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.M):
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
        found.append([[re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell.strip()) for cell in row] for row in rows])
    return found


# Files


def test_all_files_are_written(run: RunDirectory) -> None:
    pages.write(run, whole())

    assert sorted(path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()) == [
        "confusion.csv",
        "figures/confusion.png",
        *(["figures/confusion_labels.txt"] if run.confusion_labels.exists() else []),
        "report.html",
        "report.json",
        "report.md",
    ]
    assert run.confusion_png.read_bytes().startswith(b"\x89PNG")
    assert run.confusion_png.stat().st_size > 5000


def test_the_report_for_programs_is_what_was_given_in_plain_types(run: RunDirectory) -> None:
    content = whole(
        odd={"nan": float("nan"), "array": np.eye(2), "tuple": (1, np.int64(2)), "more": {3: np.bool_(True)}}
    )
    pages.write(run, content)
    read = json.loads(run.report_json.read_text(encoding="utf-8"), parse_constant=pytest.fail)

    assert set(read["metrics"]["accuracy"]) == {"value", "low", "high"}
    for name in (
        "metrics",
        "baseline",
        "per_class",
        "confusion",
        "classes",
        "classes_without_clips",
        "parts",
        "skipped",
    ):
        assert read[name] == content[name]
    assert read["protocol"]["dataset"] == {"use": "toy", "root": "/data"}
    assert read["seconds"] == 12.5
    assert read["odd"] == {"nan": None, "array": [[1, 0], [0, 1]], "tuple": [1, 2], "more": {"3": True}}


def test_the_confusion_table_is_complete_and_rows_are_truth(run: RunDirectory) -> None:
    content = whole()
    pages.write(run, content)
    with open(run.confusion_csv, encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)

    assert head == ["truth\\predicted", *CLASSES]
    assert [row[0] for row in rows] == CLASSES
    assert [[int(cell) for cell in row[1:]] for row in rows] == content["confusion"]
    assert [sum(map(int, row[1:])) for row in rows] == [row["support"] for row in content["per_class"]]
    assert b"\r\n" not in run.confusion_csv.read_bytes()


def test_the_report_for_programs_is_written_last(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pages.write(run, whole())

    assert not run.report_json.exists()


def test_writing_twice_gives_the_same(run: RunDirectory) -> None:
    pages.write(run, whole())
    first = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    pages.write(run, whole())

    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == first


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "figures").write_text("in the way")
    with pytest.raises(RunError, match=r"confusion\.png: "):
        pages.write(RunDirectory(tmp_path), whole())


# The page


def test_the_page_opens_with_the_number_its_interval_and_baseline(run: RunDirectory) -> None:
    content = whole()
    text = page(run, content)
    accuracy = content["metrics"]["accuracy"]
    value, low, high = (f"{100 * accuracy[name]:.1f}" for name in ("value", "low", "high"))

    assert text.startswith(f"# toy\n\n**Accuracy {value}% ({low} to {high}%)**, macro-F1 ")
    assert (
        "on 90 test clips from 15 groups. Always predicting no clips, the most common class of the training clips, "
        "gives 0.0%.\n" in text
    )


def test_the_page_holds_metrics_protocol_classes_and_confusion(run: RunDirectory) -> None:
    content = whole()
    metrics, protocol, classes, confusion = tables(page(run, content))
    shown = [" ".join(name.split()) for name in CLASSES]

    assert metrics[0] == ["metric", "value", "95% interval", "baseline"]
    assert [row[0] for row in metrics[2:6]] == ["accuracy", "macro-F1", "balanced accuracy", "top-3"]
    assert [row[0] for row in metrics[6:]] == [
        f"{name} (lower is better)" for name in ("log loss", "Brier score", "calibration error")
    ]
    loss = content["metrics"]["negative_log_likelihood"]
    assert metrics[6][1:] == [f"{loss['value']:.3f}", f"{loss['low']:.3f} to {loss['high']:.3f}", "-"]
    assert ["split.test", "10"] in protocol
    assert ["clips", "700 train, 0 validation, 90 test"] in protocol
    assert [row[1] for row in classes[2:]] == shown
    assert [row[-1] for row in classes[2:]] == [str(row["support"]) for row in content["per_class"]]
    assert classes[-1][3:] == ["-", "-", "0"]
    assert confusion[0] == ["truth \\ predicted", *shown]
    assert [row[1:] for row in confusion[2:]] == [[str(count) for count in row] for row in content["confusion"]]


def test_the_page_says_what_bends_the_number(run: RunDirectory) -> None:
    text = page(run, whole(clips_without_finite_scores=1))

    assert "\nNote: 2 groups have clips on both sides of the split, as the recipe allows.\n" in text
    assert "\nNote: no validation set: last epoch.\n" in text
    assert "Classes without a test clip, left out of means over classes: no clips." in text
    assert "**1 clip got scores that are not finite.** The training has diverged." in text


def test_the_page_lists_what_was_skipped_and_cuts_a_long_list(run: RunDirectory) -> None:
    text = page(run, whole())
    clips = [{"path": f"{number}.wav", "reason": "empty"} for number in range(53)]
    long = page(run, whole(skipped={"count": 53, "clips": clips}))

    assert "2 clips could not be read and were left out.\n\n- a\\|b.wav: empty\n- c.wav: cut\n" in text
    assert "- 49.wav: empty\n- and 3 more, listed in `report.json`\n" in long
    assert "## Skipped" not in page(run, whole(skipped={"count": 0, "clips": []}))


def test_the_page_says_how_to_get_the_numbers_again(run: RunDirectory) -> None:
    assert (
        "```sh\nsoundbench run recipe.toml\n```\n\nIntervals: bootstrap over groups, "
        "logit t for shares and expanded percentiles for other metrics, 200 resamples" in page(run, whole())
    )


def test_of_one_group_the_page_says_why_there_is_no_interval(run: RunDirectory) -> None:
    text = page(run, {**whole(), **assessed(groups=1)})

    assert "There is no interval: it is computed by resampling groups, and this test set has only one." in text
    assert re.search(r"\*\*Accuracy \d+\.\d%\*\*", text)


def test_an_interval_without_width_is_explained(run: RunDirectory) -> None:
    right = assess(np.eye(2)[[0, 1] * 20], np.eye(2)[[0, 1] * 20], np.arange(40), ["a", "b"], resamples=50)
    text = page(run, {"name": "toy", **right})

    assert "**Accuracy 100.0% (100.0 to 100.0%)**" in text
    assert "By the rule of three,\nwith 40 groups, up to about 7.5% of new groups may be." in text


def test_more_classes_than_a_page_holds_leave_the_matrix_to_its_own_table(run: RunDirectory) -> None:
    names = [f"class {number}" for number in range(25)]
    text = page(run, {"name": "toy", **assessed(classes=names)})

    assert len(tables(text)) == 3
    assert "`confusion.csv` has the complete matrix" in text


def test_a_bare_evaluation_is_enough(run: RunDirectory) -> None:
    assert "# run\n" in page(run, assessed())


def test_the_page_on_reports_explains_every_key() -> None:
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    content = assessed()

    for name in {*content, *content["metrics"], *content["per_class"][0], *content["interval"]}:
        assert re.search(rf"`{name}\b", text), name
    for name in ("parts", "folds", "across_folds", "skipped", "by", "parameters", "macs"):
        assert re.search(rf"`{name}\b", text), name


def test_of_few_groups_the_page_says_what_an_interval_cannot_promise(run: RunDirectory) -> None:
    assert f"\nNote: {few(15)}.\n" in page(run, whole())
    assert "Note: the intervals" not in page(run, {**whole(), **assessed(groups=30)})


# Figures by value


def by_site(count: int, **options: int) -> dict[str, Any]:
    """A report with figures by a column, whose names need escapes."""
    draws = np.random.default_rng(3)
    truth, scores = draws.integers(0, 3, 600), draws.random((600, 3))
    sites = [f"site |{number % count}\n<b>" if number % count else None for number in range(600)]
    by = {"si|te": sites}
    return {"name": "toy", **assess(scores, np.eye(3)[truth], np.arange(600) // 5, ["a", "b", "c"], by=by, **options)}


def test_figures_by_value_name_the_worst_and_are_cut_where_they_are_many(run: RunDirectory) -> None:
    content = by_site(30, resamples=100)
    text = page(run, content)
    values = content["by"]["si|te"]
    table = tables(text)[1]

    assert "\n## By si\\|te\n" in text
    assert table[0] == ["si|te", "clips", "groups", "accuracy", "macro-F1"]
    shown = [" ".join(one["value"].split()) or "(no value)" for one in values]
    assert [row[0] for row in table[2:]] == shown[:20]
    assert "\n10 more values, which are better, are in `report.json`.\n" in text
    first = values[0]["metrics"]["accuracy"]
    low, value, high = (f"{100 * first[bound]:.1f}" for bound in ("low", "value", "high"))
    assert f"accuracy {value}% ({low} to {high}%) on 20 clips from 20 groups. The best of 30 values: " in text
    assert text.index("Worst: ") < text.index("## Protocol")
    assert len(json.loads(run.report_json.read_text(encoding="utf-8"))["by"]["si|te"]) == 30


def test_one_value_is_not_the_worst_of_any(run: RunDirectory) -> None:
    text = page(run, by_site(1, resamples=10))

    assert "Worst: " not in text
    assert "| (no value) | 600 | 120 |" in text


# All folds


def test_all_folds_get_a_row_each_and_their_mean(run: RunDirectory) -> None:
    folds = [{"fold": number, **assessed(seed=number)} for number in (1, 2, 3)]
    text = page(run, whole(folds=folds, across_folds=pooled(folds)))
    table = tables(text)[1]

    assert table[0][:7] == ["fold", "clips", "groups", "accuracy", "macro-F1", "balanced accuracy", "top-3"]
    assert [row[0] for row in table[2:]] == ["1", "2", "3", "mean ± spread"]
    assert table[2][1:3] == ["90", "15"]
    assert re.fullmatch(r"\d+\.\d% ± \d+\.\d", table[5][3])
    assert "soundbench run recipe.toml --folds all" in text


def test_one_fold_is_no_table(run: RunDirectory) -> None:
    assert "## Folds" not in page(run, whole(folds=[{"test": [10], "metrics": assessed()["metrics"]}]))


# The figure


def test_labels_that_no_font_has_are_numbers_with_a_legend(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "families", lambda text: None)
    text = page(run, whole())

    legend = run.confusion_labels.read_text(encoding="utf-8").splitlines()
    assert legend[2:4] == ["3\ttwo lines", "4\t猫 叫"]
    assert len(legend) == len(CLASSES)
    assert "No installed font has the characters of every class name. The axes show numbers" in text
    assert "`figures/confusion_labels.txt`" in text


def test_without_matplotlib_the_report_is_there_and_says_so(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = page(run, whole())

    assert "There is no figure: matplotlib cannot be used (ModuleNotFoundError: " in text
    assert run.report_json.exists()
    assert run.confusion_csv.exists()
    assert not run.confusion_png.exists()


def test_a_figure_that_fails_costs_no_numbers(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("a large | picture")

    monkeypatch.setattr(figures, "confusion_png", fail)

    assert "cannot be used (MemoryError: a large \\| picture)" in page(run, whole())
    assert run.report_json.exists()


def test_a_report_needs_no_torch() -> None:
    script = "import sys, soundbench.report.pages; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


# The summary


def test_the_summary_is_a_few_lines_for_a_console() -> None:
    content = whole()
    lines = pages.summary(content).splitlines()
    value, low, high = (100 * content["metrics"]["accuracy"][name] for name in ("value", "low", "high"))

    cells = [re.split(" {2,}", line) for line in lines]
    assert cells[0] == ["accuracy", f"{value:.1f}% ({low:.1f} to {high:.1f}%), on 90 clips from 15 groups"]
    assert cells[-2] == ["baseline", "always 'no clips': 0.0%, macro-F1 0.0%"]
    assert cells[-1] == ["clips", "700 train, 0 validation, 90 test, 3 purged, 2 unreadable"]
    assert len({len(line) - len(text) for line, (_, text) in zip(lines, cells, strict=True)}) == 1
    assert [cell[0] for cell in cells[:4]] == ["accuracy", "macro-F1", "balanced accuracy", "top-3"]
    assert cells[4][0] == "lower is better"  # one line for what is no share of clips
    assert re.fullmatch(r"log loss \d\.\d{3}, Brier score \d\.\d{3}, calibration error \d\.\d{3}", cells[4][1])
    assert len(lines) == 7


def test_the_summary_says_that_scores_are_no_numbers() -> None:
    lines = pages.summary(whole(clips_without_finite_scores=2)).splitlines()
    assert lines[-1].split(maxsplit=1) == ["WARNING", "2 clips got scores that are not finite"]
    assert "WARNING" not in pages.summary(whole(clips_without_finite_scores=0))


def test_the_summary_of_all_folds_says_their_mean() -> None:
    folds = [{"fold": number, **assessed(seed=number)} for number in (1, 2)]

    assert re.search(
        r"^folds +\d+\.\d% ± \d+\.\d$", pages.summary(whole(folds=folds, across_folds=pooled(folds))), re.M
    )


def test_the_summary_keeps_a_label_on_its_line() -> None:
    content = {**assessed(), "baseline": {**assessed()["baseline"], "class": "two\nlines"}}

    assert len(pages.summary(content).splitlines()) == 6
