"""Augmentations: seeded, bounded, and physically what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgeq.audio import frontend
from edgeq.audio.frontend import PRESETS, with_derivatives
from edgeq.training import augment
from edgeq.training.config import FitConfig
from edgeq.training.features import CorpusMaps

EDGE, DCASE = PRESETS["edge-32k"], PRESETS["dcase2022"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def powers(batch: int = 6, mels: int = 64, frames: int = 30) -> torch.Tensor:
    return torch.rand(batch, mels, frames, generator=seeded(1)) + 0.01


def maps_of(*logmels: np.ndarray) -> CorpusMaps:
    return CorpusMaps((1.0,), (tuple(logmel.astype(np.float32) for logmel in logmels),))


def crops_of(bank: augment.CropBank, clips: torch.Tensor, speed_probability: float) -> torch.Tensor:
    wishes = augment.wishes(clips, len(bank.powers) - 1, speed_probability, seeded())
    return augment.crop(bank.powers, augment.places(bank, wishes), bank.length)


def drawn(batch: int, generator: torch.Generator, size: tuple[int, int] = (64, 30), **config: float) -> augment.Changes:
    return augment.drawn(FitConfig(1, **config), batch, *size, generator)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "apply",
    [
        lambda x, c: augment.gain(x, c.gain),
        lambda x, c: augment.band_filter(x, torch.linspace(0, 1, 64), c.knots, c.levels),
        lambda x, c: augment.mix(x, torch.eye(len(x)), c.mix)[0],
        lambda x, c: augment.mixup(x[:, None], torch.eye(len(x)), c.mixup)[0],
        lambda x, c: augment.stripes(x[:, None], c.mels[0], c.frames[0]),
    ],
    ids=["gain", "band_filter", "mix", "mixup", "stripes"],
)
def test_one_seed_gives_one_result_and_the_input_stays(apply) -> None:
    x = powers()
    before = x.clone()
    first, again, other = (apply(x, drawn(len(x), seeded(seed), mixup_alpha=0.5)) for seed in (3, 3, 4))
    assert torch.equal(x, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@given(st.floats(0, 20), st.integers(0, 1000))
def test_gain_moves_every_cell_of_a_crop_by_one_level(decibels: float, seed: int) -> None:
    x = powers()
    change = 10 * torch.log10(augment.gain(x, drawn(6, seeded(seed), gain_db=decibels).gain) / x)
    assert change.abs().max() <= decibels + 1e-3
    assert (change.amax(dim=(1, 2)) - change.amin(dim=(1, 2))).max() < 1e-3


@given(st.floats(0, 12), st.integers(0, 1000), st.integers(2, 80))
def test_filter_is_bounded_still_and_piecewise_linear(decibels: float, seed: int, mels: int) -> None:
    x = powers(mels=mels)
    made = drawn(6, seeded(seed), filter_db=decibels)
    change = 10 * torch.log10(augment.band_filter(x, torch.linspace(0, 1, mels), made.knots, made.levels) / x)
    assert change.abs().max() <= decibels + 1e-3
    assert (change - change[:, :, :1]).abs().max() < 1e-3, "the same at every frame"
    if mels == 80:
        bends = (change[:, :, 0].diff(n=2, dim=1).abs() > 1e-3).sum(dim=1)
        assert bends.max() <= 2 * 4, "at most four inner knots, each seen by two second differences"


def test_mix_keeps_the_peak_and_the_louder_label() -> None:
    x = powers() * torch.tensor([1e-3, 1, 10, 100, 1e4, 1e-2])[:, None, None]
    mixed, targets = augment.mix(x, torch.eye(6), drawn(6, seeded(2), mix_probability=1.0).mix)
    assert (mixed.amax(dim=(1, 2)) <= x.amax(dim=(1, 2)) * 1.0001).all()
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(6))
    assert (targets.diagonal() >= 0.5).all()
    assert (targets.diagonal() < 1).any()


def test_mix_of_amplitudes_adds_powers() -> None:
    x = torch.tensor([[[4.0, 0.0]], [[0.0, 4.0]]])
    for seed in range(20):
        mixed, targets = augment.mix(x, torch.eye(2), drawn(2, seeded(seed), mix_probability=1.0).mix)
        share, other = targets[0, 0], targets[0, 1]
        if other > 0:  # the partner was the other crop
            torch.testing.assert_close(mixed[0, 0, 1] / mixed[0, 0, 0], (other / share) ** 2)
            return
    pytest.fail("twenty permutations never mixed two crops")


def test_mix_with_silence_stays_finite() -> None:
    x = torch.stack([torch.zeros(4, 5), torch.ones(4, 5)])
    for seed in range(8):
        assert torch.isfinite(augment.mix(x, torch.eye(2), drawn(2, seeded(seed), mix_probability=1.0).mix)[0]).all()


def test_mix_with_probability_zero_changes_nothing() -> None:
    x = powers()
    mixed, targets = augment.mix(x, torch.eye(6), drawn(6, seeded(), mix_probability=0.0).mix)
    torch.testing.assert_close(mixed, x)
    assert torch.equal(targets, torch.eye(6))


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 1000))
def test_stripes_blank_one_band_and_one_span(mels: int, frames: int, seed: int) -> None:
    made = drawn(5, seeded(seed), (12, 15), stripe_mels=mels, stripe_frames=frames)
    blank = augment.stripes(torch.ones(5, 4, 12, 15), made.mels[0], made.frames[0]) == 0
    for one in blank:
        assert (one == one[0]).all(), "all components alike"
        rows, columns = one[0].all(dim=1), one[0].all(dim=0)
        for line, widest in ((rows, mels), (columns, frames)):
            where = torch.nonzero(line)
            # A stripe over the whole of one axis blanks the other axis too.
            if len(where) and not one[0].all():
                assert len(where) <= widest
                assert where[-1] - where[0] + 1 == len(where), "in one piece"
        assert one[0].eq(rows[:, None] | columns[None, :]).all()


def test_filter_colours_the_mels_of_every_component_alike() -> None:
    made = drawn(3, seeded(), filter_db=6.0)
    filtered = (made.knots, made.levels)
    change = augment.band_filter(torch.ones(3, 4 * 20, 5), torch.linspace(0, 1, 20), *filtered).unflatten(1, (4, 20))
    torch.testing.assert_close(change, change[:, :1].expand_as(change))
    torch.testing.assert_close(
        change[:, 0], augment.band_filter(torch.ones(3, 20, 5), torch.linspace(0, 1, 20), *filtered)
    )


def test_mixup_is_a_mean_weighted_by_draws_from_a_beta_distribution() -> None:
    made = drawn(4000, seeded(), mixup_alpha=0.4).mixup
    assert made is not None and sorted(made.partner.tolist()) == list(range(4000))
    assert stats.kstest(made.share.numpy(), stats.beta(0.4, 0.4).cdf).pvalue > 0.01
    x, targets = torch.rand(4000, 4, 2, 3, generator=seeded(1)), torch.rand(4000, 5, generator=seeded(2))
    mixed, labels = augment.mixup(x, targets, made)
    for i in (0, 1, 3999):
        own, other = float(made.share[i]), int(made.partner[i])
        np.testing.assert_allclose(mixed[i], own * x[i] + (1 - own) * x[other], rtol=1e-5)
        np.testing.assert_allclose(labels[i], own * targets[i] + (1 - own) * targets[other], rtol=1e-5)


def test_a_gain_does_not_lift_the_floor() -> None:
    spec = with_derivatives(PRESETS["panns-32k"], "power-frequency")
    waveform = np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    quiet, loud = (frontend.logmel(waveform * level, spec) for level in (0.1, 0.2))
    bank = augment.crop_banks(maps_of(quiet), spec, [quiet.shape[1]], 30.0)[0]
    louder = augment.to_log(crops_of(bank, torch.tensor([0]), 0.0) * 4, spec)[0].numpy()
    assert ((louder == -100) == (loud == -100)).mean() > 0.999
    np.testing.assert_allclose(10 ** (louder / 10), 10 ** (loud / 10), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("spec", [EDGE, DCASE], ids=["edge-32k", "dcase2022"])
def test_power_and_log_are_inverse(spec) -> None:
    logmel = torch.linspace(-5.0, 5.0, 50).reshape(5, 10).numpy()
    bank = augment.crop_banks(maps_of(logmel), spec, [10], 1000.0)[0]
    power = crops_of(bank, torch.tensor([0]), 0.0)
    np.testing.assert_allclose(augment.to_log(power, spec)[0].numpy(), logmel, atol=1e-4)


def test_crops_hold_something_to_hear() -> None:
    logmel = np.full((4, 100), -60.0)
    logmel[2, 40] = 10.0
    bank = augment.crop_banks(maps_of(logmel), EDGE, [20], 30.0)[0]
    assert bank.starts[0][0].tolist() == list(range(21, 41))
    crops = crops_of(bank, torch.zeros(64, dtype=torch.long), 0.0)
    assert crops.shape == (64, 4, 20)
    assert (crops.amax(dim=(1, 2)) > 9).all()


def test_crop_depth_is_in_decibels_for_magnitudes_too() -> None:
    logmel = np.full((4, 60), np.log(1e-6))
    logmel[:, 10], logmel[:, 50] = 0.0, np.log(10 ** (-40 / 20))
    assert 45 in augment.crop_banks(maps_of(logmel), DCASE, [10], 41.0)[0].starts[0][0]
    assert 45 not in augment.crop_banks(maps_of(logmel), DCASE, [10], 39.0)[0].starts[0][0]


def test_crops_come_from_speed_variants_as_often_as_asked() -> None:
    maps = CorpusMaps((1.0, 0.8, 1.25), tuple((np.full((2, 12), level, np.float32),) for level in (0, 10, 20)))
    bank = augment.crop_banks(maps, EDGE, [10], 30.0)[0]
    crops = crops_of(bank, torch.zeros(3000, dtype=torch.long), 0.6)
    levels, counts = torch.unique(10 * torch.log10(crops[:, 0, 0]).round(), return_counts=True)
    assert levels.tolist() == [0.0, 10.0, 20.0]
    np.testing.assert_allclose(counts / 3000, [0.4, 0.3, 0.3], atol=0.04)


@pytest.mark.parametrize(("pad", "expected"), [("zero", [1, 2, 3, 0, 0, 0, 0]), ("repeat", [1, 2, 3, 1, 2, 3, 1])])
def test_short_clips_are_lengthened_as_the_front_end_pads(pad: str, expected: list[int]) -> None:
    from dataclasses import replace

    logmel = 10 * np.log10(np.array([[1.0, 2.0, 3.0]]) + EDGE.floor)
    bank = augment.crop_banks(maps_of(logmel), replace(EDGE, pad=pad), [7], 30.0)[0]
    np.testing.assert_allclose(bank.powers[0][0][0].numpy(), expected, atol=1e-5)
