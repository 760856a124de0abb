"""Load a classifier from a run directory, a model folder or an exported file."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from soundbench import distributed
from soundbench import recipe as recipes
from soundbench.data.batches import Grid
from soundbench.errors import CallError
from soundbench.inference.classifier import Classifier
from soundbench.inference.export.using import load_export
from soundbench.machine import settle
from soundbench.model import assembly
from soundbench.model import folder as model_folder
from soundbench.model.folding.norms import folded
from soundbench.model.named.names import NO_SUCH, model_path
from soundbench.model.rejecting.rejector import Rejector
from soundbench.model.scoring import Scorer

__all__ = ["find_model", "load", "load_by_all"]


def load(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
    trust_code: bool = False,
    accept_changes: bool = False,
) -> Classifier:
    """Load the classifier of a run directory, of a copy of its `model/` folder, of an ONNX file exported from it, or of
    an installed package.

    The model's files are checked against `digests.json`. Process-wide settings (threads, signals, the allocator, random
    states) are left unchanged.

    Args:
        path: the run directory, the model folder or the file; or the name of an installed model.
        device: the device to compute on: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `fp32`, or `bf16`, which GPUs and some CPUs compute faster; scores then differ by up to about 0.03.
        trust_code: whether Python code stored with the model (`use = "./mine.py:Net"`) may be executed.
        accept_changes: whether the model's files may have changed since soundbench wrote them; `digests.json` is then
            replaced where the folder can be written to.

    Raises:
        CallError: there is no such folder, file or installed model, or it holds one run per fold; a device or precision
            that there is not.
        RunError: the folder holds no model, one that has changed, or one that cannot be used.
        PluginError: two packages have an installed model of this name, or its folder is missing.
    """
    if precision not in ("fp32", "bf16"):
        raise CallError(f"precision must be 'fp32' or 'bf16', is {precision!r}")
    path = model_path(path)
    if path.is_file():
        if device not in ("auto", "cpu"):
            raise CallError(f"{path}: an exported file is computed on the CPU; use the device 'auto' or 'cpu'")
        if precision != "fp32":
            raise CallError(f"{path}: an exported file is computed as it was exported; leave out the precision")
        return load_export(path)
    folder = find_model(path)
    stored, source = model_folder.open_model(folder, accept_changes), str(folder / "model.toml")
    model = recipes.read_model(stored.tables, base=folder, trust_code=trust_code, source=source)
    with torch.random.fork_rng(devices=[]):  # weights are drawn before they are loaded
        network, loss = assembly.make_network(model, source, folder)
    stored.fill(network, len(model.classes))
    fits = getattr(network.backbone, "channels_last", True)
    machine = settle(device, precision="fp32", local_rank=distributed.local_rank(), fits=fits)
    machine.place(network).eval()
    grid = Grid(model.audio.window_samples, model.audio.hop_samples, model.audio.trim)
    spec = model.calibration
    calibration = None if spec is None else assembly.make_calibration(spec, len(model.classes), source)
    rejector = None
    if model.reject is not None:
        module: Any = assembly.make_reject(model.reject, len(model.classes), source)
        model_folder.load_reject(folder, module)
        rejector = Rejector.of(module, model.reject.own, machine.device)
    with machine.exact():
        computing = folded(network) if precision == "fp32" else network
    scorer = Scorer(network, loss, machine, model.audio.level, calibration, rejector, precision, computing)
    thresholds = model.thresholds or ([0.5] * len(model.classes) if model.multilabel else None)
    return Classifier(scorer, model.classes, model.audio.rate, grid, thresholds, model.multilabel)


def load_by_all(path: str | os.PathLike[str], *, accept_changes: bool = False, **options: Any) -> Classifier:
    """`load` in every process of a group; digests that are replaced are written by one at a time."""
    found = partial(load, path, accept_changes=accept_changes, **options)
    return distributed.first_here(found) if accept_changes else found()


def find_model(path: str | os.PathLike[str]) -> Path:
    """The model folder of a run directory or of an installed model, or the path itself if it is one, or may be.

    Raises:
        CallError: the folder does not exist, is a file, or holds one run per fold.
        PluginError: an installed model cannot be used.
    """
    folder = model_path(path)
    if folder.is_file():
        raise CallError(f"{folder}: is a file; give the run directory, or its model folder")
    if not folder.is_dir():
        raise CallError(f"{folder}: {NO_SUCH}")
    if not (folder / "model.toml").exists() and (folder / "model").is_dir():
        folder = folder / "model"
    folds = [] if (folder / "model.toml").exists() else sorted(folder.glob("fold-*/model"))
    if folds:
        raise CallError(f"{folder}: holds one run per fold; give one of them, such as {folds[0].parent}")
    return folder
