"""INT8 files by others: read, counted, and run code by code as LiteRT's reference kernels run them.

Models by others lie in $EDGEQ_MODELS_BY_OTHERS; without it those tests are skipped. TensorFlow's converter writes more.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeq.cortexm import build, simulate, targets
from edgeq.cortexm.emit import emit
from edgeq.errors import InputError
from edgeq.graph import from_tflite, ir, reference
from edgeq.inspection import inspect

FILES = sorted((Path(__file__).resolve().parent.parent / "models").glob("*/*.int8.tflite"))
ONE_A_CORE = list({target.core: target for target in targets.listed().values()}.values())

MACS = {
    "mlperf-tiny/kws_ref_model.tflite": 2_656_768,
    "mlperf-tiny/pretrainedResnet_quant.tflite": 12_501_632,
    "mlperf-tiny/vww_96_int8.tflite": 7_489_664,
    "mlperf-tiny/ad01_int8.tflite": 264_192,
    "mlperf-tiny/str_ww_ref_model.tflite": 826_368,
    "st-aed-esc10/miniresnet_1stacks_64x50_tl_int8.tflite": 7_361_536,
    "st-aed-esc10/miniresnetv2_1stacks_64x50_tl_int8.tflite": 14_832_640,
    "st-aed-esc10/yamnet_256_64x96_tl_int8.tflite": 23_902_720,
    "tflm-micro-speech/micro_speech_quantized.tflite": 336_000,
}
"""As counted by hand from the published networks: output positions times kernel, padding's taps included."""


def by_others(name: str) -> Path:
    folder = os.environ.get("EDGEQ_MODELS_BY_OTHERS")
    if not folder:
        pytest.skip("no models by others (set EDGEQ_MODELS_BY_OTHERS to their folder)")
    return Path(folder) / name


def codes_for(graph: ir.Graph, count: int) -> np.ndarray:
    """Half of them of any code, half near the zero point, where most sounds are."""
    tensor = graph.tensors[graph.input]
    rng = np.random.default_rng(0)
    codes = rng.integers(-128, 128, (count, *tensor.shape[1:]))
    near = rng.normal(tensor.quantization.zero_point[0], 25, codes.shape)
    codes[::2] = np.clip(np.rint(near), -128, 127)[::2]
    return codes.astype(np.int8)


def litert(content: bytes, graph: ir.Graph, codes: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Every tensor by name as LiteRT's reference kernels compute it, window by window."""
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    places = {detail["name"]: detail["index"] for detail in interpreter.get_tensor_details()}
    kept = [name for name in (graph.input, *(op.output for op in graph.ops)) if name in places]
    assert graph.output in kept
    for window in codes:
        x = window.reshape(source["shape"])
        if source["dtype"] == np.float32:
            x = reference.dequantize(graph.tensors[graph.input].quantization, x)
        elif source["dtype"] == np.uint8:
            x = (x.astype(np.int16) + 128).astype(np.uint8)
        interpreter.set_tensor(source["index"], x)
        interpreter.invoke()
        yield {name: interpreter.get_tensor(places[name]) for name in kept}


def differing(content: bytes, count: int) -> tuple[set[str], dict[str, int]]:
    """The activations that were compared with LiteRT's, and how many codes differ of those of which any does."""
    graph = from_tflite.read(content)
    codes = codes_for(graph, count)
    ours = reference.run(graph, codes, keep=True)
    compared, differences = set(), Counter()
    for number, theirs in enumerate(litert(content, graph, codes)):
        for name, values in theirs.items():
            compared.add(name)
            differences[name] += int((values.astype(int).ravel() != ours[name][number].ravel()).sum())
    return compared, {name: wrong for name, wrong in differences.items() if wrong}


@pytest.mark.slow
@pytest.mark.parametrize("name", MACS)
def test_models_by_others_are_exact(name: str) -> None:
    content = by_others(name).read_bytes()
    graph = from_tflite.read(content)
    compared, differences = differing(content, 50)
    assert not differences
    # Of what the file does not name there is one: the flattening before micro_speech's dense layer.
    assert len(compared) >= len(graph.ops)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_the_zoo_is_exact(path: Path) -> None:
    content = path.read_bytes()
    compared, differences = differing(content, 50)
    assert not differences
    assert len(compared) == 1 + len(from_tflite.read(content).ops)


def in_turn(models: Iterable[str | Path]) -> list[tuple[str | Path, targets.Target]]:
    """Each model on one core, the next one on the next."""
    return list(zip(models, cycle(ONE_A_CORE), strict=False))


def shown(value: str | Path | targets.Target) -> str:
    return value.core if isinstance(value, targets.Target) else Path(value).stem


def simulated_alike(path: Path, target: targets.Target) -> None:
    content = path.read_bytes()
    graph = from_tflite.read(content)
    codes = codes_for(graph, 3)
    sources = emit(graph, path.name.split(".")[0], target=target)  # named as `edgeq bench` names it, and kept by it
    run = simulate.simulate(build.link(sources, target), target, sources, codes)
    for ours, theirs in zip(run.outputs, litert(content, graph, codes), strict=True):
        np.testing.assert_array_equal(ours.ravel(), theirs[graph.output].ravel())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "target"), in_turn(MACS), ids=shown)
