"""The protocols of benchmarks: a test fold chooses nothing, epochs fit the time, and what was stopped goes on."""

from __future__ import annotations

import csv
import importlib
import random
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
import torch

import soundbench
from soundbench import files
from soundbench.contracts import Clip
from soundbench.report.run_directory import RunDirectory
from soundbench.studies.cells import cells_of
from soundbench.studies.folder import SweepFolder
from soundbench.studies.sweep_file import read_sweep

ROOT = Path(__file__).parents[2]
FOLDS = range(1, 6)
Benchmark = Callable[[str], Any]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


# Choosing within the inner folds --------------------------------------------------------------------------------------


def made_up(inner_folds: ModuleType, draw: random.Random) -> list[Any]:
    """The answers of five runs about eight clips of each fold that they left out; a setting has its own chance."""
    skill = draw.random()
    return [
        inner_folds.Answer(
            *(frozenset(left_out), fold, f"{fold}-{clip}.wav", f"{fold}-{clip}"),
            *("dog", "dog" if draw.random() < skill else "cat"),
        )
        for left_out in inner_folds.LEFT_OUT
        for fold in left_out
        for clip in range(8)
    ]


def invented(draw: random.Random, one: Any) -> Any:
    """The same answer with another prediction, drawn anew."""
    return attrs.evolve(one, predicted=draw.choice(["dog", "cat"]))


@pytest.mark.parametrize("test", FOLDS)
def test_nothing_of_a_test_fold_has_a_part_in_a_choice_for_it(benchmark: Benchmark, test: int) -> None:
    """Predictions of its clips, and all of networks that were trained on it, may be anything."""
    inner_folds = benchmark("inner_folds")
    for seed in range(20):
        draw = random.Random(seed)
        settings = {name: made_up(inner_folds, draw) for name in ("a", "b", "c")}
        changed = {
            name: [invented(draw, one) if one.fold == test or test not in one.left_out else one for one in own]
            for name, own in settings.items()
        }
        assert changed != settings
        assert inner_folds.chosen(changed, test) == inner_folds.chosen(settings, test)


@pytest.mark.parametrize("test", FOLDS)
def test_all_clips_of_two_other_folds_choose_for_a_test_fold(benchmark: Benchmark, test: int) -> None:
    inner_folds = benchmark("inner_folds")
    right = made_up(inner_folds, random.Random(1))
    own = inner_folds.inner(right, test)
    assert len(own) == 16
    assert len({one.recording for one in own}) == 16
    assert {one.fold for one in own} == {(test - 2) % 5 + 1, test % 5 + 1}
    wrong, better = ([attrs.evolve(one, predicted=name) for one in right] for name in ("cat", "dog"))
    assert inner_folds.chosen({"wrong": wrong, "right": better}, test) == "right"
    assert inner_folds.accuracy_for(wrong, test) == 0


@pytest.mark.parametrize(("wrong", "choice"), [(0, "trained most"), (1, "trained most"), (2, "trained less")])
def test_of_settings_that_are_nearly_equal_the_last_is_chosen(benchmark: Benchmark, wrong: int, choice: str) -> None:
    """Of 16 answers 14 are right: a standard error is 8%, and an answer 6%."""
    inner_folds = benchmark("inner_folds")
    every = made_up(inner_folds, random.Random(1))
    own = inner_folds.inner(every, 3)

    def answered(wrongly: int) -> list[Any]:
        labels = ["cat"] * wrongly + ["dog"] * (len(own) - wrongly)
        return [attrs.evolve(one, predicted=label) for one, label in zip(own, labels, strict=True)]

    settings = {"trained less": answered(2), "bad": answered(9), "trained most": answered(2 + wrong)}
    assert inner_folds.chosen(settings, 3) == choice


