"""A module uses only rooms on floors below its own, and heavy packages are imported only where they are needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "edgeq"

FLOORS = (
    ("errors", "room", "atomic", "quiet", "machine", "progress", "batches"),
    ("audio", "nets", "graph", "budget", "decision"),
    ("lowering", "corpora", "cortexm", "manifest", "goldens"),
    ("bundle",),
    ("zoo", "training", "runtime", "fresh"),
    ("classify", "verify", "compress", "inspection", "catalogue"),
    ("export", "show", "bench", "tune", "mine", "live"),
    ("model", "doctor"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

TORCH = {
    "audio/frontend_torch.py", "compress/chain.py", "compress/channels.py", "compress/distill.py",
    "compress/ensemble.py", "compress/prune.py", "compress/sharing.py", "compress/transfer.py", "lowering/building.py",
    "lowering/layers.py", "lowering/trace.py", "nets/arrays.py", "nets/count.py", "nets/cpmobile.py", "nets/dcase.py",
    "nets/ensemble.py", "nets/maximum.py", "nets/mobilenet.py", "nets/panns.py", "nets/quaternion.py", "nets/small.py",
    "runtime/torch_forward.py", "runtime/torch_graph.py", "training/augment.py", "training/checkpoints.py",
    "training/competition.py", "training/device.py", "training/evaluate.py", "training/fit.py", "training/joining.py",
    "training/life.py", "training/logmels.py", "training/loss.py", "training/optimiser.py", "training/plans.py",
    "training/processes.py", "training/result.py", "training/session.py", "training/source.py", "training/streamed.py",
    "training/teacher.py", "training/trial.py",
}  # fmt: skip
"""Modules that import torch as they are imported; others wait until they are asked for it."""


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path: Path, everywhere: bool = True) -> set[str]:
    """Names of imported modules; everywhere: inside functions too, but never for type checkers alone."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if everywhere or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_every_module_has_a_floor():
    assert {room(path) for path in modules()} == set(FLOOR)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_run_down(path):
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("edgeq.")} - {room(path)}
    upwards = {other for other in rooms if FLOOR[other] >= FLOOR[room(path)]}
    assert not upwards, f"{path.name} is on floor {FLOOR[room(path)]} and imports {sorted(upwards)}"


def importers(package: str, everywhere: bool = True) -> set[str]:
    """Modules that import a package or something in it."""
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if any(f"{name}.".startswith(f"{package}.") for name in imported(path, everywhere))
    }


def test_torch_is_imported_where_networks_are_built_and_trained_only():
    assert importers("torch", everywhere=False) == TORCH
    assert importers("torch") == TORCH | {"nets/registry.py", "runtime/torch.py", "fresh.py"}


def test_only_the_command_line_asks_for_training_and_compression():
    asking = importers("edgeq.training") | importers("edgeq.compress")
    assert {name for name in asking if not name.startswith(("training/", "compress/"))} == {
        "commands/data.py",
        "commands/train.py",
    }


def test_what_a_small_computer_uses_never_imports_training_or_the_extras():
    """Imports, not only the statements: what they drag in counts."""
    light = "edgeq.bundle", "edgeq.classify", "edgeq.verify", "edgeq.inspection", "edgeq.catalogue", "edgeq.doctor"
    script = f"import sys, {', '.join((*light, 'edgeq.model', 'edgeq.cli'))}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "onnx", "onnxsim", "tensorflow", "librosa", "scipy", "sklearn", "edgeq.training", "edgeq.export"}
    assert not heavy & set(loaded)
