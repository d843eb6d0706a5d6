"""Training that starts from a trained network: on its own task, or with another classifier on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from edgeq.audio.frontend import FrontendSpec
from edgeq.audio.maps import logmel_spec
from edgeq.bundle import Bundle
from edgeq.corpora import Corpus
from edgeq.corpora.clips import Clips
from edgeq.corpora.trained import trained_on
from edgeq.errors import InputError
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec
from edgeq.runtime.torch import network
from edgeq.training.tables import Recipe


def architecture(recipe: Recipe, opened: Bundle, labels: Sequence[str]) -> ArchitectureSpec:
    """What the network of a bundle becomes where a recipe starts from it, for a corpus with these labels.

    Raises InputError where the bundle's is not the recipe's architecture, its labels are other ones and the recipe
    keeps its classifier, or as `registry.with_transfer_head`.
    """
    assert recipe.start is not None  # asked for only where the recipe starts from a bundle
    found, asked = opened.architecture, recipe.architecture
    if not isinstance(found, ArchitectureSpec) or _body(found) != _body(asked):
        raise InputError(
            f"start.model {opened.name}: {found}, (components, mels) {found.input_shape[:2]}: expected {asked}, "
            f"{asked.input_shape[:2]}; give architecture, and widths, as the model has them"
        )
    if recipe.start.head == "own" and tuple(labels) != opened.labels:
        raise InputError(
            f"start.model {opened.name}: has {len(opened.labels)} labels of its own, the corpus {len(labels)}: "
            'expected the same, in one order; start.head = "new" gives it another classifier'
        )
    if recipe.start.head == "transfer":
        return registry.with_transfer_head(asked.with_classes(found.classes), len(labels))
    return asked.with_classes(len(labels))


def check_unheard(opened: Bundle, corpus: Corpus, clips: Sequence[int]) -> None:
    """Raises InputError where a bundle says that it was trained on clips of a corpus that are not among these."""
    heard = np.setdiff1d(trained_on(opened.provenance, corpus).rows, Clips.of(corpus.subset(clips).clips).rows)
    if len(heard):
        raise InputError(
            f"start.model {opened.name}: was trained on {len(heard)} of the clips held out from this training, and "
            "would know them; start from one that was not"
        )


def begun(recipe: Recipe, opened: Bundle, architecture: ArchitectureSpec, seed: int) -> tuple[nn.Module, FrontendSpec]:
    """The network that training starts from, and the recipe's front end with the normalisation it was trained under.

    architecture: see there. A new classifier is drawn from the seed; a batch norm of mels has the statistics of the
    task before. Raises InputError where the bundle was trained on another log-mel.
    """
    assert recipe.start is not None  # as above
    spec = recipe.frontend
    if logmel_spec(replace(opened.frontend, window_seconds=spec.window_seconds, pad=spec.pad)) != logmel_spec(spec):
        raise InputError(f"start.model {opened.name}: was trained on another log-mel; give [frontend] as it has it")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % (1 << 63))  # torch takes no larger ones
        started = registry.build(architecture)
    taken = network(opened).state_dict()
    if recipe.start.head == "new":
        taken = {name: tensor for name, tensor in taken.items() if "classifier." not in name}
    elif recipe.start.head == "transfer":
        taken = {name.replace("head.classifier.", "head.tags."): tensor for name, tensor in taken.items()}
    missing, unexpected = started.load_state_dict(taken, strict=False)
    assert not unexpected and all("classifier." in name for name in missing), (missing, unexpected)
    return started, replace(spec, mean=opened.frontend.mean, std=opened.frontend.std)


def _body(spec: ArchitectureSpec) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    return spec.family, spec.widths, spec.input_shape[:2]
