from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import soundfile

from soundbench.contracts import Clip
from soundbench.data.audit import Audit, Check, audit
from soundbench.data.clips import ClipTable
from soundbench.data.splits import split
from soundbench.data.store import open_store
from soundbench.errors import BrokenPlugin, DataError, RecipeError
from soundbench.recipe import Audio, Split


class Listed:
    classes = ("dog", "cat")
    multilabel = False

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.given = clips

    def clips(self) -> Iterator[Clip]:
        yield from self.given


def noise(path: Path, seconds: float = 2.0, rate: int = 16000) -> str:
    """A file of noise, another for each name."""
    draws = np.random.default_rng(list(path.name.encode()))
    soundfile.write(path, draws.uniform(-0.1, 0.1, round(seconds * rate)), rate)
    return str(path)


def pair(folder: Path) -> list[Clip]:
    """Four sound clips, two of each class, in two folds."""
    return [
        Clip(noise(folder / f"{label}{fold}.wav"), (label,), fold=fold) for fold in (1, 2) for label in Listed.classes
    ]


def look(clips: Sequence[Clip], how: Split | None = None, **settings: Any) -> Audit:
    return look_at(Listed(clips), how or Split(test=[2], validation=0.0), **settings)


def look_at(dataset: Any, how: Split, **settings: Any) -> Audit:
    table = ClipTable.of(dataset)
    return audit(table, split(table, how), dataset, Audio(**{"window": 1.0, **settings}))


def found(audited: Audit) -> dict[str, Check]:
    """The checks that found something."""
    return {check.name: check for check in audited.checks if check.count and not check.name.startswith("classes: ")}


def test_good_sounds_raise_no_doubt(tmp_path: Path) -> None:
    audited = look(pair(tmp_path))

    assert found(audited) == {}
    assert not audited.errors
    assert audited.clips == {"train": 2, "validation": 0, "test": 2, "purged": 0}
    assert (audited.sounds, audited.seconds) == (4, 8.0)
    assert audited.classes["dog"] == {"train": 1, "validation": 0, "test": 1, "purged": 0}


def test_what_cannot_be_used_is_fatal_and_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "zero.wav").touch()
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    (tmp_path / "text.wav").write_text("not sound at all, whatever it is called")
    soundfile.write(tmp_path / "nan.wav", np.full(1000, np.nan, np.float32), 16000, subtype="FLOAT")
    names = ("gone.wav", "zero.wav", "none.wav", "text.wav", "nan.wav")
    audited = look(pair(tmp_path) + [Clip(str(tmp_path / name), ("dog",), fold=1) for name in names])

    checks = found(audited)

    assert audited.errors
    assert checks["missing"] == Check("missing", 1, (f"{tmp_path}/gone.wav",))
    assert checks["empty"].count == 2
    assert checks["empty"].examples[0] == f"{tmp_path}/zero.wav: is empty (0 bytes); a sound file is needed"
    assert checks["unreadable"].count == 2
    assert [example.split(": ")[0] for example in checks["unreadable"].examples] == [
        f"{tmp_path}/text.wav",
        f"{tmp_path}/nan.wav",
    ]
    assert "1000 of 1000 samples are NaN or infinite" in checks["unreadable"].examples[1]


