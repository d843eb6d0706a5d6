"""What `edgeq live` costs and loses: ten minutes from a virtual microphone, and a day of sound as fast as it goes.

    python benchmarks/live.py --data shared/data/esc10                     # ten minutes; make system-tools before
    python benchmarks/live.py --data shared/data/esc10 --replay-hours 24

Each writes its part of live.json, and live.md from both. Sound is the recordings below --data, in an order of its own
each time round, never silent for long.

The microphone is that of a private PulseAudio: a sink that goes nowhere, heard through ALSA and PortAudio like any
device. `edgeq live` runs in a process of its own and is watched from outside: processor time and memory of that process
as the kernel counts them, between its first label and its last; with OPENBLAS_NUM_THREADS=1, as a service should be.

Latency is what edgeq answers for: from the capture of the last sample that a window needs, which is when PortAudio
handed over the block with it less what came behind it in the block, to its label. A sound is heard as a whole
one window later than it began; device and driver come before that, a block of 20 ms and their buffers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import atomic, machine, zoo
from edgeq.audio import decode
from edgeq.audio.spec import FrontendSpec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import sound_server

RESULT = Path(__file__).with_suffix(".json")
MODEL = "esc10-qtiny"
RATE = 44_100
"""Of the sound, in Hz: not the model's, so that it is resampled as it comes."""

BOUNDS = {"share_of_a_core": 0.25, "memory_mb": 200.0, "latency_p95_ms": 150.0, "dropped": 0}
"""At most so much: latency beyond the window."""

_EDGEQ = [sys.executable, "-c", "from edgeq.cli import main; main()"]
_LIVE = [*_EDGEQ, "live", MODEL, "--int8", "--json", "--top", "1"]
_ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # NumPy's other threads wait busily
_ROW_HOURS = 0.25
_SETTLED_HOURS, _LEAST_HOURS = 1.0, 6.0
_FLAT_MB_AN_HOUR = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description="what edgeq live costs and loses")
    parser.add_argument("--data", type=Path, required=True, help="a folder of recordings")
    parser.add_argument("--minutes", type=float, default=10.0, help="from the microphone")
    parser.add_argument("--replay-hours", type=float, help="instead: so many hours through a pipe")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    files = decode.recordings(arguments.data)
    before = machine.conditions()
    if arguments.replay_hours is None:
        name, found = "microphone", _microphone(files, 60 * arguments.minutes)
    else:
        name, found = "replay", _replay(files, arguments.replay_hours)
    about = machine.describe()
    found |= {"model": f"{MODEL} INT8", "machine": about, "date": datetime.now(UTC).date().isoformat()}
    found["warnings"] = machine.disturbances(before, machine.conditions(), about["cores"] or 1)
    kept = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    kept[name] = found
    atomic.write_text(arguments.output, json.dumps(kept, indent=1) + "\n")
    atomic.write_text(arguments.output.with_suffix(".md"), _page(kept))
    print(json.dumps({key: value for key, value in found.items() if key != "course"}, indent=1))
    if found["failed"]:
        sys.exit(f"failed: {', '.join(found['failed'])}")


