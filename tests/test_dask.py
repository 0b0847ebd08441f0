"""Results for Dask collections, compared with results for the same rows in memory."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from priory import (
    GTM,
    VAE,
    GaussianDecoder,
    GTMPrior,
    NormalEncoder,
    TopographicMap,
    latent_grid,
    log_likelihood,
    mlp,
)
from priory.integrations.dask import embed, places, score
from priory.maps.surfaces import surface_of

array = pytest.importorskip("dask.array")
bag = pytest.importorskip("dask.bag")
dataframe = pytest.importorskip("dask.dataframe")
X = np.random.default_rng(0).normal(size=(70, 4)).astype(np.float32)
NAMES = list("abcd")


@pytest.fixture(autouse=True)
def _in_this_thread():
    import dask

    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module", params=["vae", "gtm", "pipeline"])
def model(request):
    torch.manual_seed(0)
    if request.param == "vae":
        prior = GTMPrior(2, latent_grid(3), mlp(2, [8], 4))
        return VAE(NormalEncoder(mlp(4, [8], 4)), GaussianDecoder(mlp(2, [8], 4)), prior).eval()
    gtm = GTM(points_per_side=4, tether=0)
    return (gtm if request.param == "gtm" else make_pipeline(StandardScaler(), gtm)).fit(X)


def local(model) -> dict[str, np.ndarray]:
    """Return codes, scores and positions of all rows in memory."""
    x = torch.from_numpy(X)
    is_vae = isinstance(model, VAE)
    return {
        "embed": model.encode(x).mean.detach().numpy() if is_vae else model.transform(X),
        "score": (
            log_likelihood(model, X, num_samples=8, seed=3) if is_vae else surface_of(model).log_likelihood(x)
        ).numpy()[:, None],
        "places": TopographicMap(model, X).places.place.numpy(),
    }


def lazy(model, data):
    options = {"num_samples": 8, "seed": 3}
    return {"embed": embed(model, data), "score": score(model, data, **options), "places": places(model, data)}


def test_results_for_arrays_equal_those_in_memory(model):
    results = lazy(model, array.from_array(X, chunks=((20, 1, 0, 49), (2, 2))))
    for name, expected in local(model).items():
        assert results[name].shape == expected.shape
        assert results[name].dtype == expected.dtype
        np.testing.assert_allclose(results[name].compute(), expected, rtol=1e-4, atol=1e-6)


def test_results_for_data_frames_equal_those_in_memory_and_keep_the_index(model):
    frame = pd.DataFrame(X, columns=NAMES)
    results = lazy(model, dataframe.from_pandas(frame, npartitions=3))
    for name, expected in local(model).items():
        result = results[name].compute()
        assert result.index.equals(frame.index)
        assert result.columns.tolist() == results[name].columns.tolist()
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)


def test_results_for_bags_of_annotated_data_equal_those_in_memory(model):
    anndata = pytest.importorskip("anndata")
    cells = [f"cell-{i}" for i in range(len(X))]
    whole = anndata.AnnData(X, obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=NAMES))
    results = lazy(model, bag.from_sequence([whole[:30], whole[30:]], npartitions=2))
    expected = local(model)
    if isinstance(model, VAE):
        expected["score"] = log_likelihood(model, whole, num_samples=8, seed=3).to_numpy()[:, None]
    for name, values in expected.items():
        result = pd.concat(results[name].compute())
        assert result.index.tolist() == cells
        np.testing.assert_allclose(result, values, rtol=1e-4, atol=1e-6)


def test_results_are_computed_lazily(model):
    read = []

    def block(block_id):
        read.append(block_id)
        return X[:10]

    data = array.map_blocks(block, chunks=((10, 10), (4,)), meta=np.empty((0, 4), np.float32))
    codes = embed(model, data)
    assert read == []
    assert codes.blocks[1].compute().shape[0] == 10
    assert read == [(1, 0)]


def test_partitions_may_be_empty(model):
    frame = dataframe.from_pandas(pd.DataFrame(X, columns=NAMES), npartitions=3)
    assert len(score(model, frame[frame.a > 9], num_samples=2).compute()) == 0
    assert len(score(model, frame[frame.a > 1.5], num_samples=2).compute()) == (X[:, 0] > 1.5).sum()


def test_blocks_of_unknown_sizes_are_refused(model):
    data = dataframe.from_pandas(pd.DataFrame(X, columns=NAMES), npartitions=2).to_dask_array()
    with pytest.raises(ValueError, match="expected an array with known block sizes"):
        score(model, data)


@pytest.mark.parametrize("data", [X, pd.DataFrame(X)], ids=["array", "frame"])
def test_other_data_are_refused(model, data):
    with pytest.raises(TypeError, match=r"got (numpy|pandas)\..*; other rows are read in this process"):
        embed(model, data)


@pytest.mark.filterwarnings("error:.*feature names")
def test_a_gtm_of_a_data_frame_gives_no_warning_about_names():
    frame = pd.DataFrame(X, columns=NAMES)
    gtm = GTM(points_per_side=4, tether=0).fit(frame)
    codes = embed(gtm, dataframe.from_pandas(frame, npartitions=3)).compute()
    np.testing.assert_allclose(codes, gtm.transform(frame), rtol=1e-10)


@pytest.mark.parametrize("numbers", [embed, score, places])
def test_columns_in_another_order_are_refused(numbers):
    frame = pd.DataFrame(X, columns=NAMES)
    gtm = GTM(points_per_side=4, tether=0).fit(frame)
    with pytest.raises(ValueError, match="data: expected the columns that the model was fitted to, a, b"):
        numbers(gtm, dataframe.from_pandas(frame[NAMES[::-1]], npartitions=3))
