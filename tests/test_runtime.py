import os
import subprocess
import sys
import types
from dataclasses import replace

import bundles
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq import runtime
from edgeq.errors import InputError
from edgeq.export.onnx import to_onnx
from edgeq.export.tflite import to_tflite
from edgeq.graph import reference
from edgeq.lowering.fast import lower_fast, quaternion_layers
from edgeq.runtime.litert import TFLiteRuntime
from edgeq.runtime.onnx_runtime import Bound


@pytest.fixture(scope="module", params=[False, True], ids=["real", "quaternion"])
def model(request, tmp_path_factory):
    return bundles.exported(tmp_path_factory.mktemp("bundle") / "small", quaternion=request.param)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """With C too."""
    graph, quantized, _ = bundles.graphs()
    exports = {**bundles.files(graph, quantized), "c-int8": lambda: bundles.c_files(quantized)}
    return bundles.exported(tmp_path_factory.mktemp("bundle") / "small", exports=exports)


def sounds(opened):
    return bundles.sounds(opened.architecture.input_shape[0] == 4)


@pytest.mark.parametrize("stage", ["torch", "onnx", "tflite"])
def test_float_stages_equal_the_float_graph_in_numpy(model, stage):
    graph, _, _ = bundles.graphs(model.architecture.input_shape[0] == 4)
    expected = reference.run(graph, np.moveaxis(sounds(model), 1, -1))
    ready = runtime.open(model, stage=stage)
    assert (ready.input_shape, ready.classes, ready.int8) == (model.architecture.input_shape, 4, False)
    np.testing.assert_allclose(ready.predict(sounds(model)), expected, atol=1e-5)


def test_reference_kernels_equal_the_int8_graph_in_numpy_bit_for_bit(model):
    _, quantized, _ = bundles.graphs(model.architecture.input_shape[0] == 4)
    codes = reference.run(quantized, reference.quantize_input(quantized, np.moveaxis(sounds(model), 1, -1)))
    ready = runtime.open(model, stage="tflite-int8", runtime="litert-reference")
    assert ready.int8 and ready.name == "litert-reference"
    np.testing.assert_array_equal(ready.predict(sounds(model)), reference.dequantize_output(quantized, codes))


@pytest.mark.parametrize("stage", ["onnx-int8", "tflite-int8"])
def test_int8_stages_are_near_the_float_network(model, stage):
    exact = runtime.open(model, stage="torch").predict(sounds(model))
    rounded = runtime.open(model, stage=stage).predict(sounds(model))
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).mean() < 0.05


@pytest.mark.parametrize("stage", runtime.STAGES)
def test_batches_threads_and_strides_change_nothing(real, stage):
    inputs = sounds(real)[:9]
    whole = runtime.open(real, stage=stage).predict(inputs)
    ready = runtime.open(real, stage=stage, threads=2)
    rows = np.concatenate([ready.predict(row[None]) for row in inputs])
    np.testing.assert_allclose(rows, whole, atol=1e-6)
    np.testing.assert_allclose(ready.predict(np.asfortranarray(inputs)), whole, atol=1e-6)
    assert ready.predict(inputs[:0]).shape == (0, 4)


def test_torch_and_onnxruntime_take_a_batch_at_a_time(real, monkeypatch):
    monkeypatch.setattr("edgeq.batches.MOST", 4)
    taken = {"torch": [], "onnx": []}
    network, session = runtime.open(real, stage="torch"), runtime.open(real, stage="onnx")
    network._network.register_forward_pre_hook(lambda module, inputs: taken["torch"].append(len(inputs[0])))
    run = session._session.run
    monkeypatch.setattr(
        session._session, "run", lambda names, feed: taken["onnx"].append(len(feed["input"])) or run(names, feed)
    )
    for ready in (network, session):
        ready.predict(sounds(real)[:9])
    assert taken == {"torch": [4, 4, 1], "onnx": [4, 4, 1]}


@pytest.mark.parametrize("stage", runtime.STAGES)
def test_files_say_what_the_exporter_wrote(real, stage):
    expected = {} if stage == "torch" else dict(bundles.graphs()[0].metadata)
    assert dict(runtime.open(real, stage=stage).metadata) == expected


