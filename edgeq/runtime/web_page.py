"""An exported page's models, run in onnxruntime as the page runs them: from samples, by its own front end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import manifest
from edgeq.audio.frontend import FrontendSpec, frame_count, pad, reflected
from edgeq.decision import DecisionRule, Rule
from edgeq.errors import InputError
from edgeq.runtime.face import unreadable
from edgeq.runtime.onnx_runtime import OnnxRuntime, load

STAGES = ("web", "web-int8")
"""Forms of a bundle that are a page: its network float or INT8."""

FACTS, LOGMEL, FEATURES, NETWORK = "model.json", "logmel.onnx", "features.onnx", "network.onnx"
"""What is the model's own in the folder of a page."""


class FrontEnd:
    """The front end of a page: two models, see export.frontend_onnx. They are the page's own files, or of the same
    content. Raises InputError where onnxruntime does not take them."""

    def __init__(self, logmel: bytes, features: bytes, spec: FrontendSpec, where: str) -> None:
        self.spec = spec
        self._where = where
        self._logmel, self._features = self._session(logmel), self._session(features)

    def windows(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Network inputs of a recording, float32 (n, components, mels, frames), and gated, bool (n,).

        samples: (n,) at the spec's rate. What `frontend.recording_features` gives, which is the definition.
        Raises InputError as it does.
        """
        spec = self.spec
        samples = pad(samples, spec)
        count = frame_count(len(samples), spec)
        start = -(spec.n_fft // 2) if spec.centre else 0
        whole = reflected(samples, start, start + (count - 1) * spec.hop_length + spec.n_fft)
        (frames,) = self._logmel.run(None, {"samples": np.ascontiguousarray(whole)})
        cut = np.lib.stride_tricks.sliding_window_view(frames, spec.window_frames, axis=0)[:: spec.window_hop_frames]
        features, gated = self._features.run(None, {"windows": np.ascontiguousarray(np.moveaxis(cut, 1, 2))})
        return features, gated

    def _session(self, content: bytes) -> Any:
        onnxruntime = load()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base of their own
            raise unreadable(self._where, "onnxruntime", error) from error


def open_page(folder: Path) -> tuple[FrontEnd, OnnxRuntime]:
    """The front end and the network of a page. Raises InputError where they are no models, or of an older edgeq."""
    facts = read_facts((folder / FACTS).read_bytes(), folder / FACTS)
    spec = FrontendSpec.from_json(facts["spec"])
    logmel, features = ((folder / name).read_bytes() for name in (LOGMEL, FEATURES))
    return FrontEnd(logmel, features, spec, str(folder)), OnnxRuntime(folder / NETWORK, str(folder / NETWORK), 1)


def read_facts(content: bytes, where: Path) -> dict[str, Any]:
    """What model.json says. Raises InputError where it is something else."""
    facts = manifest.parse(where, content, "export the page again")
    if not isinstance(facts, dict) or not {"labels", "spec", "rule"} <= set(facts):
        raise InputError(f"{where}: not the facts of a page; export it again")
    return facts


def with_decision(files: Mapping[str, bytes], decision: DecisionRule) -> dict[str, bytes]:
    """The files of a page, by name, with another rule for events."""
    facts = read_facts(files[FACTS], Path(FACTS))
    return {**files, FACTS: facts_file({**facts, "rule": (decision.events or Rule()).to_json()})}


def facts_file(facts: Mapping[str, Any]) -> bytes:
    """model.json. Equal facts give equal bytes."""
    return (json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
