"""What a training needs of the machines it runs on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from beeps import RECIPE, beeps

from edgeq import corpora
from edgeq.corpora import Corpus
from edgeq.training import processes, session
from edgeq.training import recipe as recipes
from edgeq.training.processes import Processes


def test_processes_leave_out_the_same_clips_of_copies_in_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word: list[str] = []

    class First(Processes):
        def from_main(self, make: Callable[[], Any]) -> Any:
            word.append(json.dumps(make()))
            return json.loads(word[0])

    class Second(Processes):
        def from_main(self, make: Callable[[], Any]) -> Any:
            return json.loads(word[0])

    damaged = beeps(tmp_path / "here").clips[4].path
    damaged.write_bytes(damaged.read_bytes()[:3000])
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    recipe = recipes.read(tmp_path / "recipe.toml")
    left: list[Corpus] = []
    for folder, together in ((tmp_path / "here", First()), (tmp_path / "there", Second())):
        monkeypatch.setattr(processes, "current", lambda together=together: together)
        corpus, (fault,) = session.sound(corpora.open(folder), recipe.frontend, ())
        assert fault.path == folder / damaged.relative_to(tmp_path / "here") and fault.kind == "unreadable"
        left.append(corpus)
    assert [len(one.clips) for one in left] == [12, 12]
    assert left[0].hash == left[1].hash
