"""The stages of a recipe: train, prune, fine-tune, distil, merge.

Every stage but the last is kept as a bundle in the folder `stages` of the work folder, by what it was made from: so a
killed chain goes on where it stood, and recipes that begin alike, or have one teacher, share it. Parents and teachers
are trained on the very clips that the last stage is, never on what is held out from it. Of a recipe with members the
last stage is merging them: each member's stages are kept, and the first of them, which trains the parent, is one.
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

import numpy as np
import torch
from torch import nn

from edgeq import bundle, zoo
from edgeq.audio.frontend import FrontendSpec
from edgeq.bundle import WEIGHTS, Bundle
from edgeq.compress import ensemble, importance, transfer
from edgeq.compress.distill import members, taught_by, teacher_of
from edgeq.compress.prune import prune, ratios
from edgeq.corpora import Corpus
from edgeq.errors import InputError, naming
from edgeq.manifest import MANIFEST
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec, EnsembleSpec, NetworkSpec
from edgeq.nets.widths import narrowed
from edgeq.runtime.torch import network
from edgeq.training import processes
from edgeq.training.augment import check_crops
from edgeq.training.config import FitConfig
from edgeq.training.evaluate import Logmels
from edgeq.training.session import maps, session
from edgeq.training.tables import Recipe
from edgeq.training.trial import HeldBack, Trained, calibrate, train_on


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
    """What all stages of a chain share: the corpus, which of its clips are trained on, where work is kept.

    validation: clips by which each training chooses its result; they are not trained on.
    """

    corpus: Corpus
    clips: Sequence[int]
    work: Path
    validation: Sequence[int] = ()

    @cached_property
    def whole(self) -> bool:
        """Whether no clip that could be trained on is held out."""
        return not np.setdiff1d(trainable(self.corpus), np.union1d(self.clips, self.validation)).size

    @cached_property
    def digest(self) -> str:
        """sha256 of the clips trained on."""
        return self.corpus.subset(self.clips).hash

    @cached_property
    def validation_digest(self) -> str:
        """sha256 of the clips by which results are chosen."""
        return self.corpus.subset(self.validation).hash


def trainable(corpus: Corpus) -> np.ndarray:
    """Indices of the clips that may be trained on: where the corpus has a split, those of its training part."""
    return corpus.part("training") if corpus.splits else np.arange(len(corpus.clips))


def stages(recipe: Recipe) -> tuple[Stage, ...]:
    """What a recipe does, in order.

    [fit]; then [prune] and [fine_tune] in as many stages as pruning has steps, which share the epochs or iterations.
    The teacher takes part in [fine_tune], or in [fit] where there is none.
    """
    taught, steps = recipe.teacher is not None, recipe.prune.steps if recipe.prune else 0
    if recipe.fine_tune is None:
        return Stage(recipe.fit, taught=taught), *(Stage(None, step) for step in range(1, steps + 1))
    parts = max(steps, 1)
    ends = [recipe.fine_tune.length * part // parts for part in range(parts + 1)]
    shares = [recipe.fine_tune.of_length(ends[part + 1] - ends[part]) for part in range(parts)]
    return Stage(recipe.fit), *(Stage(fit, part + 1 if steps else 0, taught) for part, fit in enumerate(shares))


def check(recipe: Recipe, setting: Setting) -> None:
    """Raises InputError for what would stop the recipe only after hours: crops, what to prune, who teaches.

    So does a start that was trained on clips held out.
    """
    architecture = _architecture(recipe, setting)
    if recipe.start is not None:
        transfer.check_unheard(zoo.find(recipe.start.model), setting.corpus, setting.clips)
        origin, _ = transfer.begun(recipe, zoo.find(recipe.start.model), architecture, recipe.seed)
    else:
        with torch.random.fork_rng(devices=[]):
            origin = registry.build(architecture)
    lengths = sorted({length for stage in stages(recipe) if stage.fit for length in stage.fit.crop_seconds})
    check_crops(recipe.name, origin.eval(), recipe.frontend, lengths, architecture.classes)
    narrowed_to = []
    for one in recipe.of_members():
        with naming(f"{recipe.name}, {f'member {one.member}' if one.member else '[prune]'}"):
            smaller, narrower = origin, architecture
            for step in range(1, 1 + (one.prune.steps if one.prune else 0)):
                smaller, narrower = _pruned(one, step, origin, smaller, narrower)
        narrowed_to.append(narrower)
    if recipe.members:
        with naming(recipe.name):
            EnsembleSpec(tuple(narrowed_to))
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

    checkpoint: of the last stage, as in `fit`; merging needs none. what: how the last stage is called beside its bar.
    Raises InputError as `train_on`, `prune`, `teacher_of` and `merge` do.
    """
    if not recipe.members:
        return _trained(recipe, len(stages(recipe)) - 1, setting, checkpoint, what)
    bundles = _outcomes(recipe, setting)
    merged, architecture = ensemble.merge(bundles)
    return _calibrated(recipe, merged, architecture, bundles[0].frontend, setting)


