"""A corpus in AudioSet's layout, made here: packed, trained on, killed and gone on with; memory at two sizes.

    python benchmarks/scale.py                       # 5,000 and 20,000 clips of a second; writes scale.json, scale.md
    python benchmarks/scale.py --clips 200 800 -o build/scale.json       # a try

What it shows: packing and feature extraction in seconds of audio a second of one core; that peak memory of packing and
training does not follow the size of the corpus; that a pack and a training killed (SIGKILL) at a random point go on to
the very bytes of ones that were not. Sounds are synthetic: accuracy says nothing but that something was learnt.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from edgeq import atomic, machine
from edgeq.audio import decode, frontend
from edgeq.audio.frontend import PRESETS

CLASSES, RATE, SECONDS = 527, 32_000, 1.0
ENOUGH = 200
"""Times real time that a core has to pack, and to compute features, at."""

RECIPE = """
name = "scale"
architecture = "qnano"
output = "sigmoid"
threads = 1

[fit]
epochs = 2
batch_size = 64
speeds = []
sampling = "balanced"
label_smoothing = 0.0
checkpoint_minutes = {minutes}
"""
EDGEQ = [sys.executable, "-m", "edgeq"]

WATCH = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
"""
"""Runs a command in a process as small as can be: Linux counts what that held as its child's peak memory too."""


@dataclass(frozen=True)
class Ran:
    """What a command took. cpu_seconds: of all its processes. peak_megabytes: of the largest of them."""

    seconds: float
    cpu_seconds: float
    peak_megabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description="pack and train on a synthetic corpus, killed and not")
    parser.add_argument("--clips", type=int, nargs=2, default=(5_000, 20_000), help="sizes of the two corpora")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that pack")
    parser.add_argument("--seed", type=int, default=0, help="of the sounds, and of when to kill")
    parser.add_argument("--work", type=Path, help="folder for about 250 kB a clip  [default: a temporary one]")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    before = machine.conditions()
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        measured = measure(Path(folder), arguments.clips, arguments.jobs, arguments.seed)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine.describe(),
        "disturbances": machine.disturbances(before, machine.conditions(), os.cpu_count() or 1),
        **measured,
    }
    atomic.write_text(arguments.output, json.dumps(result, indent=1) + "\n")
    atomic.write_text(arguments.output.with_suffix(".md"), page(result))
    print(page(result))


def measure(folder: Path, sizes: tuple[int, int], jobs: int, seed: int) -> dict[str, Any]:
    """Everything, at both sizes; kills at the larger."""
    (folder / "recipe.toml").write_text(RECIPE.format(minutes=0.02))
    found: dict[str, Any] = {"jobs": jobs, "seed": seed, "features": features(folder), "sizes": []}
    chance = random.Random(seed)
    for clips in sorted(sizes):
        place = folder / str(clips)
        tell(f"{clips} clips: making them")
        corpus(place / "corpus", clips, seed)
        row: dict[str, Any] = {"clips": clips, "hours": clips * SECONDS / 3600}
        for kind, options in (("flac", []), ("logmel", ["--features", str(folder / "recipe.toml")])):
            tell(f"{clips} clips: packing {kind}")
            command = [
                *EDGEQ,
                "data",
                "pack",
                str(place / "corpus"),
                "--jobs",
                str(jobs),
                *options,
                "--shard-megabytes",
                "16",
            ]
            ran = run([*command, "-o", str(place / kind)])
            row[f"pack_{kind}"] = asdict(ran) | {
                "times_real_time_a_core": clips * SECONDS / ran.cpu_seconds,
                "bytes": sum(path.stat().st_size for path in (place / kind).iterdir()),
            }
        command = [*EDGEQ, "train", str(folder / "recipe.toml"), "--json", "--data", str(place / "flac")]
        tell(f"{clips} clips: training")
        row["train"] = asdict(run([*command, "-o", str(place / "whole" / "model")]))
        found["sizes"].append(row)
    tell("killing a pack, and going on")
    largest, last = folder / str(max(sizes)), found["sizes"][-1]
    pack = [*EDGEQ, "data", "pack", str(largest / "corpus"), "--jobs", str(jobs), "--shard-megabytes", "16"]
    pack += ["-o", str(largest / "killed-pack")]
    found["pack_killed_after_s"] = kill(
        pack, largest / "killed-pack", chance.uniform(0.3, 0.9) * last["pack_flac"]["seconds"]
    )
    run(pack)
    found["pack_equal"] = same_files(largest / "flac", largest / "killed-pack")
    tell("killing a training, and going on")
    train = [*EDGEQ, "train", str(folder / "recipe.toml"), "--json", "--data", str(largest / "flac")]
    train += ["-o", str(largest / "killed" / "model")]
    found["train_killed_after_s"] = kill(train, largest / "killed", chance.uniform(0.3, 0.9) * last["train"]["seconds"])
    run(train)
    whole, again = largest / "whole" / "model", largest / "killed" / "model"
    found["train_equal"] = (whole / "bundle.json").read_bytes() == (again / "bundle.json").read_bytes()
    found["metrics"] = json.loads((whole / "bundle.json").read_text())["metrics"]
    return found


