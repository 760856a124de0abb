"""Room on the disk is looked at before it runs out."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.disk import leave
from helpers.runs import RECIPE, toy_run, weights

import soundbench
from soundbench import files
from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.data.store import open_store
from soundbench.errors import DataError, RunError
from soundbench.training import checkpoints

pytestmark = pytest.mark.usefixtures("cache")
Usage = namedtuple("Usage", "total used free")


class Takes:
    """Stretches of files of 1 s at 44.1 kHz; one that is whole, one of half a second, one that is no sound."""

    multilabel = False
    classes = ("a",)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("whole", "half"):
            soundfile.write(folder / f"{name}.wav", np.zeros(44100), 44100)
        (folder / "none.wav").write_bytes(b"no sound")

    def clips(self) -> list[Clip]:
        half = Clip(str(self.folder / "half.wav"), ("a",), 0.25, 0.75)
        return [Clip(str(self.folder / f"{name}.wav"), ("a",)) for name in ("whole", "none")] + [half]


def test_sound_that_will_not_fit_is_said_before_any_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Takes(tmp_path)
    needed = round(1.5 * 16000 * 2)
    leave(monkeypatch, needed - 1)
    with pytest.raises(DataError) as caught:
        open_store(ClipTable.of(dataset), dataset, 16000, tmp_path / "cache", "skip", print)
    assert str(caught.value) == (
        f"{tmp_path / 'cache'}: the sound needs about 0.0 MB, but 0.0 MB are free; free some space, "
        "set SOUNDBENCH_CACHE to another folder, or use --no-cache"
    )
    assert not list((tmp_path / "cache").glob("tmp-*"))
    leave(monkeypatch, needed)
    store = open_store(ClipTable.of(dataset), dataset, 16000, tmp_path / "cache", "skip", print)
    assert store.lengths.tolist() == [16000, 0, 8000]


def test_a_checkpoint_that_will_not_fit_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"network": {"a": torch.zeros(1000)}, "optimizer": {"state": [torch.zeros(500, dtype=torch.float64)]}}
    leave(monkeypatch, 7999)
    with pytest.raises(RunError) as caught:
        checkpoints.save(tmp_path, 1, state)
    assert str(caught.value) == f"{tmp_path}/step-00000001.pt: the disk is full: 0.0 MB needed, 0.0 MB free"
    assert not list(tmp_path.iterdir())
    leave(monkeypatch, 8000)
    assert checkpoints.save(tmp_path, 1, state).exists()
    assert files.room(tmp_path / "not" / "there") == 8000


def test_a_run_that_the_disk_has_no_room_for_goes_on_once_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "toy.toml"
    recipe.write_text(RECIPE)
    whole = toy_run(recipe, tmp_path / "whole")
    said: list[str] = []
    save = checkpoints.save

    def fills(folder: Path, step: int, state: dict) -> Path:
        if step > 7:
            leave(monkeypatch, 10)
        return save(folder, step, state)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", fills)
        with pytest.raises(RunError, match=r"step-00000014.pt: the disk is full: .* needed, .* free"):
            toy_run(recipe, tmp_path / "cut", say=said.append)
    monkeypatch.undo()
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(tmp_path / "cache"))
    assert said[-1].startswith("stopped; to resume: ")
    soundbench.resume(tmp_path / "cut", trust_code=True, say=said.append)
    assert weights(tmp_path / "cut") == weights(whole)
