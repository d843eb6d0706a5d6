"""What each operator computes on int8 codes, bit for bit as LiteRT's reference kernels (BUILTIN_REF) compute it.

Sums are exact whatever their order, so convolutions and dense layers may run through BLAS: float32 while every partial
sum stays below 2^24, else float64.

TensorFlow Lite Micro computes the same in all but two operators: it rounds twice in FULLY_CONNECTED too, as in the
convolutions, a code apart at most; and a RELU6 of its own only limits codes, as if its output had its input's scale.
Source: tflite/kernels/internal/reference and .../reference/integer_ops of LiteRT.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeq.graph.fixed_point import (
    doubling_high_multiply,
    exp_on_negative_values,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    reciprocal,
    rounding_divide_by_power_of_two,
    wrap,
)
from edgeq.graph.float_kernels import (
    Kernel,
    concatenation,
    conv_products,
    depthwise_products,
    pad,
    pool_counts,
    pooled,
    reduce_max,
    reshape,
    slice_axis,
    transpose,
)
from edgeq.graph.ir import (
    NONE,
    RELU,
    RELU6,
    RELU_N1_TO_1,
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    HardSwish,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Op,
    Pad,
    Quantize,
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

CODE_MIN, CODE_MAX = -128, 127

SUM_LEFT_SHIFT = 20
SOFTMAX_DIFFERENCE_BITS = 5
SOFTMAX_SUM_BITS = 12


def table(kind: type[Op], scale: float, zero_point: int, output_scale: float) -> np.ndarray:
    """TANH or LOGISTIC of every input code, in steps of the output's scale, before it is rounded: float32 (256,).

    The kernel asks the C library for float32 tanh and exp, which may be off by an ulp or two; here they are exact to
    half an ulp. A result on the edge between two codes can therefore differ: quantize keeps scales clear of such edges.
    """
    source = np.float32(scale) * (np.arange(CODE_MIN, CODE_MAX + 1) - zero_point).astype(np.float32)
    function = _tanh if kind is Tanh else _logistic
    return function(source) * (np.float32(1) / np.float32(output_scale))


def _conv(op: Conv2D, tensors: Mapping[str, Tensor], x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Per output channel: accumulate in int32, rescale with double rounding."""
    dtype = _exact_dtype(weight)
    y = np.empty((len(x), *tensors[op.output].shape[1:]), np.int8)
    offset = x.astype(dtype) - _zero_point(tensors, op.inputs[0])
    for items, products in conv_products(op, offset, weight.astype(dtype)):
        y[items] = _rescaled(op, tensors, products, bias)
    return y


