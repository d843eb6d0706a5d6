"""lowering.json as a page and as a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

TITLES = {
    "cnn14-4ch": "CNN14, 4 channels",
    "qcnn14-block": "QCNN14, block",
    "qcnn14-fast": "QCNN14, fast",
    "qcnn14-p50-block": "QCNN14 p=.5, block",
    "qcnn14-p50-fast": "QCNN14 p=.5, fast",
}
RATIOS = {
    "fast / block": ("qcnn14-fast", "qcnn14-block"),
    "fast / CNN14": ("qcnn14-fast", "cnn14-4ch"),
    "block / CNN14": ("qcnn14-block", "cnn14-4ch"),
    "p=.5 fast / block": ("qcnn14-p50-fast", "qcnn14-p50-block"),
    "p=.5 fast / CNN14": ("qcnn14-p50-fast", "cnn14-4ch"),
}
NAMES = {
    "onnxruntime": "onnxruntime",
    "litert": "LiteRT (XNNPACK)",
    "openvino": "OpenVINO",
    "torch": "torch",
    "torch-compile": "torch.compile",
}
COLOURS = ("#7f7f7f", "#56b4e9", "#0072b2", "#e69f00", "#d55e00")
FILES = {
    "cnn14-4ch": "CNN14, 4 channels",
    "qcnn14-block": "QCNN14 block, expanded",
    "qcnn14-block-compact": "QCNN14 block, compact",
    "qcnn14-fast": "QCNN14 fast, expanded",
    "qcnn14-fast-compact": "QCNN14 fast, compact",
    "qcnn14-p50-block-compact": "QCNN14 p=.5 block, compact",
    "qcnn14-p50-fast-compact": "QCNN14 p=.5 fast, compact",
}


def page(results: Mapping[str, Any]) -> str:
    """Everything in lowering.json as Markdown."""
    runs = _runs(results)
    sections = ["# Lowerings of the papers' networks, timed whole", _METHOD, _FINDINGS]
    if runs:
        sections += [
            "## Times",
            "Milliseconds of one inference, median over rounds.",
            _table(["runtime", "threads", *TITLES.values()], (_times(run) for run in runs)),
            "## Ratios",
            "Medians of ratios in one round, by the clock, and in brackets by the process's CPU time.",
            _table(["runtime", "threads", *RATIOS], (_ratios(run) for run in runs)),
            "## Differences of outputs",
            "Relative L2 distance: of the fast form's probabilities to the block form's in the same runtime, and of "
            "the logits to those of the network in torch, with its Hamilton products.",
            _table(
                ["runtime", "threads", "QCNN14 fast - block", "p=.5 fast - block", "block - torch", "fast - torch"],
                (_differences(run) for run in runs),
            ),
        ]
    if "files" in results:
        sections += ["## Files", _FILES, _table(_FILE_COLUMNS, map(_file, _ordered(results["files"]["rows"])))]
    sections += ["## Where and when", *_described(results)]
    return "\n\n".join(sections) + "\n"


def plot(results: Mapping[str, Any], path: Path) -> None:
    """Times by runtime, a panel for each number of threads; over the fast bars the ratio to the block form's."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "edgeq", "svg.fonttype": "none", "font.size": 9})
    import matplotlib.pyplot as plt

    runs = _runs(results)
    counts = sorted({run["threads"] for run in runs})
    if not counts:
        return
    figure, panels = plt.subplots(len(counts), 1, figsize=(9, 3.4 * len(counts)), squeeze=False)
    most = max(sum(run["threads"] == threads for run in runs) for threads in counts)
    for panel, threads in zip(panels[:, 0], counts, strict=True):
        shown = [run for run in runs if run["threads"] == threads]
        for number, (name, title) in enumerate(TITLES.items()):
            places = np.arange(len(shown)) + (number - 2) * 0.17
            bars = panel.bar(places, [_median(run, name) for run in shown], 0.16, color=COLOURS[number], label=title)
            if name.endswith("-fast"):
                ratios = [f"{_ratio(run, name, name.replace('-fast', '-block'))[0]:.2f}" for run in shown]
                panel.bar_label(bars, ratios, padding=1, fontsize=8)
        panel.set_xticks(np.arange(len(shown)), [NAMES[run["runtime"]] for run in shown])
        panel.set_xlim(-0.6, most - 0.4)
        panel.set_title(f"{threads} thread{'s' if threads > 1 else ''}", loc="left")
        panel.set_ylabel("ms an inference")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(ncols=3, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)
    figure.suptitle("One 10-s window, float32, batch 1; over fast: its ratio to block", x=0.01, ha="left", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


_METHOD = """Written by `python benchmarks/lowering.py`. Float32, batch 1, one 10-s window of 4 x 64 x 1001, a synthetic
sound through the front end. Weights are random; batch norm has gains other than 1, and the statistics of that sound.
*block* is one real convolution a quaternion layer; *fast* is the 8-multiplication form of all layers but the first, in
the style that the runtime likes (differences as depthwise convolutions in onnxruntime, as SUB elsewhere). CNN14 has 4
input channels and the same widths. In each runtime's process all networks take turns in an order that changes from
round to round, three inferences a turn, of which the median counts. torch runs the same graph (`GraphModule`), eagerly
and channels last, or compiled with frozen constants; OpenVINO is held to float32."""

_FINDINGS = """What to take from it:

- Fast takes about half the time of block, and of a real CNN14 of the same width, which costs what block costs: QCNN14
  is not slower than CNN14, as on the quaternion paper's GPU (1.42 times, Table III), but faster. The convolutions'
  multiplications halve, sums and differences come on top; that torch comes out below half says that it runs the
  large convolutions at a lower pace than the small ones. Pruned by half (p=.5) and fast it takes about a third of
  CNN14's time (0.65 times in that table).
- The smallest file need not be slow: the compact fast file is as quick as the expanded one and loads faster than block.
  The compact block file takes half as long again to load, then runs as the expanded one does.
- Two threads change little; onnxruntime gains less on them. Each line below says how busy the machine was: torch's
  threads wait for each other by spinning, and on a busy machine their times mean nothing."""

_FILES = """ONNX files, and what onnxruntime takes to make each ready on one thread: medians of processes that take
turns. Peak: how far loading goes beyond the most that importing the packages had taken. A compact file stores r, i, j
and k once and is expanded as it is loaded; never pass one through onnxsim."""

_FILE_COLUMNS = ["file", "MB", "load s", "load CPU s", "peak MB while loading", "run CPU ms"]


def _runs(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = [value for value in results.values() if isinstance(value, dict) and "wall_ms" in value]
    return sorted(found, key=lambda run: (run["threads"], list(NAMES).index(run["runtime"])))


def _median(run: Mapping[str, Any], name: str) -> float:
    return float(np.median(run["wall_ms"][name]))


def _ratio(run: Mapping[str, Any], one: str, other: str) -> tuple[float, float]:
    """Medians of the ratios in each round, by the clock and by CPU time."""
    pairs = (np.divide(run[kind][one], run[kind][other]) for kind in ("wall_ms", "cpu_ms"))
    wall, cpu = (float(np.median(ratios)) for ratios in pairs)
    return wall, cpu


def _times(run: Mapping[str, Any]) -> list[str]:
    return [NAMES[run["runtime"]], str(run["threads"]), *(f"{_median(run, name):.0f}" for name in TITLES)]


def _ratios(run: Mapping[str, Any]) -> list[str]:
    found = (_ratio(run, *pair) for pair in RATIOS.values())
    return [NAMES[run["runtime"]], str(run["threads"]), *(f"{wall:.2f} [{cpu:.2f}]" for wall, cpu in found)]


def _differences(run: Mapping[str, Any]) -> list[str]:
    found = run["relative_l2"]
    values = (
        found["qcnn14-fast"]["block"],
        found["qcnn14-p50-fast"]["block"],
        found["qcnn14-block"]["network"],
        found["qcnn14-fast"]["network"],
    )
    return [NAMES[run["runtime"]], str(run["threads"]), *(f"{value:.1e}" for value in values)]


def _ordered(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: list(FILES).index(row["file"]))


def _file(row: Mapping[str, Any]) -> list[str]:
    return [
        FILES[row["file"]],
        f"{row['bytes'] / 1e6:.1f}",
        f"{row['load_s']:.2f}",
        f"{row['load_cpu_s']:.2f}",
        f"{row['load_peak_mb']:.0f}",
        f"{row['run_cpu_ms']:.0f}",
    ]


def _described(results: Mapping[str, Any]) -> list[str]:
    lines = []
    for run in _runs(results):
        before, after = run["load_average"]
        lines.append(
            f"{NAMES[run['runtime']]} {run['version']}, {run['threads']} thread(s): {run['rounds']} rounds on "
            f"{run['date']}, load average {before} before and {after} after"
        )
    machines = {tuple(run["machine"].items()) for run in _runs(results)}
    lines += [", ".join(f"{key} {value}" for key, value in machine) for machine in sorted(machines)]
    return ["\n".join(f"- {line}" for line in lines)] if lines else []


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
