"""Models of any class: results equal those of the same `VAE`, and errors name the wrong method."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal

import priory
from priory import (
    BernoulliDecoder,
    GTMVampPrior,
    MixtureOfGaussians,
    NegativeBinomialDecoder,
    NormalEncoder,
    StandardNormal,
    TopographicMap,
    VampPrior,
    as_model,
    diagonal_normal,
    elbo,
    evaluate,
    evaluation_mode,
    fit,
    importance_weighted_bound,
    latent_grid,
    log_likelihood,
    mlp,
    refit,
)
from priory.model import LatentVariableModel, likelihood_of, reconstruct, sample

D, L = 6, 3


class Own(nn.Module):
    """A VAE as users write it."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, prior: nn.Module) -> None:
        super().__init__()
        self.network, self.decoder_network, self.prior = encoder, decoder, prior

    def encode(self, x: Tensor) -> Independent:
        loc, log_variance = self.network(x).chunk(2, -1)
        return diagonal_normal(loc, torch.exp(0.5 * log_variance))

    def latent_prior(self):
        return self.prior(self.encode)

    def decode(self, z: Tensor) -> Independent:
        return Independent(Bernoulli(logits=self.decoder_network(z), validate_args=False), 1, validate_args=False)


def parts(kind: str = "vamp") -> tuple[nn.Module, nn.Module, nn.Module]:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(D, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 2 * L))
    prior = {
        "vamp": lambda: VampPrior.from_data(rows(), 5, low=0.0, high=1.0),
        "gtm-vamp": lambda: GTMVampPrior(latent_grid(4), mlp(2, [8], D), low=0.0, high=1.0),
        "standard": lambda: StandardNormal(L),
    }[kind]()
    return encoder, mlp(L, [8], D), prior


def rows(number: int = 40) -> Tensor:
    return torch.rand(number, D, generator=torch.Generator().manual_seed(1)).round()


def forms(kind: str = "vamp") -> dict[str, object]:
    """Return the same model in every form that the library accepts, in float64."""
    encoder, decoder, prior = (part.double() for part in parts(kind))
    own = Own(encoder, decoder, prior)
    methods = {"encode": own.encode, "decode": own.decode}
    functions = {"encode": lambda x: own.encode(x), "decode": lambda z: own.decode(z)}
    return {
        "VAE": priory.VAE(NormalEncoder(encoder, None), BernoulliDecoder(decoder), prior),
        "module": own,
        "of methods": as_model(**methods, prior=prior),
        "of functions": as_model(**functions, prior=prior, modules=[own]),
        "no module": SimpleNamespace(**methods, latent_prior=own.latent_prior, prior=prior),
    }


def module_of(model: object) -> nn.Module:
    return model if isinstance(model, nn.Module) else model.encode.__self__


ALL_FORMS = pytest.mark.parametrize("form", forms())
MODULES = pytest.mark.parametrize("form", [form for form in forms() if form != "no module"])


@ALL_FORMS
@pytest.mark.parametrize("kind", ["vamp", "gtm-vamp", "standard"])
def test_metrics_equal_those_of_the_same_vae(form, kind):
    results = []
    for model in (forms(kind)["VAE"], forms(kind)[form]):
        module_of(model).eval()  # the library cannot switch the mode of an object that is not a module
        torch.manual_seed(2)
        results.append(evaluate(model, rows().double(), num_samples=8))
    torch.testing.assert_close(dict(results[0]), dict(results[1]))
    torch.testing.assert_close(results[0].per_row, results[1].per_row)


@MODULES
def test_bounds_and_gradients_equal_those_of_the_same_vae(form):
    results, x = [], rows().double()
    for model in (forms()["VAE"].eval(), forms()[form].eval()):
        torch.manual_seed(3)
        bound = importance_weighted_bound(model, x, num_samples=4).mean() + elbo(model, x).value().mean()
        bound.backward()
        results.append([bound.detach(), *sorted(float(p.grad.norm()) for p in model.parameters())])
    torch.testing.assert_close(*results)


@MODULES
def test_prior_and_evaluation_do_not_change_a_model_in_training_mode(form):
    model, x = forms()[form].train(), rows().double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.latent_prior()
    evaluate(model, x, num_samples=4)
    log_likelihood(model, x, num_samples=4)
    sample(model, 3), reconstruct(model, x)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert all(module.training for module in model.modules())


@ALL_FORMS
def test_the_map_equals_that_of_the_same_vae(form):
    places = []
    for model in (forms("gtm-vamp")["VAE"], forms("gtm-vamp")[form]):
        module_of(model).eval()
        drawn = TopographicMap(model, rows().double())
        places.append((drawn.places.place, drawn.nodes.contents, drawn.nodes.magnification))
    torch.testing.assert_close(*places)


