"""Results as text, tables, JSON and pictures, as a notebook displays them."""

import json
import math
import re
import sys
from base64 import b64decode
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from priory import (
    GTM,
    VAE,
    BernoulliDecoder,
    DensityPrior,
    Estimate,
    Evaluation,
    FlowPrior,
    GTMPrior,
    GTMVampPrior,
    MixtureOfGaussians,
    NormalEncoder,
    StandardNormal,
    TopographicMap,
    VampPrior,
    evaluate,
    latent_grid,
    mlp,
    refit,
)
from priory.evaluation import METRIC_DESCRIPTIONS
from priory.training.history import COLUMNS, History

DIGITS = [0.1687, 0.0996, 0.9951, 3.149, 9.96, 12.34, 99.6, 123.0, 1e-5, 4567.0]


@pytest.mark.parametrize("value", [23.1234, -93.88709, 0.0, 1234567.0])
@pytest.mark.parametrize("se", DIGITS)
def test_an_estimate_has_two_digits_of_its_error_and_as_many_decimals(value, se):
    exponent = Decimal(f"{Decimal(repr(se)):.1e}").adjusted() - 1
    places = Decimal(1).scaleb(exponent)
    expected = [Decimal(repr(number)).quantize(places) for number in (value, se)]
    assert str(Estimate(value, se)) == " ± ".join(f"{number:f}".replace("-0 ", "0 ") for number in expected)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.95, 0.0), "0.95"),
        (Estimate(2.5, math.nan), "2.5"),
        (Estimate(math.inf, math.nan), "inf"),
        (Estimate(math.nan, math.nan), "nan"),
        (Estimate(5.0, 1e-17), "5 ± 1.0e-17"),
        (Estimate(1.0, math.inf), "1 ± inf"),
    ],
)
def test_an_error_that_is_zero_or_unknown_is_left_out(estimate, text):
    assert str(estimate) == f"{estimate}" == text


def test_a_format_applies_to_both_numbers():
    assert f"{Estimate(1.23456, 0.5):.3f}" == "1.235 ± 0.500"


@pytest.mark.parametrize("spec", ["", "20", ">20", "<20", "*^20", "3"])
def test_a_width_applies_to_the_whole_text(spec):
    assert format(Estimate(1.23456, 0.5), spec) == format("1.23 ± 0.50", spec)


def test_an_estimate_is_a_pair_whose_repr_can_be_evaluated():
    estimate = Estimate(1.5, 0.5)
    value, se = estimate
    assert (value, se) == (1.5, 0.5)
    assert eval(repr(estimate)) == estimate


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    prior = GTMVampPrior(latent_grid(4), mlp(2, [8], 6), low=0.0, high=1.0)
    return VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), prior)


@pytest.fixture(scope="module")
def x():
    return torch.rand(40, 6, generator=torch.Generator().manual_seed(0)).round()


@pytest.fixture(scope="module")
def evaluation(vae, x):
    return evaluate(vae, x, num_samples=32)


def test_the_text_of_an_evaluation_has_units_and_descriptions(evaluation):
    lines = repr(evaluation).splitlines()
    assert [line.split()[0] for line in lines] == list(evaluation)
    for line, (name, estimate) in zip(lines, evaluation.items(), strict=True):
        assert str(estimate) in line
        assert line.endswith(METRIC_DESCRIPTIONS[name])
    assert re.search(r"^nll +\S+ ± \S+ nats +-log", repr(evaluation))
    assert re.search(r"^bits_per_dimension +\S+ ± \S+ bits", repr(evaluation), re.MULTILINE)


def test_the_html_of_an_evaluation_is_a_table(evaluation):
    table = evaluation._repr_html_()
    cells = re.findall("<td>(.*?)</td>", table)
    assert cells[0::3] == list(evaluation)
    assert cells[2] == METRIC_DESCRIPTIONS["nll"]
    assert "KL(q(z|x) || p(z))" in table


