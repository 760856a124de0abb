"""The model card: what its front matter says to other readers, what it says to people, and that edits are kept."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.finished import clips_of, finished
from huggingface_hub import ModelCard

from soundbench import files
from soundbench.report.card import front_matter
from soundbench.report.card.writing import write_card
from soundbench.report.html.renewal import renew
from soundbench.report.run_directory import RunDirectory

HOSTILE = ("---", "a|b\n# c", "`</details>`")
RECIPE = """
name = "owls"
[dataset]
use = "toy"
root = "/home/somebody/sounds"
clips = 120
[split]
test = [1]
"""


def run_of(path: Path, classes: tuple[str, ...] = ("rain", "wind", "dog"), **report: Any) -> RunDirectory:
    """A finished run with the files that a card is made from."""
    clips = clips_of(120, 30, classes)
    run = RunDirectory(finished(path, clips, classes=classes, **report))
    files.write_text(run.recipe, RECIPE)
    run.model.mkdir()
    names = ", ".join(f'"{name}"'.replace("\n", "\\n") for name in classes)
    files.write_text(run.model_toml, f"format = 2\nclasses = [{names}]\n[audio]\nrate = 16000\nwindow = 3.0\n")
    return run


def card_of(run: RunDirectory) -> str:
    assert write_card(run) == ""
    return run.card.read_text(encoding="utf-8")


def head_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text.split("\n---\n", 1)[0].removeprefix("---\n"))
    return found


CHARACTERS = "ab:#-'\"\\ \n\t\0\x7f\x85\u2028\ufeff\ufffe é日😀{}[],&*!|>%@`?~e1._"
WORDS = ("true", "null", "no", "1", "1e3", "0x1f", "2020-01-01", "12:30", ".5", "nan", "-", "a b", "a: b", "a #b")


def drawn(draws: random.Random, depth: int = 0) -> Any:
    """A value of any shape, with strings that YAML might take for something else."""
    kind = draws.randrange(7 if depth < 3 else 4)
    if kind == 0:
        return draws.choice([1, -2, 0.5, 1e-9, 1e22, True, None, *WORDS])
    if kind < 4:
        return "".join(draws.choice(CHARACTERS) for _ in range(draws.randrange(8)))
    if kind < 6:
        return {drawn(draws, 9) or "k": drawn(draws, depth + 1) for _ in range(draws.randrange(4))}
    return [drawn(draws, depth + 1) for _ in range(draws.randrange(4))]


def test_the_front_matter_is_what_another_reader_of_yaml_finds() -> None:
    draws = random.Random(0)
    for _ in range(300):
        head = {f"k{number}": drawn(draws) for number in range(3)}
        facts = {"a": str(drawn(draws)), "b": [0.5, None]}
        text = front_matter.page(head, facts, "# title\n")
        found = head_of(text)
        del found["soundbench"]["seal"], found["soundbench"]["digest"]
        assert found == {**head, "soundbench": facts}
        assert front_matter.facts_of(text) == facts


def test_any_changed_character_is_seen() -> None:
    text = front_matter.page({"license": "mit"}, {"a": 1}, "# title\n")
    assert front_matter.is_as_written(text)
    for place in range(len(text)):
        assert not front_matter.is_as_written(text[:place] + "~" + text[place + 1 :])
    assert not front_matter.is_as_written(text + "\n")
    assert not front_matter.is_as_written("# written by hand\n")


FACTS = {"data_license": "CC0-1.0", "value": 0.935, "note": "a\u2028b"}
"""Facts of a page."""


def test_facts_that_somebody_has_changed_are_not_read_but_what_anybody_may_state() -> None:
    text = front_matter.page({"license": "mit"}, FACTS, "# title\n")
    assert front_matter.facts_of(text + "more\n") == FACTS
    assert not front_matter.unread(text + "more\n")
    for value in ("0.995", "NaN"):
        changed = text.replace("0.935", value)
        assert front_matter.facts_of(changed) == {"data_license": "CC0-1.0"}
        assert front_matter.unread(changed) == "what soundbench wrote on its card was changed by hand"


def test_the_licence_of_the_data_and_the_order_of_facts_may_be_changed() -> None:
    text = front_matter.page({"license": "mit"}, FACTS, "# title\n")
    stated = text.replace("CC0-1.0", "CC-BY-3.0")
    assert front_matter.facts_of(stated) == {**FACTS, "data_license": "CC-BY-3.0"}
    line = next(line for line in text.splitlines() if line.startswith("soundbench:"))
    own = json.loads(line.partition(":")[2])
    sorted_own = json.dumps(dict(sorted(own.items())), indent=None, separators=(",", ":"))
    assert front_matter.facts_of(text.replace(line, f"soundbench:  {sorted_own}")) == FACTS


def test_facts_that_are_no_json_any_more_are_said_to_be_unread() -> None:
    text = front_matter.page({"license": "mit"}, FACTS, "# title\n")
    head = head_of(text)
    dumped = f"---\n{yaml.safe_dump(head)}---\n# title\n"
    assert front_matter.facts_of(dumped) == {}
    assert front_matter.unread(dumped).startswith('the line "soundbench:" of its card is no longer')
    assert not front_matter.unread("---\nlicense: mit\n---\n# by hand\n")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        *(("license: mit", "mit"), ("license: 'mit' # mine", "mit"), ("license: mit # mine", "mit"), ("license:", "")),
        *(("license : mit", "mit"), ("license: [mit, x]", "mit, x"), ("license:\n- mit\n- 'x' # y\nz: 1", "mit, x")),
        *(("license:\n  - mit\nz:\n  - a", "mit"), ("license: |\n  mit", "mit"), ("license: >-\n  mit", "mit")),
        *(("license_name: mine\nlicense: mit", "mit"), ("license:mine", "")),
    ],
)
def test_a_licence_that_a_person_wrote_is_read(line: str, value: str) -> None:
    assert front_matter.scalar_of(f"---\n{line}\n---\nlicense: other\n", "license") == value
    assert front_matter.scalar_of(f"no head\n{line}\n", "license") == ""


def test_a_class_that_is_as_common_as_others_is_not_the_most_common(tmp_path: Path) -> None:
    tied = card_of(run_of(tmp_path / "tied", prior=[40, 40, 40]))
    assert ", as common as any class of these clips, gives" in tied
    first = card_of(run_of(tmp_path / "first", prior=[41, 40, 40]))
    assert ", the most common class of these clips, gives" in first
    assert "any format" not in first


def test_a_hub_reads_licence_task_and_figures(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", licenses={"model": "CC-BY-4.0", "data": ""})
    card_of(run)
    data = ModelCard.load(run.card).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-4.0", "soundbench", "audio-classification")
    metrics = files.read_json(run.report_json)["metrics"]
    found = {result.metric_name: result.metric_value for result in data.eval_results}
    assert found["accuracy"] == metrics["accuracy"]["value"]
    assert found["macro-F1"] == metrics["macro_f1"]["value"]
    assert len(found) == len(metrics)


def test_the_card_says_what_is_known_and_what_is_not(tmp_path: Path) -> None:
    text = card_of(run_of(tmp_path / "run", parts={"train": 1000, "validation": 50, "test": 120}))
    assert "1,000 train, 50 validation, 120 test clips." in text
    assert "Licence of the data: **not stated**" in text
    assert "/home" not in text
    assert 'root = "sounds"' in text
    for heading in ("Use", "Data", "Figures", "Limits", "How it was made"):
        assert f"\n## {heading}\n" in text
    assert "Its 3 classes: rain, wind, dog." in text
    told = card_of(run_of(tmp_path / "told", licenses={"model": "", "data": "CC-BY-3.0"}))
    assert "Licence of the data: CC-BY-3.0." in told
    assert head_of(told)["license"] == "unknown"


def test_published_data_has_its_title(tmp_path: Path) -> None:
    for title, name, kind in (("ESC-10", "ESC-10", "esc-10"), ("", "toy", "toy")):
        run = run_of(tmp_path / name, title=title, folds=[{}] * 5)
        text = card_of(run)
        (result,) = head_of(text)["model-index"][0]["results"]
        assert result["dataset"] == {"name": name, "type": kind, "split": "cross-validation"}
        assert f"\n{name} (root = sounds, clips = 120):\n" in text
        assert f" groups of {name}. Sound of other places" in text


def test_what_is_fitted_to_a_cross_validation_has_both_commands(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    report = files.read_json(run.report_json)
    crossed = {"metrics": report["metrics"], "sentence": "Folds.", "split": {"validation": 0.2}}
    files.write_json(run.report_json, report | {"cross_validation": crossed})
    fitted = "\n".join(f'[{key}]\npredictions = "/home/me/x/logits.safetensors"' for key in ("calibration", "reject"))
    files.write_text(run.recipe, f"{RECIPE}{fitted}\n")
    text = card_of(run)
    lines = text.split("```sh\n")[-1].split("```", 1)[0].splitlines()
    assert lines == [
        "soundbench run recipe.toml --folds all --set split.validation=0.2 --out folds",
        "soundbench run recipe.toml --set calibration.predictions=folds/logits.safetensors "
        "--set reject.predictions=folds/logits.safetensors --out model",
    ]
    recipe = text.split("```toml\n")[-1].split("```", 1)[0]
    assert "predictions" not in recipe


@pytest.mark.parametrize("crossed", [False, True])
def test_what_is_fitted_to_other_predictions_names_their_file_and_no_cross_validation(
    tmp_path: Path, crossed: bool
) -> None:
    run = run_of(tmp_path / "run")
    report = files.read_json(run.report_json)
    if crossed:  # of the calibration alone
        files.write_json(
            run.report_json, report | {"cross_validation": {"metrics": report["metrics"], "sentence": "Folds."}}
        )
    fitted = (
        '[calibration]\npredictions = "/home/me/x/a.safetensors"\n[reject]\npredictions = "/home/me/x/b.safetensors"'
    )
    files.write_text(run.recipe, f"{RECIPE}{fitted}\n")
    text = card_of(run)
    assert "--folds" not in text
    assert "fitted to predictions from elsewhere, which this recipe does not make, in `calibration`, `reject`:" in text
    assert (
        "soundbench run recipe.toml --set calibration.predictions=a.safetensors "
        "--set reject.predictions=b.safetensors --out model\n"
    ) in text


def test_a_model_without_a_test_says_that_nothing_is_known(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    files.write_json(run.report_json, {"name": "all", "metrics": {}, "clips": 0, "groups": 0, "protocol": {}})
    text = card_of(run)
    assert "**No test set: nothing is known of how well the model does.**" in text
    assert "model-index" not in head_of(text)


def test_several_labels_have_their_own_metrics(tmp_path: Path) -> None:
    text = card_of(run_of(tmp_path / "run", multilabel=True))
    assert head_of(text)["model-index"][0]["results"][0]["metrics"][0]["type"] == "mean_average_precision"
    assert "average precision" in text


def test_names_of_classes_break_neither_the_head_nor_a_table(tmp_path: Path) -> None:
    text = card_of(run_of(tmp_path / "run", HOSTILE, name="---\nlicense: mit\n"))
    assert head_of(text)["license"] == "unknown"
    assert front_matter.scalar_of(text, "license") == "unknown"
    lines = text.splitlines()
    assert lines.count("---") == 2
    rows = [line for line in lines if line.startswith("| ") and "a\\|b # c" in line]
    assert rows
    assert "\n</details>\n" in text
    assert text.count("</details>") == 1


def test_the_same_run_gives_the_same_card(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    first = card_of(run)
    assert card_of(run) == first
    run.card.unlink()
    said: list[str] = []
    renew(run.path, accept_changes=True, say=said.append)
    assert run.card.read_text(encoding="utf-8") == first


@pytest.mark.parametrize("edit", ["more", "other", "own"])
def test_a_card_that_somebody_edited_is_kept_and_that_is_said(tmp_path: Path, edit: str) -> None:
    run = run_of(tmp_path / "run")
    text = card_of(run)
    edited = {"more": f"{text}\nMine.\n", "other": text.replace("## Use", "## Using it"), "own": "# my own\n"}[edit]
    run.card.write_text(edited, encoding="utf-8")
    said: list[str] = []
    renew(run.path, accept_changes=True, say=said.append)
    assert run.card.read_text(encoding="utf-8") == edited
    assert [line for line in said if "README.md" in line] == [
        f"{run.card}: was edited, and is kept as it is; for a new one, remove it and call soundbench report {run.path}"
    ]


def test_a_card_that_cannot_be_made_costs_nothing_else(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    run.model_toml.write_text("classes = 3\n")
    assert write_card(run).startswith("there is no README.md: ")
    assert not run.card.exists()
