"""When recordings began: names of recorders and of one's own, headers as their writers write them, and damaged ones."""

from __future__ import annotations

import io
import os
import random
import struct
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.clock import within

from soundbench import audio
from soundbench.audio.times.starts import SOURCES, StartTimes, name_time
from soundbench.errors import CallError

# Names of real recordings with what they state, as their recorders' makers, seewave or QUT Ecoacoustics have it; the
# names of the last lines are ISO 8601 or what file systems make of it.
NAMES = {
    "5E90A4D4.WAV": "2020-04-10T16:54:44+00:00",
    "5B07C752.WAV": "2018-05-25T08:20:34+00:00",
    "20200410_163456.WAV": "2020-04-10T16:34:56",
    "20200410_163456T.WAV": "2020-04-10T16:34:56",
    "243B1F075C7A37BE_20220103_183000.WAV": "2022-01-03T18:30:00",
    "THOMPSON_20170625_102105.wav": "2017-06-25T10:21:05",
    "SM301297_0+1_20170912_220000.wav": "2017-09-12T22:00:00",
    "OLONG-CH1_0+1_20171121$143444.wav": "2017-11-21T14:34:44",
    "PREFIX-A_20200410_163456_000.wav": "2020-04-10T16:34:56",
    "FNQ-RBS_20190102_044802_010.wav": "2019-01-02T04:48:02.010000",
    "S4U09523_20200410_163456.123.wav": "2020-04-10T16:34:56.123000",
    "SMART_20200410_163456_123456.wav": "2020-04-10T16:34:56.123456",
    "20190422T200000+1000_REC [19.2144 152.8811].flac": "2019-04-22T20:00:00+10:00",
    "8537_20210614T120000-0300_every1d6x4hrs [+44.72053-062.80072].wav": "2021-06-14T12:00:00-03:00",
    "20161108T075126.123456-0430_SunriseToSunset [-39.5336 -131.2711].wav": "2016-11-08T07:51:26.123456-04:30",
    "20180226_040000Z_+40.1213-075.0015+2.79CRSWGS_84.flac": "2018-02-26T04:00:00+00:00",
    "0000514b-9329-404c-bdb3-a50827457b15_20100503-080000Z.mp3": "2010-05-03T08:00:00+00:00",
    "PILLIGA_20121204_234600_+13-090.wav": "2012-12-04T23:46:00",
    "123_20131012_123456-09_456.mpg": "2013-10-12T12:34:56-09:00",
    "20180226_040000_Bar29 [27.2819 90.1361].wav": "2018-02-26T04:00:00",
    "20180517_010348.5AFCD4F4.WAV": "2018-05-17T01:03:48",
    "20070415051314.wav.trimmed.wav": "2007-04-15T05:13:14",
    "Queens_20230502_010000_Z.WAV": "2023-05-02T01:00:00+00:00",
    "2020-05-20-21-30-00-UTC.wav": "2020-05-20T21:30:00+00:00",
    "20240716-140000-ST4037-BTO-XM.wav": "2024-07-16T14:00:00",
    "2020-04-10T16:34:56Z": "2020-04-10T16:34:56+00:00",
    "2020-04-10T16:34:56.789+05:30.flac": "2020-04-10T16:34:56.789000+05:30",
    "2020-04-10T16-34-56.ogg": "2020-04-10T16:34:56",
    "20200410T163456+0200.wav": "2020-04-10T16:34:56+02:00",
    "2020-04-10 16.34.56.m4a": "2020-04-10T16:34:56",
    "recording-20261125-101500.wav": "2026-11-25T10:15:00",
}
# Names that state no time, or more than one.
NONE = [
    "99999999_999999.wav",
    "a_00000000T000000+00.a",
    "20200230_101010.wav",
    "20190229T120000.wav",
    "weird20180801_240000.aac",
    "20200410_163460.wav",
    "10101010_101010.wav",
    "19700101_000010.WAV",
    "20200410T163456+9999.wav",
    "DEADBEEF.wav",
    "5e90a4d4.wav",
    "5E90A4D4F.WAV",
    "prefix5AFCD4F4prefix.WAV",
    "5AFCD4F45AFCD4F4.WAV",
    "00000000.WAV",
    "4F000000.WAV",
    "FFFFFFFF.WAV",
    "56781234.wav",
    "20200410.wav",
    "20200410_163456789.wav",
    "1234520200410_163456.wav",
    "a3f20200410163456.wav",
    "20200410163456b7.wav",
    "123_20131012_123456-9_456.mpg",
    "20261125-101500-002.wav",
    "20261125-101500-02.wav",
    "20261125-101500-12.34s.wav",
    "20230101T085500_20230101T145500_60s.wav",
    "86f5923d-ef1d-4159-b120-a8dec3f6334e.wav",
    "100032-3-0-0.wav",
    "1-100032-A-0.wav",
    "dog.wav",
    "",
]


