"""`split.near_duplicates = "group"`: clips of one recording are never on both sides of a split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.runs import toy_run, weights

import soundbench
from soundbench import files
from soundbench.cli.main import invoke
from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.data.likeness.groups import grouped

pytestmark = pytest.mark.usefixtures("cache")

GROUP = "split.near_duplicates='group'"


@pytest.fixture
def sounds(recipe: Path, tmp_path: Path) -> Path:
    """A recipe of 32 sounds of noise in four folds; four of fold 4 are copies of one of fold 1."""
    draws, rows = np.random.default_rng(1), ["path,label,fold"]
    originals = []
    for number in range(32):
        samples = 0.1 * draws.standard_normal(8000)
        if number < 4:
            originals.append(samples)
        elif number >= 28:
            samples = (originals[number - 28] / 2)[1000 * (number - 28) :]
        soundfile.write(tmp_path / f"{number:02d}.wav", samples, 8000)
        rows.append(f"{number:02d}.wav,{'low' if number % 2 else 'high'},{number // 8 + 1}")
    (tmp_path / "sounds.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    text = recipe.read_text().splitlines()
    text = [line for line in text if not line.startswith("dataset")]
    path = tmp_path / "sounds.toml"
    dataset = f'dataset = {{ use = "manifest", path = "{tmp_path}/sounds.csv" }}'
    path.write_text("\n".join([dataset, *text]) + "\n")
    return path


def parts(run: Path) -> dict[str, str]:
    return {Path(row["path"]).stem: row["part"] for row in files.read_rows(run / "clips.csv")}


def test_copies_are_purged_from_training_and_the_log_says_so(sounds: Path, tmp_path: Path) -> None:
    run = toy_run(sounds, tmp_path / "run", GROUP, "train.epochs=1")
    plain = toy_run(sounds, tmp_path / "plain", "train.epochs=1")

    assert "split: 4 of 32 groups join others" in (run / "log.txt").read_text()
    of_run, of_plain = parts(run), parts(plain)
    assert [of_run[f"{number:02d}"] for number in range(4)] == ["purged"] * 4
    assert {of_run[f"{number}"] for number in range(24, 32)} == {"test"}
    assert "purged" not in of_plain.values()


def test_a_drawn_split_has_no_copy_on_both_sides(sounds: Path, tmp_path: Path) -> None:
    resolved = soundbench.read_recipe(sounds, [GROUP, "split.test=0.3", "split.validation=0.3", "train.epochs=1"])
    for seed in range(3):
        found = parts(soundbench.run(resolved, out=tmp_path / f"run{seed}", cache=bool(seed)).path)
        assert "purged" not in found.values()
        assert all(found[f"{number:02d}"] == found[f"{number + 28}"] for number in range(4))


def test_a_resumed_run_ends_as_one_that_was_not_stopped(sounds: Path, tmp_path: Path) -> None:
    run = toy_run(sounds, tmp_path / "run", GROUP, "train.epochs=2")
    before = weights(run), parts(run)
    for name in ("report.json", "digests.json"):
        (run / name).unlink()
    for kept in (tmp_path / "cache").glob("near-duplicates-*.json"):
        kept.write_text("{")  # damaged: made again
    soundbench.resume(run, trust_code=True)

    assert (weights(run), parts(run)) == before


def test_evaluate_splits_as_the_run_did(sounds: Path, tmp_path: Path) -> None:
    """It refuses a run whose clips are in other parts now."""
    run = toy_run(sounds, tmp_path / "run", GROUP, "split.test=0.3", "train.epochs=1")
    evaluated = soundbench.evaluate(run, out=tmp_path / "evaluated", trust_code=True).path

    assert (evaluated / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()


def test_data_check_sees_the_leak_and_that_groups_close_it(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {}
    for sets in ((), ("--set", GROUP)):
        assert not invoke(["data", "check", str(sounds), "--json", *sets])
        checks = json.loads(capsys.readouterr().out)["checks"]
        counts[bool(sets)] = {check["name"]: check["count"] for check in checks if check["name"].startswith("near")}

    assert counts[False] == {
        "near duplicates": 4,
        "near duplicates in different groups": 4,
        "near duplicates in different parts": 4,
        "near duplicates with different labels": 0,
    }
    assert set(counts[True].values()) == {0, 4}
    assert counts[True]["near duplicates in different parts"] == 0


def test_groups_are_joined_through_others_and_what_is_found_is_kept(tmp_path: Path) -> None:
    class Chain:
        """One recording in three pieces, each overlapping the next; an equal file; and another recording."""

        classes = ("any",)
        fingerprint = "chain"
        reads = 0

        def clips(self) -> list[Clip]:
            return [Clip(str(number), ("any",), group=f"group {number}") for number in range(5)]

        def read(self, clip: Clip) -> tuple[np.ndarray, int]:
            type(self).reads += 1
            whole = np.random.default_rng(1).standard_normal(24000).astype(np.float32)
            other = np.random.default_rng(2).standard_normal(8000).astype(np.float32)
            pieces = [whole[16000:], other, whole[:8000], whole[8000 - 4000 : 20000], whole[16000:]]
            return pieces[int(clip.path)], 8000

    said: list[str] = []
    table = ClipTable.of(Chain())
    first = grouped(table, Chain(), tmp_path, said.append)
    read = Chain.reads
    again = grouped(table, Chain(), tmp_path, said.append)

    assert list(first.groups) == list(again.groups) == ["group 0", "group 1", "group 0", "group 0", "group 0"]
    assert first.groups.names == ("group 0", "group 1")
    assert Chain.reads == read > 0
    assert said[-1] == "split: 3 of 5 groups join others, of whose recordings they have copies or cuts"
