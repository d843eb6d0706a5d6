"""`edgeq live --web`: a page on this machine that shows what is heard, to as many as look at it."""

from __future__ import annotations

import base64
import contextlib
import errno
import importlib.resources
import ipaddress
import json
import math
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np

from edgeq.audio import decibels
from edgeq.audio.frontend import mel_centres
from edgeq.errors import InputError
from edgeq.live.broadcast import Broadcast
from edgeq.live.level import FLOOR_DB
from edgeq.live.listener import Update
from edgeq.live.run import State

HOST = "127.0.0.1"
PORT = 8080

MOST_WATCHERS = 32
"""Who comes after so many is told to come later."""

STALLED_SECONDS = 5.0
"""A client that takes nothing for so long is dropped."""

_SOUND_SECONDS = 0.05
_STATUS_SECONDS = 0.5
_WORDS_SECONDS = 20.0
_PENDING_SECONDS = 20.0
_ALIVE_SECONDS = 5.0
_FAREWELL_SECONDS = 1.0
_SEND_BYTES = 1 << 16  # what the system holds for a client that reads nothing; as little as it lets
_MOST_CONNECTIONS = 2 * MOST_WATCHERS
_LOCAL_NAMES = (".local", ".lan", ".home", ".internal", ".localdomain", ".home.arpa")
_ELSEWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}  # in examples alone. Source: RFC 5737, RFC 3849

