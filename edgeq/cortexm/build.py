"""C linked for a microcontroller with its real memory, by the compiler in the Python package ziglang."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from edgeq.cortexm import cache
from edgeq.cortexm.emit import Sources
from edgeq.cortexm.targets import Memory, Target
from edgeq.errors import CheckFailed, InputError

STACK_BYTES = 2048
"""RAM that is kept for the stack; what a model takes of it is simulated."""

SUPPORT = Path(__file__).parent / "support"
_RUNTIME, _SCRIPT = "edgeq_runtime.c", "link.ld"  # as no model's files are called
_PROCESSORS = {
    "cortex-m4": "cortex_m4+vfp4d16sp",
    "cortex-m7": "cortex_m7+fp_armv8d16sp",
    "cortex-m33": "cortex_m33+dsp+fp_armv8d16sp",
}
"""By core, the compiler's name with DSP instructions and single precision floating point, which parts here all have."""
_FLAGS = (
    "-target", "thumb-freestanding-eabihf", "-std=c99", "-O2", "-g0", "-Wall", "-Wextra", "-Werror",
    "-fomit-frame-pointer", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables",
    "-ffunction-sections", "-fdata-sections", "-nostdlib", "-Wl,--gc-sections",
)  # fmt: skip
_PLENTY = 1 << 28


@dataclass(frozen=True)
class Sizes:
    """Bytes of the sections of an ELF file."""

    text: int
    rodata: int
    data: int
    bss: int

    @property
    def flash(self) -> int:
        """Code, constants, and the first values of variables."""
        return self.text + self.rodata + self.data

    @property
    def ram(self) -> int:
        """Variables; the stack comes on top."""
        return self.data + self.bss


@dataclass(frozen=True)
class Surroundings:
    """C around a network, from sound to its input and from its output to an answer: text by file name, functions."""

    files: Mapping[str, str]
    functions: tuple[str, ...]


def link(sources: Sources, target: Target, around: Surroundings | None = None) -> Path:
    """The ELF file of a model's C, with target's addresses and limits; around: what has to fit beside the network.

    Raises CheckFailed where it does not fit, saying by how many bytes, what stands around the network takes of it, and
    which layer holds most; InputError where the compiler is not installed or does not take the C.
    """
    roots = (f"{sources.prefix}_input", f"{sources.prefix}_run")
    files = {**around.files, **sources.files} if around else sources.files
    functions = (*around.functions, *roots) if around else roots
    try:
        return _linked(files, target, functions)
    except _TooSmall:
        origins = target.flash.origin, target.ram.origin
        flash, ram = (Memory(origin, _PLENTY) for origin in origins)
        roomy = replace(target, flash=flash, ram=ram)
        alone, whole = (_linked(*one) for one in ((sources.files, roomy, roots), (files, roomy, functions)))
        what = f"{sources.prefix} with its front end" if around else sources.prefix
        raise CheckFailed(f"{what} does not fit {target.name}: {_excess(whole, alone, sources, target)}") from None


def link_files(files: Mapping[str, str], target: Target, roots: Sequence[str]) -> Path:
    """The ELF file of any C: text by file name; roots: functions and variables to keep, with all that they use.

    Raises CheckFailed where it does not fit, and InputError as `link` does.
    """
    try:
        return _linked(files, target, roots)
    except _TooSmall as error:
        raise CheckFailed(f"{', '.join(roots)}: does not fit {target.name}: {error}") from None


def sizes(elf: Path) -> Sizes:
    """How large a linked file is."""
    from elftools.elf.elffile import ELFFile

    with elf.open("rb") as handle:
        found = {section.name: section["sh_size"] for section in ELFFile(handle).iter_sections()}
    return Sizes(*(found.get(f".{name}", 0) for name in ("text", "rodata", "data", "bss")))


@dataclass(frozen=True)
class Symbol:
    """A name of a linked file: where it begins, its bytes, and whether it is a function."""

    name: str
    address: int
    bytes: int
    function: bool


