"""Several levels of latent variables against the joint normal that a chain of linear normals is."""

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from priory import (
    diagonal_normal,
)
from priory.distributions.chain import Chain

A, B, C = 2, 3, 2  # dimensions of the levels


def linear(weight: Tensor, scale: float):
    return lambda a: diagonal_normal(a @ weight.T, torch.full((*a.shape[:-1], len(weight)), scale).to(a))


def chain_and_joint(levels: int) -> tuple[Chain, MultivariateNormal]:
    """N(0, I), then N(W a, 0.5^2 I), then N(V (a, b), 0.7^2 I); and their joint normal."""
    generator = torch.Generator().manual_seed(0)
    w, v = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((B, A), (C, A + B)))
    first = diagonal_normal(torch.zeros(A).double(), torch.ones(A).double())
    total = A + B + (C if levels == 3 else 0)
    mixing = torch.eye(total).double()  # of independent noise into the levels, one after another
    mixing[A : A + B, A : A + B] *= 0.5
    mixing[A : A + B, :A] = w
    if levels == 2:
        return Chain(first, linear(w, 0.5), B), joint(mixing)
    mixing[A + B :, A + B :] *= 0.7
    mixing[A + B :] += torch.cat([v, torch.zeros(C, C).double()], 1) @ mixing * (torch.arange(total) < A + B)

    def rest(a: Tensor) -> Chain:
        return Chain(linear(w, 0.5)(a), lambda b: linear(v, 0.7)(torch.cat([a.expand(*b.shape[:-1], -1), b], -1)), C)

    return Chain(first, rest, B + C), joint(mixing)


def joint(mixing: Tensor) -> MultivariateNormal:
    return MultivariateNormal(torch.zeros(len(mixing)).double(), mixing @ mixing.T)


@pytest.mark.parametrize("levels", [2, 3])
def test_a_chain_of_linear_normals_is_their_joint_normal(levels):
    chain, expected = chain_and_joint(levels)
    z = 2 * torch.randn(50, *expected.event_shape, dtype=torch.float64)
    torch.testing.assert_close(chain.log_prob(z), expected.log_prob(z))
    by_level = chain.log_prob_by_level(z)
    assert by_level.shape == (50, levels)
    torch.testing.assert_close(by_level.sum(-1), expected.log_prob(z))
    for draws in (chain.sample((200_000,)), chain.rsample((200_000,))):
        torch.testing.assert_close(draws.T.cov(), expected.covariance_matrix, rtol=0.03, atol=0.03)
