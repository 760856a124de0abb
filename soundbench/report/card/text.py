"""The text of a model card: the use of a model, its data, how well it does, what it cannot do, how it was made.

What is not known is said to be unknown. The card is sent to others, so it has no paths of the machine that made it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import tomli_w

from soundbench.messages import markdown, printable
from soundbench.report import calibration, pages
from soundbench.report.card import front_matter, start
from soundbench.report.html.numbers import counted, percent, with_interval
from soundbench.report.html.places import Places
from soundbench.report.metrics import metric_of
from soundbench.report.protocol import NOT_TESTED
from soundbench.report.rejecting import figures as rejecting

__all__ = ["Facts", "card", "recipe_in"]

# Up to so many classes have a row each.
_ROWS_UP_TO = 60
# What stands before the recipe.
_RECIPE = ("<details><summary>recipe.toml</summary>", "", "```toml")
# The names that hubs have for metrics, where they are not ours.
_TYPES = {"macro_f1": "f1"}


@attrs.frozen
class Facts:
    """What a card is made from.

    Attributes:
        report: the content of `report.json`.
        recipe: the tables of `recipe.toml`.
        model: the tables of `model.toml`.
        version: that of soundbench.
        trained: what was trained, and how it was tested, in a sentence.
    """

    report: Mapping[str, Any]
    recipe: Mapping[str, Any]
    model: Mapping[str, Any]
    version: str
    trained: str

    @property
    def name(self) -> str:
        """The name of the recipe."""
        return str(self.report.get("name", "model"))

    @property
    def dataset(self) -> str:
        """The name of the published data, or else that of the dataset; of one in a local file, that of the class."""
        if title := self.report.get("title"):
            return str(title)
        table = self.recipe.get("dataset")
        return str(table.get("use") if isinstance(table, Mapping) else "unknown").rpartition(":")[2]

    @property
    def tested(self) -> Mapping[str, Any]:
        """The report whose figures these are: the run's own, or that of the cross-validation of its recipe."""
        crossed = self.report.get("cross_validation")
        if not crossed:
            return self.report
        return {**self.report, **crossed, "metrics": {**crossed["metrics"], **self.recalibrated}}

    @property
    def recalibrated(self) -> Mapping[str, Any]:
        """The figures of a cross-validation whose scores were calibrated afterwards, as this model's are.

        They have no intervals. Empty where its metrics are of calibrated scores anyway, or the model's scores are not.
        """
        crossed = self.report.get("cross_validation") or {}
        found, own = crossed.get("calibration") or {}, self.report.get("calibration") or {}
        if found.get("source") != calibration.OTHER_FOLDS or "source" not in own or "reason" in own:
            return {}
        after = found["after"]
        return {name: {"value": after[name], "low": None, "high": None} for name in crossed["metrics"] if name in after}

    @property
    def protocol(self) -> str:
        """What was trained and tested, in a sentence or two."""
        crossed = self.report.get("cross_validation")
        return self.trained + (f" By the same recipe, in cross-validation: {crossed['sentence']}" if crossed else "")

    @property
    def began_with(self) -> Sequence[Mapping[str, str]]:
        """The weights that it began with, and what is known of them, as of `start.known_of`."""
        return self.report.get("began_with") or ()

    def license_of(self, what: str) -> str:
        """The licence of the `model` or of the `data`; empty where nobody has stated it."""
        return str((self.report.get("licenses") or {}).get(what, ""))


def card(facts: Facts) -> str:
    """The card, with its front matter."""
    shown = attrs.evolve(facts, report=Places.of(facts.report).report(facts.report))
    sections = (_use(shown), _data(shown), _figures(shown), _limits(shown), _again(shown))
    title = f"# {markdown(facts.name)}"
    body = "\n".join([title, *(line for section in sections for line in section)]) + "\n"
    return front_matter.page(_head(facts), _own(facts), body)


def recipe_in(text: str) -> str:
    """The recipe that a card shows, as TOML; empty where it shows none."""
    return text.replace("\r\n", "\n").partition("\n".join(_RECIPE))[2].partition("\n```")[0]


# For programs ---------------------------------------------------------------------------------------------------------


def _head(facts: Facts) -> dict[str, Any]:
    """The front matter as model hubs read it."""
    head = {
        "license": facts.license_of("model").lower() or "unknown",
        "library_name": "soundbench",
        "pipeline_tag": "audio-classification",
        "tags": ["soundbench", "audio", "sound-classification"],
    }
    metrics = [
        {"type": _TYPES.get(name, name), "name": metric_of(name).title, "value": figure["value"]}
        for name, figure in facts.tested["metrics"].items()
        if figure["value"] is not None
    ]
    if not metrics:
        return head
    result = {
        "task": {"type": "audio-classification"},
        "dataset": {
            "name": facts.dataset,
            "type": facts.dataset.lower(),
            "split": "cross-validation" if len(facts.tested.get("folds", ())) > 1 else "test",
        },
        "metrics": metrics,
    }
    return head | {"model-index": [{"name": facts.name, "results": [result]}]}


