"""`refit`: fit a new prior to a trained encoder and decoder, which do not change by a bit."""

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import Distribution

from priory._support.seeds import own_noise
from priory._support.settings import settings_from
from priory.distributions.chain import Chain, top_level
from priory.distributions.normal import diagonal_normal, is_diagonal_normal
from priory.model import (
    AnyModel,
    ConditionalModel,
    as_model,
    cast_like,
    device_of,
    evaluation_mode,
    frozen,
    given,
    latent_prior_of,
    posterior_of,
    require_model,
)
from priory.priors import Prior
from priory.priors.base import log_prior_of
from priory.rows import Rows, RowsLike, as_rows, context_at, read_with_context
from priory.training.exemplars import exemplars_attached, exemplars_left_out, refresh_exemplars, require_own_exemplars
from priory.training.failures import REFUSALS
from priory.training.settings import SYNONYMS, RefitSettings
from priory.vae import VAE, ConditionalVAE, feature_encoder, features_of

# Limits of expectation maximization, which holds all draws in memory. Within them it takes seconds.
MOST_DRAWS = 100_000
MOST_DRAWS_PER_ROW = 10
MOST_ROWS = 20_000
MOST_VALUES = 2**27  # in the rows; a gigabyte in float64
ROWS_AT_ONCE = 1024  # in the encoder
MOST_VALIDATION_VALUES = 2**24  # in the draws of z for validation, which are the same in all epochs


class Refitted(NamedTuple):
    """Result of `refit`.

    Attributes:
        model: the same encoder and decoder objects with the new prior, in evaluation mode: a `VAE` if the model is one,
            else the result of `as_model` for the model's methods.
        by_em: whether the prior was fitted by expectation maximization before the gradient steps.
        course: E_q [log p(z)] of the validation rows in nats, before the first epoch and after each.
        best: index in `course` of the prior's final weights.
    """

    model: Any
    by_em: bool
    course: list[float]
    best: int

    def __repr__(self) -> str:
        model, by_em, course, best = self
        return (
            f"Refitted({type(model.prior).__name__}, by_em={by_em}, E log p(z): {course[0]:.2f} to {course[best]:.2f} "
            f"nats, best epoch {best} of {len(course) - 1})"
        )


def refit(
    model: AnyModel,
    prior: Prior,
    train: RowsLike,
    valid: RowsLike | None = None,
    *,
    settings: RefitSettings | None = None,
    seed: int | None = None,
    progress: Callable[[int], None] | None = None,
    **overrides: Any,
) -> Refitted:
    """Fit a prior to the aggregate posterior of a trained model, whose encoder and decoder do not change.

        maximize over p:    1/N sum_n E_{q(z|x_n)} [log p(z)]

    This is the only term of the evidence lower bound that depends on the prior. Its maximum is the aggregate posterior
    1/N sum_n q(z|x_n). If the prior has closed steps for it (`Prior.fit_by_em`: mixtures of Gaussians, a GTM of radial
    functions), expectation maximization on draws of z comes first. Then Adam changes only the prior's parameters: the
    decoder is not used, the posteriors are computed once, and each step draws z again. The prior gets the weights with
    the best validation, which can be the weights before the first epoch.

    Args:
        model: has the methods `encode`, `latent_prior` and `decode`, as a `VAE` has. `encode` returns diagonal normals,
            or chains of them as a `HierarchicalEncoder` does. The model's own prior does not change. Pseudo-inputs of
            the new prior are read by the encoder of a `VAE`, or by `encode` of another model.
        prior: the new prior with its initial weights; it is fitted in place.
        train: training rows, as in `fit`.
        valid: validation rows, as in `fit`; None validates with the training rows.
        settings: how to fit; the defaults of `RefitSettings` if None.
        seed: seed of all noise; None uses torch's global generator as it is.
        progress: called with the number of epochs done.
        **overrides: single settings, such as `epochs=20`.

    Raises:
        TypeError: there is no such setting; rows are of another type, a method of the model is missing, or the encoder
            returns another distribution than a diagonal normal.
        ValueError: rows have the wrong shape, or the prior has another latent dimension.
        ArithmeticError: the prior's density became NaN or infinite.

    Reference: Hoffman & Johnson 2016, ELBO surgery; Ghosh et al. 2020, arXiv:1903.12436, sec. 4 (ex-post densities).

    >>> from priory import BernoulliDecoder, MixtureOfGaussians, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> refitted = refit(vae, MixtureOfGaussians(2, 3), torch.rand(50, 6).round(), seed=0, epochs=5)
    >>> refitted.by_em, type(refitted.model.prior).__name__, refitted.model.encoder is vae.encoder
    (True, 'MixtureOfGaussians', True)
    """
    chosen = settings_from(RefitSettings, settings, overrides, refit, SYNONYMS)
    require_model(model, conditional=True)
    rows = as_rows(train, "train")
    valid_rows = rows if valid is None else as_rows(valid, "valid")
    given(model, context_at(rows, torch.zeros(1, dtype=torch.int64)))  # fails early if model and rows do not match
    fitted = _with_prior(model, prior.to(device_of(model)))
    if type(prior).refit_loss is Prior.refit_loss:  # a prior with its own loss does not change its base
        require_own_exemplars(fitted)
    noise = nullcontext() if seed is None else own_noise(seed, device_of(model))
    with noise, frozen(model, prior), evaluation_mode(fitted), exemplars_attached(fitted, rows):
        refresh_exemplars(fitted)
        fitting = _Fitting(fitted, prior, Posteriors(model, rows), Posteriors(model, valid_rows), chosen)
        numbers, z = fitting.train.many_draws()
        with exemplars_left_out(fitted, numbers):
            by_em = prior.fit_by_em(z, partial(_features, model, rows), seed=seed or 0)
        fitting.run(progress)
    fitted.eval()
    return Refitted(fitted, by_em, fitting.course, fitting.best)


