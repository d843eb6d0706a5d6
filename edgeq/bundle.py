"""The unit that commands take and give: a folder with everything a model needs, checked before any of it is used."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import atomic, manifest
from edgeq.audio.frontend import FrontendSpec
from edgeq.decision import DecisionRule
from edgeq.errors import InputError, naming
from edgeq.goldens import Goldens
from edgeq.manifest import MANIFEST, FileRecord
from edgeq.nets import spec as specs
from edgeq.nets.spec import NetworkSpec

FORMAT = 1
WEIGHTS, RANGES, GOLDENS, LOWERING = "weights.safetensors", "ranges.json", "goldens.safetensors", "lowering.json"

EXPORTS = {
    "onnx": "{name}.onnx",
    "onnx-int8": "{name}.int8.onnx",
    "tflite": "{name}.tflite",
    "tflite-int8": "{name}.int8.tflite",
    "c-int8": "c",
    "web": "web",
    "web-int8": "web",
}
"""Stage of an exported file, and what the file is called; of C and of a page, the folder of its files."""

Ranges = Mapping[str, tuple[float, float]]
Content = bytes | Callable[[], bytes | Mapping[str, bytes]]

_FIELDS = {
    "format": int, "name": str, "licence": str, "labels": list, "architecture": dict, "frontend": dict,
    "decision": dict, "provenance": dict, "metrics": dict, "exports": dict, "files": dict,
}  # fmt: skip
_MAX_MANIFEST_BYTES = 4 << 20


@dataclass(frozen=True, eq=False)
class Bundle:
    """An opened bundle: its manifest, and its files as far as they are asked for.

    labels: one a class, in the order of the outputs. provenance, metrics: whatever training wrote. exports: stage to
    path inside the folder, of a file, or of a folder of files. files: path inside the folder to what it has to hold.
    """

    folder: Path
    name: str
    architecture: NetworkSpec
    frontend: FrontendSpec
    labels: tuple[str, ...]
    decision: DecisionRule
    provenance: Mapping[str, Any]
    licence: str
    metrics: Mapping[str, Any]
    exports: Mapping[str, str]
    files: Mapping[str, FileRecord]

    def __repr__(self) -> str:
        return f"Bundle({self.name!r}, {str(self.folder)!r}, exports: {', '.join(self.exports) or 'none'})"

    def file(self, path: str) -> bytes:
        """Content of a file of the bundle. Raises InputError where it is not listed, missing, or not as recorded."""
        place = self._listed(path)
        with place.open("rb") as handle:
            content = handle.read(self.files[path].bytes + 1)
        self._check(path, place, hashlib.sha256(content).hexdigest())
        return content

    def checked(self, path: str) -> Path:
        """Where a file of the bundle lies, its content compared a piece at a time. Raises InputError as `file`."""
        place = self._listed(path)
        with place.open("rb") as handle:
            self._check(path, place, hashlib.file_digest(handle, "sha256").hexdigest())
        return place

    def _listed(self, path: str) -> Path:
        if path not in self.files:
            raise InputError(f"{self.folder}: holds no {path}; it lists {', '.join(sorted(self.files))}")
        return manifest.located(self.folder, path, self.files[path])

    def _check(self, path: str, place: Path, sha256: str) -> None:
        if sha256 != self.files[path].sha256:
            raise InputError(
                f"{place}: altered: its sha256 is not the one in {MANIFEST}; restore the file or the bundle"
            )

    def exported(self, stage: str) -> str:
        """Path inside the bundle of the exported file of a stage. Raises InputError where the bundle has none."""
        if stage not in self.exports:
            there = ", ".join(self.exports) or "none"
            raise InputError(f"{self.folder}: has no {stage} export (it has: {there}); run: edgeq export {self.folder}")
        return self.exports[stage]

    def exported_files(self, stage: str) -> list[str]:
        """Paths of all files of a stage: one, or those in its folder. Raises InputError as `exported`."""
        path = self.exported(stage)
        return [path] if path in self.files else sorted(name for name in self.files if name.startswith(f"{path}/"))

    def export(self, stage: str) -> bytes:
        """Content of the exported file of a stage. Raises InputError as `exported` and `file`."""
        return self.file(self.exported(stage))

    def weights(self) -> dict[str, np.ndarray]:
        """The torch state dict, float32: each quaternion component once. Raises InputError where it is damaged."""
        from safetensors import SafetensorError  # a board that only runs exported files needs none
        from safetensors.numpy import load

        place, content = self.folder / WEIGHTS, self.file(WEIGHTS)
        try:
            weights = load(content)
        except (SafetensorError, ValueError, KeyError) as error:
            raise InputError(f"{place}: not a safetensors file ({error}); write the bundle again") from error
        manifest.check_weights(str(place), weights)
        return weights

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Least and largest value of each activation, by tensor. Raises InputError where the bundle has none."""
        if RANGES not in self.files:
            raise InputError(f"{self.folder}: has no {RANGES}; calibrate with: edgeq export --int8 --calib DIR")
        return manifest.checked_ranges(
            str(self.folder / RANGES), manifest.parse(self.folder / RANGES, self.file(RANGES))
        )

    def goldens(self) -> Goldens:
        """What `verify` needs. Raises InputError where the bundle has none, or they are of another network."""
        if GOLDENS not in self.files:
            raise InputError(f"{self.folder}: has no {GOLDENS}; write the bundle again with goldens")
        with naming(self.folder / GOLDENS):
            goldens = Goldens.from_bytes(self.file(GOLDENS))
        if goldens.outputs.shape[1] != self.architecture.classes:
            raise InputError(
                f"{self.folder / GOLDENS}: {goldens.outputs.shape[1]} classes, expected {self.architecture.classes}"
            )
        return goldens


