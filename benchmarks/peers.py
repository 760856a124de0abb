"""Other programs for sound classification beside soundbench: the same work on the same sound, alternating.

    SOUNDBENCH_DATA=... python benchmarks/peers.py --environments FOLDER [--only TASK ... | --write] [--rounds 3]

`bash benchmarks/peers.sh FOLDER` makes the environments of the peers, each with its public package. The sound is that
of ESC-50 under SOUNDBENCH_DATA, cut or joined to clips of one length and written as WAV at the sample rate of the
network, which is the same on both sides, with the same weights where the sound is scored: then the scores are compared.
Every program runs in a process of its own with one thread, and loads its model before the turns; a first turn does not
count. Processor time is that of the process with its children, and hardly depends on other load; seconds do.
`benchmarks/peer_programs.py` holds what a user writes for each. `--write` saves the table in
`benchmarks/results/peers.md`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from peer_programs import CNN10
from safetensors.torch import load_file
from soundbench_plugins.layers.third_party_checkpoints import renamed
from torch import Tensor
from turns import HERE, in_turns, line, machine_info, ratio, runner

from soundbench import audio
from soundbench import recipe as recipes
from soundbench.model import assembly
from soundbench.model.folder import save_model
from soundbench.model.importing import fill, import_model

RESULT = HERE / "results" / "peers.md"
CLASSES = [str(number) for number in range(10)]


class Task(NamedTuple):
    """What both sides do.

    Attributes:
        what: in a few words.
        peer: its name and version.
        environment: the folder of its environment.
        programs: the peer's ways of doing it, of which the fastest counts.
        own: soundbench's program.
        rate: sample rate of the clips in Hz.
        seconds: their length.
        count: clips of a turn.
        prepare: makes the models of both, given the task's folder and the peer's Python; none for training.
    """

    what: str
    peer: str
    environment: str
    programs: tuple[str, ...]
    own: str
    rate: int
    seconds: float
    count: int
    prepare: Callable[[Path, str], None] | None = None


def made_by(python: str, name: str, folder: Path) -> None:
    subprocess.run([python, HERE / "peer_programs.py", name, folder], check=True, stdout=subprocess.DEVNULL)


def save(folder: Path, tables: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Save a model of soundbench with those weights; the network keeps its own where there are none."""
    model = recipes.read_model(tables, source="benchmarks/peers.py")
    network, _ = assembly.make_network(model, "benchmarks/peers.py")
    fill(folder, network, {**network.state_dict(), **weights})
    save_model(folder / "model", recipes.model_tables(model, model.classes, False, None), network)


