"""Energy of an inference from any meter, and meters by name."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from powercap import Clock, Powercap

from edgeq.bench import energy
from edgeq.bench.energy import rapl
from edgeq.errors import InputError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def meter(tmp_path: Path, clock: Clock) -> rapl.Rapl:
    """Of a processor that takes 10 W."""
    powercap = Powercap(tmp_path)
    powercap.add("intel-rapl:0", "package-0")
    clock.sources.append((powercap, "intel-rapl:0"))
    clock.watts = 10
    return rapl.Rapl((rapl.Package("package-0", tmp_path / "intel-rapl:0" / "energy_uj", 262_143_328_850),))


def test_idle_power_is_subtracted(meter: rapl.Rapl, clock: Clock) -> None:
    def run() -> int:
        clock.watts = 25
        time.sleep(4)
        return 100

    reading = energy.per_inference(meter, run, idle_seconds=2)
    assert reading.joules == pytest.approx((25 - 10) * 4 / 100)
    assert reading.seconds == pytest.approx(0.04)
    assert reading.measured
    assert reading.source == f"{meter.source}; 100 inferences took 100 J in 4 s, less idle at 10 W"


def test_no_more_than_idle_is_no_figure(meter: rapl.Rapl, clock: Clock) -> None:
    def run() -> int:
        clock.watts = 9
        time.sleep(1)
        return 1

    reading = energy.per_inference(meter, run, idle_seconds=1)
    assert reading.joules is None
    assert "no more than idle at 10 W: run for longer" in reading.source


@pytest.mark.parametrize("idle, busy, said", [(0.01, 1, "while idle: .* too short"), (1, 0.01, "^RAPL.* too short")])
def test_too_short_for_the_sensor_is_no_figure(
    meter: rapl.Rapl, clock: Clock, idle: float, busy: float, said: str
) -> None:
    def run() -> int:
        time.sleep(busy)
        return 10

    reading = energy.per_inference(meter, run, idle_seconds=idle)
    assert reading.joules is None
    assert reading.seconds == pytest.approx(busy / 10)
    assert re.search(said, reading.source)


def test_no_inference_and_no_idle_time_are_refused(meter: rapl.Rapl) -> None:
    with pytest.raises(InputError, match="0 inferences"):
        energy.per_inference(meter, lambda: 0, idle_seconds=1)
    for seconds in (0, -1):
        with pytest.raises(InputError, match="expected more than 0"):
            energy.per_inference(meter, lambda: 1, idle_seconds=seconds)


def test_what_goes_wrong_while_running_is_told_and_the_meter_can_go_on(meter: rapl.Rapl) -> None:
    def fail() -> int:
        raise RuntimeError("no such layer")

    def run() -> int:
        time.sleep(1)
        return 1

    with pytest.raises(RuntimeError, match="no such layer"):
        energy.per_inference(meter, fail, idle_seconds=1)
    meter.start()
    run()
    assert meter.stop().joules == pytest.approx(10)


def test_stated_power_is_an_estimate_with_its_source() -> None:
    reading = energy.stated(107, 22.24, "TDP of the data sheet")
    assert reading.joules == pytest.approx(107 * 22.24)
    assert not reading.measured
    assert reading.source == "107 W stated (TDP of the data sheet) times the time"


@pytest.mark.parametrize(
    "watts, seconds, source",
    [(0, 1, "x"), (-1, 1, "x"), (float("nan"), 1, "x"), (1, -1, "x"), (1, float("inf"), "x"), (1, 1, " ")],
)
def test_stated_power_that_makes_no_sense_is_refused(watts: float, seconds: float, source: str) -> None:
    with pytest.raises(InputError, match="expected"):
        energy.stated(watts, seconds, source)


def test_an_unknown_meter_lists_those_there_are() -> None:
    with pytest.raises(InputError, match="'joulescope': expected one of rapl, nvml, ppk2, codecarbon"):
        energy.meter("joulescope")


@pytest.mark.parametrize("name", ["rapl:0", "codecarbon:GB"])
def test_options_where_there_are_none_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"energy meter {name}: expected"):
        energy.meter(name)


@pytest.mark.parametrize("device, name", [("cpu", "rapl"), ("gpu", "nvml")])
def test_without_a_name_it_is_the_sensor_of_what_computes_or_none(device: str, name: str) -> None:
    try:
        named = energy.meter(name)
    except InputError:
        assert energy.meter(device=device) is None
    else:
        found = energy.meter(device=device)
        assert named is not None and found is not None
        assert found.name == named.name == name


@pytest.mark.parametrize(
    "name, package, extra",
    [("nvml", "pynvml", "energy"), ("ppk2:source=3", "serial", "energy"), ("codecarbon", "codecarbon", "codecarbon")],
)
def test_a_package_that_is_missing_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"is not installed; run: pip install 'edgeq\[{extra}\]'"):
        energy.meter(name)


def test_importing_the_meters_imports_no_sensor_package() -> None:
    script = "import sys, edgeq.bench.energy, edgeq.bench.carbon; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pynvml", "serial", "ppk2_api", "codecarbon", "torch", "click", "rich", "onnxruntime"} & set(loaded)
