"""The page in a real browser: the events of files and of a microphone, tables, odd labels, the keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from helpers.runs import RECIPE, toy_run
from helpers.served import serving, wav

from soundbench import files
from soundbench.cli.main import invoke

pytestmark = pytest.mark.slow
for name in ("starlette", "uvicorn", "python_multipart", "websockets", "prometheus_client"):
    pytest.importorskip(name)

EVIL = '<img src=x onerror=alert(1)>, "=1+1"\t\'&amp;\u202e'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a class that a page must not take for HTML, nor a table for two cells."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "toy.toml").write_text(RECIPE)
    path = toy_run(folder / "toy.toml", folder / "run")
    described = path / "model" / "model.toml"
    text = described.read_text(encoding="utf-8")
    assert text.count('"high"') == 1
    files.write_text(described, text.replace('"high"', json.dumps(EVIL)))
    return path


@pytest.fixture(scope="module")
def minute() -> np.ndarray:
    """Five seconds of the one class after five of the other, as the toy dataset has them, in 16 bits."""
    white = np.random.default_rng(0).standard_normal(60 * 8000) / 10
    low = np.convolve(white, np.ones(8) / 8, "same")
    first = np.arange(len(white)) // 40_000 % 2 == 0
    return np.round(soxr.resample(np.where(first, low, white - low), 8000, 48000) * 32767).astype("<i2")


@pytest.fixture
def page(run: Path, minute: np.ndarray, tmp_path: Path) -> Iterator[Any]:
    from helpers import browser

    if browser.PROGRAM is None:
        pytest.skip("there is no chromium on this machine")
    (tmp_path / "minute.wav").write_bytes(wav(minute, 48000))
    with serving(run, "--accept-changes") as server, browser.browser(tmp_path, tmp_path / "minute.wav") as page:
        page.look(400)
        page.open(server.address)
        page.wait("!document.getElementById('work').hidden")
        yield page
        assert not page.complaints


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert invoke([str(one) for one in arguments]) == 0
    return capsys.readouterr().out


def test_a_file_gives_the_events_and_tables_of_infer(
    page: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page.choose("#files", [tmp_path / "minute.wav"])
    page.wait("recordings.length && recordings[0].state === 'done' && recordings[0].columns")
    monkeypatch.chdir(tmp_path)
    infer = ("infer", run, "minute.wav", "--trust-code", "--accept-changes", "--per", "event")
    lines = [json.loads(line) for line in printed(capsys, *infer, "--json").splitlines()]
    found = json.loads(page.run("JSON.stringify(recordings[0].events)"))
    assert len(found) == len(lines) > 5
    for one, wanted in zip(found, lines, strict=True):
        assert one == {**wanted, "score": pytest.approx(wanted["score"], abs=1e-5)}
    assert EVIL in {one["label"] for one in found}
    for form in ("csv", "audacity", "raven"):
        table = page.run(f"{form}(recordings[0].events)")
        wanted = printed(capsys, *infer, "--format", form).replace(str(tmp_path / "minute.wav"), "minute.wav")
        assert [rounded(line) for line in table.splitlines()] == [rounded(line) for line in wanted.splitlines()]
    assert page.run("document.querySelectorAll('#events tr').length") == len(lines)
    assert page.run("document.images.length") == 0
    assert page.run("document.documentElement.scrollWidth") <= 400
    assert page.run(
        "[...document.querySelectorAll('#events td:nth-child(3)')].some((one) => one.textContent === "
        + json.dumps(EVIL)
        + ")"
    )


def rounded(line: str) -> list[str]:
    """The cells of a line, numbers to four digits: scores may differ in their last ones."""
    cells = line.replace("\t", ",").split(",")
    return [f"{float(cell):.4f}"[:-1] if cell.replace(".", "", 1).isdigit() else cell for cell in cells]


def test_all_of_the_page_is_reached_by_keyboard(page: Any, tmp_path: Path) -> None:
    page.choose("#files", [tmp_path / "minute.wav"])
    page.wait("recordings.length && recordings[0].state === 'done' && recordings[0].columns")
    seen = set()
    for _ in range(20):
        page.press("Tab", 9)
        seen.add(page.run("document.activeElement.id || document.activeElement.tagName"))
    assert {"files", "mic", "SUMMARY", "BUTTON", "plot", "player", "csv", "audacity", "raven"} <= seen
    page.run("document.getElementById('plot').focus()")
    for _ in range(3):
        page.press("ArrowRight", 39)
    page.wait("document.getElementById('cursor').textContent.startsWith('1.80 s: ')")
    assert page.run("document.getElementById('plot').getAttribute('aria-valuenow')") == "1.80"


def test_the_microphone_gives_the_labels_of_the_file_within_a_hop(
    page: Any, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Chromium's microphone plays the file of a minute once; what is before its first sample is silence."""
    options = {"hop": 0.2, "gap": 1.5, "shortest": 3}
    page.run("document.querySelector('details').open = true")
    for key, value in options.items():
        page.run(f"document.querySelector('[name={key}]').value = '{value}'")
    page.run("document.getElementById('mic').click()")
    page.wait("live && recordings.at(-1).seconds > 16", 120)
    page.run("document.getElementById('mic').click()")
    page.wait("!live")
    assert page.run("recordings.at(-1).error") == ""
    found = json.loads(page.run("JSON.stringify(recordings.at(-1).events)"))
    flags = [word for key, value in options.items() for word in (f"--{key}", value)]
    text = printed(capsys, "infer", run, tmp_path / "minute.wav", "--trust-code", "--per", "event", "--json", *flags)
    wanted = [one for one in map(json.loads, text.splitlines()) if one["end"] < 14.5]
    assert len(wanted) >= 2
    late = found[0]["end"] - wanted[0]["end"]
    assert abs(late) < 2
    for one, other in zip(found, wanted, strict=False):
        assert one["label"] == other["label"]
        assert abs(one["end"] - other["end"] - late) <= 0.2 + 1e-6