def read(folder: Path | str) -> Bundle:
    """Open a bundle: the manifest is checked, and that every file is there in its size; contents when they are read.

    Raises InputError naming the file and the mend.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise InputError(f"{folder}: found {found}, expected a bundle: a folder with {MANIFEST}")
    place = folder / MANIFEST
    if not place.is_file():
        raise InputError(f"{folder}: found no {MANIFEST}, expected a bundle; `edgeq models` lists those of the zoo")
    with place.open("rb") as handle:
        content = handle.read(_MAX_MANIFEST_BYTES + 1)
    if len(content) > _MAX_MANIFEST_BYTES:
        raise InputError(f"{place}: over {_MAX_MANIFEST_BYTES >> 20} MiB, expected a few KiB; restore the bundle")
    with naming(place):
        bundle = _from_json(folder, manifest.parse(place, content))
    for path, record in bundle.files.items():
        manifest.located(folder, path, record)
    return bundle


def check(bundle: Bundle) -> None:
    """Read every file and compare it with its sha256. Raises InputError naming the first that is not as recorded."""
    for path in bundle.files:
        bundle.checked(path)


def write(
    folder: Path | str,
    *,
    name: str,
    architecture: NetworkSpec,
    frontend: FrontendSpec,
    labels: Sequence[str],
    weights: Mapping[str, np.ndarray],
    ranges: Ranges | None = None,
    goldens: Goldens | None = None,
    decision: DecisionRule | None = None,
    provenance: Mapping[str, Any] | None = None,
    licence: str = "",
    metrics: Mapping[str, Any] | None = None,
    exports: Mapping[str, Content] | None = None,
    lowering: bytes | None = None,
    gate: Callable[[Bundle], None] | None = None,
) -> Bundle:
    """Write a bundle beside its place, then put it there; equal arguments give equal bytes.

    weights: the torch state dict without counters, all float32. exports: stage to content, or to what makes it, which
    is called as the file is written: then one file at a time is held; of a folder it makes the content of each file by
    name. lowering: the table by which layers of the
    exports got their form, see export.choice. gate: called with the finished bundle before it takes its place; whatever
    it raises leaves `folder` as it was. Files in `folder` that no bundle wrote (a recipe, a card) are kept.
    Raises InputError where a part is not valid or `folder` holds something else; OSError as the disk does.
    """
    from safetensors.numpy import save

    folder = Path(folder)
    manifest.check_weights("weights", weights)
    exports = exports or {}
    contents: dict[str, Content] = {WEIGHTS: save({key: np.ascontiguousarray(value) for key, value in weights.items()})}
    if ranges is not None:
        checked = manifest.checked_ranges("ranges", {key: list(map(float, pair)) for key, pair in ranges.items()})
        contents[RANGES] = manifest.dump(checked)
    if goldens is not None:
        contents[GOLDENS] = goldens.to_bytes()
    if lowering is not None:
        contents[LOWERING] = lowering
    contents |= {_export_path(name, stage): content for stage, content in exports.items()}
    description = {
        "format": FORMAT,
        "name": name,
        "architecture": architecture.to_json(),
        "frontend": frontend.to_json(),
        "labels": list(labels),
        "decision": (decision or DecisionRule()).to_json(),
        "provenance": dict(provenance or {}),
        "licence": licence,
        "metrics": dict(metrics or {}),
        "exports": {stage: _export_path(name, stage) for stage in exports},
    }
    manifest.dump(description)  # what is not plain JSON speaks before the work
    kept = _kept(folder)
    with atomic.folder(folder) as beside:
        for entry in kept:
            place = beside / entry.relative_to(folder)
            place.parent.mkdir(exist_ok=True, parents=True)
            (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, place)
        files: dict[str, Any] = {}
        for path, content in contents.items():
            files |= _written(beside, path, content)
        contents.clear()
        (beside / MANIFEST).write_bytes(manifest.dump({**description, "files": files}))
        written = read(beside)
        if gate is not None:
            gate(written)
    return read(folder)


def _written(folder: Path, path: str, content: Content) -> dict[str, Any]:
    """Write a file, or a folder of them; what the manifest has to say of each."""
    made = content() if callable(content) else content
    records = {}
    for name, data in made.items() if isinstance(made, Mapping) else [("", made)]:
        place = folder / path / name
        place.parent.mkdir(exist_ok=True, parents=True)
        place.write_bytes(data)
        listed = place.relative_to(folder).as_posix()
        records[listed] = asdict(FileRecord(hashlib.sha256(data).hexdigest(), len(data)))
    return records


def copy(
    bundle: Bundle,
    folder: Path | str,
    *,
    exports: Mapping[str, Content],
    ranges: Ranges | None = None,
    lowering: bytes | None = None,
    decision: DecisionRule | None = None,
    gate: Callable[[Bundle], None] | None = None,
) -> Bundle:
    """Write the same model with these exports, and other ranges and another rule where they are given; the rest is as
    in `write`."""
    if ranges is None and RANGES in bundle.files:
        ranges = bundle.ranges()
    return write(
        folder,
        name=bundle.name,
        architecture=bundle.architecture,
        frontend=bundle.frontend,
        labels=bundle.labels,
        weights=bundle.weights(),
        ranges=ranges,
        goldens=bundle.goldens() if GOLDENS in bundle.files else None,
        decision=decision or bundle.decision,
        provenance=bundle.provenance,
        licence=bundle.licence,
        metrics=bundle.metrics,
        exports=exports,
        lowering=lowering,
        gate=gate,
    )


def _from_json(folder: Path, fields: Any) -> Bundle:
    if not isinstance(fields, dict) or "format" not in fields:
        raise InputError("found no field format, expected a bundle's manifest; restore the bundle")
    if type(fields["format"]) is not int or fields["format"] != FORMAT:
        raise InputError(
            f"format {fields['format']!r}: this edgeq reads {FORMAT}; upgrade edgeq or write the bundle again"
        )
    unknown, missing = set(fields) - set(_FIELDS), set(_FIELDS) - set(fields)
    if unknown or missing:
        raise InputError(f"unknown fields {sorted(unknown)}, missing fields {sorted(missing)}; restore the bundle")
    for key, kind in _FIELDS.items():
        if not isinstance(fields[key], kind):
            raise InputError(f"{key} is {type(fields[key]).__name__}, expected {kind.__name__}; restore the bundle")
    architecture = _spec("architecture", specs.from_json, fields["architecture"])
    frontend = _spec("front end", FrontendSpec.from_json, fields["frontend"])
    if frontend.input_shape != architecture.input_shape:
        raise InputError(
            f"the front end gives {frontend.input_shape}, the network takes {architecture.input_shape} "
            "(components, mels, frames); write the bundle again"
        )
    files = {path: manifest.record(path, record) for path, record in fields["files"].items()}
    if WEIGHTS not in files:
        raise InputError(f"lists no {WEIGHTS}; write the bundle again")
    for stage, path in fields["exports"].items():
        known = stage in EXPORTS and isinstance(path, str)
        if not known or not any(name == path or name.startswith(f"{path}/") for name in files):
            raise InputError(f"export {stage!r}: {path!r}: expected one of {', '.join(EXPORTS)} and a listed file")
    return Bundle(
        folder=folder,
        name=manifest.checked_name(fields["name"]),
        architecture=architecture,
        frontend=frontend,
        labels=manifest.checked_labels(fields["labels"], architecture.classes),
        decision=DecisionRule.from_json(fields["decision"]),
        provenance=fields["provenance"],
        licence=fields["licence"],
        metrics=fields["metrics"],
        exports=dict(sorted(fields["exports"].items(), key=lambda item: list(EXPORTS).index(item[0]))),
        files=files,
    )


def _spec(what: str, from_json: Callable[[Mapping[str, Any]], Any], fields: Mapping[str, Any]) -> Any:
    try:
        return from_json(fields)
    except InputError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{what}: a field of the wrong kind ({error}); write the bundle again") from error


def _export_path(name: str, stage: str) -> str:
    if stage not in EXPORTS:
        raise InputError(f"export stage {stage!r}: expected one of {', '.join(EXPORTS)}")
    return EXPORTS[stage].format(name=manifest.checked_name(name))


def check_place(folder: Path | str) -> None:
    """Raises InputError where `write` would refuse to write to `folder`: better asked before the work than after."""
    _kept(Path(folder))


def _kept(folder: Path) -> list[Path]:
    """What a new bundle leaves standing in `folder`: all that the bundle in there does not list."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file, expected a folder to write the bundle to; choose another")
    if Path.cwd().is_relative_to(folder.resolve()):
        raise InputError(f"{folder}: is the folder you work in, and would be replaced; name a new one inside it")
    entries = list(folder.iterdir())
    if entries and not any((folder / own).is_file() for own in (MANIFEST, "recipe.toml")):
        raise InputError(f"{folder}: holds files and no bundle; choose an empty or a new folder")
    listed = {MANIFEST}
    if (folder / MANIFEST).is_file():
        try:
            listed |= set(read(folder).files)
        except InputError as error:
            raise InputError(f"{folder}: holds a damaged bundle ({error}); remove it, or choose another") from error
    return list(_unlisted(folder, folder, listed))


def _unlisted(folder: Path, inside: Path, listed: set[str]) -> Iterator[Path]:
    for path in inside.iterdir():
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and any(other.startswith(f"{name}/") for other in listed):
            yield from _unlisted(folder, path, listed)
        elif name not in listed:
            yield path
