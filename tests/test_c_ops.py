"""The C of every operator that is no convolution and no dense layer gives the codes of the int8 reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from edgeq.cortexm import host
from edgeq.cortexm.emit import emit
from edgeq.errors import InputError
from edgeq.graph import ir, reference
from edgeq.graph.check import check, output_shape

SANITIZED = ("-O1", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")
ACTIVATIONS = (ir.NONE, ir.NONE, ir.RELU, ir.RELU6, ir.RELU_N1_TO_1)
FIXED = {
    ir.Tanh: ir.Quantization(np.array([1 / 128], np.float32), np.array([0], np.int32)),
    ir.Logistic: ir.Quantization(np.array([1 / 256], np.float32), np.array([-128], np.int32)),
    ir.Softmax: ir.Quantization(np.array([1 / 256], np.float32), np.array([-128], np.int32)),
}
"""What TensorFlow Lite asks of the outputs of these."""


class Layers:
    """An int8 graph that grows by a layer at a time, with scales and zero points that a generator draws."""

    def __init__(self, draw: st.DrawFn, shape: tuple[int, ...]) -> None:
        self._draw = draw
        self.tensors: dict[str, ir.Tensor] = {}
        self.ops: list[ir.Op] = []
        self.input = self.tensor(shape)

    def tensor(self, shape: tuple[int, ...], like: str | ir.Quantization | None = None, constant: bool = False) -> str:
        name = f"t{len(self.tensors)}"
        if isinstance(like, ir.Quantization):
            quantization = like
        elif like is None:
            scale = np.float32(2.0 ** self._draw(st.floats(-9, 0)))
            zero_point = self._draw(st.sampled_from((-128, -1, 0, 17, 127)))
            quantization = ir.Quantization(np.array([scale]), np.array([zero_point], np.int32))
        else:
            quantization = self.tensors[like].quantization
        data = codes(self._draw(st.integers(0, 2**32 - 1)), shape) if constant else None
        self.tensors[name] = ir.Tensor(name, shape, "int8", data, quantization)
        return name

    def add(
        self, kind: type[ir.Op], inputs: list[str], like: str | ir.Quantization | None = None, **options: object
    ) -> str:
        op = kind(tuple(inputs), "", **options)
        output = self.tensor(output_shape(op, [self.tensors[name].shape for name in inputs]), like)
        self.ops.append(kind(tuple(inputs), output, **options))
        return output

    def graph(self) -> ir.Graph:
        return check(ir.Graph("drawn", self.tensors, tuple(self.ops), self.input, self.ops[-1].output))


def codes(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def inputs(graph: ir.Graph) -> np.ndarray:
    """Random codes, both extremes, and small steps about them."""
    shape = graph.tensors[graph.input].shape[1:]
    count = math.prod(shape)
    steps = (np.arange(count) - 128).astype(np.int8).reshape(1, *shape)
    return np.concatenate(
        [codes(0, (3, *shape)), np.full((1, *shape), -128, np.int8), np.full((1, *shape), 127, np.int8), steps]
    )


def assert_equal(graphs: list[ir.Graph], flags: tuple[str, ...] = ()) -> None:
    """All in one library: the outputs of the C are the reference's."""
    models = [emit(graph, f"m{number}") for number, graph in enumerate(graphs)]
    library = host.compile(models, flags)
    for graph, sources in zip(graphs, models, strict=True):
        x = inputs(graph)
        found, expected = host.Program(library, sources).run(x), reference.run(graph, x)
        assert np.array_equal(found, expected), f"{graph.ops}: {np.abs(found.astype(int) - expected).max()}"


sizes = st.integers(1, 7)
maps = st.tuples(st.just(1), sizes, sizes, st.one_of(st.integers(1, 9), st.sampled_from((4, 8))))
"""Shapes (1, height, width, channels)."""


@st.composite
def pools(draw: st.DrawFn) -> ir.Graph:
    layers = Layers(draw, draw(maps))
    source = layers.input
    if draw(st.booleans()):
        margins = draw(st.tuples(*[st.integers(0, 2)] * 4))
        source = layers.add(ir.Pad, [source], source, padding=margins)
    shape = layers.tensors[source].shape
    kind = draw(st.sampled_from((ir.AveragePool2D, ir.MaxPool2D)))
    window = tuple(draw(st.integers(1, size)) for size in shape[1:3])
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, size - 1)) for size in (window[0], window[0], window[1], window[1]))
    padding = draw(st.sampled_from(((0, 0, 0, 0), padding)))
    activation = draw(st.sampled_from(ACTIVATIONS))
    layers.add(kind, [source], source, window=window, stride=stride, padding=padding, activation=activation)
    return layers.graph()


@st.composite
def reductions(draw: st.DrawFn) -> ir.Graph:
    layers = Layers(draw, draw(st.one_of(maps, st.tuples(st.just(1), sizes, sizes))))
    shape = layers.tensors[layers.input].shape
    axes = draw(st.sets(st.integers(1, len(shape) - 1), min_size=1))
    kind = draw(st.sampled_from((ir.Mean, ir.ReduceMax)))
    like = layers.input if kind is ir.ReduceMax else None
    layers.add(kind, [layers.input], like, axes=tuple(sorted(axes)), keep_dims=draw(st.booleans()))
    return layers.graph()


