"""Check importance-weighted bounds with a linear-Gaussian model, whose evidence has a closed form."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal

from priory.distributions.normal import diagonal_normal
from priory.testing.exchange import ALPHA
from priory.testing.global_state import SETTINGS, changes, snapshot
from priory.testing.report import Outcome, Report
from priory.testing.running import promises, run_check

Bound = Callable[..., Tensor]  # bound(model, x, num_samples=S)
NOISE = 0.7  # standard deviation of x around its mean
NUM_ROWS = 4000


class _Linear(nn.Module):
    """N(weight (input - shift) + bias, diag(scale^2)); the encoder and the decoder of the model."""

    shift: Tensor

    def __init__(self, weight: Tensor, shift: Tensor, bias: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.scale = nn.Parameter(weight), nn.Parameter(bias), nn.Parameter(scale)
        self.register_buffer("shift", shift)

    def forward(self, values: Float[Tensor, "*batch input"]) -> Independent:
        loc = (values - self.shift) @ self.weight.T + self.bias
        return diagonal_normal(loc, self.scale.expand_as(loc))


class _Normal(nn.Module):
    """N(loc, diag(scale^2)), initially N(0, I); the prior of the model."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.loc, self.scale = nn.Parameter(torch.zeros(latent_dim)), nn.Parameter(torch.ones(latent_dim))

    def forward(self, encoder: object = None) -> Independent:
        return diagonal_normal(self.loc, self.scale)


