"""The C of models on this machine: compiled into a library, called from Python."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeq.cortexm.emit import Sources
from edgeq.errors import InputError

FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror")
NO_COMPILER = "no C compiler: found none of cc, gcc and ziglang; run: pip install 'edgeq[cortexm]'"
_CALLER = """#include "{prefix}.h"
#include <string.h>
void {prefix}_call(const int8_t *input, int8_t *output);
void {prefix}_call(const int8_t *input, int8_t *output)
{{
  memcpy({prefix}_input(), input, {upper}_INPUT_BYTES);
  memcpy(output, {prefix}_run(), {upper}_OUTPUT_BYTES);
}}
"""


class Program:
    """A model's C in a compiled library."""

    def __init__(self, library: Path, sources: Sources) -> None:
        """library: what `compile` made of these sources, of others too."""
        # PyDLL keeps Python's lock over a call: programs of one library share its arena, whoever opened it.
        self._call = getattr(ctypes.PyDLL(str(library)), f"{sources.prefix}_call")
        self._call.argtypes, self._call.restype = [ctypes.c_void_p, ctypes.c_void_p], None
        self._input, self._output = sources.input_shape, sources.output_shape

    def run(self, codes: np.ndarray) -> np.ndarray:
        """Output codes of a batch: int8 (n, ...) as the graph's input to int8 (n, ...) as its output."""
        assert codes.dtype == np.int8 and codes.shape[1:] == self._input[1:]
        codes = np.ascontiguousarray(codes)
        outputs = np.empty((len(codes), *self._output[1:]), np.int8)
        taken, given = (math.prod(shape) for shape in (self._input, self._output))
        for index in range(len(codes)):
            self._call(codes.ctypes.data + index * taken, outputs.ctypes.data + index * given)
        return outputs


def compile(models: Sequence[Sources], flags: Sequence[str] = ()) -> Path:
    """One shared library of the C of some models, whose prefixes differ.

    flags: for the compiler, beside FLAGS. Libraries are kept by content in edgeq's folder under XDG_CACHE_HOME
    (~/.cache), where several processes may ask for the same one. Raises InputError where there is no C compiler, or it
    does not take the C.
    """
    found = compiler()
    if found is None:
        raise InputError(NO_COMPILER)
    command = [*found, *FLAGS, *flags, "-shared", "-fPIC"]
    files: dict[str, str] = {}
    for sources in models:
        files |= sources.files
        files[f"{sources.prefix}_call.c"] = _CALLER.format(prefix=sources.prefix, upper=sources.prefix.upper())
    digest = hashlib.sha256(repr((command, sorted(files.items()))).encode()).hexdigest()
    library = _cache() / f"{digest[:32]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(prefix="edgeq-") as place:
            _compile(command, files, Path(place), library)
    return library


def compiler() -> list[str] | None:
    """The command of this machine's C compiler: cc or gcc, else the one in the Python package ziglang, else None."""
    for name in ("cc", "gcc"):
        if found := shutil.which(name):
            return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    return None


def _compile(command: Sequence[str], files: dict[str, str], folder: Path, library: Path) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    result = folder / "model.so"
    units = sorted(name for name in files if name.endswith(".c"))
    done = subprocess.run([*command, "-o", result.name, *units], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-200:])
        raise InputError(f"{' '.join(command)}: does not compile the model: {reason}")
    # Renamed into place, so that who asks for the same library at the same time sees it whole or not at all.
    beside = library.with_name(f"{library.name}.{os.getpid()}")
    shutil.copyfile(result, beside)
    beside.replace(library)


def _cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeq" / "c"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
