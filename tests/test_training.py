"""`fit`: comparison with a loop, warm-up, early stopping, best weights, history, side effects, errors."""

import logging
import math
import os
import sys
import warnings
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal
from torch.utils.data import StackDataset

from priory.distributions.normal import diagonal_normal
from priory.objectives import elbo
from priory.priors import FlowPrior
from priory.rows import Rows, TensorRows, as_rows
from priory.training import History, NonFiniteLossError, TrainingSettings, check_devices, fit, process_rank, trainer
from priory.training.batches import ShuffledBatches, derived_seed
from priory.training.history import COLUMNS
from priory.training.ranks import number_of_machines
from priory.training.selection import Selection
from priory.training.states import read_state
from priory.vae import VAE

pytest.importorskip("lightning")


class Encoder(nn.Module):
    def __init__(self, data_dim: int = 6, latent_dim: int = 2) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(data_dim, 8), nn.Tanh(), nn.Linear(8, 2 * latent_dim))

    def forward(self, x: Tensor) -> Independent:
        loc, log_scale = self.network(x).chunk(2, -1)
        return diagonal_normal(loc, log_scale.exp())


class Decoder(nn.Module):
    def __init__(self, data_dim: int = 6, latent_dim: int = 2) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(latent_dim, 8), nn.Tanh(), nn.Linear(8, data_dim))

    def forward(self, z: Tensor) -> Independent:
        return Independent(Bernoulli(logits=self.network(z), validate_args=False), 1, validate_args=False)


class LearnedNormal(nn.Module):
    def __init__(self, latent_dim: int = 2) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(latent_dim))
        self.evaluations = 0

    def forward(self, encoder: nn.Module | None = None) -> Independent:
        self.evaluations += 1
        return diagonal_normal(self.loc, torch.ones_like(self.loc))


def make() -> VAE:
    torch.manual_seed(5)
    return VAE(Encoder(), Decoder(), LearnedNormal())


