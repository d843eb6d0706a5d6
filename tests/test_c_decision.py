"""The decision rule in C against Python's, on any sequence of windows."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.cortexm import decision, host
from edgeq.decision import ClipScores, DecisionRule
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
