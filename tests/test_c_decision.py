"""The decision rule in C against Python's, on any sequence of windows."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from events import wandering
from hypothesis import given
from hypothesis import strategies as st

from edgeq.cortexm import decision, host
from edgeq.decision import ClipScores, DecisionRule, Detector, Rule
from edgeq.errors import InputError
from edgeq.graph import reference
from edgeq.graph.ir import Quantization

CLASSES = 3
OUTPUT = Quantization(np.array([1 / 256], np.float32), np.array([-128], np.int32))
WINDOWS = st.lists(st.tuples(st.lists(st.integers(-128, 127), min_size=3, max_size=3), st.booleans()), max_size=40)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("decision")
    for name, text in decision.emit(DecisionRule(), OUTPUT, CLASSES, "a model").items():
        (place / name).write_text(text)
    command = [*host.compiler(), *host.FLAGS, "-shared", "-fPIC", "-o", "it.so", "a_model_decision.c"]
    subprocess.run(command, cwd=place, check=True)
    return ctypes.CDLL(str(Path(place, "it.so")))


@given(windows=WINDOWS)
def test_any_windows_give_the_scores_of_python(library: Any, windows: list[tuple[list[int], bool]]) -> None:
    clip, wanted = (ctypes.c_int32 * (2 * CLASSES + 2))(), ClipScores(CLASSES)
    for codes, gated in windows:
        code = np.array([codes], np.int8)
        library.a_model_decision_add(clip, code.ctypes.data_as(ctypes.c_void_p), ctypes.c_bool(gated))
        wanted.add(reference.dequantize(OUTPUT, code), np.array([gated]))
    scores = np.empty(CLASSES, np.float32)
    library.a_model_decision_scores(clip, scores.ctypes.data_as(ctypes.c_void_p))
    assert bool(library.a_model_decision_silent(clip) & 1) == wanted.silent
    if windows:
        np.testing.assert_allclose(scores, wanted.scores(), rtol=2e-7)
        assert library.a_model_decision_best(clip) == int(np.argsort(-wanted.scores(), kind="stable")[0])
    else:
        assert not scores.any()


def test_a_scale_a_channel_is_refused() -> None:
    with pytest.raises(InputError, match="output scale"):
        decision.emit(DecisionRule(), Quantization(np.ones(2, np.float32), np.zeros(2, np.int32)), 2, "refused")


STATE = [
    ("sums", ctypes.c_int32 * CLASSES),
    ("run", ctypes.c_uint16 * CLASSES),
    ("rest", ctypes.c_uint16 * CLASSES),
    ("active", ctypes.c_bool * CLASSES),
]
RULES = (
    Rule(on=0.6, off=0.4, smoothing=3, patience=2, cooldown=4),
    Rule(on=0.3, off=0.3, smoothing=1, patience=1, cooldown=0, unknown=0.35),
    Rule(on=1 / 3, off=0.1, smoothing=7, patience=1, cooldown=1, unknown=0.2, background=("chirp",)),
    Rule(on=0.05, off=0.0, smoothing=5, patience=3, cooldown=2),
)
LABELS = ("bark", "chirp", "hum")
CODES = (-128, -118, -115, -100, -77, -52, -51, -43, -26, 0, 25, 26, 127)
"""Some of them about the thresholds."""


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> dict[Rule, Any]:
    """The C of each rule."""
    made = {}
    for number, rule in enumerate(RULES):
        place = tmp_path_factory.mktemp("events")
        files = decision.emit(DecisionRule(events=rule), OUTPUT, CLASSES, "a model", LABELS)
        for name, text in files.items():
            (place / name).write_text(text)
        sources = sorted(name for name in files if name.endswith(".c"))
        command = [*host.compiler(), *host.FLAGS, "-shared", "-fPIC", "-o", f"events{number}.so", *sources]
        subprocess.run(command, cwd=place, check=True)
        made[rule] = ctypes.CDLL(str(place / f"events{number}.so"))
    return made


@given(rule=st.sampled_from(RULES), seed=st.integers(0, 2**32))
def test_events_are_those_of_python_to_the_window(listening: dict[Rule, Any], rule: Rule, seed: int) -> None:
    last = [
        ("last", ctypes.c_int8 * (rule.smoothing * CLASSES)),
        ("windows", ctypes.c_uint16),
        ("next", ctypes.c_uint16),
    ]
    state = type("State", (ctypes.Structure,), {"_fields_": [*STATE, *last]})()
    library, wanted = listening[rule], Detector(rule, LABELS)
    scores = np.empty(CLASSES, np.float32)
    for time, (codes, gated) in enumerate(wandering(seed, CODES, CLASSES)):
        code = np.array(codes, np.int8)
        event = wanted.update(time, reference.dequantize(OUTPUT, code), gated)
        begun = library.a_model_events_update(
            ctypes.byref(state), code.ctypes.data_as(ctypes.c_void_p), ctypes.c_bool(gated)
        )
        assert begun == (LABELS.index(event.label) if event else -1)
        assert tuple(label for label, active in zip(LABELS, state.active, strict=True) if active) == wanted.active
        library.a_model_events_scores(ctypes.byref(state), scores.ctypes.data_as(ctypes.c_void_p))
        np.testing.assert_allclose(scores, wanted.scores, rtol=2e-7)
        named = library.a_model_events_heard(ctypes.byref(state))
        assert (LABELS[named] if named >= 0 else None) == wanted.heard


def test_there_is_no_c_of_events_that_were_not_fitted() -> None:
    plain = decision.emit(DecisionRule(), OUTPUT, CLASSES, "a model")
    fitted = decision.emit(DecisionRule(events=RULES[0]), OUTPUT, CLASSES, "a model")
    assert set(fitted) - set(plain) == {"a_model_events.c", "a_model_events.h", "edgeq_events.h"}
    assert all(fitted[name] == text for name, text in plain.items())
    assert len(decision.functions(DecisionRule())) == 4
    for function in decision.functions(DecisionRule(events=RULES[0])):
        assert f"a_model_{function}(" in fitted["a_model_decision.h"] + fitted["a_model_events.h"]


def test_a_background_that_is_no_label_has_no_c() -> None:
    with pytest.raises(InputError, match="background chirp"):
        decision.emit(DecisionRule(events=RULES[2]), OUTPUT, CLASSES, "a model", ("bark", "hum", "knock"))
