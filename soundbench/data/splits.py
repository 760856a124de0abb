"""Cutting a clip table into training, validation and test so that no recording stands on two sides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from soundbench.chance import Chance
from soundbench.data.clips import ClipTable, Codes, Fold
from soundbench.errors import Problem, RecipeError
from soundbench.recipe import Split

__all__ = ["CROSSING", "PARTS", "ClipTable", "Crossers", "SplitResult", "split"]

PARTS = ("train", "validation", "test", "purged")
TRAIN, VALIDATION, TEST, PURGED = range(len(PARTS))

EXAMPLES = 5  # how many groups a message names

PartCodes = npt.NDArray[np.int8]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@attrs.frozen(eq=False)
class SplitResult:
    """Which part each clip is in, and what the cut came across.

    Attributes:
        part: `(N,)` int8 indices into `PARTS`.
        crossing_groups: how many groups stood on more than one side.
        crossing_clips: the clips of theirs that were purged from training and validation, or would have been.
        crossing_names: the first few of those groups.
        classes_without_train: classes without any clip to train on, and so on.
    """

    part: PartCodes
    crossing_groups: int
    crossing_clips: int
    crossing_names: tuple[str, ...]
    classes_without_train: tuple[str, ...]
    classes_without_validation: tuple[str, ...]
    classes_without_test: tuple[str, ...]

    def rows(self, part: str) -> Rows:
        """The table's rows that are in a part, ascending, int64."""
        return np.flatnonzero(self.part == PARTS.index(part))

    def counts(self) -> dict[str, int]:
        """How many clips each part has."""
        return {name: int((self.part == code).sum()) for code, name in enumerate(PARTS)}


@attrs.frozen(eq=False)
class Crossers:
    """The groups on more than one side of a split.

    Attributes:
        clips: `(N,)` bool: those of their clips that are in training beside validation or test, or in validation beside
            test.
        groups: how many groups.
        names: the first few of them.
    """

    clips: Mask
    groups: int
    names: tuple[str, ...]


def split(table: ClipTable, how: Split, seed: int, source: str = "<python>") -> SplitResult:
    """Cut a table into training, validation and test.

    A share is of the groups, drawn class by class: every class of two groups or more has a group on both sides, a class
    of one stays in training. The share of validation is drawn from what test left. Clips that no list of folds names
    are for training. A share of 0, or no fold, means no validation.

    Args:
        table: the clips.
        how: the recipe's table.
        seed: what the draws of a share depend on, beside the names of the groups.
        source: the recipe, for messages.

    Raises:
        RecipeError: unknown folds, crossing groups refused, or a part without any clip.
    """
    problems = _wrong(table, how.test, "split.test") + _wrong(table, how.validation, "split.validation")
    if problems:
        raise RecipeError(source, problems)
    part = np.full(len(table), TRAIN, dtype=np.int8)
    part[_chosen(table, how.test, part == TRAIN, seed, "split.test")] = TEST
    part[_chosen(table, how.validation, part == TRAIN, seed, "split.validation")] = VALIDATION
    crossers = _crossers(table, part)
    try:
        part = CROSSING[how.crossing](part, crossers)
    except ValueError as error:
        raise RecipeError(source, [Problem("split.crossing", str(error))]) from None
    _refuse_empty(part, source)
    without = [_absent(table, part == code) for code in (TRAIN, VALIDATION, TEST)]
    return SplitResult(part, crossers.groups, int(crossers.clips.sum()), crossers.names, *without)


# Folds and shares -----------------------------------------------------------------------------------------------------


def _wrong(table: ClipTable, side: list[Fold] | float, key: str) -> list[Problem]:
    """What is wrong with the folds of a side."""
    known = table.folds_in_order()
    unknown = [fold for fold in side if fold not in known] if isinstance(side, list) else []
    if unknown and not known:
        return [Problem(key, f"no fold {_list(unknown)}: the dataset has no folds; give a share, such as 0.2")]
    return [Problem(key, f"no fold {_list(unknown)}; known: {_list(known)}")] if unknown else []


def _list(values: Sequence[Fold | str], most: int = 20) -> str:
    """Values as a recipe writes them, the first of them where they are many."""
    shown = ", ".join(str(value) if isinstance(value, int) else f'"{value}"' for value in values[:most])
    return shown if len(values) <= most else f"{shown}, ... ({len(values)} in all)"


def _chosen(table: ClipTable, side: list[Fold] | float, free: Mask, seed: int, place: str) -> Mask:
    """Which of the rows that are still `free` a side takes."""
    if isinstance(side, list):
        codes = [code for code, fold in enumerate(table.folds.names) if fold in side]
        return free & np.isin(table.folds.codes, codes)
    # A group that is partly on another side already cannot be clean on this one.
    whole = free & ~_with(table.group_codes, ~free)
    return _with(table.group_codes, _drawn(table, side, whole, seed, place)) & whole