def binary(rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(rows, 6, generator=generator) < torch.linspace(0.1, 0.9, 6)).float()


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_fit_equals_an_explicit_loop() -> None:
    x, vae, plain = binary(25), make(), make()
    history = fit(vae, x, seed=3, epochs=4, batch_size=10, warmup=6, learning_rate=0.01)
    torch.manual_seed(3)
    optimizer, step = torch.optim.Adam(plain.parameters(), 0.01), 0
    for epoch in range(4):
        order = torch.randperm(25, generator=torch.Generator().manual_seed(derived_seed(3, "order", epoch)))
        for first in (0, 10, 20):
            q = plain.encode(x[order[first : first + 10]])
            z = q.rsample((1,))
            reconstruction = plain.decoder(z).log_prob(x[order[first : first + 10]]).mean(0)
            kl = torch.distributions.kl_divergence(q, plain.latent_prior())
            loss = (min(1.0, step / 6) * kl - reconstruction).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    for ours, theirs in zip(vae.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert history["beta"] == [0.5, 1.0, 1.0, 1.0]
    assert history.best_epoch == 3  # the last one, without validation
    assert not vae.training


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adamax", "nadam", "radam"])
def test_same_seed_gives_the_same_bits(optimizer: str) -> None:
    fits = []
    for noise in (1, 2):
        vae = make()
        torch.manual_seed(noise)
        fit(vae, binary(20), binary(9, 1), seed=4, epochs=2, batch_size=8, optimizer=optimizer, weight_decay=0.1)
        fits.append(vae)
    assert same_weights(*fits)
    assert not same_weights(fits[0], make())


def test_the_global_generator_is_used_without_a_seed() -> None:
    results = []
    for _ in range(2):
        vae = make()
        torch.manual_seed(11)
        fit(vae, binary(20), binary(9, 1), epochs=2, batch_size=8)
        assert torch.initial_seed() == 11
        results.append(vae)
    assert same_weights(*results)


def test_validation_does_not_change_the_noise_of_training() -> None:
    weights = []
    for valid in (None, binary(30, 1)):
        vae = make()
        fit(
            vae, binary(20), valid, seed=0, epochs=3, batch_size=8, warmup=10_000
        )  # ends during the warm-up, so the last weights remain
        weights.append(vae)
    assert same_weights(*weights)


def test_warmup_is_a_number_of_steps_or_a_fraction_of_the_run() -> None:
    assert [TrainingSettings(warmup=4).beta(t, 99) for t in (0, 1, 3, 4, 9)] == [0, 0.25, 0.75, 1, 1]
    assert TrainingSettings(warmup=0.25, epochs=8).warmup_steps(5) == 10
    assert TrainingSettings(warmup=0.1, epochs=30).warmup_steps(1) == 3
    assert TrainingSettings(warmup=0.1, epochs=3).warmup_steps(10) == 3  # from 3.0000000000000004
    assert TrainingSettings(warmup=0.07, epochs=100).warmup_steps(1) == 7  # from 7.000000000000001
    assert TrainingSettings(warmup=0.1, epochs=3).warmup_steps(11) == 4
    assert TrainingSettings(warmup=0).beta(0, 5) == 1
    assert TrainingSettings(warmup="0.5", epochs=2).warmup_steps(4) == 4
    assert TrainingSettings(warmup="7").warmup_steps(4) == 7


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("warmup", 1.5, "fraction of the run"),
        ("warmup", -1, "warmup"),
        ("warmup", True, "number of steps"),
        ("epochs", 0, "greater than or equal to 1"),
        ("learning_rate", float("nan"), "learning_rate"),
        ("warmup", "abc", r"expected a fraction of the run \(0.1\) or a number of steps \(1000\), got 'abc'"),
        ("warmup", "nan", "fraction of the run"),
        ("devices", 0, "number of devices"),
        ("devices", "two", r"a list such as '0,1', or 'auto', got 'two'"),
        ("devices", "0,,1", "a list such as"),
        ("precision", "8", "bf16-mixed"),
        ("optimiser", "adam", "Extra inputs"),
    ],
)
def test_invalid_settings_are_refused(name: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainingSettings(**{name: value})


@pytest.mark.parametrize(
    ("value", "expected"), [("auto", "auto"), (" 2 ", 2), ("-1", -1), ("0, 1", "0,1"), ("3,", "3,"), (4, 4)]
)
def test_devices_are_a_number_a_list_or_auto(value: int | str, expected: int | str) -> None:
    assert TrainingSettings(devices=value).devices == expected


def test_all_settings_have_descriptions() -> None:
    assert all(field.description for field in TrainingSettings.model_fields.values())


def test_selection_keeps_the_best_epoch_and_stops_after_patience() -> None:
    elbos = [-1.0, -2.0, -9.0, -7.0, -7.0, -8.0, -6.0, -6.5, -6.5, -6.5]
    selection = Selection(patience=3)
    better = []
    for epoch, value in enumerate(elbos):
        better.append(selection.update(epoch, value, warm=epoch >= 2))
        if selection.stop:
            break
    assert [epoch for epoch, flag in enumerate(better) if flag] == [2, 3, 6]
    assert (epoch, selection.best_epoch, selection.best_bound) == (9, 6, -6.0)
    never = Selection(patience=None)
    for epoch in range(500):
        never.update(epoch, -float(epoch), warm=True)
    assert not never.stop


def test_early_stopping_restores_the_best_weights() -> None:
    vae, valid = make(), 1 - binary(40, 1)  # opposite values, so that training makes validation worse
    history = fit(vae, binary(30), valid, seed=0, epochs=60, batch_size=10, warmup=6, patience=4, learning_rate=0.02)
    assert history.stopped_early
    assert history.epochs == history.best_epoch + 5 < 60
    eligible = [e for e in range(history.epochs) if history["beta"][e] == 1]
    assert eligible[0] == 1
    assert history.best_epoch == max(eligible, key=lambda e: history["valid_elbo"][e])
    assert same_draws_elbo(vae, valid, order_seed=0) == pytest.approx(max(history["valid_elbo"][1:]), abs=1e-5)


def same_draws_elbo(vae: VAE, valid: Tensor, order_seed: int) -> float:
    torch.manual_seed(derived_seed(order_seed, "validation", 0))
    with torch.no_grad():
        return float(elbo(vae, valid, num_samples=4).value().mean())


def test_prior_is_evaluated_once_per_step_and_once_per_validation() -> None:
    vae = make()
    fit(vae, binary(20), binary(30, 1), seed=0, epochs=3, batch_size=8, validation_batch_size=7)
    assert vae.prior.evaluations == 3 * (3 + 1)


def test_history_can_be_read_from_its_file(tmp_path) -> None:
    history = fit(make(), binary(25), binary(9, 1), seed=0, epochs=3, batch_size=10, warmup=3, out=tmp_path)
    read = History.read(tmp_path / "history.csv")
    assert dict(read) == dict(history)
    assert read.best_epoch == history.best_epoch
    assert tuple(read) == COLUMNS
    assert read["epoch"] == [0, 1, 2]
    for part in ("train", "valid"):
        for row in read.rows():
            assert row[f"{part}_elbo"] == pytest.approx(row[f"{part}_reconstruction"] - row[f"{part}_kl"])
    assert sorted(os.listdir(tmp_path)) == ["history.csv", "state.safetensors"]
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected a training history"):
        History.read(tmp_path / "other.csv")


def test_training_terms_are_means_over_rows() -> None:
    vae = make()
    history = fit(vae, binary(25), seed=0, epochs=1, batch_size=10, learning_rate=1e-12)
    torch.manual_seed(0)
    order = ShuffledBatches(TensorRows(binary(25)), 10, 0).order()
    with torch.no_grad():
        values = [elbo(vae, binary(25)[p]) for p in order.split(10)]
    assert history["train_kl"][0] == pytest.approx(float(torch.cat([v.kl for v in values]).mean()), rel=1e-5)
    assert history["train_reconstruction"][0] == pytest.approx(
        float(torch.cat([v.reconstruction for v in values]).mean()), rel=1e-5
    )
    assert math.isnan(history["valid_elbo"][0])


def test_training_has_no_side_effects(tmp_path, monkeypatch, capfd) -> None:
    fit(make(), binary(9), epochs=1)  # imports Lightning
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    filters, threads = list(warnings.filters), torch.get_num_threads()
    levels = {name: logging.getLogger(name).level for name in list(logging.root.manager.loggerDict)}
    fit(make(), binary(20), binary(9, 1), epochs=2, batch_size=8)
    assert os.listdir(tmp_path) == []
    assert warnings.filters == filters
    assert {name: logging.getLogger(name).level for name in levels} == levels
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")


def test_progress_shows_epochs_and_elbo(capsys) -> None:
    fit(make(), binary(20), binary(9, 1), epochs=2, batch_size=8, progress=True, warmup=1)
    output = capsys.readouterr().out
    assert "2/2" in output
    assert "elbo" in output


def test_tensorboard_files_are_written_on_request(tmp_path) -> None:
    pytest.importorskip("tensorboard")
    fit(make(), binary(20), binary(9, 1), epochs=2, out=tmp_path, tensorboard=True)
    assert any(name.startswith("events") for name in os.listdir(tmp_path / "tensorboard"))


def test_a_missing_tensorboard_is_reported_before_any_file_is_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"\.\[tensorboard\]"):
        fit(make(), binary(20), epochs=2, out=tmp_path / "run", tensorboard=True)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0),
        ({"LOCAL_RANK": "2"}, 2),
        ({"RANK": "3", "WORLD_SIZE": "4"}, 0),  # a container of a cluster without torchrun
        ({"TORCHELASTIC_RUN_ID": "a", "RANK": "5", "LOCAL_RANK": "1"}, 5),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, 0),
        ({"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4", "SLURM_LOCALID": "3", "SLURM_PROCID": "3"}, 3),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_JOB_NAME": "interactive"}, 0),
        ({"SLURM_PROCID": "3"}, 0),
    ],
)
def test_process_rank_agrees_with_launcher_and_lightning(monkeypatch, environment: dict[str, str], rank: int) -> None:
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

    for name in [name for name in os.environ if name.startswith(("SLURM", "TORCHELASTIC"))] + ["RANK", "LOCAL_RANK"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"SLURM_NODEID": "0", "SLURM_LOCALID": "0", "WORLD_SIZE": "8"} | environment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # Lightning's attribute; restored afterwards
    assert process_rank() == rank
    check_devices(TrainingSettings(accelerator="cpu", devices=8, strategy="ddp"))  # compares with Lightning's rank
    if rank > 0:
        with pytest.raises(ValueError, match="join the processes of a launcher into one run"):
            check_devices(TrainingSettings(accelerator="cpu"))


