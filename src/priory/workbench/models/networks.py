"""Builders of the networks in `priory.workbench.settings.networks`, for encoder and decoder.

Arguments are the settings, the widths of the network's input and output, and the image shape, if rows are images.
"""

import math

from torch import nn

from priory.nn.networks import (
    ConvolutionalDecoderNetwork,
    ConvolutionalEncoderNetwork,
    GatedLinear,
    gated_mlp,
    mlp,
)
from priory.workbench.settings.networks import DEFAULT_HIDDEN, HiddenSettings

Shape = tuple[int, int] | None
gated_layer = GatedLinear


def mlp_layer(width_in: int, width_out: int) -> nn.Module:
    """Build a hidden layer of a perceptron."""
    return nn.Sequential(nn.Linear(width_in, width_out), nn.LeakyReLU())


def mlp_encoder(settings: HiddenSettings, num_inputs: int, num_outputs: int, image_shape: Shape) -> nn.Module:
    """Build a perceptron."""
    return mlp(num_inputs, settings.hidden or DEFAULT_HIDDEN["mlp"], num_outputs)


def mlp_decoder(settings: HiddenSettings, num_inputs: int, num_outputs: int, image_shape: Shape) -> nn.Module:
    """Build a perceptron with the encoder's widths in reverse."""
    return mlp(num_inputs, tuple(reversed(settings.hidden or DEFAULT_HIDDEN["mlp"])), num_outputs)


def gated_encoder(settings: HiddenSettings, num_inputs: int, num_outputs: int, image_shape: Shape) -> nn.Module:
    """Build a perceptron of gated layers."""
    return gated_mlp(num_inputs, settings.hidden or DEFAULT_HIDDEN["gated"], num_outputs)


def gated_decoder(settings: HiddenSettings, num_inputs: int, num_outputs: int, image_shape: Shape) -> nn.Module:
    """Build a perceptron of gated layers with the encoder's widths in reverse."""
    return gated_mlp(num_inputs, tuple(reversed(settings.hidden or DEFAULT_HIDDEN["gated"])), num_outputs)


def conv_encoder(settings: HiddenSettings, num_inputs: int, num_outputs: int, image_shape: Shape) -> nn.Module:
    """Build a convolutional network for images."""
    shape = _checked(image_shape, num_inputs)
    return ConvolutionalEncoderNetwork(shape, num_outputs, channels=settings.hidden or DEFAULT_HIDDEN["conv"])


def conv_decoder(settings: HiddenSettings, num_inputs: int, num_outputs: int, image_shape: Shape) -> nn.Module:
    """Build a convolutional network for images with the encoder's channels in reverse."""
    shape = _checked(image_shape, num_outputs)
    outputs, channels = num_outputs // math.prod(shape), tuple(reversed(settings.hidden or DEFAULT_HIDDEN["conv"]))
    return ConvolutionalDecoderNetwork(shape, num_inputs, outputs_per_pixel=outputs, channels=channels)


def _checked(image_shape: Shape, width: int) -> tuple[int, int]:
    if image_shape is None or width % math.prod(image_shape):
        raise ValueError(
            "--network conv: expected images, got rows without an image shape; store (N, height, width) or an "
            "array `shape` in the .npz, or choose --network mlp"
        )
    return image_shape
