"""The summary of a sweep: `summary.csv`, `summary.json`, `summary.md`, `report.html`, a figure, and for a console."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundbench import files
from soundbench.data import digests
from soundbench.errors import RunError, SoundbenchError
from soundbench.messages import printable, show
from soundbench.report.figures import drawing
from soundbench.report.html import page as html
from soundbench.report.html.numbers import counted
from soundbench.report.metrics import metric_of
from soundbench.studies.cells import Cell, label
from soundbench.studies.folder import SweepFolder
from soundbench.studies.summary import summary as summary_of
from soundbench.studies.sweep import Standing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["as_text", "summarize", "write"]

FIGURE, HTML = "figures/summary.png", "report.html"
_DRAWN = 60  # rows of the figure
_WIDTH = 60  # characters of a line of its labels
_LINES = 3


def summarize(folder: SweepFolder, cells: Sequence[Cell], standing: Standing) -> str:
    """Write the summary of a sweep, unless it is there and no run has changed since.

    Args:
        folder: the folder of the sweep, which this process holds.
        cells: its cells.
        standing: where they stand.

    Returns:
        Its table, for a console.

    Raises:
        RunError: a finished run cannot be read, or a file not be written.
    """
    of = digests.of_bytes(repr((cells, standing, [_sealed(folder, cell) for cell in cells])).encode("utf-8", "replace"))
    try:
        found = files.read_json(folder.path / "summary.json", "of")
        if found["of"] == of and all((folder.path / name).exists() for name in ("summary.csv", "summary.md", HTML)):
            return as_text(found)
    except RunError:  # missing or damaged: made anew
        pass
    made = {"of": of} | summary_of(folder, cells, standing)
    write(folder.path, made)
    return as_text(made)


def _sealed(folder: SweepFolder, cell: Cell) -> str:
    """The digest of the digests of a finished run."""
    path = folder.run(cell).digests
    return digests.of_file(path) if path.exists() else ""


def write(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary; `summary.json` is written last.

    Args:
        folder: the folder of the sweep.
        summary: the result of `summary.summary`.

    Raises:
        RunError: a file cannot be written.
    """
    head, rows = _table(summary)
    files.write_rows(folder / "summary.csv", head, rows)
    note = _draw(folder, summary)
    files.write_text(folder / "summary.md", "\n".join(_page(folder.resolve().name, summary, note)) + "\n")
    files.write_text(folder / HTML, _html(folder, summary))
    files.write_json(folder / "summary.json", summary)


def _table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[object]]]:
    """The columns and rows of `summary.csv`."""
    metrics = list(dict.fromkeys(name for row in summary["rows"] for name in row["metrics"]))
    counts = ("cells", "finished", "seeds", "folds", "clips", "groups")
    parts = [(name, part) for name in metrics for part in ("mean", "deviation")]
    parts[2:2] = [(metrics[0], "low"), (metrics[0], "high")] if metrics else []
    head = [*summary["keys"], *counts, *(f"{name}_{part}" for name, part in parts), "variance_folds", "variance_seeds"]
    rows: list[list[object]] = []
    for row in summary["rows"]:
        figures = [row["metrics"].get(name, {}).get(part) for name, part in parts]
        values = [_value(row["values"][key]) for key in summary["keys"]]
        rows.append([*values, *(row[name] for name in counts), *figures, *row["variance"].values()])
    return head, rows


def _value(value: Any) -> str:
    """A value as a cell: text as it is, the rest in the notation of recipes."""
    return value if isinstance(value, str) else show(value)


# For people -----------------------------------------------------------------------------------------------------------


