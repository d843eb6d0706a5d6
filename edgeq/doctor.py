"""What works on this machine: each check tries the thing itself, and says how to mend what does not work."""

from __future__ import annotations

import importlib.metadata
import io
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.errors import InputError

if TYPE_CHECKING:
    from edgeq.bundle import Bundle


@dataclass(frozen=True)
class Check:
    """One finding; `optional` ones belong to an extra and do not fail the whole."""

    name: str
    ok: bool
    detail: str
    mend: str = ""
    optional: bool = False

    def to_json(self) -> dict[str, Any]:
        """The contract's keys."""
        return {"check": self.name, **{key: value for key, value in asdict(self).items() if key != "name"}}


def examine() -> list[Check]:
    """Every check, the required ones first."""
    models, whole = _zoo()
    return [
        *_interpreter(),
        *_audio(),
        _microphone(),
        *_runtimes(models),
        *_on_gpu(models),
        _page(),
        *whole,
        *_extras(),
    ]


def _interpreter() -> Iterator[Check]:
    version = platform.python_version()
    yield Check("python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")
    yield Check("numpy", True, np.__version__)


def _audio() -> Iterator[Check]:
    mend = "pip install --upgrade soundfile (its wheel brings libsndfile 1.1 or newer)"
    for name, suffix in (("WAV", "WAV"), ("FLAC", "FLAC"), ("Ogg Vorbis", "OGG"), ("MP3", "MP3")):
        yield _try(f"decode {name}", partial(_decode, suffix), mend)


def _decode(suffix: str) -> str:
    import soundfile

    memory = io.BytesIO()
    soundfile.write(memory, np.sin(np.arange(1600) * 0.1).astype(np.float32), 16000, format=suffix)
    memory.seek(0)
    samples, _ = soundfile.read(memory)
    return f"{len(samples)} samples, read back by libsndfile {soundfile.__libsndfile_version__}"


def _microphone() -> Check:
    mend = "sudo apt install libportaudio2 and plug one in; or pipe sound in: edgeq live MODEL --input -"
    return _try("microphone", _inputs, mend, optional=True)


def _inputs() -> str:
    from edgeq.live import devices

    names = [one.name for one in devices.listed()]
    if not names:
        raise InputError("PortAudio finds no input")
    return f"{len(names)} input{'' if len(names) == 1 else 's'}: {', '.join(names)}"


def _runtimes(models: list[Bundle]) -> Iterator[Check]:
    own_environment = "in an environment of its own (Python 3.11): pip install 'edgeq[tflite-runtime]'"
    for name, stage, mend, optional in (
        ("onnxruntime", "onnx", "pip install --upgrade onnxruntime", False),
        ("litert", "tflite-int8", "pip install --upgrade ai-edge-litert", False),
        ("torch", "torch", "pip install 'edgeq[export]'", True),
        ("openvino", "onnx", "pip install openvino", True),
        ("tflite-runtime", "tflite-int8", own_environment, True),
    ):
        model = next((one for one in models if stage == "torch" or stage in one.exports), None)
        if model is None:
            yield Check(f"run {name}", False, "no zoo model to run", "reinstall edgeq, or set EDGEQ_MODELS", optional)
        else:
            yield _try(f"run {name}", partial(_run, model, stage, name), mend, optional)


def _on_gpu(models: list[Bundle]) -> Iterator[Check]:
    """What a GPU needs; of a machine that has none, only that."""
    from edgeq import machine

    found = machine.gpus()
    if not found:
        mend = "nothing needs one but edgeq bench --target gpu; where there is one, install NVIDIA's driver"
        yield Check("gpu", False, "nvidia-smi finds no NVIDIA GPU", mend, optional=True)
        return
    yield Check("gpu", True, "; ".join(found), optional=True)
    onnxruntime = "pip uninstall onnxruntime, then: pip install 'onnxruntime-gpu[cuda,cudnn]'"
    for name, stage, mend in (
        ("onnxruntime-cuda", "onnx", onnxruntime),
        ("onnxruntime-tensorrt", "onnx", f"{onnxruntime} tensorrt"),
        ("torch-cuda", "torch", "install a torch that is built with CUDA: see pytorch.org/get-started"),
    ):
        model = next((one for one in models if stage == "torch" or stage in one.exports), None)
        if model is not None:
            yield _try(f"run {name}", partial(_run, model, stage, name), mend, optional=True)


def _page() -> Check:
    """What edgeq export --web takes along; nothing is fetched for a check."""
    from edgeq.export import web_runtime

    what = f"{web_runtime.PACKAGE} {web_runtime.VERSION}"
    if web_runtime.kept() is not None:
        return Check("page for browsers", True, f"{what} is kept here", optional=True)
    mend = "edgeq export --web fetches it once (14 MB of it are kept); without a network: --web-runtime DIR"
    return Check("page for browsers", False, f"{what} is not here yet", mend, optional=True)


def _run(model: Bundle, stage: str, name: str) -> str:
    from edgeq import runtime

    ready = runtime.open(model, stage=stage, runtime=name)
    probabilities = ready.predict(np.zeros((1, *ready.input_shape), np.float32))
    if not (np.isfinite(probabilities).all() and probabilities.sum() > 0 and probabilities.max() <= 1.001):
        raise InputError(f"what {model.name} ({stage}) gives are no probabilities")
    return f"{model.name} ({stage}) runs"


def _zoo() -> tuple[list[Bundle], list[Check]]:
    """The models there are to run, and whether each is whole."""
    from edgeq import bundle, zoo

    mend = "reinstall edgeq, or remove the folder from EDGEQ_MODELS"
    try:
        models = zoo.models()
    except InputError as error:
        return [], [Check("zoo", False, str(error), mend)]

    def intact(model: Bundle) -> str:
        bundle.check(model)
        return f"{len(model.files)} files, every sha256 as recorded"

    return models, [_try(f"model {model.name}", partial(intact, model), mend) for model in models]


def _extras() -> Iterator[Check]:
    for package, extra, purpose in (
        ("torch", "export", "training and export"),
        ("onnx", "export", "writing ONNX"),
        ("onnxsim", "export", "simplifying ONNX from elsewhere"),
        ("flatbuffers", "export", "writing TFLite"),
        ("tensorflow", "tensorflow", "the second INT8 converter, a cross-check"),
        ("ziglang", "cortexm", "compiling C for Cortex-M"),
        ("unicorn", "cortexm", "simulating Cortex-M"),
        ("nvidia-ml-py", "energy", "energy of NVIDIA GPUs"),
        ("pyserial", "energy", "energy of a board at a Nordic PPK2"),
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