def test_what_is_odd_is_counted_and_not_fatal(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(32000), 16000)
    soundfile.write(tmp_path / "clipped.wav", np.clip(3 * np.sin(np.arange(32000)), -1, 1), 16000)
    noise(tmp_path / "tiny.wav", seconds=0.005)
    noise(tmp_path / "short.wav", seconds=0.5)
    noise(tmp_path / "slow.wav", rate=8000)
    noise(tmp_path / "fast.wav", rate=44100)
    left = 0.3 * np.random.default_rng(5).standard_normal(32000)
    soundfile.write(tmp_path / "antiphase.wav", np.stack([left, -left], axis=1), 16000)
    names = ("silent", "clipped", "antiphase", "tiny", "short", "slow", "fast")
    audited = look(pair(tmp_path) + [Clip(f"{tmp_path}/{name}.wav", ("dog",), fold=1) for name in names])

    assert not audited.errors
    stems = {
        name: [Path(example.split(" (")[0]).stem for example in check.examples]
        for name, check in found(audited).items()
    }

    assert stems == {
        "silent": ["silent"],
        "clipped": ["clipped"],
        "channels cancel each other": ["antiphase"],
        "shorter than 10 ms": ["tiny"],
        "shorter than the window, 1 s": ["tiny", "short"],
        "other sample rate than most, 16000 Hz": ["slow", "fast"],
        "sample rate below audio.rate, 16000 Hz": ["slow"],
    }
    assert found(audited)["shorter than 10 ms"].examples == (f"{tmp_path}/tiny.wav (0.005 s)",)
    assert found(audited)["other sample rate than most, 16000 Hz"].examples[0] == f"{tmp_path}/slow.wav (8000 Hz)"


def test_a_peak_that_touches_full_scale_is_not_clipped(tmp_path: Path) -> None:
    samples = np.random.default_rng(9).uniform(-0.5, 0.5, 32000)
    samples[[100, 101, 5000]] = 1.0
    soundfile.write(tmp_path / "peak.wav", samples, 16000)

    assert "clipped" not in found(look([*pair(tmp_path), Clip(f"{tmp_path}/peak.wav", ("dog",), fold=1)]))


def test_the_same_sound_under_two_names_and_formats(tmp_path: Path) -> None:
    clips = pair(tmp_path)
    samples, rate = soundfile.read(tmp_path / "dog1.wav", dtype="int16")
    for name in ("copy.flac", "test.wav", "label.wav"):
        soundfile.write(tmp_path / name, samples, rate)
    clips += [
        Clip(f"{tmp_path}/copy.flac", ("dog",), fold=1),
        Clip(f"{tmp_path}/test.wav", ("dog",), fold=2),
        Clip(f"{tmp_path}/label.wav", ("cat",), fold=1),
    ]

    checks = found(look(clips))

    assert checks["duplicate sound"].count == 3
    assert checks["duplicate sound"].examples[0] == f"{tmp_path}/dog1.wav = {tmp_path}/copy.flac"
    assert checks["duplicates in different parts"].examples == (f"{tmp_path}/dog1.wav = {tmp_path}/test.wav",)
    assert checks["duplicates with different labels"].examples == (f"{tmp_path}/dog1.wav = {tmp_path}/label.wav",)


def test_silences_are_not_the_same_sound(tmp_path: Path) -> None:
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(32000), 16000)

    checks = found(look(pair(tmp_path) + [Clip(f"{tmp_path}/{name}.wav", ("dog",), fold=1) for name in "ab"]))

    assert set(checks) == {"silent"}
    assert checks["silent"].count == 2


def test_a_stretch_is_looked_at_alone_and_once(tmp_path: Path) -> None:
    path = noise(tmp_path / "long.wav", seconds=4.0)
    clips = [Clip(path, ("dog",), start=start, stop=start + 0.5, fold=1, group="g") for start in (0.0, 1.0, 0.0)]
    audited = look([*pair(tmp_path), *clips])

    assert audited.sounds == 6
    assert found(audited)["shorter than the window, 1 s"].examples == (
        f"{path} from 0 s (0.5 s)",
        f"{path} from 1 s (0.5 s)",
    )


def test_groups_on_two_sides_are_counted(tmp_path: Path) -> None:
    clips = [attrs.evolve(clip, group=clip.labels[0]) for clip in pair(tmp_path)]
    clips.append(Clip(noise(tmp_path / "more.wav"), ("dog",), fold=1))

    purged = look(clips)

    assert found(purged)["groups in more than one part"] == Check("groups in more than one part", 2, ("dog", "cat"))
    assert purged.clips == {"train": 1, "validation": 0, "test": 2, "purged": 2}


