"""The microphones of this machine, asked for in a process of its own: a sound server that stands still takes along who
asks it, and nothing inside a process can let go of that."""

from __future__ import annotations

import json
import subprocess
import sys

from edgeq.errors import InputError
from edgeq.live.microphone import LISTING_SECONDS, STANDING_STILL, Device, devices


def listed() -> list[Device]:
    """The inputs of this machine, as `microphone.devices` gives them.

    Raises InputError where PortAudio is not installed, fails, or does not answer within LISTING_SECONDS.
    """
    # -P: what lies in the folder that one happens to work in is not imported.
    command = [sys.executable, "-P", "-m", "edgeq.live.devices"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LISTING_SECONDS)
    except subprocess.TimeoutExpired:
        raise InputError(STANDING_STILL.format(seconds=LISTING_SECONDS)) from None
    said = done.stderr.decode(errors="replace").split("\n")
    if done.returncode == 2:
        raise InputError(said[-2])
    if done.returncode:
        reason = next((line for line in reversed(said) if line.strip()), f"exit code {done.returncode}")
        raise InputError(f"PortAudio cannot list the devices ({reason}); run: edgeq doctor")
    return [Device(**one) for one in json.loads(done.stdout)]


def _answer() -> None:
    try:
        print(json.dumps([one.to_json() for one in devices()]))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    _answer()
