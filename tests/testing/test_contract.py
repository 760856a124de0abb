"""The contract suite: what every component promises, and what the suite does with it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.contract_suite import broken, says
from helpers.toys import ToyDataset, ToyDrop, ToyGain, ToyLoss, ToyPooling, toy_optimizer, toy_scheduler
from torch import Tensor, nn

from soundbench.contracts import hookimpl
from soundbench.errors import CallError, RunError
from soundbench.testing import ContractError, check_component, examine

pytestmark = pytest.mark.usefixtures("only_toys")


@pytest.mark.parametrize(
    ("kind", "component"),
    [
        ("dataset", ToyDataset),
        ("augmentation", ToyGain),
        ("augmentation", ToyDrop),
        ("loss", ToyLoss),
        ("optimizer", toy_optimizer),
        ("scheduler", toy_scheduler),
    ],
)
def test_a_component_that_keeps_its_promises_raises_nothing(kind: str, component: Callable[..., Any]) -> None:
    report = check_component(kind, component)
    assert len(report.results) > 5
    assert all(result.message for result in report.results if result.promise != "signature")


def test_a_kind_that_is_none_is_a_mistake_in_the_call() -> None:
    with pytest.raises(CallError, match='there is no kind "poling"; did you mean "pooling"'):
        check_component("poling", ToyPooling)


class Silent(nn.Module):
    def __init__(self, channels: int, *, width: int = 3) -> None:
        super().__init__()
        self.features = channels

    forward = ToyPooling.forward


class Loose(ToyPooling):
    """An option without a type."""

    def __init__(self, channels: int, *, width=3) -> None:  # type: ignore[no-untyped-def]
        super().__init__(channels)


class Refusing(ToyPooling):
    """Refuses its own default.

    Args:
        width: how wide.
    """

    def __init__(self, channels: int, *, width: int = 0) -> None:
        super().__init__(channels)
        if width < 1:
            raise ValueError(f"width must be at least 1, is {width}")


class Needing(Refusing):
    """Cannot be made without an option.

    Args:
        width: how wide.
    """

    def __init__(self, channels: int, *, width: int) -> None:
        super().__init__(channels, width=width)


class Exemplary(Needing):
    """Says what to make it with.

    Args:
        width: how wide.
    """

    @staticmethod
    def example(folder: Path) -> dict[str, Any]:
        return {"width": len(list(folder.iterdir())) + 3}


class Outdated(ToyPooling):
    """Explains an option that it had before.

    Args:
        height: how high.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)


class Mistaken(Needing):
    """Gives an example of another type.

    Args:
        width: how wide.
    """

    @staticmethod
    def example(folder: Path) -> dict[str, Any]:
        return {"width": "3"}


def test_documentation_options_and_making() -> None:
    assert broken("pooling", Silent) == {
        "summary": "no docstring; its first line is the summary in listings",
        "options": "the docstring's Args: section does not explain width",
    }
    message = "the docstring's Args: section explains height, which it does not have"
    assert broken("pooling", Outdated) == {"options": message}
    assert broken("pooling", Refusing) == {"made": "it refuses {'width': 0}: width must be at least 1, is 0"}
    assert broken("pooling", Mistaken) == {"made": 'width: must be an integer, is "3"'}
    (found,) = broken("pooling", Loose).values()
    assert found.endswith('cannot be used: option "width" has no type')


def test_what_it_is_made_with_is_its_example_or_what_the_caller_says() -> None:
    message = "it cannot be made without width: add example(folder), see docs/plugins.md"
    assert broken("pooling", Needing) == {"made": message}
    check_component("pooling", Exemplary)
    report = check_component("pooling", Needing, options={"width": 5})
    assert [result.message for result in report.results if result.promise == "made"] == ["with width = 5"]
    assert list(broken("pooling", Exemplary, options={"width": 0})) == ["made"]


# Importers


def gullible(path: Path) -> Any:
    """Takes anything."""
    return path


def vague(path: Path) -> Any:
    """Does not say which."""
    raise RunError("this is no model")


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (gullible, r"it must refuse a path that does not exist, but returns a model"),
        (vague, r"the error for there must name the path, says: this is no model"),
    ],
)
def test_an_importer_that_breaks_a_promise(component: Callable[..., Any], message: str) -> None:
    says("importer", component, "refuses", message)


# Where a component raises


class Torn(ToyPooling):
    """Raises in a function that it calls, inside of torch."""

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        return reshaped(frames)


def reshaped(frames: Tensor) -> Tensor:
    return frames.reshape(7, 11, 13)


def test_what_a_component_raises_is_placed_in_its_authors_files() -> None:
    """Not in torch's, nor in those of the suite."""
    report = examine("pooling", Torn)
    line = inspect.getsourcelines(reshaped)[1] + 1
    places = {result.promise: result.place for result in report.broken}
    assert places["shapes"] == f" ({__file__}, line {line})"
    with pytest.raises(ContractError) as raised:
        check_component("pooling", Torn)
    assert f"{__file__}, line {line})" in str(raised.value)
    assert "raised RuntimeError: shape '[7, 11, 13]' is invalid" in str(raised.value)
    findings = report.to_dict()["findings"]
    assert next(found for found in findings if found["promise"] == "shapes")["place"].endswith(f", line {line}")


class Observing:
    """Raises in one of its hooks."""

    def __init__(self, run: Any) -> None:
        self.run = run

    @hookimpl
    def epoch_completed(self, epoch: int) -> None:
        raise KeyError(epoch)


def test_an_observer_that_raises_is_placed_too() -> None:
    report = examine("observer", Observing)
    line = inspect.getsourcelines(Observing.epoch_completed)[1] + 2
    assert report.broken[0].place == f" ({__file__}, line {line})"


QUIET = """
from helpers.toys import ToyBackbone
from soundbench.testing import check_component


class Wrong(ToyBackbone):
    \"\"\"Cannot be exported.

    Args:
        channels: how many.
        dropout: how much.
    \"\"\"

    default_pooling = None

    def forward(self, features, lengths):
        if features.sum() > 1e9:
            raise ValueError("loud")
        return super().forward(features, lengths)


def test_the_contract():
    check_component("backbone", Wrong, thorough=True)
"""


@pytest.mark.slow
def test_a_plugins_own_test_shows_the_report_and_no_log(tmp_path: Path) -> None:
    """In pytest, which keeps what is logged and shows it with a failure."""
    (tmp_path / "test_mine.py").write_text(QUIET)
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "Wrong breaks 1 of 15 promises" in done.stdout
    assert "test_mine.py, line 17)" in done.stdout
    assert "Captured log" not in done.stdout
    assert "torch.__trace" not in done.stdout + done.stderr
