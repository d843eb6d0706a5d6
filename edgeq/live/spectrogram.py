"""The last seconds of sound as a picture made of characters."""

from __future__ import annotations

import math
from collections import deque
from functools import lru_cache

import numpy as np

from edgeq.audio import decibels
from edgeq.audio.frontend import FrontendSpec, mel_centres

COLUMN_SECONDS = 0.1
"""Of a column of characters, about: a whole number of frames."""

COLOURS = ("truecolor", "256", "standard")
"""What terminals can show, the best first; "none" stands for those that show characters alone."""

_MOST_COLUMNS = 600
_MOST_DB, _LEAST_DB = 70.0, 30.0
"""Between the darkest and the brightest."""
_STEADY_DB = 3.0
"""By which the range has to change for the colours to follow, so that they don't flicker."""
_GAP_SECONDS = 0.25
_HERTZ = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000)

_LEVELS = 32
# The map "magma" of matplotlib (CC0), at every eighth: even steps to the eye.
_MAGMA = ("000004", "1d1147", "51127c", "822681", "b73779", "e75263", "fc8961", "fec488", "fcfdbf")
_OF_256 = (16, 17, 53, 54, 90, 126, 132, 168, 167, 203, 209, 215, 222, 229)  # what xterm has near it
_OF_16 = (0, 4, 5, 1, 3, 7)  # black, blue, magenta, red, yellow, white
_UPPER_HALF = "▀"
_SHADES = {True: " ░▒▓█", False: " .:-=+*#%@"}
_PLAIN = "\x1b[0m"


class Spectrogram:
    """Log-mel that scrolls: loud is bright, low is at the bottom, now is at the right."""

    def __init__(self, spec: FrontendSpec) -> None:
        self._spec = spec
        self._rate = spec.sample_rate / spec.hop_length
        self._frames_a_column = max(1, round(COLUMN_SECONDS * self._rate))
        self._decibels, self._least_high = decibels.unit(spec), decibels.loud(spec)
        self._low, self._high = self._least_high - _LEAST_DB, self._least_high
        self._columns: deque[np.ndarray] = deque(maxlen=_MOST_COLUMNS)
        self._open: list[np.ndarray] = []
        self.end_seconds = 0.0
        """Of the sound at the right edge."""

    @property
    def most_rows(self) -> int:
        """Rows of characters beyond which nothing more is to be seen: two mels a row."""
        return math.ceil(self._spec.n_mels / 2)

    @property
    def column_seconds(self) -> float:
        """Seconds of sound in a column."""
        return self._frames_a_column / self._rate

    def add(self, frames: np.ndarray, seconds: float) -> None:
        """Take in frames, (n_mels, n), log-mel as the front end gives it, of sound that ends at that second."""
        missed = seconds - self.end_seconds - frames.shape[1] / self._rate
        if missed > _GAP_SECONDS and self.end_seconds:
            self._open = []
            nothing = np.full(self._spec.n_mels, np.nan, np.float32)
            self._columns.extend([nothing] * min(_MOST_COLUMNS, round(missed / self.column_seconds)))
        self.end_seconds = seconds
        self._open += list(self._decibels * frames.T)
        while len(self._open) >= self._frames_a_column:
            self._columns.append(np.max(self._open[: self._frames_a_column], axis=0))
            self._open = self._open[self._frames_a_column :]

    def lines(self, width: int, height: int, colours: str, blocks: bool) -> list[str]:
        """So many lines of so many characters, with their escape sequences.

        colours: one of COLOURS, or "none". blocks: whether the terminal has block characters; without them, or without
        colours, it is drawn in shades.
        """
        if colours == "none" or not blocks:
            signs = np.array(list(_SHADES[blocks] + " "))  # the last where there is nothing: -1
            return ["".join(signs[row]) for row in self._levels(width, height, len(signs) - 1)]
        table, count = _escapes(colours)
        pixels = self._levels(width, 2 * height, count)
        return [_drawn(upper * count + lower, table) for upper, lower in zip(pixels[::2], pixels[1::2], strict=True)]

    def hertz(self, height: int) -> list[str]:
        """What stands beside so many lines: a round frequency where it lies, else nothing."""
        centres, beside, free = mel_centres(self._spec), [""] * height, height
        for hertz in _HERTZ:
            if not centres[0] <= hertz <= centres[-1]:
                continue
            place = float(np.interp(hertz, centres, np.arange(len(centres)))) + 0.5
            row = height - 1 - int(place * height / len(centres))
            if row < free - 1 or not any(beside):
                beside[row], free = f"{hertz // 1000}k" if hertz >= 1000 else str(hertz), row
        return beside

    def _levels(self, width: int, height: int, count: int) -> np.ndarray:
        """How bright each point is, from 0 to count - 1, -1 where there is nothing: (height, width), top row first."""
        shown = list(self._columns)[-width:]
        result = np.full((height, width), -1)
        if not shown:
            return result
        bands = np.stack(shown, axis=1)
        self._fit(bands)
        mels = len(bands)
        if height < mels:
            bands = np.maximum.reduceat(bands, np.arange(height) * mels // height, axis=0)
        else:
            bands = bands[np.arange(height) * mels // height]
        there = np.isfinite(bands)
        share = (np.where(there, bands, self._low) - self._low) / (self._high - self._low)
        bright = np.clip((share * count).astype(int), 0, count - 1)
        result[:, width - len(shown) :] = np.where(there, bright, -1)[::-1]
        return result

    def _fit(self, bands: np.ndarray) -> None:
        """Fit the range of colours to what is shown."""
        present = bands[np.isfinite(bands)]
        if not len(present):
            return
        quiet, loud = np.percentile(present, [10, 99.8])
        high = max(float(loud), self._least_high)
        low = min(high - _LEAST_DB, max(high - _MOST_DB, float(quiet) - _STEADY_DB))
        if abs(high - self._high) >= _STEADY_DB or abs(low - self._low) >= _STEADY_DB:
            self._low, self._high = low, high


def _drawn(codes: np.ndarray, table: list[str]) -> str:
    """A line from what each of its characters is; negative where there is nothing."""
    starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
    parts = []
    for start, length in zip(starts.tolist(), np.diff(np.append(starts, len(codes))).tolist(), strict=True):
        code = int(codes[start])
        parts.append(_PLAIN + " " * length if code < 0 else table[code] + _UPPER_HALF * length)
    return "".join(parts) + _PLAIN


@lru_cache
def _escapes(colours: str) -> tuple[list[str], int]:
    """For each pair of upper and lower level the escape sequence of its colours; and how many levels there are."""
    if colours == "standard":
        fore, back = ([f"{base + code}" for code in _OF_16] for base in (30, 40))
    elif colours == "256":
        fore, back = ([f"{ground};5;{code}" for code in _OF_256] for ground in (38, 48))
    else:
        stops = np.array([[int(colour[at : at + 2], 16) for at in (0, 2, 4)] for colour in _MAGMA])
        places = np.linspace(0, len(stops) - 1, _LEVELS)
        levels = np.stack([np.interp(places, np.arange(len(stops)), part) for part in stops.T], axis=1).round()
        shades = [";".join(map(str, level)) for level in levels.astype(int).tolist()]
        fore, back = ([f"{ground};2;{shade}" for shade in shades] for ground in (38, 48))
    return [f"\x1b[{upper};{lower}m" for upper in fore for lower in back], len(fore)
