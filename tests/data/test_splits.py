from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from helpers import TESTS
from helpers.clip_tables import some_clips, table_of

from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable, Fold
from soundbench.data.splits import CROSSING, PARTS, SplitResult, settled, split
from soundbench.errors import RecipeError
from soundbench.recipe import Split


def groups_in(table: ClipTable, result: SplitResult, part: str) -> set[int]:
    return set(table.group_codes[result.rows(part)].tolist())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("test", [[3], [1, 5], 0.2])
@pytest.mark.parametrize("validation", [[2], 0.1, 0.3])
def test_no_group_crosses(test: list[int] | float, validation: list[int] | float, seed: int) -> None:
    table = table_of(some_clips(seed))
    result = split(table, Split(test, validation, "purge", seed=seed))

    train, held, tested = (groups_in(table, result, part) for part in ("train", "validation", "test"))

    assert train
    assert held
    assert tested
    assert not train & tested
    assert not train & held
    assert not held & tested
    assert sum(result.counts().values()) == len(table)


@pytest.mark.parametrize("seed", range(5))
def test_a_share_is_of_the_groups_and_leaves_crossing_to_nobody(seed: int) -> None:
    table = table_of(some_clips(seed))
    result = split(table, Split(0.2, 0.1, "refuse", seed=seed))

    count = len(table.groups.names)

    assert abs(len(groups_in(table, result, "test")) - 0.2 * count) <= 2
    assert abs(len(groups_in(table, result, "validation")) - 0.1 * 0.8 * count) <= 2
    assert result.crossing_groups == result.crossing_clips == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_share_of_the_groups_is_about_that_share_of_each_class(seed: int) -> None:
    table = table_of(some_clips(seed))
    result = split(table, Split(0.25, 0.0, "purge", seed=seed))

    shares = table.targets(result.rows("test")).sum(0) / table.targets(np.arange(len(table))).sum(0)

    assert result.classes_without_test == ()
    assert np.all(np.abs(shares - 0.25) < 0.12)


def test_every_class_of_two_groups_is_on_both_sides_and_one_of_a_single_group_is_trained_on() -> None:
    clips = [
        Clip(f"{label}{number}.wav", (label,))
        for label, count in (("a", 20), ("b", 2), ("c", 1))
        for number in range(count)
    ]
    result = split(table_of(clips), Split(0.1, 0.0, "purge"))

    assert result.classes_without_test == ("c",)
    assert result.classes_without_train == ()
    assert result.counts() == {"train": 20, "validation": 0, "test": 3, "purged": 0}


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    table = table_of(some_clips(0))
    parts = [split(table, Split(0.2, 0.1, "purge", seed=seed)).part for seed in (7, 7, 8)]

    assert np.array_equal(parts[0], parts[1])
    assert not np.array_equal(parts[0], parts[2])


def test_neither_the_order_of_the_clips_nor_the_folder_they_lie_in_matters() -> None:
    clips = [Clip(f"/data/here/{label}/{number}.wav", (label,)) for label in "abc" for number in range(30)]
    moved = [Clip(clip.path.replace("/data/here", "D:\\elsewhere").replace("/", "\\"), clip.labels) for clip in clips]
    mixed = [moved[place] for place in np.random.default_rng(0).permutation(len(moved))]

    tests = []
    for given in (clips, mixed):
        table = table_of(given)
        rows = split(table, Split(0.2, 0.1, "purge", seed=3)).rows("test")
        tests.append({tuple(str(table.paths[row]).replace("\\", "/").split("/")[-2:]) for row in rows})

    assert tests[0] == tests[1]


def test_a_split_is_the_same_on_every_machine() -> None:
    """The rows written here were drawn on another day; a change of the draws would change everybody's numbers."""
    clips = [Clip(f"{label}/{number}.wav", (label,)) for label in "abc" for number in range(10)]
    result = split(table_of(clips), Split(0.2, 0.2, "purge"))

    assert result.rows("test").tolist() == [1, 5, 10, 18, 22, 24]
    assert result.rows("validation").tolist() == [2, 7, 11, 12, 21, 27]


