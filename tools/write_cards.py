"""Write the card of every zoo model, the credits of the recordings they were trained on, and the README's table.

    python tools/write_cards.py --data ../shared/data/esc10

Every figure in a card comes from the model's bundle.json, cross_validation.json or recipe.toml.
"""

from __future__ import annotations

import argparse
import csv
import json
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from edgeq import atomic, bundle, catalogue, inspection, zoo
from edgeq.bundle import Bundle
from edgeq.training import recipe as recipes

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
TABLE_BEGIN, TABLE_END = "<!-- zoo: written by tools/write_cards.py -->", "<!-- zoo ends -->"

WHAT = {
    "esc10-tiny": "The strong small network, real: five convolutions, mean-and-max head.",
    "esc10-tiny-kd": "esc10-tiny taught by the mean of three of its kind, and a window every 0.3 s, which keeps a "
    "second of sound below 30 M MACs.",
    "esc10-qtiny": "The quaternion twin of esc10-tiny: the same widths from a quarter of the stored weights.",
    "esc10-qtiny-p50": "esc10-qtiny without half of the filters of its last two convolutions.",
    "esc10-qmini": "esc10-qtiny with narrower last layers: about as few weights as esc10-qnano, and most of the MACs.",
    "esc10-qnano": "Half the widths of esc10-qtiny.",
    "esc10-dcase22": "The low-complexity CNN of the DCASE 2022 paper, unpruned, on ESC-10.",
    "esc10-dcase22-ensemble": "The ensemble of the DCASE 2022 paper, on ESC-10: six pruned networks in one graph, and "
    "the mean of their probabilities.",
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
    columns = ("model", "made by", "accuracy", "parameters stored", "lowered", "MACs of a window", "INT8 file")
    lines = ["| " + " | ".join(columns) + " |", "|---|---|---|---:|---:|---:|---:|"]
    for row in (row for row in catalogue.listing() if row["kind"] == "zoo" and (MODELS / row["name"]).is_dir()):
        accuracy = row["accuracy"]
        interval = f"{accuracy['mean']:.1%} ({accuracy['low']:.1%} to {accuracy['high']:.1%})"
        link = f"[{row['name']}](models/{row['name']}/README.md)"
        counts = " | ".join(f"{row[key]:,}" for key in ("stored", "lowered", "macs"))
        lines.append(
            f"| {link} | {_made_by(zoo.find(row['name']))} | {interval} | {counts} | {row['int8_bytes']:,} bytes |"
        )
    return "\n".join(lines) + "\n"


def _made_by(model: Bundle) -> str:
    """The stages of its recipe in a few words."""
    told = model.provenance
    steps = ["training"]
    if members := told.get("members"):
        steps = [f"pruning one network in {len(members)} ways", "merging"]
    elif "pruned" in told:
        steps.append("pruning")
    if "distilled" in told:
        steps.insert(len(steps) - bool(members), f"learning from {_teachers(told['distilled'])}")
    return ", ".join(steps)


def _teachers(distilled: dict[str, Any]) -> str:
    """Names of the teachers, those that come several times with how often."""
    times = Counter(teacher["name"] for teacher in distilled["teachers"])
    return ", ".join(f"{count} times {name}" if count > 1 else name for name, count in times.items())


def _making(model: Bundle) -> list[str]:
    """How a model came to be, where there is more to tell than that it was trained."""
    told, recipe = model.provenance, recipes.read(model.folder / "recipe.toml")
    if not any(key in told for key in ("pruned", "distilled", "members")):
        return []
    sentences = []
    if pruned := told.get("pruned"):
        widths = ", ".join(map(str, pruned["widths"]))
        sites = ", ".join(pruned["sites"]) or "every convolution"
        ratio = "" if pruned["ratio"] is None else f", ratio {pruned['ratio']:g}"
        what = f"in {len(told['members'])} ways" if "members" in told else f"at {sites}{ratio}"
        steps = f", in {pruned['steps']} steps" if pruned["steps"] > 1 else ""
        sentences.append(
            f"A network of widths {widths} was trained for {recipe.fit.epochs} epochs and pruned {what} by "
            f"{_words(pruned['method'].replace('-', '_'))}{steps}."
        )
    if recipe.fine_tune:
        who = "each member" if recipe.members else "it"
        tune = recipe.fine_tune
        sentences.append(f"Then {who} was trained on for {tune.epochs} epochs at a rate of {tune.learning_rate:g}.")
    if distilled := told.get("distilled"):
        sentences.append(
            f"It was taught by {_teachers(distilled)} (share of the labels {distilled['alpha']:g}, temperature "
            f"{distilled['temperature']:g}), trained on the same clips."
        )
    if "members" in told:
        sentences.append("The members hear one input; the answer is the mean of their probabilities.")
    return ["## How it was made", "", _paragraph(*sentences), ""]


def _members(model: Bundle, measured: dict[str, Any]) -> list[str]:
    """What each member of an ensemble does alone and adds."""
    found = measured["members"]

    def spread(value: dict[str, Any], sign: str = "") -> str:
        low, high = value["over_seeds"]
        return f"{value['mean']:{sign}.1%} ({low:{sign}.1%} to {high:{sign}.1%})"

    rows = [
        f"| {member['name']} | {'-'.join(map(str, member['widths'][:-1]))} | "
        + " | ".join(spread(found["each"][member["name"]][key]) for key in ("accuracy", "without"))
        + f" | {spread(found['each'][member['name']]['gain'], '+')} |"
        for member in model.provenance["members"]
    ]
    spreads = [one["gain"]["over_seeds"] for one in found["each"].values()]
    clear = [one for one in spreads if not one[0] <= 0 <= one[1]]
    return [
        "",
        _paragraph(
            f"The members alone, INT8: mean {spread(found['mean_accuracy'])}, best {found['best']['name']}",
            f"{spread(found['best'])}; in brackets the 95 % interval over seeds (Student). What the ensemble would be",
            "without each, and what each adds, are of the mean of the members' INT8 clip probabilities, which for all",
            f"of them is right on {spread(found['accuracy_of_mean'])}.",
            *(["No member's gain stands clear of what the seeds leave open."] if not clear else []),
        ),
        "",
        "| member | widths | accuracy alone | ensemble without it | gain |",
        "|---|---|---:|---:|---:|",
        *rows,
    ]


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
            *_making(model),
            "## What it costs",
            "",
            *_costs(model),
            "",
            "## How well it does",
            "",
            *_accuracy(measured),
            *(_members(model, measured) if "members" in measured else []),
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
        *(_size(model, stage) for stage in model.exports),
    ]
    return ["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)]


def _size(model: Bundle, stage: str) -> tuple[str, str]:
    """Of a stage's file, or of the files in its folder."""
    sizes = [model.files[path].bytes for path in model.exported_files(stage)]
    what = "file" if len(sizes) == 1 else f"folder, {len(sizes)} files"
    return f"{stage} {what}", f"{sum(sizes):,} bytes"


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
