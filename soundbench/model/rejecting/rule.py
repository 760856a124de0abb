"""The rule by which sound is of none of the classes, from the evidence of its windows."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rule"]


class Rule:
    """Decides whether sound is of none of the classes; a subclass has the thresholds.

    Attributes:
        clip: sound whose mean reject score over its windows is lower is rejected; None where no threshold was fitted.
        window: the same for a single window.
        silence: whether digital silence is rejected.
    """

    clip: float | None
    window: float | None
    silence: bool

    def rejects(self, evidence: NDArray[np.floating[Any]], per: Literal["clip", "window"]) -> bool:
        """Whether sound is of none of the classes.

        Args:
            evidence: `(2,)`: the reject score of a window, and 1, or 0 where all of its samples are zero; or the means
                of both over the windows of a clip.
            per: which of the two.
        """
        return bool(self.rejected(evidence[None, 0], evidence[None, 1] == 0, per)[0])

    def rejected(
        self, scores: NDArray[np.floating[Any]], silent: NDArray[np.bool_], per: Literal["clip", "window"]
    ) -> NDArray[np.bool_]:
        """Whether each of N clips or windows is of none of the classes, `(N,)`; a score of NaN is below any threshold.

        Args:
            scores: their reject scores, `(N,)`.
            silent: whether all samples of each are zero, `(N,)`.
            per: which of the two.
        """
        threshold = self.clip if per == "clip" else self.window
        low = np.zeros(len(scores), np.bool_)
        if threshold is not None:
            # Computed in float32 and kept in decimal digits: what lies on the threshold is not below it.
            low = ~(np.asarray(scores, np.float64) >= threshold - 1e-5 * max(abs(threshold), 1.0))
        return low | (silent & self.silence)
