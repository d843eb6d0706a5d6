"""The stages of a recipe: train, prune, fine-tune, distil.

Every stage but the last is kept as a bundle in the folder `stages` of the work folder, by what it was made from: so a
killed chain goes on where it stood, and recipes that begin alike, or have one teacher, share it. Parents and teachers
are trained on the very clips that the last stage is, never on what is held out from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeq import bundle, zoo
from edgeq.bundle import WEIGHTS, Bundle
from edgeq.compress import importance
from edgeq.compress.distill import members, taught_by, teacher_of
from edgeq.compress.prune import prune, ratios
from edgeq.corpora import Corpus
from edgeq.errors import InputError, naming
from edgeq.manifest import MANIFEST
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec
from edgeq.nets.widths import narrowed
from edgeq.runtime.torch import network
from edgeq.training.augment import check_crops
from edgeq.training.config import FitConfig
from edgeq.training.recipe import Recipe
from edgeq.training.session import maps, session
from edgeq.training.trial import Trained, calibrate, train_on


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe.

    pruned: which step of pruning comes first, from 1; 0 for none. fit: how the network is then trained; None: not.
    taught: whether the recipe's teacher takes part.
    """

    fit: FitConfig | None
    pruned: int = 0
    taught: bool = False


@dataclass(frozen=True)
class Setting:
    """What all stages of a chain share: the corpus, which of its clips are trained on, where work is kept."""

    corpus: Corpus
    clips: Sequence[int]
    work: Path

    @property
    def whole(self) -> bool:
        """Whether nothing is held out."""
        return len(self.clips) == len(self.corpus.clips)

    @cached_property
    def digest(self) -> str:
        """sha256 of the clips trained on."""
        return replace(self.corpus, clips=tuple(self.corpus.clips[i] for i in self.clips)).hash


