"""What a backbone promises."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from soundbench.errors import PluginError
from soundbench.recipe import Head
from soundbench.recipe.structuring import structure
from soundbench.testing import modules
from soundbench.testing.cases import Case
from soundbench.testing.modules import Probe, call, counts, finite
from soundbench.testing.results import Broken, Checks, NotApplicable

__all__ = ["CHECKS"]

BANDS = (16, 17, 23, 64, 129, 768)  # and 80, which all other checks use
FRAMES = (*range(1, 11), 12, 16, 17, 23, 31, 33)


def probe(case: Case) -> Probe:
    """Its input is noise of 80 bands; rows of equal length if it sets `ragged = False`."""
    if "probe" not in case.memory:
        lengths = (96, 67, 33, 1) if getattr(case.memory["made"], "ragged", True) else (96,) * 4
        case.memory["probe"] = Probe(case, 80, lambda rows, size: torch.randn(rows, 80, size), 96, lengths)
    made: Probe = case.memory["probe"]
    return made


def shapes(case: Case) -> str:
    """`(B, F, T)` to `(B, C, T')`, where C is `channels`, and lengths."""
    module = probe(case).module
    shape = _output_shape("96 frames of 80 bands", module, *probe(case).batch())
    return f"(4, 80, 96) to {shape}"


def _output_shape(what: str, module: torch.nn.Module, data: Tensor, lengths: Tensor) -> tuple[int, ...]:
    """The shape of a backbone's output, after checking it."""
    with torch.no_grad():
        out, ends = call(module, data, lengths)
    channels = getattr(module, "channels", None)
    if out.dim() != 3 or out.shape[:2] != (len(data), channels):
        raise Broken(f"{what}: returns {tuple(out.shape)}, but channels says ({len(data)}, {channels}, T)")
    finite(f"{what}: the output", out)
    counts(what, ends, out)
    return tuple(out.shape)


def any_length(case: Case) -> str:
    """Any number of frames from 1."""
    for frames in FRAMES:
        _run(f"{frames} frames", probe(case).module, torch.randn(2, 80, frames))
    return f"1 to {FRAMES[-1]} frames"


def _run(what: str, module: torch.nn.Module, data: Tensor) -> None:
    frames = data.shape[-1]
    shorter = (frames + 1) // 2 if getattr(module, "ragged", True) else frames
    try:
        _output_shape(what, module, data, torch.tensor([frames, shorter]))
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"{what}: raised {type(error).__name__}: {' '.join(str(error).split())}") from error


def any_bands(case: Case) -> str:
    """Any number of bands from 16."""
    for bands in BANDS:
        try:
            module = case.make(bands).eval()
        except Exception as error:
            raise Broken(f"{bands} bands: raised {type(error).__name__}: {error}") from error
        _run(f"{bands} bands", module, torch.randn(2, bands, 20))
    return ", ".join(map(str, sorted((80, *BANDS))))


def defaults(case: Case) -> str:
    """`default_pooling` and `default_head` are valid tables."""
    obj = case.component.obj
    pooling, head = getattr(obj, "default_pooling", None), getattr(obj, "default_head", None)
    if pooling is None and head is None:
        raise NotApplicable("it sets neither default_pooling nor default_head; recipes get the defaults of soundbench")
    if pooling is not None:
        if not isinstance(pooling, Mapping) or not isinstance(pooling.get("use"), str):
            raise Broken(f"default_pooling must be a table with the key use, is {pooling!r}")
        options = {name: value for name, value in pooling.items() if name != "use"}
        try:
            _, problems = case.registry.get("pooling", pooling["use"]).structure(options, "default_pooling")
        except PluginError as error:
            raise Broken(f"default_pooling: {error}") from error
        if problems:
            raise Broken("; ".join(map(str, problems)))
    _, problems = structure(Head, dict(head or {}), "default_head")
    if problems:
        raise Broken("; ".join(map(str, problems)))
    return f"pooling {dict(pooling or {})}, head {dict(head or {})}"


CHECKS: Checks = {
    "shapes": shapes,
    "any length": any_length,
    "any bands": any_bands,
    "defaults": defaults,
    **modules.checks_of(probe),
}
