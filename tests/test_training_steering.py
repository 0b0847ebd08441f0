"""Arguments of `fit`: models, objectives, callbacks, loggers, optimizers, averaged weights, settings."""

import csv
import inspect
from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Independent, Normal

from priory import StandardNormal, VampPrior, as_model, diagonal_normal, elbo, importance_weighted_bound
from priory.model import as_model as compose
from priory.objectives import OBJECTIVES, BetaElbo, FreeBits, ImportanceWeighted, StickingTheLanding
from priory.training import History, NonFiniteLossError, TrainingSettings, fit, refit
from priory.training.averaging import WeightAverage
from priory.training.batches import ShuffledBatches
from priory.vae import VAE
from test_training import Decoder, Encoder, LearnedNormal, binary, make, same_draws_elbo, same_weights
from test_training_resume import Interrupted, RaisingRows, assert_same
from test_training_resume import make as make_with_batch_norm

pl = pytest.importorskip("lightning.pytorch")

TRAIN, VALID = binary(40), binary(30, 1)
SHORT: dict[str, Any] = {"seed": 0, "epochs": 3, "batch_size": 10, "warmup": 5, "learning_rate": 0.01}


# Any model


class HandWritten(nn.Module):
    """A model with a parameter that belongs to none of its parts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.inner, self.outer = nn.Linear(6, 4), nn.Linear(2, 6)
        self.loc = nn.Parameter(torch.zeros(2))

    def encode(self, x: Tensor) -> Independent:
        loc, log_scale = self.inner(x).chunk(2, -1)
        return diagonal_normal(loc, log_scale.exp())

    def latent_prior(self) -> Independent:
        return diagonal_normal(self.loc, torch.ones_like(self.loc))

    def decode(self, z: Tensor) -> Independent:
        return Independent(Bernoulli(logits=self.outer(z)), 1)


def test_a_module_and_its_functions_train_identically() -> None:
    module, parts = HandWritten(), HandWritten()
    composed = as_model(encode=parts.encode, decode=parts.decode, prior=parts.latent_prior())
    composed.latent_prior = parts.latent_prior  # type: ignore[method-assign]
    histories = [fit(model, TRAIN, VALID, **SHORT) for model in (module, composed)]
    assert same_weights(module, parts)
    assert histories[0]["valid_elbo"] == histories[1]["valid_elbo"]
    assert not same_weights(module, HandWritten())


class NoModule:
    encode = latent_prior = decode = staticmethod(lambda *arguments: None)


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (nn.Linear(2, 2), TypeError, r"model: expected a model with the methods encode.*as_model"),
        (NoModule(), TypeError, r"model: expected a torch.nn.Module, got NoModule; derive from it, or make one"),
        (
            compose(encode=lambda x: x, decode=lambda z: z, prior=StandardNormal(2)),
            ValueError,
            r"model: expected parameters to train, got a ComposedModel without any; .*modules=\[",
        ),
    ],
)
def test_models_that_cannot_be_trained_are_refused(model, error, words) -> None:
    with pytest.raises(error, match=words):
        fit(model, TRAIN, epochs=1)


class Refused(nn.Module):
    """A part whose distribution has an invalid scale."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, *arguments: Any) -> Independent:
        loc = self.part(*arguments).mean
        return Independent(Normal(loc, torch.full_like(loc, -1.0), validate_args=True), 1)


@pytest.mark.parametrize(
    ("part", "method"), [("encoder", "encode"), ("prior", "latent_prior"), ("decoder", "decode")], ids=str
)
def test_an_error_names_the_part_with_invalid_parameters(part: str, method: str) -> None:
    vae = make()
    setattr(vae, part, Refused(getattr(vae, part)))
    with pytest.raises(NonFiniteLossError, match=rf"look at the {part} first .*{method}: Expected parameter") as caught:
        fit(vae, TRAIN, **SHORT)
    assert caught.value.group == part


