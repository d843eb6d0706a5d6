"""The description of the machine agrees with what the system itself says."""

import json
import os
import subprocess

from edgeq import machine


def test_describes_this_machine() -> None:
    described = machine.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["cores"] == os.cpu_count()
    kernel = subprocess.run(["uname", "-r"], capture_output=True, text=True, check=True).stdout.strip()
    assert kernel in str(described["system"])
    assert described["processor"]
