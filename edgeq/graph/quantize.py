"""Turn a float graph into an int8 one: observe activation ranges, then choose scales and codes.

Weights are symmetric, -127 to 127: one scale per filter in convolutions, one for all in dense layers. Activations are
asymmetric int8 over the observed range, which is widened to hold zero. Every real value is rounded to the nearest code,
ties to even; that is symmetric in sign, so a filter and its negative hold the same codes. A constant that is added or
multiplied is asymmetric int8 over its own range.

Where CONCATENATION joins tensors, they and the result share one scale and zero point, over the union of their ranges:
its kernel copies codes. (TensorFlow's converter puts a QUANTIZE before each input instead, which costs an operator and
a second rounding but lets a narrow input keep a finer scale until then.)

Codes of a filter come from its weights as trained. Batch norm's gain multiplies the filter's scale by its magnitude and
flips the codes by its sign, so the four rows of a quaternion filter hold the same codes up to sign and order whatever
their gains, and quaternion weights can be stored once without loss. Only rows next to nothing are an exception, see
`quantize`.
Source: TensorFlow Lite 8-bit quantization specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeq.errors import InputError
from edgeq.graph.int8_kernels import table
from edgeq.graph.ir import (
    NONE,
    RELU6,
    RELU_N1_TO_1,
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    HardSwish,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Op,
    Pad,
    Quantization,
    ReduceMax,
    Relu,
    Relu6,
    Reshape,
    Slice,
    Softmax,
    Sub,
    Tanh,
    Tensor,
    Transpose,
)
from edgeq.graph.reference import constant, run
from edgeq.graph.reference import quantize as codes_of

Ranges = dict[str, tuple[float, float]]
"""Smallest and largest value of each activation, by tensor name, input included."""

PASS_THROUGH = (AveragePool2D, MaxPool2D, ReduceMax, Reshape, Transpose, Pad, Slice, Concatenation)
"""Operators whose output keeps the scale and zero point of their inputs."""

FIXED: dict[type[Op], tuple[float, int]] = {Tanh: (1 / 128, 0), Softmax: (1 / 256, -128), Logistic: (1 / 256, -128)}
"""Output scale and zero point that the kernels prescribe."""

MIN_SCALE = 2.0**-24
"""Floor of activation scales: below it the softmax kernel's multiplier no longer exceeds 1, which it insists on."""

MIN_WEIGHT_SCALE = 2.0**-100
"""Floor of weight scales, which all-zero filters get: times an activation's scale it is still a normal float32."""

FINEST_STEP = 2.0**-10
"""Floor of an output's scale over its inputs': kernels multiply in 32 bits, and ADD insists on a ratio."""

FINEST_SWISH = 2.0**-6
"""The same of HARD_SWISH, which multiplies in 16 bits."""

FINEST_PRODUCT = 1 + 2.0**-10
"""Floor of MUL's output scale over the product of its inputs' scales: the kernel's version 2 wants them to differ."""

TIE_MARGIN = 2.0**-13
"""How far, in codes, the entries of a tanh or logistic table stay from a tie: eight ulps of float32 near 1."""

MAX_BIAS = 1 << 30
"""Largest bias code: leaves half of the int32 accumulator to the products."""

ATTEMPTS = 16
"""How often a scale that several tensors share is made coarser until the kernels of all of them can bear it."""

_Weighted = Conv2D | DepthwiseConv2D | FullyConnected


def observe(graph: Graph, batches: Iterable[np.ndarray]) -> Ranges:
    """Ranges of every activation of a float graph over batches of inputs (N, ...) NHWC.

    Raises InputError where there is no input at all, or an activation is not finite.
    """
    ranges: Ranges = {}
    for batch in batches:
        if not len(batch):
            continue
        for name, values in run(graph, batch, keep=True).items():
            low, high = float(values.min()), float(values.max())
            _check_finite(graph, name, low, high)
            before = ranges.get(name, (low, high))
            ranges[name] = min(low, before[0]), max(high, before[1])
    if not ranges:
        raise InputError(f"{graph.name}: nothing to calibrate with: expected at least one input")
    return ranges


