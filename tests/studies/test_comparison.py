"""Comparing runs: what must agree, what is refused, the numbers, and every format."""

from __future__ import annotations

import csv
import io
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from helpers.finished import CLASSES, clips_of, finished, sealed

from soundbench import files
from soundbench.cli import compare as cli
from soundbench.cli.main import invoke
from soundbench.contracts import Clip
from soundbench.errors import CallError, SoundbenchError
from soundbench.studies.comparing.comparison import Comparison, compare
from soundbench.studies.comparing.formats import FORMATS


def message(*paths: Path, **options: Any) -> str:
    with pytest.raises(SoundbenchError) as caught:
        compare(paths, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


# What must agree ------------------------------------------------------------------------------------------------------


def other(clips: Sequence[Clip], row: int, **changes: Any) -> list[Clip]:
    return [attrs.evolve(clip, **changes) if number == row else clip for number, clip in enumerate(clips)]


CLIPS = clips_of(120, 30)
TABLE = {"use": "toy", "root": "/data", "clips": 120}
AUDIO = {"rate": 16000, "window": 3.0, "level": "off", "trim": "off", "on_error": "fail"}
SPLIT = {"test": [1], "validation": 0.1, "crossing": "purge", "seed": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seed": 7},
        {"protocol": {"best_epoch": 30, "epochs": 50, "selection": "last epoch", "notes": ["a note"]}},
        {"clips": [attrs.evolve(clip, path=clip.path.replace("/data", "/home/of/another")) for clip in CLIPS]},
        {"protocol": {"dataset": TABLE | {"root": "/elsewhere"}}},
        {"protocol": {"audio": AUDIO | {"hop": None}}},  # a key that older reports lack
        {"protocol": {"split": {"test": [1], "validation": 0.1, "crossing": "purge"}}, "seed": 1},  # of format 1
    ],
)
def test_what_is_measured_alike_is_compared(changes: dict[str, Any], tmp_path: Path) -> None:
    found = compare([finished(tmp_path / "a", CLIPS), finished(tmp_path / "b", **{"clips": CLIPS} | changes)])
    assert (found.clips, found.groups) == (120, len({clip.group for clip in CLIPS}))
    assert len(found.pairs) == 1


def test_the_order_of_the_clips_does_not_matter(tmp_path: Path) -> None:
    scores = np.random.default_rng(5).random((len(CLIPS), len(CLASSES)))
    order = np.random.default_rng(6).permutation(len(CLIPS))
    a = finished(tmp_path / "a", CLIPS, scores=scores)
    b = finished(tmp_path / "b", [CLIPS[row] for row in order], scores=scores[order])
    for run in (a, b):
        (run / "environment.json").unlink()  # the fingerprint of the data depends on their order
        digests = files.read_json(run / "digests.json")
        files.write_json(
            run / "digests.json", {name: one for name, one in digests.items() if name != "environment.json"}
        )
    (pair,) = compare([a, b]).pairs
    assert [one.value for one in pair.differences] == [0, 0]
    assert pair.mcnemar is not None
    assert (pair.mcnemar.only_first, pair.mcnemar.only_second, pair.mcnemar.p) == (0, 0, 1)


NAMED = "rain", "wind", "<script>"

