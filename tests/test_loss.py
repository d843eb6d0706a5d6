"""What training minimises, against scipy's relative entropy and formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from edgeq.training import loss


def logits(seed: int, spread: float = 3.0) -> torch.Tensor:
    return spread * torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))


def targets(output: str) -> torch.Tensor:
    random = torch.rand(6, 5, generator=torch.Generator().manual_seed(9))
    return random / random.sum(dim=1, keepdim=True) if output == "softmax" else random.round()


@given(st.integers(0, 1000), st.floats(0, 0.5))
def test_cross_entropy_of_one_label_a_clip(seed: int, smoothing: float) -> None:
    expected = targets("softmax").numpy() * (1 - smoothing) + smoothing / 5
    found = loss.classification(logits(seed), targets("softmax"), "softmax", smoothing)
    log_probabilities = special.log_softmax(logits(seed).numpy(), axis=1)
    np.testing.assert_allclose(found.item(), -(expected * log_probabilities).sum(axis=1).mean(), rtol=1e-5)


@given(st.integers(0, 1000), st.floats(0, 0.5))
def test_cross_entropy_of_many_labels_a_clip_is_that_of_each_class(seed: int, smoothing: float) -> None:
    expected = targets("sigmoid").numpy() * (1 - smoothing) + smoothing / 2
    found = loss.classification(logits(seed), targets("sigmoid"), "sigmoid", smoothing)
    x = logits(seed).numpy().astype(np.float64)
    each = -(expected * special.log_expit(x) + (1 - expected) * special.log_expit(-x))
    np.testing.assert_allclose(found.item(), each.mean(), rtol=1e-5)


@given(st.integers(0, 1000), st.floats(0.5, 8))
def test_distillation_is_the_relative_entropy_of_softened_answers(seed: int, temperature: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    taught = loss.softened(teacher, "softmax", temperature)
    p, q = (special.softmax(x.numpy().astype(np.float64) / temperature, axis=1) for x in (teacher, student))
    found = loss.distillation(student, taught, "softmax", temperature)
    np.testing.assert_allclose(found.item(), special.rel_entr(p, q).sum(axis=1).mean(), rtol=1e-4, atol=1e-6)


@given(st.integers(0, 1000), st.floats(0.5, 8))
def test_distillation_of_many_labels_is_that_of_each_class(seed: int, temperature: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    taught = loss.softened(teacher, "sigmoid", temperature)
    p, q = (special.expit(x.numpy().astype(np.float64) / temperature) for x in (teacher, student))
    found = loss.distillation(student, taught, "sigmoid", temperature)
    expected = (special.rel_entr(p, q) + special.rel_entr(1 - p, 1 - q)).mean()
    np.testing.assert_allclose(found.item(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_nothing_is_left_to_learn_from_an_equal(output: str) -> None:
    student = logits(0).requires_grad_()
    found = loss.distillation(student, loss.softened(logits(0), output, 2.0), output, 2.0)
    found.backward()
    assert found.item() == pytest.approx(0, abs=1e-6)
    assert student.grad is not None and student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_certain_teachers_are_no_infinity(output: str) -> None:
    taught = loss.softened(torch.tensor([[1000.0, -1000.0]]), output, 2.0)
    assert taught.tolist() == [[1.0, 0.0]]
    assert torch.isfinite(loss.distillation(torch.tensor([[3.0, -3.0]]), taught, output, 2.0))


def test_the_gradient_has_no_factor_of_the_temperature_squared() -> None:
    student = logits(0).requires_grad_()
    taught = loss.softened(logits(1), "softmax", 4.0)
    loss.distillation(student, taught, "softmax", 4.0).backward()
    expected = (loss.softened(logits(0), "softmax", 4.0) - taught) / 4.0 / len(taught)
    torch.testing.assert_close(student.grad, expected)
