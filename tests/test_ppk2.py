"""The Power Profiler Kit II over a pseudo-terminal; its samples beside those of the package ppk2-api."""

from __future__ import annotations

import re
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from powercap import Clock
from ppk2_device import METADATA, Device, plugged_in, word

from edgeq.bench import energy
from edgeq.bench.energy import ppk2
from edgeq.errors import InputError


def amperes_in_range_2(code: int, volts: float) -> float:
    """By hand, from METADATA's terms: O2, R2, GI2, S2, I2, UG2; GS2 is missing, so 1."""
    raw = (4 * code - 400) * 1.8 / 163840 / 10
    return 2 * (raw * (raw + 1.5) + 0.0001 * volts + 0.0002)


@pytest.fixture
def serial() -> None:
    pytest.importorskip("serial")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The computer's clock does not count how long the device's thread takes."""
    return Clock(monkeypatch)


def reading_of(meter: energy.Meter | None, device: Device, clock: Clock, seconds: float = 0.0) -> energy.Reading:
    """Of all samples of the device, which took so long by the computer's clock."""
    assert meter is not None
    device.sent_all.clear()
    meter.start()
    assert device.sent_all.wait(20)
    clock.sleep(seconds)
    return meter.stop()


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("mode, byte", [("source", 2), ("ampere", 1)])
def test_a_steady_current_at_a_stated_voltage(clock: Clock, mode: str, byte: int) -> None:
    stream = [word(3000, 2, counter, inputs=counter & 0xFF) for counter in range(5000)]
    with plugged_in(stream) as device:
        meter = energy.meter(f"ppk2:{mode}=3.3,port={device.port}")
        assert meter is not None
        assert meter.measured and meter.name == f"ppk2:{mode}=3.3,port={device.port}"
        assert "3.3 V" in meter.source and ("stated" in meter.source) == (mode == "ampere")
        for _ in range(2):
            reading = reading_of(meter, device, clock)
            assert reading.seconds == pytest.approx(0.05)  # 10 microseconds each
            assert reading.joules == pytest.approx(amperes_in_range_2(3000, 3.3) * 3.3 * 0.05)
            assert reading.measured and reading.source == meter.source
    on = [bytes([0x11, byte]), bytes([0x0D, 3300 >> 8, 3300 & 0xFF]), bytes([0x0C, 1])]
    assert device.commands == [b"\x07", b"\x19", *on, b"\x06", b"\x07", b"\x06", b"\x07"]


@pytest.mark.usefixtures("serial")
def test_a_mixed_current_is_the_mean_of_its_samples(clock: Clock) -> None:
    codes = np.random.default_rng(0).integers(0, 2**14, 2345)
    with plugged_in(word(int(code), 2, counter) for counter, code in enumerate(codes)) as device:
        meter = energy.meter(f"ppk2:source=1.8,port={device.port}")
        reading = reading_of(meter, device, clock)
    joules = sum(amperes_in_range_2(int(code), 1.8) * 1.8 * 1e-5 for code in codes)
    assert reading.joules == pytest.approx(joules)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize(
    "counters, said",
    [(range(0, 4000, 2), r"samples of 0\.02 s of 0\.04 s were lost"), (range(9), "9e-05 s is too short")],
)
def test_with_many_lost_samples_or_few_there_is_no_figure(clock: Clock, counters: range, said: str) -> None:
    with plugged_in(word(3000, 2, counter) for counter in counters) as device:
        meter = energy.meter(f"ppk2:source=3,port={device.port}")
        reading = reading_of(meter, device, clock)
    assert reading.joules is None
    assert re.search(said, reading.source)


@pytest.mark.usefixtures("serial")
def test_a_gap_too_long_for_the_counter_of_samples_is_told_by_the_clock(clock: Clock) -> None:
    """6400 samples are lost: as many as the counter of 6 bits has gone around with."""
    with plugged_in(word(3000, 2, counter) for counter in range(2000)) as device:
        reading = reading_of(energy.meter(f"ppk2:source=3,port={device.port}"), device, clock, 0.084)
    assert reading.joules is None
    assert "samples of 0.014 s of 0.084 s were lost" in reading.source


