"""PANNs' checkpoints: the key map on the published names and shapes, and the forward pass by those names."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from architectures import small
from scipy.signal import get_window
from scripts import script
from torch import Tensor
from torch.nn import functional

from edgeq import bundle, fresh, goldens
from edgeq.audio.frontend import PRESETS as FRONT_ENDS
from edgeq.errors import InputError
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec

convert_panns = script("tools/convert_panns.py")

FRONTEND = FRONT_ENDS["panns-32k"]
STFT = tuple(f"spectrogram_extractor.stft.conv_{part}.weight" for part in ("real", "imag"))


def shapes(network: str, narrow: int = 1, mels: int = 64, classes: int = 527) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published state dict; `narrow` divides the widths."""
    found: dict[str, tuple[int, ...]] = {**dict.fromkeys(STFT, (513, 1, 1024)), "logmel_extractor.melW": (513, 64)}

    def norm(name: str, width: int) -> None:
        found.update({f"{name}.{key}": (width,) for key in ("weight", "bias", "running_mean", "running_var")})
        found[f"{name}.num_batches_tracked"] = ()

    def block(name: str, channels: int, width: int) -> None:
        channels, width = max(1, channels // narrow), width // narrow
        found[f"{name}.conv1.weight"] = (width, channels, 3, 3)
        found[f"{name}.conv2.weight"] = (width, width, 3, 3)
        norm(f"{name}.bn1", width)
        norm(f"{name}.bn2", width)

    norm("bn0", mels)
    if network == "cnn14":
        widths = (1, 64, 128, 256, 512, 1024, 2048)
        for number in range(1, 7):
            block(f"conv_block{number}", widths[number - 1], widths[number])
    else:
        block("conv_block1", 1, 64)
        channels = 64
        for stage, (count, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
            for number in range(count):
                block(f"resnet.layer{stage}.{number}", channels, width)
                if number == 0 and stage > 1:
                    name = f"resnet.layer{stage}.0.downsample"
                    found[f"{name}.1.weight"] = (width // narrow, channels // narrow, 1, 1)
                    norm(f"{name}.2", width // narrow)
                channels = width
        block("conv_block_after1", 512, 2048)
    hidden = 2048 // narrow
    found |= {"fc1.weight": (hidden, hidden), "fc1.bias": (hidden,)}
    found |= {"fc_audioset.weight": (classes, hidden), "fc_audioset.bias": (classes,)}
    return found


def matrices() -> dict[str, Tensor]:
    """The frozen front end by librosa and scipy."""
    waves = np.fft.fft(np.eye(1024))[:, :513] * get_window("hann", 1024)[:, None]
    filters = librosa.filters.mel(sr=32_000, n_fft=1024, n_mels=64, fmin=50, fmax=14_000)
    parts = (*(part.T[:, None] for part in (waves.real, waves.imag)), filters.T)
    return {
        name: torch.from_numpy(np.ascontiguousarray(part)).float()
        for name, part in zip((*STFT, "logmel_extractor.melW"), parts, strict=True)
    }


def published(network: str) -> dict[str, Tensor]:
    """The published state dict without its numbers."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes(network).items()}


def drawn(network: str, narrow: int, dtype: torch.dtype = torch.float32, **sizes: int) -> dict[str, Tensor]:
    """A state dict of published names with lively numbers, and the true front end."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}
    for name, shape in shapes(network, narrow, **sizes).items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif len(shape) > 1:
            fan_in = int(np.prod(shape[1:]))
            state[name] = torch.empty(shape, dtype=dtype).uniform_(-1, 1).mul_((6 / fan_in) ** 0.5)
        else:
            low, high = (0.5, 1.5) if name.endswith(("running_var", "weight")) else (-0.3, 0.3)
            state[name] = torch.empty(shape, dtype=dtype).uniform_(low, high)
    return state | matrices()


def spec_of(network: str, narrow: int, mels: int, frames: int, classes: int) -> ArchitectureSpec:
    spec = registry.PRESETS[network]
    widths = tuple(width // narrow for width in spec.widths)
    return replace(spec, widths=widths, classes=classes, input_shape=(1, mels, frames))


def forward(state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """PANNs' forward pass in evaluation, log-mel (N, 1, time, mel) to logits, by the names of its state dict."""

    def norm(x: Tensor, name: str) -> Tensor:
        keys = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(state[f"{name}.{key}"].float() for key in keys))

    def conv(x: Tensor, name: str) -> Tensor:
        kernel = state[f"{name}.weight"].float()
        return functional.conv2d(x, kernel, padding=kernel.shape[2] // 2)

    def two(x: Tensor, name: str) -> Tensor:
        x = functional.relu(norm(conv(x, f"{name}.conv1"), f"{name}.bn1"))
        return norm(conv(x, f"{name}.conv2"), f"{name}.bn2")

    def residual(x: Tensor, name: str) -> Tensor:
        if f"{name}.downsample.1.weight" not in state:
            return functional.relu(two(x, name) + x)
        x = functional.avg_pool2d(x, 2)
        return functional.relu(two(x, name) + norm(conv(x, f"{name}.downsample.1"), f"{name}.downsample.2"))

    x = norm(x.transpose(1, 3), "bn0").transpose(1, 3)
    if "conv_block_after1.conv1.weight" in state:
        x = functional.avg_pool2d(functional.relu(two(x, "conv_block1")), 2)
        for stage, count in enumerate((3, 4, 6, 3), 1):
            for number in range(count):
                x = residual(x, f"resnet.layer{stage}.{number}")
        x = functional.relu(two(functional.avg_pool2d(x, 2), "conv_block_after1"))
    else:
        for number in range(1, 7):
            x = functional.relu(two(x, f"conv_block{number}"))
            x = functional.avg_pool2d(x, 2) if number < 6 else x
    x = x.mean(dim=3)
    x = x.amax(dim=2) + x.mean(dim=2)
    x = functional.relu(functional.linear(x, state["fc1.weight"].float(), state["fc1.bias"].float()))
    return functional.linear(x, state["fc_audioset.weight"].float(), state["fc_audioset.bias"].float())


@pytest.mark.parametrize(("network", "trainable"), [("cnn14", 80_753_615), ("resnet38", 73_783_247)])
def test_every_published_tensor_has_its_place(network: str, trainable: int) -> None:
    state = published(network)
    weights = convert_panns.converted(state, registry.PRESETS[network])
    with torch.device("meta"):
        built = registry.build(registry.PRESETS[network])
    own = {name: value.shape for name, value in built.state_dict().items() if "num_batches_tracked" not in name}
    assert {name: value.shape for name, value in weights.items()} == own
    learned = [name for name, _ in built.named_parameters()]
    assert sum(weights[name].numel() for name in learned) == trainable
    # One to one: nothing published is left over but counters and the front end, nothing is taken twice.
    names = {convert_panns.published_name(name, network): name for name in weights}
    assert len(names) == len(weights)
    rest = set(state) - set(names)
    assert {name for name in rest if not name.endswith("num_batches_tracked")} == set(matrices())


@pytest.mark.parametrize("network", ["cnn14", "resnet38"])
def test_the_converted_network_computes_what_the_published_one_does(network: str) -> None:
    state = drawn(network, 16, mels=33, classes=7)
    spec = spec_of(network, 16, 33, 70, 7)
    assert spec == small(network)
    built = registry.build(spec).eval()
    built.load_state_dict(convert_panns.converted(state, spec), strict=False)
    x = torch.randn(2, 1, 70, 33)
    with torch.inference_mode():
        found, expected = built(x.transpose(2, 3)), forward(state, x)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def changed(state: dict[str, Tensor], name: str, shape: tuple[int, ...] | None) -> dict[str, Tensor]:
    """The state dict without a tensor, or with one of another shape."""
    rest = {key: value for key, value in state.items() if key != name}
    return rest if shape is None else {**rest, name: torch.empty(shape, device="meta")}


@pytest.mark.parametrize(
    ("network", "name", "shape", "message"),
    [
        ("cnn14", "fc1.bias", None, r"found no fc1\.bias, expected \(2048,\) for head\.fc1\.bias of cnn14"),
        ("cnn14", "conv_block4.bn2.running_var", None, r"found no conv_block4\.bn2\.running_var, expected \(512,\)"),
        (
            "cnn14",
            "conv_block1.conv1.weight",
            (64, 4, 3, 3),
            r"conv_block1\.conv1\.weight is \(64, 4, 3, 3\), expected \(64, 1, 3, 3\)",
        ),
        ("cnn14", "fc_audioset.weight", (50, 2048), r"fc_audioset\.weight is \(50, 2048\), expected \(527, 2048\)"),
        (
            "cnn14",
            "att_block.att.weight",
            (527, 2048, 1),
            r"found att_block\.att\.weight \(527, 2048, 1\), expected no such tensor in cnn14",
        ),
        (
            "resnet38",
            "resnet.layer3.0.downsample.1.weight",
            None,
            r"found no resnet\.layer3\.0\.downsample\.1\.weight, expected \(256, 128, 1, 1\) for layer3\.0\.skip",
        ),
        ("resnet38", "resnet.layer4.3.conv1.weight", (512, 512, 3, 3), r"found resnet\.layer4\.3\.conv1\.weight"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused_by_name(
    network: str, name: str, shape: tuple[int, ...] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        convert_panns.converted(changed(published(network), name, shape), registry.PRESETS[network])
    assert "\n" not in str(refused.value)


def test_one_network_is_not_taken_for_the_other() -> None:
    with pytest.raises(InputError, match=r"found no conv_block2\.conv1\.weight"):
        convert_panns.converted(published("resnet38"), registry.PRESETS["cnn14"])


def test_the_frozen_front_end_is_compared() -> None:
    state = matrices()
    assert convert_panns.check_frontend(state, FRONTEND) == list(state)
    assert convert_panns.check_frontend({}, FRONTEND) == []
    for name, matrix in state.items():
        with pytest.raises(InputError, match=f"{name} differs from the front end panns-32k by"):
            convert_panns.check_frontend({**state, name: matrix * 1.001}, FRONTEND)
        with pytest.raises(InputError, match=f"{name} differs"):
            convert_panns.check_frontend({**state, name: matrix * float("nan")}, FRONTEND)
    lower = torch.from_numpy(librosa.filters.mel(sr=32_000, n_fft=1024, n_mels=64, fmin=50, fmax=8_000).T.copy())
    with pytest.raises(InputError, match="another front end"):
        convert_panns.check_frontend({"logmel_extractor.melW": lower}, FRONTEND)
    with pytest.raises(InputError, match=r"conv_real\.weight is \(257, 1, 512\), expected \(513, 1, 1024\)"):
        convert_panns.check_frontend({STFT[0]: torch.zeros(257, 1, 512)}, FRONTEND)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A narrow CNN14 with 7 classes on 0.64 s, as PANNs saves one; the tool takes it for the whole."""
    frontend = replace(FRONTEND, window_seconds=0.64)
    spec = spec_of("cnn14", 16, 64, 65, 7)
    monkeypatch.setattr(fresh, "specs", lambda name: {"cnn14": (spec, frontend)}[name])
    path = tmp_path / "narrow.pth"
    training = {"iteration": 600_000, "sampler": {"queue": np.arange(4), "loss": np.float64(0.1)}}
    torch.save({"model": drawn("cnn14", 16, classes=7), **training}, path)
    return path


def run(*arguments: object) -> None:
    convert_panns.main([str(argument) for argument in arguments])


def test_a_checkpoint_becomes_a_bundle(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "class_labels_indices.csv"
    labels.write_text("index,mid,display_name\n" + "".join(f'{n},/m/{n},"sound, {n}"\n' for n in range(7)))
    output = tmp_path / "panns"
    run(checkpoint, "cnn14", "-o", output, "--labels", labels, "--licence", "CC-BY-4.0")
    assert str(output) in capsys.readouterr().out
    written = bundle.read(output)
    bundle.check(written)
    assert (written.name, written.licence) == ("panns-cnn14", "CC-BY-4.0")
    assert written.labels == tuple(f"sound, {n}" for n in range(7))
    assert written.provenance["checkpoint"] == "narrow.pth"
    assert written.provenance["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert written.provenance["frontend_compared"] == list(matrices())
    # What the bundle's network answered is what PANNs' answers.
    answers = written.goldens()
    inputs = torch.from_numpy(goldens.inputs(answers.seeds, written.frontend))
    with torch.inference_mode():
        expected = forward(drawn("cnn14", 16, classes=7), inputs.transpose(2, 3)).sigmoid()
    np.testing.assert_allclose(answers.outputs, expected, rtol=1e-3, atol=1e-4)
    assert answers.gate == goldens.SQNR
    assert set(written.ranges()) > {"input"}


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What is said on stderr, in one line, with exit code 2."""
    with pytest.raises(SystemExit) as left:
        run(*arguments)
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_files_that_are_something_else_are_refused_in_one_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    rest = ("cnn14", "-o", output, "--licence", "unknown")
    assert "gone.pth: cannot be read" in refused(capsys, tmp_path / "gone.pth", *rest)
    contents: dict[str, tuple[object, str]] = {
        "code.pth": ({"model": argparse.Namespace()}, "which would run code"),
        "list.pth": ([torch.ones(2)], "found no state dict"),
        "numbers.pth": ({"model": {"bn0.weight": 3}}, "found no state dict"),
        "sparse.pth": ({"model": {"bn0.bias": torch.ones(64).to_sparse()}}, "bn0.bias is torch.sparse_coo, expected"),
        "meta.pth": ({"model": {"bn0.bias": torch.ones(64, device="meta")}}, "bn0.bias has no numbers, expected"),
        "nan.pth": ({"model": {"bn0.bias": torch.full((64,), torch.nan)}}, "bn0.bias holds NaN or infinity"),
        "empty.pth": ({"model": {}}, "empty.pth: found no bn0.weight, expected (64,) for bn0.weight of cnn14"),
    }
    for name, (content, message) in contents.items():
        torch.save(content, tmp_path / name)
        assert message in refused(capsys, tmp_path / name, *rest)
    for junk in (b"", b"not a checkpoint", checkpoint.read_bytes()[:5000]):
        (tmp_path / "junk.pth").write_bytes(junk)
        assert "junk.pth: " in refused(capsys, tmp_path / "junk.pth", *rest)
    (tmp_path / "code.pkl").write_bytes(pickle.dumps({"model": argparse.Namespace()}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "which would run code" in refused(capsys, tmp_path / "code.pkl", *rest)
    assert "name '../out'" in refused(capsys, tmp_path / "gone.pth", *rest, "--name", "../out")
    assert not output.exists()


def test_a_network_with_gradients_on_is_read_as_numbers(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.nn.Parameter(torch.ones(2))}}, tmp_path / "grown.pth")
    assert convert_panns.read(tmp_path / "grown.pth")["a"].numpy().tolist() == [1, 1]


def test_numbers_of_an_older_numpy_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    content = {"model": {"a": torch.ones(2)}, "sampler": [np.arange(3), np.float64(1)]}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    saved = path.read_bytes()
    if np.__version__ >= "2":
        assert b"numpy._core.multiarray" in saved
    path.write_bytes(saved.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert convert_panns.read(path)["a"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "0 classes, expected 3"),
        ("index,mid,display_name\n0,a,b\n", "1 classes, expected 3"),
        ("index,mid,display_name\n0,a,b\n2,a,c\n1,a,d\n", "row 3: index '2', display_name 'c': expected 1 and a name"),
        ("index,mid,display_name\n0,a,b\n1,a,\n2,a,d\n", "row 3: index '1', display_name ''"),
        ("index,mid,display_name\n0,a,b\n1,a,c\n2,a,b\n", "label 'b' comes twice"),
        ("index,name\n0,a\n1,b\n2,c\n", "row 2: index '0', display_name None"),
        (None, "cannot be read"),
    ],
)
def test_labels_are_one_a_class_in_order(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "labels.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as refused:
        convert_panns.read_labels(path, 3)
    assert str(refused.value).startswith(f"{path}:")


@pytest.mark.slow
def test_a_whole_cnn14_in_half_precision_is_read_and_runs(tmp_path: Path) -> None:
    path = tmp_path / "Cnn14.pth"
    torch.save({"model": drawn("cnn14", 1, torch.float16)}, path)
    state = convert_panns.read(path)
    spec = registry.PRESETS["cnn14"]
    assert convert_panns.check_frontend(state, FRONTEND) == list(matrices())
    with torch.device("meta"):  # no second set of weights
        built = registry.build(spec).eval()
    built.load_state_dict(convert_panns.converted(state, spec), strict=False, assign=True)
    x = torch.randn(1, 1, 96, 64)
    with torch.inference_mode():
        torch.testing.assert_close(built(x.transpose(2, 3)), forward(state, x), rtol=1e-3, atol=1e-3)
