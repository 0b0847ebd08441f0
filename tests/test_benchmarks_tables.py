"""The benchmark of the papers' tables: a small run from a file to the page."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("lightning")
pytest.importorskip("pydantic")

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("tables")


def _results(nll: float, **key: Any) -> dict[str, Any]:
    key = {"data": "static_mnist", "levels": 1, "prior": "vamp", "training": "ours", "seed": 0} | key
    return key | {"nll": nll, "nll_se": 0.2, "elbo": -90.0, "kl": 22.0, "active_units": 25.0, "minutes": 40.0}


def test_each_cell_is_listed_once(tables: ModuleType) -> None:
    assert len(tables.cells()) == len(set(tables.cells()))


def test_page_averages_seeds_beside_the_papers_number(tables: ModuleType) -> None:
    planned = [tables.Cell("static_mnist", 1, "vamp", "ours", seed) for seed in (0, 1, 2)]
    text = tables.page([_results(84.0), _results(85.0, seed=1)], planned)
    assert "| VampPrior | 85.57 |  |  | 84.50 ± 0.20 (2 seeds) |" in text
    assert "Missing: 1 of 3 cells" in text
    assert "VampPrior, ours, seed 2" in text


def test_cell_is_trained_once_and_written_to_both_files(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits = np.random.default_rng(0).random((90, 64)) < 0.3
    splits = {
        f"{name}_x": np.packbits(part, axis=1)
        for name, part in zip(("train", "valid", "test"), np.split(bits, 3), strict=True)
    }
    np.savez(tmp_path / "binarized_mnist.npz", **splits, width=64, shape=np.array([8, 8]))
    small = {"hidden": (8, 8), "latent_dim": 2, "components": 5}
    monkeypatch.setattr(tables, "MODEL", tables.MODEL | small)
    monkeypatch.setattr(tables, "OURS", tables.OURS | {"batch_size": 10})
    monkeypatch.setattr(tables, "OUR_STEPS", 6)
    monkeypatch.setattr(tables, "NUM_SAMPLES", 32)
    line = ["tables.py", "--data-dir", str(tmp_path), "--only", "static_mnist", "1", "vamp", "ours", "0"]
    line += ["--precision", "32-true", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "tables.json")]
    monkeypatch.setattr("sys.argv", line)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)  # other tests share the process
    tables.main()
    done = json.loads((tmp_path / "tables.json").read_text())
    assert [row["prior"] for row in done] == ["vamp"]
    assert done[0]["epochs"] == 2
    assert 0 < done[0]["nll"] <= -done[0]["elbo"]
    assert done[0]["settings"]["training"]["num_samples"] == 5
    assert f"{done[0]['nll']:.2f} ± " in (tmp_path / "tables.md").read_text()
    monkeypatch.setattr(tables, "result_of", lambda *_: pytest.fail("a cell that is done was run again"))
    tables.main()