@pytest.mark.usefixtures("serial")
def test_without_any_sample_something_is_wrong() -> None:
    with plugged_in() as device:
        meter = energy.meter(f"ppk2:source=3,port={device.port}")
        assert meter is not None
        meter.start()
        with pytest.raises(InputError, match=f"PPK2: {device.port} sent no sample"):
            meter.stop()


@pytest.mark.usefixtures("serial")
def test_a_few_lost_samples_count_as_time(clock: Clock) -> None:
    counters = [counter for counter in range(10_000) if not 5000 <= counter < 5050]
    with plugged_in(word(3000, 2, counter) for counter in counters) as device:
        meter = energy.meter(f"ppk2:source=3,port={device.port}")
        reading = reading_of(meter, device, clock)
    assert reading.seconds == pytest.approx(0.1)
    assert reading.joules == pytest.approx(amperes_in_range_2(3000, 3) * 3 * 0.1)


@pytest.mark.usefixtures("serial")
def test_what_it_was_sending_before_does_no_harm() -> None:
    """Left running by another program: the samples in the pipe are not taken for metadata."""
    with plugged_in([word(ord("E"), 0, 0)] * 2000) as device:
        first = energy.meter(f"ppk2:source=3,port={device.port}")
        assert first is not None
        first.start()
        first._port.close()
        with pytest.raises(InputError, match="is gone"):
            first.stop()
        assert energy.meter(f"ppk2:source=3,port={device.port}") is not None


@pytest.mark.usefixtures("serial")
def test_unplugged_while_it_runs_is_one_line() -> None:
    with plugged_in() as device:
        meter = energy.meter(f"ppk2:source=3,port={device.port}")
        assert meter is not None
        meter.start()
        device.unplug()
        with pytest.raises(InputError, match=f"PPK2: {device.port} is gone .*: plug it in again"):
            meter.stop()


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("metadata", ["", "Zephyr shell: command not found\n"])
def test_a_port_that_is_none_of_a_ppk2_is_refused(monkeypatch: pytest.MonkeyPatch, metadata: str) -> None:
    monkeypatch.setattr(ppk2, "_ANSWER", 0.3)
    with plugged_in(metadata=metadata) as device:
        with pytest.raises(InputError, match=f"{device.port}: {len(metadata)} bytes came, expected a PPK2's metadata"):
            energy.meter(f"ppk2:source=3,port={device.port}")


@pytest.mark.usefixtures("serial")
def test_a_port_that_is_not_there_or_taken_says_what_is_needed() -> None:
    with pytest.raises(InputError, match=r"PPK2: /dev/ttyNONE does not open .*dialout"):
        energy.meter("ppk2:source=3,port=/dev/ttyNONE")
    with plugged_in() as device:
        first = energy.meter(f"ppk2:source=3,port={device.port}")
        with pytest.raises(InputError, match="no other program at it"):
            energy.meter(f"ppk2:source=3,port={device.port}")
        assert first is not None


@pytest.mark.usefixtures("serial")
def test_without_one_the_ports_there_are_are_listed() -> None:
    try:
        energy.meter("ppk2:ampere=3")
    except InputError as error:
        assert "PPK2: not found; serial ports here: " in str(error)
        assert "port=PORT" in str(error)
    else:
        pytest.skip("a PPK2 is plugged in")


def port(device: str, serial_number: str = "A", product: str | None = "PPK2", vid: int = 0x1915, pid: int = 0xC00A):
    return SimpleNamespace(device=device, serial_number=serial_number, product=product, vid=vid, pid=pid)


def test_the_only_ppk2_is_found_and_of_several_one_has_to_be_named() -> None:
    other = port("/dev/ttyUSB0", "x", "FT232R", 0x0403, 0x6001)
    nameless = port("COM3", product=None)
    assert ppk2._plugged_in([other, nameless]) == ["COM3"]
    assert ppk2._plugged_in([port("/dev/ttyACM0"), other, port("/dev/ttyACM1")]) == ["/dev/ttyACM0", "/dev/ttyACM1"]
    with pytest.raises(InputError, match=r"serial ports here: /dev/ttyUSB0\. Plug"):
        ppk2._plugged_in([other])
    with pytest.raises(InputError, match=r"several .*ttyACM0 \(A\), /dev/ttyACM1 \(B\); say which"):
        ppk2._plugged_in([port("/dev/ttyACM0"), port("/dev/ttyACM1", "B")])


