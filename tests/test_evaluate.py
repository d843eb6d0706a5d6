"""Clips scored: by windows of one clip or of several at once, by one process or by several that take turns."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import test_distributed
import torch
from beeps import beeps
from distributed_scores import process, scores, training
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fit import SPEC

from edgeq.batches import batch_size
from edgeq.training.evaluate import batched_probabilities, clip_probabilities, shared_probabilities
from edgeq.training.features import CorpusMaps

HOPPING = replace(SPEC, window_hop_seconds=0.02, gate=-40.0)
joined = pytest.mark.skipif(sys.platform != "linux", reason="processes find each other by gloo")


def levels(features: np.ndarray) -> np.ndarray:
    """A network of a kind: three numbers that follow from each window alone."""
    flat = features.reshape(len(features), -1)
    return np.stack([flat.mean(axis=1), flat.max(axis=1), flat[:, 0]], axis=1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 150), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_windows_of_several_clips_in_a_batch_score_as_those_of_one(extra: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    logmels = [random.normal(random.choice([-60, -30]), 3, (20, 50 + frames)).astype(np.float32) for frames in extra]
    sizes: list[int] = []

    def predict(features: np.ndarray) -> np.ndarray:
        sizes.append(len(features))
        return levels(features)

    found = batched_probabilities(predict, iter(logmels), HOPPING)
    np.testing.assert_allclose(found, clip_probabilities(levels, logmels, HOPPING), rtol=1e-6)
    size = batch_size(HOPPING.n_mels, HOPPING.window_frames)
    assert set(sizes[:-1]) <= {size} and 0 < sizes[-1] <= size, "full batches, but for the last"


def test_one_process_scores_all_in_their_order() -> None:
    random = np.random.default_rng(0)
    logmels = tuple(random.normal(-30, 3, (20, 60 + i)).astype(np.float32) for i in range(7))
    found = shared_probabilities(levels, CorpusMaps((1.0,), (logmels,)), HOPPING, 3)
    np.testing.assert_array_equal(found, clip_probabilities(levels, logmels, HOPPING))


@joined
@pytest.mark.slow
def test_two_processes_score_and_choose_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that comes out is the same in both, which the program itself compares."""
    beeps(tmp_path / "corpus")
    monkeypatch.setattr(test_distributed, "process", process)
    codes, errors = test_distributed.forked(2, tmp_path, tmp_path / "out", tmp_path / "corpus")
    assert codes == [0, 0], errors
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = {**scores(), **training(tmp_path / "corpus", tmp_path)}
    finally:
        torch.set_num_threads(before)
    found = torch.load(tmp_path / "out", weights_only=True)
    assert found.keys() == expected.keys()
    for clips in ("5", "1"):
        np.testing.assert_allclose(found[clips], expected[clips], atol=1e-6)
        assert len(found[clips]) == int(clips)
    assert found["normalisation"] == expected["normalisation"]
    assert found["best"] == expected["best"] and found["best"][0] > 0.5
    for name, ends in expected["ranges"].items():
        np.testing.assert_allclose(found["ranges"][name], ends, atol=1e-3, rtol=1e-3)
    for key in ("probabilities_float", "probabilities_int8"):
        np.testing.assert_allclose(found["held_out"][key], expected["held_out"][key], atol=0.02)
    assert found["held_out"]["targets"] == expected["held_out"]["targets"]


@joined
@pytest.mark.slow
def test_a_recording_that_one_cannot_read_ends_all_with_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_distributed, "process", process)
    codes, errors = test_distributed.forked(2, tmp_path, tmp_path / "out", "--damaged", 3)
    assert codes == [2, 2] and not (tmp_path / "out").exists()
    assert "".join(errors) == "edgeq: recording 3: is damaged\n", "told once, though only one of them has it"


@joined
@pytest.mark.slow
def test_one_whose_share_takes_longer_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_distributed, "process", process)
    codes, errors = test_distributed.forked(2, tmp_path, tmp_path / "out", "--slow", 3)
    assert codes == [0, 0], errors


@joined
@pytest.mark.slow
def test_one_that_dies_while_it_scores_ends_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_distributed, "process", process)
    codes, (first, _) = test_distributed.forked(2, tmp_path, tmp_path / "out", "--deadly", 3)
    assert codes == [2, -signal.SIGKILL] and not (tmp_path / "out").exists()
    assert first.startswith("edgeq: lost process 1 ") and len(first.splitlines()) == 1
