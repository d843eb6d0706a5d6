"""A private PulseAudio whose microphones play what they are told: the way through PortAudio without hardware."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TOOLS = ("pulseaudio", "pactl", "paplay")
MICROPHONE = "edgeq_mic"
"""The name of the first microphone; the others' have their number behind it."""


@dataclass
class Server:
    """process: the server's; environment: what makes programs use it and nothing else."""

    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def begin_again(self) -> None:
        """After its end: another server in its place."""
        self.process = _started(self.folder, self.environment)

    def play(self, path: Path, microphone: str = MICROPHONE) -> None:
        """Let a microphone hear a recording, to its end."""
        command = ["paplay", "--latency-msec=500", f"--device=to_{microphone}", str(path)]
        subprocess.run(command, env=self.environment, check=True, timeout=120)

    def pour(self, rate: int, microphone: str = MICROPHONE) -> subprocess.Popen[bytes]:
        """A process whose stdin takes what a microphone hears: 16-bit mono PCM at that rate, at its own pace."""
        form = ["--raw", "--format=s16le", f"--rate={rate}", "--channels=1", "--latency-msec=100"]
        command = ["paplay", *form, f"--device=to_{microphone}"]
        return subprocess.Popen(command, env=self.environment, stdin=subprocess.PIPE)

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
def running(folder: Path, rate: int, microphones: Sequence[str] = (MICROPHONE,)) -> Iterator[Server]:
    """A server of its own, without D-Bus or a file outside `folder`; its microphones have this rate."""
    places = {f"PULSE_{name.upper()}_PATH": folder / name for name in ("runtime", "state", "config")}
    for place in places.values():
        place.mkdir(parents=True, mode=0o700)
    socket = folder / "native"
    (folder / "server.pa").write_text(
        f"load-module module-native-protocol-unix auth-anonymous=1 socket={socket}\n"
        + "".join(
            f"load-module module-null-sink sink_name=to_{name} rate={rate} channels=1\n"
            f"load-module module-remap-source source_name={name} master=to_{name}.monitor\n"
            for name in microphones
        )
    )
    (folder / "asoundrc").write_text(
        "".join(f'pcm.{name} {{ type pulse server "unix:{socket}" device "{name}" }}\n' for name in microphones)
    )
    environment = {
        **os.environ,
        **{name: str(place) for name, place in places.items()},
        "PULSE_SERVER": f"unix:{socket}",
        "ALSA_CONFIG_PATH": f"/usr/share/alsa/alsa.conf:{folder / 'asoundrc'}",
    }
    server = Server(folder, environment, _started(folder, environment))
    try:
        yield server
    finally:
        server.end()


def _started(folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    options = ["--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes", "--realtime=no"]
    process = subprocess.Popen(
        ["pulseaudio", "-n", "-F", str(folder / "server.pa"), *options, "--high-priority=no"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 20
    while subprocess.run(["pactl", "info"], env=environment, capture_output=True).returncode:
        if time.monotonic() > until or process.poll() is not None:
            process.kill()
            raise RuntimeError("PulseAudio does not start")
        time.sleep(0.05)
    return process
