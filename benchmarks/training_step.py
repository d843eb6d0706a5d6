"""Where the time of a training step goes, and what packing and reading give: on whatever device there is.

    python benchmarks/training_step.py                      # writes training_step.json; a quarter of an hour
    python benchmarks/training_step.py --recordings DIR     # clips are joined from these recordings

Each case is a process of its own (two of torchrun, where it says so) that fits a recipe's network for a few steps by
`fit`, from a packed corpus: one step to warm up, or to compile, the others are measured. Time is counted on the clock
and, since a machine may be busy, of the thread that trains: on a processor with one thread that is all the step's own
work, and readers' time is apart. On a GPU, which is waited for at the end of each phase, only the clock counts.
QCNN14 takes seconds a clip on a processor: its batches are small here (`--batch`), which says little of large ones.
Clips lie in AudioSet's layout, 10 s at 32 kHz: synthetic ones, or recordings of any corpus end to end, with labels at
random. What `edgeq data pack` makes of them, and how long that and reading take, is measured with one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import scale
import soundfile
import torch
from torch import Tensor

from edgeq import atomic, corpora, machine
from edgeq.audio import decode, frontend
from edgeq.audio.frontend import FrontendSpec
from edgeq.corpora import orders, packed
from edgeq.nets import arrays, registry
from edgeq.training import augment, joining, processes, session
from edgeq.training import fit as fitting
from edgeq.training import recipe as recipes
from edgeq.training.config import FitConfig, bf16_is_fast
from edgeq.training.evaluate import Logmels, normalisation
from edgeq.training.source import Heard, Plan, Source

HERE = Path(__file__).resolve().parent
LARGE = ("benchmarks/recipes/audioset-qcnn14.toml", "benchmarks/recipes/audioset-qcnn14-p50.toml")
SMALL = "models/esc10-qtiny/recipe.toml"
PHASES = ("clips", "features", "forward", "backward", "all_reduce", "optimiser")
"""Waiting for clips; augmentation, derivatives, normalisation; network and loss; gradients; sum over processes; update
and average of weights."""

CLIPS, SECONDS = 64, 10.0


@dataclass(frozen=True)
class Case:
    """One process's task, or two's.

    data: folder of the corpus, packed or not. steps: measured ones. evaluated: clips to answer in the end.
    """

    recipe: str
    data: str
    batch: int
    steps: int
    precision: str = "float32"
    compile: bool = False
    processes: int = 1
    parts: int = 1
    evaluated: int = 0


class Clock:
    """Seconds since the last mark, added to a phase of the step under way: (on the clock, of this thread)."""

    def __init__(self) -> None:
        self.steps: list[dict[str, tuple[float, float]]] = []
        self.last = self._now()

    def begin(self) -> None:
        if self.steps:  # what lies between steps is the loop's, as the update is
            self.mark("optimiser")
        self.steps.append(dict.fromkeys(PHASES, (0.0, 0.0)))
        self.last = self._now()

    def mark(self, phase: str) -> None:
        now = self._now()
        wall, thread = self.steps[-1][phase]
        self.steps[-1][phase] = (wall + now[0] - self.last[0], thread + now[1] - self.last[1])
        self.last = now

    def _now(self) -> tuple[float, float]:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter(), time.thread_time()


@dataclass(frozen=True)
class _Told(processes.Processes):
    """Processes that tell a clock when they exchange."""

    mark: Callable[[str], None] = print

    def sum_up(self, tensors: Sequence[Tensor]) -> None:
        self.mark("backward")
        super().sum_up(tensors)
        self.mark("all_reduce")


def clocked(clock: Clock) -> type:
    """The training loop, telling a clock where it is."""

    class Run(fitting._Run):
        def __init__(self, network: Any, source: Source, *others: Any) -> None:
            super().__init__(network, source, *others)
            self.together = _Told(self.together.rank, self.together.count, clock.mark)
            inner = self.source.read

            def read(plans: Iterable[Plan]) -> Generator[Heard, None, None]:
                with contextlib.closing(inner(plans)) as heard:
                    while True:
                        clock.mark("backward" if clock.steps[-1]["clips"][0] else "optimiser")  # what came before
                        one = next(heard, None)
                        clock.mark("clips")
                        if one is None:
                            return
                        yield one

            self.source.read = read  # type: ignore[method-assign]

        def _step(self, *of: Any) -> Tensor:
            clock.begin()
            loss = super()._step(*of)
            clock.mark("optimiser")
            return loss

        def _batch(self, heard: Heard) -> Any:
            made = super()._batch(heard)
            clock.mark("features")
            return made

        def _loss(self, heard: Heard) -> Tensor:
            loss = super()._loss(heard)
            clock.mark("forward")
            return loss

    return Run


def worker(case: Case) -> dict[str, Any]:
    """Train as a case says; what its steps took."""
    with joining.joined() as together:
        torch.set_num_threads(1)
        recipe = recipes.read(case.recipe)
        corpus = session.corpus_at(case.data)
        config = replace(
            recipe.fit,
            epochs=0,
            iterations=1 + case.steps,
            batch_size=case.batch,
            parts=case.parts,
            precision=case.precision,
            compile=case.compile,
        )
        maps = session.maps(corpus, recipe.frontend, config, Path(case.data).parent)
        mean, std = normalisation(Logmels(maps, most=8), recipe.frontend)
        spec = replace(recipe.frontend, mean=mean, std=std)
        # Sigmoid: clips here have several labels, whatever the recipe is for.
        architecture = replace(recipe.architecture, classes=len(corpus.labels), output="sigmoid")
        torch.manual_seed(0)
        network = registry.build(architecture)  # fresh, whatever the recipe starts from: no matter here
        clock = Clock()
        fitting._Run = clocked(clock)
        fitting.fit(network, maps.source(corpus.positives, spec, config), spec, config, 0, output="sigmoid")
        steps = clock.steps[1:]
        cuda = torch.cuda.is_available()
        peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        phases = {
            phase: {
                "seconds": sum(step[phase][0] for step in steps) / len(steps),
                "cpu_seconds": sum(step[phase][1] for step in steps) / len(steps),
            }
            for phase in PHASES
        }
        wall, own = (sum(one[key] for one in phases.values()) for key in ("seconds", "cpu_seconds"))
        mine = case.batch / together.count
        found = {
            "network": architecture.family,
            "parameters": sum(one.numel() for one in network.parameters()),
            "device": "cuda" if cuda else "cpu",
            "precision_used": config.usable_precision,
            "phases": phases,
            "step_seconds": wall,
            "step_cpu_seconds": own,
            "first_step_seconds": sum(seconds for seconds, _ in clock.steps[0].values()),
            "samples_a_second": case.batch / wall,
            "samples_a_cpu_second": mine / own,
            "peak_megabytes": peak / 2**20,
        }
        if case.evaluated:
            started = time.thread_time()
            for clip in range(case.evaluated):
                windows = frontend.cut(maps.logmel(clip), spec)[:1]
                arrays.probabilities(network, "sigmoid", frontend.features(windows, spec))
            found["evaluation_cpu_seconds_a_clip"] = (time.thread_time() - started) / case.evaluated
        if together.main:
            print(json.dumps(found))
        return found


def measured(case: Case) -> dict[str, Any]:
    """A case in processes of its own. Raises CalledProcessError where it fails."""
    start = [sys.executable]
    if case.processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={case.processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = f"{Path(case.recipe).parent.name}/{Path(case.recipe).stem}: batch {case.batch} in {case.parts} parts"
    print(f"{told}, {case.processes} processes, {case.precision}{', compiled' * case.compile}", file=sys.stderr)
    done = subprocess.run(
        [*start, __file__, "--case", json.dumps(asdict(case))], env=environment, stdout=subprocess.PIPE, text=True
    )
    done.check_returncode()
    row = asdict(case) | json.loads(done.stdout.strip().splitlines()[-1])
    del row["data"]
    return row


def clips(folder: Path, recordings: Path | None) -> str:
    """A corpus of CLIPS in AudioSet's layout; returns what its sounds are."""
    scale.corpus(folder, CLIPS, 0, SECONDS)
    if recordings is None:
        return "synthetic: tones and noise"
    found = corpora.open(recordings)
    chosen = np.random.default_rng(0).permutation(len(found.clips)).tolist()
    for place in sorted((folder / "audio").iterdir()):
        sound = np.zeros(0, np.float32)
        while len(sound) < SECONDS * scale.RATE:
            chosen.append(chosen.pop(0))
            sound = np.concatenate([sound, decode.read(found.clips[chosen[-1]].path, scale.RATE)])
        soundfile.write(place, sound[: int(SECONDS * scale.RATE)], scale.RATE, "PCM_16")
    return f"recordings of {found.name}, end to end"


