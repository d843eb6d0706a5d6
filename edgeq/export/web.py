"""A page that runs a model in the browser: files for any static host, which fetch nothing from elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeq.audio import decibels
from edgeq.audio.frontend import FrontendSpec, mel_centres
from edgeq.decision import DecisionRule, Rule
from edgeq.export import web_runtime
from edgeq.export.frontend_onnx import features_onnx, logmel_onnx
from edgeq.runtime import web_page

BROWSER_RATES = (8_000, 96_000)
"""Sample rates, Hz, at which every browser has to give sound. Source: Web Audio API, AudioContextOptions.sampleRate."""

_HERE = Path(__file__).parent
_OWN = _HERE / "webpage"
_PICTURE = _HERE.parent / "picture"
_OF_PICTURE = ("picture.js", "spectrogram.js", "style.css", "icon.svg")
_LICENCE = "LICENSE.txt"


def page(
    network: bytes,
    name: str,
    labels: Sequence[str],
    frontend: FrontendSpec,
    decision: DecisionRule,
    licence: str,
    int8: bool,
    runtime: Mapping[str, bytes],
) -> dict[str, bytes]:
    """The files of the page by path.

    network: the model's ONNX file, float or QDQ. runtime: the files of onnxruntime-web, see `web_runtime.files`.
    Equal arguments give equal bytes. Raises InputError where a mel filter spans no bin.
    """
    rule = decision.events or Rule()
    form = "INT8" if int8 else "float"
    of = f"{name} ({licence})" if licence else name
    facts = {
        "name": name,
        "labels": list(labels),
        "rule": rule.to_json(),
        "frontend": _for_javascript(frontend),
        "hertz": [round(float(hertz), 1) for hertz in mel_centres(frontend)],
        "decibels": decibels.unit(frontend),
        "loud": decibels.loud(frontend),
        "about": f"{of}, {form}, in {web_runtime.PACKAGE} {web_runtime.VERSION} (MIT): WebAssembly, one thread.",
        "spec": frontend.to_json(),
    }
    own = {path.name: path.read_bytes() for path in sorted(_OWN.iterdir()) if path.suffix in (".html", ".js", ".css")}
    return {
        **own,
        **{name: (_PICTURE / name).read_bytes() for name in _OF_PICTURE},
        web_page.FACTS: web_page.facts_file(facts),
        web_page.LOGMEL: logmel_onnx(frontend),
        web_page.FEATURES: features_onnx(frontend),
        web_page.NETWORK: network,
        **{f"{web_runtime.PACKAGE}/{name}": content for name, content in runtime.items()},
        f"{web_runtime.PACKAGE}/{_LICENCE}": (_OWN / f"{web_runtime.PACKAGE}-LICENSE.txt").read_bytes(),
    }


def notes(folder: Path, frontend: FrontendSpec) -> list[str]:
    """What is to be known of a page: how it is looked at, and what may not work in every browser."""
    serve = f"python3 -m http.server --bind 127.0.0.1 --directory {shlex.quote(str(folder))}"
    told = [f"to look at the page: {serve}, then open http://127.0.0.1:8000"]
    if not BROWSER_RATES[0] <= frontend.sample_rate <= BROWSER_RATES[1]:
        told.append(
            f"the page's sound is at {frontend.sample_rate} Hz; browsers promise {BROWSER_RATES[0]} to "
            f"{BROWSER_RATES[1]} Hz, and where one has not the model's rate the page says so"
        )
    return told


def _for_javascript(spec: FrontendSpec) -> dict[str, Any]:
    """What windows are cut by; what makes features of them is in the ONNX files."""
    return {
        "sample_rate": spec.sample_rate,
        "n_fft": spec.n_fft,
        "win_length": spec.win_length,
        "hop_length": spec.hop_length,
        "centre": spec.centre,
        "n_mels": spec.n_mels,
        "rows": spec.logmel_rows,
        "least_samples": spec.least_samples,
        "window_seconds": spec.window_seconds,
        "window_hop_seconds": spec.window_hop_seconds,
        "window_frames": spec.window_frames,
        "window_hop_frames": spec.window_hop_frames,
        "window_samples": spec.window_samples,
        "pad": spec.pad,
    }
