import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import FRONTEND, QUATERNION_FRONTEND
from hypothesis import given
from hypothesis import strategies as st

from edgeq import goldens
from edgeq.audio.frontend import PRESETS, recording_features, with_derivatives
from edgeq.errors import InputError
from edgeq.goldens import Goldens


@pytest.fixture(autouse=True)
def sounds_are_made_anew(monkeypatch):
    """Here they are what is tested."""
    monkeypatch.setattr(goldens, "waveform", goldens.waveform.__wrapped__)


def test_the_bits_of_a_seed_never_change():
    # PCG64's stream and SeedSequence are frozen by NumPy's policy; a change here would void every stored golden.
    assert np.random.PCG64(7).random_raw(2).tolist() == [11530976094092348043, 16550673365885938325]


def test_the_sound_of_a_seed_never_changes():
    sound = goldens.waveform(7, FRONTEND)
    assert sound.dtype == np.float32 and len(sound) == FRONTEND.window_samples
    kept = [0.232211, 0.155009, -0.108448, 0.142533, -0.113375, 0.110525, -0.22319, -0.094737]
    assert sound[::1000] == pytest.approx(kept, abs=2e-6)


@pytest.mark.parametrize("spec", [FRONTEND, QUATERNION_FRONTEND, PRESETS["dcase2022"], PRESETS["edge-16k"]])
def test_inputs_are_the_front_end_of_the_sounds(spec):
    inputs = goldens.inputs([3, 11], spec)
    assert inputs.shape == (2, *spec.input_shape) and inputs.dtype == np.float32
    for row, seed in zip(inputs, (3, 11), strict=True):
        np.testing.assert_array_equal(row, recording_features(goldens.waveform(seed, spec), spec)[0][0])


def test_sounds_differ_from_each_other_and_over_time():
    inputs = goldens.inputs(range(40), FRONTEND).reshape(40, 16, 50)
    distance = np.abs(inputs[:, None] - inputs[None]).mean(axis=(2, 3)) + np.eye(40)
    assert distance.min() > 0.05
    assert (inputs.std(axis=2).mean(axis=1) > 0.2).mean() > 0.3


@given(st.integers(0, 2**63 - 1), st.sampled_from(sorted(PRESETS)))
def test_any_seed_gives_a_finite_audible_sound(seed, name):
    spec = replace(PRESETS[name], window_seconds=1.0, window_hop_seconds=1.0)
    sound = goldens.waveform(seed, spec)
    assert np.isfinite(sound).all() and 0.005 < np.abs(sound).max() <= 1.0


def test_a_fresh_process_makes_the_same_inputs():
    code = (
        "import hashlib; from edgeq import goldens; from bundles import FRONTEND;"
        "print(hashlib.sha256(goldens.inputs(range(4), FRONTEND).tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert done.stdout.strip() == hashlib.sha256(goldens.inputs(range(4), FRONTEND).tobytes()).hexdigest()


def brightness(sharpness):
    """A classifier of three classes by how far up the energy lies; decisive when sharp."""

    def predict(features):
        centre = (features[:, 0].mean(axis=2) * np.arange(16)).sum(axis=1) / 60
        logits = -sharpness * (centre[:, None] - np.array([-4.6, -3.9, -3.0])) ** 2
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)

    return predict


def test_chosen_seeds_are_decisive_spread_and_repeatable():
    predict = brightness(20.0)
    chosen = goldens.choose(predict, FRONTEND, count=30)
    outputs = predict(goldens.inputs(chosen.seeds, FRONTEND))
    np.testing.assert_allclose(chosen.outputs, outputs, atol=1e-6)
    first, second = np.sort(outputs, axis=1)[:, ::-1][:, :2].T
    assert (first - second >= goldens.LEAST_MARGIN).all()
    assert np.bincount(outputs.argmax(axis=1), minlength=3).tolist() == [10, 10, 10]
    assert chosen.gate == "top1" and len(np.unique(chosen.seeds)) == 30
    np.testing.assert_array_equal(goldens.choose(predict, FRONTEND, count=30).seeds, chosen.seeds)


def test_a_class_that_no_sound_reaches_leaves_its_share_to_the_others():
    def predict(features):
        two = brightness(20.0)(features)[:, :2] + 1e-6
        return np.concatenate([two / two.sum(axis=1, keepdims=True), np.zeros((len(two), 1), np.float32)], axis=1)

    assert len(goldens.choose(predict, FRONTEND, count=16).seeds) == 16


def test_an_undecided_network_gets_the_other_gate():
    chosen = goldens.choose(lambda x: np.full((len(x), 4), 0.25, np.float32), FRONTEND)
    assert chosen.seeds.tolist() == list(range(goldens.COUNT)) and chosen.gate == "sqnr"


def test_bytes_are_deterministic_and_come_back():
    chosen = Goldens(np.array([5, 2]), np.array([[0.25, 0.75], [1, 0]], np.float32), "sqnr")
    back = Goldens.from_bytes(chosen.to_bytes())
    assert back.seeds.tolist() == [5, 2] and back.gate == "sqnr" and chosen.to_bytes() == back.to_bytes()
    np.testing.assert_array_equal(back.outputs, chosen.outputs)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"seeds": np.array([1, 1])}, "come twice"),
        ({"seeds": np.array([-1, 1])}, "negative"),
        ({"seeds": np.zeros(0, np.int64)}, "expected int64"),
        ({"seeds": np.array([0.5, 1.0])}, "expected int64"),
        ({"outputs": np.zeros((3, 2), np.float32)}, "expected float32"),
        ({"outputs": np.full((2, 2), np.nan, np.float32)}, "no probabilities"),
        ({"outputs": np.full((2, 2), 7, np.float32)}, "no probabilities"),
        ({"outputs": np.full((2, 2), 0.5)}, "expected float32"),
        ({"outputs": np.zeros((2, 0), np.float32)}, "expected float32"),
        ({"gate": "none"}, "gate 'none'"),
    ],
)
def test_goldens_that_cannot_be_are_refused(changed, match):
    fields = {"seeds": np.array([1, 2]), "outputs": np.full((2, 2), 0.5, np.float32), "gate": "top1", **changed}
    with pytest.raises(InputError, match=match):
        Goldens.from_bytes(Goldens(**fields).to_bytes())


@given(st.binary(max_size=200))
def test_bytes_that_are_no_goldens_are_refused(data):
    with pytest.raises(InputError, match="goldens"):
        Goldens.from_bytes(data)


@given(st.data())
def test_damaged_goldens_are_refused_or_are_goldens(data):
    good = Goldens(np.array([5, 2]), np.array([[0.25, 0.75], [1, 0]], np.float32)).to_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    damaged = good[:at] + data.draw(st.binary(min_size=1, max_size=2)) + good[at + 1 :]
    try:
        back = Goldens.from_bytes(damaged)
    except InputError:
        return
    assert back.seeds.dtype == np.int64 and back.outputs.dtype == np.float32 and len(back.seeds) == len(back.outputs)


def test_derivatives_do_not_change_the_sound():
    spec = with_derivatives(FRONTEND)
    np.testing.assert_array_equal(goldens.waveform(5, spec), goldens.waveform(5, FRONTEND))
