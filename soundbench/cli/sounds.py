"""What the commands on sound files share: the model, the files, when they were recorded, progress, the last lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from soundbench.cli import output

if TYPE_CHECKING:
    from soundbench.audio.times.starts import StartTimes
    from soundbench.inference.classifier import Classifier
    from soundbench.inference.progress import Progress


def opened(
    run: str | Path,
    find: Callable[[], list[Path]],
    device: str,
    trust_code: bool,
    accept_changes: bool,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> tuple[Classifier, list[Path]]:
    """The classifier of a run and the files to score, the same in every process.

    Args:
        run: the run directory, model folder or ONNX file; or the name of an installed model.
        find: finds the files; called by the main process.
        device: the device to compute on.
        trust_code: whether Python code stored with the model may be executed.
        accept_changes: whether the model's files may have changed.
        precision: of the network.
    """
    from soundbench import distributed
    from soundbench.cli.process import own_process
    from soundbench.inference.loading import load_by_all

    own_process(device)
    distributed.join(device)
    files = distributed.from_main(find)
    line = distributed.idle(len(files), "files")
    if line and distributed.is_main():
        output.say(line)
    loaded = load_by_all(run, device=device, precision=precision, trust_code=trust_code, accept_changes=accept_changes)
    return loaded, files


def started(files: list[Path]) -> Progress:
    """The progress line for files that are yet to be scored; of several processes, the main one shows its own."""
    from soundbench import distributed
    from soundbench.inference.many_files import sizes
    from soundbench.inference.progress import Progress

    return Progress(len(files), float(sum(sizes(files))), distributed.rank(), distributed.world())


def start_times(time_from: str | None, time_pattern: str | None) -> StartTimes:
    """What finds the times at which recordings began; a pattern of names is asked for to be used before headers."""
    from soundbench.audio.times.starts import StartTimes

    return StartTimes(time_from or ("name" if time_pattern is not None else "auto"), time_pattern)


def report(times: StartTimes) -> None:
    """Print what there is to know of the times that all processes found."""
    from soundbench import distributed
    from soundbench.audio.times.starts import StartTimes

    doubts = StartTimes.doubts(distributed.gather(times))
    if doubts and distributed.is_main():
        output.say(doubts)


def finish(errors: dict[str, str], count: int, out: Path | None) -> int:
    """Print where the results are and how many files have none; returns the exit code, 1 if there are any."""
    from soundbench import distributed

    if distributed.is_main():
        if out:
            output.result(out)
        if errors:
            where = f"; see {out / 'errors.csv'}" if out else ""
            output.say(f"{len(errors)} of {count} files could not be scored{where}")
    return 1 if errors else 0
