"""What a built-in says of an option out of range reads well after the option's path, `featurizer.low: must be ...`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundbench_plugins

ROOT = Path(soundbench_plugins.__file__).parent
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.rglob("*.py")
    if path.name != "fronts.py"  # what it says is completed by `encoders.py`
)
# The option's name, which the path takes over, or what a library's own option belongs to; then what is wrong with it.
READS_WELL = re.compile(r"(\w+|\{\}|torch\.[\w.]+(\{\})?) (must|has no|refuses) ")


def refusals(path: Path) -> Iterator[str]:
    """The messages of a file's ValueErrors, `{}` for what is filled in."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            message = node.exc.args[0]
            if getattr(node.exc.func, "id", "") == "ValueError":
                parts = message.values if isinstance(message, ast.JoinedStr) else [message]
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)


@pytest.mark.parametrize("file", FILES)
def test_every_refusal_reads_well_after_the_path_of_its_option(file: str) -> None:
    assert [text for text in refusals(ROOT / file) if not READS_WELL.match(text)] == []


def test_there_are_refusals_to_read() -> None:
    assert sum(len(list(refusals(ROOT / file))) for file in FILES) > 50
