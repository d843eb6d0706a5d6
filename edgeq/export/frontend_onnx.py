"""A front end as two ONNX models, for runtimes that have no NumPy: samples to log-mel frames, windows to features.

They are two since frames are computed once and windows overlap, and since derivatives are of a window, with its edges
replicated. Both compute in float64 between float32 ends, as audio.frontend does: beside a loud band, float32 spectra
have a noise floor of their own, which the logarithm of a small floor would show.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeq.audio.frontend import (
    DERIVATIVE_ORDERS,
    FrontendSpec,
    derivative_kernel,
    mel_filterbank,
    stft_window,
)

OPSET = 18
IR_VERSION = 8
SAMPLES, FRAMES = "samples", "frames"
WINDOWS, FEATURES, GATED = "windows", "features", "gated"


def logmel_onnx(spec: FrontendSpec) -> bytes:
    """The log-mel frames that fit whole into the samples, as `audio.frontend.logmel_frames` has them.

    The model: "samples" float32 (n,), n at least spec.n_fft, to "frames" float32 (1 + (n - n_fft) // hop_length,
    spec.logmel_rows), time first. Edges are the caller's: a centred front end is handed samples that are reflected.
    Equal specs give equal bytes. Raises InputError where a mel filter spans no bin.
    Source: ONNX operator STFT, opset 17.
    """
    file = _File()
    signal = file.node("Cast", [SAMPLES], to=TensorProto.DOUBLE)
    signal = file.node("Reshape", [signal, file.constant("one_signal", np.array([1, -1, 1]))])
    spectrum = file.node(
        "STFT",
        [
            signal,
            file.constant("hop_length", np.int64(spec.hop_length)),
            file.constant("window", stft_window(spec)),
            file.constant("n_fft", np.int64(spec.n_fft)),
        ],
        onesided=1,
    )
    power = file.node("ReduceSumSquare", [spectrum, file.constant("complex", np.array([3]))], keepdims=0)
    power = file.node("Squeeze", [power, file.constant("signal", np.array([0]))])
    magnitude = power if spec.power == 2.0 else file.node("Sqrt", [power])
    mel = file.node("MatMul", [magnitude, file.constant("filters", _filters(spec).T)])
    floor = file.constant("floor", np.float64(spec.floor))
    if spec.floor_rule == "add":
        mel = file.node("Add", [file.node("Max", [mel, file.constant("zero", np.float64(0))]), floor])
    else:
        mel = file.node("Max", [mel, floor])
    unit = file.constant("unit", np.float64(10 / math.log(10) if spec.log == "db" else 1.0))
    file.node("Cast", [file.node("Mul", [file.node("Log", [mel]), unit])], FRAMES, to=TensorProto.FLOAT)
    return file.pack(
        "logmel",
        [helper.make_tensor_value_info(SAMPLES, TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info(FRAMES, TensorProto.FLOAT, ["k", spec.logmel_rows])],
    )


def features_onnx(spec: FrontendSpec) -> bytes:
    """What the network sees of windows of frames, and which are too quiet: `audio.frontend.features` and `gated`.

    The model: "windows" float32 (n, spec.window_frames, spec.logmel_rows), slices of "frames", to "features" float32
    (n, components, n_mels, window_frames) and "gated" bool (n,). Equal specs give equal bytes.
    """
    file = _File()
    mels_first = file.node("Transpose", [WINDOWS], perm=(0, 2, 1))
    shape = file.constant("components", np.array([0, -1, spec.n_mels, spec.window_frames]))
    maps = file.node("Cast", [file.node("Reshape", [mels_first, shape])], to=TensorProto.DOUBLE)
    if spec.derivatives == "time":
        maps = _with_time_derivatives(file, maps, spec)
    mean, std = (
        file.constant(name, np.array(values).reshape(1, -1, 1, 1))
        for name, values in (("mean", spec.mean), ("std", spec.std))
    )
    file.node("Cast", [file.node("Div", [file.node("Sub", [maps, mean]), std])], FEATURES, to=TensorProto.FLOAT)
    _add_gate(file, mels_first, spec)
    return file.pack(
        "features",
        [helper.make_tensor_value_info(WINDOWS, TensorProto.FLOAT, ["n", spec.window_frames, spec.logmel_rows])],
        [
            helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["n", *spec.input_shape]),
            helper.make_tensor_value_info(GATED, TensorProto.BOOL, ["n"]),
        ],
    )


class _File:
    """The nodes and initializers of one model while they fill."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, data: np.ndarray | np.generic) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(data, order="C"), name))
        return name

    def pack(self, name: str, inputs: list[Any], outputs: list[Any]) -> bytes:
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="edgeq")
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)


