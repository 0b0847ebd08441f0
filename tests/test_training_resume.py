"""A resumed run ends exactly as an uninterrupted one."""

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent

from priory.distributions.normal import diagonal_normal
from priory.rows import Rows
from priory.training import History, fit
from priory.training.states import read_state, write_state
from priory.vae import VAE

pytest.importorskip("lightning")

SETTINGS = {"epochs": 8, "batch_size": 10, "warmup": 6, "learning_rate": 0.01, "dropout": 0.2}


class Encoder(nn.Module):
    """An encoder with batch norm (buffers) and dropout (noise besides that of z)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(SETTINGS["dropout"]), nn.Linear(8, 4)
        )

    def forward(self, x: Tensor) -> Independent:
        loc, log_scale = self.network(x).chunk(2, -1)
        return diagonal_normal(loc, log_scale.exp())


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(2, 6)

    def forward(self, z: Tensor) -> Independent:
        return Independent(Bernoulli(logits=self.network(z), validate_args=False), 1, validate_args=False)


class Prior(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2))

    def forward(self, encoder: nn.Module | None = None) -> Independent:
        return diagonal_normal(self.loc, torch.ones_like(self.loc))


class Interrupted(Exception):
    pass


class RaisingRows(Rows):
    """Rows that raise an error at the n-th batch."""

    image_shape = (2, 3)

    def __init__(self, x: Tensor, raise_at: int | None = None, error: type[BaseException] = Interrupted) -> None:
        self.x, self.raise_at, self.error, self.reads = x, raise_at, error, 0

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        self.reads += 1
        if self.reads == self.raise_at:
            raise self.error
        return self.x[positions], positions


def make(seed: int = 5) -> VAE:
    torch.manual_seed(seed)
    return VAE(Encoder(), Decoder(), Prior())


def binary(rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(rows, 6, generator=generator) < 0.3).float()


def run(vae: VAE, out, *, raise_at: int | None = None, error: type[BaseException] = Interrupted, **keywords) -> History:
    settings = {name: value for name, value in SETTINGS.items() if name != "dropout"} | {"seed": 3} | keywords
    return fit(vae, RaisingRows(binary(35), raise_at, error), binary(12, 1), out=out, **settings)


def assert_same(vae: VAE, history: History, other_vae: VAE, other: History) -> None:
    for ours, theirs in zip(vae.state_dict().values(), other_vae.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert {k: v for k, v in history.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    assert history.best_epoch == other.best_epoch


@pytest.mark.parametrize("raise_at", [2, 4, 5, 19, 21, 31])  # four batches an epoch: in the first, at a start, ...
@pytest.mark.parametrize("settings", [{}, {"schedule": "one-cycle"}, {"shift_images": 0.8}])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, raise_at: int, settings: dict[str, object]) -> None:
    whole, half = make(), make()
    history = run(whole, tmp_path / "whole", **settings)
    with pytest.raises(Interrupted):
        run(half, tmp_path / "half", **settings, raise_at=raise_at)
    other = make(seed=9)  # after an epoch, resuming does not depend on the current weights of the model
    resumed = other if raise_at > 4 else make()
    result = run(resumed, tmp_path / "half", **settings, resume=True)
    assert_same(whole, history, resumed, result)
    assert_same(whole, history, resumed, History.read(tmp_path / "half" / "history.csv"))


@pytest.mark.parametrize("optimizer", ["adamw", "adamax", "nadam", "radam"])
def test_resume_restores_every_optimizer(tmp_path, optimizer: str) -> None:
    whole, half = make(), make()
    history = run(whole, tmp_path / "whole", optimizer=optimizer, schedule="cosine", seed=None)
    torch.manual_seed(5)
    half = make()
    with pytest.raises(Interrupted):
        run(half, tmp_path / "half", optimizer=optimizer, schedule="cosine", seed=None, raise_at=14)
    torch.manual_seed(77)
    resumed = run(half, tmp_path / "half", optimizer=optimizer, schedule="cosine", seed=None, resume=True)
    assert_same(whole, history, half, resumed)


def test_a_run_can_be_resumed_after_a_keyboard_interrupt(tmp_path) -> None:
    whole, half = make(), make()
    history = run(whole, None)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(half, tmp_path, raise_at=18, error=KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) == handler
    assert read_state(tmp_path / "state.safetensors")["progress"]["epoch"] == 4
    assert_same(whole, history, half, run(half, tmp_path, resume=True))


def test_resuming_a_finished_run_returns_at_once(tmp_path) -> None:
    whole, again = make(), make(seed=9)
    history = run(whole, tmp_path)
    result = run(again, tmp_path, resume=True, raise_at=1)
    assert_same(whole, history, again, result)
    assert result["seconds"] == history["seconds"]


def test_a_resumed_run_remembers_that_it_stopped_early(tmp_path) -> None:
    def stopped(resume: bool) -> History:
        return run(make(), tmp_path, resume=resume, patience=1, epochs=400, learning_rate=0.05)

    assert stopped(False).stopped_early
    assert stopped(True).stopped_early


@pytest.mark.parametrize("extra", [0, 1])
def test_a_lengthened_run_stops_early_at_the_same_epoch_as_a_long_one(tmp_path, extra: int) -> None:
    """Also if patience ran out in the last epoch of the shorter run, which therefore did not stop early."""
    keywords = {"patience": 2, "learning_rate": 0.3, "warmup": 0}
    whole, longer = make(), make()
    history = run(whole, None, epochs=60, **keywords)
    assert history.stopped_early
    short = run(longer, tmp_path, epochs=history.epochs - extra, **keywords)
    assert not short.stopped_early
    resumed = run(longer, tmp_path, epochs=60, resume=True, **keywords)
    assert_same(whole, history, longer, resumed)
    assert resumed.stopped_early


def test_resuming_a_finished_run_writes_its_history_again(tmp_path) -> None:
    """After a power failure, the history may be missing although the state exists."""
    history = run(make(), tmp_path)
    (tmp_path / "history.csv").write_text("")
    run(make(), tmp_path, resume=True)
    assert dict(History.read(tmp_path / "history.csv")) == dict(history)


def test_epochs_can_be_raised_if_the_schedule_allows_it(tmp_path) -> None:
    whole, longer = make(), make()
    history = run(whole, None, epochs=11)
    run(longer, tmp_path)
    assert_same(whole, history, longer, run(longer, tmp_path, epochs=11, resume=True))
    with pytest.raises(ValueError, match="epochs"):
        run(longer, tmp_path, epochs=9, resume=True)


def test_resuming_another_run_is_refused(tmp_path) -> None:
    run(make(), tmp_path / "a", warmup=0.2)
    with pytest.raises(FileExistsError, match="resume=True"):
        run(make(), tmp_path / "a")
    with pytest.raises(ValueError, match=r"batch_size \(was 10, is 11\)"):
        run(make(), tmp_path / "a", warmup=0.2, batch_size=11, resume=True)
    with pytest.raises(ValueError, match="epochs can be raised only if"):
        run(make(), tmp_path / "a", warmup=0.2, epochs=9, resume=True)
    with pytest.raises(ValueError, match="seed"):
        run(make(), tmp_path / "a", warmup=0.2, seed=4, resume=True)
    other = VAE(Encoder(), nn.Linear(3, 6), Prior())
    with pytest.raises(ValueError, match="do not fit this VAE"):
        run(other, tmp_path / "a", warmup=0.2, resume=True)


def test_devices_may_differ_if_the_number_of_processes_is_the_same(tmp_path) -> None:
    run(make(), tmp_path, epochs=4)
    finished = tmp_path / "state.safetensors"
    with pytest.raises(ValueError, match=r"a run of 1 process\(es\).* start 2 here"):
        run(make(), tmp_path, devices=2, strategy="ddp", accelerator="cpu", resume=True)
    whole, resumed = make(), make()
    history = run(whole, None)
    result = run(resumed, tmp_path, devices="auto", strategy="single_device", accelerator="cpu", resume=True)
    assert_same(whole, history, resumed, result)
    assert read_state(finished)["identity"]["processes"] == 1


@pytest.mark.parametrize("damage", ["truncated", "other", "pickle"])
def test_damaged_states_are_refused(tmp_path, damage: str) -> None:
    run(make(), tmp_path)
    path = tmp_path / "state.safetensors"
    content = path.read_bytes()
    path.write_bytes({"truncated": content[:-100], "other": b"hello", "pickle": pickle.dumps({"a": 1})}[damage])
    with pytest.raises(ValueError, match="damaged"):
        run(make(), tmp_path, resume=True)


def test_states_are_stored_exactly(tmp_path) -> None:
    shared = torch.arange(6.0)
    state = {
        "a": {0: {"step": torch.tensor(3.0), "betas": (0.9, 0.999)}},
        "b": [shared, shared, None, True, 0.1 + 0.2, float("inf"), "text", -float("inf")],
        "c": {},
    }
    write_state(tmp_path / "s", state)
    read = read_state(tmp_path / "s")
    assert torch.equal(read["a"][0]["step"], torch.tensor(3.0))
    assert read["a"][0]["betas"] == (0.9, 0.999)
    assert torch.equal(read["b"][1], shared)
    assert read["b"][2:] == state["b"][2:]
    assert read["c"] == {}
    with pytest.raises(TypeError, match="/x"):
        write_state(tmp_path / "s", {"x": object()})
    assert os.listdir(tmp_path) == ["s"]


SCRIPT = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from test_training_resume import RaisingRows, binary, make
from priory.training import fit, process_rank

class Slow(RaisingRows):
    def batch(self, positions):
        import time; time.sleep(0.05)
        return super().batch(positions)

if __name__ == "__main__":
    out, mode = sys.argv[1:]
    if "ddp" in mode and process_rank() > 0:  # the command line's rank 0 has written by the time the others start
        (Path(out) / "history.csv").touch()
    vae = make()
    train = RaisingRows(binary(35)) if mode == "resume" else Slow(binary(35))
    distributed = {"devices": 2, "strategy": "ddp", "accelerator": "cpu"}
    keywords = distributed if "ddp" in mode else {"resume": mode == "resume"}
    if mode == "steered ddp":
        from lightning.pytorch.callbacks import EarlyStopping
        from lightning.pytorch.loggers import CSVLogger
        keywords |= {"objective": "doubly-reparameterized", "num_samples": 3, "ema_decay": 0.9}
        keywords |= {"callbacks": EarlyStopping("valid_elbo", mode="max", patience=99), "logger": CSVLogger(out)}
    history = fit(vae, binary(35) if "ddp" in mode else train, binary(13, 1), seed=3, out=out, epochs=60, batch_size=10,
                  warmup=6, learning_rate=0.01, patience=None, **keywords)
    if "ddp" in mode:
        rank = process_rank()
        state = [float(p.double().sum()) for p in vae.state_dict().values()]
        with open(f"{out}.{rank}.json", "w") as file:
            json.dump({"weights": state, "valid": history["valid_elbo"], "train": history["train_elbo"]}, file)
"""


