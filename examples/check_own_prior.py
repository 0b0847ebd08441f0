"""Check a prior that wrongly takes the log-sum-exp in each dimension: python examples/check_own_prior.py"""

import torch
from torch import nn
from torch.distributions import Normal

import priory


class ProductOfMarginals(nn.Module):
    """A mistake that was published: sums over components before it sums over dimensions."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.tensor([[-5.0, -5.0], [5.0, 5.0]]))

    def log_prob(self, z):
        per_component = Normal(self.loc, 1.0).log_prob(z.unsqueeze(-2)) - torch.tensor(2.0).log()
        return torch.logsumexp(per_component, -2).sum(-1)

    def sample(self, shape):
        k = torch.randint(2, shape)
        return Normal(self.loc[k], 1.0).sample()


print(priory.check_prior(ProductOfMarginals()))
