"""Untrained architectures as bundles: what their gates rest on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import small
from bundles import FRONTEND
from scipy.special import logit
from torch import nn

from edgeq import fresh, goldens
from edgeq.audio.spec import with_derivatives
from edgeq.bundle import Bundle
from edgeq.graph import quantize
from edgeq.lowering.trace import lower
from edgeq.nets.registry import PRESETS, preset
from edgeq.runtime.torch import network as network_of

FRONT_END = replace(with_derivatives(FRONTEND), n_mels=32, window_seconds=0.7)
"""32 mels x 35 frames of four components."""


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """QResNet38 a sixteenth as wide, on short windows."""
    spec = replace(small("qresnet38"), input_shape=FRONT_END.input_shape)
    monkeypatch.setattr(fresh, "specs", lambda name: {"qresnet38": (spec, FRONT_END)}[name])


@pytest.fixture
def written(tmp_path: Path) -> Bundle:
    return fresh.write("qresnet38", tmp_path / "qresnet38")


def test_goldens_are_the_networks_answers_to_the_first_sounds(written: Bundle) -> None:
    found = written.goldens()
    assert found.seeds.tolist() == list(range(goldens.COUNT)) and found.gate == "sqnr"
    sounds = goldens.inputs(found.seeds, written.frontend)
    np.testing.assert_allclose(sounds.mean(axis=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(sounds.std(axis=(0, 2, 3)), 1, atol=1e-4)
    network = network_of(written)
    with torch.inference_mode():
        outputs = network(torch.from_numpy(sounds)).sigmoid().numpy()
    np.testing.assert_allclose(found.outputs, outputs, atol=1e-5)
    ranges = quantize.observe(lower(network, written.architecture), [np.moveaxis(sounds, 1, -1)])
    assert written.ranges().keys() == ranges.keys()
    for name, (low, high) in ranges.items():
        np.testing.assert_allclose(written.ranges()[name], (low, high), atol=1e-4 * (high - low))


def test_no_layer_is_without_effect_and_probabilities_spread(written: Bundle) -> None:
    network = network_of(written)
    sounds = torch.from_numpy(goldens.inputs(range(4), written.frontend))
    outputs = written.goldens().outputs
    assert 0.5 < logit(outputs).std() < 2
    with torch.inference_mode():
        before = network(sounds)
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                kept = module.weight.clone()
                module.weight.zero_()
                assert (network(sounds) - before).abs().max() > 1e-3, name
                module.weight.copy_(kept)


def test_long_windows_are_taken_a_few_at_a_time(
    written: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "batch_size", lambda mels, frames: 3)
    asked: list[int] = []
    inputs = goldens.inputs
    monkeypatch.setattr(goldens, "inputs", lambda seeds, spec: (asked.append(len(seeds)), inputs(seeds, spec))[1])
    few = fresh.write("qresnet38", tmp_path / "few")
    assert max(asked) == 3
    # The front end is normalised by twelve sounds instead of all, so nothing else can be equal.
    assert few.frontend.mean != written.frontend.mean
    np.testing.assert_allclose(inputs(range(12), few.frontend).mean(axis=(0, 2, 3)), 0, atol=1e-4)
    # Ranges rest on every sound that the gate will hear.
    sounds = inputs(range(goldens.COUNT), few.frontend)
    ranges = quantize.observe(lower(network_of(few), few.architecture), [np.moveaxis(sounds, 1, -1)])
    for name, (low, high) in ranges.items():
        np.testing.assert_allclose(few.ranges()[name], (low, high), atol=1e-4 * (high - low))
    assert len(few.goldens().seeds) == goldens.COUNT


def test_two_are_equal_to_the_byte(written: Bundle, tmp_path: Path) -> None:
    again = fresh.write("qresnet38", tmp_path / "again")
    assert {path: record.sha256 for path, record in again.files.items()} == {
        path: record.sha256 for path, record in written.files.items()
    }


def test_names_of_pruned_architectures_have_specs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    spec, frontend = fresh.specs("qcnn14-p50")
    assert spec == preset("qcnn14-p50") != PRESETS["qcnn14"]
    assert frontend.input_shape == spec.input_shape == (4, 64, 1001)