@ALL_FORMS
def test_refit_keeps_the_encoder_and_improves_the_prior(form):
    model = forms()[form]
    before = [p.detach().clone() for p in model.parameters()] if isinstance(model, nn.Module) else []
    result = refit(model, MixtureOfGaussians(L, 3).double(), rows().double(), seed=0, epochs=3)
    assert result.course[result.best] >= result.course[0]
    assert isinstance(result.model.prior, MixtureOfGaussians)
    assert evaluate(result.model, rows().double(), num_samples=4)["nll"].value > 0
    assert all(p.requires_grad for p in (model.parameters() if before else []))
    for old, new in zip(before, model.parameters() if before else [], strict=True):
        assert torch.equal(old, new)


def test_refit_refuses_a_prior_of_other_latent_dimensions():
    with pytest.raises(ValueError, match="prior: expected 3 latent dimensions, as in the model, got 5"):
        refit(forms()["module"], MixtureOfGaussians(5, 2), rows())


def test_refit_encodes_pseudo_inputs_with_the_models_encode():
    prior = VampPrior.from_data(rows().double(), 4, low=0.0, high=1.0).double()
    result = refit(forms()["module"], prior, rows(), seed=0, epochs=2)
    p_z, encode = result.model.latent_prior(), forms()["module"].eval().encode
    torch.testing.assert_close(p_z.components.mean, encode(result.model.prior.pseudo_inputs).mean)


@pytest.mark.parametrize(
    "form", ["module", *[pytest.param(each, marks=pytest.mark.slow) for each in forms() if each != "module"]]
)
def test_report_and_pictures_work_for_every_form_of_model(form, tmp_path):
    model = forms("gtm-vamp")[form]
    with evaluation_mode(module_of(model)):
        page = priory.report(
            model, rows().double(), tmp_path, labels={"first": rows()[:, 0]}, num_samples=4, image_shape=(2, 3)
        )
    assert page.read_text().count("<h2") >= 3
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert math.isfinite(stored["nll"]["value"])
    assert stored["trustworthiness"]["se"] >= 0
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"map.png", "nodes.png", "samples.png", "reconstructions.png", "pseudo_inputs.png"} <= drawn


def test_a_report_accepts_one_label_without_a_name_and_refuses_a_file(tmp_path):
    model, labels = Own(*parts()), ["even" if total % 2 else "odd" for total in rows().sum(1)]
    assert "label" in priory.report(model, rows(), tmp_path / "report", labels=labels, num_samples=4).read_text()
    with pytest.raises(ValueError, match="out: expected a folder, got the file"):
        priory.report(model, rows(), tmp_path / "report" / "report.html")


class Images(Own):
    """A model of images (1, 2, 3)."""

    def encode(self, x):
        return super().encode(x.flatten(-3))

    def decode(self, z):
        logits = self.decoder_network(z).unflatten(-1, (1, 2, 3))
        return Independent(Bernoulli(logits=logits, validate_args=False), 3, validate_args=False)


def test_models_of_images_and_of_flat_rows_have_the_same_metrics(tmp_path):
    flat, images = Own(*parts()).double().eval(), Images(*parts()).double().eval()
    images.prior = VampPrior(flat.prior.pseudo_inputs.detach().unflatten(-1, (1, 2, 3)), low=0.0, high=1.0)
    x = rows().double()
    results = []
    for model, data in ((flat, x), (images, x.unflatten(-1, (1, 2, 3)))):
        torch.manual_seed(0)
        results.append(dict(evaluate(model, data, num_samples=8)))
    torch.testing.assert_close(*results)
    drawn = priory.draw(images, x.unflatten(-1, (1, 2, 3)), tmp_path)
    assert {"samples.png", "pseudo_inputs.png"} <= {path.name for path in drawn}


def test_the_decoder_of_any_model_gets_covariates():
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(D, 2 * L), NegativeBinomialDecoder(nn.Linear(L, D), torch.ones(D))
    x = torch.poisson(torch.full((9, D), 3.0))
    model = as_model(
        encode=NormalEncoder(encoder),
        decode=decoder,
        prior=StandardNormal(L),
        covariates=decoder.covariates,
    )
    z = torch.zeros(9, L)
    torch.testing.assert_close(likelihood_of(model, z, x).mean.sum(-1), x.sum(-1))
    assert not torch.allclose(likelihood_of(model, z).mean.sum(-1), x.sum(-1))


@pytest.mark.parametrize("form", ["VAE", "module", "of functions"])
def test_models_satisfy_the_protocol(form):
    assert isinstance(forms()[form], LatentVariableModel)