def shown(moment: datetime | None) -> str | None:
    return moment and moment.isoformat()


@pytest.mark.parametrize("name", NAMES)
def test_the_names_of_recorders_are_read(name: str) -> None:
    assert shown(name_time(name)) == NAMES[name]


@pytest.mark.parametrize("name", NONE)
def test_what_may_be_something_else_or_is_impossible_is_no_time(name: str) -> None:
    assert name_time(name) is None


def test_a_hexadecimal_name_is_not_of_the_future() -> None:
    for days, known in ((-1, True), (2, False)):
        seconds = int(time.time()) + 86400 * days
        while f"{seconds:X}".isdigit():
            seconds -= 1
        assert (name_time(f"{seconds:X}.WAV") is not None) is known


@pytest.mark.parametrize(
    ("pattern", "name", "wanted"),
    [
        ("REC_%Y%m%d-%H%M%S", "REC_20200410-163456.wav", "2020-04-10T16:34:56"),
        ("REC_%Y%m%d-%H%M%S", "OLD_20200410-163456.wav", None),
        ("REC_%Y%m%d-%H%M%S", "REC_20201310-163456.wav", None),
        ("REC_%Y%m%d-%H%M%S.wav", "REC_20200410-163456.wav", "2020-04-10T16:34:56"),
        ("*.%y%m%d%H%M%S", "671629352.181204100002.wav", "2018-12-04T10:00:02"),
        ("*_%y%m%d_%H%M_*", "short_time_180801_1630_test.wav", "2018-08-01T16:30:00"),
        ("%d%b%Y %I.%M%p", "10Apr2020 04.34PM.wav", "2020-04-10T16:34:00"),
        ("%Y-%j %H%M%S.%f%z", "2020-101 163456.25+0200.wav", "2020-04-10T16:34:56.250000+02:00"),
        ("(%%)[%Y%m%dT%H%M%z]", "(%)[20200410T1634Z].wav", "2020-04-10T16:34:00+00:00"),
    ],
)
def test_a_pattern_of_ones_own_reads_names(pattern: str, name: str, wanted: str | None) -> None:
    assert shown(audio.recorded_at(name, "name", pattern)) == wanted


@pytest.mark.parametrize(
    ("source", "pattern", "message"),
    [
        ("clock", None, "times are taken from one of auto, header, name, none, not from 'clock'"),
        (
            "header",
            "%Y%m%d%H%M",
            "a time pattern is for file names; times are taken from auto or name then, not header",
        ),
        ("name", "REC", "time pattern 'REC': date and time are needed, once each, such as %Y%m%d_%H%M%S"),
        ("name", "%Y%m%d", "time pattern '%Y%m%d': date and time are needed, once each"),
        ("name", "%Y%y%m%d%H%M", "time pattern '%Y%y%m%d%H%M': date and time are needed, once each"),
        ("name", "%Y%m%d%H%M%S%S", "time pattern '%Y%m%d%H%M%S%S': date and time are needed, once each"),
        ("name", "%Q", "time pattern '%Q': %Q is unknown; known: %y %m %d %H %I %M %S %Y %j %f %b %p %z %% *"),
        ("name", "%", "time pattern '%': % is unknown; known: "),
    ],
)
def test_a_question_without_an_answer_is_refused(source: str, pattern: str | None, message: str) -> None:
    with pytest.raises(CallError) as caught:
        audio.recorded_at("a.wav", source, pattern)
    assert str(caught.value).startswith(message)


# Headers --------------------------------------------------------------------------------------------------------------


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def bext(date: bytes, clock: bytes, first: int = 0) -> bytes:
    """As EBU Tech 3285 lays it out."""
    return chunk(
        b"bext", bytes(320) + date.ljust(10, b"\0") + clock.ljust(8, b"\0") + struct.pack("<Q", first) + bytes(256)
    )