def test_files_open_by_themselves(real):
    for stage, path in real.exports.items():
        if (real.folder / path).is_dir():
            continue
        alone = runtime.open(real.folder / path).predict(sounds(real)[:4])
        np.testing.assert_array_equal(alone, runtime.open(str(real.folder), stage=stage).predict(sounds(real)[:4]))


def test_the_stage_is_chosen_float_first_and_files_before_torch(real, tmp_path):
    assert runtime.choose_stage(real) == "onnx"
    assert runtime.choose_stage(real, int8=True) == "tflite-int8"
    assert runtime.choose_stage(real, "litert") == "tflite"
    assert runtime.choose_stage(real, "onnxruntime", int8=True) == "onnx-int8"
    bare = bundles.exported(tmp_path / "bare", exports={})
    assert runtime.choose_stage(bare) == "torch" and runtime.open(bare).name == "torch"
    for attempt in (lambda: runtime.choose_stage(bare, int8=True), lambda: runtime.choose_stage(bare, "litert")):
        with pytest.raises(InputError, match="edgeq export"):
            attempt()


@pytest.mark.parametrize("stage", runtime.STAGES)
@pytest.mark.parametrize(
    ("features", "match"),
    [
        (np.zeros((2, 1, 16, 49), np.float32), r"shape \(2, 1, 16, 49\): expected \(n, 1, 16, 50\)"),
        (np.zeros((1, 16, 50), np.float32), "expected"),
        (np.zeros((2, 1, 16, 50)), "found float64, expected a float32"),
        (np.zeros((2, 1, 16, 50), np.int8), "found int8"),
        ([[1.0]], "found list"),
        (np.full((1, 1, 16, 50), np.nan, np.float32), "NaN"),
        (np.full((1, 1, 16, 50), np.inf, np.float32), "infinity"),
    ],
)
def test_wrong_features_are_a_clear_value_error(real, stage, features, match):
    with pytest.raises(ValueError, match=match):
        runtime.open(real, stage=stage).predict(features)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"runtime": "tvm"}, "runtime 'tvm': expected one of onnxruntime"),
        ({"stage": "coreml"}, "stage 'coreml'"),
        ({"stage": "onnx", "runtime": "litert"}, "litert does not run onnx"),
        ({"stage": "tflite", "runtime": "torch"}, "torch does not run tflite"),
        ({"threads": 0}, "threads 0"),
    ],
)
def test_wrong_arguments_are_named(real, arguments, match):
    with pytest.raises(InputError, match=match):
        runtime.open(real, **arguments)


def test_a_bundle_without_the_stage_says_how_to_get_it(tmp_path):
    bare = bundles.exported(tmp_path / "bare", exports={})
    with pytest.raises(InputError, match=r"has no onnx export .*run: edgeq export"):
        runtime.open(bare, stage="onnx")


