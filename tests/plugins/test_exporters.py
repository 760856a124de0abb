"""The built-in exporters: what their files hold beside what the contract suite checks."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from soundbench_plugins.layers.spectra import power_spectrum

from soundbench.errors import RunError
from soundbench.testing import check_component
from soundbench.testing.exporters import example_program

onnx = pytest.importorskip("onnx")


@pytest.mark.parametrize("name", ["onnx", "pt2"])
def test_exporters_keep_their_contract(name: str) -> None:
    report = check_component("exporter", name)
    applied = {result.promise for result in report.results if result.state == "ok"}
    assert {"suffix", "same", "metadata", "refuses"} <= applied


def test_an_onnx_file_is_of_the_opset_asked_for_and_names_its_sizes() -> None:
    from soundbench_plugins.exporter.onnx_file import ONNX

    model = onnx.load_from_string(ONNX(example_program(), opset=20).export())
    onnx.checker.check_model(model)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 20}
    sizes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert sizes == {"waveform": ["batch", "samples"], "lengths": ["batch"], "scores": ["batch", 4], "power": ["batch"]}
    assert [entry.key for entry in model.metadata_props] == ["soundbench"]


def test_an_opset_that_cannot_be_written_is_refused() -> None:
    from soundbench_plugins.exporter.onnx_file import ONNX

    for opset in (17, 24):
        with pytest.raises(ValueError, match=f"opset must be from 18 to 23, is {opset}"):
            ONNX(example_program(), opset=opset)


def test_an_onnx_file_of_another_program_is_refused() -> None:
    from soundbench_plugins.exporter.onnx_file import ONNX

    shape = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "other", [shape], [out])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(RunError, match="an ONNX file, but not of soundbench"):
        ONNX.read(model.SerializeToString())


def test_a_missing_library_is_named_with_the_extra() -> None:
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from soundbench.recipe.registry import Registry\n"
        "from soundbench.errors import NotInstalled\n"
        "try: Registry().get('exporter', 'onnx')\n"
        "except NotInstalled as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs onnx, which is not installed" in done.stdout
    assert len(done.stdout.splitlines()) == 1


class _Spectrum(torch.nn.Module):
    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return power_spectrum(frames)


@pytest.mark.parametrize("size", [2, 50, 400, 512])
def test_spectra_are_matrix_products_in_an_export_and_those_of_numpy(size: int) -> None:
    frames = torch.randn(7, size, generator=torch.Generator().manual_seed(size))
    program = torch.export.export(_Spectrum(), (frames,))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("fft" in name for name in called)
    assert any("matmul" in name or "mm" in name for name in called)
    wanted = np.abs(np.fft.rfft(frames.double().numpy())) ** 2
    for found in (program.module()(frames), power_spectrum(frames)):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-6 * wanted.max())


def test_a_pt2_file_is_loaded_by_torch_alone() -> None:
    from soundbench_plugins.exporter.pt2 import PT2

    program = example_program()
    loaded = torch.export.load(io.BytesIO(PT2(program).export())).module(check_guards=False)
    waveform, lengths = torch.randn(3, 200), torch.tensor([200, 1, 40])
    with torch.no_grad():
        for found, wanted in zip(loaded(waveform, lengths), program.module(waveform, lengths), strict=True):
            torch.testing.assert_close(found, wanted)
