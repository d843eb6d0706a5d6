"""What is read from shards for training is what memory would hold, whoever reads, wherever it begins, and no more."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from beeps import RECIPE, beeps
from small_corpus import FRONTEND, folders

from edgeq import bundle, corpora
from edgeq.audio.frontend import FrontendSpec
from edgeq.compress import follow
from edgeq.corpora import pack, packed, packed_corpus
from edgeq.corpora.packed_corpus import PackedCorpus
from edgeq.errors import InputError
from edgeq.training import augment, fit, logmels, trial
from edgeq.training import recipe as recipes
from edgeq.training.ahead import AHEAD
from edgeq.training.config import FitConfig
from edgeq.training.evaluate import Logmels
from edgeq.training.features import CorpusMaps, corpus_maps
from edgeq.training.logmels import PackedLogmels
from edgeq.training.source import Plan
from edgeq.training.streamed import PackedMaps, Streamed

SPEC = FrontendSpec(**FRONTEND)
CONFIG = FitConfig(epochs=1, batch_size=4, crop_seconds=(0.25, 0.35), speeds=(0.8, 1.25))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders(tmp_path_factory.mktemp("streamed") / "sounds", clips=20)


@pytest.fixture(scope="module")
def corpus(folder: Path) -> PackedCorpus:
    pack.pack(folder, folder.parent / "flac", shard_megabytes=0.015, jobs=1)
    return packed_corpus.open(folder.parent / "flac")


@pytest.fixture(scope="module")
def in_memory(folder: Path, corpus: PackedCorpus) -> CorpusMaps:
    """Maps of the recordings themselves, in the order of the packed ones."""
    read = corpora.open(folder)
    names = [clip.path.relative_to(folder).with_suffix("").as_posix() for clip in read.clips]
    return corpus_maps(read.subset([names.index(key) for key in corpus.packed.keys]), SPEC, CONFIG.speeds)


def plans(count: int, clips: int = 20) -> Iterator[Plan]:
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        chosen = torch.randperm(clips, generator=generator)[: CONFIG.batch_size]
        wishes = augment.wishes(chosen, len(CONFIG.speeds), 0.5, generator)
        changes = augment.drawn(CONFIG, len(chosen), SPEC.n_mels, 30, generator)
        yield Plan(number % 2, wishes, changes)


def streamed(corpus: PackedCorpus, readers: int = 2, config: FitConfig = CONFIG) -> Streamed:
    logmels = PackedLogmels(corpus.packed, SPEC, config)
    return Streamed(logmels, corpus.chosen, corpus.positives, config, readers)


@pytest.mark.parametrize("readers", [1, 3])
def test_crops_are_those_of_recordings_in_memory(corpus: PackedCorpus, in_memory: CorpusMaps, readers: int) -> None:
    expected = list(in_memory.source(corpus.positives, SPEC, CONFIG).read(plans(12)))
    found = list(streamed(corpus, readers).read(plans(12)))
    assert len(found) == 12
    for one, other in zip(found, expected, strict=True):
        assert one.places == other.places
        torch.testing.assert_close(one.power, other.power, rtol=0, atol=0)
        torch.testing.assert_close(one.targets, other.targets, rtol=0, atol=0)


def test_packed_log_mel_gives_the_same_crops_within_its_precision(
    folder: Path, corpus: PackedCorpus, tmp_path: Path
) -> None:
    pack.pack(folder, tmp_path / "maps", SPEC, (1.0, *CONFIG.speeds), "int16", jobs=1)
    maps = packed_corpus.open(tmp_path / "maps")
    assert maps.packed.keys == corpus.packed.keys
    for one, other in zip(streamed(maps).read(plans(6)), streamed(corpus).read(plans(6)), strict=True):
        assert one.places == other.places
        decibels = 10 * (one.power.clamp_min(1e-9) / other.power.clamp_min(1e-9)).log10()
        assert decibels.abs().max() < 0.01


def test_torch_computes_the_crops_that_numpy_does_up_to_rounding(corpus: PackedCorpus, in_memory: CorpusMaps) -> None:
    by_torch = replace(CONFIG, logmel="torch", device="cpu")
    expected = list(in_memory.source(corpus.positives, SPEC, CONFIG).read(plans(12)))
    for one, other in zip(streamed(corpus, config=by_torch).read(plans(12)), expected, strict=True):
        assert one.places == other.places
        torch.testing.assert_close(one.power, other.power, rtol=1e-4, atol=1e-9)
        torch.testing.assert_close(one.targets, other.targets, rtol=0, atol=0)
    maps = PackedMaps(corpus, SPEC, by_torch)
    assert np.abs(maps.logmel(3) - PackedMaps(corpus, SPEC, CONFIG).logmel(3)).max() < 1e-3


def test_torch_computes_recordings_of_one_length_together_and_bounded(
    corpus: PackedCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_torch = PackedLogmels(corpus.packed, SPEC, replace(CONFIG, logmel="torch", device="cpu"))
    longest = max(len(corpus.packed.waveform(clip, SPEC.sample_rate)) for clip in range(20))
    monkeypatch.setattr(logmels, "MOST_VALUES", 3 * longest)
    versions = [(clip, clip % 3) for clip in range(20)]
    found = list(by_torch.of(versions))
    assert sorted(place for places, _ in found for place in places) == [*range(20)]
    assert max(len(places) for places, _ in found) > 1
    for places, maps in found:
        assert maps.shape[0] == len(places) and len(places) * maps.shape[2] * SPEC.hop_length <= 4 * longest
        for place, one in zip(places, maps, strict=True):
            clip, speed = versions[place]
            alone = corpus.packed.read([clip], SPEC, (1.0, *CONFIG.speeds)[speed])[0]
            np.testing.assert_allclose(one.numpy(), alone, atol=1e-3)


def test_log_mel_that_was_packed_is_read_whatever_would_compute_it(folder: Path, tmp_path: Path) -> None:
    pack.pack(folder, tmp_path / "maps", SPEC, (1.0, *CONFIG.speeds), jobs=1)
    maps = packed_corpus.open(tmp_path / "maps")
    by_torch = replace(CONFIG, logmel="torch")
    for one, other in zip(streamed(maps, config=by_torch).read(plans(3)), streamed(maps).read(plans(3)), strict=True):
        torch.testing.assert_close(one.power, other.power, rtol=0, atol=0)


def test_plans_are_taken_ahead_but_not_without_bound(corpus: PackedCorpus) -> None:
    taken = 0

    def counted() -> Iterator[Plan]:
        nonlocal taken
        for plan in plans(100):
            taken += 1
            yield plan

    heard = streamed(corpus).read(counted())
    for number in range(5):
        next(heard)
        assert 1 < taken - number <= 2 * AHEAD
    before = {thread for thread in threading.enumerate() if thread.name.startswith("edgeq-reader")}
    assert before
    heard.close()
    assert not [thread for thread in before if thread.is_alive()]


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
def test_an_order_is_of_the_chosen_clips_and_the_generator_decides_it(corpus: PackedCorpus, sampling: str) -> None:
    config = FitConfig(epochs=1, sampling=sampling)
    few = corpus.subset([3, 1, 4, 15, 9, 2, 6])
    source = PackedMaps(few, SPEC, config).source(few.positives, SPEC, config)
    orders = [source.order(torch.Generator().manual_seed(seed)).tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert source.clips == 7 and source.classes == 3
    if sampling == "shuffled":
        assert sorted(orders[0]) == list(range(7))
    else:
        heard = few.positives(orders[0]).sum(axis=0)
        assert set(orders[0]) <= set(range(7)) and heard.max() - heard.min() <= 1


def test_a_corpus_that_is_packed_says_what_the_corpus_says(folder: Path, corpus: PackedCorpus) -> None:
    read = corpora.open(folder)
    names = [clip.path.relative_to(folder).with_suffix("").as_posix() for clip in read.clips]
    same = read.subset([names.index(key) for key in corpus.packed.keys])
    assert len(corpus.clips) == 20 and corpus.labels == same.labels and corpus.targets == same.targets
    assert [clip.labels for clip in corpus.clips] == [clip.labels for clip in same.clips]
    np.testing.assert_array_equal(corpus.positives(), same.positives())
    np.testing.assert_array_equal(corpus.positives([4, 2]), same.positives([4, 2]))
    some = corpus.select(lambda clip: clip.label != "class1")
    assert len(some.clips) == len(same.select(lambda clip: clip.label != "class1").clips)
    assert len({corpus.hash, some.hash, corpus.subset([0]).hash, corpus.subset([1]).hash}) == 4
    with pytest.raises(InputError, match="no clips"):
        corpus.select(lambda clip: False)


def test_damage_ends_reading_by_the_name_of_the_shard(corpus: PackedCorpus, tmp_path: Path) -> None:
    shutil.copytree(corpus.packed.folder, tmp_path / "flac")
    shard = tmp_path / "flac" / corpus.packed.shards[-1].file
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    damaged = packed_corpus.open(tmp_path / "flac")
    with pytest.raises(InputError, match=f"{shard.name}: damaged"):
        list(streamed(damaged).read(plans(12)))


def test_log_mel_of_many_recordings_is_sampled_evenly(corpus: PackedCorpus) -> None:
    maps = PackedMaps(corpus, SPEC, FitConfig(epochs=1, speeds=()))
    assert len(Logmels(maps)) == 20
    few = Logmels(maps, most=5)
    assert few.clips == [0, 4, 8, 12, 16]
    np.testing.assert_array_equal(few[1], maps.logmel(4))
    assert [one.shape for one in few] == [maps.logmel(clip).shape for clip in few.clips]


@pytest.fixture(scope="module")
def beeping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beeps, packed, beside the recipe that tells them apart."""
    root = tmp_path_factory.mktemp("beeping")
    beeps(root / "beeps")
    pack.pack(root / "beeps", root / "packed", jobs=1)
    brief = "epochs = 3\ncheckpoint_minutes = 1e-6"  # so it is kept after every step
    (root / "recipe.toml").write_text(RECIPE.replace("epochs = 12", brief))
    return root


