"""Folders of files scored by this checkout and by another, in turns: files/s, and processor time of a file.

    SOUNDBENCH_DATA=... python benchmarks/many_files.py --base CHECKOUT [--rounds 5] [--clips 1000] [--short 5000]
                                                        [--write]

The sounds are those of UrbanSound8K under SOUNDBENCH_DATA, cut or repeated to four seconds (scored with `campplus`) and
to a tenth of a second (with `mobilenet`), as WAV at their own sample rate; weights are random, norms have seen noise.
Each checkout has a process, which loads both models once and scores a folder at a time with `score_files`, as `infer`
does, in as many threads as there are cores. The first round is not counted. The largest difference of a score is that
between the two. `--write` saves the table in `benchmarks/results/many_files.md`, whose other sections it keeps.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "many_files.md"
# For each folder: its backbone, and the seconds of a file.
FOLDERS = {"clips": ("campplus", 4.0), "short": ("mobilenet", 0.1)}


def work(checkout: Path, folder: Path) -> None:
    """Score the folders that standard input names with the code of a checkout."""
    sys.path[:0] = [str(checkout), str(checkout / "plugins")]
    import soundbench
    from soundbench.cli.process import own_process
    from soundbench.inference.many_files import Done, Wanted, score_files

    if Path(soundbench.__file__).parents[1] != checkout:
        raise SystemExit(f"{soundbench.__file__} is not of {checkout}")
    own_process("cpu")
    models = {name: soundbench.load(folder / f"{name}-model", device="cpu") for name in FOLDERS}
    for line in sys.stdin:
        name = line.strip()
        paths = sorted((folder / name).iterdir())
        began, spent = time.perf_counter(), time.process_time()
        rows = [one for one in score_files(models[name], paths, Wanted()) if not isinstance(one, Done)]
        took = time.perf_counter() - began, time.process_time() - spent
        print(json.dumps([*took, [list(row.scores.values()) for row in rows]]), flush=True)


def make(folder: Path, counts: dict[str, int]) -> None:
    """Write the sounds and the models."""
    import numpy as np
    import soundfile
    import torch

    from soundbench import Recipe, audio
    from soundbench.model import folder as model_folder
    from soundbench.model.assembly import assemble
    from soundbench.recipe import model_tables

    found = sorted((Path(os.environ["SOUNDBENCH_DATA"]) / "UrbanSound8K").glob("audio/fold*/*.wav"))
    for name, (backbone, seconds) in FOLDERS.items():
        (folder / name).mkdir()
        for number in range(counts[name]):
            path = found[number * len(found) // counts[name]]
            rate = audio.info(path).rate
            samples, _ = audio.decode(path, 0.0, seconds)
            soundfile.write(folder / name / f"{number:05}.wav", np.resize(samples, round(seconds * rate)), rate)
        torch.manual_seed(0)
        recipe = Recipe(dataset="tones", backbone=backbone, audio={"window": 4.0})
        made = assemble(recipe)
        with torch.no_grad():
            for _ in range(20):
                made.network.train()(0.1 * torch.randn(8, 16000), torch.full((8,), 16000))
        model_folder.save_model(folder / f"{name}-model", model_tables(recipe, made.dataset.classes), made.network)


def measure(base: Path, folder: Path, rounds: int) -> list[str]:
    """The lines of the table."""
    import numpy as np
    from turns import in_turns, line, ratio, runner

    lines = []
    with (
        runner(sys.executable, "many_files.py", "--work", folder, "--base", base) as one,
        runner(sys.executable, "many_files.py", "--work", folder, "--base", HERE.parent) as other,
    ):
        for name, (backbone, seconds) in FOLDERS.items():
            found: tuple[list[list[float]], list[list[float]]] = ([], [])
            scores = [None, None]
            for index in in_turns(rounds + 1, 2):
                *took, scores[index] = (one, other)[index].ask(name)
                found[index].append(took)
            (wall, cpu), (wall_now, cpu_now) = ([list(kind) for kind in zip(*each[1:], strict=True)] for each in found)
            count, apart = len(scores[0]), float(np.abs(np.array(scores[0]) - np.array(scores[1])).max())
            before, now = (count / min(each) for each in (wall, wall_now))
            what = f"{count} files of {seconds:g} s, `{backbone}`"
            lines += [
                line([f"{what}: files/s", f"{before:.1f}", f"{now:.1f}", f"{1 / ratio(wall_now, wall):.2f}"]),
                line(
                    [
                        f"{what}: processor time of a file",
                        f"{1000 * min(cpu) / count:.2f} ms",
                        f"{1000 * min(cpu_now) / count:.2f} ms",
                        f"{ratio(cpu_now, cpu):.2f}",
                    ]
                ),
                line([f"{what}: largest difference of a score", "", "", f"{apart:.0e}"]),
            ]
            print("\n".join(lines[-3:]), flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="the root of another checkout of soundbench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--short", type=int, default=5000)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.base.resolve(), options.work)
        return
    from turns import line, machine_info

    given = f"--rounds {options.rounds} --clips {options.clips} --short {options.short}"
    head = [f"`python benchmarks/many_files.py --base CHECKOUT {given}`: {machine_info()}.", ""]
    head += ["Files/s and processor time are those of the fastest round, the ratio is the median of the rounds.", ""]
    head += [line(["measurement", "base", "this checkout", "ratio"]), line(["---"] * 4)]
    print("\n".join(head), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), {"clips": options.clips, "short": options.short})
        lines = measure(options.base.resolve(), Path(folder), options.rounds)
    if options.write:
        _, mark, notes = RESULT.read_text(encoding="utf-8").partition("\n## ")
        RESULT.write_text("\n".join(["# Many files", "", *head, *lines, ""]) + mark + notes, encoding="utf-8")


if __name__ == "__main__":
    main()
