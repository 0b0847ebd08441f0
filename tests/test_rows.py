"""Rows in every form that people have serve every function that reads rows, with the numbers of a tensor."""

import os
import re
import warnings
from functools import cache
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest
import scipy.sparse
import torch
from pyarrow import parquet
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    StackDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from linear_gaussian import linear_gaussian_vae
from priory import (
    GTM,
    VAE,
    BernoulliDecoder,
    GTMClassifier,
    GTMPrior,
    GTMRegressor,
    MixtureOfGaussians,
    NormalEncoder,
    StandardNormal,
    TopographicMap,
    evaluate,
    fit,
    latent_grid,
    load_dataset,
    log_likelihood,
    mlp,
    refit,
)
from priory.rows import Rows, TensorRows, as_rows, read_batches


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


class Images(Dataset):
    """A map-style dataset as people write it: a row and its label."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index], index


def loader(dataset: Dataset, **options) -> DataLoader:
    return DataLoader(dataset, batch_size=7, **options)


def frame_of(x: Tensor, **options) -> pd.DataFrame:
    return pd.DataFrame(x.numpy(), index=[f"r{i}" for i in range(len(x))], columns=list("abcdef"), **options)


def in_memory_map(x: Tensor, folder: Path) -> np.ndarray:
    np.save(folder / "x.npy", x.numpy())
    return np.load(folder / "x.npy", mmap_mode="r")


def in_h5ad(x, folder: Path) -> anndata.AnnData:
    anndata.AnnData(x).write_h5ad(folder / "x.h5ad")
    return anndata.read_h5ad(folder / "x.h5ad", backed="r")


def in_parquet(x: Tensor, folder: Path) -> Path:
    for name, part in zip("ab", x.split(len(x) // 2 + 1), strict=True):
        parquet.write_table(pyarrow.table(dict(enumerate_columns(part))), folder / f"{name}.parquet")
    return folder


def enumerate_columns(x: Tensor) -> list[tuple[str, np.ndarray]]:
    return [(f"c{i}", column.numpy()) for i, column in enumerate(x.mT)]


FORMS = {
    "rows": lambda x, folder: TensorRows(x),
    "streamed": lambda x, folder: Streamed(x),
    "separate": lambda x, folder: Separate(x),
    "float64": lambda x, folder: x.double(),
    "float16": lambda x, folder: x.half(),
    "int64": lambda x, folder: x.long(),
    "bool": lambda x, folder: x.bool(),
    "list": lambda x, folder: x.tolist(),
    "array": lambda x, folder: x.numpy(),
    "array of another byte order": lambda x, folder: x.numpy().astype(">f8"),
    "array of integers": lambda x, folder: x.numpy().astype(np.uint16),
    "read-only reversed array": lambda x, folder: np.broadcast_to(x.numpy()[::-1].copy(), x.shape)[::-1],
    "memory map": in_memory_map,
    "pandas": lambda x, folder: frame_of(x),
    "pandas integers and truth values": lambda x, folder: frame_of(x.long()).astype({"a": bool, "b": "int8"}),
    "pandas nullable": lambda x, folder: frame_of(x.long()).astype(
        {"a": "boolean", "b": "Int64", "c": "float32[pyarrow]"}
    ),
    "pandas sparse": lambda x, folder: as_rows(frame_of(x).astype(pd.SparseDtype(np.float32, 0.0)), "x"),
    "polars": lambda x, folder: polars.DataFrame(x.numpy(), schema=list("abcdef")),
    "arrow": lambda x, folder: pyarrow.table(dict(enumerate_columns(x))),
    "csr": lambda x, folder: as_rows(scipy.sparse.csr_matrix(x.numpy()), "x"),
    "csc": lambda x, folder: as_rows(scipy.sparse.csc_array(x.numpy()), "x"),
    "coo": lambda x, folder: as_rows(scipy.sparse.coo_array(x.numpy()), "x"),
    "anndata": lambda x, folder: anndata.AnnData(x.numpy()),
    "anndata sparse": lambda x, folder: anndata.AnnData(scipy.sparse.csc_matrix(x.numpy())),
    "anndata view": lambda x, folder: anndata.AnnData(torch.cat([x, x]).numpy())[: len(x)],
    "anndata in a file": lambda x, folder: in_h5ad(x.numpy(), folder),
    "anndata sparse in a file": lambda x, folder: in_h5ad(scipy.sparse.csr_matrix(x.numpy()), folder),
    "dataset": lambda x, folder: Images(x),
    "tensors": lambda x, folder: TensorDataset(x, torch.arange(len(x))),
    "parts": lambda x, folder: ConcatDataset([Subset(Images(x), range(9)), Images(x[9:])]),
    "loader": lambda x, folder: loader(Images(x), shuffle=True),
    "loader of tensors": lambda x, folder: loader(TensorDataset(x), shuffle=True, drop_last=True),
    "folder": in_parquet,
}


@pytest.fixture(params=FORMS)
def form(request, tmp_path):
    """The rows of `binary()` in one form."""
    return FORMS[request.param](binary(), tmp_path)


def everything(rows) -> list[Tensor]:
    """Numbers of every function that reads rows."""
    vae = make()
    history = fit(vae, rows, rows, seed=0, epochs=1, batch_size=16)
    refitted = refit(vae, MixtureOfGaussians(2, 3), rows, rows, seed=0, epochs=1)
    torch.manual_seed(0)
    evaluation = evaluate(vae, rows, num_samples=4)
    torch.manual_seed(0)
    each = log_likelihood(vae, TensorRows(rows) if isinstance(rows, Tensor) else rows, num_samples=4)
    drawn = TopographicMap(vae, rows)
    gtm = GTM(3, tether=0.0, max_iter=5, tol=0.0).fit(rows)
    return [
        torch.tensor(history["valid_elbo"]),
        torch.tensor(refitted.course),
        torch.tensor(list(evaluation.values())),
        each if isinstance(each, Tensor) else torch.from_numpy(each.to_numpy()),
        drawn.places.place,
        drawn.project(rows).place,
        torch.from_numpy(gtm.transform(rows)),
        torch.from_numpy(gtm.score_samples(rows)),
        load_dataset(rows).all_rows().tensor(),
    ]


@cache
def expected() -> list[Tensor]:
    return everything(binary())


def test_every_form_serves_all_with_the_numbers_of_its_tensor(form) -> None:
    for found, same in zip(everything(form), expected(), strict=True):
        torch.testing.assert_close(found, same, rtol=0, atol=1e-12)  # the GTM adds up columns in the order of memory


def test_rows_of_a_data_set_are_rows() -> None:
    assert isinstance(load_dataset("digits").rows("train"), Rows)


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