def stages(recipe: Recipe) -> tuple[Stage, ...]:
    """What a recipe does, in order.

    [fit]; then [prune] and [fine_tune] in as many stages as pruning has steps, which share the epochs. The teacher
    takes part in [fine_tune], or in [fit] where there is none.
    """
    taught, steps = recipe.teacher is not None, recipe.prune.steps if recipe.prune else 0
    if recipe.fine_tune is None:
        return Stage(recipe.fit, taught=taught), *(Stage(None, step) for step in range(1, steps + 1))
    parts = max(steps, 1)
    ends = [recipe.fine_tune.epochs * part // parts for part in range(parts + 1)]
    shares = [replace(recipe.fine_tune, epochs=ends[part + 1] - ends[part]) for part in range(parts)]
    return Stage(recipe.fit), *(Stage(fit, part + 1 if steps else 0, taught) for part, fit in enumerate(shares))


def check(recipe: Recipe, setting: Setting) -> None:
    """Raises InputError for what would stop the recipe only after hours: crops, what to prune, who teaches."""
    architecture = recipe.architecture.with_classes(len(setting.corpus.labels))
    with torch.random.fork_rng(devices=[]):
        origin = pruned = registry.build(architecture)
    lengths = sorted({length for stage in stages(recipe) if stage.fit for length in stage.fit.crop_seconds})
    check_crops(recipe.name, origin.eval(), recipe.frontend, lengths, architecture.classes)
    with naming(f"{recipe.name}, [prune]"):
        for step in range(1, 1 + (recipe.prune.steps if recipe.prune else 0)):
            pruned, architecture = _pruned(recipe, step, origin, pruned, architecture)
    if recipe.teacher is None:
        return
    if recipe.teacher.models and setting.whole:
        with naming(f"{recipe.name}, [teacher]"):
            members(_models(recipe), setting.corpus.labels, architecture.output, recipe.frontend)
    elif recipe.teacher.recipe is None:
        raise InputError(
            f"{recipe.name}: teacher.model {', '.join(recipe.teacher.models)} may have heard the clips held out; "
            "give teacher.recipe, by which a teacher is trained without them"
        )
    else:
        check(recipe.teacher.recipe, setting)


def trained(recipe: Recipe, setting: Setting, checkpoint: Path | None, what: str) -> Trained:
    """The outcome of a recipe's last stage; those before it are trained first, where they are not there already.

    checkpoint: of the last stage, as in `fit`. what: how the last stage is called beside its bar. Raises InputError as
    `train_on`, `prune` and `teacher_of` do.
    """
    return _trained(recipe, len(stages(recipe)) - 1, setting, checkpoint, what)


def parents(recipe: Recipe, setting: Setting) -> list[Bundle]:
    """What the last stage rests on, its parent and its teachers, trained now where it is not there already."""
    last = len(stages(recipe)) - 1
    found = [_kept(recipe, last - 1, setting)] if last else []
    return found + (_teachers(recipe, setting) if recipe.teacher else [])


def provenance(recipe: Recipe, setting: Setting) -> dict[str, Any]:
    """What a bundle says of its making beyond the recipe: how it was pruned, who taught it."""
    told: dict[str, Any] = {}
    if recipe.prune is not None:
        told["pruned"] = {**asdict(recipe.prune), "widths": list(recipe.architecture.widths)}
    if recipe.teacher is not None:
        told["distilled"] = taught_by(_teachers(recipe, setting), recipe.teacher.how)
    return told


def _trained(recipe: Recipe, number: int, setting: Setting, checkpoint: Path | None, what: str) -> Trained:
    stage, corpus = stages(recipe)[number], setting.corpus
    architecture, spec = recipe.architecture.with_classes(len(corpus.labels)), recipe.frontend
    start: nn.Module | None = None
    if number:
        parent = _kept(recipe, number - 1, setting)
        architecture, spec, start = parent.architecture, parent.frontend, network(parent)
        if stage.pruned:
            origin = network(_kept(recipe, 0, setting))
            start, architecture = _pruned(recipe, stage.pruned, origin, start, architecture)
    heard = maps(corpus, spec, (stage.fit or recipe.fit).speeds, setting.work)
    if stage.fit is None:
        assert start is not None  # the first stage is always trained
        ranges = calibrate(start, architecture, heard.select(setting.clips).logmels[0], spec)
        return Trained(start, architecture, spec, ranges)
    teacher = None
    if stage.taught and recipe.teacher is not None:
        bundles, how = _teachers(recipe, setting), recipe.teacher.how
        teacher = teacher_of(bundles, corpus, architecture.output, spec, stage.fit.speeds, setting.work, how)
    seed = _seed(recipe.seed, number)
    with session(what, stage.fit, recipe.threads) as on_epoch:
        return train_on(
            corpus, heard, setting.clips, architecture, spec, stage.fit, seed, checkpoint, on_epoch, start, teacher
        )


def _kept(recipe: Recipe, number: int, setting: Setting) -> Bundle:
    """The bundle of a stage, trained now where there is none."""
    key = _key(recipe, number, setting)
    place = setting.work / "stages" / f"{recipe.architecture.family}-{key}"
    if (place / MANIFEST).is_file():
        return bundle.read(place)
    checkpoint = place.with_suffix(".checkpoint")
    what = f"{recipe.name}, stage {number + 1} of {len(stages(recipe))}"
    outcome = _trained(recipe, number, setting, checkpoint, what)
    written = bundle.write(
        place,
        name=recipe.name,
        architecture=outcome.architecture,
        frontend=outcome.frontend,
        labels=setting.corpus.labels,
        weights=outcome.weights(),
    )
    checkpoint.unlink(missing_ok=True)
    return written


def _key(recipe: Recipe, number: int, setting: Setting) -> str:
    """Equal for two stages that come out alike."""
    done = stages(recipe)[: number + 1]
    heard = any(stage.taught for stage in done)
    taught = [bundle.files[WEIGHTS].sha256 for bundle in _teachers(recipe, setting)] if heard else []
    what = {
        "architecture": recipe.architecture.to_json(),
        "frontend": recipe.frontend.to_json(),
        "stages": [asdict(stage) for stage in done],
        "prune": asdict(recipe.prune) if recipe.prune and done[-1].pruned else None,
        "teacher": [asdict(recipe.teacher.how), taught] if recipe.teacher and taught else None,
        "seed": recipe.seed,
        "threads": recipe.threads,
        "precision": [stage.fit.usable_precision for stage in done if stage.fit],
        "clips": setting.digest,
        "versions": [version("edgeq"), torch.__version__],
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]


def _pruned(
    recipe: Recipe, step: int, origin: nn.Module, network: nn.Module, architecture: ArchitectureSpec
) -> tuple[nn.Module, ArchitectureSpec]:
    """A network after one more step of pruning. origin: what it was before the first; ratios are parts of that."""
    how = recipe.prune
    assert how is not None  # asked for only where the recipe prunes
    unpruned = replace(recipe.architecture, classes=architecture.classes)
    wanted = ratios(origin, unpruned, how.method, how.sites, how.ratio)
    parts = {layer: ratio * step / how.steps for layer, ratio in wanted.items()}
    if step > 1:
        parts = {layer: _remaining(part, origin, network, layer) for layer, part in parts.items()}
    method = importance.named(how.method, recipe.seed)
    smaller, spec, _ = prune(network, architecture, parts, method, how.round_to)
    return smaller, spec


def _remaining(ratio: float, origin: nn.Module, network: nn.Module, layer: str) -> float:
    """What part of a layer's filters has to go now, so that this ratio of those it first had is gone."""
    weights: list[Any] = [one.get_submodule(layer).weight for one in (origin, network)]
    # The first axis of a quaternion layer is its components.
    before, now = (weight.shape[1 if weight.ndim in (3, 5) else 0] for weight in weights)
    # As many as one step would leave, however many steps there are.
    return max(0.0, 1 - narrowed(before, ratio) / now)


def _teachers(recipe: Recipe, setting: Setting) -> list[Bundle]:
    teaching = recipe.teacher
    assert teaching is not None  # asked for only where there is a teacher
    if teaching.models and setting.whole:
        return _models(recipe)
    assert teaching.recipe is not None  # see `check`
    followed = replace(teaching.recipe, threads=recipe.threads)
    last = len(stages(followed)) - 1
    return [_kept(replace(followed, seed=seed), last, setting) for seed in teaching.seeds or (recipe.seed,)]


def _models(recipe: Recipe) -> list[Bundle]:
    """The bundles that teach; where there is a recipe for teachers too, they have to be made by it."""
    assert recipe.teacher is not None
    found = [zoo.find(model) for model in recipe.teacher.models]
    for opened in found:
        by, expected = opened.provenance.get("recipe_sha256"), recipe.teacher.recipe
        if expected is not None and by != expected.sha256:
            raise InputError(
                f"teacher.model {opened.name}: trained by recipe {by!s:.8}, and teacher.recipe is "
                f"{expected.sha256:.8}; give the recipe that made the model, or leave out one of them"
            )
    return found


def _seed(seed: int, number: int) -> int:
    """The seed of a stage: with the first one's, the others would hear their parent's crops once more."""
    return int.from_bytes(hashlib.sha256(f"{seed}/stage {number}".encode()).digest()[:6]) if number else seed
