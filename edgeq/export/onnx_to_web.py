"""A page of an ONNX file that comes alone: edgeq's own files say labels, front end and rule themselves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeq import classify, goldens, verify
from edgeq.audio.frontend import FrontendSpec
from edgeq.errors import CheckFailed
from edgeq.export import alone, web, web_runtime
from edgeq.graph import model_file
from edgeq.runtime import Runtime, web_page

SOUNDS = 16
"""Synthetic sounds on which the page's front end has to give NumPy's features, and the file the same probabilities."""


def export(
    path: str | Path, output: str | Path | None = None, web_runtime_folder: Path | None = None
) -> alone.Exported:
    """Write the page of an .onnx file that edgeq wrote, float or INT8, to a folder, once its front end is right.

    output: by default build/<the file's name>. web_runtime_folder: onnxruntime-web's files, else they are fetched once.
    Raises InputError where the file does not say its labels and front end, the folder holds other files, or
    onnxruntime-web is not to be had; CheckFailed where the page would say something else. Nothing is written then.
    """
    path = Path(path)
    destination = Path(output) if output else Path("build") / path.stem
    about, ready = classify.prepare(path, "onnxruntime", False)
    content = model_file.content(path)
    stage = "web-int8" if b"QuantizeLinear" in content else "web"
    name, licence = (ready.metadata.get(key, otherwise) for key, otherwise in (("name", path.stem), ("licence", "")))
    browser = web_runtime.files(web_runtime_folder)
    files = web.page(content, name, about.labels, about.frontend, about.decision, licence, stage == "web-int8", browser)
    alone.check_place(destination, files)
    report = _verified(path.stem, stage, about.frontend, files, ready)
    if not report.passed:
        raise CheckFailed(f"{path}: {report.failure}; nothing was written to {destination}")
    alone.write(destination, files)
    notes = (
        "the page says what the file says: no trained network was compared with",
        *web.notes(destination, about.frontend),
    )
    ops = Counter(node.op_type for node in onnx.load_model_from_string(content).graph.node)
    ends = _end(1, *ready.input_shape), _end(1, ready.classes)
    return alone.Exported(destination, stage, files, *ends, ops, report, notes)


def _end(*shape: int) -> dict[str, Any]:
    return {"shape": list(shape), "dtype": "float32", "scale": None, "zero_point": None}


def _verified(name: str, stage: str, spec: FrontendSpec, files: dict[str, bytes], ready: Runtime) -> verify.Report:
    """The file behind the page's front end, beside the file behind NumPy's."""
    front_end = web_page.FrontEnd(files[web_page.LOGMEL], files[web_page.FEATURES], spec, name)
    expected = goldens.inputs(range(SOUNDS), spec)
    found = np.concatenate([front_end.windows(goldens.waveform(seed, spec))[0][:1] for seed in range(SOUNDS)])
    probabilities = [ready.predict(features) for features in (expected, found)]
    error = float(np.abs(probabilities[1] - probabilities[0]).max())
    agreement = float(np.mean(probabilities[0].argmax(axis=1) == probabilities[1].argmax(axis=1)))
    failures = []
    if np.abs(found - expected).max() > verify.FRONT_END_MAX_ERROR:
        failures.append(f"its front end's features differ by {np.abs(found - expected).max():.2g}")
    # INT8 rounds: a feature that lies between two codes may fall on either.
    if stage == "web" and error > verify.FLOAT_MAX_ABS_ERROR:
        failures.append(f"probabilities differ by {error:.2g}, expected at most {verify.FLOAT_MAX_ABS_ERROR:g}")
    ratio = verify.sqnr_db(*probabilities)
    result = verify.StageResult(stage, "sounds", ready.name, SOUNDS, agreement, error, ratio, None, tuple(failures))
    return verify.Report(name, (result,), (), ())