def _filters(spec: FrontendSpec) -> np.ndarray:
    """What makes all rows of a log-mel from a spectrum, before floor and log: (logmel_rows, bins).

    Derivatives over the bins of the power spectrogram are linear: applied to the filters, they need no nodes.
    """
    filters = mel_filterbank(spec)
    if spec.derivatives != "power-frequency":
        return filters
    bins = filters.shape[1]
    kernel, half = derivative_kernel(spec.derivative_width, 1), spec.derivative_width // 2
    derivative = np.zeros((bins, bins))
    for offset, weight in zip(range(-half, half + 1), kernel, strict=True):
        np.add.at(derivative, (np.arange(bins), np.clip(np.arange(bins) + offset, 0, bins - 1)), weight)
    rows = [filters]
    for _ in DERIVATIVE_ORDERS:
        rows.append(rows[-1] @ derivative)
    return np.concatenate(rows)


def _with_time_derivatives(file: _File, maps: str, spec: FrontendSpec) -> str:
    """The log-mel (n, 1, mels, frames) with its derivatives behind it, edges replicated."""
    half, frames = spec.derivative_width // 2, spec.window_frames
    pads = file.constant("pads", np.array([0, 0, 0, half, 0, 0, 0, half]))
    replicated = file.node("Pad", [maps, pads], mode="edge")
    axis = file.constant("over_time", np.array([3]))
    # A sum of shifted maps: onnxruntime's Conv takes no float64.
    shifted = [
        file.node(
            "Slice",
            [
                replicated,
                file.constant(f"from_{offset}", np.array([offset])),
                file.constant(f"to_{offset}", np.array([offset + frames])),
                axis,
            ],
        )
        for offset in range(spec.derivative_width)
    ]
    neighbours = file.node("Concat", [file.node("Unsqueeze", [one, axis]) for one in shifted], axis=3)
    kernels = np.stack([derivative_kernel(spec.derivative_width, order) for order in DERIVATIVE_ORDERS])
    # (n, 1, mels, width, frames): each kernel row times the neighbours, (n, 1, mels, orders, frames).
    derivatives = file.node("MatMul", [file.constant("kernels", kernels), neighbours])
    ordered = file.node("Transpose", [derivatives], perm=(0, 1, 3, 2, 4))
    flat = file.node("Squeeze", [ordered, file.constant("one_component", np.array([1]))])
    return file.node("Concat", [maps, flat], axis=1)


def _add_gate(file: _File, mels_first: str, spec: FrontendSpec) -> None:
    places = [file.constant(name, np.array([at])) for name, at in (("row_0", 0), ("n_mels", spec.n_mels), ("rows", 1))]
    itself = file.node("Slice", [mels_first, *places])
    loudest = file.node("ReduceMax", [itself, file.constant("window_axes", np.array([1, 2]))], keepdims=0)
    # Without a gate nothing is below it. NumPy, too, takes the gate as float32 beside a float32 map.
    file.node("Less", [loudest, file.constant("gate", np.float32(-np.inf if spec.gate is None else spec.gate))], GATED)
