"""The book's experiment: quadrature compared with independent sums, records compared with a run."""

import doctest
import importlib
import itertools
import json
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

from priory import VAE, CategoricalDecoder, MixtureOfGaussians, NormalEncoder, Rescale, StandardNormal, mlp

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def book() -> ModuleType:
    pytest.importorskip("lightning")
    return _module("book")


@pytest.fixture(scope="module")
def quadrature() -> ModuleType:
    return _module("_book_quadrature")


def _module(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module(name)


def _small_vae(num_pixels: int, num_levels: int, steepness: float = 1.0) -> VAE:
    """Return a random model with a prior far from a standard normal; a steep decoder has narrow posteriors."""
    torch.manual_seed(3)
    prior = MixtureOfGaussians(2, 4)
    prior.loc.data += torch.tensor([5.0, -2.0])
    prior.log_scale.data[0] = torch.tensor([-2.0, 0.5])
    prior.mixing_logits.data = torch.randn(4)
    network = mlp(2, [16], num_pixels * num_levels, activation=torch.nn.Tanh)
    network[-1].weight.data *= steepness
    encoder = NormalEncoder(mlp(num_pixels, [8], 4))
    return VAE(encoder, CategoricalDecoder(network, num_levels), prior, Rescale(0, num_levels - 1))


def test_probabilities_of_all_possible_data_by_quadrature_sum_to_one(quadrature: ModuleType) -> None:
    vae = _small_vae(num_pixels=3, num_levels=3, steepness=4.0)
    every_x = torch.tensor(list(itertools.product(range(3), repeat=3))).float()
    result = quadrature.exact_nll(vae, every_x, 256)
    assert float((-result.nll).exp().sum()) == pytest.approx(1.0, abs=1e-4)
    assert result.prior_mass == pytest.approx(1.0, abs=1e-4)


def test_quadrature_agrees_with_importance_sampling(quadrature: ModuleType) -> None:
    vae = _small_vae(num_pixels=5, num_levels=4, steepness=3.0)
    x = torch.tensor([[0.0, 3.0, 1.0, 2.0, 3.0], [1.0, 1.0, 0.0, 0.0, 2.0]])
    proposal = torch.distributions.StudentT(5.0, torch.tensor([5.0, -2.0]), torch.tensor([1.5, 1.5]))
    for row, nll in zip(x, quadrature.exact_nll(vae, x, 256).nll, strict=True):
        weights = []
        for _ in range(20):
            z = proposal.sample((20_000,))
            log_p_x = torch.log_softmax(vae.decoder.network(z).reshape(-1, 5, 4), -1)
            log_p_x = sum(log_p_x[:, d, int(row[d])] for d in range(5))
            log_weight = vae.latent_prior().log_prob(z) + log_p_x - proposal.log_prob(z).sum(-1)
            weights.append(log_weight.double().exp().mean().item())
        mean, se = torch.tensor(weights).mean(), torch.tensor(weights).std() / math.sqrt(len(weights))
        assert abs(math.exp(-nll) - mean) < 4 * se
        assert se / mean < 0.01


def test_quadrature_has_converged_at_the_size_of_the_experiment(quadrature: ModuleType, book: ModuleType) -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 17, (30, 64)).float()
    vae = book.build("gtm-vamp", "data", x)
    vae.decoder.network[-1].weight.data *= 3  # posteriors as narrow as after training
    coarse, fine = (quadrature.exact_nll(vae, x, points).nll for points in (128, 256))
    assert float((coarse - fine).abs().max()) < 0.01


def test_window_holds_prior_and_posteriors(quadrature: ModuleType) -> None:
    vae = _small_vae(num_pixels=3, num_levels=3)
    vae.prior = StandardNormal(2)
    vae.encoder.network[-1].bias.data = torch.tensor([9.0, 0.0, 0.0, 0.0])
    window = quadrature.latent_window(vae, torch.zeros(1, 3), vae.latent_prior())
    with torch.no_grad():
        q = vae.encode(torch.zeros(1, 3))
    assert float(window.low[0]) < -3 < 9 < float((q.mean + 5 * q.stddev)[0, 0]) < float(window.high[0])


def test_stopping_is_derived_from_a_longer_run(book: ModuleType) -> None:
    course = [-5.0, -4.0, -4.5, -4.4, -3.0, -3.5, -3.5]
    assert book.stop_and_best(course, 2) == (4, 1)
    assert book.stop_and_best(course, 3) is None
    assert book.stop_and_best(course[:4], 2) == (4, 1)


def test_derived_record_equals_that_of_a_run(book: ModuleType) -> None:
    digits = book.Digits.load()
    data = book.Digits(digits.train[:64], digits.valid[:40], digits.test[:5])
    long, short = (book.Cell("vamp", "mean", patience, 0) for patience in (3, 1))
    course = [-3.0, -2.0, -2.5, -2.6, -2.7]
    record = {"prior": "vamp", "initialize": "mean", "patience": 3, "seed": 0, "valid_elbo": course, "best_epoch": 1}
    assert book.derive(short, {"a": record | {"best_epoch": 4}}) is None  # the long run improved later
    assert book.derive(short, {"a": record | {"seed": 1}}) is None
    assert book.derive(short, {"a": record})["epochs"] == 3

    runs = {cell.key: book.run(cell, data, epochs=12) for cell in (long, short)}
    stopped = book.stop_and_best(runs[long.key]["valid_elbo"], 1)
    if stopped is not None:
        assert stopped == (runs[short.key]["epochs"], runs[short.key]["best_epoch"])
    common = len(runs[short.key]["valid_elbo"])
    assert runs[short.key]["valid_elbo"] == runs[long.key]["valid_elbo"][:common]


def test_script_resumes_records_failures_and_keeps_handwritten_text(
    book: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def run(cell, data, epochs):
        calls.append(cell.key)
        record = {"prior": cell.prior, "initialize": cell.initialize, "patience": cell.patience, "seed": cell.seed}
        if cell.seed == 1:
            return record | {"failure": "NonFiniteLossError: nan", "seconds": 1.0}
        numbers = dict.fromkeys(["test_nll", "test_elbo", "train_nll", "effective_components"], 97.0 + cell.seed)
        numbers |= {"quadrature_change": 0.0, "prior_mass": 1.0, "seconds": 1.0, "train_seconds": 1.0}
        return record | numbers | {"epochs": 5, "best_epoch": 3, "stopped_early": True, "valid_elbo": [-1.0] * 5}

    monkeypatch.setattr(book, "run", run)
    out = tmp_path / "results" / "book.json"
    book.main(["--seeds", "0", "1", "--patience", "50", "--priors", "standard", "vamp", "--out", str(out)])
    assert len(calls) == len(set(calls)) == 2 * (2 + 2)
    table = out.with_suffix(".md")
    table.write_text(table.read_text() + "By hand.\n")
    book.main(["--seeds", "0", "1", "2", "--patience", "50", "--priors", "standard", "--out", str(out)])
    assert len(calls) == 9
    assert set(json.loads(out.read_text())["runs"]) == set(calls)
    text = table.read_text()
    assert "| standard | 98.0 ± 1.00 |" in text
    assert "VampPrior, mean plus noise, patience 50, seed 1: NonFiniteLossError: nan" in text
    assert text.endswith("By hand.\n")
    capsys.readouterr()
    book.main(["--table", "--out", str(out)])
    assert len(calls) == 9
    assert "## Six priors, patience 50" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["book", "_book_report"])
def test_examples_in_docstrings_are_correct(book: ModuleType, name: str) -> None:
    results = doctest.testmod(_module(name))
    assert results.attempted > 0
    assert results.failed == 0
