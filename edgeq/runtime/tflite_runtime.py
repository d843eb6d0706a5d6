"""TFLite files in tflite-runtime 2.14, the last of its line, which small boards still carry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeq.errors import InputError
from edgeq.runtime.face import missing
from edgeq.runtime.litert import TFLiteRuntime

_MEND = "in an environment of its own (Python 3.11): pip install 'edgeq[tflite-runtime]'"


def tflite_runtime(path: Path, where: str, threads: int) -> TFLiteRuntime:
    """Load a .tflite file in tflite-runtime.

    Raises InputError where it is missing, beside a numpy it was not built for, or does not take the file.
    """
    try:
        from tflite_runtime.interpreter import Interpreter
    except ImportError as error:
        raise missing("tflite-runtime", _MEND) from error
    # It imports beside numpy 2, even passes `pip check`, and then every Interpreter fails.
    if int(np.__version__.split(".")[0]) >= 2:
        raise InputError(f"tflite-runtime was built for numpy below 2, found {np.__version__}; {_MEND}")

    def create() -> Any:
        return Interpreter(model_content=path.read_bytes(), num_threads=threads)

    return TFLiteRuntime("tflite-runtime", create, path, where)