@st.composite
def sums(draw: st.DrawFn) -> ir.Graph:
    """Of the input and something of its shape, something that broadcasts to it, or a constant."""
    layers = Layers(draw, draw(maps))
    shape = layers.tensors[layers.input].shape
    kind = draw(st.sampled_from((ir.Add, ir.Sub, ir.Mul)))
    other = draw(st.sampled_from(("same", "itself", "smaller", "constant")))
    if other == "same":
        pair = [layers.input, layers.add(ir.Quantize, [layers.input])]
    elif other == "itself":
        pair = [layers.input, layers.input]
    elif other == "smaller":
        axes = tuple(sorted(draw(st.sets(st.integers(1, 3), min_size=1))))
        pair = [layers.input, layers.add(ir.ReduceMax, [layers.input], layers.input, axes=axes, keep_dims=True)]
        pair = draw(st.permutations(pair))
    else:
        smaller = tuple(draw(st.sampled_from((1, size))) for size in shape)
        smaller = smaller[draw(st.integers(0, 3)) :]
        pair = [layers.input, layers.tensor(smaller, constant=True)]
    layers.add(kind, pair, activation=draw(st.sampled_from(ACTIVATIONS)))
    return layers.graph()


@st.composite
def copies(draw: st.DrawFn) -> ir.Graph:
    layers = Layers(draw, draw(maps))
    shape = layers.tensors[layers.input].shape
    kind = draw(st.sampled_from((ir.Concatenation, ir.Slice, ir.Pad, ir.Transpose, ir.Reshape)))
    axis = draw(st.integers(-3, -1))
    if kind is ir.Concatenation:
        size = draw(st.integers(1, shape[axis]))
        part = layers.add(ir.Slice, [layers.input], layers.input, begin=shape[axis] - size, size=size, axis=axis)
        layers.add(kind, [part, layers.input, part], layers.input, axis=axis)
    elif kind is ir.Slice:
        begin, step = draw(st.integers(0, shape[axis] - 1)), draw(st.integers(1, 3))
        size = draw(st.integers(1, (shape[axis] - 1 - begin) // step + 1))
        layers.add(kind, [layers.input], layers.input, begin=begin, size=size, axis=axis, step=step)
    elif kind is ir.Pad:
        edges = st.integers(0, 2)
        padding, channels = draw(st.tuples(edges, edges, edges, edges)), draw(st.tuples(edges, edges))
        layers.add(kind, [layers.input], layers.input, padding=padding, channels=channels)
    elif kind is ir.Transpose:
        permutation = (0, *draw(st.permutations((1, 2, 3))))
        layers.add(kind, [layers.input], layers.input, permutation=permutation)
    else:
        output = layers.tensor((1, math.prod(shape)), layers.input)
        layers.ops.append(ir.Reshape((layers.input,), output))
        layers.add(ir.Quantize, [output])
    return layers.graph()


@st.composite
def tables(draw: st.DrawFn) -> ir.Graph:
    layers = Layers(draw, draw(st.tuples(st.just(1), st.integers(100, 300))))
    kinds = (ir.Relu, ir.Relu6, ir.HardSwish, ir.Tanh, ir.Logistic, ir.Quantize, ir.Softmax)
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3)):
        source = layers.ops[-1].output if layers.ops else layers.input
        layers.add(kind, [source], source if kind is ir.HardSwish else FIXED.get(kind))
    return layers.graph()


@pytest.mark.parametrize(
    "family",
    [pools(), reductions(), sums(), copies(), tables()],
    ids=["pools", "reductions", "sums", "copies", "tables"],
)
@pytest.mark.parametrize("flags", [SANITIZED, ("-DEDGEQ_EMULATE_DSP",)], ids=["portable", "dsp"])
def test_codes_are_those_of_the_reference(family, flags):
    @settings(max_examples=2, database=None)
    @given(st.lists(family, min_size=12, max_size=12))
    def check_batch(graphs: list[ir.Graph]) -> None:
        assert_equal(graphs, flags)

    check_batch()


@pytest.mark.parametrize("classes", [511, 512, 527, 9000])
def test_softmax_of_many_classes_that_are_alike(classes):
    """No share is worth a code: there LiteRT's kernel shifts by more bits than a word has, or aborts."""
    quantization = ir.Quantization(np.array([0.1], np.float32), np.zeros(1, np.int32))
    shape = (1, classes)
    tensors = {
        "x": ir.Tensor("x", shape, "int8", None, quantization),
        "y": ir.Tensor("y", shape, "int8", None, FIXED[ir.Softmax]),
    }
    sources = emit(ir.Graph("many", tensors, (ir.Softmax(("x",), "y"),), "x", "y"), "many")
    x = np.zeros((2, classes), np.int8)
    x[1, 0] = 127  # against which the others have shares of next to nothing
    found = host.Program(host.compile([sources], SANITIZED), sources).run(x)
    expected = np.clip(np.round(softmax(x * 0.1, axis=1) * 256) - 128, -128, 127)
    assert np.abs(found - expected).max() <= 1
    assert classes < 512 or (found[0] == -128).all()


def test_an_operator_without_c_is_named():
    class Unheard(ir.Op):
        kind = "UNHEARD"

    quantization = ir.Quantization(np.ones(1, np.float32), np.zeros(1, np.int32))
    tensors = {name: ir.Tensor(name, (1, 2), "int8", None, quantization) for name in "xy"}
    with pytest.raises(InputError, match="UNHEARD 'y': has no C"):
        emit(ir.Graph("odd", tensors, (Unheard(("x",), "y"),), "x", "y"), "odd")