def _microphone(files: list[Path], seconds: float) -> dict[str, Any]:
    """`edgeq live` on a virtual microphone for so long."""
    with tempfile.TemporaryDirectory() as folder, sound_server.running(Path(folder), RATE) as server:
        player = server.pour(RATE)
        threading.Thread(target=_pour, args=(player, _sound(files)), daemon=True).start()
        command = [*_LIVE, "--device", sound_server.MICROPHONE, "--seconds", str(seconds)]
        live = subprocess.Popen(
            command, env=_ENVIRONMENT | server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        said: list[bytes] = []
        threading.Thread(target=lambda: said.extend(live.stderr or ()), daemon=True).start()
        watched = _Watched(live.pid)
        updates = []
        for line in live.stdout or ():
            watched.look()
            updates.append(json.loads(line))
        if live.wait():
            sys.exit(f"edgeq live ended with {live.returncode}: {b''.join(said).decode()}")
        player.kill()
        player.wait()
    latencies = [one["latency_ms"] for one in updates]
    quantiles = statistics.quantiles(latencies, n=100, method="inclusive")
    spec = zoo.find(MODEL).frontend
    found = {
        "every": f"a window of {spec.window_seconds:g} s every {_hop(spec):g} s",
        "seconds": updates[-1]["time"],
        "windows": len(updates),
        "share_of_a_core": round(watched.share, 4),
        "memory_mb": round(watched.memory_mb, 1),
        **{f"latency_p{percent}_ms": round(quantiles[percent - 1], 2) for percent in (50, 95, 99)},
        "latency_max_ms": round(max(latencies), 2),
        "dropped": updates[-1]["dropped"],
        "said": [line.decode().strip() for line in said],
    }
    over = [f"{name} {found[name]} (at most {bound:g})" for name, bound in BOUNDS.items() if found[name] > bound]
    return found | {"bounds": BOUNDS, "failed": over}


def _replay(files: list[Path], hours: float) -> dict[str, Any]:
    """`edgeq live` on so much sound from a pipe, as fast as it takes it: windows counted and timed, memory watched."""
    samples = round(hours * 3600 * RATE)
    live = subprocess.Popen(
        [*_LIVE, "--input", "-", "--rate", str(RATE)],
        env=_ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    begun = time.monotonic()
    threading.Thread(target=_pour, args=(live, _sound(files), samples), daemon=True).start()
    watched, course = _Watched(live.pid), []
    spec = zoo.find(MODEL).frontend
    late, count, last = 0, 0, {}
    for line in live.stdout or ():
        last = json.loads(line)
        late += last["time"] != round(spec.window_seconds + count * _hop(spec), 6)
        count += 1
        if last["time"] >= (len(course) + 1) * 3600 * _ROW_HOURS:
            watched.look()
            course.append({"hours": last["time"] / 3600, "memory_mb": round(watched.now_mb, 2)})
    code = live.wait()
    # Of the whole resampled at once, as `classify` would have it.
    frames = 1 + round(samples * spec.sample_rate / RATE) // spec.hop_length
    expected = 1 + (frames - spec.window_frames) // spec.window_hop_frames
    settled = [one for one in course if one["hours"] > _SETTLED_HOURS] or course
    memory = [one["memory_mb"] for one in settled]
    # Over fewer hours it says only what an allocator keeps.
    growth = float(np.polyfit([one["hours"] for one in settled], memory, 1)[0]) if hours >= _LEAST_HOURS else None
    found = {
        "hours": hours,
        "samples": samples,
        "windows": count,
        "windows_expected": expected,
        "last_window_s": last.get("time"),
        "last_window_expected_s": round(spec.window_seconds + (expected - 1) * _hop(spec), 6),
        "windows_at_another_time": late,
        "dropped": last.get("dropped"),
        "minutes_taken": round((time.monotonic() - begun) / 60, 2),
        "times_as_fast": round(hours * 3600 / (time.monotonic() - begun), 1),
        "memory_mb": {"least": min(memory), "most": max(memory), "last": memory[-1]},
        "memory_mb_an_hour": None if growth is None else round(growth, 4),
        "course": course,
    }
    failed = [
        *([f"exit code {code}"] if code else []),
        *([f"{count} windows, not {expected}"] if count != expected else []),
        *([f"{late} windows at another time"] if late else []),
        *([f"{found['dropped']} samples lost"] if found["dropped"] else []),
        *([f"memory grows by {growth:.2f} MB an hour"] if growth is not None and growth > _FLAT_MB_AN_HOUR else []),
    ]
    return found | {"failed": failed}


def _hop(spec: FrontendSpec) -> float:
    """Seconds between two windows: whole frames."""
    return spec.window_hop_frames * spec.hop_length / spec.sample_rate


class _Watched:
    """A process seen from outside, by what /proc says of it at each look."""

    def __init__(self, process: int) -> None:
        self._folder = Path(f"/proc/{process}")
        self._looks: list[tuple[float, float]] = []
        self.memory_mb = 0.0
        """The most that was resident so far."""
        self.now_mb = 0.0

    def look(self) -> None:
        fields = self._folder.joinpath("stat").read_text().rsplit(")", 1)[1].split()
        self._looks = [*self._looks[:1], (time.monotonic(), (int(fields[11]) + int(fields[12])) / _TICKS)]
        status = dict(line.split(":", 1) for line in self._folder.joinpath("status").read_text().splitlines())
        self.memory_mb, self.now_mb = (int(status[name].split()[0]) * 1024 / 1e6 for name in ("VmHWM", "VmRSS"))

    @property
    def share(self) -> float:
        """Processor time over time that passed, from the first look to the last."""
        (begun, before), (ended, after) = self._looks[0], self._looks[-1]
        return (after - before) / max(ended - begun, 1e-9)


def _sound(files: list[Path]) -> Iterator[np.ndarray]:
    """The recordings without end, 16-bit, each time round in another order."""
    generator = np.random.default_rng(0)
    while True:
        for index in generator.permutation(len(files)):
            for block in decode.blocks(files[index], RATE):
                yield np.round(32767 * np.clip(block, -1, 1)).astype("<i2")


def _pour(process: subprocess.Popen[bytes], sound: Iterator[np.ndarray], samples: int | None = None) -> None:
    """Write so many samples to a process, as fast as it takes them, or all until it ends."""
    left = samples
    assert process.stdin is not None
    try:
        with process.stdin as pipe:
            for block in sound:
                pipe.write(block[:left].tobytes())
                left = None if left is None else left - min(left, len(block))
                if left == 0:
                    return
    except BrokenPipeError:
        return


def _page(kept: dict[str, Any]) -> str:
    lines = ["# What edgeq live costs and loses", "", "Written by `python benchmarks/live.py`; all of it measured.", ""]
    if found := kept.get("microphone"):
        lines += [
            f"## {found['seconds'] / 60:.0f} minutes from a microphone",
            "",
            f"`edgeq live {MODEL} --int8`, {found['every']}, from the virtual microphone of a private PulseAudio "
            f"at {RATE:,} Hz, through ALSA and PortAudio, resampled as it comes. Recordings without a break.",
            "",
            "| | found | asked |",
            "|---|---:|---:|",
            f"| processor, share of one core | {found['share_of_a_core']:.1%} | {BOUNDS['share_of_a_core']:.0%} |",
            f"| memory, resident at most | {found['memory_mb']:.0f} MB | {BOUNDS['memory_mb']:.0f} MB |",
            f"| latency beyond the window, p50 | {found['latency_p50_ms']:.1f} ms | |",
            f"| p95 | {found['latency_p95_ms']:.1f} ms | {BOUNDS['latency_p95_ms']:.0f} ms |",
            f"| p99 | {found['latency_p99_ms']:.1f} ms | |",
            f"| longest of {found['windows']:,} windows | {found['latency_max_ms']:.1f} ms | |",
            f"| samples lost | {found['dropped']:,} | {BOUNDS['dropped']} |",
            "",
            "Latency is from the capture of the last sample that a window needs to the label. Captured is when "
            "PortAudio handed over the block with that sample, less what came behind it in the block: what device and "
            "driver held before comes on top, and so does the window, after which a sound is heard whole. Of it up to "
            "20 ms are the block, 9 to 19 ms the resampler's filter, and up to 10 ms the listener's nap.",
            "",
            *_where(found),
        ]
    if found := kept.get("replay"):
        memory, growth = found["memory_mb"], found["memory_mb_an_hour"]
        lines += [
            f"## {found['hours']:g} hours as fast as it goes",
            "",
            f"`edgeq live {MODEL} --int8 --input - --rate {RATE}`: {found['samples']:,} samples through a pipe in "
            f"{found['minutes_taken']:.0f} minutes, {found['times_as_fast']:.0f} times as fast as they were recorded.",
            "",
            "| | found | expected |",
            "|---|---:|---:|",
            f"| windows | {found['windows']:,} | {found['windows_expected']:,} |",
            f"| end of the last window, s | {found['last_window_s']:,.2f} | {found['last_window_expected_s']:,.2f} |",
            f"| windows at another time than arithmetic says | {found['windows_at_another_time']:,} | 0 |",
            f"| samples lost | {found['dropped']:,} | 0 |",
            f"| memory, MB resident after the first hour | {memory['least']:.1f} to {memory['most']:.1f} | |",
            f"| its growth, MB an hour of sound | {growth} | {_FLAT_MB_AN_HOUR:g} at most |",
            "",
            *_where(found),
        ]
    return "\n".join(one if one.startswith("|") else textwrap.fill(one, 118) for one in lines).rstrip() + "\n"


def _where(found: dict[str, Any]) -> list[str]:
    about = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    lines = [f"{found['date']}: {about}.", *(f"While it ran: {words}." for words in found["warnings"])]
    return [" ".join(lines), "", *(line for words in found["failed"] for line in (f"**Failed: {words}**", ""))]


if __name__ == "__main__":
    main()
