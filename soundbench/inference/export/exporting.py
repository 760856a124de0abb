"""Export a trained model to one file for another runtime, which is compared with the model before it is kept."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from soundbench import files
from soundbench.contracts import Program, Runner
from soundbench.errors import BrokenPlugin, CallError, DataError, RecipeError, RunError, RunPlaceError, SoundbenchError
from soundbench.inference.classifier import Classifier
from soundbench.inference.export import sounds
from soundbench.inference.export.blame import named, to_blame
from soundbench.inference.export.comparing import NEAR, SAME, Comparison, compare, milliseconds
from soundbench.inference.export.metadata import card_of, metadata_of
from soundbench.inference.export.program import program_of
from soundbench.inference.export.sounds import RunClips, Sample
from soundbench.inference.export.thresholds import fit_again, has_thresholds
from soundbench.inference.loading import find_model, load
from soundbench.messages import out_of_memory
from soundbench.model import folder as model_folder
from soundbench.model.named.names import model_path
from soundbench.model.network import cost
from soundbench.model.windows import cut_windows
from soundbench.recipe.registry import Component, Registry
from soundbench.recipe.structuring import problems_of
from soundbench.training.log import Say, to_stderr

__all__ = ["EXPORTS", "Export", "export"]

EXPORTS = "exports"
"""The folder of a run directory that exports are written to."""

_RECORD = "export.json"
# From so many windows are the ranges of values taken, for 8 bits.
_EXAMPLES = 64


@attrs.frozen
class Export:
    """An export that is kept.

    Attributes:
        path: the file; its comparison is in `export.json` beside it, too.
        bytes: its size.
        macs: multiply-adds of a window.
        milliseconds: the time of a window, on this machine's CPU.
        milliseconds_before: the same of the model.
        thresholds: whose thresholds it has: the model's, or those that were fitted again to its scores in 8 bits.
        compared_on: which sounds it was compared on.
        comparison: how it differs from the model.
    """

    path: Path
    bytes: int
    macs: int
    milliseconds: float
    milliseconds_before: float
    thresholds: str
    compared_on: str
    comparison: Comparison


@attrs.frozen(eq=False)
class _Model:
    """What is exported, and where it comes from."""

    given: Path
    classifier: Classifier
    folder: Path
    tables: Mapping[str, Any]

    @property
    def is_run(self) -> bool:
        """Whether it is a run directory, not a model folder alone."""
        return self.folder != self.given


def export(
    run: str | os.PathLike[str],
    to: str,
    out: str | os.PathLike[str] | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    int8: str | os.PathLike[str] | None = None,
    compare_on: str | os.PathLike[str] | None = None,
    accept: bool = False,
    trust_code: bool = False,
    accept_changes: bool = False,
    registry: Registry | None = None,
    say: Say = to_stderr,
) -> Export:
    """Export a model, and keep the file if it gives the scores of the model.

    Args:
        run: the run directory, or only a model folder or the name of an installed model, which need `out`.
        to: the exporter.
        out: the file to write; None for `model` and the exporter's suffix in the run's `exports/`.
        options: the exporter's options.
        int8: a sound file or folder from which the ranges of values are taken, to compute in integers of 8 bits.
        compare_on: a sound file or folder to compare on, at least 32 sounds; None for the run's test clips.
        accept: whether to keep a file that differs more than it may.
        trust_code: whether Python code stored with the model (`use = "./mine.py:Net"`) may be executed.
        accept_changes: whether the model's files may have changed since soundbench wrote them.
        registry: where the exporter is found; None for those that are installed.
        say: called with each message; prints to standard error by default.

    Raises:
        CallError: an option is wrong, or one of the paths does not exist.
        RunPlaceError: the file exists.
        DataError: the sounds to compare on cannot be read, or are too few.
        RunError: the model cannot be used, or its export differs too much.
        PluginError: the exporter, or a component of the model, cannot be used.
    """
    component = (registry or Registry()).get("exporter", to)
    values = _options(component, options or {})
    model = _opened(model_path(run), trust_code, accept_changes)
    path = _place(model, component, os.fspath(run), out, int8 is not None)
    _refuse_components(model)
    samples, compared_on = _samples(model, compare_on, trust_code)
    macs = int(cost(model.classifier.network, model.classifier.grid.window)["macs"])
    metadata = metadata_of(model.classifier, model.folder, model.tables, card_of(model.given, model.classifier, macs))
    exporter = _made(component, program_of(model.classifier, metadata), values)
    examples = None if int8 is None else _examples(model, Path(int8))
    data = _exported(exporter, component, model, values, examples)
    runner, other, thresholds = _read(component, data, metadata), model.classifier, "the model's"
    if int8 is not None and has_thresholds(other):
        other, thresholds = _fitted_again(model, runner, trust_code)
        metadata = metadata_of(other, model.folder, model.tables, metadata["card"])
        data = component.obj.with_metadata(data, metadata)  # type: ignore[attr-defined]
        runner = _read(component, data, metadata)
        say(f"thresholds: {thresholds}")
    comparison = compare(model.classifier, other, runner, samples)
    say(f"compared on {compared_on}: {_difference(comparison)}")
    if not accept:
        _refuse_different(path, comparison, int8 is not None)
    there, here = milliseconds(model.classifier, runner)
    found = Export(path, len(data), macs, there, here, thresholds, compared_on, comparison)
    _keep(found, data, component, metadata)
    return found


def _options(component: Component, given: Mapping[str, Any]) -> dict[str, Any]:
    values, problems = component.structure(given, "")
    if problems:
        raise RecipeError(f"export --to {component.name}", problems)
    return values


def _opened(given: Path, trust_code: bool, accept_changes: bool) -> _Model:
    if given.is_file():
        raise CallError(f"{given}: this is exported already; give the run directory, or its model folder")
    classifier = load(given, device="cpu", trust_code=trust_code, accept_changes=accept_changes)
    folder = find_model(given)
    return _Model(given, classifier, folder, model_folder.read_model_tables(folder))


def _place(model: _Model, component: Component, given: str, out: str | os.PathLike[str] | None, int8: bool) -> Path:
    """The file to write, which does not exist.

    Raises:
        CallError: its name ends in another suffix, or none is given and the model is in no run directory; or the
            exporter has no form in 8 bits.
        RunPlaceError: it exists.
        RunError: `export.json` beside it is damaged.
    """
    suffix = str(getattr(component.obj, "suffix", ""))
    if int8 and not hasattr(component.obj, "int8"):
        raise CallError(f'--int8: the exporter "{component.name}" has no form in 8 bits; leave it out')
    if out is None and not model.is_run:
        raise CallError(f"{given}: a model folder has no place for exports: give a file with --out")
    path = model.given / EXPORTS / f"model{'.int8' * int8}{suffix}" if out is None else Path(out)
    if path.suffix != suffix:
        raise CallError(f"--out {path}: the name of a file of this exporter must end in {suffix}")
    if os.path.lexists(path):
        raise RunPlaceError(f"{path}: exists; remove it, or give another file with --out")
    _recorded(path)
    return path


def _refuse_components(model: _Model) -> None:
    """Refuse a model with a part that says itself that it cannot be exported, or that needs rows of equal length."""
    network = model.classifier.network
    parts = {"featurizer": network.featurizer, "backbone": network.backbone, "pooling": network.pooling}
    for kind, part in parts.items():
        if reason := getattr(part, "unexportable", ""):
            raise BrokenPlugin(f"{named(model.tables, kind)} cannot be exported: {reason}")
        if not getattr(part, "ragged", True):
            reason = "it takes only rows of equal length (ragged = False), and an export must take rows of any lengths"
            raise BrokenPlugin(f"{named(model.tables, kind)} cannot be exported: {reason}")


# The sounds -----------------------------------------------------------------------------------------------------------


def _samples(model: _Model, compare_on: str | os.PathLike[str] | None, trust_code: bool) -> tuple[list[Sample], str]:
    """At least `FEWEST` sounds to compare on, and what they are.

    Raises:
        CallError: a model folder alone has no clips.
        SoundbenchError: they cannot be read, or are too few.
    """
    advice = f"give at least {sounds.FEWEST} sounds to compare on with --sounds"
    if compare_on is not None:
        found, what = sounds.given(Path(compare_on), model.classifier), f"sounds of {compare_on}"
        what = f"{len(found)} {what}"
    elif not model.is_run:
        raise CallError(f"{model.given}: a model folder has no test clips: {advice}")
    else:
        try:
            found, what = RunClips.open(model.given, trust_code).to_compare()
        except SoundbenchError as error:
            raise DataError(f"{error}; or {advice}") from error
    if len(found) < sounds.FEWEST:
        raise DataError(f"{compare_on or model.given}: {len(found)} are too few: {advice}")
    return found, what


def _fitted_again(model: _Model, runner: Runner, trust_code: bool) -> tuple[Classifier, str]:
    """The model with thresholds that fit what an export in 8 bits gives, where the run's clips can be read."""
    if not model.is_run:
        return model.classifier, "the model's: a model folder has no validation clips to fit them again on"
    try:
        marked = (model.folder / model_folder.MARKED).exists()
        return fit_again(model.classifier, runner, RunClips.open(model.given, trust_code), marked)
    except SoundbenchError as error:
        return model.classifier, f"the model's: {' '.join(str(error).split())}"