def start(tmp_path, *arguments: str) -> subprocess.Popen:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    paths = [os.path.dirname(__file__), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(script), *arguments], env=environment, cwd=tmp_path)


@pytest.mark.slow
def test_a_terminated_process_is_resumed_with_the_same_bits(tmp_path) -> None:
    out = tmp_path / "terminated"
    process = start(tmp_path, str(out), "run")
    deadline = time.monotonic() + 120
    while not (out / "state.safetensors").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    done = read_state(out / "state.safetensors")["progress"]["epoch"]
    assert done == History.read(out / "history.csv").epochs  # the last completed epoch was written
    assert start(tmp_path, str(out), "resume").wait(120) == 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        history = whole_run()
    finally:
        torch.set_num_threads(threads)
    resumed = History.read(out / "history.csv")
    assert {k: v for k, v in resumed.items() if k != "seconds"} == {k: v for k, v in history.items() if k != "seconds"}


def whole_run() -> History:
    settings = {"epochs": 60, "batch_size": 10, "warmup": 6, "learning_rate": 0.01, "patience": None}
    return fit(make(), RaisingRows(binary(35)), binary(13, 1), seed=3, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "steered ddp"])
def test_two_processes_end_with_equal_weights_and_a_similar_elbo(tmp_path, mode: str) -> None:
    out = tmp_path / "ddp"
    assert start(tmp_path, str(out), mode).wait(300) == 0
    deadline = time.monotonic() + 60
    while not (tmp_path / "ddp.1.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    first, second = (json.loads((tmp_path / f"ddp.{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert History.read(out / "history.csv")["valid_elbo"] == first["valid"]
    assert len(first["valid"]) == 60
    assert first["valid"][-1] == pytest.approx(whole_run()["valid_elbo"][-1], abs=0.2)
