"""Padding that a convolution or a maximum pool can have by itself is folded into it, and only that."""

from __future__ import annotations

from dataclasses import replace

import graphs
import numpy as np
import pytest

from edgeq.cortexm.emit import emit
from edgeq.cortexm.fold import MaxPoolOfPadded, without_pads
from edgeq.graph import ir
from edgeq.graph.quantize import observe, quantize


@pytest.fixture(scope="module")
def padded() -> ir.Graph:
    """PAD, CONV_2D, PAD, MAX_POOL_2D; names: pad_1, conv_1, pad_2, pool_1."""
    build = graphs.Builder((1, 8, 10, 3))
    x = build.pad("input", (1, 0, 2, 1))
    x = build.conv(x, 4, (3, 3))
    x = build.max_pool(build.pad(x, (1, 1, 0, 1)), (3, 3))
    x = build.softmax(build.dense(build.flatten(x), 3))
    graph = build.graph("padded", x)
    return quantize(graph, observe(graph, [graphs.inputs(graph, 4)]))


def op(graph: ir.Graph, output: str) -> ir.Op:
    found = graph.producer(output)
    assert found is not None
    return found


def test_convolutions_and_maximum_pools_pad_by_themselves(padded):
    folded = without_pads(padded)
    conv, pool = op(folded, "conv_1"), op(folded, "pool_1")
    assert conv.inputs[0] == "input" and conv.padding == (1, 0, 2, 1)
    assert isinstance(pool, MaxPoolOfPadded) and pool.inputs == ("conv_1",) and pool.padding == (1, 1, 0, 1)
    assert pool.outside == padded.tensors["pad_2"].quantization.zero_point[0]
    assert not any(isinstance(each, ir.Pad) for each in folded.ops)


def test_every_operator_is_still_reported_and_a_folded_one_needs_nothing(padded):
    sources = emit(padded, "padded")
    assert [layer.output for layer in sources.layers] == [each.output for each in padded.ops]
    assert [layer.function for layer in sources.layers if layer.kind == "PAD"] == ["", ""]
    assert [layer.alive for layer in sources.layers if layer.kind == "PAD"] == [0, 0]


@pytest.mark.parametrize("how", ["read elsewhere", "output", "channels", "pool with its own padding", "other scale"])
def test_other_padding_stays(padded, how):
    changed = padded
    if how == "read elsewhere":
        copy = ir.Relu(("pad_1",), "copy")
        tensors = {**padded.tensors, "copy": replace(padded.tensors["pad_1"], name="copy")}
        changed = replace(padded, tensors=tensors, ops=(padded.ops[0], copy, *padded.ops[1:]))
    elif how == "output":
        changed = replace(padded, output="pad_1", ops=padded.ops[:1])
    elif how == "channels":
        changed = replace(padded, ops=(replace(padded.ops[0], channels=(1, 0)), *padded.ops[1:]))
    elif how == "pool with its own padding":
        pool = replace(op(padded, "pool_1"), padding=(1, 0, 0, 0))
        changed = replace(padded, ops=tuple(pool if each.output == "pool_1" else each for each in padded.ops))
    else:
        quantization = replace(padded.tensors["pad_1"].quantization, scale=np.array([9], np.float32))
        tensors = {**padded.tensors, "pad_1": replace(padded.tensors["pad_1"], quantization=quantization)}
        changed = replace(padded, tensors=tensors)
    stays = "pad_2" if how == "pool with its own padding" else "pad_1"
    assert isinstance(without_pads(changed).producer(stays), ir.Pad)
