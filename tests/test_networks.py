"""Networks: outputs compared with loops, and shapes."""

import itertools
import math

import pytest
import torch
from torch import nn

from priory.distributions.normal import at_least_float32
from priory.nn.networks import (
    ConvolutionalDecoderNetwork,
    ConvolutionalEncoderNetwork,
    GatedLinear,
    gated_mlp,
    mlp,
    output_width,
)

IMAGE_SHAPES = [(4, 4), (8, 8), (28, 28), (27, 31), (3, 5, 8)]
LEADING_SHAPES = [(), (3,), (2, 3), (2, 1, 3), (0,), (2, 0)]


def test_mlp_alternates_affine_maps_and_activations():
    network = mlp(3, [5, 4], 2, activation=nn.Tanh, output_activation=nn.Sigmoid)
    h = x = torch.randn(7, 3)
    linears = [module for module in network if isinstance(module, nn.Linear)]
    for linear in linears[:-1]:
        h = torch.tanh(h @ linear.weight.T + linear.bias)
    expected = torch.sigmoid(h @ linears[-1].weight.T + linears[-1].bias)
    torch.testing.assert_close(network(x), expected)


def test_mlp_without_hidden_layers_is_linear():
    network = mlp(3, [], 2)
    assert [type(module) for module in network] == [nn.Linear]


def test_gated_linear_is_a_linear_map_times_a_sigmoid_of_another():
    layer = GatedLinear(4, 3)
    x = torch.randn(5, 4)
    weight, bias = layer.linear.weight, layer.linear.bias
    expected = torch.empty(5, 3)
    for row, unit in itertools.product(range(5), range(3)):
        value = sum(weight[unit, i] * x[row, i] for i in range(4)) + bias[unit]
        gate = sum(weight[unit + 3, i] * x[row, i] for i in range(4)) + bias[unit + 3]
        expected[row, unit] = value / (1 + torch.exp(-gate))
    torch.testing.assert_close(layer(x), expected)


def test_gated_mlp_ends_with_a_linear_layer_and_the_output_activation():
    network = gated_mlp(4, [6, 5], 3, output_activation=nn.Sigmoid)
    assert [type(module) for module in network] == [GatedLinear, GatedLinear, nn.Linear, nn.Sigmoid]
    x = torch.randn(2, 4)
    torch.testing.assert_close(network(x), torch.sigmoid(network[2](network[1](network[0](x)))))


@pytest.mark.parametrize("leading", LEADING_SHAPES)
@pytest.mark.parametrize("image_shape", IMAGE_SHAPES)
def test_convolutional_networks_accept_any_leading_shape(image_shape, leading):
    encoder = ConvolutionalEncoderNetwork(image_shape, out_features=6, channels=(4, 5, 6))
    decoder = ConvolutionalDecoderNetwork(image_shape, 3, outputs_per_pixel=2, channels=(6, 5))
    assert encoder(torch.randn(*leading, math.prod(image_shape))).shape == (*leading, 6)
    assert decoder(torch.randn(*leading, 3)).shape == (*leading, 2 * math.prod(image_shape))


@pytest.mark.parametrize("image_shape", [(8, 8), (27, 31)])
def test_convolutional_rows_do_not_depend_on_each_other(image_shape):
    encoder = ConvolutionalEncoderNetwork(image_shape, out_features=6, channels=(4,))
    decoder = ConvolutionalDecoderNetwork(image_shape, 3, outputs_per_pixel=2, channels=(4,))
    for network, width in ((encoder, math.prod(image_shape)), (decoder, 3)):
        rows = torch.randn(2, 3, width)
        one_by_one = torch.stack([torch.stack([network(row) for row in block]) for block in rows])
        torch.testing.assert_close(network(rows), one_by_one, atol=1e-5, rtol=1e-4)