def test_errors_of_a_model_without_parts_name_the_model() -> None:
    model = HandWritten()
    model.loc.data[0] = float("nan")
    with pytest.raises(NonFiniteLossError, match="look at the model first") as caught:
        fit(model, TRAIN, **SHORT)
    assert (caught.value.group, caught.value.parameter) == ("model", "loc")


# Objectives


def test_settings_accept_all_names_of_objectives() -> None:
    names = get_args(TrainingSettings.model_fields["objective"].annotation)
    assert names == ("auto", *OBJECTIVES)


@pytest.mark.parametrize("objective", [None, "auto", "elbo", elbo, lambda model, x: elbo(model, x)])
def test_the_elbo_in_any_form_equals_the_default(objective) -> None:
    vaes = [make(), make()]
    histories = [fit(vaes[0], TRAIN, VALID, **SHORT), fit(vaes[1], TRAIN, VALID, objective=objective, **SHORT)]
    assert same_weights(*vaes)
    for column in ("train_elbo", "train_objective"):
        assert histories[0][column] == histories[1][column] == histories[0]["train_elbo"]
    assert histories[0]["valid_objective"] == histories[0]["valid_elbo"]


@pytest.mark.parametrize(
    ("name", "settings", "own"),
    [
        ("importance-weighted", {"num_samples": 4}, ImportanceWeighted(4)),
        ("beta-elbo", {"kl_weight": 0.5}, BetaElbo(0.5)),
        ("free-bits", {"free_bits": 0.7, "num_samples": 2}, FreeBits(0.7, 2)),
        ("sticking-the-landing", {}, StickingTheLanding()),
    ],
)
def test_a_name_with_settings_equals_the_object_with_options(name, settings, own) -> None:
    vaes = [make(), make(), make()]
    histories = [
        fit(vaes[0], TRAIN, VALID, objective=name, **settings, **SHORT),
        fit(vaes[1], TRAIN, VALID, objective=own, **SHORT),
    ]
    fit(vaes[2], TRAIN, VALID, **SHORT)
    assert same_weights(vaes[0], vaes[1])
    assert not same_weights(vaes[0], vaes[2])
    assert histories[0]["valid_objective"] == histories[1]["valid_objective"]


def test_the_objective_selects_the_best_epoch() -> None:
    vae, valid = make(), 1 - VALID
    settings = SHORT | {"warmup": 0, "epochs": 6, "learning_rate": 0.05}
    history = fit(vae, TRAIN, valid, objective=BetaElbo(kl_weight=8.0), **settings)
    for row in history.rows():
        assert row["valid_objective"] == pytest.approx(row["valid_reconstruction"] - 8 * row["valid_kl"], rel=1e-6)
        assert row["train_objective"] == pytest.approx(row["train_reconstruction"] - 8 * row["train_kl"], rel=1e-6)
    assert history.best_epoch == max(range(6), key=lambda epoch: history["valid_objective"][epoch])


def test_validation_uses_the_draws_of_the_importance_weighted_bound() -> None:
    vae = make()
    history = fit(vae, TRAIN, VALID, objective=ImportanceWeighted(50), **SHORT)
    with torch.no_grad():
        expected = float(torch.stack([importance_weighted_bound(vae, VALID, num_samples=50) for _ in range(40)]).mean())
    best = history.rows()[history.best_epoch or 0]
    assert best["valid_objective"] == pytest.approx(expected, abs=0.02)
    assert best["valid_elbo"] < best["valid_objective"]


