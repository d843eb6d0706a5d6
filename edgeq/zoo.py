"""Models by name: the zoo's bundles, those of one's own in EDGEQ_MODELS, and what is neither."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from edgeq import bundle
from edgeq.bundle import Bundle
from edgeq.errors import InputError
from edgeq.manifest import MANIFEST
from edgeq.nets import registry


def find(model: str | Path) -> Bundle:
    """Open a bundle by its folder, or by its name in the zoo: folders in EDGEQ_MODELS, then edgeq's own.

    Raises InputError where there is none of that name, listing what there is.
    """
    if isinstance(model, Path) or _exists(Path(model) / MANIFEST):
        return bundle.read(model)
    folders = _folders()
    if model in folders:
        return bundle.read(folders[model])
    if _exists(Path(model)):
        return bundle.read(model)
    if os.sep in model or Path(model).suffix in (".onnx", ".tflite"):
        raise InputError(f"{model:.200}: nothing there, expected a model; check the path")
    known = folders if registry.known(str(model)) else {**folders, **registry.PRESETS}
    near = get_close_matches(model, known, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    if registry.known(str(model)):
        raise InputError(
            f"model {model}: an architecture, which has no weights of its own; {hint}"
            f"Give it random ones with: edgeq export {model} -o DIR"
        )
    if suffix := registry.suffix_hint(model):
        raise InputError(f"model {model!r:.100}: {suffix}")
    raise InputError(
        f"model {model!r:.100}: {hint}The zoo has: {', '.join(folders) or 'nothing'}; or give a bundle's folder"
    )


def is_architecture(model: str | Path) -> bool:
    """Whether a model is the name of an architecture, of which there is no bundle that `find` would open."""
    return registry.known(str(model)) and not _exists(Path(model) / MANIFEST) and str(model) not in _folders()


def models() -> list[Bundle]:
    """The bundles of the zoo, by name. Raises InputError where one of them is not valid."""
    return [bundle.read(folder) for folder in _folders().values()]


def _folders() -> dict[str, Path]:
    own = Path(__file__).parent
    places = [Path(place) for place in os.environ.get("EDGEQ_MODELS", "").split(os.pathsep) if place]
    for place in places:
        if not place.is_dir():
            raise InputError(f"EDGEQ_MODELS: {place} is not a folder; mend or unset the variable")
    places.append(own / "models")
    if (own.parent / "pyproject.toml").is_file():
        places.append(own.parent / "models")
    found: dict[str, Path] = {}
    for place in filter(Path.is_dir, places):
        for folder in place.iterdir():
            # What a killed export left behind begins with a dot.
            if not folder.name.startswith(".") and (folder / MANIFEST).is_file():
                found.setdefault(folder.name, folder)
    return dict(sorted(found.items()))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for a file, or one that no file can have
        return False
