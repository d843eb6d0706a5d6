"""Log-mel of packed clips for training: read, computed by the threads that read, or where the network is trained.

What a processor spends on a packed recording is mostly log-mel, not decoding (benchmarks/audioset.md): where a GPU
trains, it computes log-mel too, and threads only decode.
"""

from __future__ import annotations

import math
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

MOST_VALUES = 1 << 22
"""Samples that a device gets at once: their spectra take some 100 MB of its memory."""

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

        Maps are float32 (clips, spec.logmel_rows, frames), on the device that trains. Raises InputError as
        `Packed.read` and `Packed.waveform`.
        """
        if self.module is None and self.device.type == "cpu":
            for place, version in enumerate(versions):  # one at a time stays in the processor's caches
                yield [place], torch.from_numpy(self._logmel(*version))[None]
            return
        arrays = [self._logmel(*version) if self.module is None else self._waveform(*version) for version in versions]
        for places in _together(arrays):
            maps = _on(self.device, np.stack([arrays[place] for place in places]))
            if self.module is not None:
                with torch.no_grad():  # of this thread, whatever others do
                    maps = self.module(maps)
            yield places, maps

    def _logmel(self, clip: int, speed: int) -> np.ndarray:
        return self.packed.read([clip], self.spec, self.speeds[speed])[0]

    def _waveform(self, clip: int, speed: int) -> np.ndarray:
        return at_speed(self.packed.waveform(clip, self.spec.sample_rate), self.speeds[speed], self.spec)


def _together(arrays: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """Places of arrays of one shape, of at most MOST_VALUES together."""
    for shape in dict.fromkeys(array.shape for array in arrays):
        same = [place for place, array in enumerate(arrays) if array.shape == shape]
        most = max(1, MOST_VALUES // math.prod(shape))
        yield from (same[start : start + most] for start in range(0, len(same), most))


def _on(device: torch.device, array: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    with torch.cuda.device(device):  # which GPU is the current one, each thread says for itself
        return tensor.pin_memory().to(device, non_blocking=True)
