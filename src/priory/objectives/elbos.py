"""Objectives whose two parts are a reconstruction and a KL term: the ELBO and its variants."""

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from priory.model import LatentVariableModel, likelihood_of, log_prob_of_rows
from priory.objectives.batch_mean import batch_mean
from priory.objectives.bounds import Elbo, elbo, encoded, guided_terms
from priory.objectives.detached import detached
from priory.objectives.objective import Objective, Terms


class OfElbo(Objective):
    """An objective whose bound consists of the two terms of the ELBO."""

    num_samples: int

    @abstractmethod
    def bound(self, terms: Elbo) -> Elbo:
        """Return the two parts of the bound."""

    def __call__(
        self,
        model: LatentVariableModel,
        x: Float[Tensor, "batch *input"],
        beta: float = 1.0,
        *,
        prior: Distribution | None = None,
    ) -> Terms:
        terms = elbo(model, x, num_samples=self.num_samples, prior=prior)
        return Terms(self.bound(terms), terms)

    def for_validation(self, draws: int) -> Objective:
        return replace(self, num_samples=draws)  # type: ignore[type-var]  # subclasses are dataclasses


@dataclass(frozen=True)
class EvidenceLowerBound(OfElbo):
    """The evidence lower bound; see `elbo`.

    >>> from priory import VAE, BernoulliDecoder, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> EvidenceLowerBound(num_samples=4)(vae, torch.rand(9, 6).round()).bound.value().shape
    torch.Size([9])
    """

    num_samples: int = 1

    def bound(self, terms: Elbo) -> Elbo:
        return terms


@dataclass(frozen=True)
class BetaElbo(OfElbo):
    """The ELBO with a fixed weight of the KL term, also after the warm-up: reconstruction - kl_weight * kl.

    With a weight of at least 1 this is a lower bound of log p(x); with a smaller weight it is not.

    Reference: Higgins et al. 2017, beta-VAE, eq. 4.

    >>> BetaElbo(kl_weight=4.0)
    BetaElbo(kl_weight=4.0, num_samples=1)
    """

    kl_weight: float
    num_samples: int = 1

    def bound(self, terms: Elbo) -> Elbo:
        return Elbo(terms.reconstruction, self.kl_weight * terms.kl)


@dataclass(frozen=True)
class FreeBits(OfElbo):
    """The ELBO in which a mean KL below a floor costs nothing: mean reconstruction - max(free_bits, mean kl).

    The density of a learned prior is joint, so its KL has no term per dimension. The floor applies to the KL of the
    whole code, averaged over the batch, on all processes that train together. A batch below the floor has no gradient
    of its KL. In validation the floor applies to each batch of `validation_batch_size` rows.

    Args:
        free_bits: the floor, in nats per datum.
        num_samples: draws of z per datum.

    Reference: Kingma et al. 2016, arXiv:1606.04934, section 3.3 and eq. 15, with one group.

    >>> FreeBits(free_bits=2.0)
    FreeBits(free_bits=2.0, num_samples=1)
    """

    free_bits: float
    num_samples: int = 1

    def bound(self, terms: Elbo) -> Elbo:
        kl = torch.where(batch_mean(terms.kl) < self.free_bits, torch.full_like(terms.kl, self.free_bits), terms.kl)
        return Elbo(terms.reconstruction, kl)


@dataclass(frozen=True)
class StickingTheLanding(Objective):
    """The ELBO with a gradient of lower variance: log q(z|x) is differentiated only through z.

        d/dphi [log p(x|z) - beta (log q_phi'(z|x) - log p(z))],    z = z(phi, noise), phi' = phi held constant

    The omitted part has expectation zero. At the exact posterior, the gradient of the encoder is zero for every draw.
    The KL term is estimated with the draws, even if it has a closed form.

    Reference: Roeder, Wu & Duvenaud 2017, arXiv:1703.09194, eq. 8.

    >>> StickingTheLanding(num_samples=2)
    StickingTheLanding(num_samples=2)
    """

    num_samples: int = 1

    def __call__(
        self,
        model: LatentVariableModel,
        x: Float[Tensor, "batch *input"],
        beta: float = 1.0,
        *,
        prior: Distribution | None = None,
    ) -> Terms:
        p_z, q, z = encoded(model, x, self.num_samples, prior)
        kl = (detached(q).log_prob(z) - p_z.log_prob(z)).mean(0)
        terms = Elbo(log_prob_of_rows(likelihood_of(model, z, x), x).mean(0), kl)
        return Terms(terms, terms)

    def for_validation(self, draws: int) -> Objective:
        return EvidenceLowerBound(draws)


@dataclass(frozen=True)
class Guided(Objective):
    """The guided bound of a map, see `guided_elbo`; epochs are compared by the ELBO.

    >>> Guided(guidance=0.5)
    Guided(guidance=0.5, num_samples=1)
    """

    guidance: float = 1.0
    num_samples: int = 1

    def __call__(
        self,
        model: LatentVariableModel,
        x: Float[Tensor, "batch *input"],
        beta: float = 1.0,
        *,
        prior: Distribution | None = None,
    ) -> Terms:
        bound, kl = guided_terms(model, x, self.guidance, num_samples=self.num_samples, prior=prior)
        return Terms(bound, Elbo(bound.reconstruction, kl))

    def for_validation(self, draws: int) -> Objective:
        return EvidenceLowerBound(draws)
