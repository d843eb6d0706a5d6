"""The zoo's INT8 files in tflite-runtime 2.14, which works only with numpy below 2: `make test-tflite-runtime`."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import numpy as np
import pytest

from edgeq import goldens, runtime, zoo
from edgeq.errors import InputError

INSTALLED = importlib.util.find_spec("tflite_runtime") is not None
NUMPY_1 = int(importlib.metadata.version("numpy").split(".")[0]) < 2
ZOO = [model.name for model in zoo.models()]


@pytest.mark.skipif(INSTALLED and NUMPY_1, reason="this environment has what tflite-runtime needs")
def test_a_wrong_environment_is_refused_with_the_mend() -> None:
    with pytest.raises(InputError, match=r"edgeq\[tflite-runtime\]"):
        runtime.open(zoo.find("esc10-qtiny").folder, stage="tflite-int8", runtime="tflite-runtime")


@pytest.mark.skipif(not (INSTALLED and NUMPY_1), reason="needs tflite-runtime and numpy below 2")
@pytest.mark.parametrize("name", ZOO)
def test_agrees_with_the_reference_kernels_on_the_goldens(name: str) -> None:
    model = zoo.find(name)
    answers = model.goldens()
    inputs = goldens.inputs(answers.seeds, model.frontend)

    old = runtime.open(model.folder, stage="tflite-int8", runtime="tflite-runtime").predict(inputs)
    reference = runtime.open(model.folder, stage="tflite-int8", runtime="litert-reference").predict(inputs)

    assert np.mean(old.argmax(1) == answers.outputs.argmax(1)) >= 0.98
    # Its optimised kernels round convolutions once where the reference rounds twice: at most 1 LSB an operator, which
    # a dozen operators and a softmax of scale 1/256 can amplify, but not into another answer.
    assert np.abs(old - reference).max() <= 16 / 256
    assert np.mean(np.abs(old - reference)) <= 1 / 256
