"""A network as torch calls it: in a precision, on the processor or a GPU, one call at a time or as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_WARM_UP = 3
"""Calls before a graph is recorded: libraries choose their kernels and make room for them in the first ones."""


class Forward(nn.Module):
    """From float32 windows (n, components, mels, frames) to float32 probabilities (n, classes), both on one device.

    network: in evaluation mode. output: what makes probabilities of what it gives, "softmax" or "sigmoid"; "" where it
    gives them itself. precision: of its weights and of what they are multiplied with; tfloat32 is float32 here, and a
    setting of CUDA's libraries.
    """

    def __init__(self, network: nn.Module, output: str = "", precision: str = "float32", device: str = "cpu") -> None:
        super().__init__()
        self.dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(precision, torch.float32)
        self.output = output
        self.network = network.to(device, self.dtype)
        if device == "cuda" and self.dtype != torch.float32:
            _channels_last(self.network)  # as tensor cores take 16-bit numbers

    def forward(self, windows: Tensor) -> Tensor:
        given = self.network(windows.to(self.dtype)).float()
        return given.softmax(dim=1) if self.output == "softmax" else given.sigmoid() if self.output else given


def _channels_last(network: nn.Module) -> None:
    """Lay out kernels NHWC. A module's own `to` stumbles over kernels of quaternions, which have five axes."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class _Recorded:
    """A graph, and where on the device it takes its windows and leaves its probabilities."""

    graph: torch.cuda.CUDAGraph
    windows: Tensor
    probabilities: Tensor


class Graphs:
    """Calls of a network as CUDA graphs: one for each batch size, recorded at its first call and replayed after that.

    Source: PyTorch's documentation, "CUDA semantics", CUDA Graphs.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], device: str = "cuda") -> None:
        self._forward, self._device = forward, device
        self._recorded: dict[int, _Recorded] = {}

    def __call__(self, windows: Tensor) -> Tensor:
        """Windows in the computer's memory to probabilities there: what comes back is complete, and stays."""
        if len(windows) not in self._recorded:
            self._recorded[len(windows)] = self._record(windows)
        recorded = self._recorded[len(windows)]
        recorded.windows.copy_(windows)
        recorded.graph.replay()
        return recorded.probabilities.to("cpu", copy=True)  # waits for the replay, being on the same stream

    def _record(self, windows: Tensor) -> _Recorded:
        given = windows.to(self._device, copy=True)
        beside = torch.cuda.Stream()  # nothing may wait on the usual stream while a graph is recorded
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UP):
                self._forward(given)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            probabilities = self._forward(given)
        return _Recorded(graph, given, probabilities)