DIFFERENT = {
    "dataset": (
        {"protocol": {"dataset": TABLE | {"clips": 90}}},
        "dataset.clips is 120 in the first and 90 in the second",
    ),
    "option": (
        {"protocol": {"dataset": TABLE | {"x": True}}},
        "dataset.x is not set in the first and true in the second",
    ),
    "test": ({"protocol": {"split": SPLIT | {"test": [2]}}}, "split.test is [1] in the first and [2] in the second"),
    "seed": ({"protocol": {"split": SPLIT | {"seed": 3}}}, "split.seed is 1 in the first and 3 in the second"),
    "old seed": (
        {"protocol": {"split": {"test": [1], "validation": 0.1, "crossing": "purge"}}, "seed": 4},
        "split.seed is 1 in the first and 4 in the second",
    ),
    "no split": ({"protocol": {"split": None}}, "split.test is [1] in the first and not set in the second"),
    "audio": (
        {"protocol": {"audio": AUDIO | {"rate": 8000}}},
        "audio.rate is 16000 in the first and 8000 in the second",
    ),
    "hop": ({"protocol": {"audio": AUDIO | {"hop": 1.5}}}, "audio.hop is not set in the first and 1.5 in the second"),
    "class": (
        {
            "classes": NAMED,
            "clips": [attrs.evolve(c, labels=tuple(NAMED["dog" in c.labels and 2] for _ in "1")) for c in CLIPS],
        },
        'class 3 is "dog" in the first and "<script>" in the second',
    ),
    "label": (
        {"clips": other(CLIPS, 3, labels=("dog",) if CLIPS[3].labels != ("dog",) else ("rain",))},
        f'"3.wav": label "{CLIPS[3].labels[0]}", group "{CLIPS[3].group}" in the first, label ',
    ),
    "group": (
        {"clips": other(CLIPS, 3, group="another")},
        f'group "{CLIPS[3].group}" in the first, label "{CLIPS[3].labels[0]}", group "another" in the second',
    ),
    "fewer": ({"clips": CLIPS[:-2]}, '2 test clips of the first alone, such as "118.wav"'),
    "section": ({"clips": other(CLIPS, 3, start=1.0)}, '1 test clip of the first alone, such as "3.wav"'),
    "train": (
        {"train": [Clip("/data/a/new.wav", ("dog",))]},
        'clips.csv: "a/new.wav" is not listed in the first and train in the second',
    ),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_is_not_measured_alike_is_refused_with_what_differs(case: str, tmp_path: Path) -> None:
    changes, says = DIFFERENT[case]
    a, b = finished(tmp_path / "a", CLIPS), finished(tmp_path / "b", **{"clips": CLIPS} | changes)
    text = message(a, b)
    assert text.startswith(f"{a} and {b} cannot be compared: ")
    assert says in text
    assert invoke(["compare", str(a), str(b)]) == 2


def test_a_seed_that_draws_nothing_does_not_matter(tmp_path: Path) -> None:
    folds = {"test": [1], "validation": [2], "crossing": "purge"}
    runs = [finished(tmp_path / str(n), CLIPS, protocol={"split": folds | {"seed": n}}) for n in (1, 2)]
    assert len(compare(runs).runs) == 2


def test_data_in_another_folder_are_compared_and_that_is_noted(tmp_path: Path) -> None:
    a = finished(tmp_path / "a", CLIPS)
    b = finished(tmp_path / "b", CLIPS, protocol={"dataset": TABLE | {"root": "/elsewhere"}})
    assert compare([a, b]).notes == ("dataset.root of a and b are different folders; their clips agree by name",)


# The numbers ----------------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_reports(tmp_path: Path) -> None:
    extra = {"negative_log_likelihood": {"value": 0.7, "low": 0.6, "high": 0.8}}
    a, b = finished(tmp_path / "a", CLIPS, parameters=None, macs=None), finished(tmp_path / "b", CLIPS, seed=2)
    report = files.read_json(b / "report.json")
    report["metrics"] |= extra
    files.write_json(b / "report.json", report)
    found = compare([a, sealed(b)])
    assert found.metrics[:3] == ["accuracy", "macro_f1", "negative_log_likelihood"]
    for run in found.runs:
        report = files.read_json(Path(run.path) / "report.json")
        for name, figure in run.metrics.items():
            assert attrs.asdict(figure) == report["metrics"][name]
        assert (run.parameters, run.macs) == (report.get("parameters"), report.get("macs"))
    text = FORMATS["table"](found)
    assert "0.700 (0.600 to 0.800)" in text
    (pair,) = found.pairs
    values = [run.metrics["accuracy"].value for run in found.runs]
    assert pair.differences[0].value == pytest.approx(values[1] - values[0])


def test_three_runs_are_three_pairs_in_order(tmp_path: Path) -> None:
    runs = [finished(tmp_path / name, CLIPS, seed=n, lean=n / 4) for n, name in enumerate("abc", start=1)]
    found = compare(runs)
    assert [run.name for run in found.runs] == ["a", "b", "c"]
    assert [(pair.first, pair.second) for pair in found.pairs] == [(0, 1), (0, 2), (1, 2)]
    assert found.pairs[1].significant


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    runs = [finished(tmp_path / folder / "run", CLIPS) for folder in ("a", "b")]
    assert [run.name for run in compare(runs).runs] == ["a/run", "b/run"]


def test_several_labels_have_average_precision_and_no_test_over_clips(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    clips = [
        Clip(f"/data/{n}.wav", tuple(draws.permutation(CLASSES)[: draws.integers(1, 3)]), group=f"g{n // 4}")
        for n in range(120)
    ]
    a, b = (finished(tmp_path / str(n), clips, multilabel=True, seed=n, lean=n / 4) for n in (1, 4))
    found = compare([a, b])
    (pair,) = found.pairs
    assert [one.metric for one in pair.differences] == ["mean_average_precision", "macro_f1"]
    assert pair.mcnemar is None
    assert pair.significant
    values = [files.read_json(run / "report.json")["metrics"]["macro_f1"]["value"] for run in (a, b)]
    assert pair.differences[1].value == pytest.approx(values[1] - values[0])
    for form in FORMATS:
        assert "McNemar p" not in FORMATS[form](found)


# Bad input ------------------------------------------------------------------------------------------------------------


def test_predictions_edited_by_hand_are_refused_until_accepted(tmp_path: Path) -> None:
    a, b = finished(tmp_path / "a", CLIPS), finished(tmp_path / "b", CLIPS)
    rows = (b / "predictions.csv").read_text().rstrip("\n")
    (b / "predictions.csv").write_text(rows.rpartition(",")[0] + ",2.5\n")  # the last score
    says = (
        f"{b}/predictions.csv: was changed since soundbench wrote it, by damage or by hand; put it back, or accept it "
    )
    assert message(a, b) == says + "with --accept-changes (accept_changes=True)"
    assert compare([a, b], accept_changes=True).clips == 120
    assert invoke(["compare", str(a), str(b), "--accept-changes"]) == 0


def test_a_report_that_was_edited_is_refused_too(tmp_path: Path) -> None:
    a, b = finished(tmp_path / "a", CLIPS), finished(tmp_path / "b", CLIPS)
    (a / "report.json").write_text((a / "report.json").read_text().replace('"groups": 30', '"groups": 300'))
    assert message(a, b).startswith(f"{a}/report.json: was changed since soundbench wrote it")


def _drop(key: str) -> Callable[[Path], None]:
    def drop(run: Path) -> None:
        report = files.read_json(run / "report.json")
        del report[key]
        files.write_json(run / "report.json", report)
        sealed(run)

    return drop


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "none": (lambda run: run.rename(run.with_name("away")), "{run}: no such run directory"),
    "unfinished": (lambda run: (run / "report.json").unlink(), "{run}: the run is not finished: report.json missing"),
    "predictions": (
        lambda run: (run / "predictions.csv").unlink(),
        "{run}: the run is not finished: predictions.csv missing",
    ),
    "empty": (
        lambda run: [path.unlink() for path in run.iterdir() if path.is_file()],
        "{run}: not a run directory: recipe.toml is missing; no run has begun here: start one with soundbench run ",
    ),
    "no metrics": (
        _drop("metrics"),
        "{run}/report.json: is damaged or of another version of soundbench: it has no metrics; soundbench evaluate "
        "writes one of this version",
    ),
    "no protocol": (_drop("protocol"), "it has no protocol; "),
    "no classes": (_drop("classes"), "it has no classes; "),
    "no JSON": (
        lambda run: ((run / "report.json").write_text("[1"), sealed(run)),
        "{run}/report.json: damaged: ",
    ),
    "a list": (lambda run: ((run / "report.json").write_text("[1]"), sealed(run)), "it has no metrics, protocol, "),
    "no predictions": (
        lambda run: ((run / "predictions.csv").write_text("path\n"), sealed(run)),
        "{run}/predictions.csv: damaged: its first row",
    ),
    "half a row": (
        lambda run: (
            (run / "predictions.csv").write_text((run / "predictions.csv").read_text().replace("rain", "rai", 1)),
            sealed(run),
        ),
        "{run}",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_finished_run_gets_one_line(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, says = BAD[case]
    a, b = finished(tmp_path / "a", CLIPS), finished(tmp_path / "b", CLIPS)
    spoil(b)
    assert says.format(run=b) in message(a, b)
    code = invoke(["compare", str(a), str(b)])
    out, err = capsys.readouterr()
    assert code in (1, 2)
    assert not out
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_one_run_or_the_same_twice_is_no_comparison(tmp_path: Path) -> None:
    a = finished(tmp_path / "a", CLIPS)
    assert message(a) == "compare needs two runs or more, has 1"
    assert message(a, tmp_path / "b" / ".." / "a").endswith("given twice; compare needs different runs")
    with pytest.raises(CallError, match="compare needs two runs or more, has 1"):
        compare(str(a))  # type: ignore[arg-type]


def test_one_group_has_no_interval_and_no_verdict(tmp_path: Path) -> None:
    clips = [attrs.evolve(clip, group="all") for clip in CLIPS]
    found = compare([finished(tmp_path / name, clips, seed=n) for n, name in enumerate("ab")])
    (pair,) = found.pairs
    assert {(one.low, one.high, one.p, one.holm) for one in pair.differences} == {(None, None, None, None)}
    assert pair.significant is None
    assert any("the test set has only one" in note for note in found.notes)
    for form in FORMATS:
        assert FORMATS[form](found)


def test_one_clip_is_enough(tmp_path: Path) -> None:
    found = compare([finished(tmp_path / name, CLIPS[:1], seed=n) for n, name in enumerate("ab")])
    assert (found.clips, found.groups) == (1, 1)


def test_scores_that_are_not_finite_count_as_the_lowest_and_are_noted(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).random((len(CLIPS), len(CLASSES)))
    scores[:4] = np.nan
    found = compare([finished(tmp_path / "a", CLIPS), finished(tmp_path / "b", CLIPS, scores=scores)])
    assert found.notes == ("b has scores that are not finite for 4 clips; they count as the lowest",)
    values = [run.metrics["accuracy"].value for run in found.runs]
    assert found.pairs[0].differences[0].value == pytest.approx(values[1] - values[0])


# Formats --------------------------------------------------------------------------------------------------------------

HOSTILE = ["<script>alert(1)</script>", "猫|叫*", "قطة\u202e", 'a\nb,"c"', "=1+1"]


@pytest.fixture
def hostile(tmp_path: Path) -> Comparison:
    """Runs in folders of hostile names, of classes of hostile names."""
    clips = clips_of(90, 20, HOSTILE)
    folders = [name.replace("/", "∕") for name in HOSTILE[:4]]
    return compare([finished(tmp_path / name, clips, classes=HOSTILE, seed=n) for n, name in enumerate(folders)])


def test_json_and_csv_keep_names_as_they_are(hostile: Comparison) -> None:
    names = [run.name for run in hostile.runs]
    content = json.loads(FORMATS["json"](hostile))
    assert content == hostile.to_dict() | {"runs": content["runs"], "pairs": content["pairs"]}
    assert [run["name"] for run in content["runs"]] == names
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](hostile))))
    assert [row["run"] for row in rows if row["row"] == "run"] == names
    assert [(row["run"], row["second"]) for row in rows if row["row"] == "pair"] == list(
        itertools.combinations(names, 2)
    )
    for row, run in zip(rows, hostile.runs, strict=False):
        assert float(row["accuracy"]) == run.metrics["accuracy"].value
    for row, pair in zip(rows[len(names) :], hostile.pairs, strict=True):
        assert float(row["macro_f1_low"]) == pair.differences[1].low
        assert row["significant"] == str(pair.significant).lower()
        assert pair.mcnemar is not None
        assert int(row["first_alone_right"]) == pair.mcnemar.only_first


