"""What an augmentation promises.

With `mixes = True` it may change targets, and mix a row with others from the batch, on which the row then depends. Else
the change of a row depends only on that row and on the address of its draws.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import torch
from torch import Tensor

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench.errors import DataError, MissingDataError
from soundbench.testing.cases import RATE, Case, watched_states
from soundbench.testing.modules import compare, counts, finite
from soundbench.testing.results import Broken, Checks, NotApplicable

__all__ = ["CHECKS"]

SAMPLES = (8000, 8000, 5001, 1, 400, 8000, 37, 7999)
FRAMES = (60, 60, 33, 1, 2, 60, 7, 59)
SILENT = 1  # the row that contains only zeros
EPOCHS = (1, 2, 3)
ROUNDED = 8  # samples or frames by which a length may be rounded up


def mixes(case: Case) -> bool:
    """Whether it declares that it mixes rows."""
    return bool(getattr(case.component.obj, "mixes", False))


def ordinary(case: Case) -> Batch:
    """Eight rows of different lengths, one of them silent, zero beyond each length."""
    torch.manual_seed(1)
    lengths = torch.tensor(SAMPLES if _on(case) == "waveform" else FRAMES)
    size = int(lengths.max())
    data = 0.1 * torch.randn(8, size) if _on(case) == "waveform" else torch.randn(8, 40, size)
    data[SILENT] = 0.0
    target = torch.nn.functional.one_hot(torch.arange(8) % 5, 5).float()
    return Batch(masks.apply(data, lengths), lengths, target, torch.arange(8) + 100, 3 * torch.arange(8) + 5)


def _on(case: Case) -> str:
    return str(getattr(case.memory["made"], "on", None))


def augmented(case: Case) -> Iterator[tuple[Batch, Batch]]:
    """An ordinary batch before and after the augmentation, in several epochs."""
    for epoch in EPOCHS:
        yield ordinary(case), _run(case, ordinary(case), epoch)


def _run(case: Case, batch: Batch, epoch: int) -> Batch:
    with torch.no_grad():
        out: Batch = case.memory["made"].train()(batch, Chance(1, epoch, "augmentation[0]"))
    return out


def input_kind(case: Case) -> str:
    """`on` is "waveform" or "features"."""
    if _on(case) not in ("waveform", "features"):
        raise Broken(f'on must be "waveform" or "features", is {_on(case)!r}')
    return _on(case)


def prepared(case: Case) -> str:
    """`prepare()` reads what it needs."""
    prepare = getattr(case.memory["made"], "prepare", None)
    if prepare is None:
        raise NotApplicable("it has no prepare()")
    prepare()
    return "before the first batch"


def shapes(case: Case) -> str:
    """A batch of the same number of rows, device and types; each row keeps its index and position."""
    for before, after in augmented(case):
        if not isinstance(after, Batch):
            raise Broken(f"returns a {type(after).__name__}, not a Batch")
        if after.data.shape[:-1] != before.data.shape[:-1]:
            raise Broken(f"changes the shape from {tuple(before.data.shape)} to {tuple(after.data.shape)}")
        for field in attrs.fields(Batch):
            old, new = getattr(before, field.name), getattr(after, field.name)
            if (new.dtype, new.device) != (old.dtype, old.device):
                raise Broken(f"changes {field.name} from {old.dtype} on {old.device} to {new.dtype} on {new.device}")
        if not (torch.equal(after.index, before.index) and torch.equal(after.position, before.position)):
            raise Broken("index and position must not change")
    return "rows, devices and types kept"


def lengths(case: Case) -> str:
    """Valid lengths, zeros beyond them, and no added zeros counted as sound."""
    for before, after in augmented(case):
        ends = counts("the output", after.lengths, after.data)
        beyond = masks.apply(after.data, ends) != after.data
        if beyond.any():
            row = int(beyond.flatten(1).any(1).long().argmax())
            raise Broken(f"row {row} of length {int(ends[row])} is not zero beyond its length")
        for row in range(len(ends)):
            old, new = int(before.lengths[row]), int(ends[row])
            grown = new > old + ROUNDED and row != SILENT and not mixes(case)
            if grown and not after.data[row, ..., old:new].any():
                raise Broken(f"row {row} of length {old} now has length {new}, but only zeros beyond {old}")
    return "valid, zero beyond"


def values(case: Case) -> str:
    """Finite, for silence too."""
    for _, after in augmented(case):
        for row, data in enumerate(after.data):
            finite(f"row {row}{' (silence)' if row == SILENT else ''}", data)
    return "finite"


def targets(case: Case) -> str:
    """Targets stay `(B, K)`, and keep the sum of each row; they change only where it says so, by `mixes`."""
    for before, after in augmented(case):
        if after.target.shape != before.target.shape:
            raise Broken(
                f"changes the shape of targets from {tuple(before.target.shape)} to {tuple(after.target.shape)}"
            )
        if not mixes(case) and not torch.equal(after.target, before.target):
            raise Broken("targets change; an augmentation that changes them must set mixes = True")
        apart = float((after.target.sum(1) - before.target.sum(1)).abs().max())
        if not apart <= 1e-5 or after.target.min() < 0:
            raise Broken(f"targets must be at least 0 and keep their sum; it changes by {apart:.1e} (allowed 1e-05)")
    return "mixed, sums kept" if mixes(case) else "unchanged"


def untouched(case: Case) -> str:
    """It does not use the global random states."""
    batches = [ordinary(case) for _ in EPOCHS]
    with watched_states() as touched:
        for epoch, batch in zip(EPOCHS, batches, strict=True):
            _run(case, batch, epoch)
    if touched:
        names = " and ".join(touched)
        raise Broken(f"it uses the global random state of {names}; draw from chance with batch.position instead")
    return "not used"


def again(case: Case) -> str:
    """Draws with the same address are the same."""
    for epoch in EPOCHS:
        outs = []
        for seed in (1, 2):
            batch = ordinary(case)
            torch.manual_seed(seed)
            outs.append(_run(case, batch, epoch))
        _same("the same batch, augmented twice, differs", outs[0], outs[1], 0.0)
    return "repeatable"


def addressed(case: Case) -> str:
    """A row at the same position is changed in the same way in any batch."""
    if mixes(case):
        raise NotApplicable("it mixes rows")
    worst = 0.0
    for epoch in EPOCHS:
        whole = _run(case, ordinary(case), epoch)
        for rows in ([0], [3, 2], [4, 7, 5, 6, 1]):
            some = _run(case, _rows(ordinary(case), torch.tensor(rows)), epoch)
            for place, row in enumerate(rows):
                one, other = (_rows(batch, torch.tensor([at])) for batch, at in ((whole, row), (some, place)))
                what = f"row {row} in a batch of {len(rows)} differs from the same row in a batch of 8"
                worst = max(worst, _same(what, one, other, 1e-4))
    return f"differs by at most {worst:.0e} (allowed 1e-04)"


def _rows(batch: Batch, rows: Tensor) -> Batch:
    return Batch(*(getattr(batch, field.name)[rows] for field in attrs.fields(Batch)))


def _same(what: str, one: Batch, other: Batch, near: float) -> float:
    """Compare two batches within their lengths."""
    if one.lengths.tolist() != other.lengths.tolist():
        raise Broken(f"{what}: lengths are {one.lengths.tolist()} and {other.lengths.tolist()}")
    if not torch.equal(one.target, other.target):
        raise Broken(f"{what} in its targets")
    size = int(one.lengths.max())
    return compare(what, one.data[..., :size], other.data[..., :size], near)


def missing(case: Case) -> str:
    """The constructor needs no data; `prepare()` names what is missing, in a `MissingDataError`."""
    if not case.paths:
        raise NotApplicable("it reads no files")
    changed = case.without_data()  # this check is the last
    try:
        module = case.make(RATE, **changed)
    except DataError as error:
        raise Broken(f"the constructor must not look for data: a recipe is described without it: {error}") from error
    try:
        getattr(module, "prepare", lambda: None)()
    except MissingDataError as error:
        if str(case.folder) not in str(error):
            raise Broken(f"MissingDataError must name the missing path, says: {error}") from error
        return str(error).replace(str(case.folder), "...")
    raise Broken("prepare() must raise MissingDataError when its files are missing")


CHECKS: Checks = {
    "on": input_kind,
    "prepare": prepared,
    "shapes": shapes,
    "lengths": lengths,
    "values": values,
    "targets": targets,
    "global random state": untouched,
    "same draw": again,
    "addressed": addressed,
    "missing": missing,
}
