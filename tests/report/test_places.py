"""No page says where on a machine anything is, nor whose machine it is."""

from __future__ import annotations

import ntpath
from pathlib import Path
from types import SimpleNamespace

import pytest

from soundbench.report.html.places import Places


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "people" / "annalena"
    (home / "work").mkdir(parents=True)
    (home / "data" / "audio").mkdir(parents=True)
    (home / "list.csv").write_text("")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "work")
    return home


def places(*given: Path) -> Places:
    return Places.of({"protocol": {"dataset": {f"root{number}": str(path) for number, path in enumerate(given)}}})


def test_a_path_is_relative_to_the_data_or_the_working_directory(home: Path) -> None:
    found = places(home / "data")
    assert found.name(str(home / "data" / "audio" / "x.wav")) == "audio/x.wav"
    assert found.name(str(home / "data")) == "data"
    assert found.name(str(home / "work" / "runs" / "one")) == "runs/one"
    assert found.name("audio/猫.wav") == "audio/猫.wav"
    assert places(home / "list.csv").name(str(home / "data" / "x.wav")) == "data/x.wav"


def test_a_path_elsewhere_is_its_last_part(home: Path) -> None:
    assert places().name("/mnt/disk/x.wav") == "x.wav"
    assert places().name(str(home)) == "~"
    assert places().name(str(home / "other" / "x.wav")) == "x.wav"


@pytest.mark.parametrize("below", ["..", "../.."])
def test_data_above_the_home_folder_do_not_give_the_users_name_away(home: Path, below: str) -> None:
    root = (home / below).resolve()
    assert places(root).name(str(home / "data" / "x.wav")) in ("x.wav", "data/x.wav")


def test_working_above_the_home_folder_does_neither(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert places().name(str(home / "data" / "x.wav")) == "x.wav"


def test_paths_in_running_text_are_replaced_and_what_only_looks_like_one_stays(home: Path) -> None:
    found = places(home / "data")
    assert found.text(f"{home}/data/audio/x.wav: corrupt, see '/var/lib/y'") == "audio/x.wav: corrupt, see 'y'"
    for text in ("AC/DC", "1/2", "a / b", "22.05 kHz/s", "either/or"):
        assert found.text(text) == text


def test_an_address_tells_neither_a_folder_of_this_machine_nor_a_password(home: Path) -> None:
    found = places(home / "data")
    assert found.name(f"file://{home}/data/a.tar") == "a.tar"
    assert found.name("file:///mnt/disk/{00..12}.tar") == "{00..12}.tar"
    assert found.text(f"file://{home}/data/a.tar: damaged") == "a.tar: damaged"
    assert found.name("https://anna:secret@host/a.tar") == "https://host/a.tar"
    for address in ("https://host/~a/x@2.tar", "s3://bucket/a.tar", "hf://datasets/a/b@main/c.parquet"):
        assert found.name(address) == address
    shown = found.report({"protocol": {"dataset": {"shards": [f"file://{home}/other/a.tar", "https://a:b@host/c"]}}})
    assert shown["protocol"]["dataset"]["shards"] == ["a.tar", "https://host/c"]


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Places:
    """Places as Windows has them: of data on drive D, with the home folder of Anna Lena on drive C."""
    home, here = r"C:\Users\annalena", r"C:\Users\annalena\work"
    path = SimpleNamespace(**{**vars(ntpath), "expanduser": lambda _: home, "isdir": lambda path: True})
    monkeypatch.setattr("soundbench.report.html.places.os", SimpleNamespace(path=path, sep="\\", getcwd=lambda: here))
    return Places.of({"protocol": {"dataset": {"root": r"D:\birds"}}})


def test_the_drive_of_a_path_of_windows_is_part_of_it(windows: Places) -> None:
    given = {
        "root": r"D:\birds",
        "table": r"D:\birds\lists\own.csv",
        "use": r"C:\Users\annalena\work\code.py:Mine",
        "elsewhere": [r"E:\mnt\x.wav", "E:/mnt/y.wav", r"\\host\share\z.wav", "file:///E:/mnt/a.tar"],
    }
    shown = windows.report({"protocol": {"dataset": given}})["protocol"]["dataset"]
    assert shown == {
        "root": "birds",
        "table": r"lists\own.csv",
        "use": "code.py:Mine",
        "elsewhere": ["x.wav", "y.wav", "z.wav", "a.tar"],
    }


def test_paths_of_windows_in_running_text_are_replaced(windows: Places) -> None:
    text = r"D:\birds\audio\x.wav: corrupt, see 'E:\mnt\y.log', file:///E:/mnt/a.tar and \\host\share\b"
    assert windows.text(text) == r"audio\x.wav: corrupt, see 'y.log', a.tar and b"
    assert windows.text("at 12:30, ratio a:b, https://host/a") == "at 12:30, ratio a:b, https://host/a"


def test_a_page_that_is_made_anew_elsewhere_tells_no_path_of_windows(home: Path) -> None:
    shown = places().report({"protocol": {"dataset": {"root": r"C:\Users\anna\birds", "use": r"C:\Users\anna\a.py:A"}}})
    assert shown["protocol"]["dataset"] == {"root": "birds", "use": "a.py:A"}
    assert places().text(r"C:\Users\anna\x.wav: corrupt") == "x.wav: corrupt"
    for path in (r"C:\Users\anna\x.wav", r"\\host\share\x.wav"):
        assert places().text(f"no such file: {path!r}") == "no such file: 'x.wav'"


def test_a_command_names_its_files_as_seen_from_here(home: Path) -> None:
    command = f"soundbench evaluate {home}/work/runs/one --dataset '{home}/data/my list.csv' --checkpoint last"
    assert places().command(command) == "soundbench evaluate runs/one --dataset 'my list.csv' --checkpoint last"


def test_a_report_keeps_its_classes_and_notes(home: Path) -> None:
    report = {
        "classes": ["/m/09x0r", "b"],
        "protocol": {
            "dataset": {"use": f"{home}/code.py:Mine", "root": str(home / "data"), "folds": [1], "rate": 8000},
            "model": str(home / "work" / "run"),
            "notes": ["classes without a training clip: /m/09x0r"],
        },
        "calibration": {"use": f"{home}/code.py:Mine", "before": {"brier_score": 0.1}},
        "skipped": {"count": 1, "clips": [{"path": f"{home}/data/x.wav", "reason": f"see {home}/data/x.wav"}]},
    }
    shown = Places.of(report).report(report)
    assert shown["classes"] == report["classes"]
    assert shown["protocol"] == {
        "dataset": {"use": "code.py:Mine", "root": "data", "folds": [1], "rate": 8000},
        "model": "run",
        "notes": report["protocol"]["notes"],
    }
    assert shown["calibration"] == {"use": "code.py:Mine", "before": {"brier_score": 0.1}}
    assert shown["skipped"]["clips"] == [{"path": "x.wav", "reason": "see x.wav"}]
    assert report["protocol"]["dataset"]["root"] == str(home / "data")  # type: ignore[index]