def _own(facts: Facts) -> dict[str, Any]:
    """What `soundbench models` reads."""
    keys = ("value", "low", "high")
    report = facts.tested
    return {
        "data": facts.dataset,
        "data_license": start.licences(facts.license_of("data"), facts.began_with, "data_license"),
        **_start(facts),
        "figures": {name: {key: figure[key] for key in keys} for name, figure in report["metrics"].items()},
        "clips": report["clips"],
        "groups": report["groups"],
        "summary": _summary(report),
        "protocol": facts.protocol,
    }


def _start(facts: Facts) -> dict[str, Any]:
    """For the card of a network that begins with this one: with what this one began."""
    if not facts.began_with:
        return {}
    return {"own_data_license": facts.license_of("data"), "began_with": list(facts.began_with)}


def _summary(report: Mapping[str, Any]) -> str:
    """The first figure and what it was measured on, in a line."""
    for name, figure in report["metrics"].items():
        return f"{metric_of(name).title} {with_interval(name, figure)}, on {_measured(report)}"
    return pages.NO_TEST


def _measured(report: Mapping[str, Any]) -> str:
    return f"{counted(report['clips'], 'test clip')} from {counted(report['groups'], 'group')}"


# For people -----------------------------------------------------------------------------------------------------------


def _use(facts: Facts) -> Iterator[str]:
    """What the model is for, and how it is called."""
    model, audio = facts.model, facts.model["audio"]
    several = "those of its classes that it hears" if model.get("multilabel") else "one of its classes"
    unknown = ", or `unknown`," if _rejects(model) else ""
    yield ""
    yield f"A model of soundbench, for sound classification: it gives a sound {several}{unknown} with a score."
    yield from ("", f"Its {len(model['classes'])} classes: {', '.join(map(markdown, model['classes']))}.")
    yield from ("", "## Use", "")
    yield "With soundbench installed; FOLDER is the folder of this file, or the name that a package gives the model:"
    yield ""
    yield from ("```sh", "soundbench infer FOLDER recording.wav", "soundbench stream FOLDER", "```", "")
    yield from ("```python", "import soundbench", "")
    yield from ('soundbench.load("FOLDER").predict("recording.wav").label', "```", "")
    yield "Sound may be WAV, FLAC, Ogg, MP3 and others (M4A, AAC and WebM with the extra `soundbench[av]`), of any"
    yield "length and sample rate. It is mixed to one channel, resampled to"
    yield f"{audio['rate']:,} Hz, and scored in windows of {audio['window']:g} s; the scores of a longer sound are the"
    yield "means over its windows."


def _data(facts: Facts) -> Iterator[str]:
    """What the model learnt from, and what its licences are."""
    parts = facts.report.get("parts") or {}
    table = _named(Places.of(facts.report), facts.recipe.get("dataset") or {})
    options = ", ".join(f"{key} = {value}" for key, value in table.items() if key != "use")
    yield from ("", "## Data", "")
    yield f"{markdown(facts.dataset)}" + (f" ({markdown(options)})" if options else "") + ":"
    yield ", ".join(f"{count:,} {part}" for part, count in parts.items()) + " clips."
    if said := start.sentence(facts.began_with):
        yield from ("", markdown(said))
    yield ""
    for what, key in (("data", "data_license"), ("model", "license")):
        stated = markdown(start.licences(facts.license_of(what), facts.began_with, key)) or "not stated"
        yield f"- Licence of the {what}: {stated.replace('not stated', '**not stated**')}."


def _figures(facts: Facts) -> Iterator[str]:
    """How the model was tested, and with which result."""
    report = facts.tested
    yield from ("", "## Figures", "", markdown(facts.protocol))
    for note in (report.get("protocol") or {}).get("notes", []):
        if note == NOT_TESTED and report["metrics"]:
            continue  # the figures of a cross-validation are known
        yield from ("", f"Note: {markdown(str(note).rstrip('.'))}.")
    if report["metrics"]:
        yield from ("", pages.headline(report), "", *pages.metric_lines(report))
        yield from _recalibrated(facts)
        if len(report["classes"]) <= _ROWS_UP_TO:
            yield from ("", "### By class", "", *pages.class_table(report))
    else:
        yield from ("", f"**{pages.NO_TEST[0].upper()}{pages.NO_TEST[1:]}.**")
    # What this network was calibrated on, and the figures of the folds.
    both = ({**report.get(name, {}), **facts.report.get(name, {})} for name in ("calibration", "reject"))
    calibrated, rejected = both
    own, crossed = (one.get("calibration", {}) for one in (facts.report, facts.report.get("cross_validation") or {}))
    given = "source" in crossed and "source" not in own and "reason" not in own  # and no fold was calibrated by it
    yield from calibration.lines({"calibration": own if given else calibrated})
    if crossed.get("source") == calibration.OTHER_FOLDS and not given:
        yield ""
        yield f"Before and after are of the cross-validation, each fold calibrated on {calibration.OTHER_FOLDS}."
    yield from rejecting.lines({**report, "reject": rejected})


