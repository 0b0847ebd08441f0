"""The rule that chooses a likelihood for a data set, for arranged tables and the benchmark files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from priory.workbench.data import RULE, Summary, load_dataset, propose_likelihood

GENERATOR = np.random.default_rng(0)
SHAPE = (400, 25)


def loaded(tmp_path: Path, x: np.ndarray, *, image: bool = False, sparse: bool = False) -> Summary:
    if sparse:
        from scipy.sparse import csr_matrix, save_npz

        save_npz(tmp_path / "x.npz", csr_matrix(x))
        return load_dataset(tmp_path / "x.npz").summary()
    np.save(tmp_path / "x.npy", x.reshape(len(x), 5, 5) if image else x)
    return load_dataset(tmp_path / "x.npy").summary()


def pixels(high: int = 255) -> np.ndarray:
    x = GENERATOR.integers(0, high, SHAPE)
    x[0, 0] = high
    return x


def counts(mean: float, tail: int) -> np.ndarray:
    x = GENERATOR.poisson(GENERATOR.gamma(0.1, mean / 0.1, SHAPE))
    x[0, 0] = tail
    return np.minimum(x, tail)


CASES = {
    # name: (values, image, sparse, likelihood, ambiguous)
    "binary": (pixels(1), False, False, "bernoulli", False),
    "binary floats": (pixels(1).astype("f4"), True, False, "bernoulli", False),
    "all zero": (np.zeros(SHAPE), False, False, "bernoulli", False),
    "grades 1..5": (GENERATOR.integers(1, 6, SHAPE), False, False, "categorical", False),
    "integers as floats": (GENERATOR.integers(1, 6, SHAPE).astype("f8"), False, False, "categorical", False),
    "dark image": (np.where(pixels(9) < 8, 0, pixels(9)), True, False, "categorical", False),
    "word counts": (counts(0.1, 12), False, False, "negative-binomial", True),
    "sparse word counts": (counts(0.1, 12), False, True, "negative-binomial", True),
    "gray images": (pixels(254), True, False, "discretized-logistic", False),
    "flat pixels": (pixels(255), False, False, "discretized-logistic", False),
    "pixels or counts": (pixels(200), False, False, "negative-binomial", True),
    "sequencing counts": (counts(2, 3000), False, False, "negative-binomial", False),
    "sparse sequencing counts": (counts(2, 200), False, True, "negative-binomial", False),
    "16-bit images": (pixels(4000), True, False, "negative-binomial", True),
    "integer measurements": (GENERATOR.integers(150, 2000, SHAPE), False, False, "negative-binomial", True),
    "signed integers": (GENERATOR.integers(-5, 5, SHAPE), False, False, "gaussian", False),
    "gray reals": (GENERATOR.random(SHAPE), True, False, "gaussian", True),
    "saturated reals": (np.clip(GENERATOR.normal(size=SHAPE), 0, 1), False, False, "gaussian", True),
    "shares": (GENERATOR.random(SHAPE), False, False, "gaussian", False),
    "normalized counts": (np.log1p(counts(1, 90) / 3), False, True, "gaussian", True),
    "real": (GENERATOR.normal(size=SHAPE), False, False, "gaussian", False),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rule_chooses_the_likelihood_of_arranged_tables(tmp_path: Path, case: str) -> None:
    x, image, sparse, likelihood, ambiguous = CASES[case]
    proposal = propose_likelihood(loaded(tmp_path, x, image=image, sparse=sparse))
    assert (proposal.likelihood, bool(proposal.alternatives)) == (likelihood, ambiguous)
    assert ("ambiguous" in proposal.describe()) == ambiguous
    assert ("--likelihood" in proposal.describe()) == ambiguous


def test_categories_are_at_most_32(tmp_path: Path) -> None:
    assert propose_likelihood(loaded(tmp_path, np.full((20, 3), 31))).likelihood == "categorical"
    assert propose_likelihood(loaded(tmp_path, np.full((20, 3), 32))).likelihood == "negative-binomial"
    assert propose_likelihood(load_dataset("digits").summary()).likelihood == "categorical"


def test_the_note_about_gray_values_suggests_both_alternatives(tmp_path: Path) -> None:
    proposal = propose_likelihood(loaded(tmp_path, GENERATOR.random(SHAPE), image=True))
    assert proposal.alternatives == ("--likelihood gaussian", "--binarize dynamic")


@pytest.mark.parametrize("binarize", ["dynamic", "static"])
def test_binarized_data_are_bernoulli(binarize: str) -> None:
    summary = load_dataset("digits", binarize=binarize).summary()  # type: ignore[arg-type]
    assert propose_likelihood(summary).likelihood == "bernoulli"
    assert ("anew" in summary.describe()) == (binarize == "dynamic")


def test_a_missing_value_does_not_hide_the_kind(tmp_path: Path) -> None:
    x = pixels(1).astype(float)
    x[3, 3] = np.nan
    summary = loaded(tmp_path, x)
    assert (summary.missing, summary.binary) == (1, True)
    nothing = loaded(tmp_path, np.full((3, 2), np.nan))
    assert nothing.missing == 6
    assert not nothing.binary
    assert not nothing.integers
    assert "6 missing" in nothing.describe()


@pytest.mark.parametrize("sparse", [False, True])
def test_the_summary_equals_an_explicit_loop(tmp_path: Path, sparse: bool) -> None:
    x = counts(0.5, 40)
    summary = loaded(tmp_path, x, sparse=sparse)
    cells = [int(value) for row in x for value in row]
    assert (summary.rows, summary.columns) == SHAPE
    assert (summary.low, summary.high) == (min(cells), max(cells))
    assert summary.density == sum(value != 0 for value in cells) / len(cells)
    assert summary.extremes == sum(value in (0, 1) for value in cells) / len(cells)
    assert summary.integers
    assert summary.sparse is sparse
    assert f"{SHAPE[0]} rows x {SHAPE[1]} columns, integers 0..40" in summary.describe()


@pytest.mark.parametrize(
    ("name", "likelihood", "ambiguous"),
    [
        ("binarized_mnist", "bernoulli", False),
        ("mnist", "discretized-logistic", False),
        ("fashion_mnist", "discretized-logistic", False),
        ("omniglot", "gaussian", True),
        ("oil_flow", "gaussian", False),
        ("mouse_bladder", "negative-binomial", False),
    ],
)
def test_the_rule_chooses_the_likelihood_of_the_benchmark_files(name: str, likelihood: str, ambiguous: bool) -> None:
    path = Path(os.environ.get("PRIORY_DATA", Path(__file__).parents[2] / "shared" / "data")) / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not in PRIORY_DATA or ../shared/data")
    proposal = propose_likelihood(load_dataset(path).summary())
    assert (proposal.likelihood, bool(proposal.alternatives)) == (likelihood, ambiguous)


def test_the_docs_describe_the_rule_completely() -> None:
    docs = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    assert f"```text\n{RULE}\n```" in docs
    assert len(RULE.splitlines()) <= 8
    assert max(map(len, RULE.splitlines())) <= 120
