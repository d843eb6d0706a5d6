"""Where quantization hurts: the signal-to-quantization-noise ratio of every layer."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgeq.errors import InputError
from edgeq.graph.ir import Graph
from edgeq.graph.reference import dequantize, quantize_input, run

CEILING_DB = 200.0


def layer_sqnr(float_graph: Graph, int8_graph: Graph, batches: Iterable[np.ndarray]) -> list[tuple[str, str, float]]:
    """(tensor, operator, decibels) of every layer's output over batches of inputs, worst first.

    Both graphs run on the same input, so a layer's noise is its own and what it was handed.
    batches: (N, ...) NHWC, float32 each. Ratios are held within +-200 dB, so that equal outputs stay a finite number.
    Raises InputError where int8_graph is not the quantized float_graph.
    """
    if [op.output for op in float_graph.ops] != [op.output for op in int8_graph.ops]:
        raise InputError(f"{int8_graph.name}: other layers than {float_graph.name}: expected the same graph, quantized")
    sums = {op.output: np.zeros(2) for op in int8_graph.ops}
    for x in batches:
        exact = run(float_graph, x, keep=True)
        codes = run(int8_graph, quantize_input(int8_graph, x), keep=True)
        for name, total in sums.items():
            parameters = int8_graph.tensors[name].quantization
            assert parameters is not None
            total += _energies(exact[name], dequantize(parameters, codes[name]))
    ratios = [(op.output, op.kind, _decibels(*sums[op.output])) for op in int8_graph.ops]
    return sorted(ratios, key=lambda ratio: ratio[2])


def sqnr_db(signal: np.ndarray, quantized: np.ndarray) -> float:
    """10 log10 of the signal's energy over the error's, within +-200 dB.

    signal, quantized: the same shape. A signal of zeros has -200 dB unless quantized is zero too.
    """
    return _decibels(*_energies(signal, quantized))


def _energies(signal: np.ndarray, quantized: np.ndarray) -> tuple[float, float]:
    """Sums of squares of the signal and of the error."""
    exact = signal.astype(np.float64)
    return float(np.square(exact).sum()), float(np.square(exact - quantized).sum())


def _decibels(energy: float, noise: float) -> float:
    if noise == 0:
        return CEILING_DB
    if energy == 0:
        return -CEILING_DB
    return float(np.clip(10 * np.log10(energy / noise), -CEILING_DB, CEILING_DB))
