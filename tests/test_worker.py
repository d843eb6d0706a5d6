"""The worker's protocol: jobs in, JSON lines out, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import goldens, zoo
from edgeq.bench import inputs, local, timing
from edgeq.errors import CheckFailed, InputError

ZOO = Path(__file__).resolve().parent.parent / "models"
MODEL = ZOO / "esc10-qtiny"


def job(*models: dict[str, Any], **changes: Any) -> dict[str, Any]:
    asked = [{"path": str(MODEL), "stage": None, "runtime": None, "inputs": None, **model} for model in models or ({},)]
    plain = {
        "precision": None,
        "cuda_graphs": False,
        "threads": 1,
        "batch": 1,
        "seconds": 0.1,
        "runs": 12,
        "affinity": None,
        "seed": 0,
        "energy": None,
    }
    return {"models": asked, **plain, **changes}


def test_two_models_take_turns_and_say_what_they_are() -> None:
    told: list[tuple[float, float]] = []
    asked = job({"stage": "onnx"}, {"stage": "tflite-int8", "runtime": "litert"}, seconds=1.5, runs=None)
    result = local.run(asked, lambda *progress: told.append(progress))
    first, second = result["models"]
    assert (first["runtime"], first["stage"], first["int8"]) == ("onnxruntime", "onnx", False)
    assert (second["runtime"], second["stage"], second["int8"]) == ("litert", "tflite-int8", True)
    assert first["input_shape"] == list(zoo.find("esc10-qtiny").frontend.input_shape) and first["classes"] == 10
    assert len(first["nanoseconds"]) / first["per_turn"] == len(second["nanoseconds"]) / second["per_turn"] > 1
    assert all(
        one["load_ms"] > 0 and one["memory_bytes"] > 1e5 and min(one["nanoseconds"]) > 1e4 for one in (first, second)
    )
    assert len(first["frontend_nanoseconds"]) >= 5 and first["energy"] is None
    elapsed = result["conditions"]["after"]["seconds"] - result["conditions"]["before"]["seconds"]
    assert elapsed >= 1.5 and sum(first["nanoseconds"]) + sum(second["nanoseconds"]) <= 1e9 * elapsed
    assert told and told[-1] == (1.5, 1.5)


def test_the_order_of_turns_is_a_b_b_a(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Timed:
        def __init__(self, name: str) -> None:
            self.name, self.nanoseconds = name, []

        def call(self) -> int:
            order.append(self.name)
            return 1

    timing.take_turns([Timed("a"), Timed("b")], (3, 2), job(runs=6), lambda line: None)  # type: ignore[list-item]
    assert "".join(order) == "aaabb" + "bbaaa" + "aaabb"
    assert [timing.per_turn(usual) for usual in (1e5, 1e6, 2e8)] == [20, 5, 1], "about as long a turn each"


def test_runs_are_so_many_and_inputs_may_be_real(tmp_path: Path) -> None:
    spec = zoo.find("esc10-qtiny").frontend
    np.save(tmp_path / "windows.npy", goldens.inputs(range(3), spec))
    result = local.run(job({"inputs": str(tmp_path / "windows.npy")}, batch=5))
    (one,) = result["models"]
    assert len(one["nanoseconds"]) == 12 and one["per_turn"] == 1 and one["warm_up"] >= 1


def test_batches_go_through_all_inputs_in_turn(tmp_path: Path) -> None:
    class Ready:
        input_shape = (1, 2, 3)

    windows = np.arange(4 * 6, dtype=np.float32).reshape(4, 1, 2, 3)
    np.save(tmp_path / "windows.npy", windows)
    loaded = inputs.windows(str(tmp_path / "windows.npy"), Ready(), None, 0)  # type: ignore[arg-type]
    batches = inputs.batches(loaded, job(batch=3))
    assert [[int(one[0, 0, 0]) // 6 for one in batch] for batch in batches] == [
        [0, 1, 2],
        [1, 2, 3],
        [2, 3, 0],
        [3, 0, 1],
    ]
    noise = [inputs.windows(None, Ready(), None, seed) for seed in (0, 0, 1)]  # type: ignore[arg-type]
    assert np.array_equal(noise[0], noise[1]) and not np.array_equal(noise[0], noise[2])


def test_another_precision_says_how_far_it_is_from_float32() -> None:
    result = local.run(job({"stage": "onnx"}, {"stage": "onnx", "runtime": "torch"}, precision="float16", runs=3))
    for one, runtime in zip(result["models"], ("onnxruntime", "torch"), strict=True):
        said = one["parity"]
        assert (one["runtime"], said["windows"]) == (runtime, 8)
        assert said["top1_agreement"] in np.arange(9) / 8 and 1e-6 < said["max_abs_error"] < 1e-2
    (plain,) = local.run(job(precision="float32", runs=3))["models"]
    assert plain["parity"] is None


def test_memory_grows_by_what_a_model_takes() -> None:
    """A copy of the process each: the second of two models would be opened in what the first one has freed.

    In a new process, as the worker is one: what tests before this one have freed would be given out again too.
    """
    program = (
        "import numpy as np; from edgeq.bench import opening\n"
        "def takes(megabytes):\n"
        "    before = opening.peak_memory(reset=True)\n"
        "    np.ones(megabytes << 17)\n"
        "    return {'bytes': opening.peak_memory() - before}\n"
        "for megabytes in (64, 16):\n"
        "    print(opening.in_a_child(lambda: takes(megabytes))['bytes'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for megabytes, found in zip((64, 16), map(int, done.stdout.split()), strict=True):
        assert megabytes <= found / (1 << 20) < megabytes + 8


def test_what_a_runtime_imports_is_no_part_of_loading() -> None:
    asked = {"path": str(MODEL), "stage": "tflite", "runtime": "litert", "inputs": None}
    program = (
        "import sys; import numpy as np; from edgeq.bench import opening\n"
        f"given = {asked!r}, {job()!r}\n"
        "opening.import_packages(*given); before = set(sys.modules); print('litert' in str(before))\n"
        "_, ready = opening.open_model(*given); ready.predict(np.zeros((1, *ready.input_shape), np.float32))\n"
        "print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


def test_what_cannot_be_done_is_one_line() -> None:
    with pytest.raises(InputError, match="litert does not run onnx"):
        local.run(job({"stage": "onnx", "runtime": "litert"}))
    with pytest.raises(InputError, match="nothing, expected a bundle"):
        local.run(job({"path": "missing"}))
    with pytest.raises(InputError, match="affinity 4000: expected some of the processors 0"):
        local.run(job(affinity=[4000]))


def test_wrong_inputs_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "windows.npy", np.zeros((0, 4, 64, 50), np.float32))
    with pytest.raises(InputError, match="holds no windows"):
        local.run(job({"inputs": str(tmp_path / "windows.npy")}))
    np.save(tmp_path / "windows.npy", np.zeros((2, 1, 64, 50), np.float32))
    with pytest.raises(InputError, match=r"expected \(n, 4, 64, 50\)"):
        local.run(job({"inputs": str(tmp_path / "windows.npy")}))


def test_a_worker_that_dies_is_a_failed_check_with_its_last_words(tmp_path: Path) -> None:
    def conversation(program: str) -> dict[str, Any]:
        with (tmp_path / "errors").open("w+b") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
            return local.converse(process, job(), errors)

    with pytest.raises(CheckFailed, match=r"the worker ended without a result \(exit code 3\): no numpy"):
        conversation("import sys; print('so', file=sys.stderr); print('no numpy', file=sys.stderr); sys.exit(3)")
    with pytest.raises(CheckFailed, match=r"exit code -9\): out of memory\?"):
        conversation("import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 9)")
    with pytest.raises(CheckFailed, match=r"exit code -9\): out of memory\?"):  # within a line
        conversation("import os, sys; sys.stdin.readline(); os.write(1, b'{\"resu'); os.kill(os.getpid(), 9)")


def test_stdout_is_the_protocol_alone_and_torch_stays_out() -> None:
    program = (
        "import os, sys; from edgeq.bench import timing, worker; opened = timing.open_model\n"
        "def chatty(*given):\n    os.system('echo native'); print('python'); return opened(*given)\n"
        "timing.open_model = chatty; worker.main()\n"
        "heavy = {'torch', 'click', 'rich', 'onnx', 'scipy', 'soundfile'}\n"
        "print('heavy:', *heavy & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(job()) + "\n", capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "7"},
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert list(lines[-1]) == ["result"] and all(list(line) == ["progress"] for line in lines[:-1])
    assert done.stderr.splitlines()[-1] == "heavy:" and "native" in done.stderr and "python" in done.stderr
