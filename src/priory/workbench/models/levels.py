"""Networks for several levels of latent variables.

They follow HVAE_2level in the published code of Tomczak & Welling 2018 (arXiv:1705.07120): each variable that a
perceptron reads has its own hidden layers, and the last hidden layer joins them. `--network gated` with its two hidden
layers of width 300 is the network of the paper.
"""

from collections.abc import Callable, Sequence

from torch import nn

from priory._support.imports import located
from priory.nn.branches import Layer, branched, layers
from priory.nn.encoders import NormalEncoder
from priory.nn.hierarchy import nested
from priory.workbench.models.networks import Shape, mlp_layer
from priory.workbench.settings.model import ModelSettings
from priory.workbench.settings.networks import DEFAULT_HIDDEN, NETWORKS


def lower_encoder(settings: ModelSettings, num_inputs: int, image_shape: Shape) -> tuple[nn.Module, nn.Module]:
    """Build q(z_rest | x, z_top), the encoder of the levels below the top, and h(x), the features that it reads."""
    part, (layer, hidden) = NETWORKS[settings.networks[0]], _perceptron(settings, settings.networks[0])
    width = [num_inputs, *hidden][-2]
    if part.layer is None:
        network = located(part.encoder)(settings, num_inputs, width, image_shape)
        features = nn.Sequential(network, nn.LeakyReLU())
    else:
        features = layers(num_inputs, hidden[:-1], layer)

    def network_of(above: Sequence[int], num_outputs: int) -> nn.Module:
        return branched((width, *above), hidden, num_outputs, layer, read=1)

    return _levels_below(settings, network_of), features


def lower_prior(settings: ModelSettings) -> nn.Module:
    """Build p(z_rest | z_top)."""
    layer, hidden = _perceptron(settings, settings.networks[1])
    return _levels_below(settings, lambda above, num_outputs: branched(above, hidden[::-1], num_outputs, layer))


def decoder_network(settings: ModelSettings, context_dim: int, num_outputs: int, image_shape: Shape) -> nn.Module:
    """Build the network of p(x | z), which reads all levels, or of p(x | z, c), which also reads the context."""
    part, (layer, hidden) = NETWORKS[settings.networks[1]], _perceptron(settings, settings.networks[1])
    if settings.levels == 1 or part.layer is None:
        return located(part.decoder)(settings, sum(settings.level_dims) + context_dim, num_outputs, image_shape)
    return branched(settings.level_dims, hidden[::-1], num_outputs, layer)


def _levels_below(settings: ModelSettings, network_of: Callable[[Sequence[int], int], nn.Module]) -> nn.Module:
    """Build conditional normals of the levels below the top; each network reads the levels above."""
    sizes = settings.level_dims
    networks = [network_of(sizes[:level], 2 * sizes[level]) for level in range(1, len(sizes))]
    return nested([NormalEncoder(network, settings.log_variance_range) for network in networks])


def _perceptron(settings: ModelSettings, name: str) -> tuple[Layer, tuple[int, ...]]:
    """Return the layer and hidden widths of this network; if it is no perceptron, those of `mlp`."""
    layer = NETWORKS[name].layer
    if layer is None:
        return mlp_layer, DEFAULT_HIDDEN["mlp"]
    return located(layer), getattr(settings, "hidden", None) or DEFAULT_HIDDEN.get(name, DEFAULT_HIDDEN["mlp"])