def corpus(folder: Path, clips: int, seed: int, seconds: float = SECONDS) -> None:
    """Clips of `seconds` with one to four labels, common and rare, each class a tone and a rhythm of its own."""
    rng = np.random.default_rng(seed)
    (folder / "audio").mkdir(parents=True)
    names = [f"/m/synthetic{number:03d}" for number in range(CLASSES)]
    table = "".join(f'{number},{name},"class {number}"\n' for number, name in enumerate(names))
    (folder / "class_labels_indices.csv").write_text(f"index,mid,display_name\n{table}")
    chances = 1 / (np.arange(CLASSES) + 3)
    chances /= chances.sum()
    lines = ["# Segments csv", f"# num_segs={clips}", "# YTID, start_seconds, end_seconds, positive_labels"]
    time_axis = np.arange(int(seconds * RATE), dtype=np.float32) / RATE
    for number in range(clips):
        held = rng.choice(CLASSES, rng.integers(1, 5), replace=False, p=chances)
        sound = rng.normal(0, 0.01, len(time_axis)).astype(np.float32)
        for label in held:
            pitch, beat = 80 * 1.0085**label, 2 + label % 7
            sound += 0.2 * np.sin(2 * np.pi * pitch * time_axis) * (np.sin(2 * np.pi * beat * time_axis) > 0)
        video = f"s{number:010d}"
        soundfile.write(folder / "audio" / f"{video}_0.wav", sound, RATE, "PCM_16")
        lines.append(f'{video}, 0.000, {seconds:.3f}, "{",".join(names[label] for label in held)}"')
    (folder / "unbalanced_train_segments.csv").write_text("\n".join(lines) + "\n")


def features(folder: Path) -> dict[str, float]:
    """Times real time that one thread decodes and computes log-mel at, by front end, on a clip of ten seconds."""
    path = folder / "ten.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 10 * 44_100), 44_100)
    found = {}
    for name, spec in PRESETS.items():
        best = math.inf
        for _ in range(7):
            started = time.process_time()
            frontend.logmel(frontend.pad(decode.read(path, spec.sample_rate), spec), spec)
            best = min(best, time.process_time() - started)
        found[name] = 10 / best
    return found


def run(command: list[str]) -> Ran:
    """Run a command to its end; leaves where it fails."""
    started = time.monotonic()
    watched = subprocess.run([sys.executable, "-IS", "-c", WATCH, *command], stdout=subprocess.PIPE, check=True)
    seconds = time.monotonic() - started
    status, cpu_seconds, peak_megabytes = json.loads(watched.stdout)
    if status:
        sys.exit(f"{' '.join(command)}: status {status}")
    return Ran(seconds, cpu_seconds, peak_megabytes)


def kill(command: list[str], output: Path, seconds: float) -> float:
    """Kill a command after so long; where it ends before, again from the start after less. Returns when."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return seconds
    shutil.rmtree(output)
    return kill(command, output, 0.7 * seconds)


def same_files(one: Path, other: Path) -> bool:
    names = sorted(path.name for path in one.iterdir())
    return names == sorted(path.name for path in other.iterdir()) and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in names
    )


def page(result: dict[str, Any]) -> str:
    """The result as a page."""
    small, large = result["sizes"]
    rows = []
    for what, key in (("pack, FLAC", "pack_flac"), ("pack, log-mel", "pack_logmel"), ("train, 2 epochs", "train")):
        for row in (small, large):
            one = row[key]
            rate = one.get("times_real_time_a_core")
            cells = f"{one['seconds']:.1f}", f"{one['cpu_seconds']:.1f}", f"{rate:.0f}" if rate else ""
            rows.append(f"| {what} | {row['clips']:,} | {' | '.join(cells)} | {one['peak_megabytes']:.0f} |")
    slow = [name for name, rate in result["features"].items() if rate < ENOUGH]
    slow += [
        key
        for row in result["sizes"]
        for key in ("pack_flac", "pack_logmel")
        if row[key]["times_real_time_a_core"] < ENOUGH
    ]
    said = ", ".join(f"{name} {rate:.0f}" for name, rate in result["features"].items())
    growth = {
        key: large[key]["peak_megabytes"] - small[key]["peak_megabytes"]
        for key in ("pack_flac", "pack_logmel", "train")
    }
    more = large["clips"] - small["clips"]
    facts = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    text = [
        "# A corpus in AudioSet's layout, packed and trained on",
        "",
        "Written by `python benchmarks/scale.py`. Measured: synthetic clips of one second, 527 classes, one to four a",
        f"clip; `edgeq data pack` with {result['jobs']} processes, then `edgeq train` (QNano, sigmoid, balanced",
        "sampling, batches of 64) from the FLAC shards. CPU seconds are those of all processes, start included; memory",
        "is the peak of the largest process.",
        "",
        "| step | clips | seconds | CPU seconds | times real time a core | peak MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *rows,
        "",
        f"- From {small['clips']:,} to {large['clips']:,} clips peak memory grows by "
        + ", ".join(
            f"{value:+.1f} MB ({key}: {value * 2**20 / more:+.0f} bytes a clip)" for key, value in growth.items()
        )
        + ".",
        f"- A pack killed after {result['pack_killed_after_s']:.1f} s and started again: "
        f"{'the same bytes' if result['pack_equal'] else '**other bytes**'}.",
        f"- A training killed after {result['train_killed_after_s']:.1f} s and started again: "
        f"{'the same bundle, to the byte' if result['train_equal'] else '**another bundle**'}.",
        f"- Decoding and log-mel, one thread, times real time, of 10 s at 44.1 kHz: {said}.",
        f"- At least {ENOUGH} times real time a core: {'all' if not slow else 'not ' + ', '.join(slow)}.",
        *(f"- Disturbed: {line}." for line in result["disturbances"]),
        "",
        f"{result['date']}: {facts}.",
        "",
    ]
    return "\n".join(text)


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