@pytest.mark.parametrize("read", [lambda evaluation: json.loads(evaluation.to_json()), Evaluation.to_dict])
def test_the_json_of_an_evaluation_can_be_read(read, evaluation):
    assert {name: Estimate(**numbers) for name, numbers in read(evaluation).items()} == evaluation


def test_the_data_frame_of_an_evaluation_has_a_row_for_each_metric(evaluation):
    frame = evaluation.to_frame()
    assert list(frame.index) == list(evaluation)
    assert [Estimate(*row) for row in frame[["value", "se"]].to_numpy()] == list(evaluation.values())
    assert frame.loc["rate", ["unit", "description"]].tolist() == ["nats", METRIC_DESCRIPTIONS["rate"]]


def test_an_added_metric_is_shown_without_a_description():
    mine = Evaluation({"<mine>": Estimate(1.0, 0.1)}, {})
    assert repr(mine) == "<mine>  1.00 ± 0.10"
    assert "&lt;mine&gt;" in mine._repr_html_()
    assert mine.to_frame().loc["<mine>", "description"] == ""


def history(epochs: int = 5) -> History:
    columns = {name: np.linspace(-9.0, -1.0, epochs).tolist() for name in COLUMNS}
    elbo = [-5.0, -3.0, -1.0, -2.0, -4.0][:epochs]
    return History(
        columns | {"epoch": list(range(epochs)), "valid_elbo": elbo, "valid_objective": elbo, "beta": [1.0] * epochs}
    )


def test_the_data_frame_of_a_history_has_a_row_for_each_epoch():
    frame = history().to_frame()
    assert frame.index.name == "epoch"
    assert frame["valid_elbo"].idxmax() == history().best_epoch == 2
    pd.testing.assert_frame_equal(frame.reset_index(), pd.DataFrame(history().rows()))


def pictures(html: str) -> list[bytes]:
    return [b64decode(content) for content in re.findall('<img src="data:image/png;base64,(.*?)">', html)]


def test_the_html_of_a_history_has_best_and_last_epoch_and_a_plot():
    html = history()._repr_html_()
    assert re.findall("<tr><td>(best|last)</td><td>(.)</td>", html) == [("best", "2"), ("last", "4")]
    assert [content[1:4] for content in pictures(html)] == [b"PNG"]


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_history_of_few_epochs_can_be_displayed(epochs):
    assert len(pictures(history(epochs)._repr_html_())) == epochs


def test_the_plot_of_a_history_has_its_curves():
    upper, _ = history().plot()
    assert upper.lines[1].get_ydata().tolist() == history()["valid_elbo"]


@pytest.fixture(scope="module")
def drawn(vae, x):
    return TopographicMap(vae, x)


def test_the_text_of_a_map_has_rows_nodes_and_model(drawn, x):
    assert repr(drawn) == "TopographicMap(rows=40, nodes=4 x 4, model=VAE with GTMVampPrior)"
    gtm = GTM(points_per_side=3, tether=0).fit(x.double().numpy())
    assert repr(TopographicMap(gtm, x.double())) == "TopographicMap(rows=40, nodes=3 x 3, model=GTM)"


def test_the_html_of_a_map_has_a_picture(drawn):
    assert "rows=40" in drawn._repr_html_()
    assert len(pictures(drawn._repr_html_())) == 1


KINDS = ["a", "b", "", "c"] * 10


@pytest.mark.parametrize(
    "color", [KINDS, np.array(KINDS), pd.Series(KINDS, name="kind"), pd.Series(KINDS, dtype="category")]
)
def test_classes_determine_the_styles_of_a_map(color, drawn):
    labels = drawn.plot(color).get_legend_handles_labels()[1]
    assert labels == ["a (10)", "b (10)", "c (10)", "none (10)"]


def test_the_name_of_a_series_names_the_classes(drawn):
    assert drawn.plot(pd.Series(KINDS, name="kind")).get_legend().get_title().get_text() == "kind (rows)"
    assert drawn.plot(pd.Series(KINDS, name="kind"), name="x").get_legend().get_title().get_text() == "x (rows)"


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, list, pd.Series])
def test_numbers_determine_the_colors_of_a_map(make, drawn):
    values = np.linspace(0.0, 1.0, 40)
    values[3] = math.nan
    axes = drawn.plot(make(values), name="size")
    assert sorted(axes.collections[0].get_array().tolist()) == sorted(values[np.isfinite(values)].tolist())


