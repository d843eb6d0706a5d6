"""A model in Python: from a name to labels, files and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import classify, zoo
from edgeq import runtime as runtimes
from edgeq.bundle import Bundle
from edgeq.classify import Classification
from edgeq.runtime import Runtime

if TYPE_CHECKING:
    from edgeq.bench.run import Bench
    from edgeq.export.run import Exported
    from edgeq.verify import Report


@dataclass(frozen=True, eq=False)
class Model:
    """A bundle, and a runtime that has it ready."""

    bundle: Bundle
    runtime: Runtime

    @property
    def labels(self) -> tuple[str, ...]:
        """One label a class, in the order of the probabilities."""
        return self.bundle.labels

    def classify(self, recording: str | Path, top: int = 3) -> Classification:
        """Label a recording of any rate, channels and length. Raises InputError naming the recording."""
        return classify.recording(self.bundle, self.runtime, recording, top)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes) of network inputs, float32 (n, components, mels, frames).

        Raises InputError where they have another shape or kind. See audio.frontend.recording_features.
        """
        return self.runtime.predict(features)

    def export(
        self,
        output: str | Path,
        formats: Sequence[str] = ("onnx", "tflite"),
        int8: bool = False,
        calibration: str | Path | None = None,
        lowering: str | Path = "block",
        compact: bool = False,
        c: bool = False,
        board: str | None = None,
        web: bool = False,
    ) -> Exported:
        """Write verified files for other runtimes, C for devices and a page for browsers.

        Raises as `export.run.export` does; needs the extra `export`, and for a board the extra `cortexm`.
        """
        from edgeq.export import run

        return run.export(
            self.bundle.folder,
            output,
            formats=formats,
            int8=int8,
            calibration=calibration,
            lowering=lowering,
            compact=compact,
            c=c,
            board=board,
            web_page=web,
        )

    def bench(self, target: str, **options: Any) -> Bench:
        """Measure what an inference costs on targets, with commas, as in "cpu,stm32l496"; options as `bench.run.bench`.

        Raises as that does; microcontrollers need the extra `cortexm`.
        """
        from edgeq.bench import run

        return run.bench(self.bundle.folder, target, **options)

    def verify(self, data: str | Path | None = None) -> Report:
        """Hold every exported stage to the network as it was trained, on goldens and on recordings in `data`."""
        from edgeq.verify import verify

        return verify(self.bundle, data)


def load(model: str | Path, runtime: str | None = None, int8: bool = False, threads: int = 1) -> Model:
    """Open a model: a zoo name or a bundle's folder.

    runtime: onnxruntime, litert, litert-reference, tflite-runtime, torch or c; by default the first that suits a file
    the bundle has, float before INT8. Raises InputError where there is no such model or runtime.
    """
    found = zoo.find(model)
    stage = runtimes.choose_stage(found, runtime, int8)
    return Model(found, runtimes.open(found, stage=stage, runtime=runtime, threads=threads))
