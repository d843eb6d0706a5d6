"""NVML through nvidia-ml-py: against a driver written for the test where there is no GPU, else against the GPU."""

from __future__ import annotations

import ctypes
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from powercap import Clock

from edgeq.bench import energy
from edgeq.bench.energy import nvml
from edgeq.cortexm import host
from edgeq.errors import InputError

NOT_SUPPORTED, DRIVER_NOT_LOADED, GPU_IS_LOST = 3, 9, 15
DRIVER = "libnvidia-ml.so.1"


class Driver:
    """The variables of fake_nvml.c."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def status(self, init: int = 0, energy: int = 0, power: int = 0) -> None:
        for name, status in (("init", init), ("energy", energy), ("power", power)):
            ctypes.c_int.in_dll(self._library, f"{name}_status").value = status

    def gpus(self, count: int) -> None:
        ctypes.c_uint.in_dll(self._library, "gpus").value = count

    def energy(self, gpu: int, joules: float) -> None:
        (ctypes.c_ulonglong * 2).in_dll(self._library, "millijoules")[gpu] = round(joules * 1e3)

    def power(self, gpu: int, watts: float) -> None:
        (ctypes.c_uint * 2).in_dll(self._library, "milliwatts")[gpu] = round(watts * 1e3)


def test_this_gpu_takes_power() -> None:
    pytest.importorskip("pynvml")
    try:
        ctypes.CDLL(DRIVER)
        meter = energy.meter("nvml")
    except (OSError, InputError) as error:
        pytest.skip(f"no NVIDIA GPU here: {error}")
    assert meter is not None
    meter.start()
    time.sleep(2)
    reading = meter.stop()
    assert reading.joules is not None
    assert 1 < reading.joules / reading.seconds < 2000


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """In the driver's place: a library of its name is loaded already when nvidia-ml-py asks for it."""
    pytest.importorskip("pynvml")
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        pass
    else:
        pytest.skip("there is an NVIDIA driver here: tested against that")
    compiler = host.compiler()
    if compiler is None:
        pytest.skip(host.NO_COMPILER)
    compiled = tmp_path_factory.mktemp("nvml") / DRIVER
    source = Path(__file__).with_name("fake_nvml.c")
    flags = [*host.FLAGS, "-shared", "-fPIC", f"-Wl,-soname,{DRIVER}"]
    subprocess.run([*compiler, *flags, str(source), "-o", str(compiled)], check=True)
    return ctypes.CDLL(str(compiled), mode=ctypes.RTLD_GLOBAL)