def members_trained(recipe: Recipe, setting: Setting) -> dict[str, Trained]:
    """The members of a recipe's ensemble by name, trained now where they are not there already; none: no ensemble."""
    if not recipe.members:
        return {}
    return {
        one.name: _calibrated(recipe, network(one), one.architecture, one.frontend, setting)
        for one in _outcomes(recipe, setting)
    }


def parents(recipe: Recipe, setting: Setting) -> list[Bundle]:
    """What the last training rests on, its parent and its teachers, trained now where it is not there already."""
    last = len(stages(recipe)) - 1
    found = [_kept(one, last - 1, setting) for one in recipe.of_members()] if last else []
    return found + (_teachers(recipe, setting) if recipe.teacher else [])


def provenance(recipe: Recipe, setting: Setting) -> dict[str, Any]:
    """What a bundle says of its making beyond the recipe: how it was pruned, who taught it, what it was merged from."""
    told: dict[str, Any] = {}
    if recipe.start is not None:
        told["started_from"] = {"name": zoo.find(recipe.start.model).name, "weights_sha256": _started_from(recipe)}
    if recipe.prune is not None:
        told["pruned"] = {**asdict(recipe.prune), "widths": list(recipe.architecture.widths)}
    if recipe.teacher is not None:
        told["distilled"] = taught_by(_teachers(recipe, setting), recipe.teacher.how)
    if recipe.members:
        told["members"] = [
            {
                "name": member.name,
                "sites": list(member.sites),
                "widths": one.architecture.to_json()["widths"],
                "weights_sha256": one.files[WEIGHTS].sha256,
            }
            for member, one in zip(recipe.members, _outcomes(recipe, setting), strict=True)
        ]
    return told


def _trained(recipe: Recipe, number: int, setting: Setting, checkpoint: Path | None, what: str) -> Trained:
    stage, corpus = stages(recipe)[number], setting.corpus
    architecture, spec = _architecture(recipe, setting), recipe.frontend
    start: nn.Module | None = None
    if not number and recipe.start is not None:
        start, spec = transfer.begun(recipe, zoo.find(recipe.start.model), architecture, recipe.seed)
    if number:
        parent = _kept(recipe, number - 1, setting)
        assert isinstance(parent.architecture, ArchitectureSpec)  # only the outcome of a recipe is an ensemble
        architecture, spec, start = parent.architecture, parent.frontend, network(parent)
        if stage.pruned:
            origin = network(_kept(recipe, 0, setting))
            start, architecture = _pruned(recipe, stage.pruned, origin, start, architecture)
    if stage.fit is None:
        assert start is not None  # the first stage is always trained
        return _calibrated(recipe, start, architecture, spec, setting)
    heard = maps(corpus, spec, stage.fit, setting.work)
    teacher = None
    if stage.taught and recipe.teacher is not None:
        bundles, how = _teachers(recipe, setting), recipe.teacher.how
        teacher = teacher_of(bundles, corpus, architecture.output, spec, stage.fit, setting.work, how)
    seed = _seed(recipe, number)
    with session(what, stage.fit, recipe.threads) as on_progress:
        of = architecture, spec, stage.fit, seed, checkpoint, on_progress, start, teacher
        return train_on(corpus, heard, setting.clips, *of, _held_back(recipe, setting))


