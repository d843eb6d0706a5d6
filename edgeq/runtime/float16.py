"""ONNX files in float16, for runtimes that compute what a file says."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from edgeq.graph import model_file
from edgeq.runtime import onnx_runtime
from edgeq.runtime.face import missing, unreadable


def converted(path: Path, where: str) -> bytes:
    """A float32 .onnx file with float16 inside: constants and operators; its input and its output stay float32.

    Weights too large or too small for float16 become its largest or smallest numbers. Operators that onnxruntime says
    do not run in float16 stay float32, with casts around them. where: the file's name, for errors.
    Raises InputError where onnx is missing, or the converter does not take the file.
    Source: onnxruntime.transformers.float16, onnxruntime's own converter.
    """
    onnx_runtime.load()
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise missing("onnx", "pip install 'edgeq[export]'") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one for each tensor with a weight that float16 does not reach
            model: Any = onnx.load_from_string(model_file.content(path))
            content: bytes = convert_float_to_float16(model, keep_io_types=True).SerializeToString()
    except Exception as error:  # protobuf's, onnx's and the converter's share no base
        raise unreadable(where, "onnxruntime's converter to float16", error) from error
    return content
