"""`soundbench cache`: what is kept of decoded sound and of features; list, check and remove it."""

from __future__ import annotations

from pathlib import Path

import click

from soundbench.cli import options
from soundbench.cli.output import result, result_json, say


@click.group()
def command() -> None:
    """List, check or remove what is kept of decoded sound and of features."""


@command.command("list", short_help="List what is kept, with sizes.")
@options.cache
@options.json_object
def list_(cache: Path | None, as_json: bool) -> None:
    """List the folders of decoded sound and of features, with their sizes and when they were last used."""
    from soundbench.data.shards.tending import kept
    from soundbench.data.store import cache_folder
    from soundbench.messages import megabytes

    root = cache or cache_folder()
    found = kept(root)
    if as_json:
        result_json({"cache": str(root), "folders": [one.to_dict() for one in found]})
        return
    lines = [("FOLDER", "SIZE", "CLIPS", "SHARDS", "DAYS UNUSED", "WHAT")]
    for one in found:
        counts = (f"{one.sounds:,}", f"{one.shards:,}") if one.kind == "sound" else ("", "")
        lines.append((one.path.name, megabytes(one.size), *counts, f"{one.days:.0f}", one.what))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        aligned = (cell.rjust(width) for cell, width in zip(line[1:-1], widths[1:-1], strict=True))
        result("  ".join([line[0].ljust(widths[0]), *aligned, line[-1]]).rstrip())
    for one in found:
        for problem in one.problems:
            say(f"{problem}; see soundbench cache check")
    say(f"{megabytes(sum(one.size for one in found))} in {root}")


@command.command(short_help="Read all decoded sound, and find what has changed.")
@options.cache
def check(cache: Path | None) -> None:
    """Read all decoded sound and compare it with the digests that were written with it; exits 1 if any has changed."""
    from soundbench.data.shards.tending import damage, kept
    from soundbench.data.store import cache_folder
    from soundbench.errors import DataError

    root = cache or cache_folder()
    damaged = shards = sounds = 0
    for one in kept(root):
        for shard, problem in damage(one.path) if one.kind == "sound" else ():
            shards, sounds, damaged = shards + 1, sounds + len(shard.records), damaged + bool(problem)
            if problem:
                result(f"{shard.samples}: {problem}")
    if damaged:
        raise DataError(
            f"{damaged:,} of {shards:,} shards in {root} are damaged; soundbench cache prune --damaged removes them, "
            "and the next run reads their clips again"
        )
    result(f"{sounds:,} clips in {shards:,} shards in {root}: all as they were written")


@command.command(short_help="Remove what is not needed.")
@options.cache
@click.option(
    "--unused",
    type=click.FloatRange(0),
    metavar="DAYS",
    help="Also remove sound and features that no run has used for DAYS days. Default: keep them.",
)
@click.option("--damaged", is_flag=True, help="Also read all decoded sound, and remove shards where any has changed.")
def prune(cache: Path | None, unused: float | None, damaged: bool) -> None:
    """Remove what versions before this one have left; call it while no run uses the cache folder."""
    from soundbench.data.shards import tending
    from soundbench.data.store import cache_folder
    from soundbench.messages import megabytes

    root = cache or cache_folder()
    freed = tending.prune(root, unused, damaged, result)
    say(f"{megabytes(freed)} removed from {root}")
