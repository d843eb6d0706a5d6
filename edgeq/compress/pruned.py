"""From a model to a smaller one: what `edgeq prune` does."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgeq import bundle, fresh, goldens, zoo
from edgeq.bundle import WEIGHTS, Bundle
from edgeq.compress import importance
from edgeq.compress import prune as pruning
from edgeq.compress.prune import Change
from edgeq.errors import InputError
from edgeq.nets import arrays
from edgeq.nets.count import Count, count, totals
from edgeq.nets.spec import EnsembleSpec
from edgeq.runtime.torch import network


@dataclass(frozen=True, eq=False)
class Pruned:
    """A smaller model: its bundle, the layers that changed, and what the network cost before and costs now."""

    bundle: Bundle
    changes: tuple[Change, ...]
    before: Count
    after: Count

    def to_json(self) -> dict[str, Any]:
        """The contract's keys; layers: those with weights that changed, narrower themselves or their input."""
        widths = {change.layer: [change.before, change.after] for change in self.changes}
        return {
            "bundle": str(self.bundle.folder),
            "name": self.bundle.name,
            "parameters": self.after.parameters,
            "macs": self.after.macs,
            "before": {"parameters": self.before.parameters, "macs": self.before.macs},
            "layers": [
                {
                    "name": old["name"],
                    "channels": widths.get(old["name"], [old["output_shape"][0]] * 2),
                    "parameters": [old["parameters"], new["parameters"]],
                    "macs": [old["macs"], new["macs"]],
                }
                for old, new in zip(self.before.layers, self.after.layers, strict=True)
                if old["macs"] != new["macs"]
            ],
            "metrics": dict(self.bundle.metrics),
        }


def run(
    model: str | Path,
    output: str | Path | None = None,
    *,
    method: str,
    ratio: float | None = None,
    sites: Sequence[str] = (),
    round_to: int = 1,
    seed: int = 0,
) -> Pruned:
    """Prune a model and write the smaller one, whose accuracy nobody has measured yet, as a bundle.

    model: zoo name, bundle folder, or architecture name (random weights). output: by default build/<name>-pruned.
    method: of `importance.METHODS`. ratio, sites: as `prune.ratios` takes them. round_to: as in `prune.prune`. seed: of
    the method random. Activation ranges come from synthetic sounds, and goldens are chosen anew; provenance says which
    filters of the model were kept.
    Raises InputError as `zoo.find`, `prune.ratios`, `prune.prune` and `bundle.write` do.
    """
    with tempfile.TemporaryDirectory(prefix="edgeq-") as scratch:
        source = fresh.write(str(model), Path(scratch) / "fresh") if zoo.is_architecture(model) else zoo.find(model)
        if isinstance(source.architecture, EnsembleSpec):
            raise InputError(f"{source.name}: an ensemble; prune its members, then: edgeq ensemble MODEL...")
        name = f"{source.name}-pruned"
        destination = Path(output) if output else Path("build") / name
        if destination.resolve() == source.folder.resolve():
            raise InputError(f"{destination}: is the model itself; choose another folder with -o")
        bundle.check_place(destination)
        scores = importance.named(method, seed)
        before = network(source)
        chosen = pruning.ratios(before, source.architecture, method, sites, ratio)
        smaller, architecture, changes = pruning.prune(before, source.architecture, chosen, scores, round_to)
        ranges, answers = fresh.synthetic(smaller, architecture, source.frontend, name)
        if source.goldens().gate == goldens.TOP1:
            answers = goldens.choose(partial(arrays.probabilities, smaller, architecture.output), source.frontend)
        written = bundle.write(
            destination,
            name=name,
            architecture=architecture,
            frontend=source.frontend,
            labels=source.labels,
            weights=arrays.weights(smaller),
            ranges=ranges,
            goldens=answers,
            decision=source.decision,
            provenance={
                "pruned": {
                    "from": source.name,
                    "weights_sha256": source.files[WEIGHTS].sha256,
                    "method": method,
                    "seed": seed,
                    "round_to": round_to,
                    "ratios": chosen,
                    "kept": {change.layer: list(change.kept) for change in changes},
                },
                "ranges": "synthetic sounds",
                "edgeq": version("edgeq"),
                "parent": dict(source.provenance),
            },
            licence=source.licence,
            metrics=totals(architecture, source.frontend),
        )
    frontend = source.frontend
    return Pruned(written, changes, count(source.architecture, frontend), count(architecture, frontend))