def comment(text: str) -> bytes:
    """As AudioMoth lays it out: a comment of fixed size, and the artist after it."""
    body = chunk(b"ICMT", text.encode().ljust(256, b"\0")) + chunk(b"IART", b"AudioMoth".ljust(32, b"\0"))
    return chunk(b"LIST", b"INFO" + body)


def guano(*lines: str) -> bytes:
    return chunk(b"guan", "\n".join(("GUANO|Version: 1.0", *lines)).encode())


FORM = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16))


def wav(before: bytes = b"", after: bytes = b"", samples: int = 800) -> bytes:
    body = b"WAVE" + FORM + before + chunk(b"data", bytes(2 * samples)) + after
    return b"RIFF" + struct.pack("<I", len(body)) + body


def stated(tmp_path: Path, data: bytes, name: str = "a.wav") -> str | None:
    (tmp_path / name).write_bytes(data)
    return shown(audio.recorded_at(tmp_path / name, "header"))


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (guano("Timestamp:  2012-03-29T03:58:01+04:00"), "2012-03-29T03:58:01+04:00"),
        (guano("Note: Timestamp: 2001-01-01T00:00:00", "Timestamp:2015-12-31T23:59:59"), "2015-12-31T23:59:59"),
        (guano("Timestamp: 2015-12-31T23:59:59.123456Z\r", "TE: 1"), "2015-12-31T23:59:59.123456+00:00"),
        (guano("Timestamp: 2015-12-31 23:59:59.5-03:30", "\0\0 \0"), "2015-12-31T23:59:59.500000-03:30"),
        (guano("SB|Timestamp: 2015-12-31T23:59:59"), None),
        (guano("Timestamp: 2015-12-31"), None),
        (guano("Timestamp: 2015-02-30T10:00:00"), None),
        (guano("Timestamp: 31/12/2015 10:00:00"), None),
        (guano("Timestamp: 1970-01-01T00:00:12Z"), None),
        (guano("Timestamp:"), None),
        (comment("Recorded at 16:34:56 10/04/2020 by AudioMoth 0000000000000000"), "2020-04-10T16:34:56+00:00"),
        (comment("Recorded at 19:17:30 06/04/2018 (UTC) by AudioMoth 0FE0"), "2018-04-06T19:17:30+00:00"),
        (comment("Recorded at 16:34:56 10/04/2020 (UTC+2) by AudioMoth 0FE0"), "2020-04-10T16:34:56+02:00"),
        (comment("Recorded at 18:30:00 03/01/2022 (UTC+10:30) by AudioMoth 243B"), "2022-01-03T18:30:00+10:30"),
        (comment("Recorded at 19:19:09 03/05/2023 (UTC-9:45) during deployment 12"), "2023-05-03T19:19:09-09:45"),
        (comment("Recorded at 19:19:09 03/05/2023 (UTC-0:30) by AudioMoth 0FE0"), "2023-05-03T19:19:09-00:30"),
        (comment("Recorded at 19:19:09.250 03/05/2023 (UTC) by AudioMoth 0FE0"), "2023-05-03T19:19:09.250000+00:00"),
        (comment("Recorded at 00:00:10 01/01/1970 (UTC) by AudioMoth 0FE0"), None),
        (comment("Recorded at 25:00:10 01/01/2020 (UTC) by AudioMoth 0FE0"), None),
        (comment("Recorded at 12:00:10 01/01/2020 (UTC+99) by AudioMoth 0FE0"), None),
        (comment("Recorded at 12:00:10 01/01/2020 by Anna"), None),
        (bext(b"2020-04-10", b"16:34:56"), "2020-04-10T16:34:56"),
        (bext(b"2020:04:10", b"16-34-56", 8000 * (16 * 3600 + 34 * 60 + 56) + 2000), "2020-04-10T16:34:56.250000"),
        (bext(b"2020-04-10", b"16:34:56", 8000 * 3600), "2020-04-10T16:34:56"),
        (bext(b"2020-04-10", b"", 8000 * 3600 + 4000), "2020-04-10T01:00:00.500000"),
        (bext(b"2020-04-10", b""), None),
        (bext(b"2020-13-10", b"16:34:56"), None),
        (bext(b"", b"16:34:56", 8000), None),
        (bext(b"2020-04-10", b"16:34:56")[:300], None),
        (bext(b"2020-04-10", b"16:34:56") + guano("Timestamp: 2020-04-10T16:34:57+02:00"), "2020-04-10T16:34:57+02:00"),
        (bext(b"2020-04-10", b"16:34:56") + guano("Timestamp: yesterday"), "2020-04-10T16:34:56"),
        (chunk(b"LIST", b"adtl"), None),
        (b"", None),
    ],
)  # fmt: skip
def test_the_header_of_a_wav_file_is_read(tmp_path: Path, data: bytes, wanted: str | None) -> None:
    assert stated(tmp_path, wav(data)) == wanted
    if len(data) > 302:
        assert stated(tmp_path, wav(b"", data)) == wanted  # after the sound
    if wanted:
        assert soundfile.info(tmp_path / "a.wav").frames == 800


