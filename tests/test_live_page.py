"""The page of `edgeq live --web`: what its server sends, to whom, and what browsers make of it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import browser
import bundles
import numpy as np
import pytest
import soundfile
import webdriver
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edgeq import cli, goldens
from edgeq.audio import decibels
from edgeq.audio.frontend import mel_centres
from edgeq.decision import DecisionRule, Event, Rule
from edgeq.errors import InputError
from edgeq.live import page, spectrogram
from edgeq.live.broadcast import Broadcast
from edgeq.live.listener import Update
from edgeq.live.run import State

SPEC = bundles.FRONTEND
FILES = page.importlib.resources.files("edgeq") / "picture"
PATIENCE = 20.0


def state(**changes):
    return State(**{"model": "small", "source": "test", "labels": bundles.LABELS, "frontend": SPEC} | changes)


def update(seconds, event=None, silent=False, heard="hum"):
    scores, window = np.array([0.1, 0.05, 0.8, 0.05]), np.array([0.0, 0.1, 0.9, 0.0], np.float32)
    active = ("hum",) if event else ()
    return Update(
        seconds, bundles.LABELS, window, scores, event, active, latency_ms=12.0, dropped=0, silent=silent, heard=heard
    )


def frames(count, seed=0):
    return np.random.default_rng(seed).normal(-30, 10, (SPEC.n_mels, count)).astype(np.float32)


def ask(pages, path="/", method="GET", **headers):
    """One request: status, headers, body."""
    connection = http.client.HTTPConnection("127.0.0.1", pages.port, timeout=PATIENCE)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


class Watcher:
    """Somebody who reads the stream."""

    def __init__(self, port):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._connection.request("GET", "/events")
        self._answer = self._connection.getresponse()
        assert (self._answer.status, self._answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")

    def next(self, wanted=None):
        """The next message, or the next of that kind; None at the end."""
        kind = None
        while line := self._answer.readline().decode():
            if line.startswith("event: "):
                kind = line[7:].strip()
            elif line.startswith("data: ") and wanted in (None, kind):
                return kind, json.loads(line[6:])
        return None

    def leave(self):
        self._answer.close()
        self._connection.close()


def eventually(met):
    until = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < until
        time.sleep(0.01)


def columns(message):
    values = np.frombuffer(base64.b64decode(message["columns"]), "<f4")
    return values.reshape(message["count"], SPEC.n_mels).T


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.setattr(page, "_ALIVE_SECONDS", 0.05)  # who left is noticed so soon
    with page.serve(port=0) as served:
        yield served


@pytest.mark.parametrize("path", page._FILES)
def test_files_are_served_with_a_policy_that_lets_nothing_else_in(pages, path):
    status, headers, body = ask(pages, path)
    name, kind = page._FILES[path]
    assert (status, headers["Content-Type"], body) == (200, kind, (FILES / name).read_bytes())
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and "Python" not in headers["Server"]
    assert ask(pages, path, "HEAD")[2] == b""


def test_no_file_of_the_picture_names_an_address_elsewhere():
    for file in FILES.iterdir():
        assert not re.findall(rb"(?:https?:)?//(?!www\.w3\.org/2000/svg)[\w.]+\.\w", file.read_bytes()), file.name
    assert {name for name, _ in page._FILES.values()} == {file.name for file in FILES.iterdir()}


def test_the_terminal_s_spectrogram_and_the_page_s_have_the_same_colours_and_range():
    script = (FILES / "spectrogram.js").read_text()
    values = {name: json.loads(value) for name, value in re.findall(r"^const ([A-Z_]+) = ([^;]+);", script, re.M)}
    assert values["ON_DARK"] == list(spectrogram._MAGMA) and values["HERTZ"] == list(spectrogram._HERTZ)
    for name in ("MOST_DB", "LEAST_DB", "STEADY_DB", "GAP_SECONDS"):
        assert values[name] == getattr(spectrogram, f"_{name}")


@pytest.mark.parametrize("host", ["localhost", "localhost:{port}", "127.0.0.1:{port}", "127.0.0.1:1", "[::1]:{port}"])
def test_names_of_this_machine_are_answered(pages, host):
    assert ask(pages, Host=host.format(port=pages.port))[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "localhost.evil.example", "10.0.0.1", ""])
@pytest.mark.parametrize("path", ["/", "/events", "/picture.js"])
def test_other_names_are_not(pages, host, path):
    status, _, body = ask(pages, path, Host=host.format(port=pages.port))
    assert status == 421 and b"localhost" in body


def test_pages_of_others_do_not_get_the_stream(pages):
    assert ask(pages, "/events", Sec_Fetch_Site="cross-site")[0] == 403
    assert ask(pages, "/events", Sec_Fetch_Site="same-site")[0] == 403
    assert ask(pages, "/", Sec_Fetch_Site="cross-site")[0] == 200  # a link to it


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (b"GET /../page.py HTTP/1.0\r\nHost: localhost\r\n\r\n", {404}),
        (b"GET /live.html HTTP/1.0\r\nHost: localhost\r\n\r\n", {404}),
        (b"POST / HTTP/1.0\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", {501}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", {None}),  # TLS
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.0\r\n\r\n", {414}),
        (b"GET / HTTP/1.0\r\n" + b"a: b\r\n" * 200 + b"\r\n", {431}),
        (b"", {None}),
    ],
)
def test_strange_requests_are_refused_and_the_next_is_answered(pages, request_bytes, statuses, capfd):
    with socket.create_connection(("127.0.0.1", pages.port), timeout=PATIENCE) as connection:
        connection.sendall(request_bytes)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        found = re.search(rb"^HTTP/1.0 (\d+)", connection.makefile("rb").readline() or b"")
    assert (int(found[1]) if found else None) in statuses
    assert ask(pages)[0] == 200
    assert capfd.readouterr() == ("", "")


def test_what_is_heard_is_sent_as_it_is(pages):
    watcher = Watcher(pages.port)
    now = state(seconds=1.0, peak_db=-7.0, load=0.25, dropped=3, latencies=[20.0] * 9, words="it clips")
    pages.say(now.words)
    first, second = frames(51), frames(7, seed=1)
    pages.hear(first, now)
    pages.update(update(1.0), now)
    pages.refresh(now)
    kind, facts = watcher.next()
    assert kind == "hello" and facts["labels"] == list(bundles.LABELS) and facts["model"] == "small"
    assert (facts["mels"], facts["framesPerSecond"], facts["windowSeconds"]) == (16, 50.0, 1.0)
    assert (facts["threshold"], facts["smoothing"]) == (now.rule.on, now.rule.smoothing)
    assert (facts["decibels"], facts["loud"]) == (decibels.unit(SPEC), decibels.loud(SPEC))
    np.testing.assert_allclose(facts["hertz"], mel_centres(SPEC), atol=0.05)
    kind, sound = watcher.next()
    assert kind == "sound" and sound["seconds"] == 1.0
    np.testing.assert_array_equal(columns(sound), first)
    expected = {"seconds": 1.0, "scores": [0.1, 0.05, 0.8, 0.05], "active": [], "silent": False, "known": True}
    assert watcher.next() == ("window", expected)
    kind, status = watcher.next("status")
    assert status == {
        "latencyMs": 20.0, "latencyP95Ms": 20.0, "inferenceMs": 0.0, "load": 0.25, "dropped": 3, "seconds": 1.0,
        "words": "it clips",
    }  # fmt: skip
    now.peak_db, now.seconds = -3.0, 1.14
    pages.refresh(now)
    pages.hear(second, now)
    event = Event("hum", 0.83, 1.0, 1.25)
    now.counts["hum"] += 1
    pages.update(update(1.25, event, heard=None), now)
    kind, sound = watcher.next("sound")
    assert sound["peakDb"] == -3.0
    np.testing.assert_array_equal(columns(sound if sound["count"] else watcher.next("sound")[1]), second)
    assert not watcher.next("window")[1]["known"]
    assert watcher.next() == ("event", {"seconds": 1.25, "label": "hum", "score": 0.83, "number": 1})
    watcher.leave()


def test_who_comes_later_or_again_sees_the_last_seconds(pages):
    heard = state()
    for second in range(1, 31):
        heard.seconds = float(second)
        pages.hear(frames(50, seed=second), heard)
        heard.counts["hum"] += 1
        pages.update(update(float(second), Event("hum", 0.9, second - 1.0, float(second))), heard)
    for _ in range(2):
        watcher = Watcher(pages.port)
        assert watcher.next()[0] == "hello"
        numbers = [watcher.next("event")[1]["number"] for _ in range(30)]
        assert numbers == list(range(1, 31))
        sounds = [watcher.next("sound")[1] for _ in range(30)]
        np.testing.assert_array_equal(columns(sounds[-1]), frames(50, seed=30))
        watcher.leave()
    eventually(lambda: not len(pages._broadcast))


def test_a_client_that_stalls_is_dropped_and_counted_while_the_others_hear_all(monkeypatch):
    monkeypatch.setattr(page._Handler, "timeout", 0.3)
    with page.serve(port=0) as pages, socket.create_connection(("127.0.0.1", pages.port)) as stalling:
        stalling.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalling.sendall(b"GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n")
        watchers = [Watcher(pages.port) for _ in range(3)]
        eventually(lambda: len(pages._broadcast) == 4)
        heard, sent = state(), 0
        while not pages._server.stalled:
            heard.seconds += 2.0
            pages.hear(frames(100), heard)
            pages.update(update(heard.seconds), heard)
            sent += 1
            for watcher in watchers:
                assert watcher.next("window")[1]["seconds"] == heard.seconds
        assert sent < 5000
        assert pages.losses()[0].startswith("the page: browsers stalled and dropped: 1;")


def test_a_client_that_is_slow_but_takes_all_is_no_stalled_one(monkeypatch):
    """The last minutes at once, over a connection that takes longer for them than a client may take nothing."""
    monkeypatch.setattr(page._Handler, "timeout", 0.6)
    with page.serve(port=0) as pages, socket.socket() as slow:
        heard = state()
        for second in range(1, 301):
            heard.seconds = float(second)
            pages.hear(frames(50), heard)
            pages.update(update(heard.seconds), heard)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
        slow.connect(("127.0.0.1", pages.port))
        slow.sendall(b"GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n")
        taken = b""
        while b'"seconds":300.0,"scores"' not in taken:
            more = slow.recv(1 << 14)
            assert more
            taken += more
            time.sleep(0.015)
        assert len(taken) > 1e6 and not pages.losses()


def test_nothing_is_said_of_losses_where_there_were_none(pages):
    assert pages.losses() == []


def test_so_many_watchers_and_no_more(monkeypatch, pages):
    monkeypatch.setattr(page, "MOST_WATCHERS", 2)
    pages.hear(frames(9), state())
    pages.update(update(1.0), state())
    watchers = [Watcher(pages.port) for _ in range(2)]
    assert all(one.next()[0] == "hello" for one in watchers)
    status, _, body = ask(pages, "/events")
    assert status == 503 and b"2 are looking" in body
    watchers[0].leave()
    for _ in range(2):  # somebody who left is noticed when something is sent
        pages._send_sound(state())
    eventually(lambda: len(pages._broadcast) == 1)
    Watcher(pages.port).leave()


def test_it_ends_for_all_and_its_port_is_free_again():
    with page.serve(port=0) as pages:
        watchers = [Watcher(pages.port) for _ in range(2)]
        eventually(lambda: len(pages._broadcast) == 2)
    for watcher in watchers:
        assert watcher.next() == ("ended", {}) and watcher.next() is None
    assert not [thread for thread in threading.enumerate() if thread.name == "page"]
    with page.serve(port=pages.port) as again:
        assert ask(again)[0] == 200


def test_a_port_in_use_is_named_with_the_mend(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(InputError, match=rf"port {port}: in use on 127\.0\.0\.1 .* --port 0"),
            page.serve(port=port),
        ):
            pass
        result = subprocess.run(
            [sys.executable, "-c", "from edgeq.cli import main; main()", "live", "none", "--web", "--port", str(port)],
            capture_output=True, text=True,
        )  # fmt: skip
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and f"port {port}" in result.stderr


def test_a_host_that_is_not_this_machine_is_refused(monkeypatch):
    with pytest.raises(InputError, match="not an address of this machine"), page.serve("203.0.113.7", 0):
        pass

    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with (
        pytest.raises(InputError, match="--host nowhere: Name or service not known; expected"),
        page.serve("nowhere"),
    ):
        pass


def test_beyond_loopback_it_says_that_everybody_can_look_on_and_answers_to_local_names():
    with page.serve("0.0.0.0", 0) as pages:
        assert "everybody who can reach this machine can look on" in pages.where()[1]
        assert "no encryption" in pages.where()[1] and f"ssh -L {pages.port}:127.0.0.1" in pages.where()[2]
        host = re.search(r"http://(.*):\d+/", pages.where()[0])[1]
        assert not host.startswith("0.")
        for name in (host, "raspberrypi.local:8080", "raspberrypi", "192.168.7.7:8080", "[fe80::1]:8080"):
            assert ask(pages, Host=name)[0] == 200
        for name in ("evil.example", "local.evil.example:8080"):  # of somebody else, made to point here
            status, _, body = ask(pages, "/events", Host=name)
            assert status == 421 and b"--host" in body
    with page.serve("localhost", 0) as pages:
        assert len(pages.where()) == 1


@pytest.mark.parametrize("words", [["--host", "0.0.0.0"], ["--port", "0"]])
def test_options_of_the_page_need_the_page(words):
    result = CliRunner().invoke(cli.commands, ["live", "none", *words])
    assert result.exit_code == 2 and "--web" in result.output


@given(st.lists(st.sampled_from(["send", "last", "greet", "take", "join"]), max_size=60), st.integers(1, 5))
def test_whoever_is_how_slow_hears_a_whole_run_of_messages(steps, queue):
    """From the greeting on: lasting ones, then all up to the last without one left out or told twice."""
    broadcast, number, lasting, plain, everybody = Broadcast(recent=3, lasting=2, queue=queue), 0, [], [], []
    with contextlib.ExitStack() as joined:

        def take(receiver, heard):
            heard += (broadcast.take(receiver, 0) or b"").split()

        def join():
            everybody.append((joined.enter_context(broadcast.joined()), []))

        broadcast.greet(b"G ")
        join()
        for step in steps:
            if step in ("send", "last"):
                number += 1
                (lasting if step == "last" else plain).append(number)
                broadcast.send(b"%d " % number, lasting=step == "last")
            elif step == "greet":
                broadcast.greet(b"G ")
            elif step == "join":
                join()
            else:
                take(*everybody[0])
        for receiver, heard in everybody:
            take(receiver, heard)
            last = [int(one) for one in heard[len(heard) - heard[::-1].index(b"G") :]]
            told, run = [one for one in last if one in lasting], [one for one in last if one in plain]
            assert len(told) >= min(2, len(lasting)) and told == lasting[len(lasting) - len(told) :]
            assert len(run) >= min(3, len(plain)) and run == plain[len(plain) - len(run) :]


def test_the_queue_of_who_takes_nothing_is_bounded():
    broadcast = Broadcast(recent=5, queue=10)
    with broadcast.joined() as receiver:
        broadcast.greet(b"hello ")
        assert broadcast.take(receiver, 0) == b"hello "
        for number in range(1000):
            broadcast.send(b"%d " % number)
            assert len(receiver.waiting) <= 10
        assert broadcast.skipped >= 900
        assert broadcast.take(receiver, 0).startswith(b"hello 995 996 997 998 999")


def test_who_joins_before_there_is_anything_waits_for_it():
    broadcast, taken = Broadcast(), []
    with broadcast.joined() as receiver:
        assert broadcast.take(receiver, 0) == b""
        waiting = threading.Thread(target=lambda: taken.append(broadcast.take(receiver, PATIENCE)))
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        broadcast.greet(b"hello")
        waiting.join()
        assert taken == [b"hello"]
        broadcast.close(b"bye", 0)
        assert broadcast.take(receiver, PATIENCE) == b"bye" and broadcast.take(receiver, PATIENCE) is None


@pytest.fixture(scope="module")
def eager(tmp_path_factory):
    """A model with a rule by which whatever it is surest of is an event at once."""
    rule = Rule(on=0.3, off=0.3, smoothing=1, patience=1, cooldown=0)
    return bundles.exported(tmp_path_factory.mktemp("bundle") / "eager", decision=DecisionRule(events=rule))


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    spec = bundles.replace(SPEC, window_seconds=60.0, window_hop_seconds=60.0)
    path = tmp_path_factory.mktemp("sound") / "a.wav"
    soundfile.write(path, goldens.waveform(11, spec), SPEC.sample_rate, subtype="FLOAT")
    return path


@contextlib.contextmanager
def listening(model, recording, *words, port=0):
    """`edgeq live --web` with a recording, until the block ends: the process, and the match of the page's address."""
    arguments = ["live", str(model.folder), "--input", str(recording), "--web", "--port", str(port), "--json", *words]
    process = subprocess.Popen(
        [sys.executable, "-c", "from edgeq.cli import main; main()", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = process.stderr.readline()
        yield process, re.fullmatch(r"edgeq: the picture is at (http://127\.0\.0\.1:(\d+)/)\n", line)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_page_and_json_lines_tell_the_same_until_ctrl_c(eager, recording):
    with listening(eager, recording) as (process, found):
        watcher = Watcher(int(found[2]))
        told = [json.loads(process.stdout.readline()) for _ in range(4)]
        for line in told:
            _, window = watcher.next("window")
            assert window["seconds"] == line["time"]
            best = bundles.LABELS[int(np.argmax(window["scores"]))]
            assert best == line["top"][0]["label"] and max(window["scores"]) == pytest.approx(
                line["top"][0]["score"], abs=1e-4
            )
        assert any("event" in line for line in told)
        process.send_signal(signal.SIGINT)
        assert watcher.next("ended") is not None and watcher.next() is None
        assert process.wait(PATIENCE) == 130
        assert "Traceback" not in process.stderr.read()


needs_browser = pytest.mark.skipif(
    bool(browser.missing()), reason=f"not installed: {', '.join(browser.missing())} (make system-tools)"
)


@pytest.fixture(scope="module")
def chromium():
    with browser.running() as running:
        yield running


@contextlib.contextmanager
def opened(chromium, address, width=1280, **options):
    """A page, and what it complained of or asked for elsewhere, which is nothing."""
    context = chromium.new_context(viewport={"width": width, "height": 800}, **options)
    shown, faults = context.new_page(), []
    shown.on("console", lambda message: faults.append(message.text))
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.on("request", lambda request: request.url.startswith(address) or faults.append(request.url))
    shown.goto(address)
    yield shown
    context.close()
    assert faults == []


def luminance(colour):
    """Source: WCAG 2.2, relative luminance."""
    parts = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@needs_browser
@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [375, 768, 1280])
def test_all_of_it_fits_without_a_jump_and_can_be_read(chromium, pages, width, scheme):
    heard = state(seconds=1.0, peak_db=-8.0, latencies=[20.0])
    pages.hear(frames(51), heard)
    pages.update(update(1.0, silent=True, heard=None), heard)
    with opened(chromium, pages.where()[0].split()[-1], width, color_scheme=scheme) as shown:
        shown.wait_for_selector("text=silence")
        boxes = (
            "[...document.querySelectorAll('.picture > *, .class')].map(one => one.getBoundingClientRect().toJSON())"
        )
        before = shown.evaluate(boxes)
        for _ in range(120):
            heard.counts["hum"] += 1
            heard.seconds += 0.25
            pages.update(update(heard.seconds, Event("hum", 0.9, 0.0, heard.seconds)), heard)
        heard.words, heard.dropped = "the device stands still; plug it in again", 1_234_567
        pages.say(heard.words)
        pages.refresh(heard)
        shown.wait_for_selector("text=plug it in again")
        assert shown.evaluate(boxes) == before
        assert shown.locator(".events li").count() == 100 and shown.inner_text(".events li") == "0:00:31.0\nhum\n90 %"
        assert shown.inner_text(".count") == "120"
        assert shown.evaluate("document.documentElement.scrollWidth") == width
        names = [
            "h1",
            ".source",
            ".words",
            ".now",
            ".best .share",
            "time",
            ".bad .value",
            ".unit",
            ".state",
            ".decibels",
        ]
        colours = shown.evaluate(
            """names => names.map(name => {
                const element = document.querySelector(name), card = element.closest(".card") ?? document.body;
                return [name, getComputedStyle(element).color, getComputedStyle(card).backgroundColor];
            })""",
            names,
        )
        assert {name: contrast(ink, ground) for name, ink, ground in colours if contrast(ink, ground) < 4.5} == {}


def tell(pages, heard, shown):
    """Wait until all that was heard is drawn."""
    pages.say("")
    pages.refresh(heard)
    shown.wait_for_selector(f".value:text-is('0:00:0{heard.seconds:.0f}')")
    shown.evaluate("() => new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")


def drawn(shown, seconds):
    """Columns of the spectrogram's pixels, (height, 3), top first, where it stands still: second t at t / 10 of it."""
    columns = shown.evaluate(
        """seconds => {
            const canvas = document.querySelector("canvas"), { width, height } = canvas;
            const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
            copy.drawImage(canvas, 0, 0);
            return seconds.map(second => {
                const x = Math.round(40 + (second / 10) * (width - 40 - 46));
                return [...copy.getImageData(x, 18, 1, height - 18 - 20).data];
            });
        }""",
        seconds,
    )
    return [np.array(column).reshape(-1, 4)[:, :3] for column in columns]


@needs_browser
@pytest.mark.parametrize(("scheme", "quiet"), [("dark", (0, 80)), ("light", (215, 255))])
def test_silence_is_as_dark_or_light_as_the_page(chromium, pages, scheme, quiet):
    heard = state(seconds=2.0)
    pages.hear(np.full((SPEC.n_mels, 100), -60, np.float32), heard)
    with opened(chromium, pages.where()[0].split()[-1], color_scheme=scheme, reduced_motion="reduce") as shown:
        tell(pages, heard, shown)
        (column,) = drawn(shown, [1.0])
    assert quiet[0] <= column.min() and column.max() <= quiet[1]


@needs_browser
def test_the_spectrogram_lies_right_in_time_and_frequency(chromium, pages):
    heard, bands = state(), {1: 12, 2: 3, 4: 7}
    with opened(chromium, pages.where()[0].split()[-1], color_scheme="dark", reduced_motion="reduce") as shown:
        for second in (1, 2, 4):  # the fourth second, from 2 to 3, was lost
            sound = np.full((SPEC.n_mels, 50), -80, np.float32)
            sound[bands[second]] = -20
            heard.seconds = float(second)
            pages.hear(sound, heard)
            pages.update(update(heard.seconds), heard)
        tell(pages, heard, shown)
        *heard_columns, lost = drawn(shown, [*(second - 0.5 for second in bands), 2.5])
        for column, band in zip(heard_columns, bands.values(), strict=True):
            bright = column.sum(axis=1)
            from_below = len(bright) - np.flatnonzero(bright > 0.9 * bright.max()).mean()
            assert from_below == pytest.approx((band + 0.5) * len(bright) / SPEC.n_mels, abs=3)
        track = shown.evaluate("getComputedStyle(document.querySelector('.class .track')).backgroundColor")
        assert f"rgb({', '.join(map(str, lost[50]))})" == track


COUNT_LISTENERS = """() => {
  self.listeners = 0;
  for (const [name, step] of [["addEventListener", 1], ["removeEventListener", -1]]) {
    MediaQueryList.prototype[name] = function (...given) {
      self.listeners += step;
      return EventTarget.prototype[name].apply(this, given);
    };
  }
}"""


@needs_browser
def test_a_picture_that_another_replaces_is_let_go(chromium, pages):
    pages.update(update(1.0), state(model="first"))
    with opened(chromium, pages.address) as shown:
        shown.wait_for_selector("h1:text-is('first')")
        shown.evaluate(COUNT_LISTENERS)
        for model in ("second", "third", "fourth"):
            pages._broadcast.greet(page._message("hello", page._facts(state(model=model))))
            shown.wait_for_selector(f"h1:text-is('{model}')")
        assert shown.evaluate("self.listeners") == 0


@pytest.mark.slow
@needs_browser
def test_a_page_left_open_comes_back_with_the_server(chromium):
    heard = state()
    with page.serve(port=0) as pages:
        address = pages.where()[0].split()[-1]
        pages.update(update(1.0, Event("hum", 0.9, 0.0, 1.0)), heard)
        context = chromium.new_context()
        shown = context.new_page()
        shown.goto(address)
        shown.wait_for_selector(".events time")
    shown.wait_for_selector(".state:text-is('ended')")
    with page.serve(port=pages.port) as pages:
        heard = state(model="another")
        pages.update(update(7.0, Event("knock", 0.8, 6.0, 7.0)), heard)
        shown.wait_for_selector("h1:text-is('another')")
        assert shown.inner_text(".events") == "0:00:07.0\nknock\n80 %"
        shown.wait_for_selector(".state:text-is('no sound comes')")
    context.close()


COLOURS = """(() => {
    const canvas = document.querySelector("canvas"), { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(40, 18, width - 40 - 46, height - 18 - 20);
    return new Set(new Uint32Array(data.buffer)).size;
})()"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", webdriver.ENGINES)
def test_other_browsers_draw_it_and_come_back_with_the_server(engine, tmp_path):
    if lacking := webdriver.missing(engine):
        pytest.skip(f"not installed: {', '.join(lacking)}")
    with webdriver.running(engine, tmp_path) as shown:
        with page.serve(port=0) as pages:
            heard = state(seconds=1.0)
            pages.hear(frames(51), heard)
            pages.update(update(1.0, Event("hum", 0.9, 0.0, 1.0)), heard)
            shown.goto(pages.address)
            shown.wait_for("document.querySelector('.events time')")
            shown.wait_for(f"{COLOURS} > 20")
            assert shown.evaluate("document.querySelector('.best .share').textContent") == "80 %"
            heard.seconds = 2.0
            pages.update(update(2.0, silent=True, heard=None), heard)
            shown.wait_for("document.querySelector('.now .name').textContent === 'silence'")
        shown.wait_for("document.querySelector('.state').textContent === 'ended'")
        with page.serve(port=pages.port) as pages:
            pages.update(update(7.0, Event("knock", 0.8, 6.0, 7.0)), state(model="another"))
            shown.wait_for("document.querySelector('h1').textContent === 'another'")
            assert shown.evaluate("document.querySelector('.events').innerText.trim()") == "0:00:07.0\nknock\n80 %"


@needs_browser
def test_a_recording_is_seen_as_it_is_heard(chromium, eager, recording):
    with listening(eager, recording) as (process, found), opened(chromium, found[1]) as shown:
        shown.wait_for_selector(".events time")
        line = next(line for line in map(json.loads, process.stdout) if "event" in line)
        items = shown.locator(".events li").all_inner_texts()
        first = items[-1].split("\n")
        assert first[1] == line["event"]["label"] and first[2] == f"{100 * line['event']['score']:.0f} %"
        assert shown.locator(".class .name").all_inner_texts() == list(bundles.LABELS)
        shown.wait_for_selector(".figures .value:text-matches('0:00:(0[2-9]|[1-5][0-9])')")
        assert "small" in shown.title() or "eager" in shown.title()