def of_macls(folder: Path, python: str) -> None:
    (folder / "labels.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    sounds = sorted(map(str, folder.glob("sounds/*/*.wav")))
    (folder / "clips.txt").write_text("\n".join(sounds), encoding="utf-8")
    made_by(python, "make_macls", folder)
    import_model("macls", folder / "CAMPPlus_Fbank", folder / "model", {"window": 4.0})


def of_panns(folder: Path, python: str) -> None:
    made_by(python, "make_panns", folder)
    import_model("panns", folder / "cnn14.pth", folder / "model")


def of_transformers(folder: Path, python: str) -> None:
    made_by(python, "make_transformers", folder)
    given = load_file(folder / "wav2vec2" / "model.safetensors")
    names = {"projector": "head.embed.0", "classifier": "head.classify"}
    weights = {f"{own}.{kind}": given[f"{name}.{kind}"] for name, own in names.items() for kind in ("weight", "bias")}
    tables = {
        "classes": [f"LABEL_{name}" for name in CLASSES],
        "audio": {"rate": 16000, "window": 4.0},
        "featurizer": {"use": "wav2vec2", "model": str(folder / "wav2vec2"), "layer": -1, "frozen": True},
        "backbone": "identity",
        "pooling": "tap",
        "head": {"embedding": 256, "norm_before": False, "bias": True, "norm_after": "none", "activation": "none"},
        "loss": "cross-entropy",
    }
    save(folder, tables, weights)


def of_autrainer(folder: Path, python: str) -> None:
    """Its model is the result of an epoch on a few clips."""
    write_lists(folder, 16, 32000, 2.0)
    program = ("peer_programs.py", "cnn10_of_autrainer", folder, "--epochs", 1)
    with runner(python, *program, log=folder / "log.txt") as theirs:
        theirs.ask("epoch")
    trained = next(folder.glob("results/default/training/Sounds_*/_best/model.pt"))
    names = {f"conv_block#.{part}": f"backbone.blocks.#.{part}" for part in ("conv1", "bn1", "conv2", "bn2")}
    names |= {"bn0": "backbone.bn0", "fc1": "head.embed.1", "out": "head.classify"}
    written = tomllib.loads(CNN10.replace("EPOCHS", "1"))
    tables = {name: written[name] for name in ("featurizer", "backbone")} | {
        "classes": CLASSES,
        "audio": {"rate": 32000, "window": 5.0},
        "pooling": "max-mean",
        "head": {"embedding": 512, "norm_before": False, "norm_after": "none", "activation": "relu", "dropout": 0.5},
        "loss": "cross-entropy",
    }
    save(folder, tables, renamed(torch.load(trained, weights_only=True), names))


TASKS = {
    "train-campplus": Task(
        "train CAM++, batches of 16, its augmentation",
        "macls 1.0.6",
        "macls",
        ("campplus_of_macls",),
        "campplus_of_soundbench",
        16000,
        3.0,
        48,
    ),
    "train-cnn10": Task(
        "train CNN10, batches of 8, features computed before",
        "autrainer 0.10.0",
        "autrainer",
        ("cnn10_of_autrainer",),
        "cnn10_of_soundbench",
        32000,
        2.0,
        48,
    ),
    "score-campplus": Task(
        "score files with CAM++",
        "macls 1.0.6",
        "macls",
        ("macls_one_by_one", "macls_in_tens"),
        "soundbench_scoring",
        16000,
        4.0,
        100,
        of_macls,
    ),
    "score-cnn10": Task(
        "score files with CNN10",
        "autrainer 0.10.0",
        "autrainer",
        ("autrainer_scoring",),
        "soundbench_scoring",
        32000,
        5.0,
        32,
        of_autrainer,
    ),
    "score-cnn14": Task(
        "score files with CNN14",
        "panns_inference 0.1.1",
        "panns",
        ("panns_scoring",),
        "soundbench_scoring",
        32000,
        10.0,
        16,
        of_panns,
    ),
    "score-wav2vec2": Task(
        "score files with wav2vec 2.0, 256 wide, 4 layers",
        "transformers 5.24.0, its pipeline",
        "transformers",
        ("transformers_scoring",),
        "soundbench_scoring",
        16000,
        4.0,
        32,
        of_transformers,
    ),
}

COLUMNS = (
    "task",
    "clips of a turn",
    "peer",
    "its clips per processor second",
    "soundbench's",
    "soundbench over the peer",
    "clips/s",
    "peak memory",
    "lines",
    "scores differ by",
)

NOTES = """
- The work is equal: one thread each, the same files at the network's rate, so that nobody resamples, one window a file.
  Where files are scored, the weights are the same random ones, and the last column says how far the scores are apart
  (macls rounds its own to five digits). macls is asked for one file at a time and for tens; the faster counts.
- autrainer trains on features that `autrainer preprocess` wrote, soundbench on those of `train.extracted`; writing them
  is not counted. Networks, batches and optimizers are the same, so nearly all of a step is the same convolutions.
- Lines are those of `benchmarks/peer_programs.py`: the script or the configuration that a user writes, without lists of
  sounds. macls needs few to train since its package has the configuration; soundbench states it in the recipe.
- Of the pipeline's time 80% is wav2vec 2.0's convolutions, the same calls of oneDNN at the same speed on both sides. In
  one piece a batch is slower than file after file, since the kernel clears memory for every layer: soundbench computes
  four seconds of sound at a time.
- Processor time includes the kernel's. When this was measured, other programs ran on the same cores: clips/s are what
  they left over and mean little; clips per processor second suffer less, through shared caches.
"""


def write_sounds(folder: Path, count: int, rate: int, seconds: float, first: int = 0) -> list[Path]:
    """Write clips of ESC-50, one after the other joined to that length, as WAV; clips from the place `first` on."""
    found = sorted((Path(os.environ["SOUNDBENCH_DATA"]) / "ESC-50" / "audio").glob("*.wav"))
    each = -(-round(seconds * rate) // (5 * rate))
    folder.mkdir(parents=True)
    written = [folder / f"{number:03}.wav" for number in range(count)]
    for number, path in enumerate(written):
        places = [((first + number) * each + offset) % len(found) for offset in range(each)]
        samples = np.concatenate([audio.load(found[place], rate) for place in places])
        soundfile.write(path, np.resize(samples, round(seconds * rate)), rate, subtype="PCM_16")
    return written


def write_lists(folder: Path, count: int, rate: int, seconds: float) -> None:
    """Write clips to train on and two to test, of ten classes that have no meaning, and the lists of all programs."""
    data = folder / "data"
    sounds = write_sounds(data / "default", count + 2, rate, seconds)
    labels = [number % 10 for number in range(len(sounds))]
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES), encoding="utf-8")
    for name, part in (("train", slice(count)), ("dev", slice(count, None)), ("test", slice(count, None))):
        pairs = list(zip(sounds[part], labels[part], strict=True))
        rows = "".join(f"{path}\t{label}\n" for path, label in pairs)
        (folder / f"{name}.txt").write_text(rows, encoding="utf-8")
        table = "filename,label\n" + "".join(f"{path.name},{label}\n" for path, label in pairs)
        (data / f"{name}.csv").write_text(table, encoding="utf-8")


