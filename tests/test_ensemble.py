"""Ensembles: the mean of their members' answers, as spec, as network, lowered, in INT8, and made from bundles."""

import json
from dataclasses import replace
from functools import cache

import bundles
import numpy as np
import onnxruntime
import pytest
import torch
from architectures import inputs, lively
from hypothesis import given, settings
from hypothesis import strategies as st
from litert import run_litert
from safetensors.numpy import load
from scipy.special import expit, logit, softmax

from edgeq import bundle, fresh
from edgeq.audio.frontend import PRESETS as FRONTENDS
from edgeq.budget import BUDGETS
from edgeq.compress.ensemble import merge
from edgeq.errors import InputError
from edgeq.export.onnx import to_onnx
from edgeq.export.tflite import to_tflite
from edgeq.graph import from_onnx, from_tflite, quantize, reference
from edgeq.graph.check import check
from edgeq.lowering.trace import lower
from edgeq.nets import registry, spec
from edgeq.nets.count import count, totals
from edgeq.nets.spec import ArchitectureSpec, EnsembleSpec, SharedMaps
from edgeq.runtime.logits import logits_of_mean, onnx_logits, tflite_logits

SIX = ("dcase22-c1", "dcase22-c2", "dcase22-c3", "dcase22-c12", "dcase22-c23", "dcase22-c123")
SMALL = (
    ArchitectureSpec("dcase22", (4, 6, 8, 5), 3, (1, 20, 50)),
    ArchitectureSpec("dcase22", (6, 4, 8, 5), 3, (1, 20, 50)),
    ArchitectureSpec("dcase22", (6, 6, 5, 4), 3, (1, 20, 50)),
)
SHARED = (
    SharedMaps(1, "conv1", 0, 1, 2),
    SharedMaps(1, "conv1", 0, 0, 1),
    SharedMaps(2, "conv1", 1, 1, 2),
    SharedMaps(2, "conv2", 0, 0, 6),
    SharedMaps(2, "conv3", 1, 3, 5),
)
"""Runs of maps in any order, from several sources, once all of a layer's; the last makes two layers before it idle."""


def dcase() -> EnsembleSpec:
    return EnsembleSpec(tuple(registry.preset(name) for name in SIX))


@cache
def small(shared: bool = True, output: str = "softmax") -> tuple[EnsembleSpec, torch.nn.Module]:
    given_spec = EnsembleSpec(tuple(replace(one, output=output) for one in SMALL), SHARED if shared else ())
    return given_spec, lively(given_spec)


def by_hand(ensemble: EnsembleSpec, weights: dict[str, torch.Tensor], x: torch.Tensor) -> np.ndarray:
    """Logits of each member of an ensemble of dcase22, each map computed or taken over as the spec says."""
    maps: dict[tuple[int, str], torch.Tensor] = {}

    def layer(m: int, n: int, x: torch.Tensor) -> torch.Tensor:
        name = f"conv{n}"
        taken = ensemble.borrowed(m, name)
        own = []
        if (key := f"members.{m}.{name}.weight") in weights:
            w = {key.removeprefix(f"members.{m}."): value for key, value in weights.items()}
            y = torch.conv2d(x, weights[key], w[f"{name}.bias"], padding=1)
            y = torch.batch_norm(
                y, w[f"bn{n}.weight"], w[f"bn{n}.bias"], w[f"bn{n}.running_mean"], w[f"bn{n}.running_var"],
                False, 0.0, 1e-5, False,
            )  # fmt: skip
            y = y.relu() if n == 2 else y.tanh()
            y = y if n == 1 else torch.nn.functional.avg_pool2d(y, 5 if n == 2 else (4, 10))
            maps[m, name] = y
            own = [y]
        return torch.cat([*own, *(maps[e.source, name][:, e.start : e.start + e.channels] for e in taken)], 1)

    logits = []
    for m in range(len(ensemble.members)):
        y = x
        for n in (1, 2, 3):
            if n == 3 or any(key.startswith(f"members.{m}.conv{n + 1}.") for key in weights):
                y = layer(m, n, y)
        weight, bias = (weights[f"members.{m}.hidden.{part}"] for part in ("weight", "bias"))
        y = torch.tanh(y.flatten(1) @ weight.T + bias)
        weight, bias = (weights[f"members.{m}.classifier.{part}"] for part in ("weight", "bias"))
        logits.append((y @ weight.T + bias).numpy())
    return np.stack(logits)


# The spec


