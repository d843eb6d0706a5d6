"""The TFLite reader: back to the same bytes, no to what it doesn't know, and never worse than no."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import graphs
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st

from edgeq.cortexm.emit import emit
from edgeq.errors import InputError
from edgeq.export.tflite import to_tflite
from edgeq.graph import from_tflite, ir, reference
from edgeq.graph.ir import NONE
from edgeq.graph.quantize import observe, quantize

NAMES = sorted(graphs.BUILDERS)


def quantized(graph: ir.Graph) -> ir.Graph:
    return quantize(graph, observe(graph, [graphs.inputs(graph, 16)]))


FILES = {name: to_tflite(make()) for name, make in graphs.BUILDERS.items()}
INT8_FILES = {name: to_tflite(quantized(make())) for name, make in graphs.BUILDERS.items()}


@pytest.mark.parametrize("model", [*FILES.values(), *INT8_FILES.values()], ids=[*NAMES, *(f"{n}-int8" for n in NAMES)])
def test_what_was_written_comes_back_byte_for_byte(model: bytes) -> None:
    assert to_tflite(from_tflite.read(model)) == model


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_that_comes_back_computes_the_same(name: str, tmp_path: Path) -> None:
    graph = quantized(graphs.BUILDERS[name]())
    path = tmp_path / "model.tflite"
    path.write_bytes(INT8_FILES[name])
    back = from_tflite.read(path)
    assert (back.name, back.input, back.output, back.metadata) == (graph.name, "input", graph.output, graph.metadata)
    codes = reference.quantize_input(graph, graphs.inputs(graph, 4))
    np.testing.assert_array_equal(reference.run(back, codes), reference.run(graph, codes))


def altered(name: str, change: Callable[[schema.ModelT], None]) -> bytes:
    """A valid file with something else in it."""
    model = schema.ModelT.InitFromPackedBuf(INT8_FILES[name])
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def set_code(index: int, **fields: object) -> Callable[[schema.ModelT], None]:
    return lambda model: vars(model.operatorCodes[index]).update(fields)


def other_kind(index: int, kind: str) -> Callable[[schema.ModelT], None]:
    number = getattr(schema.BuiltinOperator, kind)
    return set_code(index, builtinCode=number, deprecatedBuiltinCode=number)


def set_tensor(index: int, **fields: object) -> Callable[[schema.ModelT], None]:
    return lambda model: vars(model.subgraphs[0].tensors[index]).update(fields)


def set_options(index: int, **fields: object) -> Callable[[schema.ModelT], None]:
    return lambda model: vars(model.subgraphs[0].operators[index].builtinOptions).update(fields)


def both(*changes: Callable[[schema.ModelT], None]) -> Callable[[schema.ModelT], None]:
    def change(model: schema.ModelT) -> None:
        for one in changes:
            one(model)

    return change


def without_options(model: schema.ModelT) -> None:
    model.subgraphs[0].operators[0].builtinOptions = None


def twice(model: schema.ModelT) -> None:
    model.subgraphs *= 2


def shape(*sizes: int) -> np.ndarray:
    return np.array(sizes, np.int32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_code(2, builtinCode=111, deprecatedBuiltinCode=111), "ELU 'tanh_1': not supported"),
        (other_kind(2, "SPACE_TO_BATCH_ND"), "SPACE_TO_BATCH_ND 'tanh_1': not supported; converted with a batch of 1"),
        (other_kind(2, "DEQUANTIZE"), r"DEQUANTIZE 'tanh_1': of 'conv_2' inside the graph .*hybrid"),
        (other_kind(2, "PAD"), "PAD 'tanh_1': 1 inputs: expected 2"),
        (
            set_tensor(3, type=schema.TensorType.UINT8, quantization=None),
            "CONV_2D 'conv_1': 'conv_1' is uint8: expected int8, and uint8",
        ),
        (lambda model: vars(model.subgraphs[0]).update(inputs=shape(0, 3)), "2 inputs: expected one"),
        (lambda model: vars(model.subgraphs[0]).update(outputs=shape(3, 4)), "2 outputs: expected one"),
        (set_code(2, builtinCode=32, deprecatedBuiltinCode=32, customCode="Mine"), "CUSTOM Mine"),
        (set_code(0, version=9), "CONV_2D 'conv_1': version 9"),
        (both(set_code(0, version=9), set_tensor(3, name="x" * 999)), r"CONV_2D 'x{60}\.\.\.': version 9"),
        (set_tensor(0, type=schema.TensorType.INT16), "INT16"),
        (set_tensor(0, type=schema.TensorType.FLOAT32), r"'conv_1': int8 weights .* \(a hybrid model\)"),
        (set_tensor(0, shapeSignature=shape(-1, -1, 10, 1)), r"'input': dynamic shape \[-1, -1, 10, 1\]"),
        (set_tensor(0, shapeSignature=shape(-1, 8, 10, 1), shape=shape(2, 8, 10, 1)), "'input': dynamic shape"),
        (set_tensor(0, shape=shape(*[1] * 9)), "'input': 9 axes"),
        (set_tensor(0, shape=shape(2, 8, 10, 1)), r"'input' of shape \(2, 8, 10, 1\): expected a batch of 1"),
        (set_tensor(0, shape=shape(1, 8, 20, 1)), r"CONV_2D 'conv_1': shape \(1, 8, 10, 4\) does not follow"),
        (set_tensor(0, isVariable=True), "variable"),
        (set_tensor(0, quantization=None), "'input' has no quantization"),
        (set_options(0, fusedActivationFunction=4), "TANH: expected NONE, RELU, RELU6 or RELU_N1_TO_1"),
        (set_options(0, dilationHFactor=0), r"CONV_2D 'conv_1': .* dilation \(0, 1\)"),
        (set_options(0, dilationHFactor=9, padding=schema.Padding.VALID), "CONV_2D 'conv_1': does not fit"),
        (set_options(0, strideH=0), "CONV_2D 'conv_1'"),
        (set_options(1, strideH=1), "AVERAGE_POOL_2D 'pool_1': shape .* does not follow"),
        (set_options(1, filterHeight=0), r"AVERAGE_POOL_2D 'pool_1': window \(0, 2\)"),
        (set_options(8, beta=2.0), "beta"),
        (without_options, "damaged"),
        (lambda model: vars(model).update(version=2), "schema version 2"),
        (twice, "2 subgraphs"),
    ],
)
def test_what_a_graph_cannot_hold_is_refused_by_name(change: Callable[[schema.ModelT], None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_tflite.read(altered("chain", change))


def operator(name: str, index: int) -> schema.OperatorT:
    return schema.ModelT.InitFromPackedBuf(INT8_FILES[name]).subgraphs[0].operators[index]


def set_inputs(index: int, *inputs: int) -> Callable[[schema.ModelT], None]:
    return lambda model: vars(model.subgraphs[0].operators[index]).update(inputs=shape(*inputs))


def set_constant(tensor: int, *values: int) -> Callable[[schema.ModelT], None]:
    def change(model: schema.ModelT) -> None:
        data = np.frombuffer(shape(*values).tobytes(), np.uint8)
        model.buffers[model.subgraphs[0].tensors[tensor].buffer].data = data

    return change


@pytest.mark.parametrize("index", [0, 1], ids=["MUL", "ADD"])
def test_a_constant_that_comes_first_is_put_second(index: int) -> None:
    first, second = operator("mel_affine", index).inputs
    graph = from_tflite.read(altered("mel_affine", set_inputs(index, second, first)))
    assert to_tflite(graph) == INT8_FILES["mel_affine"]


def test_slices_may_leave_sizes_open() -> None:
    begin, size = operator("streams", 1).inputs[1:]
    graph = from_tflite.read(
        altered("streams", both(set_constant(begin, 0, 0, 0, 3), set_constant(size, -1, -1, -1, -1)))
    )
    assert (graph.ops[1].begin, graph.ops[1].size) == (3, 1)


SLICE_BEGIN, SLICE_SIZE = (int(index) for index in operator("streams", 0).inputs[1:])
JOIN = next(
    n for n in range(99) if operator("streams", n).builtinOptionsType == schema.BuiltinOptions.ConcatenationOptions
)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("inverted_residual", set_options(3, depthMultiplier=3), r"depth multiplier for 8 channels 3: expected 1"),
        ("inverted_residual", set_options(3, dilationHFactor=0), "DEPTHWISE_CONV_2D 'depthwise_1': .* dilation"),
        ("streams", set_constant(SLICE_BEGIN, 0, 1, 0, 0), "SLICE 'slice_1': .* expected what lies inside"),
        ("streams", set_constant(SLICE_SIZE, 1, 7, 6, 1), "SLICE 'slice_1': shape .* does not follow"),
        ("streams", set_constant(SLICE_SIZE, 1, 8, 6, 5), "SLICE 'slice_1': .* expected what lies inside"),
        ("streams", set_inputs(0, 0), "1 inputs: expected 3"),
        ("streams", set_inputs(0, 0, 0, 0), "begin and size are not constant int32"),
        ("streams", set_options(JOIN, axis=2), "CONCATENATION 'concat_1': shape .* does not follow"),
        ("streams", set_options(JOIN, axis=4), "axis 4 of .*: no such axis"),
        ("streams", set_options(JOIN, fusedActivationFunction=1), "fused activation relu"),
        ("mel_affine", set_options(0, fusedActivationFunction=4), "fused activation TANH"),
    ],
)
def test_what_the_newer_operators_may_not_ask_for(
    name: str, change: Callable[[schema.ModelT], None], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        from_tflite.read(altered(name, change))


def test_a_batch_left_open_is_a_batch_of_one() -> None:
    """What TensorFlow's converter writes of a Keras model."""
    model = altered("chain", set_tensor(0, shapeSignature=shape(-1, 8, 10, 1)))
    assert to_tflite(from_tflite.read(model)) == INT8_FILES["chain"]


