"""Properties of all priors, compared with independent computations."""

import copy

import pytest
import torch
from packaging.version import Version
from torch import nn
from torch.distributions import (
    AffineTransform,
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)

from family import MEMBERS, MIXTURES, made
from oracles import components_loop, quadrature_grid, small_encoder
from priory import (
    DensityPrior,
    FlowPrior,
    GridPrior,
    GTMPrior,
    Mixture,
    MixtureOfGaussians,
    Prior,
    StandardNormal,
    VampPrior,
    diagonal_normal,
    latent_grid,
    mlp,
)
from priory.priors.feature_range import FeatureRange
from priory.workbench.models.building import class_of_prior
from priory.workbench.models.facts import Features
from priory.workbench.settings.priors import PRIORS

NUM_FEATURES = 6
RANGES = {"bounded": (0.0, 1.0), "half-bounded": (0.0, None), "unbounded": (None, None)}


def make_prior(name: str, latent_dim: int = 2, **changes) -> Prior:
    """Return a prior whose components differ; with new networks, all components are equal."""
    num_rows = 1 if changes.get("components") == 1 else 50
    features = Features(torch.rand(num_rows, NUM_FEATURES), *changes.pop("feature_range", (0.0, 1.0)))
    prior = made(name, latent_dim, features, **changes)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return prior.eval()


def spread_encoder(latent_dim: int = 2) -> nn.Module:
    encoder = small_encoder(NUM_FEATURES, latent_dim)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(3.0)
    return encoder


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


each_prior = pytest.mark.parametrize("name", MEMBERS)
each_mixture = pytest.mark.parametrize("name", MIXTURES)
each_grid = pytest.mark.parametrize("name", [name for name in MEMBERS if issubclass(class_of_prior(name), GridPrior)])


@each_prior
def test_density_integrates_to_one(name):
    p_z = make_prior(name).double()(spread_encoder().double())
    points, cell = quadrature_grid(-30, 30, 600)
    mass = p_z.log_prob(points).detach().exp().sum().item() * cell
    assert mass == pytest.approx(1, abs=1e-3)


@each_mixture
def test_density_equals_a_loop_in_float64(name):
    p_z = make_prior(name)(spread_encoder())
    z = 3 * torch.randn(20, 2)
    torch.testing.assert_close(p_z.log_prob(z).double(), components_loop(z, p_z), rtol=1e-5, atol=1e-5)


@each_prior
def test_sampler_draws_from_the_density(name):
    """The share of samples in each cell of a coarse grid equals the integral of the joint density over the cell."""
    p_z = make_prior(name).double()(spread_encoder().double())
    draws = p_z.sample((20_000,))
    points, cell = quadrature_grid(-12, 12, 480)
    mass = (p_z.log_prob(points).exp() * cell).detach().reshape(12, 40, 12, 40).sum((1, 3))
    index = ((draws + 12) / 2).floor().long()
    inside = ((index >= 0) & (index < 12)).all(-1)
    counts = torch.zeros(12, 12, dtype=torch.float64)
    counts.index_put_((index[inside, 0], index[inside, 1]), torch.ones(int(inside.sum()), dtype=counts.dtype), True)
    large = mass > 5 / 20_000
    chi_square = ((counts - 20_000 * mass).square() / (20_000 * mass))[large].sum()
    degrees = int(large.sum())
    assert chi_square < degrees + 5 * (2 * degrees) ** 0.5


@each_prior
@pytest.mark.parametrize("latent_dim", [1, 3])
def test_samples_and_log_probs_have_the_batch_shape(name, latent_dim):
    p_z = make_prior(name, latent_dim)(spread_encoder(latent_dim))
    for batch in [(), (5,), (2, 5), (3, 2, 5)]:
        assert p_z.sample(batch).shape == (*batch, latent_dim)
        assert p_z.log_prob(torch.randn(*batch, latent_dim)).shape == batch
    assert p_z.batch_shape == ()
    assert p_z.event_shape == (latent_dim,)


@each_prior
def test_every_parameter_receives_a_gradient(name):
    prior = make_prior(name)
    z = torch.randn(64, 2, requires_grad=True)
    prior(spread_encoder()).log_prob(z).sum().backward()
    assert torch.isfinite(z.grad).all()
    for key, parameter in prior.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().max() > 0, key


