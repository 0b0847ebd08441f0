"""Trains models on one or two processes with the same noise; see `test_ranks`. Arguments: folder, processes."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import priory
from priory.distributions.normal import Normal, diagonal_normal
from priory.training import fit, process_rank

OBJECTIVES: dict[str, dict[str, Any]] = {
    "elbo": {},
    "beta-elbo": {"kl_weight": 2.0},
    "free-bits": {"free_bits": 0.27},
    "importance-weighted": {"num_samples": 3},
    "doubly-reparameterized": {"num_samples": 3},
    "sticking-the-landing": {},
    "guided": {"guidance": 0.7},
}


class Encoder(nn.Module):
    """An encoder whose draws have noise that depends only on the row."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Any:
        loc, log_scale = self.network(x).chunk(2, -1)
        q = diagonal_normal(loc, log_scale.exp())
        q.base_dist.row_key = x.detach() @ torch.tensor([1.0, 1.7, 2.9, 4.3, 7.1, 11.3], dtype=x.dtype)
        return q


def noise_of_rows(normal: Any, sample_shape: Any = ()) -> Tensor:
    shape = normal._extended_shape(torch.Size(sample_shape))
    draws = torch.arange(shape[0]).reshape(-1, 1, 1) + 0.3 * torch.arange(shape[-1])
    noise = 2 * torch.sin(12.9898 * (normal.row_key.unsqueeze(-1) + 0.7 * draws) + 78.233)
    return normal.loc + noise.to(normal.loc.dtype) * normal.scale


def binarized_by_value(x: Tensor) -> Tensor:
    return (x > 0.5 + 0.4 * torch.sin(99.0 * x.sum(-1, keepdim=True))).to(x.dtype)


def make(prior: nn.Module) -> priory.VAE:
    torch.manual_seed(1)
    return priory.VAE(Encoder(), priory.BernoulliDecoder(priory.mlp(2, [8], 6)), prior).double()


def cases(x: Tensor) -> dict[str, tuple[nn.Module, dict[str, Any]]]:
    torch.manual_seed(0)
    unit = {"low": 0.0, "high": 1.0}
    result = {name: (priory.VampPrior(x[:7]), {"objective": name, **options}) for name, options in OBJECTIVES.items()}
    gtm = priory.GTM(points_per_side=3).fit(x.numpy())
    result["guided"] = (priory.GTMVampPrior.from_gtm(gtm, **unit), result["guided"][1])
    result["one row left"] = (priory.VampPrior(x[:7]), {"rows": 33})
    result["fewer rows than a batch"] = (priory.VampPrior(x[:7]), {"rows": 3})
    result["one row"] = (priory.VampPrior(x[:7]), {"rows": 1})
    result["prior of parameters"] = (priory.VampPriorMixture(x[:7], latent_dim=2), {})
    result["exemplars"] = (priory.ExemplarPrior(2, neighbors=None), {})
    result["adam, averaged"] = (priory.MixtureOfGaussians(2, 5), {"optimizer": "adam", "ema_decay": 0.9})
    result["clipped, stops early"] = (
        priory.VampPrior(x[:7]),
        {"gradient_clip": 0.5, "patience": 2, "epochs": 60, "learning_rate": 0.05, "optimizer": "adam"},
    )
    result["dynamic binarization"] = (priory.VampPrior(x[:7]), {"dynamic": True})
    sharded: dict[str, Any] = {"shard_components": True}
    fixed = {"learn_pseudo_inputs": False, "learn_weights": False}
    result["sharded"] = (priory.VampPrior(x[:7] * 0.98 + 0.01, **unit), sharded)
    result["sharded, fixed"] = (priory.VampPrior(x[:7], **fixed), sharded | {"objective": "sticking-the-landing"})
    result["sharded, weighted"] = (
        priory.MixtureOfGaussians(2, 5),
        sharded | {"optimizer": "adam", "ema_decay": 0.9, "objective": "importance-weighted", "num_samples": 3},
    )
    result["sharded, clipped"] = (priory.VampPrior(x[:2]), sharded | {"gradient_clip": 0.5, "rows": 33})
    return result


def rows_of(number: int, seed: int) -> Tensor:
    return torch.rand(number, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def main(out: Path, processes: int) -> None:
    distributed = {} if processes == 1 else {"devices": processes, "strategy": "ddp"}
    results = {}
    for name, (prior, changes) in cases(rows_of(37, 0)).items():
        options = {"optimizer": partial(torch.optim.SGD, lr=0.05), "epochs": 4, "warmup": 3, "patience": None} | changes
        x: Any = rows_of(options.pop("rows", 37), 0)
        if options.pop("dynamic", False):
            x = priory.rows.as_rows(x, "x")
            x.dynamic_binarization = True
        else:
            x = x.round()
        vae = make(prior)
        history = fit(
            vae, x, rows_of(13, 1).round(), seed=3, batch_size=16 // processes, validation_batch_size=4,
            accelerator="cpu", **distributed, **options,
        )  # fmt: skip
        weights = {each: value.flatten().tolist() for each, value in vae.state_dict().items()}
        numbers = {each: history[each] for each in history if each != "seconds"}
        results[name] = {"weights": weights, "history": numbers, "stopped": history.stopped_early}
    (out / f"{processes}.{process_rank()}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    Normal.rsample, torch.bernoulli = noise_of_rows, binarized_by_value  # type: ignore[assignment,method-assign]
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]))
