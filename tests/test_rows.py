"""One object of rows serves `fit`, `refit`, `evaluate`, `log_likelihood` and maps, with the numbers of a tensor."""

import pytest
import torch
from torch import Tensor

from linear_gaussian import linear_gaussian_vae
from priory import (
    VAE,
    BernoulliDecoder,
    GTMPrior,
    MixtureOfGaussians,
    NormalEncoder,
    StandardNormal,
    TopographicMap,
    evaluate,
    fit,
    latent_grid,
    log_likelihood,
    mlp,
    refit,
)
from priory.rows import Rows, TensorRows, as_rows
from priory.workbench.data import load_dataset


class Streamed(Rows):
    """Rows that are never together in one tensor."""

    def __init__(self, x: Tensor) -> None:
        self.values = x.tolist()

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tensor([self.values[i] for i in positions.tolist()]), positions


class Separate:
    """The methods of `Rows` without inheriting from it, as a class of another package has them."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[positions], positions

    def batches(self, batch_size: int):
        return zip(self.x.split(batch_size), torch.arange(len(self)).split(batch_size), strict=True)


def binary(rows: int = 40) -> Tensor:
    return torch.rand(rows, 6, generator=torch.Generator().manual_seed(0)).round()


def make() -> VAE:
    torch.manual_seed(0)
    prior = GTMPrior(2, latent_grid(3), mlp(2, [8], 4))
    return VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), prior)


def everything(rows: Tensor | Rows) -> list[Tensor]:
    """Numbers of every function that reads rows."""
    vae = make()
    history = fit(vae, rows, rows, seed=0, epochs=2, batch_size=16)
    refitted = refit(vae, MixtureOfGaussians(2, 3), rows, rows, seed=0, epochs=2)
    torch.manual_seed(0)
    evaluation = evaluate(vae, rows, num_samples=4)
    torch.manual_seed(0)
    each = log_likelihood(vae, rows, num_samples=4)
    drawn = TopographicMap(vae, rows)
    return [
        torch.tensor(history["valid_elbo"]),
        torch.tensor(refitted.course),
        torch.tensor(list(evaluation.values())),
        each,
        drawn.places.place,
        drawn.project(rows).place,
    ]


@pytest.mark.parametrize("kind", [TensorRows, Streamed, Separate])
def test_one_object_serves_all_with_the_numbers_of_its_tensor(kind) -> None:
    for found, expected in zip(everything(kind(binary())), everything(binary()), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_rows_of_a_data_set_are_rows() -> None:
    assert isinstance(load_dataset("digits").rows("train"), Rows)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.uint8, torch.bool])
def test_values_are_read_in_the_dtype_of_the_model(dtype) -> None:
    for found, expected in zip(everything(TensorRows(binary().to(dtype))), everything(binary()), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_log_likelihood_streams_rows_in_batches() -> None:
    vae, evidence = linear_gaussian_vae()
    x, done = evidence.sample((50,)), []
    found = log_likelihood(vae, TensorRows(x), num_samples=3, prior_share=0.0, batch_size=20, progress=done.append)
    torch.testing.assert_close(found, evidence.log_prob(x))  # the encoder is exact, so every weight is p(x)
    assert done == [20, 40, 50]


@pytest.mark.parametrize("batch_size", [1, 3, 5, 7])
def test_batches_cover_all_rows_in_order(batch_size: int) -> None:
    x = torch.arange(10.0).reshape(5, 2)
    parts, numbers = zip(*TensorRows(x).batches(batch_size), strict=True)
    assert torch.equal(torch.cat(parts), x)
    assert torch.cat(numbers).tolist() == [0, 1, 2, 3, 4]
    assert {len(part) for part in parts[:-1]} <= {batch_size}


def test_rows_keep_the_shape_of_an_input() -> None:
    rows = as_rows(torch.rand(5, 3, 4, 4, requires_grad=True), "train")
    x, numbers = rows.batch(torch.tensor([4, 0]))
    assert (x.shape, numbers.tolist(), x.requires_grad) == ((2, 3, 4, 4), [4, 0], False)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda: fit(make(), [[0.0]]), TypeError, r"train: expected a float tensor \(N, D\), or rows with .* got list"),
        (lambda: fit(make(), torch.ones(5)), ValueError, r"train: expected a float tensor \(N, D\), got .* \(5,\)"),
        (lambda: fit(make(), binary(), binary().long()), ValueError, "valid: expected a float tensor .* torch.int64"),
        (lambda: refit(make(), StandardNormal(2), torch.ones(0, 6)), ValueError, "train: expected at least one row"),
        (lambda: evaluate(make(), binary().numpy()), TypeError, "rows: expected .* got ndarray; see priory.rows.Rows"),
        (lambda: log_likelihood(make(), {}, num_samples=2), TypeError, "rows: expected a float tensor .* got dict"),
        (lambda: TensorRows(binary()).batches(0), ValueError, "batch_size: expected at least 1, got 0"),
    ],
)
def test_other_things_are_refused(function, error, message) -> None:
    with pytest.raises(error, match=message):
        function()
