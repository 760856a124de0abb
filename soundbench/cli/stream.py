"""`soundbench stream`: classify sound from a microphone, a file or a pipe as it arrives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soundbench.cli import options, output, sounds
from soundbench.messages import printable

if TYPE_CHECKING:
    from datetime import datetime

    from soundbench.audio.capture import Source
    from soundbench.cli.meter import Meter
    from soundbench.inference.stream import Item, Stream


@click.command()
@options.model()
@click.option(
    "--source",
    default="mic",
    metavar="mic|FILE|-",
    help="Sound to classify: the microphone, a file, or - for standard input. Default: mic.",
)
@options.raw_samples
@options.microphone
@options.list_microphones
@options.device()
@options.window
@options.hop
@click.option(
    "--gate",
    type=float,
    metavar="DB",
    help="Skip windows quieter than this, in dB of full scale, such as -50. Default: score all windows.",
)
@click.option(
    "--threshold",
    type=options.SCORE,
    metavar="SCORE",
    help="Report events scoring at least this. Default: the model's thresholds, or 0.5.",
)
@options.event_rules
@options.start_times
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON lines: each window, the start and the end of each event, and a summary.",
)
@click.option(
    "--on",
    "commands",
    nargs=2,
    multiple=True,
    metavar="LABEL COMMAND",
    help="Start COMMAND when an event of class LABEL begins. May be repeated.",
)
@click.option(
    "--record-events",
    type=options.PATH,
    metavar="DIR",
    help="Save the sound of each event to a folder per class in DIR. Default: save none.",
)
@options.trust_code
@options.accept_changes
def command(
    run: str,
    source: str,
    form: str | None,
    rate: int | None,
    channels: int | None,
    mic: str | None,
    device: str,
    window: float | None,
    hop: float | None,
    gate: float | None,
    threshold: float | None,
    time_from: str | None,
    time_pattern: str | None,
    as_json: bool,
    commands: tuple[tuple[str, str], ...],
    record_events: Path | None,
    trust_code: bool,
    accept_changes: bool,
    **rules: Any,
) -> None:
    """Classify sound as it arrives with the model of RUN, and print its events.

    RUN is a run directory, its model/ folder, an ONNX file of soundbench export, or a name of soundbench models. Each
    event is printed when it ends. Ctrl-C stops the command.
    """
    from soundbench.cli.meter import Meter
    from soundbench.cli.process import own_process
    from soundbench.errors import CallError, SoundError
    from soundbench.inference import live
    from soundbench.inference.loading import load
    from soundbench.inference.stream import Stream

    _refuse(source, form, rate, channels, mic)
    if (time_from or time_pattern) and (source in {"mic", "-"} or not as_json):
        raise CallError("--time-from and --time-pattern are for --json and a file")
    times = sounds.start_times(time_from, time_pattern)
    own_process(device)
    classifier = load(run, device=device, trust_code=trust_code, accept_changes=accept_changes)
    starter = live.EventPrograms(commands, classifier.classes)
    if threshold is not None:
        rules["on"] = threshold
    found = classifier.event_rules(**rules)
    opened = _opened(source, form, rate, channels, mic, classifier.rate)
    sampled = None if isinstance(opened, Path) else opened.rate
    kept = live.KEPT if record_events else 0.0
    stream = Stream(classifier, sampled, window=window, hop=hop, gate=gate, rules=found, keep=kept)
    sound = live.sound_of(opened, classifier.rate) if isinstance(opened, Path) else stream.sound
    keeper = live.EventRecorder(record_events, sound, classifier.rate) if record_events else None
    dated = as_json and isinstance(opened, Path) and times.source != "none"
    began = times.of(opened) if dated and isinstance(opened, Path) else None
    printer = _Printer(stream, Meter(), as_json, dated, began)
    try:
        live.listen(stream, opened, printer.item, printer.level, keeper, starter)
    except SoundError:
        printer.with_summary = stream.seconds > 0  # without any sound, the error says it all
        raise
    except BrokenPipeError:  # the reader has gone; drop what is still buffered
        output.drop_the_rest()
        raise SystemExit(1) from None
    finally:
        if not isinstance(opened, Path):
            opened.close()
        printer.end()
        sounds.report(times)


def _refuse(source: str, form: str | None, rate: int | None, channels: int | None, mic: str | None) -> None:
    from soundbench.audio.codings import find_format
    from soundbench.errors import CallError

    if source != "-" and (form or rate or channels):
        raise CallError("--format, --rate and --channels are for raw samples on standard input: --source -")
    if form:
        find_format(form)
    if source != "mic" and mic:
        raise CallError("--microphone is for --source mic")


def _opened(
    source: str, form: str | None, rate: int | None, channels: int | None, mic: str | None, wanted: int
) -> Source | Path:
    from soundbench.audio.capture import Pipe
    from soundbench.audio.microphone import Microphone

    if source == "mic":
        return Microphone(mic, wanted, say=output.say)
    return Pipe(sys.stdin.fileno(), form, rate, channels) if source == "-" else Path(source)


class _Printer:
    """Prints the items of a stream, and its summary; items of a file that is `dated` with date and time, if known."""

    def __init__(
        self, stream: Stream, meter: Meter, as_json: bool, dated: bool = False, began: datetime | None = None
    ) -> None:
        self._stream, self._meter, self._json = stream, meter, as_json
        self._dated, self._began = dated, began
        self._best, self.with_summary = "", True

    def item(self, item: Item) -> None:
        from soundbench.inference.events import Event
        from soundbench.inference.stream import StreamedWindow, named

        if self._json:
            kind, shown = named(item)
            self._line({"type": kind, **self._times(shown.start, shown.end), **shown.to_dict()})
        elif isinstance(item, Event):
            self._meter.clear()
            output.result(f"{item.start:.2f}\t{item.end:.2f}\t{printable(item.label)} {item.score:.4f}")
        elif isinstance(item, StreamedWindow):
            self._best = "  ".join(f"{label} {score:.2f}" for label, score in list(item.scores.items())[:3])
            self._meter.show(item.level, self._best)

    def _times(self, start: float, end: float) -> dict[str, str | None]:
        from soundbench.inference.formats.base import iso, moment

        times = {"begin_time": moment(self._began, start), "end_time": moment(self._began, end)}
        return {name: iso(time) or None for name, time in times.items()} if self._dated else {}

    def level(self, level: float) -> None:
        self._meter.show(level, self._best)

    def end(self) -> None:
        import attrs

        from soundbench.inference.live import summary

        self._meter.clear()
        figures = attrs.asdict(self._stream.figures)
        if not self.with_summary:
            return
        if self._json:
            self._line({"type": "summary", **figures})
        else:
            output.say(summary(figures))

    def _line(self, values: dict[str, Any]) -> None:
        output.result_json(values)
