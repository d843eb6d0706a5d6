"""A plan for AudioSet on 8 GPUs, by arithmetic from what was measured: writes audioset.md.

    python benchmarks/audioset.py

It reads training_step.json and, where they are there, scale.json and training_step_gpu.json (of `benchmarks/gpu.sh`).
Nothing is measured here. What no file has measured stands in the page as not measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeq import atomic
from edgeq.corpora.pack import SHARD_MEGABYTES
from edgeq.training import recipe as recipes

HERE = Path(__file__).resolve().parent
RECIPE = "benchmarks/recipes/audioset-qcnn14.toml"
PRUNED = "benchmarks/recipes/audioset-qcnn14-p50.toml"

TRAINING, TESTING = 22_176 + 2_042_985, 20_383
"""Segments of the published tables: balanced and unbalanced training, evaluation; no copy has the videos of all."""

READING = (
    ("flac", "decoding, log-mel by NumPy, crop", "read_cpu_seconds_a_clip"),
    ("flac", "decoding alone: a GPU that trains does the rest", "decode_cpu_seconds_a_clip"),
    ("logmel", "reading, crop", "read_cpu_seconds_a_clip"),
)
"""How clips come from shards: of which kind, what a core does, and where training_step.json says how long."""

GPUS, CORES = 8, (8, 32, 64)
DAYS = (1, 3, 7, 14)


def shards(size: float) -> int:
    """Into how many shards `edgeq data pack` would write so many bytes."""
    return math.ceil(size / (SHARD_MEGABYTES * 2**20))


def hours(samples: float, samples_a_second: float, workers: int = 1) -> float:
    """How long so many samples take `workers` that each do samples_a_second, and lose nothing by working together."""
    return samples / samples_a_second / workers / 3600


def rate_needed(samples: float, days: float, workers: int) -> float:
    """Samples a second that each of `workers` has to do to be done after so many days."""
    return samples / (days * 86_400) / workers


def page(steps: Mapping[str, Any], scale: Mapping[str, Any] | None, gpu: Mapping[str, Any] | None = None) -> str:
    """The plan, from what training_step.json, scale.json and training_step_gpu.json hold."""
    recipe = recipes.read(HERE.parent / RECIPE)
    fit, validation = recipe.fit, recipe.validation
    assert validation is not None
    heard = fit.iterations * fit.batch_size
    sample = steps["sample"]
    every = [*steps["steps"], *(gpu["steps"] if gpu else [])]
    rows = [row for row in every if row["recipe"] in (RECIPE, PRUNED)]
    measured = "; ".join(f"{kind} {sample[kind]['bytes_a_clip']:,.0f} bytes" for kind in ("flac", "logmel"))
    evaluations = fit.iterations // validation.every
    answers = evaluations * TESTING
    text = [
        "# A plan for AudioSet on 8 GPUs",
        "",
        "Written by `python benchmarks/audioset.py` from `training_step.json`"
        + (" and `scale.json`" if scale else "")
        + ". Nobody has run this at its length: what",
        "was measured says so, everything else is arithmetic from it, and what neither covers is listed at the end.",
        "",
        "Times on processors are seconds of processor time of one thread.",
        "",
        *(_machine(one) for one in (steps, gpu) if one),
        "",
        f"The schedule ([recipe](recipes/audioset-qcnn14.toml); quaternion paper, Section V-C): {fit.iterations:,}",
        f"iterations of {fit.batch_size} clips of 10 s, {heard:,} in all, {heard / TRAINING:.1f} times the",
        f"{TRAINING:,} training segments; evaluated on {TESTING:,} every {validation.every:,} iterations.",
        "The paper repeats each experiment three times: multiply by 3.",
        "",
        "## Disk and packing",
        "",
        f"Measured on {sample['clips']} clips of {sample['seconds_a_clip']:g} s at {sample['sample_rate']} Hz, 16 bit,",
        f"one channel ({steps['sounds']}): {measured}",
        "a clip, tar and JSON included. FLAC keeps the recordings' sample rate and grows with it and with the sounds;",
        "log-mel (float16) does not, but is of one front end.",
        "",
        "| shards | of a clip, kB | TB | shards of 256 MB | CPU s to pack a clip | hours to pack on "
        + " / ".join(map(str, CORES))
        + " cores |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind in ("flac", "logmel"):
        one = sample[kind]
        size, seconds = one["bytes_a_clip"] * (TRAINING + TESTING), one["pack_cpu_seconds_a_clip"]
        packing = " / ".join(f"{hours(TRAINING + TESTING, 1 / seconds, cores):.1f}" for cores in CORES)
        text.append(
            f"| {kind} | {one['bytes_a_clip'] / 1e3:.0f} | {size / 1e12:.2f} | {shards(size):,} | {seconds:.4f} "
            f"| {packing} |"
        )
    text += [
        "",
        "Packing hours suppose that disks keep up and that recordings are WAV, as measured; decoding other formats",
        "comes on top.",
        *_of_scale(scale),
        f"The index takes {sample['flac']['index_bytes_a_clip']:.0f} bytes a clip (measured; labels one to four, names"
        f" of 12 letters), so {sample['flac']['index_bytes_a_clip'] * (TRAINING + TESTING) / 1e6:.0f} MB for all;",
        *_of_index(steps.get("index")),
        "",
        "## Reading",
        "",
        "A core gives (measured):",
        "",
        "| shards | read by | CPU ms a clip | clips a second a core | cores that feed a GPU of 100 samples a second |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for kind, by, figure in READING:
        seconds = sample[kind][figure]
        text.append(f"| {kind} | {by} | {seconds * 1e3:.2f} | {1 / seconds:,.0f} | {100 * seconds:.2f} |")
    text += [
        "",
        "Cores needed are proportional: samples a second times CPU seconds a clip. Each process reads by up to 8",
        "threads, and compares each clip with its checksum as it reads it.",
        "",
        "## Steps and hours",
        "",
        f"Hours = {heard:,} / (samples a second a GPU x GPUs) / 3600, if GPUs lose nothing by working together.",
        "To be done in so many days each of 8 GPUs has to do:",
        "",
        "| days | samples a second a GPU | ms a step of 32 shared by 8 GPUs |",
        "| ---: | ---: | ---: |",
        *(
            f"| {days} | {rate_needed(heard, days, GPUS):.1f} | {days * 86_400e3 / fit.iterations:.0f} |"
            for days in DAYS
        ),
        "",
        "What was measured of the step, one process each:",
        "",
        "| recipe | device | precision | compiled | batch | samples a second | peak MB | hours, one | hours, 8 |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *(_hours_row(row, heard) for row in rows),
    ]
    if not any(row["device"] == "cuda" for row in rows):
        text.append("| any | GPU | | | | not measured: run `benchmarks/gpu.sh` | | | |")
    text += [
        "",
        "On a processor `samples a second` is of processor time, one thread. Small batches leave fixed costs (the",
        "update of all weights, above all) on few clips: larger ones were not measured, and hours are those of the",
        "rate of the batch in the row.",
        "",
        "Where the time of a step goes, percent; waiting for clips is of the clock:",
        "",
        "| recipe | precision | compiled | batch | waiting | features | forward | backward | update |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(_phases_row(row) for row in every if row["processes"] == row["parts"] == 1),
        "",
        *_of_processes([row for row in steps["steps"] if row["parts"] > 1], bool(steps["disturbances"])),
        "Every step sums all gradients over the processes: "
        + "; ".join(f"{4 * count / 1e6:.0f} MB ({name})" for name, count in _parameters(rows).items())
        + ".",
        "How long that takes was measured on no GPU. Two ways to use 8 of them, both with `[fit] parts = 8`:",
        "",
        f"- `batch_size = {fit.batch_size}`: the paper's steps, but batch norm sees {fit.batch_size // GPUS} clips.",
        f"- `batch_size = {fit.batch_size * GPUS}`, `iterations = {fit.iterations // GPUS:,}`: batch norm as in the",
        "  paper, as many clips heard, an eighth of the steps; the learning rate has to be found anew.",
        "",
        "## Evaluation while training",
        "",
        f"{evaluations} evaluations of {TESTING:,} clips are {answers:,} answers, shared by all processes. Reading",
        "alone takes",
        *_of_evaluation(sample, rows, answers),
        f"An evaluation every {10 * validation.every:,} iterations (`[validation] every`) costs a tenth of that.",
        "",
        *COMMANDS,
        "",
        "## Not measured",
        "",
        *(f"- {line}" for line in _not_measured(steps, scale, rows)),
        "",
    ]
    return "\n".join(text)


def _machine(measured: Mapping[str, Any]) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in measured["machine"].items() if value)
    disturbed = "".join(f"; {line}" for line in measured["disturbances"])
    return f"- `{measured['command']}`, {measured['date']}: {facts}{disturbed}."


COMMANDS = """\
## Commands, end to end

    edgeq data check AUDIOSET                                   # tables, missing and damaged recordings
    edgeq data pack AUDIOSET -o packed --features benchmarks/recipes/audioset-qcnn14.toml     # or without: FLAC
    edgeq data check packed                                     # shards against their checksums

