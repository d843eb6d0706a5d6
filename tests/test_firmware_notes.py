"""The firmware notes: a page a target, and figures that are the golden counts."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import bundles
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from edgeq import cli
from edgeq.cortexm import targets

ROOT = Path(__file__).resolve().parent.parent
NOTES = ROOT / "firmware_notes"
COUNTS = json.loads((ROOT / "tests" / "goldens" / "cortexm_counts.json").read_text())


@pytest.mark.parametrize("name", targets.listed())
def test_a_target_has_a_page_with_its_figures(name: str) -> None:
    text = (NOTES / f"{name}.md").read_text()
    target = targets.find(name)
    assert f"{target.clock_mhz:g} MHz" in text and f"**{target.wait_states} wait states**" in text
    for memory in (target.flash, target.ram):
        assert f"| 0x{memory.origin:08x}".upper()[4:] in text.upper() and f"{memory.bytes:,}" in text
    rows = {cells[0]: cells for line in text.splitlines() if len(cells := line.strip("| ").split(" | ")) == 7}
    for model, found in COUNTS["models"].items():
        _, _, _, cycles, _, flash, ram = rows[model]
        keys = ("cycles", "flash_bytes", "ram_bytes")
        assert [cycles, flash, ram] == [f"{found[name][key]:,}" for key in keys]


def test_the_notes_list_every_page() -> None:
    text = (NOTES / "README.md").read_text()
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", text))
    assert {f"{name}.md" for name in targets.listed()} <= linked
    assert all((NOTES / page).is_file() for page in linked)
    for name, target in targets.listed().items():
        row = next(line for line in text.splitlines() if f"]({name}.md)" in line)
        assert target.part in row and row.rstrip(" |").endswith(target.cycles.kind)


UNIT = NOTES / "edgeq-live.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    """With a program that is there in place of the installed one."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/edgeq/bin/edgeq", shutil.which("true") or ""))
    found = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


def test_the_unit_starts_edgeq_with_options_that_it_has(tmp_path: Path) -> None:
    """The very line, with a recording in place of the microphone."""
    (line,) = re.findall(r"^ExecStart=/opt/edgeq/bin/edgeq (.*)$", UNIT.read_text(), re.MULTILINE)
    (environment,) = re.findall(r"^Environment=(.*)$", UNIT.read_text(), re.MULTILINE)
    values = dict(one.split("=", 1) for one in shlex.split(environment))
    values |= {"MODEL": str(bundles.exported(tmp_path / "small").folder), "STATE_DIRECTORY": str(tmp_path)}
    arguments = shlex.split(re.sub(r"\$\{?(\w+)\}?", lambda match: values[match[1]], line))
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 8000)
    result = CliRunner().invoke(cli.commands, [*arguments, "--input", str(tmp_path / "a.wav")])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0 and len(lines) == 3 and (tmp_path / "hits").is_dir()
