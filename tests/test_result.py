"""What is made of the scores on folds held out: of one network, of an ensemble and its members."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scripts import script

from edgeq import show
from edgeq.training.result import summary

SURE, WRONG, TORN = [0.9, 0.1], [0.2, 0.8], [0.4, 0.6]
"""Answers about clips whose target is the first class."""


def scored(*answers: list[float]) -> dict[str, Any]:
    """The scores of clips whose target is the first class, in float as in INT8."""
    correct = sum(answer[0] > answer[1] for answer in answers)
    return {
        "clips": len(answers), "correct_int8": correct, "correct_float": correct, "agreeing": len(answers),
        "log_loss_int8": 0.5, "log_loss_float": 0.25, "targets": [0] * len(answers),
        "probabilities_int8": list(answers), "probabilities_float": list(answers),
    }  # fmt: skip


def ensemble(*members: list[list[float]]) -> dict[str, Any]:
    mean = np.mean(members, axis=0).tolist()
    return scored(*mean) | {"members": {name: scored(*one) for name, one in zip("abc", members, strict=True)}}


FOLDS = {
    1: ensemble([SURE, TORN], [TORN, TORN], [TORN, SURE]),
    2: ensemble([SURE, WRONG], [SURE, WRONG], [WRONG, SURE]),
}
"""Four clips, of which the three together get three right, and would get all four without b."""


def test_members_are_judged_alone_and_by_what_the_others_do_without_them() -> None:
    found = summary(FOLDS)
    assert found["accuracy"] == 0.75
    members = found["members"]
    assert {name: one["accuracy"] for name, one in members["each"].items()} == {"a": 0.5, "b": 0.25, "c": 0.5}
    assert members["mean_accuracy"] == pytest.approx(5 / 12) and members["best_accuracy"] == 0.5
    assert members["accuracy_of_mean"] == 0.75
    assert (members["each"]["b"]["without"], members["each"]["b"]["gain"]) == (1.0, -0.25)
    for name, without in (("a", "bc"), ("b", "ac"), ("c", "ab")):
        expected = 0.0
        for fold in FOLDS.values():
            mean = sum(np.array(fold["members"][other]["probabilities_int8"]) for other in without) / 2
            expected += float((mean[:, 0] > mean[:, 1]).sum()) / 4
        assert members["each"][name]["without"] == expected
        assert members["each"][name]["gain"] == 0.75 - expected


def test_folds_confusion_matrices_are_averaged() -> None:
    found = summary({1: scored(SURE, TORN), 2: scored(SURE, SURE, SURE, WRONG)})
    assert found["confusion"] == [[2.0, 1.0], [0.0, 0.0]]
    assert found["mean_of_folds"] == (1 / 2 + 3 / 4) / 2 and found["folds"] == {"1": 0.5, "2": 0.75}


def test_of_several_labels_folds_count_alike_and_classes_are_not_confused() -> None:
    folds = {
        fold: {
            "clips": clips, "positives": [[0, 1]] * clips,
            "mean_average_precision_int8": precision, "mean_average_precision_float": precision + 0.25,
        }
        for fold, clips, precision in ((1, 10, 0.5), (4, 30, 0.25))
    }  # fmt: skip
    assert summary(folds) == {
        "clips": 40, "mean_average_precision": 0.375, "mean_average_precision_float": 0.625,
        "folds": {"1": 0.5, "4": 0.25},
    }  # fmt: skip


def test_one_network_has_no_members() -> None:
    assert "members" not in summary({1: scored(SURE, WRONG), 2: scored(SURE)})


def test_cross_validation_carries_the_spread_of_the_members() -> None:
    tool = script("tools/cross_validate.py")
    other = {1: ensemble([SURE, TORN], [SURE, SURE], [TORN, SURE]), 2: FOLDS[2]}
    by_seed = {0: summary(FOLDS), 1: summary(other)}
    found = tool._members(by_seed)
    each = found["each"]
    assert (each["b"]["accuracy"]["mean"], each["b"]["accuracy"]["seeds"]) == (0.5, 2)
    assert each["b"]["gain"]["per_seed"] == [one["members"]["each"]["b"]["gain"] for one in by_seed.values()]
    low, high = each["b"]["gain"]["over_seeds"]
    assert -1 <= low <= each["b"]["gain"]["mean"] <= high
    assert found["best"]["name"] in ("a", "b", "c") and found["best"]["mean"] == 0.5
    assert found["mean_accuracy"]["mean"] == pytest.approx(np.mean([one["accuracy"]["mean"] for one in each.values()]))
    assert found["accuracy_of_mean"]["mean"] == np.mean([one["accuracy"] for one in by_seed.values()])


def test_a_member_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    show.training({"metrics": summary(FOLDS)})
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "b 25.0% 25.0% 100.0% -25.0%" in rows
    assert any(row.startswith("accuracy 75.0% (") for row in rows)
