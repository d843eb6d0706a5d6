"""What a process of torchrun runs in tests of training together: a fit of a tiny network; the first one keeps it.

    torchrun --nproc-per-node N tests/distributed_fit.py OUT [CHECKPOINT] [--kill STEP RANK] [--slow SECONDS]
        [--other-data RANK] [--other-torch RANK] [--other-folder RANK FOLDER]

--kill: that process kills itself before that step, the first time it is started. --slow: every step takes so long, and
a process is given up after two without a sign of life. --other-...: that process has other data, another
version of torch, or looks for the checkpoint in another folder.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from test_fit import SPEC, corpus

from edgeq.errors import InputError
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec
from edgeq.training import fit as fitting
from edgeq.training import joining, life, processes
from edgeq.training.config import FitConfig
from edgeq.training.fit import fit
from edgeq.training.source import InMemory

CONFIG = FitConfig(
    epochs=3, batch_size=8, parts=4, crop_seconds=(1.0,), learning_rate=0.01, speeds=(), average_decay=0.5,
    checkpoint_minutes=1e-9, mixup_alpha=0.5,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--kill", type=int, nargs=2, metavar=("STEP", "RANK"))
    parser.add_argument("--slow", type=float, metavar="SECONDS", default=0)
    parser.add_argument("--other-data", type=int, metavar="RANK")
    parser.add_argument("--other-torch", type=int, metavar="RANK")
    parser.add_argument("--other-folder", nargs=2, metavar=("RANK", "FOLDER"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.slow:
        life.SILENCE = 2 * arguments.slow
    if int(os.environ["RANK"]) == arguments.other_torch:
        torch.__version__ = "1.0.0"
    try:
        with joining.joined() as together:
            kill = arguments.kill[0] if arguments.kill and arguments.kill[1] == together.rank else None
            if arguments.other_folder:
                rank, other = arguments.other_folder
                processes.SHARED_WITHIN = 0.0
                together.check_shared(Path(other) if together.rank == int(rank) else arguments.checkpoint.parent)
            state = trained(arguments.checkpoint, kill, together.rank == arguments.other_data, arguments.slow)
            together.check_same("weights", str([one.tolist() for one in state.values()]), "at the end")
            if together.main:
                torch.save(state, arguments.out)
    except InputError as error:
        print(f"edgeq: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


def process(rank: int, count: int, port: int, errors: Path, arguments: list[str]) -> None:
    """Run as torchrun would have it run, where somebody else started this process; errors: where stderr goes."""
    os.environ |= {
        "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True",
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_RESTART_COUNT": "0", "CUDA_VISIBLE_DEVICES": "",
        "TORCHELASTIC_ERROR_FILE": str(errors.parent / f"rank{rank}" / "error.json"),
    }  # fmt: skip
    sys.argv = [__file__, *arguments]
    with errors.open("w") as sys.stderr:
        main()


def trained(
    checkpoint: Path | None, kill: int | None = None, other_data: bool = False, slow: float = 0
) -> dict[str, torch.Tensor]:
    """The state of a network that this process, or those that joined, fit; kill: before which step it dies."""
    maps, targets = corpus(20)
    if other_data:
        maps = replace(maps, logmels=(tuple(one + np.float32(1) for one in maps.logmels[0]),))
    torch.manual_seed(0)
    network = registry.build(ArchitectureSpec("cnn5", (4, 4, 4, 4, 4), 2, SPEC.input_shape))
    step = fitting._Run._step

    def killed(run: Any, number: int, heard: Any) -> torch.Tensor:
        if number == kill and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(slow)
        return step(run, number, heard)

    fitting._Run._step = killed  # type: ignore[method-assign]
    try:
        fit(network, InMemory(maps, targets, SPEC, CONFIG), SPEC, CONFIG, 0, checkpoint)
    finally:
        fitting._Run._step = step  # type: ignore[method-assign]
    return network.state_dict()


if __name__ == "__main__":
    main()
