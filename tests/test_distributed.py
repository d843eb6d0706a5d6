"""Processes that train together: equal to one, found out where they differ, ended or begun again when one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from beeps import RECIPE, beeps
from distributed_fit import process, trained
from safetensors.torch import load_file

from edgeq import corpora
from edgeq.compress import chain, follow
from edgeq.training import recipe as recipes

HERE = Path(__file__).resolve().parent
LIMIT = 480
"""Seconds after which a run is taken to hang."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes find each other by gloo"),
    pytest.mark.usefixtures("one_thread"),
]


def torchrun(count: int, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    named = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", *named]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=environment,
        cwd=HERE.parent,
    )


def forked(count: int, folder: Path, *arguments: object) -> tuple[list[int | None], list[str]]:
    """Exit codes and stderr of processes that share one import of torch, and are else as torchrun would start them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "pytest", "edgeq.training.trial"])  # optimisers import the first
    meeting = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    errors = [folder / f"stderr{rank}" for rank in range(count)]
    rest = list(map(str, arguments))
    started = [
        context.Process(target=process, args=(rank, count, meeting.port, errors[rank], rest)) for rank in range(count)
    ]
    for one in started:
        one.start()
    for one in started:
        one.join(LIMIT)
        one.kill()
        one.join()
    return [one.exitcode for one in started], [path.read_text() for path in errors]


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(one[name], other[name], atol=1e-5, rtol=1e-4) for name in one)


@pytest.fixture(scope="module")
def alone() -> dict[str, torch.Tensor]:
    """What one process makes of all four parts."""
    return trained(None)


def test_a_killed_process_ends_the_others_and_any_number_goes_on(
    tmp_path: Path, alone: dict[str, torch.Tensor]
) -> None:
    checkpoint = tmp_path / "run"
    codes, errors = forked(2, tmp_path, tmp_path / "out", checkpoint, "--kill", 4, 1)
    assert codes == [2, -signal.SIGKILL] and not (tmp_path / "out").exists()
    assert f"edgeq: lost process 1 on {socket.gethostname()}: killed" in errors[0] and len(errors[0].splitlines()) == 1
    assert torch.load(checkpoint, weights_only=True)["steps"] == 4
    again = tmp_path / "again"
    again.write_bytes(checkpoint.read_bytes())
    assert close(trained(checkpoint), alone), "by this process alone"
    codes, errors = forked(4, tmp_path, tmp_path / "out", again)
    assert codes == [0] * 4, errors
    assert close(torch.load(tmp_path / "out", weights_only=True), alone)


def test_a_job_with_restarts_goes_on_by_itself(tmp_path: Path, alone: dict[str, torch.Tensor]) -> None:
    out = tmp_path / "out"
    done = torchrun(2, HERE / "distributed_fit.py", out, tmp_path / "run", "--kill", 4, 1, max_restarts=2)
    assert done.returncode == 0 and "exitcode: -9" in done.stderr, done.stderr
    assert close(torch.load(out, weights_only=True), alone), "two processes, one of them killed, as one"


@pytest.mark.parametrize(
    ("other", "wrong"),
    [
        (["--other-data", 1], "process 1 on {host} has other data than process 0 on {host}"),
        (["--other-torch", 1], "process 1 on {host} has other versions than process 0 on {host} (edgeq "),
        (["--other-folder", 1, "elsewhere"], ": {host} does not see there what {host} wrote: expected one folder "),
    ],
)
def test_processes_that_differ_are_found_at_the_start(tmp_path: Path, other: list[object], wrong: str) -> None:
    codes, errors = forked(2, tmp_path, tmp_path / "out", tmp_path / "run", *other)
    assert codes == [2, 2] and not (tmp_path / "out").exists()
    (told,) = "".join(errors).splitlines()  # a line, no traceback, and told once
    assert told.startswith("edgeq: ") and wrong.format(host=socket.gethostname()) in told


def test_the_command_trains_with_torchrun(tmp_path: Path) -> None:
    beeps(tmp_path / "corpus")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("[fit]", "[fit]\nparts = 2"))
    done = torchrun(2, "-m", "edgeq", "train", recipe, "--data", tmp_path / "corpus", "-o", tmp_path / "two" / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1, "one process shows it"
    read, corpus = recipes.read(recipe), corpora.open(tmp_path / "corpus")
    alone = chain.trained(read, follow._setting(read, corpus, tmp_path / "one"), None, "alone").weights()
    together = load_file(tmp_path / "two" / "out" / "weights.safetensors")
    assert close(together, {name: torch.from_numpy(values) for name, values in alone.items()})
    assert not list((tmp_path / "two" / "training").glob("*.checkpoint"))