def test_answers_about_one_recording_count_as_one(benchmark: Benchmark) -> None:
    """Of 16 answers 12 are right. Where four are of each recording, so all right or all wrong, there are four."""
    inner_folds = benchmark("inner_folds")
    own = inner_folds.inner(made_up(inner_folds, random.Random(1)), 3)
    answered = [
        attrs.evolve(one, predicted="cat" if place < 4 else "dog", recording=str(place // 4))
        for place, one in enumerate(own)
    ]
    apart = [attrs.evolve(one, recording=str(place)) for place, one in enumerate(answered)]
    assert inner_folds.standard_error(apart) == pytest.approx((0.75 * 0.25 / 16) ** 0.5)
    assert inner_folds.standard_error(answered) == pytest.approx((0.75 * 0.25 / 4) ** 0.5)


def test_two_settings_are_compared_on_the_same_clips_in_any_order(benchmark: Benchmark) -> None:
    inner_folds = benchmark("inner_folds")
    right, other = made_up(inner_folds, random.Random(1)), made_up(inner_folds, random.Random(2))
    ((first, second, pair),) = inner_folds.pairs({"a": right, "b": other[::-1]})
    share = [sum(one.right for one in own) / 80 for own in (right, other)]
    assert (first, second) == ("a", "b")
    assert pair.differences[0].value == pytest.approx(share[1] - share[0])
    with pytest.raises(ValueError, match="not answered the same clips"):
        inner_folds.pairs({"a": right, "b": other[1:]})


def test_settings_of_which_none_is_finished_are_named(benchmark: Benchmark) -> None:
    esc10 = benchmark("esc10")
    (line,) = esc10.table({})
    assert all(name in line for name in esc10.SETTINGS)


def runs_in(folder: Path, left_out: Sequence[Sequence[int]]) -> Iterator[Path]:
    """Runs with the files that are read: one clip of each fold, of which those left out are predicted."""
    for folds in left_out:
        run = folder / f"net-{folds[0]}"
        run.mkdir(parents=True)
        (run / "recipe.toml").write_text(f"[split]\ntest = {list(folds)}\n", encoding="utf-8")
        clips = "".join(f"{fold}.wav,{fold}\n" for fold in FOLDS)
        (run / "clips.csv").write_text(f"path,fold\n{clips}", encoding="utf-8")
        rows = "".join(f"{fold}.wav,r{fold},dog,{'dog' if fold == folds[0] else 'cat'}\n" for fold in folds)
        (run / "predictions.csv").write_text(f"path,group,label,predicted\n{rows}", encoding="utf-8")
        yield run


def test_answers_are_about_the_folds_that_a_run_left_out(benchmark: Benchmark, tmp_path: Path) -> None:
    inner_folds = benchmark("inner_folds")
    found = inner_folds.answers(runs_in(tmp_path, inner_folds.LEFT_OUT))
    assert len(found) == 10
    assert all(one.fold in one.left_out and one.recording == f"r{one.fold}" for one in found)
    # The run that left out 1 and 2 is right about 1, so for fold 2; the one of 2 and 3 is wrong about 3.
    assert inner_folds.accuracy_for(found, 2) == 0.5
    assert inner_folds.estimate(found)["value"] == 0.5


# Time, and going on ---------------------------------------------------------------------------------------------------


def test_epochs_fill_the_time_that_tests_leave(benchmark: Benchmark, tmp_path: Path) -> None:
    budget = benchmark("budget")
    recipe = tmp_path / "net.toml"
    recipe.write_text('dataset = "tones"\nbackbone = "tdnn"\n', encoding="utf-8")
    speed = budget.Speed(0.5, 0.1, 10.0, soundbench.read_recipe(recipe).to_toml())
    # 100 s less 10 for the rest and 20 for 200 tests are 70 s: three epochs of 40 clips, 20 s each.
    assert budget.epochs(speed, 100, trained=40, tested=200) == 3
    assert budget.epochs(speed, 1, trained=40, tested=200) == 1
    files.write_json(tmp_path / "net.speed.json", attrs.asdict(speed))
    assert budget.measured({"net": recipe}, 1) == ({"net": speed}, [])


def test_another_recipe_is_measured_again(
    benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget, sweeping = benchmark("budget"), benchmark("sweeping")
    recipe = tmp_path / "net.toml"
    recipe.write_text('dataset = "tones"\nbackbone = "tdnn"\n', encoding="utf-8")
    calls: list[Any] = []

    def measure(program: Sequence[str], given: Sequence[Sequence[str]], side_by_side: int) -> list[str]:
        calls.extend(given)
        for place, path in given:
            now = soundbench.read_recipe(path).to_toml()
            files.write_json(Path(place), {"training": 1.0, "predicting": 1.0, "rest": 1.0, "recipe": now})
        return []

    monkeypatch.setattr(sweeping, "run", measure)
    for _ in range(2):
        budget.measured({"net": recipe}, 1)
    assert len(calls) == 1
    recipe.write_text('dataset = "tones"\nbackbone = "mobilenet"\n', encoding="utf-8")
    budget.measured({"net": recipe}, 1)
    assert len(calls) == 2


def rows_of(path: Path) -> list[Mapping[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_benchmark_that_was_stopped_goes_on(benchmark: Benchmark, tmp_path: Path) -> None:
    sweeping = benchmark("sweeping")
    same = {"dataset": {"clips": 80}, "train": {"epochs": 5, "batch_size": 16, "threads": 1}, "observer": []}
    changes = {**same, "reject": "none", "sweep": sweeping.ONE_RUN}
    file = sweeping.write(tmp_path / "net.toml", ROOT / "recipes" / "quickstart.toml", changes)
    call = [sys.executable, "-c", "import sys, sweeping, pathlib; sweeping.finish([pathlib.Path(sys.argv[1])], 1)"]
    with subprocess.Popen([*call, str(file)], cwd=ROOT / "benchmarks", stderr=subprocess.PIPE, text=True) as process:
        while not (found := [path for path in tmp_path.glob("net/*/history.csv") if len(rows_of(path)) >= 2]):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    before = rows_of(found[0])
    assert process.returncode == 143
    assert sweeping.finished(file) == []
    subprocess.run([*call, str(file)], cwd=ROOT / "benchmarks", check=True)
    after = rows_of(found[0])
    assert sweeping.finished(file) == [found[0].parent]
    assert [row["epoch"] for row in after] == [str(number) for number in range(1, 6)]
    assert after[:2] == before[:2]


def test_what_is_finished_is_of_the_recipe_as_it_is_now(benchmark: Benchmark, tmp_path: Path) -> None:
    sweeping = benchmark("sweeping")
    (tmp_path / "base.toml").write_text('dataset = "tones"\nbackbone = "tdnn"\n', encoding="utf-8")
    file = sweeping.write(tmp_path / "net.toml", tmp_path / "base.toml", {"sweep": {"seeds": [1, 2]}})
    assert sweeping.finished(file) == []
    cells = cells_of(read_sweep(file), lambda recipe: None)
    SweepFolder(tmp_path / "net").write(read_sweep(file), cells)
    runs = [RunDirectory(tmp_path / "net" / cell.name) for cell in cells]
    for cell, run in zip(cells, runs, strict=True):
        assert sweeping.finished(file) == []
        files.write_text(run.recipe, cell.recipe)
        files.write_json(run.digests, {})
    assert sweeping.finished(file) == [run.path for run in runs]
    with (tmp_path / "base.toml").open("a", encoding="utf-8") as base:
        base.write("train = {epochs = 3}\n")
    assert sweeping.finished(file) == []


def test_a_sweep_that_fails_is_named_after_the_others(
    benchmark: Benchmark, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sweeping = benchmark("sweeping")
    program = [sys.executable, "-c", "import sys; sys.argv[1] == 'bad' and sys.exit('no such thing')"]
    failed = sweeping.run(program, [["bad"], ["good"]], 1)
    assert failed == ["bad: no such thing"]
    assert "\ngood: " in capfd.readouterr().err
    with pytest.raises(SystemExit, match=r"^failed:\nbad: no such thing$"):
        sweeping.refuse_failed(failed)
    sweeping.refuse_failed([])


# The model that comes along -------------------------------------------------------------------------------------------


def test_a_model_is_not_gone_on_with_by_another_recipe(benchmark: Benchmark, tmp_path: Path) -> None:
    esc10_model = benchmark("esc10_model")
    recipe, folds = ROOT / "recipes" / "quickstart.toml", tmp_path / "folds"
    esc10_model.refuse_another(folds, recipe, [])  # nothing is there
    folds.mkdir()
    (folds / "recipe.toml").write_text(soundbench.read_recipe(recipe, ["train.seed=2"]).to_toml())
    esc10_model.refuse_another(folds, recipe, ["train.seed=2"])
    with pytest.raises(SystemExit, match=r"folds: is of another recipe, by train; give another --out"):
        esc10_model.refuse_another(folds, recipe, [])


def test_a_distance_is_fitted_to_all_windows_of_a_clip(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    esc10_model = benchmark("esc10_model")

    def outputs(classifier: Any, sounds: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        vectors = torch.tensor([[float(sound), window] for sound in sounds for window in (0.0, 1.0)])
        return vectors, vectors

    monkeypatch.setattr(esc10_model, "outputs", outputs)
    rejector = SimpleNamespace(module=None)
    classifier = SimpleNamespace(classes=("a", "b"), scorer=SimpleNamespace(rejector=rejector))
    rows = [{"path": str(place), "labels": "ab"[place % 2]} for place in range(6)]
    fitted = esc10_model.components(classifier, rows)["distance, without noise"]
    torch.testing.assert_close(fitted.centre, torch.tensor([2.5, 0.5]))
    assert fitted.means.shape == (2, 2)


def test_figures_of_a_model_are_measured_again_for_other_networks_or_sounds(
    benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    esc10_model = benchmark("esc10_model")
    calls: list[Path] = []
    monkeypatch.setattr(esc10_model, "fold_scores", calls.append)
    monkeypatch.setattr(esc10_model, "out_of_fold", len)
    monkeypatch.setattr(esc10_model, "of_parts", len)
    monkeypatch.setattr(esc10_model, "by_the_model", str)
    fold, final = tmp_path / "fold-1", tmp_path / "final"
    for run in (fold, final):
        (run / "model").mkdir(parents=True)
        files.write_json(run / "model" / "digests.json", {"weights": [run.name]})

    def measured() -> int:
        found = esc10_model.measured(tmp_path / "unknown.json", [fold], final)
        assert (found["out of fold"], found["final"]) == (1, str(final))
        return len(calls)

    assert [measured(), measured()] == [1, 1]
    files.write_json(fold / "model" / "digests.json", {"weights": ["another"]})
    assert [measured(), measured()] == [2, 2]
    monkeypatch.setattr(esc10_model, "DRAW", 1)
    assert measured() == 3


def test_what_a_kind_is_taken_for_is_named(benchmark: Benchmark) -> None:
    esc10_model = benchmark("esc10_model")
    kinds = [*esc10_model.KINDS, *esc10_model.KNOWN]
    labels = ["unknown"] * 12 + ["helicopter"] * 7 + ["rain"] * 1
    clips = [[kind, str(place // 2), f"{place}.wav", label] for kind in kinds for place, label in enumerate(labels)]
    rows = esc10_model.by_kind(clips, dict.fromkeys(esc10_model.KINDS, 0.25)).splitlines()
    assert rows[2] == "| air_conditioner | 20, 10 | 25.0 | 60.0 | helicopter 35.0, rain 5.0 |"
    first = esc10_model.first_of_each(clips).splitlines()[2:]
    assert first[1] == "| 2.wav | dog_bark | unknown |"
    assert len(first) == 10


def test_a_part_of_a_sound_is_around_the_middle_of_its_energy(benchmark: Benchmark) -> None:
    short_sounds = benchmark("short_sounds")
    sound = np.zeros(100, np.float32)
    sound[70] = 1.0
    assert short_sounds.part(sound, 10).tolist() == sound[65:75].tolist()
    assert short_sounds.part(sound[::-1], 80).tolist() == sound[::-1][:80].tolist()
    assert len(short_sounds.part(sound, 200)) == 100


def test_the_setting_with_the_most_shrinkage_of_equals_is_chosen(benchmark: Benchmark) -> None:
    rejecting = benchmark("rejecting")
    best, near = [0.9, 0.8, 0.7, 0.6], [0.85, 0.84, 0.7, 0.6]  # lower by 0.0025, with an error of 0.019
    found = {
        rejecting.Setting("relative", 0.3, 1.0): rejecting.Tried(best, 1.0),
        rejecting.Setting("relative", 0.5, 10.0): rejecting.Tried(near, 1.0),
        rejecting.Setting("relative", 0.5, 3.0): rejecting.Tried(near, 0.99),
        rejecting.Setting("relative", 0.5, 0.0): rejecting.Tried(near, 0.98),
        rejecting.Setting("relative", 0.7, 3.0): rejecting.Tried([one - 0.01 for one in best], 1.0),
        rejecting.Setting("relative", 0.9, 0.0): rejecting.Tried([0.95] * 4, 0.5),
        rejecting.Setting("cosine", 0.9, 0.0): rejecting.Tried(near, 1.0),
    }
    assert rejecting.chosen(found) == rejecting.Setting("relative", 0.5, 3.0)
    kept = {setting: attrs.evolve(one, noise=0.4) for setting, one in found.items()}
    assert rejecting.best_of(kept) == rejecting.Setting("relative", 0.9, 0.0)


def test_a_pull_is_that_of_a_setting_while_it_is_used(benchmark: Benchmark) -> None:
    rejecting, setting = benchmark("rejecting"), benchmark("rejecting").Setting("relative", 0.5, 0.0)
    draw = torch.Generator().manual_seed(1)
    known, noise = torch.randn(40, 4, generator=draw), 3 + torch.randn(20, 4, generator=draw)
    targets = torch.eye(2)[torch.arange(40) % 2]
    given = rejecting.Given(0.9, (targets, known), targets, [(torch.zeros(20, 2), noise)], None, None, {})
    module, between = given.fitted(setting.make, noise=True), torch.full((1, 4), 2.5)
    assert len(module.noises) == 20
    before = module(torch.zeros(1, 2), between)
    with setting.used():
        assert module(torch.zeros(1, 2), between) > before
    assert module(torch.zeros(1, 2), between) == before


# Recipes that are written ---------------------------------------------------------------------------------------------


def test_recipes_within_the_inner_folds_validate_nothing_and_leave_out_two_folds(
    benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOUNDBENCH_DATA", str(tmp_path))
    hour, budget = benchmark("hour"), benchmark("budget")
    for name, path in hour.recipes(tmp_path, list(hour.NETWORKS)).items():
        recipe = soundbench.read_recipe(path)
        assert recipe.tables()["backbone"]["use"].rpartition("/")[2] == name
        assert recipe.split.validation == 0
        file = tomllib.loads(hour.sweep(path, budget.Speed(0.1, 0.0, 0.0, ""), 10).read_text(encoding="utf-8"))
        # Ten minutes of two cores are 240 s for each of five runs: ten epochs of 240 clips, 24 s each.
        assert file["train"] == {"epochs": 10}
        assert file["sweep"] == {"split.test": [[1, 2], [2, 3], [3, 4], [4, 5], [5, 1]]}


def test_networks_on_two_folds_differ_in_nothing_that_the_test_decides(benchmark: Benchmark, tmp_path: Path) -> None:
    urbansound, leak, budget = (benchmark(name) for name in ("urbansound", "leak", "budget"))
    clips = [Clip(f"/{place}.wav", ("siren",), fold=place % 2 + 1, group=str(place // 4)) for place in range(40)]
    written = urbansound.recipes(tmp_path, tmp_path, list(urbansound.NETWORKS))
    for name, path in written.items():
        file = urbansound.sweep(name, path, budget.Speed(0.5, 0.1, 3.0, ""), 105, leak.by_fold(clips, 2))
        text = tomllib.loads(file.read_text(encoding="utf-8"))
        assert text.pop("sweep") == {"seeds": [1]}
        assert text["train"]["epochs"] == 10  # 105 s less 3 and 2 for twenty tests; twenty clips take 10 s
        recipe = soundbench.read_recipe(path)
        assert (recipe.split.test, recipe.split.validation) == ([2], 0)
        assert recipe.dataset.options["folds"] == [1, 2]
    recipe = soundbench.read_recipe(urbansound.leaky(written["small"], leak.every_tenth(clips)))
    assert (recipe.split.test, recipe.split.validation, recipe.split.crossing) == (["test"], 0, "allow")
    rows = rows_of(tmp_path / f"{urbansound.LEAK}.csv")
    assert [row["path"] for row in rows if row["fold"] == "test"] == ["/0.wav", "/10.wav", "/20.wav", "/30.wav"]
    assert {row["path"]: row["group"] for row in rows} == {clip.path: clip.group for clip in clips}
