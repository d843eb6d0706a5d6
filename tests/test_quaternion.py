"""Quaternion algebra and layers against products written out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from edgeq.errors import InputError
from edgeq.lowering.block import block_kernel, nearest_components
from edgeq.nets.hamilton import hamilton_product
from edgeq.nets.quaternion import (
    QuaternionConv2d,
    QuaternionLinear,
    block_weight,
    quaternion_he_normal_,
    quaternion_init_,
)

quaternion = arrays(np.float64, 4, elements=st.floats(-1e3, 1e3))
few = st.integers(1, 3)


def by_hand(p, q):
    """The product expanded from i^2 = j^2 = k^2 = ijk = -1, one term at a time."""
    a1, b1, c1, d1 = p
    a2, b2, c2, d2 = q
    return np.array(
        [
            a1 * a2 - b1 * b2 - c1 * c2 - d1 * d2,
            a1 * b2 + b1 * a2 + c1 * d2 - d1 * c2,
            a1 * c2 - b1 * d2 + c1 * a2 + d1 * b2,
            a1 * d2 + b1 * c2 - c1 * b2 + d1 * a2,
        ]
    )


def split(channels):
    """Component-major channels (4 n, ...) to quaternions (n, ..., 4)."""
    return np.moveaxis(channels.reshape(4, -1, *channels.shape[1:]), 0, -1)


def join(quaternions):
    """Quaternions (n, ..., 4) to component-major channels (4 n, ...)."""
    components = np.moveaxis(quaternions, -1, 0)
    return components.reshape(-1, *components.shape[2:])


def test_units_multiply_as_hamilton_carved_them():
    one, i, j, k = np.eye(4)
    for unit in (i, j, k):
        assert np.array_equal(hamilton_product(unit, unit), -one)
    assert np.array_equal(hamilton_product(i, j), k)
    assert np.array_equal(hamilton_product(j, k), i)
    assert np.array_equal(hamilton_product(k, i), j)
    assert np.array_equal(hamilton_product(j, i), -k)
    assert np.array_equal(hamilton_product(hamilton_product(i, j), k), -one)


@given(quaternion, quaternion)
def test_the_product_is_the_expanded_one(p, q):
    np.testing.assert_allclose(hamilton_product(p, q), by_hand(p, q), rtol=1e-12, atol=1e-6)


@given(quaternion, quaternion)
def test_the_norm_is_multiplicative(p, q):
    assert np.linalg.norm(hamilton_product(p, q)) == pytest.approx(np.linalg.norm(p) * np.linalg.norm(q), rel=1e-9)


@given(quaternion, quaternion, quaternion)
def test_the_product_is_associative(p, q, r):
    left, right = hamilton_product(hamilton_product(p, q), r), hamilton_product(p, hamilton_product(q, r))
    np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-3)


def test_leading_axes_broadcast():
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(5, 1, 4)), rng.normal(size=(3, 4))
    product = hamilton_product(p, q)
    assert product.shape == (5, 3, 4)
    np.testing.assert_allclose(product[4, 2], by_hand(p[4, 0], q[2]))


@pytest.mark.parametrize(("left", "right"), [((3,), (4,)), ((4,), (2, 5)), ((), (4,)), ((4, 1), (4,))])
def test_other_than_four_components_are_refused(left, right):
    with pytest.raises(ValueError, match="expected 4 and 4"):
        hamilton_product(np.zeros(left), np.zeros(right))


@settings(max_examples=40)
@given(
    few, few, st.integers(3, 6), st.integers(3, 6), few, few, st.tuples(few, few), st.integers(0, 2), st.booleans(),
    st.integers(0, 2**31),
)  # fmt: skip
def test_convolution_is_a_sum_of_hamilton_products(
    inputs, outputs, height, width, rows, columns, stride, pad, biased, seed
):
    rng = np.random.default_rng(seed)
    layer = QuaternionConv2d(4 * inputs, 4 * outputs, (rows, columns), stride, pad, bias=biased).double()
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    x = rng.normal(size=(4 * inputs, height, width))
    with torch.no_grad():
        found = layer(torch.from_numpy(x)[None])[0].numpy()
    kernel = np.moveaxis(layer.weight.detach().numpy(), 0, -1)  # (out, in, rows, columns, 4)
    image = np.pad(split(x), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    size = (height + 2 * pad - rows) // stride[0] + 1, (width + 2 * pad - columns) // stride[1] + 1
    expected = np.zeros((outputs, *size, 4))
    for o, y, z in np.ndindex(outputs, *size):
        for i, r, c in np.ndindex(inputs, rows, columns):
            expected[o, y, z] += by_hand(kernel[o, i, r, c], image[i, y * stride[0] + r, z * stride[1] + c])
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()[:, None, None]
    np.testing.assert_allclose(found, join(expected) + bias, rtol=1e-9, atol=1e-9)


@settings(max_examples=40)
@given(few, few, st.integers(0, 2**31))
def test_the_dense_layer_is_a_sum_of_hamilton_products(inputs, outputs, seed):
    rng = np.random.default_rng(seed)
    layer = QuaternionLinear(4 * inputs, 4 * outputs).double()
    torch.nn.init.normal_(layer.bias)
    x = rng.normal(size=4 * inputs)
    with torch.no_grad():
        found = layer(torch.from_numpy(x)[None])[0].numpy()
    weight, q = np.moveaxis(layer.weight.detach().numpy(), 0, -1), split(x)
    expected = np.array([sum(by_hand(weight[o, i], q[i]) for i in range(inputs)) for o in range(outputs)])
    np.testing.assert_allclose(found, join(expected) + layer.bias.detach().numpy(), rtol=1e-9, atol=1e-9)


@given(few, few, st.lists(few, max_size=2), st.integers(0, 2**31))
def test_numpy_and_torch_build_the_same_block_kernel_without_rounding(outputs, inputs, window, seed):
    components = np.random.default_rng(seed).normal(size=(4, outputs, inputs, *window)).astype(np.float32)
    kernel = block_kernel(components)
    assert np.array_equal(kernel, block_weight(torch.from_numpy(components)).numpy())
    r, i, j, k = components
    written = [[r, -i, -j, -k], [i, r, -k, j], [j, k, r, -i], [k, -j, i, r]]
    assert np.array_equal(kernel, np.concatenate([np.concatenate(row, axis=1) for row in written]))


@given(few, few, st.lists(few, max_size=2), st.integers(0, 2**31))
def test_the_nearest_block_kernel_is_the_least_squares_one(outputs, inputs, window, seed):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(4 * outputs, 4 * inputs, *window))
    components, missed = nearest_components(kernel)
    rest = kernel - block_kernel(components)
    # Orthogonal to every block kernel: nothing of that form comes nearer.
    for other in (components, rng.normal(size=components.shape)):
        assert np.vdot(rest, block_kernel(other)) == pytest.approx(0, abs=1e-9)
    assert missed == pytest.approx(np.linalg.norm(rest) / np.linalg.norm(kernel))
    assert missed**2 + (np.linalg.norm(block_kernel(components)) / np.linalg.norm(kernel)) ** 2 == pytest.approx(1)


@given(few, few, st.lists(few, max_size=2), st.sampled_from([np.float32, np.float64]), st.integers(0, 2**31))
def test_a_block_kernel_is_its_own_nearest(outputs, inputs, window, dtype, seed):
    components = np.random.default_rng(seed).normal(size=(4, outputs, inputs, *window)).astype(dtype)
    found, missed = nearest_components(block_kernel(components))
    assert found.dtype == dtype and missed == 0
    assert np.array_equal(found, components)


def test_of_weights_without_structure_a_quarter_of_the_energy_is_kept():
    kernel = np.random.default_rng(0).normal(size=(64, 32, 3, 3))
    assert nearest_components(kernel)[1] == pytest.approx(np.sqrt(3) / 2, abs=0.01)
    assert nearest_components(np.zeros((4, 4)))[1] == 0


@pytest.mark.parametrize("shape", [(64, 1, 3, 3), (6, 4), (4,)])
def test_where_there_is_no_quaternion_there_is_no_nearest_one(shape):
    with pytest.raises(InputError, match=r"kernel of shape \(.*\): expected \(out, in, ...\), both multiples of 4"):
        nearest_components(np.zeros(shape))


def test_gradients_reach_the_components():
    torch.manual_seed(0)
    layer = QuaternionConv2d(8, 4, 3, padding=1, bias=True).double()
    x = torch.randn(1, 8, 4, 5, dtype=torch.float64)
    weight = layer.weight.detach().clone().requires_grad_()

    def forward(weight):
        return torch.func.functional_call(layer, {"weight": weight}, x)

    assert torch.autograd.gradcheck(forward, weight)


def test_channels_last_gives_the_same():
    torch.manual_seed(0)
    layer, x = QuaternionConv2d(8, 16, 3, padding=1), torch.randn(2, 8, 9, 7)
    torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), layer(x))


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda: QuaternionConv2d(4, 22, 3), "QuaternionConv2d output: 22"),
        (lambda: QuaternionConv2d(1, 16, 3), "QuaternionConv2d input: 1"),
        (lambda: QuaternionLinear(64, 10), "QuaternionLinear output: 10"),
        (lambda: QuaternionLinear(6, 8), "QuaternionLinear input: 6"),
    ],
)
def test_widths_are_whole_quaternions(make, wrong):
    with pytest.raises(InputError, match=wrong):
        make()


@pytest.mark.parametrize(
    ("criterion", "scale"),
    [("glorot", 1 / np.sqrt(2 * (16 * 9 + 24 * 9))), ("he", 1 / np.sqrt(2 * 16 * 9))],
)
def test_initialisation_is_polar(criterion, scale):
    weight = quaternion_init_(torch.empty(4, 24, 16, 3, 3, dtype=torch.float64), criterion, seeded(1)).numpy()
    r, i, j, k = weight.reshape(4, -1)
    modulus = np.sqrt(r**2 + i**2 + j**2 + k**2)
    assert stats.kstest(modulus / scale, stats.chi(4).cdf).pvalue > 1e-3
    assert (modulus**2).mean() == pytest.approx(4 * scale**2, rel=0.05)
    # The real part is the modulus times the cosine of a uniform phase; the axis of the rest is uniform on the sphere,
    # so each of its coordinates is uniform (Archimedes).
    assert stats.kstest(np.arccos(r / modulus), stats.uniform(0, np.pi).cdf).pvalue > 1e-3
    for part in (i, j, k):
        assert stats.kstest(part / np.sqrt(i**2 + j**2 + k**2), stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_he_normal_has_the_variance_of_the_real_fan_in():
    torch.manual_seed(1)
    weight = quaternion_he_normal_(torch.empty(4, 24, 16, 3, 3))
    deviation = np.sqrt(2 / (64 * 9))
    for component in weight.numpy().reshape(4, -1):
        assert stats.kstest(component / deviation, stats.norm.cdf).pvalue > 1e-3


def test_initialisation_is_repeatable_and_refuses_another_criterion():
    first, second = (quaternion_init_(torch.empty(4, 2, 2), "he", seeded(7)) for _ in range(2))
    assert torch.equal(first, second)
    with pytest.raises(ValueError, match="expected 'glorot' or 'he'"):
        quaternion_init_(torch.empty(4, 2, 2), "lecun")


def seeded(seed):
    return torch.Generator().manual_seed(seed)
