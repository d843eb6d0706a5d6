"""Runtimes that not every machine has: OpenVINO gives the float graph's answers; a GPU that is missing is told."""

from __future__ import annotations

import sys
from pathlib import Path

import bundles
import numpy as np
import pytest

from edgeq import machine, runtime
from edgeq.bench import run
from edgeq.bench.computer import Settings
from edgeq.bundle import Bundle
from edgeq.errors import InputError
from edgeq.graph import reference
from edgeq.runtime import embedded


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.exported(tmp_path_factory.mktemp("bundle") / "small")


def test_openvino_equals_the_float_graph_in_numpy(model: Bundle) -> None:
    pytest.importorskip("openvino")
    graph, _, _ = bundles.graphs()
    sounds = bundles.sounds(False)[:5]
    ready = runtime.open(model, stage="onnx", runtime="openvino", threads=2)
    assert (ready.name, ready.input_shape, ready.classes, ready.int8) == (
        "openvino", model.architecture.input_shape, 4, False,
    )  # fmt: skip
    expected = reference.run(graph, np.moveaxis(sounds, 1, -1))
    np.testing.assert_allclose(ready.predict(sounds), expected, atol=1e-5)
    np.testing.assert_allclose(ready.predict(np.asfortranarray(sounds)), expected, atol=1e-5)
    assert ready.predict(sounds[:0]).shape == (0, 4)
    assert embedded.read(ready.metadata, "small").labels == model.labels
    with pytest.raises(InputError, match=r"expected \(n, "):
        ready.predict(sounds[:, :, :-1])


def test_openvino_runs_int8_as_near_the_float_network_as_onnxruntime_does(model: Bundle) -> None:
    pytest.importorskip("openvino")
    sounds = bundles.sounds(False)
    exact = runtime.open(model, stage="onnx").predict(sounds)
    errors = {
        name: np.abs(runtime.open(model, stage="onnx-int8", runtime=name).predict(sounds) - exact).mean()
        for name in ("openvino", "onnxruntime")
    }
    assert 0 < errors["openvino"] < 2 * errors["onnxruntime"]


def test_files_that_openvino_cannot_run_and_its_absence_are_told(
    model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "net.onnx").write_bytes(b"no model at all")
    with pytest.raises(InputError, match=r"net\.onnx: openvino cannot run it"):
        runtime.open(tmp_path / "net.onnx", runtime="openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match="openvino is not installed; run: pip install openvino"):
        runtime.open(model, stage="onnx", runtime="openvino")


@pytest.mark.skipif(bool(machine.gpus()), reason="this machine has an NVIDIA GPU")
def test_without_a_gpu_every_way_to_one_says_how_to_get_there(model: Bundle) -> None:
    with pytest.raises(InputError, match=r"finds no NVIDIA GPU here; .* --target ssh://HOST"):
        run.bench(model.folder, "gpu")
    for name, told in (("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")):
        with pytest.raises(InputError, match=rf"onnxruntime has no {told} here .* pip install onnxruntime-gpu"):
            runtime.open(model, stage="onnx", runtime=f"onnxruntime-{name}")
    with pytest.raises(InputError, match=r"finds no GPU; .*pytorch.org"):
        runtime.open(model, stage="torch", runtime="torch-cuda")


def test_runtimes_of_the_gpu_and_of_the_processor_are_kept_apart(
    model: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="runtime torch-cuda: runs on a GPU, not on cpu; expected one of onnxruntime,"):
        run.bench(model.folder, "cpu", Settings(runtimes=("torch-cuda",)))
    monkeypatch.setattr(machine, "gpus", lambda: ["NVIDIA H100, 81559 MiB, 550.54"])
    with pytest.raises(InputError, match="runtime litert: does not run on a GPU; expected one of onnxruntime-cuda,"):
        run.bench(model.folder, "gpu", Settings(runtimes=("litert",)))


@pytest.mark.skipif(not machine.gpus(), reason="no NVIDIA GPU here")
@pytest.mark.parametrize("name", runtime.GPU_RUNTIMES)
def test_a_gpu_gives_the_processors_answers(model: Bundle, name: str) -> None:
    sounds = bundles.sounds(False)[:5]
    stage = "torch" if name == "torch-cuda" else "onnx"
    try:
        ready = runtime.open(model, stage=stage, runtime=name)
    except InputError as error:
        pytest.skip(str(error))
    np.testing.assert_allclose(ready.predict(sounds), runtime.open(model, stage="onnx").predict(sounds), atol=1e-3)
