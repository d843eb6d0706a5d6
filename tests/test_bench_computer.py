"""edgeq bench on this computer: what runs, how two models compare, what recordings and meters add, every refusal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile

import edgeq
from edgeq import cli, corpora, zoo
from edgeq.bench import accuracy, carbon, computer, local, run, subject
from edgeq.bench.computer import Contender, Form, Settings
from edgeq.bench.energy import Reading
from edgeq.bench.recordings import first_window
from edgeq.errors import CheckFailed, InputError
from edgeq.graph import cost, from_tflite

ZOO = Path(__file__).resolve().parent.parent / "models"
SCHEMA = json.loads((Path(edgeq.__file__).parent / "bench" / "schema.json").read_text())
BRIEF = Settings(seconds=0.2, runs=15)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings each of two labels that the zoo knows, in the folders of a corpus."""
    folder = tmp_path_factory.mktemp("recordings")
    noise = np.random.default_rng(0)
    for label in ("dog", "rain"):
        (folder / label).mkdir()
        for number in range(2):
            soundfile.write(folder / label / f"{number}.wav", noise.normal(0, 0.1, 32_000), 16_000)
    return folder


def edgeq_bench(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        cli.main(["bench", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_figures_of_this_computer_hang_together(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "esc10-qtiny", "--target", "cpu", "--runs", 120, "--seconds", 0.5, "--json"
    code, out, _ = edgeq_bench(capsys, *arguments)
    assert code == 0
    one = json.loads(out)
    jsonschema.validate(one, SCHEMA)
    assert (one["model"], one["target"], one["runtime"], one["stage"]) == ("esc10-qtiny", "cpu", "onnxruntime", "onnx")
    times, front = one["latency_ms"], one["frontend"]["latency_ms"]
    assert 0 < times["p50"] <= times["p95"] <= times["p99"] and times["runs"] == 120
    opened = zoo.find("esc10-qtiny")
    both = front["p50"] + times["p50"]
    assert one["real_time_factor"] == pytest.approx(1e3 * opened.frontend.window_hop_seconds / both)
    graph = from_tflite.read(opened.checked(opened.exports["tflite-int8"]))
    assert one["macs"] == sum(layer.macs for layer in cost.layers(graph)) == sum(it["macs"] for it in one["layers"])
    assert one["file_bytes"] == (opened.folder / opened.exports["onnx"]).stat().st_size
    assert one["machine"]["runtime_version"] and "energy_mj" not in one and "accuracy" not in one


def test_stages_and_runtimes_are_each_run_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "esc10-qnano", "--target", "cpu", "--stage", "tflite,tflite-int8", "--runtime", "litert"
    code, out, _ = edgeq_bench(capsys, *arguments, "--runs", 3, "--seconds", 0.1, "--watts", 2, "--country", "FR")
    assert code == 0 and all(len(line) <= 80 for line in out.split("● measured")[0].splitlines())
    assert "cpu, litert tflite " in out and "cpu, litert tflite-int8 " in out
    assert "● measured, ◐ simulated, ○ estimated" in out and "2 W stated (by --watts)" in out
    assert "! 3 runs: p99 needs 100" in out


def test_two_models_are_compared_in_turns_and_the_other_one_is_listed_once(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "esc10-qnano", "esc10-qtiny", "--target", "cpu", "--runs", 40, "--seconds", 0.5, "--json"
    code, out, _ = edgeq_bench(capsys, *arguments, "--compare", "esc10-tiny")
    results = json.loads(out)
    jsonschema.validate(results, SCHEMA)
    assert code == 0 and [one["model"] for one in results] == ["esc10-qnano", "esc10-tiny", "esc10-qtiny"]
    assert [one.get("comparison", {}).get("other") for one in results] == ["esc10-tiny", None, "esc10-tiny"]
    said = results[0]["comparison"]
    assert said["low"] <= said["ratio"] <= said["high"] and said["pairs"] > 1 and said["kind"] == "measured"


def test_compare_without_a_name_takes_the_last_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def noted(models: Any, target: str, settings: Settings, **rest: Any) -> run.Bench:
        asked.append((models, rest["other"]))
        return run.Bench((), ())

    monkeypatch.setattr(run, "bench", noted)
    edgeq_bench(capsys, "a", "b", "--compare", "--target", "cpu", "--json")
    edgeq_bench(capsys, "a", "--compare", "b", "--target", "cpu", "--json")
    assert asked == [(("a",), "b")] * 2
    code, _, err = edgeq_bench(capsys, "a", "--target", "cpu", "--compare")
    assert code == 2 and "--compare needs a second model" in err


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for place in "ab":
        shutil.copytree(ZOO / "esc10-qnano", tmp_path / place / "net")
    subjects = run._told_apart([subject.open(tmp_path / place / "net") for place in "aab"])
    assert [one.name for one in subjects] == [str(tmp_path / place / "net") for place in "aab"]
    assert run._told_apart([subject.open("esc10-qnano")] * 2)[0].name == "esc10-qnano"


def test_recordings_are_what_models_are_timed_and_scored_on(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes, start = [], local.run

    def spied(job: Mapping[str, Any], on_progress: Any) -> dict[str, Any]:
        shapes.append(np.load(job["models"][0]["inputs"]).shape)
        return start(job, on_progress)

    monkeypatch.setattr(local, "run", spied)
    both = replace(BRIEF, stages=("onnx", "tflite-int8"))
    found = run.bench("esc10-qnano", "cpu", both, data=recordings).results
    spec = zoo.find("esc10-qnano").frontend
    assert shapes == [(4, *spec.input_shape)] * 2
    for one, form in zip(found, (("onnx", "onnxruntime"), ("tflite-int8", "litert")), strict=True):
        value = one.to_json()
        jsonschema.validate(value, SCHEMA)
        assert value["accuracy"]["accuracy"]["clips"] == 4 and (value["accuracy"]["stage"], one.runtime) == form
        assert any("without clips of" in warning for warning in one.warnings)


def reply(**changes: Any) -> dict[str, Any]:
    calm = {
        "seconds": 0.0, "own_seconds": 0.0, "busy_seconds": None, "stolen_seconds": None, "load_average": 0.0,
        "governors": None, "throttled": None, "throttling": None,
    }  # fmt: skip
    said = {
        "runtime": "onnxruntime", "stage": "onnx", "version": "1", "input_shape": [4, 64, 50], "classes": 10,
        "int8": False, "load_ms": 1.0, "memory_bytes": None, "nanoseconds": [2_000_000] * 100, "per_turn": 1,
        "warm_up": 5, "frontend_nanoseconds": None, "window_hop_seconds": None, "energy": None, "parity": None,
        **changes,
    }  # fmt: skip
    return {"models": [said], "machine": {"cores": 4}, "conditions": {"before": calm, "after": calm}}


def measured(form: Form = Form(), settings: Settings = Settings(), **changes: Any) -> run.Result:  # noqa: B008, frozen
    one = Contender(subject.open("esc10-qnano"))
    start = lambda job, told: reply(**changes)  # noqa: E731
    (result,) = computer.measure([one], form, "cpu", start, settings, lambda *told: None)
    return result


def reading(joules: float | None, measured: bool = True) -> dict[str, Any]:
    return vars(Reading(joules, 0.001, "a meter", measured))


def test_a_gpu_s_result_says_its_precision_its_parity_and_what_was_timed() -> None:
    parity = {"top1_agreement": 1.0, "max_abs_error": 2e-4, "windows": 8}
    form, settings = Form("onnx", "onnxruntime-cuda", "float16", 64), Settings(cuda_graphs=True)
    one = measured(form, settings, runtime="onnxruntime-cuda", parity=parity).to_json()
    jsonschema.validate(one, SCHEMA)
    assert (one["precision"], one["batch"], one["cuda_graphs"]) == ("float16", 64, True)
    assert one["parity"] == {**parity, "kind": "measured"} and "both copies in it" in one["timed"]
    assert one["windows_per_second"] == pytest.approx(32_000) and not one["warnings"]
    plain = measured(Form(batch=64), runtime="litert", stage="tflite-int8")
    assert plain.precision == "int8" and plain.timed is None and plain.to_json().get("cuda_graphs") is None
    assert "litert works on 1 of a batch's 64 windows at a time" in plain.warnings[0]
    assert measured(Form(batch=64)).warnings == (), "as small as that onnxruntime takes all"
    large = measured(Form(batch=64), input_shape=[1, 64, 1001]).warnings
    assert "works on 4 of a batch's 64" in large[0]


def test_batches_and_precisions_are_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "esc10-qnano", "--target", "cpu", "--batch", "1,4", "--precision", "float32,float16"
    code, out, _ = edgeq_bench(capsys, *arguments, "--runs", 3, "--seconds", 0.1, "--json")
    results = json.loads(out)
    jsonschema.validate(results, SCHEMA)
    found = [(one["precision"], one["batch"], "parity" in one) for one in results]
    assert code == 0 and found == [
        ("float32", 1, False), ("float32", 4, False), ("float16", 1, True), ("float16", 4, True),
    ]  # fmt: skip
    assert all(one["windows_per_second"] == 1e3 * one["batch"] / one["latency_ms"]["p50"] for one in results)


def test_accuracy_is_that_of_the_precision(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def spied(*given: Any, **named: Any) -> Any:
        opened.append((*given[1:], named.get("precision")))
        return run_open(*given, **named)

    run_open = run.runtimes.open
    monkeypatch.setattr(local, "run", lambda job, on_progress: reply())
    monkeypatch.setattr(run.runtimes, "open", spied)
    both = replace(BRIEF, precisions=(None, "float16"), batches=(1, 8))
    found = run.bench("esc10-qnano", "cpu", both, data=recordings).results
    assert sorted(opened) == [("onnx", "onnxruntime", "float16"), ("onnx", "onnxruntime", "float32")]
    losses = {(one.precision, one.accuracy["log_loss"]) for one in found if one.accuracy}
    assert len(found) == 4 and len(losses) == 2, "as many as there are precisions"
    monkeypatch.setattr(local, "run", lambda job, on_progress: reply(runtime="onnxruntime-cuda"))
    (elsewhere,) = run.bench("esc10-qnano", "cpu", BRIEF, data=recordings).results
    assert elsewhere.accuracy and elsewhere.accuracy["runtime"] == "onnxruntime"
    assert "onnxruntime-cuda in float32 does not run here" in " ".join(elsewhere.warnings)


def test_energy_is_the_meters_or_follows_from_stated_power_and_says_so() -> None:
    found = measured(energy=reading(0.004)).energy_mj
    assert found is not None and (found.value, found.kind, found.source) == (4.0, "measured", "a meter")
    found = measured(energy=reading(0.004, measured=False)).energy_mj
    assert found is not None and found.kind == "estimated"
    silent = measured(energy=reading(None))
    assert silent.energy_mj is None and silent.warnings == ("energy: a meter",)
    stated = measured(Form(batch=2), Settings(watts=3), energy=reading(None)).energy_mj
    assert stated is not None and (stated.value, stated.kind) == (pytest.approx(3.0), "estimated"), "3 W for 1 ms"
    assert measured().energy_mj is None and measured().real_time_factor is None and measured().frontend is None


def test_co2_follows_from_energy_and_grid_and_is_estimated() -> None:
    grid = carbon.intensity("GB")
    found = carbon.emitting(measured(energy=reading(3.6)), grid).co2_g
    assert found is not None and found.kind == "estimated" and "United Kingdom" in str(found.source)
    assert found.value == pytest.approx(grid.grams_per_kwh * 1e-6)
    without = carbon.emitting(measured(), grid)
    assert without.co2_g is None and "no CO2" in without.warnings[-1] and "--watts" in without.warnings[-1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("esc10-qnano", "--target", "toaster"), "target 'toaster': expected one of cpu, gpu, ssh://HOST, stm32l496,"),
        (
            ("esc10-qnano", "--target", "cpu", "--runtime", "tensorrt"),
            "runtime 'tensorrt': expected one of",
        ),
        (("esc10-qnano", "--target", "cpu", "--stage", "int8"), "stage 'int8'"),
        (("esc10-qnano", "--target", "cpu", "--runtime", "litert", "--stage", "onnx"), "litert does not run onnx"),
        (("esc10-qnano", "--target", "cpu", "--country", "UK"), "country 'UK'"),
        (("esc10-qnano", "--target", "cpu", "--data", "nowhere"), "nowhere: found nothing"),
        (("esc10-qnano", "--target", "cpu", "--affinity", "first"), "expected numbers of processors, as in 0,1"),
        (("esc10-qnano", "--target", "cpu", "--affinity", "4000"), "affinity 4000: expected some of the processors"),
        (("esc10-qnano", "--target", "cpu", "--meter", "multimeter"), "energy meter 'multimeter': expected one of"),
        (("nothing-like-it", "--target", "cpu"), "The zoo has:"),
        (("cnn14", "--target", "cpu"), "an architecture, which has no weights"),
        (("esc10-qnano", "--target", "ssh://"), "ssh://"),
        (("esc10-qnano", "--target", "cpu", "--batch", "1,many"), "expected windows a call, as in 1,8,64"),
        (("esc10-qnano", "--target", "cpu", "--batch", "0"), "expected windows a call, as in 1,8,64"),
        (
            ("esc10-qnano", "--target", "cpu", "--precision", "float8"),
            "float8: onnxruntime computes onnx in float32 or",
        ),
        (("esc10-qnano", "--target", "cpu", "--stage", "tflite-int8", "--precision", "float16"), "is INT8 throughout"),
        (("esc10-qnano", "--target", "cpu", "--precision", "float32,"), "expected names with commas between"),
        (
            ("esc10-qnano", "--target", "stm32l496", "--batch", "8", "--precision", "float16", "--cuda-graphs"),
            "leave out --batch, --precision, --cuda-graphs, or add target cpu",
        ),
        (("esc10-qnano", "--target", "cpu", "--cuda-graphs"), "onnxruntime records none"),
    ],
)
def test_refusals_are_one_line(arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = edgeq_bench(capsys, *arguments, "--runs", 1, "--seconds", 0.1)
    assert code == 2 and not out and told in err and err.count("\n") == 1


def test_a_folder_without_clips_and_a_file_without_labels_are_refused(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing, expected a corpus"):
        run.bench("esc10-qnano", "cpu", BRIEF, data=tmp_path)
    file = next((ZOO / "esc10-qnano").glob("*.int8.tflite"))
    with pytest.raises(InputError, match="--data needs its bundle's folder"):
        run.bench(file, "cpu", BRIEF, data=recordings)
    (one,) = run.bench(file, "cpu", BRIEF).results
    assert one.frontend is not None and one.real_time_factor is not None, "the file says what it hears"
    assert one.stage == "tflite-int8", "though its name says only that it is a TFLite file"


def test_failures_beside_results_are_kept_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    start = local.run

    def dies(job: Mapping[str, Any], on_progress: Any) -> dict[str, Any]:
        if "onnx" in job["models"][0]["stage"]:
            raise CheckFailed("the worker ended without a result")
        return start(job, on_progress)

    monkeypatch.setattr(local, "run", dies)
    settings = replace(BRIEF, stages=("tflite-int8", "onnx"))
    found = run.bench("esc10-qnano", "cpu", settings)
    assert [one.stage for one in found.results] == ["tflite-int8"]
    assert found.failures == ("the worker ended without a result",)
    with pytest.raises(CheckFailed, match="without a result"):
        run.bench("esc10-qnano", "cpu", replace(BRIEF, stages=("onnx",)))


def test_a_report_is_refused_before_and_written_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Verified:
        def to_json(self) -> dict[str, Any]:
            return {"name": "esc10-qnano", "passed": True, "stages": []}

    monkeypatch.setattr(run.verify, "verify", lambda opened: Verified())
    arguments = "esc10-qnano", "--target", "cpu", "--runs", 3, "--seconds", 0.1, "--json"
    code, out, err = edgeq_bench(capsys, *arguments, "--report", tmp_path / "report.pdf")
    assert code == 2 and not out and ".html" in err
    code, out, _ = edgeq_bench(capsys, *arguments, "--report", tmp_path / "report.json")
    said = json.loads((tmp_path / "report.json").read_text())
    assert code == 0 and said["results"] == [json.loads(out)] and said["verify"]["name"] == "esc10-qnano"
    assert run.verification(["esc10-qnano", "esc10-qtiny"]) is None


def test_what_was_finished_before_an_interruption_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start, asked = local.run, []

    def impatient(job: Mapping[str, Any], on_progress: Any) -> dict[str, Any]:
        asked.append(job)
        if len(asked) != 1:
            raise KeyboardInterrupt
        return start(job, on_progress)

    monkeypatch.setattr(local, "run", impatient)
    arguments = "esc10-qnano", "--target", "cpu", "--stage", "onnx,tflite", "--runs", 3, "--seconds", 0.1, "--json"
    code, out, err = edgeq_bench(capsys, *arguments)
    assert code == 130 and [one["stage"] for one in json.loads(out)] == ["onnx"] and "interrupted" in err
    code, out, _ = edgeq_bench(capsys, *arguments)
    assert code == 130 and not out


@pytest.mark.parametrize("where", ["scores", "verification"])
def test_an_interruption_after_the_timing_leaves_the_times(
    where: str, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*given: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "run", lambda job, on_progress: reply())
    monkeypatch.setattr(
        accuracy if where == "scores" else run.verify, "measure" if where == "scores" else "verify", interrupted
    )
    data = ("--data", recordings) if where == "scores" else ()
    page = tmp_path / "report.json"
    code, out, err = edgeq_bench(capsys, "esc10-qnano", "--target", "cpu", "--json", *data, "--report", page)
    value = json.loads(out)
    (one,) = value if isinstance(value, list) else [value]
    assert code == 130 and one["latency_ms"]["p50"] == 2.0 and "interrupted" in err
    assert json.loads(page.read_text()) == {"results": [one]}


def test_a_model_that_cannot_be_verified_is_reported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def damaged(opened: Any) -> None:
        raise InputError("goldens.npz: not as recorded")

    monkeypatch.setattr(local, "run", lambda job, on_progress: reply())
    monkeypatch.setattr(run.verify, "verify", damaged)
    page = tmp_path / "report.json"
    code, out, err = edgeq_bench(capsys, "esc10-qnano", "--target", "cpu", "--json", "--report", page)
    assert code == 1 and "not verified: goldens.npz: not as recorded" in err
    assert json.loads(page.read_text()) == {"results": [json.loads(out)]}


def test_each_stage_runs_in_the_runtimes_that_take_it() -> None:
    assert forms() == [Form()]
    assert forms(names=(None, "litert")) == [Form(), Form(runtime="litert")]
    both = forms(("onnx", "tflite-int8"), ("onnxruntime", "litert"))
    assert both == [Form("onnx", "onnxruntime"), Form("tflite-int8", "litert")]
    left = forms(("onnx", "tflite"), ("litert",))
    assert left == [Form("onnx", "litert"), Form("tflite", "litert")], "nothing asked for runs onnx: opening says so"
    assert forms(("onnx",), ("tensorrt",)) == [Form("onnx", "tensorrt")]


def test_each_precision_runs_where_there_is_one_and_int8_once() -> None:
    two = "float32", "float16"
    found = forms(names=("onnxruntime", "litert"), precisions=two)
    assert found == [Form(runtime="onnxruntime", precision=one) for one in two] + [Form(None, "litert", "float32")]
    found = forms(("onnx", "tflite-int8"), precisions=two)
    assert found == [Form("onnx", precision=one) for one in two] + [Form("tflite-int8")]
    assert forms(names=("torch", "c"), precisions=("bfloat16",)) == [Form(None, "torch", "bfloat16"), Form(None, "c")]
    assert forms(("tflite-int8",), precisions=("float16",)) == [Form("tflite-int8", None, "float16")], "opening refuses"
    assert forms(names=("litert",), precisions=("float16",)) == [Form(None, "litert", "float16")], "as here"


def forms(
    stages: tuple[str | None, ...] = (None,),
    names: tuple[str | None, ...] = (None,),
    precisions: tuple[str | None, ...] = (None,),
) -> list[Form]:
    return run._forms(Settings(stages=stages, precisions=precisions), names)


def test_labels_that_the_model_lacks_are_told_before_the_work(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(recordings, tmp_path / "data")
    shutil.copytree(recordings / "dog", tmp_path / "data" / "wombat")
    monkeypatch.setattr(local, "run", lambda *given: pytest.fail("was timed"))
    with pytest.raises(InputError, match="label wombat not among those of esc10-qnano"):
        run.bench("esc10-qnano", "cpu", BRIEF, data=tmp_path / "data")


def test_a_recording_that_spoils_the_scores_leaves_the_times(recordings: Path, tmp_path: Path) -> None:
    shutil.copytree(recordings, tmp_path / "data")
    (tmp_path / "data" / "rain" / "0.wav").write_bytes(b"RIFF, but no more")
    found = run.bench("esc10-qnano", "cpu", BRIEF, data=tmp_path / "data")
    assert [one.accuracy for one in found.results] == [None] and "cannot be decoded" in found.failures[0]


def test_a_loaded_model_is_benched_in_python() -> None:
    (one,) = edgeq.load("esc10-qnano").bench("cpu", settings=BRIEF).results
    assert (one.model, one.target, one.kind) == ("esc10-qnano", "cpu", "measured")


def test_a_recording_whose_first_samples_hold_no_window_is_timed_on_all_the_same(tmp_path: Path) -> None:
    """What is decoded first of one second is less than a window of one second."""
    for label in ("dog", "rain"):
        (tmp_path / label).mkdir()
        soundfile.write(tmp_path / label / "0.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    spec = zoo.find("esc10-qtiny").frontend
    window = first_window(corpora.open(tmp_path).clips[0], spec)
    assert window is not None and window.shape == (1, *spec.input_shape)
