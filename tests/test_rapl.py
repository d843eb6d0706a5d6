"""RAPL's counters, in a folder like the kernel's and, where there are any, in the kernel's."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from powercap import Clock, Powercap

from edgeq.bench import energy, timing
from edgeq.bench.energy import rapl
from edgeq.errors import InputError


@pytest.fixture
def powercap(tmp_path: Path) -> Powercap:
    return Powercap(tmp_path)


@contextlib.contextmanager
def moving(powercap: Powercap, domain: str) -> Iterator[None]:
    """A counter that moves a microjoule each few milliseconds."""
    stop = threading.Event()

    def move() -> None:
        while not stop.wait(0.005):
            powercap.draw(domain, 1e-6)

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def opened(powercap: Powercap, *domains: str) -> rapl.Rapl:
    """Without waiting for a counter to move."""
    wraps = [int((powercap.folder / domain / "max_energy_range_uj").read_text()) for domain in domains]
    places = [powercap.folder / domain / "energy_uj" for domain in domains]
    return rapl.Rapl(tuple(rapl.Package("package", *found) for found in zip(places, wraps, strict=True)))


def test_packages_alone_are_counted(powercap: Powercap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rapl, "_ALIVE", 20)
    for domain, name in (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:0:1", "dram"),
        ("intel-rapl:1", "package-1"),
        ("intel-rapl:2", "psys"),
        ("intel-rapl-mmio:0", "package-0"),
    ):
        powercap.add(domain, name, microjoules=5)
    (powercap.folder / "intel-rapl").mkdir()  # the driver itself, without a counter
    with moving(powercap, "intel-rapl:1"):
        meter = rapl.meter(folder=powercap.folder)
    assert meter.source == "RAPL, package-0 and package-1, without memory"
    assert meter.measured and meter.name == "rapl"
    meter.start()
    for domain, joules in (("0", 3), ("1", 4), ("0:0", 100), ("0:1", 100), ("2", 100)):
        powercap.draw(f"intel-rapl:{domain}", joules)
    time.sleep(0.11)
    reading = meter.stop()
    assert reading.joules == pytest.approx(7)
    assert reading.seconds >= 0.11
    assert reading.measured and reading.source == meter.source


def test_what_is_memory_mapped_is_read_where_there_is_nothing_else(
    powercap: Powercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rapl, "_ALIVE", 20)
    powercap.add("intel-rapl-mmio:0", "package-0")
    with moving(powercap, "intel-rapl-mmio:0"):
        assert rapl.meter(folder=powercap.folder).source == "RAPL, package-0, without memory"


@settings(max_examples=15)
@given(start=st.integers(0, 999_999), drawn=st.integers(0, 999_999))
def test_a_counter_that_wraps_around_is_followed(start: int, drawn: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        powercap, clock = Powercap(Path(folder)), Clock(monkeypatch)
        powercap.add("intel-rapl:0", "package-0", start, wrap=1_000_000)
        meter = opened(powercap, "intel-rapl:0")
        meter.start()
        powercap.draw("intel-rapl:0", drawn / 1e6)
        clock.sleep(1)
        reading = meter.stop()
    assert reading.joules == pytest.approx(drawn / 1e6)
    assert reading.seconds == 1


def test_a_counter_that_wraps_around_more_than_once_is_followed(
    powercap: Powercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rapl, "_WATCH", 0.005)
    monkeypatch.setattr(rapl, "_SHORTEST", 0)
    powercap.add("intel-rapl:0", "package-0", wrap=1_000_000)
    meter = opened(powercap, "intel-rapl:0")
    meter.start()
    for counted in range(1, 5):
        powercap.draw("intel-rapl:0", 0.6)
        end = time.monotonic() + 20
        while meter._total < counted * 600_000 and time.monotonic() < end:
            time.sleep(0.001)
    assert meter.stop().joules == pytest.approx(2.4)


def test_too_short_a_time_is_no_reading(powercap: Powercap, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    powercap.add("intel-rapl:0", "package-0")
    meter = opened(powercap, "intel-rapl:0")
    meter.start()
    powercap.draw("intel-rapl:0", 1)
    clock.sleep(0.05)
    reading = meter.stop()
    assert reading.joules is None
    assert "0.05 s is too short" in reading.source


def test_where_there_is_none_what_it_needs_is_said(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match=r"no processor package.*sudo modprobe intel_rapl_msr.*--watts"):
            rapl.meter(folder=folder)


def test_a_counter_that_stands_still_is_refused(powercap: Powercap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rapl, "_ALIVE", 0.02)
    powercap.add("intel-rapl:0", "package-0", 17)
    with pytest.raises(InputError, match=r"stands still at 17 microjoules.*virtual machine"):
        rapl.meter(folder=powercap.folder)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """As a user who is not root: root may read everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_counter_for_root_alone_names_the_command_that_opens_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rapl, "_ALIVE", 0.02)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        powercap = Powercap(Path(folder))
        counters = [Path(folder, f"intel-rapl:{index}", "energy_uj") for index in range(2)]
        for index, counter in enumerate(counters):
            powercap.add(f"intel-rapl:{index}", f"package-{index}")
            counter.chmod(0)
        with nobody(), pytest.raises(InputError) as failure:
            rapl.meter(folder=Path(folder))
        said, command = str(failure.value).split(", run: ")
        assert f"{counters[0]} may be read by root alone" in said
        assert command == f"sudo chmod a+r {counters[0]} {counters[1]}"
        monkeypatch.setattr(rapl, "POWERCAP", Path(folder))
        with nobody():
            assert energy.meter() is None
            assert energy.closed() == str(failure.value)
            told = timing._closed(gpu=False)  # what a result says then
            assert told is not None and told["joules"] is None and told["source"] == str(failure.value)
        subprocess.run(command.split()[1:], check=True)
        with nobody(), pytest.raises(InputError, match="stands still"):  # so it was read
            rapl.meter(folder=Path(folder))
        with nobody():
            assert energy.closed() is None and timing._closed(gpu=False) is None


def test_a_driver_that_goes_away_is_one_line(powercap: Powercap) -> None:
    powercap.add("intel-rapl:0", "package-0")
    meter = opened(powercap, "intel-rapl:0")
    meter.start()
    (powercap.folder / "intel-rapl:0" / "energy_uj").unlink()
    with pytest.raises(InputError, match="is the driver gone"):
        meter.stop()


def test_this_processor_takes_power() -> None:
    try:
        meter = energy.meter("rapl")
    except InputError as error:
        pytest.skip(f"no RAPL here: {error}")
    assert meter is not None
    meter.start()
    time.sleep(0.5)
    reading = meter.stop()
    assert reading.joules is not None
    assert 0.1 < reading.joules / reading.seconds < 2000