def test_json_gives_the_same_spec_back():
    for one in (dcase(), small()[0]):
        again = spec.from_json(json.loads(json.dumps(one.to_json())))
        assert again == one and isinstance(again, EnsembleSpec)
    assert spec.from_json(SMALL[0].to_json()) == SMALL[0]
    assert (one.family, one.classes, one.input_shape, one.output) == ("ensemble", 3, (1, 20, 50), "softmax")
    assert {member.classes for member in dcase().with_classes(4).members} == {4}
    assert dcase().with_input_shape((1, 40, 101)).input_shape == (1, 40, 101)


def test_what_is_no_ensemble_is_refused():
    member = SMALL[0]
    for members, message in (
        ((member,), "1 members: expected 2 to 64"),
        ((member,) * 65, "65 members: expected 2 to 64"),
        ((member, small()[0]), "member 1 is an ensemble itself: name its members"),
        ((member, member.with_classes(4)), "classes of member 0 is 3, of member 1 4"),
        ((member, replace(member, output="sigmoid")), "output of member 0 is softmax, of member 1 sigmoid"),
        ((member, replace(member, input_shape=(1, 20, 60))), r"input_shape of member 0 is \(1, 20, 50\)"),
    ):
        with pytest.raises(InputError, match=message):
            EnsembleSpec(members)
    for change, message in (
        ({"member": 3}, "member 3: expected at most 2"),
        ({"source": 1}, "member 1 takes them from 1: expected an earlier member"),
        ({"channels": 0}, "conv1: channels 0: expected 1 or more"),
        ({"start": True}, "conv1: start True"),
        ({"layer": 7}, "layer 7: expected its name"),
    ):
        with pytest.raises(InputError, match=message):
            EnsembleSpec(SMALL, (replace(SHARED[0], **change),))
    cnn5 = ArchitectureSpec("cnn5", (4,) * 5, 3, (1, 20, 50))
    with pytest.raises(InputError, match="of members dcase22 and cnn5: expected one family"):
        EnsembleSpec((member, cnn5), (SharedMaps(1, "conv1", 0, 0, 1),))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (SharedMaps(1, "conv9", 0, 0, 1), "conv9: called 0 times"),
        (SharedMaps(1, "hidden", 0, 0, 1), "hidden: of a Linear: expected a real convolution"),
        (SharedMaps(1, "conv1", 0, 0, 7), "7 channels: it has only 6"),
        (SharedMaps(1, "conv1", 0, 2, 3), "channels 2 to 5 of member 0, which computes 4 itself"),
    ],
)
def test_shared_maps_that_are_not_there_are_refused_by_name(entry, message):
    with pytest.raises(InputError, match=message):
        registry.build(EnsembleSpec(SMALL, (entry,)))