@each_prior
def test_gradients_equal_finite_differences(name):
    prior, encoder = make_prior(name).double(), spread_encoder().double()
    names, values = zip(*prior.named_parameters(), strict=True) if list(prior.parameters()) else ((), ())
    z = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def log_prob(z, *values):
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(_Caller(prior), {f"prior.{k}": v for k, v in state.items()}, (encoder, z))

    inputs = (z, *(v.detach().requires_grad_() for v in values))
    assert torch.autograd.gradcheck(log_prob, inputs, fast_mode=True)


class _Caller(nn.Module):
    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, encoder, z):
        return self.prior(encoder).log_prob(z)


@each_prior
def test_state_dict_is_complete_and_clean(name):
    prior, encoder = make_prior(name), spread_encoder()
    keys = set(prior.state_dict())
    prior(encoder)
    assert set(prior.state_dict()) == keys
    theirs = {p.data_ptr() for p in encoder.state_dict().values()}
    assert theirs.isdisjoint(p.data_ptr() for p in prior.state_dict().values())
    assert {key for key, _ in prior.named_parameters()} <= keys
    other = make_prior(name)
    other.load_state_dict(prior.state_dict())
    z = torch.randn(5, 2)
    assert torch.equal(other(encoder).log_prob(z), prior(encoder).log_prob(z))


@each_prior
def test_deepcopy_is_independent(name):
    prior, encoder = make_prior(name), spread_encoder()
    duplicate = copy.deepcopy(prior)
    z = torch.randn(5, 2)
    before = prior(encoder).log_prob(z)
    assert torch.equal(duplicate(encoder).log_prob(z), before)
    with torch.no_grad():
        for parameter in duplicate.parameters():
            parameter.add_(1.0)
    assert torch.equal(prior(encoder).log_prob(z), before)


@each_prior
def test_prior_moves_to_another_dtype(name):
    prior, encoder = make_prior(name), spread_encoder()
    single = prior(encoder).log_prob(torch.ones(4, 2))
    double = prior.double()(encoder.double()).log_prob(torch.ones(4, 2, dtype=torch.float64))
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)
    for module in prior.modules():  # a plain tensor would not follow `.to`
        assert not any(isinstance(value, torch.Tensor) for value in vars(module).values())


@pytest.mark.gpu
@each_prior
def test_runs_on_cuda(name):
    prior, encoder = make_prior(name), spread_encoder()
    z = torch.randn(8, 2)
    expected = prior(encoder).log_prob(z)
    p_z = prior.cuda()(encoder.cuda())
    torch.testing.assert_close(p_z.log_prob(z.cuda()).cpu(), expected, rtol=1e-4, atol=1e-4)
    assert p_z.sample((3,)).is_cuda


@pytest.mark.parametrize("name", [name for name in MIXTURES if name in PRIORS])  # torch's StudentT does not compile
def test_compiles_without_a_graph_break(name):
    torch.compiler.reset()  # this line is compiled once for each prior, and torch gives up after eight
    prior, encoder = make_prior(name), spread_encoder()
    compiled = torch.compile(lambda z: prior(encoder).log_prob(z), fullgraph=True, backend="aot_eager")
    z = torch.randn(5, 2)
    torch.testing.assert_close(compiled(z), prior(encoder).log_prob(z))


@each_prior
def test_autocast_does_not_change_a_density_in_float64(name):
    """Autocast does not change a float64 encoder, so the density equals the one without autocast."""
    prior, encoder = make_prior(name).double(), spread_encoder().double()
    z = torch.randn(20, 2, dtype=torch.float64)
    expected = prior(encoder).log_prob(z)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(prior(encoder).log_prob(z), expected)


def test_autocast_leaves_a_flow_in_full_precision():
    p_z = make_prior("flow", 8)(None)
    z = torch.randn(50, 8)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(p_z.log_prob(z), p_z.log_prob(z.clone()))
        within = p_z.log_prob(z)
        torch.manual_seed(1)
        draws = p_z.sample((3,))
    torch.testing.assert_close(within, p_z.log_prob(z))
    torch.manual_seed(1)
    torch.testing.assert_close(draws, p_z.sample((3,)))


