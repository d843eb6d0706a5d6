"""The C of models on this machine: compiled into a library, called from Python."""

from __future__ import annotations

import ctypes
import importlib.util
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeq.cortexm import cache
from edgeq.cortexm.emit import Sources
from edgeq.errors import InputError

FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror")
NO_COMPILER = "no C compiler: found none of cc, gcc and ziglang; run: pip install 'edgeq[cortexm]'"
_CALLER = """
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

    flags: for the compiler, beside FLAGS. What was compiled before is kept, see `cache`. Raises InputError where there
    is no C compiler, or it does not take the C.
    """
    found = compiler()
    if found is None:
        raise InputError(NO_COMPILER)
    command = [*found, *FLAGS, *flags, "-shared", "-fPIC"]
    files: dict[str, str] = {}
    for sources in models:
        files |= sources.files
        files[f"{sources.prefix}.c"] += _CALLER.format(prefix=sources.prefix, upper=sources.prefix.upper())
    made_of = (command, sorted(files.items()))
    return cache.keep("model.so", made_of, lambda library: _compile(command, files, library))


def compiler() -> list[str] | None:
    """The command of this machine's C compiler: cc or gcc, else the one in the Python package ziglang, else None."""
    for name in ("cc", "gcc"):
        if found := shutil.which(name):
            return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    return None


def _compile(command: Sequence[str], files: dict[str, str], library: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="edgeq-") as place:
        for name, text in files.items():
            (Path(place) / name).write_text(text, encoding="utf-8")
        units = sorted(name for name in files if name.endswith(".c"))
        whole = [*command, "-o", str(library.resolve()), *units]
        done = subprocess.run(whole, cwd=place, capture_output=True, text=True)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-200:])
        raise InputError(f"{' '.join(command)}: does not compile the model: {reason}")