class LinearGaussianModel(nn.Module):
    """The model that `check_bound` passes to a bound; it has the methods of `priory.VAE` that a bound needs.

        z ~ N(0, I),  x | z ~ N(W z + b, s^2 I)   =>   x ~ N(b, W W^T + s^2 I),  z | x ~ N(M^-1 W^T (x - b), s^2 M^-1)

    with M = W^T W + s^2 I, which is diagonal here: W has orthogonal columns.

    Args:
        factor: multiplies the encoder's scales; at 1, q is the exact posterior, and all importance weights are p(x).
        num_features: D.
        latent_dim: L.

    Attributes:
        encoder: x -> q(z|x).
        decoder: z -> p(x|z).
        prior: () -> p(z).

    Reference: Bishop 2006, *Pattern Recognition and Machine Learning*, sec. 12.2.1.
    """

    def __init__(self, factor: float = 1.0, num_features: int = 5, latent_dim: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        basis = torch.linalg.qr(torch.randn(num_features, latent_dim, generator=generator).double()).Q
        weight = basis * torch.linspace(1.0, 2.0, latent_dim).double()
        bias = torch.randn(num_features, generator=generator).double()
        inverse = 1 / (weight.square().sum(0) + NOISE**2)
        zero = torch.zeros(latent_dim).double()
        self.encoder = _Linear(inverse[:, None] * weight.T, bias, zero, factor * NOISE * inverse.sqrt())
        self.decoder = _Linear(weight, zero, bias, torch.full((num_features,), NOISE).double())
        self.prior = _Normal(latent_dim).double()

    def latent_prior(self) -> Distribution:
        """p(z)."""
        return self.prior(self.encoder)

    def encode(self, x: Float[Tensor, "*batch input"]) -> Distribution:
        """q(z | x)."""
        return self.encoder(x)

    def decode(self, z: Float[Tensor, "*batch latent"]) -> Distribution:
        """p(x | z)."""
        return self.decoder(z)

    def evidence(self) -> MultivariateNormal:
        """Return p(x), in closed form."""
        weight, identity = self.decoder.weight.detach(), torch.eye(len(self.decoder.bias)).double()
        return MultivariateNormal(self.decoder.bias.detach(), weight @ weight.T + NOISE**2 * identity)


@dataclass(frozen=True)
class BoundSubject:
    """A bound, and the arguments with which it is checked."""

    bound: Bound  # the function to check
    num_samples: Sequence[int]  # the numbers of samples
    seed: int  # seed of the draws


def one_number_per_datum(subject: BoundSubject) -> Outcome:
    """The bound maps (B, D) to (B,), for every number of samples."""
    model = LinearGaussianModel()
    for rows in (7, 1):
        x = model.evidence().sample((rows,))
        for num_samples in subject.num_samples:
            shape = tuple(subject.bound(model, x, num_samples=num_samples).shape)
            if shape != (rows,):
                return Outcome(False, f"shape {shape} for x of shape {tuple(x.shape)} and S = {num_samples}")
    return Outcome(True, f"shape (B,) for S in {tuple(subject.num_samples)}")


def exact_at_the_posterior(subject: BoundSubject) -> Outcome:
    """If q = p(z|x), every weight is p(x), so the bound is log p(x) for every number of samples."""
    model = LinearGaussianModel()
    x = model.evidence().sample((50,))
    expected = model.evidence().log_prob(x)
    errors = {
        s: (subject.bound(model, x, num_samples=s).detach() - expected).abs().max().item() for s in subject.num_samples
    }
    worst = max(errors, key=errors.__getitem__)
    return Outcome(errors[worst] < 1e-6, f"differs from log p(x) by {errors[worst]:.3g} nats at S = {worst}")


def right_on_average(subject: BoundSubject) -> Outcome:
    """If the encoder is too wide, the mean over many data is that of the formula, for every number of samples.

    The formula is evaluated here with other draws; the averages may differ only by chance.
    """
    model = LinearGaussianModel(factor=1.7)
    limit, worst, where = math.sqrt(2 * math.log(2 * len(subject.num_samples) / ALPHA)), 0.0, 0
    for num_samples in subject.num_samples:
        x = model.evidence().sample((NUM_ROWS,))
        with torch.no_grad():
            value = subject.bound(model, x, num_samples=num_samples)
            q = model.encode(x)
            z = q.sample(torch.Size((num_samples,)))
            log_weights = model.latent_prior().log_prob(z) + model.decode(z).log_prob(x) - q.log_prob(z)
            difference = value - (torch.logsumexp(log_weights, 0) - math.log(num_samples))
        score = (difference.mean() / (difference.std() / math.sqrt(NUM_ROWS) + 1e-12)).abs().item()
        worst, where = max((worst, where), (score, num_samples))
    return Outcome(
        worst < limit, f"{worst:.1f} standard errors from the formula's mean at S = {where}, limit {limit:.1f}"
    )


def gradients_exist(subject: BoundSubject) -> Outcome:
    """Encoder, decoder and prior get finite gradients."""
    model = LinearGaussianModel(factor=1.7)
    with torch.enable_grad():
        total = subject.bound(model, model.evidence().sample((20,)), num_samples=max(subject.num_samples)).sum()
        names, parameters = zip(*model.named_parameters(), strict=True)
        if not total.requires_grad:
            return Outcome(False, "no gradient at all")
        computed = torch.autograd.grad(total, parameters, allow_unused=True)
    gradients = dict(zip(names, computed, strict=True))
    wrong = [name for name, g in gradients.items() if g is None or not g.isfinite().all() or not g.any()]
    return Outcome(not wrong, f"none, zero or not finite: {', '.join(wrong)}" if wrong else f"{len(names)} parameters")


def far_data_finite(subject: BoundSubject) -> Outcome:
    """Weights far below the smallest float are summed as logarithms."""
    model = LinearGaussianModel(factor=1.7)
    values = subject.bound(model, 1e3 * model.evidence().sample((20,)), num_samples=max(subject.num_samples))
    return Outcome(bool(values.isfinite().all()), f"{int(values.isfinite().sum())} of 20 values finite")


def global_state_untouched(subject: BoundSubject) -> Outcome:
    """No setting of the process changes."""
    model = LinearGaussianModel()
    before = snapshot(SETTINGS)
    subject.bound(model, model.evidence().sample((5,)), num_samples=max(subject.num_samples))
    changed = changes(before)
    return Outcome(not changed, "; ".join(changed) if changed else f"{len(SETTINGS)} settings as before")


BOUND_CHECKS = promises(
    (one_number_per_datum, "shape (B,), unreduced"),
    (exact_at_the_posterior, "log p(x) within 1e-6, whatever the number of samples"),
    (right_on_average, "the mean of log 1/S sum_s w_s, with the given number of samples"),
    (gradients_exist, "finite gradients of encoder, decoder and prior"),
    (far_data_finite, "finite values at a thousand standard deviations"),
    (global_state_untouched, "no setting of the process changes"),
)


def check_bound(bound: Bound, *, num_samples: Sequence[int] = (1, 2, 7), seed: int = 0) -> Report:
    """Check that a function computes the importance-weighted bound of the evidence.

        log 1/S sum_s p(z_s) p(x|z_s) / q(z_s|x),    z_s ~ q(z|x)

    Args:
        bound: called as bound(model, x, num_samples=S), with x of shape (B, D) in float64. The model is a
            `LinearGaussianModel`: like a `priory.VAE` it has `encode(x)`, `decode(z)` and `latent_prior()`, which
            return distributions. Wrap a bound with another signature in a function with this one.
        num_samples: the values of S to try.
        seed: seed of the draws.

    Returns:
        A `Report`.

    Raises:
        TypeError: bound is not callable.
        ValueError: num_samples is empty or not positive.

    Reference: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8.

    >>> from priory import importance_weighted_bound
    >>> check_bound(importance_weighted_bound).passed
    True
    """
    if not callable(bound):
        raise TypeError(f"bound: expected a function of (model, x, num_samples), got {type(bound).__name__}")
    if not num_samples or min(num_samples) < 1:
        raise ValueError(f"num_samples: expected positive numbers, got {tuple(num_samples)}")
    subject = BoundSubject(bound, tuple(num_samples), seed)
    name = str(getattr(bound, "__name__", type(bound).__name__))
    return Report(name, tuple(run_check(check, subject, BOUND_CHECKS) for check in BOUND_CHECKS))
