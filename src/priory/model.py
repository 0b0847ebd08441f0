"""The three methods of a latent-variable model, and the functions that call them.

Objectives, training, evaluation and maps use only these methods. So they work with `VAE`, with any other module that
has them, and with a model that `as_model` makes from functions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, constraints

from priory._support.tensors import require_tensor
from priory.distributions.chain import center_of

QUESTIONS = ("encode", "latent_prior", "decode")
AS_MODEL = "make one of functions with priory.as_model(encode=..., decode=..., prior=...)"


@runtime_checkable
class LatentVariableModel(Protocol):
    """p(x, z) = p(z) p(x | z) with an approximate posterior q(z | x).

    Two more attributes are optional. `covariates(x) -> dict[str, Tensor]` returns what p(x | z) conditions on besides
    z, such as the library size of a cell; its entries are passed to `decode` as keywords. `prior` is the module behind
    `latent_prior`; maps use its grid, and `guided_elbo` uses its guide.

    `fit`, `save` and `refit` need a `torch.nn.Module`, because they switch between training and evaluation mode. Batch
    norm and dropout are off in every evaluation, and while the library's priors encode pseudo-inputs. If you write a
    mixture of posteriors by hand, switch them off with `evaluation_mode`.

    >>> from priory import BernoulliDecoder, NormalEncoder, StandardNormal, VAE, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> isinstance(vae, LatentVariableModel)
    True
    """

    def encode(self, x: Float[Tensor, "*batch input"]) -> Distribution:
        """q(z | x), reparameterized, with batch shape (*batch) and event shape (L,)."""

    def latent_prior(self) -> Distribution:
        """p(z), evaluated once and used for any number of z, with batch shape () and event shape (L,)."""

    def decode(self, z: Float[Tensor, "*batch latent"]) -> Distribution:
        """p(x | z), with the batch shape (*batch) of z and the event shape of one row."""


@runtime_checkable
class ConditionalModel(Protocol):
    """p(x, z | c) with q(z | x, c): a `LatentVariableModel` once the context c of the rows is given.

    `fit`, `evaluate` and `log_likelihood` pass it the context of each batch, if the rows have one
    (`priory.rows.RowsWithContext`). The result has the attribute `context`, and its `latent_prior` returns p(z | c)
    with batch shape () or (B,).

    >>> from priory import ConditionalDecoder, ConditionalEncoder, ConditionalVAE, StandardNormal
    >>> from priory import BernoulliDecoder, NormalEncoder, mlp
    >>> encoder = ConditionalEncoder(NormalEncoder(mlp(6 + 3, [8], 4)))
    >>> decoder = ConditionalDecoder(BernoulliDecoder(mlp(2 + 3, [8], 6)))
    >>> isinstance(ConditionalVAE(encoder, decoder, StandardNormal(2)), ConditionalModel)
    True
    """

    def given(self, context: Float[Tensor, "*batch context"]) -> LatentVariableModel:
        """Return the model for rows with this context, (B, C), or for any number of rows with one context, (C,)."""


AnyModel: TypeAlias = LatentVariableModel | ConditionalModel


def given(model: Any, context: Tensor | None) -> Any:
    """Return the model given the context of some rows; without a context, return the model unchanged.

    Raises:
        TypeError: the model needs a context and got none, or takes no context and got one.
    """
    if context is not None and isinstance(model, ConditionalModel):
        return model.given(cast_like(context, model))
    if context is not None:
        raise TypeError(
            f"rows: expected rows without a context, because {type(model).__name__} has no method given(context), got "
            f"one of width {context.shape[-1]}; make a ConditionalVAE, or give the rows alone"
        )
    if isinstance(model, ConditionalModel):
        raise TypeError(
            f"rows: expected rows with a context, because {type(model).__name__} conditions on one, got none; give "
            "priory.with_context(rows, context), or model.given(context)"
        )
    return model


def require_model(model: Any, argument: str = "model", *, conditional: bool = False) -> Any:
    """Return the model, or raise a TypeError that names the methods that it lacks.

    With `conditional`, a `ConditionalModel` is accepted too.
    """
    if isinstance(model, ConditionalModel) and not isinstance(model, type):
        if conditional:
            return model
        raise TypeError(
            f"{argument}: expected a model of rows without a context, got {type(model).__name__}, which conditions on "
            "one; give model.given(context), with one context"
        )
    missing = [name for name in QUESTIONS if not callable(getattr(model, name, None))]
    if missing or isinstance(model, type):
        lacks = f" without {', '.join(missing)}" if missing else ", which is a class, not an object"
        raise TypeError(
            f"{argument}: expected a model with the methods encode(x), latent_prior() and decode(z), got "
            f"{model.__name__ if isinstance(model, type) else type(model).__name__}{lacks}; add them, or {AS_MODEL}"
        )
    return model


def posterior_of(model: LatentVariableModel, x: Float[Tensor, "*batch input"]) -> Distribution:
    """Return q(z | x).

    Raises:
        TypeError: x is not a tensor, or `encode` did not return a distribution.
        ValueError: the distribution is not over vectors.
    """
    require_tensor("x", x)
    return require_posterior("encode", model.encode(x))


def require_posterior(method: str, q: Any) -> Distribution:
    """Return q(z | x); raise an error that names the method if it returned anything else."""
    if not isinstance(q, Distribution):
        raise TypeError(
            f"{method}: expected a distribution q(z|x), got {_named(q)}; for a mean and a log-variance, return "
            "priory.diagonal_normal(mean, torch.exp(0.5 * log_variance))"
        )
    _require_vectors(method, q, "q")
    return q


def latent_prior_of(model: LatentVariableModel) -> Distribution:
    """Return p(z).

    Raises:
        TypeError: `latent_prior` did not return a distribution, or the model needs a context first.
        ValueError: the distribution is not over vectors, or its batch shape does not match the context that the model
            was given.
    """
    if isinstance(model, ConditionalModel):
        require_model(model)
    p_z = model.latent_prior()
    if not isinstance(p_z, Distribution):
        called = "; call the prior: return self.prior(self.encode)" if isinstance(p_z, nn.Module) else ""
        raise TypeError(f"latent_prior: expected a distribution p(z), got {_named(p_z)}{called}")
    _require_vectors("latent_prior", p_z, "p")
    context = context_of(model)
    if p_z.batch_shape and (context is None or p_z.batch_shape != context.shape[:-1]):
        expected = "" if context is None else f", or one for each of the {len(context)} contexts"
        raise ValueError(f"latent_prior: expected one density p(z){expected}, got batch shape {tuple(p_z.batch_shape)}")
    return p_z


def context_of(model: Any) -> Tensor | None:
    """Return the context that a model was given; None for models without one."""
    return getattr(model, "context", None)


def likelihood_of(
    model: LatentVariableModel, z: Float[Tensor, "*batch latent"], x: Tensor | None = None
) -> Distribution:
    """Return p(x | z), with the covariates of `x` if it is given.

    Raises:
        TypeError: `decode` did not return a distribution.
        ValueError: its batch shape differs from that of z, or its event shape from that of a row of x.
    """
    p_x = model.decode(z, **({} if x is None else covariates_of(model, x)))
    if not isinstance(p_x, Distribution):
        raise TypeError(
            f"decode: expected a distribution p(x|z), got {_named(p_x)}; for logits of binary columns, return "
            "torch.distributions.Independent(torch.distributions.Bernoulli(logits=logits), 1)"
        )
    batch, event = p_x.batch_shape, p_x.event_shape
    if batch != z.shape[:-1]:
        extra = len(batch) - z.ndim + 1
        cure = f"; wrap it: torch.distributions.Independent(p, {extra})" if extra > 0 else ""
        raise ValueError(
            f"decode: expected p(x|z) with the batch shape {tuple(z.shape[:-1])} of z, got batch shape {tuple(batch)} "
            f"and event shape {tuple(event)}{cure}"
        )
    if x is not None and x.shape[x.ndim - len(event) :] != event:
        raise ValueError(
            f"decode: expected p(x|z) over rows x of shape {tuple(x.shape[1:])}, got event shape {tuple(event)}"
        )
    return p_x


def log_prob_of_rows(p_x: Distribution, x: Tensor) -> Float[Tensor, "*batch"]:
    """Return log p(x | z), in nats.

    Raises:
        ValueError: rows have finite values outside the support of p(x | z).
    """
    try:
        return p_x.log_prob(x)
    except ValueError as error:
        if not str(error).startswith("Expected value argument") or not x.isfinite().all():
            raise
        base = p_x.base_dist if isinstance(p_x, Independent) else p_x
        support: Any = base.support
        inside = support.check(x)
        got = f", got {float(x[~inside][0]):g}" if inside.shape == x.shape and not inside.all() else ""
        binarize = "binarize the values (x.round(), or torch.bernoulli(x)), or "
        raise ValueError(
            f"x: expected values within the support of p(x|z), {type(base).__name__} over {support}{got}; "
            f"{binarize if support is constraints.boolean else ''}give the model a likelihood for such data"
        ) from None


def covariates_of(model: Any, x: Tensor) -> dict[str, Any]:
    """Return what p(x | z) conditions on besides z; nothing for most models."""
    covariates: Callable[[Tensor], dict[str, Any]] | None = getattr(model, "covariates", None)
    return {} if covariates is None else covariates(x)


def as_model(
    *,
    encode: Callable[[Tensor], Distribution],
    decode: Callable[..., Distribution],
    prior: nn.Module | Distribution,
    covariates: Callable[[Tensor], dict[str, Any]] | None = None,
    modules: Sequence[nn.Module] = (),
) -> "ComposedModel":
    """Make a `LatentVariableModel` from functions.

    Args:
        encode: from x (*batch, *input) to q(z | x).
        decode: from z (*batch, L) to p(x | z).
        prior: p(z), or a module that returns p(z) when it is called with `encode`, such as any prior of this package.
        covariates: from x to keyword arguments of `decode`.
        modules: modules that the functions use and `fit` should train. If the functions are modules or methods of
            modules, these are found without this argument.

    Raises:
        TypeError: an argument is not callable, or the prior is neither a module nor a distribution.

    >>> from priory import StandardNormal, diagonal_normal, evaluate
    >>> encoder, decoder = nn.Linear(6, 4), nn.Linear(2, 6)
    >>> def encode(x):
    ...     loc, log_variance = encoder(x).chunk(2, -1)
    ...     return diagonal_normal(loc, torch.exp(0.5 * log_variance))
    >>> def decode(z):
    ...     return torch.distributions.Independent(torch.distributions.Bernoulli(logits=decoder(z)), 1)
    >>> model = as_model(encode=encode, decode=decode, prior=StandardNormal(2), modules=[encoder, decoder])
    >>> sorted(evaluate(model, torch.rand(9, 6).round(), num_samples=4))[:2]
    ['active_units', 'aggregate_in_prior']
    """
    functions = {"encode": encode, "decode": decode} | ({} if covariates is None else {"covariates": covariates})
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"{name}: expected a function or module, got {_named(function)}")
    if not isinstance(prior, nn.Module | Distribution):
        raise TypeError(f"prior: expected a module that gives p(z) when it is called, or p(z), got {_named(prior)}")
    return ComposedModel(encode, decode, prior, covariates, modules)


class ComposedModel(nn.Module):
    """The model that `as_model` makes. Its parameters are those of the modules behind its functions."""

    def __init__(
        self,
        encode: Callable[[Tensor], Distribution],
        decode: Callable[..., Distribution],
        prior: nn.Module | Distribution,
        covariates: Callable[[Tensor], dict[str, Any]] | None,
        modules: Sequence[nn.Module],
    ) -> None:
        super().__init__()
        owners = [module for each in (encode, decode, covariates) if (module := owner(each)) is not None]
        known = dict.fromkeys([*owners, *modules, *([prior] if isinstance(prior, nn.Module) else [])])
        inside = {child for module in known for child in module.modules() if child is not module}
        self.parts = nn.ModuleList(module for module in known if module not in inside)
        # Set in `__dict__`, because nn.Module would register the modules in `parts` a second time.
        functions = {"encode": encode, "decode": decode} | ({} if covariates is None else {"covariates": covariates})
        self.__dict__.update(functions, prior=prior)

    encode: Callable[[Tensor], Distribution]
    decode: Callable[..., Distribution]
    prior: nn.Module | Distribution

    def constructor_arguments(self) -> dict[str, Any]:
        """Return the constructor arguments that are not attributes, for `priory.save`."""
        return {"covariates": self.__dict__.get("covariates"), "modules": tuple(self.parts)}

    def latent_prior(self) -> Distribution:
        """Evaluate p(z) once, in evaluation mode: a prior cannot switch the mode of the modules behind a function."""
        if isinstance(self.prior, Distribution):
            return self.prior
        with evaluation_mode(self):
            return self.prior(self.encode)


def owner(function: object) -> nn.Module | None:
    """Return the function itself if it is a module, or the module that it is a method of; None for other functions."""
    module = function if isinstance(function, nn.Module) else getattr(function, "__self__", None)
    return module if isinstance(module, nn.Module) else None


@torch.no_grad()
def sample(model: LatentVariableModel, sample_shape: int | Sequence[int] = (), *, mean: bool = False) -> Tensor:
    """Draw x from p(z) p(x|z). With `mean`, return E[x|z] instead of a draw of x, as figures in papers do.

    If the model was given contexts (B, C), draw for each of the B contexts.
    """
    shape = (sample_shape,) if isinstance(sample_shape, int) else tuple(sample_shape)
    with evaluation_mode(model):
        p_z, context = latent_prior_of(model), context_of(model)
        if context is not None and not p_z.batch_shape:  # all contexts have the same p(z)
            shape = (*shape, *context.shape[:-1])
        p_x = likelihood_of(model, p_z.sample(torch.Size(shape)))
    return p_x.mean if mean else p_x.sample()


@torch.no_grad()
def reconstruct(model: LatentVariableModel, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch input"]:
    """Return E[x | z] at z = E[z | x]; if q(z | x) is a `Chain`, at its center."""
    with evaluation_mode(model):
        return likelihood_of(model, center_of(posterior_of(model, x)), x).mean


def device_of(model: Any) -> torch.device:
    """Return the device of the model's first parameter; the CPU if it has none."""
    parameter = _first_parameter(model)
    return torch.device("cpu") if parameter is None else parameter.device