def test_an_objective_that_returns_a_tensor_has_no_warm_up_and_no_training_elbo() -> None:
    vaes = [make(), make()]
    bounds = partial(importance_weighted_bound, num_samples=3)
    history = fit(vaes[0], TRAIN, VALID, objective=bounds, **SHORT)
    fit(vaes[1], TRAIN, VALID, objective=ImportanceWeighted(3), **SHORT | {"warmup": 0})
    for ours, theirs in zip(vaes[0].parameters(), vaes[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert all(value != value for value in history["train_elbo"])
    assert all(value == value for value in history["valid_elbo"] + history["train_objective"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"objective": 3}, "objective: expected a name, a function"),
        ({"objective": ImportanceWeighted}, "got the class ImportanceWeighted"),
        ({"objective": lambda model, x: 3}, "returns a priory.Elbo or a tensor of bounds, got int"),
        (
            {"objective": ImportanceWeighted(3), "num_samples": 4},
            "num_samples: expected as an option of the objective object",
        ),
        ({"optimizer": 3}, r"optimizer: expected a function from parameters .*torch.optim.SGD.*got int"),
        ({"optimizer": lambda parameters: 3}, "optimizer: .* got one that returns int"),
        (
            {"optimizer": torch.optim.SGD, "learning_rate": 1},
            "learning_rate: expected as an option of the optimizer object",
        ),
        ({"callbacks": 3}, "callbacks: expected a Callback of lightning.pytorch, got int"),
        ({"logger": [pl.Callback()]}, "logger: expected a Logger of lightning.pytorch, got Callback"),
        ({"lr": 1e-3}, "fit: unknown setting 'lr'; did you mean 'learning_rate'[?] settings: epochs, batch_size, "),
        ({"max_epochs": 3}, "did you mean 'epochs'[?]"),
        ({"ema": 0.9}, "did you mean 'ema_decay'[?]"),
        ({"loggers": 3}, "did you mean 'logger'[?]"),
        ({"early_stopping": 3}, "did you mean 'patience'[?]"),
        ({"quux": 3}, "fit: unknown setting 'quux'; settings: "),
    ],
)
def test_arguments_of_another_type_are_refused(tmp_path, arguments, words) -> None:
    with pytest.raises(TypeError, match=words):
        fit(make(), TRAIN, VALID, epochs=1, out=tmp_path / "run", **arguments)
    assert not (tmp_path / "run" / "state.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"learning_rate": -1.0}, r"^learning_rate: expected more than 0, got -1.0$"),
        (
            {"epochs": 1.5, "batch_size": 0},
            r"^epochs: expected a whole number, got 1.5; batch_size: expected at least 1",
        ),
        (
            {"objective": "importance-weighted"},
            "num_samples: the objective importance-weighted needs this setting, .* num_samples=8$",
        ),
        ({"objective": "importance_weighted"}, "got 'importance_weighted'; did you mean importance-weighted[?]$"),
        ({"optimizer": "adan"}, "^optimizer: expected 'adam', .* did you mean adam[?]$"),
        (
            {"kl_weight": 2},
            "^kl_weight: expected none, because the objective auto does not use it, got 2; leave it out",
        ),
        ({"objective": "elbo", "free_bits": 2}, "^free_bits: expected none, .* or choose objective=free-bits$"),
        (
            {"objective": "beta-elbo"},
            "^kl_weight: the objective beta-elbo needs this setting, got none; give a number, such as",
        ),
        ({"objective": "guided"}, "expected a prior with a guide"),
        ({"objective": lambda model, x: elbo(model, x).value().mean()}, r"one number for each datum, .* shape \(10,\)"),
        ({"ema_decay": 1.0}, "^ema_decay: expected less than 1, got 1.0$"),
        ({"warmup": -1}, "^warmup: expected at least 0, got -1$"),
    ],
)
def test_invalid_values_are_refused_in_one_line(arguments, words) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        fit(make(), TRAIN, VALID, **{"epochs": 1, "batch_size": 10} | arguments)
    assert "pydantic" not in str(caught.value)


def test_an_error_of_refit_suggests_the_nearest_setting() -> None:
    with pytest.raises(
        TypeError, match=r"^refit: unknown setting 'lr'; did you mean 'learning_rate'\? settings: epochs"
    ):
        refit(make(), StandardNormal(2), TRAIN, lr=3)
    with pytest.raises(ValueError, match=r"^draws: expected at least 1, got 0$"):
        refit(make(), StandardNormal(2), TRAIN, draws=0)