@pytest.mark.parametrize(
    ("environment", "machines"),
    [
        ({}, 1),
        ({"TORCHELASTIC_RUN_ID": "a", "GROUP_WORLD_SIZE": "3", "SLURM_NTASKS": "2", "SLURM_NNODES": "2"}, 3),
        ({"SLURM_NTASKS": "4", "SLURM_NNODES": "2"}, 2),
        ({"SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "bash"}, 1),
        ({"SLURM_NNODES": "2"}, 1),
    ],
)
def test_the_number_of_machines_comes_from_the_launcher(
    monkeypatch, environment: dict[str, str], machines: int
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "GROUP_WORLD_SIZE", "SLURM_NTASKS", "SLURM_NNODES", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert number_of_machines() == machines


def test_other_ranks_neither_check_the_folder_nor_write(tmp_path, monkeypatch) -> None:
    fit(make(), binary(9), epochs=1, out=tmp_path / "a")
    with pytest.raises(FileExistsError):
        fit(make(), binary(9), epochs=1, out=tmp_path / "a")
    monkeypatch.setenv("LOCAL_RANK", "1")
    for name in ("a", "b"):
        with pytest.raises(
            ValueError, match="join the processes of a launcher into one run"
        ):  # after the check of the folder
            fit(make(), binary(9), epochs=1, out=tmp_path / name)
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"accelerator": "abacus"}, r"accelerator=abacus, .*invalid accelerator name"),
        ({"accelerator": "cpu", "devices": "0,1"}, r"devices=0,1, .*should be an int > 0"),
        ({"accelerator": "tpu"}, r"accelerator=tpu, "),
        ({"accelerator": "cpu", "strategy": "magic"}, r"strategy=magic, .*invalid strategy name"),
        ({"accelerator": "cpu", "strategy": "fsdp"}, r"strategy=fsdp, .*requires a GPU"),
        ({"accelerator": "cpu", "strategy": "ddp_spawn", "devices": 2}, "single device or plain ddp"),
    ],
)
def test_missing_devices_are_refused(tmp_path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        check_devices(TrainingSettings(**settings))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=words):
        fit(make(), binary(9), epochs=1, out=tmp_path / "run", **settings)
    assert os.listdir(tmp_path) == []


