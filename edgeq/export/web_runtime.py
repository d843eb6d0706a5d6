"""onnxruntime-web, which an exported page runs on: pinned, fetched once, and never trusted unread."""

from __future__ import annotations

import base64
import hashlib
import os
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from edgeq import atomic
from edgeq.cortexm import cache
from edgeq.errors import InputError
from edgeq.progress import progress

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"

FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""What of the package a page needs that computes on the processor, with the sha256 of each file."""

INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of the package's archive, as npm writes it."""

REGISTRY = "https://registry.npmjs.org"

_ARCHIVE_BYTES = 33_106_585
_PLACES = ("", "dist", "package/dist", f"node_modules/{PACKAGE}/dist")
_MEND = "give a folder that holds its files, or the package unpacked: --web-runtime DIR"
_TIMEOUT_SECONDS = 30.0
_BLOCK = 1 << 18
_MIB = 1 << 20


def files(folder: Path | None = None) -> dict[str, bytes]:
    """The files by name: of a folder that holds them or the unpacked package, else kept, else fetched from a registry.

    Kept in XDG_CACHE_HOME/edgeq. The registry is npm's: the environment's npm_config_registry, that of ~/.npmrc, or
    REGISTRY. Raises InputError where a file is missing or another than FILES says, or nothing can be fetched.
    """
    if folder is not None:
        return _given(folder)
    found = kept()
    if found is None:
        found = _fetched(f"{registry()}/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz")
        for name, content in found.items():
            atomic.write_bytes(_place() / name, content)
    return found


def kept() -> dict[str, bytes] | None:
    """The files by name where they were fetched before and are whole, else None."""
    found = {name: content for name in FILES if (content := _content(_place() / name)) is not None}
    return found if all(name in found and _is_right(name, found[name]) for name in FILES) else None


def registry() -> str:
    """Where npm would fetch packages, without a slash at its end."""
    said = next((value for name, value in os.environ.items() if name.lower() == "npm_config_registry"), None)
    settings = Path.home() / ".npmrc"
    if not said and settings.is_file():
        pairs = (line.split("=", 1) for line in settings.read_text(errors="replace").splitlines() if "=" in line)
        said = next((value.strip().strip("\"'") for key, value in pairs if key.strip() == "registry"), None)
    return (said or REGISTRY).rstrip("/")


def _place() -> Path:
    return cache.folder(f"{PACKAGE}-{VERSION}")


def _given(folder: Path) -> dict[str, bytes]:
    found = {}
    for name in FILES:
        place = next((at for part in _PLACES if (at := folder / part / name).is_file()), None)
        if place is None:
            raise InputError(f"{folder}: holds no {name} of {PACKAGE} {VERSION}; {_MEND}")
        found[name] = place.read_bytes()
        if not _is_right(name, found[name]):
            raise InputError(f"{place}: altered, or not of {PACKAGE} {VERSION}: another sha256; {_MEND}")
    return found


def _fetched(url: str) -> dict[str, bytes]:
    with tempfile.TemporaryFile() as archive:
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:
                digest = _copied(answer, archive)
        # Also where the address in ~/.npmrc is none.
        except (OSError, ValueError, urllib.error.URLError) as error:
            raise InputError(f"{PACKAGE} {VERSION}: {url}: not fetched ({error}); {_MEND}") from error
        if digest != INTEGRITY:
            raise InputError(f"{PACKAGE} {VERSION}: {url}: not the archive that edgeq pins ({digest:.20}...); {_MEND}")
        archive.seek(0)
        with tarfile.open(fileobj=archive, mode="r:gz") as package:
            found = dict(_members(package))
    return found


def _copied(answer: IO[bytes], archive: IO[bytes]) -> str:
    """Copy at most a little more than is expected. Returns the integrity of what came, as npm writes it."""
    digest = hashlib.sha512()
    came = 0
    with progress(f"{PACKAGE} {VERSION}, MiB", -(-_ARCHIVE_BYTES // _MIB)) as advance:
        while came <= _ARCHIVE_BYTES and (block := answer.read(_BLOCK)):
            archive.write(block)
            digest.update(block)
            advance((came + len(block)) // _MIB - came // _MIB)
            came += len(block)
    return f"sha512-{base64.b64encode(digest.digest()).decode()}"


def _members(package: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for name in FILES:
        content = package.extractfile(f"package/dist/{name}")
        assert content is not None  # the archive is the one that is pinned
        yield name, content.read()


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _is_right(name: str, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == FILES[name]
