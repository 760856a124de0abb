"""The model `esc10` that comes with soundbench: trained, calibrated, measured, and laid into the package.

    SOUNDBENCH_DATA=... python benchmarks/esc10_model.py --out FOLDER [--recipe RECIPE] [--set KEY=VALUE ...] [--write]

1. FOLDER/folds: the recipe for each fold of ESC-10, trained on the four others; none of the clips has a part in the
   network that it is tested with.
2. FOLDER/final: the same recipe on all clips. Its calibration and its thresholds are fitted to what 1 gave.
3. FOLDER/unknown.json: what is called unknown by the five networks of 1 at the threshold that keeps 95% of all test
   clips: noise, by each component that rejects, which is what one is chosen by; then kinds of sound of UrbanSound8K
   that ESC-10 lacks, which nothing here is trained on, fitted to or chosen by. What the final network says of the same,
   and of UrbanSound8K's dogs and engines; and the five networks of parts of their test clips (`short_sounds.py`).

The same command goes on where it was stopped, and measures again when networks or what is asked have changed; another
recipe needs another FOLDER. `--write` copies the model into the package, with credits on its card, and writes
`benchmarks/results/esc10_model.md`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import short_sounds
import torch
from leak import percent as with_interval
from rejecting import Outputs, outputs
from short_sounds import share_unknown
from soundbench_plugins.reject.distance import Distance
from soundbench_plugins.reject.energy import Energy
from soundbench_plugins.reject.max_logit import MaxLogit
from turns import line, machine_info

import soundbench
from soundbench import files
from soundbench.data.batches import RawBatch
from soundbench.inference.predictions import means
from soundbench.model import logits
from soundbench.model.rejecting.noise import noise
from soundbench.model.rejecting.thresholds import fit_threshold
from soundbench.training.rejecting.fitting import of_held_out

ROOT = Path(__file__).parents[1]
PACKAGED = ROOT / "soundbench" / "models" / "esc10"
RESULT = Path(__file__).parent / "results" / "esc10_model.md"
MOST = 2_500_000
KINDS = ("air_conditioner", "drilling", "jackhammer", "siren", "street_music")
KEEP = 0.95
KNOWN = ("dog_bark", "engine_idling")  # of UrbanSound8K: a class of ESC-10, and what is near to another
FIRST = 5  # recordings of each, answered one by one
# Noise to be rejected: another draw than what the components are fitted to, and than what their rank was chosen by.
DRAW = 2611
LEVELS = tuple(range(-80, 1, 4))
SECONDS = (0.1, 0.3, 0.5, 0.7, 0.85, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 2.0, 2.35, 2.7, 3.0, 4.0, 5.0, 12.0)
RATES = (8000, 16000, 22050, 44100)
SHOWN = 0.05  # of a kind's clips, for the class that they are taken for to be named
COLOURS = ("white", "pink")
OTHERS = """
## Other kinds of sound

Of air conditioners, drills, jackhammers, sirens and street music, which ESC-10 lacks, {share}% are
unknown to the networks of the cross-validation, at the threshold that keeps 95% of the test clips; the interval is over
recordings. Measured on folds 1 and 2 of UrbanSound8K (J. Salamon, C. Jacoby, J. P. Bello, 2014), after everything else:
it trained, tuned and chose nothing.
"""
FIRST_OF_EACH = f"The first clips of {FIRST} recordings of each, as they come in the metadata:"
CREDITS = """
## Credits

