"""Training on several hosts: as one process does, begun again when one dies, and ended with a plain word where not.

Hosts are network namespaces where this machine lets them be made (`hosts.py`), else what needs them is skipped; what
does not is run by two torchruns side by side.
"""

from __future__ import annotations

import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hosts
import pytest
import torch
from distributed_fit import trained

HERE = Path(__file__).resolve().parent
LIMIT = 480
"""Seconds after which a run is taken to hang."""

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TORCH_CPP_LOG_LEVEL": "ERROR"}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="processes find each other by gloo")]


def agent(endpoint: str, *arguments: object, **options: object) -> list[object]:
    """torchrun of one process on each of two hosts."""
    named = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    meeting = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", "--rdzv-id=t"]
    command = [sys.executable, "-m", "torch.distributed.run", *meeting, *named, HERE / "distributed_fit.py"]
    return [*command, *arguments]


def told(log: Path) -> list[str]:
    """The lines of a log that are edgeq's."""
    return [line for line in log.read_text().splitlines() if line.startswith("edgeq: ")]


def until(happens: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not happens():
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.1)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[hosts.Host]]:
    if why := hosts.refused():
        pytest.skip(f"no network namespaces here: {why}")
    with hosts.hosts(2, tmp_path) as made:
        yield made


def test_a_process_killed_on_the_second_host_starts_all_again(pair: list[hosts.Host], tmp_path: Path) -> None:
    out, logs = tmp_path / "out", [tmp_path / host.name for host in pair]
    command = agent("host1:29400", out, tmp_path / "run", "--kill", 4, 1, max_restarts=2)
    restarting = {**ENVIRONMENT, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    started = [host.begun(command, log, restarting) for host, log in zip(pair, logs, strict=True)]
    assert [one.wait(LIMIT) for one in started] == [0, 0], [log.read_text() for log in logs]
    assert "exitcode: -9" in logs[1].read_text()
    (line,) = told(logs[0])
    assert re.match(r"edgeq: lost (process 1 on host2: |another process \(.*10\.77\.0\.2)", line), line
    assert "torchrun starts all of them again" in line
    together, alone = torch.load(out, weights_only=True), trained(None)
    assert all(torch.allclose(together[name], alone[name], atol=1e-5, rtol=1e-4) for name in alone)


def test_a_host_that_nothing_is_heard_of_is_given_up(pair: list[hosts.Host], tmp_path: Path) -> None:
    logs = [tmp_path / host.name for host in pair]
    command = agent("host1:29400", tmp_path / "out", tmp_path / "run", "--slow", 4)
    started = [host.begun(command, log, ENVIRONMENT) for host, log in zip(pair, logs, strict=True)]
    until((tmp_path / "run").exists)
    pair[1].link("down")
    assert started[0].wait(LIMIT) == 1, "torch itself waits for minutes"
    (line,) = told(logs[0])
    assert line.startswith("edgeq: no sign of life from process 1 on host2 for 8 s; the same command goes on")
    assert logs[0].read_text().count(line.removeprefix("edgeq: ")) == 2, "in torchrun's table at the end, too"


def test_what_differs_is_told_on_each_host(tmp_path: Path) -> None:
    logs = [tmp_path / "host1", tmp_path / "host2"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"127.0.0.1:{server.getsockname()[1]}"
    command = agent(endpoint, tmp_path / "out", "--other-data", 1, local_addr="127.0.0.1")
    started = [hosts.begun(command, log, ENVIRONMENT) for log in logs]
    assert [one.wait(LIMIT) for one in started] == [1, 1]
    for log in logs:
        (line,) = told(log)
        assert line.startswith("edgeq: process 1 on ") and "has other data than process 0 on " in line
    assert not (tmp_path / "out").exists()
