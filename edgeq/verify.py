"""The parity gate: every exported stage against the network as it was trained, on goldens and on real recordings."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import bundle as bundles
from edgeq import corpora, goldens, zoo
from edgeq import runtime as runtimes
from edgeq.audio import decode
from edgeq.audio.windows import windows
from edgeq.batches import batch_size, batches
from edgeq.bundle import Bundle
from edgeq.cortexm import host
from edgeq.decision import ClipScores
from edgeq.errors import InputError, naming
from edgeq.goldens import Goldens
from edgeq.graph import cost, fidelity, from_tflite, model_file
from edgeq.graph.ir import Graph
from edgeq.graph.sqnr import layer_sqnr, sqnr_db
from edgeq.nets.spec import EnsembleSpec
from edgeq.progress import Advance, progress
from edgeq.room import Room
from edgeq.runtime import Runtime, embedded, web_page

command = "edgeq.verify:verify"
sys.modules[__name__].__class__ = Room  # edgeq.verify(model) is this function

FLOAT_MAX_ABS_ERROR = 1e-4
"""Largest difference of probabilities between float stages."""

FRONT_END_MAX_ERROR = 1e-4
"""Largest difference of normalised features between a page's front end and NumPy's, which is the definition."""

INT8_AGREEMENT = 0.98
"""Least top-1 agreement of INT8 stages; float stages agree always."""

INT8_NOTED_ERROR = 0.25
"""Difference of INT8 probabilities from float ones above which a report warns: answers agree, but barely."""

LOGIT_SQNR_DB = 25.0
"""Least logit SQNR of INT8 stages of a network that is undecided: random weights, hardly trained, or an ensemble whose
members disagree."""

LAYER_MACS = 200_000_000_000
"""MACs after which the table of layers has seen enough goldens: NumPy computes it, in a minute or less."""

LAYER_GOLDENS = 4
"""Goldens that it sees at least, whatever they cost."""


@dataclass(frozen=True)
class StageResult:
    """How one stage compares. inputs: "goldens" or "data"; clips: how many of them.

    top1_agreement: fraction of clips with the float network's answer. max_abs_error, sqnr_db: of the probabilities
    (sqnr_db of the logits where the bundle's gate is that). accuracy: fraction of labelled clips, on data.
    failures: one line for each thing that does not hold.
    """

    name: str
    inputs: str
    runtime: str
    clips: int
    top1_agreement: float
    max_abs_error: float
    sqnr_db: float
    accuracy: float | None = None
    failures: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The contract's keys, and what the stage was run on and by."""
        values = {
            "name": self.name,
            "inputs": self.inputs,
            "runtime": self.runtime,
            "clips": self.clips,
            "top1_agreement": self.top1_agreement,
            "max_abs_error": self.max_abs_error,
            "sqnr_db": self.sqnr_db,
            "passed": not self.failures,
            "failures": list(self.failures),
        }
        return values if self.accuracy is None else {**values, "accuracy": self.accuracy}


@dataclass(frozen=True)
class LayerResult:
    """What INT8 costs one layer: SQNR in dB of its output on goldens, its own noise and what it was handed."""

    name: str
    kind: str
    sqnr_db: float


@dataclass(frozen=True)
class Report:
    """The gate's findings. layers: of the INT8 .tflite file, worst first. notes: what was not compared, and why."""

    name: str
    stages: tuple[StageResult, ...]
    layers: tuple[LayerResult, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every stage holds."""
        return not any(stage.failures for stage in self.stages)

    @property
    def failure(self) -> str:
        """Everything that does not hold, in one line; empty where all does."""
        return "; ".join(
            f"{stage.name} ({stage.inputs}): {failure}" for stage in self.stages for failure in stage.failures
        )

    def to_json(self) -> dict[str, Any]:
        """The contract's keys."""
        return {
            "name": self.name,
            "stages": [stage.to_json() for stage in self.stages],
            "layers": [asdict(layer) for layer in self.layers],
            "notes": list(self.notes),
            "passed": self.passed,
        }


def verify(model: Bundle | str | Path, data: str | Path | None = None) -> Report:
    """Compare every stage of a bundle with the float network.

    On goldens: with the stored outputs of the network as trained. With `data`, a folder of recordings, also clip by
    clip with torch (or the first float file, where torch is not installed), and with the labels where they are known.
    Float stages pass at 100 % top-1 agreement and FLOAT_MAX_ABS_ERROR, INT8 ones at INT8_AGREEMENT, or LOGIT_SQNR_DB
    where the network is undecided; each file must also say the bundle's labels and front end, and the INT8
    .tflite file hold the codes of its float twin.
    Raises InputError where a file is not as recorded, or there is nothing to compare.
    """
    opened = model if isinstance(model, Bundle) else zoo.find(model)
    bundles.check(opened)
    clips = None if data is None else _clips(Path(data))  # before the goldens: a wrong path is told at once
    expected = opened.goldens()
    with_torch = importlib.util.find_spec("torch") is not None
    notes = [] if with_torch else ["torch is not installed: the stage torch was not run"]
    names = [name for name in runtimes.STAGES if name in opened.exports or (name == "torch" and with_torch)]
    if "c-int8" in names and host.compiler() is None:
        names.remove("c-int8")
        notes.append(f"{host.NO_COMPILER}: the stage c-int8 was not run")
    names += [name for name in web_page.STAGES if name in opened.exports]
    if not names:
        raise InputError(f"{opened.folder}: no exports and no torch: nothing to verify; run: edgeq export --help")
    with progress(f"{opened.name}: goldens", len(expected.seeds) * (len(names) + 1)) as advance:
        inputs = _inputs(expected, opened, advance)
        stages = [_on_goldens(opened, name, expected, inputs, advance) for name in names]
    if expected.gate != goldens.TOP1:
        notes.append(
            f"the network is undecided ({_why_undecided(opened)}): top-1 agreement says nothing, "
            "INT8 is judged by logit SQNR"
        )
    if any(stage.name.endswith("int8") and stage.max_abs_error > INT8_NOTED_ERROR for stage in stages):
        notes.append("INT8 probabilities lie far from float ones; calibrate on more, or more typical, recordings")
    if clips is not None:
        pages = [name for name in names if name in web_page.STAGES]
        others = [name for name in names if name not in pages]
        results, more = _on_data(opened, others, clips, expected.gate == goldens.TOP1)
        stages += results
        notes += more
        notes += [f"{name}: compared on goldens alone; its network is that of the ONNX file" for name in pages]
    layers, more = _layers(opened, inputs)
    return Report(opened.name, tuple(stages), layers, (*notes, *more))


def _why_undecided(opened: Bundle) -> str:
    if isinstance(opened.architecture, EnsembleSpec):
        return "its members are, or disagree about synthetic sounds"
    return "random weights, or hardly trained"


def _inputs(expected: Goldens, opened: Bundle, advance: Advance) -> np.ndarray:
    found = []
    step = batch_size(*opened.frontend.input_shape[1:])
    for start in range(0, len(expected.seeds), step):
        found.append(goldens.inputs(expected.seeds[start : start + step], opened.frontend))
        advance(len(found[-1]))
    return np.concatenate(found)


def _on_goldens(opened: Bundle, stage: str, expected: Goldens, inputs: np.ndarray, advance: Advance) -> StageResult:
    """Open a stage, compare it, and let go of it: stages of hundreds of megabytes don't wait for each other."""
    faults: list[str] = []
    ready: Runtime
    if stage in web_page.STAGES:
        frontend, ready = web_page.open_page(opened.folder / opened.exported(stage))
        inputs, faults = _by_its_own_front_end(opened, frontend, expected.seeds, inputs)
    else:
        ready = runtimes.open(opened, stage=stage)
    faults += _file_faults(opened, stage, ready)
    if len(expected.seeds) < goldens.COUNT:
        faults.append(f"only {len(expected.seeds)} goldens, a gate needs {goldens.COUNT}")
    outputs = []
    with naming(f"{opened.folder} ({stage})"):
        for batch in batches(inputs):
            outputs.append(ready.predict(batch))
            advance(len(batch))
        found = np.concatenate(outputs)
        classes = expected.outputs.shape[1]
        if found.shape[1] != classes:
            raise InputError(f"{found.shape[1]} outputs, expected {classes}: of another network; export it again")
    if stage == "c-int8":
        faults += _c_faults(opened, inputs, found)
    if expected.gate == goldens.TOP1:
        return _compared(stage, "goldens", ready, expected.outputs, found, True, faults)
    ratio = _logit_sqnr(opened, stage, expected.outputs, found, inputs)
    if ratio < LOGIT_SQNR_DB:
        faults.append(
            f"logit SQNR {ratio:.1f} dB, expected at least {LOGIT_SQNR_DB:g} of an undecided network; train it longer"
        )
    return replace(_compared(stage, "goldens", ready, expected.outputs, found, False, faults), sqnr_db=ratio)


def _by_its_own_front_end(
    opened: Bundle, frontend: web_page.FrontEnd, seeds: np.ndarray, expected: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Network inputs of the goldens by the front end of a page, from their samples; what is wrong with them."""
    spec = opened.frontend
    found = np.concatenate([frontend.windows(goldens.waveform(int(seed), spec))[0][:1] for seed in seeds])
    error = float(np.abs(found - expected).max())
    faults = [] if error <= FRONT_END_MAX_ERROR else [f"its front end's features differ by {error:.2g}"]
    return found, faults


def _compared(
    stage: str,
    inputs: str,
    ready: Runtime,
    expected: np.ndarray,
    found: np.ndarray,
    decisive: bool,
    faults: Iterable[str] = (),
) -> StageResult:
    """Judge probabilities (clips, classes); their top-1 agreement only where the float network is decisive."""
    failures = list(faults)
    if not np.isfinite(found).all():
        failures.append("outputs hold NaN or infinity")
        found = np.nan_to_num(found, nan=0.0, posinf=1.0, neginf=0.0)
    int8 = stage.endswith("int8")
    agreement = float(np.mean(found.argmax(axis=1) == expected.argmax(axis=1)))
    error = float(np.abs(found - expected).max())
    least = INT8_AGREEMENT if int8 else 1.0
    if decisive and agreement < least:
        failures.append(f"top-1 agreement {agreement:.2%}, expected at least {least:.0%}")
    if not int8 and error > FLOAT_MAX_ABS_ERROR:
        failures.append(f"probabilities differ by {error:.2g}, expected at most {FLOAT_MAX_ABS_ERROR:g}")
    ratio = sqnr_db(expected, found)
    return StageResult(stage, inputs, ready.name, len(found), agreement, error, ratio, None, tuple(failures))


def _file_faults(opened: Bundle, stage: str, ready: Runtime) -> Iterator[str]:
    """What is wrong with an exported file apart from its answers."""
    if stage == "torch":
        return
    place = _place(opened, stage)
    path = place.relative_to(opened.folder)
    says = embedded.read(ready.metadata, str(path))
    if says.labels != opened.labels:
        yield f"{path} says other labels, or another order of them, than the bundle"
    if says.frontend.hash != opened.frontend.hash:
        yield f"{path} says another front end than the bundle"
    # An ONNX file stays float at its ends; its rounding operators are known by their name.
    onnx = stage.startswith(("onnx", "web"))
    rounded = model_file.mapped(place).find(b"QuantizeLinear") >= 0 if onnx else ready.int8
    if rounded != stage.endswith("int8"):
        yield f"{path} is {'INT8' if rounded else 'float'}, expected {'float' if rounded else 'INT8'}"
    elif stage == "tflite-int8":
        yield from _int8_faults(opened)


def _place(opened: Bundle, stage: str) -> Path:
    """Where a stage's file lies, a page's network; its content was compared with its sha256 before anything ran."""
    place = opened.folder / opened.exported(stage)
    return place / web_page.NETWORK if stage in web_page.STAGES else place


def _int8_faults(opened: Bundle) -> Iterator[str]:
    graph = from_tflite.read(_place(opened, "tflite-int8"))
    twin = _float_twin(opened, graph) if "tflite" in opened.exports else None
    if twin is not None:
        yield from fidelity.weight_faults(twin, graph)
    if bundles.RANGES in opened.files:
        yield from fidelity.range_faults(graph, opened.ranges())


def _c_faults(opened: Bundle, inputs: np.ndarray, found: np.ndarray) -> Iterator[str]:
    """What the C gives is what LiteRT's reference kernels give, bit for bit."""
    ready = runtimes.open(opened, "tflite-int8", "litert-reference")
    differ = int((found != ready.predict(inputs)).any(axis=1).sum())
    if differ:
        yield f"the C and LiteRT's reference kernels differ on {differ} of {len(found)} goldens"


def _float_twin(opened: Bundle, int8_graph: Graph) -> Graph | None:
    """What the INT8 .tflite file was quantized from: what the float one holds, unless a table made layers of it fast.

    Then it is the network in block form, which takes torch: None where that is not installed.
    """
    graph = from_tflite.read(_place(opened, "tflite"))
    if bundles.LOWERING not in opened.files or not list(fidelity.weight_faults(graph, int8_graph)):
        return graph
    if importlib.util.find_spec("torch") is None:
        return None
    from edgeq.lowering.trace import lower
    from edgeq.runtime.torch import network

    return lower(network(opened), opened.architecture)


def _logit_sqnr(opened: Bundle, stage: str, expected: np.ndarray, found: np.ndarray, inputs: np.ndarray) -> float:
    sigmoid = opened.architecture.output == "sigmoid"
    if stage.endswith("int8"):
        from edgeq.runtime.logits import onnx_logits, tflite_logits

        # The C gives what its .tflite file gives, which is checked, and no logits.
        file = "tflite-int8" if stage == "c-int8" else stage
        read = onnx_logits if stage.startswith(("onnx", "web")) else tflite_logits
        logits = read(_place(opened, file), inputs).astype(np.float64)
    else:
        logits = _logits(found, sigmoid)
    if not sigmoid:  # softmax forgets what is common to all classes
        logits = logits - logits.mean(axis=1, keepdims=True)
    return sqnr_db(_logits(expected, sigmoid), logits)


def _logits(probabilities: np.ndarray, sigmoid: bool) -> np.ndarray:
    """Logits that give these probabilities; of a softmax those whose mean is 0."""
    tiny = np.finfo(np.float32).tiny
    p = np.clip(probabilities.astype(np.float64), tiny, 1.0)
    if sigmoid:
        return np.log(p) - np.log(np.clip(1.0 - p, tiny, 1.0))
    return np.log(p) - np.log(p).mean(axis=1, keepdims=True)


def _on_data(
    opened: Bundle, stages: Sequence[str], clips: Sequence[tuple[Path, str | None]], decisive: bool
) -> tuple[list[StageResult], list[str]]:
    reference = next((stage for stage in ("torch", "onnx", "tflite") if stage in stages), None)
    if reference is None:
        raise InputError(
            f"{opened.folder}: has only INT8 files and torch is not installed: no float network to compare with"
        )
    ready = {stage: runtimes.open(opened, stage=stage) for stage in stages}
    scores: dict[str, list[np.ndarray]] = {stage: [] for stage in stages}
    with progress(f"{opened.name}: recordings", len(clips)) as advance:
        for path, _ in clips:
            for stage, found in stage_scores(opened, ready, path).items():
                scores[stage].append(found)
            advance(1)
    known = [i for i, (_, label) in enumerate(clips) if label in opened.labels]
    targets = np.array([opened.labels.index(str(clips[i][1])) for i in known], int)
    results = []
    for stage, runtime in ready.items():
        found = np.stack(scores[stage])
        accuracy = float(np.mean(found[known].argmax(axis=1) == targets)) if known else None
        result = _compared(stage, "data", runtime, np.stack(scores[reference]), found, decisive)
        results.append(replace(result, accuracy=accuracy))
    notes = [f"data: {len(clips)} clips, compared with {reference}"]
    if known:
        notes.append(f"accuracy is over the {len(known)} clips with a known label, trained on or not")
    return results, notes


def stage_scores(opened: Bundle, ready: Mapping[str, Runtime], path: Path) -> dict[str, np.ndarray]:
    """One recording's scores by every stage; it is decoded once."""
    clip = {stage: ClipScores(len(opened.labels)) for stage in ready}
    for batch in windows(path, opened.frontend):
        if len(batch.features):
            for stage, runtime in ready.items():
                clip[stage].add(runtime.predict(batch.features), batch.gated)
    return {stage: scores.scores() for stage, scores in clip.items()}


def _clips(folder: Path) -> Sequence[tuple[Path, str | None]]:
    """Recordings of a folder with their labels: as the corpus says that it holds, else by the folder they lie in."""
    if folder.is_dir() and corpora.recognised(folder):
        clips = corpora.open(folder).clips
        return [(clip.path, clip.label if len(clip.labels) == 1 else None) for clip in clips]
    return [(path, path.parent.name if path.parent != folder else None) for path in decode.recordings(folder)]


def _layers(opened: Bundle, inputs: np.ndarray) -> tuple[tuple[LayerResult, ...], list[str]]:
    if "tflite-int8" not in opened.exports:
        return (), []
    if "tflite" not in opened.exports:
        return (), ["no float .tflite beside the INT8 one: layers and codes were not compared"]
    rounded = from_tflite.read(_place(opened, "tflite-int8"))
    exact = _float_twin(opened, rounded)
    if exact is None:
        return (), ["the float .tflite has fast layers and torch is not installed: layers and codes were not compared"]
    macs = sum(layer.macs for layer in cost.layers(exact))
    count = min(len(inputs), max(LAYER_GOLDENS, LAYER_MACS // max(1, macs)))
    notes = []
    if count < len(inputs):
        notes.append(f"layers: SQNR over {count} of {len(inputs)} goldens, since each takes {macs / 1e9:.1f} GMAC")
    with progress(f"{opened.name}: layers", count) as advance:

        def seen() -> Iterator[np.ndarray]:
            for batch in batches(inputs[:count], keep=True):
                yield np.moveaxis(batch, 1, -1)
                advance(len(batch))

        try:
            ratios = layer_sqnr(exact, rounded, seen())
        except InputError as error:
            return (), [f"layers were not compared: {error}"]
    return tuple(LayerResult(name, kind, ratio) for name, kind, ratio in ratios), notes
