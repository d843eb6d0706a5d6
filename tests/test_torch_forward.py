"""CUDA graphs on a stand-in of torch.cuda that records and replays as CUDA does: calls in a wrong order fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from edgeq import zoo
from edgeq.runtime import torch_forward
from edgeq.runtime.torch import TorchRuntime
from edgeq.runtime.torch_forward import Forward, Graphs


class Recording(TorchDispatchMode):
    """Notes operators without running them: as in CUDA, what they give holds nothing until the graph is replayed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default,):
            raise RuntimeError("operation not permitted when stream is capturing")
        found = func(*args, **(kwargs or {}))
        if found.untyped_storage().data_ptr() != args[0].untyped_storage().data_ptr():  # neither a view nor in place
            found.fill_(torch.nan)
        self.calls.append((func, args, kwargs or {}, found))
        return found


class Cuda:
    """The part of torch.cuda that graphs need; log: what was called, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        outer, cuda = self, self

        class Stream:
            def __init__(self, name: str = "beside") -> None:
                self.name = name

            def wait_stream(self, other: Stream) -> None:
                cuda.log.append(f"{self.name} waits for {other.name}")

        class Graph:
            def replay(self) -> None:
                outer.log.append("replay")
                for func, args, kwargs, found in self.recorded.calls:
                    fresh = func(*args, **kwargs)
                    if fresh.data_ptr() != found.data_ptr():
                        found.copy_(fresh)

        self.Stream, self.CUDAGraph, self._usual = Stream, Graph, Stream("usual")

    def current_stream(self) -> Any:
        return self._usual

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.log.append(f"on {stream.name}")
        yield
        self.log.append("back")

    @contextmanager
    def graph(self, graph: Any) -> Iterator[None]:
        self.log.append("record")
        with Recording() as graph.recorded:
            yield


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """In the module's own torch alone: torch itself looks into torch.cuda too."""
    fake = Cuda()
    names = {name: getattr(torch, name) for name in ("float16", "bfloat16", "float32")}
    monkeypatch.setattr(torch_forward, "torch", SimpleNamespace(cuda=fake, **names))
    return fake


def network() -> torch.nn.Module:
    layers = torch.nn.Conv2d(2, 3, 3), torch.nn.ReLU(inplace=True), torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 5, 4)
    return torch.nn.Sequential(*layers).eval()


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_replays_give_what_calls_give_for_each_batch_size(cuda: Cuda, precision: str) -> None:
    forward = Forward(network(), "softmax", precision)
    graphs = Graphs(forward, "cpu")
    with torch.inference_mode():
        batches = [torch.randn(size, 2, 6, 7) for size in (1, 1, 3, 1, 3)]
        found = [graphs(batch) for batch in batches]
        for batch, probabilities in zip(batches, found, strict=True):
            torch.testing.assert_close(probabilities, forward(batch))
    assert cuda.log.count("record") == 2 and cuda.log.count("replay") == 5


def test_a_graph_is_recorded_behind_warm_calls_on_a_stream_of_their_own(cuda: Cuda) -> None:
    calls: list[int] = []

    def forward(windows: torch.Tensor) -> torch.Tensor:
        calls.append(len(cuda.log))
        return windows * 2

    Graphs(forward, "cpu")(torch.ones(1, 2))
    assert cuda.log == [
        "beside waits for usual", "on beside", "back", "usual waits for beside", "record", "replay",
    ]  # fmt: skip
    assert calls == [2, 2, 2, 5], "three times beside, once recorded"


def test_probabilities_of_each_kind_of_output() -> None:
    logits = torch.randn(2, 2, 6, 7)
    net = network()
    with torch.inference_mode():
        plain = net(logits)
        torch.testing.assert_close(Forward(net)(logits), plain)
        torch.testing.assert_close(Forward(net, "sigmoid")(logits), plain.sigmoid())
        torch.testing.assert_close(Forward(net, "softmax")(logits), plain.softmax(1))


@pytest.mark.parametrize(("tf32", "products"), [(True, "high"), (False, "highest")])
def test_tfloat32_is_of_convolutions_and_dense_layers_and_only_during_a_call(tf32: bool, products: str) -> None:
    ready = TorchRuntime(zoo.find("esc10-qnano"), "qnano", 1)
    ready._gpu, ready._tf32 = True, tf32  # as on a GPU; what is set belongs to the process, with or without one
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with ready._settings():
        assert torch.get_float32_matmul_precision() == products
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (tf32, tf32)
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before
