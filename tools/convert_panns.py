"""Turn a published checkpoint of PANNs into an edgeq bundle of cnn14 or resnet38.

    python tools/convert_panns.py Cnn14_mAP=0.431.pth cnn14 -o build/panns-cnn14 \\
        --labels class_labels_indices.csv --licence "as stated where the file came from"
    edgeq export build/panns-cnn14 --onnx --tflite -o build/panns-cnn14

The checkpoint is what PANNs' training saves, {"model": state dict, ...}: Cnn14_mAP=0.431.pth and ResNet38_mAP=0.434.pth
of Zenodo record 3987831. It is read without running any code in it. Nothing is downloaded.

Its tensors become edgeq's under these names, numbers and what follows a name (conv1.weight, bn2.running_var, ...) as
they are:

    PANNs                                   edgeq
    bn0                                     bn0
    conv_block1 ... conv_block6             block1 ... block6        (cnn14)
    conv_block1                             stem                     (resnet38, from here)
    resnet.layer1.0 ... resnet.layer4.2     layer1.0 ... layer4.2
    resnet.layer2.0.downsample.1, .2        layer2.0.skip.0, .1
    conv_block_after1                       after1                   (resnet38, to here)
    fc1                                     head.fc1
    fc_audioset                             head.classifier

Kernels of convolutions are (out, in, time, mel) there and (out, in, mel, time) here: transposed. Batch norm's counters
(num_batches_tracked), which only training uses, are left out. spectrogram_extractor.stft.conv_real.weight and
.conv_imag.weight and logmel_extractor.melW are the frozen front end as matrices: where the file has them they are
compared with edgeq's `panns-32k`, which takes their place. Any other tensor, and any that is missing or of another
shape, is refused by name.

A bundle has goldens and ranges from synthetic sounds, as an untrained architecture has: give `edgeq export --int8`
recordings of your own with --calib.

What is not converted: a real network is no quaternion network, and there is no option here that makes it one. A layer
has a nearest quaternion kernel (edgeq.lowering.block.nearest_components) where its channels are multiples of 4 on both
sides. The first layer here, of one channel, has none; and of a layer whose weights have no quaternion structure the
nearest kernel misses 0.87 of the norm: 0.86 to 0.87 in every layer of the zoo's real networks. What such a network
computes is lost with it, and batch norm's statistics, taken behind the real layers, no longer hold. Whether training
goes better from there than from a random start has not been measured.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import pickle
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeq import bundle, fresh, manifest
from edgeq.audio.frontend import FrontendSpec, mel_filterbank, stft_window
from edgeq.bundle import Bundle
from edgeq.errors import InputError, naming
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec

BLOCKS = tuple((f"block{number}", f"conv_block{number}") for number in range(1, 7))
RESIDUAL = (
    ("stem", "conv_block1"),
    *((f"layer{number}", f"resnet.layer{number}") for number in range(1, 5)),
    ("after1", "conv_block_after1"),
)
HEAD = (("bn0", "bn0"), ("head.fc1", "fc1"), ("head.classifier", "fc_audioset"))
MODULES = {"cnn14": (*BLOCKS, *HEAD), "resnet38": (*RESIDUAL, *HEAD)}
"""What a network's modules are called here, and in PANNs."""

SKIP = (("skip.0", "downsample.1"), ("skip.1", "downsample.2"))
"""The same inside a residual block; PANNs counts the pool before the convolution."""

FRONTEND = (
    "spectrogram_extractor.stft.conv_real.weight",
    "spectrogram_extractor.stft.conv_imag.weight",
    "logmel_extractor.melW",
)
"""The frozen front end: windowed cosines and negative sines (bins, 1, n_fft), mel filters (bins, mels)."""

TOLERANCE = 1e-5
"""Largest difference of a front end's matrix, over the matrix's largest value: float32 and the ways to compute it."""


def main(arguments: list[str] | None = None) -> None:
    documentation = __doc__ or ""
    parser = argparse.ArgumentParser(
        description=documentation.partition("\n")[0],
        epilog=documentation.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="the file as published")
    parser.add_argument("architecture", choices=sorted(MODULES), help="the network that it holds")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--licence", required=True, help="licence of the weights, as stated where they came from")
    parser.add_argument("--labels", type=Path, help="AudioSet's class_labels_indices.csv: index, mid, display_name")
    parser.add_argument("--name", help="name of the bundle, panns-ARCHITECTURE unless given")
    given = parser.parse_args(arguments)
    name = given.name or f"panns-{given.architecture}"
    try:
        written = convert(given.checkpoint, given.architecture, given.output, name, given.licence, given.labels)
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(written)


def convert(
    checkpoint: Path, architecture: str, output: Path, name: str, licence: str, labels: Path | None = None
) -> Bundle:
    """Write the bundle of a checkpoint. labels: a CSV of class names, else classes are numbered.

    Raises InputError where a file is something else, or the checkpoint is not of this architecture and its front end.
    """
    bundle.check_place(output)
    manifest.checked_name(name)
    spec, frontend = fresh.specs(architecture)
    numbers = [f"class_{number}" for number in range(spec.classes)]
    names = numbers if labels is None else read_labels(labels, spec.classes)
    state = read(checkpoint)
    with naming(checkpoint):
        compared = check_frontend(state, frontend)
        weights = converted(state, spec)
    network = registry.build(spec).eval()
    network.load_state_dict(weights, strict=False)  # what is missing are counters
    with checkpoint.open("rb") as handle:
        sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
    provenance = {
        "weights": "PANNs (Kong et al. 2020), converted",
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": sha256,
        "frontend_compared": compared,
        "edgeq": version("edgeq"),
    }
    return fresh.write_network(
        output, network, spec, frontend, name=name, labels=names, provenance=provenance, licence=licence
    )