def test_tables_keep_each_run_on_a_line_and_escape_names(hostile: Comparison) -> None:
    plain, markdown = (FORMATS[form](hostile) for form in ("table", "md"))
    for text in (plain, markdown):
        assert "\u202e" not in text
        assert "\\u202e" in text
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * 2 + len(hostile.runs) + len(hostile.pairs)
    assert len({line.replace("\\|", "").count("|") for line in rows[:6]}) == 1
    assert "<script>" not in markdown.replace("\\<script\\>", "")
    assert len(plain.split("\n\n")[0].splitlines()) == 1 + len(hostile.runs)
    assert len(plain.split("\n\n")[1].splitlines()) == 1 + len(hostile.pairs)


def test_a_page_shows_names_as_text_and_no_folder_of_this_machine(hostile: Comparison) -> None:
    page = FORMATS["html"](hostile)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "猫|叫*" in page
    assert "\u202e" not in page
    assert "/data" not in page  # the root of the dataset
    assert Path(hostile.runs[0].path).parent.as_posix() not in page


def test_the_command_offers_every_format() -> None:
    assert tuple(FORMATS) == cli.FORMATS


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_gets_what_the_terminal_gets(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (str(finished(tmp_path / name, CLIPS)) for name in "ab")
    assert invoke(["compare", a, b, "--format", form]) == 0
    printed = capsys.readouterr().out
    target = tmp_path / "new" / "table.txt"
    assert invoke(["compare", a, b, "--format", form, "--out", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert target.read_text(encoding="utf-8") == printed


def test_comparing_imports_no_torch(tmp_path: Path) -> None:
    a, b = (str(finished(tmp_path / name, CLIPS)) for name in "ab")
    script = (
        "import sys; from soundbench.cli.main import invoke; code = invoke(sys.argv[1:]);"
        "assert not {'torch', 'matplotlib', 'ignite'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, "compare", a, b], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "second less first" in done.stdout
