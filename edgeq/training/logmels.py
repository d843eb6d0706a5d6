"""Log-mel of packed clips for training: read, computed by the threads that read, or where the network is trained.

Of packed recordings a thread takes some 9 ms of a processor for 10 s at 32 kHz, two thirds of it log-mel: one GPU that
trains a small network would want all the processors of its machine. There threads only decode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from edgeq.audio.frontend import FrontendSpec
from edgeq.audio.frontend_torch import LogMel
from edgeq.audio.maps import at_speed, logmel_spec
from edgeq.corpora.packed import Packed
from edgeq.training import device as devices
from edgeq.training.config import FitConfig

MOST_SAMPLES = 1 << 22
"""Samples of which torch computes log-mel at once: their spectra take some 100 MB of the device's memory."""

Version = tuple[int, int]
"""A clip, by its index in the packed corpus, and which of the speeds (1, *config.speeds) it is played at."""


class PackedLogmels:
    """Log-mel of the clips of a packed corpus, whole, at the speeds of a config, as config.logmel says.

    From any number of threads. Raises InputError where the corpus was packed as log-mel of another front end, or not at
    these speeds, and as `device.chosen`.
    """

    def __init__(self, packed: Packed, spec: FrontendSpec, config: FitConfig) -> None:
        self.packed, self.spec, self.speeds = packed, logmel_spec(spec), (1.0, *config.speeds)
        packed.check_frontend(spec, self.speeds)
        self.device = devices.chosen(config)
        by_torch = config.logmel == "torch" or (config.logmel == "auto" and self.device.type == "cuda")
        self.module = LogMel(self.spec).to(self.device) if by_torch and packed.frontend is None else None

    def of(self, versions: Sequence[Version]) -> Iterator[tuple[list[int], Tensor]]:
        """Log-mel of these, some at a time: their places among `versions`, and their maps, all of one length.

        Maps are float32 (clips, spec.logmel_rows, frames), on the device that trains where torch computes them.
        Raises InputError as `Packed.read` and `Packed.waveform`.
        """
        if self.module is None:
            for place, (clip, speed) in enumerate(versions):
                yield [place], torch.from_numpy(self.packed.read([clip], self.spec, self.speeds[speed])[0])[None]
            return
        waveforms = [self._waveform(*version) for version in versions]
        for places in _together([len(waveform) for waveform in waveforms]):
            with torch.no_grad():  # of this thread, whatever others do
                maps = self.module(_on(self.device, np.stack([waveforms[place] for place in places])))
            yield places, maps

    def _waveform(self, clip: int, speed: int) -> np.ndarray:
        return at_speed(self.packed.waveform(clip, self.spec.sample_rate), self.speeds[speed], self.spec)


def _together(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of equal lengths, of at most MOST_SAMPLES together."""
    for length in dict.fromkeys(lengths):
        same = [place for place, one in enumerate(lengths) if one == length]
        most = max(1, MOST_SAMPLES // length)
        yield from (same[start : start + most] for start in range(0, len(same), most))


def _on(device: torch.device, array: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    with torch.cuda.device(device):  # which GPU is the current one, each thread says for itself
        return tensor.pin_memory().to(device, non_blocking=True)
