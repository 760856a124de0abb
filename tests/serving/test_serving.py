"""A server in a process of its own: it answers what `infer` and `stream` say, and stays up whatever it is sent."""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.runs import RECIPE, command, toy_run
from helpers.served import Server, at_once, form_of, noise, serving, wav

from soundbench.cli.main import invoke
from soundbench.data.batches import RawBatch, pack
from soundbench.inference.classifier import Classifier
from soundbench.inference.loading import load
from soundbench.inference.stream import named
from soundbench.serving.refusals import Gone
from soundbench.serving.sharing import SharedBatches

for name in ("starlette", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(name)
connect = pytest.importorskip("websockets.sync.client").connect
exceptions = pytest.importorskip("websockets.exceptions")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes SOUNDBENCH_TOY_DELAY seconds for a batch."""
    folder = tmp_path_factory.mktemp("served")
    recipe = folder / "toy.toml"
    recipe.write_text(RECIPE.replace("ToyFeaturizer", "ToyCounted"))
    return toy_run(recipe, folder / "run")


@pytest.fixture(scope="module")
def classifier(run: Path) -> Classifier:
    return load(run, device="cpu", trust_code=True)


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[Server]:
    """A server with small limits: 1 MB, 30 s of sound, 2 s to arrive and to be answered."""
    with serving(run, "--max-mb", 1, "--max-seconds", 30, "--timeout", 2) as found:
        yield found


@pytest.fixture
def sounds(tmp_path: Path) -> list[Path]:
    """Short and long ones, of other rates and formats, one whose name states when it began, and silence."""
    made = {
        "a.wav": wav(noise(0.05, 1)),
        "20200410_163456.WAV": wav(noise(3.3, 2, 16000), 16000),
        "c é.flac": wav(noise(5, 3), form="FLAC"),
        "d.ogg": wav(noise(2, 4), form="OGG", subtype="VORBIS"),
        "silence.wav": wav(np.zeros(8000, np.float32)),
    }
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    return [tmp_path / name for name in made]


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[Any]:
    """The JSON lines that a command prints."""
    capsys.readouterr()
    assert invoke([str(one) for one in arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def alike(found: Any, wanted: Any) -> bool:
    """Whether two answers are the same, but for the last digits of scores."""
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and all(alike(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(alike, found, wanted))
    return found == (pytest.approx(wanted, abs=1e-5) if isinstance(wanted, float) else wanted)


def test_a_prediction_is_the_line_that_infer_prints(
    server: Server, run: Path, sounds: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(capsys, "infer", run, *sounds, "--json", "--trust-code", "--window", 0.3)
    for path, wanted in zip(sounds, lines, strict=True):
        found = server.json("POST", f"/predict?name={quoted(path)}&window=0.3", path.read_bytes())
        assert alike(found, wanted)
    assert lines[1]["begin_time"] == "2020-04-10T16:34:56.000"
    assert lines[4]["rejected"]


def test_events_and_windows_are_the_lines_that_infer_prints(
    server: Server, run: Path, sounds: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"hop": 0.05, "threshold": 0.6, "smooth": 3, "gap": 0.2, "shortest": 0.1}
    query = "&".join(f"{name}={value}" for name, value in options.items())
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    count = 0
    for path in sounds:
        events = printed(capsys, "infer", run, path, "--json", "--trust-code", "--per", "event", *flags)
        windows = printed(capsys, "infer", run, path, "--json", "--trust-code", "--per", "window", "--hop", 0.05)
        found = server.json("POST", f"/events?{query}&windows=true&name={quoted(path)}", path.read_bytes())
        assert alike(found["events"], events)
        assert alike(found["windows"], windows)
        count += len(events)
    assert count > 5


def all_of(link: Any) -> Iterator[str]:
    try:
        while True:
            yield link.recv(timeout=60)
    except exceptions.ConnectionClosed:
        return


def quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path), safe="")


def test_a_body_of_any_type_and_a_form_are_the_same_sound(server: Server) -> None:
    data = wav(noise(1))
    kinds = ("audio/wav", "application/x-www-form-urlencoded", "application/json", "nonsense", "multipart/mixed")
    found = [server.json("POST", "/predict?name=a.wav", data, {"Content-Type": kind}) for kind in kinds]
    found.append(server.json("POST", "/predict", *form_of(("a.wav", data))))
    chunks = (data[start : start + 999] for start in range(0, len(data), 999))
    found.append(server.json("POST", "/predict?name=a.wav", chunks))
    assert all(one == found[0] for one in found)


LONG = wav(np.zeros(8000 * 100, np.float32), form="FLAC")
REFUSED = [
    ("POST", "/predict", None, {}, 422, "is empty (0 bytes); a sound file is needed"),
    ("POST", "/events", b"hello", {}, 422, "is not a sound file of a known format"),
    ("POST", "/predict", wav(noise(1))[:44], {}, 422, ""),
    ("POST", "/predict", b"RIFF\xff\xff\xff\xffWAVE" + bytes(1000), {}, 422, ""),
    ("POST", "/predict", wav(noise(1), form="FLAC")[:3000], {}, 422, ""),
    ("POST", "/predict", LONG, {}, 413, "sound of at most 30 s is scored at a time; this is 100 s"),
    ("POST", "/predict", wav(noise(2), 1), {}, 413, "at most 30 s"),
    ("POST", "/predict", bytes(1_000_001), {}, 413, "more than the 1.0 MB that are taken in a request"),
    ("POST", "/predict", iter([bytes(400_000)] * 5), {}, 413, "more than the 1.0 MB"),
    ("POST", "/predict", b"x", {"Content-Type": "multipart/form-data"}, 400, "Missing boundary"),
    ("POST", "/predict", b"x", {"Content-Type": "multipart/form-data; boundary=a"}, 400, "no form of one file"),
    ("POST", "/predict", *form_of(), 400, "the form has no file"),
    ("POST", "/predict", *form_of(("a", b"1"), ("b", b"2")), 400, "Too many files"),
    ("POST", "/predict?windw=1", b"x", {}, 400, 'did you mean "window"?'),
    ("POST", "/predict?window=nan", b"x", {}, 400, "window must be a number, at least 0 and at most 30"),
    ("POST", "/predict?window=1e-9", wav(noise(1)), {}, 400, "window must be from"),
    ("POST", "/predict?window=1&window=2", b"x", {}, 400, "window is given twice"),
    ("POST", "/predict?top=1.5", b"x", {}, 400, "top must be an integer"),
    ("POST", f"/predict?top={'9' * 400}", b"x", {}, 400, "top must be an integer, at least 1, is"),
    ("POST", "/events?hop=0.0001", b"x", {}, 400, "hop must be a number, at least 0.01"),
    ("POST", "/events?smooth=2", wav(noise(1)), {}, 400, "smooth must be odd"),
    ("POST", "/events?off=0.9&threshold=0.5", wav(noise(1)), {}, 400, "off must be at most on"),
    ("POST", "/events?windows=1", b"x", {}, 400, "windows must be true or false"),
    ("GET", "/predict", None, {}, 405, "method not allowed"),
    ("GET", "/../etc/passwd", None, {}, 404, "not found: there are"),
    ("GET", "/stream", None, {}, 426, "a stream is a WebSocket"),
    ("POST", "/predict", b"x", {"Origin": "https://elsewhere.example"}, 403, "may not use this server"),
    ("POST", "/predict", b"x", {"Origin": "http://["}, 403, "pages of http://[ may not use this server"),
]


def test_each_bad_request_gets_its_status_and_a_sentence_while_others_are_served(server: Server) -> None:
    good, done, failures = wav(noise(1)), threading.Event(), []

    def others() -> None:
        while not done.is_set():
            status, _ = server.ask("POST", "/predict", good)
            failures.extend([status] * (status != 200))

    thread = threading.Thread(target=others)
    thread.start()
    try:
        for method, path, body, headers, status, sentence in REFUSED:
            found, text = server.ask(method, path, body, headers)
            assert (found, sentence in json.loads(text)["error"]) == (status, True), (path, found, text)
    finally:
        done.set()
        thread.join()
    assert not failures


def test_the_sentence_about_a_sound_is_that_of_infer(
    server: Server, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {"empty.wav": b"", "text.wav": b"hello", "half.flac": wav(noise(1), form="FLAC")[:3000]}
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        assert invoke(["infer", str(run), str(tmp_path / name), "--json", "--trust-code"]) == 1
        line = json.loads(capsys.readouterr().out)
        assert json.loads(server.ask("POST", f"/predict?name={quoted(tmp_path / name)}", data)[1]) == line


def test_what_is_slow_or_cut_ends_in_its_time_and_what_is_no_http_at_once(server: Server) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc"
    slow = at_once(3, lambda number: server.send((b"", head[:30], head)[number]))
    assert [one.split(b" ")[1] for one in slow] == [b"408"] * 3
    assert b"did not arrive within 2 s" in slow[2]
    assert server.send(b"\x16\x03\x01\x02\x00" + bytes(100)).startswith(b"HTTP/1.1 400")
    assert server.send(b"GET /\xff\xfe HTTP/1.1\r\n\r\n")[:12] in {b"HTTP/1.1 400", b""}
    for data in (head, head[:30], b""):
        with socket.create_connection((server.host, server.port)) as link:
            link.sendall(data)
    server.send(head, shut=True)
    assert server.ask("GET", "/healthz") == (200, b"ok\n")


def test_many_clients_share_batches_and_each_gets_its_own_answer(server: Server) -> None:
    sounds = [wav(noise(0.2 + number % 5 / 4, number)) for number in range(24)]
    alone = [server.json("POST", "/predict", data) for data in sounds]
    lines = "soundbench_batch_windows_sum", "soundbench_batch_windows_count"
    before = [server.figure(line) for line in lines]
    for found in (at_once(24, lambda number: server.json("POST", "/predict", sounds[number])) for _ in range(3)):
        assert alike(found, alone)
    windows, batches = (server.figure(line) - was for line, was in zip(lines, before, strict=True))
    assert batches < 24 * 3
    assert windows > 24 * 3


def test_a_clip_does_not_wait_for_all_long_recordings_that_came_before_it() -> None:
    begun, order = threading.Semaphore(0), []

    class Scorer:
        def rated(self, raw: RawBatch) -> np.ndarray:
            begun.acquire()
            order.append(raw.samples.shape[1])
            return np.zeros((len(raw.samples), 3), np.float32)

    shared = SharedBatches(SimpleNamespace(scorer=Scorer(), rate=100))  # type: ignore[arg-type]
    widths = [6000] * 5 + [300, 6000]

    def ask(number: int) -> np.ndarray:
        time.sleep(number / 20)  # one after the other
        with shared.working():
            return shared.rated(pack([np.zeros(widths[number], np.int16)], [1.0], [0], 1))

    threading.Timer(1, begun.release, (len(widths),)).start()
    assert [found.shape for found in at_once(len(widths), ask)] == [(1, 3)] * len(widths)
    assert order.index(300) <= 1
    shared.close()
    with pytest.raises(Gone):
        ask(0)


def test_a_stream_says_what_the_classifier_says_of_the_same_sound(server: Server, classifier: Classifier) -> None:
    samples = np.round(noise(4, 5, 11025) * 32767).astype("<i2")
    blocks = [samples[start : start + 700] for start in range(0, len(samples), 700)]
    given = (block.astype(np.float32) / 32768 for block in blocks)
    rules = classifier.event_rules(on=0.6, gap=0.2)
    wanted = [named(one) for one in classifier.stream(given, 11025, hop=0.1, rules=rules)]
    place = f"ws://{server.host}:{server.port}/stream?rate=11025&format=s16le&hop=0.1&threshold=0.6&gap=0.2"
    with connect(place) as link:
        data = samples.tobytes()
        for start in range(0, len(data), 1001):  # an odd number: samples are cut in two
            link.send(data[start : start + 1001])
        link.send("end")
        found = [json.loads(line) for line in link]
    assert link.close_code == 1000
    summary = found.pop()
    assert summary["type"] == "summary"
    assert summary["seconds"] == pytest.approx(4)
    wanted = [{"type": kind, **shown.to_dict()} for kind, shown in wanted]
    for one in (*found, *wanted):
        one.pop("latency", None)
    assert alike(found, wanted)
    assert {one["type"] for one in found} == {"window", "begin", "event"}


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("rate=1", 400, "rate must be an integer, at least 1000"),
        ("format=s17le", 400, 'did you mean "s16le"?'),
        ("hop=1e-5", 400, "hop must be"),
        ("rule=1", 400, "unknown parameter"),
    ],
)
def test_a_stream_with_a_mistake_is_refused_before_it_begins(
    server: Server, query: str, status: int, sentence: str
) -> None:
    with (
        pytest.raises(exceptions.InvalidStatus) as refused,
        connect(f"ws://{server.host}:{server.port}/stream?{query}"),
    ):
        pass
    assert refused.value.response.status_code == status
    assert sentence in json.loads(refused.value.response.body)["error"]


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (np.full(100, np.nan, "<f4").tobytes(), "contains NaN or infinity; does the format match the data?"),
        ("hello", 'samples are binary messages, and the last one is "end"'),
        (None, "no sound arrived within 2 s"),
    ],
)
def test_a_stream_that_goes_wrong_says_why_and_ends(server: Server, message: Any, sentence: str) -> None:
    with connect(f"ws://{server.host}:{server.port}/stream") as link:
        if message is not None:
            link.send(message)
        lines = [json.loads(line) for line in all_of(link)]
    assert [(line["type"], line.get("error")) for line in lines] == [("error", sentence), ("summary", None)]
    assert link.close_code == 1008


def test_a_message_that_is_too_large_ends_its_stream_alone(server: Server) -> None:
    with connect(f"ws://{server.host}:{server.port}/stream") as link:
        link.send(bytes((1 << 20) + 1))
        assert not list(all_of(link))
    assert link.close_code == 1009
    with connect(f"ws://{server.host}:{server.port}/stream") as link:  # gone without a word
        link.send(bytes(4000))
        link.socket.close()
    deadline = time.monotonic() + 30
    while server.figure("soundbench_open_streams"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_document_names_every_address_and_every_parameter(server: Server) -> None:
    found = server.json("GET", "/openapi.json")
    assert set(found["paths"]) == {"/", *re.findall(r"/[\w.]+", server.ask("GET", "/none")[1].decode())}
    for path in ("/predict", "/events"):
        text = server.ask("POST", f"{path}?zzz=1", b"")[1].decode()
        known = text.split("known: ")[1].rstrip('"}').split(", ")
        assert [one["name"] for one in found["paths"][path]["post"]["parameters"]] == known
    answer, model = server.json("POST", "/events?windows=true", wav(noise(1))), server.json("GET", "/model")
    schemas = found["components"]["schemas"]
    for value, schema in (
        (answer, "Events"),
        (answer["events"][0], "Event"),
        (answer["windows"][0], "Window"),
        (server.json("POST", "/predict", wav(noise(1))), "Prediction"),
        (model, "Model"),
    ):
        assert set(schemas[schema]["required"]) <= set(value) <= set(schemas[schema]["properties"])
    assert (model["classes"], model["rate"], model["rejects"]) == (["low", "high"], 8000, True)


def test_the_page_may_load_nothing_and_makes_no_html_of_text(server: Server) -> None:
    import hashlib
    from urllib.request import urlopen

    with urlopen(server.address) as answer:
        text, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode() in policy
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://", text)


# The process ----------------------------------------------------------------------------------------------------------


def test_a_port_in_use_a_wrong_host_and_an_odd_token_are_one_line(run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        calls = [
            (command("serve", run, "--port", port), f"--port {port}: address already in use; choose another port"),
            (
                command("serve", run, "--host", "192.0.2.1"),
                "--host 192.0.2.1 --port 8000: cannot assign requested address",
            ),
            (command("serve", run, SOUNDBENCH_TOKEN=""), "SOUNDBENCH_TOKEN must be of printable ASCII characters"),
        ]
        for process, sentence in calls:
            _, errors = process.communicate(timeout=60)
            assert (process.returncode, errors.count("\n"), sentence in errors) == (2, 1, True), errors


def test_without_a_library_one_line_names_the_extra(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert invoke(["serve", str(run)]) == 3
    expected = 'serve needs uvicorn, which is not installed: pip install "soundbench[serve]"\n'
    assert capsys.readouterr().err == expected


@pytest.mark.slow
def test_a_token_is_needed_where_the_environment_has_one(run: Path) -> None:
    token = "a/b+c= ~"
    with serving(run, SOUNDBENCH_TOKEN=token) as server:
        right, sound = {"Authorization": f"Bearer {token}"}, wav(noise(1))
        for given in ("", f"Bearer {token}x", token, "Bearer \xe9"):
            headers = {"Authorization": given}
            assert server.ask("POST", "/predict", sound, headers)[0] == 401
            status, text = server.ask("GET", "/metrics", headers=headers)
            wrong = "the token is wrong" if given.startswith("Bearer") else "a token is needed"
            assert (status, wrong in json.loads(text)["error"]) == (401, True)
        assert server.ask("POST", "/predict", sound, right)[0] == 200
        paths = {"/": 200, "/healthz": 200, "/openapi.json": 200, "/model": 401}
        assert {path: server.ask("GET", path)[0] for path in paths} == paths
        document = server.json("GET", "/openapi.json")
        assert document["security"] == [{"token": []}]
        needs_none = {path for path, one in document["paths"].items() if one.get("get", {}).get("security") == []}
        assert needs_none == {path for path, status in paths.items() if status == 200}
        place = f"ws://{server.host}:{server.port}/stream"
        with pytest.raises(exceptions.InvalidStatus) as refused, connect(place):
            pass
        assert refused.value.response.status_code == 401
        text = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
        with connect(place, subprotocols=["soundbench", f"bearer.{text}"]) as link:  # type: ignore[list-item]
            assert link.subprotocol == "soundbench"
            link.send("end")
            assert json.loads(link.recv(timeout=30))["type"] == "summary"


@pytest.mark.slow
def test_requests_beyond_the_queue_are_refused_and_those_in_it_answered(run: Path) -> None:
    sound = wav(noise(0.2))
    with serving(run, "--queue", 64, SOUNDBENCH_TOY_DELAY="2") as server:
        found = at_once(130, lambda _number: server.ask("POST", "/predict", sound))
        statuses = [status for status, _ in found]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) >= 64 + 32
        text = next(text for status, text in found if status == 503)
        assert json.loads(text)["error"] == "64 requests are waiting already; try again in a moment"


@pytest.mark.slow
def test_an_answer_that_takes_too_long_is_given_up(run: Path) -> None:
    with serving(run, "--timeout", 0.5, SOUNDBENCH_TOY_DELAY="2") as server:
        status, text = server.ask("POST", "/predict", wav(noise(0.2)))
        assert (status, "no answer within 0.5 s" in json.loads(text)["error"]) == (504, True)


@pytest.mark.slow
def test_sigterm_lets_requests_and_streams_finish(run: Path) -> None:
    server = Server(run, SOUNDBENCH_TOY_DELAY="1")
    place, sound = f"ws://{server.host}:{server.port}/stream", wav(noise(0.2))
    with connect(place) as link:
        link.send(noise(0.5).tobytes())
        answers: list[Any] = []

        def ask() -> None:
            answers.append(server.ask("POST", "/predict", sound))

        threads = [threading.Thread(target=ask) for _ in range(40)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)  # they have arrived, and are not done: a batch takes a second
        server.process.send_signal(signal.SIGTERM)
        lines = [json.loads(line)["type"] for line in all_of(link)]
        for thread in threads:
            thread.join()
    assert [status for status, _ in answers] == [200] * 40
    assert lines.count("window") == 3
    assert lines[-1] == "summary"
    assert link.close_code == 1001
    assert server.end(0) == (0, "")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((server.host, server.port))
