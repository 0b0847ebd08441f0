"""The mixture whose components are split between several processes."""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor, distributed
from torch.distributions import Distribution, constraints

from priory.distributions.mixture import Mixture


class ShardedMixture(Distribution):
    """The mixture of the components of all processes, each of which holds a part.

        p(z) = sum_r sum_{k in part r} pi_k p_k(z)

    Each process computes the density of its own part at the z of all processes; the maximum and the sum of the
    log-sum-exp are reduced over the processes. Backward gives the gradients of the sum of all processes' losses. All
    processes must call `log_prob` equally often, with equally many z.

    Args:
        part: the components of this process, as a mixture.
        log_mass: logarithm of the sum of their unnormalized weights.

    >>> from priory import diagonal_normal
    >>> part = Mixture(torch.zeros(4), diagonal_normal(torch.randn(4, 2), torch.ones(4, 2)))
    >>> distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    >>> p_z, z = ShardedMixture(part, torch.tensor(4.0).log()), torch.zeros(3, 2)
    >>> torch.allclose(p_z.log_prob(z), part.log_prob(z))  # of the only process
    True
    >>> distributed.destroy_process_group()
    """

    arg_constraints = {}  # noqa: RUF012  (torch's own attribute)
    support = constraints.real_vector

    def __init__(self, part: Mixture, log_mass: Float[Tensor, ""]) -> None:
        self.part = part
        self.log_share = log_mass - log_sum_of_processes(log_mass)
        super().__init__(event_shape=part.event_shape, validate_args=False)

    def log_prob(self, value: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """log p(z) in nats."""
        z = value.reshape(-1, value.shape[-1])
        rank, size, count = distributed.get_rank(), distributed.get_world_size(), len(z)
        all_z = SumOfProcesses.apply(torch.nn.functional.pad(z, (0, 0, rank * count, (size - 1 - rank) * count)))
        log_p = log_sum_of_processes(self.log_share + self.part.log_prob(all_z))
        return log_p[rank * count : (rank + 1) * count].reshape(value.shape[:-1])

    def rsample(self, sample_shape: Sequence[int] = ()) -> NoReturn:
        """Raise an error, because no process has all components.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "sample: expected a prior whose components are all in this process, got one that is split between "
            "processes; draw from the prior after the training, or train without shard_components"
        )


class SumOfProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return SumOfProcesses.apply(grad)


def log_sum_of_processes(values: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return log sum_r exp(values_r) over the processes r, on each of them.

    >>> distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    >>> log_sum_of_processes(torch.tensor([1.0, -torch.inf]))
    tensor([1., -inf])
    >>> distributed.destroy_process_group()
    """
    largest = values.detach().clone()
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    largest = largest.nan_to_num(neginf=0.0)
    return largest + SumOfProcesses.apply((values - largest).exp()).log()