def _with_prior(model: AnyModel, prior: Prior) -> nn.Module:
    """Return a model with the same encoder and decoder, and this prior."""
    if isinstance(model, VAE | ConditionalVAE):
        return type(model)(model.encoder, model.decoder, prior, model.preprocess)
    if isinstance(model, ConditionalModel):
        raise TypeError(f"model: expected a ConditionalVAE or a model without a context, got {type(model).__name__}")
    with torch.no_grad(), evaluation_mode(model):
        latent_dim = latent_prior_of(model).event_shape[0]
    if prior.latent_dim not in (None, latent_dim):
        raise ValueError(f"prior: expected {latent_dim} latent dimensions, as in the model, got {prior.latent_dim}")
    covariates = getattr(model, "covariates", None)
    return as_model(encode=model.encode, decode=model.decode, prior=prior, covariates=covariates)


class Posteriors:
    """q(z|x_n) of all rows, encoded once, or in each epoch if the rows are binarized at random."""

    def __init__(self, model: Any, rows: Rows) -> None:
        self._model, self._rows = model, rows
        self.changes = getattr(rows, "dynamic_binarization", False)
        self.encode()

    def __len__(self) -> int:
        return len(self.loc)

    @torch.no_grad()
    def encode(self) -> None:
        parts = []
        chunks = torch.arange(len(self._rows)).split(ROWS_AT_ONCE)
        for x, numbers, context in read_with_context(self._rows, chunks):
            x = cast_like(x, self._model)
            q = posterior_of(given(self._model, context), torch.bernoulli(x) if self.changes else x)
            top, features = top_level(q), getattr(q, "features", None)
            if not is_diagonal_normal(top) or (top is not q and features is None):
                raise TypeError(
                    f"model: refit expects an encoder that returns Independent(Normal, 1), got {type(q).__name__}; use "
                    "NormalEncoder or HierarchicalEncoder, or fit the prior in a loop of your own: "
                    "loss = -prior(encoder).log_prob(z).mean()"
                )
            parts.append((top.mean, top.stddev, numbers, *([] if features is None else [features])))
        self._q: Any = q
        columns = (torch.cat(column) for column in zip(*parts, strict=True))
        self.loc, self.scale, self.numbers, *self._features = columns

    def prior(self, model: Any, positions: Tensor) -> Distribution:
        """Evaluate p(z) of a model, or p(z | c) of the rows at these positions."""
        return latent_prior_of(given(model, context_at(self._rows, positions)))

    def draws(self, positions: Tensor | slice, number: int) -> Float[Tensor, "draw datum latent"]:
        """Draw z from q(z|x) of the rows at these positions."""
        loc, scale = self.loc[positions], self.scale[positions]
        if isinstance(self._q, Chain):
            features = self._features[0][positions]
            chain = Chain(diagonal_normal(loc, scale), self._q.conditional, self._q.levels[1:], features)
            return chain.sample((number,))
        return loc + scale * torch.randn(number, *loc.shape, dtype=loc.dtype, device=loc.device)

    def many_draws(self) -> tuple[Int[Tensor, " row"], Float[Tensor, "draw latent"]]:
        """Draw z for expectation maximization, from at most `MOST_DRAWS` rows; return their numbers and the draws."""
        number = min(MOST_DRAWS_PER_ROW, math.ceil(MOST_DRAWS / len(self)))
        positions = torch.randperm(len(self))[:MOST_DRAWS]
        return self.numbers[positions], self.draws(positions, number).flatten(0, 1)


