"""The benchmarks of the papers' tables: small runs from a file to the page."""

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


def _script(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return _script("tables")


def _results(nll: float, **key: Any) -> dict[str, Any]:
    key = {"data": "static_mnist", "levels": 1, "prior": "vamp", "training": "ours", "seed": 0} | key
    numbers = {"nll": nll, "nll_se": 0.2, "elbo": -90.0, "kl": 22.0, "active_units": 25.0, "minutes": 40.0}
    return key | numbers | {"settings": {"training": {"precision": "bf16-mixed"}}}


def test_each_cell_is_listed_once(tables: ModuleType) -> None:
    assert len(tables.cells()) == len(set(tables.cells()))


def test_page_averages_seeds_beside_the_papers_number(tables: ModuleType) -> None:
    planned = [tables.Cell("static_mnist", 1, "vamp", "ours", seed) for seed in (0, 1, 2)]
    text = tables.page([_results(84.0), _results(85.0, seed=1)], planned)
    assert "| VampPrior | 85.57 |  |  | 84.50 ± 0.20 (2 seeds) | 90.00 | 22.00 | 25 | 40 (bf16) |" in text
    assert "Missing: 1 of 3 cells" in text
    assert "VampPrior, ours, seed 2" in text


@pytest.mark.parametrize(
    ("name", "data", "papers"),
    [
        ("static MNIST", "static_mnist", "85.57 |"),
        ("dynamic MNIST", "dynamic_mnist", "82.38 | 82.43"),
        ("OMNIGLOT, reconstructed", "omniglot", "104.75 | 106.78"),
        ("Fashion-MNIST", "fashion_mnist", "| 227.35"),
    ],
)
def test_readme_has_the_numbers_of_the_tables(name: str, data: str, papers: str) -> None:
    done = json.loads((BENCHMARKS / "results" / "tables.json").read_text())
    key = {"data": data, "levels": 1, "prior": "vamp", "training": "ours", "seed": 0}
    (row,) = (row for row in done if key.items() <= row.items())
    line = f"| {name} | {papers} | {row['nll']:.2f} ± {row['nll_se']:.2f} | {row['minutes']:.0f} |"
    assert line in (BENCHMARKS.parent / "README.md").read_text()


@pytest.fixture
def small_data(tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return arguments for a folder of small images and other outputs, and make models and trainings small."""
    bits = np.random.default_rng(0).random((90, 64)) < 0.3
    splits = {
        f"{name}_x": np.packbits(part, axis=1)
        for name, part in zip(("train", "valid", "test"), np.split(bits, 3), strict=True)
    }
    np.savez(tmp_path / "binarized_mnist.npz", **splits, width=64, shape=np.array([8, 8]))
    small = {"hidden": (8, 8), "latent_dim": 2, "components": 5}
    monkeypatch.setattr(tables, "MODEL", tables.MODEL | small)
    monkeypatch.setattr(tables, "OURS", tables.OURS | {"batch_size": 10})
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)  # other tests share the process
    line = ["--data-dir", str(tmp_path), "--precision", "32-true", "--runs", str(tmp_path / "runs")]
    return [*line, "--out", str(tmp_path / "results.json"), "--only", "static_mnist", "1", "vamp"]


def test_cell_is_trained_once_and_written_to_both_files(
    tables: ModuleType, small_data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "OUR_STEPS", {1: 6})
    monkeypatch.setattr(tables, "NUM_SAMPLES", 32)
    monkeypatch.setattr("sys.argv", ["tables.py", *small_data, "ours", "0"])
    tables.main()
    done = json.loads((tmp_path / "results.json").read_text())
    assert [row["prior"] for row in done] == ["vamp"]
    assert done[0]["epochs"] == 2
    assert 0 < done[0]["nll"] <= -done[0]["elbo"]
    assert done[0]["settings"]["training"]["num_samples"] == 5
    assert f"{done[0]['nll']:.2f} ± " in (tmp_path / "results.md").read_text()
    monkeypatch.setattr(tables, "result_of", lambda *_: pytest.fail("a cell that is done was run again"))
    tables.main()


def test_time_to_paper_trains_longer_until_the_number_is_reached(
    tables: ModuleType, small_data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = _script("time_to_paper")
    monkeypatch.setattr(module, "STEPS", (3, 6, 9))
    monkeypatch.setattr(module, "NUM_SAMPLES", 32)
    monkeypatch.setattr("sys.argv", ["time_to_paper.py", *small_data])

    def steps_after_main(wanted: float) -> list[int]:
        monkeypatch.setattr(module, "papers", lambda: {("static_mnist", 1, "vamp"): wanted})
        module.main()
        return [row["steps"] for row in json.loads((tmp_path / "results.json").read_text())]

    assert steps_after_main(wanted=1000.0) == [3]
    assert "| 1000.00 | 3 | " in (tmp_path / "results.md").read_text()
    assert steps_after_main(wanted=0.0) == [3, 6, 9]
    assert (tmp_path / "results.md").read_text().endswith("| no |\n")
