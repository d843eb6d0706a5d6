"""From energy to CO2, by the grid of a country that the user names. Nothing is asked of the network."""

from __future__ import annotations

import csv
import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources

from edgeq.bench.result import ESTIMATED, Band, Result, Value
from edgeq.errors import InputError

_JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Intensity:
    """What a country's electricity emits.

    grams_per_kwh: CO2 equivalents over the life cycle of what generated electricity in the country, mean of `year`;
    imports are not counted. code: ISO 3166-1, two letters. source: who says so.
    """

    grams_per_kwh: float
    year: int
    source: str
    country: str
    code: str


def intensity(country: str) -> Intensity:
    """The grid of a country, by its ISO 3166-1 code of two or three letters.

    Raises InputError where the table has no such code, with those that come near.
    Source: grid_intensities.csv beside this file.
    """
    table, asked = _table(), country.strip().upper()
    if asked in table:
        return table[asked]
    near = ", ".join(f"{one.code} ({one.country})" for one in _near(country.strip(), table))
    hint = f"; did you mean {near}?" if near else ""
    raise InputError(
        f"country {country!r}: not one of the {len(table) // 2} whose grid is known here; expected a code of "
        f"ISO 3166-1, such as GB or GBR{hint}"
    )


def grams(joules: float, grid: Intensity) -> float:
    """Grams of CO2 equivalents that so much electricity stands for."""
    return joules / _JOULES_PER_KWH * grid.grams_per_kwh


def emitting(result: Result, grid: Intensity) -> Result:
    """A result with its CO2, or where nothing tells its energy with the word that it needs that."""
    if result.energy_mj is not None:
        return replace(result, co2_g=_co2(result.energy_mj, grid))
    told = "no CO2, as nothing tells the energy here: name a sensor with --meter, or state the power with --watts"
    return replace(result, warnings=(*result.warnings, told))


@functools.cache
def _table() -> Mapping[str, Intensity]:
    """By both codes."""
    lines = resources.files("edgeq.bench").joinpath("grid_intensities.csv").read_text("utf-8").splitlines()
    table: dict[str, Intensity] = {}
    for row in csv.DictReader(lines):
        one = Intensity(float(row["grams_per_kwh"]), int(row["year"]), row["source"], row["country"], row["alpha2"])
        table[row["alpha2"]] = table[row["alpha3"]] = one
    return table


def _near(asked: str, table: Mapping[str, Intensity]) -> list[Intensity]:
    """Countries whose name holds what was asked, or begins its words with it; else codes and names that look alike."""
    lower = asked.lower()
    grids = {one.code: one for one in table.values()}.values()

    def holds(one: Intensity) -> bool:
        initials = "".join(word[0] for word in one.country.lower().split())
        return bool(lower) and (lower == initials or (len(lower) > 2 and lower in one.country.lower()))

    called = [one for one in grids if holds(one)]
    names = {one.country.lower(): one for one in grids} | {code.lower(): one for code, one in table.items()}
    alike = [names[name] for name in difflib.get_close_matches(lower, names, n=3, cutoff=0.65)]
    return list(dict.fromkeys(called or alike))[:3]


def _co2(energy: Value | Band, grid: Intensity) -> Value | Band:
    source = f"{grid.grams_per_kwh:g} g a kWh, {grid.country} {grid.year} ({grid.source}); energy {energy.kind}"
    of = functools.partial(grams, grid=grid)
    if isinstance(energy, Value):
        return Value(of(energy.value / 1e3), ESTIMATED, source)
    return Band(of(energy.low / 1e3), of(energy.high / 1e3), ESTIMATED, source)
