"""All functions that read rows give the same results for every form of rows as for a tensor."""

import os
from functools import cache
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import PIL.Image
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
    """Rows that are never in one tensor together."""

    def __init__(self, x: Tensor) -> None:
        self.values = x.tolist()

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tensor([self.values[i] for i in positions.tolist()]), positions


class Separate:
    """A class with the methods of `Rows` that does not inherit from it."""

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
    """A usual map-style dataset: each item is a row and its label."""

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


QUICK = ("streamed", "separate", "memory map", "pandas", "anndata sparse in a file", "loader", "folder")


def everything(rows) -> list[Tensor]:
    """Return results of all functions that read rows."""
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
        each if isinstance(each, Tensor) else torch.from_numpy(each.to_numpy().copy()),
        drawn.places.place,
        drawn.project(rows).place,
        torch.from_numpy(gtm.transform(rows)),
        torch.from_numpy(gtm.score_samples(rows)),
        load_dataset(rows).all_rows().tensor(),
    ]


@cache
def expected() -> list[Tensor]:
    return everything(binary())


@pytest.mark.parametrize(
    "form", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FORMS]
)
def test_all_functions_give_the_same_results_for_every_form_of_rows(form, tmp_path) -> None:
    for result, of_tensor in zip(everything(FORMS[form](binary(), tmp_path)), expected(), strict=True):
        torch.testing.assert_close(
            result, of_tensor, rtol=0, atol=1e-12
        )  # the order of sums depends on the memory layout


def test_rows_of_a_data_set_satisfy_the_protocol() -> None:
    assert isinstance(load_dataset("digits").rows("train"), Rows)


def test_log_likelihood_streams_rows_in_batches() -> None:
    vae, evidence = linear_gaussian_vae()
    x, done = evidence.sample((50,)), []
    estimates = log_likelihood(vae, TensorRows(x), num_samples=3, prior_share=0.0, batch_size=20, progress=done.append)
    torch.testing.assert_close(estimates, evidence.log_prob(x))  # the encoder is exact, so every weight is p(x)
    assert done == [20, 40, 50]


@pytest.mark.parametrize("batch_size", [1, 3, 5, 7])
def test_batches_cover_all_rows_in_order(batch_size: int) -> None:
    x = torch.arange(10.0).reshape(5, 2)
    parts, numbers = zip(*TensorRows(x).batches(batch_size), strict=True)
    assert torch.equal(torch.cat(parts), x)
    assert torch.cat(numbers).tolist() == [0, 1, 2, 3, 4]
    assert {len(part) for part in parts[:-1]} <= {batch_size}


@pytest.mark.parametrize("form", FORMS)
def test_batches_of_every_form_have_the_values_of_its_tensor(form, tmp_path) -> None:
    x, order = binary(), torch.randperm(40, generator=torch.Generator().manual_seed(0))
    rows, state = as_rows(FORMS[form](x, tmp_path), "x"), torch.get_rng_state()
    for batch, chunk in zip(read_batches(rows, order.split(15)), order.split(15), strict=True):
        assert torch.equal(batch[0].float(), x[chunk])
        assert torch.equal(batch[1], chunk)
    assert torch.equal(torch.cat([values for values, _ in rows.batches(16)]).float(), x)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        *(("f2", "float16"), ("f4", "float32"), (">f4", "float32"), ("f8", "float64")),
        *(("?", "float32"), ("i1", "float32"), ("u2", "float32"), ("i4", "float64"), ("u8", "float64")),
    ],
)
def test_values_become_floats_that_can_represent_their_type(stored: str, read: str) -> None:
    for x in (array := np.ones((3, 2), stored)), pd.DataFrame(array.astype(stored.strip(">"))):
        assert as_rows(x, "x").batch(torch.tensor([1]))[0].dtype == getattr(torch, read)
    if stored != ">f4":
        assert as_rows(torch.from_numpy(array), "x").batch(torch.tensor([1]))[0].dtype == getattr(torch, read)


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame({"a": pd.array([1, None], "Int8"), "b": pd.array([None, True], "boolean")}),
        pd.DataFrame({"a": [1.0, None], "b": [None, 1.0]}),
        polars.DataFrame({"a": [1, None], "b": [None, True]}),
        pyarrow.table({"a": [1.0, None], "b": pyarrow.array([None, 1]).cast(pyarrow.decimal128(21, 1))}),
        np.ma.masked_array([[1, 5], [5, 1]], [[False, True], [True, False]]),
    ],
)
def test_missing_cells_become_nan(data) -> None:
    x, _ = as_rows(data, "x").batch(torch.arange(2))
    torch.testing.assert_close(x.double(), torch.tensor([[1.0, torch.nan], [torch.nan, 1.0]]).double(), equal_nan=True)