def test_a_recipe_trains_on_packed_recordings(beeping: Path, tmp_path: Path) -> None:
    result = follow.run(beeping / "recipe.toml", beeping / "packed", tmp_path / "beeps")
    whole = bundle.read(result["bundle"])
    bundle.check(whole)
    assert whole.labels == ("high", "low") and "training_accuracy" in result["metrics"]
    assert whole.provenance["clips"] == 12, "the clip under an excluded licence is left out"
    assert not (tmp_path / "training" / "features").exists(), "nothing is computed twice"


def test_a_training_that_was_killed_amid_an_epoch_ends_as_one_that_was_not(
    beeping: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, data = recipes.read(beeping / "recipe.toml"), packed_corpus.open(beeping / "packed")
    maps = PackedMaps(data, recipe.frontend, recipe.fit)

    def trained(checkpoint: Path) -> dict[str, np.ndarray]:
        architecture = recipe.architecture.with_classes(2)
        of = data, maps, range(13), architecture, recipe.frontend, recipe.fit, recipe.seed
        return trial.train_on(*of, checkpoint).weights()

    whole = trained(tmp_path / "whole")
    step, steps = fit._Run._step, []

    def killed(run: fit._Run, number: int, heard: object) -> torch.Tensor:
        steps.append(number)
        if steps == [*range(run.course.epoch_steps + 2)]:  # amid the second epoch
            raise KeyboardInterrupt
        return step(run, number, heard)

    monkeypatch.setattr(fit._Run, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed")
    resumed = trained(tmp_path / "killed")
    assert steps.count(0) == steps.count(2) == 1, "it began anew"
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, resumed[name])


def test_folds_of_a_packed_corpus_are_held_out(beeping: Path, tmp_path: Path) -> None:
    result = follow.run(beeping / "recipe.toml", beeping / "packed", tmp_path / "beeps", cross_validate=True)
    assert result["metrics"]["clips"] == 12 and set(result["metrics"]["folds"]) == {"1", "2"}


def test_log_mel_of_another_front_end_is_refused_before_training(beeping: Path, tmp_path: Path) -> None:
    pack.pack(beeping / "beeps", tmp_path / "packed", SPEC, jobs=1)
    with pytest.raises(InputError, match=r"packed with another front end: .*pack again with --features RECIPE"):
        follow.run(beeping / "recipe.toml", tmp_path / "packed", tmp_path / "beeps")
    assert packed.is_packed(tmp_path / "packed") and not packed.is_packed(beeping / "beeps")