def sample(folder: Path, recipe: str) -> dict[str, Any]:
    """Pack the clips both ways, by one process; bytes and CPU seconds of a clip, to pack and to read it."""
    found: dict[str, Any] = {"clips": CLIPS, "seconds_a_clip": SECONDS, "sample_rate": scale.RATE}
    spec = recipes.read(recipe).frontend
    config = recipes.read(recipe).fit
    for kind, options in (("flac", []), ("logmel", ["--features", recipe])):
        command = [*scale.EDGEQ, "data", "pack", "--jobs", "1", *options]
        ran = scale.run([*command, str(folder / "corpus"), "-o", str(folder / kind)])
        one_clip = folder / f"{kind}-one"  # what starting takes, whatever is packed
        start = scale.run([*command, str(folder / "one"), "-o", str(one_clip)])
        opened = packed.open(folder / kind)
        index, one = (
            sum((place / name).stat().st_size for name in (packed.INDEX, packed.ARRAYS))
            for place in (folder / kind, one_clip)
        )
        found[kind] = {
            "bytes_a_clip": sum(shard.size for shard in opened.shards) / CLIPS,
            "index_bytes_a_clip": (index - one) / (CLIPS - 1),
            "pack_cpu_seconds_a_clip": (ran.cpu_seconds - start.cpu_seconds) / (CLIPS - 1),
            "read_cpu_seconds_a_clip": _reading(folder / kind, spec, replace(config, logmel="numpy")),
        }
    found["flac"]["read_by_torch_cpu_seconds_a_clip"] = _reading(folder / "flac", spec, replace(config, logmel="torch"))
    opened = packed.open(folder / "flac")
    started = time.process_time()
    for clip in range(CLIPS):
        opened.waveform(clip, spec.sample_rate)
    found["flac"]["decode_cpu_seconds_a_clip"] = (time.process_time() - started) / CLIPS
    return found


