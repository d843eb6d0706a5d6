"""The maximum over an axis learns under torch.compile what it learns without."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from edgeq.nets.maximum import maximum


def loss(x: Tensor, most: Callable[[Tensor], Tensor]) -> Tensor:
    """Something whose values a compiler computes again for the gradient, without rounding them to bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        x = (x.bfloat16() * 1.5).relu().mean(dim=2)
        return (most(x) + x.mean(dim=2)).float().square().sum()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a processor")
def test_its_gradient_is_that_of_amax_compiled_or_not() -> None:
    gradients = []
    for compiled, most in ((False, lambda x: x.amax(dim=2)), (True, lambda x: maximum(x, dim=2))):
        torch.manual_seed(0)
        x = torch.randn(2, 16, 4, 30).requires_grad_()
        made = torch.compile(loss) if compiled else loss
        made(x, most).backward()
        assert x.grad is not None
        gradients.append(x.grad)
    # What is fused is not rounded in between, as it is without: a last bit of bfloat16 apart.
    torch.testing.assert_close(*gradients, rtol=2**-6, atol=2**-6)


def test_equal_maxima_share_the_gradient() -> None:
    x = torch.tensor([[1.0, 3.0, 3.0]]).requires_grad_()
    maximum(x, dim=1).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[0.0, 0.5, 0.5]]
