"""From a teacher and a student to a bundle: what `edgeq distill` does.

On a student with fresh weights this is the quaternion paper's KD, on a pruned one its Prune_KD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from edgeq import bundle, fresh, manifest, zoo
from edgeq.audio.frontend import FrontendSpec, with_derivatives
from edgeq.audio.maps import logmel_spec
from edgeq.bundle import WEIGHTS, Bundle
from edgeq.corpora import Corpus
from edgeq.errors import InputError
from edgeq.nets.spec import NetworkSpec
from edgeq.runtime.torch import network
from edgeq.training import result, teacher
from edgeq.training.config import PAPER, Distillation, FitConfig
from edgeq.training.features import CorpusMaps
from edgeq.training.session import corpus_at, maps, session, sound
from edgeq.training.teacher import Member, Teacher
from edgeq.training.trial import train_on

FRESH_RATE, TUNING_RATE = 3e-3, 1e-3
"""Learning rates of a student with fresh weights and of one that was trained before."""


def run(
    teachers: Sequence[str | Path],
    student: str | Path,
    data: str | Path,
    output: str | Path | None = None,
    how: Distillation = PAPER,
    epochs: int = 200,
    learning_rate: float | None = None,
    seed: int = 0,
    threads: int = 2,
) -> dict[str, Any]:
    """Train a student on the recordings in `data` and on what its teachers make of them, and write its bundle.

    teachers: zoo names or bundle folders; of several, the mean answer teaches. student: an architecture's name (fresh
    weights, behind the first teacher's front end where that suits its input, else its own), or a bundle to go on from.
    output: by default build/<student>-distilled; log-mel maps and the checkpoint from which a killed run goes on are
    kept in the folder `training` beside it. learning_rate: by default FRESH_RATE or TUNING_RATE. Otherwise the defaults
    of FitConfig hold; a recipe says more, see `training.recipe`.
    Returns the bundle's path, its metrics, and where clips could not be used which, and why. Raises InputError where
    teacher and student differ in labels, output or window, where output is one of them, and as `zoo.find`, `corpus_at`,
    `session.sound`, `fit` and `bundle.write` do.
    """
    if not teachers:
        raise InputError("no teacher; name at least one bundle")
    found = [zoo.find(model) for model in teachers]
    corpus = corpus_at(data)
    name, architecture, spec, start = _student(student, found[0], corpus)
    destination = Path(output) if output else Path("build") / f"{name}-distilled"
    _check_apart(destination, [*found, *([] if start is None else [zoo.find(student)])])
    bundle.check_place(destination)
    called = manifest.checked_name(destination.resolve().name)  # now, not after the training
    rate = (FRESH_RATE if start is None else TUNING_RATE) if learning_rate is None else learning_rate
    config = FitConfig(epochs, learning_rate=rate, crop_seconds=(spec.window_seconds,))
    corpus, left_out = sound(corpus, spec, config.speeds)
    work, clips = destination.parent / "training", range(len(corpus.clips))
    teaching = teacher_of(found, corpus, architecture.output, spec, config, work, how)
    heard = maps(corpus, spec, config, work)
    checkpoint = work / f"{destination.name}.checkpoint"
    with session(destination.name, config, threads) as on_progress:
        trained = train_on(
            corpus, heard, clips, architecture, spec, config, seed, checkpoint, on_progress, start, teaching
        )
    provenance = result.provenance(corpus, config, seed, threads, left_out) | {"distilled": taught_by(found, how)}
    written, measured = result.write(destination, called, trained, corpus, heard, provenance)
    checkpoint.unlink(missing_ok=True)
    return {"bundle": str(written.folder), "metrics": measured, **result.told(left_out)}


def teacher_of(
    bundles: Sequence[Bundle],
    corpus: Corpus,
    output: str,
    spec: FrontendSpec,
    config: FitConfig,
    work: Path,
    how: Distillation,
) -> Teacher:
    """Bundles as the teacher of a student with this output behind this front end, on all clips of a corpus.

    config: how the student is fitted. work: where log-mel maps are cached, of which a teacher with another log-mel
    needs its own. Raises InputError as `training.teacher.check`, and `runtime.torch.network`.
    """
    found = members(bundles, corpus.labels, output, spec)
    elsewhere = [member for member in found if logmel_spec(member.frontend) != logmel_spec(spec)]
    heard: dict[Member, CorpusMaps] = {}
    for member in elsewhere:
        its = maps(corpus, member.frontend, config, work)
        if not isinstance(its, CorpusMaps):
            raise InputError(
                f"teacher {member.name}: hears another log-mel than the student, and {corpus.name} is packed; give the "
                "recordings themselves, or a teacher with the student's front end"
            )
        heard[member] = its
    return Teacher(tuple(replace(member, maps=heard.get(member)) for member in found), how)


def members(bundles: Sequence[Bundle], labels: Sequence[str], output: str, spec: FrontendSpec) -> list[Member]:
    """The networks of bundles that teach such a student, without maps yet. Raises InputError as `teacher_of`."""
    found = []
    for opened in bundles:
        weights = opened.files[WEIGHTS].sha256
        its = opened.labels, opened.architecture.output, opened.frontend
        found.append(Member(opened.name, network(opened), *its, weights))
        teacher.check(found[-1], labels, output, spec)
    return found


def taught_by(bundles: Sequence[Bundle], how: Distillation) -> dict[str, Any]:
    """What a student's bundle says of its teachers."""
    told = [{"name": opened.name, "weights_sha256": opened.files[WEIGHTS].sha256} for opened in bundles]
    return {**asdict(how), "teachers": told}


def _check_apart(destination: Path, models: Sequence[Bundle]) -> None:
    for opened in models:
        if destination.resolve() == opened.folder.resolve():
            raise InputError(f"{destination}: is {opened.name} itself; choose another folder with -o")


def _student(
    student: str | Path, first: Bundle, corpus: Corpus
) -> tuple[str, NetworkSpec, FrontendSpec, nn.Module | None]:
    """Name, spec and front end of a student, and the network that it starts from where it is a bundle.

    first: of its teachers, whose front end a fresh student gets where that suits its input.
    """
    if zoo.is_architecture(student):
        architecture, spec = fresh.specs(str(student))
        alike = first.frontend.components == spec.components
        shared = first.frontend if alike else with_derivatives(first.frontend, spec.derivatives)
        architecture = replace(architecture, classes=len(corpus.labels), output=first.architecture.output)
        return str(student), architecture, shared if shared.input_shape == spec.input_shape else spec, None
    opened = zoo.find(student)
    result.check_labels(f"student {opened.name}", opened.labels, corpus)
    return opened.name, opened.architecture, opened.frontend, network(opened)