def _recalibrated(facts: Facts) -> Iterator[str]:
    """Which figures of a cross-validation are of calibrated scores, and which are not."""
    if (facts.report.get("cross_validation") or {}).get("calibration", {}).get("source") != calibration.OTHER_FOLDS:
        return
    names = [metric_of(name).title for name in facts.recalibrated]
    if not names:
        yield from ("", "All these figures are of scores that are not calibrated.")
        return
    said = f"{', '.join(names[:-1])} and {names[-1]} are of calibrated scores, as this model gives them"
    yield from ("", f"{said[0].upper()}{said[1:]}, and have no")
    yield "intervals. The other figures are of the scores before calibration."


def _limits(facts: Facts) -> Iterator[str]:
    """What the model cannot do, as far as the files of its run say."""
    report, model = facts.tested, facts.model
    yield from ("", "## Limits", "")
    if "cross_validation" in facts.report:
        yield "- The figures are of networks that the same recipe trained without the clips that they were tested on."
        yield "  This network has learnt from all clips, and was not tested itself."
    if report["metrics"]:
        yield f"- The figures are of {_measured(report)} of {markdown(facts.dataset)}. Sound of other places and"
        yield "  microphones may fare worse. With labelled sound:"
        yield "  `soundbench evaluate FOLDER --dataset SOUNDS --out REPORT`."
        yield from _worst(report)
    if _rejects(model):
        yield "- Some sound of none of the classes is taken for one of them all the same."
    else:
        yield "- It never says that a sound is of none of its classes" + (
            ", but for one whose scores are all low." if model.get("multilabel") else "."
        )
    yield f"- Each window is scored by itself, and nothing above {model['audio']['rate'] / 2:,.0f} Hz is heard."
    yield "- Nobody has tested it for uses on which somebody's safety depends."


def _rejects(model: Mapping[str, Any]) -> bool:
    """Whether it calls sound of none of its classes unknown."""
    return bool((model.get("reject") or {}).get("use", "none") != "none")


def _worst(report: Mapping[str, Any]) -> Iterator[str]:
    """The classes of which most clips are missed, and those that were not tested."""
    missed = [row for row in report["per_class"] if row["support"] and row["recall"] < 1]
    rows = sorted(missed, key=lambda row: row["recall"])
    if rows:
        named = [f"{markdown(row['class'])} (found in {percent(row['recall'])} of its clips)" for row in rows[:3]]
        yield f"- The weakest classes: {', '.join(named)}."
    if missing := report["classes_without_clips"]:
        yield f"- Not tested, for want of clips: {', '.join(map(markdown, missing))}."


def _again(facts: Facts) -> Iterator[str]:
    """The recipe, and the commands that run it: where it is fitted to its own cross-validation, that first."""
    places = Places.of(facts.report)
    tables = {key: _named(places, value) for key, value in facts.recipe.items() if key != "observer"}
    given = {key: (tables.get(key) or {}).pop("predictions", None) for key in ("calibration", "reject")}
    fitted = {key: str(path) for key, path in given.items() if path}
    crossed = _own_folds(facts, list(fitted))
    yield from ("", "## How it was made", "")
    yield f"By soundbench {facts.version}, from this recipe, with the data in the place that `[dataset]` names" + (
        f". It was fitted to predictions from elsewhere, which this recipe does not make, in `{'`, `'.join(fitted)}`:"
        if fitted and crossed is None
        else ":"
    )
    yield from ("", "```sh")
    if crossed is not None:
        yield _command("--folds all", {f"split.{key}": value for key, value in crossed.items()}, "--out folds")
        fitted = dict.fromkeys(fitted, "folds/logits.safetensors")
    yield _command("", {f"{key}.predictions": path for key, path in fitted.items()}, "--out model" if fitted else "")
    yield from ("```", "")
    yield from _RECIPE
    yield from map(printable, tomli_w.dumps(tables).strip().splitlines())
    yield from ("```", "", "</details>")


def _own_folds(facts: Facts, fitted: Sequence[str]) -> Mapping[str, Any] | None:
    """What of the split differs in the cross-validation of this recipe, which all is fitted to; None without one."""
    crossed = facts.report.get("cross_validation")
    if not crossed or len({facts.recipe[key]["predictions"] for key in fitted}) != 1:
        return None
    return crossed.get("split") or {}


def _command(how: str, sets: Mapping[str, Any], out: str) -> str:
    """The command that runs the recipe, with other values of some keys."""
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in sets.items()}
    words = [f"--set {shlex.quote(f'{key}={value}')}" for key, value in values.items()]
    return printable(" ".join(word for word in ("soundbench run recipe.toml", how, *words, out) if word))


def _named(places: Places, value: Any) -> Any:
    """A value of the recipe, with the names of absolute paths."""
    if isinstance(value, Mapping):
        return {key: _named(places, item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_named(places, item) for item in value]
    return places.name(value) if isinstance(value, str) else value
