"""The C of whole models: compiles without a warning, says what it is, and gives the codes of the int8 reference."""

from __future__ import annotations

import math
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import graphs
import numpy as np
import pytest

from edgeq.cortexm import host, targets
from edgeq.cortexm.emit import emit, identifier
from edgeq.cortexm.ops.arrays import Array
from edgeq.cortexm.targets import Memory
from edgeq.errors import CheckFailed, InputError
from edgeq.graph import from_tflite, ir, reference
from edgeq.graph.quantize import observe, quantize

STRICT = ("-Wconversion", "-Wshadow", "-Wundef", "-Wstrict-prototypes", "-pedantic")
ARENA_OVER_BOUND = 1.1
ZOO = sorted((Path(__file__).resolve().parent.parent / "models").glob("*/*.int8.tflite"))
FOREIGN = sorted(Path(os.environ.get("EDGEQ_MODELS_BY_OTHERS", "/nowhere")).rglob("*.tflite"))
MADE = (graphs.chain, graphs.residual, graphs.mean_max, graphs.strided, graphs.logistic, graphs.quaternion,
        graphs.inverted_residual, graphs.streams, graphs.mel_affine)  # fmt: skip


def int8(graph: ir.Graph) -> ir.Graph:
    return quantize(graph, observe(graph, [graphs.inputs(graph, 8)]))


def codes(graph: ir.Graph, count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(-128, 128, (count, *graph.tensors[graph.input].shape[1:])).astype(np.int8)


@pytest.fixture(scope="module")
def made() -> dict[str, ir.Graph]:
    return {make.__name__: int8(make()) for make in MADE}


def test_made_graphs_give_the_codes_of_the_reference(made):
    models = {name: emit(graph, name) for name, graph in made.items()}
    library = host.compile(list(models.values()), STRICT)
    for name, graph in made.items():
        x = codes(graph, 50)
        assert np.array_equal(host.Program(library, models[name]).run(x), reference.run(graph, x)), name


@pytest.mark.slow
@pytest.mark.parametrize("path", ZOO, ids=lambda path: path.parent.name)
def test_the_zoo_gives_the_codes_of_the_reference(path):
    assert_model(from_tflite.read(path), path.parent.name)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in FOREIGN if "float" not in path.name], ids=lambda path: path.stem)
def test_models_by_others_give_the_codes_of_the_reference(path):
    assert_model(from_tflite.read(path), path.stem)


def assert_model(graph: ir.Graph, name: str) -> None:
    """Bit for bit on 50 inputs, in an arena near what is alive at once."""
    sources = emit(graph, name)
    assert sources.arena_bytes <= ARENA_OVER_BOUND * sources.lower_bound
    x = codes(graph, 50)
    found = host.Program(host.compile([sources]), sources).run(x)
    assert np.array_equal(found, reference.run(graph, x))


def test_the_same_graph_gives_the_same_bytes(made):
    graph = made["streams"]
    assert emit(graph, "streams") == emit(replace(graph, tensors=dict(reversed(graph.tensors.items()))), "streams")


def test_every_layer_is_a_function_of_its_own_and_constants_are_constant(made):
    sources = emit(made["inverted_residual"], "net")
    text = sources.files["net.c"]
    functions = [layer.function for layer in sources.layers if layer.function]
    assert len(set(functions)) == len(functions)
    for function in functions:
        assert f"static EDGEQ_NOINLINE void {function}(const int8_t *x0" in text and f"  {function}(net_arena" in text
    declared = re.findall(r"^(.*)\[\d*\w*\] = \{$", text, re.MULTILINE)
    assert declared and all("const" in line for line in declared)
    assert sum(layer.constants for layer in sources.layers) >= sources.constants > 0


def test_the_header_says_what_a_caller_needs(made, tmp_path):
    """A C program that includes it prints the facts and the labels, whatever these are."""
    graph = replace(made["chain"], metadata={"licence": "CC-BY-4.0 */ sneaky"})
    classes = math.prod(graph.tensors[graph.output].shape)
    labels = ['quote " back\\slash', "what??/", "näh, 木"]
    sources = emit(graph, "My model-1", labels)
    assert sources.prefix == "my_model_1"
    for name, text in sources.files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "main.c").write_text("""#include "my_model_1.h"
#include <stdio.h>
int main(void) {
  printf("%d %d %d %d %.9g %.9g\\n", MY_MODEL_1_INPUT_BYTES, MY_MODEL_1_CLASSES, MY_MODEL_1_INPUT_ZERO_POINT,
         MY_MODEL_1_OUTPUT_ZERO_POINT, (double)MY_MODEL_1_INPUT_SCALE, (double)MY_MODEL_1_OUTPUT_SCALE);
  for (int i = 0; i < MY_MODEL_1_CLASSES; i++) puts(my_model_1_labels[i]);
  return 0;
}
""")
    flags = (*host.FLAGS, "-trigraphs", "-Wno-trigraphs")
    command = [*(host.compiler() or ()), *flags, "main.c", "my_model_1.c", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    facts, *said = (
        subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True).stdout.decode().splitlines()
    )
    taken, given = (graph.tensors[name] for name in (graph.input, graph.output))
    found = [float(word) for word in facts.split()]
    expected = [math.prod(taken.shape), classes, taken.quantization.zero_point[0], given.quantization.zero_point[0]]
    assert found[:4] == expected
    assert [np.float32(x) for x in found[4:]] == [taken.quantization.scale[0], given.quantization.scale[0]]
    assert said == labels
    assert "CC-BY-4.0" in sources.files["my_model_1.h"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("esc10-qtiny", "esc10_qtiny"), ("7 sounds", "model_7_sounds"), ("edgeq", "model_edgeq"),
     ("edgeq_pool", "model_edgeq_pool"), ("string", "model_string"), ("élan", "lan"),
     ("--", "model_"), ("модель", "model_"), ("-o x", "o_x"),
     ("x" * 240, "x" * 60), ("y" * 59 + "-y", "y" * 59)],
)  # fmt: skip
def test_names_become_identifiers_that_clash_with_nothing(name, expected):
    assert identifier(name) == expected


def test_floats_and_labels_that_do_not_fit_are_refused(made):
    with pytest.raises(InputError, match="expected an INT8 model"):
        emit(graphs.chain(), "chain")
    with pytest.raises(InputError, match="2 labels for"):
        emit(made["chain"], "chain", ["yes", "no"])


def test_what_is_too_large_for_a_target_before_any_code_is_never_written(monkeypatch, made):
    unwritten = property(lambda array: pytest.fail("written"))
    target = targets.find("stm32l496")
    constants = emit(made["chain"], "chain", target=target).constants
    monkeypatch.setattr(Array, "declaration", unwritten)
    small = replace(target, flash=Memory(0, constants - 1), ram=Memory(0, 100))
    with pytest.raises(CheckFailed) as caught:
        emit(made["chain"], "chain", target=small)
    said = str(caught.value)
    assert said.startswith("chain does not fit stm32l496: 1 bytes of flash too many, the code not counted")
    assert re.search(rf"{constants:,} of {constants - 1:,}; SOFTMAX 'softmax' holds most, 1,024", said)
    assert re.search(r", and [\d,]+ bytes of RAM", said)


def test_a_compiler_that_is_not_there_is_told(monkeypatch, made):
    monkeypatch.setattr(host.shutil, "which", lambda name: None)
    monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install"):
        host.compile([emit(made["chain"], "chain")])
