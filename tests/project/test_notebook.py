"""docs/notebook.md: its blocks run one after the other in an empty folder, and give what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "notebook.md"

pytestmark = pytest.mark.slow


def test_the_page_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(tmp_path / "cache"))
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(compile(block, "docs/notebook.md", "exec"), names)
    printed = capsys.readouterr().out
    for claimed in re.findall(r"# (there is no .*?) \.\.\.|# (Network\(.*\))$", "\n".join(blocks), re.MULTILINE):
        assert "".join(claimed) in printed
    assert len(names["found"].runs) == 3
    assert len(names["found"].pairs) == 3
    assert names["probabilities"].shape == (60, 10)
    assert names["embeddings"].shape == (300, 64)
    assert not set(names["training"].tolist()) & set(names["held_out"].tolist())
