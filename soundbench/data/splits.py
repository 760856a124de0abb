"""Split a clip table into training, validation and test set, without a recording in two of them.

A split that the recipe leaves out is that of the data: their folds, if these are named like parts, or else fractions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import attrs
import numpy as np
import numpy.typing as npt

from soundbench.chance import Chance
from soundbench.data.clips import ClipTable, Codes, Fold
from soundbench.errors import Problem, RecipeError
from soundbench.recipe import Split

__all__ = ["CROSSING", "PARTS", "ClipTable", "CrossingGroups", "SplitResult", "absent", "settled", "split"]

PARTS = ("train", "validation", "test", "purged")
TRAIN, VALIDATION, TEST, PURGED = range(len(PARTS))

EXAMPLES = 5  # how many groups a message names

# The fractions where neither the recipe nor the data say what to test and to validate on.
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1

# How folds are named that are parts of a split.
EVALUATION = ("eval", "evaluation", "evaluate")
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn", "tr"),
    "validation": ("validation", "validate", "valid", "val", "vali", "dev", "devel", "development"),
    "test": ("test", "testing", "tst", "te", *EVALUATION),
}

PartCodes = npt.NDArray[np.int8]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Side = list[Fold] | float | Literal["auto"]


@attrs.frozen(eq=False)
class SplitResult:
    """The part of each clip, and what was found while splitting.

    Attributes:
        part: `(N,)` int8 indices into `PARTS`.
        crossing_groups: the number of groups in more than one part.
        crossing_clips: the number of their clips that are purged from training and validation, or would be.
        crossing_names: the first few of these groups.
        classes_without_train: classes without a training clip; the other two likewise.
    """

    part: PartCodes
    crossing_groups: int
    crossing_clips: int
    crossing_names: tuple[str, ...]
    classes_without_train: tuple[str, ...]
    classes_without_validation: tuple[str, ...]
    classes_without_test: tuple[str, ...]

    def rows(self, part: str) -> Rows:
        """The rows of the table in a part, ascending, int64."""
        return np.flatnonzero(self.part == PARTS.index(part))

    def counts(self) -> dict[str, int]:
        """The number of clips in each part."""
        return {name: int((self.part == code).sum()) for code, name in enumerate(PARTS)}


@attrs.frozen(eq=False)
class CrossingGroups:
    """The groups that are in more than one part of a split.

    Attributes:
        clips: `(N,)` bool: their clips in training if the group is also in validation or test, and in validation if it
            is also in test.
        groups: the number of groups.
        names: the first few of them.
    """

    clips: Mask
    groups: int
    names: tuple[str, ...]


def settled(table: ClipTable, how: Split) -> tuple[Split, str]:
    """The `[split]` table with each `auto` replaced, and a line for the log if the data have folds.

    Folds with the names of parts, such as `train`, `val` and `test`, are the parts. If none is for the test, a fraction
    is tested; if none is for validation, a fraction of the rest validates.
    """
    folds = table.folds_in_order()
    named = {part: [fold for fold in folds if _spelt(fold) in SPELLINGS[part]] for part in SPELLINGS}
    if named["test"] and not named["validation"]:  # `eval` beside `test` validates
        others = [fold for fold in named["test"] if _spelt(fold) in EVALUATION]
        if len(others) < len(named["test"]):
            named = {**named, "validation": others, "test": [fold for fold in named["test"] if fold not in others]}
    test = how.test if how.test != "auto" else named["test"] or TEST_SHARE
    rest = [fold for fold in folds if not isinstance(test, list) or fold not in test]
    validation = how.validation
    if validation == "auto":
        own = [fold for fold in named["validation"] if fold in rest]
        trains = len(own) < len(rest) or bool((table.folds.codes < 0).any())  # else `dev` is all there is to train on
        validation = own if own and trains and isinstance(test, list) else VALIDATION_SHARE
    found = attrs.evolve(how, test=test, validation=validation)
    return found, _said(folds, how, found)


def _spelt(fold: Fold) -> str:
    return fold.strip().casefold() if isinstance(fold, str) else ""


def _said(folds: Sequence[Fold], how: Split, found: Split) -> str:
    """The line about the folds of the data: which are used for what, or that they are not."""
    test, validation = found.test, found.validation
    if isinstance(test, list):
        if how.test == test and (how.validation == validation or not isinstance(validation, list)):
            return ""
        validated = f"folds {_list(validation)}" if isinstance(validation, list) else f"{validation:.0%} of the rest"
        return f"split: by the folds of the data: test on {_list(test)}, validation on {validated}"
    if not folds:
        return ""
    return (
        f"split: the folds of the data ({_list(folds, 6)}) are not used: {test:.0%} of the groups are the test set; "
        f"split.test = [{_list(folds[-1:])}] tests on a fold, and --folds all on each in turn"
    )


def split(table: ClipTable, how: Split, source: str = "<python>") -> SplitResult:
    """Split a table into training, validation and test set.

    A fraction is of the groups, drawn separately for each class: a class with two groups or more has a group on both
    sides, a class with one group stays in training. Validation is drawn from what is not in the test set. Clips that
    are in no listed fold are for training. A fraction of 0, or no fold, means no validation.

    Args:
        table: the clips.
        how: the `[split]` table of the recipe; each `auto` is what `settled` makes of it. The draws depend on its seed
            and on the names of the groups.
        source: the recipe, for messages.

    Raises:
        RecipeError: unknown folds, crossing groups with `crossing = "refuse"`, or no training or test clips.
    """
    how, _ = settled(table, how)
    problems = _wrong(table, how.test, "split.test") + _wrong(table, how.validation, "split.validation")
    if problems:
        raise RecipeError(source, problems)
    part = np.full(len(table), TRAIN, dtype=np.int8)
    part[_chosen(table, how.test, part == TRAIN, how.seed, "split.test")] = TEST
    part[_chosen(table, how.validation, part == TRAIN, how.seed, "split.validation")] = VALIDATION
    crossing = _crossing(table, part)
    try:
        part = CROSSING[how.crossing](part, crossing)
    except ValueError as error:
        raise RecipeError(source, [Problem("split.crossing", str(error))]) from None
    _refuse_empty(part, how, source)
    without = [absent(table, part == code) for code in (TRAIN, VALIDATION, TEST)]
    return SplitResult(part, crossing.groups, int(crossing.clips.sum()), crossing.names, *without)


# Folds and fractions --------------------------------------------------------------------------------------------------


def _wrong(table: ClipTable, side: Side, key: str) -> list[Problem]:
    """The problems with the folds of a part."""
    known = table.folds_in_order()
    unknown = [fold for fold in side if fold not in known] if isinstance(side, list) else []
    if unknown and not known:
        return [Problem(key, f"no fold {_list(unknown)}: the dataset has no folds; give a fraction, such as 0.2")]
    return [Problem(key, f"no fold {_list(unknown)}; known: {_list(known)}")] if unknown else []


def _list(values: Sequence[Fold | str], most: int = 20) -> str:
    """Values in the notation of recipes, shortened if there are many."""
    shown = ", ".join(str(value) if isinstance(value, int) else f'"{value}"' for value in values[:most])
    return shown if len(values) <= most else f"{shown}, ... ({len(values)} in all)"


def _chosen(table: ClipTable, side: Side, free: Mask, seed: int, place: str) -> Mask:
    """The rows among `free` for a part."""
    if isinstance(side, list):
        codes = [code for code, fold in enumerate(table.folds.names) if fold in side]
        return free & np.isin(table.folds.codes, codes)
    # A group that is partly in another part already would be in two.
    whole = free & ~_with(table.group_codes, ~free)
    assert not isinstance(side, str), "settled before"
    return _with(table.group_codes, _drawn(table, side, whole, seed, place)) & whole


def _with(groups: Codes, rows: Mask | Rows) -> Mask:
    """All rows whose group has a clip among `rows`."""
    return np.isin(groups, np.unique(groups[rows]))


def _drawn(table: ClipTable, share: float, free: Mask, seed: int, place: str) -> Rows:
    """One row of each drawn group: from each class its share of groups, large and small ones alike."""
    groups, firsts, sizes = np.unique(table.group_codes[free], return_index=True, return_counts=True)
    if not len(groups) or not share:
        return np.empty(0, dtype=np.int64)
    firsts = np.flatnonzero(free)[firsts]
    draws = Chance(seed, 0, place).bits(_addresses([table.groups.names[code] for code in groups]), "group")
    strata = _strata(table, groups, free)
    chosen = []
    for label in np.unique(strata):
        of_class = np.flatnonzero(strata == label)
        # Sort by size, cut into blocks and draw one of each: the share of clips is then close to the share of groups.
        of_class = of_class[np.lexsort((draws[of_class], sizes[of_class]))]
        count = min(max(1, int(share * len(of_class) + 0.5)), len(of_class) - 1)
        for block in np.array_split(of_class, count) if count else []:
            chosen.append(firsts[block[np.argmin(draws[block])]])
    return np.array(chosen, dtype=np.int64)


def _addresses(names: Sequence[str]) -> npt.NDArray[np.int64]:
    """A number for each group, from the last two parts of its name, which do not depend on where the data are."""
    ends = ("/".join(name.replace("\\", "/").split("/")[-2:]).encode("utf-8", "surrogateescape") for name in names)
    digests = b"".join(hashlib.blake2b(end, digest_size=8).digest() for end in ends)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)


def _strata(table: ClipTable, groups: Codes, free: Mask) -> Rows:
    """The class that each of `groups` is drawn for: of its classes, the one with the fewest groups."""
    counts = np.diff(table.label_offsets)
    rows = np.repeat(np.arange(len(table)), counts)
    kept = free[rows]
    places = np.searchsorted(groups, table.group_codes[rows[kept]])
    pairs = np.unique(places * len(table.classes) + table.label_values[kept])
    places, labels = np.divmod(pairs, len(table.classes))
    rarity = np.bincount(labels, minlength=len(table.classes))[labels]
    order = np.lexsort((labels, rarity, places))
    return labels[order][np.unique(places[order], return_index=True)[1]]


# Groups in more than one part -----------------------------------------------------------------------------------------


def _crossing(table: ClipTable, part: PartCodes) -> CrossingGroups:
    groups = table.group_codes
    beside_test = _with(groups, part == TEST) & (part != TEST)
    beside_validation = _with(groups, part == VALIDATION) & (part == TRAIN)
    clips = beside_test | beside_validation
    codes = np.unique(groups[clips])
    return CrossingGroups(clips, len(codes), tuple(table.groups.names[code] for code in codes[:EXAMPLES]))


def _purge(part: PartCodes, crossing: CrossingGroups) -> PartCodes:
    """Remove their clips from training if the group is also in validation or test, from validation if in test."""
    return np.where(crossing.clips, np.int8(PURGED), part)


def _refuse(part: PartCodes, crossing: CrossingGroups) -> PartCodes:
    """Raise an error if there are any."""
    if crossing.groups:
        counted = f"{crossing.groups} group{'s' * (crossing.groups > 1)} in more than one part: {_list(crossing.names)}"
        raise ValueError(counted + ", ..." * (crossing.groups > len(crossing.names)))
    return part


def _allow(part: PartCodes, crossing: CrossingGroups) -> PartCodes:
    """Keep them; they are counted."""
    return part


# The values of `split.crossing`: functions from the parts before to the parts after. A ValueError is reported as a
# mistake in the recipe.
CROSSING: Mapping[str, Callable[[PartCodes, CrossingGroups], PartCodes]] = {
    "purge": _purge,
    "refuse": _refuse,
    "allow": _allow,
}


# Checks of the result -------------------------------------------------------------------------------------------------


def _refuse_empty(part: PartCodes, how: Split, source: str) -> None:
    """Raise an error for a split without training clips, or without the test clips that it is to have."""
    if not (part == TRAIN).any():
        purged = int((part == PURGED).sum())
        counted = f" ({purged} were purged)" if purged else ""
        raise RecipeError(source, [Problem("split", f"no clips left for training{counted}")])
    if how.test != 0 and not (part == TEST).any():
        message = "no clips for the test set: no class has two groups, so none can be held out"
        raise RecipeError(source, [Problem("split.test", message)])


def absent(table: ClipTable, rows: Mask) -> tuple[str, ...]:
    """The classes without a clip among the rows `(N,)`."""
    carried = np.bincount(
        table.label_values[np.repeat(rows, np.diff(table.label_offsets))], minlength=len(table.classes)
    )
    return tuple(name for name, count in zip(table.classes, carried, strict=True) if not count)
