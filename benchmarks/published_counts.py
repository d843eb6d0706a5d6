"""What the papers print for parameters and MACs, beside what their networks hold and compute, and where figures part.

    python benchmarks/published_counts.py        # writes benchmarks/published_counts.md

Everything is counted from the architectures; nothing is measured, and no weights are made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeq import atomic, fresh
from edgeq.audio.spec import FrontendSpec
from edgeq.nets.count import Count, count
from edgeq.nets.registry import with_transfer_head

PAGE = Path(__file__).with_suffix(".md")

AUDIOSET = (
    # network, as the paper calls it, its parameters in millions and MACs in thousand millions, where it says so
    ("cnn14", "CNN14", "81", "21", "supplement II"),
    ("resnet38", "ResNet38", "74", "24", "supplement II"),
    ("cnn14-4ch", "Multi-channel CNN14", "80.00", "21.26", "Table IV"),
    ("resnet38-4ch", "Multi-channel ResNet38", "75.00", "24.55", "Table IV"),
    ("qcnn14", "QCNN14", "22.00", "36.33", "Table IV"),
    ("qcnn14-p25", "QCNN14 (p = 0.25)", "13.78", "16.70", "Table IV"),
    ("qcnn14-p50", "QCNN14 (p = 0.50)", "7.7", "6.34", "Section VI-A"),
    ("qresnet38", "QResNet38", "20.36", "29.51", "Table IV"),
    ("qresnet38-p50", "QResNet38 (p = 0.50)", "11.57", "7.90", "Table IV"),
    ("cnn14-p75", "CNN14 (p = 0.75)", "17.8", "9.7", "Section VI-A"),
)

TRANSFERS = (
    # corpus, classes, seconds, then as above (Table II)
    ("GTZAN", 10, 30, "cnn14", "CNN14", "80.00", "63.51"),
    ("GTZAN", 10, 30, "qcnn14-p75", "QCNN14 (p = 0.75)", "3.94", "4.28"),
    ("GTZAN", 10, 30, "qcnn14-p25", "QCNN14 (p = 0.25)", "13.76", "18.88"),
    ("GTZAN", 10, 30, "qresnet38-p25", "QResNet38 (p = 0.25)", "15.38", "17.79"),
    ("GTZAN", 10, 30, "qresnet38-p75", "QResNet38 (p = 0.75)", "8.95", "6.45"),
    ("ESC-50", 50, 5, "cnn14", "CNN14", "79.80", "10.52"),
    ("ESC-50", 50, 5, "qcnn14-p75", "QCNN14 (p = 0.75)", "3.96", "1.65"),
    ("ESC-50", 50, 5, "qcnn14-p25", "QCNN14 (p = 0.25)", "13.78", "16.17"),
    ("ESC-50", 50, 5, "qresnet38-p75", "QResNet38 (p = 0.75)", "8.95", "3.82"),
    ("ESC-50", 50, 5, "qresnet38-p25", "QResNet38 (p = 0.25)", "15.38", "15.16"),
    ("RAVDESS", 8, 4, "cnn14", "CNN14", "79.00", "8.43"),
    ("RAVDESS", 8, 4, "qresnet38-p25", "QResNet38 (p = 0.25)", "15.38", "15.06"),
    ("RAVDESS", 8, 4, "qcnn14-p75", "QCNN14 (p = 0.75)", "3.94", "1.55"),
    ("RAVDESS", 8, 4, "qresnet38-p75", "QResNet38 (p = 0.75)", "8.95", "3.72"),
    ("RAVDESS", 8, 4, "qcnn14-p25", "QCNN14 (p = 0.25)", "13.75", "16.07"),
)

DCASE = (
    # network, as the paper calls it, parameters, MACs in millions, size in KB (DCASE paper, Table 2)
    ("dcase22", "Unpruned", "14886", "5.41", "18.59"),
    ("dcase22-c1", "Pruned C1", "14254", "4.16", "17.86"),
    ("dcase22-c2", "Pruned C2", "13138", "4.13", "16.85"),
    ("dcase22-c3", "Pruned C3", "11396", "5.29", "15.11"),
    ("dcase22-c12", "Pruned C12", "12650", "3.18", "16.26"),
    ("dcase22-c23", "Pruned C23", "10008", "4.04", "13.73"),
    ("dcase22-c123", "Pruned C123", "9520", "3.08", "13.14"),
)
ENSEMBLE = ("70966", "23.84", "92.95")
"""Of the six pruned ones together (Table 3)."""

POOLS = {"pool1": 5 * 5, "pool2": 4 * 10}
"""Cells that a pool of the DCASE network averages."""


@dataclass(frozen=True)
class Counted:
    """A network on clips of some length: its exact count, and what the counters of the paper say of it."""

    true: Count
    frames: int
    frontend: FrontendSpec

    @property
    def stft(self) -> int:
        """MACs of the STFT as the papers' code computes it: two convolutions of n_fft by n_fft / 2 + 1."""
        bins = self.frontend.n_fft // 2 + 1
        return 2 * bins * self.frontend.n_fft * self.frames

    def torchinfo(self) -> int:
        """Mult-adds by torchinfo 1.8.0's rule.

        A parameter counts once for each cell of its layer's output, but one whose name contains `weight` and is not
        `weight`, as `r_weight`, is taken for a recurrent layer's: it counts once for each output channel. Batch norm
        and dense layers count every parameter once.
        """
        total = self.stft
        for layer in self.true.layers:
            channels = layer["output_shape"][0]
            if layer["op"] == "QuaternionConv2d":
                total += layer["parameters"] * channels
            elif layer["op"] == "QuaternionLinear":
                total += (layer["parameters"] - channels) * channels + channels
            elif layer["op"] == "Linear":
                total += layer["parameters"]
            elif "BatchNorm" in layer["op"]:
                total += layer["parameters"] // 2  # gamma and beta, without moving statistics
            else:
                total += layer["macs"]
        return total

    def thop(self) -> int:
        """MACs by thop 0.1.1's rule: nothing for layers it does not know, four a cell of a batch norm's output.

        Also one a cell of average pools that are modules: in PANNs' code, those of ResNet38's shortcuts alone.
        """
        norms = sum(math.prod(layer["output_shape"]) for layer in self.true.layers if "BatchNorm" in layer["op"])
        pools = sum(math.prod(layer["output_shape"]) for layer in self.true.layers if layer["name"].endswith(".0.pool"))
        known = sum(layer["macs"] for layer in self.true.layers if not layer["op"].startswith("Quaternion"))
        return self.stft + known + 4 * norms + pools

    def nessi(self) -> int:
        """MACs by NeSsi's rule: every cell that an average pool reads is one too."""
        pools = sum(
            math.prod(layer["output_shape"]) * POOLS[layer["name"]]
            for layer in self.true.layers
            if layer["op"] == "AvgPool2d"
        )
        return self.true.macs["network"] + pools

    def nessi_bytes(self) -> int:
        """Bytes by NeSsi's rule: what TFLite's dynamic-range files hold. Small kernels and all biases stay float32."""
        return (
            sum(weights if weights >= 1024 else 4 * weights for weights, _ in self._kernels()) + 4 * self._biases() + 8
        )

    def int8_bytes(self) -> int:
        """Bytes of a whole INT8 network: INT8 weights, 32-bit biases."""
        return sum(weights for weights, _ in self._kernels()) + 4 * self._biases()

    def _biases(self) -> int:
        return sum(biases for _, biases in self._kernels())

    def _kernels(self) -> list[tuple[int, int]]:
        layers = [layer for layer in self.true.layers if layer["op"] in ("Conv2d", "Linear")]
        return [(layer["parameters"] - layer["output_shape"][0], layer["output_shape"][0]) for layer in layers]