def test_models_by_others_give_litert_s_codes_on_a_simulated_core(name: str, target: targets.Target) -> None:
    simulated_alike(by_others(name), target)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "target"), in_turn(FILES), ids=shown)
def test_the_zoo_gives_litert_s_codes_on_a_simulated_core(path: Path, target: targets.Target) -> None:
    simulated_alike(path, target)


@pytest.mark.parametrize("name", MACS)
def test_models_by_others_are_counted(name: str) -> None:
    report = inspect(str(by_others(name)))
    assert report["macs"]["network"] == MACS[name] == sum(layer["macs"] for layer in report["layers"])
    assert report["parameters"]["stored"] == sum(layer["parameters"] for layer in report["layers"]) > 0
    assert all(layer["output_shape"][0] == 1 for layer in report["layers"])


def test_a_float_output_is_what_its_codes_stand_for() -> None:
    path = by_others("st-aed-esc10/yamnet_256_64x96_tl_int8.tflite")
    graph = from_tflite.read(path)
    codes = codes_for(graph, 2)
    ours = reference.dequantize_output(graph, reference.run(graph, codes))
    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert result["dtype"] == np.float32
    for window, expected in zip(codes, ours, strict=True):
        interpreter.set_tensor(source["index"], window[None])
        interpreter.invoke()
        np.testing.assert_array_equal(interpreter.get_tensor(result["index"])[0], expected)


def test_a_hybrid_model_is_refused_by_name() -> None:
    path = by_others("mlperf-tiny/kws_ref_model_float32.tflite")
    with pytest.raises(
        InputError, match=r"kws_ref_model_float32\.tflite: operator CONV_2D '.*': int8 weights .*hybrid"
    ):
        from_tflite.read(path)


def maps(keras: Any) -> Any:
    """A map's network: gates that broadcast, joins and slices of several axes, padded pools, swishes, a Permute."""
    layers = keras.layers
    source = keras.Input((16, 13, 3), batch_size=1)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu6")(source)
    low, high = keras.ops.split(x, 2, axis=1)
    x = layers.Concatenate(axis=1)([high, low])
    y = layers.DepthwiseConv2D(3, padding="same", dilation_rate=(1, 2), use_bias=False)(x)
    y = layers.Activation("hard_swish")(y)
    gate = layers.Conv2D(4, 1, activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    gate = layers.Conv2D(8, 1, activation="hard_sigmoid")(gate)
    x = layers.Add()([x, layers.Multiply()([y, gate])])
    pools = [kind(3, 1, padding="same")(x) for kind in (layers.AveragePooling2D, layers.MaxPooling2D)]
    x = layers.Concatenate()(pools)[:, ::2, 1:, :]
    x = layers.Conv2D(12, 2, activation="tanh")(layers.Permute((2, 1, 3))(x))
    x = layers.Dense(6)(1.0 - layers.GlobalMaxPooling2D()(x))
    return keras.Model(source, layers.Softmax()(x))


def times(keras: Any) -> Any:
    """A network over time: causal and dilated convolutions, dense layers over rows without bias, the last frame."""
    layers = keras.layers
    source = x = keras.Input((20, 6), batch_size=1)
    for dilation in (1, 2):
        y = layers.Conv1D(8, 3, padding="causal", dilation_rate=dilation, activation="relu")(x)
        x = layers.Add()([layers.Conv1D(8, 1)(x), layers.Conv1D(8, 1)(y)])
    x = layers.Reshape((10, 20))(layers.Dense(10, activation="relu")(x))
    x = layers.Dense(5, activation="sigmoid", use_bias=False)(x)
    x = layers.Concatenate()([x[:, -1, :], layers.GlobalAveragePooling1D()(x), layers.Flatten()(x)])
    return keras.Model(source, layers.Dense(3)(x))


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize(("make", "edge"), [(maps, "float32"), (times, "uint8")], ids=["maps", "times"])
def test_files_of_tensorflow_s_converter_are_exact(make: Any, edge: str) -> None:
    tensorflow = pytest.importorskip("tensorflow", reason="the extra `tensorflow` is not installed")
    tensorflow.keras.utils.set_random_seed(0)
    model = make(tensorflow.keras)
    rng = np.random.default_rng(0)
    converter = tensorflow.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [rng.standard_normal(model.input_shape).astype(np.float32)] for _ in range(16)
    )
    converter.target_spec.supported_ops = [tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = getattr(tensorflow, edge)
    with contextlib.redirect_stdout(sys.stderr):
        content = bytes(converter.convert())
    graph = from_tflite.read(content)
    assert graph.quantized
    compared, differences = differing(content, 50)
    assert not differences
    assert len(compared) > 20
    kinds = {op.kind for op in graph.ops}
    expected = {"maps": {"HARD_SWISH", "TRANSPOSE", "SLICE", "SUB", "REDUCE_MAX"}, "times": {"QUANTIZE", "PAD", "MEAN"}}
    assert kinds >= expected[make.__name__]