def test_weights_that_are_not_finite_are_refused() -> None:
    graph = graphs.chain()
    weight = graph.tensors["conv_1.weight"]
    broken = dataclasses.replace(weight, data=np.full_like(weight.data, np.nan))
    with pytest.raises(InputError, match=r"conv_1\.weight.*NaN"):
        from_tflite.read(to_tflite(dataclasses.replace(graph, tensors={**graph.tensors, weight.name: broken})))


def many_kinds() -> bytes:
    """A small INT8 file of what edgeq's own networks do without."""
    net = graphs.Builder((1, 8, 6, 4))
    x = net.conv(net.input, 4, (3, 3), padding=(2, 2, 1, 1), dilation=(2, 1))
    x = net.max_pool(net.hard_swish(x), (3, 3), (2, 2), padding=(0, 1, 0, 1))
    x = net.mul(x, net.mean(x, (1, 2), keep_dims=True))
    x = net.concatenation([x, net.slice(x, 0, 2, axis=-3, step=2)], axis=-3)
    x = net.sub(np.ones(4), x)
    x = net.transpose(net.pad(x, (0, 1, 0, 0), (1, 0)), (0, 2, 1, 3))
    x = net.dense(net.dense(x, 3), 5)
    graph = net.graph("many_kinds", net.softmax(net.dense(net.flatten(x), 3, activation=NONE)))
    return to_tflite(quantized(graph))