def counted(name: str, seconds: float | None = None, classes: int | None = None, head: bool = False) -> Counted:
    """A named network on clips of `seconds`, for `classes`: with a transfer head, or with its classifier replaced."""
    spec, frontend = fresh.specs(name)
    if classes is not None:
        spec = with_transfer_head(spec, classes) if head else spec.with_classes(classes)
    if seconds is not None:
        frontend = replace(frontend, window_seconds=seconds)
        spec = replace(spec, input_shape=frontend.input_shape)
    return Counted(count(spec, frontend), frontend.window_frames, frontend)


def padded_by_two(name: str) -> int:
    """True MACs of a named QCNN14 as the public code builds pruned ones: the first convolution of a block pads by 2."""
    spec, _ = fresh.specs(name)
    channels, mels, frames = spec.input_shape
    total = 0
    for block in range(6):
        mels, frames = mels + 2, frames + 2  # a 3 x 3 convolution keeps the map's size where it pads by 1
        for width in spec.widths[2 * block : 2 * block + 2]:
            total += 9 * channels * width * mels * frames
            channels = width
        if block < 5:
            mels, frames = mels // 2, frames // 2
    return total + channels * spec.widths[-1] + spec.widths[-1] * spec.classes


def verdict(printed: str, value: int, unit: float) -> str:
    """How a printed figure follows from a count: "=" rounded, "cut" truncated, "no" not at all."""
    decimals = len(printed.partition(".")[2])
    scaled = value / unit
    if f"{scaled:.{decimals}f}" == printed:
        return "="
    return "cut" if f"{math.floor(scaled * 10**decimals) / 10**decimals:.{decimals}f}" == printed else "no"


