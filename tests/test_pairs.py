"""Log-densities of all pairs, compared with a loop over distributions and values in float64."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Laplace, Normal

from priory import diagonal_normal
from priory.distributions import BinaryVector, CategoricalLevels, DiscretizedLogistic
from priory.evaluation.pairs import by_matrix_product, log_prob_of_pairs

SHAPE = 4, 5  # distributions, dimensions


def numbers(*more: int) -> Tensor:
    return 3 * torch.randn(*SHAPE, *more)


# Function from parameters to distributions, parameters, values, and whether a matrix product is expected.
FAMILIES: dict[str, tuple[Callable[..., Distribution], Callable[[], list[Tensor]], Callable[[], Tensor], bool]] = {
    "normal": (diagonal_normal, lambda: [numbers(), numbers().exp()], lambda: 3 * torch.randn(7, 5), True),
    "binary": (BinaryVector, lambda: [10 * numbers()], lambda: torch.rand(7, 5).round(), True),
    "torch's binary": (
        lambda logits: Independent(Bernoulli(logits=logits), 1),
        lambda: [10 * numbers()],
        lambda: torch.rand(7, 5).round(),
        True,
    ),
    "binary images": (
        lambda logits: Independent(Bernoulli(logits=logits.unflatten(-1, (1, 5))), 2),
        lambda: [10 * numbers()],
        lambda: torch.rand(7, 1, 5).round(),
        True,
    ),
    "real images": (
        lambda loc, scale: Independent(Normal(loc.unflatten(-1, (1, 5)), scale.unflatten(-1, (1, 5))), 2),
        lambda: [numbers(), numbers().exp()],
        lambda: 3 * torch.randn(7, 1, 5),
        True,
    ),
    "levels of images": (
        lambda logits: Independent(Categorical(logits=logits.unflatten(-2, (1, 5))), 2),
        lambda: [numbers(6)],
        lambda: torch.randint(6, (7, 1, 5)),
        True,
    ),
    "levels": (
        lambda logits: Independent(CategoricalLevels(logits=logits), 1),
        lambda: [numbers(6)],
        lambda: torch.randint(6, (7, 5)).float(),
        True,
    ),
    "categorical": (
        lambda probs: Independent(Categorical(probs=probs), 1),
        lambda: [numbers(6).softmax(-1)],
        lambda: torch.randint(6, (7, 5)),
        True,
    ),
    "logistic": (
        lambda loc, log_scale: Independent(DiscretizedLogistic(loc, log_scale, 8), 1),
        lambda: [numbers(), numbers()],
        lambda: torch.randint(8, (7, 5)).float(),
        False,
    ),
    "other": (
        lambda loc, scale: Independent(Laplace(loc, scale), 1),
        lambda: [numbers(), numbers().exp()],
        lambda: torch.randn(7, 5),
        False,
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_log_probs_of_pairs_equal_a_loop(name):
    torch.manual_seed(0)
    family, parameters, values, by_product = FAMILIES[name]
    arguments, x = parameters(), values()
    p = family(*arguments)
    log_probs = log_prob_of_pairs(p, x)
    assert by_matrix_product(p) == by_product
    assert log_probs.shape == (4, 7)
    for a in range(4):
        one = family(*(parameter[a].double() for parameter in arguments))
        for b in range(7):
            expected = one.log_prob(x[b].double() if x.is_floating_point() else x[b])
            torch.testing.assert_close(log_probs[a, b].double(), expected, rtol=1e-5, atol=1e-4)


def test_narrow_normals_far_away_are_exact():
    """The terms of an expanded square would cancel."""
    loc, scale = torch.tensor([[1e4, -1e4], [1e4 + 1, -1e4]]), torch.full((2, 2), 1e-3)
    log_probs = log_prob_of_pairs(diagonal_normal(loc, scale), loc + 1e-3)
    expected = diagonal_normal(loc.double().unsqueeze(1), scale.double().unsqueeze(1)).log_prob((loc + 1e-3).double())
    torch.testing.assert_close(log_probs.double(), expected, rtol=1e-6, atol=1e-4)


def test_log_probs_of_impossible_and_certain_values_are_exact():
    """For probabilities of zero and one, the sum must not contain infinity times zero."""
    logits = torch.randn(4, 5, 3).index_fill(-1, torch.tensor([2]), -math.inf)
    levels = Independent(Categorical(logits=logits), 1)
    possible, impossible = torch.zeros(1, 5), torch.full((1, 5), 2.0)
    expected = levels.log_prob(possible)
    torch.testing.assert_close(log_prob_of_pairs(levels, torch.cat([possible, impossible]))[:, 0], expected)
    assert (log_prob_of_pairs(levels, impossible) == -math.inf).all()
    pixels = BinaryVector(torch.tensor([[math.inf, -math.inf, 0.0]]))
    log_probs = log_prob_of_pairs(pixels, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))
    torch.testing.assert_close(log_probs, torch.tensor([[-math.log(2), -math.inf]]))


@pytest.mark.parametrize("name", ["normal", "binary", "levels"])
def test_autocast_does_not_round_the_product(name):
    torch.manual_seed(0)
    family, parameters, values, _ = FAMILIES[name]
    p, x = family(*parameters()), values()
    expected = log_prob_of_pairs(p, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(log_prob_of_pairs(p, x), expected, rtol=0, atol=0)


def test_a_subclass_of_categorical_keeps_its_own_density():
    class Tempered(Categorical):
        def log_prob(self, value):
            return 0.5 * super().log_prob(value)

    p = Independent(Tempered(logits=torch.randn(4, 5, 3)), 1)
    x = torch.randint(3, (7, 5))
    torch.testing.assert_close(log_prob_of_pairs(p, x), torch.stack([p.log_prob(row) for row in x], 1))