def test_large_data_are_read_in_batches(tmp_path) -> None:
    """The data have a hundred gigabytes of zeros: a sparse file, and a sparse matrix without values."""
    shape = (10**6, 10**5)
    mapped = np.memmap(tmp_path / "x.bin", np.uint8, "w+", shape=shape)
    for data in (mapped, scipy.sparse.csr_matrix(shape, dtype=np.uint8)):
        assert as_rows(data, "x").batch(torch.tensor([10**6 - 1, 0]))[0].shape == (2, 10**5)
    dataset, indices = Images(binary()), []
    dataset.__class__ = type("Asked", (Images,), {"__getitem__": lambda self, i: indices.append(i) or (self.x[i], i)})
    as_rows(dataset, "x").batch(torch.tensor([7]))
    assert indices == [0, 7]  # the first item is read to check its type


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_of_a_loader_read_its_rows(persistent: bool) -> None:
    options = {"num_workers": 2, "persistent_workers": persistent, "collate_fn": processes}
    rows = as_rows(loader(Images(binary()), **options), "train")
    for seed in range(2):
        order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
        batches = list(read_batches(rows, order.split(15)))
        assert [x[:, 0].tolist() for x, _ in batches] == [chunk.tolist() for chunk in order.split(15)]
        assert os.getpid() not in {int(x[0, 1]) for x, _ in batches}
    assert int(rows.batch(torch.tensor([3]))[0][0, 1]) == os.getpid()


def processes(items: list[tuple[Tensor, int]]) -> Tensor:
    return torch.tensor([[index, os.getpid()] for _, index in items], dtype=torch.float64)


@pytest.mark.parametrize("dataset", [Images(binary()), TensorDataset(binary())])
def test_rows_of_a_loader_have_its_batch_size(dataset: Dataset) -> None:
    assert as_rows(loader(dataset), "train").batch_size == 7
    batches = BatchSampler(RandomSampler(dataset), 9, drop_last=True)
    assert as_rows(DataLoader(dataset, batch_sampler=batches), "train").batch_size == 9
    assert as_rows(dataset, "train").batch_size is None


@pytest.mark.parametrize("form", ["pandas", "anndata"])
def test_results_of_named_rows_have_their_names(form: str, tmp_path) -> None:
    vae, x = make(), binary()
    data = frame_of(x) if form == "pandas" else anndata.AnnData(frame_of(x))
    names = [f"r{i}" for i in range(40)]
    each = log_likelihood(vae, data, num_samples=2)
    assert isinstance(each, pd.Series)
    assert (each.index.tolist(), each.name) == (names, "log_likelihood")
    evaluation, drawn = evaluate(vae, data, num_samples=2), TopographicMap(vae, data)
    for frame in (evaluation.rows_to_frame(), drawn.to_frame()):
        assert frame.index.tolist() == names
    np.testing.assert_array_equal(evaluation.rows_to_frame()["nll"], evaluation.per_row["nll"])
    np.testing.assert_array_equal(drawn.to_frame()[["u1", "u2"]], drawn.places.place)
    assert load_dataset(data).ids.tolist() == names