def test_averaged_weights_need_validation_rows() -> None:
    with pytest.raises(ValueError, match="ema_decay: expected valid="):
        fit(make(), TRAIN, epochs=1, ema_decay=0.9)


def test_discrete_posteriors_are_refused() -> None:
    vae = make()
    vae.encode = lambda x: Independent(Categorical(torch.ones(len(x), 2, 3)), 1)
    with pytest.raises(TypeError, match="encode: expected a reparameterized q"):
        fit(vae, TRAIN, epochs=1)


# Callbacks and loggers


class Pruning(pl.Callback):
    """Reads the same metrics as Optuna's callback, in the same hook."""

    def __init__(self, monitor: str = "valid_elbo") -> None:
        self.monitor, self.reports = monitor, []

    def on_validation_end(self, trainer, pl_module) -> None:
        self.reports.append((trainer.current_epoch, trainer.callback_metrics[self.monitor].item()))


def test_callbacks_get_the_metrics_of_each_epoch_and_change_nothing(tmp_path) -> None:
    plain, watched, pruning = make(), make(), Pruning()
    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path, monitor="valid_elbo", mode="max", save_top_k=1)
    callbacks = [pruning, checkpoint, pl.callbacks.EarlyStopping("valid_elbo", mode="max", patience=99)]
    fit(plain, TRAIN, VALID, **SHORT)
    history = fit(watched, TRAIN, VALID, callbacks=callbacks, **SHORT)
    assert same_weights(plain, watched)
    assert pruning.reports == list(enumerate(history["valid_elbo"]))
    assert float(checkpoint.best_model_score) == max(history["valid_elbo"])
    stored = torch.load(checkpoint.best_model_path, weights_only=True)
    weights = {name.removeprefix("model."): tensor for name, tensor in stored["state_dict"].items()}
    watched.load_state_dict(weights)
    assert same_draws_elbo(watched, VALID, order_seed=0) == pytest.approx(max(history["valid_elbo"]), abs=1e-5)


def test_only_training_metrics_can_be_monitored_without_validation_rows() -> None:
    pruning = Pruning("train_elbo")
    history = fit(make(), TRAIN, callbacks=pruning, **SHORT)
    assert [value for _, value in pruning.reports] == history["train_elbo"]
    with pytest.raises(RuntimeError, match="valid_elbo` which is not available"):
        fit(make(), TRAIN, callbacks=pl.callbacks.EarlyStopping("valid_elbo"), **SHORT)