def cast_like(x: Tensor, model: Any) -> Tensor:
    """Return x on the device and in the dtype of the model's first parameter; unchanged if there are no parameters."""
    parameter = _first_parameter(model)
    return x if parameter is None else x.to(parameter)


def _first_parameter(model: Any) -> nn.Parameter | None:
    return next(model.parameters(), None) if isinstance(model, nn.Module) else None


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Switch all submodules to evaluation mode inside the block, and back to their own modes afterwards.

    For a method of a module, the module is switched. Other objects have no mode, so nothing happens.

    >>> dropout = nn.Dropout()
    >>> with evaluation_mode(dropout):
    ...     dropout.training
    False
    >>> dropout.training
    True
    """
    module = owner(model)
    training = [] if module is None else [m for m in module.modules() if m.training]
    try:
        for m in training:
            m.training = False
        yield
    finally:
        for m in training:
            m.training = True


@contextmanager
def frozen(model: Any, prior: nn.Module) -> Iterator[None]:
    """Switch off gradients of all parameters except those of `prior` inside the block; pseudo-inputs keep theirs.

    >>> encoder, prior = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> with frozen(nn.Sequential(prior, encoder), prior):
    ...     encoder(prior(torch.zeros(2))).sum().backward()
    >>> encoder.weight.grad is None, prior.bias.grad is None
    (True, False)
    """
    own = set(prior.parameters())
    everything = model.parameters() if isinstance(model, nn.Module) else ()
    learned = [p for p in everything if p.requires_grad and p not in own]
    for p in learned:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learned:
            p.requires_grad_(True)


def _require_vectors(method: str, distribution: Distribution, letter: str) -> None:
    if len(distribution.event_shape) != 1:
        kind = type(distribution).__name__
        cure = f"; wrap it: torch.distributions.Independent({letter}, 1)" if not distribution.event_shape else ""
        raise ValueError(
            f"{method}: expected a distribution over vectors (event shape (L,)), got {kind} with batch shape "
            f"{tuple(distribution.batch_shape)} and event shape {tuple(distribution.event_shape)}{cure}"
        )


def _named(value: object) -> str:
    """Return the type of a value as words; for a tuple or list, also the types of its items."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} ({', '.join(type(each).__name__ for each in value)})"
    return type(value).__name__