def test_a_split_does_not_depend_on_the_hash_seed_of_the_process() -> None:
    program = (
        "from helpers.clip_tables import some_clips, table_of; from soundbench.recipe import Split\n"
        "from soundbench.data.splits import split\n"
        "print(split(table_of(some_clips(0)), Split(0.2, 0.1, 'purge')).part.tolist())"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(TESTS)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]

    assert found[0] == found[1]


BESIDE = [
    Clip("1.wav", ("a",), fold=1, group="x"),
    Clip("2.wav", ("a",), fold=2, group="x"),
    Clip("3.wav", ("b",), fold=2, group="y"),
    Clip("4.wav", ("b",), fold=3, group="y"),
    Clip("5.wav", ("a",), fold=3, group="z"),
    Clip("6.wav", ("a",), fold=3, group="x"),
]


def test_purge_takes_crossing_groups_out_of_training_and_validation() -> None:
    result = split(table_of(BESIDE), Split([1], [2], "purge"))

    assert [PARTS[code] for code in result.part] == ["test", "purged", "validation", "purged", "train", "purged"]
    assert (result.crossing_groups, result.crossing_clips, result.crossing_names) == (2, 3, ("x", "y"))


def test_allow_leaves_and_counts_them() -> None:
    result = split(table_of(BESIDE), Split([1], [2], "allow"))

    assert [PARTS[code] for code in result.part] == ["test", "validation", "validation", "train", "train", "train"]
    assert (result.crossing_groups, result.crossing_clips) == (2, 3)


def test_refuse_names_the_first_of_them_and_their_number() -> None:
    clips = [Clip(f"{group}{fold}.wav", ("a",), fold=fold, group=f"g{group}") for group in range(7) for fold in (1, 2)]

    with pytest.raises(RecipeError) as caught:
        split(table_of(clips), Split([1], 0.0, "refuse"), source="mine.toml")

    assert str(caught.value) == (
        'mine.toml: split.crossing: 7 groups in more than one part: "g0", "g1", "g2", "g3", "g4", ...'
    )


@pytest.mark.parametrize("crossing", ["purge", "allow", "refuse"])
def test_a_share_of_validation_takes_no_group_that_is_also_in_test(crossing: str) -> None:
    clips = [Clip(f"{n}.wav", ("a",), fold=2, group=f"g{n}") for n in range(10)] + [
        Clip(f"t{n}.wav", ("a",), fold=1, group=f"g{n}" if crossing != "refuse" else f"t{n}") for n in range(5)
    ]
    table = table_of(clips)
    result = split(table, Split([1], 0.5, crossing))  # type: ignore[arg-type]

    assert not groups_in(table, result, "validation") & groups_in(table, result, "test")


FOLDED = [Clip(f"{n}.wav", ("abc"[n % 3],), fold=fold) for n, fold in enumerate([1, 2, 10, "dev", 1, 2, 10, "dev"])]
PLAIN = [Clip(f"{n}.wav", ("abc"[n],)) for n in range(3)]


