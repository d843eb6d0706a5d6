"""Count the zoo's models on every target: golden counts for the tests, and the figures of the firmware notes.

    python tools/count_zoo.py

Run it after kernels, the compiler's version or the zoo have changed, and look at what changed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from edgeq import zoo
from edgeq.bench import run
from edgeq.cortexm import targets

ROOT = Path(__file__).resolve().parent.parent
COUNTS = ROOT / "tests" / "goldens" / "cortexm_counts.json"
NOTES = ROOT / "firmware_notes"
_FIGURES = re.compile(r"(<!-- figures: written by tools/count_zoo.py -->\n).*?(<!-- figures end -->)", re.DOTALL)


def main() -> None:
    names = [model.name for model in zoo.models() if "tflite-int8" in model.exports]
    reports = {name: run.bench(name, ",".join(targets.listed())).to_json() for name in names}
    COUNTS.write_text(json.dumps(counts(reports), indent=1) + "\n")
    for target in targets.listed():
        page = NOTES / f"{target}.md"
        rows = {name: next(one for one in found if one["target"] == target) for name, found in reports.items()}
        text, written = _FIGURES.subn(lambda found, rows=rows: found[1] + table(rows) + found[2], page.read_text())
        assert written == 1, f"{page}: has no place for figures"
        page.write_text(text)


def counts(reports: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What must not change unseen: by model and target, and the compiler that it holds for."""
    keys = ("instructions", "cycles", "flash_bytes", "ram_bytes")
    first = next(iter(reports.values()))[0]
    return {
        "compiler": first["machine"]["compiler"],
        "models": {
            name: {report["target"]: {key: report[key] for key in keys} for report in found}
            for name, found in reports.items()
        },
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """A table of Markdown: the zoo's models on one target."""
    kind = {report["kind"] for report in rows.values()}.pop()
    lines = [
        f"| model | latency, ms ({kind}) | energy, mJ (estimated) | cycles | cycles a MAC | flash | RAM |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, report in rows.items():
        latency, energy = report["latency_ms"], report["energy_mj"]
        lines.append(
            f"| {name} | {latency['low']:.3g} to {latency['high']:.3g} | {energy['low']:.2g} to {energy['high']:.2g} "
            f"| {report['cycles']:,} | {report['cycles_per_mac']:.2f} | {report['flash_bytes']:,} "
            f"| {report['ram_bytes']:,} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
