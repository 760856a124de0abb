"""The augmentation `audiomentations` keeps its contract with any transform, refuses in a line what it cannot use."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import audiomentations
import numpy as np
import pytest
import soundfile
import torch
from soundbench_audiomentations import Audiomentations

from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench.errors import DataError, MissingDataError
from soundbench.testing import check_component

RATE = 16_000


@pytest.mark.parametrize(
    ("transform", "options"),
    [
        ("AddGaussianSNR", {"min_snr_db": 10.0}),
        ("AddColorNoise", {}),
        ("LowPassFilter", {}),
        ("TimeStretch", {"leave_length_unchanged": False}),
        ("PitchShift", {}),
        ("Trim", {}),
        ("RepeatPart", {}),
        ("AdjustDuration", {"duration_seconds": 0.3}),
        ("Normalize", {}),
        ("TanhDistortion", {}),
        ("Reverse", {}),
    ],
)
def test_the_contract(transform: str, options: dict[str, Any]) -> None:
    check_component(
        "augmentation", "audiomentations", options={"transform": transform, "options": options, "chance": 0.8}
    )


@pytest.fixture
def noises(tmp_path: Path) -> Path:
    """Two noises in a folder each, with another rate than that of the run."""
    for name in ("a", "b"):
        noise = np.random.default_rng(ord(name)).normal(0, 0.1, 2 * RATE)
        (tmp_path / "noises" / name).mkdir(parents=True)
        soundfile.write(tmp_path / "noises" / name / "noise.wav", noise, 22_050)
    return tmp_path / "noises"


@pytest.mark.parametrize("transform", ["AddBackgroundNoise", "AddShortNoises", "ApplyImpulseResponse"])
def test_the_contract_of_those_with_files(transform: str, noises: Path) -> None:
    check_component(
        "augmentation", "audiomentations", options={"transform": transform, "sounds": noises, "chance": 0.8}
    )


def batch(rows: int, first: int = 0) -> Batch:
    """Rows of one second of noise, each the same whatever the batch; their positions begin with `first`."""
    data = torch.stack([torch.randn(RATE, generator=torch.Generator().manual_seed(first + row)) for row in range(rows)])
    places = torch.arange(first, first + rows)
    return Batch(0.1 * data, torch.full((rows,), RATE), torch.ones(rows, 1), places, places)


def test_a_row_is_what_the_library_makes_of_it_from_the_rows_own_seed() -> None:
    before, chance = batch(3), Chance(1, 2, "augmentation[0]")
    after = Audiomentations(RATE, transform="Gain", chance=1.0)(before, chance)
    seeds = chance.bits(before.position, "seed").tolist()
    assert len({float((after.data[row] / before.data[row]).mean()) for row in range(3)}) == 3
    for row, seed in enumerate(seeds):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        expected = audiomentations.Gain(p=1.0)(before.data[row].numpy(), RATE)
        np.testing.assert_array_equal(after.data[row].numpy(), expected)


def test_a_row_is_the_same_whatever_order_a_folder_is_listed_in(noises: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = os.walk

    def augmented(backwards: bool) -> torch.Tensor:
        def ordered(*arguments: Any, **more: Any) -> Iterator[tuple[str, list[str], list[str]]]:
            for root, folders, files in walk(*arguments, **more):
                folders.sort(reverse=backwards)
                yield root, folders, files

        monkeypatch.setattr(os, "walk", ordered)
        augmentation = Audiomentations(RATE, transform="AddBackgroundNoise", sounds=noises, chance=1.0)
        data: torch.Tensor = augmentation(batch(8), Chance(1, 1, "augmentation[0]")).data
        return data

    assert torch.equal(augmented(backwards=True), augmented(backwards=False))


def test_it_is_the_same_in_another_process() -> None:
    augmentation = Audiomentations(RATE, transform="AddGaussianSNR", options={"min_snr_db": 10.0}, chance=1.0)
    copy, chance = pickle.loads(pickle.dumps(augmentation)), Chance(1, 1, "augmentation[0]")
    assert torch.equal(copy(batch(2), chance).data, augmentation(batch(2), chance).data)


def test_how_many_rows_are_changed_is_the_chance() -> None:
    before = batch(400)
    after = Audiomentations(RATE, transform="PolarityInversion", chance=0.25)(before, Chance(1, 1, "augmentation[0]"))
    changed = (after.data != before.data).any(1)
    assert 70 <= int(changed.sum()) <= 130  # 100, three and a half deviations to each side
    assert torch.equal(after.data[changed], -before.data[changed])


def test_rows_do_not_become_longer() -> None:
    before = batch(4)
    options: dict[str, bool | int | float | str] = {"duration_seconds": 3.0}
    after = Audiomentations(RATE, transform="AdjustDuration", options=options, chance=1.0)(before, Chance(1, 1, "x"))
    assert torch.equal(after.data, before.data)
    options = {"duration_seconds": 0.5}
    after = Audiomentations(RATE, transform="AdjustDuration", options=options, chance=1.0)(before, Chance(1, 1, "x"))
    assert after.lengths.tolist() == [RATE // 2] * 4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"transform": "AddGausianSNR"},
            r"^transform must be one of audiomentations, is 'AddGausianSNR'; .*AddGaussianSNR",
        ),
        ({"transform": "Lambda"}, r"^transform must be one of audiomentations, is 'Lambda'"),
        (
            {"options": {"min_snr": 3.0}},
            r"^options must be those of AddGaussianSNR, has 'min_snr'; did you mean 'min_snr_db'",
        ),
        ({"options": {"p": 0.3}}, r"^options must not have 'p': it is the key 'chance' beside them$"),
        ({"options": {"min_snr_db": 50.0}}, r"^options must be what AddGaussianSNR takes: "),
        ({"transform": "AddBackgroundNoise"}, r"^sounds must be given, since AddBackgroundNoise needs them$"),
        ({"sounds": Path("noises")}, r"^sounds must not be given, since AddGaussianSNR takes none$"),
        ({"transform": "OneOf"}, r"^transform must be one of audiomentations, is 'OneOf'; it has AddBackgroundNoise, "),
        (
            {"transform": "TimeMask", "options": {"x": 5}},
            r"^options must be those of TimeMask, has 'x'; TimeMask has min_band_part, ",
        ),
        (
            {"transform": "RoomSimulator"},
            r"^options must have use_ray_tracing = false for RoomSimulator, since its rays are drawn from ",
        ),
        ({"chance": 1.5}, r"^chance must be from 0 to 1, is 1\.5$"),
    ],
)
def test_what_it_cannot_use_is_refused_in_one_line(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text) as error:
        Audiomentations(RATE, **options)
    assert "\n" not in str(error.value)


def test_files_are_asked_for_before_training(tmp_path: Path) -> None:
    augmentation = Audiomentations(RATE, transform="AddBackgroundNoise", sounds=tmp_path / "none")
    with pytest.raises(MissingDataError, match=rf"^{tmp_path}/none: no such file or folder; sounds must name one$"):
        augmentation.prepare()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("no sound")
    with pytest.raises(DataError, match=rf"^{tmp_path}/text: no sound file of a format that audiomentations reads"):
        Audiomentations(RATE, transform="AddBackgroundNoise", sounds=tmp_path / "text").prepare()


@pytest.mark.parametrize(
    ("frames", "text"), [(None, "audiomentations cannot read this file: "), (0, "there is no sound in this file$")]
)
def test_each_file_is_asked_for_before_training(noises: Path, frames: int | None, text: str) -> None:
    for name in "cdefgh":  # so many that the first row hardly draws the odd one
        soundfile.write(noises / f"{name}.wav", np.full(RATE, 0.1), RATE)
    odd = noises / "odd.wav"
    if frames is None:
        odd.write_text("no sound")
    else:
        soundfile.write(odd, np.zeros(frames), RATE)
    with pytest.raises(DataError, match=rf"^{odd}: {text}"):
        Audiomentations(RATE, transform="AddBackgroundNoise", sounds=noises).prepare()


def test_a_row_that_cannot_be_transformed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    augmentation = Audiomentations(RATE, transform="Gain", chance=1.0)
    augmentation.prepare()

    def fails(*_: Any) -> None:
        raise ArithmeticError("too\nloud")

    monkeypatch.setattr(audiomentations.Gain, "apply", fails)
    with pytest.raises(DataError, match=r"^Gain cannot be computed: too loud$"):
        augmentation(batch(1), Chance(1, 1, "augmentation[0]"))


RECIPE = """
backbone = "tdnn"
[dataset]
use = "tones"
clips = 60
[split]
test = [5]
[audio]
window = 1.0
[[augmentation]]
use = "audiomentations"
transform = "AddBackgroundNoise"
sounds = "noises"
options = { min_snr_db = 10, max_snr_db = 20.5 }
[train]
epochs = 1
batch_size = 16
"""


def test_a_recipe_trains_with_it_and_misses_its_files_in_one_line(noises: Path) -> None:
    folder = noises.parent
    (folder / "tones.toml").write_text(RECIPE)
    command = [sys.executable, "-m", "soundbench", "run", "tones.toml", "--cache", "cache", "--out"]
    done = subprocess.run([*command, "run"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "arning" not in done.stderr
    noises.rename(folder / "elsewhere")
    done = subprocess.run([*command, "again"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    text = f"augmentation[0] (audiomentations): {noises}: no such file or folder; sounds must name one\n"
    assert done.stderr.endswith(text)