def test_headers_of_other_kinds_are_read(tmp_path: Path) -> None:
    large = (
        b"WAVE" + chunk(b"ds64", struct.pack("<QQQI", 0, 1600, 800, 0)) + FORM + b"data\xff\xff\xff\xff" + bytes(1600)
    )
    large += guano("Timestamp: 2020-04-10T16:34:56Z")
    assert stated(tmp_path, b"RF64\xff\xff\xff\xff" + large) == "2020-04-10T16:34:56+00:00"
    assert stated(tmp_path, b"BW64\xff\xff\xff\xff" + large) == "2020-04-10T16:34:56+00:00"
    tail = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    body = bext(b"2020-04-10", b"16:34:56")[8:]
    w64 = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000") + bytes(8) + b"wave" + tail
    w64 += b"bext" + tail + struct.pack("<Q", 24 + len(body)) + body + bytes(-len(body) % 8)
    assert stated(tmp_path, w64) == "2020-04-10T16:34:56"
    foreign = b"riff" + guano("Timestamp: 2020-04-10T16:34:56Z")
    for block in (foreign, b"guan" + b"Timestamp: 2020-04-10T16:34:56Z"):
        application = b"\x82" + len(block).to_bytes(3, "big") + block
        assert stated(tmp_path, b"fLaC\x00\x00\x00\x22" + bytes(34) + application) == "2020-04-10T16:34:56+00:00"


