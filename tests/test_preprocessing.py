"""Preprocessing modules, compared with numpy, and properties that all of them share."""

import math

import numpy as np
import pytest
import torch

from priory.nn.preprocessing import Identity, LogNormalize, Preprocessing, Rescale, Standardize

COUNTS = torch.tensor([[0.0, 3.0, 5.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [10.0, 1.0, 4.0]])

# module, suitable data
MEMBERS = {
    "identity": (Identity(), torch.tensor([[0.0, 1.0], [1.0, 1.0]])),
    "rescale": (Rescale(0, 255), torch.tensor([[0.0, 255.0], [17.0, 128.0]])),
    "standardize": (
        Standardize(torch.tensor([5.0, -3.0]), torch.tensor([2.0, 1e-3])),
        torch.tensor([[9.0, -3.001], [1.0, 2.0]]),
    ),
    "log-normalize": (LogNormalize(8.0), torch.tensor([[0.0, 8.0], [3.0, 5.0]])),  # rows of total 8: invertible
}


@pytest.fixture(params=MEMBERS)
def member(request):
    return MEMBERS[request.param]


def test_inverse_restores_the_data(member):
    preprocess, x = member
    torch.testing.assert_close(preprocess.inverse(preprocess(x)), x, atol=1e-5, rtol=1e-5)


def test_features_lie_in_the_feature_range(member):
    preprocess, x = member
    low, high = preprocess.feature_range
    features = preprocess(x)
    assert low is None or features.min() >= low
    assert high is None or features.max() <= high


@pytest.mark.parametrize("leading", [(), (1,), (5,), (3, 2), (2, 3, 2), (0,)])
def test_rows_are_transformed_independently_in_any_batch_shape(member, leading):
    preprocess, x = member
    rows = x[torch.randint(len(x), leading)]
    features = preprocess(rows)
    assert features.shape == (*leading, x.shape[-1])
    for index in np.ndindex(*leading):
        torch.testing.assert_close(features[index], preprocess(rows[index]))


def test_buffers_are_finite_and_the_dtype_of_the_rows_is_kept(member):
    preprocess, x = member
    assert isinstance(preprocess, Preprocessing)
    assert not list(preprocess.parameters())
    assert all(buffer.isfinite().all() for buffer in preprocess.state_dict().values())
    assert preprocess(x).dtype == torch.float32
    assert preprocess(x.double()).dtype == torch.float64


def test_state_dict_restores_the_constants():
    restored = Rescale(0, 1)
    restored.load_state_dict(Rescale(-2, 6).state_dict())
    torch.testing.assert_close(restored(torch.tensor([-2.0, 0.0, 6.0])), torch.tensor([0.0, 0.25, 1.0]))


def test_rescale_maps_bounds_exactly_to_zero_and_one():
    assert Rescale(0, 255)(torch.tensor([0.0, 255.0])).tolist() == [0.0, 1.0]
    assert Rescale(0, 255)(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0.0, 1.0]


def test_standardize_agrees_with_numpys_mean_and_standard_deviation():
    x = np.random.default_rng(0).normal([1e4, 0.0, -3.0], [0.5, 2.0, 1e-3], size=(500, 3)).astype(np.float32)
    standardize = Standardize.from_data(torch.from_numpy(x))
    np.testing.assert_allclose(standardize.loc, x.astype(np.float64).mean(0), rtol=1e-6)
    np.testing.assert_allclose(standardize.scale, x.astype(np.float64).std(0), rtol=1e-6)
    features = standardize(torch.from_numpy(x[:, 1]).unsqueeze(-1).expand(-1, 3))[:, 1]
    np.testing.assert_allclose((features.mean(), features.std(correction=0)), (0, 1), atol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8, -7.0])
def test_constant_columns_get_scale_one(constant):
    x = torch.stack([torch.arange(101.0), torch.full((101,), constant)], dim=1)
    standardize = Standardize.from_data(x)
    assert standardize.scale[1] == 1
    assert (standardize(x)[:, 1].abs() <= 1e-7 * abs(constant)).all()


def test_a_single_row_and_integers_can_be_standardized():
    assert Standardize.from_data(torch.tensor([[1.0, 2.0]])).scale.tolist() == [1.0, 1.0]
    standardize = Standardize.from_data(torch.tensor([[1], [3]]))
    assert (standardize.loc.item(), standardize.scale.item(), standardize.loc.dtype) == (2.0, 1.0, torch.float32)


def test_log_normalize_equals_its_formula():
    features = LogNormalize(target=100.0)(COUNTS)
    for row, expected_row in zip(COUNTS.tolist(), features.tolist(), strict=True):
        total = sum(row)
        expected = [math.log1p(100.0 * count / total) if total else 0.0 for count in row]
        assert expected_row == pytest.approx(expected, rel=1e-6)


def test_log_normalize_scales_every_row_to_the_target():
    preprocess = LogNormalize(target=100.0)
    totals = preprocess.inverse(preprocess(COUNTS)).sum(-1)
    torch.testing.assert_close(totals, torch.tensor([100.0, 100.0, 0.0, 100.0]))


def test_target_is_the_median_total_of_rows_with_counts():
    assert LogNormalize.from_data(COUNTS).target == np.median([8, 2, 15])
    assert LogNormalize.from_data(COUNTS[:2]).target == np.median([8, 2])


def test_from_data_keeps_the_class():
    class Child(Standardize):
        pass

    assert type(Child.from_data(torch.eye(2))) is Child


NAN = float("nan")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Rescale(1, 1), "low < high, got 1 and 1"),
        (lambda: Rescale(0, float("inf")), "expected finite numbers"),
        (lambda: Rescale(NAN, 1), "expected finite numbers"),
        (lambda: Standardize(torch.zeros(2), torch.ones(3)), r"got shapes \(2,\) and \(3,\)"),
        (lambda: Standardize(torch.zeros(1, 2), torch.ones(1, 2)), "two vectors"),
        (lambda: Standardize(torch.zeros(2), torch.tensor([1.0, 0.0])), "got a scale of 0"),
        (lambda: Standardize(torch.tensor([NAN]), torch.ones(1)), "expected finite numbers"),
        (lambda: Standardize.from_data(torch.zeros(3)), r"x: expected a table .* got shape \(3,\)"),
        (lambda: Standardize.from_data(torch.zeros(0, 3)), "at least one row"),
        (lambda: Standardize.from_data(torch.tensor([[NAN], [1.0]])), "got 1 NaN or infinite"),
        (lambda: LogNormalize(0.0), "target: expected a positive, finite number of counts, got 0.0"),
        (lambda: LogNormalize(NAN), "target: expected"),
        (lambda: LogNormalize.from_data(torch.tensor([[1.0, -2.0]])), "got values from -2 to 1"),
        (lambda: LogNormalize.from_data(torch.zeros(2, 2)), "not all 0"),
        (lambda: LogNormalize.from_data(torch.zeros(2)), "x: expected a table"),
    ],
)
def test_invalid_arguments_raise_clear_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
