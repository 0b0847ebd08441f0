"""Noise that depends on the ids of rows: parts of the rows have the same results as all rows."""

import numpy as np
import pytest
import torch

from linear_gaussian import linear_gaussian_vae
from priory import (
    VAE,
    BernoulliDecoder,
    ConditionalDecoder,
    ConditionalEncoder,
    ConditionalMixtureOfGaussians,
    ConditionalVAE,
    HierarchicalEncoder,
    HierarchicalPrior,
    MixtureOfGaussians,
    NormalEncoder,
    StandardNormal,
    evaluate,
    evaluate_rows,
    log_likelihood,
    mlp,
    with_context,
)
from priory.rows.arrays import ArrayRows

ROWS = 37  # not a multiple of the sixteen rows that are sampled together


def binary_vae() -> VAE:
    return VAE(NormalEncoder(mlp(9, [8], 6)), BernoulliDecoder(mlp(3, [8], 9)), MixtureOfGaussians(3, 4))


def hierarchical_vae() -> VAE:
    encoder = HierarchicalEncoder(NormalEncoder(mlp(9, [8], 4)), NormalEncoder(mlp(11, [8], 6)))
    prior = HierarchicalPrior(StandardNormal(2), NormalEncoder(mlp(2, [8], 6)))
    return VAE(encoder, BernoulliDecoder(mlp(5, [8], 9)), prior)


@pytest.fixture(params=[binary_vae, hierarchical_vae])
def model(request):
    torch.manual_seed(0)
    return request.param().eval()


@pytest.fixture
def x():
    return np.random.default_rng(0).integers(0, 2, (ROWS, 9)).astype(np.float32)


def assert_same(actual, expected):
    """Check equality up to the rounding of matrix products, which may depend on the position of a row in its batch."""
    np.testing.assert_allclose(actual, expected, rtol=2e-6)


def scores(model, x, index, **options):
    rows = ArrayRows(x[index], ids=[f"row-{i}" for i in index])
    return log_likelihood(model, rows, num_samples=8, seed=3, **options).numpy()


@pytest.mark.parametrize("size", [1, 2, 7, 20, 36])
def test_parts_of_any_size_have_the_same_likelihood_as_all_rows(model, x, size):
    whole = scores(model, x, range(ROWS))
    parts = [scores(model, x, range(start, min(start + size, ROWS))) for start in range(0, ROWS, size)]
    assert_same(np.concatenate(parts), whole)


def test_the_order_of_rows_and_the_batch_size_do_not_matter(model, x):
    order = np.random.default_rng(1).permutation(ROWS)
    assert_same(scores(model, x, order, batch_size=5), scores(model, x, range(ROWS))[order])


def test_equal_rows_with_other_ids_or_another_seed_have_other_noise(model, x):
    twice = ArrayRows(x[[0, 0]], ids=["a", "b"])
    first, second = (log_likelihood(model, twice, num_samples=8, seed=seed) for seed in (0, 1))
    assert len({*first.tolist(), *second.tolist()}) == 4


def test_row_numbers_are_the_ids_of_rows_without_ids(model, x):
    numbered = log_likelihood(model, ArrayRows(x, ids=range(ROWS)), num_samples=8, seed=0)
    assert torch.equal(log_likelihood(model, torch.from_numpy(x), num_samples=8, seed=0), numbered)


def test_torchs_generator_does_not_change(model, x):
    before = torch.get_rng_state()
    scores(model, x, range(ROWS))
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluate_rows_equals_log_likelihood(model, x):
    rows = ArrayRows(x, ids=range(ROWS))
    numbers = evaluate_rows(model, rows, num_samples=8, seed=5)
    assert torch.equal(-numbers["nll"], log_likelihood(model, rows, num_samples=8, seed=5))
    part = evaluate_rows(model, ArrayRows(x[20:], ids=range(20, ROWS)), num_samples=8, seed=5)
    for name, values in numbers.items():
        np.testing.assert_allclose(values[20:], part[name], rtol=1e-4)


def test_parts_of_rows_with_contexts_have_the_same_likelihood_as_all_rows(x):
    torch.manual_seed(0)
    prior = ConditionalMixtureOfGaussians(MixtureOfGaussians(3, 4), 2, torch.nn.Linear(2, 2))
    encoder = ConditionalEncoder(NormalEncoder(mlp(9 + 2, [8], 6)))
    decoder = ConditionalDecoder(BernoulliDecoder(mlp(3 + 2, [8], 9)))
    model = ConditionalVAE(encoder, decoder, prior).eval()
    context = torch.eye(2)[torch.arange(ROWS) % 2]

    def of(chosen):
        rows = with_context(ArrayRows(x[chosen], ids=np.arange(ROWS)[chosen]), context[chosen])
        return log_likelihood(model, rows, num_samples=8, seed=0)

    assert_same(torch.cat([of(slice(0, 11)), of(slice(11, ROWS))]), of(slice(0, ROWS)))


def test_estimates_agree_with_the_exact_likelihood():
    vae, evidence = linear_gaussian_vae(scale_factor=0.6)  # a posterior that is too narrow
    x = evidence.sample((500,))
    estimates = log_likelihood(vae, x, num_samples=500, seed=0)
    assert abs(estimates - evidence.log_prob(x)).mean() < 0.05
    assert float((estimates - evidence.log_prob(x)).mean()) == pytest.approx(0.0, abs=0.02)


def test_means_of_evaluate_rows_agree_with_evaluate():
    vae, evidence = linear_gaussian_vae()
    x = evidence.sample((300,))
    metrics, numbers = evaluate(vae, x, num_samples=2000), evaluate_rows(vae, x, num_samples=2000)
    assert float(numbers["nll"].mean()) == pytest.approx(metrics["nll"].value, abs=0.02)
    assert float(numbers["rate"].mean()) == pytest.approx(metrics["rate"].value, rel=1e-12)  # the rate has no noise
