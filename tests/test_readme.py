"""The README and the pages that it links: commands as edgeq takes them, links that lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from edgeq import cli
from edgeq.training import recipe as recipes

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "edgeq" / "training" / "README.md",
    *sorted((ROOT / "firmware_notes").glob("*.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
    ROOT / "benchmarks" / "recipes" / "README.md",
]


def commands(page: Path) -> list[list[str]]:
    """The command lines of a page's shell blocks that begin with edgeq, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("edgeq ")]


def parsed(arguments: list[str]) -> None:
    """Raises UsageError where edgeq does not take these arguments, KeyError where it has no such command."""
    command: click.Command = cli.commands
    while isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context(name, list(arguments))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_taken_and_links_lead_somewhere(page: Path) -> None:
    for _, *arguments in commands(page):
        parsed(arguments)
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_readme_has_the_way_from_recordings_to_a_device() -> None:
    told = [line[1] for line in commands(ROOT / "README.md")]
    start = told.index("data")
    assert told[start : start + 5] == ["data", "train", "train", "export", "bench"]
    with pytest.raises(click.UsageError):
        parsed(["train", "mine.toml", "--dta", "sounds"])


def test_the_readmes_recipe_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    place = tmp_path / "mine.toml"
    place.write_text(block)
    assert recipes.read(place).name == "mine"