def page() -> str:
    """The page, as Markdown."""
    saved = [f"{padded_by_two(name) / 1e9:.2f} G" for name in ("qcnn14-p25", "qcnn14-p50", "qcnn14-p75")]
    parts = (
        HEAD,
        _table(PARAMETER_COLUMNS, _parameters()),
        PARAMETERS_NOTE,
        _table(MAC_COLUMNS, _macs()),
        MACS_NOTE,
        _table(TRANSFER_COLUMNS, _transfers()),
        TRANSFERS_NOTE,
        _table(DCASE_COLUMNS, _dcase()),
        DCASE_NOTE.format(", ".join(saved)),
    )
    return "\n".join(parts)


PARAMETER_COLUMNS = ("network", "where", "printed, M", "trainable", "", "with front end", "", "as real kernels")
MAC_COLUMNS = ("network", "printed, G", "torchinfo", "", "thop", "", "true MACs")
TRANSFER_COLUMNS = ("corpus, network", "printed, M", "counted", "", "printed, G", "counter", "", "true MACs")
DCASE_COLUMNS = (
    *("network", "printed", "Keras", "", "lowered", "printed, M", "NeSsi", "", "true MACs"),
    *("printed, KB", "NeSsi", "", "whole INT8"),
)


def _parameters() -> Iterable[Sequence[str]]:
    for name, title, printed, _, where in AUDIOSET:
        parameters = counted(name).true.parameters
        values = (parameters["trainable"], parameters["with_frontend"])
        found = (text for value in values for text in (f"{value:,}", verdict(printed, value, 1e6)))
        yield title, where, printed, *found, f"{parameters['lowered']:,}"


def _macs() -> Iterable[Sequence[str]]:
    for name, title, _, printed, _ in AUDIOSET:
        network = counted(name)
        rules = (network.torchinfo(), network.thop())
        found = (text for value in rules for text in (f"{value / 1e9:.3f}", verdict(printed, value, 1e9)))
        yield title, printed, *found, f"{network.true.macs['network']:,}"


def _transfers() -> Iterable[Sequence[str]]:
    for corpus, classes, seconds, name, title, parameters, macs in TRANSFERS:
        quaternion = name.startswith("q")
        network = counted(name, seconds, classes, head=quaternion)
        held = network.true.parameters["with_frontend" if quaternion else "trainable"]
        rule = network.torchinfo() if quaternion else network.thop()
        yield (
            f"{corpus}, {title}", parameters, f"{held:,}", verdict(parameters, held, 1e6),
            macs, f"{rule / 1e9:.3f}", verdict(macs, rule, 1e9), f"{network.true.macs['network']:,}",
        )  # fmt: skip


def _dcase() -> Iterable[Sequence[str]]:
    sums = [0] * 6
    for name, title, *printed in DCASE:
        values = _dcase_values(counted(name))
        if name != "dcase22":
            sums = [total + value for total, value in zip(sums, values, strict=True)]
        yield _dcase_row(title, printed, values)
    yield _dcase_row("Ensemble of the six", ENSEMBLE, sums)


def _dcase_values(network: Counted) -> list[int]:
    parameters, true = network.true.parameters, network.true.macs["network"]
    counts = parameters["with_statistics"], parameters["lowered"], network.nessi(), true
    return [*counts, network.nessi_bytes(), network.int8_bytes()]


