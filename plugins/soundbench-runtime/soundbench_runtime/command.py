"""`soundbench-run-onnx`: JSON lines as `soundbench infer --json` and `soundbench stream --json` print them."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import attrs

from soundbench_runtime.audio.capture import Pipe
from soundbench_runtime.audio.times.starts import StartTimes
from soundbench_runtime.data.sound_files import find_sounds
from soundbench_runtime.errors import CallError, SoundbenchError
from soundbench_runtime.inference.classifier import Classifier
from soundbench_runtime.inference.export.using import load_export
from soundbench_runtime.inference.formats.base import Row
from soundbench_runtime.inference.formats.jsonl import JsonLines
from soundbench_runtime.inference.live import listen
from soundbench_runtime.inference.many_files import Wanted, score_files
from soundbench_runtime.inference.stream import Item, Stream, named
from soundbench_runtime.messages import escaped, printable

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The program: exits 0 done, 1 failed, 2 a mistake in the call, 3 without ONNX Runtime, 130 stopped by Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    warnings.showwarning = lambda message, *place: _say(printable(str(message)))
    asked = _parser().parse_args(arguments)
    try:
        sys.exit(_run(asked))
    except SoundbenchError as error:
        _say(escaped(str(error)))
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of the lines has gone; drop what is still buffered
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        _say("stopped by hand")
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="soundbench-run-onnx",
        description="Classify sound with an ONNX file of soundbench export, and print JSON lines.",
    )
    parser.add_argument("model", metavar="MODEL", help="the ONNX file")
    parser.add_argument(
        "sounds", metavar="SOUND", nargs="+", help="files, folders and globs; or - for sound on standard input"
    )
    parser.add_argument(
        "--per", choices=("clip", "window", "event"), help="a line per clip, window or event; default: clip"
    )
    parser.add_argument("--window", type=float, metavar="SECONDS", help="length of a window; default: the model's")
    parser.add_argument("--hop", type=float, metavar="SECONDS", help="from window to window; default: the model's")
    parser.add_argument("--format", metavar="FORMAT", help="of raw samples, such as s16le; default: a WAV file")
    parser.add_argument("--rate", type=int, metavar="HZ", help="sample rate of raw samples")
    parser.add_argument("--channels", type=int, metavar="N", help="channels of raw samples; default: 1")
    return parser


def _run(asked: argparse.Namespace) -> int:
    live = asked.sounds == ["-"]
    if "-" in asked.sounds and not live:
        raise CallError("-: sound on standard input cannot be mixed with files")
    if live and asked.per:
        raise CallError("--per is for files; of standard input, windows and events are printed")
    if not live and (asked.format or asked.rate or asked.channels):
        raise CallError("--format, --rate and --channels are for raw samples on standard input")
    classifier = load_export(asked.model)
    if live:
        _listen(classifier, asked)
        return 0
    return _score(classifier, find_sounds(asked.sounds), asked)


def _score(classifier: Classifier, files: list[Path], asked: argparse.Namespace) -> int:
    """Print the rows of files; returns the exit code."""
    per, times, failed = asked.per or "clip", StartTimes("auto"), 0
    form = JsonLines(per, (), classifier.rate, True, classifier.scorer.rejector is not None)
    wanted = Wanted(per, asked.window, asked.hop, rules=classifier.event_rules())
    for one in score_files(classifier, files, wanted, times=times):
        if isinstance(one, Row):
            _print(form.lines(one, 0))
        elif one.error:
            failed += 1
            _print(form.error(str(one.path), one.error))
    if doubts := StartTimes.doubts([times]):
        _say(escaped(doubts))
    if failed:
        _say(f"{failed} of {len(files)} files could not be scored")
    return int(failed > 0)


def _listen(classifier: Classifier, asked: argparse.Namespace) -> None:
    """Print the windows and events of standard input, and a summary."""
    source = Pipe(sys.stdin.fileno(), asked.format, asked.rate, asked.channels)
    stream = Stream(classifier, source.rate, window=asked.window, hop=asked.hop)
    try:
        listen(stream, source, _item, lambda level: None)
    finally:
        source.close()
        if stream.seconds > 0:
            _line({"type": "summary", **attrs.asdict(stream.figures)})


def _item(item: Item) -> None:
    kind, shown = named(item)
    _line({"type": kind, **shown.to_dict()})


def _line(values: dict[str, Any]) -> None:
    _print(escaped(json.dumps(values, ensure_ascii=False)) + "\n")


def _print(lines: str) -> None:
    sys.stdout.write(lines)
    sys.stdout.flush()


def _say(text: str) -> None:
    print(text, file=sys.stderr)
