"""Several models become one network: the mean of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from edgeq.audio.frontend import FrontendSpec
from edgeq.bundle import WEIGHTS, Bundle
from edgeq.errors import InputError
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec, EnsembleSpec
from edgeq.runtime.torch import network


def merge(bundles: Sequence[Bundle]) -> tuple[nn.Module, EnsembleSpec]:
    """One network in evaluation mode that gives the mean of several bundles' answers, and its spec.

    Raises InputError where there are fewer than two, one is an ensemble itself or comes twice, or they differ in
    labels, output, front end or decision rule: it says in what, and how far apart numbers are.
    """
    if len(bundles) < 2:
        raise InputError(f"an ensemble of {len(bundles)} model: expected at least 2")
    members = []
    for opened in bundles:
        if not isinstance(opened.architecture, ArchitectureSpec):
            raise InputError(f"{opened.folder}: is an ensemble itself: name its members instead")
        members.append(opened.architecture)
        _check_alike(bundles[0], opened)
    _check_distinct(bundles)
    spec = EnsembleSpec(tuple(members))
    weights = {
        f"members.{number}.{name}": tensor
        for number, opened in enumerate(bundles)
        for name, tensor in network(opened).state_dict().items()
    }
    with torch.device("meta"):
        merged = registry.build(spec)
    merged.load_state_dict(weights, assign=True)
    return merged.eval(), spec


def _check_distinct(bundles: Sequence[Bundle]) -> None:
    """Raises InputError where two bundles have the same weights: one voice would count twice."""
    known: dict[str, Bundle] = {}
    for opened in bundles:
        other = known.setdefault(opened.files[WEIGHTS].sha256, opened)
        if other is not opened:
            raise InputError(f"{opened.folder}: has the weights of {other.folder}: leave out one, it would count twice")


def _check_alike(first: Bundle, other: Bundle) -> None:
    who = f"{first.name} and {other.name}"
    if first.labels != other.labels:
        here, there = (f"{len(one.labels)} labels ({', '.join(one.labels):.80})" for one in (first, other))
        raise InputError(f"{who}: {here} and {there}: expected the same in the same order")
    one, two = first.architecture.output, other.architecture.output
    if one != two:
        raise InputError(f"{who}: output {one} and {two}: expected one for all members")
    if first.decision.kind != other.decision.kind:
        raise InputError(f"{who}: decision {first.decision.kind} and {other.decision.kind}: expected one for all")
    for field in fields(FrontendSpec):
        one, two = (getattr(opened.frontend, field.name) for opened in (first, other))
        if one != two:
            raise InputError(
                f"{who}: front end: {field.name} is {_shown(one)} and {_shown(two)}{_apart(one, two)}: expected one "
                "for all members, since they hear one input; train them behind one front end"
            )


def _shown(value: Any) -> str:
    return ", ".join(map(_shown, value)) if isinstance(value, tuple) else str(value)


def _apart(one: Any, two: Any) -> str:
    """How far two numbers, or the numbers of two tuples, are apart; nothing where they are none."""
    pairs = list(zip(one, two, strict=False)) if isinstance(one, tuple) and isinstance(two, tuple) else [(one, two)]
    numbers = (int, float)
    differences = [
        abs(a - b)
        for a, b in pairs
        if isinstance(a, numbers) and isinstance(b, numbers) and not isinstance(a, bool) and not isinstance(b, bool)
    ]
    return f" ({max(differences):.3g} apart)" if differences else ""