def _depthwise(
    op: DepthwiseConv2D, tensors: Mapping[str, Tensor], x: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """As the convolution."""
    dtype = _exact_dtype(weight)
    offset = x.astype(dtype) - _zero_point(tensors, op.inputs[0])
    return _rescaled(op, tensors, depthwise_products(op, offset, weight.astype(dtype)), bias)


def _rescaled(
    op: Conv2D | DepthwiseConv2D, tensors: Mapping[str, Tensor], products: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    factor = quantize_multiplier(_accumulator_scale(op, tensors) / _scale(tensors, op.output))
    scaled = multiply_by_quantized_multiplier(wrap(products.astype(np.int64) + bias), *factor)
    return _output_codes(scaled, tensors[op.output], op.activation)


def _dense(
    op: FullyConnected, tensors: Mapping[str, Tensor], x: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """Accumulate in int32, rescale in double precision with one rounding, half away from zero.

    The same whether weights have one scale in all or one an output.
    """
    dtype = _exact_dtype(weight)
    products = (x.astype(dtype) - _zero_point(tensors, op.inputs[0])) @ weight.astype(dtype).T
    sums = wrap(products.astype(np.int64) + bias)
    scaled = _round_half_away(sums * (_accumulator_scale(op, tensors) / _scale(tensors, op.output)))
    return _output_codes(scaled.astype(np.int64), tensors[op.output], op.activation)


def _average_pool(op: AveragePool2D, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    """The mean of the codes themselves, rounded half away from code 0."""
    count = pool_counts(op, x)
    sums = pooled(op, x, 0).sum(axis=(3, 4), dtype=np.int64)
    means = np.sign(sums) * ((np.abs(sums) + count // 2) // count)
    return _clipped(means, tensors[op.output], op.activation)


def _max_pool(op: MaxPool2D, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return _clipped(pooled(op, x, CODE_MIN).max(axis=(3, 4)), tensors[op.output], op.activation)


def _mean(op: Mean, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    """1 / count is folded into the multiplier, truncated."""
    count = int(np.prod([x.shape[axis] for axis in op.axes]))
    multiplier, shift = quantize_multiplier(_scale(tensors, op.inputs[0]) / _scale(tensors, op.output))
    halvings = count.bit_length() - 1
    multiplier, shift = (multiplier << halvings) // count, shift - halvings
    sums = wrap(x.sum(axis=op.axes, keepdims=op.keep_dims, dtype=np.int64) - _zero_point(tensors, op.inputs[0]) * count)
    return _output_codes(multiply_by_quantized_multiplier(sums, multiplier, shift), tensors[op.output])


def _sum(op: Add | Sub, tensors: Mapping[str, Tensor], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Both inputs brought to twice the larger scale with 20 more bits, added, brought to the output's scale."""
    scales = [_scale(tensors, name) for name in op.inputs]
    common = 2 * max(scales)
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.int64)
    for codes, name, scale, sign in zip((x, y), op.inputs, scales, (1, -1 if isinstance(op, Sub) else 1), strict=True):
        widened = (codes.astype(np.int64) - _zero_point(tensors, name)) << SUM_LEFT_SHIFT
        total += sign * multiply_by_quantized_multiplier(widened, *quantize_multiplier(scale / common))
    factor = quantize_multiplier(common / ((1 << SUM_LEFT_SHIFT) * _scale(tensors, op.output)))
    return _output_codes(multiply_by_quantized_multiplier(total, *factor), tensors[op.output], op.activation)


def _mul(op: Mul, tensors: Mapping[str, Tensor], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The factor that brings products to the output's scale is computed in float32."""
    left, right = (
        codes.astype(np.int64) - _zero_point(tensors, name) for codes, name in zip((x, y), op.inputs, strict=True)
    )
    scales = [np.float32(_scale(tensors, name)) for name in (*op.inputs, op.output)]
    factor = quantize_multiplier(float(scales[0] * scales[1] / scales[2]))
    return _output_codes(multiply_by_quantized_multiplier(left * right, *factor), tensors[op.output], op.activation)


def _relu(op: Relu | Relu6, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    """Rescaled with double rounding; the ratio of the scales is a float32, as in MUL alone."""
    ratio = float(np.float32(_scale(tensors, op.inputs[0])) / np.float32(_scale(tensors, op.output)))
    offset = x.astype(np.int64) - _zero_point(tensors, op.inputs[0])
    scaled = multiply_by_quantized_multiplier(offset, *quantize_multiplier(ratio))
    return _output_codes(scaled, tensors[op.output], RELU if isinstance(op, Relu) else RELU6)


def _lookup(op: Op, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    """A table of 256 codes, its values computed in float32."""
    source = op.inputs[0]
    exact = table(type(op), _scale(tensors, source), _zero_point(tensors, source), _scale(tensors, op.output))
    codes = _codes(_round_half_away(exact) + _zero_point(tensors, op.output))
    return codes[x.astype(np.int64) - CODE_MIN]


def _hard_swish(op: HardSwish, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    """In 16 bits: the input in steps of the output's scale, times relu6(x + 3) / 6, saturated at both ends.

    The last product is truncated towards zero, everything else is rounded.
    """
    fine = np.float32(1 / 128) * np.float32(_scale(tensors, op.inputs[0]))
    multiplier, exponent = _short_multiplier(fine / np.float32(_scale(tensors, op.output)))
    share_multiplier, share_exponent = _short_multiplier(fine / np.float32(3 / 32768))
    widened = (x.astype(np.int64) - _zero_point(tensors, op.inputs[0])) << 7
    share = _short(widened << max(share_exponent - 1, 0))
    share = _short(_short_high_multiply(share, share_multiplier) << (1 if share_exponent > 0 else 0))
    share = rounding_divide_by_power_of_two(share, max(-share_exponent, 0))
    product = ((share + (1 << 15)) >> 1) * _short_high_multiply(widened, multiplier)
    truncated = np.sign(product) * (np.abs(product) >> 15)
    # Shifted by more than its 16 bits, a number becomes its sign.
    signs = np.where(truncated < 0, -1, 1)
    scaled = rounding_divide_by_power_of_two(truncated, -exponent) if exponent > -16 else signs
    return _output_codes(scaled, tensors[op.output])


def _short_multiplier(real: np.float32) -> tuple[int, int]:
    """A factor of quantize_multiplier with its multiplier in 16 bits."""
    multiplier, shift = quantize_multiplier(float(real))
    return min((int(multiplier) + (1 << 15)) >> 16, (1 << 15) - 1), int(shift)


def _short_high_multiply(a: np.ndarray, b: int) -> np.ndarray:
    """The high half of 2ab in 16 bits, rounded half up."""
    return (a * b + (1 << 14)) >> 15


def _short(x: np.ndarray) -> np.ndarray:
    return np.clip(x, -(1 << 15), (1 << 15) - 1)


def _softmax(op: Softmax, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    """exp of the difference to the row's largest code and the reciprocal of their sum, all in fixed point."""
    difference = x.max(axis=-1, keepdims=True).astype(np.int64) - x
    exponentials = softmax_exponentials(_scale(tensors, op.inputs[0]))[difference]
    shares = rounding_divide_by_power_of_two(exponentials, SOFTMAX_SUM_BITS)
    fraction, exponent = reciprocal(shares.sum(axis=-1, keepdims=True), SOFTMAX_SUM_BITS)
    scaled = rounding_divide_by_power_of_two(doubling_high_multiply(exponentials, fraction), exponent + 31 - 8)
    return _codes(scaled + CODE_MIN)


def _pad(op: Pad, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return pad(x, op.padding, _zero_point(tensors, op.output), op.channels)


def _requantize(op: Quantize, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    """Rescaled with double rounding; the ratio of the scales in double precision."""
    factor = quantize_multiplier(_scale(tensors, op.inputs[0]) / _scale(tensors, op.output))
    offset = x.astype(np.int64) - _zero_point(tensors, op.inputs[0])
    return _output_codes(multiply_by_quantized_multiplier(offset, *factor), tensors[op.output])


def softmax_exponentials(scale: float) -> np.ndarray:
    """exp(-difference * scale), Q0.31, for differences of 0 to 255 codes; 0 where the kernel skips them."""
    real = min(scale * (1 << (31 - SOFTMAX_DIFFERENCE_BITS)), float((1 << 31) - 1))
    multiplier, shift = quantize_multiplier(real)
    radius = int(((1 << SOFTMAX_DIFFERENCE_BITS) - 1) * 2.0 ** (31 - SOFTMAX_DIFFERENCE_BITS - int(shift)))
    difference = np.arange(256, dtype=np.int64)
    kept = np.minimum(difference, radius)
    exponentials = exp_on_negative_values(doubling_high_multiply(-kept << shift, multiplier))
    return np.where(difference <= radius, exponentials, 0)


def _tanh(x: np.ndarray) -> np.ndarray:
    return np.tanh(x.astype(np.float64)).astype(np.float32)


def _logistic(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # to infinity, whose reciprocal is the 0 that is wanted
        exponentials = np.exp(-x.astype(np.float64)).astype(np.float32)
    return np.float32(1) / (np.float32(1) + exponentials)


def _output_codes(scaled: np.ndarray, output: Tensor, activation: str = NONE) -> np.ndarray:
    """Codes of values in steps of the output's scale, clipped to what its activation lets through."""
    parameters = output.quantization
    assert parameters is not None
    return _clipped(scaled + int(parameters.zero_point[0]), output, activation)


def _clipped(codes: np.ndarray, output: Tensor, activation: str) -> np.ndarray:
    return np.clip(codes, *activation_range(output, activation)).astype(np.int8)


def activation_range(output: Tensor, activation: str) -> tuple[int, int]:
    """The lowest and the highest code that a fused activation lets through."""
    parameters = output.quantization
    assert parameters is not None

    def code(value: int) -> int:
        return int(parameters.zero_point[0]) + int(_round_half_away(np.float32(value) / parameters.scale[0]))

    limits = {NONE: (None, None), RELU: (0, None), RELU6: (0, 6), RELU_N1_TO_1: (-1, 1)}
    lowest, highest = limits[activation]
    return (
        CODE_MIN if lowest is None else max(CODE_MIN, code(lowest)),
        CODE_MAX if highest is None else min(CODE_MAX, code(highest)),
    )


def _codes(values: np.ndarray) -> np.ndarray:
    return np.clip(values, CODE_MIN, CODE_MAX).astype(np.int8)


def _round_half_away(x: np.ndarray) -> np.ndarray:
    return np.trunc(x + np.copysign(0.5, x))


def _accumulator_scale(op: Op, tensors: Mapping[str, Tensor]) -> np.ndarray:
    weight = tensors[op.inputs[1]].quantization
    assert weight is not None
    return _scale(tensors, op.inputs[0]) * weight.scale.astype(np.float64)


def _scale(tensors: Mapping[str, Tensor], name: str) -> float:
    parameters = tensors[name].quantization
    assert parameters is not None
    return float(parameters.scale[0])


def _zero_point(tensors: Mapping[str, Tensor], name: str) -> int:
    parameters = tensors[name].quantization
    assert parameters is not None
    return int(parameters.zero_point[0])


def _exact_dtype(weight: np.ndarray) -> np.dtype:
    """float32 where no partial sum of weight * (code - zero_point) can reach 2^24."""
    largest = np.abs(weight.astype(np.int16)).reshape(len(weight), -1).sum(axis=1, dtype=np.int64).max(initial=0)
    return np.dtype(np.float32 if largest * 255 < 1 << 24 else np.float64)


INT8_KERNELS: dict[type[Op], Kernel] = {
    Conv2D: _conv,
    DepthwiseConv2D: _depthwise,
    FullyConnected: _dense,
    AveragePool2D: _average_pool,
    MaxPool2D: _max_pool,
    Mean: _mean,
    ReduceMax: reduce_max,
    Add: _sum,
    Sub: _sum,
    Mul: _mul,
    Concatenation: concatenation,
    Slice: slice_axis,
    Relu: _relu,
    Relu6: _relu,
    HardSwish: _hard_swish,
    Tanh: _lookup,
    Logistic: _lookup,
    Softmax: _softmax,
    Reshape: reshape,
    Pad: _pad,
    Transpose: transpose,
    Quantize: _requantize,
}
"""One function an operator: (op, tensors by name, codes) to the output's codes."""