def _examples(model: _Model, path: Path) -> list[dict[str, NDArray[Any]]]:
    """Single windows of the sounds of a file or folder, as inputs of the program."""
    classifier = model.classifier
    found = sounds.given(path, classifier, _EXAMPLES)
    cuts = chain.from_iterable(
        cut_windows(one.samples, classifier.rate, classifier.rate, classifier.grid) for one in found
    )
    return [
        {
            "waveform": cut.samples[None].astype(np.float32) * np.float32(cut.scale),
            "lengths": np.array([len(cut.samples)], np.int64),
        }
        for cut in sounds.spread(list(cuts), _EXAMPLES)
    ]


# The file -------------------------------------------------------------------------------------------------------------


def _made(component: Component, program: Program, values: Mapping[str, Any]) -> Any:
    try:
        return component.obj(program, **values)
    except ValueError as error:
        names = [field.name for field in attrs.fields(component.options)]
        raise RecipeError(f"export --to {component.name}", problems_of(error, "", names)) from error


def _exported(
    exporter: Any, component: Component, model: _Model, values: Mapping[str, Any], examples: list[Any] | None
) -> bytes:
    """The content of the file.

    Raises:
        BrokenPlugin: it cannot be made; the part of the model that stops it is named.
    """
    with torch.random.fork_rng(devices=[]), _quiet():  # torch.export seeds
        try:
            data: bytes = exporter.export() if examples is None else exporter.int8(examples)
            return data
        except SoundbenchError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            failed = error
        # After the error is handled: it would be the context of those of the parts.
        raise to_blame(component, model.classifier, model.tables, values, failed) from failed


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence loggers and warnings: what the libraries of exporters say of their own parts is not for a user."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _read(component: Component, data: bytes, metadata: Mapping[str, Any]) -> Runner:
    """What computes with the file.

    Raises:
        BrokenPlugin: the metadata are not in it.
    """
    runner: Runner = component.obj.read(data)  # type: ignore[attr-defined]
    if json.dumps(runner.metadata, sort_keys=True) != json.dumps(metadata, sort_keys=True):
        raise BrokenPlugin(f'exporter "{component.name}": its file does not hold the metadata that it was given')
    return runner