def apart(own: list[dict[str, float]], other: list[dict[str, float]]) -> str:
    """The largest difference of two programs' scores, over the classes that the peer returns."""
    worst = max(
        abs(mine[name] - score)
        for mine, theirs in zip(own, other, strict=True)
        for name, score in theirs.items()
        if name in mine
    )
    return f"{worst:.0e}"


def measure(task: Task, python: str, rounds: int, folder: Path) -> list[str]:
    """The row of a task."""
    epochs = rounds + 1 if task.prepare is None else 0
    if task.prepare is None:
        write_lists(folder, task.count, task.rate, task.seconds)
    else:
        for number in range(rounds):
            write_sounds(folder / "sounds" / str(number), task.count, task.rate, task.seconds, number * task.count)
        task.prepare(folder, python)
    with ExitStack() as stack:
        pairs = [*((python, name) for name in task.programs), (sys.executable, task.own)]
        programs = [
            stack.enter_context(
                runner(each, "peer_programs.py", name, folder, "--epochs", epochs, log=folder / f"{name}.log")
            )
            for each, name in pairs
        ]
        for each in programs:  # the first turn does not count
            each.ask(*(["epoch"] if epochs else ["score", 0]))
        turns: list[list[tuple[float, float]]] = [[] for _ in programs]
        for number, place in enumerate(in_turns(rounds, len(programs))):
            command = ["epoch"] if epochs else ["score", number // len(programs)]
            turns[place].append(programs[place].ask(*command))
        used = [[processor for _, processor in each] for each in turns]
        best = min(range(len(task.programs)), key=lambda place: sum(used[place]))
        theirs, own = programs[best], programs[-1]
        scores = "" if epochs else apart(own.ask("scores", 0), theirs.ask("scores", 0))
        speeds = [task.count * rounds / sum(used[place]) for place in (best, -1)]
        wall = [task.count * rounds / sum(seconds for seconds, _ in turns[place]) for place in (best, -1)]
        both = [f"{each.ask('peak'):,.0f}" for each in (theirs, own)]
        lines = [str(each.ask("lines")) for each in (theirs, own)]
    return [
        f"{task.what}; {task.seconds:g} s at {task.rate // 1000} kHz",
        str(task.count),
        task.peer,
        f"{speeds[0]:.2f}",
        f"{speeds[1]:.2f}",
        f"**{ratio(used[best], used[-1]):.2f}**",
        " and ".join(f"{each:.2f}" for each in wall),
        " and ".join(both) + " MB",
        " and ".join(lines),
        scores,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, required=True, help="the folder that peers.sh made")
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.write and options.only != list(TASKS):
        parser.error("--write saves the whole table, and --only measures a part of it: leave one of them out")
    pythons = {
        name: options.environments.absolute() / TASKS[name].environment / "bin" / "python" for name in options.only
    }
    missing = [str(path) for path in pythons.values() if not path.exists()]
    if missing:
        parser.error(f"{missing[0]} does not exist: make it with bash benchmarks/peers.sh {options.environments}")
    lines = [
        f"`python benchmarks/peers.py --rounds {options.rounds}`: {machine_info()}; one thread for each program. Pairs "
        "are the peer's figure and soundbench's. Scores are compared over the classes that the peer returns.",
        "",
        line(COLUMNS),
        line(["---"] * len(COLUMNS)),
    ]
    print("\n".join(lines), flush=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in options.only:
        with tempfile.TemporaryDirectory() as place:
            os.environ["HOME"] = os.environ["SOUNDBENCH_CACHE"] = place  # nothing of another run is read
            lines.append(line(measure(TASKS[name], str(pythons[name]), options.rounds, Path(place) / "task")))
        print(lines[-1], flush=True)
        if options.write:
            RESULT.write_text("\n".join(["# Peers", "", *lines, NOTES]), encoding="utf-8")


if __name__ == "__main__":
    main()