def test_results_of_rows_without_names_have_row_numbers() -> None:
    vae, x = make(), binary()
    assert isinstance(log_likelihood(vae, x.numpy(), num_samples=2), Tensor)
    assert evaluate(vae, x, num_samples=2).rows_to_frame().index.tolist() == list(range(40))


def test_rows_keep_the_shape_of_their_input() -> None:
    rows = as_rows(torch.rand(5, 3, 4, 4, requires_grad=True), "train")
    x, numbers = rows.batch(torch.tensor([4, 0]))
    assert (x.shape, numbers.tolist(), x.requires_grad) == ((2, 3, 4, 4), [4, 0], False)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda: fit(make(), torch.ones(5)), ValueError, r"train: .* got \(5,\); a single row x is x\[None\]"),
        (lambda: fit(make(), binary(), binary() + 1j), ValueError, "valid: expected a dense tensor of real numbers"),
        (lambda: fit(make(), binary().to_sparse()), ValueError, r"train: .* give x.to_dense\(\)"),
        (lambda: fit(make(), (binary(), binary())), TypeError, "train: .* got tuple; give the rows alone"),
        (lambda: refit(make(), StandardNormal(2), torch.ones(0, 6)), ValueError, "train: expected at least one row"),
        (lambda: evaluate(make(), torch.ones(6, 0)), ValueError, "rows: expected at least one column"),
        (
            lambda: evaluate(make(), polars.LazyFrame()),
            TypeError,
            r"rows: .* got LazyFrame; call its method collect\(\)",
        ),
        (lambda: evaluate(make(), load_dataset("digits")), TypeError, r"got Dataset; .* data.rows\('train'\)"),
        (lambda: log_likelihood(make(), {}, num_samples=2), TypeError, "rows: .* got dict; see priory.rows.Rows"),
        (
            lambda: TopographicMap(make(), [[0.0], [1.0, 2.0]]),
            ValueError,
            "rows: expected a list of rows of one length",
        ),
        (lambda: TensorRows(binary()).batches(0), ValueError, "batch_size: expected at least 1, got 0"),
    ],
)
def test_objects_that_are_not_rows_are_refused(function, error, message) -> None:
    with pytest.raises(error, match=message):
        function()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.array([["a"]]), "got values of type <U1; leave columns of text out"),
        (np.ones((2, 2)) + 1j, "complex128; give real and imaginary parts"),
        (np.ones((2, 2), "M8[D]"), "convert dates to numbers"),
        (np.ones((2, 2), object), r"convert them: x.astype\('float32'\)"),
        (pd.DataFrame({"a": [1], "kind": ["x"]}), r"got 'kind' \((object|str)\); .* frame.select_dtypes"),
        (pd.DataFrame({"day": [pd.Timestamp(0)]}), r"got 'day' \(datetime64\[ns\]\)"),
        (polars.DataFrame({"a": [1], "kind": ["x"]}), r"got 'kind' \(.*\); .* frame.select\(polars.selectors.numeric"),
        (pd.Series([1.0, 2.0]), r"got \(2,\); .* a pandas Series s.to_frame\(\)"),
        (polars.Series([1.0, 2.0]), r"got \(2,\)"),
        ("gone/*.parquet", r"expected a pattern that matches a .parquet file, got 'gone/\*.parquet', [^()]*$"),
        ("digits", r"expected a folder of .parquet files, got 'digits', .* priory.load_dataset\('digits'\)"),
        (
            anndata.AnnData(obs=pd.DataFrame(index=["a"]), var=pd.DataFrame(index=["b"])),
            "expected AnnData with a matrix X",
        ),
        (
            DataLoader(TensorDataset(binary()), sampler=WeightedRandomSampler([1.0] * 40, 40)),
            "WeightedRandomSampler; give",
        ),
        (DataLoader(TensorDataset(binary()), batch_size=None), "got one with no batches"),
        (
            DataLoader(TensorDataset(binary()), sampler=RandomSampler(range(40), replacement=True)),
            "a RandomSampler that repeats or omits",
        ),
    ],
)
def test_errors_about_values_suggest_a_remedy(data, message) -> None:
    with pytest.raises(ValueError, match=f"^train: .*{message}"):
        as_rows(data, "train")


