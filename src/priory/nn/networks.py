"""Networks from rows to rows: multilayer perceptrons, gated perceptrons, and a convolutional pair for images.

All of them map flat rows (..., in_features) to (..., out_features), with any leading batch shape, so encoders and
decoders work with each of them. None has batch normalization, because q(z|x) would depend on the other rows of the
batch, and pseudo-inputs would change its statistics.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


def mlp(
    in_features: int,
    hidden: Sequence[int],
    out_features: int,
    activation: Activation = nn.LeakyReLU,
    output_activation: Activation | None = None,
) -> nn.Sequential:
    """Build a multilayer perceptron, h_i = activation(W_i h_{i-1} + b_i), with a linear last layer.

    Args:
        in_features: width of an input row.
        hidden: widths of the hidden layers; empty for a single linear layer.
        out_features: width of an output row.
        activation: makes the module after each hidden layer.
        output_activation: makes the module after the last layer; None makes none.

    Returns:
        A module (..., in_features) -> (..., out_features).

    Raises:
        ValueError: a width below one.

    >>> network = mlp(4, [8, 8], 2, activation=torch.nn.Tanh)
    >>> network(torch.zeros(3, 5, 4)).shape
    torch.Size([3, 5, 2])
    """
    _check_widths(in_features=in_features, hidden=hidden, out_features=out_features)
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise([in_features, *hidden]):
        layers += [nn.Linear(width_in, width_out), activation()]
    return nn.Sequential(*layers, *_head([in_features, *hidden][-1], out_features, output_activation))


class GatedLinear(nn.Module):
    """A linear layer with a learned gate, h = (A x + a) * sigmoid(B x + b).

    One matrix product of twice the width computes both maps: the first half is A x + a, the second B x + b.

    Args:
        in_features: width of an input row.
        out_features: width of an output row.

    Raises:
        ValueError: a width below one.

    Source: Tomczak & Welling 2018 (arXiv:1705.07120), section 5; Dauphin et al. 2016 (arXiv:1612.08083), eq. 1.

    >>> layer = GatedLinear(4, 3)
    >>> layer(torch.zeros(5, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        _check_widths(in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.linear = nn.Linear(in_features, 2 * out_features)

    def forward(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output"]:
        return F.glu(self.linear(x), dim=-1)


def gated_mlp(
    in_features: int, hidden: Sequence[int], out_features: int, output_activation: Activation | None = None
) -> nn.Sequential:
    """Build a perceptron of gated layers, h_i = (A_i h_{i-1}) * sigmoid(B_i h_{i-1}), with a linear last layer.

    Args:
        in_features: width of an input row.
        hidden: widths of the gated layers.
        out_features: width of an output row.
        output_activation: makes the module after the last layer; None leaves it linear.

    Returns:
        A module (..., in_features) -> (..., out_features).

    Raises:
        ValueError: a width below one.

    Source: Tomczak & Welling 2018 (arXiv:1705.07120), section 5: two gated layers of 300.

    >>> gated_mlp(4, [8], 2)(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """
    _check_widths(in_features=in_features, hidden=hidden, out_features=out_features)
    layers = [GatedLinear(width_in, width_out) for width_in, width_out in pairwise([in_features, *hidden])]
    return nn.Sequential(*layers, *_head([in_features, *hidden][-1], out_features, output_activation))


class ConvolutionalEncoderNetwork(nn.Module):
    """Convolutions of stride two, each halving height and width (rounded up), then one linear layer.

    Args:
        image_shape: (height, width) or (channels, height, width); a row is an image, flattened in this order.
        out_features: width of an output row.
        channels: channels after each convolution.
        activation: makes the module after each convolution.

    Raises:
        ValueError: an image shape of another form, or below 4 pixels a side; a width below one.

    >>> network = ConvolutionalEncoderNetwork((27, 31), out_features=6, channels=(8, 16))
    >>> network(torch.zeros(2, 5, 27 * 31)).shape
    torch.Size([2, 5, 6])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        out_features: int,
        channels: Sequence[int] = (32, 64),
        activation: Activation = nn.LeakyReLU,
    ) -> None:
        super().__init__()
        self.image_shape = _checked_image_shape(image_shape)
        _check_widths(out_features=out_features, channels=channels)
        self.out_features = out_features
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise([self.image_shape[0], *channels]):
            layers += [nn.Conv2d(width_in, width_out, kernel_size=3, stride=2, padding=1), activation()]
        self.convolutions = nn.Sequential(*layers)
        height, width = _image_sizes(self.image_shape, len(channels))[-1]
        self.head = nn.Linear([self.image_shape[0], *channels][-1] * height * width, out_features)
        # Saves a tenth of the time of a step with 500 pseudo-inputs (benchmarks/convolutional.py). torch's stubs lack
        # this `to`.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output"]:
        _check_row(x, math.prod(self.image_shape), f"the pixels of an image {self.image_shape}")
        images = x.reshape(math.prod(x.shape[:-1]), *self.image_shape)
        return self.head(self.convolutions(images).flatten(1)).reshape(*x.shape[:-1], self.out_features)

    def constructor_arguments(self) -> dict[str, Any]:
        """Return the constructor arguments that are not attributes, for `priory.save`."""
        return _convolutional_arguments([*self.convolutions][::2], [*self.convolutions][1::2])


class ConvolutionalDecoderNetwork(nn.Module):
    """One linear layer, then transposed convolutions of stride two up to the image size.

    The output row is (channels, height, width, outputs_per_pixel), flattened. With D pixels and P outputs, a likelihood
    reads it as (..., D, P).

    Args:
        image_shape: (height, width) or (channels, height, width).
        in_features: width of an input row.
        outputs_per_pixel: P, numbers for each pixel.
        channels: channels before each transposed convolution.
        activation: makes the module before each transposed convolution.

    Raises:
        ValueError: an image shape of another form, or below 4 pixels a side; a width below one; no channels.

    >>> network = ConvolutionalDecoderNetwork((27, 31), 6, outputs_per_pixel=2, channels=(16, 8))
    >>> network(torch.zeros(2, 5, 6)).shape == (2, 5, 27 * 31 * 2)
    True
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        in_features: int,
        outputs_per_pixel: int = 1,
        channels: Sequence[int] = (64, 32),
        activation: Activation = nn.LeakyReLU,
    ) -> None:
        super().__init__()
        self.image_shape = _checked_image_shape(image_shape)
        _check_widths(in_features=in_features, outputs_per_pixel=outputs_per_pixel, channels=channels)
        if not channels:
            raise ValueError("channels: expected at least one width, got none; give for example (64, 32)")
        self.in_features, self.outputs_per_pixel = in_features, outputs_per_pixel
        self.out_features = math.prod(self.image_shape) * outputs_per_pixel
        *self._sizes, self._first_size = _image_sizes(self.image_shape, len(channels))
        self._first_channels = channels[0]
        self.stem = nn.Linear(in_features, channels[0] * math.prod(self._first_size))
        self.convolutions = nn.ModuleList(
            # A kernel that is a multiple of the stride covers every pixel equally often: no checkerboard.
            nn.Sequential(activation(), nn.ConvTranspose2d(width_in, width_out, kernel_size=4, stride=2, padding=1))
            for width_in, width_out in pairwise([*channels, self.image_shape[0] * outputs_per_pixel])
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch output"]:
        _check_row(z, self.in_features, "in_features")
        rows = z.reshape(math.prod(z.shape[:-1]), self.in_features)
        h = self.stem(rows).unflatten(-1, (self._first_channels, *self._first_size))
        for convolution, (height, width) in zip(self.convolutions, reversed(self._sizes), strict=True):
            h = convolution(h)[..., :height, :width]  # the doubled size is one more than an odd size
        images = h.unflatten(1, (self.image_shape[0], self.outputs_per_pixel)).movedim(2, -1)
        return images.reshape(*z.shape[:-1], self.out_features)

    def constructor_arguments(self) -> dict[str, Any]:
        """Return the constructor arguments that are not attributes, for `priory.save`."""
        activations, convolutions = zip(*self.convolutions, strict=True)
        return _convolutional_arguments(convolutions, activations) | {
            "channels": tuple(convolution.in_channels for convolution in convolutions)
        }


def output_width(network: nn.Module) -> int | None:
    """Return `out_features` of a network, or of the last layer of an `nn.Sequential`; None if it has none.

    >>> output_width(mlp(4, [8], 2)), output_width(torch.nn.Tanh())
    (2, None)
    """
    width = getattr(network, "out_features", None)
    if isinstance(width, int):
        return width
    return output_width(network[-1]) if isinstance(network, nn.Sequential) and len(network) > 0 else None


def input_width(network: nn.Module) -> int | None:
    """Return `in_features` of a network, or of the first layer of an `nn.Sequential`; None if it has none.

    >>> input_width(mlp(4, [8], 2)), input_width(torch.nn.Tanh())
    (4, None)
    """
    width = getattr(network, "in_features", None)
    if isinstance(width, int):
        return width
    return input_width(network[0]) if isinstance(network, nn.Sequential) and len(network) > 0 else None


def check_reads(owner: nn.Module, network: nn.Module, name: str, rows: Tensor) -> None:
    """Raise an error if rows are not as wide as the network's first layer, as far as its width is known.

    Args:
        owner: the module that contains the network.
        network: the network that reads the rows.
        name: name of the rows in the message.
        rows: (..., D).
    """
    width = input_width(network)
    if width is not None and rows.shape[-1:] != (width,):
        raise ValueError(
            f"{name}: {type(owner).__name__} got shape {tuple(rows.shape)}, but its network reads (..., {width}); "
            "build the network for this width"
        )


def _convolutional_arguments(convolutions: Iterable[nn.Module], activations: Sequence[nn.Module]) -> dict[str, Any]:
    channels = tuple(convolution.out_channels for convolution in convolutions)
    return {"channels": channels} | ({"activation": lambda: activations[0]} if activations else {})


def _head(in_features: int, out_features: int, output_activation: Activation | None) -> list[nn.Module]:
    linear = nn.Linear(in_features, out_features)
    return [linear] if output_activation is None else [linear, output_activation()]


def _image_sizes(image_shape: tuple[int, int, int], halvings: int) -> list[tuple[int, int]]:
    """(height, width) of the image and after each halving, rounded up."""
    sizes = [image_shape[1:]]
    for _ in range(halvings):
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def _checked_image_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    shape = tuple(image_shape)
    channels, height, width = (1, *shape) if len(shape) == 2 else shape if len(shape) == 3 else (0, 0, 0)
    if channels < 1 or min(height, width) < 4:
        raise ValueError(
            "image_shape: expected (height, width) or (channels, height, width) with at least 4 pixels a side, "
            f"got {shape}; use mlp for smaller images"
        )
    return channels, height, width


def _check_widths(**widths: int | Sequence[int]) -> None:
    for name, value in widths.items():
        if any(width < 1 for width in ([value] if isinstance(value, int) else value)):
            raise ValueError(f"{name}: expected at least one, got {value}; give a number of units")


def _check_row(x: Tensor, width: int, meaning: str) -> None:
    if x.ndim == 0 or x.shape[-1] != width:
        raise ValueError(
            f"x: expected rows of {width} numbers ({meaning}), got shape {tuple(x.shape)}; "
            "flatten each datum into the last axis"
        )
