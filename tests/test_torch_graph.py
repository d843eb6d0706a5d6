from __future__ import annotations

import copy
from dataclasses import replace

import bundles
import graphs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import InputError
from edgeq.export.tflite import to_tflite
from edgeq.graph import from_tflite, ir, reference
from edgeq.graph.check import check, output_shape
from edgeq.graph.quantize import observe, quantize
from edgeq.runtime.torch_graph import FUNCTIONS, GraphModule

margins = st.integers(0, 2)
strides = st.integers(1, 2)


def run(graph: ir.Graph, x: np.ndarray, **to) -> np.ndarray:
    """What torch makes of a graph, from and to the graph's own order of axes."""
    module = GraphModule(graph).eval().to(**to)
    with torch.inference_mode():
        y = module(torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1))))
    return np.moveaxis(y.numpy(), 1, -1)


def one(op: ir.Op, *constants: np.ndarray, shape: tuple[int, ...], **names) -> ir.Graph:
    """The graph of a single operator, which reads the input, then the constants."""
    tensors = {"x": ir.Tensor("x", shape), **{str(n): ir.Tensor(str(n), c.shape, data=c) for n, c in
               enumerate(constants)}}  # fmt: skip
    result = names.get("result") or output_shape(op, [tensors[name].shape for name in op.inputs])
    tensors[op.output] = ir.Tensor(op.output, result)
    return check(ir.Graph("one", tensors, (op,), "x", op.output))


def agree(graph: ir.Graph, count: int = 3) -> None:
    x = graphs.inputs(graph, count)
    np.testing.assert_allclose(run(graph, x), reference.run(graph, x), rtol=1e-5, atol=1e-5)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_every_operator_of_edgeq_s_own_networks_has_a_function():
    assert set(FUNCTIONS) == set(ir.OPS.values()) - {ir.HardSwish, ir.Transpose, ir.Quantize}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", graphs.BUILDERS)