@pytest.fixture
def driver(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    for variable in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(variable, raising=False)
    driver = Driver(library)
    driver.gpus(1)
    driver.status()
    yield driver
    driver.status(init=DRIVER_NOT_LOADED)


def test_the_counter_of_energy_is_read(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    driver.energy(0, 1_000_000)
    meter = energy.meter("nvml")
    assert meter is not None
    assert (meter.name, meter.measured) == ("nvml", True)
    assert meter.source == "NVML, counter of energy of GPU 0, Fake 0"
    meter.start()
    driver.energy(0, 1_000_250.5)
    clock.sleep(2)
    assert meter.stop() == energy.Reading(250.5, 2, meter.source, measured=True)


def test_without_a_counter_power_is_integrated(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_SAMPLE", 1000.0)  # only the first and the last sample
    clock = Clock(monkeypatch)
    driver.status(energy=NOT_SUPPORTED)
    driver.power(0, 100)
    meter = energy.meter("nvml")
    assert meter is not None
    assert meter.measured and "power of GPU 0, Fake 0 sampled" in meter.source
    meter.start()
    clock.sleep(2)
    driver.power(0, 200)
    reading = meter.stop()
    assert reading.joules == pytest.approx(2 * (100 + 200) / 2)
    assert reading.seconds == 2


def test_power_is_sampled_in_between(driver: Driver) -> None:
    """It begins and ends at 0 W, with 400 W for three quarters of the time."""
    driver.status(energy=NOT_SUPPORTED)
    driver.power(0, 0)
    meter = energy.meter("nvml")
    assert meter is not None
    meter.start()
    driver.power(0, 400)
    time.sleep(0.9)
    driver.power(0, 0)
    time.sleep(0.3)
    reading = meter.stop()
    assert reading.joules is not None
    assert 400 * 0.3 < reading.joules < 400 * reading.seconds  # nothing, had it not looked in between


def test_a_gpu_that_tells_nothing_is_refused(driver: Driver) -> None:
    driver.status(energy=NOT_SUPPORTED, power=NOT_SUPPORTED)
    with pytest.raises(InputError, match="GPU 0, Fake 0 tells neither energy nor power; state the power with --watts"):
        energy.meter("nvml")


@pytest.mark.parametrize("seconds, joules, said", [(0.5, 10, "0.5 s is too short"), (2, 0, "stood still for 2 s")])
def test_too_short_or_standing_still_is_no_figure(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, seconds: float, joules: float, said: str
) -> None:
    clock = Clock(monkeypatch)
    driver.energy(0, 5)
    meter = energy.meter("nvml")
    assert meter is not None
    meter.start()
    driver.energy(0, 5 + joules)
    clock.sleep(seconds)
    reading = meter.stop()
    assert reading.joules is None
    assert said in reading.source


@pytest.mark.parametrize(
    "name, visible, index",
    [("nvml:1", "", 1), ("nvml:0", "1", 0), ("nvml:GPU-fake-1", "", 1), ("nvml", "1", 1), ("nvml", "GPU-fake-1", 1)],
)
def test_of_several_gpus_the_named_one_is_read(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, name: str, visible: str, index: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    driver.gpus(2)
    clock = Clock(monkeypatch)
    for gpu in range(2):
        driver.energy(gpu, 0)
    meter = energy.meter(name)
    assert meter is not None
    assert meter.name == name and f"Fake {index}" in meter.source
    meter.start()
    driver.energy(index, 7)
    clock.sleep(1)
    assert meter.stop().joules == 7


@pytest.mark.parametrize(
    "name, visible", [("nvml", ""), ("nvml", "1"), ("nvml", "0,1"), ("nvml", "MIG-1"), ("nvml:2", ""), ("nvml:x", "")]
)
def test_of_several_gpus_one_has_to_be_named(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, name: str, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    driver.gpus(2)
    listed = r"expected one GPU: nvml:0 \(GPU 0, Fake 0\); nvml:1 \(GPU 1, Fake 1\)"
    with pytest.raises(InputError, match=f"energy meter {name}: {listed}") as failure:
        energy.meter(name)
    if name == "nvml":  # "1": unlike GPUs, which CUDA may count in another order
        assert energy.meter(device="gpu") is None and energy.closed("gpu") == str(failure.value)


def test_a_driver_without_a_gpu_and_a_driver_that_does_not_start_are_one_line(driver: Driver) -> None:
    driver.gpus(0)
    with pytest.raises(InputError, match="the driver lists no GPU"):
        energy.meter("nvml")
    driver.status(init=DRIVER_NOT_LOADED)
    with pytest.raises(InputError, match=r"NVML: .*expected an NVIDIA GPU and its driver"):
        energy.meter("nvml")
    assert energy.meter(device="gpu") is None


@pytest.mark.parametrize("counter", [True, False])
def test_a_gpu_that_goes_away_is_one_line(driver: Driver, counter: bool) -> None:
    driver.status(energy=0 if counter else NOT_SUPPORTED)
    meter = energy.meter("nvml")
    assert meter is not None
    meter.start()
    driver.status(energy=GPU_IS_LOST, power=GPU_IS_LOST)
    with pytest.raises(InputError, match="GPU is lost: the GPU answered before"):
        meter.stop()
