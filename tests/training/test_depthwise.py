"""The own backward pass of the depthwise convolution gives torch's gradients."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("numba")

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from training.agcm.depthwise import DepthwiseConv2d, _gradients

few = settings(max_examples=25, deadline=None)
SIDES = st.integers(1, 9)


def gradients(out: Tensor, x: Tensor, weight: Tensor, seed: int) -> list[Tensor]:
    """Gradients of x and weight for a random gradient of the output."""
    slope = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed)).to(out.dtype)
    return list(torch.autograd.grad(out, (x, weight), slope))


def case(
    seed: int, batch: int, channels: int, sides: tuple[int, int], kernel: int, stride: int
) -> tuple[DepthwiseConv2d, Tensor]:
    torch.manual_seed(seed)
    return DepthwiseConv2d(channels, kernel, stride).train(), torch.randn(batch, channels, *sides).requires_grad_()


@few
@given(
    st.integers(0, 9), st.integers(1, 4), st.integers(1, 9), st.tuples(SIDES, SIDES), st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([1, 2, 3]), st.booleans(),
)  # fmt: skip
def test_output_and_gradients_are_those_of_torch(
    seed: int, batch: int, channels: int, sides: tuple[int, int], kernel: int, stride: int, channels_last: bool
) -> None:
    layer, x = case(seed, batch, channels, sides, kernel, stride)
    given_x = x.to(memory_format=torch.channels_last) if channels_last else x
    reference = F.conv2d(x, layer.weight, None, stride, kernel // 2, groups=channels)
    out = layer(given_x)
    assert "_Depthwise" in type(out.grad_fn).__name__, "the own backward pass is the one under test"
    torch.testing.assert_close(out, reference)
    for ours, theirs in zip(
        gradients(out, x, layer.weight, seed), gradients(reference, x, layer.weight, seed), strict=True
    ):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_under_autocast_it_runs_in_bf16_and_its_weights_learn_in_fp32(stride: int) -> None:
    layer, x = case(0, 3, 8, (9, 8), 5, stride)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    exact = F.conv2d(x, layer.weight, None, stride, 2, groups=8)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, atol=0.05, rtol=0.02)
    ours, theirs = gradients(out, x, layer.weight, 1), gradients(exact, x, layer.weight, 1)
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - reference).norm() < 0.02 * reference.norm()


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_the_split_over_threads_changes_nothing(parts: int) -> None:
    """More parts than faces leave some of them empty."""
    rng = np.random.default_rng(0)
    x, w, gy = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 6, 5, 4), (3, 3, 4), (3, 6, 5, 4)))
    one, some = _gradients(x, w, gy, 1, 1), _gradients(x, w, gy, 1, parts)
    np.testing.assert_array_equal(some[0], one[0])
    np.testing.assert_allclose(some[1], one[1], rtol=1e-4, atol=1e-5)


def test_without_gradients_torch_runs_alone() -> None:
    layer, x = case(0, 2, 4, (6, 6), 3, 1)
    expected = F.conv2d(x, layer.weight, None, 1, 1, groups=4)
    assert type(layer.eval()(x).grad_fn).__name__ == "ConvolutionBackward0"
    with torch.no_grad():
        assert torch.equal(layer.train()(x), expected)
