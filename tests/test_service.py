"""What systemd is told, received on a socket as its own would be."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import bundles
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from edgeq import cli
from edgeq.live import service


@pytest.fixture
def systemd(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(0)
        yield listening


def received(systemd):
    """The messages that wait, each as its names and values."""
    messages = []
    while True:
        try:
            content = systemd.recv(4096).decode()
        except BlockingIOError:
            return messages
        messages.append(dict(line.split("=", 1) for line in content.splitlines()))


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(service, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def state(seconds):
    from edgeq.live.run import State

    return State("a", "b", ("c",), bundles.FRONTEND, seconds=seconds)


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_who_is_no_service_tells_nobody(environment):
    assert service.asked(environment) is None


def test_it_is_ready_with_the_first_sound_and_alive_while_sound_comes(systemd, clock):
    told = service.asked({"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "8000000"})
    told.refresh(state(0.0))
    assert received(systemd) == []
    told.refresh(state(0.5))
    told.refresh(state(0.6))
    (first,) = received(systemd)
    assert (first["READY"], first["WATCHDOG"]) == ("1", "1") and "0.5 s of sound" in first["STATUS"]
    clock[0] += 2.5  # a watchdog of 8 s is told every 2
    told.refresh(state(3.0))
    (second,) = received(systemd)
    assert "READY" not in second and second["WATCHDOG"] == "1"
    clock[0] += 20  # nothing comes any more
    told.refresh(state(3.0))
    assert received(systemd) == []


def test_an_abstract_socket_is_told_too(clock):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0edgeq-test-of-notify")
        listening.settimeout(0)
        service.asked({"NOTIFY_SOCKET": "@edgeq-test-of-notify"}).refresh(state(1.0))
        assert len(received(listening)) == 1


def test_a_socket_that_is_gone_stops_nobody_and_is_told_when_it_is_back(tmp_path, clock):
    place = str(tmp_path / "none")
    told = service.asked({"NOTIFY_SOCKET": place})
    told.refresh(state(1.0))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(place)
        listening.settimeout(0)
        clock[0] += 10
        told.refresh(state(2.0))
        assert len(received(listening)) == 1


def test_a_full_socket_stops_nobody(tmp_path, clock):
    place = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(place)
        listening.settimeout(0)
        told = service.asked({"NOTIFY_SOCKET": place})
        for second in range(1, 3001):  # more than any queue of datagrams holds, and nobody reads
            clock[0] += 10
            told.refresh(state(float(second)))
        assert 0 < len(received(listening)) < 3000


def test_edgeq_live_tells_it(systemd, tmp_path, monkeypatch):
    model = bundles.exported(tmp_path / "small")
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 24_000), 8000)
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.getsockname())
    result = CliRunner().invoke(cli.commands, ["live", str(model.folder), "--json", "--input", str(tmp_path / "a.wav")])
    assert result.exit_code == 0 and received(systemd)[0]["READY"] == "1"
