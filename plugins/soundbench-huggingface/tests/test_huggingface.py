"""Files of Hugging Face datasets as a dataset: what they hold, and what is said of those that are damaged."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from soundbench_huggingface import HuggingFace

from soundbench import audio
from soundbench.contracts import Clip
from soundbench.errors import DataError, MissingDataError, SoundError
from soundbench.testing import check_component

NAMES = ["siren", "dog", "rain"]
LABEL = {"_type": "ClassLabel", "names": NAMES}


def sound(seed: int = 0, form: str = "WAV") -> bytes:
    made = io.BytesIO()
    soundfile.write(made, 0.1 * np.random.default_rng(seed).standard_normal(800 + 10 * seed), 8000, format=form)
    return made.getvalue()


def table(features: Mapping[str, Any] | None = None, **columns: Any) -> pa.Table:
    """A table as the library datasets makes it: the kinds of its columns are in the metadata."""
    about = {"huggingface": json.dumps({"info": {"features": {"audio": {"_type": "Audio"}, **(features or {})}}})}
    return pa.table(columns).replace_schema_metadata(about)


def column(*sounds: bytes | None) -> list[dict[str, Any]]:
    return [{"bytes": data, "path": f"{number}.wav"} for number, data in enumerate(sounds)]


def write(path: Path, rows: pa.Table, group: int | None = None) -> None:
    """A file of Parquet, or a stream of Arrow, by its name; `group` rows in a group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(rows, path, row_group_size=group)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, rows.schema) as stream:
            stream.write_table(rows, group)


def said(make: Callable[[], Any]) -> str:
    """The one line that is said."""
    with pytest.raises(DataError) as error:
        make()
    text = str(error.value)
    assert "\n" not in text
    return text


