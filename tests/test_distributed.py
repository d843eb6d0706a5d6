"""Processes that train together: equal to one, found out where they differ, ended or begun again when one dies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from beeps import RECIPE, beeps
from distributed_fit import trained
from safetensors.torch import load_file

from edgeq import corpora
from edgeq.compress import chain, follow
from edgeq.training import recipe as recipes

HERE = Path(__file__).resolve().parent
LIMIT = 120
"""Seconds after which a run is taken to hang."""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="processes find each other by gloo")]


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


def fitted(count: int, out: Path, *arguments: object, **options: object) -> dict[str, torch.Tensor]:
    done = torchrun(count, HERE / "distributed_fit.py", out, *arguments, **options)
    assert done.returncode == 0, done.stderr
    return torch.load(out, weights_only=True)


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(one[name], other[name], atol=1e-5, rtol=1e-4) for name in one)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def alone() -> dict[str, torch.Tensor]:
    """What one process makes of all four parts."""
    return trained(None)


def test_a_killed_process_ends_the_job_and_any_number_goes_on(tmp_path: Path, alone: dict[str, torch.Tensor]) -> None:
    checkpoint = tmp_path / "run"
    done = torchrun(2, HERE / "distributed_fit.py", tmp_path / "out", checkpoint, "--kill", 4, 1)
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert "Signal 9 (SIGKILL) received" in done.stderr, "torchrun names the one that died"
    assert torch.load(checkpoint, weights_only=True)["steps"] == 4
    again = tmp_path / "again"
    again.write_bytes(checkpoint.read_bytes())
    assert close(trained(checkpoint), alone), "by this process alone"
    assert close(fitted(4, tmp_path / "out", again), alone)


def test_a_job_with_restarts_goes_on_by_itself(tmp_path: Path, alone: dict[str, torch.Tensor]) -> None:
    state = fitted(2, tmp_path / "out", tmp_path / "run", "--kill", 4, 1, max_restarts=2)
    assert close(state, alone), "two processes, one of them killed, as one"


def test_processes_with_other_data_are_found_at_the_start(tmp_path: Path) -> None:
    done = torchrun(2, HERE / "distributed_fit.py", tmp_path / "out", "--other-data", 1)
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert "edgeq: process 1 on " in done.stderr and "has other data than process 0 on " in done.stderr
    assert 'distributed_fit.py", line' not in done.stderr, "a line, no traceback"


def test_the_command_trains_with_torchrun(tmp_path: Path) -> None:
    beeps(tmp_path / "corpus")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("epochs = 12", "epochs = 8\nparts = 2"))
    done = torchrun(2, "-m", "edgeq", "train", recipe, "--data", tmp_path / "corpus", "-o", tmp_path / "two" / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1, "one process shows it"
    read, corpus = recipes.read(recipe), corpora.open(tmp_path / "corpus")
    alone = chain.trained(read, follow._setting(read, corpus, tmp_path / "one"), None, "alone").weights()
    together = load_file(tmp_path / "two" / "out" / "weights.safetensors")
    assert close(together, {name: torch.from_numpy(values) for name, values in alone.items()})
    assert not list((tmp_path / "two" / "training").glob("*.checkpoint"))
