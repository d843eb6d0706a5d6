"""What training minimises: cross-entropy with the labels, and the distance from a teacher's softened answers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def classification(logits: Tensor, targets: Tensor, output: str, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of a batch with its labels: of the softmax, or of each sigmoid on its own, mean over the classes.

    logits, targets: (batch, classes); targets sum to 1 a row for "softmax", are 0 to 1 for "sigmoid". label_smoothing
    moves targets that far towards an even draw: 1 / classes each, or 1/2. Returns the mean over the batch.
    """
    if output == "softmax":
        return functional.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    return functional.binary_cross_entropy_with_logits(logits, targets * (1 - label_smoothing) + label_smoothing / 2)


def softened(logits: Tensor, output: str, temperature: float) -> Tensor:
    """Probabilities (batch, classes) at a temperature: softmax, or each class's sigmoid, of logits / temperature."""
    return (logits / temperature).softmax(dim=1) if output == "softmax" else (logits / temperature).sigmoid()


def distillation(logits: Tensor, taught: Tensor, output: str, temperature: float) -> Tensor:
    """KL divergence of a student's softened answers from its teacher's, KL(teacher || student), mean over the batch.

    logits: of the student, (batch, classes). taught: `softened` answers of the teacher at the same temperature. For
    "sigmoid" it is that of the two Bernoulli distributions of each class, mean over the classes, as `classification`.
    There is no factor temperature^2: the paper's equation has none (Hinton et al. 2015 multiply by it, so that the
    gradient of this term keeps its size as the temperature rises).
    Source: quaternion paper, Eqs. 2 and 3, of which this is the second term of the sum.
    """
    if output == "softmax":
        return functional.kl_div((logits / temperature).log_softmax(dim=1), taught, reduction="batchmean")
    entropy = -(torch.xlogy(taught, taught) + torch.xlogy(1 - taught, 1 - taught)).mean()
    return functional.binary_cross_entropy_with_logits(logits / temperature, taught) - entropy