def test_checking_devices_prints_nothing(capfd) -> None:
    for settings in ({}, {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}, {"precision": "16-mixed"}):
        check_devices(TrainingSettings(**settings))  # warnings are errors here
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")


@pytest.mark.parametrize(("schedule", "last"), [("constant", 0.01), ("cosine", 0.0), ("one-cycle", 4e-8)])
def test_schedules_end_at_their_last_learning_rate(schedule: str, last: float) -> None:
    history = fit(make(), binary(20), epochs=5, batch_size=5, learning_rate=0.01, schedule=schedule)
    assert history["learning_rate"][-1] == pytest.approx(last, abs=1e-6)


@pytest.mark.filterwarnings("ignore:precision. bf16 matrix products:UserWarning")
def test_bf16_mixed_agrees_with_full_precision() -> None:
    elbos = [
        fit(make(), binary(40), binary(20, 1), seed=0, epochs=4, batch_size=10, precision=precision)["valid_elbo"][-1]
        for precision in ("32-true", "bf16-mixed")
    ]
    assert elbos[0] != elbos[1]
    assert elbos[0] == pytest.approx(elbos[1], abs=0.05)


@pytest.mark.parametrize(
    ("precision", "device", "ratio", "expected"),
    [
        ("bf16-mixed", "cpu", 20, ["precision: bf16 matrix products take 20 times as long as float32 products"]),
        ("bf16-mixed", "cpu", 2, []),
        ("bf16-mixed", "cuda", 20, []),
        ("32-true", "cpu", 20, []),
    ],
)
def test_slow_bf16_products_are_reported(
    monkeypatch, precision: str, device: str, ratio: int, expected: list[str]
) -> None:
    monkeypatch.setattr(trainer, "seconds_of_product", {torch.float32: 1e-3, torch.bfloat16: ratio * 1e-3}.get)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.warn_of_slow_bf16(TrainingSettings(precision=precision), torch.device(device))
    assert [str(each.message).split(" on this")[0] for each in caught] == expected