def test_a_missing_file_a_folder_and_a_stage_of_a_file_are_refused(real, tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    for source, stage in ((tmp_path / "none.onnx", None), (tmp_path / "folder.onnx", None),
                          (real.folder / "small.onnx", "onnx"), (tmp_path / "none", None)):  # fmt: skip
        with pytest.raises(InputError, match=r"none|folder|small"):
            runtime.open(source, stage=stage)


def test_weights_of_another_network_are_refused(real, tmp_path):
    weights = real.weights()
    name = next(iter(weights))
    for changed in (
        {key: value for key, value in weights.items() if key != name},
        {**weights, "more.weight": np.zeros(3, np.float32)},
        {**weights, name: np.zeros((1, 2, 3), np.float32)},
    ):
        with pytest.raises(InputError, match="not those of the architecture"):
            runtime.open(bundles.exported(tmp_path / "b", weights=changed), stage="torch")


def test_torch_gets_its_threads_back(real):
    import torch

    before = torch.get_num_threads()
    runtime.open(real, stage="torch", threads=before + 1).predict(sounds(real)[:1])
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
@given(content=st.binary(max_size=200))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_is_no_model_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match="model") as caught:
        runtime.open(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stage", ["onnx", "onnx-int8", "tflite", "tflite-int8"])
@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_model_is_refused_or_still_gives_numbers(real, tmp_path, stage, data):
    good = real.export(stage)
    at = data.draw(st.integers(0, len(good) - 1))
    cut = data.draw(st.booleans())
    path = tmp_path / f"model.{stage.split('-')[0]}"
    path.write_bytes(good[:at] if cut else good[:at] + data.draw(st.binary(min_size=4, max_size=4)) + good[at + 4 :])
    try:
        ready = runtime.open(path)
        outputs = ready.predict(np.zeros((1, *ready.input_shape), np.float32))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert outputs.shape == (1, ready.classes)


FLOAT32, INT64 = 1, 7  # onnx.TensorProto's numbers


def onnx_model(kind, input_shape, output_shape, outputs=1):
    """A valid ONNX model that is none of edgeq's: its input reshaped to its outputs."""
    from onnx import helper, numpy_helper

    nodes = [helper.make_node("Reshape", ["x", "shape"], [f"y{i}"]) for i in range(outputs)]
    sizes = numpy_helper.from_array(np.array(output_shape, np.int64), "shape")
    graph = helper.make_graph(
        nodes,
        "other",
        [helper.make_tensor_value_info("x", kind, input_shape)],
        [helper.make_tensor_value_info(f"y{i}", kind, output_shape) for i in range(outputs)],
        [sizes],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((INT64, (1, 1, 2, 3), (1, 6)), "one float32 input and one output"),
        ((FLOAT32, (1, 1, 2, 3), (1, 6), 2), "one float32 input and one output"),
        ((FLOAT32, (1, 1, 2, 3), (1, 2, 3)), r"\[1, 2, 3\], expected \(n, classes\)"),
        ((FLOAT32, (1, 1, 2, "frames"), (1, 6)), "expected fixed sizes"),
        ((FLOAT32, (1,), (1, 1)), "expected fixed sizes"),
    ],
)
def test_onnx_models_of_others_are_refused(tmp_path, arguments, match):
    path = tmp_path / "other.onnx"
    path.write_bytes(onnx_model(*arguments))
    with pytest.raises(InputError, match=match):
        runtime.open(path)


def test_tflite_models_of_others_are_refused(tmp_path):
    graph, _, _ = bundles.graphs()
    path = tmp_path / "other.tflite"

    def ends_at(source, name):
        return replace(source, output=name, ops=source.ops[: 1 + [op.output for op in source.ops].index(name)])

    path.write_bytes(to_tflite(ends_at(graph, "conv_2")))
    with pytest.raises(InputError, match="expected a batch of 1 and"):
        runtime.open(path)


def test_models_of_other_input_shapes_run_on_what_they_take(tmp_path):
    """A head alone takes (1, values); so do models of others, which flatten what they hear."""
    graph, _, _ = bundles.graphs()
    given = graph.producer("dense_1").inputs[0]
    head = replace(graph, input=given, ops=tuple(op for op in graph.ops if op.output in ("dense_1", "softmax")))
    values = np.random.default_rng(0).normal(size=(70, *graph.tensors[given].shape[1:])).astype(np.float32)
    expected = reference.run(head, values)
    for suffix, write in ((".tflite", to_tflite), (".onnx", to_onnx)):
        path = tmp_path / f"head{suffix}"
        path.write_bytes(write(head))
        ready = runtime.open(path)
        assert ready.input_shape == values.shape[1:]
        np.testing.assert_allclose(ready.predict(values), expected, atol=1e-6)
        with pytest.raises(InputError, match=rf"shape \(70, 15\): expected \(n, {values.shape[1]}\)$"):
            ready.predict(values[:, :-1])


@pytest.mark.parametrize(
    ("stage", "name", "precision", "least", "most"),
    [
        ("torch", "torch", "float16", 1e-6, 1e-2),
        ("torch", "torch", "bfloat16", 1e-4, 1e-1),
        ("onnx", "torch", "float16", 1e-6, 1e-2),
        ("onnx", "onnxruntime", "float16", 1e-6, 1e-2),
    ],
)
def test_float_stages_run_in_16_bits_as_far_off_as_those_are(model, stage, name, precision, least, most):
    exact = runtime.open(model, stage).predict(sounds(model)[:20])
    rounded = runtime.open(model, stage, name, precision=precision).predict(sounds(model)[:20])
    assert rounded.dtype == np.float32 and least < np.abs(rounded - exact).max() < most
    whole = runtime.open(model, stage, name, precision="float32").predict(sounds(model)[:20])
    np.testing.assert_allclose(whole, exact, atol=1e-5)


