"""Errors about almost correct models and about data of another type name the part and suggest a line of code."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal

from priory import (
    VAE,
    BernoulliDecoder,
    CategoricalDecoder,
    GaussianDecoder,
    GTMPrior,
    GTMVampPrior,
    Guide,
    LogNormalize,
    MixtureOfGaussians,
    NegativeBinomialDecoder,
    NormalEncoder,
    Standardize,
    StandardNormal,
    VampPrior,
    as_model,
    diagonal_normal,
    elbo,
    evaluate,
    fit,
    importance_weighted_bound,
    latent_grid,
    log_likelihood,
    mlp,
)
from priory.rows import TensorRows

D, L = 6, 2
X = torch.rand(8, D, generator=torch.Generator().manual_seed(0)).round()


class Part(nn.Module):
    """A network and a function of its output."""

    def __init__(self, num_inputs, num_outputs, made):
        super().__init__()
        self.network, self.made = nn.Linear(num_inputs, num_outputs), made

    def forward(self, x):
        return self.made(self.network(x))


def pair(outputs):
    return outputs.chunk(2, -1)


def bare_normal(outputs):
    loc, log_variance = pair(outputs)
    return Normal(loc, torch.exp(0.5 * log_variance))


ENCODERS = {
    "pair": (pair, TypeError, r"got a tuple \(Tensor, Tensor\); .*priory\.diagonal_normal\(mean, torch\.exp\("),
    "list": (lambda outputs: [*pair(outputs)], TypeError, r"got a list \(Tensor, Tensor\); .*priory\.diagonal_normal"),
    "tensor": (lambda outputs: outputs, TypeError, r"got Tensor; .*priory\.diagonal_normal"),
    "normal": (bare_normal, ValueError, r"got Normal .*; wrap it: torch\.distributions\.Independent\(q, 1\)"),
}
DECODERS = {
    "tensor": (
        lambda logits: logits,
        TypeError,
        r"got Tensor; for logits .*Independent\(torch\.distributions\.Bernoulli",
    ),
    "pair": (lambda logits: (logits, logits), TypeError, r"decode: expected a distribution p\(x\|z\), got a tuple"),
    "bernoulli": (
        lambda logits: Bernoulli(logits=logits),
        ValueError,
        r"got batch shape .* and event shape \(\); wrap it: torch\.distributions\.Independent\(p, 1\)",
    ),
}
USES = {
    "elbo": lambda model: elbo(model, X),
    "bound": lambda model: importance_weighted_bound(model, X, num_samples=2),
    "evaluate": lambda model: evaluate(model, X, num_samples=2),
    "log_likelihood": lambda model: log_likelihood(model, X, num_samples=2),
    "fit": lambda model: fit(model, X, X, epochs=1),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("name", ENCODERS)
def test_errors_about_encoders_suggest_a_remedy(name, use):
    made, error, message = ENCODERS[name]
    model = VAE(Part(D, 2 * L, made), BernoulliDecoder(nn.Linear(L, D)), StandardNormal(L))
    with pytest.raises(error, match=f"encode: .*{message}"):
        use(model)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("name", DECODERS)
def test_errors_about_decoders_suggest_a_remedy(name, use):
    made, error, message = DECODERS[name]
    model = VAE(NormalEncoder(nn.Linear(D, 2 * L)), Part(L, D, made), StandardNormal(L))
    with pytest.raises(error, match=message):
        use(model)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(
    "prior",
    [
        lambda: VampPrior.from_data(X, 3, low=0.0, high=1.0),
        lambda: GTMVampPrior(latent_grid(3), nn.Linear(2, D), low=0.0, high=1.0),
    ],
    ids=["vamp", "gtm-vamp"],
)
def test_errors_of_priors_about_encoders_suggest_a_remedy(prior, name):
    made, error, message = ENCODERS[name]
    with pytest.raises(error, match=f"encoder: .*{message}"):
        prior()(Part(D, 2 * L, made))


def test_the_suggested_remedies_work():
    """With the lines of the messages, these parts make models."""
    encoder, decoder = Part(D, 2 * L, pair), Part(L, D, lambda logits: logits)

    def encode(x):
        mean, log_variance = encoder(x)
        return diagonal_normal(mean, torch.exp(0.5 * log_variance))

    def decode(z):
        return torch.distributions.Independent(torch.distributions.Bernoulli(logits=decoder(z)), 1)

    model = as_model(encode=encode, decode=decode, prior=VampPrior.from_data(X, 3), modules=[encoder, decoder])
    assert evaluate(model, X, num_samples=2)["nll"].value > 0


NO_TENSORS = {
    "ndarray": (X.numpy(), r"got ndarray; convert it: torch\.as_tensor\({}, dtype=torch\.float32\)"),
    "frame": (
        pd.DataFrame(X),
        r"got DataFrame; convert it: torch\.as_tensor\({}\.to_numpy\(\), dtype=torch\.float32\)",
    ),
    "list": (X.tolist(), r"got list; convert it: torch\.as_tensor\({}, dtype=torch\.float32\)"),
    "rows": (TensorRows(X), r"got TensorRows; convert it: {0}\.batch\(torch\.arange\(len\({0}\)\)\)\[0\]"),
}
TAKING = {
    "elbo": (
        "x",
        lambda x: elbo(VAE(NormalEncoder(nn.Linear(D, 4)), BernoulliDecoder(nn.Linear(2, D)), StandardNormal(2)), x),
    ),
    "vamp from data": ("x", lambda x: VampPrior.from_data(x, 3)),
    "vamp": ("pseudo_inputs", VampPrior),
    "gtm": ("grid", lambda grid: GTMPrior(2, grid, nn.Linear(D, 4))),
    "guide": ("images", lambda images: Guide(images, 0.1)),
    "mixture": ("z", lambda z: MixtureOfGaussians.from_latents(z, 3)),
    "standardize": ("x", Standardize.from_data),
    "log-normalize": ("x", LogNormalize.from_data),
    "gaussian from data": ("rows", lambda rows: GaussianDecoder.from_data(nn.Linear(2, D), rows)),
    "gaussian": ("loc", lambda loc: GaussianDecoder(nn.Linear(2, D), loc)),
    "counts": ("library_sizes", lambda sizes: NegativeBinomialDecoder(nn.Linear(2, D), sizes)),
}


@pytest.mark.parametrize("kind", NO_TENSORS)
@pytest.mark.parametrize("taker", TAKING)
def test_errors_about_other_types_suggest_how_to_make_a_tensor(taker, kind):
    argument, take = TAKING[taker]
    value, message = NO_TENSORS[kind]
    with pytest.raises(TypeError, match=f"^{argument}: expected a tensor, {message.format(argument)}$"):
        take(value)


def test_the_suggested_conversions_make_the_tensor():
    rows, frame = TensorRows(X), pd.DataFrame(X.numpy())
    for x in (
        rows.batch(torch.arange(len(rows)))[0],
        torch.as_tensor(frame.to_numpy(), dtype=torch.float32),
        torch.as_tensor(X.numpy(), dtype=torch.float32),
        torch.as_tensor(X.tolist(), dtype=torch.float32),
    ):
        assert torch.equal(x, X)


WIDTHS = {
    "encoder": (
        lambda: VAE(NormalEncoder(mlp(5, [4], 4)), BernoulliDecoder(nn.Linear(2, D)), StandardNormal(2)),
        r"features: NormalEncoder got shape \(8, 6\), but its network reads \(\.\.\., 5\); build the network for",
    ),
    "decoder": (
        lambda: VAE(NormalEncoder(nn.Linear(D, 4)), BernoulliDecoder(mlp(3, [4], D)), StandardNormal(2)),
        r"z: BernoulliDecoder got shape \(.*, 2\), but its network reads \(\.\.\., 3\)",
    ),
    "decoder of levels": (
        lambda: VAE(NormalEncoder(nn.Linear(D, 4)), CategoricalDecoder(nn.Linear(3, 2 * D), 2), StandardNormal(2)),
        r"z: CategoricalDecoder got shape \(.*, 2\)",
    ),
    "pseudo-inputs": (
        lambda: VAE(NormalEncoder(nn.Linear(D, 4)), BernoulliDecoder(nn.Linear(2, D)), VampPrior(torch.rand(3, 5))),
        r"features: NormalEncoder got shape \(3, 5\), but its network reads \(\.\.\., 6\)",
    ),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("name", WIDTHS)
def test_errors_about_widths_contain_both_widths(name, use):
    make, message = WIDTHS[name]
    with pytest.raises(ValueError, match=message):
        use(make())


class Plain(nn.Module):
    """A network without a known output width."""

    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(2, width)

    def forward(self, z):
        return self.layer(z)


@pytest.mark.parametrize(
    ("decoder", "loc", "scale"),
    [
        (lambda: GaussianDecoder(nn.Linear(2, 3)), torch.zeros(3), torch.ones(3)),
        (lambda: GaussianDecoder(mlp(2, [4], 6), learn_scale="per-datum"), torch.zeros(3), torch.ones(3)),
        (lambda: GaussianDecoder(nn.Linear(2, 3), 5, 2.0), torch.full((3,), 5.0), torch.full((3,), 2.0)),
        (lambda: GaussianDecoder(Plain(3), scale=torch.arange(1.0, 4)), torch.zeros(3), torch.arange(1.0, 4)),
        (lambda: GaussianDecoder(Plain(3), torch.arange(3.0), 2), torch.arange(3.0), torch.full((3,), 2.0)),
    ],
)
def test_numbers_instead_of_vectors_apply_to_all_columns(decoder, loc, scale):
    made = decoder()
    torch.testing.assert_close(made.loc, loc)
    torch.testing.assert_close(made.scale, scale)
    assert made(torch.zeros(7, 2)).log_prob(torch.zeros(7, 3)).shape == (7,)


def test_an_error_about_an_unknown_number_of_columns_suggests_from_data():
    with pytest.raises(ValueError, match=r"loc, scale: the number of columns is unknown.*from_data\(network, rows\)"):
        GaussianDecoder(Plain(3))
    assert GaussianDecoder.from_data(Plain(3), torch.rand(9, 3))(torch.zeros(2)).event_shape == (3,)


@pytest.mark.parametrize(
    "values", [(torch.tensor(0.0), 1.0), (torch.zeros(3), torch.ones(2)), (0.0, 0.0), (np.nan, 1.0)]
)
def test_wrong_columns_of_a_decoder_are_refused(values):
    with pytest.raises(ValueError, match="loc, scale: expected"):
        GaussianDecoder(nn.Linear(2, 3), *values)