@pytest.mark.skipif(
    torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor has AVX-512, so bf16 is not slow"
)
def test_fit_warns_of_slow_bf16_products_at_the_line_that_calls_it() -> None:
    with pytest.warns(UserWarning, match="bf16 matrix products take") as caught:
        fit(make(), binary(20), epochs=1, precision="bf16-mixed")
    assert caught[0].filename == __file__


class Means(Rows):
    """Rows of a larger file; the values are probabilities of ones."""

    dynamic_binarization = True

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[positions], positions + 1000


class Seen(Encoder):
    def forward(self, x: Tensor) -> Independent:
        self.__dict__.setdefault("batches", []).append((self.training, x))
        return super().forward(x)


def test_values_are_binarized_anew_in_training_only() -> None:
    vae = VAE(Seen(), Decoder(), LearnedNormal())
    x = torch.full((400, 6), 0.25)
    fit(vae, Means(x), x[:10], seed=0, epochs=2, batch_size=400, warmup=0)
    first, second = (x for training, x in vae.encoder.batches if training)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    assert abs(float(first.mean()) - 0.25) < 0.04
    assert all(torch.equal(seen, x[:10]) for training, seen in vae.encoder.batches if not training)


def test_batches_cover_every_row_and_depend_only_on_seed_and_epoch() -> None:
    batches = ShuffledBatches(TensorRows(binary(23)), 5, seed=1)
    torch.manual_seed(0)
    orders = []
    for epoch in (0, 1):
        batches.epoch = epoch
        rows = [rows for _, rows, _ in batches]
        assert [len(r) for r in rows] == [5, 5, 5, 5, 3]
        assert len(batches) == 5
        orders.append(torch.cat(rows))
        assert sorted(orders[-1].tolist()) == list(range(23))
    assert not torch.equal(*orders)
    torch.rand(7)
    assert torch.equal(torch.cat([rows for _, rows, _ in batches]), orders[1])
    batches.world_size = 4
    shares = []
    for rank in range(4):
        batches.rank = rank
        shares.append(batches.order())
        assert len(batches) == len(list(batches)) == 2
    assert sorted(set(torch.cat(shares).tolist())) == list(range(23))
    assert [len(share) for share in shares] == [6] * 4


class FailingDecoder(Decoder):
    """Returns NaN for one row in the third call."""

    def forward(self, z: Tensor) -> Independent:
        self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1
        logits = self.network(z)
        if self.__dict__["calls"] == 3:
            logits = logits.clone()
            logits[:, 1] = float("nan")
        return Independent(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)


def test_an_error_about_a_nan_loss_names_term_batch_rows_and_group(tmp_path) -> None:
    vae = VAE(Encoder(), FailingDecoder(), LearnedNormal())
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, batch 0.*reconstruction term.*gradient_clip") as caught:
        fit(vae, binary(20), seed=0, epochs=9, batch_size=10, out=tmp_path)
    batches = ShuffledBatches(TensorRows(binary(20)), 10, seed=0)
    batches.epoch = 1
    error = caught.value
    assert (error.term, error.epoch, error.batch) == ("reconstruction", 1, 0)
    assert error.rows == [int(batches.order()[1])]
    assert error.group in ("encoder", "decoder")
    assert all(torch.isfinite(p).all() for p in vae.parameters())  # the step was not taken
    assert History.read(tmp_path / "history.csv").epochs == 1
    assert (tmp_path / "state.safetensors").exists()


def test_an_error_about_an_infinite_kl_names_the_prior() -> None:
    vae = make()
    vae.prior.loc.data[0] = 1e30
    with pytest.raises(NonFiniteLossError, match="KL term") as caught:
        fit(vae, binary(20), seed=0, epochs=1)
    assert caught.value.term == "KL"
    assert len(caught.value.rows) == 8
    vae.prior.loc.data[0] = float("nan")
    with pytest.raises(NonFiniteLossError, match="look at the prior first"):
        fit(vae, binary(20), seed=0, epochs=1)