@pytest.mark.parametrize(
    ("stage", "name", "options", "match"),
    [
        ("tflite", None, {"precision": "float16"}, "float16: litert computes tflite in float32$"),
        (
            "onnx",
            "onnxruntime",
            {"precision": "bfloat16"},
            "computes onnx in float32 or float16; torch, openvino, torch-",
        ),
        ("onnx", "onnxruntime", {"precision": "float8"}, "float8: onnxruntime computes onnx in float32 or float16$"),
        ("tflite-int8", None, {"precision": "float16"}, "float16: tflite-int8 is INT8 throughout"),
        ("onnx-int8", None, {"precision": "float32"}, "float32: onnx-int8 is INT8 throughout"),
        ("onnx", "torch", {"cuda_graphs": True}, "torch records none; expected one of onnxruntime-cuda, torch-cuda"),
    ],
)
def test_precisions_and_graphs_that_a_runtime_has_not_are_named(real, stage, name, options, match):
    with pytest.raises(InputError, match=match):
        runtime.open(real, stage, name, **options)


def test_torch_runs_the_operators_of_an_onnx_file_in_either_lowering(tmp_path):
    graph, _, _ = bundles.graphs(quaternion=True)
    x = bundles.sounds(quaternion=True)[:9]
    expected = reference.run(graph, np.moveaxis(x, 1, -1))
    for number, lowered in enumerate((graph, lower_fast(graph, quaternion_layers(graph)))):
        path = tmp_path / f"net-{number}.onnx"
        path.write_bytes(to_onnx(lowered))
        ready = runtime.open(path, runtime="torch", threads=2)
        assert (ready.classes, ready.input_shape) == (4, x.shape[1:])
        assert dict(ready.metadata) == dict(graph.metadata)
        np.testing.assert_allclose(ready.predict(x), expected, atol=1e-5)
        assert len(list(ready._network.modules())) and ("cat" in ready._network.code) == bool(number)


def test_a_quantized_onnx_file_alone_is_known_for_what_it_is(real):
    assert runtime.form(real.folder / real.exports["onnx-int8"]) == ("onnx-int8", "onnxruntime")
    assert runtime.form(real.folder / real.exports["onnx"]) == ("onnx", "onnxruntime")
    with pytest.raises(InputError, match="torch does not run onnx-int8"):
        runtime.open(real.folder / real.exports["onnx-int8"], runtime="torch")


def test_bound_inputs_and_outputs_are_the_sessions_own(real):
    """On the processor: what a CUDA graph replays is bound alike."""
    session = runtime.open(real, "onnx")
    bound = Bound(session._session, "cpu")
    inputs = np.array(sounds(real)[:6])
    kept = [(rows, bound(inputs[rows])) for rows in (slice(0, 1), slice(1, 2), slice(2, 5), slice(5, 6), slice(0, 3))]
    for rows, found in kept:
        np.testing.assert_array_equal(found, session.predict(inputs[rows]))
    np.testing.assert_array_equal(inputs, sounds(real)[:6])


class Others:
    """The interface of an interpreter whose network gives the sum of its input's values, and twice that."""

    def __init__(self, taken, given):
        self.taken, self.given = taken, given

    def allocate_tensors(self):
        pass

    def get_input_details(self):
        return [{"index": 0, "shape": (1, 2, 3, 1), "dtype": self.taken[0], "quantization": self.taken[1:]}]

    def get_output_details(self):
        return [{"index": 1, "shape": (1, 2), "dtype": self.given[0], "quantization": self.given[1:]}]

    def set_tensor(self, index, codes):
        assert index == 0 and codes.dtype == self.taken[0]
        self.codes = codes

    def invoke(self):
        _, scale, zero_point = self.taken
        self.sum = ((self.codes.astype(float) - zero_point) * (scale or 1.0)).sum()

    def get_tensor(self, index):
        kind, scale, zero_point = self.given
        return (np.array([[self.sum, 2 * self.sum]]) / (scale or 1.0) + zero_point).astype(kind)


@pytest.mark.parametrize("taken", [(np.int8, 0.5, -3), (np.float32, 0.0, 0)])
@pytest.mark.parametrize("given", [(np.int8, 0.25, 7), (np.float32, 0.0, 0)])
def test_int8_may_go_in_and_float32_come_out(tmp_path, taken, given):
    ready = TFLiteRuntime("litert", lambda: Others(taken, given), tmp_path / "net.tflite", "net.tflite")
    features = np.array([0.5, 1.0, 1.5, -2.0, 0.0, 3.0], np.float32).reshape(1, 1, 2, 3)
    assert ready.int8 == (taken[0] is np.int8)
    np.testing.assert_array_equal(ready.predict(features), [[4.0, 8.0]])


