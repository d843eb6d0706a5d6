"""Which form layers get: as told, and by times, which are made up here: nothing in these tests hangs on a clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import graphs
import numpy as np
import pytest
from quaternion_graphs import qresnet

from edgeq import runtime as runtimes
from edgeq.errors import InputError
from edgeq.export import select
from edgeq.export.choice import BLOCK, FAST, Choice, Times
from edgeq.export.onnx import to_onnx
from edgeq.graph import ir
from edgeq.graph.check import check
from edgeq.lowering.fast import quaternion_layers, worthwhile

Ratio = Callable[[str, tuple[str, ...]], float]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Ratio], list[tuple[str, tuple[str, ...]]]]:
    """Replaces timing by ratios of (graph's name, fast layers); gives the list of what was asked."""

    def install(ratio: Ratio) -> list[tuple[str, tuple[str, ...]]]:
        asked = []

        def timed(graph: ir.Graph, fast: list[str], form: str) -> Times:
            asked.append((graph.name, tuple(fast)))
            return Times(1.0, ratio(graph.name, tuple(fast)), ratio(graph.name, tuple(fast)))

        monkeypatch.setattr(select, "_timed", timed)
        return asked

    return install


def forms(choice: Choice) -> dict[str, str]:
    return {layer.name: layer.lowering for layer in choice.layers}


def test_a_layer_is_fast_where_it_and_the_network_gain(clock) -> None:
    quick = {"conv_4", "conv_7"}
    clock(lambda name, fast: 0.6 if name == "qresnet" or fast[0] in quick else 1.1)
    chosen = select.choose(qresnet(), "onnx")
    assert {name for name, form in forms(chosen).items() if form == FAST} == quick
    assert chosen.network == Times(1.0, 0.6, 0.6)
    assert chosen.runtime == "onnxruntime" and chosen.version
    timed = {layer.name: layer.times for layer in chosen.layers}
    assert timed["conv_1"] is None and timed["conv_4"] == Times(1.0, 0.6, 0.6)


def test_a_network_that_does_not_gain_is_all_block(clock) -> None:
    clock(lambda name, fast: 1.01 if name == "qresnet" else 0.5)
    selected = select.select(qresnet(), "auto", ("tflite",))
    chosen = selected.choices["tflite"]
    assert set(forms(chosen).values()) == {BLOCK} and chosen.network.ratio == 1.01
    assert selected.notes == ("litert: what gains alone gains too little as a network: all is block",)


def test_where_no_layer_gains_the_network_is_not_timed(clock) -> None:
    asked = clock(lambda name, fast: 0.99)
    selected = select.select(qresnet(), "auto", ("onnx",))
    assert set(forms(selected.choices["onnx"]).values()) == {BLOCK} and selected.choices["onnx"].network is None
    assert selected.notes == () and "qresnet" not in {name for name, _ in asked}


def test_layers_of_equal_shapes_are_timed_once(clock) -> None:
    graph = qresnet()
    asked = clock(lambda name, fast: 0.5)
    chosen = select.choose(graph, "onnx")
    assert [fast for name, fast in asked if name != "qresnet"] == [
        ("conv_2",), ("conv_4",), ("conv_5",), ("conv_6",), ("conv_7",), ("conv_8",), ("conv_9",)
    ]  # fmt: skip
    assert asked[-1] == ("qresnet", worthwhile(graph)) and "conv_3" in chosen.fast


def test_told_fast_all_that_may_gain_are() -> None:
    graph = qresnet()
    selected = select.select(graph, "fast", ("onnx", "tflite"))
    assert selected.table is None and selected.choices["onnx"] == selected.choices["tflite"]
    assert selected.choices["onnx"].fast == worthwhile(graph)
    assert forms(selected.choices["onnx"])["conv_1"] == BLOCK
    assert select.select(graph, "block", ("onnx",)).choices == {}


def test_networks_without_quaternions() -> None:
    real = graphs.residual()
    with pytest.raises(InputError, match="residual: no quaternion convolutions: nothing for --lowering fast to do"):
        select.select(real, "fast", ("onnx",))
    selected = select.select(real, "auto", ("onnx",))
    assert selected.choices == {} and selected.table is None
    assert selected.notes == ("no quaternion convolutions: --lowering auto had nothing to choose",)


def test_networks_of_single_quaternions() -> None:
    net = graphs.Builder((1, 6, 5, 4))
    graph = net.graph("narrow", net.conv("input", 8, (3, 3), weight=net.hamilton(8, 4, (3, 3))))
    with pytest.raises(InputError, match="quaternion convolutions of 4 channels only: nothing for --lowering fast"):
        select.select(graph, "fast", ("onnx",))
    chosen = select.choose(graph, "onnx")
    assert forms(chosen) == {"conv_1": BLOCK} and chosen.network is None


def test_a_table_repeats_what_was_timed(clock, tmp_path: Path) -> None:
    clock(lambda name, fast: 0.5 if name == "qresnet" or "conv_5" in fast else 1.0)
    timed = select.select(qresnet(), "auto", ("onnx", "tflite"))
    place = tmp_path / "lowering.json"
    place.write_bytes(timed.table)
    clock(lambda name, fast: pytest.fail("timed again"))
    again = select.select(qresnet(), place, ("onnx", "tflite"))
    assert again.choices == timed.choices and again.table == timed.table


@pytest.mark.parametrize("layer", ["conv_2", "conv_4", "conv_6"])
@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_a_layer_alone_runs_in_both_forms(layer: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 x 3, and 1 x 1: what is timed computes the same either way, and takes one input of the network's kind."""
    graph = qresnet()
    alone = check(select._alone(graph, next(op for op in graph.ops if op.output == layer)))
    outputs = []

    def compare(block: runtimes.Runtime, fast: runtimes.Runtime, x: np.ndarray) -> Times:
        outputs.extend(side.predict(x) for side in (block, fast))
        return Times(1.0, 1.0, 1.0)

    monkeypatch.setattr(select, "paired", compare)
    assert quaternion_layers(alone) == (layer,)
    select._timed(alone, [layer], form)
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-5, atol=1e-4)
    assert outputs[0].any()


def test_both_sides_run_in_turns(tmp_path: Path) -> None:
    class Side:
        def __init__(self, name: str) -> None:
            self.name = name

        def predict(self, x: np.ndarray) -> None:
            calls.append(self.name)
            sum(range(2000))

    calls: list[str] = []
    times = select.paired(Side("block"), Side("fast"), np.zeros(1))
    assert times.block_ms > 0 and times.fast_ms > 0 and times.ratio > 0
    turns = [name for n, name in enumerate(calls) if n == 0 or calls[n - 1] != name]
    assert turns == ["block", "fast"] * (len(turns) // 2) and len(turns) >= 2 * select.ROUNDS


def test_runtimes_and_packages_are_those_that_files_run_in(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(to_onnx(qresnet()))
    assert runtimes.open(tmp_path / "a.onnx").name == select.RUNTIMES["onnx"][0]
    assert all(name in runtimes.RUNTIMES for name, _ in select.RUNTIMES.values())