class InfiniteGradient(LearnedNormal):
    def forward(self, encoder: nn.Module | None = None) -> Independent:
        loc = self.loc + (self.loc * 0).abs().sqrt()  # the value is finite, the gradient is not
        return diagonal_normal(loc, torch.ones_like(loc))


def test_an_infinite_gradient_of_a_finite_loss_stops_training() -> None:
    vae = VAE(Encoder(), Decoder(), InfiniteGradient())
    with pytest.raises(NonFiniteLossError, match="gradient of a finite loss") as caught:
        fit(vae, binary(20), seed=0, epochs=1, warmup=0)
    assert (caught.value.term, caught.value.group) == ("gradient", "prior")


class ZeroVariance(Decoder):
    """A Gaussian likelihood whose scale is zero from the third step on; then the log-likelihood is infinite."""

    def __init__(self, validate: bool) -> None:
        super().__init__()
        self.validate, self.calls = validate, 0

    def forward(self, z: Tensor) -> Independent:
        self.calls += self.training
        loc = self.network(z)
        scale = torch.full_like(loc, float(self.calls < 3))
        return Independent(Normal(loc, scale, validate_args=self.validate), 1, validate_args=False)


@pytest.mark.parametrize("validate", [False, True])  # an infinite likelihood, or an error of torch about the scale
def test_a_likelihood_with_zero_variance_stops_training_and_keeps_the_last_state(tmp_path, validate: bool) -> None:
    torch.manual_seed(5)
    vae = VAE(Encoder(), ZeroVariance(validate), LearnedNormal())
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, batch 0: the reconstruction") as caught:
        fit(vae, binary(20), binary(9, 1), seed=0, epochs=9, batch_size=10, warmup=0, out=tmp_path)
    assert len(caught.value.rows) == 8
    assert ("Expected parameter scale" in str(caught.value)) == validate
    assert all(torch.isfinite(p).all() for p in vae.parameters())  # the step was not taken
    state = read_state(tmp_path / "state.safetensors")
    assert state["progress"]["epoch"] == History.read(tmp_path / "history.csv").epochs == 1


def test_an_exploding_flow_stops_training_with_an_error_about_the_prior(tmp_path) -> None:
    torch.manual_seed(5)
    vae = VAE(Encoder(), Decoder(), FlowPrior.coupling(2, hidden=(8,)))
    with torch.no_grad():
        for parameter in vae.prior.parameters():
            parameter *= 1e19  # the flow's densities overflow float32
    with pytest.raises(NonFiniteLossError, match=r"epoch 0, batch 0: .*KL term is NaN or infinite.* look at the prior"):
        fit(vae, binary(20), seed=0, epochs=1, batch_size=10, out=tmp_path)
    assert not (tmp_path / "state.safetensors").exists()


def test_a_non_finite_parameter_after_the_last_step_is_not_saved(tmp_path) -> None:
    """Without validation, no loss depends on the last step; the state of the previous epoch remains."""
    vae, steps = make(), []

    class Breaking(torch.optim.Adam):
        def step(self, closure=None):
            result = super().step(closure)
            steps.append(1)
            if len(steps) == 4:
                vae.decoder.network[0].bias.data[3] = float("inf")
            return result

    with pytest.raises(NonFiniteLossError, match=r"end of epoch 1: the last step left NaN or infinite") as caught:
        fit(vae, binary(20), seed=0, epochs=9, batch_size=10, out=tmp_path, optimizer=Breaking)
    assert (caught.value.term, caught.value.group) == ("parameter", "decoder")
    assert caught.value.parameter == "decoder.network.0.bias"
    state = read_state(tmp_path / "state.safetensors")
    assert state["progress"]["epoch"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in state["vae"].values())


class NormalDecoder(Decoder):
    def forward(self, z: Tensor) -> Independent:
        return diagonal_normal(self.network(z), torch.ones(6))


