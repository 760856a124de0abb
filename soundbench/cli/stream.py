"""`soundbench stream`: listen to a microphone, a file or a pipe with a trained run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soundbench.cli import memory

if TYPE_CHECKING:
    from soundbench.audio.capture import Source
    from soundbench.cli.meter import Meter
    from soundbench.inference.stream import Item, Stream


def show_devices(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    """Print the devices that sound can be recorded from, and end."""
    if not asked or ctx.resilient_parsing:
        return
    from soundbench.audio.microphone import list_devices
    from soundbench.errors import DeviceError

    found = list_devices()
    if not found:
        raise DeviceError("no microphone: this machine has no audio input device")
    for device in found:
        mark = "*" if device["default"] else " "
        click.echo(
            f"{mark} {device['index']:2}  {device['name']}  ({device['channels']} channels, {device['rate']} Hz)"
        )
    ctx.exit()


@click.command()
@click.argument("run")
@click.option(
    "--source", default="mic", show_default=True, metavar="mic|FILE|-", help="A microphone, a file, standard input."
)
@click.option("--format", "form", type=click.Choice(["s16le", "f32le"]), help="Of raw samples on standard input.")
@click.option("--rate", type=click.IntRange(1), help="Samples a second of raw samples.")
@click.option("--device", help="The microphone: its number or a part of its name; by default the system's.")
@click.option("--compute", default="auto", show_default=True, help="Where to judge: auto, cpu, cuda or cuda:N.")
@click.option(
    "--list-devices", is_flag=True, is_eager=True, expose_value=False, callback=show_devices, help="Print them and end."
)
@click.option("--window", type=float, metavar="SECONDS", help="Judge by windows of that length; the model's own.")
@click.option("--hop", type=float, metavar="SECONDS", help="Between windows; --window, or else the model's own.")
@click.option("--gate", type=float, metavar="DB", help="Windows below it (dB of full scale, as -50) are not judged.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="The score from which on a class sounds.")
@click.option("--off", type=click.FloatRange(0, 1), help="Where an event begins and ends; 0.8 x the threshold.")
@click.option("--smooth", type=int, default=1, show_default=True, help="Windows that a score is averaged over; odd.")
@click.option("--shortest", type=float, default=0.0, metavar="SECONDS", help="Events below it are dropped.")
@click.option("--gap", type=float, default=0.0, metavar="SECONDS", help="Events of a class no further apart are one.")
@click.option("--refractory", type=float, default=0.0, metavar="SECONDS", help="After an event, none of its class.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines: every window, begin and end of an event, a summary.")
@click.option("--on", "commands", nargs=2, multiple=True, metavar="LABEL COMMAND", help="Started when LABEL begins.")
@click.option("--record-events", type=click.Path(path_type=Path), metavar="DIR", help="Keep the sound of each event.")
@click.option("--trust-code", is_flag=True, help="Execute code that the run carries.")
def command(
    run: str,
    source: str,
    form: str | None,
    rate: int | None,
    device: str | None,
    compute: str,
    window: float | None,
    hop: float | None,
    gate: float | None,
    threshold: float | None,
    as_json: bool,
    commands: tuple[tuple[str, str], ...],
    record_events: Path | None,
    trust_code: bool,
    **rules: Any,
) -> None:
    """Listen with RUN, a run directory or its model/ folder: what sounds is told as it comes; Ctrl-C ends it."""
    from soundbench.cli.meter import Meter
    from soundbench.errors import SoundError
    from soundbench.inference import live
    from soundbench.inference.classifier import load
    from soundbench.inference.stream import Stream

    _refuse(source, form, rate, device)
    memory.keep_on_cpu(compute)
    classifier = load(run, device=compute, trust_code=trust_code)
    starter = live.Starter(commands, classifier.classes)
    if threshold is not None:
        rules["on"] = threshold
    found = classifier.event_rules(**rules)
    opened = _opened(source, form, rate, device, classifier.rate)
    sampled = None if isinstance(opened, Path) else opened.rate
    kept = live.KEPT if record_events else 0.0
    stream = Stream(classifier, sampled, window=window, hop=hop, gate=gate, rules=found, keep=kept)
    sound = live.sound_of(opened, classifier.rate) if isinstance(opened, Path) else stream.sound
    keeper = live.Keeper(record_events, sound, classifier.rate) if record_events else None
    told = _Told(stream, Meter(), as_json)
    try:
        live.listen(stream, opened, told.tell, told.level, keeper, starter)
    except SoundError:
        told.summed = stream.seconds > 0  # of nothing heard there is nothing to say but why
        raise
    except BrokenPipeError:  # whoever read it has enough; what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    finally:
        if not isinstance(opened, Path):
            opened.close()
        told.end()


def _refuse(source: str, form: str | None, rate: int | None, device: str | None) -> None:
    from soundbench.errors import CallError

    if source != "-" and (form or rate):
        raise CallError("--format and --rate are for raw samples on standard input: --source -")
    if source != "mic" and device:
        raise CallError("--device is for --source mic")


def _opened(source: str, form: str | None, rate: int | None, device: str | None, wanted: int) -> Source | Path:
    from soundbench.audio.capture import Pipe
    from soundbench.audio.microphone import Microphone

    if source == "mic":
        return Microphone(device, wanted, say=lambda text: click.echo(text, err=True))
    return Pipe(sys.stdin.fileno(), form, rate) if source == "-" else Path(source)


class _Told:
    """Prints what a stream makes known."""

    def __init__(self, stream: Stream, meter: Meter, as_json: bool) -> None:
        self._stream, self._meter, self._json = stream, meter, as_json
        self._best, self.summed = "", True

    def tell(self, item: Item) -> None:
        from soundbench.inference.events import Event
        from soundbench.inference.stream import Begun, StreamedWindow

        if self._json:
            kind = {StreamedWindow: "window", Begun: "begin", Event: "event"}[type(item)]
            told = item.event if isinstance(item, Begun) else item
            self._line({"type": kind, **told.to_dict()})
        elif isinstance(item, Event):
            self._meter.clear()
            click.echo(f"{item.start:.2f}\t{item.end:.2f}\t{item.label} {item.score:.4f}")
        elif isinstance(item, StreamedWindow):
            self._best = "  ".join(f"{label} {score:.2f}" for label, score in list(item.scores.items())[:3])
            self._meter.show(item.level, self._best)

    def level(self, level: float) -> None:
        self._meter.show(level, self._best)

    def end(self) -> None:
        import attrs

        from soundbench.inference.live import summary

        self._meter.clear()
        figures = attrs.asdict(self._stream.figures)
        if not self.summed:
            return
        if self._json:
            self._line({"type": "summary", **figures})
        else:
            click.echo(summary(figures), err=True)

    def _line(self, told: dict[str, Any]) -> None:
        click.echo(json.dumps(told, ensure_ascii=False))
