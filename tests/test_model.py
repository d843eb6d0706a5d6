"""The model in Python: the README's lines, and that they are the commands' own code."""

from __future__ import annotations

from pathlib import Path

import bundles
import numpy as np
import pytest
import soundfile

import edgeq
from edgeq import classify
from edgeq.bundle import Bundle


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.exported(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    rate = bundles.FRONTEND.sample_rate
    path = tmp_path / "tone.wav"
    soundfile.write(path, 0.2 * np.sin(np.arange(2 * rate) * 0.2), rate)
    return path


def test_a_loaded_model_classifies_as_the_command_does(exported: Bundle, recording: Path) -> None:
    model = edgeq.load(exported.folder)
    assert isinstance(model, edgeq.Model) and model.labels == tuple(bundles.LABELS)
    found = model.classify(recording, top=2)
    assert (found,) == tuple(classify.classify(exported.folder, [recording], top=2))


@pytest.mark.parametrize(
    ("runtime", "int8", "name"),
    [(None, False, "onnxruntime"), ("litert", False, "litert"), ("torch", False, "torch"), (None, True, "litert")],
)
def test_runtime_and_stage_are_chosen(exported: Bundle, runtime: str | None, int8: bool, name: str) -> None:
    model = edgeq.load(str(exported.folder), runtime=runtime, int8=int8, threads=2)
    assert model.runtime.name == name and model.runtime.int8 == int8
    inputs = bundles.sounds()[:8]
    expected = edgeq.load(exported.folder).predict(inputs)
    np.testing.assert_allclose(model.predict(inputs), expected, atol=0.2 if int8 else 1e-5)


def test_export_writes_what_verify_passes(exported: Bundle, tmp_path: Path) -> None:
    result = edgeq.load(exported.folder).export(tmp_path / "out", formats=["tflite"], int8=True)
    assert set(result.bundle.exports) == {"tflite", "tflite-int8"} and result.report.passed
    assert edgeq.load(tmp_path / "out").verify().passed


def test_what_goes_wrong_has_a_name_to_catch(exported: Bundle, tmp_path: Path) -> None:
    with pytest.raises(edgeq.InputError, match="no-such-model"):
        edgeq.load("no-such-model")
    with pytest.raises(edgeq.InputError, match=r"absent\.wav"):
        edgeq.load(exported.folder).classify(tmp_path / "absent.wav")
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        edgeq.nothing_of_that_name  # noqa: B018
    assert all(getattr(edgeq, name) for name in edgeq.__all__)


def test_commands_are_functions_of_the_package_and_their_modules_stay_modules(exported: Bundle, tmp_path: Path) -> None:
    from edgeq.bench.computer import Settings
    from edgeq.export.run import Exported

    model = edgeq.load(exported.folder)
    written = edgeq.export(model, tmp_path / "out", formats=["onnx"])
    assert isinstance(written, Exported) and (tmp_path / "out" / "bundle.json").exists()
    assert edgeq.verify(tmp_path / "out").passed and edgeq.verify(model=exported).passed
    (one,) = edgeq.bench(tmp_path / "out", target="cpu", settings=Settings(seconds=0.1, runs=3, meter=None)).results
    assert (one.model, one.runtime) == ("small", "onnxruntime")
    with pytest.raises(edgeq.InputError, match="target 'toaster'"):
        edgeq.bench(model, "toaster")


def test_models_are_taken_wherever_a_command_takes_one(exported: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeq.bench import run

    monkeypatch.setattr(run, "bench", lambda models, target, other: (models, target, other))
    model, folder = edgeq.load(exported.folder), exported.folder
    assert edgeq.bench([model, "name"], "cpu", other=model) == ([folder, "name"], "cpu", folder)
