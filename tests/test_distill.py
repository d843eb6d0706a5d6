"""edgeq distill: a student learns from bundles, and its own says from which."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from beeps import RECIPE, beeps

from edgeq import bundle, cli, corpora, goldens
from edgeq.bundle import Bundle
from edgeq.compress import distill, follow, pruned
from edgeq.errors import InputError
from edgeq.training.config import Distillation


@pytest.fixture(autouse=True, scope="module")
def few_sounds() -> Iterator[None]:
    """These networks decide little: do not search a thousand sounds for goldens."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(goldens, "_CANDIDATES", goldens.COUNT)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    beeps(folder)
    return folder


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("teacher")
    (folder / "recipe.toml").write_text(RECIPE.replace("epochs = 12", "epochs = 4"))
    return bundle.read(follow.run(folder / "recipe.toml", data, folder / "beeps")["bundle"])


def student(teacher: Bundle, data: Path, output: Path, name: str | Path, **changes: object) -> Bundle:
    arguments = {"epochs": 2, "threads": 1, **changes}
    result = distill.run([teacher.folder], name, data, output, **arguments)  # type: ignore[arg-type]
    assert result["metrics"]["lowered"] > 0
    return bundle.read(result["bundle"])


def test_a_fresh_student_hears_through_its_teachers_front_end(teacher: Bundle, data: Path, tmp_path: Path) -> None:
    built = student(teacher, data, tmp_path / "one", "dcase22-c1")
    bundle.check(built)
    assert (built.name, built.labels) == ("one", ("high", "low"))
    assert built.architecture.widths == (12, 16, 32, 100)
    assert built.frontend.floor == 1e-3 and built.frontend.derivatives == "none"
    assert built.provenance["distilled"] == {
        "alpha": 0.5,
        "temperature": 2.0,
        "teachers": [{"name": "beeps", "weights_sha256": teacher.files["weights.safetensors"].sha256}],
    }
    assert not list(tmp_path.rglob("*.checkpoint"))


def test_a_student_whose_input_is_another_keeps_its_own_front_end(teacher: Bundle, data: Path, tmp_path: Path) -> None:
    built = student(teacher, data, tmp_path / "one", "qnano")
    assert built.frontend.sample_rate == 32_000 and built.architecture.classes == 2


def test_a_pruned_student_goes_on_from_its_weights(teacher: Bundle, data: Path, tmp_path: Path) -> None:
    smaller = pruned.run(teacher.folder, tmp_path / "smaller", method="l1", ratio=0.5, sites=("conv3",)).bundle
    built = student(teacher, data, tmp_path / "tuned", smaller.folder, learning_rate=1e-9)
    assert built.frontend == smaller.frontend
    before, after = smaller.weights(), built.weights()
    np.testing.assert_allclose(after["conv3.weight"], before["conv3.weight"], atol=1e-6)


def test_seed_alpha_and_teachers_make_a_difference(teacher: Bundle, data: Path, tmp_path: Path) -> None:
    def weights(**changes: object) -> str:
        built = student(teacher, data, tmp_path / f"{len(list(tmp_path.iterdir()))}", "dcase22-c123", **changes)
        return built.files["weights.safetensors"].sha256

    first = weights()
    assert first == weights()
    assert len({first, weights(seed=1), weights(how=Distillation(0.9)), weights(how=Distillation(0.5, 4.0))}) == 4


def test_command(teacher: Bundle, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--teacher", teacher.folder, "--teacher", teacher.folder, "--student", "dcase22-c1", "--data", data]
    with pytest.raises(SystemExit) as left:
        cli.main(["distill", *map(str, arguments), "--epochs", "1", "-o", str(tmp_path / "out"), "--json"])
    assert left.value.code == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"bundle", "metrics"}
    assert len(bundle.read(result["bundle"]).provenance["distilled"]["teachers"]) == 2


@pytest.mark.parametrize(
    ("teacher_name", "student_name", "options", "message"),
    [
        ("esc10-tiny", "qnano", [], "teacher esc10-tiny: 10 labels, the student 2: it does not know high, low and has"),
        ("{teacher}", "esc10-qtiny", [], "lacks high, low and it has chainsaw, clock_tick, "),
        ("{teacher}", "cnn14", [], "hears windows of 1 s, the student of 10 s: 9 s apart; expected equal windows"),
        ("nobody", "qnano", [], "model 'nobody'"),
        ("{teacher}", "nobody", [], "model 'nobody'"),
        ("{teacher}", "qnano", ["--alpha", "2"], "alpha 2.0: expected a number from 0 to 1"),
        ("{teacher}", "qnano", ["--learning-rate", "0"], "learning_rate = 0.0: expected a positive number"),
    ],
)
def test_bad_input_is_one_line(
    teacher: Bundle, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    teacher_name: str, student_name: str, options: list[str], message: str,
) -> None:  # fmt: skip
    named = teacher_name.format(teacher=teacher.folder)
    with pytest.raises(SystemExit) as left:
        asked = ["--teacher", named, "--student", student_name, "--data", str(data), "-o", str(tmp_path / "out")]
        cli.main(["distill", *asked, *options])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_somebody_has_to_teach(data: Path) -> None:
    with pytest.raises(InputError, match="no teacher"):
        distill.run([], "qnano", data)


def test_a_name_that_no_bundle_can_have_is_refused_before_the_training(
    teacher: Bundle, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="name 'two words': expected letters"):
        distill.run([teacher.folder], "qnano", data, tmp_path / "two words")
    assert not (tmp_path / "training").exists()


def test_neither_teacher_nor_student_is_written_over(teacher: Bundle, data: Path, tmp_path: Path) -> None:
    smaller = pruned.run(teacher.folder, tmp_path / "smaller", method="l1", ratio=0.5, sites=("conv3",)).bundle
    for model in (teacher, smaller):
        with pytest.raises(InputError, match=f"is {model.name} itself; choose another folder with -o"):
            distill.run([teacher.folder], smaller.folder, data, model.folder)
        bundle.check(bundle.read(model.folder))


def test_a_fresh_student_derives_as_its_teacher_does(teacher: Bundle, data: Path) -> None:
    narrow = replace(teacher.frontend, derivative_width=5)
    _, _, spec, _ = distill._student("qdcase22", replace(teacher, frontend=narrow), corpora.open(data))
    assert spec == narrow
