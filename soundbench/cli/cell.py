"""`python -m soundbench.cli.cell ...`: a command as a process of a sweep, which ends when the sweep has gone.

Standard input is a pipe that only the sweep holds open (`studies/processes.py`).
"""

from __future__ import annotations

import os
import threading
import time

from soundbench import signals
from soundbench.cli.main import main

# Seconds for the step that is under way and its checkpoint, once the sweep has gone.
_GRACE = 10.0


def _end_with_the_sweep() -> None:
    while os.read(0, 1):
        pass
    signals.stop_this_process()
    time.sleep(_GRACE)
    signals.kill(os.getpid())  # with the processes that load its batches


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    main()