def test_classes_that_a_part_lacks_are_counted(tmp_path: Path) -> None:
    clips = [clip for clip in pair(tmp_path) if clip.labels == ("dog",) or clip.fold == 1]
    audited = look(clips)

    assert found(audited)["classes without a test clip"] == Check("classes without a test clip", 1, ("cat",))
    assert audited.checks[-1] == Check("classes: smallest and largest", 2, ("cat: 1", "dog: 2"))


def test_a_split_that_cannot_be_is_the_recipes_mistake(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"split.test: no fold 7; known: 1, 2"):
        look(pair(tmp_path), Split(test=[7]))


def test_a_dataset_that_reads_sound_itself_is_asked_for_it() -> None:
    class Made(Listed):
        fingerprint = "made"

        def read(self, clip: Clip) -> tuple[np.ndarray, int]:
            assert threading.active_count() <= before + 1
            return np.full(8000, float(clip.path) / 10, np.float32), 8000

    before = threading.active_count()
    clips = [Clip(str(n), ("dog",), fold=1 + n % 2) for n in range(8)]
    audited = look_at(Made(clips), Split(test=[2]))

    assert found(audited)["silent"].examples == ("0 (1 s)",)
    assert found(audited)["sample rate below audio.rate, 16000 Hz"].count == 8


class Odd(Listed):
    """A dataset that gives ones for every clip but the last, of which it gives something else."""

    fingerprint = "odd"

    def __init__(self, last: Any) -> None:
        super().__init__([Clip(str(number), ("dog",), fold=number % 2) for number in range(4)])
        self.last = last

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        if clip.path != "3":
            return np.full(16000, 0.1 + int(clip.path) / 10, np.float32), 16000
        if isinstance(self.last, Exception):
            raise self.last
        return self.last, 16000


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (np.full(9, np.nan, np.float32), "its dataset returns NaN or infinite samples"),
        (np.ones((1, 9), np.float32), "its dataset returns the shape (1, 9)"),
        (np.zeros(0, np.float32), "its dataset returns the shape (0,)"),
        (OSError("the archive is closed"), "the archive is closed"),
        (DataError("no such entry"), "no such entry"),
    ],
    ids=["nan", "two axes", "none", "OSError", "DataError"],
)
def test_what_a_run_refuses_of_a_dataset_is_unreadable_for_the_same_reason(
    tmp_path: Path, last: Any, reason: str
) -> None:
    dataset = Odd(last)
    audited = look_at(dataset, Split(test=[1]))
    store = open_store(ClipTable.of(dataset), dataset, 16000, tmp_path, "skip", say=lambda _: None)

    assert audited.errors
    assert store.errors[3].startswith(reason)
    assert found(audited)["unreadable"] == Check("unreadable", 1, (f"3: {store.errors[3]}",))


def test_a_rate_that_a_run_refuses_is_unreadable_for_the_same_reason(tmp_path: Path) -> None:
    """Five hours by the header: 8 samples a second become 16000."""
    slow = noise(tmp_path / "slow.wav", seconds=18000, rate=8)
    clips = [*pair(tmp_path), Clip(slow, ("dog",), fold=1)]
    audited = look(clips)
    store = open_store(ClipTable.of(Listed(clips)), Listed(clips), 16000, tmp_path, "skip", say=lambda _: None)

    assert audited.errors
    assert found(audited) == {"unreadable": Check("unreadable", 1, (f"{slow}: {store.errors[4]}",))}


def test_a_dataset_without_a_fingerprint_is_refused_as_a_run_refuses_it() -> None:
    class Nameless(Odd):
        fingerprint = property()

    with pytest.raises(BrokenPlugin, match="it also needs the property fingerprint"):
        look_at(Nameless(None), Split(test=[1]))