@pytest.mark.parametrize("learning_rate", [1e4, 1e30])
def test_a_learning_rate_that_is_too_high_saves_no_non_finite_numbers(tmp_path, learning_rate: float) -> None:
    vae = VAE(Encoder(), NormalDecoder(), LearnedNormal())
    with pytest.raises(NonFiniteLossError, match="Lower the learning rate"):
        fit(vae, binary(20), seed=0, epochs=99, batch_size=10, out=tmp_path, learning_rate=learning_rate)
    path = tmp_path / "state.safetensors"
    if path.exists():
        assert all(torch.isfinite(tensor).all() for tensor in read_state(path)["vae"].values())


def test_a_gradient_with_an_infinite_norm_is_reported() -> None:
    vae = make()
    vae.prior.loc.register_hook(lambda gradient: torch.full_like(gradient, 1e30))
    with pytest.raises(
        NonFiniteLossError, match="the gradient of a finite loss is too large to compute its norm"
    ) as caught:
        fit(vae, binary(20), seed=0, epochs=1)
    assert (caught.value.parameter, caught.value.group) == (None, "prior")


def test_a_non_finite_validation_loss_stops_training() -> None:
    valid = binary(9, 1)
    valid[4, 0] = float("nan")
    with pytest.raises(NonFiniteLossError, match="epoch 0, validation") as caught:
        fit(make(), binary(20), as_rows(StackDataset(valid), "valid"), seed=0, epochs=1)  # read row by row
    assert caught.value.rows == [4]


@pytest.mark.parametrize("form", [lambda x: x, lambda x: x.numpy(), lambda x: pd.DataFrame(x.numpy())])
def test_non_finite_rows_in_memory_are_refused_before_training(form) -> None:
    vae, train = make(), binary(20)
    train[[3, 11], 0] = torch.tensor([math.nan, math.inf])
    before = [p.clone() for p in vae.parameters()]
    with pytest.raises(
        ValueError, match=r"train: expected finite numbers, got NaN or infinity in 2 of 20 rows \(rows 3, 11"
    ):
        fit(vae, form(train), seed=0, epochs=1)
    assert all(map(torch.equal, vae.parameters(), before))


class InvalidWhenEvaluated(nn.Module):
    """A part whose distribution has the scale NaN in evaluation mode."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, *arguments: Any) -> Independent:
        loc = self.part(*arguments).mean
        scale = torch.full_like(loc, 1.0 if self.training else float("nan"))
        return Independent(Normal(loc, scale, validate_args=True), 1)


@pytest.mark.parametrize("part", ["encoder", "prior"])
def test_invalid_parameters_in_validation_stop_training(part: str) -> None:
    vae = make()
    setattr(vae, part, InvalidWhenEvaluated(getattr(vae, part)))
    with pytest.raises(NonFiniteLossError, match="epoch 0, validation") as caught:
        fit(vae, binary(20), binary(9, 1), seed=0, epochs=1)
    assert caught.value.batch is None
    assert "Expected parameter scale" in str(caught.value.__cause__)


def test_gradient_clipping_limits_the_norm() -> None:
    norms = []

    class Spy(torch.optim.Adam):
        def step(self, closure=None):
            result = super().step(closure)  # Lightning's closure computes the gradient
            norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in self.param_groups[0]["params"]])))
            return result

    fit(make(), binary(20), seed=0, epochs=1, batch_size=5, gradient_clip=0.1, optimizer=Spy)
    fit(make(), binary(20), seed=0, epochs=1, batch_size=5, gradient_clip=None, optimizer=Spy)
    assert norms[:4] == pytest.approx([0.1] * 4, rel=1e-3)
    assert min(norms[4:]) > 0.2


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (torch.zeros(0, 6), "at least one row"),
        (torch.zeros(6), "rows of shape"),
        (torch.zeros(3, 6, dtype=torch.complex64), "real numbers"),
    ],
)
def test_invalid_rows_are_refused(train: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit(make(), train, epochs=1)


def test_invalid_arguments_are_refused(tmp_path) -> None:
    with pytest.raises(TypeError, match="batch"):
        fit(make(), {}, epochs=1)
    with pytest.raises(ValueError, match="expected out="):
        fit(make(), binary(9), epochs=1, resume=True)
    with pytest.raises(ValueError, match="single device or plain ddp"):
        fit(make(), binary(9), epochs=1, strategy="ddp_spawn", devices=2, accelerator="cpu")