The network learnt from ESC-10, a part of ESC-50: K. J. Piczak, "ESC: Dataset for Environmental Sound Classification",
Proceedings of the 23rd ACM Conference on Multimedia, 2015, <https://doi.org/10.1145/2733373.2806390>; the sounds are at
<https://github.com/karolpiczak/ESC-50>, under [CC BY 3.0](https://creativecommons.org/licenses/by/3.0/). They are cut
from recordings that people published on [Freesound](https://freesound.org); `LICENSE` of that repository names the
author and the licence of each clip. No sound of it is in this folder.
"""


# 1 and 2: training ----------------------------------------------------------------------------------------------------


def refuse_another(folds: Path, recipe: Path, sets: Sequence[str]) -> None:
    """End the script if the folds were trained by another recipe than this."""
    if not (folds / "recipe.toml").exists():
        return
    before, now = (soundbench.read_recipe(*one).tables() for one in ((folds / "recipe.toml",), (recipe, sets)))
    different = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if different:
        raise SystemExit(f"{folds}: is of another recipe, by {', '.join(different)}; give another --out")


def trained(name: str, recipe: Path, sets: Sequence[str], *words: str) -> Path:
    """A run in the working directory, from its beginning or from where it was stopped."""
    place = Path(name)
    if (place / "recipe.toml").exists():
        call = ["--resume", name]
    else:
        shutil.rmtree(place, ignore_errors=True)  # stopped before there was anything to continue with
        call = [str(recipe), *words, *(word for one in sets for word in ("--set", one)), "--out", name]
    subprocess.run([sys.executable, "-m", "soundbench", "run", *call], check=True)
    return place


# 3: what is unknown ---------------------------------------------------------------------------------------------------


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def components(classifier: soundbench.Classifier, train: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Each component that rejects, for a network: as the run has fitted it, and others for comparison."""
    count = len(classifier.classes)
    sounds = [[row["path"] for row in train if row["labels"] == name] for name in classifier.classes]
    parts = [outputs(classifier, own) for own in sounds]
    of_class = torch.tensor([len(vectors) for _, vectors in parts])  # windows, of which a clip may have several
    alone = Distance(count)
    alone.fit(*map(torch.cat, zip(*parts, strict=True)), torch.eye(count).repeat_interleave(of_class, 0))
    made = {"energy": Energy(count), "max-logit": MaxLogit(count), "distance, without noise": alone}
    return made | {"distance": classifier.scorer.rejector.module}


def scores(
    classifier: soundbench.Classifier, modules: dict[str, Any], sounds: Sequence[Any], rate: int | None = None
) -> dict[str, np.ndarray]:
    """The reject score of each sound by each component, the mean over its windows."""

    def compute(raw: RawBatch) -> np.ndarray:
        with torch.inference_mode():
            given: Outputs = classifier.scorer.outputs(raw, embeddings=True)
            found = [module(*given).double() for module in modules.values()]
        return torch.stack(found, 1).numpy()

    rows = np.stack(means(classifier.flow(sounds, rate, compute=compute)))
    return dict(zip(modules, rows.T, strict=True))


def noises(colour: Any) -> Iterator[tuple[int, list[np.ndarray]]]:
    """For each sample rate noise of a colour at each level and length, in 16 bits, clipped where it is loud."""
    for rate in RATES:
        drawn = [
            noise(colour, round(seconds * rate), (DRAW, rate, place, 100 + level)) * 10 ** (level / 20)
            for place, seconds in enumerate(SECONDS)
            for level in LEVELS
        ]
        yield rate, [np.round(np.clip(one, -1, 1) * 32767).astype(np.int16) for one in drawn]


def of_urbansound(kinds: Sequence[str]) -> list[dict[str, str]]:
    """The clips of some kinds in folds 1 and 2, each with its path; none of a recording that ESC-10 has too."""
    root, learnt = Path("data/UrbanSound8K"), {row["src_file"] for row in rows_of(Path("data/ESC-50/meta/esc50.csv"))}
    rows = [row for row in rows_of(root / "metadata/UrbanSound8K.csv") if row["fold"] in ("1", "2")]
    chosen = [row for row in rows if row["class"] in kinds and row["fsID"] not in learnt]
    return [row | {"path": str(root / f"audio/fold{row['fold']}" / row["slice_file_name"])} for row in chosen]


def fold_scores(run: Path) -> dict[str, Any]:
    """For the network of a fold, the reject scores by each component: of its test clips, of noise, of UrbanSound8K.

    And what it says of `parts` of its test clips.
    """
    classifier, clips = soundbench.load(run), rows_of(run / "clips.csv")
    train, test = ([row for row in clips if row["part"] == part] for part in ("train", "test"))
    modules = components(classifier, train)
    found = {"known": scores(classifier, modules, [row["path"] for row in test])}
    for colour in COLOURS:
        parts = [scores(classifier, modules, sounds, rate) for rate, sounds in noises(colour)]
        found[colour] = {name: np.concatenate([part[name] for part in parts]) for name in modules}
    found["others"] = scores(classifier, modules, [row["path"] for row in of_urbansound(KINDS)])
    lists: dict[str, Any] = {sound: {name: one.tolist() for name, one in by.items()} for sound, by in found.items()}
    own = {"distance": modules["distance"]}
    lists["parts"] = short_sounds.measured(
        classifier, test, lambda parts: scores(classifier, own, parts, classifier.rate)["distance"]
    )
    return lists


def kept_elsewhere(folds: Sequence[Any], name: str) -> float:
    """The share of test clips that is kept by the threshold of the other folds: whether networks agree on it."""
    known = [np.array(fold["known"][name]) for fold in folds]
    kept = [
        known[own] >= fit_threshold(np.concatenate(known[:own] + known[own + 1 :]), [], KEEP)
        for own in range(len(known))
    ]
    return float(np.concatenate(kept).mean())


def out_of_fold(folds: Sequence[Any]) -> dict[str, Any]:
    """For each component the shares that are unknown at 95% of all test clips kept; and of each kind, by `distance`."""
    others = of_urbansound(KINDS)
    kinds, recordings = (np.array([row[column] for row in others]) for column in ("class", "fsID"))
    found: dict[str, Any] = {}
    for name in folds[0]["known"]:
        threshold = fit_threshold(np.concatenate([fold["known"][name] for fold in folds]), [], KEEP)
        shares = {key: [np.array(fold[key][name]) < threshold for fold in folds] for key in (*COLOURS, "others")}
        found[name] = {key: [float(one.mean()) for one in by] for key, by in shares.items()}
        found[name]["elsewhere"] = kept_elsewhere(folds, name)
        found[name]["interval"] = share_unknown(np.concatenate(shares["others"]), [*recordings] * len(folds))
        found[name]["kinds"] = {
            kind: float(np.mean([one[kinds == kind].mean() for one in shares["others"]])) for kind in KINDS
        }
    return found


def of_parts(folds: Sequence[Any]) -> list[str]:
    """The table of parts of test clips, at the threshold that keeps 95% of the whole ones."""
    threshold = fit_threshold(np.concatenate([fold["known"]["distance"] for fold in folds]), [], KEEP)
    return short_sounds.table([fold["parts"] for fold in folds], threshold)


def rejected(classifier: soundbench.Classifier, sounds: Iterable[tuple[int, list[np.ndarray]]]) -> float:
    """The share of sounds, by their sample rates, that is unknown."""
    return float(np.mean([one.rejected for rate, each in sounds for one in classifier.predict(each, rate)]))


def kept_by_the_model(run: Path, folds: Path) -> float:
    """The share of all test clips of the folds that is kept by the threshold of the final network."""
    known = of_held_out(logits.read(folds / "logits.safetensors"))
    low = soundbench.load(run).scorer.rejector.rejected(known.of_clips, known.silent_clips, "clip")
    return float(1 - low.mean())


def by_the_model(run: Path) -> dict[str, Any]:
    """What the final network says of silence, of noise, and of each clip of some kinds of UrbanSound8K."""
    classifier = soundbench.load(run)
    found: dict[str, Any] = {}
    for colour in COLOURS:
        found[colour] = rejected(classifier, noises(colour))
    silent = [np.zeros(round(seconds * RATES[0]), np.int16) for seconds in SECONDS]
    found["silence"] = rejected(classifier, [(RATES[0], silent)])
    rows = of_urbansound([*KINDS, *KNOWN])
    labels = [one.label for one in classifier.predict([Path(row["path"]) for row in rows])]
    columns = ("class", "fsID", "slice_file_name")
    found["clips"] = [[*(row[name] for name in columns), label] for row, label in zip(rows, labels, strict=True)]
    return found


def asked(runs: Iterable[Path]) -> dict[str, Any]:
    """What the figures depend on: the networks by the digests of their files, and the sounds."""
    networks = [json.loads((run / "model" / "digests.json").read_text(encoding="utf-8")) for run in runs]
    sounds = [DRAW, LEVELS, SECONDS, RATES, COLOURS, KINDS, KNOWN, short_sounds.SECONDS]
    found: dict[str, Any] = json.loads(json.dumps({"networks": networks, "sounds": sounds}))
    return found


def measured(place: Path, runs: Sequence[Path], final: Path) -> dict[str, Any]:
    """The figures of the networks of the folds and of the final one, from a file if they are still the same."""
    now = asked([*runs, final])
    if place.exists() and (before := json.loads(place.read_text(encoding="utf-8"))).get("asked") == now:
        return dict(before)
    each = [fold_scores(run) for run in runs]
    found = {"asked": now, "out of fold": out_of_fold(each), "parts": of_parts(each), "final": by_the_model(final)}
    files.write_json(place, found)
    return found


# Writing --------------------------------------------------------------------------------------------------------------


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def between(values: Sequence[float]) -> str:
    """The mean over the networks, and the least and most."""
    return f"{percent(float(np.mean(values)))} ({percent(min(values))} to {percent(max(values))})"


def page(command: str, folds: dict[str, Any], found: dict[str, Any], kept: float) -> str:
    """The figures as a page; `kept` is the share that the model's threshold keeps."""
    final = found["final"]
    lines = [
        "# The model esc10",
        f"`{command}`: {machine_info()}.",
        f"Five folds pooled, {folds['clips']} clips of {folds['groups']} recordings: accuracy in % "
        f"{with_interval(folds['metrics']['accuracy'])}; {folds['seconds']:,.0f} s for the epochs of the five networks "
        f"of {folds['parameters']:,} parameters.",
        "What is unknown, in %, at the threshold that keeps 95% of the test clips of all folds: the mean of the five "
        f"networks (least to most). Noise is at {len(LEVELS)} levels from {LEVELS[0]} to {LEVELS[-1]} dB, of "
        f"{len(SECONDS)} lengths from {SECONDS[0]} to {SECONDS[-1]} s, at {len(RATES)} sample rates. UrbanSound8K is "
        f"the clips of {', '.join(KINDS)} in folds 1 and 2, without recordings that ESC-50 has too. What is kept "
        "elsewhere are test clips, at the threshold of the four other networks.",
    ]
    table = [line(["component", "white noise", "pink noise", "UrbanSound8K", "kept elsewhere"]), line(["---"] * 5)]
    for name, one in found["out of fold"].items():
        table.append(line([name, *(between(one[key]) for key in (*COLOURS, "others")), percent(one["elsewhere"])]))
    distance = found["out of fold"]["distance"]
    clips, recordings = (len({clip[place] for clip in final["clips"] if clip[0] in KINDS}) for place in (2, 1))
    over = (
        f"Over their recordings, {clips:,} clips of {recordings}, the share by *distance* is "
        f"{with_interval(distance['interval'])}."
    )
    rest = (
        f"The model's own threshold keeps {percent(kept)}% of the test clips of all folds: less than "
        f"{percent(KEEP)}% where that rejects more of the noise that it is fitted on. The model itself calls "
        f"{percent(final['silence'])}% of digital silence unknown, {percent(final['white'])}% "
        f"of white and {percent(final['pink'])}% of pink noise."
    )
    kinds, first = by_kind(final["clips"], distance["kinds"]), first_of_each(final["clips"])
    shown = ["By kind, what the model itself says with its own threshold:", kinds, FIRST_OF_EACH, first]
    short = "What the five networks say of parts of their own test clips, around the middle of the energy:"
    return "\n\n".join([*lines, "\n".join(table), over, short, "\n".join(found["parts"]), rest, *shown]) + "\n"


def by_kind(clips: Sequence[Sequence[str]], out_of_fold: dict[str, float]) -> str:
    """A row for each kind of sound: what is unknown to the five networks and to the model, and what it is taken for."""
    head = ["kind", "clips, recordings", "unknown out of fold, by distance", "unknown to the model", "taken for"]
    rows = [line(head), line(["---"] * len(head))]
    for kind in (*KINDS, *KNOWN):
        own = [clip for clip in clips if clip[0] == kind]
        shares = {name: count / len(own) for name, count in Counter(clip[3] for clip in own).most_common()}
        unknown = shares.pop("unknown", 0.0)
        taken = ", ".join(f"{name} {percent(share)}" for name, share in shares.items() if share >= SHOWN)
        sizes = f"{len(own)}, {len({clip[1] for clip in own})}"
        elsewhere = percent(out_of_fold[kind]) if kind in out_of_fold else ""
        rows.append(line([kind, sizes, elsewhere, percent(unknown), taken]))
    return "\n".join(rows)


def first_of_each(clips: Sequence[Sequence[str]]) -> str:
    """A row for the first clip of each of some recordings."""
    rows = [line(["clip", "kind", "answer"]), line(["---"] * 3)]
    for kind in KNOWN:
        first = {clip[1]: clip for clip in reversed(clips) if clip[0] == kind}
        rows += [line([clip[2], kind, clip[3]]) for clip in clips if first.get(clip[1]) == clip][:FIRST]
    return "\n".join(rows)


def lay_in(model: Path, unknown: dict[str, float]) -> None:
    """Copy the model into the package; its card gets the share of other kinds of sound that is unknown, and credits."""
    size = sum(file.stat().st_size for file in model.rglob("*"))
    if size > MOST:
        raise SystemExit(f"{model}: {size:,} bytes, more than the {MOST:,} that the package has room for")
    shutil.rmtree(PACKAGED, ignore_errors=True)
    shutil.copytree(model, PACKAGED)
    with (PACKAGED / "README.md").open("a", encoding="utf-8") as card:
        card.write(OTHERS.format(share=with_interval(unknown)) + CREDITS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "esc10_model.toml")
    parser.add_argument("--set", nargs="+", action="extend", default=[], dest="sets", metavar="KEY=VALUE")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    recipe = options.recipe.absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    os.chdir(options.out)  # the recipes name data/ESC-50, and the final one folds/
    if not Path("data").exists():
        Path("data").symlink_to(Path(os.environ["SOUNDBENCH_DATA"]).absolute())
    sets = ['name="esc10"', 'report.license="Apache-2.0"', *options.sets]
    refuse_another(Path("folds"), recipe, sets)
    folds = trained("folds", recipe, sets, "--folds", "all")
    refuse_another(folds, recipe, sets)  # it may have changed in these hours
    fitted = [f'{kind}.predictions="folds/logits.safetensors"' for kind in ("calibration", "reject")]
    final = trained("final", recipe, [*sets, "split.test=0", *fitted])
    runs = sorted(folds.glob("fold-*"))
    report = json.loads((folds / "report.json").read_text(encoding="utf-8"))
    # Of the epochs, without what was made again after them.
    report["seconds"] = sum(float(row["seconds"]) for run in runs for row in rows_of(run / "history.csv"))
    shown = f"python benchmarks/esc10_model.py --out FOLDER --recipe recipes/{recipe.name}"
    shown += f" --set {shlex.join(options.sets)}" if options.sets else ""
    found = measured(Path("unknown.json"), runs, final)
    text = page(shown, report, found, kept_by_the_model(final, folds))
    print(text)
    if options.write:
        lay_in(final / "model", found["out of fold"]["distance"]["interval"])
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
