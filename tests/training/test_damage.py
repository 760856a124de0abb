"""Damage to a run: no wrong bit goes unseen, and what is lost is made anew from the checkpoint, exactly."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from helpers import runs
from helpers.runs import command, start, toy_run, weights
from helpers.toys import ToyBackbone

import soundbench
from soundbench import files
from soundbench.cli.main import invoke
from soundbench.errors import RecipeError, RunError
from soundbench.model.weights import load_matching
from soundbench.report.lock import held
from soundbench.report.run_directory import RunDirectory
from soundbench.training import checkpoints
from soundbench.training.folds import resume_folds

pytestmark = pytest.mark.usefixtures("cache")

HERE = Path(__file__)
RECIPE = runs.RECIPE.replace("clips = 64", "clips = 24") + "checkpoint_steps = 1\n"
CHANGED = re.compile(
    r": (was|were) changed since soundbench wrote (it|them), by damage or by hand; .* --accept-changes"
)


def flip(path: Path, draws: random.Random) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[draws.randrange(len(data))] ^= 1 << draws.randrange(8)
    path.write_bytes(data)


def silent(*_: Any) -> None:
    pass


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that has ended, `whole`, and one of the same recipe that was stopped in mid-epoch, `cut`."""
    folder = tmp_path_factory.mktemp("damage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUNDBENCH_CACHE", str(folder / "cache"))
        patch.delenv("SOUNDBENCH_TOY_DELAY", raising=False)
        recipe = folder / "toy.toml"
        recipe.write_text(RECIPE)
        toy_run(recipe, folder / "whole", say=silent)
        save = checkpoints.save

        def stops(place: Path, step: int, state: dict[str, Any]) -> Path:
            if step > 2 * state["steps_per_epoch"] + 1:
                raise KeyboardInterrupt
            return save(place, step, state)

        patch.setattr(checkpoints, "save", stops)
        with pytest.raises(KeyboardInterrupt):
            toy_run(recipe, folder / "cut", say=silent)
    return folder