@pytest.mark.parametrize(
    ("taken", "match"),
    [
        ((np.uint8, 0.5, 128), "net.tflite: takes uint8 and gives float32, expected float32 or int8 each"),
        ((np.int8, 0.0, 0), "net.tflite: an int8 input or output without a scale"),
    ],
)
def test_other_element_types_are_refused(tmp_path, taken, match):
    with pytest.raises(InputError, match=match):
        TFLiteRuntime("litert", lambda: Others(taken, (np.float32, 0.0, 0)), tmp_path / "net.tflite", "net.tflite")


def test_missing_packages_name_the_extra(real, monkeypatch):
    for package, name, stage, mend in (
        ("torch", "torch", "torch", r"edgeq\[export\]"),
        ("onnxruntime", "onnxruntime", "onnx", "pip install onnxruntime"),
        ("ai_edge_litert.interpreter", "litert", "tflite", "pip install ai-edge-litert"),
        ("tflite_runtime.interpreter", "tflite-runtime", "tflite", r"edgeq\[tflite-runtime\]"),
    ):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            with pytest.raises(InputError, match=mend):
                runtime.open(real, stage=stage, runtime=name)


def test_tflite_runtime_beside_numpy_2_is_refused_before_it_breaks(real, monkeypatch):
    def fail(**arguments):
        raise SystemError("_ARRAY_API not found")

    broken = types.ModuleType("tflite_runtime.interpreter")
    broken.Interpreter = fail
    monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", broken)
    monkeypatch.setattr(np, "__version__", "2.4.6")
    with pytest.raises(InputError, match=r"below 2, found 2\.4\.6; .*edgeq\[tflite-runtime\]"):
        runtime.open(real, stage="tflite-int8", runtime="tflite-runtime")
    monkeypatch.setattr(np, "__version__", "1.26.4")
    with pytest.raises(InputError, match="tflite-runtime cannot run it"):
        runtime.open(real, stage="tflite-int8", runtime="tflite-runtime")


def test_running_files_imports_neither_torch_nor_tensorflow(real):
    code = (
        "import sys, numpy as np; from edgeq import runtime\n"
        f"for stage in {[stage for stage in runtime.STAGES if stage != 'torch']!r}:\n"
        f"    ready = runtime.open({str(real.folder)!r}, stage=stage)\n"
        "    ready.predict(np.zeros((1, *ready.input_shape), np.float32))\n"
        "print(sorted({'torch', 'tensorflow', 'librosa', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_onnxruntime_reports_to_nobody(real, tmp_path):
    """Its telemetry, when on, marks the session in the folder for temporary files."""
    code = f"from edgeq import runtime; runtime.open({str(real.folder)!r}, stage='onnx')"
    quiet = {key: value for key, value in os.environ.items() if key not in ("ORT_DISABLE_TELEMETRY", "CI")}
    subprocess.run([sys.executable, "-c", code], check=True, env=quiet | {"TMPDIR": str(tmp_path)})
    assert not list(tmp_path.iterdir())


def test_an_onnx_file_with_operators_that_are_no_text_is_refused_with_nothing_on_stdout(real, tmp_path, capfd):
    path = tmp_path / "model.onnx"
    path.write_bytes(real.export("onnx").replace(b"Conv", b"C\xbbnv"))
    with pytest.raises(InputError, match=r"model\.onnx"):
        runtime.open(path)
    assert capfd.readouterr().out == ""


def test_metadata_that_is_no_text_is_refused(real, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(real.export("onnx").replace(b"chirp", b"ch\xc5rp"))
    with pytest.raises(InputError, match=r"model\.onnx: onnxruntime cannot run it \('utf-8' codec"):
        _ = runtime.open(path).metadata


def test_a_file_that_litert_refuses_leaves_nothing_else_on_stderr(real, tmp_path, capfd):
    path = tmp_path / "model.tflite"
    content = bytearray(real.export("tflite"))
    content[-2000:] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(InputError, match="litert cannot run it"):
        runtime.open(path)
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"