def symbols(elf: Path) -> list[Symbol]:
    """The functions, variables and places of a linked file, by address."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    found = []
    with elf.open("rb") as handle:
        table = ELFFile(handle).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection), f"{elf}: was stripped"
        for entry in table.iter_symbols():
            if entry.name and not entry.name.startswith("$"):
                function = entry["st_info"]["type"] == "STT_FUNC"  # whose lowest bit says that it is Thumb code
                address = entry["st_value"] & ~1 if function else entry["st_value"]
                found.append(Symbol(entry.name, address, entry["st_size"], function))
    return sorted(found, key=lambda symbol: (symbol.address, symbol.name))


def compiler() -> list[str]:
    """The command of the compiler.

    Raises InputError, with what to install, where it is missing.
    """
    if not all(importlib.util.find_spec(package) for package in ("ziglang", "elftools")):
        raise InputError("no compiler for Cortex-M: run: pip install 'edgeq[cortexm]'")
    return [sys.executable, "-m", "ziglang", "cc"]


def run_compiler(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the compiler in a folder. Its own cache is edgeq's: without one it takes the project's folder or fails."""
    place = str(cache.folder("zig"))
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": place, "ZIG_LOCAL_CACHE_DIR": place}
    return subprocess.run([*compiler(), *arguments], cwd=folder, env=environment, capture_output=True, text=True)


class _TooSmall(Exception):
    """The linker's word that a section is larger than its memory."""


def _linked(files: Mapping[str, str], target: Target, roots: Sequence[str]) -> Path:
    compiler()
    arguments = [*_FLAGS, f"-mcpu={_PROCESSORS[target.core]}", f"-Wl,--entry={roots[-1]}", f"-Wl,-T,{_SCRIPT}"]
    runtime = (SUPPORT / "runtime.c").read_text(encoding="utf-8")
    inputs = {**files, _RUNTIME: runtime, _SCRIPT: linker_script(target, roots)}

    def make(elf: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="edgeq-") as name:
            for file, text in inputs.items():
                Path(name, file).write_text(text, encoding="utf-8")
            units = [*sorted(file for file in files if file.endswith(".c")), _RUNTIME]
            done = run_compiler([*arguments, "-o", elf.name, *units], Path(name))
            if done.returncode:
                reason = _reason(done.stderr)
                if "will not fit in region" in reason:
                    raise _TooSmall(reason)
                raise InputError(f"the compiler for {target.core} does not take the C: {reason}")
            shutil.copyfile(Path(name, elf.name), elf)

    return cache.keep("linked.elf", (metadata.version("ziglang"), arguments, sorted(inputs.items())), make)


def _excess(whole: Path, alone: Path, sources: Sources, target: Target) -> str:
    """By how many bytes a file linked with plenty of memory is too large, and where most of them are.

    alone: the network without what is around it.
    """
    parts = []
    limits = ("flash", target.flash.bytes), ("RAM", target.ram.bytes)
    for (memory, limit), needed, of_network in zip(limits, _needed(whole, target), _needed(alone, target), strict=True):
        if needed > limit:
            most = _largest_in_flash(alone, sources) if memory == "flash" else _largest_in_ram(sources)
            rest = f"front end and decision rule take {needed - of_network:,}; " if whole != alone else ""
            parts.append(f"{needed - limit:,} bytes of {memory} too many ({needed:,} of {limit:,}; {rest}{most})")
    return ", and ".join(parts)


def _needed(elf: Path, target: Target) -> tuple[int, int]:
    """Bytes of flash, and of RAM with the stack that is kept."""
    at = {symbol.name: symbol.address for symbol in symbols(elf)}
    return (
        at["data_stored"] + at["data_ends"] - at["data_begins"] - target.flash.origin,
        at["stack_limit"] + STACK_BYTES - target.ram.origin,
    )


def _largest_in_flash(elf: Path, sources: Sources) -> str:
    held = dict.fromkeys((layer.function for layer in sources.layers if layer.function), 0)
    for symbol in symbols(elf):
        owners = [name for name in held if symbol.name == name or symbol.name.startswith(f"{name}_")]
        if owners:
            held[max(owners, key=len)] += symbol.bytes
    name = max(held, key=lambda name: held[name])
    layer = next(layer for layer in sources.layers if layer.function == name)
    return f"{layer.kind} {layer.output!r} holds most, {held[name]:,}"


def _largest_in_ram(sources: Sources) -> str:
    layer = max(sources.layers, key=lambda layer: layer.alive)
    return f"{layer.kind} {layer.output!r} needs most, {layer.alive:,} of the arena's {sources.arena_bytes:,}"


def linker_script(target: Target, roots: Sequence[str]) -> str:
    """The script for the target, which keeps the functions and variables called roots."""
    values = {
        "FLASH_ORIGIN": hex(target.flash.origin),
        "FLASH_BYTES": target.flash.bytes,
        "RAM_ORIGIN": hex(target.ram.origin),
        "RAM_BYTES": target.ram.bytes,
        "STACK_BYTES": STACK_BYTES,
        "ROOTS": " ".join(roots),
    }
    text = (SUPPORT / _SCRIPT).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    return text


def _reason(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if "error" in line] or stderr.splitlines()[-1:]
    return lines[0].strip() if lines else "it says nothing"