def _difference(found: Comparison) -> str:
    """How an export differs from its model, on one line."""
    reject = "" if found.reject is None else f" (of reject scores {found.reject:.1e})"
    known = ""
    if found.accuracy is not None and found.accuracy_before is not None:
        known = f"; accuracy {found.accuracy:.1%}, the model's {found.accuracy_before:.1%}"
    return (
        f"largest difference of scores {found.scores:.1e}{reject}, labels of {found.flipped} of {found.sounds} sounds "
        f"differ{known}"
    )


def _refuse_different(path: Path, found: Comparison, int8: bool) -> None:
    """Refuse an export that differs more than it may.

    Raises:
        RunError: it does.
    """
    if int8 and found.agreement < SAME:
        bound = f"the labels of at least {SAME:.0%} of the sounds must be the same in 8 bits, {found.agreement:.1%} are"
    elif not int8 and not found.near:
        what, apart = max(("scores", found.scores), ("reject scores", found.reject or 0.0), key=lambda one: one[1])
        bound = f"{what} may differ by {NEAR:g}, and do by {apart:.1e}"
    else:
        return
    raise RunError(f"{path}: not written: {bound}; to write it all the same, give --accept")


def _keep(found: Export, data: bytes, component: Component, metadata: Mapping[str, Any]) -> None:
    """Write the file, and what is known of it into `export.json` beside it, under its name."""
    files.write_bytes(found.path, data)
    table = {
        "exporter": component.name,
        "distribution": f"{component.distribution} {component.version}".strip(),
        "weights": metadata["weights"],
        **attrs.asdict(found, filter=lambda field, _: field.name != "path"),
    }
    table["comparison"]["agreement"] = found.comparison.agreement
    if not np.isfinite(found.comparison.scores):
        table["comparison"]["scores"] = None
    files.write_json(found.path.with_name(_RECORD), _recorded(found.path) | {found.path.name: table})


def _recorded(path: Path) -> dict[str, Any]:
    """What `export.json` beside a file says of those in its folder.

    Raises:
        RunError: it is damaged.
    """
    record = path.with_name(_RECORD)
    found = files.read_json(record) if record.exists() else {}
    if not isinstance(found, dict):
        raise RunError(f"{record}: damaged: it is no JSON object; remove it, or give another folder with --out")
    return found