def test_quaternion_maps_are_not_shared():
    quaternion = registry.preset("qdcase22")
    with pytest.raises(InputError, match=r"QuaternionConv2d: .* the four components .* belong together"):
        registry.build(EnsembleSpec((quaternion, quaternion), (SharedMaps(1, "conv1", 0, 0, 4),)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 40) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_hostile_json_is_an_input_error_or_a_spec(data):
    """A valid ensemble with one thing anywhere in it replaced, left out or added."""
    fields = json.loads(json.dumps(small()[0].to_json()))
    place, key = fields, data.draw(st.sampled_from(["family", "members", "shared", "new"]))
    if key in ("members", "shared") and data.draw(st.booleans()):
        place, key = fields[key], data.draw(st.integers(0, len(fields[key]) - 1))
        if data.draw(st.booleans()):
            place, key = place[key], data.draw(st.sampled_from([*place[key], "new"]))
    if data.draw(st.booleans()) or key == "new":
        place[key] = data.draw(json_values)
    else:
        del place[key]
    try:
        found = spec.from_json(fields)
    except InputError:
        return
    assert spec.from_json(found.to_json()) == found


# The network


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("shared", [False, True])
def test_probabilities_are_the_mean_of_the_members(shared, output):
    ensemble, network = small(shared, output)
    x = inputs(ensemble)
    with torch.inference_mode():
        logits = network(x).numpy()
        each = by_hand(ensemble, network.state_dict(), x)
    if output == "softmax":
        np.testing.assert_allclose(softmax(logits, axis=1), softmax(each, axis=2).mean(0), rtol=1e-5)
    else:
        np.testing.assert_allclose(expit(logits), expit(each).mean(0), rtol=1e-5)


def test_logits_stay_finite_where_probabilities_round_to_nothing():
    far = torch.tensor([[300.0, 0.0, -300.0]])
    for output in ("softmax", "sigmoid"):
        _, network = small(False, output)
        other = far + torch.tensor([[0.0, 1.0, 0.0]])
        found = network.mean(far, other)
        assert torch.isfinite(found).all()
        np.testing.assert_allclose(found, logits_of_mean([far.numpy(), other.numpy()], output == "sigmoid"), rtol=1e-6)


def test_what_is_shared_is_stored_once_and_what_nothing_reads_is_left_out():
    ensemble, network = small()
    weights = network.state_dict()
    assert weights["members.1.conv1.weight"].shape == (3, 1, 3, 3)
    assert weights["members.1.bn1.running_var"].shape == (3,)
    assert weights["members.1.conv2.weight"].shape == (4, 6, 3, 3)
    assert not any(name.startswith(("members.2.conv", "members.2.bn")) for name in weights)
    costs, apart = (count(one, frontend()) for one in (ensemble, replace(ensemble, shared=())))
    saved = 3 * (1 * 9 * 20 * 50)  # 3 of member 1's filters; member 2 keeps its dense layers only
    saved += 20 * 50 * 9 * (6 * 1 + 6 * 6) + 4 * 10 * 9 * 6 * 5
    assert costs.macs["network"] == apart.macs["network"] - saved


def frontend():
    return replace(FRONTENDS["dcase2022"], n_mels=20)


def test_the_six_pruned_networks_of_the_paper_have_its_parameters():
    """70,966 with batch norm's statistics; the paper's 23.84 M MACs count pools too, without them 23,699,040."""
    counted = count(dcase(), FRONTENDS["dcase2022"])
    assert counted.parameters["with_statistics"] == 70_966
    assert counted.parameters["trainable"] == 70_314
    assert counted.macs["network"] == 23_699_040
    assert not BUDGETS["dcase2022"].judge(counted.parameters["lowered"], counted.macs["network"])
    each = [totals(member, FRONTENDS["dcase2022"]) for member in dcase().members]
    found = totals(dcase(), FRONTENDS["dcase2022"])
    for key in ("parameters", "stored", "lowered", "macs"):
        assert found[key] == sum(one[key] for one in each)


# Lowered and in INT8


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("shared", [False, True])
def test_one_graph_computes_it_in_float_and_bit_exactly_in_int8(shared, output):
    ensemble, network = small(shared, output)
    x = inputs(ensemble)
    windows = np.moveaxis(x.numpy(), 1, -1)
    with torch.inference_mode():
        logits = network(x)
        expected = (logits.softmax(1) if output == "softmax" else logits.sigmoid()).numpy()
    graph = check(lower(network, ensemble))
    assert sorted({name for op in graph.ops for name in op.inputs} & {op.output for op in graph.ops}) == sorted(
        op.output for op in graph.ops if op.output != graph.output
    )  # nothing is computed that nothing reads
    np.testing.assert_allclose(reference.run(graph, windows), expected, atol=1e-6)
    np.testing.assert_allclose(run_litert(graph, windows)[graph.output], expected, atol=1e-6)
    session = onnxruntime.InferenceSession(to_onnx(graph))
    np.testing.assert_allclose(session.run(None, {"input": x.numpy()})[0], expected, atol=1e-6)
    again = from_onnx.read(to_onnx(graph))
    assert [op.kind for op in again.ops] == [op.kind for op in graph.ops]
    np.testing.assert_array_equal(reference.run(again, windows), reference.run(graph, windows))
    int8 = check(quantize.quantize(graph, quantize.observe(graph, [windows])))
    codes = reference.quantize_input(int8, windows)
    mine = reference.run(int8, codes, keep=True)
    for name, values in run_litert(int8, codes).items():
        np.testing.assert_array_equal(mine[name], values, err_msg=name)
    read_back = from_tflite.read(to_tflite(int8))
    np.testing.assert_array_equal(reference.run(read_back, codes), mine[int8.output])


def test_the_mean_keeps_the_scale_of_probabilities_whatever_calibration_saw():
    """A range from undecided sounds would cut off the probabilities of clear ones."""
    ensemble, network = small(False)
    graph = lower(network, ensemble)
    ranges = quantize.observe(graph, [np.zeros((1, 20, 50, 1), np.float32)])
    assert ranges[graph.output][1] < 0.9
    parameters = quantize.quantize(graph, ranges).tensors[graph.output].quantization
    assert parameters is not None
    assert (parameters.scale[0], parameters.zero_point[0]) == (1 / 256, -128)


@pytest.mark.parametrize("read", [tflite_logits, onnx_logits])
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_logits_of_an_int8_ensemble_are_those_of_the_mean_of_its_members(read, output, tmp_path):
    ensemble, network = small(True, output)
    x = inputs(ensemble)
    graph = lower(network, ensemble)
    int8 = quantize.quantize(graph, quantize.observe(graph, [np.moveaxis(x.numpy(), 1, -1)]))
    path = tmp_path / "file"
    path.write_bytes((to_onnx if read is onnx_logits else to_tflite)(int8))
    with torch.inference_mode():
        each = by_hand(ensemble, network.state_dict(), x).astype(np.float64)
    mean = softmax(each, axis=2).mean(0) if output == "softmax" else expit(each).mean(0)
    expected = np.log(mean) if output == "softmax" else logit(mean)
    np.testing.assert_allclose(read(path, x.numpy()), expected, atol=0.1)


# Merged from bundles


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """Three small bundles behind one front end."""
    folder = tmp_path_factory.mktemp("members")
    return [written(folder / f"member-{number}", number) for number in range(3)]


def written(folder, number, **changes):
    architecture = ArchitectureSpec("cnn5", (4, 8, 4, 8, 4 + number), len(bundles.LABELS), bundles.FRONTEND.input_shape)
    torch.manual_seed(number)
    weights = {
        name: value.numpy() for name, value in lively(architecture).state_dict().items() if value.is_floating_point()
    }
    fields = {
        "name": f"member-{number}",
        "architecture": architecture,
        "frontend": bundles.FRONTEND,
        "labels": bundles.LABELS,
        "weights": weights,
    }
    return bundle.write(folder, **{**fields, **changes})


def test_merged_bundles_answer_with_the_mean_of_what_each_answers(members):
    from edgeq import runtime

    network, ensemble = merge(members)
    assert ensemble == EnsembleSpec(tuple(one.architecture for one in members))
    x = bundles.sounds()[:8]
    each = [runtime.open(one, stage="torch").predict(x) for one in members]
    with torch.inference_mode():
        found = network(torch.from_numpy(x)).softmax(1).numpy()
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-6)
    assert not network.training


