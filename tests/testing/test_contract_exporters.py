"""The contract suite for exporters: what each broken promise is answered with."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.contract_suite import broken, says
from helpers.toys import ToyExporter, ToyQuantizer

from soundbench.contracts import Program
from soundbench.testing import check_component

pytestmark = pytest.mark.usefixtures("only_toys")


def test_an_exporter_that_keeps_its_promises() -> None:
    report = check_component("exporter", ToyExporter)
    states = {result.promise: result.state for result in report.results}
    assert states == {
        **dict.fromkeys(("signature", "summary", "options", "made", "suffix", "same", "metadata", "refuses"), "ok"),
        "int8": "not applicable",
    }


class Inexact(ToyExporter):
    """Adds an error."""

    def __init__(self, program: Program) -> None:
        super().__init__(program, error=1e-3)


class Forgetful(ToyExporter):
    """Loses the metadata, and its suffix."""

    suffix = "toy"

    def __init__(self, program: Program) -> None:
        super().__init__(program)

    @staticmethod
    def read(data: bytes) -> Any:
        found = ToyExporter.read(data)
        found.metadata = {"format": 1}
        return found


class Trusting(ToyExporter):
    """Reads anything."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)

    @staticmethod
    def read(data: bytes) -> Any:
        return ToyExporter.read(data) if len(data) > 2000 else None


class Coarse(ToyExporter):
    """Has a form in 8 bits that is of no use."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)

    def int8(self, examples: Any) -> bytes:
        return ToyExporter(self.program, turned=True).export()


class Stubborn(ToyQuantizer):
    """Keeps its first metadata."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)

    @staticmethod
    def with_metadata(data: bytes, metadata: Any) -> bytes:
        return data


class Disturbing(ToyExporter):
    """Leaves the module in training mode."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)

    def export(self) -> bytes:
        data = super().export()
        self.program.module.train()
        return data


def test_broken_promises_of_exporters() -> None:
    says("exporter", Inexact, "same", r"differs from the module by 1\.0e-03 \(allowed 1e-05\)")
    assert broken("exporter", Forgetful)["suffix"] == "suffix must be a text such as \".onnx\", is 'toy'"
    says("exporter", Forgetful, "metadata", r"must be \{.*\}, are \{'format': 1\}")
    says("exporter", Trusting, "refuses", "text is not refused")
    says("exporter", Coarse, "int8", r"scores differ by .* \(allowed 0\.1\)")
    says("exporter", Stubborn, "int8", r"with_metadata\(\) must change the metadata, and nothing else")
    says("exporter", Disturbing, "same", "it changes the module")