MANY_KINDS = many_kinds()


def test_a_file_of_many_kinds_comes_back_byte_for_byte() -> None:
    assert to_tflite(from_tflite.read(MANY_KINDS)) == MANY_KINDS


def test_names_that_are_missing_or_shared_are_made_up() -> None:
    def change(model: schema.ModelT) -> None:
        tensors = model.subgraphs[0].tensors
        for tensor in tensors[::2]:
            tensor.name = b""
        for tensor in tensors[1::2]:
            tensor.name = b"x" * 2000

    model = schema.ModelT.InitFromPackedBuf(MANY_KINDS)
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    graph = from_tflite.read(bytes(builder.Output()))
    assert len({op.output for op in graph.ops}) == len(graph.ops)
    codes = np.random.default_rng(0).integers(-128, 128, (3, 8, 6, 4)).astype(np.int8)
    np.testing.assert_array_equal(reference.run(graph, codes), reference.run(from_tflite.read(MANY_KINDS), codes))


def test_a_layer_without_bias_has_one_of_zeros_and_dead_operators_are_dropped() -> None:
    def change(model: schema.ModelT) -> None:
        operators = model.subgraphs[0].operators
        for index, operator in enumerate(operators):
            if operator.builtinOptionsType == schema.BuiltinOptions.FullyConnectedOptions:
                operator.inputs = shape(*operator.inputs[:2], -1) if index % 2 else operator.inputs[:2]
        model.subgraphs[0].outputs = operators[-2].outputs

    graph = from_tflite.read(altered("chain", change))
    assert [op.kind for op in graph.ops][-1] == "FULLY_CONNECTED"  # and no SOFTMAX behind it
    for op in graph.ops[-2:]:
        bias = graph.tensors[op.inputs[2]]
        assert not bias.data.any() and bias.quantization.scale.size in (1, bias.data.size)
    assert set(graph.tensors) == {graph.input, *(name for op in graph.ops for name in (*op.inputs, op.output))}


