"""Quaternion weights once in an ONNX file: r, i, j, k, and the nodes by which a runtime expands them as it loads.

A block kernel holds each component four times; the eight kernels of the fast form are sums and multiples of them. A
compact file stores the components and says how kernels follow from them: by Neg and Concat, or by Add, Sub and Mul,
and by Mul with batch norm's gain. A runtime folds constants as it loads a model, and then runs what it would have run
anyhow; only the sums of the fast form are then rounded at each step, and not once. Never pass a compact file through
onnxsim, and never keep the optimised model that onnxruntime can save: both hold every kernel expanded, and the file is
as large as if it had never been compact.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from edgeq.graph import ir
from edgeq.lowering.block import quaternion_components
from edgeq.lowering.fast import (
    COMPONENTS,
    CORRECTION_NAMES,
    CORRECTIONS,
    HADAMARD,
    PRODUCT_NAMES,
    fast_layers,
)
from edgeq.nets.hamilton import COMPONENT, SIGN


class ModelFile(Protocol):
    """An ONNX model in the making: takes a constant or a node, gives the name of its value."""

    def constant(self, name: str, data: np.ndarray) -> str: ...
    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str: ...


class CompactKernels:
    """Adds the kernels of a graph's layers to a model in the making, by their components where they have any."""

    def __init__(self, file: ModelFile, graph: ir.Graph) -> None:
        self._file, self._layers = file, fast_layers(graph)
        self._values: dict[str, str | None] = {}

    def add(self, name: str, kernel: np.ndarray, gain: np.ndarray | None) -> str | None:
        """The value of a kernel (out, in, ...) times gain (out,); None, and nothing added, where it is no quaternion's.

        name: of the kernel's tensor in the graph; the kernels of a fast layer are known by it.
        """
        if name not in self._values:
            layer, _, part = name.rpartition(".")
            factors = None if gain is None else gain.reshape(-1, *[1] * (kernel.ndim - 1))
            if layer in self._layers and part in PRODUCT_NAMES:
                self._values[name] = self._product(name, layer, PRODUCT_NAMES.index(part))
            elif layer in self._layers and part in CORRECTION_NAMES:
                self._values[name] = self._correction(name, layer, CORRECTION_NAMES.index(part), factors)
            else:
                self._values[name] = self._block(name, kernel, factors)
        return self._values[name]

    def _block(self, name: str, kernel: np.ndarray, gain: np.ndarray | None) -> str | None:
        components = quaternion_components(kernel)
        if components is None:
            return None
        stored = self._stored(name, components)
        negated = [stored[0], *(self._file.node("Neg", [part], f"{part}.negated") for part in stored[1:])]
        rows = [
            self._file.node(
                "Concat",
                [(stored if sign > 0 else negated)[part] for part, sign in zip(parts, signs, strict=True)],
                f"{name}.row_{component}",
                axis=1,
            )
            for component, parts, signs in zip(COMPONENTS, COMPONENT, SIGN, strict=True)
        ]
        if gain is None:
            return self._file.node("Concat", rows, name, axis=0)
        return self._times(self._file.node("Concat", rows, f"{name}.trained", axis=0), gain, name)

    def _product(self, name: str, layer: str, number: int) -> str:
        total, *others = self._stored(layer, self._layers[layer])
        for component, part, sign in zip(COMPONENTS[1:], others, HADAMARD[number][1:], strict=True):
            total = self._file.node("Add" if sign > 0 else "Sub", [total, part], f"{name}.to_{component}")
        return self._times(total, np.array(0.25, np.float32), name)

    def _correction(self, name: str, layer: str, number: int, gain: np.ndarray | None) -> str:
        factor, component, _ = CORRECTIONS[number]
        stored = self._stored(layer, self._layers[layer])[component]
        return self._times(stored, np.array(factor, np.float32) * (1 if gain is None else gain), name)

    def _stored(self, name: str, components: np.ndarray) -> list[str]:
        return [self._file.constant(f"{name}.{part}", data) for part, data in zip(COMPONENTS, components, strict=True)]

    def _times(self, value: str, factors: np.ndarray, output: str) -> str:
        return self._file.node("Mul", [value, self._file.constant(f"{output}.factors", factors)], output)