def test_loggers_get_the_settings_and_the_metrics_of_each_epoch(tmp_path) -> None:
    logger = pl.loggers.CSVLogger(tmp_path, name="", version="log")
    history = fit(make(), TRAIN, VALID, logger=[logger], **SHORT | {"weight_decay": 0.125})
    with open(tmp_path / "log" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [3, 7, 11]
    for name in ("epoch", "valid_elbo", "train_kl", "beta", "learning_rate", "valid_objective"):
        assert [float(row[name]) for row in rows] == history[name]
    settings = (tmp_path / "log" / "hparams.yaml").read_text()
    assert "weight_decay: 0.125" in settings
    assert "objective: EvidenceLowerBound(num_samples=1)" in settings


class StopAt(pl.Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        trainer.should_stop |= trainer.current_epoch >= self.epoch


def test_a_run_stopped_by_a_callback_is_finished(tmp_path) -> None:
    settings = SHORT | {"epochs": 9}
    vae, again = make(), make()
    history = fit(vae, TRAIN, VALID, callbacks=StopAt(4), out=tmp_path, **settings)
    assert (history.epochs, history.stopped_early) == (5, True)
    assert_same(vae, history, again, fit(again, RaisingRows(TRAIN, 1), VALID, out=tmp_path, resume=True, **settings))


def test_a_resumed_run_continues_counting_epochs_steps_and_patience(tmp_path) -> None:
    def run(rows: Any, **more: Any) -> tuple[VAE, History, Pruning, Any]:
        vae, pruning = make(), Pruning()
        stopping = pl.callbacks.EarlyStopping("valid_elbo", mode="max", min_delta=9.0, patience=6)
        settings = SHORT | {"epochs": 12, "schedule": "one-cycle"}
        logger = pl.loggers.CSVLogger(tmp_path, name="", version=f"{len(list(tmp_path.iterdir()))}")
        history = fit(vae, rows, VALID, callbacks=[stopping, pruning], logger=logger, **settings, **more)
        with open(f"{logger.log_dir}/metrics.csv", newline="") as file:
            return vae, history, pruning, [int(row["step"]) for row in csv.DictReader(file)]

    whole, history, pruning, steps = run(TRAIN)
    assert history.epochs == 7  # patience ran out
    with pytest.raises(Interrupted):
        run(RaisingRows(TRAIN, 14), out=tmp_path / "half")
    half, resumed, after, later = run(TRAIN, out=tmp_path / "half", resume=True)
    assert_same(whole, history, half, resumed)
    assert after.reports == pruning.reports[3:]
    assert later == steps[3:]


def test_tensorboard_works_beside_another_logger(tmp_path) -> None:
    pytest.importorskip("tensorboard")
    logger = pl.loggers.CSVLogger(tmp_path, name="csv", version="v")
    fit(make(), TRAIN, VALID, logger=logger, tensorboard=True, out=tmp_path, **SHORT)
    assert any(path.name.startswith("events") for path in (tmp_path / "tensorboard").iterdir())
    assert (tmp_path / "csv" / "v" / "metrics.csv").exists()


# Optimizers


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_a_custom_optimizer_equals_an_explicit_loop(schedule) -> None:
    fitted, plain = make(), make()
    optimizer = partial(torch.optim.SGD, lr=0.1)
    settings = {name: value for name, value in SHORT.items() if name != "learning_rate"} | {"warmup": 0}
    history = fit(fitted, TRAIN, optimizer=optimizer, schedule=schedule, **settings)
    torch.manual_seed(0)
    batches = ShuffledBatches(RaisingRows(TRAIN), 10, seed=0)
    stepping = optimizer(plain.parameters())
    course = {
        "constant": lambda: torch.optim.lr_scheduler.LambdaLR(stepping, lambda step: 1.0),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(stepping, 12),
        "one-cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(stepping, 0.1, total_steps=13, cycle_momentum=False),
    }[schedule]()
    for batches.epoch in range(3):
        for x, _, _ in batches:
            stepping.zero_grad()
            (-elbo(plain, x).value().mean()).backward()
            stepping.step()
            course.step()
    for ours, theirs in zip(fitted.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert history["learning_rate"][-1] == pytest.approx(stepping.param_groups[0]["lr"])


@pytest.mark.parametrize(
    "optimizer", [partial(torch.optim.SGD, lr=0.1, momentum=0.9), partial(torch.optim.Adagrad, lr=0.1)]
)
def test_a_custom_optimizer_is_resumed_with_the_same_bits(tmp_path, optimizer) -> None:
    settings = {name: value for name, value in SHORT.items() if name != "learning_rate"} | {"schedule": "one-cycle"}
    whole, half = make(), make()
    history = fit(whole, TRAIN, VALID, optimizer=optimizer, **settings)
    with pytest.raises(Interrupted):
        fit(half, RaisingRows(TRAIN, 10), VALID, optimizer=optimizer, out=tmp_path, **settings)
    with pytest.raises(ValueError, match=rf"your optimizer \(was '{optimizer.func.__name__}', is 'RMSprop'\)"):
        fit(half, TRAIN, VALID, optimizer=torch.optim.RMSprop, out=tmp_path, resume=True, **settings)
    resumed = fit(half, TRAIN, VALID, optimizer=optimizer, out=tmp_path, resume=True, **settings)
    assert_same(whole, history, half, resumed)


# Averaged weights


def test_averaged_weights_equal_those_of_an_explicit_loop() -> None:
    layer, values = nn.Linear(3, 2), []
    average = WeightAverage(layer, decay=0.9)
    for _ in range(5):
        nn.init.normal_(layer.weight)
        values.append(layer.weight.detach().clone())
        average.update()
    expected = values[0]
    for value in values[1:]:
        expected = 0.9 * expected + 0.1 * value
    with average.in_place():
        torch.testing.assert_close(layer.weight.detach(), expected)
    assert torch.equal(layer.weight, values[-1])


def test_the_average_is_kept_if_it_is_better() -> None:
    """Weights move around the optimum if steps are too large; their average is nearer to it."""
    settings = SHORT | {"epochs": 12, "warmup": 0, "learning_rate": 0.3, "batch_size": 4, "patience": None}
    plain, averaged = make(), make()
    without = fit(plain, TRAIN, VALID, **settings)
    history = fit(averaged, TRAIN, VALID, ema_decay=0.95, **settings)
    assert history["train_elbo"] == without["train_elbo"]  # the steps are the same
    assert all(ours >= theirs for ours, theirs in zip(history["valid_elbo"], without["valid_elbo"], strict=True))
    assert max(history["valid_elbo"]) > max(without["valid_elbo"]) + 0.1
    assert same_draws_elbo(averaged, VALID, order_seed=0) == pytest.approx(max(history["valid_elbo"]), abs=1e-5)


@pytest.mark.parametrize("raise_at", [6, 10, 23])
@pytest.mark.parametrize("objective", ["importance-weighted", "doubly-reparameterized", "sticking-the-landing"])
def test_a_run_with_objective_and_average_is_resumed_with_the_same_bits(tmp_path, raise_at, objective) -> None:
    """The model has batch norm and dropout, and the average is better in some epochs."""

    def run(rows: Any, vae: VAE, **more: Any) -> History:
        settings = SHORT | {"epochs": 8, "learning_rate": 0.1, "objective": objective, "num_samples": 3}
        return fit(vae, rows, VALID, ema_decay=0.8, **settings, **more)

    whole, half = make_with_batch_norm(), make_with_batch_norm()
    history = run(TRAIN, whole)
    with pytest.raises(Interrupted):
        run(RaisingRows(TRAIN, raise_at), half, out=tmp_path)
    assert_same(whole, history, half, run(TRAIN, half, out=tmp_path, resume=True))


@pytest.mark.parametrize("change", [{"objective": BetaElbo(3.0)}, {"objective": elbo}, {"ema_decay": 0.5}])
def test_a_run_is_not_resumed_with_another_objective_or_average(tmp_path, change) -> None:
    fit(make(), TRAIN, VALID, objective=BetaElbo(2.0), out=tmp_path, **SHORT)
    with pytest.raises(ValueError, match=r"your objective \(was 'BetaElbo\(kl_weight=2.0|ema_decay \(was None, is 0.5"):
        fit(make(), TRAIN, VALID, out=tmp_path, resume=True, **{"objective": BetaElbo(2.0)} | change, **SHORT)


def test_a_vamp_prior_trains_with_every_objective() -> None:
    for objective in (ImportanceWeighted(3), StickingTheLanding(2), FreeBits(0.5)):
        vae = VAE(Encoder(), Decoder(), VampPrior(TRAIN[:5]))
        assert torch.isfinite(
            torch.tensor(fit(vae, TRAIN, VALID, objective=objective, **SHORT)["train_objective"])
        ).all()


def test_the_signature_of_fit_has_the_main_arguments() -> None:
    assert list(inspect.signature(fit).parameters)[:7] == [
        *("model", "train", "valid", "objective", "callbacks", "logger", "optimizer")
    ]


def test_models_with_other_priors_can_be_trained() -> None:
    model = as_model(encode=Encoder(), decode=Decoder(), prior=LearnedNormal())
    assert fit(model, TRAIN, VALID, **SHORT).epochs == 3