def _with(groups: Codes, rows: Mask | Rows) -> Mask:
    """Every row whose group has a clip among `rows`."""
    return np.isin(groups, np.unique(groups[rows]))


def _drawn(table: ClipTable, share: float, free: Mask, seed: int, place: str) -> Rows:
    """A row of each group that is drawn: from each class its share of groups, large and small ones alike."""
    groups, firsts, sizes = np.unique(table.group_codes[free], return_index=True, return_counts=True)
    if not len(groups) or not share:
        return np.empty(0, dtype=np.int64)
    firsts = np.flatnonzero(free)[firsts]
    draws = Chance(seed, 0, place).bits(_addresses([table.groups.names[code] for code in groups]), "group")
    strata = _strata(table, groups, free)
    chosen = []
    for label in np.unique(strata):
        of_class = np.flatnonzero(strata == label)
        # Sorted by size and cut into blocks, one of each: the share of clips comes near the share of groups.
        of_class = of_class[np.lexsort((draws[of_class], sizes[of_class]))]
        count = min(max(1, int(share * len(of_class) + 0.5)), len(of_class) - 1)
        for block in np.array_split(of_class, count) if count else []:
            chosen.append(firsts[block[np.argmin(draws[block])]])
    return np.array(chosen, dtype=np.int64)


def _addresses(names: Sequence[str]) -> npt.NDArray[np.int64]:
    """A number for each group, made of the last two parts of its name: a path's are the same wherever the data lies."""
    ends = ("/".join(name.replace("\\", "/").split("/")[-2:]).encode("utf-8", "surrogateescape") for name in names)
    digests = b"".join(hashlib.blake2b(end, digest_size=8).digest() for end in ends)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)


def _strata(table: ClipTable, groups: Codes, free: Mask) -> Rows:
    """The class that each of `groups` is drawn for: of those it carries the one that fewest groups carry."""
    counts = np.diff(table.label_offsets)
    rows = np.repeat(np.arange(len(table)), counts)
    kept = free[rows]
    places = np.searchsorted(groups, table.group_codes[rows[kept]])
    pairs = np.unique(places * len(table.classes) + table.label_values[kept])
    places, labels = np.divmod(pairs, len(table.classes))
    rarity = np.bincount(labels, minlength=len(table.classes))[labels]
    order = np.lexsort((labels, rarity, places))
    return labels[order][np.unique(places[order], return_index=True)[1]]


# Groups on more than one side -----------------------------------------------------------------------------------------


def _crossers(table: ClipTable, part: PartCodes) -> Crossers:
    groups = table.group_codes
    beside_test = _with(groups, part == TEST) & (part != TEST)
    beside_validation = _with(groups, part == VALIDATION) & (part == TRAIN)
    clips = beside_test | beside_validation
    codes = np.unique(groups[clips])
    return Crossers(clips, len(codes), tuple(table.groups.names[code] for code in codes[:EXAMPLES]))


def _purge(part: PartCodes, crossers: Crossers) -> PartCodes:
    """Their clips leave training where the group is also in validation or test, validation where it is also in test."""
    return np.where(crossers.clips, np.int8(PURGED), part)


def _refuse(part: PartCodes, crossers: Crossers) -> PartCodes:
    """They are an error."""
    if crossers.groups:
        counted = f"{crossers.groups} group{'s' * (crossers.groups > 1)} on more than one side: {_list(crossers.names)}"
        raise ValueError(counted + ", ..." * (crossers.groups > len(crossers.names)))
    return part


def _allow(part: PartCodes, crossers: Crossers) -> PartCodes:
    """They stay, and are counted."""
    return part


# What `split.crossing` may be: the parts after it, of the parts before it. A ValueError is the recipe's mistake.
CROSSING: Mapping[str, Callable[[PartCodes, Crossers], PartCodes]] = {
    "purge": _purge,
    "refuse": _refuse,
    "allow": _allow,
}


# What is left ---------------------------------------------------------------------------------------------------------


def _refuse_empty(part: PartCodes, source: str) -> None:
    """Refuse a split without any clip to train on, or to test on."""
    if not (part == TRAIN).any():
        purged = int((part == PURGED).sum())
        counted = f" ({purged} were purged)" if purged else ""
        raise RecipeError(source, [Problem("split", f"no clip is left to train on{counted}")])
    if not (part == TEST).any():
        message = "no clip to test on: no class has two groups, so a share of them cannot be held back"
        raise RecipeError(source, [Problem("split.test", message)])


def _absent(table: ClipTable, rows: Mask) -> tuple[str, ...]:
    """The classes that none of the rows carries."""
    carried = np.bincount(
        table.label_values[np.repeat(rows, np.diff(table.label_offsets))], minlength=len(table.classes)
    )
    return tuple(name for name, count in zip(table.classes, carried, strict=True) if not count)