@each_mixture
def test_autocast_keeps_the_density_exact(name):
    """The kernel switches autocast off: the density is exact for the components that autocast's networks return."""
    prior, encoder = make_prior(name), spread_encoder()
    z = torch.randn(50, 2)
    with torch.autocast("cpu", torch.bfloat16):
        p_z = prior(encoder)
        log_prob = p_z.log_prob(z)
    assert log_prob.dtype == p_z.components.base_dist.loc.dtype == torch.float32
    torch.testing.assert_close(log_prob.double(), components_loop(z, p_z), rtol=1e-5, atol=1e-5)


@each_prior
def test_vmap_and_grad_of_torch_func_agree_with_autograd(name):
    if Version(torch.__version__) < Version("2.8"):  # torch's check of values does not work under vmap
        torch.distributions.Distribution.set_default_validate_args(False)
    p_z = make_prior(name)(spread_encoder())
    z = torch.randn(5, 2)
    torch.testing.assert_close(torch.func.vmap(p_z.log_prob)(z), p_z.log_prob(z))
    score = torch.func.vmap(torch.func.grad(p_z.log_prob))(z)
    leaf = z.clone().requires_grad_()
    torch.testing.assert_close(score, torch.autograd.grad(p_z.log_prob(leaf).sum(), leaf)[0])


@each_mixture
def test_mixture_with_one_component_equals_the_component(name):
    p_z = make_prior(name, components=1, points_per_side=1)(spread_encoder())
    z = torch.randn(7, 2)
    torch.testing.assert_close(p_z.log_prob(z), p_z.components.log_prob(z.unsqueeze(-2)).squeeze(-1))
    assert p_z.sample((4,)).shape == (4, 2)
    assert torch.equal(p_z.responsibilities(z), torch.ones(7, 1))


WEIGHTED = [name for name, part in PRIORS.items() if "learn_weights" in part.settings.model_fields]


@pytest.mark.parametrize("name", WEIGHTED)
def test_uniform_weights_are_not_a_parameter(name):
    prior = make_prior(name, learn_weights=False)
    assert "mixing_logits" not in dict(prior.named_parameters())
    torch.testing.assert_close(prior.mixing_weights, torch.full((9,), 1 / 9))


@each_prior
def test_a_missing_encoder_raises_an_error_if_the_prior_needs_it(name):
    prior = make_prior(name)
    if prior.needs_encoder:
        with pytest.raises(TypeError, match=r"needs the encoder"):
            prior()
    else:
        assert torch.isfinite(prior().log_prob(torch.zeros(2)))


@pytest.mark.parametrize("bounds", RANGES.values(), ids=RANGES)
def test_pseudo_inputs_start_within_a_hundredth_of_the_range_of_their_datum(bounds):
    x = torch.rand(40, NUM_FEATURES)
    x[:20] = x[:20].round()  # half of the data lie on the bounds
    prior = VampPrior.from_data(x, 40, low=bounds[0], high=bounds[1])
    distance = torch.cdist(prior.pseudo_inputs.detach(), x, p=float("inf")).amin(-1)
    assert distance.max() <= 0.01
    prior.pseudo_inputs.sum().backward()
    assert prior.raw_pseudo_inputs.grad.min() > 0.005  # not saturated


@pytest.mark.parametrize("size", [0.1, 1.0, 100.0])
def test_zeros_of_half_bounded_columns_stay_near_zero_at_any_scale(size):
    """Sparse counts: thousands of slightly shifted zeros must not add up to an unusual row."""
    x = size * torch.rand(40, 200) * (torch.rand(40, 200) < 0.1) * torch.linspace(0.2, 1.0, 200)
    prior = VampPrior.from_data(x, 40, low=0.0)
    u = prior.pseudo_inputs.detach()
    nearest = torch.cdist(u, x).argmin(-1)
    assert ((u - x[nearest]).abs() <= 0.01 * x.amax(0)).all()
    torch.testing.assert_close(u.sum(-1), x[nearest].sum(-1), rtol=0.05, atol=0)
    prior.pseudo_inputs.sum().backward()
    assert (prior.raw_pseudo_inputs.grad.amin(0) > 0.01 * x.amax(0)).all()