_FILES = {
    "/": ("live.html", "text/html; charset=utf-8"),
    "/live.js": ("live.js", "text/javascript; charset=utf-8"),
    "/picture.js": ("picture.js", "text/javascript; charset=utf-8"),
    "/spectrogram.js": ("spectrogram.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_STREAM = "/events"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@contextlib.contextmanager
def serve(host: str = HOST, port: int = PORT) -> Iterator[Page]:
    """A page at that address, within the block; a view of `live`. Port 0 is one that is free.

    Raises InputError where the port is in use or not allowed, or the host is not this machine's.
    """
    broadcast = Broadcast()
    with _bound(host, port, broadcast) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="page", daemon=True)
        thread.start()
        try:
            yield Page(server, broadcast)
        finally:
            broadcast.close(_message("ended", {}), _FAREWELL_SECONDS)
            server.shutdown()
            thread.join()


class Page:
    """A view that tells browsers what is heard. The listener never waits for one: see `Broadcast`."""

    def __init__(self, server: _Server, broadcast: Broadcast) -> None:
        self.port: int = server.server_address[1]
        self.address = f"http://{_named(server)}:{self.port}/"
        self._server = server
        self._broadcast = broadcast
        self._greeted = False
        self._columns: list[np.ndarray] = []
        self._peak_db = FLOOR_DB
        self._sound_sent = self._status_sent = -math.inf
        self._said = -math.inf

    def where(self) -> list[str]:
        """Lines that say where the page is, and who can look at it where that is not this machine alone."""
        where = [f"the picture is at {self.address}"]
        if not self._server.loopback:
            where.append("everybody who can reach this machine can look on there: no password, no encryption")
            where.append(f"for yourself alone, without --host: ssh -L {self.port}:127.0.0.1:{self.port} THIS_MACHINE")
        return where

    def losses(self) -> list[str]:
        """Lines that say what browsers missed: those that stalled and were dropped, messages they were too slow for."""
        stalled, skipped = self._server.stalled, self._broadcast.skipped
        if not stalled + skipped:
            return []
        return [f"the page: browsers stalled and dropped: {stalled}; messages skipped: {skipped}"]

    def hear(self, frames: np.ndarray, state: State) -> None:
        """Keep log-mel frames, float32 (n_mels, n), for the next message."""
        self._columns.append(frames.T)
        most = _PENDING_SECONDS * state.frontend.sample_rate / state.frontend.hop_length
        while len(self._columns) > 1 and sum(len(columns) for columns in self._columns) > most:
            del self._columns[0]

    def update(self, update: Update, state: State) -> None:
        """Tell of a window, behind the sound that it was heard in."""
        self._send_sound(state)
        window = {
            "seconds": round(update.time, 3),
            "scores": [round(float(score), 4) for score in update.scores],
            "active": update.active,
            "silent": update.silent,
            "known": update.heard is not None,
        }
        self._broadcast.send(_message("window", window))
        if update.event:
            event = update.event
            told = {"seconds": event.time_seconds, "label": event.label, "score": round(event.score, 4)}
            self._broadcast.send(_message("event", told | {"number": state.begun}), lasting=True)

    def refresh(self, state: State) -> None:
        """Tell of level and sound, and now and then of figures."""
        now = time.monotonic()
        self._peak_db = max(self._peak_db, state.peak_db)
        if now - self._sound_sent >= _SOUND_SECONDS:
            self._send_sound(state)
        if now - self._status_sent >= _STATUS_SECONDS:
            self._status_sent = now
            self._broadcast.send(_message("status", _figures(state, now - self._said < _WORDS_SECONDS)))

    def say(self, words: str) -> None:
        """Let the words be told at once; they are in the state."""
        self._said = time.monotonic()
        self._status_sent = -math.inf

    def _send_sound(self, state: State) -> None:
        if not self._greeted:
            self._greeted = True
            self._broadcast.greet(_message("hello", _facts(state)))
        columns = np.concatenate([np.zeros((0, state.frontend.n_mels), np.float32), *self._columns])
        sound = {
            "seconds": round(state.seconds, 3),
            "peakDb": round(self._peak_db, 1),
            "count": len(columns),
            "columns": base64.b64encode(columns.astype("<f4").tobytes()).decode(),
        }
        self._broadcast.send(_message("sound", sound))
        self._columns, self._peak_db, self._sound_sent = [], FLOOR_DB, time.monotonic()


def _facts(state: State) -> dict[str, Any]:
    """What the picture is made with."""
    spec = state.frontend
    return {
        "model": state.model,
        "source": state.source,
        "labels": state.labels,
        "mels": spec.n_mels,
        "framesPerSecond": spec.sample_rate / spec.hop_length,
        "windowSeconds": spec.window_seconds,
        "hertz": [round(float(hertz), 1) for hertz in mel_centres(spec)],
        "decibels": decibels.unit(spec),
        "loud": decibels.loud(spec),
        "smoothing": state.rule.smoothing,
        "threshold": state.rule.on,
    }


def _figures(state: State, with_words: bool) -> dict[str, Any]:
    return {
        "latencyMs": round(state.latency(50), 1),
        "latencyP95Ms": round(state.latency(95), 1),
        "inferenceMs": round(state.inference_ms, 2),
        "load": round(state.load, 3),
        "dropped": state.dropped,
        "seconds": round(state.seconds, 2),
        "words": state.words if with_words else "",
    }


def _message(kind: str, values: dict[str, Any]) -> bytes:
    """An event as browsers read them.

    Source: HTML Standard, section 9.2, server-sent events.
    """
    return f"event: {kind}\ndata: {json.dumps(values, allow_nan=False, separators=(',', ':'))}\n\n".encode()


def _bound(host: str, port: int, broadcast: Broadcast) -> _Server:
    """A server that listens. Raises InputError as `serve`."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return _Server(family, address, host, broadcast)
    except socket.gaierror as error:
        raise InputError(
            f"--host {host}: {error.strerror}; expected an address of this machine, 127.0.0.1 or 0.0.0.0"
        ) from None
    except OSError as error:
        known = {
            errno.EADDRINUSE: f"port {port}: in use on {host} by another program; choose another with --port, "
            "or --port 0 for one that is free",
            errno.EACCES: f"port {port}: not allowed to this user; choose one of 1024 or above with --port",
            errno.EADDRNOTAVAIL: f"--host {host}: not an address of this machine; expected 127.0.0.1, 0.0.0.0 "
            "or one that the machine has",
        }
        raise InputError(known.get(error.errno or 0, f"{host} port {port}: {error.strerror}")) from None


def _named(server: _Server) -> str:
    """How the host is called in an address for browsers."""
    address = ipaddress.ip_address(str(server.server_address[0]))
    if address.is_unspecified:
        with contextlib.suppress(OSError), socket.socket(server.address_family, socket.SOCK_DGRAM) as one:
            one.connect((_ELSEWHERE[address.version], 9))  # sends nothing, but chooses an address to send from
            address = ipaddress.ip_address(one.getsockname()[0])
    if address.is_unspecified:
        return socket.gethostname()
    return f"[{address}]" if address.version == 6 else str(address)


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A thread a connection, a bounded number of them."""

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere it would take a port from another program
    request_queue_size = 32

    def __init__(self, family: int, address: Any, host: str, broadcast: Broadcast) -> None:
        self.address_family = family
        self.broadcast = broadcast
        self.stalled = 0
        self._connections = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(address, _Handler)
        self.loopback = ipaddress.ip_address(str(self.server_address[0])).is_loopback
        self._host = host.lower()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a browser that goes away in the middle is no fault, and nobody here can do anything about one."""

    def answers_to(self, name: str) -> bool:
        """Whether a Host header is one that a browser sends for this page: an address, or a name that is not public.

        A page of somebody else, whose name is made to point to this machine after it was loaded, sends its own name,
        which is one of the public ones. Beyond loopback other machines' names for this one are not known: any that only
        a local network has will do, and the one that --host gives.
        """
        host = name.rsplit(":", 1)[0] if not name.endswith("]") else name
        host = host.lower().strip("[]")
        if host in ("localhost", self._host):
            return True
        try:
            return ipaddress.ip_address(host).is_loopback or not self.loopback
        except ValueError:
            local = "." not in host or host.endswith(_LOCAL_NAMES) or host == socket.gethostname().lower()
            return local and not self.loopback


class _Handler(BaseHTTPRequestHandler):
    """One request: a file of the page, or the stream of what is heard."""

    server: _Server
    timeout = STALLED_SECONDS
    server_version = "edgeq"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        path = self.path.split("?")[0]
        if not self.server.answers_to(self.headers.get("Host", "")):
            self._refuse(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this page answers to localhost; --host lets others see it"
                if self.server.loopback
                else "this page answers to this machine's address; open that, or give this name with --host",
            )
        elif path != "/" and self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            self._refuse(HTTPStatus.FORBIDDEN, "this is for edgeq's own page")
        elif path == _STREAM:
            self._stream(with_body)
        elif path in _FILES:
            name, kind = _FILES[path]
            content = (importlib.resources.files("edgeq") / "picture" / name).read_bytes()
            self._head(HTTPStatus.OK, kind, {"Content-Length": str(len(content))})
            if with_body:
                self.wfile.write(content)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "no such page; the picture is at /")

    def _stream(self, with_body: bool) -> None:
        broadcast = self.server.broadcast
        if len(broadcast) >= MOST_WATCHERS:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{MOST_WATCHERS} are looking already; try again later")
            return
        self._head(HTTPStatus.OK, "text/event-stream; charset=utf-8", {})
        if not with_body:
            return
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        with broadcast.joined() as receiver:
            while (message := broadcast.take(receiver, _ALIVE_SECONDS)) is not None:
                try:
                    self._send(message or b": nothing new\n\n")  # so that a client that is gone is noticed
                except TimeoutError:
                    self.server.stalled += 1
                    return
                except OSError:
                    return

    def _send(self, message: bytes) -> None:
        """Send all of it, however long it takes, as long as some of it is taken in STALLED_SECONDS."""
        for start in range(0, len(message), _SEND_BYTES):
            self.wfile.write(message[start : start + _SEND_BYTES])

    def _refuse(self, status: HTTPStatus, words: str) -> None:
        content = f"edgeq: {words}\n".encode()
        self._head(status, "text/plain; charset=utf-8", {"Content-Length": str(len(content))})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _head(self, status: HTTPStatus, kind: str, more: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": kind} | more).items():
            self.send_header(name, value)
        self.end_headers()

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: stderr is for what the listener says."""
