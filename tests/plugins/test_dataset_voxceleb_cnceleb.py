from __future__ import annotations

from pathlib import Path

import pytest
from soundbench_plugins.dataset.voxceleb_cnceleb import VoxCelebCNCeleb

from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.data.splits import split
from soundbench.errors import MissingDataError
from soundbench.recipe import Split

CNCELEB = (
    "CN-Celeb_flac/data/id00012/interview-01-001.flac",
    "CN-Celeb_flac/data/id00012/singing-02-003.flac",
    "CN-Celeb_flac/data/id00999/vlog-01-001.flac",
    "CN-Celeb_flac/eval/test/id00800-singing-01-001.flac",
    "CN-Celeb_flac/eval/enroll/id00800-enroll.flac",
    "CN-Celeb_flac/dev/dev.lst",
    "CN-Celeb2_flac/data/id10000/drama-01-001.flac",
)
VOXCELEB = (
    "VoxCeleb1/dev/wav/id10001/1zcIwhmdeo4/00001.wav",
    "VoxCeleb1/dev/wav/id10001/1zcIwhmdeo4/00002.wav",
    "VoxCeleb1/dev/wav/id10001/zELwAz2W6hM/00001.wav",
    "VoxCeleb1/test/wav/id10270/5r0dWxy17C8/00001.wav",
    "VoxCeleb1/vox1_meta.csv",
    "VoxCeleb2/dev/aac/id00012/21Uxsk56VDQ/00001.m4a",
)


def laid_out(root: Path) -> Path:
    for folder, names in (("cn", CNCELEB), ("vox", VOXCELEB)):
        for name in names:
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (root / folder / name).touch()
    return root


def dataset(root: Path) -> VoxCelebCNCeleb:
    return VoxCelebCNCeleb(cnceleb=root / "cn", voxceleb=root / "vox")


def test_every_sound_of_a_speaker_and_no_other(tmp_path: Path) -> None:
    clips = list(dataset(laid_out(tmp_path)).clips())

    assert clips[0] == Clip(str(tmp_path / "cn" / CNCELEB[6]), ("chinese",), group="cnceleb/id10000")
    assert clips[4] == Clip(str(tmp_path / "vox" / VOXCELEB[0]), ("english",), group="voxceleb/id10001")
    assert [clip.labels[0] for clip in clips] == ["chinese"] * 4 + ["english"] * 5
    assert {Path(clip.path).suffix for clip in clips} == {".flac", ".wav", ".m4a"}


def test_one_part_of_a_set_will_do(tmp_path: Path) -> None:
    root = laid_out(tmp_path)
    small = VoxCelebCNCeleb(cnceleb=root / "cn/CN-Celeb_flac", voxceleb=root / "vox/VoxCeleb1/dev")
    assert len(list(small.clips())) == 3 + 3


def test_an_id_of_both_sets_is_two_people_and_a_speakers_videos_stay_together(tmp_path: Path) -> None:
    table = ClipTable.of(dataset(laid_out(tmp_path)))
    groups = [table.groups.names[code] for code in table.group_codes]

    assert {"cnceleb/id00012", "voxceleb/id00012"} <= set(groups)
    assert groups.count("voxceleb/id10001") == 3
    assert split(table, Split(0.4, 0.0, "refuse")).crossing_groups == 0


def message(root: Path) -> str:
    with pytest.raises(MissingDataError) as caught:
        list(dataset(root).clips())
    return str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert message(tmp_path) == f"{tmp_path}/cn: no such folder; dataset.cnceleb must be the folder of that set"
    root = laid_out(tmp_path)
    (root / "vox" / VOXCELEB[3]).unlink()
    assert message(root) == f"{root}/vox/VoxCeleb1/test/wav/id10270: no sound file of this speaker"


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cn/dogs").mkdir(parents=True)
    assert message(tmp_path) == f"{tmp_path}/cn: no folder of a speaker in it, such as id00001; see dataset.cnceleb"
