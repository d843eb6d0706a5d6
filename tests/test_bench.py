"""What is said of a model on a microcontroller: the contract's keys, bands, and every refusal."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import pytest

from edgeq import cli, zoo
from edgeq.bench import frontend, microcontroller, run
from edgeq.cortexm import build, targets
from edgeq.cortexm.frontend import emit
from edgeq.errors import CheckFailed, InputError
from edgeq.export import tflite
from edgeq.graph import cost, ir, reference
from edgeq.graph.ir import Quantization
from edgeq.graph.quantize import observe, quantize

ZOO = Path(__file__).resolve().parent.parent / "models"
KEYS = {
    "model", "target", "runtime", "stage", "kind", "latency_ms", "batch", "precision", "instructions", "cycles", "macs",
    "cycles_per_mac", "energy_mj", "flash_bytes", "ram_bytes", "layers", "machine", "warnings", "figures",
}  # fmt: skip


@pytest.fixture(scope="module")
def graph() -> ir.Graph:
    floats = graphs.inverted_residual()
    return quantize(floats, observe(floats, [graphs.inputs(floats, 8)]))


@pytest.fixture(scope="module")
def path(graph: ir.Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bench") / "net.tflite"
    place.write_bytes(tflite.to_tflite(graph))
    return place


def edgeq(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_the_figures_of_a_target_hang_together(graph: ir.Graph) -> None:
    target = targets.find("stm32l496")
    report = microcontroller.measure(graph, "net", target).to_json()
    assert set(report) == KEYS and (report["target"], report["runtime"], report["kind"]) == (
        "stm32l496", "c", "simulated",
    )  # fmt: skip
    low, high = report["latency_ms"]["low"], report["latency_ms"]["high"]
    assert high == pytest.approx(1.15 * low) and low * 80_000 >= report["cycles"]
    energy = report["energy_mj"]
    assert energy["kind"] == "estimated" and energy["source"] == target.sources["energy"]
    assert energy["low"] == pytest.approx(low * 80e3 * 0.33e-6) and energy["high"] == pytest.approx(
        high * 80e3 * 0.6e-6
    )
    assert report["macs"] == sum(layer.macs for layer in cost.layers(graph)) > 0
    assert report["cycles_per_mac"] == report["cycles"] / report["macs"]
    assert [layer["name"] for layer in report["layers"]] == [op.output for op in graph.ops]
    counted = sum(layer["instructions"] for layer in report["layers"])
    assert 0 < report["instructions"] - counted < 60
    assert report["flash_bytes"] > 1000 and report["ram_bytes"] < 20_000
    assert report["machine"]["clock_mhz"] == 80 and report["machine"]["compiler"].startswith("ziglang 0.17.")


def test_a_cortex_m7_takes_the_cycles_of_an_m4_over_1_6_and_is_estimated(graph: ir.Graph) -> None:
    report = microcontroller.measure(graph, "net", targets.find("stm32h7a3"))
    assert report.kind == "estimated"
    assert report.latency_ms.high / report.latency_ms.low == pytest.approx(1.49 / 0.89)
    assert report.latency_ms.low * 280e3 == pytest.approx(0.89 * report.cycles, rel=1e-3)


def test_the_command_gives_one_value_for_one_target_and_a_list_for_several(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = edgeq(capsys, "bench", path, "--target", "nano33ble", "--json")
    one = json.loads(out)
    assert code == 0 and set(one) == KEYS and not err
    code, out, _ = edgeq(capsys, "bench", path, "--target", "nano33ble, stm32u575", "--json")
    both = json.loads(out)
    assert code == 0 and [report["target"] for report in both] == ["nano33ble", "stm32u575"]
    assert both[0] == one, "the same every time"


def test_people_are_told_that_nothing_was_measured(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = edgeq(capsys, "bench", path, "--target", "stm32l496,stm32h7a3")
    assert code == 0
    assert all(len(line) <= 80 for line in out.split("stm32l496: ")[0].splitlines())
    assert "STM32L496xG, 80 MHz, not measured" in out and "latency simulated: calibrated on STM32L4R5" in out
    assert "latency estimated: Cortex-M4 cycles over 1.6" in out and out.count("energy estimated:") == 2
    code, out, _ = edgeq(capsys, "bench", path, "--target", "stm32l496")
    assert code == 0 and "DEPTHWISE_CONV_2D" in out


def test_long_names_of_layers_are_told_apart_and_are_no_markup(
    graph: ir.Graph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {
        op.output: f"functional_1/very_long_block/conv_{number}[/b];functional_1/batch_norm_{number}"
        for number, op in enumerate(graph.ops)
    }
    path = tmp_path / "net.tflite"
    path.write_bytes(tflite.to_tflite(renamed(graph, long)))
    code, out, _ = edgeq(capsys, "bench", path, "--target", "stm32l496")
    assert code == 0
    assert all(f"/conv_{number}[/b] " in out for number in range(len(graph.ops)))


def renamed(graph: ir.Graph, names: dict[str, str]) -> ir.Graph:
    ops = tuple(
        replace(op, inputs=tuple(names.get(name, name) for name in op.inputs), output=names[op.output])
        for op in graph.ops
    )
    tensors = {names.get(name, name): replace(it, name=names.get(name, name)) for name, it in graph.tensors.items()}
    return replace(graph, ops=ops, tensors=tensors, output=names[graph.output])


def test_what_does_not_fit_is_a_failed_check_and_hides_nothing_else(
    monkeypatch: pytest.MonkeyPatch, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = dict(targets.listed())
    small = targets.read(small_table(path.parent))["small"]
    monkeypatch.setattr(targets, "listed", lambda: {**known, "small": small})
    code, out, err = edgeq(capsys, "bench", path, "--target", "small,nano33ble", "--json")
    assert code == 1 and [report["target"] for report in json.loads(out)] == ["nano33ble"]
    assert "net does not fit small: " in err and "bytes of flash too many" in err and err.count("\n") == 1
    code, out, err = edgeq(capsys, "bench", path, "--target", "small")
    assert code == 1 and not out and "does not fit small" in err


def small_table(folder: Path) -> Path:
    text = targets.TABLE.read_text()
    begin = text.index("[nano33ble]")
    text = text[begin : text.index("[stm32h7a3]")].replace("nano33ble", "small")
    table = folder / "small.toml"
    table.write_text(text.replace("bytes = 0x100000", "bytes = 0x1000"))
    return table


def test_other_codes_than_the_reference_are_a_failed_check(monkeypatch: pytest.MonkeyPatch, graph: ir.Graph) -> None:
    def wrong(graph: ir.Graph, codes: np.ndarray) -> np.ndarray:
        return answer(graph, codes) ^ 1

    answer = reference.run
    monkeypatch.setattr(reference, "run", wrong)
    with pytest.raises(CheckFailed, match="net: its C gives other codes on nano33ble than the reference"):
        microcontroller.measure(graph, "net", targets.find("nano33ble"))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    code, out, err = edgeq(capsys, "bench", *arguments)
    assert code == 2 and not out and err.count("\n") == 1
    return err


def test_refusals_say_what_to_do(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected one of cpu, gpu, ssh://HOST, stm32l496," in refusal(capsys, path, "--target", "arduino")
    floats = tmp_path / "floats.tflite"
    floats.write_bytes(tflite.to_tflite(graphs.chain()))
    assert "takes float32: expected an INT8 model" in refusal(capsys, floats, "--target", "nano33ble")
    (tmp_path / "net.onnx").write_bytes(b"")
    assert "INT8 TFLite files: expected one of those" in refusal(capsys, tmp_path / "net.onnx", "--target", "nano33ble")
    bare = tmp_path / "bare"
    shutil.copytree(ZOO / "esc10-qdcase22", bare)
    manifest = json.loads((bare / "bundle.json").read_text())
    (bare / "bundle.json").write_text(json.dumps({**manifest, "exports": {}}))
    told = refusal(capsys, bare, "--target", "nano33ble")
    assert f"run: edgeq export {bare} --tflite --int8 -o DIR" in told
    assert "Missing option '--target'" in refusal(capsys, path)


def test_a_bundle_is_taken_by_its_int8_file_and_its_front_end_stands_apart() -> None:
    (report,) = run.bench("esc10-qdcase22", "stm32u575").results
    assert report.macs == 6_251_240
    opened = zoo.find("esc10-qdcase22")
    front, target = report.frontend, targets.find("stm32u575")
    assert front is not None and front.latency_ms.low * 160e3 == pytest.approx(front.cycles)
    quantization = Quantization(np.array([0.1], np.float32), np.array([0]), 0)
    sources = emit(opened.frontend, quantization, "net")
    assert 0 <= front.ram_bytes - sources.ram_bytes < 1024, "its variables, and the stack"
    assert 0 < front.flash_bytes - sources.constants < 10_000, "its tables, and the code"
    # Half as far from window to window, half as many frames to transform.
    half = replace(opened.frontend, window_hop_seconds=opened.frontend.window_hop_seconds / 2)
    less = frontend.measure(half, quantization, "net", target)
    assert less is not None and less.instructions < 0.6 * front.instructions


def test_a_front_end_without_c_leaves_the_network_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(zoo.find("esc10-qdcase22").frontend, n_fft=1792)
    quantization = Quantization(np.array([0.1], np.float32), np.array([0]), 0)
    with pytest.raises(InputError, match="7") as refused:
        frontend.measure(spec, quantization, "net", targets.find("stm32u575"))

    def without(*given: Any) -> None:
        raise refused.value

    monkeypatch.setattr(frontend, "measure", without)
    (report,) = run.bench("esc10-qdcase22", "stm32u575").results
    assert report.frontend is None and "frontend" not in report.to_json()
    assert report.warnings == (f"without the front end, which has no C: {refused.value}",)


def test_a_front_end_has_to_fit_beside_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    known = targets.find("stm32u575")
    small = replace(known, name="small", ram=replace(known.ram, bytes=0xB000))
    monkeypatch.setattr(targets, "listed", lambda: {"small": small})
    bundle = zoo.find("esc10-qnano")
    assert run.bench(bundle.folder / "esc10-qnano.int8.tflite", "small").results, "the network alone does"
    with pytest.raises(CheckFailed) as caught:
        run.bench("esc10-qnano", "small")
    told = str(caught.value)
    assert told.startswith("esc10_qnano with its front end does not fit small: ") and "CONV_2D 'conv_1' needs" in told
    numbers = [int(number.replace(",", "")) for number in re.findall(r"\d+,\d{3}", told)]
    over, needed, limit, around, arena, _ = numbers
    assert needed - limit == over and needed == around + arena + build.STACK_BYTES


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(InputError, match="nothing there"):
        run.bench("missing/net.tflite", "nano33ble")