def quantize(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> Graph:
    """The int8 graph of a float graph: same operators and names, int8 activations and weights, int32 biases.

    A filter whose bias would not fit int32 (weights or gain next to nothing) gets a larger scale and codes of its own.
    Raises InputError where a range is missing or not finite, a filter's sums can overflow int32, or CONCATENATION joins
    tensors that no common scale suits: with ones whose scale is prescribed, or a product with its own large factors.
    """
    if graph.quantized:
        raise InputError(f"{graph.name}: quantized already: expected a float graph")
    scales = _scales(graph)
    for _ in range(ATTEMPTS):
        with np.errstate(over="ignore"):  # of a scale that can only grow
            tensors = _quantized_tensors(graph, ranges, scales)
        if not all(np.isfinite(scale.finest) for scale in scales.values()):
            break
        if tensors is not None:
            return replace(graph, tensors=tensors)
    raise InputError(f"{graph.name}: no common scale suits the inputs of CONCATENATION: recalibrate with --calib")


@dataclass(eq=False)
class _Scale:
    """One scale and zero point to choose, for tensors that operators pass through or join.

    sources: those of its tensors that another kind of operator makes, with that operator; none makes the input.
    finest: a floor of the scale.
    """

    tensors: list[str]
    sources: list[tuple[str, Op | None]]
    finest: float = 0.0


def _scales(graph: Graph) -> dict[str, _Scale]:
    """The scale that each activation gets: one for all that operators pass through, or join, without touching codes."""
    scales = {graph.input: _Scale([graph.input], [(graph.input, None)])}
    for op in graph.ops:
        if not isinstance(op, PASS_THROUGH) and not _averages_probabilities(op, scales):
            scales[op.output] = _Scale([op.output], [(op.output, op)])
            continue
        scale = scales[op.output] = scales[op.inputs[0]]
        scale.tensors.append(op.output)
        for other in {id(one): one for one in map(scales.__getitem__, op.inputs) if one is not scale}.values():
            scale.tensors += other.tensors
            scale.sources += other.sources
            scales.update(dict.fromkeys(other.tensors, scale))
    return scales


def _averages_probabilities(op: Op, scales: Mapping[str, _Scale]) -> bool:
    """Whether a MEAN is of probabilities alone: it keeps their scale, whatever its range in calibration was."""
    return isinstance(op, Mean) and all(
        isinstance(source, (Softmax, Logistic)) for _, source in scales[op.inputs[0]].sources
    )


def _quantized_tensors(
    graph: Graph, ranges: Mapping[str, tuple[float, float]], scales: Mapping[str, _Scale]
) -> dict[str, Tensor] | None:
    """Every tensor quantized; None where a scale that is chosen turns out too fine for a later operator.

    Its floor is then raised, for another attempt.
    """
    tensors = dict(graph.tensors)
    chosen: dict[_Scale, Quantization] = {}
    for name, op in ((graph.input, None), *((op.output, op) for op in graph.ops)):
        if isinstance(op, _Weighted):
            _quantize_weights(graph, op, tensors)
        elif isinstance(op, (Add, Sub, Mul)):
            for source in op.inputs:
                _quantize_constant(graph, source, tensors)
        scale, finest = scales[name], _finest_step(op, tensors)
        if scale not in chosen:
            scale.finest = max(scale.finest, finest)
            chosen[scale] = _chosen(graph, ranges, scale)
        elif finest > chosen[scale].scale[0]:
            scale.finest = finest
            return None
        tensors[name] = _quantized(tensors[name], chosen[scale])
    return tensors


def _finest_step(op: Op | None, tensors: Mapping[str, Tensor]) -> float:
    """The smallest scale of its output that an operator's kernel can bear."""
    if op is None or isinstance(op, PASS_THROUGH) or type(op) in FIXED:
        return 0.0
    if isinstance(op, _Weighted):
        return float(_parameters(tensors[op.inputs[2]]).scale.max(initial=0))  # the accumulator's own step
    steps = [float(_parameters(tensors[name]).scale[0]) for name in op.inputs]
    if isinstance(op, Mul):
        return float(np.float32(FINEST_PRODUCT * steps[0] * steps[1]))
    return float(np.float32((FINEST_SWISH if isinstance(op, HardSwish) else FINEST_STEP) * max(steps)))


def _chosen(graph: Graph, ranges: Mapping[str, tuple[float, float]], scale: _Scale) -> Quantization:
    """Scale and zero point whose codes span zero and the ranges of all sources, where nothing prescribes them."""
    prescribed = {FIXED.get(type(op)) for _, op in scale.sources if op is not None}
    fixed = next((one for one in prescribed if one is not None), None)
    if fixed is not None:
        if len(prescribed) > 1 or any(op is None for _, op in scale.sources):
            names = ", ".join(name for name, _ in scale.sources)
            raise InputError(f"{graph.name}: CONCATENATION of {names}: some have a prescribed scale, which others lack")
        return _activation(*fixed)
    spans = [_span(graph, name, op, ranges) for name, op in scale.sources]
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    step, zero_point = _affine(low, high, max(scale.finest, MIN_SCALE))
    tables: set[type[Op]] = {
        type(op) for op in graph.ops if isinstance(op, (Tanh, Logistic)) and op.inputs[0] in scale.tensors
    }
    return _activation(_clear_of_ties(step, zero_point, tables), zero_point)


def _span(graph: Graph, name: str, op: Op | None, ranges: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """The values that an operator's output can take within its recorded range."""
    if name not in ranges:
        raise InputError(f"{graph.name}: no activation range for {name}: recalibrate with --calib")
    low, high = ranges[name]
    _check_finite(graph, name, low, high)
    activation = getattr(op, "activation", NONE)
    if activation == RELU_N1_TO_1:
        low, high = max(low, -1.0), min(high, 1.0)
    elif isinstance(op, (Relu, Relu6)) or activation != NONE:
        low = 0.0
    if isinstance(op, Relu6) or activation == RELU6:
        high = min(high, 6.0)
    return low, high


def _affine(low: float, high: float, finest: float) -> tuple[float, int]:
    """Scale, no smaller than `finest`, and zero point of codes that span low, high and zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        high = 1.0  # constant zero: any scale represents it
    scale = float(np.float32(max((high - low) / 255, finest)))
    return scale, int(np.clip(np.rint(-128 - low / scale), -128, 127))


def _clear_of_ties(scale: float, zero_point: int, tables: set[type[Op]]) -> float:
    """The scale, or one larger by a few parts in 4096, at which every C library rounds these tables alike."""
    for step in range(64):
        candidate = float(np.float32(scale * (1 + step / 4096)))
        entries = [table(kind, candidate, zero_point, FIXED[kind][0]).astype(np.float64) for kind in tables]
        if all((np.abs(np.abs(values) % 1 - 0.5) > TIE_MARGIN).all() for values in entries):
            return candidate
    return scale


def _quantize_constant(graph: Graph, name: str, tensors: dict[str, Tensor]) -> None:
    """Replace what is added or multiplied by codes, where it is a constant."""
    tensor = graph.tensors[name]
    if tensor.data is None:
        return
    low, high = float(tensor.data.min()), float(tensor.data.max())
    _check_finite(graph, name, low, high)
    parameters = _activation(*_affine(low, high, MIN_WEIGHT_SCALE))
    tensors[name] = replace(tensor, dtype="int8", data=codes_of(parameters, tensor.data), quantization=parameters)


def _quantize_weights(graph: Graph, op: _Weighted, tensors: dict[str, Tensor]) -> None:
    """Replace an operator's weight and bias by codes."""
    for name in op.inputs[1:]:
        if len(graph.consumers(name)) != 1:
            raise InputError(f"{graph.name}: {name} is used by several operators: expected one")
    weight, bias = (graph.tensors[name] for name in op.inputs[1:])
    input_scale = float(_parameters(tensors[op.inputs[0]]).scale[0])
    bias_values = constant(bias).astype(np.float64)
    if not (np.isfinite(constant(weight)).all() and np.isfinite(bias_values).all()):
        raise InputError(f"{graph.name}: {weight.name} or {bias.name} holds NaN or infinity: expected finite values")
    smallest = np.maximum(np.abs(bias_values) / (input_scale * MAX_BIAS), MIN_WEIGHT_SCALE).astype(np.float32)
    if isinstance(op, FullyConnected):
        codes, scale = _dense_codes(weight, float(smallest.max(initial=MIN_WEIGHT_SCALE)))
    else:
        codes, scale = _filter_codes(weight, smallest)
    bias_scale = (input_scale * scale.astype(np.float64)).astype(np.float32)
    bias_codes = np.rint(bias_values / bias_scale).astype(np.int64)
    largest = np.abs(bias_codes) + 255 * np.abs(codes).reshape(len(codes), -1).sum(axis=1, dtype=np.int64)
    if largest.max(initial=0) >= 1 << 31:
        raise InputError(f"{graph.name}: {weight.name}: {codes[0].size} weights a filter can overflow int32 sums")
    tensors[weight.name] = replace(
        weight, dtype="int8", data=codes, gain=None, quantization=Quantization(scale, np.zeros(len(scale), np.int32))
    )
    tensors[bias.name] = replace(
        bias,
        dtype="int32",
        data=bias_codes.astype(np.int32),
        quantization=Quantization(bias_scale, np.zeros(len(bias_scale), np.int32)),
    )


def _filter_codes(weight: Tensor, smallest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales (out,) of a convolution, no scale below `smallest`."""
    assert weight.data is not None
    filters = weight.data.reshape(len(weight.data), -1).astype(np.float64)
    gain = np.ones(len(filters)) if weight.gain is None else weight.gain.astype(np.float64)
    peaks = np.maximum(filters.max(axis=1, initial=0), -filters.min(axis=1, initial=0))
    unfolded = (peaks / 127).astype(np.float32)
    scale = (unfolded * np.abs(gain)).astype(np.float32)
    weak = scale < smallest
    scale[weak] = smallest[weak]
    # In place, since weights may be large: codes of the filters as trained, then their signs; the weak ones with gain.
    filters *= np.where(weak, gain, 1)[:, None]
    filters /= np.where(weak, scale, unfolded)[:, None]
    np.rint(filters, out=filters)
    filters *= np.where(weak, 1, np.sign(gain))[:, None]
    return _int8(filters).reshape(weight.data.shape), scale


def _dense_codes(weight: Tensor, smallest: float) -> tuple[np.ndarray, np.ndarray]:
    """Codes and the one scale (1,) of a dense layer, the scale no smaller than `smallest`."""
    values = constant(weight).astype(np.float64)
    scale = np.array([max(np.abs(values).max(initial=0) / 127, smallest)], np.float32)
    return _int8(np.rint(values / scale)), scale


def _int8(codes: np.ndarray) -> np.ndarray:
    return np.clip(codes, -127, 127).astype(np.int8)


def _quantized(tensor: Tensor, parameters: Quantization) -> Tensor:
    return replace(tensor, dtype="int8", quantization=parameters)


def _parameters(tensor: Tensor) -> Quantization:
    assert tensor.quantization is not None
    return tensor.quantization


def _activation(scale: float, zero_point: int) -> Quantization:
    return Quantization(np.array([scale], np.float32), np.array([zero_point], np.int32))


def _check_finite(graph: Graph, name: str, low: float, high: float) -> None:
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise InputError(f"{graph.name}: range of {name} is {low} to {high}: expected finite values, smaller first")