def test_a_map_can_be_drawn_in_given_axes(drawn):
    axes = drawn.plot()
    assert drawn.plot(axes=axes) is axes


def test_colors_for_another_number_of_rows_are_refused(drawn):
    with pytest.raises(ValueError, match=r"color: expected one for each of the 40 rows, got shape \(3,\)"):
        drawn.plot([1, 2, 3])


def test_rows_without_a_position_are_left_out_with_their_colors(vae, x):
    far = torch.cat([x[:20], torch.full((1, 6), 1e30), x[20:]])
    drawn = TopographicMap(vae, far)
    assert int(drawn.places.exist.sum()) == 40
    labels = drawn.plot([*["a"] * 20, "lost", *["b"] * 20]).get_legend_handles_labels()[1]
    assert labels == ["a (20)", "b (20)"]


def test_a_map_with_three_axes_is_described_without_a_picture(x):
    prior = GTMPrior(2, latent_grid(2, 3), mlp(3, [4], 4))
    drawn = TopographicMap(VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), prior), x)
    assert "nodes=2 x 2 x 2" in drawn._repr_html_()
    assert not pictures(drawn._repr_html_())


@pytest.mark.parametrize("make", [history, lambda: None], ids=["history", "map"])
def test_displays_without_matplotlib_are_tables_and_plots_raise_an_error(make, drawn, monkeypatch):
    result = make() or drawn
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    html = result._repr_html_()
    assert "best" in html or "rows=40" in html
    assert not pictures(html)
    with pytest.raises(ImportError, match=r"needs matplotlib, which is not installed; .*\[plots\]"):
        result.plot()


@pytest.mark.parametrize("to_frame", [lambda evaluation: evaluation.to_frame(), lambda _: history().to_frame()])
def test_an_error_names_the_extra_if_pandas_is_missing(to_frame, evaluation, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"to_frame needs pandas, which is not installed; .*\[tables\]"):
        to_frame(evaluation)


def test_the_text_of_a_refitted_prior_has_the_gain(vae, x):
    result = refit(vae, MixtureOfGaussians(2, 3), x, seed=0, epochs=3)
    numbers = f"{result.course[0]:.2f} to {result.course[result.best]:.2f} nats"
    assert repr(result).startswith(f"Refitted(MixtureOfGaussians, by_em=True, E log p(z): {numbers}, best epoch ")
    assert "\n" not in repr(result)


PRIORS = {
    "StandardNormal(L=3)": lambda: StandardNormal(3),
    "MixtureOfGaussians(K=5, L=3)": lambda: MixtureOfGaussians(3, 5),
    "VampPrior( K=5, D=6, L from the encoder": lambda: VampPrior(torch.rand(5, 6)),
    "VampPrior( K=5, D=1 x 4 x 4, L from the encoder": lambda: VampPrior(torch.rand(5, 1, 4, 4)),
    "GTMPrior( grid 3 x 4, K=12, L=2": lambda: GTMPrior(
        2, torch.cartesian_prod(torch.arange(3.0), torch.arange(4.0)), nn.Linear(2, 4)
    ),
    "GTMVampPrior( grid 10 x 10, K=100, L from the encoder": lambda: GTMVampPrior(latent_grid(10), nn.Linear(2, 6)),
    "FlowPrior( L=2": lambda: FlowPrior.coupling(2, 1, (4,)),
    "DensityPrior(Independent, L=3)": lambda: DensityPrior(
        torch.distributions.Independent(torch.distributions.Normal(torch.zeros(3), torch.ones(3)), 1)
    ),
}


@pytest.mark.parametrize("text", PRIORS)
def test_the_text_of_a_prior_has_its_sizes(text):
    assert " ".join(repr(PRIORS[text]()).split()).startswith(text)