def test_ctrl_c_does_not_wait_for_a_server_that_says_nothing(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.parquet", table({"label": LABEL}, audio=column(sound()), label=[0]))
    program = f"""
import os, signal, threading
import soundbench_huggingface
from soundbench.sources import threads
signal.signal(signal.SIGINT, signal.default_int_handler)
threads.GRACE = 0.2
def silent(name):
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()
soundbench_huggingface.about = silent
soundbench_huggingface.HuggingFace(root={str(tmp_path)!r}).classes
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")


FORMS = pytest.mark.parametrize("suffix", ["parquet", "arrow"])


def test_the_contract() -> None:
    check_component("dataset", HuggingFace)


# What files hold ------------------------------------------------------------------------------------------------------


@FORMS
def test_clips_are_the_rows_of_each_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "data" / f"train-00000-of-00002.{suffix}"
    rows = table({"label": LABEL}, audio=column(sound(), sound()), label=[2, 0], group=["a", None], db=[1.5, None])
    write(path, rows)
    dataset = HuggingFace(root=tmp_path)
    assert dataset.classes == ("siren", "dog", "rain")
    assert list(dataset.clips()) == [
        Clip(f"{path}/0", ("rain",), fold="train", group="a", extra={"db": "1.5"}),
        Clip(f"{path}/1", ("siren",), fold="train"),
    ]


def test_labels_that_are_texts_and_columns_that_options_name(tmp_path: Path) -> None:
    sounds: dict[str, Any] = {"audio": column(sound(), sound()), "other": column(None, None)}
    rows = table(None, **sounds, tags=[["b", "a"], ["c"]], site=[7, 8], fold=[3, 4])
    write(tmp_path / "a.parquet", rows)
    dataset = HuggingFace(root=tmp_path, label="tags", multilabel=True, group="site", sound="audio")
    assert dataset.classes == ("a", "b", "c")
    assert [(clip.labels, clip.group, clip.fold) for clip in dataset.clips()] == [
        (("b", "a"), "7", 3),
        (("c",), "8", 4),
    ]


@pytest.mark.parametrize("kind", ["Sequence", "List"])
def test_lists_of_classes(tmp_path: Path, kind: str) -> None:
    write(
        tmp_path / "a.parquet",
        table({"label": {"_type": kind, "feature": LABEL}}, audio=column(sound()), label=[[1, 2]]),
    )
    dataset = HuggingFace(root=tmp_path, multilabel=True)
    assert dataset.classes == tuple(NAMES)
    assert [clip.labels for clip in dataset.clips()] == [("dog", "rain")]


def test_splits_of_a_folder_that_was_saved(tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for split in ("train", "test"):
        write(tmp_path / split / "data-00000-of-00001.arrow", table(audio=column(sound()), label=["dog"]))
        write(tmp_path / split / "cache-0123456789abcdef.arrow", table(audio=column(sound()), label=["dog"]))
    assert [clip.fold for clip in HuggingFace(root=tmp_path).clips()] == ["test", "train"]


@FORMS
@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_sound_is_that_of_the_file(tmp_path: Path, suffix: str, form: str) -> None:
    data = [sound(seed, form) for seed in range(7)]
    write(tmp_path / f"a.{suffix}", table(audio=column(*data), label=["dog"] * 7), group=3)
    dataset = HuggingFace(root=tmp_path)
    clips = list(dataset.clips())
    for chosen in (clips, clips[1::4], clips[::-1], clips[6:]):
        for clip, found in zip(chosen, dataset.read_many(chosen), strict=True):
            assert not isinstance(found, SoundError)
            wanted, rate = audio.decode(data[clips.index(clip)])
            np.testing.assert_array_equal(found[0], wanted)
            assert found[1] == rate


def test_sound_of_another_column_is_other_sound(tmp_path: Path) -> None:
    """What a store keeps of a clip is found by the fingerprint of its shard, which must tell columns apart."""
    rows = table(noisy=column(sound(1)), clean=column(sound(2)), label=["dog"])
    write(tmp_path / "a.parquet", rows)
    noisy, clean = (HuggingFace(root=tmp_path, sound=name) for name in ("noisy", "clean"))
    assert list(noisy.clips()) == list(clean.clips())
    assert list(noisy.shards()) == list(clean.shards())
    assert noisy.shards() != clean.shards()


def test_files_in_another_file_system(tmp_path: Path) -> None:
    import fsspec

    for suffix in ("parquet", "arrow"):
        write(tmp_path / f"a.{suffix}", table(audio=column(sound(1), sound(2)), label=["dog", "cat"]))
        fsspec.filesystem("memory").pipe(f"/hf/a.{suffix}", (tmp_path / f"a.{suffix}").read_bytes())
        dataset = HuggingFace(shards=[f"memory://hf/*.{suffix}"])
        assert dataset.classes == ("cat", "dog")
        second = list(dataset.clips())[1]
        np.testing.assert_array_equal(dataset.read(second)[0], audio.decode(sound(2))[0])


def test_an_address_with_a_query_is_of_the_file_before_it(tmp_path: Path) -> None:
    """As the site of the Hub gives it."""
    import fsspec

    write(tmp_path / "a.parquet", table(audio=column(sound(1)), label=["dog"]))
    address = "memory://hub/test-00000-of-00001.parquet?download=true"
    fsspec.filesystem("memory").pipe(address, (tmp_path / "a.parquet").read_bytes())
    (clip,) = HuggingFace(shards=[address]).clips()
    assert (clip.fold, clip.labels) == ("test", ("dog",))


def test_a_fold_of_thousands_of_digits_is_a_name(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", table(audio=column(sound()), label=["dog"], fold=["1" * 5000]))
    assert [clip.fold for clip in HuggingFace(root=tmp_path).clips()] == ["1" * 5000]


@FORMS
def test_one_damaged_sound_is_not_the_loss_of_the_others(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"a.{suffix}", table(audio=column(b"RIFF", None, sound()), label=["dog"] * 3))
    dataset = HuggingFace(root=tmp_path)
    bad, empty, good = dataset.read_many(list(dataset.clips()))
    assert isinstance(bad, SoundError)
    assert str(empty) == (
        f"{tmp_path}/a.{suffix}/1: its row has no sound: the file that it names, '1.wav', is not in it; "
        "save the dataset with its sound embedded"
    )
    assert not isinstance(good, SoundError)
    assert len(good[0]) == 800


# What is refused ------------------------------------------------------------------------------------------------------


ONE, DOG = column(sound()), ["dog"]


@pytest.mark.parametrize(
    ("columns", "options", "reason"),
    [
        ({"audio": ["1.wav"], "label": DOG}, {}, "has no column of sound, which is a struct of bytes and path"),
        ({"audio": ONE}, {}, "has no column 'label', which dataset.label names; it has audio"),
        ({"audio": ONE, "label": DOG}, {"group": "site"}, "has no column 'site', which dataset.group names"),
        ({"audio": ONE, "label": DOG}, {"sound": "wav"}, "has no column 'wav', which dataset.sound names"),
        ({"a": ONE, "b": ONE, "label": DOG}, {}, "has several columns of sound, a, b; choose one"),
    ],
)
def test_columns_that_are_not_there(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    write(tmp_path / "a.parquet", table(**columns))
    text = said(lambda: list(HuggingFace(root=tmp_path, **options).clips()))
    assert text.startswith(f"{tmp_path}/a.parquet: {reason}")


@pytest.mark.parametrize(
    ("label", "features", "reason"),
    [
        ([0, -1], {"label": LABEL}, "row 1: its 'label' is -1, but classes have the numbers 0 to 2"),
        ([0, 3], {"label": LABEL}, "row 1: its 'label' is 3, but classes have the numbers 0 to 2"),
        (["dog", None], {}, "row 1: its 'label' must be a text or the number of a class, is 'None'"),
        (
            [["dog"], ["cat"]],
            {},
            "row 0: its 'label' must be a text or the number of a class, is \"['dog']\"; set dataset.",
        ),
    ],
)
def test_labels_that_are_none(tmp_path: Path, label: list[Any], features: dict[str, Any], reason: str) -> None:
    write(tmp_path / "a.parquet", table(features, audio=column(sound(), sound()), label=label))
    assert said(lambda: list(HuggingFace(root=tmp_path).clips())).startswith(f"{tmp_path}/a.parquet, {reason}")


def test_files_whose_classes_differ(tmp_path: Path) -> None:
    for name, names in (("a", NAMES), ("b", NAMES[::-1])):
        feature = {"_type": "ClassLabel", "names": names}
        write(tmp_path / f"{name}.parquet", table({"label": feature}, audio=column(sound()), label=[0]))
    assert said(lambda: HuggingFace(root=tmp_path).classes) == (
        f"{tmp_path}/b.parquet: its column 'label' has other classes than that of {tmp_path}/a.parquet"
    )


@FORMS
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, table(audio=column(*map(sound, range(6))), label=["dog"] * 6), group=2)
    data = path.read_bytes()
    for size in (0, 4, 7, len(data) // 3, len(data) // 2, len(data) - 8, len(data) - 1):
        path.write_bytes(data[:size])
        text = said(lambda: list(HuggingFace(root=tmp_path).clips()))
        assert text.startswith(f"{path}: ")
        assert suffix == "parquet" or text.endswith(": has no end; it is cut off, or no stream of Arrow")


def _read(root: Path) -> int | str:
    """The number of sounds, or what is said."""
    try:
        dataset = HuggingFace(root=root)
        return len(list(dataset.read_many(list(dataset.clips()))))
    except DataError as error:
        return str(error)


@FORMS
def test_a_file_that_is_damaged_anywhere_is_named_or_has_all_its_rows(tmp_path: Path, suffix: str) -> None:
    """Damage never leads out of the file, where Arrow would end the process."""
    path = tmp_path / f"a.{suffix}"
    write(path, table(audio=column(*map(sound, range(6))), label=["dog"] * 6), group=2)
    data = path.read_bytes()
    found = []
    for place in range(0, len(data), 101):
        path.write_bytes(data[:place] + b"\xff" * 32 + data[place + 32 :])
        found.append(_read(tmp_path))
    assert all(one == 6 or str(one).startswith(str(path)) for one in found)
    assert any(one != 6 for one in found)


def test_a_file_that_vanishes_or_changes_after_it_was_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(path, table(audio=column(sound()), label=["dog"]))
    dataset = HuggingFace(root=tmp_path)
    clips = list(dataset.clips())
    write(path, table(audio=column(sound(), sound()), label=["dog", "dog"]))
    assert said(lambda: list(dataset.read_many(clips))) == f"{path}: it has changed since it was looked at; start again"
    path.unlink()
    assert said(lambda: dataset.read(clips[0])) == f"{path}: no such file"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r": there are no \*\.parquet or \*\.arrow files in it$"):
        list(HuggingFace(root=tmp_path).clips())


@pytest.mark.parametrize("options", [{"shards": []}, {"shards": [""]}, {"label": ""}])
def test_options_without_a_meaning(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(options))} must "):
        HuggingFace(**options)