def test_graphs_agree_with_the_reference(name, memory_format):
    graph = graphs.BUILDERS[name]()
    x = graphs.inputs(graph, 5)
    found = run(graph, x, memory_format=memory_format)
    np.testing.assert_allclose(found, reference.run(graph, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", graphs.BUILDERS)
def test_graphs_from_files_run_as_well(name):
    graph = graphs.BUILDERS[name]()
    x = graphs.inputs(graph, 2)
    found = run(from_tflite.read(to_tflite(graph)), x)
    np.testing.assert_allclose(found, reference.run(graph, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("quaternion", [False, True])
def test_a_lowered_network_gives_what_the_network_gives(quaternion):
    built, spec = bundles.network(quaternion)
    x = torch.from_numpy(bundles.sounds(quaternion)[:20])
    with torch.inference_mode():
        expected = built(x).softmax(dim=1)
        found = GraphModule(bundles.graphs(quaternion)[0])(x)
    assert found.shape == (20, spec.classes)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(strides, strides),
    padding=st.tuples(margins, margins, margins, margins),
    activation=st.sampled_from([ir.NONE, ir.RELU, ir.RELU6]),
    multiplier=st.integers(1, 3),
)
def test_convolutions_of_every_padding_agree(kernel, stride, padding, activation, multiplier):
    constants = normal(4, *kernel, 3), 4 * normal(4)
    names = ("x", "0", "1")
    agree(one(ir.Conv2D(names, "y", stride, padding, activation), *constants, shape=(1, 5, 6, 3)))
    constants = normal(3 * multiplier, *kernel, 1), 4 * normal(3 * multiplier)
    agree(one(ir.DepthwiseConv2D(names, "y", stride, padding, activation), *constants, shape=(1, 5, 6, 3)))


@pytest.mark.parametrize("kind", [ir.Mean, ir.ReduceMax])
@pytest.mark.parametrize("axes", [(1,), (2,), (3,), (1, 2), (2, 3), (1, 3), (1, 2, 3)])
def test_reductions_over_any_axes_agree(kind, axes):
    graph = one(kind(("x",), "y", axes), shape=(1, 4, 5, 3))
    x = graphs.inputs(graph, 2)
    found = run(graph, x) if len(axes) < 3 else GraphModule(graph)(torch.from_numpy(np.moveaxis(x, -1, 1).copy()))
    np.testing.assert_allclose(found, reference.run(graph, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [ir.Add, ir.Sub, ir.Mul])
@pytest.mark.parametrize("constant", [(1, 4, 1, 1), (3,), (1, 1, 1, 3), (5, 1), (1, 4, 5, 3), (4, 5, 3)])
@pytest.mark.parametrize("activation", [ir.NONE, ir.RELU6])
def test_constants_broadcast_along_the_graph_s_axes(kind, constant, activation):
    agree(one(kind(("x", "0"), "y", activation), normal(*constant), shape=(1, 4, 5, 3)))


@pytest.mark.parametrize("kind", [ir.Add, ir.Sub, ir.Mul])
def test_two_activations_are_added_subtracted_and_multiplied(kind):
    graph = one(kind(("x", "x"), "y"), shape=(1, 4, 3))
    pieces = ir.Slice(("x",), "left", 0, 1), ir.Slice(("x",), "right", 1, 1), kind(("right", "left"), "y")
    tensors = {name: ir.Tensor(name, (1, 4, 1)) for name in ("left", "right", "y")}
    agree(check(replace(graph, ops=pieces, tensors={**graph.tensors, **tensors})))


@pytest.mark.parametrize("shape", [(1, 7), (1, 4, 7), (1, 4, 5, 7)])
def test_channels_are_sliced_and_joined(shape):
    graph = one(ir.Slice(("x",), "y", 2, 3), shape=shape)
    agree(graph)
    joined = ir.Concatenation(("y", "x", "y"), "z")
    tensors = {**graph.tensors, "z": ir.Tensor("z", (*shape[:-1], 13))}
    agree(check(replace(graph, tensors=tensors, ops=(*graph.ops, joined), output="z")))


@pytest.mark.parametrize("kind", [ir.Relu, ir.Relu6, ir.Tanh, ir.Logistic, ir.Softmax])
@pytest.mark.parametrize("shape", [(1, 5), (1, 4, 5), (1, 4, 2, 5)])
def test_functions_of_each_element_or_channel_agree(kind, shape):
    agree(one(kind(("x",), "y"), shape=shape))


@pytest.mark.parametrize(
    ("before", "after"), [((4, 5, 3), (60,)), ((60,), (4, 5, 3)), ((4, 5, 3), (5, 12)), ((4, 6), (2, 3, 4))]
)
def test_reshapes_keep_the_graph_s_order(before, after):
    agree(one(ir.Reshape(("x",), "y"), shape=(1, *before), result=(1, *after)))


@pytest.mark.parametrize("kind", [ir.AveragePool2D, ir.MaxPool2D])
@given(window=st.tuples(st.integers(1, 3), st.integers(1, 3)), stride=st.tuples(strides, strides))
def test_pools_agree(kind, window, stride):
    agree(one(kind(("x",), "y", window, stride), shape=(1, 5, 7, 3)))


def test_an_input_that_several_operators_read_stays():
    net = graphs.Builder((1, 6, 5, 4))
    x = net.conv(net.input, 4, (1, 1))
    y = net.add(net.relu(net.add(x, net.input)), x, activation=ir.RELU)
    graph = net.graph("shared", net.add(y, net.input))
    x = graphs.inputs(graph, 2)
    before = x.copy()
    np.testing.assert_allclose(run(graph, x), reference.run(graph, x), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(x, before)


def test_constants_move_and_change_type_with_the_module():
    graph = graphs.residual()
    module = GraphModule(graph).double()
    assert {buffer.dtype for buffer in module.buffers()} == {torch.float64} and not list(module.parameters())
    x = graphs.inputs(graph, 4)
    exact = module(torch.from_numpy(np.moveaxis(x, -1, 1).astype(np.float64)))
    np.testing.assert_allclose(exact, reference.run(graph, x), rtol=1e-5, atol=1e-6)
    half = module.bfloat16()(torch.from_numpy(np.moveaxis(x, -1, 1).copy()).bfloat16())
    assert half.dtype == torch.bfloat16 and (half.float() - exact.float()).abs().max() < 0.05


@pytest.mark.parametrize("name", graphs.BUILDERS)
def test_it_traces_whole(name):
    """torch.compile sees one graph without breaks; what its backends make of it is theirs."""
    graph = graphs.BUILDERS[name]()
    x = torch.from_numpy(np.moveaxis(graphs.inputs(graph, 2), -1, 1).copy())
    module = GraphModule(graph)
    torch._dynamo.reset()  # or it counts the other graphs as recompilations of this one
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x), module(x), rtol=0, atol=0)


def test_several_graphs_compile_in_one_process():
    """Numbers that differ between them must not become variables, which reductions do not take."""
    for axes in ((1,), (2,), (1, 2)):
        module = GraphModule(one(ir.Mean(("x",), "y", axes), shape=(1, 4, 5, 3)))
        x = torch.from_numpy(normal(2, 3, 4, 5))
        compiled = torch.compile(module, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), x.mean([axis + 1 for axis in axes]))


def test_a_copy_is_a_module_of_its_own():
    graph = graphs.residual()
    module = GraphModule(graph)
    x = torch.from_numpy(np.moveaxis(graphs.inputs(graph, 2), -1, 1).copy())
    before = module(x)
    copied = copy.deepcopy(module).double()
    torch.testing.assert_close(copied(x.double()).float(), before)
    assert {buffer.dtype for buffer in module.buffers()} == {torch.float32}


def test_a_quantized_graph_is_refused():
    graph = graphs.chain()
    quantized = quantize(graph, observe(graph, [graphs.inputs(graph, 4)]))
    with pytest.raises(InputError, match="chain: quantized"):
        GraphModule(quantized)
