"""`save` and `load`: models are identical to the bit, nothing is unpickled, and errors have one clear line."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn
from torch.distributions import Independent, MixtureSameFamily, MultivariateNormal, Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform, ComposeTransform, TanhTransform

import priory
from family import MEMBERS, OTHERS, Residual, small_vae
from priory import (
    GTM,
    VAE,
    BernoulliDecoder,
    CategoricalDecoder,
    ConvolutionalDecoderNetwork,
    ConvolutionalEncoderNetwork,
    DensityPrior,
    DiscretizedLogisticDecoder,
    FlowPrior,
    GaussianDecoder,
    GTMPrior,
    GTMVampPrior,
    LogNormalize,
    MixtureOfGaussians,
    NegativeBinomialDecoder,
    NormalEncoder,
    Rescale,
    Standardize,
    StandardNormal,
    VampPrior,
    as_model,
    diagonal_normal,
    elbo,
    evaluate,
    gated_mlp,
    latent_grid,
    mlp,
)
from priory.priors.flow import import_zuko
from priory.saving import RECIPE, WEIGHTS

SIDE, L = 5, 2
D = SIDE * SIDE
CODE_OF_OTHERS = {"family:StudentMixture", "family:ExemplarPrior", "plain mixture", "plain flow"}


def vae_of(prior=None, decoder=None, encoder=None, preprocess=None) -> VAE:
    encoder = NormalEncoder(mlp(D, [4], 2 * L)) if encoder is None else encoder
    decoder = BernoulliDecoder(mlp(L, [4], D)) if decoder is None else decoder
    return VAE(encoder, decoder, StandardNormal(L) if prior is None else prior, preprocess)


def shared_module() -> VAE:
    """Return a VAE whose decoder and prior share their last layer."""
    last = nn.Linear(4, D)
    prior = GTMVampPrior(latent_grid(3), nn.Sequential(nn.Linear(2, 4), last))
    return vae_of(prior, BernoulliDecoder(nn.Sequential(nn.Linear(L, 4), last)))


def twice(activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(D, 4), activation, nn.Linear(4, 4), activation, nn.Linear(4, 2 * L))


def tied_weights() -> VAE:
    """Return a VAE with two decoder layers that share a weight."""
    network = mlp(L, [4, 4, 4], D, activation=nn.Tanh)
    network[4].weight = network[2].weight
    return vae_of(decoder=BernoulliDecoder(network))


def iris_prior(kind):
    x = torch.tensor(load_iris().data, dtype=torch.float32)
    gtm = GTM(points_per_side=4, tether=0).fit(x.double().numpy())
    preprocess = Standardize.from_data(x)
    decoder = GaussianDecoder.from_data(mlp(4 if kind is GTMPrior else L, [4], 4), x)
    if kind is GTMPrior:
        return VAE(NormalEncoder(mlp(4, [4], 8)), decoder, GTMPrior.from_gtm(gtm), preprocess)
    prior = GTMVampPrior.from_gtm(gtm, preprocess=preprocess, learn_pseudo_inputs=False)
    return VAE(NormalEncoder(mlp(4, [4], 2 * L)), decoder, prior, preprocess)


def composed() -> nn.Module:
    vae = vae_of()
    return as_model(encode=vae.encode, decode=vae.decode, prior=MixtureOfGaussians(L, 3), modules=[nn.Linear(2, 2)])


def convolutional(**options) -> VAE:
    encoder = ConvolutionalEncoderNetwork((SIDE, SIDE), 2 * L, channels=(3, 4), **options)
    decoder = ConvolutionalDecoderNetwork((SIDE, SIDE), L, 2, channels=(4, 3), **options)
    return vae_of(None, DiscretizedLogisticDecoder(decoder, num_levels=16), NormalEncoder(encoder), Rescale(0, 15))


ROWS = torch.randint(2, (7, D), generator=torch.Generator().manual_seed(0)).float()
GUIDE = priory.Guide(torch.rand(9, D), 0.1, torch.arange(9.0))
MODELS = {
    "convolutions": convolutional,
    "no convolutions": lambda: vae_of(
        encoder=NormalEncoder(ConvolutionalEncoderNetwork((SIDE, SIDE), 2 * L, channels=()))
    ),
    "convolutions with another activation": lambda: convolutional(activation=lambda: nn.LeakyReLU(0.3)),
    "gated": lambda: vae_of(encoder=NormalEncoder(gated_mlp(D, [4], 2 * L), None, input_noise=0.1)),
    "categorical": lambda: vae_of(decoder=CategoricalDecoder(mlp(L, [], 3 * D), 3)),
    "counts": lambda: vae_of(
        VampPrior(torch.rand(4, D), low=0.0),
        NegativeBinomialDecoder(mlp(L, [], D), ROWS.sum(-1)),
        None,
        LogNormalize(3.0),
    ),
    "noise for each datum": lambda: vae_of(
        decoder=GaussianDecoder(mlp(L, [], 2 * D), 0.5, 2.0, learn_scale="per-datum")
    ),
    "fixed pseudo-inputs": lambda: vae_of(
        VampPrior(torch.rand(4, D), low=0.0, high=1.0, learn_pseudo_inputs=False, learn_weights=False)
    ),
    "guide": lambda: vae_of(GTMVampPrior(latent_grid(3), mlp(2, [3], D), low=0.0, high=1.0, guide=GUIDE)),
    "lower bound": lambda: vae_of(GTMVampPrior(latent_grid(3), mlp(2, [3], D), low=0.0, scale=3.0)),
    "one component": lambda: vae_of(MixtureOfGaussians(L, 1)),
    "splines": lambda: vae_of(FlowPrior.spline(L, 2, (8,), num_bins=4)),
    "GTM as prior": lambda: iris_prior(GTMPrior),
    "GTM as start": lambda: iris_prior(GTMVampPrior),
    "learned density": lambda: vae_of(
        DensityPrior(Independent(Normal(nn.Parameter(torch.randn(L)), nn.Parameter(torch.rand(L))), 1))
    ),
    "torch's mixture": lambda: vae_of(
        DensityPrior(
            MixtureSameFamily(
                torch.distributions.Categorical(logits=torch.randn(3)),
                diagonal_normal(torch.randn(3, L), torch.ones(3, L)),
            )
        )
    ),
    "transformed density": lambda: vae_of(
        DensityPrior(
            TransformedDistribution(
                diagonal_normal(torch.zeros(L), torch.ones(L)),
                [
                    AffineTransform(torch.ones(L), 0.1, event_dim=1).inv,
                    ComposeTransform([TanhTransform(), TanhTransform().inv]).inv,
                ],
            )
        )
    ),
    "functions of a VAE": composed,
    "modules as functions": lambda: as_model(
        encode=NormalEncoder(mlp(D, [], 2 * L)), decode=BernoulliDecoder(mlp(L, [], D)), prior=StandardNormal(L)
    ),
    "a distribution as prior": lambda: as_model(
        encode=NormalEncoder(mlp(D, [], 2 * L)),
        decode=BernoulliDecoder(mlp(L, [], D)),
        prior=MultivariateNormal(torch.ones(L), 2 * torch.eye(L)),
    ),
    "a module used twice": shared_module,
    "a parameter in two modules": tied_weights,
    "an activation used twice": lambda: vae_of(encoder=NormalEncoder(twice(nn.Tanh()))),
    "torch's layers": lambda: vae_of(
        encoder=NormalEncoder(
            nn.Sequential(
                nn.Unflatten(-1, (1, SIDE, SIDE)),
                nn.Conv2d(1, 2, 3, padding="same", bias=False),
                nn.BatchNorm2d(2),
                nn.MaxPool2d(2),
                nn.PReLU(2),
                nn.Flatten(-3),
                nn.LayerNorm(8, bias=False),
                nn.Dropout(0.3),
                nn.Linear(8, 2 * L),
            )
        )
    ),
}


def numbers(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def same_numbers(one: nn.Module, two: nn.Module) -> bool:
    """Return whether two models have the same numbers to the bit; also check dtypes, `requires_grad` and strides.

    The memory format of convolutions (strides) decides the last bits of their results, and their speed.
    """
    assert numbers(one).keys() == numbers(two).keys()
    pairs = list(zip(numbers(one).values(), numbers(two).values(), strict=True))
    for name in ("dtype", "requires_grad"):
        assert all(getattr(a, name) == getattr(b, name) for a, b in pairs)
    assert all(a.stride() == b.stride() for a, b in pairs)
    return all(torch.equal(a, b) for a, b in pairs)


def equal(one: nn.Module, two: nn.Module, x: torch.Tensor) -> bool:
    """Return whether two models have the same numbers and the same bound, to the bit."""
    bounds = []
    for model in (one, two):
        torch.manual_seed(0)
        with torch.no_grad():
            bounds.append(torch.stack(elbo(model, x)))
    return torch.equal(*bounds) and same_numbers(one, two)


def reloaded(model: nn.Module, folder: Path) -> nn.Module:
    assert priory.save(model, folder) is None
    return priory.load(folder)


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_is_the_same_to_the_bit(name, tmp_path):
    torch.manual_seed(1)
    model = MODELS[name]().eval()
    x = torch.tensor(load_iris().data[:7], dtype=torch.float32) if name.startswith("GTM") else ROWS
    again = reloaded(model, tmp_path)
    assert equal(model, again, x)
    assert repr(again) == repr(model)
    assert not any(module.training for module in again.modules())


@pytest.mark.parametrize("prior", [*MEMBERS, *OTHERS])
def test_a_saved_model_with_any_prior_is_the_same_to_the_bit(prior, tmp_path):
    model, x = small_vae(prior)
    if prior in CODE_OF_OTHERS:
        note = priory.save(model, tmp_path)
        assert re.search(r"model\.prior.* is a \w+, which is not a class .*into=my_model", note)
        with pytest.raises(ValueError, match=r"expected a recipe .* got none: model\.prior.*into=my_model"):
            priory.load(tmp_path)
        assert equal(model, priory.load(tmp_path, into=scrambled(small_vae(prior)[0])), x)
    else:
        assert equal(model, reloaded(model, tmp_path), x)


def scrambled(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.data.normal_()
    return model


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["convolutions", "guide", "fixed pseudo-inputs", "one component", "splines"])
def test_saving_keeps_the_dtype_of_each_number(name, dtype, tmp_path):
    model = MODELS[name]().to(dtype).eval()
    again = reloaded(model, tmp_path)
    for other in (again, priory.load(tmp_path, into=MODELS[name]())):
        assert same_numbers(model, other)
        assert dtype != torch.float64 or equal(model, other, ROWS.to(dtype))


def test_a_parameter_in_two_modules_remains_shared(tmp_path):
    again = reloaded(tied_weights(), tmp_path).decoder.network
    assert again[2].weight is again[4].weight


def test_a_module_used_twice_remains_shared(tmp_path):
    again = reloaded(shared_module(), tmp_path)
    assert again.prior.network[1] is again.decoder.network[1]


def test_a_part_of_a_model_can_be_saved(tmp_path):
    encoder = NormalEncoder(mlp(3, [4], 4))
    assert torch.equal(reloaded(encoder, tmp_path)(torch.ones(3)).mean, encoder(torch.ones(3)).mean)


def test_statistics_of_batch_norm_are_saved(tmp_path):
    model = MODELS["torch's layers"]()
    for _ in range(3):
        elbo(model, torch.rand(9, D).round())
    assert equal(model.eval(), reloaded(model, tmp_path), ROWS)


def test_loading_does_not_change_the_generator(tmp_path):
    priory.save(vae_of(), tmp_path)
    torch.manual_seed(0)
    priory.load(tmp_path)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if name != "modules as functions"])
def test_saving_does_not_change_the_model(name, tmp_path):
    model = MODELS[name]()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    priory.save(model, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes


class OwnVAE(nn.Module):
    """A hand-written model."""

    def __init__(self, hidden: int = 4, scale: float = 1.0) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(D, [hidden], 2 * L), mlp(L, [hidden], D)
        self.prior = VampPrior(torch.rand(3, D), low=0.0, high=1.0)
        self.register_buffer("cache", torch.full((), scale), persistent=False)

    def encode(self, x):
        loc, log_variance = self.encoder(x).chunk(2, -1)
        return diagonal_normal(loc, torch.exp(0.5 * log_variance))

    def latent_prior(self):
        return self.prior(self.encode)

    def decode(self, z):
        return Independent(torch.distributions.Bernoulli(logits=self.decoder(z)), 1)


def test_the_numbers_of_a_handwritten_model_can_be_loaded_into_another(tmp_path):
    model = OwnVAE(scale=2.0)
    assert priory.save(model, tmp_path).startswith("model is a OwnVAE, which is not a class that priory.load builds; ")
    other = OwnVAE()
    assert priory.load(tmp_path, into=other) is other
    assert equal(model, other, ROWS)
    assert torch.equal(evaluate(other, ROWS, num_samples=2).per_row["nll"].isfinite(), torch.ones(7, dtype=torch.bool))


def test_loading_into_a_model_does_not_use_the_recipe(tmp_path):
    model = vae_of()
    priory.save(model, tmp_path)
    assert equal(model.eval(), priory.load(tmp_path, into=scrambled(vae_of())), ROWS)


def test_loading_into_a_model_keeps_its_parameter_objects(tmp_path):
    """So an optimizer that was made before remains valid."""
    priory.save(vae_of(), tmp_path)
    other = vae_of().double()
    before = list(other.parameters())
    assert all(a is b for a, b in zip(before, priory.load(tmp_path, into=other).parameters(), strict=True))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: OwnVAE(hidden=5), r"other shapes: decoder\.0\.bias \(4,\) in the file, \(5,\) in the model"),
        (
            lambda: vae_of(StandardNormal(L)),
            r"the file lacks decoder\.network\.0\.bias, .*; the model lacks decoder\.0\.bias",
        ),
        (lambda: nn.Sequential(OwnVAE()), r"the model lacks decoder\.0\.bias, .*"),
    ],
)
def test_an_error_names_the_numbers_of_another_model(other, message, tmp_path):
    priory.save(OwnVAE(), tmp_path)
    model = other()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        priory.load(tmp_path, into=model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda vae: setattr(vae, "preprocess", Residual(D, D)), r"model\.preprocess is a Residual"),
        (lambda vae: setattr(vae, "prior", FlowPrior(import_zuko().flows.NSF(L))), r"model\.prior\.flow is a NSF"),
        (lambda vae: vae.decoder.network.append(nn.GRU(D, D)), r"model\.decoder\.network\.3 is not a torch\.nn\.GRU"),
        (
            lambda vae: setattr(vae, "preprocess", nn.ParameterDict({"a": torch.rand(2)})),
            r"the model lacks preprocess\.a",
        ),
        (lambda vae: setattr(vae.decoder, "extra", nn.Linear(2, 2)), r"the file lacks|the model lacks decoder\.extra"),
        (lambda vae: nn.utils.parametrizations.weight_norm(vae.decoder.network[0]), r"network\.0 is a Parametrized"),
        (lambda vae: setattr(vae, "__class__", type("Mine", (VAE,), {})), "model is a Mine"),
    ],
)
def test_a_part_that_cannot_be_described_is_reported_and_the_numbers_are_saved(change, message, tmp_path):
    def changed() -> VAE:
        change(model := vae_of())
        return model

    model = changed()
    assert re.search(message, priory.save(model, tmp_path))
    other = priory.load(tmp_path, into=changed())
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in other.state_dict().items())


def edited(folder: Path, **changes) -> None:
    tree = json.loads((folder / RECIPE).read_text()) | changes
    (folder / RECIPE).write_text(json.dumps(tree))


LINEAR = {"class": "torch.nn.Linear", "arguments": {"in_features": D, "out_features": 2 * L}}
DAMAGES = {
    "no recipe": (lambda folder: (folder / RECIPE).unlink(), r"model\.json"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), r"weights\.safetensors"),
    "half of the recipe": (lambda folder: (folder / RECIPE).write_text("{"), "expected JSON"),
    "another JSON": (lambda folder: (folder / RECIPE).write_text("[]"), "expected a file that priory.save wrote"),
    "half of the weights": (
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9]),
        r"weights\.safetensors: expected the file that was written together with model\.json",
    ),
    "a later format": (lambda folder: edited(folder, format=2, priory="9.0"), "expected format 1, got 2, .*priory 9.0"),
    "an unknown class": (
        lambda folder: edited(folder, model={"class": "torch.nn.Linaer", "arguments": {}}),
        r"model: unknown class torch\.nn\.Linaer; did you mean torch\.nn\.Linear\?",
    ),
    "code": (
        lambda folder: edited(folder, model={"class": "os.system", "arguments": {"command": "true"}}),
        "unknown class",
    ),
    "an unknown argument": (
        lambda folder: edited(folder, model={"class": "torch.nn.Linear", "arguments": {"width": 3}}),
        r"model is not a torch\.nn\.Linear that can be built: .*'width'",
    ),
    "another model": (
        lambda folder: edited(folder, model={"class": "priory.NormalEncoder", "arguments": {"network": LINEAR}}),
        r"the file lacks network\.bias, network\.weight; the model lacks decoder\.network",
    ),
    "another network": (
        lambda folder: edited(
            folder,
            model=json.loads((folder / RECIPE).read_text().replace('"in_features": 25', '"in_features": 24'))["model"],
        ),
        r"other shapes: encoder\.network\.0\.weight \(4, 25\) in the file, \(4, 24\) in the model",
    ),
    "no such tensor": (
        lambda folder: edited(folder, model={"class": "priory.RadialBasis", "arguments": {"centers": {"tensor": "a"}}}),
        "expected a recipe that can be built",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_gives_an_error_of_one_line(name, tmp_path):
    priory.save(vae_of(), tmp_path)
    damage, message = DAMAGES[name]
    damage(tmp_path)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        priory.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt; give another folder, or replace=True"):
        priory.save(vae_of(), tmp_path)
    assert os.listdir(tmp_path) == ["notes.txt"]
    model = vae_of()
    priory.save(model, tmp_path, replace=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert equal(model.eval(), priory.load(tmp_path), ROWS)


def test_saving_replaces_an_earlier_model(tmp_path):
    priory.save(vae_of(), tmp_path / "new" / "folder")
    model = vae_of(MixtureOfGaussians(L, 2)).eval()
    assert equal(model, reloaded(model, tmp_path / "new" / "folder"), ROWS)
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == [RECIPE, WEIGHTS]


@pytest.mark.parametrize("method", ["write_text", "write_bytes"])
def test_a_full_disk_leaves_the_earlier_model(method, tmp_path, monkeypatch):
    before = vae_of().eval()
    priory.save(before, tmp_path)

    def full(path: Path, *content, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, method, full)
        with pytest.raises(OSError, match=r"cannot be written .*free space on the disk"):
            priory.save(vae_of(), tmp_path)
    assert equal(before, priory.load(tmp_path), ROWS)
    assert sorted(os.listdir(tmp_path)) == [RECIPE, WEIGHTS]


def test_files_of_two_models_are_refused(tmp_path):
    """A crash between the two renamings may leave such files."""
    priory.save(vae_of(), tmp_path / "one")
    priory.save(vae_of(), tmp_path / "two")
    os.replace(tmp_path / "one" / WEIGHTS, tmp_path / "two" / WEIGHTS)
    with pytest.raises(ValueError, match=r"expected the file that was written together with model\.json"):
        priory.load(tmp_path / "two")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "model").write_text("")
    with pytest.raises(FileExistsError, match="expected a folder, got the file"):
        priory.save(vae_of(), tmp_path / "model")


def test_files_of_the_same_model_are_identical(tmp_path):
    model = vae_of()
    for name in "ab":
        priory.save(model, tmp_path / name)
    for file in (RECIPE, WEIGHTS):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(("model", "kind"), [(GTM(), "GTM"), (Normal(0.0, 1.0), "Normal"), ({}, "dict")])
def test_objects_that_are_not_modules_are_refused(model, kind, tmp_path):
    own = r"; a GTM has a method save\(path\)" if kind == "GTM" else ""
    with pytest.raises(TypeError, match=f"model: expected a torch.nn.Module, got {kind}{own}$"):
        priory.save(model, tmp_path)
    with pytest.raises(TypeError, match=f"into: expected a torch.nn.Module, got {kind}"):
        priory.load(tmp_path, into=model)


@pytest.mark.slow
def test_loading_needs_torch_and_safetensors_only(tmp_path):
    priory.save(vae_of(FlowPrior.coupling(L)), tmp_path)
    blocked = ["lightning", "sklearn", "scipy", "pandas", "typer", "rich", "pydantic", "matplotlib", "anndata"]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import priory; priory.load({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_error_names_the_extra_if_safetensors_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ImportError, match=r"priory\.save needs safetensors, .*\[train\]"):
        priory.save(vae_of(), tmp_path)
