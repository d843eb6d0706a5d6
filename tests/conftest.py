"""What every test may ask for."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from functools import lru_cache, wraps
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings

from edgeq import progress

# A shared machine stalls now and then: no deadline, and the same examples on every run.
settings.register_profile("edgeq", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgeq")

# A shell without job control starts what runs behind it with Ctrl-C ignored, and so would every command of a test be.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Two workers share the cores, in which more threads only wait for each other, spinning (of numpy's linear algebra above
# all): one each, in a test's commands too, where a test doesn't ask for another number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# There quick work may last long enough to show a bar, where a test expects one line of an error.
progress.PATIENCE = math.inf

ROOT = Path(__file__).resolve().parent.parent


def data_folder() -> Path:
    """Where real recordings lie: $EDGEQ_DATA, or shared/data beside the checkout."""
    return Path(os.environ.get("EDGEQ_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session", autouse=True)
def synthetic_sounds_are_made_once() -> Iterator[None]:
    """Every export of an undecided network asks for up to a thousand, and tests export the same few front ends.

    A function of the seed, the rate and the length alone, which test_goldens.py holds it to; a copy for each caller.
    """
    from edgeq import goldens

    made = goldens.waveform
    kept = lru_cache(1024)(lambda seed, **sizes: made(seed, SimpleNamespace(**sizes)))

    @wraps(made)
    def waveform(seed, frontend):
        return kept(seed, sample_rate=frontend.sample_rate, window_samples=frontend.window_samples).copy()

    goldens.waveform = waveform
    yield
    goldens.waveform = made


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch computes on one thread: rounding then follows from nothing but what is computed."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def esc10() -> Path:
    """The ESC-10 folder (folds 1-4); skips where it is not at hand."""
    folder = data_folder() / "esc10"
    if not (folder / "meta.csv").is_file():
        pytest.skip(f"no real recordings: {folder} has no meta.csv (set EDGEQ_DATA to the folder that holds esc10)")
    return folder
