"""From a model to a smaller one: what `edgeq prune` does."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq import bundle, fresh, goldens, manifest, zoo
from edgeq.bundle import WEIGHTS, Bundle
from edgeq.compress import importance
from edgeq.compress import prune as pruning
from edgeq.compress.distill import TUNING_RATE
from edgeq.compress.prune import Change
from edgeq.corpora import Corpus, Fault
from edgeq.errors import InputError
from edgeq.nets import arrays
from edgeq.nets.count import Count, count, totals
from edgeq.nets.spec import ArchitectureSpec, EnsembleSpec
from edgeq.runtime.torch import network
from edgeq.training import result
from edgeq.training.config import FitConfig
from edgeq.training.session import corpus_at, maps, session, sound
from edgeq.training.trial import train_on

if TYPE_CHECKING:
    from torch import nn

EPOCHS = 120
"""How long fine-tuning lasts where nothing else is asked for."""


@dataclass(frozen=True, eq=False)
class Pruned:
    """A smaller model: its bundle, the layers that changed, and what the network cost before and costs now.

    left_out: recordings that it was not fine-tuned on, as they cannot be used.
    """

    bundle: Bundle
    changes: tuple[Change, ...]
    before: Count
    after: Count
    left_out: tuple[Fault, ...] = ()

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
            **result.told(self.left_out),
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
    data: str | Path | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    threads: int = 2,
) -> Pruned:
    """Prune a model and write the smaller one as a bundle: as it is, or fine-tuned on the recordings in `data`.

    model: zoo name, bundle folder, or architecture name (random weights). output: by default build/<name>-pruned;
    the smaller model is called as its folder is.
    method: of `importance.METHODS`. ratio, sites: as `prune.ratios` takes them. round_to: as in `prune.prune`. seed: of
    the method random, and of fine-tuning. Provenance says which filters of the model were kept.
    Without data, activation ranges come from synthetic sounds, goldens are chosen anew, and nobody has measured the
    accuracy. With it, the smaller network is trained on, by default for EPOCHS at TUNING_RATE and otherwise by the
    defaults of FitConfig, and ranges, goldens and metrics come from that; log-mel maps and the checkpoint from which a
    killed run goes on are kept in the folder `training` beside output.
    Raises InputError where the model's labels are not those of the recordings, and as `zoo.find`, `prune.ratios`,
    `prune.prune`, `corpus_at`, `session.sound`, `fit` and `bundle.write` do.
    """
    with tempfile.TemporaryDirectory(prefix="edgeq-") as scratch:
        source = fresh.write(str(model), Path(scratch) / "fresh") if zoo.is_architecture(model) else zoo.find(model)
        if isinstance(source.architecture, EnsembleSpec):
            raise InputError(f"{source.name}: an ensemble; prune its members, then: edgeq ensemble MODEL...")
        corpus = None if data is None else corpus_at(data)
        left_out: tuple[Fault, ...] = ()
        if corpus is not None:
            result.check_labels(source.name, source.labels, corpus)
            corpus, left_out = sound(corpus, source.frontend, FitConfig.speeds)
        destination = Path(output) if output else Path("build") / f"{source.name}-pruned"
        name = manifest.checked_name(destination.resolve().name)
        if destination.resolve() == source.folder.resolve():
            raise InputError(f"{destination}: is the model itself; choose another folder with -o")
        bundle.check_place(destination)
        scores = importance.named(method, seed)
        before = network(source)
        chosen = pruning.ratios(before, source.architecture, method, sites, ratio)
        smaller, architecture, changes = pruning.prune(before, source.architecture, chosen, scores, round_to)
        told = {
            "pruned": {
                "from": source.name,
                "weights_sha256": source.files[WEIGHTS].sha256,
                "method": method,
                "seed": seed,
                "round_to": round_to,
                "ratios": chosen,
                "kept": {change.layer: list(change.kept) for change in changes},
            },
            "parent": dict(source.provenance),
        }
        made = _Made(destination, name, source, smaller, architecture, told)
        if corpus is None:
            written = _as_it_is(made)
        else:
            config = FitConfig(
                EPOCHS if epochs is None else epochs,
                learning_rate=TUNING_RATE if learning_rate is None else learning_rate,
                crop_seconds=(source.frontend.window_seconds,),
            )
            written = _fine_tuned(made, corpus, config, seed, threads, left_out)
    frontend = source.frontend
    return Pruned(written, changes, count(source.architecture, frontend), count(architecture, frontend), left_out)


@dataclass(frozen=True, eq=False)
class _Made:
    """A network that was pruned from `source`, before it is a bundle; told: what that will say of its making."""

    destination: Path
    name: str
    source: Bundle
    network: nn.Module
    architecture: ArchitectureSpec
    told: Mapping[str, Any]


def _as_it_is(made: _Made) -> Bundle:
    architecture, source = made.architecture, made.source
    ranges, answers = fresh.synthetic(made.network, architecture, source.frontend, made.name)
    if source.goldens().gate == goldens.TOP1:
        answers = goldens.choose(partial(arrays.probabilities, made.network, architecture.output), source.frontend)
    return bundle.write(
        made.destination,
        name=made.name,
        architecture=architecture,
        frontend=source.frontend,
        labels=source.labels,
        weights=arrays.weights(made.network),
        ranges=ranges,
        goldens=answers,
        decision=source.decision.without_events(),
        provenance={**made.told, "ranges": "synthetic sounds", "edgeq": version("edgeq")},
        licence=source.licence,
        metrics=totals(architecture, source.frontend),
    )


def _fine_tuned(
    made: _Made, corpus: Corpus, config: FitConfig, seed: int, threads: int, left_out: Sequence[Fault]
) -> Bundle:
    work, source = made.destination.parent / "training", made.source
    heard, clips = maps(corpus, source.frontend, config, work), range(len(corpus.clips))
    checkpoint = work / f"{made.destination.name}.checkpoint"
    of = corpus, heard, clips, made.architecture, source.frontend, config, seed, checkpoint
    with session(made.name, config, threads) as on_progress:
        trained = train_on(*of, on_progress, start=made.network)
    provenance = {
        **made.told,
        "fine_tuned": {"epochs": config.epochs, "learning_rate": config.learning_rate},
        **result.provenance(corpus, config, seed, threads, left_out),
    }
    written, _ = result.write(
        made.destination,
        made.name,
        trained,
        corpus,
        heard,
        provenance,
        source.licence,
        decision=source.decision.without_events(),
    )
    checkpoint.unlink(missing_ok=True)
    return written
