"""A look-up of labels by recording, on metadata made by hand: the baseline that hears nothing."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from soundbench.contracts import Clip

ROOT = Path(__file__).parents[2]


@pytest.fixture
def leak(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("leak")


def clip(place: int, recording: str, label: str, fold: int = 1) -> Clip:
    return Clip(f"{place}.wav", (label,), fold=fold, group=recording)


def test_a_label_is_looked_up_by_recording_or_else_the_commonest(leak: ModuleType) -> None:
    train = [clip(1, "a", "siren"), clip(2, "a", "siren"), clip(3, "a", "drill"), clip(4, "b", "drill")]
    train += [clip(5, "c", "drill"), clip(6, "d", "horn")]
    test = [clip(7, "a", "siren"), clip(8, "b", "horn"), clip(9, "new", "drill"), clip(10, "d", "horn")]
    split = leak.Split(train, test)
    assert leak.look_up(split) == ["siren", "drill", "drill", "horn"]
    assert split.shared == 0.75
    figure = leak.accuracy([one.labels[0] for one in test], leak.look_up(split), [one.group for one in test])
    assert figure["value"] == 0.75
    assert figure["low"] < 0.75 < figure["high"]


def test_every_tenth_clip_from_the_first_is_tested(leak: ModuleType) -> None:
    clips = [clip(place, str(place // 4), "siren", fold=place % 2 + 1) for place in range(31)]
    split = leak.every_tenth(clips)
    assert [one.path for one in split.test] == ["0.wav", "10.wav", "20.wav", "30.wav"]
    assert sorted([*split.train, *split.test], key=clips.index) == clips
    by_fold = leak.by_fold(clips, 2)
    assert {one.fold for one in by_fold.train} == {1}
    assert {one.fold for one in by_fold.test} == {2}