def read(checkpoint: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint. Raises InputError where the file is something else."""
    try:
        # Beside the weights there may be NumPy values of the training, which hold no code either.
        with torch.serialization.safe_globals(_numpy_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it refuses it also warns of
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{checkpoint}: cannot be read ({error.strerror}); expected a checkpoint of PANNs") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{checkpoint}: no checkpoint, or one with more than numbers in it, which would run code; where you trust "
            'it, save {"model": its state dict} with torch.save'
        ) from error
    except Exception as error:  # torch's reader fails in any way on a file that is something else
        kind = type(error).__name__
        raise InputError(f"{checkpoint}: not a checkpoint of PANNs ({kind}); download it again") from error
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f'{checkpoint}: found no state dict, expected PANNs\' {{"model": state dict}}')
    for name, value in state.items():
        if value.layout != torch.strided or value.is_meta:
            found = "has no numbers" if value.is_meta else f"is {value.layout}"
            raise InputError(f"{checkpoint}: {name} {found}, expected dense numbers; take the file as published")
        if value.is_floating_point() and not value.float().isfinite().all():
            raise InputError(f"{checkpoint}: {name} holds NaN or infinity; take the file as published")
    return {name: value.detach() for name, value in state.items()}


def converted(state: Mapping[str, Tensor], spec: ArchitectureSpec) -> dict[str, Tensor]:
    """A state dict of PANNs under edgeq's names and in its layout, float32, without counters of batch norm.

    Raises InputError naming the tensor where one is missing, of another shape or kind, or has no place.
    """
    with torch.device("meta"):
        network = registry.build(spec).state_dict()
    weights = {}
    for ours, value in network.items():
        if ours.endswith("num_batches_tracked"):
            continue
        theirs, shape = published_name(ours, spec.family), tuple(_transposed(value).shape)
        if theirs not in state:
            raise InputError(
                f"found no {theirs}, expected {shape} for {ours} of {spec.family}; name the network that the file holds"
            )
        found = state[theirs]
        _check_shape(theirs, found, shape)
        if not found.is_floating_point():
            raise InputError(f"{theirs} is {found.dtype}, expected floating point; take the file as published")
        weights[ours] = _transposed(found).float()
    known = {published_name(name, spec.family) for name in network} | set(FRONTEND)
    for name, value in state.items():
        if name not in known:
            raise InputError(
                f"found {name} {tuple(value.shape)}, expected no such tensor in {spec.family}; "
                "name the network that the file holds"
            )
    return weights


def published_name(name: str, family: str) -> str:
    """What PANNs calls a tensor of an edgeq network."""
    ours, theirs = next(pair for pair in MODULES[family] if name.startswith(f"{pair[0]}."))
    name = theirs + name.removeprefix(ours)
    for ours, theirs in SKIP:
        name = name.replace(f".{ours}.", f".{theirs}.")
    return name


def check_frontend(state: Mapping[str, Tensor], frontend: FrontendSpec) -> list[str]:
    """Compare the matrices of the frozen front end, where the state dict has them, with a front end of edgeq.

    Returns the names of those compared. Raises InputError where one has another shape or other values.
    """
    compared = [name for name in FRONTEND if name in state]
    matrices = dict(zip(FRONTEND, _frontend_matrices(frontend), strict=True))
    for name in compared:
        expected = matrices[name]
        _check_shape(name, state[name], expected.shape)
        difference = np.abs(state[name].double().numpy() - expected).max() / np.abs(expected).max()
        if not difference <= TOLERANCE:
            raise InputError(
                f"{name} differs from the front end panns-32k by {difference:.1e} of its largest value, expected at "
                f"most {TOLERANCE:g}; the checkpoint is of a network with another front end"
            )
    return compared


def read_labels(path: Path, classes: int) -> list[str]:
    """Class names of a CSV with the columns index (0, 1, ...) and display_name. Raises InputError where it is not."""
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected AudioSet's class_labels_indices.csv") from error
    if len(rows) != classes:
        raise InputError(f"{path}: {len(rows)} classes, expected {classes}; take AudioSet's class_labels_indices.csv")
    for number, row in enumerate(rows):
        if row.get("index") != str(number) or not row.get("display_name"):
            raise InputError(
                f"{path}: row {number + 2}: index {row.get('index')!r}, display_name {row.get('display_name')!r}: "
                f"expected {number} and a name"
            )
    with naming(path):
        return list(manifest.checked_labels([row["display_name"] for row in rows], classes))


def _frontend_matrices(frontend: FrontendSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What FRONTEND names, of a front end of edgeq."""
    turns = np.outer(np.arange(frontend.n_fft // 2 + 1), np.arange(frontend.n_fft)) % frontend.n_fft
    waves = stft_window(frontend) * np.exp(-2j * np.pi / frontend.n_fft * turns)
    return waves.real[:, None], waves.imag[:, None], mel_filterbank(frontend).T


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.transpose(2, 3) if tensor.ndim == 4 else tensor


def _check_shape(name: str, found: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(found.shape) != shape:
        raise InputError(f"{name} is {tuple(found.shape)}, expected {shape}; name the network that the file holds")


def _numpy_globals() -> list[Any]:
    """What torch's reader has to know to read NumPy arrays and numbers, also as NumPy 1 wrote them."""
    array, scalar = np.zeros(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    legacy = [(array, "numpy.core.multiarray._reconstruct"), (scalar, "numpy.core.multiarray.scalar")]
    kinds = {type(np.dtype(code)) for code in np.typecodes["All"]}
    return [np.ndarray, np.dtype, *kinds, array, scalar, *legacy]


if __name__ == "__main__":
    main()
