"""What a page says of single clips: the worst mistakes with their sound, and the labels that may be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from soundbench.contracts import Clip
from soundbench.report.html import numbers
from soundbench.report.html.mistakes import Mistake, worst, worst_of_several_labels
from soundbench.report.html.page import Markup, data_address, one_line, paragraph, table
from soundbench.report.html.places import Places
from soundbench.report.html.sounds import LONGEST, Player, each_sound
from soundbench.report.html.suspects import suspects, suspects_of_several_labels
from soundbench.report.run_directory import Predictions

__all__ = ["mistakes", "suspicious"]

_SHOWN = 20
_MARKUP = 3000  # bytes of a mistake without its sound and picture


def mistakes(
    found: Predictions, report: Mapping[str, Any], places: Places, dataset: Any | str | None, room: int
) -> tuple[Markup, list[str], str]:
    """The worst mistakes, each with spectrogram and player.

    Args:
        found: the scored clips.
        report: the content of `report.json`.
        places: what is said of paths.
        dataset: reads the sound; or why nothing does.
        room: bytes that they may need.

    Returns:
        The body of the section; lines for the top of the page; and why there are mistakes without sound, in one line.
    """
    sounds = int(report.get("sounds", _SHOWN))
    ranked = _ranked(found, report)[: max(_SHOWN, sounds)]
    if not ranked:
        return paragraph("There are no mistakes."), [], ""
    clips = [found.clips[one.row] for one in ranked]
    players, silent = _players(dataset, clips[:sounds], room - _MARKUP * len(ranked)) if sounds else ([], "")
    silent = places.text(silent)
    body = paragraph(_explained(report, len(ranked)))
    notes = []
    if count := sum(one is not None for one in players):
        notes.append(f"This page holds the sound of {numbers.counted(count, 'clip')}.")
    if silent:
        body += paragraph(f"Without sound: {silent}.")
    shown = [
        _entry(number, one, found, places, player)
        for number, (one, player) in enumerate(zip(ranked, [*players, *[None] * len(ranked)], strict=False), 1)
    ]
    return body + Markup('<ol class="mistakes">{}</ol>\n').format(Markup("").join(shown)), notes, silent


def _ranked(found: Predictions, report: Mapping[str, Any]) -> list[Mistake]:
    targets = found.targets > 0
    if report.get("multilabel"):
        return worst_of_several_labels(found.scores, targets, [row["threshold"] for row in report["per_class"]])
    return worst(found.scores, targets.argmax(axis=1))


def _explained(report: Mapping[str, Any], count: int) -> str:
    what = "predicted to have a class that they do not have" if report.get("multilabel") else "given a wrong class"
    return (
        f"The {numbers.counted(count, 'clip')} {what} with the highest score of that class. "
        f"Of a long clip, the loudest {LONGEST:g} s are shown."
    )


def _players(dataset: Any | str | None, clips: Sequence[Clip], room: int) -> tuple[list[Player | None], str]:
    """A player for each clip as long as there is room; and why some have none."""
    if dataset is None or isinstance(dataset, str):
        return [None] * len(clips), dataset or "the sound was not read"
    players: list[Player | None] = []
    reasons: list[str] = []
    for player in each_sound(dataset, clips):
        size = 0 if isinstance(player, str) else (len(player.data) + len(player.picture)) * 4 // 3 + 8
        if isinstance(player, str):
            reasons.append(player)
        elif size > room:
            reasons.append("the page would be larger than 15 MB")
        players.append(player if not isinstance(player, str) and size <= room else None)
        room -= size if players[-1] is not None else 0
    lost = sum(one is None for one in players)
    return players, f"{lost} of {len(clips)} mistakes: {reasons[0]}" if lost else ""


def _entry(number: int, one: Mistake, found: Predictions, places: Places, player: Player | None) -> Markup:
    """A mistake: its classes, its clip, and its sound."""
    clip = found.clips[one.row]
    predicted, truth = found.classes[one.predicted], ", ".join(clip.labels) or "none"
    pairs = [
        ("truth", truth, _score(found, one.row, clip.labels)),
        ("predicted", predicted, f"{one.score:.3f}"),
        ("clip", _place(clip, places), ""),
    ]
    details = Markup("").join(
        Markup('<dt>{}</dt><dd><bdi dir="auto">{}</bdi> {}</dd>').format(name, one_line(text), score)
        for name, text, score in pairs
    )
    sound = Markup("")
    if player:
        part = "" if player.whole else f", {player.seconds:.1f} s from {player.first:.1f} s on"
        sound = Markup(
            '<figure><img src="{}" alt="Spectrogram of mistake {}: {:.1f} s, 0 to {:.3g} kHz (mel)" width="420" '
            'height="128">'
            '<audio controls preload="none" aria-label="Sound of mistake {}" src="{}"></audio>'
            "<figcaption>0 to {:.3g} kHz, {:.1f} s{}</figcaption></figure>"
        ).format(
            data_address("image/png", player.picture),
            number,
            player.seconds,
            player.highest / 1000,
            number,
            data_address(player.kind, player.data),
            player.highest / 1000,
            player.seconds,
            part,
        )
    heading = Markup('<h3>{}. <bdi dir="auto">{}</bdi>, not <bdi dir="auto">{}</bdi></h3>')
    return Markup("<li>{}<dl>{}</dl>{}</li>\n").format(
        heading.format(number, one_line(predicted), one_line(truth)), details, sound
    )


def _score(found: Predictions, row: int, labels: Sequence[str]) -> str:
    scores = [found.scores[row, found.classes.index(label)] for label in labels]
    return ", ".join("-" if np.isnan(score) else f"{score:.3f}" for score in scores)


def _place(clip: Clip, places: Places) -> str:
    """The path of a clip, and where in the file it is."""
    path = places.name(clip.path)
    if not clip.start and clip.stop is None:
        return path
    return f"{path}, {clip.start:g} s to {'the end' if clip.stop is None else f'{clip.stop:g} s'}"


def suspicious(found: Predictions, report: Mapping[str, Any], places: Places) -> Markup:
    """The clips whose labels confident learning doubts."""
    targets = found.targets > 0
    if report.get("multilabel"):
        ranked = suspects_of_several_labels(found.scores, targets)
        head = ["clip", "label", "in doubt", "score", "margin"]
        rows = [
            [
                _place(found.clips[one.row], places),
                found.classes[one.label],
                "may be missing" if one.missing else "may be wrong",
                f"{found.scores[one.row, one.label]:.3f}",
                f"{one.margin:.3f}",
            ]
            for one in ranked[:_SHOWN]
        ]
    else:
        ranked = suspects(found.scores, targets.argmax(axis=1))
        head = ["clip", "label", "may be", "score of the label", "score of the other", "margin"]
        rows = [
            [
                _place(found.clips[one.row], places),
                found.classes[one.label],
                found.classes[one.other],
                f"{found.scores[one.row, one.label]:.3f}",
                f"{found.scores[one.row, one.other]:.3f}",
                f"{one.margin:.3f}",
            ]
            for one in ranked[:_SHOWN]
        ]
    if not rows:
        return paragraph("Confident learning doubts no label of the test clips.")
    text = (
        f"Labels of {len(ranked)} test clips are in doubt: the score of another class is as high as it is on average "
        "for clips of that class (confident learning: Northcutt, Jiang and Chuang, 2021). Listen to them first; many "
        "are mistakes of the network."
    )
    return paragraph(text) + table(head, rows, caption=f"The {len(rows)} with the widest margin", sortable=True)
