"""Recipes: a TOML file that says how a model is trained, read strictly."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edgeq import manifest
from edgeq.audio.frontend import PRESETS, FrontendSpec, with_derivatives
from edgeq.errors import InputError, naming
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec
from edgeq.training.config import FitConfig


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    architecture: for as many classes as the corpus turns out to have. frontend: not normalised yet. fit: the [fit]
    table. seed; threads (a result is repeatable for equal threads); exclude_licences: clips under these are left out;
    licence: of the bundle. sha256: of the recipe file.
    """

    name: str
    architecture: ArchitectureSpec
    frontend: FrontendSpec
    fit: FitConfig
    seed: int = 0
    threads: int = 2
    exclude_licences: tuple[str, ...] = ()
    licence: str = ""
    sha256: str = field(default="", compare=False)


def read(path: Path | str) -> Recipe:
    """Read a recipe.

    Top level: name, architecture (a preset of nets.registry), seed, threads, exclude_licences, licence. [frontend]:
    preset (default: the architecture's own) and any field of FrontendSpec to change in it; derivatives are "time" where
    the architecture takes 4 components, unless "power-frequency" is asked for; normalisation follows from the data.
    [fit]: the fields of FitConfig.
    Raises InputError naming the file and the key where one is unknown (with the nearest known one), missing, or wrong.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        table = tomllib.loads(content.decode())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a recipe in TOML") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error}); mend that line") from error
    with naming(path):
        return replace(_from_table(table), sha256=hashlib.sha256(content).hexdigest())


def _from_table(table: Mapping[str, Any]) -> Recipe:
    known = ("name", "architecture", "seed", "threads", "exclude_licences", "licence", "frontend", "fit")
    _check_keys("", table, known, required=("name", "architecture", "fit"))
    name = manifest.checked_name(_value("", table, "name", str))
    preset = _value("", table, "architecture", str)
    architecture = registry.preset(preset)
    spec = _frontend(_value("", table, "frontend", dict, {}), registry.frontend(preset), architecture.input_shape)
    seed, threads = _value("", table, "seed", int, 0), _value("", table, "threads", int, 2)
    if seed < 0 or not 1 <= threads <= 1024:
        raise InputError(f"seed {seed}, threads {threads}: expected a seed of 0 or more and 1 to 1024 threads")
    return Recipe(
        name=name,
        architecture=architecture,
        frontend=spec,
        fit=_fit(_value("", table, "fit", dict)),
        seed=seed,
        threads=threads,
        exclude_licences=_strings(table, "exclude_licences"),
        licence=_value("", table, "licence", str, ""),
    )


def _frontend(table: Mapping[str, Any], default: str, input_shape: tuple[int, int, int]) -> FrontendSpec:
    changeable = {f.name for f in fields(FrontendSpec)} - {"mean", "std"}
    _check_keys("frontend.", table, ("preset", *sorted(changeable)))
    preset = _value("frontend.", table, "preset", str, default)
    if preset not in PRESETS:
        raise InputError(f"frontend.preset {preset!r}: expected one of {', '.join(PRESETS)}")
    derivatives = _value("frontend.", table, "derivatives", str, "none" if input_shape[0] == 1 else "time")
    changes = {key: value for key, value in table.items() if key not in ("preset", "derivatives")}
    # Before the derivatives, which need power 2 or not, and after them, since they come in a width of their own.
    spec = replace(with_derivatives(replace(PRESETS[preset], **changes), derivatives), **changes)
    if spec.input_shape != input_shape:
        raise InputError(
            f"frontend: gives {spec.input_shape}, the architecture takes {input_shape} (components, mels, frames)"
        )
    return spec


def _fit(table: Mapping[str, Any]) -> FitConfig:
    kinds = {f.name: f.type for f in fields(FitConfig)}
    _check_keys("fit.", table, tuple(kinds), required=("epochs",))
    values: dict[str, Any] = {}
    for key in table:
        if kinds[key] == "tuple[float, ...]":
            numbers = _value("fit.", table, key, list)
            if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers):
                raise InputError(f"fit.{key} = {numbers!r}: expected a list of numbers")
            values[key] = tuple(map(float, numbers))
        elif kinds[key] == "float":
            values[key] = float(_value("fit.", table, key, (int, float)))
        else:
            values[key] = _value("fit.", table, key, int if kinds[key] == "int" else str)
    return FitConfig(**values)


def _check_keys(within: str, table: Mapping[str, Any], known: tuple[str, ...], required: tuple[str, ...] = ()) -> None:
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {within}{near[0]}?" if near else f"known: {', '.join(known)}"
            raise InputError(f"unknown key {within}{key}: {hint}")
    for key in required:
        if key not in table:
            raise InputError(f"missing key {within}{key}; add it")


_KIND_NAMES = {str: "a string", int: "a whole number", dict: "a table", list: "a list", (int, float): "a number"}


def _value(within: str, table: Mapping[str, Any], key: str, kind: Any, default: Any = None) -> Any:
    value = table.get(key, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{within}{key} = {value!r}: expected {_KIND_NAMES[kind]}")
    return value


def _strings(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = _value("", table, key, list, [])
    if not all(isinstance(value, str) for value in values):
        raise InputError(f"{key} = {values!r}: expected a list of strings")
    return tuple(values)
