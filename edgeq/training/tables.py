"""What a recipe says, table by table, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edgeq.audio.frontend import FrontendSpec
from edgeq.nets.spec import ArchitectureSpec
from edgeq.training.config import PAPER, Distillation, FitConfig

HEADS = ("new", "transfer", "own")


@dataclass(frozen=True)
class Start:
    """The [start] table: a trained network that the first stage goes on from, in the place of fresh weights.

    model: a bundle, with the recipe's architecture and log-mel. head: "new", a classifier in the place of its own;
    "transfer", one behind its own, see `nets.registry.with_transfer_head`; "own", none, for a corpus of its labels.
    """

    model: str
    head: str = "new"


@dataclass(frozen=True)
class Validation:
    """The [validation] table: on which clips a network is measured while it is trained on others.

    The clips of this split of the corpus, or of this fold. every: how many epochs (or iterations, as the training
    counts) lie between; keep: of how many of the best networks the weights are kept beside the checkpoint. The best of
    them is the result: what is measured of it there is more than other clips of the kind would give.
    """

    split: str = ""
    fold: int | None = None
    every: int = 1
    keep: int = 1


@dataclass(frozen=True)
class Pruning:
    """The [prune] table: which filters go, once the network is trained.

    method, ratio, sites: as `compress.prune.ratios` takes them; round_to: as `compress.prune.prune`. steps: in how many
    equal steps the filters go, with an equal share of the epochs of [fine_tune] after each. In a recipe, the table
    `ratios` (site to ratio) may stand for ratio and sites: conv1 = 0.25 in it is the site "conv1=0.25".
    """

    method: str
    ratio: float | None = None
    sites: tuple[str, ...] = ()
    round_to: int = 1
    steps: int = 1


@dataclass(frozen=True)
class Member:
    """One of [[members]]: a network of an ensemble, pruned from the parent that all of them share.

    name: no other member's. sites: what [prune] takes from it, each as NAME=RATIO; in a recipe, the table `ratios`.
    """

    name: str
    sites: tuple[str, ...]


@dataclass(frozen=True)
class Teaching:
    """The [teacher] table: whom the last stage of training learns from, and how.

    models: bundles (zoo names, or folders) whose mean answer teaches where nothing is held out. recipe: trains the
    teacher on the student's own clips, once for each of `seeds` (none: the student's seed): so wherever a fold is held
    out, and where there are no models.
    """

    models: tuple[str, ...] = ()
    recipe: Recipe | None = None
    seeds: tuple[int, ...] = ()
    how: Distillation = PAPER


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, stage by stage.

    architecture: for as many classes as the corpus turns out to have. frontend: not normalised yet. fit: the [fit]
    table; then, where there are such tables, prune, fine_tune and teacher. start: what the first stage goes on from.
    validation: what the last training is measured on. members: the networks of an ensemble, each pruned its own way and
    then fine-tuned; none: the recipe makes one network. member: which of an ensemble's networks this recipe makes, see
    `of_members`; "" elsewhere. seed; threads (a result is repeatable for equal threads); exclude_licences: clips under
    these are left out; licence: of the bundle. sha256: of the recipe file, with that of the teacher's recipe where
    there is one.
    """

    name: str
    architecture: ArchitectureSpec
    frontend: FrontendSpec
    fit: FitConfig
    prune: Pruning | None = None
    fine_tune: FitConfig | None = None
    teacher: Teaching | None = None
    start: Start | None = None
    validation: Validation | None = None
    members: tuple[Member, ...] = ()
    member: str = ""
    seed: int = 0
    threads: int = 2
    exclude_licences: tuple[str, ...] = ()
    licence: str = ""
    sha256: str = field(default="", compare=False)

    def of_members(self) -> tuple[Recipe, ...]:
        """The recipe of each network that this one makes: of every member, or where it has none itself alone."""
        if self.prune is None or not self.members:
            return (self,)
        return tuple(
            replace(self, prune=replace(self.prune, sites=member.sites), members=(), member=member.name)
            for member in self.members
        )