def _held_back(recipe: Recipe, setting: Setting) -> HeldBack | None:
    asked = recipe.validation
    return None if asked is None else HeldBack(setting.validation, asked.every, asked.keep)


def _architecture(recipe: Recipe, setting: Setting) -> ArchitectureSpec:
    """What the first stage trains."""
    if recipe.start is None:
        return recipe.architecture.with_classes(len(setting.corpus.labels))
    return transfer.architecture(recipe, zoo.find(recipe.start.model), setting.corpus.labels)


def _started_from(recipe: Recipe) -> str:
    assert recipe.start is not None  # asked for only where the recipe starts from a bundle
    return zoo.find(recipe.start.model).files[WEIGHTS].sha256


def _calibrated(
    recipe: Recipe, network: nn.Module, architecture: NetworkSpec, spec: FrontendSpec, setting: Setting
) -> Trained:
    """A network that is not trained further, with its ranges on the clips that are trained on."""
    heard = maps(setting.corpus, spec, recipe.fit, setting.work).select(setting.clips)
    return Trained(network, architecture, spec, calibrate(network, architecture, Logmels(heard), spec))


def _outcomes(recipe: Recipe, setting: Setting) -> list[Bundle]:
    """The bundle of each network that a recipe makes, trained now where there is none."""
    last = len(stages(recipe)) - 1
    return [_kept(one, last, setting) for one in recipe.of_members()]


def _kept(recipe: Recipe, number: int, setting: Setting) -> Bundle:
    """The bundle of a stage, trained now where there is none."""
    key = _key(recipe, number, setting)
    place = setting.work / "stages" / f"{recipe.architecture.family}-{key}"
    together = processes.current()
    together.check_same("recipe, data or version of a package", key, f"{recipe.name}, stage {number + 1}")
    if together.from_main(lambda: (place / MANIFEST).is_file()):
        return bundle.read(place)
    checkpoint = place.with_suffix(".checkpoint")
    own = recipe.member if number else ""  # the first stage is the parent of all members
    who = f"{recipe.name} {own}" if own else recipe.name
    what = f"{who}, stage {number + 1} of {len(stages(recipe))}"
    outcome = _trained(recipe, number, setting, checkpoint, what)
    with together.main_first():
        if together.main:
            bundle.write(
                place,
                name=own or recipe.name,
                architecture=outcome.architecture,
                frontend=outcome.frontend,
                labels=setting.corpus.labels,
                weights=outcome.weights(),
            )
            checkpoint.unlink(missing_ok=True)
    return bundle.read(place)


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
        **({"member": recipe.member} if recipe.member and number else {}),
        **({"validation": [asdict(recipe.validation), setting.validation_digest]} if recipe.validation else {}),
        **({"start": [recipe.start.head, _started_from(recipe)]} if recipe.start else {}),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]


def _pruned(
    recipe: Recipe, step: int, origin: nn.Module, network: nn.Module, architecture: ArchitectureSpec
) -> tuple[nn.Module, ArchitectureSpec]:
    """A network after one more step of pruning. origin: what it was before the first; ratios are parts of that."""
    how = recipe.prune
    assert how is not None  # asked for only where the recipe prunes
    whole = recipe.architecture.widths
    unpruned = replace(architecture, widths=(*whole, *architecture.widths[len(whole) :]))  # a transfer head stays
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
    seeds = teaching.seeds or (recipe.seed,)
    # The members of an ensemble teach what it would: a teacher's answer is the mean of its networks'.
    return [one for seed in seeds for one in _outcomes(replace(followed, seed=seed), setting)]


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


def _seed(recipe: Recipe, number: int) -> int:
    """The seed of a stage: with the first one's, the others would hear their parent's crops once more.

    Each member of an ensemble has its own, so that they do not all hear the same crops.
    """
    if not number:
        return recipe.seed
    of = f"{recipe.seed}/stage {number}{f'/{recipe.member}' if recipe.member else ''}"
    return int.from_bytes(hashlib.sha256(of.encode()).digest()[:6])
