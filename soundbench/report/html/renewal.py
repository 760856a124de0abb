"""`report.html` and `report.md` made anew from the files of a run, of all folds or of an evaluation, without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from soundbench import files
from soundbench.data import digests
from soundbench.errors import RecipeError, RunError, SoundbenchError
from soundbench.recipe import dataset_of
from soundbench.report import lock, pages, run_directory
from soundbench.report.card.writing import write_card
from soundbench.report.html import run_page
from soundbench.report.run_directory import RunDirectory

__all__ = ["renew"]


def renew(
    path: Path | str, *, trust_code: bool = False, accept_changes: bool = False, say: Callable[[str], None]
) -> RunDirectory:
    """Write the pages of a report anew; `report.json` and all other results stay as they are.

    Args:
        path: the directory of a run, of all folds, or of an evaluation.
        trust_code: whether a dataset in a file of the run may be executed, to get the sound of mistakes.
        accept_changes: whether results may have changed since they were written.
        say: gets a line about what is missing in the page.

    Raises:
        RunError: it is no such directory, not finished, in use by another process, or its files are damaged.
    """
    run = RunDirectory(Path(path))
    if not run.report_json.is_file():
        run = RunDirectory.open(path, run.report_json.name)
    files.refuse_links(run.path)
    with lock.held(run.path):
        table = digests.read_table(run.digests)
        if not accept_changes:
            for one in (run, *run_page.folds_of(run)):
                _refuse_changed(one)
        report = files.read_json(run.report_json, "metrics", "groups")
        if "annotations" in report:
            raise RunError(f"{run.path}: is an evaluation of events, whose page is report.md; evaluate --events again")
        files.read_json(run.report_json, "clips")
        try:
            drawn = run_page.draw(run, report, _dataset(run, report, trust_code))
            written = pages.write_pages(run, report, drawn)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise RunError(f"{run.report_json}: damaged: {type(error).__name__}: {error}") from error
        if table is not None:
            if accept_changes:
                run_directory.seal_results(run)
            else:
                digests.write_table(run.digests, table | digests.table_of(run.path, written))
        kept = write_card(run) if run.model_toml.exists() else ""
    if drawn.problem:
        say(f"{run.report_html}: {drawn.problem}")
    if kept:
        say(kept)
    return run


def _refuse_changed(run: RunDirectory) -> None:
    """Refuse a finished run if what its pages are made from has changed."""
    sources = {place.relative_to(run.path).as_posix() for place in _sources(run)}
    wrong = [name for name in run_directory.changed_results(run) or () if name in sources]
    digests.refuse_changed(run.path, wrong)


def _sources(run: RunDirectory) -> tuple[Path, ...]:
    """The results that the pages are made from, and their digests."""
    return run.report_json, run.predictions, run.history, run.environment, run.digests


def _dataset(run: RunDirectory, report: Mapping[str, Any], trust_code: bool) -> Any | str:
    """The dataset of a report; or why there is none."""
    table = (report.get("protocol") or {}).get("dataset")
    if not isinstance(table, Mapping):
        return f"{run.report_json.name} names no dataset"
    try:
        spec = dataset_of(table, str(run.report_json), run.path, trust_code=trust_code)
        return spec.component.obj(**spec.options)
    except RecipeError as error:
        return str(error.problems[0])
    except SoundbenchError as error:
        return str(error)
    except Exception as error:  # a dataset is third-party code
        return f"{type(error).__name__}: {error}"
