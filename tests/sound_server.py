"""A private PulseAudio whose microphone plays what it is told: the way through PortAudio without hardware."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TOOLS = ("pulseaudio", "pactl", "paplay")
MICROPHONE = "edgeq_mic"


@dataclass(frozen=True)
class Server:
    """process: the server's; environment: what makes programs use it and nothing else."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str]

    def play(self, path: Path) -> None:
        """Let the microphone hear a recording, to its end."""
        command = ["paplay", "--latency-msec=20", "--device=vspk", str(path)]
        subprocess.run(command, env=self.environment, check=True, timeout=60)

    def control(self, *words: str) -> None:
        subprocess.run(["pactl", *words], env=self.environment, check=True, timeout=20, capture_output=True)


def missing() -> list[str]:
    """What is not installed of what it needs."""
    lacking = [tool for tool in TOOLS if not shutil.which(tool)]
    try:
        import sounddevice  # noqa: F401
    except OSError:
        lacking.append("libportaudio2")
    return lacking


@contextmanager
def running(folder: Path, rate: int) -> Iterator[Server]:
    """A server of its own, without D-Bus or a file outside `folder`; its sink and microphone have this rate."""
    places = {f"PULSE_{name.upper()}_PATH": folder / name for name in ("runtime", "state", "config")}
    for place in places.values():
        place.mkdir(parents=True, mode=0o700)
    socket = folder / "native"
    (folder / "server.pa").write_text(
        f"load-module module-native-protocol-unix auth-anonymous=1 socket={socket}\n"
        f"load-module module-null-sink sink_name=vspk rate={rate} channels=1\n"
        "load-module module-remap-source source_name=vmic master=vspk.monitor\n"
    )
    (folder / "asoundrc").write_text(f'pcm.{MICROPHONE} {{ type pulse server "unix:{socket}" device "vmic" }}\n')
    environment = {
        **os.environ,
        **{name: str(place) for name, place in places.items()},
        "PULSE_SERVER": f"unix:{socket}",
        "ALSA_CONFIG_PATH": f"/usr/share/alsa/alsa.conf:{folder / 'asoundrc'}",
    }
    options = ["--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes", "--realtime=no"]
    process = subprocess.Popen(
        ["pulseaudio", "-n", "-F", str(folder / "server.pa"), *options, "--high-priority=no"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    server = Server(process, environment)
    try:
        _wait(server)
        yield server
    finally:
        process.kill()
        process.wait()


def _wait(server: Server) -> None:
    until = time.monotonic() + 20
    while subprocess.run(["pactl", "info"], env=server.environment, capture_output=True).returncode:
        assert time.monotonic() < until and server.process.poll() is None, "PulseAudio does not start"
        time.sleep(0.05)
