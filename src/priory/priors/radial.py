"""Radial basis functions as the network g of a grid prior, and a fitted classical GTM in that form."""

import copy
import warnings
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from priory.grid.guide import Guide
from priory.grid.nodes import RadialBasis, latent_grid
from priory.priors.feature_range import FeatureRange

AFFINE = 1e-5  # of the largest feature: an affine map's weights must reproduce the nodes' features this closely
SYSTEMS_AT_ONCE = 2**24  # numbers in the least-squares problems of columns that are built at a time
RIDGE = 1e-10


class FittedGTM(Protocol):
    """A fitted classical GTM, `priory.GTM` or another class, with the attributes that are read here.

    Attributes:
        means_: the images of the nodes, (K, D), in the data's units: basis_(nodes_) @ basis_weights_.
        nodes_: (K, C).
        weights_: mixing weights, (K,).
        noise_variance_: of every column, in the data's unit squared.
        basis_: a module from (..., C) to (..., M + 1); the last output is a constant 1.
        basis_weights_: (M + 1, D).
    """

    means_: Any
    nodes_: Any
    weights_: Any
    noise_variance_: float
    basis_: nn.Module
    basis_weights_: Any


class Sheet:
    """Copies of a fitted GTM's attributes as tensors, in float64 on the CPU, and its basis at the nodes."""

    def __init__(self, gtm: FittedGTM) -> None:
        missing = [name for name in FittedGTM.__annotations__ if not hasattr(gtm, name)]
        if missing:
            cure = "give its gtm_" if hasattr(gtm, "gtm_") else "call gtm.fit(X) first"
            if hasattr(gtm, "named_steps"):
                cure = "give its last step, and the steps before it as preprocess"
            raise ValueError(
                f"gtm: expected a fitted GTM, got a {type(gtm).__name__} without {', '.join(missing)}; {cure}"
            )
        arrays = (gtm.means_, gtm.nodes_, gtm.weights_, gtm.basis_weights_)
        self.means, self.nodes, self.mixing_weights, self.weights = (
            torch.as_tensor(array).detach().to("cpu", torch.float64) for array in arrays
        )
        self.noise_variance = float(gtm.noise_variance_)
        self.basis = copy.deepcopy(gtm.basis_).to("cpu", torch.float64)
        with torch.no_grad():
            self.design: Float[Tensor, "node function"] = self.basis(self.nodes)
        expected = (self.design.shape[-1], self.means.shape[-1])
        if len(self.means) != len(self.nodes) or self.weights.shape != expected:
            raise ValueError(
                f"gtm: expected basis_weights_ of shape {expected}, a row for each function of basis_ and a column for "
                f"each of means_, and as many means_ as nodes_, got {tuple(self.weights.shape)}, {len(self.means)} "
                f"and {len(self.nodes)}; fit it again"
            )

    def network(self, weights: Float[Tensor, "function output"]) -> nn.Sequential:
        """Return g(u) = W^T phi(u) with these weights and this GTM's phi, in torch's default dtype."""
        network = _with_outputs(self.basis, len(weights), weights.shape[1])
        network[1].weight.data = weights.mT.contiguous()
        return network.to(torch.get_default_dtype())

    def grid(self) -> Float[Tensor, "node grid"]:
        """The nodes, in torch's default dtype."""
        return self.nodes.to(torch.get_default_dtype())

    def logits(self) -> Float[Tensor, " node"]:
        """Logits of the mixing weights; zeros if the weights are uniform."""
        return (self.mixing_weights * len(self.mixing_weights)).log()

    def feature_weights(
        self, features: Float[Tensor, "node feature"], preprocess: nn.Module | None, feature_range: FeatureRange
    ) -> Float[Tensor, "function feature"]:
        """Return the W of a g whose values in the range equal these features at the nodes.

        If the features are an affine function of the data without bounds, g is exact between the nodes too. Otherwise W
        is the least-squares solution at the nodes, to first order in the features.
        """
        if feature_range.low is None:
            exact = self._affine(preprocess)
            if (self.design @ exact - features).abs().max() <= AFFINE * features.abs().max():
                return exact
        with torch.enable_grad():
            raw = feature_range.unconstrain(features).requires_grad_()
            slopes = torch.autograd.grad(feature_range.constrain(raw).sum(), raw)[0]
        columns = max(1, SYSTEMS_AT_ONCE // self.design.shape[1] ** 2)
        parts = zip(raw.detach().split(columns, 1), slopes.split(columns, 1), strict=True)
        return torch.cat([_least_squares(self.design, target, slope) for target, slope in parts], 1)

    def guide(self, preprocess: nn.Module | None, low: float | None, high: float | None) -> Guide:
        """Return a guide with the GTM's responsibilities for features; its noise matches the data's to first order."""
        features = self.features(preprocess, low, high)
        variance = self.noise_variance
        if preprocess is not None:
            step = variance**0.5
            moved = [applied(preprocess, self.data_images(preprocess, low, high, by)) for by in (step, -step)]
            variance = float(((moved[0] - moved[1]) / 2).square().mean())
        return Guide(features, variance or self.noise_variance, self.mixing_weights)

    def _affine(self, preprocess: nn.Module | None) -> Float[Tensor, "function feature"]:
        """a(sum_m phi_m w_m + w_0) = sum_m phi_m (a(w_m) - a(0)) + a(w_0), if a is affine."""
        if preprocess is None:
            return self.weights
        images = applied(preprocess, torch.cat([self.weights, torch.zeros_like(self.weights[:1])]))
        return torch.cat([images[:-2] - images[-1], images[-2:-1]])

    def features(
        self, preprocess: nn.Module | None, low: float | None, high: float | None
    ) -> Float[Tensor, "node feature"]:
        """Return the images of the nodes as the encoder's first layer reads them.

        A GTM's sheet may leave the bounds, so the images are moved inside before and after the preprocessing: counts
        below zero have no logarithm.
        """
        images = self.data_images(preprocess, low, high)
        features = images if preprocess is None else applied(preprocess, images)
        if not features.isfinite().all():
            raise ValueError(
                "preprocess: expected finite features of the nodes' images, got NaN or infinity; give the range of the "
                "features (low=, high=), or fit the GTM to the features and leave preprocess out"
            )
        return _between(features, low, high)

    def data_images(
        self, preprocess: nn.Module | None, low: float | None, high: float | None, moved_by: float = 0.0
    ) -> Float[Tensor, "node input"]:
        """Return the images of the nodes in the data's units, shifted by a number and moved into the allowed range."""
        images = self.means + moved_by
        inverse: Callable[[Tensor], Tensor] | None = getattr(preprocess, "inverse", None)
        if inverse is None:
            return images
        ends = [None if end is None else float(inverse(torch.tensor(end))) for end in (low, high)]
        return _between(images, *ends)


def applied(preprocess: nn.Module, x: Float[Tensor, "row input"]) -> Float[Tensor, "row feature"]:
    """Return the features of rows in float64, on the CPU."""
    tensor = next(chain(preprocess.parameters(), preprocess.buffers()), x)
    try:
        with torch.no_grad():
            return preprocess(x.to(tensor.device)).to(x)
    except RuntimeError as error:
        raise ValueError(
            f"preprocess: expected a module for the {x.shape[1]} columns that the GTM was fitted to, got a "
            f"{type(preprocess).__name__} for other columns ({error}); fit the GTM to the data that the VAE reads"
        ) from error


def radial_network(functions_per_side: int, grid_dim: int, width: float, num_outputs: int) -> nn.Sequential:
    """g(u) = W^T phi(u): R^grid_dim -> R^num_outputs, with radial basis functions phi on a grid of centers.

    The width is the standard deviation of a radial function, in units of the distance between two centers.
    """
    basis = RadialBasis.on_grid(functions_per_side, grid_dim, width)
    return _with_outputs(basis, len(basis.centers) + 1, num_outputs)


def options_of(nodes: Float[Tensor, "node grid"], network: nn.Module) -> dict[str, Any] | None:
    """Return the options of a classical GTM with these nodes and this network's radial functions.

    None if the network has no radial functions, or if the nodes or the centers are not a full grid over [-1, 1]^C.
    """
    if not isinstance(network, nn.Sequential) or len(network) != 2 or not isinstance(network[0], RadialBasis):
        return None
    if not isinstance(network[1], nn.Linear) or network[1].bias is not None:  # the last function is the bias
        return None
    basis, dim = network[0], nodes.shape[1]
    sides = [round(len(points) ** (1 / dim)) for points in (nodes, basis.centers)]
    for side, points in zip(sides, (nodes, basis.centers), strict=True):
        grid = latent_grid(side, dim).to(points)
        if grid.shape != points.shape or not torch.allclose(grid, points, atol=1e-6):
            return None
    width = basis.width * max(1, sides[1] - 1) / 2  # in units of the distance between centers
    return {"points_per_side": sides[0], "basis_per_side": sides[1], "basis_width": width, "n_components": dim}


def fitted_gtm(x: Float[Tensor, "row column"], options: Mapping[str, Any], seed: int) -> FittedGTM:
    from priory.gtm import GTM

    with warnings.catch_warnings():  # gradient steps may finish an EM that did not converge
        from sklearn.exceptions import ConvergenceWarning

        warnings.simplefilter("ignore", ConvergenceWarning)
        return GTM(**options, random_state=seed).fit(x.detach().double().cpu().numpy())


def _with_outputs(basis: nn.Module, num_functions: int, num_outputs: int) -> nn.Sequential:
    """g(u) = W^T phi(u); one function is the constant 1, so the layer needs no bias."""
    return nn.Sequential(basis, nn.Linear(num_functions, num_outputs, bias=False))


def _least_squares(
    design: Float[Tensor, "node function"], target: Float[Tensor, "node column"], weight: Float[Tensor, "node column"]
) -> Float[Tensor, "function column"]:
    """Minimize sum_k weight_kd^2 (design W - target)_kd^2 over W, for each column d.

    Near a bound the value hardly depends on the logit. So the weight is the slope at the target: digits are reproduced
    twice as precisely as with equal weights.
    """
    squares = weight.square()
    gram = torch.einsum("km,kd,kn->dmn", design, squares, design)
    sides = torch.einsum("km,kd->dm", design, squares * target)
    ridge = RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1)  # with more functions than nodes, W is not determined
    gram.diagonal(dim1=1, dim2=2).add_(ridge.unsqueeze(-1))
    return torch.linalg.solve(gram, sides).mT


def _between(x: Tensor, low: float | None, high: float | None) -> Tensor:
    return x if low is None and high is None else x.clamp(low, high)
