"""The GTM of Dask collections, compared with the GTM of the same rows in memory."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from priory.gtm import GTM, dask_rows

da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")

RANDOM = np.random.default_rng(0)
X = np.sin(RANDOM.normal(size=(900, 3)) @ RANDOM.normal(size=(3, 6)))
HOLES = RANDOM.uniform(size=X.shape) < 0.1
WEIGHT = RANDOM.uniform(size=len(X))
WEIGHT[0] = 0.0  # this row is a separate block below
CLOSE = 1e-10


def fitted(rows, weight=None, **options):
    return GTM(5, max_iter=12, tol=0, annealing=4, tether=0.0, **options).fit(rows, sample_weight=weight)


def assert_same(actual, expected):
    np.testing.assert_allclose(actual.means_, expected.means_, rtol=0, atol=CLOSE)
    np.testing.assert_allclose(actual.log_likelihoods_, expected.log_likelihoods_, rtol=0, atol=CLOSE)
    np.testing.assert_allclose(actual.penalized_log_likelihoods_, expected.penalized_log_likelihoods_, rtol=CLOSE)
    assert actual.noise_variance_ == pytest.approx(expected.noise_variance_, rel=CLOSE)


@pytest.mark.parametrize("chunks", [(900, 6), (400, 4), ((1, 0, 99, 800), 6), (300, 1)])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_the_fit_equals_that_of_rows_in_memory(chunks, weight, missing):
    x = np.where(HOLES, np.nan, X) if missing else X
    assert_same(fitted(da.from_array(x, chunks=chunks), weight), fitted(x, weight))


def test_weights_may_be_in_other_blocks():
    weight = da.from_array(WEIGHT, chunks=77)
    assert_same(fitted(da.from_array(X, chunks=(300, 6)), weight), fitted(X, WEIGHT))


def test_a_small_table_has_the_same_tether():
    x = load_iris().data
    expected = GTM(10, max_iter=20, tol=0).fit(x)
    gtm = GTM(10, max_iter=20, tol=0).fit(da.from_array(x, chunks=(40, 4)))
    assert gtm.tether_ == expected.tether_ > 0
    assert_same(gtm, expected)


def test_rows_computed_in_each_pass_give_the_same_fit(monkeypatch):
    monkeypatch.setattr(dask_rows, "KEPT", 0)
    assert_same(fitted(da.from_array(X, chunks=(200, 6))), fitted(X))


def test_a_data_frame_gives_names_and_lazy_predictions():
    frame = pd.DataFrame(X, columns=list("abcdef"))
    expected = fitted(frame, WEIGHT)
    lazy = dd.from_pandas(frame, npartitions=4)
    gtm = fitted(lazy, dd.from_pandas(pd.Series(WEIGHT), npartitions=3))
    assert_same(gtm, expected)
    assert gtm.feature_names_in_.tolist() == list("abcdef")
    np.testing.assert_allclose(gtm.transform(lazy).compute(), expected.transform(frame), atol=1e-8)
    with pytest.raises(ValueError, match="feature names should match"):
        gtm.transform(lazy[list("fedcba")])


@pytest.mark.parametrize("method", ["transform", "predict", "predict_proba", "score_samples"])
def test_predictions_are_lazy_arrays(method):
    gtm = fitted(X)
    x = np.where(HOLES, np.nan, X)
    lazy = getattr(gtm, method)(da.from_array(x, chunks=((500, 0, 400), 3)))
    expected = getattr(gtm, method)(x)
    assert isinstance(lazy, da.Array)
    assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(lazy.compute(), expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("kind", ["array", "frame"])
def test_missing_cells_are_imputed_lazily(kind):
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    gtm = GTM(points_per_side=4, max_iter=3, tol=0).fit(frame if kind == "frame" else X)
    gaps = frame.mask(np.random.default_rng(1).random(X.shape) < 0.2)
    rows = dd.from_pandas(gaps, npartitions=3) if kind == "frame" else da.from_array(gaps.to_numpy(), chunks=70)
    expected = gtm.impute(gaps if kind == "frame" else gaps.to_numpy())
    np.testing.assert_allclose(gtm.impute(rows).compute(), expected, rtol=1e-10)
    with pytest.raises(ValueError, match="draw: expected False for rows of Dask"):
        gtm.impute(rows, draw=True)


def test_the_score_is_a_number():
    gtm = fitted(X)
    assert gtm.score(da.from_array(X, chunks=(200, 6))) == pytest.approx(gtm.score(X), rel=1e-12)


def test_each_pass_reads_each_block_once(tmp_path, monkeypatch):
    """Column means, squares, principal axes (one pass, exact for six columns) and three iterations."""
    monkeypatch.setattr(dask_rows, "KEPT", 0)
    assert _reads(tmp_path, max_iter=3) == 4 * (1 + 1 + 1 + 3)


def test_small_rows_are_read_once(tmp_path):
    assert _reads(tmp_path, max_iter=3) == 4


def _reads(folder, max_iter):
    def read(block):
        with (folder / "reads").open("a") as file:
            file.write("x")
        return block

    rows = da.from_array(X, chunks=(225, 6)).map_blocks(read, meta=np.empty((0, 6)))
    GTM(5, max_iter=max_iter, tol=0, tether=0.0).fit(rows)
    return len((folder / "reads").read_text())


@pytest.mark.parametrize(
    ("rows", "weight", "message"),
    [
        (da.from_array(np.where(HOLES, np.inf, X), chunks=(300, 6)), None, "infinity"),
        (da.from_array(X, chunks=(300, 6)), WEIGHT[:-1], r"for each of the 900 rows, got shape \(899,\)"),
        (da.from_array(X, chunks=(300, 6)), -WEIGHT, "expected numbers of at least 0, got -0.99"),
        (da.from_array(X[None], chunks=(1, 300, 6)), None, r"rows, \(N, D\)"),
        (da.from_array(X, chunks=(300, 6))[da.from_array(WEIGHT, chunks=300) > 0.5], None, "chunks have known sizes"),
        (dd.from_pandas(pd.DataFrame({"a": ["x", "y"]}), npartitions=1), None, "columns of numbers.*'a'"),
    ],
    ids=["infinite", "too few weights", "negative weights", "images", "unknown sizes", "text"],
)
def test_unsuitable_rows_and_weights_are_refused(rows, weight, message):
    with pytest.raises(ValueError, match=message):
        fitted(rows, weight)


def test_a_batch_size_is_refused_for_rows_of_dask():
    with pytest.raises(ValueError, match="batch_size: expected None for rows of Dask, got 100"):
        fitted(da.from_array(X, chunks=(300, 6)), batch_size=100)


@pytest.mark.slow
def test_workers_of_a_client_give_the_same_fit(tmp_path):
    distributed = pytest.importorskip("distributed")
    pd.DataFrame(X, columns=list("abcdef")).to_parquet(tmp_path / "rows.parquet", row_group_size=200)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        assert_same(
            fitted(da.from_array(np.where(HOLES, np.nan, X), chunks=(100, 6)), WEIGHT),
            fitted(np.where(HOLES, np.nan, X), WEIGHT),
        )
        frame = dd.read_parquet(tmp_path / "*.parquet", split_row_groups=True)
        gtm = fitted(frame)
        assert_same(gtm, fitted(pd.DataFrame(X)))
        np.testing.assert_allclose(gtm.transform(frame).compute(), gtm.transform(frame.compute()), atol=CLOSE)


BOUNDED = """
import resource
import dask.array as da
from priory.gtm import GTM
GTM(20, max_iter=1, tol=0, tether=0.0).fit(da.random.default_rng(0).normal(size=(100_000, 50), chunks=(20_000, 50)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
GTM(20, max_iter=1, tol=0, tether=0.0).fit(da.random.default_rng(0).normal(size=(1_000_000, 50), chunks=(20_000, 50)))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_rows():
    """A million rows take 400 MB, a block 8 MB."""
    script = [sys.executable, "-W", "ignore", "-c", BOUNDED]
    growth = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    assert float(growth) < 100