def test_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clips = [*pair(tmp_path), *(Clip(f"{tmp_path}/{n}.wav", ("dog",), fold=1) for n in range(3))]

    assert look(clips).to_text() == "\n".join(
        [
            "7 clips of 2 classes: 5 train, 2 test; 0.1 minutes of sound",
            "",
            "check                                     count  examples",
            "missing                                       3  0.wav; 1.wav; ...",
            "unreadable                                    0",
            "empty                                         0",
            "silent                                        0",
            "clipped                                       0",
            "channels cancel each other                    0",
            "shorter than 10 ms                            0",
            "shorter than the window, 1 s                  0",
            "other sample rate than most, 16000 Hz         0",
            "sample rate below audio.rate, 16000 Hz        0",
            "duplicate sound                               0",
            "duplicates in different parts                 0",
            "duplicates with different labels              0",
            "near duplicates                               0",
            "near duplicates in different groups           0",
            "near duplicates in different parts            0",
            "near duplicates with different labels         0",
            "clips listed more than once                   0",
            "clips listed with different labels            0",
            "clips listed again in another part            0",
            "groups in more than one part                  0",
            "classes without a training clip               0",
            "classes without a test clip                   0",
            "classes that differ in case alone             0",
            "classes: smallest and largest                 2  cat: 2; dog: 5",
        ]
    )


@pytest.mark.slow
def test_real_sounds(data: Path) -> None:
    """Every sound of folds 1 and 2 of UrbanSound8K decodes, and none is there twice with the same samples."""
    clips = [
        Clip(str(path), (Listed.classes[number % 2],), fold=int(path.parent.name[4:]), group=path.name.split("-")[0])
        for number, path in enumerate(sorted((data / "UrbanSound8K/audio").glob("fold[12]/*.wav")))
    ]
    audited = look(clips, window=3.0)

    assert not audited.errors
    assert audited.sounds == 1761
    checks = found(audited)
    assert set(checks) == {"shorter than the window, 3 s", *(name for name in checks if name.startswith("near"))}
    # Five shots, of each a clip of two recordings: they begin 0.3855 s apart in both, so two devices were running.
    apart = checks["near duplicates in different groups"].examples
    assert len(apart) == checks["near duplicates in different parts"].count == 5
    assert all(re.search(r"/fold1/197318-6-\S+ = \S+/fold2/197320-6-", example) for example in apart)


def test_near_duplicates_are_told_by_part_group_and_label(tmp_path: Path) -> None:
    clips = pair(tmp_path)
    samples, rate = soundfile.read(tmp_path / "dog1.wav")
    other, _ = soundfile.read(tmp_path / "cat1.wav")
    soundfile.write(tmp_path / "softer.wav", samples / 2, rate)
    soundfile.write(tmp_path / "cut.ogg", samples[: rate + 99], rate, format="OGG", subtype="VORBIS")
    soundfile.write(tmp_path / "grouped.wav", other / 2, rate)
    clips = [attrs.evolve(clip, group="one") if clip.path.endswith("cat1.wav") else clip for clip in clips]
    clips += [
        Clip(f"{tmp_path}/softer.wav", ("dog",), fold=2),
        Clip(f"{tmp_path}/cut.ogg", ("cat",), fold=1),
        Clip(f"{tmp_path}/grouped.wav", ("cat",), fold=1, group="one"),
    ]

    checks = found(look(clips))

    assert "duplicate sound" not in checks
    assert checks["near duplicates"].count == 4
    shown = checks["near duplicates in different groups"]
    assert shown.count == 3
    assert f"{tmp_path}/dog1.wav = {tmp_path}/softer.wav (copy, 1.00)" in shown.examples
    assert any(one.startswith(f"{tmp_path}/dog1.wav = {tmp_path}/cut.ogg (cut, 0.9") for one in shown.examples)
    assert checks["near duplicates in different parts"].count == 2
    assert checks["near duplicates with different labels"].count == 2


def test_sound_with_equal_samples_is_no_near_duplicate_as_well(tmp_path: Path) -> None:
    clips = pair(tmp_path)
    samples, rate = soundfile.read(tmp_path / "dog1.wav", dtype="int16")
    soundfile.write(tmp_path / "copy.flac", samples, rate)
    checks = found(look([*clips, Clip(f"{tmp_path}/copy.flac", ("dog",), fold=1)]))

    assert checks["duplicate sound"].count == 1
    assert not [name for name in checks if name.startswith("near")]
