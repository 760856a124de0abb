"""The page of a report: what it shows is what `report.json` says, whatever the classes are called."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.clip_tables import Listed
from helpers.html import Element, parsed

from soundbench import files
from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.errors import RunError
from soundbench.report import pages, run_directory
from soundbench.report.assessment import assess, pooled
from soundbench.report.html import clips as clips_of_a_page
from soundbench.report.html import run_page
from soundbench.report.run_directory import RunDirectory

CLASSES = ("猫 叫", "كلب", "🎸", "<script>alert(1)</script>", "a\nb", "never")


class Noise(Listed):
    """A dataset whose clips are noise."""

    fingerprint = "noise"

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        return np.random.default_rng(int(clip.path)).normal(0, 0.1, 4000).astype(np.float32), 8000


def made(
    folder: Path,
    classes: tuple[str, ...] = CLASSES,
    count: int = 120,
    multilabel: bool = False,
    spoilt: int = 0,
    seed: int = 0,
    **more: Any,
) -> tuple[RunDirectory, dict[str, Any], Noise]:
    """A finished run of made-up scores; the last class has no clips."""
    draws = np.random.default_rng(seed)
    truth = draws.integers(0, len(classes) - 1, count)
    scores = draws.dirichlet(np.ones(len(classes)), count).astype(np.float32)
    scores[np.arange(count), truth] += 1.2 / len(classes)
    scores[:spoilt, 0] = np.nan
    labels = [(classes[code], *([classes[0]] if multilabel and code else [])) for code in truth]
    clips = [Clip(str(number), own, group=f"g{number // 3}") for number, own in enumerate(labels)]
    dataset = Noise(clips, classes, multilabel)
    table = ClipTable.of(dataset)
    rows = np.arange(count)
    run = RunDirectory.create(folder)
    files.write_text(run.recipe, "")
    run_directory.write_predictions(run, table, rows, scores)
    files.write_rows(
        run.history,
        ["epoch", "train_loss", "rate", "validation_loss", "validation_accuracy"],
        [[1, 1.5, 0.1, 1.6, 0.25], [2, 1.25, 0.1, "nan", 0.5], [3, 0.75, 0.01, 1.5, 0.625]],
    )
    thresholds = {"thresholds": [0.3] * len(classes)} if multilabel else {"prior": np.ones(len(classes))}
    figures = assess(scores, table.targets(rows), table.group_codes, classes, resamples=200, **thresholds)
    report = {
        "name": "toy <b>",
        "protocol": {
            "dataset": {"use": "noise"},
            "split": {"test": [4], "validation": 0.1},
            "selection": "lowest validation loss",
            "best_epoch": 3,
            "epochs": 3,
            "notes": [],
        },
        **figures,
        "parts": {"train": 500, "validation": 60, "test": count},
        "sounds": 20,
        **more,
    }
    return run, report, dataset


def drawn(run: RunDirectory, report: Mapping[str, Any], dataset: Any = None) -> Element:
    return parsed(run_page.draw(run, report, dataset).html)


def asks_of_the_network(root: Element) -> list[str]:
    """Addresses of a page that a browser would fetch."""
    named = [
        one.attributes.get(name, "") for one in root.each() for name in ("src", "href", "srcset", "poster", "data")
    ]
    styles = [one.text for one in root.each("style")] + [one.attributes.get("style", "") for one in root.each()]
    inside = [found for style in styles for found in re.findall(r"url\([^)]*\)|@import[^;]*", style)]
    tags = [one.tag for one in root.each() if one.tag in ("link", "iframe", "object", "embed", "base", "form")]
    return [one for one in named if one and not one.startswith(("data:", "#"))] + inside + tags


def test_the_page_says_what_the_report_says(tmp_path: Path) -> None:
    run, report, dataset = made(tmp_path / "run")
    root = drawn(run, report, dataset)
    figures = root.section("Figures")
    shown = {row[0]: row[1:] for row in next(figures.each("table")).rows()[1:]}
    for name, title in (("accuracy", "accuracy"), ("macro_f1", "macro-F1")):
        value, low, high = (f"{100 * report['metrics'][name][part]:.1f}%" for part in ("value", "low", "high"))
        assert shown[title] == [value, f"{low} to {high}", f"{100 * report['baseline'][name]['value']:.1f}%"]
    lead = next(root.each("header")).text
    assert "trained on 500 clips, selected by the lowest validation loss on 60 clips (epoch 3 of 3)," in lead
    assert "tested once on 120 clips from 40 groups, 6 classes of noise (split.test = [4])." in lead
    classes = next(root.section("Classes").each("table")).rows()[1:]
    for number, (row, cells) in enumerate(zip(report["per_class"], classes, strict=True), 1):
        assert cells[0] == str(number)
        assert cells[1] == " ".join(row["class"].split())
        recall = "-" if row["recall"] is None else f"{100 * row['recall']:.1f}%"
        assert cells[2].startswith(recall)
        assert cells[-2] == str(row["support"])
    grid = next(root.section("Confusion").each("table")).rows()
    assert [[int(cell or 0) for cell in row[1:]] for row in grid[1:]] == report["confusion"]


def test_the_page_asks_nothing_of_the_network_and_runs_no_label(tmp_path: Path) -> None:
    run, report, dataset = made(tmp_path / "run")
    root = drawn(run, report, dataset)
    assert asks_of_the_network(root) == []
    assert len(list(root.each("script"))) == 1
    assert not list(root.each("b"))
    text = root.text
    for name in CLASSES:
        assert " ".join(name.split()) in text
    assert not [name for one in root.each() for name in one.attributes if name.startswith("on")]
    ids = [one.attributes["id"] for one in root.each() if "id" in one.attributes]
    assert len(set(ids)) == len(ids)


def test_names_of_any_script_choose_their_own_direction(tmp_path: Path) -> None:
    run, report, dataset = made(tmp_path / "run")
    root = drawn(run, report, dataset)
    for one in root.each():
        if one.text == CLASSES[1] and not list(one.each()):
            assert one.attributes.get("dir") == "auto", one.tag


def test_a_mistake_has_one_player_and_a_picture_with_words_for_it(tmp_path: Path) -> None:
    run, report, dataset = made(tmp_path / "run")
    root = drawn(run, report, dataset)
    entries = list(root.section("Worst mistakes").each("li"))
    assert len(entries) == 20 == len(list(root.each("audio")))
    scores = []
    predictions = run_directory.read_predictions(run)
    wrong = sorted(
        (
            row.max()
            for row, clip, name in zip(predictions.scores, predictions.clips, predictions.predicted, strict=True)
            if name not in clip.labels
        ),
        reverse=True,
    )
    for entry in entries:
        (player,), (image,) = entry.each("audio"), entry.each("img")
        assert {"controls", "aria-label"} <= set(player.attributes)
        assert player.attributes["preload"] == "none"
        assert player.attributes["src"].startswith("data:audio/ogg;base64,")
        assert image.attributes["src"].startswith("data:image/png;base64,")
        assert "Spectrogram" in image.attributes["alt"]
        scores.append(list(entry.each("dd"))[1].text.split()[-1])
    assert scores == [f"{score:.3f}" for score in wrong[:20]]
    assert "This page holds the sound of 20 clips." in next(root.each("header")).text


@pytest.mark.parametrize(("sounds", "listed"), [(0, 20), (3, 20), (25, 25)])
def test_as_many_mistakes_have_sound_as_the_recipe_says(tmp_path: Path, sounds: int, listed: int) -> None:
    run, report, dataset = made(tmp_path / "run", sounds=sounds)
    root = drawn(run, report, dataset)
    assert len(list(root.section("Worst mistakes").each("li"))) == listed
    assert len(list(root.each("audio"))) == len(list(root.each("img"))) == sounds
    assert ("holds the sound" in next(root.each("header")).text) == bool(sounds)


def test_where_sound_is_gone_the_page_and_the_log_say_so(tmp_path: Path) -> None:
    run, report, dataset = made(tmp_path / "run")
    dataset.given = list(dataset.given)[:60]
    problem = pages.write(run, report, dataset)
    root = parsed(run.report_html.read_text(encoding="utf-8"))
    lost = 20 - len(list(root.each("audio")))
    assert 0 < lost < 20
    line = f"{lost} of 20 mistakes: the dataset no longer has it"
    assert problem == f"mistakes without sound: {line}"
    assert f"Without sound: {line}." in root.section("Worst mistakes").text


def test_sound_that_does_not_fit_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, report, dataset = made(tmp_path / "run")
    monkeypatch.setattr(run_page, "_LARGEST", 400_000)
    html = run_page.draw(run, report, dataset).html
    root = parsed(html)
    assert 0 < len(list(root.each("audio"))) < 20
    assert len(html) < 400_000
    assert "the page would be larger than 15 MB" in root.section("Worst mistakes").text


def test_scores_that_are_no_numbers_cost_nothing(tmp_path: Path) -> None:
    run, report, dataset = made(tmp_path / "run", spoilt=30)
    root = drawn(run, report, dataset)
    assert "30 clips got scores that are not finite" in root.section("Figures").text
    assert list(root.section("Worst mistakes").each("li"))


def test_without_history_or_predictions_their_sections_are_absent(tmp_path: Path) -> None:
    run, report, dataset = made(tmp_path / "run")
    run.history.unlink()
    titles = [one.text for one in drawn(run, report, dataset).each("h2")]
    assert "Learning curves" not in titles
    run.predictions.unlink()
    titles = [one.text for one in drawn(run, report, dataset).each("h2")]
    assert not {"Worst mistakes", "Suspicious labels"} & set(titles)
    assert "Classes" in titles


def test_the_curves_are_those_of_the_history(tmp_path: Path) -> None:
    run, report, dataset = made(tmp_path / "run")
    charts = list(drawn(run, report, dataset).section("Learning curves").each("figure"))
    lines = [[one.text for one in chart.each("bdi")] for chart in charts]
    assert lines == [["train loss", "validation loss"], ["validation accuracy"], ["learning rate"]]
    points = [len(one.attributes["points"].split()) for one in charts[0].each("polyline")]
    assert points == [3, 2]  # the loss that is no number is left out
    files.write_text(run.history, "epoch,train_loss\n")
    assert "Learning curves" not in [one.text for one in drawn(run, report, dataset).each("h2")]


def test_several_labels_have_false_positives_and_no_matrix(tmp_path: Path) -> None:
    run, report, dataset = made(tmp_path / "run", multilabel=True)
    root = drawn(run, report, dataset)
    titles = [one.text for one in root.each("h2")]
    assert "Confusion" not in titles
    for entry in root.section("Worst mistakes").each("li"):
        truth, predicted, _ = (next(one.each("bdi")).text for one in entry.each("dd"))
        assert predicted not in truth.split(", ")
    assert "average precision" in next(root.section("Classes").each("table")).rows()[0]


@pytest.mark.slow
def test_five_hundred_classes_stay_legible(tmp_path: Path) -> None:
    names = tuple(f"类 {number}" for number in range(500))
    run, report, dataset = made(tmp_path / "run", classes=names, count=3000, sounds=0)
    html = run_page.draw(run, report, dataset).html
    root = parsed(html)
    confusion = root.section("Confusion")
    cells = sum(len(re.findall("M", one.attributes["d"])) for one in confusion.each("path"))
    assert cells == np.count_nonzero(report["confusion"])
    pairs = next(confusion.each("table")).rows()[1:]
    matrix = np.array(report["confusion"]) * (1 - np.eye(500, dtype=int))
    for truth, predicted, clips, _ in pairs:
        assert matrix[names.index(truth), names.index(predicted)] == int(clips)
    assert int(pairs[0][2]) == matrix.max()
    assert len(next(root.section("Classes").each("table")).rows()) == 501
    assert len(html.encode()) < 2_000_000


def test_what_only_some_reports_have_is_shown_where_it_is(tmp_path: Path) -> None:
    bins = [
        {"low": 0.0, "high": 0.5, "score": 0.3, "share": 0.25, "clips": 60},
        {"low": 0.5, "high": 1.0, "score": 0.8, "share": 0.75, "clips": 60},
    ]
    names = ("negative_log_likelihood", "brier_score", "expected_calibration_error")
    after = dict.fromkeys(names, 0.05) | {"noise_floor": {"mean": 0.04, "high": 0.06}, "reliability": bins}
    fitted = {"source": "validation set", "clips": 60, "groups": 20}
    run, report, dataset = made(tmp_path / "run")
    plain = {one.text for one in drawn(run, report, dataset).each("h2")}
    assert not {"Reliability", "Figures by value", "None of these"} & plain
    report["calibration"] = {"use": "temperature", **fitted, "before": after, "after": after}
    report["by"] = {"site": [{"value": "<i>", "clips": 12, "groups": 4, "metrics": report["metrics"]}]}
    kept = {"value": 0.95, "low": 0.9, "high": 0.98}
    report["reject"] = {"use": "energy", "kept": kept, "accuracy_of_kept": kept, "silence": {"unknown": 1.0}}
    left_out = {"class": "<b>", "clips": 3, "auroc": 0.9, "false_positive_rate_at_95": 0.5, "unknown": 0.6}
    report["left_out"] = [left_out]
    root = drawn(run, report, dataset)
    reliability = root.section("Reliability")
    assert len(list(reliability.each("circle"))) == 4
    assert ["calibration error", "0.050", "0.050"] in next(reliability.each("table")).rows()
    said = "The scores are calibrated by temperature, fitted on 60 clips of 20 groups (validation set)."
    assert said in [one.text for one in reliability.each("p")]
    assert next(root.section("Figures by value").each("table")).rows()[1][:3] == ["<i>", "12", "4"]
    rejected = [row for one in root.section("None of these").each("table") for row in one.rows()]
    assert ["test clips kept", "95.0% (90.0 to 98.0%)"] in rejected
    assert ["silence: unknown", "100.0%"] in rejected
    assert ["<b>", "3", "0.900", "50.0%", "60.0%"] in rejected


def test_all_folds_are_one_page(tmp_path: Path) -> None:
    outer = RunDirectory.create(tmp_path / "run")
    files.write_json(outer.path / "folds.json", {"folds": [1, 2]})
    reports = []
    for fold in (1, 2):
        _, report, dataset = made(outer.fold(fold).path, seed=fold)
        reports.append(report)
    files.write_text(outer.recipe, "")
    whole = {**reports[0], "folds": reports, "across_folds": pooled(reports), "clips": 240}
    root = drawn(outer, whole, dataset)
    assert "A network for each of 2 folds was trained on the other folds" in next(root.each("header")).text
    assert len(list(root.section("Worst mistakes").each("li"))) == 20
    assert len(list(next(root.section("Learning curves").each("figure")).each("polyline"))) == 4
    assert [row[0] for row in list(root.section("Figures").each("table"))[1].rows()[1:]] == ["1", "2"]


def test_nothing_of_the_machine_is_on_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "people" / "annalena"
    (home / "data").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", "annalena")
    monkeypatch.chdir(home)
    skipped = {"count": 1, "clips": [{"path": f"{home}/data/x.wav", "reason": f"cannot open {home}/data/x.wav"}]}
    run, report, dataset = made(home / "run", skipped=skipped, command=f"soundbench evaluate {home}/run --trust-code")
    report["protocol"] |= {"dataset": {"use": f"{home}/mine.py:Noise", "root": str(home / "data")}, "model": str(home)}
    text = run.predictions.read_text().replace("\n1,", f"\n{home}/data/1.wav,").replace("\n2,", "\n/mnt/x/2.wav,")
    run.predictions.write_text(text)
    pages.write(run, report, dataset)
    for path in (run.report_html, run.report_md):
        shown = re.sub(r"data:[^\"]*", "", path.read_text(encoding="utf-8"))
        assert "annalena" not in shown
        assert not re.findall(r"(?<![\w<:.*/])/(?:home|mnt|tmp|root|usr|private|var)\b[^\s<]*", shown)
        assert str(tmp_path) not in shown
        assert "soundbench evaluate run --trust-code" in shown
    assert json.loads(run.report_json.read_text())["protocol"]["dataset"]["root"] == str(home / "data")


def test_a_page_that_fails_costs_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, report, dataset = made(tmp_path / "run")
    run.report_html.write_text("of the run before")
    monkeypatch.setattr(clips_of_a_page, "worst", lambda *_: 1 / 0)
    problem = pages.write(run, report, dataset)
    assert problem == "there is no report.html: ZeroDivisionError: division by zero"
    assert not run.report_html.exists()
    assert problem in run.report_md.read_text(encoding="utf-8")
    assert json.loads(run.report_json.read_text())["clips"] == 120


def test_predictions_that_are_not_the_reports_are_refused(tmp_path: Path) -> None:
    run, report, _ = made(tmp_path / "run")
    with pytest.raises(RunError, match="is of 119 clips"):
        run_page.draw(run, {**report, "clips": 119})
    with pytest.raises(RunError, match=r"predictions.csv: its classes are not those of report.json"):
        run_page.draw(run, {**report, "classes": list(CLASSES[1:])})


def test_a_run_without_a_test_set_has_a_page(tmp_path: Path) -> None:
    run, report, _ = made(tmp_path / "run")
    run.predictions.unlink()
    kept = {name: report[name] for name in ("name", "parts", "sounds")}
    protocol = {**report["protocol"], "classes": 6, "selection": "last epoch"}
    bare = {**kept, "protocol": protocol, "metrics": {}, "clips": 0, "groups": 0}
    root = drawn(run, bare)
    header = next(root.each("header")).text
    assert "A network was trained on 500 clips, kept as it was after the last epoch (epoch 3 of 3)," in header
    assert "and not tested: 6 classes of noise." in header
    assert "There is no test set" in root.section("Figures").text
    assert {"Learning curves", "Protocol"} <= {one.text for one in root.each("h2")}
