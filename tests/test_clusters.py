"""The VampPrior mixture, and the components of mixtures as clusters."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Dirichlet, MultivariateNormal, Normal, Wishart

from oracles import small_encoder
from priory import (
    VAE,
    BernoulliDecoder,
    ComponentCovariates,
    ConditionalDecoder,
    ConditionalEncoder,
    ConditionalMixturePrior,
    ConditionalVAE,
    GaussianDecoder,
    HierarchicalEncoder,
    HierarchicalPrior,
    MixtureOfGaussians,
    NormalEncoder,
    ResampledPrior,
    StandardNormal,
    VampPriorMixture,
    as_model,
    cluster_agreement,
    clusters,
    diagonal_normal,
    mlp,
    refit,
    with_context,
)
from priory.evaluation import has_clusters
from priory.training import fit

K, L, D = 7, 3, 6


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def mixture(components: int = K, latent_dim: int = L, **options) -> VampPriorMixture:
    prior = VampPriorMixture.from_data(
        torch.rand(50, D), components, latent_dim=latent_dim, low=0.0, high=1.0, **options
    )
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return prior


def blobs(number: int = 300) -> tuple[torch.Tensor, np.ndarray]:
    """Three separate groups of rows, and the group of each row."""
    kinds = torch.arange(number) % 3
    return 4 * torch.eye(3, D)[kinds] + 0.3 * torch.randn(number, D), kinds.numpy()


def model_of_blobs(components: int = 12, **options) -> tuple[VAE, torch.Tensor, np.ndarray]:
    x, kinds = blobs()
    prior = VampPriorMixture.from_data(x, components, latent_dim=2, **options)
    encoder, network = NormalEncoder(mlp(D, [32], 4)), mlp(2, [32], D)
    return VAE(encoder, GaussianDecoder(network, torch.zeros(D), torch.ones(D)), prior), x, kinds


def test_log_prior_equals_dirichlet_normal_and_wishart_up_to_a_constant():
    encoder = small_encoder(D, L).double().requires_grad_(False)

    def by_torch(prior: VampPriorMixture) -> float:
        q, scale = encoder(prior.pseudo_inputs), torch.eye(L) * K ** (1 / L) / (L + 2) ** 0.5
        weights = Dirichlet(torch.full((K,), 2.0 / K).double()).log_prob(prior.mixing_weights)
        centers = [
            MultivariateNormal(torch.zeros(L).double(), torch.eye(L).double()).log_prob(m)
            - 0.5 * torch.diag_embed(v).trace()
            for m, v in zip(q.mean, q.variance, strict=True)
        ]
        precision = torch.diag_embed(prior.log_precision.exp())
        widths = Wishart(torch.tensor(L + 2.0).double(), scale_tril=scale.double()).log_prob(precision)
        return float((weights + sum(centers) + widths.sum()) / 50)

    one, other = (mixture(concentration=2.0, evidence_rows=50).double().requires_grad_(False) for _ in range(2))
    difference = float(one.log_prior(encoder) - other.log_prior(encoder))
    assert difference == pytest.approx(by_torch(one) - by_torch(other), rel=1e-6)


def test_density_of_a_cluster_averages_over_its_center():
    """The density equals a quadrature of N(z | m, 1 / precision) over m ~ q(m | u), in one dimension."""
    prior, encoder = mixture(4, 1).double(), small_encoder(D, 1).double()
    p_z, q = prior(encoder), encoder(prior.pseudo_inputs)
    z, steps = torch.linspace(-3, 3, 9).double(), torch.linspace(-8, 8, 4001, dtype=torch.float64)
    for k, (loc, scale) in enumerate(zip(q.mean[:, 0], q.stddev[:, 0], strict=True)):
        centers, step = loc + scale * steps, scale * (steps[1] - steps[0])
        around = Normal(centers, (-0.5 * prior.log_precision[k, 0]).exp()).log_prob(z[:, None]).exp()
        expected = (around * Normal(loc, scale).log_prob(centers).exp()).sum(-1) * step
        density = (p_z.component_log_prob(z[:, None])[:, k] - p_z.log_weights[k]).exp()
        torch.testing.assert_close(density, expected)


@pytest.mark.parametrize("name", ["concentration", "evidence_rows", "latent_dim"])
@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan])
def test_arguments_that_are_not_positive_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name}: expected a finite number above zero, got {value}"):
        VampPriorMixture(torch.rand(3, D), **{"latent_dim": 2} | {name: value})


def test_log_prior_changes_only_the_parameters_of_the_prior():
    """After one step of SGD, only the prior depends on the weight of `log_prior`."""

    def after_one_step(evidence_rows: float) -> VAE:
        torch.manual_seed(0)
        vae, x, _ = model_of_blobs(evidence_rows=evidence_rows)
        fit(vae, x, seed=0, epochs=1, batch_size=300, warmup=0, optimizer=lambda p: torch.optim.SGD(p, 1e-3))
        return vae

    weak, strong = after_one_step(1e9), after_one_step(10.0)
    for part in ("encoder", "decoder"):
        for one, other in zip(getattr(weak, part).parameters(), getattr(strong, part).parameters(), strict=True):
            assert torch.equal(one, other)
            assert one.requires_grad
    for one, other in zip(weak.prior.parameters(), strong.prior.parameters(), strict=True):
        assert not torch.equal(one, other)


@pytest.mark.slow
def test_needless_clusters_become_empty_and_the_others_match_the_groups():
    vae, x, kinds = model_of_blobs(evidence_rows=100)
    fit(vae, x, seed=0, epochs=300, batch_size=100, learning_rate=5e-3, warmup=0)
    assigned = clusters(vae, x)
    assert 3 <= len(assigned.unique()) <= 5
    assert cluster_agreement(assigned, kinds)["ari"].value > 0.8


def test_refit_uses_log_prior():
    vae, x, _ = model_of_blobs()
    start = VAE(vae.encoder, vae.decoder, StandardNormal(2))

    def weight_of_the_smallest(evidence_rows: float) -> float:
        torch.manual_seed(0)
        prior = VampPriorMixture.from_data(x, 12, latent_dim=2, evidence_rows=evidence_rows)
        refit(start, prior, x, seed=0, epochs=30, patience=None, learning_rate=2e-2)
        return float(prior.mixing_weights.detach().min())

    assert weight_of_the_smallest(20.0) < 0.8 * weight_of_the_smallest(1e9)


def test_clusters_have_the_largest_responsibilities():
    vae, x, _ = model_of_blobs()
    p_z, z = vae.latent_prior(), vae.encode(x).mean
    assert torch.equal(clusters(vae, x, batch_size=7), p_z.responsibilities(z).argmax(-1))


def test_clusters_of_a_model_without_a_mixture_are_refused():
    encoder = nn.Linear(D, 2)
    model = as_model(
        encode=lambda x: diagonal_normal(encoder(x), torch.ones(*x.shape[:-1], 2)),
        decode=lambda z: diagonal_normal(z, torch.ones_like(z)),
        prior=StandardNormal(2),
        modules=[encoder],
    )
    with pytest.raises(TypeError, match=r"model: expected one whose p\(z\) is a priory.Mixture"):
        clusters(model, torch.rand(5, D))


def test_agreement_equals_sums_over_pairs_and_cells():
    rng = np.random.default_rng(0)
    assigned, kinds = rng.integers(4, size=40), np.array(["a", "b", "c"])[rng.integers(3, size=40)]
    same = [(assigned[i] == assigned[j], kinds[i] == kinds[j]) for i in range(40) for j in range(i)]
    both, first, second = sum(a and b for a, b in same), sum(a for a, _ in same), sum(b for _, b in same)
    chance = first * second / len(same)
    ari = (both - chance) / ((first + second) / 2 - chance)
    information = entropy_clusters = entropy_kinds = 0.0
    for k, kind in product(np.unique(assigned), np.unique(kinds)):
        share = np.mean((assigned == k) & (kinds == kind))
        information += share * math.log(max(share, 1e-9) / (np.mean(assigned == k) * np.mean(kinds == kind)))
    for k in np.unique(assigned):
        entropy_clusters -= np.mean(assigned == k) * math.log(np.mean(assigned == k))
    for kind in np.unique(kinds):
        entropy_kinds -= np.mean(kinds == kind) * math.log(np.mean(kinds == kind))
    agreement = cluster_agreement(torch.from_numpy(assigned), kinds)
    assert agreement["ari"].value == pytest.approx(ari)
    assert agreement["nmi"].value == pytest.approx(2 * information / (entropy_clusters + entropy_kinds))
    assert all(0 < estimate.se < 0.2 for estimate in agreement.values())


@pytest.mark.parametrize("place", ["the top of levels", "a resampled prior", "a conditional mixture"])
def test_log_prior_of_a_wrapped_mixture_is_used(place):
    x, c = torch.rand(100, D).round(), torch.eye(2)[torch.arange(100) % 2]
    logits = []
    for evidence_rows in (1.0, 1e9):
        torch.manual_seed(0)
        prior, rows = mixture(evidence_rows=evidence_rows), x
        if place == "the top of levels":
            encoder = HierarchicalEncoder(small_encoder(D, L), NormalEncoder(mlp(D + L, [8], 2)))
            whole = HierarchicalPrior(prior, NormalEncoder(mlp(L, [8], 2)))
            model = VAE(encoder, BernoulliDecoder(mlp(L + 1, [8], D)), whole)
        elif place == "a resampled prior":
            whole = ResampledPrior(prior, mlp(L, [8], 1))
            model = VAE(small_encoder(D, L), BernoulliDecoder(mlp(L, [8], D)), whole)
        else:
            whole, rows = ConditionalMixturePrior(prior, ComponentCovariates((2,), c[:K])), with_context(x, c)
            encoder = ConditionalEncoder(NormalEncoder(mlp(D + 2, [8], 2 * L)))
            model = ConditionalVAE(encoder, ConditionalDecoder(BernoulliDecoder(mlp(L + 2, [8], D))), whole)
        fit(model, rows, epochs=2, seed=0, warmup=0)
        logits.append(prior.log_precision.detach())
    assert (logits[0] - logits[1]).abs().max() > 1e-4


def test_clusters_of_several_levels_are_those_of_the_top_level():
    torch.manual_seed(0)
    x = torch.rand(20, 6)
    encoder = HierarchicalEncoder(NormalEncoder(mlp(6, [8], 4)), NormalEncoder(mlp(6 + 2, [8], 6)))
    prior = HierarchicalPrior(MixtureOfGaussians(2, 4), NormalEncoder(mlp(2, [8], 6)))
    vae = VAE(encoder, BernoulliDecoder(mlp(5, [8], 6)), prior).eval()
    expected = vae.prior.top().responsibilities(encoder.top(x).mean).argmax(-1)
    assert has_clusters(vae)
    assert torch.equal(clusters(vae, x), expected)
