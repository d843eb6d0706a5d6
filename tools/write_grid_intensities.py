"""Write edgeq/bench/grid_intensities.csv from the data of an installed codecarbon, which brings pycountry.

python tools/write_grid_intensities.py    (pip install codecarbon, in an environment of its own)

codecarbon (MIT) carries, in global_energy_mix.json, the last year of each country in Our World in Data's energy data
(CC BY 4.0), whose carbon intensity of electricity is Ember's (CC BY 4.0). Codes of two letters are ISO 3166-1's.
"""

from __future__ import annotations

import csv
import json
from importlib import resources
from pathlib import Path

import pycountry

TABLE = Path(__file__).resolve().parent.parent / "edgeq" / "bench" / "grid_intensities.csv"
SOURCE = "Ember (2024), processed by Our World in Data, CC BY 4.0"


def main() -> None:
    data = resources.files("codecarbon").joinpath("data/private_infra/global_energy_mix.json").read_text("utf-8")
    rows = [
        [
            pycountry.countries.get(alpha_3=code).alpha_2,
            code,
            grid["country_name"],
            grid["carbon_intensity"],
            grid["year"],
        ]
        for code, grid in sorted(json.loads(data).items())
        if grid["carbon_intensity"]  # 0: so little is generated there that it was rounded away
    ]
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["alpha2", "alpha3", "country", "grams_per_kwh", "year", "source"])
        writer.writerows([*row, SOURCE] for row in rows)


if __name__ == "__main__":
    main()