def _reading(folder: Path, spec: FrontendSpec, config: FitConfig) -> float:
    """Processor time to read a clip of a packed corpus for training, in seconds."""
    corpus = session.corpus_at(folder)
    source = session.maps(corpus, spec, config, folder).source(corpus.positives, spec, config)
    frames = augment.crop_frames(spec, config.crop_seconds[0])
    changes = augment.drawn(config, 1, spec.n_mels, frames, torch.Generator())
    plans = [Plan(0, (augment.Wish(clip, 0, 0.5),), changes) for clip in range(CLIPS)]
    started = time.process_time()
    for _ in source.read(plans):
        pass
    return (time.process_time() - started) / CLIPS


def index() -> dict[str, float]:
    """What drawing an epoch's balanced order takes of a corpus of AudioSet's size, two labels a clip."""
    count = 22_176 + 2_042_985
    every, counts = np.arange(count), np.full(count, 2)
    labels = np.random.default_rng(0).integers(0, scale.CLASSES, 2 * count)
    tracemalloc.start()
    started = time.process_time()
    drawn = orders.balanced(every, counts, labels, count, 0, 0)
    orders.shuffled(drawn, np.arange(0, count, 800), 0, 0)
    found = {"clips": count, "order_cpu_seconds": time.process_time() - started}
    found["order_peak_megabytes"] = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="profile a training step, packing and reading")
    parser.add_argument("--recipe", action="append", help=f"to profile  [default: {SMALL}, {', '.join(LARGE)}]")
    parser.add_argument("--batch", type=int, default=2, help="of large recipes; small ones keep theirs")
    parser.add_argument("--steps", type=int, default=3, help="measured, of large recipes; 20 times as many of small")
    parser.add_argument("--recordings", type=Path, help="corpus whose sounds are used  [default: synthetic ones]")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        worker(Case(**json.loads(arguments.case)))
        return
    torch.set_num_threads(1)
    before = machine.conditions()
    result: dict[str, Any] = {
        "command": f"python benchmarks/training_step.py --batch {arguments.batch} --steps {arguments.steps}"
        + (" --recordings DIR" if arguments.recordings else ""),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine.describe() | {"gpus": machine.gpus(), "torch": torch.__version__},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result["sounds"] = clips(folder / "corpus", arguments.recordings)
        scale.corpus(folder / "one", 1, 0, SECONDS)
        result["sample"] = sample(folder, LARGE[0])
        result["index"] = index()
        result["steps"], result["failed"] = [], []
        todo = cases(folder, arguments)
        for case in todo:  # the longest last: what is finished is kept
            try:
                row = measured(case)
            except subprocess.CalledProcessError as error:  # what else there is to measure does not depend on it
                print(f"  failed with status {error.returncode}", file=sys.stderr)
                result["failed"].append({"case": asdict(case) | {"data": ""}, "status": error.returncode})
            else:
                print(f"  {row['samples_a_cpu_second']:.2f} samples a CPU second", file=sys.stderr)
                result["steps"].append(row)
            result["cases_left_out"] = len(todo) - len(result["steps"]) - len(result["failed"])
            after = machine.conditions()
            result["load_average"] = [before["load_average"], after["load_average"]]
            result["disturbances"] = machine.disturbances(before, after, os.cpu_count() or 1)
            atomic.write_text(arguments.output, json.dumps(result, indent=1) + "\n")


def cases(folder: Path, arguments: argparse.Namespace) -> list[Case]:
    """A small network's batch in two parts, by one process and by two; then each recipe in each precision, plain and
    compiled."""
    fast = torch.cuda.is_available() or bf16_is_fast()
    counts = (1,) if torch.cuda.device_count() == 1 else (1, 2)  # two processes do not share a GPU
    found = [Case(SMALL, str(folder / "corpus"), 64, 40, processes=count, parts=2) for count in counts]
    for compiled in (False, True):
        for recipe in arguments.recipe or [SMALL, *LARGE]:
            large = Path(recipe).name.startswith("audioset")
            plain = Case(
                recipe,
                str(folder / ("flac" if large else "corpus")),  # what is small is held in memory
                arguments.batch if large else recipes.read(recipe).fit.batch_size,
                arguments.steps * (1 if large else 20),
                compile=compiled,
            )
            found.append(replace(plain, evaluated=2 if large and not compiled else 0))
            if fast:
                found.append(replace(plain, precision="bf16"))
    return found


if __name__ == "__main__":
    main()
