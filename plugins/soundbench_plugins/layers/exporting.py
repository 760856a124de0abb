"""`torch.export` of a program for exporters."""

from __future__ import annotations

import torch
from torch.export import ExportedProgram

from soundbench.contracts import Program

__all__ = ["exported"]


def exported(program: Program) -> ExportedProgram:
    """The program of `torch.export`, whose sizes may vary as the program says."""
    sizes = tuple(dict.fromkeys(program.dynamic.get(name, {}), torch.export.Dim.DYNAMIC) for name in program.inputs)
    with torch.no_grad():
        return torch.export.export(program.module, tuple(program.inputs.values()), dynamic_shapes=sizes, strict=False)