Give the recipes `[fit]` parts = 8 (and, on GPUs, precision = "bf16", compile = true); then on one machine

    RUN="torchrun --standalone --nproc-per-node 8 -m edgeq train"
    $RUN benchmarks/recipes/audioset-qcnn14.toml --data packed

and on two of 4 GPUs each, on both of them, with `build` in a folder that they share:

    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --nnodes 2 --nproc-per-node 4 --max-restarts 3 \\
      --rdzv-backend c10d --rdzv-endpoint FIRST_HOST:29400 --rdzv-id audioset \\
      -m edgeq train benchmarks/recipes/audioset-qcnn14.toml --data packed

After a kill the same command goes on from the last checkpoint (`build/training`), with 1, 2, 4 or 8 processes; what
happens where a machine is lost is told [where training is](../edgeq/training/README.md#gpus-processes-machines).
How it is then pruned and trained on, taught by the network before pruning, and carried over to the small corpora is
on the [recipes' page](recipes/README.md): each pruned one is another 1,000,000 iterations, and a teacher adds its
forward pass to each.
""".splitlines()


def _of_scale(scale: Mapping[str, Any] | None) -> list[str]:
    if scale is None:
        return []
    small, large = scale["sizes"]
    growth = {key: large[key]["peak_megabytes"] - small[key]["peak_megabytes"] for key in ("pack_flac", "train")}
    return [
        f"`scale.json` (measured, clips of a second, {large['clips']:,} of them): packing takes"
        f" {large['pack_flac']['cpu_seconds'] / large['clips']:.4f} CPU s a clip (FLAC), and from"
        f" {small['clips']:,} to {large['clips']:,} clips",
        f"its peak memory grows by {growth['pack_flac']:.0f} MB, that of training by {growth['train']:.0f} MB.",
    ]


def _of_index(index: Mapping[str, Any] | None) -> list[str]:
    if index is None:
        return ["what it takes in memory was not measured."]
    return [
        f"to draw an epoch's balanced order of {index['clips']:,} clips takes {index['order_cpu_seconds']:.1f} CPU s",
        f"and {index['order_peak_megabytes']:.0f} MB in each process (measured, two labels a clip).",
    ]


def _hours_row(row: Mapping[str, Any], heard: int) -> str:
    rate = _rate(row)
    cells = (
        Path(row["recipe"]).stem,
        row["device"],
        row["precision_used"],
        "yes" if row["compile"] else "no",
        f"{row['batch']}",
        f"{rate:.3g}",
        f"{row['peak_megabytes']:.0f}",
        f"{hours(heard, rate):,.0f}",
        f"{hours(heard, rate, 8):,.0f}",
    )
    return f"| {' | '.join(cells)} |"


def _rate(row: Mapping[str, Any]) -> float:
    """Samples a second: on the clock of a GPU, of processor time elsewhere."""
    return float(row["samples_a_second" if row["device"] == "cuda" else "samples_a_cpu_second"])


def _phases_row(row: Mapping[str, Any]) -> str:
    unit = "seconds" if row["device"] == "cuda" else "cpu_seconds"
    whole = sum(one[unit] for one in row["phases"].values())
    shares = (row["phases"][phase][unit] / whole for phase in ("features", "forward", "backward", "optimiser"))
    first = Path(row["recipe"]).stem if row["recipe"].startswith("benchmarks") else Path(row["recipe"]).parent.name
    compiled = "yes" if row["compile"] else "no"
    waiting = 100 * row["phases"]["clips"]["seconds"] / row["step_seconds"]
    percents = f"{waiting:.1f}", *(f"{100 * share:.0f}" for share in shares)
    cells = first, row["precision_used"], compiled, f"{row['batch']}", *percents
    return f"| {' | '.join(cells)} |"


def _of_processes(rows: Sequence[Mapping[str, Any]], busy: bool) -> list[str]:
    if len(rows) != 2:
        return []
    one, two = sorted(rows, key=lambda row: row["processes"])
    faster = f"{two['samples_a_second'] / one['samples_a_second']:.2f} times as many samples a second"
    clock = "on the clock nothing can be said: the machine was busy" if busy else f"on the clock {faster}"
    return [
        f"Two processes for one (measured, {one['network']}, {one['batch']} clips in {one['parts']} parts):"
        f" {two['samples_a_cpu_second']:.0f} samples a CPU second of each,",
        f"one process alone {one['samples_a_cpu_second']:.0f}; {clock}.",
    ]


def _parameters(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {Path(row["recipe"]).stem: row["parameters"] for row in rows}


def _of_evaluation(sample: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], answers: int) -> list[str]:
    reading = ", ".join(
        f"{hours(answers, 1 / sample[kind]['read_cpu_seconds_a_clip'], 8):.1f} hours on 8 cores from {kind}"
        for kind in ("flac", "logmel")
    )
    slow = [row["evaluation_cpu_seconds_a_clip"] for row in rows if "evaluation_cpu_seconds_a_clip" in row]
    answer = [f"An answer took {slow[0]:.2f} CPU s here (measured); of a GPU not measured."] if slow else []
    return [f"{reading}.", *answer]


def _not_measured(
    steps: Mapping[str, Any], scale: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]
) -> list[str]:
    left = []
    if not any(row["device"] == "cuda" for row in rows):
        left += ["Any GPU: step time, memory, compilation, bfloat16; NCCL among GPUs."]
    if not rows:
        left += ["A step of QCNN14."]
    if steps.get("cases_left_out"):
        left += [f"{steps['cases_left_out']} cases of training_step.py: its last run was ended before them."]
    for failed in steps.get("failed", ()):
        case = failed["case"]
        how = f"{case['precision']}{', compiled' * case['compile']}"
        left += [f"{Path(case['recipe']).stem}, {how}: ended with status {failed['status']}."]
    if scale is None:
        left += ["Memory at two sizes of a corpus, kill and resume at scale: run `benchmarks/scale.py`."]
    return [
        *left,
        "AudioSet itself: nobody here had it. Bytes and decoding are those of other sounds.",
        "Disks and networks: sequential and shared reads, eight processes on one disk, more than one machine.",
        "A step with a teacher of QCNN14's size (`distillation_step.json` has a small one).",
        "Batches larger than the table says; batch norm over 4 clips; mAP after any part of the schedule.",
    ]


def committed() -> str:
    """The page, of the files that lie here."""
    names = "training_step", "scale", "training_step_gpu"
    places = [HERE / f"{name}.json" for name in names]
    steps, scale, gpu = (json.loads(place.read_text()) if place.is_file() else None for place in places)
    if steps is None:
        raise SystemExit(f"{places[0]}: not there; run python benchmarks/training_step.py")
    return page(steps, scale, gpu)


def main() -> None:
    atomic.write_text(HERE / "audioset.md", committed())


if __name__ == "__main__":
    main()
