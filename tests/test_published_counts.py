"""The page of published and true counts: generated as committed, and its counters give the counters' own figures."""

from __future__ import annotations

from itertools import pairwise

import pytest
from scripts import script

published_counts = script("benchmarks/published_counts.py")


def test_the_committed_page_is_what_the_script_writes() -> None:
    assert published_counts.PAGE.read_text(encoding="utf-8") == published_counts.page()


# What torchinfo 1.8.0 printed for the public code's networks, batch 1.
@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("qcnn14", 36_332_476_815),
        ("qcnn14-p25", 16_699_460_495),
        ("qcnn14-p50", 6_343_196_047),
        ("qcnn14-p75", 2_177_724_303),
        ("qresnet38", 29_513_203_087),
        ("qresnet38-p25", 15_688_775_055),
        ("qresnet38-p50", 7_904_144_783),
        ("qresnet38-p75", 4_347_372_943),
        ("cnn14", 21_093_620_111),
        ("cnn14-4ch", 21_204_322_703),
        ("resnet38", 24_442_781_071),
        ("resnet38-4ch", 24_553_483_663),
    ],
)
def test_torchinfos_rule(name: str, total: int) -> None:
    assert published_counts.counted(name).torchinfo() == total


# And what thop 0.1.1 did.
@pytest.mark.parametrize(
    ("name", "total"), [("cnn14", 21_158_377_728), ("cnn14-4ch", 21_269_849_088), ("resnet38", 24_537_148_672)]
)
def test_thops_rule(name: str, total: int) -> None:
    assert published_counts.counted(name).thop() == total


def test_quaternion_torchinfo_in_closed_form() -> None:
    # The sum that reproduces the printed figures, over the kernels of QCNN14 written out: weights x outputs.
    widths = (4, 64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024, 2048, 2048)
    convolutions = sum(9 * before * after // 4 * after for before, after in pairwise(widths))
    hidden, classifier = 2048 * 2048 // 4 * 2048 + 2048, 2049 * 527
    norms, stft = 2 * sum(widths[1:]) + 2 * 64, 2 * 513 * 1024 * 1001
    found = published_counts.counted("qcnn14")
    assert found.torchinfo() == convolutions + hidden + classifier + norms + stft


@pytest.mark.parametrize(
    ("name", "total"),
    [("qcnn14-p25", 23_110_778_368), ("qcnn14-p50", 16_516_087_296), ("qcnn14-p75", 12_392_758_784)],
)
def test_the_padding_of_the_public_code(name: str, total: int) -> None:
    assert published_counts.padded_by_two(name) == total


@pytest.mark.parametrize(
    ("name", "macs", "size", "int8"),
    [
        ("dcase22", 5_404_520, 18_592, 15_152),
        ("dcase22-c1", 4_156_040, 17_856, 14_524),
        ("dcase22-c2", 4_129_320, 16_848, 13_408),
        ("dcase22-c3", 5_286_520, 15_112, 11_672),
        ("dcase22-c12", 3_174_600, 16_256, 12_924),
        ("dcase22-c23", 4_040_120, 13_728, 10_288),
        ("dcase22-c123", 3_085_400, 13_136, 9_804),
    ],
)
def test_nessis_rules(name: str, macs: int, size: int, int8: int) -> None:
    network = published_counts.counted(name)
    assert (network.nessi(), network.nessi_bytes(), network.int8_bytes()) == (macs, size, int8)


@pytest.mark.parametrize(
    ("printed", "value", "expected"),
    [
        ("6.34", 6_343_196_047, "="),
        ("21.26", 21_269_849_088, "cut"),
        ("21.27", 21_269_849_088, "="),
        ("18.88", 18_800_708_495, "no"),
        ("21", 20_600_000_000, "="),
        ("20", 20_600_000_000, "cut"),
    ],
)
def test_how_a_printed_figure_follows(printed: str, value: int, expected: str) -> None:
    assert published_counts.verdict(printed, value, 1e9) == expected
