"""Import torchaudio where it is used, also if its compiled part does not load."""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

from soundbench.errors import NotInstalled

__all__ = ["import_torchaudio"]


def import_torchaudio() -> types.ModuleType:
    """`torchaudio`, also if its compiled part does not fit the installed torch.

    Its wheels are built for one CUDA version and cannot be imported with a torch for CPUs or for another CUDA. All but
    a few operators (RNN-T loss, forced alignment, fast IIR filters) are plain Python, and work with a substitute for
    the compiled part; those few then fail when called, with the reason.

    Raises:
        NotInstalled: torchaudio is not installed, or not even its Python part can be imported.
    """
    if "torchaudio" in sys.modules:
        return sys.modules["torchaudio"]
    try:
        return importlib.import_module("torchaudio")
    except ModuleNotFoundError as error:
        if error.name != "torchaudio":
            raise
        raise NotInstalled("torchaudio is not installed: pip install torchaudio") from error
    except (OSError, RuntimeError) as error:
        return _without_extension(error)


def _without_extension(cause: Exception) -> types.ModuleType:
    """`torchaudio` imported with a substitute for its compiled part, which failed to load with `cause`."""
    _forget()
    sys.modules["torchaudio._extension"] = _stand_in(str(cause).splitlines()[0])
    try:
        module = importlib.import_module("torchaudio")
    except Exception:
        _forget()
        raise NotInstalled(f"torchaudio cannot be imported: {cause}") from cause
    message = "torchaudio's compiled part does not fit this torch: only its Python part is used"
    warnings.warn(message, RuntimeWarning, stacklevel=3)
    return module


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        del sys.modules[name]


def _stand_in(reason: str) -> types.ModuleType:
    """A substitute for `torchaudio._extension` of torchaudio 2.11 that reports no compiled part."""

    def fail_if_no_align(function: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(f"{function.__name__} needs torchaudio's compiled part, which did not load: {reason}")

        return refuse

    module = types.ModuleType("torchaudio._extension")
    vars(module).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _check_cuda_version=lambda: None,
        fail_if_no_align=fail_if_no_align,
    )
    return module
