"""Recipes: a TOML file that says how a model is trained, read strictly into `tables`."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from edgeq import manifest
from edgeq.audio.frontend import PRESETS, FrontendSpec, with_derivatives
from edgeq.errors import InputError, naming
from edgeq.nets import registry
from edgeq.training.config import Distillation, FitConfig
from edgeq.training.tables import HEADS, Member, Pruning, Recipe, Start, Teaching, Validation
from edgeq.training.values import check_keys, list_of, value_of


def read(path: Path | str) -> Recipe:
    """Read a recipe.

    Top level: name, architecture (a preset of nets.registry), widths and output (to change those of the preset), seed,
    threads, exclude_licences, licence. [start]: model (as that of [teacher]), head. [frontend]: preset (default: the
    architecture's own) and any field of FrontendSpec to change in it, the window among them; derivatives are "time"
    where the architecture takes 4 components, unless "power-frequency" is asked for; normalisation follows from the
    data. [fit]: the fields of FitConfig. [validation]: those of Validation. [prune]: those of Pruning. [fine_tune]:
    fields of FitConfig that differ from [fit]. [teacher]: model (one or a list), recipe, both from the folder of this
    file, a model's bare name from the zoo; seeds, alpha, temperature. [[members]], twice or more: name, ratios; then
    [prune] says how, and which filters of each goes by its own ratios.
    Raises InputError naming the file and the key where one is unknown (with the nearest known one), missing, or wrong.
    """
    return _read(Path(path), ())


def _read(path: Path, students: tuple[Path, ...]) -> Recipe:
    try:
        content = path.read_bytes()
        table = tomllib.loads(content.decode())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a recipe in TOML") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError, as that of too long a number is
        raise InputError(f"{path}: not TOML ({error}); mend that line") from error
    with naming(path):
        if path.resolve() in students:
            raise InputError("is the recipe of its own teacher; expected another one")
        recipe = _from_table(table, path, (*students, path.resolve()))
        _check_stages(recipe)
    taught_by = recipe.teacher.recipe.sha256 if recipe.teacher and recipe.teacher.recipe else ""
    return replace(recipe, sha256=hashlib.sha256(content + taught_by.encode()).hexdigest())


def _from_table(table: Mapping[str, Any], path: Path, students: tuple[Path, ...]) -> Recipe:
    tables = ("start", "frontend", "fit", "validation", "prune", "fine_tune", "teacher", "members")
    known = ("name", "architecture", "widths", "output", "seed", "threads", "exclude_licences", "licence", *tables)
    check_keys("", table, known, required=("name", "architecture", "fit"))
    name = manifest.checked_name(value_of("", table, "name", str))
    preset = value_of("", table, "architecture", str)
    architecture = registry.preset(preset)
    if "widths" in table:
        architecture = replace(architecture, widths=list_of("", table, "widths", int))
    if "output" in table:
        architecture = replace(architecture, output=value_of("", table, "output", str))
    spec = _frontend(value_of("", table, "frontend", dict, {}), registry.frontend(preset), architecture.input_shape)
    architecture = architecture.with_input_shape(spec.input_shape)
    seed, threads = value_of("", table, "seed", int, 0), value_of("", table, "threads", int, 2)
    if seed < 0 or not 1 <= threads <= 1024:
        raise InputError(f"seed {seed}, threads {threads}: expected a seed of 0 or more and 1 to 1024 threads")
    own = value_of("", table, "fit", dict)
    fit = FitConfig(**_fit("fit.", own, required=() if "iterations" in own else ("epochs",)))
    tuning = _fit("fine_tune.", value_of("", table, "fine_tune", dict, {}))
    if "epochs" in tuning or "iterations" in tuning:  # whichever [fit] counts
        tuning = {"epochs": 0, "iterations": 0, **tuning}
    with naming("fine_tune"):
        fine_tune = replace(fit, **tuning)
    return Recipe(
        name=name,
        architecture=architecture,
        frontend=spec,
        fit=fit,
        prune=_pruning(value_of("", table, "prune", dict)) if "prune" in table else None,
        fine_tune=fine_tune if "fine_tune" in table else None,
        teacher=_teaching(value_of("", table, "teacher", dict), path, students) if "teacher" in table else None,
        start=_start(value_of("", table, "start", dict), path) if "start" in table else None,
        validation=_validation(value_of("", table, "validation", dict)) if "validation" in table else None,
        members=_members(table),
        seed=seed,
        threads=threads,
        exclude_licences=list_of("", table, "exclude_licences", str),
        licence=value_of("", table, "licence", str, ""),
    )


def _frontend(table: Mapping[str, Any], default: str, input_shape: tuple[int, int, int]) -> FrontendSpec:
    changeable = {f.name for f in fields(FrontendSpec)} - {"mean", "std"}
    check_keys("frontend.", table, ("preset", *sorted(changeable)))
    preset = value_of("frontend.", table, "preset", str, default)
    if preset not in PRESETS:
        raise InputError(f"frontend.preset {preset!r}: expected one of {', '.join(PRESETS)}")
    derivatives = value_of("frontend.", table, "derivatives", str, "none" if input_shape[0] == 1 else "time")
    changes = {key: value for key, value in table.items() if key not in ("preset", "derivatives")}
    # Before the derivatives, which need power 2 or not, and after them, since they come in a width of their own.
    spec = replace(with_derivatives(replace(PRESETS[preset], **changes), derivatives), **changes)
    if spec.input_shape[:2] != input_shape[:2]:
        raise InputError(
            f"frontend: gives {spec.input_shape}, the architecture takes {input_shape[:2]} (components, mels, frames), "
            "with any number of frames"
        )
    return spec


def _fit(within: str, table: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    kinds = {f.name: f.type for f in fields(FitConfig)}
    check_keys(within, table, tuple(kinds), required)
    values: dict[str, Any] = {}
    for key in table:
        if kinds[key] == "tuple[float, ...]":
            values[key] = tuple(map(float, list_of(within, table, key, (int, float))))
        elif kinds[key] == "float":
            values[key] = float(value_of(within, table, key, (int, float)))
        else:
            values[key] = value_of(within, table, key, {"int": int, "bool": bool}.get(str(kinds[key]), str))
    return values


def _start(table: Mapping[str, Any], path: Path) -> Start:
    check_keys("start.", table, ("model", "head"), required=("model",))
    head = value_of("start.", table, "head", str, "new")
    if head not in HEADS:
        raise InputError(f"start.head = {head!r}: expected one of {', '.join(HEADS)}")
    return Start(_beside(path, value_of("start.", table, "model", str)), head)


def _validation(table: Mapping[str, Any]) -> Validation:
    check_keys("validation.", table, ("split", "fold", "every", "keep"))
    split = value_of("validation.", table, "split", str, "")
    if ("fold" in table) == bool(split) or split not in ("", "validation", "testing"):
        raise InputError('validation: expected split = "validation" or "testing", or a fold')
    every, keep = (value_of("validation.", table, key, int, 1) for key in ("every", "keep"))
    if every < 1 or keep < 1:
        raise InputError(f"validation: every = {every}, keep = {keep}: expected 1 or more of each")
    return Validation(split, value_of("validation.", table, "fold", int) if "fold" in table else None, every, keep)


def _beside(path: Path, model: str) -> str:
    """A model as a recipe names it: a bare name is one of the zoo, anything else lies where the recipe says."""
    return str(path.parent / model) if "/" in model else model


def _pruning(table: Mapping[str, Any]) -> Pruning:
    check_keys("prune.", table, (*(f.name for f in fields(Pruning)), "ratios"), required=("method",))
    for key in ("ratio", "sites"):
        if "ratios" in table and key in table:
            raise InputError(f"prune.{key}: prune.ratios says already what goes where; leave out one of them")
    return Pruning(
        method=value_of("prune.", table, "method", str),
        ratio=float(value_of("prune.", table, "ratio", (int, float))) if "ratio" in table else None,
        sites=_ratios("prune.", table) if "ratios" in table else list_of("prune.", table, "sites", str),
        round_to=value_of("prune.", table, "round_to", int, 1),
        steps=value_of("prune.", table, "steps", int, 1),
    )


def _members(table: Mapping[str, Any]) -> tuple[Member, ...]:
    if "members" not in table:
        return ()
    given = list_of("", table, "members", dict)
    if len(given) < 2:
        raise InputError(f"members: found {len(given)}, expected at least 2; one network alone is [prune]'s")
    prune = value_of("", table, "prune", dict, {})
    if "prune" not in table:
        raise InputError("members: nothing says how they are pruned; add [prune] with method")
    for key in ("ratio", "sites", "ratios"):
        if key in prune:
            raise InputError(f"prune.{key}: every member has ratios of its own; leave it out")
    members: dict[str, Member] = {}
    for number, one in enumerate(given, 1):
        check_keys(f"members.{number}.", one, ("name", "ratios"), required=("name", "ratios"))
        with naming(f"members.{number}"):
            name = manifest.checked_name(value_of("", one, "name", str))
        if name in members:
            raise InputError(f"members.{number}.name = {name!r}: an earlier member has that name; choose another")
        members[name] = Member(name, _ratios(f"members.{name}.", one))
    return tuple(members.values())


def _ratios(within: str, table: Mapping[str, Any]) -> tuple[str, ...]:
    """The table `ratios` as sites, each with its own ratio."""
    ratios = value_of(within, table, "ratios", dict)
    if not ratios:
        raise InputError(f"{within}ratios: is empty; name at least one site, as in ratios = {{conv1 = 0.25}}")
    for site, ratio in ratios.items():
        if isinstance(ratio, dict):  # what TOML makes of a dot in a key
            quoted = f'"{site}.{next(iter(ratio), "")}"'
            raise InputError(f"{within}ratios.{site}: is a table; write the name of a site with a dot as {quoted}")
    return tuple(f"{site}={float(value_of(f'{within}ratios.', ratios, site, (int, float)))!r}" for site in ratios)


def _teaching(table: Mapping[str, Any], path: Path, students: tuple[Path, ...]) -> Teaching:
    check_keys("teacher.", table, ("model", "recipe", "seeds", "alpha", "temperature"))
    models = table.get("model", [])
    models = list_of("teacher.", table, "model", str) if isinstance(models, list) else (models,)
    if not all(isinstance(model, str) for model in models):
        raise InputError(f"teacher.model = {table['model']!r}: expected a string or a list of strings")
    if not models and "recipe" not in table:
        raise InputError("teacher: expected model (a bundle), recipe (of the teacher), or both")
    seeds = list_of("teacher.", table, "seeds", int)
    if seeds and "recipe" not in table:
        raise InputError("teacher.seeds: says how often teacher.recipe is followed; add teacher.recipe")
    if len(set(seeds)) < len(seeds) or any(seed < 0 for seed in seeds):
        raise InputError(f"teacher.seeds = {list(seeds)}: expected different whole numbers, 0 or more")
    return Teaching(
        models=tuple(_beside(path, model) for model in models),
        recipe=_read(path.parent / value_of("teacher.", table, "recipe", str), students) if "recipe" in table else None,
        seeds=seeds,
        how=Distillation(
            **{
                key: float(value_of("teacher.", table, key, (int, float)))
                for key in ("alpha", "temperature")
                if key in table
            }
        ),
    )


def _check_stages(recipe: Recipe) -> None:
    """What the stages ask of each other, and teacher and student, as far as recipes tell."""
    length, unit = (recipe.fine_tune.length, recipe.fine_tune.unit) if recipe.fine_tune else (1, "epochs")
    if recipe.prune and not 1 <= recipe.prune.steps <= length:
        raise InputError(f"prune.steps = {recipe.prune.steps}: expected 1 to {length}, the {unit} of [fine_tune]")
    if recipe.teacher is None or recipe.teacher.recipe is None:
        return
    teacher = recipe.teacher.recipe
    for what, its, own in (
        ("window_seconds", teacher.frontend.window_seconds, recipe.frontend.window_seconds),
        ("output", teacher.architecture.output, recipe.architecture.output),
        ("exclude_licences", sorted(teacher.exclude_licences), sorted(recipe.exclude_licences)),
    ):
        if its != own:
            raise InputError(f"teacher.recipe: {what} {its!r}, the student's {own!r}; expected the same")
