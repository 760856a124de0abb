"""torchaudio comes in with or without its compiled part."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest
import torch
from soundbench_plugins.layers.torchaudio_import import import_torchaudio

from soundbench.errors import NotInstalled


@pytest.fixture
def not_imported(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A process in which torchaudio was not imported yet."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    return monkeypatch


def _fail_once(monkeypatch: pytest.MonkeyPatch, error: Exception, times: int = 1) -> None:
    real, left = importlib.import_module, [error] * times

    def import_module(name: str) -> ModuleType:
        if name == "torchaudio" and left:
            raise left.pop()
        return real(name)

    monkeypatch.setattr(importlib, "import_module", import_module)


@pytest.mark.filterwarnings("ignore:torchaudio's compiled part")
def test_what_we_use_of_it_works() -> None:
    import_torchaudio()
    from torchaudio.compliance import kaldi

    assert kaldi.fbank(torch.randn(1, 560)).shape == (2, 23)


@pytest.mark.filterwarnings("ignore:torchaudio's compiled part")
def test_a_second_call_gives_the_same_module() -> None:
    assert import_torchaudio() is import_torchaudio()


@pytest.mark.parametrize("error", [OSError("libcudart.so.13: cannot open"), RuntimeError("CUDA version")])
def test_a_compiled_part_that_does_not_load_is_done_without(not_imported: pytest.MonkeyPatch, error: Exception) -> None:
    _fail_once(not_imported, error)
    with pytest.warns(RuntimeWarning, match="compiled part does not fit this torch"):
        module = import_torchaudio()
    resampled = module.functional.resample(torch.randn(1, 1600), 16000, 8000)
    assert resampled.shape == (1, 800)
    with pytest.raises(RuntimeError, match=f"compiled part, which did not load: {error}"):
        module.functional.forced_align(torch.randn(1, 4, 3), torch.ones(1, 2, dtype=torch.int32))


def test_the_first_cause_is_reported_if_nothing_helps(not_imported: pytest.MonkeyPatch) -> None:
    _fail_once(not_imported, OSError("libcudart.so.13: cannot open"), times=2)
    with pytest.raises(NotInstalled, match=r"torchaudio cannot be imported: libcudart\.so\.13: cannot open"):
        import_torchaudio()


def test_a_missing_package_is_reported_with_the_command(not_imported: pytest.MonkeyPatch) -> None:
    _fail_once(not_imported, ModuleNotFoundError("No module named 'torchaudio'", name="torchaudio"))
    with pytest.raises(NotInstalled, match="torchaudio is not installed: pip install torchaudio"):
        import_torchaudio()
