"""`soundbench export`: writes a trained model as one file for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import click

from soundbench.cli import options, output
from soundbench.messages import megabytes


@click.command()
@options.model()
@click.option("--to", required=True, metavar="EXPORTER", help="Format of the file, such as onnx or pt2.")
@click.option(
    "--out",
    type=options.PATH,
    metavar="FILE",
    help="File to write. Default: model and the format's suffix in the run's exports/.",
)
@click.option(
    "--int8",
    type=options.PATH,
    metavar="SOUNDS",
    help="Compute in integers of 8 bits, with the ranges of values that these sounds have: a file or a folder. "
    "Default: compute in float32.",
)
@click.option(
    "--sounds",
    "compare_on",
    type=options.PATH,
    metavar="SOUNDS",
    help="A file or folder with at least 32 sounds to compare the export and the model on. "
    "Default: the run's test clips.",
)
@click.option("--accept", is_flag=True, help="Write the file even if it differs from the model more than it may.")
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change an option of the exporter, such as opset=20. May be repeated.",
)
@options.json_object
@options.trust_code
@options.accept_changes
def command(
    run: str,
    to: str,
    out: Path | None,
    int8: Path | None,
    compare_on: Path | None,
    accept: bool,
    sets: tuple[str, ...],
    as_json: bool,
    trust_code: bool,
    accept_changes: bool,
) -> None:
    """Write the model of RUN as one file for another runtime: sound in, scores out.

    RUN is a run directory, its model/ folder, or a name of soundbench models. Before the file is kept, it scores at
    least 32 sounds beside the model; if a score differs by more than 0.0001, or in 8 bits more than 10% of the labels
    do, it is not written.
    """
    from soundbench.inference.export.exporting import export

    done = export(
        run,
        to,
        out,
        options=_values(sets),
        int8=int8,
        compare_on=compare_on,
        accept=accept,
        trust_code=trust_code,
        accept_changes=accept_changes,
        say=output.say,
    )
    if as_json:
        output.result_json({**attrs.asdict(done), "path": str(done.path)})
        return
    output.result(
        f"{done.path}: {megabytes(done.bytes)}, {done.macs:,} multiply-adds and {done.milliseconds:.1f} ms a window "
        f"({done.milliseconds_before:.1f} ms by the model)"
    )


def _values(sets: tuple[str, ...]) -> dict[str, Any]:
    """The options by their names."""
    from soundbench.recipe import toml

    found: dict[str, Any] = {}
    for text in sets:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not name or not equals:
            raise click.UsageError(f"--set {text}: must be KEY=VALUE, such as opset=20")
        found[name] = toml.parse_value(value)
    return found