def _dcase_row(title: str, printed: Sequence[str], values: Sequence[int]) -> Sequence[str]:
    parameters, lowered, nessi, true, size, int8 = values
    return (
        title, f"{int(printed[0]):,}", f"{parameters:,}", verdict(printed[0], parameters, 1), f"{lowered:,}",
        printed[1], f"{nessi / 1e6:.3f}", verdict(printed[1], nessi, 1e6), f"{true:,}",
        printed[2], f"{size / 1e3:.3f}", verdict(printed[2], size, 1e3), f"{int8:,}",
    )  # fmt: skip


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    rule = ["---", *("---:" if column else ":---:" for column in columns[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)) + "\n"


HEAD = """# Published and true counts

`python benchmarks/published_counts.py` writes this page. Every figure is counted from the architectures, none is
measured. `edgeq inspect qcnn14 --prune-ratio 0.5` shows the same layer by layer; `--clip-seconds`, `--classes` and
`--in-channels` give the variants. The mark beside a count says how the printed figure follows from it: **=** by
rounding, **cut** by leaving digits off, **no** not at all.

What to take from it:

- The quaternion paper's parameters hold. For its quaternion networks they count a frozen front end of 1,083,456 weights
  (STFT and mel matrix) with the trainable ones.
- Its MACs of quaternion networks are not MACs. They come, to the digit, from a counter that takes quaternion kernels
  for those of recurrent layers; now they are too high (QCNN14: 36.33 G for 20.15 G), now too low (pruned by half:
  6.34 G for 12.53 G).
- A quaternion convolution, run as one real convolution, costs what a real one of its width costs. QCNN14 costs as much
  as the multi-channel CNN14, not 1.7 times as much. Pruning by half saves 38 % of QCNN14's MACs, not 83 %, and 9 % of
  QResNet38's, not 73 %. QCNN14 pruned by half takes 0.62 of CNN14's MACs, not a third.
- A quarter of the parameters is what is trained and stored. What runs as real kernels holds four times that.

## The quaternion paper: parameters

"Compressing Quaternion Convolutional Neural Networks for Audio Classification", 527 classes. "As real kernels" is what
runs after lowering: batch norm folded, quaternion kernels written out.
"""

PARAMETERS_NOTE = """The multi-channel networks are printed as 80.00 and 75.00 and are whole millions; so, it seems, is
the 22.00 of QCNN14. The 13.78 of QCNN14 (p = 0.25) is what Table II has for ESC-50, where the network has a larger
head. For CNN14 (p = 0.75) the paper does not say which layers are pruned; layers 7 to 12 are counted here, and pruning
from any other layer on does not give 17.8 M and 9.7 G together either.

## The quaternion paper: MACs of ten seconds

True MACs: input channels x output channels x kernel area x output area of each convolution as it runs, and the dense
layers; no front end. Both counters include the STFT, 1.05 G, which the paper's code computes as a convolution.
"""

MACS_NOTE = """The supplement names thop. That explains the real networks; but of a quaternion network thop sees the
STFT, batch norm and the last layer only, and the figures of these are torchinfo's. With W the weights of a layer,
torchinfo 1.8.0 sums

- 2 x 513 x 1024 x frames for the STFT,
- W x output area for real convolutions; each parameter of batch norm, of real dense layers and of biases once,
- W x output channels for quaternion layers: their parameters are called `r_weight`, `i_weight` and so on, and what has
  `weight` in its name without being called so is taken for a recurrent layer's.

So quaternion layers on large maps, the early ones, count for next to nothing, and the wide ones on small maps, which
pruning narrows, for far too much. Only the STFT's term grows with the clip: hence the small differences between 4 and
30 seconds in Table II.

## The quaternion paper, Table II: other corpora

Clips of 30, 5 and 4 seconds. Quaternion networks are counted with front end, and with a dense layer from 527 to the
corpus's classes on top of the AudioSet head: the paper does not describe its head, but neither a replaced classifier
nor a second one beside it gives these parameters. Their counter is torchinfo. CNN14, which the paper quotes from
others, is counted without front end and with its classifier replaced; its counter is thop.
"""

TRANSFERS_NOTE = """Not reproduced: QResNet38 on ESC-50 repeats AudioSet's parameters; 18.88 G on GTZAN is probably a
slip for 18.80; 13.75 M on RAVDESS is 13.757 M, without the new head, cut off; CNN14's parameters are rounded coarsely,
and its 10.52 G is 0.01 too much.

## The DCASE 2022 paper

"Low-complexity CNNs for acoustic scene classification", Tables 2 and 3. Its parameters are Keras's: four for each
channel of a batch norm. "Lowered" is what remains when batch norm is folded. MACs and sizes are NeSsi's. It adds a MAC
for each cell that a pool reads. Its sizes, in thousands of bytes, are those of TFLite's dynamic-range files, in which
activations, biases, the first convolution and the last layer stay float32; the last column is what the network takes
wholly in INT8, in bytes.
"""

DCASE_NOTE = """The ensemble's 92.95 KB is the sum of rounded sizes; its 23.84 M MACs are not reproduced (the rounded
figures add up to 23.88). The baseline's "46512 parameters" are bytes: 45,816 weights in INT8 and 174 biases of 32 bits.
Keras counts 46,246 parameters in it. The accuracies were not recomputed from recordings.

## What is not reproduced at all

Accuracies, times and energies: no weights of the quaternion networks were found.

The public code of that paper differs from its text in two ways. It pads the first convolution of each block of a pruned
QCNN14 by 2; edgeq's networks, and the tables above, have the paper's 1. With 2, QCNN14 would take
{} true MACs at p = 0.25, 0.5 and 0.75; torchinfo gives one figure for both. And it takes
derivatives over the bins of the power spectrogram where Eq. 8 has time: edgeq's front end can do either.
"""


def main() -> None:
    atomic.write_text(PAGE, page())
    print(PAGE)


if __name__ == "__main__":
    main()