def _features(model: AnyModel, rows: Rows) -> Tensor:
    """Return the rows in the form of pseudo-inputs; if there are very many, a random part of them."""
    columns = rows.batch(torch.zeros(1, dtype=torch.int64))[0].numel()
    x, _ = rows.batch(torch.randperm(len(rows))[: min(MOST_ROWS, max(1, MOST_VALUES // columns))])
    with torch.no_grad():
        return features_of(model, cast_like(x, model))


class _Fitting:
    """Gradient steps on a prior, and their validation."""

    def __init__(self, model: Any, prior: Prior, train: Posteriors, valid: Posteriors, settings: RefitSettings) -> None:
        self.model, self.prior, self.train, self.settings = model, prior, train, settings
        number = min(settings.validation_draws, max(1, MOST_VALIDATION_VALUES // valid.loc.numel()))
        self.valid, self.valid_draws = valid, valid.draws(slice(None), number)
        self.course: list[float] = []
        self.best = 0
        self.parameters = [p for p in prior.parameters() if p.requires_grad]

    def run(self, progress: Callable[[int], None] | None) -> None:
        """Fit until the validation has not improved for `patience` epochs, and restore the best weights."""
        self._validate()
        if not self.parameters:
            return
        weights = copy.deepcopy(self.prior.state_dict())
        optimizer = torch.optim.Adam(self.parameters, self.settings.learning_rate)
        for epoch in range(1, self.settings.epochs + 1):
            try:
                self._epoch(optimizer)
                better = self._validate()
            except ValueError as error:  # torch's distributions reject NaN
                if not str(error).startswith(REFUSALS):
                    raise
                raise self._diverged("NaN") from error
            if better:
                weights = copy.deepcopy(self.prior.state_dict())
            if progress is not None:
                progress(epoch)
            if self.settings.patience is not None and epoch - self.best >= self.settings.patience:
                break
        self.prior.load_state_dict(weights)

    def _epoch(self, optimizer: torch.optim.Optimizer) -> None:
        if self.train.changes:
            self.train.encode()
        self.prior.train()
        for positions in torch.randperm(len(self.train)).split(self.settings.batch_size):
            z = self.train.draws(positions, self.settings.draws)
            with exemplars_left_out(self.model, self.train.numbers[positions]):
                loss = self.prior.refit_loss(self.train.prior(self.model, positions), z)
            if (log_prior := log_prior_of(self.prior, feature_encoder(self.model))) is not None:
                loss = loss - log_prior
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.prior.eval()

    @torch.no_grad()
    def _validate(self) -> bool:
        """Append E_q [log p(z)] of the validation rows to the course, and return whether it is the best."""
        p_z = self.valid.prior(self.model, torch.arange(len(self.valid)))
        score = float(torch.stack([p_z.log_prob(z).double().mean() for z in self.valid_draws]).mean())
        if not math.isfinite(score):
            raise self._diverged(f"E log p(z) = {score}")
        self.course.append(score)
        better = score > self.course[self.best] or len(self.course) == 1
        if better:
            self.best = len(self.course) - 1
        return better

    def _diverged(self, value: str) -> ArithmeticError:
        return ArithmeticError(
            f"refit: expected a prior with finite densities, got {value} in epoch {len(self.course)}; "
            f"lower the learning rate, for example learning_rate={self.settings.learning_rate / 10:g}"
        )