@pytest.mark.parametrize(
    ("clips", "test", "validation", "message"),
    [
        (FOLDED, [3], 0.1, 'split.test: no fold 3; known: 1, 2, 10, "dev"'),
        (FOLDED, ["1"], 0.1, 'split.test: no fold "1"; known: 1, 2, 10, "dev"'),
        (FOLDED, [1], [2, "train"], 'split.validation: no fold "train"; known: 1, 2, 10, "dev"'),
        (FOLDED, [1, 2, 10, "dev"], [], "split: no clips left for training"),
        (PLAIN, [1], 0.1, "split.test: no fold 1: the dataset has no folds; give a fraction, such as 0.2"),
        (
            PLAIN,
            0.2,
            0.1,
            "split.test: no clips for the test set: no class has two groups, so none can be held out",
        ),
    ],
)
def test_splits_that_cannot_be_are_refused(
    clips: list[Clip], test: list[int | str] | float, validation: list[int | str] | float, message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        split(table_of(clips), Split(test, validation, "purge"))

    assert str(caught.value) == f"<python>: {message}"


@pytest.mark.parametrize(
    ("test", "validation", "message"),
    [
        ([], 0.1, "test must name at least one fold, is []; for no test set write 0"),
        (-0.1, 0.1, "test must be a fraction at least 0 and below 1, is -0.1"),
        (1, 0.1, "test must be a fraction at least 0 and below 1, is 1; for fold 1 write [1]"),
        (0.2, -0.5, "validation must be a fraction at least 0 and below 1, is -0.5"),
        ([1, 2], [2], "validation must not use folds of test; both have 2"),
    ],
)
def test_what_no_table_can_be_split_by_is_refused_before_there_is_one(
    test: list[int | str] | float, validation: list[int | str] | float, message: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared)
        Split(test, validation)

    assert str(caught.value) == message


def test_a_recipe_may_name_each_rule_for_crossing_groups_and_no_other() -> None:
    assert tuple(CROSSING) == get_args(get_type_hints(Split)["crossing"])


def test_all_that_is_wrong_is_reported_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        split(table_of(FOLDED), Split([3], [4], "purge"))

    assert [problem.key for problem in caught.value.problems] == ["split.test", "split.validation"]


def test_a_class_without_test_clip_is_counted_and_no_error() -> None:
    clips = [Clip("1.wav", ("a",), fold=1), Clip("2.wav", ("a",), fold=2), Clip("3.wav", ("b",), fold=2)]
    result = split(table_of(clips), Split([1], [], "purge"))

    assert result.classes_without_test == ("b", "c")
    assert result.classes_without_train == ("c",)
    assert result.classes_without_validation == ("a", "b", "c")


def test_when_the_purge_leaves_nothing_to_train_on_it_says_so() -> None:
    clips = [Clip(f"{n}.wav", ("a",), fold=n % 2, group="one") for n in range(4)]

    with pytest.raises(RecipeError) as caught:
        split(table_of(clips), Split([0], [], "purge"))

    assert str(caught.value) == "<python>: split: no clips left for training (2 were purged)"


def test_several_labels_are_stratified_by_the_rarest() -> None:
    clips = [Clip(f"{n}.wav", ("a", "b") if n % 10 == 0 else ("a",)) for n in range(100)]
    table = table_of(clips, multilabel=True)
    tested = table.targets(split(table, Split(0.2, 0.1, "purge")).rows("test")).sum(0)

    assert tested.tolist() == [20, 2, 0]


class Urban:
    """The metadata of UrbanSound8K alone; no sound is needed for a split."""

    multilabel = False

    def __init__(self, root: Path) -> None:
        with (root / "UrbanSound8K/metadata/UrbanSound8K.csv").open(newline="") as file:
            self.rows = list(csv.DictReader(file))
        self.classes = sorted({row["class"] for row in self.rows})

    def clips(self) -> Iterator[Clip]:
        for row in self.rows:
            yield Clip(row["slice_file_name"], (row["class"],), fold=int(row["fold"]), group=row["fsID"])


@pytest.fixture(scope="module")
def urban(data: Path) -> ClipTable:
    return ClipTable.of(Urban(data))


def test_five_recordings_of_urbansound8k_cross_its_folds(urban: ClipTable) -> None:
    crossing: set[str] = set()
    for fold in urban.folds_in_order():
        result = split(urban, Split([fold], 0.0, "allow"))
        both = groups_in(urban, result, "train") & groups_in(urban, result, "test")
        crossing |= {urban.groups.names[code] for code in both}

    assert crossing == {"77751", "106905", "132016", "176638", "180937"}
    assert sum(group in crossing for group in urban.groups) == 152


def test_urbansound8k_is_purged_of_what_crosses_fold_1(urban: ClipTable) -> None:
    result = split(urban, Split([1], 0.1, "purge"))

    assert result.counts()["test"] == 873
    assert result.counts()["purged"] == result.crossing_clips == 31
    assert set(result.crossing_names) == {"106905", "132016", "176638", "180937"}
    assert not groups_in(urban, result, "train") & groups_in(urban, result, "test")


def test_urbansound8k_refused_for_its_crossing_recordings(urban: ClipTable) -> None:
    with pytest.raises(RecipeError) as caught:
        split(urban, Split([2], 0.1, "refuse"), source="urban.toml")

    assert str(caught.value) == 'urban.toml: split.crossing: 1 group in more than one part: "77751"'


def test_validation_of_urbansound8k_has_a_tenth_of_every_class(urban: ClipTable) -> None:
    result = split(urban, Split([10], 0.1, "purge"))
    rest = np.flatnonzero(result.part != PARTS.index("test"))
    shares = urban.targets(result.rows("validation")).sum(0) / urban.targets(rest).sum(0)

    assert np.all((shares > 0.06) & (shares < 0.15))


# Splits that the data bring -------------------------------------------------------------------------------------------


def folded(*folds: Fold | None) -> ClipTable:
    """Six clips of each fold, of two classes."""
    clips = [Clip(f"{fold}-{number}.wav", ("ab"[number % 2],), fold=fold) for fold in folds for number in range(6)]
    return table_of(clips, ("a", "b"))


@pytest.mark.parametrize(
    ("folds", "test", "validation"),
    [
        (("train", "val", "test"), ["test"], ["val"]),
        (("Training", "Validation", "Testing"), ["Testing"], ["Validation"]),
        (("train", "valid", "eval"), ["eval"], ["valid"]),
        (("TRAIN", "DEV", "TEST"), ["TEST"], ["DEV"]),
        (("train", "eval", "test"), ["test"], ["eval"]),
        (("train", "test"), ["test"], 0.1),
        (("dev", "eval"), ["eval"], 0.1),
        ((None, "test"), ["test"], 0.1),
        (("train", "extra", "val", "test"), ["test"], ["val"]),
    ],
)
def test_folds_with_the_names_of_parts_are_the_parts(folds: Any, test: Any, validation: Any) -> None:
    table = folded(*folds)
    how, said = settled(table, Split())
    assert (how.test, how.validation) == (test, validation)
    assert said.startswith(f'split: by the folds of the data: test on "{test[0]}", validation on ')
    parts = split(table, Split()).part
    assert {table.folds[row] for row in np.flatnonzero(parts == PARTS.index("test"))} == set(test)
    if isinstance(validation, list):
        assert {table.folds[row] for row in np.flatnonzero(parts == PARTS.index("validation"))} == set(validation)
    assert np.array_equal(split(table, how).part, parts)


@pytest.mark.parametrize("folds", [(1, 2, 3), ("a", "b"), ("train", "val"), ("fold1", "fold2")])
def test_other_folds_are_not_used_and_that_is_said(folds: Any) -> None:
    table = folded(*folds)
    how, said = settled(table, Split())
    assert (how.test, how.validation) == (0.2, 0.1)
    assert said.startswith("split: the folds of the data (")
    assert "are not used: 20% of the groups are the test set; split.test = [" in said
    assert settled(table, Split(test=0.5))[1].startswith("split: the folds of the data (")


def test_a_split_of_the_recipe_goes_before_that_of_the_data() -> None:
    table = folded("train", "val", "test")
    assert settled(table, Split(test=["val"], validation=0.2)) == (Split(test=["val"], validation=0.2), "")
    assert settled(table, Split(test=["test"]))[0] == Split(test=["test"], validation=["val"])
    assert settled(folded(None), Split()) == (Split(test=0.2, validation=0.1), "")
