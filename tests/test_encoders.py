"""The normal encoder, compared with its formula, for ordinary and extreme outputs of the network."""

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from priory.nn.encoders import Encoder, NormalEncoder
from priory.nn.networks import mlp


class Constant(nn.Module):
    """A network that ignores its input and returns the same row for each."""

    def __init__(self, row):
        super().__init__()
        self.row = nn.Parameter(torch.as_tensor(row))

    def forward(self, features):
        return self.row.expand(*features.shape[:-1], -1)


def test_log_prob_equals_the_formula():
    encoder = NormalEncoder(Constant([1.0, -2.0, 0.5, -1.5]))
    z = torch.tensor([0.3, -1.0])
    expected = 0.0
    for dimension, (loc, log_variance) in enumerate([(1.0, 0.5), (-2.0, -1.5)]):
        variance = torch.tensor(log_variance).exp()
        expected = expected - 0.5 * ((z[dimension] - loc) ** 2 / variance + torch.log(2 * torch.pi * variance))
    torch.testing.assert_close(encoder(torch.zeros(5)).log_prob(z), expected)


def test_sampler_draws_from_the_density():
    """The published listing uses the variance as standard deviation, here 0.37 instead of 0.61."""
    encoder = NormalEncoder(Constant([3.0, -1.0]))
    torch.manual_seed(0)
    z = encoder(torch.zeros(5)).sample((20_000,))
    scale = torch.tensor(-0.5).exp()
    assert abs(z.mean() - 3.0) < 5 * scale / 20_000**0.5
    assert abs(z.std() - scale) < 5 * scale / (2 * 20_000) ** 0.5


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (4, 2, 3), (0,)])
def test_posterior_has_the_batch_shape_of_the_rows(leading):
    encoder = NormalEncoder(mlp(5, [7], 4))
    q_z = encoder(torch.randn(*leading, 5))
    assert isinstance(encoder, Encoder)
    assert isinstance(q_z, Independent)
    assert isinstance(q_z.base_dist, Normal)
    assert (q_z.batch_shape, q_z.event_shape, q_z.has_rsample) == (leading, (2,), True)


@pytest.mark.parametrize("output", [-1e30, -200.0, 200.0, 1e30])
def test_scale_is_finite_and_positive_for_any_network_output(output):
    q_z = NormalEncoder(Constant([0.0, output]))(torch.zeros(5))
    assert 0 < q_z.stddev.item() < float("inf")
    assert q_z.log_prob(q_z.sample()).isfinite()


@pytest.mark.parametrize("log_variance", [-13.9, -6.5, 0.0, 2.5, 5.9])
def test_gradient_does_not_vanish_in_the_default_range(log_variance):
    network = Constant([0.0, log_variance])
    NormalEncoder(network)(torch.zeros(5)).entropy().backward()
    torch.testing.assert_close(network.row.grad, torch.tensor([0.0, 0.5]))  # entropy = log_variance / 2 + constant


@pytest.mark.parametrize(("log_variance", "clipped"), [(-9.0, -6.0), (-5.0, -5.0), (1.0, 1.0), (7.0, 2.0)])
def test_a_given_range_clips_log_variances(log_variance, clipped):
    q_z = NormalEncoder(Constant([0.0, log_variance]), log_variance_range=(-6.0, 2.0))(torch.zeros(5))
    torch.testing.assert_close(q_z.variance, torch.tensor([clipped]).exp())


def test_log_variances_are_not_clipped_without_a_range():
    q_z = NormalEncoder(Constant([0.0, -40.0]), log_variance_range=None)(torch.zeros(5))
    torch.testing.assert_close(q_z.stddev, torch.tensor([-20.0]).exp())


def test_autocast_gives_a_float32_distribution():
    encoder = NormalEncoder(mlp(5, [7], 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert encoder.network(torch.randn(3, 5)).dtype == torch.bfloat16
        q_z = encoder(torch.randn(3, 5))
        assert (q_z.mean.dtype, q_z.stddev.dtype) == (torch.float32, torch.float32)
        assert q_z.rsample().dtype == torch.float32


def test_float64_stays_float64():
    encoder = NormalEncoder(mlp(5, [7], 4)).double()
    assert encoder(torch.randn(3, 5, dtype=torch.float64)).mean.dtype == torch.float64


def test_latent_dim_is_known_if_the_networks_width_is():
    assert NormalEncoder(mlp(5, [7], 6)).latent_dim == 3
    assert NormalEncoder(Constant([0.0, 0.0])).latent_dim is None


@pytest.mark.parametrize("log_variance_range", [(2.0, -6.0), (1.0, 1.0), (float("-inf"), 2.0), (float("nan"), 2.0)])
def test_invalid_ranges_are_refused(log_variance_range):
    with pytest.raises(ValueError, match="log_variance_range: expected two finite numbers, low < high"):
        NormalEncoder(nn.Linear(2, 2), log_variance_range=log_variance_range)


def test_an_odd_number_of_outputs_is_refused():
    with pytest.raises(ValueError, match=r"2 \* latent_dim outputs per row .* got 3"):
        NormalEncoder(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="got 3"):
        NormalEncoder(Constant([0.0, 0.0, 0.0]))(torch.zeros(5))