def test_operators_that_write_the_same_are_refused() -> None:
    with pytest.raises(InputError, match="SOFTMAX 'softmax': its output is written twice"):
        from_tflite.read(
            altered("chain", lambda model: vars(model.subgraphs[0]).update(operators=2 * model.subgraphs[0].operators))
        )


EDITS = [b"\xff" * 4, b"\xff\xff\xff\x7f", bytes(4), b"\1\0\0\0", b"\0\0\0\1"]


@pytest.mark.parametrize("seed", range(6))
def test_seeded_damage_is_refused_or_still_makes_sense(seed: int) -> None:
    """Hundreds of files: bytes changed, most of them in the tables behind the constants, and cut anywhere."""
    rng = np.random.default_rng(seed)
    refused = 0
    for _ in range(50):
        content = bytearray(MANY_KINDS)
        for _ in range(rng.integers(1, 6)):
            edit = EDITS[rng.integers(len(EDITS))] if rng.random() < 0.5 else rng.bytes(int(rng.integers(1, 5)))
            place = int(rng.integers(len(content) - 4))
            content[place : place + len(edit)] = edit
        if rng.random() < 0.2:
            content = content[: rng.integers(len(content))]
        try:
            graph = from_tflite.read(bytes(content))
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and str(error).startswith("TFLite bytes: ")
        else:
            to_tflite(graph)
            emit(graph, "damaged")
    assert refused > 5


@pytest.mark.parametrize("content", [b"", b"TFL3", b"not a model at all", bytes(64)])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.tflite: not a TFLite file"):
        from_tflite.read(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.tflite"):
        with pytest.raises(InputError, match=path.name):
            from_tflite.read(path)


@given(
    name=st.sampled_from(NAMES),
    int8=st.booleans(),
    cut=st.none() | st.floats(0, 1),
    edits=st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.binary(min_size=1, max_size=4)
            | st.sampled_from([b"\xff" * 4, b"\xff\xff\xff\x7f", bytes(4), b"\1\0\0\0"]),
        ),
        max_size=8,
    ),
)
def test_a_damaged_file_is_refused_or_still_makes_sense(
    name: str, int8: bool, cut: float | None, edits: list[tuple[float, bytes]]
) -> None:
    content = bytearray((INT8_FILES if int8 else FILES)[name])
    for place, edit in edits:
        start = int(place * (len(content) - len(edit)))
        content[start : start + len(edit)] = edit
    if cut is not None:
        content = content[: int(cut * len(content))]
    try:
        graph = from_tflite.read(bytes(content))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        to_tflite(graph)
