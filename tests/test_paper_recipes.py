"""The papers' schedules as recipes: each is read, and followed on a tiny copy of its corpus with a tiny network."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import corpus_copies
import numpy as np
import pytest
import torch

from edgeq import bundle, corpora
from edgeq.audio.frontend import FrontendSpec
from edgeq.bundle import Bundle
from edgeq.compress import chain, follow, transfer
from edgeq.corpora import Corpus
from edgeq.corpora.trained import trained_on
from edgeq.errors import InputError
from edgeq.nets import arrays, registry
from edgeq.nets.spec import ArchitectureSpec
from edgeq.training import recipe as recipes
from edgeq.training import result
from edgeq.training.tables import Pruning, Recipe, Validation

RECIPES = sorted((Path(__file__).resolve().parent.parent / "benchmarks" / "recipes").glob("*.toml"))
WHOLE, PRUNED = (8,) * 13, (8,) * 6 + (4,) * 6 + (8,)
WINDOW = 0.4
LABELS, TAGS = tuple("abcde"), tuple(name for _, name in corpus_copies.CLASSES)


def tiny(recipe: Recipe, folder: Path) -> Recipe:
    """The same with narrow layers, short windows, two batches of two."""
    spec = replace(recipe.frontend, window_seconds=WINDOW, window_hop_seconds=WINDOW)
    narrow = registry.preset("qcnn14").widths != recipe.architecture.widths
    widths = PRUNED if narrow else WHOLE
    shape, fit = spec.input_shape, replace(recipe.fit, iterations=2, batch_size=2, crop_seconds=(WINDOW,))
    teacher, start = recipe.teacher, recipe.start
    tags = TAGS if start and start.head == "own" else LABELS
    return replace(
        recipe,
        architecture=replace(recipe.architecture, widths=widths, input_shape=shape),
        frontend=spec,
        fit=fit,
        threads=1,
        fine_tune=recipe.fine_tune and fit,
        start=start and replace(start, model=str(pretrained(folder, spec, widths, tags).folder)),
        validation=recipe.validation and replace(recipe.validation, every=1),
        teacher=teacher
        and replace(
            teacher,
            models=tuple(str(pretrained(folder, spec, WHOLE, tags).folder) for _ in teacher.models),
            recipe=teacher.recipe and tiny(teacher.recipe, folder),
        ),
    )


def pretrained(folder: Path, spec: FrontendSpec, widths: tuple[int, ...], labels: tuple[str, ...] = LABELS) -> Bundle:
    """As if from AudioSet, with five classes, or with those of its tiny copy."""
    place = folder / f"pretrained-{sum(widths)}-{len(labels)}"
    if not place.is_dir():
        architecture = ArchitectureSpec("qcnn14", widths, len(labels), spec.input_shape, "sigmoid")
        torch.manual_seed(1)
        weights = arrays.weights(registry.build(architecture))
        normalised = replace(spec, mean=(-60.0, 0, 0, 0), std=(20.0, 1, 1, 1))
        bundle.write(
            place, name="pretrained", architecture=architecture, frontend=normalised, labels=labels, weights=weights
        )
    return bundle.read(place)


def copy_of(name: str, folder: Path) -> Corpus:
    """A tiny copy of the corpus that a recipe is for, a few of its clips."""
    corpus = corpora.open(getattr(corpus_copies, name)(folder))
    if name == "audioset":
        return corpus
    chosen = [i for i, clip in enumerate(corpus.clips) if clip.fold in (1, 2)]
    few = corpus.subset(chosen[:: max(1, len(chosen) // 24)])
    for seed, clip in enumerate(few.clips):
        corpus_copies.noise(clip.path, 0.5, seed)
    return few


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    return {
        name: copy_of(name, tmp_path_factory.mktemp(name)) for name in ("audioset", "gtzan", "esc50", "ravdess")
    }  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_is_read_and_followed(path: Path, copies: dict[str, Corpus], tmp_path: Path) -> None:
    recipe = recipes.read(path)
    assert recipe.name == path.stem and recipe.fit.optimiser == "amsgrad" and recipe.fit.mixup_alpha == 1.0
    assert recipe.architecture.input_shape[2] == recipe.fit.crop_seconds[0] * 100 + 1
    assert recipe.fit.iterations == (1_000_000 if path.stem.startswith("audioset") else 50_000)
    corpus, small = copies[path.stem.split("-")[0]], tiny(recipe, tmp_path)
    setting = (
        follow._setting(small, corpus, tmp_path) if corpus.multi_label
        else follow.without_fold(small, corpus, tmp_path, 1)
    )  # fmt: skip
    chain.check(small, setting)
    trained = chain.trained(small, setting, None, path.stem)
    expected = "sigmoid" if corpus.multi_label else "softmax"
    assert trained.architecture.output == expected and trained.architecture.classes == len(corpus.labels)
    assert (trained.best is not None) == corpus.multi_label
    if recipe.start is not None:
        widths = WHOLE if path.stem.endswith("qcnn14") else PRUNED
        before_the_new = () if corpus.multi_label else (5,)  # its own classifier, where another one comes behind it
        assert trained.architecture.widths == (*widths, *before_the_new)
        assert trained.frontend.mean == (-60.0, 0, 0, 0), "the normalisation that the weights know"


def test_the_page_names_every_recipe_and_makes_what_they_start_from() -> None:
    folder = RECIPES[0].parent
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([\w-]+)\.toml\)", page)) == {path.stem for path in RECIPES}
    trained_to = {f"build/{name}" for name in re.findall(r"edgeq train benchmarks/recipes/([\w-]+)\.toml", page)}
    made = trained_to | set(re.findall(r"edgeq prune .* -o (build/\S+)", page))
    for recipe in map(recipes.read, RECIPES):
        models = (recipe.teacher.models if recipe.teacher else ()) + ((recipe.start.model,) if recipe.start else ())
        for model in models:
            assert Path(model).resolve().relative_to(folder.parent.parent).as_posix() in made, recipe.name


def test_audioset_is_trained_on_its_training_clips_with_its_metrics(
    copies: dict[str, Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeq.goldens._CANDIDATES", 64)
    small = tiny(recipes.read(RECIPES[0].with_name("audioset-qcnn14.toml")), tmp_path)
    written, metrics = follow.train(small, copies["audioset"], tmp_path / "bundle", tmp_path / "work")
    assert written.provenance["clips"] == 3 and written.provenance["splits"] == ["training"]
    assert 0 < metrics["training_mean_average_precision"] <= 1
    assert 0 <= metrics["validation_mean_average_precision"] <= 1 and metrics["validation_step"] in (1, 2)
    assert written.architecture.output == "sigmoid" and written.labels == copies["audioset"].labels


def test_folds_are_averaged_as_in_the_paper(copies: dict[str, Corpus], tmp_path: Path) -> None:
    small = tiny(recipes.read(RECIPES[0].with_name("gtzan-qcnn14-p25.toml")), tmp_path)
    metrics = follow.cross_validation(small, copies["gtzan"], tmp_path / "work")
    assert metrics["mean_of_folds"] == pytest.approx(np.mean(list(metrics["folds"].values())))
    clips = len(copies["gtzan"].clips)
    assert np.sum(metrics["confusion"]) == clips / 2, "a mean of two folds"
    assert np.trace(metrics["confusion"]) == pytest.approx(metrics["accuracy"] * clips / 2)


def starting(folder: Path, head: str) -> Recipe:
    recipe = tiny(recipes.read(RECIPES[0].with_name("esc50-qcnn14.toml")), folder)
    assert recipe.start is not None
    return replace(recipe, start=replace(recipe.start, head=head))


def test_a_new_head_keeps_everything_below_it(tmp_path: Path) -> None:
    opened = pretrained(tmp_path, starting(tmp_path, "new").frontend, WHOLE)
    source, classifier = opened.weights(), {"head.classifier.weight", "head.classifier.bias"}
    tags = {"head.tags.weight", "head.tags.bias"}
    for head, labels, new in (
        ("new", "xyz", classifier),
        ("transfer", "xyz", classifier | tags),
        ("own", "abcde", set()),
    ):
        recipe = starting(tmp_path, head)
        architecture = transfer.architecture(recipe, opened, labels)
        network, spec = transfer.begun(recipe, opened, architecture, 0)
        weights = arrays.weights(network)
        fresh = {name for name in weights if name not in source or not np.array_equal(weights[name], source[name])}
        assert fresh <= new and ("head.classifier.weight" in fresh) == bool(new)
        if head == "transfer":
            assert np.array_equal(weights["head.tags.weight"], source["head.classifier.weight"])
        assert architecture.classes == len(labels) and spec.mean == opened.frontend.mean
    with pytest.raises(InputError, match=r"has 5 labels of its own, the corpus 3: expected the same.*start\.head"):
        transfer.architecture(recipe, opened, "xyz")
    other = replace(recipe, architecture=replace(recipe.architecture, widths=PRUNED))
    with pytest.raises(InputError, match=r"start\.model pretrained: qcnn14 .*expected qcnn14 .*give architecture"):
        transfer.architecture(other, opened, "abcde")
    deaf = replace(recipe, frontend=replace(recipe.frontend, fmin=100.0))
    with pytest.raises(InputError, match="was trained on another log-mel"):
        transfer.begun(deaf, opened, architecture, 0)


def test_clips_held_back_or_of_another_split_are_not_trained_on(copies: dict[str, Corpus], tmp_path: Path) -> None:
    recipe = recipes.read(RECIPES[0].with_name("esc50-qcnn14.toml"))
    corpus = copies["esc50"]
    folds = [clip.fold for clip in corpus.clips]
    setting = follow._setting(replace(recipe, validation=Validation(fold=2)), corpus, tmp_path)
    assert {folds[i] for i in setting.clips} == {1} and {folds[i] for i in setting.validation} == {2} and setting.whole
    assert not follow.without_fold(recipe, corpus, tmp_path, 1).whole
    with pytest.raises(InputError, match="no clip of fold 9 to validate on; it has splits none, folds 1, 2"):
        follow._setting(replace(recipe, validation=Validation(fold=9)), corpus, tmp_path)
    with pytest.raises(InputError, match="no clip of split 'testing' to validate on; it has splits none"):
        follow._setting(replace(recipe, validation=Validation("testing")), corpus, tmp_path)
    audio = follow._setting(recipe, copies["audioset"], tmp_path)
    assert [copies["audioset"].clips[i].split for i in audio.clips] == ["training"] * 3 and audio.whole
    told = result.provenance(copies["audioset"].subset(audio.clips), recipe.fit, 0, 1)
    assert trained_on(told, copies["audioset"]) == copies["audioset"].subset(audio.clips).clips


def test_a_corpus_of_splits_is_validated_not_cross_validated(copies: dict[str, Corpus], tmp_path: Path) -> None:
    recipe = recipes.read(RECIPES[0].with_name("audioset-qcnn14.toml"))
    with pytest.raises(InputError, match=r"folds \[\]: expected at least 2 for cross-validation"):
        follow.cross_validation(recipe, copies["audioset"], tmp_path)


def test_several_labels_and_a_softmax_do_not_go_together(copies: dict[str, Corpus], tmp_path: Path) -> None:
    small = tiny(recipes.read(RECIPES[0].with_name("audioset-qcnn14.toml")), tmp_path)
    small = replace(small, architecture=replace(small.architecture, output="softmax"))
    with pytest.raises(InputError, match='clips have several labels, the output is a softmax; give output = "sigmoid"'):
        chain.trained(small, follow._setting(small, copies["audioset"], tmp_path), None, "test")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ('[start]\nhead = "new"', "missing key start.model"),
        ('[start]\nmodel = "a"\nhead = "old"', "start.head = 'old': expected one of new, transfer, own"),
        ("[validation]\nevery = 2", 'validation: expected split = "validation" or "testing", or a fold'),
        ('[validation]\nfold = 1\nsplit = "testing"', "validation: expected split"),
        ('[validation]\nsplit = "training"', "validation: expected split"),
        ("[validation]\nfold = 1\nkeep = 0", "validation: every = 1, keep = 0: expected 1 or more"),
        ("[fit]\nepochs = 3\niterations = 3", "fit: epochs = 3: expected none beside iterations"),
        ("[fit]\niterations = 3\ncompile = 1", "fit.compile = 1: expected true or false"),
        ("[fit]\nepochs = 3\nbatch_size = 6\nparts = 4", "fit: batch_size = 6: expected a multiple of parts, 4"),
    ],
)
def test_what_is_wrong_in_a_table_is_said(tables: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    fit = "" if "[fit]" in tables else "[fit]\nepochs = 1\n"
    path.write_text(f'name = "a"\narchitecture = "qtiny"\n{fit}{tables}\n')
    with pytest.raises(InputError, match=re.escape(message)):
        recipes.read(path)


def test_fine_tuning_may_count_otherwise_than_the_fit(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('name = "a"\narchitecture = "qtiny"\n[fit]\nepochs = 3\n[fine_tune]\niterations = 70\n')
    tuned = recipes.read(path).fine_tune
    assert tuned is not None and (tuned.epochs, tuned.iterations, tuned.unit) == (0, 70, "iterations")
    steps = replace(recipes.read(path), prune=Pruning("l1", 0.5, steps=2))
    assert [stage.fit.length for stage in chain.stages(steps) if stage.fit] == [3, 35, 35]