def _rows(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table that people read."""
    name = summary["metric"]
    title = "metric" if name is None else metric_of(name).title
    spread = any(row["metrics"].get(name, {}).get("deviation") is not None for row in summary["rows"])
    split = any(row["variance"]["folds"] is not None for row in summary["rows"])
    head = [*summary["keys"], title, "95% interval", *["over seeds"] * spread]
    head += ["between folds", "between seeds"] * split + ["finished"]
    rows = []
    for row in summary["rows"]:
        figure = row["metrics"].get(name, {})
        cells = [_value(row["values"][key]) for key in summary["keys"]]
        cells += [_percent(figure.get("mean")), _interval(figure)]
        cells += [_deviation(figure.get("deviation"))] * spread
        cells += [_deviation(_root(one)) for one in row["variance"].values()] * split
        rows.append([*cells, f"{row['finished']} of {row['cells']}"])
    return head, rows


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _interval(figure: Mapping[str, Any]) -> str:
    return "-" if figure.get("low") is None else f"{figure['low']:.1%} to {figure['high']:.1%}"


def _deviation(value: float | None) -> str:
    return "-" if value is None else f"± {value:.1%}"


def _root(variance: float | None) -> float | None:
    return None if variance is None else math.sqrt(variance)


def as_text(summary: Mapping[str, Any]) -> str:
    """The table for a console."""
    head, rows = _rows(summary)
    lines = [[printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in lines
    )


def _page(name: str, summary: Mapping[str, Any], note: str) -> Iterator[str]:
    """`summary.md`, line by line."""
    yield from (f"# {_cell(name)}", "")
    finished = sum(row["finished"] for row in summary["rows"])
    yield from (f"{finished} of {len(summary['cells'])} runs are finished. Best first.", "")
    head, rows = _rows(summary)
    yield "| " + " | ".join(_cell(cell) for cell in head) + " |"
    yield "|" + " --- |" * len(head)
    yield from ("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows)
    yield from ("", *textwrap.wrap(_EXPLAINED, 120), "", note)
    failed = [one for one in summary["cells"] if one["failure"]]
    if failed:
        yield from ("", "## Failed", "")
        yield from (
            f"- {_cell(label(one['values'], one['fold'], one['seed']))}: {_cell(one['failure'])}" for one in failed
        )


def _html(folder: Path, summary: Mapping[str, Any]) -> str:
    """`report.html`: the table, the figure, what failed."""
    head, rows = _rows(summary)
    sections = [
        html.Section(
            "Results", html.table(head, rows, caption="Best first", sortable=True) + html.paragraph(_EXPLAINED)
        )
    ]
    if (folder / FIGURE).exists():
        address = html.data_address("image/png", (folder / FIGURE).read_bytes())
        drawing = html.Markup('<img src="{}" alt="The rows of the table, as points with their intervals">').format(
            address
        )
        caption = "The mean and its interval for each combination; dots are single runs."
        sections.append(html.Section("Figure", html.figure(drawing, caption)))
    failed = [one for one in summary["cells"] if one["failure"]]
    said = [f"{label(one['values'], one['fold'], one['seed'])}: {one['failure']}" for one in failed]
    sections.append(html.Section("Failed", html.items(said) if said else html.Markup("")))
    return html.page(folder.resolve().name, sections, lead=_sentence(summary))


def _sentence(summary: Mapping[str, Any]) -> str:
    """What was run on what, and how much of it is finished."""
    rows, keys = summary["rows"], summary["keys"]
    runs = f"{sum(row['finished'] for row in rows)} of {counted(len(summary['cells']), 'run')}"
    swept = f"{counted(len(rows), 'combination')} of {', '.join(keys)}" if keys else "one recipe"
    tested = [row for row in rows if row["metrics"]]
    if not tested:
        return f"A sweep over {swept}; {runs} finished."
    clips, groups = counted(tested[0]["clips"], "clip"), counted(tested[0]["groups"], "group")
    of = f" of {', '.join(summary['datasets'])}" if summary["datasets"] else ""
    return f"A sweep over {swept}; {runs} finished, tested on {clips} from {groups}{of}."


_EXPLAINED = (
    "The metric is that of the test clips of all folds together, as a mean over seeds. Interval: bootstrap over groups "
    "of clips, the same draws for each seed. Over seeds: the standard deviation. Between folds, between seeds: the "
    "roots of the two parts of the variance of single runs, by analysis of variance with seeds nested in folds."
)


def _cell(text: str) -> str:
    """Text on one line, escaped so that Markdown shows it as it is."""
    return re.sub(r"[\\`*_|~<>\[\]]", r"\\\g<0>", printable(" ".join(text.split())))


# The figure -----------------------------------------------------------------------------------------------------------


def _draw(folder: Path, summary: Mapping[str, Any]) -> str:
    """Draw the figure; the line of the page about it. If drawing fails, the summary has no figure."""
    rows = [row for row in summary["rows"] if row["metrics"].get(summary["metric"])][:_DRAWN]
    if not rows:
        return "There is no figure: no run is finished."
    try:
        picture, numbered = _png(rows, summary)
        files.write_bytes(folder / FIGURE, picture)
    except SoundbenchError:
        raise
    except Exception as error:  # no error of a drawing library may cost the summary
        return f"There is no figure: matplotlib cannot be used ({type(error).__name__}: {_cell(str(error))})."
    note = " No installed font has all characters; the figure numbers the rows of the table." * numbered
    return f"![The mean and its interval for each combination; dots are single runs]({FIGURE}){note}"


def _png(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> tuple[bytes, bool]:
    """A line for each row, best first: its mean and interval, and the values of its runs as dots.

    Returns:
        The PNG, and whether rows have numbers because no installed font has all characters of the values.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metric = summary["metric"]
    texts = [_wrapped(label(row["values"]) or "all runs") for row in rows]
    title = metric_of(metric).title
    with drawing("".join(texts) + title + "0123456789.%…") as legible:
        texts = texts if legible else [f"row {number}" for number in range(1, len(rows) + 1)]
        heights = [0.37 + 0.17 * text.count("\n") for text in texts]
        figure = Figure(figsize=(9, sum(heights) + 0.9), dpi=150)
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        places = [sum(heights[:place]) + height / 2 for place, height in enumerate(heights)]
        for row, place in zip(rows, places, strict=True):
            own = [one["value"] for one in summary["cells"] if one["values"] == row["values"]]
            _draw_row(axes, place, row["metrics"][metric], [value for value in own if value is not None])
        axes.set_yticks(places, texts, fontsize=8, parse_math=False)
        axes.set_ylim(sum(heights), 0)
        axes.set_xlabel(f"{title} in %: mean, 95% interval; dots are single runs", parse_math=False)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        picture = io.BytesIO()
        canvas.print_figure(picture, format="png", bbox_inches="tight", dpi=150)
    return picture.getvalue(), not legible


def _draw_row(axes: Axes, place: float, figure: Mapping[str, float], runs: Sequence[float]) -> None:
    axes.plot([100 * value for value in runs], [place] * len(runs), "o", color="0.65", markersize=3.5, zorder=1)
    if figure.get("low") is not None:
        axes.plot([100 * figure["low"], 100 * figure["high"]], [place] * 2, color="tab:blue", linewidth=2, zorder=2)
    axes.plot([100 * figure["mean"]], [place], "D", color="tab:blue", markersize=5, zorder=3)


def _wrapped(text: str) -> str:
    """A label on a few lines."""
    return "\n".join(textwrap.wrap(printable(text), _WIDTH, max_lines=_LINES, placeholder=" …"))