@pytest.mark.parametrize("bounds", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("name", ["vamp", "gtm-vamp"])
def test_pseudo_inputs_respect_the_range(name, bounds):
    """For any free numbers, values stay inside the range, and far enough from a bound that none is denormal."""
    prior = make_prior(name, feature_range=bounds)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.mul_(50)
    low, high = bounds
    assert low is None or prior.pseudo_inputs.min() > low + 1e-9
    assert high is None or prior.pseudo_inputs.max() <= high


@pytest.mark.parametrize("initialize", ["data", "mean", "uniform"])
def test_initial_pseudo_inputs_are_distributed_as_documented(initialize):
    x = torch.rand(500, NUM_FEATURES) * torch.linspace(0.1, 0.8, NUM_FEATURES)
    u = VampPrior.from_data(x, 400, initialize=initialize, low=0.0, high=1.0).pseudo_inputs.detach()
    if initialize == "data":
        assert len(torch.cdist(u, x).argmin(-1).unique()) == 400  # no row twice
    elif initialize == "mean":
        torch.testing.assert_close(u.mean(0), x.mean(0), rtol=0.1, atol=0.02)
        assert (u.std(0) > 0.6 * x.std(0)).all()  # less than in the data: values outside of the range were moved inside
    else:
        torch.testing.assert_close(u.mean(0), torch.full((NUM_FEATURES,), 0.5), rtol=0, atol=0.06)
        torch.testing.assert_close(u.std(0), torch.full((NUM_FEATURES,), 12**-0.5), rtol=0.1, atol=0)


def test_more_pseudo_inputs_than_data_use_all_data_equally_often():
    x = torch.rand(5, NUM_FEATURES)
    u = VampPrior.from_data(x, 12).pseudo_inputs.detach()
    counts = torch.bincount(torch.cdist(u, x).argmin(-1), minlength=5)
    assert counts.min() >= 2
    assert counts.max() <= 3


def test_fixed_pseudo_inputs_are_a_buffer():
    prior = VampPrior(torch.rand(4, NUM_FEATURES), learn_pseudo_inputs=False)
    assert [key for key, _ in prior.named_parameters()] == ["mixing_logits"]
    assert "raw_pseudo_inputs" in prior.state_dict()


def test_pseudo_inputs_may_have_any_shape():
    encoder = nn.Sequential(nn.Flatten(), small_encoder(16, 2))
    p_z = VampPrior(torch.rand(5, 1, 4, 4), low=0.0, high=1.0)(encoder)
    assert p_z.log_prob(torch.zeros(3, 2)).shape == (3,)


def test_mixture_of_gaussians_starts_like_a_standard_normal():
    p_z = MixtureOfGaussians(16, 2000)()
    torch.testing.assert_close(p_z.mean, torch.zeros(16), rtol=0, atol=0.1)
    torch.testing.assert_close(p_z.variance, torch.ones(16), rtol=0.1, atol=0)


def test_a_single_gaussian_starts_as_a_standard_normal():
    z = torch.randn(5, 16)
    torch.testing.assert_close(MixtureOfGaussians(16, 1)().log_prob(z), StandardNormal(16)().log_prob(z))


@pytest.mark.parametrize("extreme", [-1e3, 1e3])
def test_runaway_scales_leave_a_finite_density_with_finite_gradients(extreme):
    prior = MixtureOfGaussians(2, 3)
    prior.log_scale.data[0] = extreme
    log_prob = prior().log_prob(torch.randn(5, 2))
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert all(torch.isfinite(p.grad).all() for p in prior.parameters())


def test_mixture_of_gaussians_from_latents_finds_the_clusters():
    centers = torch.tensor([[-5.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    counts = torch.tensor([100, 200, 300])
    z = centers.repeat_interleave(counts, 0) + 0.1 * torch.randn(600, 2)
    prior = MixtureOfGaussians.from_latents(z, 3)
    match = torch.cdist(centers, prior.loc.detach()).argmin(-1)
    torch.testing.assert_close(prior.loc.detach()[match], centers, rtol=0, atol=0.05)
    torch.testing.assert_close(prior.mixing_weights.detach()[match], counts / 600)
    assert prior.log_scale.exp().max() < 0.15


def test_grid_is_the_full_cartesian_product():
    for points, dim in [(1, 2), (3, 1), (3, 2), (2, 4)]:
        grid = latent_grid(points, dim)
        assert grid.shape == (points**dim, dim)
        assert len(grid.unique(dim=0)) == points**dim
    corners = latent_grid(3, 2, 0, 1)
    for corner in [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.5, 0.5)]:
        assert (corners == torch.tensor(corner)).all(-1).any()


@each_grid
def test_grid_priors_have_a_grid_shape_and_draw_nodes_by_weight(name):
    prior = make_prior(name)
    assert prior.grid_shape == (3, 3)
    assert "nodes" in prior.state_dict()
    draws = prior.sample_nodes((20_000,))
    share = (draws.unsqueeze(1) == prior.nodes).all(-1).double().mean(0)
    error = 5 * (prior.mixing_weights * (1 - prior.mixing_weights) / 20_000).sqrt()
    assert ((share - prior.mixing_weights).abs() < error).all()


def test_coordinates_accept_z_in_another_precision():
    prior = make_prior("gtm")
    for dtype in (torch.float64, torch.bfloat16):
        place = prior.coordinates(prior(), torch.randn(3, 2, dtype=dtype))
        assert place.shape == (3, 2)


def test_grid_shape_of_irregular_nodes_is_their_number():
    shuffled = latent_grid(3)[torch.randperm(9)]
    repeated = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    for nodes in (shuffled, repeated):
        assert GTMPrior(2, nodes, mlp(2, [], 4)).grid_shape == (len(nodes),)


@each_grid
def test_coordinates_are_the_posterior_mean_of_the_nodes(name):
    prior = make_prior(name).double()
    p_z = prior(spread_encoder().double())
    z = torch.randn(6, 2, dtype=torch.float64)
    base = p_z.components.base_dist
    for point, place in zip(z, prior.coordinates(p_z, z), strict=True):
        joint = p_z.mixing_weights * Normal(base.loc, base.scale).log_prob(point).sum(-1).exp()
        torch.testing.assert_close(place, (joint[:, None] * prior.nodes).sum(0) / joint.sum())


FLOWS = {"coupling": FlowPrior.coupling, "spline": FlowPrior.spline}


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_flows_leave_torchs_argument_validation_unchanged(flow):
    validate = torch.distributions.Distribution._validate_args
    prior = flow(latent_dim=5)  # odd, where the published flow fails
    assert torch.distributions.Distribution._validate_args is validate
    assert prior().log_prob(torch.zeros(3, 5)).shape == (3,)


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
@pytest.mark.parametrize("latent_dim", [1, 4])
def test_flow_log_determinant_is_counted_once(flow, latent_dim):
    prior = flow(latent_dim).double()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    transform, z = prior.flow().transform, torch.randn(latent_dim, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(transform, z)
    expected = Normal(0.0, 1.0).log_prob(transform(z)).sum() + torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(prior().log_prob(z), expected)


def test_a_spline_flow_transforms_half_of_the_dimensions_given_the_others():
    """A coupling: its inverse needs one pass, not one for each dimension."""
    transform = FlowPrior.spline(4, num_transforms=1).flow().transform
    jacobian = torch.autograd.functional.jacobian(transform, torch.randn(4))
    off = jacobian - torch.diag(jacobian.diag())
    assert (off == 0).all(1).sum() == (off == 0).all(0).sum() == 2


def test_a_spline_flow_learns_a_density_with_two_modes():
    torch.manual_seed(0)
    target = Mixture(torch.zeros(2), diagonal_normal(torch.tensor([[-2.0], [2.0]]), torch.full((2, 1), 0.3)))
    prior = FlowPrior.spline(1, num_transforms=1, num_bins=16)
    optimizer = torch.optim.Adam(prior.parameters(), 0.05)
    for _ in range(150):
        loss = -prior().log_prob(target.sample((512,))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    z = target.sample((4000,))
    assert (target.log_prob(z) - prior().log_prob(z)).mean() < 0.05  # KL in nats; of the best normal, 1.2


DENSITIES = {
    "independent": lambda: Independent(Normal(torch.randn(3), torch.rand(3) + 0.1), 1),
    "multivariate": lambda: MultivariateNormal(torch.randn(3), torch.eye(3) + 0.5),
    "mixture": lambda: MixtureSameFamily(
        Categorical(logits=torch.randn(4)), Independent(Normal(torch.randn(4, 3), torch.rand(4, 3) + 0.1), 1)
    ),
}


@pytest.mark.parametrize("density", DENSITIES.values(), ids=DENSITIES)
def test_a_prior_of_any_distribution_can_be_moved_and_saved(density):
    first = density()
    prior, other = DensityPrior(first), DensityPrior(density())
    z = torch.randn(6, 3)
    torch.testing.assert_close(prior().log_prob(z), first.log_prob(z))
    other.load_state_dict(prior.state_dict())
    torch.testing.assert_close(other().log_prob(z), first.log_prob(z))
    torch.testing.assert_close(prior.double()().log_prob(z.double()).float(), first.log_prob(z))
    assert prior.latent_dim == 3


def test_transforms_and_their_inverses_are_found():
    affine = AffineTransform(torch.ones(2), 2 * torch.ones(2))
    density = TransformedDistribution(Independent(Normal(torch.zeros(2), torch.ones(2)), 1), [affine.inv])
    prior = DensityPrior(density)
    z = torch.randn(5, 2)
    torch.testing.assert_close(prior().log_prob(z), density.log_prob(z))
    torch.testing.assert_close(prior.double()().log_prob(z.double()).float(), density.log_prob(z))


def test_parameters_inside_a_distribution_are_trained():
    loc = nn.Parameter(torch.zeros(2))
    prior = DensityPrior(Independent(Normal(loc, torch.ones(2)), 1))
    assert [p is loc for p in prior.parameters()] == [True]
    prior().log_prob(torch.ones(2)).backward()
    torch.testing.assert_close(loc.grad, torch.ones(2))


class _OwnDensity(nn.Module):
    def log_prob(self, z):
        return Normal(0.0, 1.0).log_prob(z).sum(-1)

    def sample(self, shape=()):
        return torch.randn(*shape, 3)


def test_a_module_with_a_density_becomes_a_prior():
    p_z = DensityPrior(_OwnDensity(), latent_dim=3)()
    torch.testing.assert_close(p_z.log_prob(torch.ones(2, 3)), StandardNormal(3)().log_prob(torch.ones(2, 3)))
    assert p_z.sample((5,)).shape == (5, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StandardNormal(0), "latent_dim: expected a positive"),
        (lambda: MixtureOfGaussians(2, 0), "num_components: expected at least one"),
        (lambda: MixtureOfGaussians.from_latents(torch.zeros(3, 2), 4), "at least 4 distinct rows"),
        (lambda: VampPrior(torch.zeros(3)), r"pseudo_inputs: expected shape \(K, \*input\)"),
        (lambda: VampPrior(torch.full((3, 2), 5.0), low=0.0, high=1.0), "expected values between 0.0 and 1.0, got 5"),
        (lambda: VampPrior.from_data(torch.rand(3, 2), 2, initialize="zeros"), "'data', 'mean' or 'uniform'"),
        (lambda: VampPrior.from_data(torch.rand(0, 2), 2), "expected training rows"),
        (lambda: FeatureRange(1.0, 0.0), "expected low < high"),
        (lambda: FeatureRange(None, 1.0), "expected a lower bound"),
        (lambda: latent_grid(0), "expected positive numbers"),
        (lambda: GTMPrior(2, torch.zeros(3), mlp(1, [], 4)), r"nodes of shape \(K, C\)"),
        (lambda: GTMPrior(2, latent_grid(3), mlp(2, [4], 3))(), r"g\(nodes\) of shape \(9, 4\), got \(9, 3\)"),
        (lambda: DensityPrior(Normal(0.0, 1.0)), "expected one density over vectors"),
        (lambda: DensityPrior(Independent(Normal(torch.zeros(5, 2), 1.0), 1)), r"got batch shape \(5,\)"),
        (lambda: DensityPrior(FlowPrior.coupling(2)()), "pass the module that makes it"),
        (lambda: VampPrior(torch.zeros(3, 2, dtype=torch.long)), "expected floating point values"),
        (lambda: MixtureOfGaussians.from_latents(torch.zeros(9, 2), 4), "at least 4 distinct rows"),
        (lambda: DensityPrior(Independent(Normal(torch.zeros(2).requires_grad_() + 1, 1.0), 1)), "not an nn.Parameter"),
    ],
)
def test_invalid_arguments_raise_clear_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [lambda: FlowPrior(3), lambda: FlowPrior(nn.Identity()), lambda: DensityPrior(3)])
def test_wrong_types_raise_type_errors(make):
    with pytest.raises(TypeError):
        make()


def test_every_registered_prior_has_a_summary_and_a_reference():
    for name in PRIORS:
        assert class_of_prior(name).summary, name
        assert class_of_prior(name).reference, name


def test_mixture_priors_return_a_mixture():
    for name in MIXTURES:
        assert type(make_prior(name)(spread_encoder())) is Mixture
