"""The ten networks of the quaternion paper's Table III on this machine, beside what the paper printed.

    python benchmarks/table3.py                 # measures what table3.json does not yet hold; half an hour, 3 GB
    python benchmarks/table3.py --only qcnn14-p50 --seconds 60       # measures that again
    python benchmarks/table3.py --report        # only writes table3.md again
    python benchmarks/table3.py --target gpu    # the same on an NVIDIA GPU: table3-gpu.json and table3-gpu.md

Each network takes turns with CNN14 in one process of `edgeq bench`, A B B A, in onnxruntime on one thread: a ratio is
the median over pairs of turns, so that a busy machine disturbs both sides alike. Weights are random: time does not
depend on what was learnt. What is finished is kept in table3.json at once.

On a GPU that is done in onnxruntime and in torch, which runs the operators of the same files, in float32 (without
tfloat32) and float16, one window and 64 windows a call, both copies between the computer's memory and the GPU's in it.
What does not fit the GPU's memory is told and left out. Exit code 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lowering import lively

from edgeq import atomic, fresh, goldens, machine
from edgeq.bench import compare, latency, local
from edgeq.errors import CheckFailed, InputError
from edgeq.export.onnx import to_onnx
from edgeq.lowering.fast import DEPTHWISE, lower_fast, worthwhile
from edgeq.lowering.trace import lower
from edgeq.nets import registry
from edgeq.nets.count import count

HERE = Path(__file__).resolve().parent
BASE = "cnn14"
BLOCK, FAST = "block", "fast"
SECONDS = 40.0
"""Timed a pair of networks, both together."""

SOUND = 3
"""Seed of the synthetic sound that all networks hear."""

GPU_SECONDS = 4.0

ROWS = {
    # network: the paper's name, mAP, seconds for 1,000 clips of 30 s on an RTX 2070 Max-Q, 1e-4 kWh, 1e-4 kg of CO2
    "resnet38": ("ResNet38", 0.434, 22.24, 6.6, 1.6),
    "qresnet38": ("QResNet38", 0.426, 28.31, 8.5, 2.0),
    "qresnet38-p25": ("QResNet38 (p = 0.25)", 0.422, 23.99, 7.1, 1.7),
    "qresnet38-p50": ("QResNet38 (p = 0.50)", 0.421, 19.70, 6.1, 1.5),
    "qresnet38-p75": ("QResNet38 (p = 0.75)", 0.410, 18.22, 5.4, 1.3),
    "cnn14": ("CNN14", 0.431, 21.10, 4.7, 1.5),
    "qcnn14": ("QCNN14", 0.428, 29.87, 8.9, 2.1),
    "qcnn14-p25": ("QCNN14 (p = 0.25)", 0.436, 20.92, 6.3, 1.4),
    "qcnn14-p50": ("QCNN14 (p = 0.50)", 0.429, 13.69, 4.1, 1.0),
    "qcnn14-p75": ("QCNN14 (p = 0.75)", 0.397, 9.51, 2.8, 0.7),
}


@dataclass(frozen=True)
class File:
    """A network's ONNX file, what it hears, and how its quaternion layers were lowered, where it has any."""

    network: str
    lowering: str
    path: Path
    sound: Path

    @property
    def key(self) -> str:
        return f"{self.network} {self.lowering}"


@dataclass(frozen=True)
class Way:
    """How a file is run."""

    runtime: str = "onnxruntime"
    precision: str = "float32"
    batch: int = 1

    def key(self, file: File) -> str:
        """Of its row; a processor has one way, which goes without saying."""
        return file.key if self == Way() else f"{file.key} {self.runtime} {self.precision} {self.batch}"


