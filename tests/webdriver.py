"""Firefox and WebKit without a window, for tests of pages; they skip where one of them is not installed.

Both take the commands of WebDriver: WebKit over HTTP, Firefox over its Marionette, a socket of its own, so that no
geckodriver is needed. Debian has them in firefox-esr, and in webkit2gtk-driver and xvfb.
Source: WebDriver (W3C), section 6; Firefox Source Docs, Marionette, Protocol.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ENGINES = {"firefox": ("firefox-esr", "firefox"), "webkit": ("WebKitWebDriver",)}
"""Programs by engine, the first that is found is taken."""

PATIENCE = 60.0

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_PATHS = {
    "WebDriver:Navigate": "url",
    "WebDriver:ExecuteScript": "execute/sync",
    "WebDriver:FindElement": "element",
    "WebDriver:ElementSendKeys": "element/{id}/value",
}


def missing(engine: str) -> list[str]:
    """What is not installed of what it needs."""
    lacking = [] if _program(engine) else [ENGINES[engine][0]]
    return lacking if engine == "firefox" or shutil.which("Xvfb") else [*lacking, "Xvfb"]


class Browser:
    """A browser with one page. command: sends one of WebDriver and gives its value."""

    def __init__(self, command: Callable[..., Any]) -> None:
        self._command = command

    def goto(self, address: str) -> None:
        self._command("WebDriver:Navigate", url=address)

    def evaluate(self, expression: str) -> Any:
        return self._command("WebDriver:ExecuteScript", script=f"return {expression}", args=[])

    def wait_for(self, expression: str) -> Any:
        """The expression's value, once it is true of the page."""
        until = time.monotonic() + PATIENCE
        while not (value := self.evaluate(expression)):
            if time.monotonic() > until:
                raise TimeoutError(f"{expression}: not so; the page says: {self.evaluate('document.body.innerText')}")
            time.sleep(0.05)
        return value

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file in an input."""
        element = self._command("WebDriver:FindElement", using="css selector", value=selector)[_ELEMENT]
        self._command("WebDriver:ElementSendKeys", id=element, text=str(path))


@contextmanager
def running(engine: str, folder: Path) -> Iterator[Browser]:
    """A browser with a folder of its own, within the block."""
    with _firefox(folder) if engine == "firefox" else _webkit(folder) as browser:
        yield browser


def _program(engine: str) -> str | None:
    return next((path for name in ENGINES[engine] if (path := shutil.which(name))), None)


@contextmanager
def _firefox(folder: Path) -> Iterator[Browser]:
    (folder / "user.js").write_text('user_pref("marionette.port", 0);\n')  # one that is free
    port = folder / "MarionetteActivePort"
    program = str(_program("firefox"))
    with _process([program, "--headless", "--no-remote", "--marionette", "--profile", str(folder)], folder):
        _eventually(lambda: port.exists() and port.read_text().strip())
        with (
            socket.create_connection(("127.0.0.1", int(port.read_text())), PATIENCE) as connection,
            connection.makefile("rb") as answers,
        ):
            numbers = itertools.count(1)

            def read() -> Any:
                length = b"".join(iter(lambda: answers.read(1), b":"))
                return json.loads(answers.read(int(length)))

            def command(name: str, **given: Any) -> Any:
                message = json.dumps([0, next(numbers), name, given]).encode()
                connection.sendall(b"%d:%b" % (len(message), message))
                _, _, error, result = read()
                if error:
                    raise RuntimeError(f"{name}: {error['error']}: {error['message']}")
                return result.get("value", result)

            read()  # who it is
            command("WebDriver:NewSession", capabilities={})
            yield Browser(command)


@contextmanager
def _webkit(folder: Path) -> Iterator[Browser]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reading, writing = os.pipe()
    with (
        os.fdopen(reading) as told,
        _process(["Xvfb", "-displayfd", str(writing), "-nolisten", "tcp"], folder, pass_fds=[writing]),
    ):
        os.close(writing)
        display = told.readline().strip()
        with _process([str(_program("webkit")), f"--port={port}"], folder, DISPLAY=f":{display}"):
            _eventually(lambda: _listens(port))

            def ask(method: str, path: str, given: dict[str, Any]) -> Any:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
                connection.request(method, path, json.dumps(given), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                value = json.loads(answer.read())["value"]
                if answer.status != 200:
                    raise RuntimeError(f"{path}: {value['error']}: {value['message']}")
                return value

            session = f"/session/{ask('POST', '/session', {'capabilities': {}})['sessionId']}"

            def command(name: str, **given: Any) -> Any:
                return ask("POST", f"{session}/{_PATHS[name].format(**given)}", given)

            try:
                yield Browser(command)
            finally:
                ask("DELETE", session, {})


@contextmanager
def _process(command: list[str], folder: Path, pass_fds: list[int] | None = None, **more: str) -> Iterator[None]:
    own = {f"XDG_{kind}_HOME": str(folder) for kind in ("CACHE", "CONFIG", "DATA")}
    process = subprocess.Popen(
        command, env={**os.environ, **own, **more}, pass_fds=pass_fds or (),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _eventually(met: Callable[[], Any]) -> None:
    until = time.monotonic() + PATIENCE
    while not met():
        if time.monotonic() > until:
            raise TimeoutError("the browser does not start")
        time.sleep(0.05)
