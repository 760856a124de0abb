"""What is installed: the libraries of soundbench, its extras, plugins with verdicts, the licence."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution, metadata, version
from pathlib import Path

from packaging.requirements import Requirement

from soundbench.doctor.finding import Finding, absent, broken, ok
from soundbench.errors import NotInstalled, PluginError

__all__ = ["extra", "extras", "libraries", "licence", "plugins", "soundbench"]

OWN = "soundbench"
# What an extra is for; one that is not here is listed without.
PURPOSES = {
    "av": "M4A, AAC, WebM and other formats",
    "export": "soundbench export, and ONNX files in use",
    "mlflow": 'the observer "mlflow"',
    "optuna": "sweeps that search",
    "parquet": "infer --format parquet",
    "serve": "soundbench serve",
    "ssl": "wav2vec 2.0, WavLM and other pretrained encoders",
    "tensorboard": 'the observer "tensorboard"',
    "yaml": "the models of macls",
}
# Extras for those who work on soundbench itself.
_OURS = {"dev", "docs"}


def extras() -> list[str]:
    """The names of the extras that a user may want; none if soundbench is not installed but on the path."""
    try:
        return sorted(set(metadata(OWN).get_all("Provides-Extra") or ()) - _OURS)
    except PackageNotFoundError:
        return []


def _requirements(chosen: str) -> list[Requirement]:
    """The requirements that an extra adds, or with "", those of soundbench itself."""
    found = [Requirement(line) for line in distribution(OWN).requires or ()]
    if not chosen:
        return [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]
    return [
        one
        for one in found
        if one.marker is not None and one.marker.evaluate({"extra": chosen}) and not one.marker.evaluate({"extra": ""})
    ]


def _versions(requirements: list[Requirement]) -> tuple[dict[str, str | None], list[str]]:
    """The version of each requirement, and what is wrong with those that are missing or do not fit."""
    found: dict[str, str | None] = {}
    wrong = []
    for one in requirements:
        try:
            found[one.name] = there = version(one.name)
        except PackageNotFoundError:
            found[one.name] = None
            wrong.append(f"{one.name} is not installed")
            continue
        if not one.specifier.contains(there, prereleases=True):
            wrong.append(f"{one.name} is {there}, where {one.specifier} is needed")
    return found, wrong


def soundbench() -> Finding:
    """The version of soundbench, and the folder that it is used from."""
    folder = str(Path(__file__).parents[1])
    try:
        found = version(OWN)
    except PackageNotFoundError:
        return broken(f"{folder} is on the path and not installed, so that no plugin is found", cure="pip install it")
    return ok(f"{found}, {folder}", {"version": found, "folder": folder})


def libraries() -> Finding:
    """The libraries that soundbench always needs, with their versions."""
    found, wrong = _versions(_requirements(""))
    if wrong:
        return broken("; ".join(wrong), found, "pip install --upgrade soundbench")
    return ok(", ".join(f"{name} {there}" for name, there in found.items()), found)


def extra(name: str) -> Finding:
    """The libraries of one extra."""
    found, wrong = _versions(_requirements(name))
    purpose = f" (for {PURPOSES[name]})" if name in PURPOSES else ""
    if wrong:
        return absent("; ".join(wrong) + purpose, found, f"pip install 'soundbench[{name}]'")
    return ok(", ".join(f"{library} {there}" for library, there in found.items()) + purpose, found)


def plugins() -> Finding:
    """Every component that is installed, imported, as a recipe that names it would."""
    from soundbench.recipe.catalogue import catalogue
    from soundbench.recipe.registry import Registry

    registry = Registry()
    counts: dict[str, int] = {}
    bad, lacking = [], []
    for listing in registry.listings():
        origin = f"{listing.distribution} {listing.version}".strip()
        counts[origin] = counts.get(origin, 0) + 1
        try:
            registry.load(listing)
        except NotInstalled as error:
            lacking.append(str(error))
        except PluginError as error:
            bad.append(str(error))
    usable = sum(counts.values()) - len(bad) - len(lacking)
    listed = ", ".join(f"{origin} ({count})" for origin, count in counts.items())
    says = f"{usable} of {sum(counts.values())} components can be used: {listed or 'none is installed'}"
    twice = list(dict.fromkeys(entry.note for entry in catalogue(registry) if entry.note))
    details = (*bad, *lacking, *twice)
    values = {"components": counts, "broken": bad, "lacking": lacking, "claimed twice": twice}
    cure = "soundbench list-plugins --check shows each"
    return broken(says, values, cure, details) if bad else ok(says, values, details=details)


def licence() -> Finding:
    """The licence of soundbench, and where its text is."""
    files = [file for file in distribution(OWN).files or () if file.name == "LICENSE"]
    name = str(metadata(OWN)["License-Expression"])
    return ok(name + (f", {files[0].locate()}" if files else ""), {"licence": name})
