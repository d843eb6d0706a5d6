"""What works on this machine: each check tries the thing itself, and says how to mend what does not work."""

from __future__ import annotations

import importlib.metadata
import io
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeq.errors import InputError


@dataclass(frozen=True)
class Check:
    """One finding; `optional` ones belong to an extra and do not fail the whole."""

    name: str
    ok: bool
    detail: str
    mend: str = ""
    optional: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"check": self.name, **{key: value for key, value in asdict(self).items() if key != "name"}}


def examine() -> list[Check]:
    """Every check, the required ones first."""
    return [*_interpreter(), *_audio(), *_runtimes(), *_zoo(), *_extras()]


def _interpreter() -> Iterator[Check]:
    version = platform.python_version()
    yield Check("python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")
    yield Check("numpy", True, np.__version__)


def _audio() -> Iterator[Check]:
    import soundfile

    tone = np.sin(np.arange(1600) * 0.1).astype(np.float32)
    for name, suffix in (("WAV", "WAV"), ("FLAC", "FLAC"), ("Ogg Vorbis", "OGG"), ("MP3", "MP3")):

        def decode(suffix: str = suffix) -> str:
            memory = io.BytesIO()
            soundfile.write(memory, tone, 16000, format=suffix)
            memory.seek(0)
            samples, _ = soundfile.read(memory)
            return f"{len(samples)} samples written and read back by libsndfile {soundfile.__libsndfile_version__}"

        yield _try(
            f"decode {name}", decode, "pip install --upgrade soundfile (its wheel brings libsndfile 1.1 or newer)"
        )


def _runtimes() -> Iterator[Check]:
    from edgeq import bundle, runtime

    models = bundle.zoo()
    mends = {
        "onnxruntime": "pip install --upgrade onnxruntime",
        "litert": "pip install --upgrade ai-edge-litert",
        "torch": "pip install 'edgeq[export]'",
        "tflite-runtime": "in its own environment (numpy below 2, Python 3.11): pip install 'edgeq[tflite-runtime]'",
    }
    stages = {"onnxruntime": "onnx", "litert": "tflite-int8", "torch": "torch", "tflite-runtime": "tflite-int8"}
    for name, mend in mends.items():
        optional = name in ("torch", "tflite-runtime")
        if not models:
            yield Check(f"run {name}", False, "no zoo model to run", "reinstall edgeq, or set EDGEQ_MODELS", optional)
            continue

        def predict(name: str = name) -> str:
            model = runtime.open(models[0].folder, stage=stages[name], runtime=name)
            probabilities = model.predict(np.zeros((1, *model.input_shape), np.float32))
            total = float(probabilities.sum())
            if not abs(total - 1) < 0.05:
                raise InputError(f"the outputs of {models[0].name} sum to {total:.3f}, expected 1")
            return f"{models[0].name} ({stages[name]}) runs"

        yield _try(f"run {name}", predict, mend, optional)


def _zoo() -> Iterator[Check]:
    from edgeq import bundle

    for model in bundle.zoo():

        def intact(model: bundle.Bundle = model) -> str:
            bundle.check(model)
            return f"{len(model.files)} files, every sha256 as recorded"

        yield _try(f"model {model.name}", intact, "reinstall edgeq, or remove the folder from EDGEQ_MODELS")


def _extras() -> Iterator[Check]:
    for package, extra, purpose in (
        ("torch", "export", "training and export"),
        ("onnx", "export", "writing ONNX"),
        ("onnxsim", "export", "simplifying ONNX from elsewhere"),
        ("flatbuffers", "export", "writing TFLite"),
        ("tensorflow", "tensorflow", "the second INT8 converter, a cross-check"),
    ):
        distributions = (package, f"{package}-cpu") if package == "tensorflow" else (package,)
        found = next((version for name in distributions if (version := _version(name))), None)
        yield Check(
            f"extra {package}",
            found is not None,
            found or f"not installed: {purpose}",
            "" if found else f"pip install 'edgeq[{extra}]'",
            optional=True,
        )


def _try(name: str, attempt: Callable[[], str], mend: str, optional: bool = False) -> Check:
    try:
        return Check(name, True, attempt(), optional=optional)
    # A doctor has to survive whatever is wrong with the patient, a broken native library included.
    except Exception as error:
        return Check(name, False, " ".join(str(error).split()) or type(error).__name__, mend, optional)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
