"""The components of a prior, divided among the processes that train together."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn

from priory.distributions.sharded import ShardedMixture
from priory.priors import MixturePrior
from priory.priors.hierarchical import top_prior


def require_shardable(model: Any) -> MixturePrior:
    """Return the prior of the model, or of its top level, if each of its own tensors has a row for each component.

    Raises:
        ValueError: the prior has other tensors.
    """
    prior = top_prior(getattr(model, "prior", None))
    has_more = any(hasattr(prior, name) for name in ("log_prior", "leave_out"))
    if not isinstance(prior, MixturePrior) or has_more or not _has_components_alone(prior):
        raise ValueError(
            "shard_components: expected a mixture with parameters of its own for each component, such as VampPrior or "
            f"MixtureOfGaussians, got {type(prior).__name__}; train without shard_components"
        )
    return prior


class Sharding:
    """The tensors of a prior that have a row for each component: each process holds a part of the rows.

    All processes have the other parameters, and DDP averages their gradients. The gradient of a part is the gradient of
    the sum of all processes' losses, so it is divided by the number of processes.

    Args:
        model: the model; its prior keeps only this process's part of the components that rank 0 has.
        device: this process's device, on which the processes exchange tensors.

    Attributes:
        names: names of these tensors in the model's state.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.device, self.rank, self.size = device, distributed.get_rank(), distributed.get_world_size()
        self.prior = prior = require_shardable(model)
        if prior.num_components < self.size:
            raise ValueError(
                f"shard_components: expected a component for each of {self.size} processes, got {prior.num_components}"
            )
        own = {id(tensor) for tensor in _own_tensors(prior).values()}
        self.parameters = {name: p for name, p in model.named_parameters() if id(p) in own}
        buffers = [name for name, tensor in model.named_buffers() if id(tensor) in own]
        self.names = [*self.parameters, *buffers]
        self.rows = [len(each) for each in torch.arange(prior.num_components).tensor_split(self.size)]
        for tensor in _own_tensors(prior).values():
            parts = [self._from(0, part, part.shape) for part in tensor.data.split(self.rows)]
            tensor.data = parts[self.rank].to(tensor.device)
        self._handles = [p.register_hook(lambda gradient: gradient / self.size) for p in self.parameters.values()]
        self._handles.append(prior.register_forward_hook(_sharded))

    def join(self) -> None:
        """Restore all components of the prior on each process."""
        for handle in self._handles:
            handle.remove()
        for tensor in _own_tensors(self.prior).values():
            tensor.data = self._whole(tensor.data)
            tensor.grad = None

    def part(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return named tensors of the model with only this process's components."""
        return {name: self._part(each) if name in self.names else each for name, each in tensors.items()}

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return named tensors of the model with all components; all processes must call it."""
        return {name: self._whole(each) if name in self.names else each for name, each in tensors.items()}

    def part_of_optimizer(self, state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return an optimizer's state with the averages of only this process's components."""
        return self._of_optimizer(state, optimizer, self._part)

    def whole_optimizer(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return an optimizer's state with the averages of all components; all processes must call it."""
        return self._of_optimizer(optimizer.state_dict(), optimizer, self._whole)

    def norm(self, parameters: list[nn.Parameter]) -> Tensor:
        """Return the norm of the gradient of all parameters, including the components of other processes."""
        ours = {id(p) for p in self.parameters.values()}
        shared = [p.grad for p in parameters if p.grad is not None and id(p) not in ours]
        own = [p.grad for p in parameters if p.grad is not None and id(p) in ours]
        square = torch.nn.utils.get_total_norm(own).square().to(self.device)
        distributed.all_reduce(square)
        return (square + torch.nn.utils.get_total_norm(shared).to(square).square()).sqrt()

    def _of_optimizer(self, state: Mapping[str, Any], optimizer: torch.optim.Optimizer, change: Any) -> dict[str, Any]:
        ours = {id(p) for p in self.parameters.values()}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        averages = dict(state["state"])
        for number, each in averages.items():
            if id(parameters[number]) in ours:
                averages[number] = {
                    name: change(value) if _is_row_wise(value) else value for name, value in each.items()
                }
        return {**state, "state": averages}

    def _part(self, tensor: Tensor) -> Tensor:
        return tensor.split(self.rows)[self.rank].clone()

    def _whole(self, tensor: Tensor) -> Tensor:
        parts = [self._from(rank, tensor, (rows, *tensor.shape[1:])) for rank, rows in enumerate(self.rows)]
        return torch.cat(parts)

    def _from(self, rank: int, tensor: Tensor, shape: Any) -> Tensor:
        """Return the tensor of process `rank`, of this shape, on the CPU, which has more memory than a device."""
        piece = tensor.to(self.device, copy=True) if rank == self.rank else tensor.new_empty(shape, device=self.device)
        distributed.broadcast(piece, rank)
        return piece.cpu()


def _has_components_alone(prior: MixturePrior) -> bool:
    """Return whether the prior's own tensors have a row for each component, and its children no parameters."""
    rows = {each.shape[:1] for each in _own_tensors(prior).values()}
    return rows == {(prior.num_components,)} and not [p for each in prior.children() for p in each.parameters()]


def _own_tensors(prior: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module, without those of its children."""
    return dict(prior.named_parameters(recurse=False)) | dict(prior.named_buffers(recurse=False))


def _is_row_wise(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def _sharded(prior: MixturePrior, inputs: Any, p_z: Any) -> ShardedMixture:
    return ShardedMixture(p_z, torch.logsumexp(prior.mixing_logits, -1))