def test_a_composed_model_trains_the_parameters_of_its_functions_once():
    own = Own(*parts())
    model = as_model(encode=own.encode, decode=own.decode, prior=own.prior, modules=[own.network])
    assert list(model.parameters()) == list(own.parameters())
    assert len(model.state_dict()) == len(own.state_dict())


def changed(**methods):
    own = Own(*parts("standard"))
    for name, method in methods.items():
        setattr(own, name, method)
    return own


def loc(x: Tensor) -> Tensor:
    return x[..., :L]


WRONG_ANSWERS = {
    "pair": (
        changed(encode=lambda x: (loc(x), loc(x))),
        TypeError,
        r"encode: .* got a tuple \(Tensor, Tensor\); .* priory.diagonal_normal\(mean, torch.exp\(0.5 \* log_variance\)",
    ),
    "tensor": (changed(encode=loc), TypeError, "encode: expected a distribution"),
    "bare Normal": (
        changed(encode=lambda x: Normal(loc(x), 1.0)),
        ValueError,
        r"encode: .* got Normal .* torch.distributions.Independent\(q, 1\)",
    ),
    "logits": (
        changed(decode=lambda z: z.new_zeros(*z.shape[:-1], D)),
        TypeError,
        r"decode: .* torch.distributions.Independent\(torch.distributions.Bernoulli\(logits=logits\), 1\)",
    ),
    "bare Bernoulli": (
        changed(decode=lambda z: Bernoulli(logits=z.new_zeros(*z.shape[:-1], D))),
        ValueError,
        r"decode: expected p\(x\|z\) with the batch shape .* torch.distributions.Independent\(p, 1\)",
    ),
    "other columns": (
        changed(decode=lambda z: Independent(Bernoulli(logits=z.new_zeros(*z.shape[:-1], 1)), 1)),
        ValueError,
        r"decode: expected p\(x\|z\) over rows x of shape \(6,\), got event shape \(1,\)",
    ),
    "prior not called": (
        changed(latent_prior=lambda: StandardNormal(L)),
        TypeError,
        r"latent_prior: .* got StandardNormal; call the prior: return self.prior\(self.encode\)",
    ),
    "batch of priors": (
        changed(latent_prior=lambda: diagonal_normal(torch.zeros(3, L), torch.ones(3, L))),
        ValueError,
        r"latent_prior: expected one density p\(z\), got batch shape \(3,\)",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_ANSWERS)
def test_errors_about_wrong_methods_suggest_a_remedy(wrong):
    model, kind, message = WRONG_ANSWERS[wrong]
    for use in (lambda: elbo(model, rows()), lambda: evaluate(model, rows(), num_samples=4)):
        with pytest.raises(kind, match=message):
            use()


USES = {
    "evaluate": lambda model, out: evaluate(model, rows()),
    "log_likelihood": lambda model, out: log_likelihood(model, rows(), num_samples=3),
    "refit": lambda model, out: refit(model, StandardNormal(L), rows()),
    "report": lambda model, out: priory.report(model, rows(), out),
    "draw": lambda model, out: priory.draw(model, rows(), out),
}


@pytest.mark.parametrize("form", ["VAE", "module"])
def test_errors_about_gray_values_suggest_binarization(form):
    model, gray = forms()[form], torch.full((9, D), 0.25).double()
    if form == "module":
        model.decode = lambda z: Independent(Bernoulli(logits=model.decoder_network(z)), 1)
    words = r"x: expected values within the support of p\(x\|z\), .*, got 0.25; binarize the values"
    for use in (
        lambda: elbo(model, gray),
        lambda: evaluate(model, gray, num_samples=4),
        lambda: fit(model, gray, epochs=1),
    ):
        with pytest.raises(ValueError, match=words):
            use()


@pytest.mark.parametrize("use", USES)
def test_objects_that_are_not_models_are_refused(use, tmp_path):
    with pytest.raises(TypeError, match=r"model: .* got Linear without encode, latent_prior, decode; .*as_model"):
        USES[use](nn.Linear(2, 2), tmp_path)
    with pytest.raises(TypeError, match="got Own, which is a class, not an object"):
        USES[use](Own, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encode": 3}, "encode: expected a function or module, got int"),
        ({"prior": "vamp"}, "prior: expected a module that gives p"),
        ({"covariates": ()}, "covariates: expected a function"),
    ],
)
def test_as_model_refuses_arguments_of_another_type(changes, message):
    arguments = {"encode": loc, "decode": loc, "prior": StandardNormal(L)}
    with pytest.raises(TypeError, match=message):
        as_model(**arguments | changes)