def test_headers_that_ffmpeg_writes_are_read(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    told = "Recorded at 16:34:56 10/04/2020 (UTC+2) by AudioMoth 0FE081F80FE081F0 at gain setting 2"
    for name, metadata, wanted in (
        ("a.wav", {"origination_date": "2020-04-10", "origination_time": "16:34:56"}, "2020-04-10T16:34:56"),
        ("a.flac", {"RecordingStart": "2019-04-22T20:00:00+1000"}, "2019-04-22T20:00:00+10:00"),
        ("b.flac", {"comment": told}, "2020-04-10T16:34:56+02:00"),
        ("b.wav", {"comment": told}, "2020-04-10T16:34:56+02:00"),
        ("c.flac", {"date": "2020", "comment": "Recorded at home"}, None),
    ):
        options = {"write_bext": "1"} if name == "a.wav" else {}
        with av.open(str(tmp_path / name), "w", options=options) as file:
            file.metadata.update(metadata)
            stream = file.add_stream("flac" if name.endswith("flac") else "pcm_s16le", rate=8000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            file.mux([*stream.encode(frame), *stream.encode(None)])
        assert shown(audio.recorded_at(tmp_path / name, "header")) == wanted


def test_mutated_headers_state_a_time_or_none_and_never_fail(tmp_path: Path) -> None:
    draws = random.Random(0)
    told = "Recorded at 16:34:56 10/04/2020 (UTC+2) by AudioMoth 0"
    whole = wav(bext(b"2020-04-10", b"16:34:56") + comment(told), guano("Timestamp: 2020-04-10T16:34:56"))
    sounds = io.BytesIO()
    soundfile.write(sounds, np.zeros(800), 8000, format="FLAC")
    flac = sounds.getvalue()
    flac = flac[:4] + b"\x02\0\0\x22riff" + guano("Timestamp: 2020-04-10T16:34:56")[:30].ljust(30, b"\0") + flac[4:]
    for number in range(600):
        data = bytearray((whole, flac)[number % 2])
        for _ in range(draws.randint(1, 8)):
            at = draws.randrange(min(len(data), 900))
            data[at] = draws.choice((0, 255, 128, draws.randrange(256)))
        if number % 5 == 0:
            del data[draws.randrange(len(data)) :]
        with within():
            stated(tmp_path, bytes(data))


@within()
def test_a_header_costs_no_more_than_its_chunks(tmp_path: Path) -> None:
    """Chunks of nothing without end, sound of gigabytes, and a file that is none: each ends at once."""
    assert stated(tmp_path, b"RIFF\0\0\0\0WAVE" + bytes(1 << 22)) is None
    assert stated(tmp_path, b"fLaC" + bytes(1 << 22)) is None
    w64 = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000") + bytes(8) + b"wave" + bytes(200)
    assert stated(tmp_path, w64) is None
    head = b"RIFF\xff\xff\xff\xffWAVE" + FORM + b"data" + struct.pack("<I", 0xFFFFFFF0)
    with open(tmp_path / "large.wav", "wb") as file:
        file.write(head)
        file.seek(0xFFFFFFF0, os.SEEK_CUR)
        file.write(guano("Timestamp: 2020-04-10T16:34:56"))
    assert shown(audio.recorded_at(tmp_path / "large.wav")) == "2020-04-10T16:34:56"
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", tmp_path, tmp_path / "none.wav", Path("/dev/zero"), "a\0.wav"):
        assert audio.recorded_at(path, "header") is None


# Both -----------------------------------------------------------------------------------------------------------------


def test_the_header_is_taken_before_the_name_and_the_name_completes_it(tmp_path: Path) -> None:
    def found(name: str, data: bytes, source: str = "auto") -> tuple[str | None, int]:
        (tmp_path / name).write_bytes(data)
        times = StartTimes(source)
        return shown(times.of(tmp_path / name)), times.conflicts

    told = "Recorded at 18:30:00 03/01/2022 (UTC+10:30) by AudioMoth 243B"
    local, utc, wrong = "20220103_183001.WAV", "20220103_080000.WAV", "20220103_193000.WAV"
    for name in (local, utc, "61D2AD00.WAV"):  # a name without a zone is of the recorder's clock, or of UTC
        assert found(name, wav(comment(told))) == ("2022-01-03T18:30:00+10:30", 0)
    assert found(wrong, wav(comment(told))) == ("2022-01-03T18:30:00+10:30", 1)
    assert found(wrong, wav(comment(told)), "name") == ("2022-01-03T19:30:00", 0)
    assert found(wrong, wav(comment(told)), "none") == (None, 0)
    assert found(wrong, wav(), "header") == (None, 0)
    assert found(wrong, wav()) == ("2022-01-03T19:30:00", 0)
    assert found("a.wav", wav(comment(told))) == ("2022-01-03T18:30:00+10:30", 0)
    assert found("20220103T183000+1030.wav", wav(bext(b"2022-01-03", b"18:30:01"))) == ("2022-01-03T18:30:01+10:30", 0)
    assert found("20220103T193000+1030.wav", wav(bext(b"2022-01-03", b"18:30:01"))) == ("2022-01-03T18:30:01", 1)
    assert SOURCES == ("auto", "header", "name", "none")


def test_what_is_doubtful_is_one_line_for_all_files_and_processes(tmp_path: Path) -> None:
    told = comment("Recorded at 18:30:00 03/01/2022 (UTC) by AudioMoth 243B")
    both = [StartTimes(), StartTimes()]
    for number, name in enumerate(("20220103_183000.WAV", "20220103_193000.WAV", "20220104_183000.WAV", "a.wav")):
        (tmp_path / name).write_bytes(wav(told))
        both[number % 2].of(tmp_path / name)
    path = tmp_path / "20220104_183000.WAV"
    assert StartTimes.doubts(both) == (
        f"2 of 4 files state two times at which they begin ({path}: 2022-01-03 18:30:00+00:00 in the header, "
        "2022-01-04 18:30:00 in the name); those in the headers are written, --time-from name takes the others"
    )
    assert StartTimes.doubts([StartTimes()]) == ""
    times = StartTimes("name", "REC_%Y%m%d%H%M")
    assert StartTimes.doubts([times]) == ""
    times.of(Path("a.wav"))
    assert StartTimes.doubts([times]) == "no name is of the pattern 'REC_%Y%m%d%H%M', so that no times are known"


def test_offsets_do_not_change_with_summer_time(tmp_path: Path) -> None:
    """At 02:00 of that night clocks in Berlin go on to 03:00; a recorder's does not."""
    moment = name_time("20200329T015930+0100.wav")
    assert moment is not None
    assert shown(moment + timedelta(seconds=60)) == "2020-03-29T02:00:30+01:00"
