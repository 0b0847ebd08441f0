"""The VAE: modes of its modules, covariates, preprocessing, samples."""

import pytest
import torch
from torch import nn

from priory import (
    VAE,
    BernoulliDecoder,
    NegativeBinomialDecoder,
    NormalEncoder,
    Rescale,
    StandardNormal,
    VampPrior,
    diagonal_normal,
    elbo,
    mlp,
)
from priory.model import evaluation_mode


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class BatchNormEncoder(nn.Module):
    """An encoder with batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))

    def forward(self, x):
        loc, log_variance = self.network(x).chunk(2, -1)
        return diagonal_normal(loc, torch.exp(0.5 * log_variance))


def test_pseudo_inputs_do_not_move_batch_norm_statistics():
    vae = VAE(BatchNormEncoder(), BernoulliDecoder(mlp(2, [], 6)), VampPrior(torch.rand(5, 6)))
    norm, dropout = vae.encoder.network[1], vae.encoder.network[2]
    before = norm.running_mean.clone()
    z = torch.zeros(3, 2)
    first, second = vae.latent_prior().log_prob(z), vae.latent_prior().log_prob(z)
    assert torch.equal(first, second)  # dropout is off, too
    assert torch.equal(norm.running_mean, before)
    assert norm.training
    assert dropout.training
    first.sum().backward()
    assert vae.prior.raw_pseudo_inputs.grad.abs().max() > 0
    vae.encode(torch.rand(4, 6))
    assert not torch.equal(norm.running_mean, before)  # encoding data changes them


def _fail_in_evaluation_mode(module):
    with evaluation_mode(module):
        raise RuntimeError(str(module[0].training))


def test_modes_are_restored_after_an_error():
    module = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    with pytest.raises(RuntimeError, match="False"):
        _fail_in_evaluation_mode(module)
    assert [m.training for m in module] == [True, False]


def test_covariates_of_the_datum_reach_the_decoder():
    decoder = NegativeBinomialDecoder(mlp(2, [], 6), library_sizes=torch.full((10,), 50.0))
    vae = VAE(NormalEncoder(mlp(6, [], 4)), decoder, StandardNormal(2))
    x = torch.tensor([[10.0] * 6, [100.0] * 6])
    torch.testing.assert_close(vae.decode(torch.zeros(2, 2), **vae.covariates(x)).mean.sum(-1), x.sum(-1))
    torch.testing.assert_close(vae.decode(torch.zeros(2, 2)).mean.sum(-1), torch.full((2,), 50.0))
    torch.testing.assert_close(vae.reconstruct(x).sum(-1), x.sum(-1))
    assert elbo(vae, x, num_samples=3).reconstruction.shape == (2,)


def test_encoder_reads_preprocessed_data():
    vae = VAE(NormalEncoder(mlp(6, [], 4)), BernoulliDecoder(mlp(2, [], 6)), StandardNormal(2), Rescale(0.0, 10.0))
    x = 10 * torch.rand(3, 6)
    torch.testing.assert_close(vae.encode(x).mean, vae.encoder(x / 10).mean)


@pytest.mark.parametrize("shape", [(), 3, (2, 3)])
def test_samples_of_a_vae_have_the_requested_shape(shape):
    vae = VAE(NormalEncoder(mlp(6, [], 4)), BernoulliDecoder(mlp(2, [], 6)), VampPrior(torch.rand(5, 6)))
    expected = (*((shape,) if isinstance(shape, int) else shape), 6)
    draws, means = vae.sample(shape), vae.sample(shape, mean=True)
    assert draws.shape == means.shape == expected
    assert ((draws == 0) | (draws == 1)).all()
    assert ((means > 0) & (means < 1)).all()


def test_latent_dimensions_must_agree():
    with pytest.raises(ValueError, match="expected 2 latent dimensions, as the encoder has, got 3"):
        VAE(NormalEncoder(mlp(6, [], 4)), BernoulliDecoder(mlp(2, [], 6)), StandardNormal(3))


def test_state_dict_has_no_shared_tensors():
    vae = VAE(NormalEncoder(mlp(6, [], 4)), BernoulliDecoder(mlp(2, [], 6)), VampPrior(torch.rand(5, 6)))
    vae.latent_prior()
    pointers = [p.data_ptr() for p in vae.state_dict().values()]
    assert len(pointers) == len(set(pointers))  # safetensors refuses shared tensors
