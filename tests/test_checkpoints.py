"""What is kept of a training: read back, or refused with what may be the cause."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from edgeq.errors import InputError
from edgeq.training import checkpoints


def test_a_state_is_read_back(tmp_path: Path) -> None:
    assert checkpoints.read(tmp_path / "run", "one") is None
    checkpoints.write(tmp_path / "run", {"fingerprint": "one", "weights": [torch.arange(3)]})
    state = checkpoints.read(tmp_path / "run", "one")
    assert state is not None and torch.equal(state["weights"][0], torch.arange(3))


@pytest.mark.parametrize("upgraded", [False, True])
def test_another_version_of_edgeq_is_named_where_it_may_be_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upgraded: bool
) -> None:
    checkpoints.write(tmp_path / "run", {"fingerprint": "one"})
    if upgraded:
        monkeypatch.setattr(checkpoints, "version", lambda package: "999.0")
        assert checkpoints.read(tmp_path / "run", "one") is not None, "of itself no reason to refuse it"
    told = f" (or edgeq itself: {version('edgeq')} wrote it, this is 999.0)" * upgraded
    with pytest.raises(InputError, match=re.escape(f"or other validation clips{told}; remove it")):
        checkpoints.read(tmp_path / "run", "other")


def test_a_checkpoint_that_cannot_be_read_is_not_to_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(*of: object, **options: object) -> None:
        raise OSError(116, "Stale file handle")

    (tmp_path / "run").touch()
    monkeypatch.setattr(torch, "load", stale)
    with pytest.raises(InputError, match=r"run: cannot be read \(Stale file handle\)") as told:
        checkpoints.read(tmp_path / "run", "one")
    assert "remove" not in str(told.value)
