"""A fitted GTM in a file: loading gives the same bits, and unsuitable files give errors of one line."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from priory import GTM

X = np.random.default_rng(0).normal(size=(60, 3)) @ np.diag([3.0, 1.0, 0.1])
HOLED = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)


@pytest.fixture(scope="module")
def gtm():
    return GTM(5, max_iter=20, tol=0.0, weight_decay=0.2, random_state=np.int64(3)).fit(HOLED)


@pytest.fixture
def file(gtm, tmp_path):
    gtm.save(tmp_path / "map.safetensors")
    return tmp_path / "map.safetensors"


def rewritten(file, arrays=(), dropped=(), **header):
    """Replace or drop arrays of the file, and replace entries of its header."""
    with safe_open(file, framework="pt") as stored:
        metadata = stored.metadata()
        tensors = {name: stored.get_tensor(name) for name in stored.keys() if name not in dropped}  # noqa: SIM118
    tree = json.loads(metadata["priory gtm"]) | header
    save_file(tensors | dict(arrays), file, {"priory gtm": json.dumps(tree)})
    return file


def test_a_saved_gtm_gives_the_same_bits(gtm, file):
    again = GTM.load(file)
    for method in ("transform", "predict", "predict_proba", "score_samples"):
        np.testing.assert_array_equal(getattr(again, method)(HOLED), getattr(gtm, method)(HOLED))
    np.testing.assert_array_equal(again.inverse_transform(again.nodes_ / 3), gtm.inverse_transform(gtm.nodes_ / 3))
    np.testing.assert_array_equal(again.magnification_factors(), gtm.magnification_factors())
    for one, two in zip(again.sample(9), gtm.sample(9), strict=True):
        np.testing.assert_array_equal(one, two)
    fitted = {name for name in vars(gtm) if name.endswith("_") and not name.startswith("_")}
    assert {name for name in vars(again) if name.endswith("_")} == fitted
    for name in fitted - {"basis_"}:
        np.testing.assert_array_equal(getattr(again, name), getattr(gtm, name))
    assert again.get_params() == gtm.get_params()
    again.save(file.with_name("again.safetensors"))
    assert file.with_name("again.safetensors").read_bytes() == file.read_bytes()


def test_names_of_columns_are_saved(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    gtm = GTM(3, max_iter=3, tol=0.0).fit(frame)
    gtm.save(tmp_path / "map.safetensors")
    again = GTM.load(tmp_path / "map.safetensors")
    assert again.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(again.transform(frame), gtm.transform(frame))
    with pytest.raises(ValueError, match="feature names should match"):
        again.transform(frame.rename(columns={"a": "z"}))


def test_a_generator_and_a_device_are_not_saved(tmp_path):
    GTM(3, max_iter=2, tol=0.0, device="cpu", random_state=np.random.RandomState(0)).fit(X).save(tmp_path / "m")
    again = GTM.load(tmp_path / "m")
    assert (again.random_state, again.device) == (None, None)
    assert GTM.load(tmp_path / "m", device="cpu").device == "cpu"
    with pytest.raises(ValueError, match="device: expected None"):
        GTM.load(tmp_path / "m", device="quantum")


def test_partial_fit_refuses_a_loaded_gtm(gtm, file):
    again = GTM.load(file)
    with pytest.raises(ValueError, match="partial_fit: this model was read from a file"):
        again.partial_fit(X)
    np.testing.assert_array_equal(again.means_, gtm.means_)
    assert clone(again).partial_fit(X).n_iter_ == 1
    np.testing.assert_array_equal(again.fit(HOLED).means_, gtm.means_)


def test_an_unfitted_gtm_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        GTM().save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_missing_and_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot be read"):
        GTM.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="got a folder"):
        GTM.load(tmp_path)
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(ValueError, match=r"got a damaged file .*; give a file that `GTM.save` wrote, or fit again"):
        GTM.load(tmp_path / "text")
    save_file({"a": torch.ones(2)}, tmp_path / "other")
    with pytest.raises(ValueError, match="expected a fitted GTM, got a safetensors file of another kind"):
        GTM.load(tmp_path / "other")


def test_a_truncated_file_is_refused(file):
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ValueError, match="got a damaged file"):
        GTM.load(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dropped": ("means_",)}, "expected the arrays nodes_"),
        ({"arrays": {"means_": torch.ones(25, 4, dtype=torch.float64)}}, r"means_ is \(25, 4\)"),
        ({"arrays": {"weights_": torch.ones(25)}}, "weights_ is .* of torch.float32"),
        ({"arrays": {"means_": torch.full((25, 3), torch.nan, dtype=torch.float64)}}, "not finite numbers"),
        ({"arrays": {"basis_weights_": torch.ones(9, 3, dtype=torch.float64)}}, "basis_weights_ is"),
        ({"noise_variance_": -1.0}, "noise_variance_ is -1.0"),
        ({"noise_variance_": "much"}, "noise_variance_ is 'much'"),
        ({"n_features_in_": None}, "NoneType"),
        ({"feature_names_in_": ["a"]}, "feature_names_in_ does not name each column"),
        ({"parameters": {"color": 1}}, "unexpected keyword argument 'color'"),
        ({"parameters": []}, "damaged"),
        ({"format": 2}, "this version of priory reads format 1, the file has format 2"),
    ],
)
def test_a_damaged_file_is_refused(change, message, file):
    with pytest.raises(ValueError, match=message):
        GTM.load(rewritten(file, **change))


@pytest.mark.parametrize("parameters", [{"basis_width": -1.0}, {"dtype": [1]}, {"random_state": "x"}], ids=str)
def test_invalid_parameters_in_a_file_are_refused(parameters, file):
    with pytest.raises(ValueError, match=rf"{file.name}: expected a fitted GTM .* got a damaged file"):
        GTM.load(rewritten(file, parameters=parameters))