@pytest.fixture
def whole(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished / "whole", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def cut(finished: Path, tmp_path: Path) -> Path:
    """Stopped in the third epoch; hard links between checkpoints become copies, so that each is damaged alone."""
    shutil.copytree(finished / "cut", tmp_path / "run")
    return tmp_path / "run"


def resumed(run: Path, **more: Any) -> list[str]:
    """The log of a resume."""
    said: list[str] = []
    soundbench.resume(run, trust_code=True, say=said.append, **more)
    return said


def results(run: Path) -> dict[str, Any]:
    times = ("seconds", "clips_per_second")
    report = json.loads((run / "report.json").read_text())
    history = files.read_rows(run / "history.csv")
    return {
        "weights": weights(run),
        "model": (run / "model" / "model.toml").read_bytes(),
        "history": [{name: row[name] for name in row if name not in times} for row in history],
        "predictions": (run / "predictions.csv").read_bytes(),
        "clips": (run / "clips.csv").read_bytes(),
        "recipe": (run / "recipe.toml").read_bytes(),
        "report": {name: report[name] for name in report if name != "seconds"},
        "figure": (run / "figures" / "confusion.png").exists(),
        "data": json.loads((run / "environment.json").read_text())["data"],
    }


# No bit unseen --------------------------------------------------------------------------------------------------------


def _load(run: Path) -> None:
    soundbench.load(run, trust_code=True)


def _resume(run: Path) -> None:
    (run / "report.json").unlink(missing_ok=True)
    soundbench.resume(run, trust_code=True, say=silent)


def _latest(run: Path) -> None:
    """The state after the last checkpoint, which is damaged, must not be one that is used."""
    said: list[str] = []
    state = checkpoints.latest(run / "checkpoints", said.append)
    assert state is not None
    assert said
    raise RunError(said[0])


FILES: dict[str, Callable[[Path], None]] = {
    "model/weights.safetensors": _load,
    "model/model.toml": _load,
    "recipe.toml": _resume,
    "checkpoints/step-": _latest,
}


def flips(run: Path, count: int) -> dict[str, int]:
    """Flip a bit of each file so many times; how many were not seen."""
    unseen = dict.fromkeys(FILES, 0)
    draws = random.Random(600)
    for name, use in FILES.items():
        path = max(run.glob(f"{name}*"))
        before = path.read_bytes()
        for _ in range(count):
            flip(path, draws)
            try:
                use(run)
            except RunError as error:
                unseen[name] += not ("damaged" in str(error) or CHANGED.search(str(error)))
            else:
                unseen[name] += 1
            path.write_bytes(before)
    return unseen


def test_a_flipped_bit_is_seen(whole: Path) -> None:
    assert flips(whole, 8) == dict.fromkeys(FILES, 0)
    soundbench.load(whole, trust_code=True)


@pytest.mark.slow
def test_none_of_600_flipped_bits_goes_unseen(whole: Path) -> None:
    assert flips(whole, 150) == dict.fromkeys(FILES, 0)


@pytest.mark.parametrize("name", ["model/weights.safetensors", "model/model.toml", "model/code/toys.py", "recipe.toml"])
def test_a_change_by_hand_is_reported_in_one_line_and_can_be_accepted(whole: Path, name: str) -> None:
    path = whole / name
    if name.endswith("safetensors"):
        stored = safetensors.torch.load_file(path)
        safetensors.torch.save_file({key: value + 1 for key, value in stored.items()}, path)
    else:
        path.write_text("# by hand\n" + path.read_text())
    with pytest.raises(RunError) as caught:
        (_resume if name == "recipe.toml" else _load)(whole)
    assert str(caught.value).startswith(f"{path}: was changed since soundbench wrote it, by damage or by hand; ")
    assert str(caught.value).endswith("accept it with --accept-changes (accept_changes=True)")
    assert "\n" not in str(caught.value)
    if name == "recipe.toml":
        assert resumed(whole, accept_changes=True)[-1].startswith("time of a step") or (whole / "report.json").exists()
        _resume(whole)
    else:
        soundbench.load(whole, trust_code=True, accept_changes=True)
        _load(whole)


@pytest.mark.parametrize("content", [None, "", "{}", "[1]"])
def test_a_model_whose_digests_are_lost_is_not_loaded_in_silence(whole: Path, content: str | None) -> None:
    path = whole / "model" / "digests.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(RunError) as caught:
        _load(whole)
    assert "--accept-changes" in str(caught.value)
    soundbench.load(whole, trust_code=True, accept_changes=True)
    _load(whole)


def test_the_commands_take_the_option(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = str(HERE)  # no sound: the model is loaded before it is read
    (whole / "model" / "model.toml").write_text("# by hand\n" + (whole / "model" / "model.toml").read_text())
    line = ["infer", str(whole), "--trust-code", sound]
    assert invoke(line) == 1
    assert CHANGED.search(capsys.readouterr().err)
    assert invoke(["evaluate", str(whole), "--trust-code"]) == 1
    assert invoke(["embed", str(whole), "--trust-code", "--out", str(tmp_path / "e"), sound]) == 1
    assert invoke(["stream", str(whole), "--trust-code", "--source", sound]) == 1
    assert len(CHANGED.findall(capsys.readouterr().err)) == 3
    assert invoke(["evaluate", str(whole), "--trust-code", "--accept-changes"]) == 0
    assert invoke(["evaluate", str(whole), "--trust-code"]) == 0


def test_weights_to_begin_with_are_checked(whole: Path) -> None:
    network = soundbench.load(whole, trust_code=True).network
    path = whole / "model" / "weights.safetensors"
    flip(path, random.Random(1))
    for source in (whole, whole / "model", path):
        with pytest.raises(RunError, match=CHANGED):
            load_matching(network, source)
    flip(whole / "checkpoints" / "best.pt", random.Random(2))
    with pytest.raises(RunError, match=r"best.pt: damaged"):
        load_matching(network, whole / "checkpoints" / "best.pt")
    recipe = whole.parent / "init.toml"
    recipe.write_text(RECIPE + f'[init]\nfrom = "{whole}"\n')
    with pytest.raises(RecipeError, match="--accept-changes"):
        toy_run(recipe, whole.parent / "new")
    assert not (whole.parent / "new").exists()


@pytest.mark.parametrize("name", ["model.toml", "digests.json"])
def test_a_model_can_be_loaded_while_a_better_one_is_written(
    whole: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As after a kill, or by another process, between its files."""
    from soundbench.model.folder import read_model_tables, save_model

    network = soundbench.load(whole, trust_code=True).network
    tables = read_model_tables(whole / "model")
    network.head.classify.bias.data += 1  # type: ignore[operator]
    write = files.write_bytes
    written: list[str] = []

    def killed(path: Path, data: bytes) -> None:
        if path.name == name and written.count(name) == (name == "digests.json"):
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, data)

    monkeypatch.setattr(files, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        save_model(whole / "model", tables, network)
    monkeypatch.undo()
    again = soundbench.load(whole, trust_code=True).network
    assert torch.equal(again.head.classify.bias, network.head.classify.bias)  # type: ignore[arg-type]


# What is lost is made anew --------------------------------------------------------------------------------------------


def _gone(path: Path) -> None:
    path.unlink()


def _flipped(path: Path) -> None:
    flip(path, random.Random(path.name))


def _header(path: Path) -> None:
    path.write_text("precious\n1\n")


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


LOST = [
    ("history.csv", _gone),
    ("history.csv", _flipped),
    ("history.csv", _header),
    ("history.csv", _half),
    ("environment.json", _gone),
    ("environment.json", _half),
    ("clips.csv", _gone),
    ("clips.csv", _flipped),
    ("model/model.toml", _gone),
    ("model/model.toml", _flipped),
    ("model/weights.safetensors", _flipped),
    ("model/digests.json", _gone),
    ("recipe.toml", _gone),
]


def test_a_resumed_run_makes_anew_all_that_it_lacks(cut: Path, finished: Path) -> None:
    lost = {"history.csv": _header, "environment.json": _gone, "clips.csv": _flipped, "model/model.toml": _flipped}
    for name, damage in lost.items():
        damage(cut / name)
    said = resumed(cut)
    assert {f"made anew, for missing, damaged or changed: {name}" for name in ("history.csv", "model/model.toml")} <= {
        *said
    }
    assert "made anew, for missing, damaged or changed: environment.json, clips.csv" in said
    assert results(cut) == results(finished / "whole")
    assert "nothing to resume" in resumed(cut)[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "damage"), LOST)
def test_a_resumed_run_makes_anew_what_it_lacks_and_says_so(
    cut: Path, finished: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(cut / name)
    said = resumed(cut)
    assert [line for line in said if line == f"made anew, for missing, damaged or changed: {name}"], said
    assert results(cut) == results(finished / "whole")
    assert "nothing to resume" in resumed(cut)[-1]


RESULTS = [
    ("predictions.csv", _flipped),
    ("report.json", _half),
    ("report.md", _gone),
    ("report.html", _gone),
    ("figures/confusion.png", _gone),
    ("confusion.csv", _flipped),
    ("digests.json", _half),
]


def test_a_finished_run_makes_anew_all_that_it_lacks(whole: Path, finished: Path) -> None:
    for name, damage in {"predictions.csv": _flipped, "report.json": _gone, "model/weights.safetensors": _half}.items():
        damage(whole / name)
    said = resumed(whole)
    names = "predictions.csv, report.json, model/weights.safetensors"
    assert f"made anew, for missing, damaged or changed: {names}" in said
    assert results(whole) == results(finished / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "damage"), [*(one for one in LOST if one[0] != "recipe.toml"), *RESULTS])
def test_a_finished_run_notices_and_makes_anew_what_it_lacks(
    whole: Path, finished: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(whole / name)
    said = resumed(whole)
    assert any(line.startswith("made anew, for missing, damaged or changed: ") and name in line for line in said), said
    assert results(whole) == results(finished / "whole")
    assert "nothing to resume" in resumed(whole)[-1]


def test_a_finished_run_without_checkpoints_is_not_trained_again(whole: Path) -> None:
    shutil.rmtree(whole / "checkpoints")
    assert "nothing to resume" in resumed(whole)[-1]
    (whole / "history.csv").unlink()
    with pytest.raises(
        RunError, match=r"missing or changed since the run finished: history.csv; there is no checkpoint"
    ):
        resumed(whole)
    assert "nothing to resume" in resumed(whole, accept_changes=True)[-1]
    assert "nothing to resume" in resumed(whole)[-1]


@pytest.mark.parametrize(
    "which",
    [
        "last and best",
        "best and model",
        *(pytest.param(which, marks=pytest.mark.slow) for which in ("last", "best", "all but the best")),
    ],
)
def test_damaged_checkpoints_are_passed_over_and_the_end_is_the_same(cut: Path, finished: Path, which: str) -> None:
    folder = cut / "checkpoints"
    paths = sorted(folder.glob("step-*.pt"))
    broken = {
        "last": paths[-1:],
        "best": [folder / "best.pt"],
        "last and best": [paths[-1], folder / "best.pt"],
        "best and model": [folder / "best.pt", cut / "model" / "weights.safetensors"],
        "all but the best": paths,
    }[which]
    for path in broken:
        _flipped(path)
    said = resumed(cut)
    for path in {*broken} & {*paths}:
        assert f"{path}: the checkpoint is damaged and cannot be read; trying the one before" in said
    if which == "best and model":
        assert any("the network of the best epoch until then" in line for line in said), said
    assert results(cut) == results(finished / "whole")


def test_a_best_network_that_is_lost_beyond_help_ends_a_run_before_it_trains(cut: Path) -> None:
    folder = cut / "checkpoints"
    for path in sorted(folder.glob("step-*.pt"))[:-1]:
        path.unlink()
    for path in (folder / "best.pt", cut / "model" / "weights.safetensors"):
        _flipped(path)
    with pytest.raises(RunError, match="every checkpoint is damaged; start a new run"):
        resumed(cut)


def test_a_run_without_checkpoint_and_record_says_that_its_recipe_is_not_checked(cut: Path, finished: Path) -> None:
    shutil.rmtree(cut / "checkpoints")
    (cut / "environment.json").unlink()
    said = resumed(cut)
    record = cut / "environment.json"
    assert f"{record}: missing or damaged, so the recipe cannot be checked; made anew" in said
    assert results(cut) == results(finished / "whole")


def test_changed_data_is_refused_without_its_record_too(cut: Path) -> None:
    recipe = cut / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("clips = 24", "clips = 26"))
    (cut / "environment.json").unlink()
    with pytest.raises(RunError, match=CHANGED):
        resumed(cut)
    with pytest.raises(RunError, match="the data has changed since the run began; start a new run"):
        resumed(cut, accept_changes=True)


def test_evaluating_a_run_without_its_record_uses_the_checkpoint_s(whole: Path) -> None:
    (whole / "environment.json").unlink()
    said: list[str] = []
    soundbench.evaluate(whole, trust_code=True, say=said.append)
    assert said[0] == f"{whole / 'environment.json'}: missing or damaged; using the last checkpoint's copy"
    flip(whole / "recipe.toml", random.Random(3))
    with pytest.raises(RunError, match=CHANGED):
        soundbench.evaluate(whole, trust_code=True, say=silent)


@pytest.mark.slow
def test_folds_check_their_recipe_and_make_their_list_anew(tmp_path: Path) -> None:
    recipe = tmp_path / "toy.toml"
    recipe.write_text(RECIPE)
    run = soundbench.run_folds(soundbench.read_recipe(recipe, ["train.epochs=1"]), out=tmp_path / "run").path
    report = json.loads((run / "report.json").read_text())
    said: list[str] = []
    for damage, name in ((_half, "folds.json"), (_gone, "folds.json"), (_gone, "environment.json")):
        damage(run / name)
        assert RunDirectory(run).has_folds
        (run / "fold-02" / "predictions.csv").unlink()
        resume_folds(run, trust_code=True, say=said.append)
        again = json.loads((run / "report.json").read_text())
        assert again["metrics"] == report["metrics"]
    assert said.count(f"{run / 'folds.json'}: was damaged, and is made anew") == 2
    assert any(line.startswith(f"{run / 'environment.json'}: was missing or damaged") for line in said)
    flip(run / "recipe.toml", random.Random(4))
    with pytest.raises(RunError, match=CHANGED):
        resume_folds(run, trust_code=True, say=said.append)


@pytest.mark.parametrize("left", [".probe", "folds.json", ".lock"])
def test_where_a_run_was_killed_in_its_first_moments_one_can_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], left: str
) -> None:
    recipe, run = tmp_path / "toy.toml", tmp_path / "run"
    recipe.write_text(RECIPE)
    run.mkdir()
    (run / left).write_text("{}")
    assert invoke(["run", "--resume", str(run)]) == 2
    assert capsys.readouterr().err == (
        f"{run}: not a run directory: recipe.toml is missing; no run has begun here: start one with "
        f"soundbench run RECIPE --out {run}\n"
    )
    assert invoke(["run", str(recipe), "--out", str(run), "--set", "train.epochs=1"]) == 0
    assert invoke(["run", "--resume", str(run), "--trust-code"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"{run}: this run is finished; nothing to resume"


# Numbers that are none ------------------------------------------------------------------------------------------------


class SpoiltScores(ToyBackbone):
    """Gives NaN when it is not trained, from the batch norm's step `after` on.

    Args:
        after: how many steps it is sound.
    """

    def __init__(self, bands: int, *, after: int = 0) -> None:
        super().__init__(bands)
        self.after = after

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        frames, lengths = super().forward(features, lengths)
        spoilt = not self.training and int(self.norm.num_batches_tracked) > self.after  # type: ignore[arg-type]
        return frames * (float("nan") if spoilt else 1.0), lengths


class SpoilingOptimizer(torch.optim.SGD):
    """Writes NaN into the weights at one step."""

    last = 0
    count = 0

    def step(self, closure: Any = None) -> None:
        super().step(closure)
        self.count += 1
        if self.count == self.last:
            self.param_groups[0]["params"][0].data.view(-1)[0] = float("nan")


def spoiling(groups: Any, *, last: int = 0) -> torch.optim.Optimizer:
    """SGD.

    Args:
        last: the step at which a weight becomes NaN.
    """
    found = SpoilingOptimizer(groups, lr=0.01)
    found.last = last
    return found


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([f'backbone={{use="{HERE}:SpoiltScores"}}'], "4 of 4 validation clips have scores that are not finite; lower"),
        (
            [f'backbone={{use="{HERE}:SpoiltScores"}}', "split.validation=0"],
            "6 of 6 test clips have scores that are not finite; lower optimizer.lr, set train.max_grad_norm",
        ),
        (
            [f'optimizer={{use="{HERE}:spoiling", last=3}}', "split.validation=0"],
            "the network is no longer finite after step 3 (",
        ),
        (
            [f'optimizer={{use="{HERE}:spoiling", last=2}}', "train.checkpoint_steps=1"],
            "the network is no longer finite after step 2 (",
        ),
    ],
    ids=["first validation", "test", "last step", "before a checkpoint"],
)
def test_a_run_whose_numbers_are_not_finite_fails(tmp_path: Path, sets: list[str], message: str) -> None:
    recipe = tmp_path / "toy.toml"
    recipe.write_text(RECIPE)
    with pytest.raises(RunError) as caught:
        toy_run(recipe, tmp_path / "run", "train.epochs=1", *sets, say=silent)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "run" / "report.json").exists()
    for path in (tmp_path / "run").rglob("*.pt"):
        kept = checkpoints.load(path)["network"]
        assert all(bool(value.isfinite().all()) for value in kept.values())


def test_a_later_validation_that_is_not_finite_leaves_the_best_model(tmp_path: Path) -> None:
    recipe = tmp_path / "toy.toml"
    recipe.write_text(RECIPE)
    after = f'backbone={{use="{HERE}:SpoiltScores", after=4}}'
    with pytest.raises(RunError, match="validation clips have scores that are not finite"):
        toy_run(recipe, tmp_path / "run", after, say=silent)
    epochs = [row["epoch"] for row in files.read_rows(tmp_path / "run" / "history.csv")]
    best = checkpoints.load(tmp_path / "run" / "checkpoints" / "best.pt")
    assert epochs == [str(epoch) for epoch in range(1, len(epochs) + 1)]
    assert 1 <= best["progress"]["best_epoch"] <= len(epochs)
    _load(tmp_path / "run")


# One at a time --------------------------------------------------------------------------------------------------------


def test_of_two_that_resume_a_run_one_works_and_the_other_says_which(cut: Path) -> None:
    with held(cut), pytest.raises(RunError) as caught:
        resumed(cut)
    who = f"{cut}: process {os.getpid()} on {socket.gethostname()} works here since "
    assert str(caught.value).startswith(who)
    resumed(cut)


@pytest.mark.slow
def test_two_real_resumes_and_a_kill(cut: Path, finished: Path) -> None:
    arguments = ("run", "--resume", cut, "--trust-code")
    cached = {"SOUNDBENCH_CACHE": str(finished / "cache")}
    first = start(*arguments, SOUNDBENCH_TOY_DELAY="60", **cached)
    while "resumed after step" not in (cut / "log.txt").read_text():
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    second = command(*arguments, **cached)
    _, errors = second.communicate(timeout=100)
    assert second.returncode == 1
    assert re.fullmatch(
        rf"{cut}: process {first.pid} on \S+ works here since [^;]+; wait until it has ended, .*\n", errors
    )
    first.kill()
    first.communicate()
    third = command(*arguments, **cached)
    _, errors = third.communicate(timeout=100)
    assert third.returncode == 0, errors
    assert results(cut) == results(finished / "whole")
