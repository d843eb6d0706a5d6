"""Write the card of every zoo model, the credits of the recordings they were trained on, and the README's table.

    python tools/write_cards.py --data ../shared/data/esc10

Every figure in a card comes from the model's bundle.json or cross_validation.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import textwrap
from pathlib import Path
from typing import Any

from edgeq import atomic, bundle, catalogue, inspection
from edgeq.bundle import Bundle

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
TABLE_BEGIN, TABLE_END = "<!-- zoo: written by tools/write_cards.py -->", "<!-- zoo ends -->"

WHAT = {
    "esc10-tiny": "The strong small network, real: five convolutions, mean-and-max head.",
    "esc10-qtiny": "The quaternion twin of esc10-tiny: the same widths from a quarter of the stored weights.",
    "esc10-qnano": "Half the widths of esc10-qtiny.",
    "esc10-dcase22": "The low-complexity CNN of the DCASE 2022 paper, unpruned, on ESC-10.",
    "esc10-qdcase22": "The quaternion twin of esc10-dcase22; its first dense layer is quaternion too.",
}

CREDITS_HEAD = """# Credits

The zoo's models were trained on ESC-10, folds 1 to 4, less the two clips under CC Sampling+.

ESC-10 is published under [CC BY 3.0](https://creativecommons.org/licenses/by/3.0/). Cite: K. J. Piczak, "ESC: Dataset
for Environmental Sound Classification", Proceedings of the ACM International Conference on Multimedia, 2015,
doi:10.1145/2733373.2806390. The recordings come from freesound.org; no audio is part of this project. Clip, licence,
source:

"""


def main() -> None:
    parser = argparse.ArgumentParser(description="write the cards of the zoo")
    parser.add_argument("--data", type=Path, required=True, help="the ESC-10 folder, for the credits")
    data = parser.parse_args().data
    atomic.write_text(MODELS / "CREDITS.md", CREDITS_HEAD + _credits(data / "meta.csv"))
    for folder in sorted(path.parent for path in MODELS.glob("*/bundle.json")):
        measured = json.loads((folder / "cross_validation.json").read_text(encoding="utf-8"))
        atomic.write_text(folder / "README.md", _card(bundle.read(folder), measured))
        print(folder / "README.md")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, _, rest = readme.partition(TABLE_BEGIN)
    _, _, after = rest.partition(TABLE_END)
    atomic.write_text(ROOT / "README.md", "".join((before, TABLE_BEGIN, "\n", _table(), TABLE_END, after)))


def _table() -> str:
    columns = ("model", "accuracy", "parameters stored", "lowered", "MACs of a window", "INT8 file")
    lines = ["| " + " | ".join(columns) + " |", "|---|---|---:|---:|---:|---:|"]
    for row in (row for row in catalogue.listing() if row["kind"] == "zoo" and (MODELS / row["name"]).is_dir()):
        accuracy = row["accuracy"]
        interval = f"{accuracy['mean']:.1%} ({accuracy['low']:.1%} to {accuracy['high']:.1%})"
        link = f"[{row['name']}](models/{row['name']}/README.md)"
        counts = " | ".join(f"{row[key]:,}" for key in ("stored", "lowered", "macs"))
        lines.append(f"| {link} | {interval} | {counts} | {row['int8_bytes']:,} bytes |")
    return "\n".join(lines) + "\n"


def _credits(meta: Path) -> str:
    with meta.open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["clip_licence"] != "CC-Sampling+"]
    sources = (row["clip_source"].removeprefix("clip derived from ") for row in rows)
    lines = (
        f"- {Path(row['file']).stem}, {row['clip_licence']}: {source}"
        for row, source in zip(rows, sources, strict=True)
    )
    return "\n".join(lines) + "\n"


def _card(model: Bundle, measured: dict[str, Any]) -> str:
    return "\n".join(
        [
            f"# {model.name}",
            "",
            _paragraph(
                WHAT[model.name],
                f"It tells ten environmental sounds apart: {', '.join(_words(label) for label in model.labels)}.",
            ),
            "",
            "## What it costs",
            "",
            *_costs(model),
            "",
            "## How well it does",
            "",
            *_accuracy(measured),
            "",
            "## What it takes",
            "",
            *_input(model),
            "",
            "## What it cannot do",
            "",
            *_limits(measured),
            "",
            "## Data, licence, credits",
            "",
            _paragraph(
                f"Licence of the weights: {model.licence}.",
                "Recordings: ESC-10 (CC BY 3.0), credited one by one in [CREDITS.md](../CREDITS.md).",
                "How it was trained: [recipe.toml](recipe.toml); seed, versions and the hash of the data:",
                "`provenance` in bundle.json. The published weights come from one training on all four folds; the",
                "accuracies above come from trainings that each left one fold out",
                "([cross_validation.json](cross_validation.json)).",
            ),
            "",
        ]
    )


def _costs(model: Bundle) -> list[str]:
    report = inspection.inspect(str(model.folder))
    parameters, macs = report["parameters"], report["macs"]
    window = model.frontend.window_seconds
    rows = [
        ("parameters, batch-norm statistics counted", f"{parameters['with_statistics']:,}"),
        ("stored (batch norm folded, quaternion components once)", f"{parameters['stored']:,}"),
        ("lowered to real convolutions (what budgets judge)", f"{parameters['lowered']:,}"),
        (f"MACs of one inference ({window:g} s of audio), front end apart", f"{macs['network']:,}"),
        *((f"{stage} file", f"{model.files[path].bytes:,} bytes") for stage, path in model.exports.items()),
    ]
    return ["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)]


def _accuracy(measured: dict[str, Any]) -> list[str]:
    def line(name: str, value: dict[str, Any]) -> str:
        low, high = value["over_seeds"]
        return f"| {name} | {value['mean']:.1%} | {value['low']:.1%} to {value['high']:.1%} | {low:.1%} to {high:.1%} |"

    seeds = measured["per_seed"]
    each = ", ".join(f"{one['accuracy']:.2%}" for one in seeds.values())
    machine = measured["machine"]
    return [
        _paragraph(
            "Measured: cross-validated clip accuracy over folds 1 to 4 of ESC-10,",
            f"{measured['corpus']['clips']} clips, mean of {len(seeds)} seeds.",
        ),
        "",
        "| | accuracy | 95 % interval over clips (Wilson) | over seeds (Student) |",
        "|---|---:|---:|---:|",
        line("INT8", measured["accuracy"]),
        line("float", measured["accuracy_float"]),
        "",
        _paragraph(
            f"INT8 by seed: {each}{_coincidence(measured)}.",
            f"Float and INT8 give the same label on {measured['agreement']:.2%} of clips;",
            f"log loss {measured['log_loss_float']:.3f} float, {measured['log_loss_int8']:.3f} INT8. Each run:",
            f"{machine['processor']}, one thread, torch {measured['versions']['torch']}, {measured['precision']},",
            f"{measured['cpu_seconds_per_run']:.0f} CPU seconds.",
        ),
        "",
        _paragraph(
            "By class, INT8:",
            ", ".join(f"{_words(name)} {value:.0%}" for name, value in _by_class(measured)) + ".",
        ),
    ]


def _coincidence(measured: dict[str, Any]) -> str:
    seeds = list(measured["per_seed"].values())
    alike = len({one["accuracy"] for one in seeds}) == 1 and len({str(one["folds"]) for one in seeds}) > 1
    return " (equal by chance: fold by fold they differ)" if alike else ""


def _input(model: Bundle) -> list[str]:
    spec = model.frontend
    derivatives = {
        "none": "",
        "time": " and its first three time derivatives (quaternion paper, Eq. 8)",
        "power-frequency": " and three deltas over the bins of its spectrogram (the quaternion paper's public code)",
    }[spec.derivatives]
    return [
        _paragraph(
            f"Log-mel{derivatives}: {spec.sample_rate:,} Hz, STFT {spec.n_fft}, hop {spec.hop_length},",
            f"{spec.n_mels} mels from {spec.fmin:g} to {spec.fmax:g} Hz; windows of {spec.window_seconds:g} s",
            f"({spec.window_frames} frames) every {spec.window_hop_seconds:g} s.",
            "All of it is in bundle.json and in the files' metadata.",
            "A clip's score is the mean over its windows that are not gated as silence, over all where every one is.",
        )
    ]


def _limits(measured: dict[str, Any]) -> list[str]:
    weakest = [_words(name) for name, _ in _by_class(measured)[-2:]]
    return [
        "- It always answers with one of its ten classes: it knows no other sound, and no threshold was fitted.",
        f"- It is weakest on {weakest[0]} and {weakest[1]}.",
        f"- It was trained on {measured['corpus']['clips']} clean five-second clips from one web site: other",
        "  microphones, rooms, distances and overlapping sounds were not measured.",
        "- A single window is less sure than a clip; the accuracies above are of clips of five seconds.",
    ]  # fmt: skip


def _by_class(measured: dict[str, Any]) -> list[tuple[str, float]]:
    return sorted(measured["per_class"].items(), key=lambda item: -item[1])


def _paragraph(*pieces: str) -> str:
    return textwrap.fill(" ".join(pieces), 120, break_long_words=False, break_on_hyphens=False)


def _words(label: str) -> str:
    return label.replace("_", " ")


if __name__ == "__main__":
    main()
