"""The figures of a report about sound of none of the classes."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import distributed
from soundbench import recipe as recipes
from soundbench.data.clips import ClipTable
from soundbench.model import logits
from soundbench.model.logits import HeldOutLogits
from soundbench.model.outputs.window_logits import WindowLogits
from soundbench.model.rejecting.noise import COLOURS
from soundbench.model.rejecting.rejector import Rejector
from soundbench.model.rejecting.thresholds import separation
from soundbench.model.scoring import Scorer
from soundbench.report.rejecting.figures import kept_figures
from soundbench.training.log import Log
from soundbench.training.rejecting.fitting import Rejection, RejectScores, scored
from soundbench.training.rejecting.others import REPORT, Other, left_out, noise
from soundbench.training.stages import Opened

__all__ = ["closed_set", "figures", "rejected_clips", "with_scores"]


def rejected_clips(rejector: Rejector | None, windows: WindowLogits) -> NDArray[np.bool_]:
    """Whether each clip is of none of the classes, `(N,)`."""
    if rejector is None:
        return np.zeros(len(windows.rows), np.bool_)
    found = scored(rejector, windows)
    return rejector.rejected(found.of_clips, found.silent_clips, "clip")


def with_scores(rejection: Rejection, windows: WindowLogits, table: ClipTable) -> HeldOutLogits:
    """The logits of windows of a table's clips, with their reject scores."""
    found = scored(rejection.rejector, windows)
    plain = logits.of_windows(windows, table)
    return attrs.evolve(plain, reject=found.scores, silent=found.silent, reject_by=rejection.spec.use)


def closed_set(scorer: Scorer, windows: WindowLogits, table: ClipTable, scores: NDArray[np.float32]) -> dict[str, Any]:
    """`reject` of an evaluation on labelled clips; nothing for a model that rejects nothing."""
    if scorer.rejector is None:
        return {}
    rejected, rows = rejected_clips(scorer.rejector, windows), windows.rows
    return {"reject": kept_figures(scores, table.targets(rows), rejected, table.group_codes[rows])}


def figures(
    opened: Opened,
    scorer: Scorer,
    rejection: Rejection,
    test: WindowLogits,
    scores: NDArray[np.float32] | None,
    resamples: int,
    log: Log,
) -> dict[str, Any]:
    """`reject`, and `left_out` where classes were left out of training.

    Args:
        opened: the run.
        scorer: the network of the best epoch.
        rejection: what rejects sound.
        test: the windows of the test clips, with embeddings if the component needs them.
        scores: the scores of the test clips, `(N, K)`; None without any.
        resamples: for intervals.
        log: the run's log.
    """
    rejector, own = rejection.rejector, rejection.spec.own
    as_written = recipes.relocated(opened.prepared.recipe, "./model/code").reject
    found: dict[str, Any] = {"use": as_written.use, "keep": own.keep}
    found |= {"reason": rejection.reason} if rejection.reason else {}
    if scores is None:
        return {"reject": found | _of_others(opened, scorer, rejection)}
    table = opened.prepared.table
    drawn = {"resamples": resamples, "seed": opened.prepared.recipe.train.seed}
    known = scored(rejector, test)
    rejected = rejector.rejected(known.of_clips, known.silent_clips, "clip")
    groups = table.group_codes[test.rows]
    found |= distributed.from_main(lambda: kept_figures(scores, table.targets(test.rows), rejected, groups, **drawn))
    found |= _of_others(opened, scorer, rejection)
    parts = {name: left_out(opened, scorer, name, rejector.embeddings, log) for name in own.leave_out}
    rows = [_left_out(rejector, name, known, other) for name, other in parts.items()]
    return {"reject": found} | ({"left_out": rows} if rows else {})


def _of_others(opened: Opened, scorer: Scorer, rejection: Rejection) -> dict[str, Any]:
    """The shares of silence, noise and the recipe's own other sound that are rejected."""
    rejector, found = rejection.rejector, {}
    window = opened.prepared.grid.window / opened.prepared.recipe.audio.rate
    silence = rejector.rejected(np.array([np.inf]), np.array([True]), "window")
    found["silence"] = {"unknown": float(silence.mean()), "clips": 1, "seconds": window}
    if rejection.fitted:
        for colour in COLOURS:
            other = noise(opened, scorer, colour, REPORT, rejector.embeddings)
            found[f"{colour}_noise"] = _of_other(rejector, other)
    if rejection.negatives is not None:
        other = rejection.negatives.part(1)
        kept = int((~_windows(rejector, scored(rejector, other.windows))).sum())
        found["negatives"] = _of_other(rejector, other) | {"false_alarms_per_hour": 3600 * kept / other.seconds}
    return found


def _windows(rejector: Rejector, found: RejectScores) -> NDArray[np.bool_]:
    return rejector.rejected(found.scores, found.silent, "window")


def _of_other(rejector: Rejector, other: Other) -> dict[str, Any]:
    """The share of clips of other sound that is rejected."""
    rejected = rejected_clips(rejector, other.windows)
    return {"unknown": float(rejected.mean()), "clips": len(rejected), "seconds": other.seconds}


def _left_out(rejector: Rejector, name: str, known: RejectScores, other: Other) -> dict[str, Any]:
    """How well a class is recognised as none of the others."""
    found = scored(rejector, other.windows)
    apart = separation(known.of_clips, found.of_clips)
    rejected = rejected_clips(rejector, other.windows)
    return {
        "class": name,
        "clips": len(rejected),
        "auroc": apart.auroc,
        "false_positive_rate_at_95": apart.false_positive_rate_at_95,
        "unknown": float(rejected.mean()),
    }
