"""In which order clips are heard, as pure functions of a seed and an epoch.

Nothing is drawn one after the other: whoever knows seed, epoch and step, on whatever process, knows the clips. Only the
raw output of a bit generator is used, which NumPy promises to keep from version to version.
"""

from __future__ import annotations

import hashlib

import numpy as np

TOGETHER = 8
"""Shards whose clips are shuffled among each other: what is read lies near to what was just read."""


def shuffled(clips: np.ndarray, starts: np.ndarray, seed: int, epoch: int, together: int = TOGETHER) -> np.ndarray:
    """The clips in an epoch's order: shards at random, then the clips of each `together` of them at random.

    clips: indices, which may come more than once. starts: index of each shard's first clip, (shards,), rising from 0.
    Returns int64, a permutation of `clips`.
    """
    places = np.empty(len(starts), np.int64)
    places[np.argsort(_draws(f"shards/{seed}/{epoch}", len(starts)), kind="stable")] = np.arange(len(starts))
    group = places[np.searchsorted(starts, clips, side="right") - 1] // together
    return np.asarray(clips, np.int64)[np.lexsort((_draws(f"clips/{seed}/{epoch}", len(clips)), group))]


def balanced(
    clips: np.ndarray, counts: np.ndarray, labels: np.ndarray, count: int, seed: int, epoch: int
) -> np.ndarray:
    """Draw `count` of the clips so that classes take turns, each going through its own clips, shuffled.

    counts: how many classes each clip holds, (clips,). labels: these end to end, classes from 0. Each round of turns
    has the classes in an order of its own; a class that has come to its end begins again, in the same order. A clip of
    several classes has a turn with each. Returns int64 (count,).
    Source: Kong et al., "PANNs: large-scale pretrained audio neural networks", 2020, Section III-B.
    """
    held = np.unique(labels, return_counts=True)[1]
    # The clips of each class end to end, classes rising, each class's own shuffled.
    members = np.repeat(clips, counts)[np.lexsort((_draws(f"members/{seed}/{epoch}", len(labels)), labels))]
    rounds = -(-count // len(held))
    draws = _draws(f"turns/{seed}/{epoch}", rounds * len(held)).reshape(rounds, len(held))
    turns = np.argsort(draws, axis=1, kind="stable")
    # In round r every class has turn r of its own.
    places = (np.cumsum(held) - held)[turns] + np.arange(rounds)[:, None] % held[turns]
    return np.asarray(members, np.int64)[places.reshape(-1)[:count]]


def _draws(what: str, count: int) -> np.ndarray:
    key = int.from_bytes(hashlib.sha256(what.encode()).digest()[:16])
    return np.random.Philox(key=key).random_raw(count)
