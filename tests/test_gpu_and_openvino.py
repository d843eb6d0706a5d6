"""Runtimes that not every machine has: OpenVINO gives the float graph's answers; a GPU that is missing is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import bundles
import jsonschema
import numpy as np
import pytest

import edgeq
from edgeq import machine, runtime
from edgeq.bench import run
from edgeq.bench.computer import Settings
from edgeq.bundle import Bundle
from edgeq.errors import InputError
from edgeq.export.onnx import to_onnx
from edgeq.graph import reference
from edgeq.lowering.fast import lower_fast, quaternion_layers
from edgeq.runtime import embedded, onnx_runtime


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
        with pytest.raises(InputError, match=rf"onnxruntime has no {told} here .* pip install 'onnxruntime-gpu\["):
            runtime.open(model, stage="onnx", runtime=f"onnxruntime-{name}")
    for stage in ("torch", "onnx"):
        with pytest.raises(InputError, match=r"finds no GPU; .*pytorch.org"):
            runtime.open(model, stage=stage, runtime="torch-cuda", precision="float16", cuda_graphs=True)


def test_onnxruntime_finds_the_libraries_of_cuda_that_pip_brings(
    model: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """They have to be there before it is asked what it can run on."""
    onnxruntime = onnx_runtime.load()
    providers = ["CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)

    def preload() -> None:
        providers.insert(0, "CUDAExecutionProvider")
        print("Failed to load libcufft.so.11")

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    runtime.open(model, stage="onnx", runtime="onnxruntime")
    assert len(providers) == 1
    with pytest.raises(InputError, match="CUDAExecutionProvider does not start"):
        runtime.open(model, stage="onnx", runtime="onnxruntime-cuda")
    told = capfd.readouterr()
    assert told.out == "" and "libcufft" in told.err


def test_runtimes_of_the_gpu_and_of_the_processor_are_kept_apart(
    model: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="runtime torch-cuda: runs on a GPU, not on cpu; expected one of onnxruntime,"):
        run.bench(model.folder, "cpu", Settings(runtimes=("torch-cuda",)))
    monkeypatch.setattr(machine, "gpus", lambda: ["NVIDIA H100, 81559 MiB, 550.54"])
    with pytest.raises(InputError, match="runtime litert: does not run on a GPU; expected one of onnxruntime-cuda,"):
        run.bench(model.folder, "gpu", Settings(runtimes=("litert",)))


def test_openvino_rounds_as_it_is_asked_to_or_says_that_this_processor_does_not(model: Bundle) -> None:
    pytest.importorskip("openvino")
    sounds = bundles.sounds(False)[:5]
    exact = runtime.open(model, stage="onnx", runtime="openvino").predict(sounds)
    for precision, most in (("float16", 1e-2), ("bfloat16", 1e-1)):
        try:
            ready = runtime.open(model, stage="onnx", runtime="openvino", precision=precision)
        except InputError as told:
            assert f"on this processor where {precision} is asked of it" in str(told)
        else:
            assert 1e-6 < np.abs(ready.predict(sounds) - exact).max() < most


needs_gpu = pytest.mark.skipif(not machine.gpus(), reason="no NVIDIA GPU here")


@pytest.fixture(scope="module")
def lowerings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A quaternion network's ONNX files, block and fast."""
    graph, _, _ = bundles.graphs(quaternion=True)
    folder = tmp_path_factory.mktemp("lowerings")
    files = {"block": graph, "fast": lower_fast(graph, quaternion_layers(graph))}
    for name, lowered in files.items():
        (folder / f"{name}.onnx").write_bytes(to_onnx(lowered))
    return {name: folder / f"{name}.onnx" for name in files}


def on_gpu(source: Bundle | Path, name: str, stage: str | None = None, **options: Any) -> runtime.Runtime:
    """Skips where a package, or what it was built for, is not there."""
    try:
        return runtime.open(source, stage, name, **options)
    except InputError as error:
        if any(word in str(error) for word in ("has no", "does not start", "finds no GPU", "is not installed")):
            pytest.skip(str(error))
        raise


@needs_gpu
@pytest.mark.parametrize("name", runtime.GPU_RUNTIMES)
@pytest.mark.parametrize("lowering", ["block", "fast"])
def test_a_gpu_gives_the_processors_answers_for_each_batch_and_lowering(
    lowerings: dict[str, Path], name: str, lowering: str
) -> None:
    sounds = bundles.sounds(True)
    ready = on_gpu(lowerings[lowering], name)
    expected = runtime.open(lowerings["block"]).predict(sounds)
    for size in (1, 8, 64, 0, 8):
        np.testing.assert_allclose(ready.predict(sounds[:size]), expected[:size], atol=1e-4)


@needs_gpu
def test_the_network_as_trained_gives_the_same_on_a_gpu(model: Bundle) -> None:
    sounds = bundles.sounds(False)[:5]
    expected = runtime.open(model, stage="torch").predict(sounds)
    np.testing.assert_allclose(on_gpu(model, "torch-cuda", "torch").predict(sounds), expected, atol=1e-4)


@needs_gpu
@pytest.mark.parametrize(
    ("name", "precision"),
    [(name, one) for name in runtime.GPU_RUNTIMES for one in runtime.PRECISIONS[name] if one != "float32"],
)
def test_a_gpu_in_other_precisions_is_as_far_off_as_those_are(
    lowerings: dict[str, Path], name: str, precision: str
) -> None:
    sounds = bundles.sounds(True)[:64]
    expected = runtime.open(lowerings["block"]).predict(sounds)
    found = on_gpu(lowerings["block"], name, precision=precision).predict(sounds)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < (0.2 if precision == "bfloat16" else 0.02)
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.9


@needs_gpu
@pytest.mark.parametrize("name", ["onnxruntime-cuda", "torch-cuda"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("lowering", ["block", "fast"])
def test_cuda_graphs_replay_what_calls_give(
    lowerings: dict[str, Path], name: str, precision: str, lowering: str
) -> None:
    sounds = bundles.sounds(True)
    plain = on_gpu(lowerings[lowering], name, precision=precision)
    graphs = on_gpu(lowerings[lowering], name, precision=precision, cuda_graphs=True)
    kept = []
    for begin, size in ((0, 1), (1, 1), (0, 64), (64, 64), (5, 1), (0, 8)):
        batch = sounds[begin : begin + size]
        kept.append((batch, graphs.predict(batch)))
    for batch, found in kept:  # what came back first has to be there still
        np.testing.assert_allclose(found, plain.predict(batch), atol=1e-5 if precision == "float32" else 1e-2)


@needs_gpu
@pytest.mark.parametrize("name", ["onnxruntime-cuda", "torch-cuda"])
def test_a_gpu_is_benched_in_batches_precisions_and_graphs(model: Bundle, name: str) -> None:
    on_gpu(model, name, "onnx")
    settings = Settings(
        ("onnx",), (name,), ("float32", "float16"), (1, 64), cuda_graphs=True, seconds=0.5, runs=20, meter=None
    )
    results = [one.to_json() for one in run.bench(model.folder, "gpu", settings).results]
    jsonschema.validate(results, json.loads((Path(edgeq.__file__).parent / "bench" / "schema.json").read_text()))
    assert [(one["precision"], one["batch"]) for one in results] == [
        ("float32", 1), ("float32", 64), ("float16", 1), ("float16", 64),
    ]  # fmt: skip
    assert all(one["cuda_graphs"] and "both copies" in one["timed"] and one["machine"]["gpus"] for one in results)
    assert [one["parity"]["top1_agreement"] >= 0.8 for one in results if "parity" in one] == [True, True]