class Stream(IterableDataset):
    def __iter__(self):
        return iter(binary())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Stream(), r"got the Stream, whose rows can be read in one order only; .* torch.stack\(list\(dataset\)\)"),
        (DataLoader(Stream()), "got the Stream"),
        (StackDataset(image=binary()), r"got a dict; let __getitem__ return .* item\['image'\]"),
        (StackDataset(["a"], binary()[:1]), "got a tuple of a str, a tensor of shape"),
        (
            StackDataset([PIL.Image.new("L", (4, 4))], [0]),
            r"got a tuple of a Image, a int; add transform=.*ToTensor\(\)",
        ),
        (TensorDataset(binary()[:, 0]), r"got a tuple of a tensor of shape \(\)"),
        (StackDataset(binary()[:, 0]), r"got a tuple of a tensor of shape \(\)"),
    ],
)
def test_unsuitable_items_of_a_dataset_are_refused(data, message) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^train: .*{message}"):
        as_rows(data, "train")


def test_the_result_of_collate_fn_is_checked() -> None:
    rows = as_rows(loader(Images(binary()), collate_fn=dict), "train")
    with pytest.raises(TypeError, match=r"collate_fn: expected a tensor \(B, \*input\), .* got a dict"):
        rows.batch(torch.arange(2))


def test_an_error_names_a_damaged_file_in_a_folder(tmp_path) -> None:
    (in_parquet(binary(), tmp_path) / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"train: expected .parquet files .* damaged .*b\.parquet"):
        as_rows(tmp_path, "train")


def test_an_error_about_a_sparse_matrix_suggests_as_rows() -> None:
    with pytest.raises(TypeError, match=r"got a sparse matrix; give priory.rows.as_rows\(X, 'X'\)"):
        GTM().fit(scipy.sparse.csr_matrix(binary().numpy()))


def test_an_error_of_a_gtm_names_columns_of_text() -> None:
    with pytest.raises(ValueError, match=r"X: expected columns of numbers, got 'kind' .* frame.select_dtypes"):
        GTM().fit(frame_of(binary()).assign(kind="x"))


def test_a_gtm_checks_the_columns_and_cells_of_rows() -> None:
    gtm = GTM(3, tether=0.0, max_iter=5, tol=0.0).fit(Images(binary()))
    assert gtm.n_features_in_ == 6
    with pytest.raises(ValueError, match="5 features, but GTM is expecting 6"):
        gtm.transform(Images(binary()[:, :5]))
    with pytest.raises(ValueError, match="X contains infinity"):
        gtm.transform(Images(binary() / 0.0 + torch.inf))


@pytest.mark.parametrize("kind", [Images, TensorRows, lambda x: x])
def test_a_gtm_flattens_images(kind) -> None:
    x, gtm = torch.rand(40, 1, 2, 3), GTM(3, tether=0.0, max_iter=5, tol=0.0)
    expected = TopographicMap(gtm.fit(x.flatten(1).numpy()), x.flatten(1))
    drawn = TopographicMap(gtm.fit(kind(x)), kind(x))
    torch.testing.assert_close(drawn.places.place, expected.places.place, atol=1e-12, rtol=0)
    assert str(drawn.quality()) == str(expected.quality())


@pytest.mark.parametrize("kind", [GTMClassifier, GTMRegressor])
def test_supervised_gtms_accept_a_dataset(kind) -> None:
    x, y = binary(), np.arange(40) % 3
    gtm = GTM(3, tether=0.0, max_iter=5, tol=0.0)
    predicted = kind(gtm).fit(Images(x), y).predict(Images(x))
    np.testing.assert_allclose(predicted, kind(gtm).fit(x.numpy(), y).predict(x.numpy()))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        kind(gtm).fit(Images(x), y[:5])
