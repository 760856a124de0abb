"""`soundbench report`: make the pages of a report anew from the files of a run."""

from __future__ import annotations

from pathlib import Path

import click

from soundbench.cli import options, output


@click.command()
@click.argument("run", type=options.PATH, callback=options.run_there)
@options.trust_code
@options.accept_changes
def command(run: Path, trust_code: bool, accept_changes: bool) -> None:
    """Make report.html and report.md of RUN anew, from its report.json and the tables beside it.

    RUN is the directory of a run, of all folds, or of an evaluation. The model card of a run is made anew too, unless
    it was edited. The sound of the worst mistakes is read from the
    dataset again. The last line printed is the path of report.html.
    """
    from soundbench.report.html.renewal import renew

    done = renew(run, trust_code=trust_code, accept_changes=accept_changes, say=output.say)
    output.result(done.report_html)