@pytest.mark.parametrize(
    "options",
    ["", "3.3", "source", "source=", "source=0.7", "source=5.1", "source=nan", "source=3,ampere=3", "volts=3",
     "source=3,port=/dev/a,port=/dev/b", "port=/dev/ttyACM0"],
)  # fmt: skip
def test_it_must_be_said_who_feeds_the_board_and_with_what(options: str) -> None:
    with pytest.raises(InputError, match=r"energy meter ppk2:.*expected (ppk2:source=VOLTS where it feeds|0\.8 to 5)"):
        energy.meter(f"ppk2:{options}")


def test_terms_that_are_missing_zero_or_no_number_keep_nordics_defaults() -> None:
    terms = ppk2.calibration(METADATA)
    assert terms["r"].tolist() == [1000, 100, 10, 1, 0.05]
    assert terms["gs"].tolist() == [1] * 5
    assert terms["gi"].tolist() == [1, 1, 1.5, 1, 1]
    assert terms["s"].tolist() == [0, 0, 0.0001, 0, 0]
    assert ppk2.calibration("END")["r"].tolist() == [1031.64, 101.65, 10.15, 0.94, 0.043]
    assert ppk2.calibration("R0: 2e3\r\nEND")["r"][0] == 2000


def test_samples_that_follow_a_change_of_range_are_smoothed() -> None:
    """A step up: an overshoot of three samples is damped, what comes before and after stays."""
    codes = [(1000, 1)] * 50 + [(16383, 2)] * 3 + [(2000, 2)] * 50
    data = b"".join(struct.pack("<I", word(code, at, counter)) for counter, (code, at) in enumerate(codes))
    terms = ppk2.calibration("END")
    found = ppk2.samples(data, terms, 3.0)
    low, high = 4000 * 1.8 / 163840 / 101.65, 8000 * 1.8 / 163840 / 10.15
    assert found.lost == 0
    assert found.amperes[:50] == pytest.approx(low * low + low)
    assert found.amperes[53:] == pytest.approx(high * high + high)
    assert (found.amperes[50:53] < 0.5 * (4 * 16383 * 1.8 / 163840 / 10.15)).all()


WORDS = st.lists(
    st.tuples(st.integers(0, 2**14 - 1), st.sampled_from([0, 0, 0, 1, 2, 3, 4, 4, 4]), st.integers(0, 255)),
    max_size=300,
)
FACTORS = st.lists(st.floats(0.5, 2), min_size=5, max_size=5)


@settings(max_examples=25)
@given(WORDS, FACTORS, FACTORS, FACTORS, st.floats(0.8, 5))
def test_samples_are_those_of_ppk2_api(
    stream: list[tuple[int, int, int]], r: list[float], gi: list[float], o: list[float], volts: float
) -> None:
    api = pytest.importorskip("ppk2_api.ppk2_api")
    named = {"R": r, "GI": gi, "O": o, "S": gi}
    metadata = (
        "".join(f"{name}{at}: {term}\n" for name, terms in named.items() for at, term in enumerate(terms)) + "END"
    )
    samples = [word(code, at, counter, inputs) for counter, (code, at, inputs) in enumerate(stream)]
    data = struct.pack(f"<{len(samples)}I", *samples)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(api.serial, "Serial", lambda *_, **__: SimpleNamespace(close=lambda: None))
        other = api.PPK2_API("no port")
    other._parse_metadata(metadata)
    other.current_vdd = volts * 1000
    expected = other.get_samples(data)[0] if stream else []
    found = ppk2.samples(data, ppk2.calibration(metadata), volts)
    assert found.lost == 0
    np.testing.assert_allclose(found.amperes * 1e6, expected, rtol=1e-9, atol=1e-9)
