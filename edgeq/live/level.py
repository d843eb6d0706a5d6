"""How loud the sound is, and in words what is wrong with it: silence, a stuck device, clipping, too little gain."""

from __future__ import annotations

import math

import numpy as np

from edgeq.live.capture import Chunk

FLOOR_DB = -96.0
"""What stands for silence: the step of 16-bit samples."""

_JUDGED_SECONDS = 2.0
_QUIET_SECONDS = 10.0
_QUIET = 1e-3  # of full scale: -60 dB
_CLIPPED = 0.999
_CLIPPED_SHARE = 1e-3
_REMINDER_SECONDS = 60.0
_NOTHING = (math.inf, -math.inf, 0, 0)

_WORDS = {
    "silent": "nothing but zeros for {seconds:.0f} s: muted, or the wrong input (--list-devices)",
    "stuck": "every sample is {peak:.3g} for {seconds:.0f} s: the device stands still; plug it in again",
    "clipping": "the sound clips ({share:.1%} of the samples at full scale): lower the input's gain",
    "quiet": "very quiet: at most {peak_db:.0f} dB of full scale in {seconds:.0f} s; raise the input's gain",
    "no numbers": "the source gives NaN or infinity: those samples are passed over",
}


class Level:
    """The level of what is captured. peak_db: of the last chunk, in dB of full scale; FLOOR_DB and above."""

    def __init__(self) -> None:
        self.peak_db = FLOOR_DB
        self._seconds = 0.0
        self._quiet_seconds = 0.0
        self._quiet_peak = 0.0
        self._said: dict[str, float] = {}
        self._low, self._high, self._clipped, self._count = _NOTHING

    def hear(self, chunk: Chunk) -> list[str]:
        """Take in a chunk. Returns what is to be said now: each fault when it begins, and again after a minute."""
        samples = chunk.samples
        if not len(samples):
            return []
        self._seconds += len(samples) / chunk.rate
        low, high = float(samples.min()), float(samples.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            return self._say("no numbers")
        peak = max(-low, high)
        self.peak_db = decibels(peak)
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._clipped += int(np.count_nonzero(np.abs(samples) >= _CLIPPED)) if peak >= _CLIPPED else 0
        self._count += len(samples)
        seconds = self._count / chunk.rate
        return self._judge(seconds) if seconds >= _JUDGED_SECONDS else []

    def _judge(self, seconds: float) -> list[str]:
        peak, share, still = max(-self._low, self._high), self._clipped / self._count, self._low == self._high
        self._low, self._high, self._clipped, self._count = _NOTHING
        if still:
            return self._say("silent" if peak == 0 else "stuck", seconds=seconds, peak=peak)
        if share > _CLIPPED_SHARE:
            return self._say("clipping", share=share)
        if peak >= _QUIET:
            self._quiet_seconds = self._quiet_peak = 0.0
            self._said.clear()
            return []
        self._quiet_seconds += seconds
        self._quiet_peak = max(self._quiet_peak, peak)
        if self._quiet_seconds < _QUIET_SECONDS:
            return []
        return self._say("quiet", seconds=self._quiet_seconds, peak_db=decibels(self._quiet_peak))

    def _say(self, what: str, **figures: float) -> list[str]:
        if self._seconds - self._said.get(what, -math.inf) < _REMINDER_SECONDS:
            return []
        self._said[what] = self._seconds
        return [_WORDS[what].format(**figures)]


def decibels(amplitude: float) -> float:
    """An amplitude in dB of full scale, FLOOR_DB and above."""
    return max(FLOOR_DB, 20 * math.log10(amplitude)) if amplitude > 0 else FLOOR_DB
