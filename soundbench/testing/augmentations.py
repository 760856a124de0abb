"""What an augmentation promises.

One that says `mixes = True` takes a partner from the batch: a row of it may depend on the others, and its target on
theirs. What any other does to a row depends on that row and on the address of its draws alone.
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
from soundbench.testing.cases import RATE, Case, global_states
from soundbench.testing.findings import Broken, Checks, Moot
from soundbench.testing.modules import compare, counts, finite

__all__ = ["CHECKS"]

SAMPLES = (8000, 8000, 5001, 1, 400, 8000, 37, 7999)
FRAMES = (60, 60, 33, 1, 2, 60, 7, 59)
SILENT = 1  # the row that holds nothing but zeros
EPOCHS = (1, 2, 3)
ROUNDED = 8  # samples or frames by which a length may be rounded up


def mixes(case: Case) -> bool:
    """Whether it says that it mixes rows."""
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
    """An ordinary batch before and after, in some epochs."""
    for epoch in EPOCHS:
        yield ordinary(case), _run(case, ordinary(case), epoch)


def _run(case: Case, batch: Batch, epoch: int) -> Batch:
    with torch.no_grad():
        out: Batch = case.memory["made"].train()(batch, Chance(1, epoch, "augmentation[0]"))
    return out


def place(case: Case) -> str:
    """`on` is one of two words."""
    if _on(case) not in ("waveform", "features"):
        raise Broken(f'on must be "waveform" or "features", is {_on(case)!r}')
    return _on(case)


def prepared(case: Case) -> str:
    """What it needs is read where the engine asks for it."""
    prepare = getattr(case.memory["made"], "prepare", None)
    if prepare is None:
        raise Moot("it has nothing to prepare")
    prepare()
    return "before the first batch"


def shapes(case: Case) -> str:
    """A batch of as many rows, on the same device and of the same type; each keeps its index and position."""
    for before, after in augmented(case):
        if not isinstance(after, Batch):
            raise Broken(f"gives a {type(after).__name__}, not a Batch")
        if after.data.shape[:-1] != before.data.shape[:-1]:
            raise Broken(f"makes {tuple(after.data.shape)} of {tuple(before.data.shape)}")
        for field in attrs.fields(Batch):
            old, new = getattr(before, field.name), getattr(after, field.name)
            if (new.dtype, new.device) != (old.dtype, old.device):
                raise Broken(f"makes {field.name} {new.dtype} on {new.device} of {old.dtype} on {old.device}")
        if not (torch.equal(after.index, before.index) and torch.equal(after.position, before.position)):
            raise Broken("index and position must stay")
    return "rows, devices and types kept"


def lengths(case: Case) -> str:
    """Lengths that can be, nothing beyond them, and no silence counted as sound."""
    for before, after in augmented(case):
        ends = counts("after it", after.lengths, after.data)
        beyond = masks.apply(after.data, ends) != after.data
        if beyond.any():
            row = int(beyond.flatten(1).any(1).long().argmax())
            raise Broken(f"row {row}, {int(ends[row])} long, is not zero beyond its length")
        for row in range(len(ends)):
            old, new = int(before.lengths[row]), int(ends[row])
            grown = new > old + ROUNDED and row != SILENT and not mixes(case)
            if grown and not after.data[row, ..., old:new].any():
                raise Broken(f"row {row} was {old} long and says {new}, but holds nothing beyond {old}")
    return "honest, zero beyond"


def values(case: Case) -> str:
    """Finite, of silence too."""
    for _, after in augmented(case):
        for row, data in enumerate(after.data):
            finite(f"row {row}{', a silent one,' if row == SILENT else ''}", data)
    return "finite"


def targets(case: Case) -> str:
    """Targets stay `(B, K)`, and keep the sum of each row; they change only where rows are mixed."""
    for before, after in augmented(case):
        if after.target.shape != before.target.shape:
            raise Broken(f"targets are {tuple(after.target.shape)}, were {tuple(before.target.shape)}")
        if not mixes(case) and not torch.equal(after.target, before.target):
            raise Broken("targets change: one that mixes rows says mixes = True")
        apart = float((after.target.sum(1) - before.target.sum(1)).abs().max())
        if not apart <= 1e-5 or after.target.min() < 0:
            raise Broken(f"a row's targets must add up to what they did; they are {apart:.1e} apart (allowed 1e-05)")
    return "mixed, sums kept" if mixes(case) else "unchanged"


def untouched(case: Case) -> str:
    """It leaves the global states of chance alone."""
    batches = [ordinary(case) for _ in EPOCHS]
    before = global_states()
    for epoch, batch in zip(EPOCHS, batches, strict=True):
        _run(case, batch, epoch)
    after = global_states()
    touched = [name for name in before if before[name] != after[name]]
    if touched:
        raise Broken(f"it draws from the global state of {' and '.join(touched)}, not from chance and batch.position")
    return "left alone"


def again(case: Case) -> str:
    """The same address, the same draw."""
    for epoch in EPOCHS:
        outs = []
        for seed in (1, 2):
            batch = ordinary(case)
            torch.manual_seed(seed)
            outs.append(_run(case, batch, epoch))
        _same("the same batch again differs", outs[0], outs[1], 0.0)
    return "the same again"


def addressed(case: Case) -> str:
    """A row of the same position is changed alike in whatever batch."""
    if mixes(case):
        raise Moot("it mixes rows")
    worst = 0.0
    for epoch in EPOCHS:
        whole = _run(case, ordinary(case), epoch)
        for rows in ([0], [3, 2], [4, 7, 5, 6, 1]):
            some = _run(case, _rows(ordinary(case), torch.tensor(rows)), epoch)
            for place, row in enumerate(rows):
                one, other = (_rows(batch, torch.tensor([at])) for batch, at in ((whole, row), (some, place)))
                what = f"row {row} among {len(rows)} differs from itself among 8"
                worst = max(worst, _same(what, one, other, 1e-4))
    return f"at most {worst:.0e} of 1e-04"


def _rows(batch: Batch, rows: Tensor) -> Batch:
    return Batch(*(getattr(batch, field.name)[rows] for field in attrs.fields(Batch)))


def _same(what: str, one: Batch, other: Batch, near: float) -> float:
    """Compare two batches within their lengths."""
    if one.lengths.tolist() != other.lengths.tolist():
        raise Broken(f"{what}: lengths {one.lengths.tolist()} and {other.lengths.tolist()}")
    if not torch.equal(one.target, other.target):
        raise Broken(f"{what} in its targets")
    size = int(one.lengths.max())
    return compare(what, one.data[..., :size], other.data[..., :size], near)


def missing(case: Case) -> str:
    """It is made without its data; `prepare()` names what is missing, in a `MissingDataError`."""
    if not case.paths:
        raise Moot("it needs no files")
    changed = case.bereft()  # last of all
    try:
        module = case.make(RATE, **changed)
    except DataError as error:
        raise Broken(f"the constructor looks for data, and a recipe cannot be described without: {error}") from error
    try:
        getattr(module, "prepare", lambda: None)()
    except MissingDataError as error:
        if str(case.folder) not in str(error):
            raise Broken(f"MissingDataError names no path: {error}") from error
        return str(error).replace(str(case.folder), "...")
    raise Broken("with nothing there, prepare() raises no MissingDataError")


CHECKS: Checks = {
    "on": place,
    "prepare": prepared,
    "shapes": shapes,
    "lengths": lengths,
    "values": values,
    "targets": targets,
    "global chance": untouched,
    "same draw": again,
    "addressed": addressed,
    "missing": missing,
}
