"""Networks with several inputs; each input has its own layers before they are joined."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from priory.nn.networks import check_reads

Layer = Callable[[int, int], nn.Module]


class Branches(nn.Module):
    """Networks side by side: each reads its part of the input; their outputs are concatenated.

    Args:
        widths: widths of the parts of an input row.
        branches: a module for each part.

    Raises:
        ValueError: the number of branches differs from the number of parts.

    >>> Branches((2, 3), [nn.Identity(), nn.Linear(3, 4)])(torch.zeros(5, 2 + 3)).shape
    torch.Size([5, 6])
    """

    def __init__(self, widths: Sequence[int], branches: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(widths) != len(branches):
            raise ValueError(f"branches: expected one module for each of {len(widths)} widths, got {len(branches)}")
        self.widths, self.in_features = tuple(widths), sum(widths)
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output"]:
        check_reads(self, self, "x", x)
        parts = zip(self.branches, x.split(self.widths, -1), strict=True)
        return torch.cat([branch(part) for branch, part in parts], -1)

    def extra_repr(self) -> str:
        return f"widths={self.widths}"


def branched(
    widths: Sequence[int], hidden: Sequence[int], out_features: int, layer: Layer, *, read: int = 0
) -> nn.Sequential:
    """Build a perceptron with several inputs: each input has its own hidden layers; the last hidden layer joins them.

    Args:
        widths: widths of the inputs, which are concatenated in one row.
        hidden: widths of the hidden layers, at least one; the same for every input.
        out_features: width of the output, which comes from a linear layer.
        layer: makes a hidden layer from (width_in, width_out), such as `GatedLinear`.
        read: number of leading inputs that other layers have processed already; they go straight to the last hidden
            layer.

    Source: Tomczak & Welling 2018 (arXiv:1705.07120), published code, HVAE_2level: gated layers, hidden = (300, 300).

    >>> from priory.nn.networks import GatedLinear
    >>> branched((40, 40), (300, 300), 784, GatedLinear)(torch.zeros(5, 80)).shape
    torch.Size([5, 784])
    """
    *own, joint = hidden
    branches = [layers(width, own if i >= read else [], layer) for i, width in enumerate(widths)]
    width = sum(own[-1] if own and i >= read else width for i, width in enumerate(widths))
    return nn.Sequential(Branches(widths, branches), layer(width, joint), nn.Linear(joint, out_features))


def layers(in_features: int, hidden: Sequence[int], layer: Layer) -> nn.Sequential:
    """Build only hidden layers; without any, the identity.

    >>> layers(4, (), nn.Linear)(torch.zeros(3, 4)).shape, layers(4, (8, 5), nn.Linear)(torch.zeros(3, 4)).shape
    (torch.Size([3, 4]), torch.Size([3, 5]))
    """
    return nn.Sequential(*(layer(width_in, width_out) for width_in, width_out in pairwise([in_features, *hidden])))