def test_convolutional_decoder_returns_outputs_of_each_pixel_in_sequence():
    """If the last convolution has only a bias, output p of each pixel of channel c equals the bias [c, p]."""
    network = ConvolutionalDecoderNetwork((2, 5, 6), 3, outputs_per_pixel=4, channels=(3,))
    last = network.convolutions[-1][-1]
    nn.init.zeros_(last.weight)
    last.bias.data = torch.arange(8.0)
    pixels = network(torch.randn(7, 3)).reshape(7, 2, 5, 6, 4)
    for channel, output in itertools.product(range(2), range(4)):
        assert (pixels[:, channel, :, :, output] == 4 * channel + output).all()


def test_convolutional_encoder_reads_the_row_as_channels_height_width():
    network = ConvolutionalEncoderNetwork((2, 5, 6), out_features=3, channels=(4,))
    images = torch.randn(7, 2, 5, 6)
    expected = network.head(network.convolutions(images).reshape(7, -1))
    torch.testing.assert_close(network(images.reshape(7, -1)), expected)


@pytest.mark.parametrize("image_shape", [(4, 4), (27, 31)])
def test_convolutional_networks_use_every_pixel(image_shape):
    pixels = math.prod(image_shape)
    encoder = ConvolutionalEncoderNetwork(image_shape, out_features=6, channels=(8, 8))
    x = torch.rand(1, pixels, requires_grad=True)
    (gradient,) = torch.autograd.grad(encoder(x).square().sum(), x)
    assert (gradient != 0).all()
    decoder = ConvolutionalDecoderNetwork(image_shape, 3, channels=(8, 8))
    assert (decoder(torch.randn(50, 3)).std(0) > 0).all()


def test_output_width_is_none_for_networks_of_unknown_width():
    assert output_width(nn.Linear(2, 3)) == 3
    assert output_width(gated_mlp(2, [4], 6)) == 6
    assert output_width(nn.Sequential(nn.Linear(2, 3), GatedLinear(3, 5))) == 5
    assert output_width(ConvolutionalEncoderNetwork((8, 8), 7, channels=(2,))) == 7
    assert output_width(ConvolutionalDecoderNetwork((8, 8), 2, 3, channels=(2,))) == 192
    assert output_width(nn.Sequential()) is None
    assert output_width(nn.Sequential(nn.Linear(2, 3), nn.GLU())) is None


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_at_least_float32_converts_only_half_precision(dtype, expected):
    assert at_least_float32(torch.zeros(1, dtype=dtype)).dtype == expected


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: mlp(0, [3], 2), "in_features: expected at least one, got 0"),
        (lambda: mlp(1, [3, 0], 2), r"hidden: expected at least one, got \[3, 0\]"),
        (lambda: gated_mlp(1, [3], -1), "out_features: expected at least one"),
        (lambda: GatedLinear(1, 0), "out_features: expected at least one"),
        (lambda: ConvolutionalEncoderNetwork((3, 8), 2), r"image_shape: expected .* got \(3, 8\); use mlp"),
        (lambda: ConvolutionalEncoderNetwork((64,), 2), "image_shape: expected"),
        (lambda: ConvolutionalEncoderNetwork((8, 8), 0), "out_features: expected at least one"),
        (lambda: ConvolutionalDecoderNetwork((0, 8, 8), 2), "image_shape: expected"),
        (
            lambda: ConvolutionalDecoderNetwork((8, 8), 2, outputs_per_pixel=0),
            "outputs_per_pixel: expected at least one",
        ),
        (lambda: ConvolutionalDecoderNetwork((8, 8), 2, channels=()), "channels: expected at least one width"),
        (lambda: ConvolutionalEncoderNetwork((8, 8), 2)(torch.zeros(3, 8, 8)), r"64 numbers .* shape \(3, 8, 8\)"),
        (lambda: ConvolutionalDecoderNetwork((8, 8), 2)(torch.zeros(3)), r"2 numbers .* shape \(3,\)"),
    ],
)
def test_invalid_arguments_raise_clear_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
