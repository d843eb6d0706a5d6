"""How long the everyday commands take, start included: medians of interleaved runs, beside what was asked of them.

    python benchmarks/command_line.py            # prints a table, writes benchmarks/command_line.json

Each round runs every command once, so that a busy machine disturbs all of them alike. `python -c pass` is run too: what
is above it is edgeq's own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from edgeq import atomic, machine

MODEL = "esc10-qtiny"
BOUNDS = {"help": 0.15, "classify": 1.5, "export": 20.0}
"""Seconds that each command may take at most."""


def main() -> None:
    parser = argparse.ArgumentParser(description="time the everyday commands")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = _measure(_commands(Path(folder)), arguments.rounds)
    result = _result(seconds, arguments.rounds)
    atomic.write_text(arguments.output, json.dumps(result, indent=1) + "\n")
    for name, row in result["commands"].items():
        bound = f"at most {row['bound_s']:g} s" if row["bound_s"] else ""
        print(f"{name:10} {row['median_s']:7.3f} s  ({row['min_s']:.3f} to {row['max_s']:.3f})  {bound}")


def _commands(folder: Path) -> dict[str, list[str]]:
    clip = folder / "noise.wav"
    soundfile.write(clip, 0.1 * np.random.default_rng(0).standard_normal(5 * 44100), 44100)
    edgeq = [sys.executable, "-c", "from edgeq.cli import main; main()"]
    return {
        "python": [sys.executable, "-c", "pass"],
        "help": [*edgeq, "--help"],
        "classify": [*edgeq, "classify", MODEL, str(clip)],
        "export": [*edgeq, "export", MODEL, "--onnx", "--tflite", "--int8", "-o", str(folder / "out"), "--json"],
    }


def _measure(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if number:  # the first round fills the file cache
                seconds[name].append(time.perf_counter() - started)
        print(f"round {number} of {rounds}", file=sys.stderr)
    return seconds


def _result(seconds: dict[str, list[float]], rounds: int) -> dict[str, Any]:
    return {
        "kind": "measured",
        "rounds": rounds,
        "model": MODEL,
        "commands": {
            name: {
                "median_s": float(np.median(values)),
                "min_s": min(values),
                "max_s": max(values),
                "bound_s": BOUNDS.get(name),
            }
            for name, values in seconds.items()
        },
        "largest_process_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000,
        "machine": machine.describe(),
        "date": datetime.now(UTC).date().isoformat(),
    }


if __name__ == "__main__":
    main()