def test_a_merged_bundle_holds_each_members_weights_and_reloads(members, tmp_path):
    from edgeq.runtime.torch import network as opened_network

    network, ensemble = merge(members)
    both = fresh.write_network(
        tmp_path / "both", network, ensemble, bundles.FRONTEND, name="both", labels=bundles.LABELS, provenance={},
        licence="",
    )  # fmt: skip
    again = bundle.read(both.folder)
    assert again.architecture == ensemble
    stored = load((both.folder / bundle.WEIGHTS).read_bytes())
    for number, one in enumerate(members):
        for name, value in one.weights().items():
            np.testing.assert_array_equal(stored[f"members.{number}.{name}"], value)
    x = torch.from_numpy(bundles.sounds()[:4])
    with torch.inference_mode():
        torch.testing.assert_close(opened_network(again)(x), network(x), rtol=0, atol=0)
    with pytest.raises(InputError, match="is an ensemble itself: name its members"):
        merge([members[0], again])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"labels": ("bark", "hum", "chirp", "knock")},
            r"4 labels \(bark, chirp, hum, knock\) and 4 labels \(bark, hum",
        ),
        (
            {"frontend": replace(bundles.FRONTEND, mean=(-22.5,))},
            r"mean is -20.0 and -22.5 \(2.5 apart\): expected one for all members",
        ),
        ({"frontend": replace(bundles.FRONTEND, gate=None)}, "gate is -55.0 and None: expected one"),
        ({"frontend": replace(bundles.FRONTEND, pad="repeat")}, "pad is zero and repeat: expected one"),
        ({"frontend": replace(bundles.FRONTEND, hop_length=161)}, r"hop_length is 160 and 161 \(1 apart\)"),
    ],
)
def test_members_that_do_not_belong_together_are_refused_by_field(members, tmp_path, changes, message):
    other = written(tmp_path / "other", 1, **changes)
    with pytest.raises(InputError, match=message):
        merge([members[0], other])


def test_one_member_and_one_twice_are_refused(members, tmp_path):
    with pytest.raises(InputError, match="an ensemble of 1 model: expected at least 2"):
        merge(members[:1])
    again = written(tmp_path / "again", 0, name="again")
    with pytest.raises(InputError, match=f"{again.folder}: has the weights of {members[0].folder}"):
        merge([members[0], again])