WAYS = {
    "cpu": (Way(),),
    "gpu": tuple(
        Way(runtime, precision, batch)
        for runtime in ("onnxruntime-cuda", "torch-cuda")
        for precision in ("float32", "float16")
        for batch in (1, 64)
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="time the networks of the quaternion paper's Table III")
    parser.add_argument("--only", choices=list(ROWS), nargs="+", help="some of the networks, measured again")
    parser.add_argument("--target", choices=list(WAYS), default="cpu")
    parser.add_argument("--runtime", help="some of the runtimes, with commas; all where left out")
    parser.add_argument("--seconds", type=float, help=f"a pair is timed for; {SECONDS:g}, on a GPU {GPU_SECONDS:g}")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the page again")
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build" / "table3", help="for the models")
    parser.add_argument("-o", "--output", type=Path, help="table3.json beside this script, or table3-gpu.json")
    arguments = parser.parse_args()
    on_gpu = arguments.target == "gpu"
    output = arguments.output or HERE / ("table3-gpu.json" if on_gpu else "table3.json")
    if on_gpu and not arguments.report and not machine.gpus():
        print("table3: nvidia-smi finds no NVIDIA GPU here; run it on a machine that has one", file=sys.stderr)
        sys.exit(2)
    rows: dict[str, Any] = json.loads(output.read_text())["rows"] if output.exists() else {}
    failures = [] if arguments.report else list(_measure_missing(rows, arguments, output))
    text = (gpu_page if on_gpu else page)(rows)
    atomic.write_text(output.with_suffix(".md"), text)
    print(text)
    for failure in failures:
        print(failure, file=sys.stderr)
    sys.exit(bool(failures))


def _measure_missing(rows: dict[str, Any], arguments: argparse.Namespace, output: Path) -> Iterator[str]:
    """Adds to the rows what is not there, or is asked for again, and keeps each at once; gives what failed."""
    seconds = arguments.seconds or (GPU_SECONDS if arguments.target == "gpu" else SECONDS)
    (base,) = _files(BASE, arguments.folder)
    for name in arguments.only or ROWS:
        for file, way in itertools.product(_files(name, arguments.folder), WAYS[arguments.target]):
            if way.runtime not in (arguments.runtime or way.runtime).split(","):
                continue
            if way.key(file) in rows and not arguments.only:
                continue
            try:
                rows[way.key(file)] = _measured(file, base, way, seconds)
            except (CheckFailed, InputError) as failure:
                yield f"{way.key(file)}: {failure}"
                continue
            ordered = {key: rows[key] for key in sorted(rows, key=_place)}
            atomic.write_text(output, json.dumps({"kind": "measured", "rows": ordered}, indent=1) + "\n")


def _place(key: str) -> tuple[int, list[str]]:
    network, *rest = key.split()
    return list(ROWS).index(network), rest


def _files(name: str, folder: Path) -> tuple[File, ...]:
    """A network's files, written now where they are not there: real ones have no fast lowering."""
    architecture, frontend = fresh.specs(name)
    lowerings = (BLOCK, FAST) if name.startswith("q") else (BLOCK,)
    sound = folder / f"sound-{architecture.input_shape[0]}.npy"
    files = tuple(File(name, lowering, folder / f"{name}-{lowering}.onnx", sound) for lowering in lowerings)
    if all(file.path.exists() for file in files) and sound.exists():
        return files
    print(f"building {name}", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    x = goldens.inputs([SOUND], frontend)
    graph = lower(lively(registry.build, architecture, torch.from_numpy(x)), architecture)
    for file in files:
        lowered = graph if file.lowering == BLOCK else lower_fast(graph, worthwhile(graph), DEPTHWISE)
        atomic.write_bytes(file.path, to_onnx(lowered))
    array = io.BytesIO()
    np.save(array, x)
    atomic.write_bytes(sound, array.getvalue())
    return files


def _measured(file: File, base: File, way: Way, seconds: float) -> dict[str, Any]:
    print(f"timing {way.key(file)} beside {BASE}", file=sys.stderr)
    asked = [
        {"path": str(one.path), "stage": None, "runtime": way.runtime, "inputs": str(one.sound)} for one in (file, base)
    ]
    job = {"models": asked, "threads": 1, "batch": way.batch, "seconds": seconds, "runs": None, "affinity": None}
    job |= {"precision": way.precision, "cuda_graphs": False, "seed": 0}
    found = local.run({**job, "energy": None})
    first, second = found["models"]
    per_turn = first["per_turn"], second["per_turn"]
    architecture, frontend = fresh.specs(file.network)
    return {
        "macs": count(architecture, frontend).macs["network"],
        "file_bytes": file.path.stat().st_size,
        "latency_ms": asdict(latency.percentiles(first["nanoseconds"])),
        "beside_ms": asdict(latency.percentiles(second["nanoseconds"])),
        "ratio": asdict(compare.measured(first["nanoseconds"], second["nanoseconds"], per_turn, BASE)),
        "memory_bytes": first["memory_bytes"],
        "load_ms": first["load_ms"],
        "runtime": f"{way.runtime} {first['version']}",
        **({} if first["parity"] is None else {"parity": first["parity"]}),
        "edgeq": version("edgeq"),
        "machine": found["machine"],
        "conditions": found["conditions"],
        "date": datetime.now(UTC).date().isoformat(),
    }


def page(rows: Mapping[str, Any]) -> str:
    """The table in Markdown, from the rows of table3.json."""
    sections = [
        "# Table III of the quaternion paper, measured again",
        _METHOD,
        "\n".join(_table(rows)),
        _FINDINGS,
        _described(rows),
    ]
    return "\n\n".join(sections) + "\n"


def gpu_page(rows: Mapping[str, Any]) -> str:
    """The tables of a GPU in Markdown, one a runtime and precision, from the rows of table3-gpu.json."""
    sections = ["# Table III of the quaternion paper on a GPU", _GPU_METHOD]
    for runtime, precision in dict.fromkeys((way.runtime, way.precision) for way in WAYS["gpu"]):
        sections += [f"## {runtime}, {precision}", "\n".join(_gpu_table(rows, runtime, precision))]
    return "\n\n".join([*sections, _described(rows)]) + "\n"


_GPU_METHOD = """Written by `python benchmarks/table3.py --target gpu`. Measured: windows of 10 s, random weights, each
network in turns with CNN14 in the same runtime, precision and batch; the copies between the computer's memory and the
GPU's are in the time. In brackets the ratio to CNN14's. *block* is one real convolution a quaternion layer, *fast* the
same in half the multiplications. Published: seconds for 1,000 clips of 30 s on a GeForce RTX 2070 Max-Q (in brackets
over CNN14's)."""


def _gpu_table(rows: Mapping[str, Any], runtime: str, precision: str) -> Iterator[str]:
    ways = [(lowering, Way(runtime, precision, batch)) for batch in (1, 64) for lowering in (BLOCK, FAST)]
    head = ["network", *(f"{lowering}, batch {way.batch}, ms" for lowering, way in ways), "published s"]
    yield _line(head)
    yield _line(["---"] + ["---:"] * (len(head) - 1))
    for network, (title, _, seconds, *_) in ROWS.items():
        found = (rows.get(way.key(File(network, lowering, Path(), Path()))) for lowering, way in ways)
        cells = [f"{row['latency_ms']['p50']:.3g} ({row['ratio']['ratio']:.2f})" if row else "" for row in found]
        yield _line([title, *cells, f"{seconds:.2f} ({seconds / ROWS[BASE][2]:.2f})"])


_METHOD = """Written by `python benchmarks/table3.py`. Measured: float32, batch 1, one thread of onnxruntime, one window
of 10 s, random weights; each network in turns with CNN14, and the ratio of their times with its 95 % interval. *block*
is one real convolution a quaternion layer, *fast* the same in half the multiplications. Published: seconds for 1,000
clips of 30 s on a GeForce RTX 2070 Max-Q (in brackets over CNN14's), energy in 1e-4 kWh, CO2 in 1e-4 kg, mAP on
AudioSet. Energy is not measured here: the machine has no sensor for it."""

_FINDINGS = """On the paper's GPU QCNN14 took 1.42 times as long as CNN14; its code builds the block of each Hamilton
product anew in every forward pass, which is likely why. Lowered once, block form costs what the real network of its
width costs, and fast form little more than half of it. The paper prunes the last layers: QCNN14 gains much by it,
QResNet38, whose MACs lie in the stages before, little."""


_HEAD = (
    "network", "MACs", "block ms", "block / CNN14", "fast ms", "fast / CNN14",
    "published s", "published kWh", "published CO2", "published mAP",
)  # fmt: skip


def _table(rows: Mapping[str, Any]) -> Iterator[str]:
    yield _line(_HEAD)
    yield _line(["---"] + ["---:"] * (len(_HEAD) - 1))
    base_seconds = ROWS[BASE][2]
    for network, (title, precision, seconds, energy, carbon) in ROWS.items():
        cells = [title]
        block = rows.get(f"{network} {BLOCK}")
        cells.append(f"{block['macs'] / 1e9:.2f} G" if block else "")
        for lowering in (BLOCK, FAST):
            row = rows.get(f"{network} {lowering}")
            cells += [f"{row['latency_ms']['p50']:.0f}", _ratio(row)] if row else ["", ""]
        published = f"{seconds:.2f} ({seconds / base_seconds:.2f})"
        yield _line([*cells, published, f"{energy:.1f}", f"{carbon:.1f}", f"{precision:.3f}"])


def _ratio(row: Mapping[str, Any]) -> str:
    ratio = row["ratio"]
    return f"{ratio['ratio']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def _described(rows: Mapping[str, Any]) -> str:
    """Where and when, and what may have disturbed it, each network for itself."""
    lines = ["## Where and when", ""]
    where = {json.dumps([row["date"], row["runtime"], row["machine"]]): None for row in rows.values()}
    for one in where:
        date, runtime, described = json.loads(one)
        lines.append(f"- {date}, {runtime}: {', '.join(f'{key} {value}' for key, value in described.items())}")
    for key, row in rows.items():
        conditions = row["conditions"]
        disturbed = machine.disturbances(conditions["before"], conditions["after"], row["machine"]["cores"])
        lines += [f"- {key}: {line}" for line in disturbed]
    return "\n".join(lines)


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
