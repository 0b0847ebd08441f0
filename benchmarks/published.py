"""Check published implementations with the conformance suite, each in a process of its own.

They are not dependencies of priory, so they need an environment of their own:

    python -m venv published
    published/bin/pip install torch==2.13.0
    published/bin/pip install -r benchmarks/requirements-published.txt
    PYTHONPATH=src published/bin/python benchmarks/published.py

Every implementation is called through its own functions. The docstring of an adapter and the table describe what the
adapter adds: shapes (a method for matrices gets matrices), and a sampler if there is none.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from _results import RESULTS, write_results
from priory.testing import Subject, check_prior

LATENT_DIM, NUM_COMPONENTS, NUM_FEATURES = 2, 9, 6


class Implementation(NamedTuple):
    """A published implementation.

    Attributes:
        package: its name on the package index.
        what: the class or function, and the additions of the adapter.
        subject: makes the object that is checked.
        reading: the meaning of the failures, and the intention of the authors.
    """

    package: str
    what: str
    subject: Callable[[], Subject]
    reading: str


def _matrix(z: Tensor) -> Tensor:
    return z.reshape(-1, z.shape[-1])


def _spread(module: nn.Module) -> None:
    """Multiply the weights by three: a new encoder maps all pseudo-inputs to nearly one place, this spreads them."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3.0)


def pythae_vamp(log_variance: float = 0.0) -> Subject:
    """Adapt `VAMP._log_p_z`, and `VAMPSampler.sample` with a decoder that returns z unchanged.

    Args:
        log_variance: about the log-variance of the posteriors: zero for a new encoder, lower for a trained one.
    """
    from pythae.models import VAMP, VAMPConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder
    from pythae.samplers import VAMPSampler

    class Identity(BaseDecoder):
        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=z)

    class Adapter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = VAMPConfig(input_dim=(NUM_FEATURES,), latent_dim=LATENT_DIM, number_components=NUM_COMPONENTS)
            self.model = VAMP(config, decoder=Identity())
            _spread(self.model.encoder)
            nn.init.constant_(self.model.encoder.log_var.bias, log_variance)

        def log_prob(self, z: Tensor) -> Tensor:
            return self.model._log_p_z(_matrix(z)).reshape(z.shape[:-1])

        def sample(self, shape: torch.Size) -> Tensor:
            drawn = VAMPSampler(self.model).sample(num_samples=max(1, shape.numel()))
            return drawn[: shape.numel()].reshape(*shape, LATENT_DIM)

    return Subject(Adapter)


def sysvi_vamp() -> Subject:
    """Adapt `VampPrior.log_prob`, summed over dimensions as in `VampPrior.kl`; the sampler is ours."""
    from scvi.external.sysvi._base_components import EncoderDecoder
    from scvi.external.sysvi._priors import VampPrior

    torch.manual_seed(0)
    encoder = EncoderDecoder(
        NUM_FEATURES, LATENT_DIM, [2], 0, n_hidden=16, n_layers=1, sample=True, var_mode="sample_feature"
    )  # the settings of the encoder of SysVI, except for its size
    _spread(encoder)

    class Adapter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            batch_index = torch.zeros(NUM_COMPONENTS, 1, dtype=torch.long)
            x = torch.randn(NUM_COMPONENTS, NUM_FEATURES)
            self.prior = VampPrior(NUM_COMPONENTS, encoder, x, [2], batch_index, [])

        def log_prob(self, z: Tensor) -> Tensor:
            return self.prior.log_prob(_matrix(z)).sum(1).reshape(z.shape[:-1])

        def sample(self, shape: torch.Size) -> Tensor:
            loc, variance = self.prior.get_params()  # named as in log_prob, which takes their square root
            normals = Independent(Normal(loc, variance.sqrt()), 1)
            return MixtureSameFamily(Categorical(logits=self.prior.w.flatten()), normals).sample(shape)

    encoder.eval()
    return Subject(Adapter, encoder=encoder)


def scvi_mixture() -> Subject:
    """Return the distribution of `MogPrior.get_prior`, without additions."""
    from scvi.module.base._priors import MogPrior

    class Adapter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.prior = MogPrior(NUM_COMPONENTS, LATENT_DIM)
            with torch.no_grad():
                self.prior.prior_means.mul_(20)  # at the start, they differ by less than 0.1

        def forward(self) -> Distribution:
            return self.prior.get_prior(torch.zeros(1, LATENT_DIM))

    return Subject(Adapter)


def ugtm_likelihood() -> Subject:
    """Adapt `computelogLikelihood(createPMatrix(...))`, called for one row at a time; the sampler is ours."""
    from ugtm import ugtm_core, ugtm_gtm

    data = np.random.default_rng(0).normal(size=(200, 3))
    model = ugtm_gtm.runGTM(data, k=4, m=2)
    scale = float(np.sqrt(model.betaInv))

    def log_prob_row(row: np.ndarray) -> float:
        distance = ugtm_core.createDistanceMatrix(model.matY, row[None])
        exponentials = ugtm_core.createPMatrix(distance, model.betaInv, 3)
        return -float(ugtm_core.computelogLikelihood(exponentials, model.betaInv, 3))

    def log_prob(z: Tensor) -> Tensor:
        values = [log_prob_row(row) for row in _matrix(z).detach().double().numpy()]
        return torch.tensor(values, dtype=z.dtype).reshape(z.shape[:-1])

    def sample(shape: torch.Size) -> Tensor:
        centers = torch.from_numpy(np.asarray(model.matY.T, dtype=np.float64))
        index = torch.randint(len(centers), shape)
        return torch.normal(centers[index], scale)

    return Subject((log_prob, sample))


def zuko_mixture() -> Subject:
    """Return the distribution of `zuko.mixtures.GMM`, without additions."""

    def make() -> nn.Module:
        import zuko

        return zuko.mixtures.GMM(LATENT_DIM, components=NUM_COMPONENTS)

    return Subject(make)


IMPLEMENTATIONS = {
    "pythae-vamp": Implementation(
        "pythae",
        "`VAMP._log_p_z` (pythae/models/vamp/vamp_model.py) and `VAMPSampler.sample` with a decoder that returns "
        "z; new encoder, log-variances near zero",
        pythae_vamp,
        "The density leaves out -L/2 log 2 pi. The log q(z given x) from which it is subtracted leaves it out too, "
        "in the loss and in `get_nll` (a comment there states it), so the constants cancel. `idle_input` is a plain "
        "tensor: `_log_p_z` moves it between devices, but `.double()` misses it.",
    ),
    "pythae-vamp-trained": Implementation(
        "pythae",
        "the same, with log-variances of the encoder near -2",
        partial(pythae_vamp, -2.0),
        "The sampler (pythae/samplers/vamp_sampler) passes log-variances through tanh, the density does not. They "
        "agree only near zero; otherwise the draws are wider than the density, and the checks that compare both "
        "fail. The other failures are those above.",
    ),
    "sysvi-vamp": Implementation(
        "scvi-tools",
        "`scvi.external.sysvi` `VampPrior.log_prob`, summed over dimensions as its `kl` does; it has no sampler, so "
        "the suite draws from the joint mixture of its components",
        sysvi_vamp,
        "`log_prob` (scvi/external/sysvi/_priors.py) takes the log-sum-exp over components in every dimension, "
        "and `kl` sums over dimensions afterwards: a product of one-dimensional mixtures. Its docstring names the "
        "published listing that it follows. Only the first two failures depend on our sampler. `u_cat` is declared "
        "trainable, but `torch.multinomial`, which draws categories from it, has no gradient. The encoder is "
        "registered, so it is saved twice. The source has one more error, which the suite does not find: "
        "`get_params` returns the posteriors' scale, and `log_prob` uses its square root as the components' "
        "scale.",
    ),
    "scvi-mog": Implementation(
        "scvi-tools",
        "`scvi.module.base` `MogPrior.get_prior`",
        scvi_mixture,
        "Correct, by torch's `MixtureSameFamily`.",
    ),
    "ugtm": Implementation(
        "ugtm",
        "`computelogLikelihood(createPMatrix(...))` (ugtm/ugtm_core.py), one row at a time, with the "
        "opposite sign; it has no sampler, so the suite draws from the mixture at `matY`, `betaInv`",
        ugtm_likelihood,
        "`createPMatrix` subtracts the largest exponent of each datum (its docstring: not exact, for "
        "responsibilities, which are correct), and `computelogLikelihood` does not add it back. The value does not "
        "fall with the distance from the map, so it is no density. `optimize` uses it only to test whether EM has "
        "converged. It has no gradient by design: EM fits it, in numpy.",
    ),
    "zuko-gmm": Implementation(
        "zuko",
        "`zuko.mixtures.GMM`",
        zuko_mixture,
        "The density is correct. Importing zuko switches torch's argument validation off for the whole process "
        "(zuko/distributions.py); priory switches it on again after importing zuko.",
    ),
}


def check_one(name: str) -> dict[str, Any]:
    """Check one implementation; return the report, with the versions of the packages."""
    implementation = IMPLEMENTATIONS[name]
    torch.set_num_threads(1)
    subject = implementation.subject()
    report = check_prior(subject.obj, encoder=subject.encoder)
    return {
        "package": implementation.package,
        "version": version(implementation.package),
        "torch": version("torch"),
        "what": implementation.what,
        "reading": implementation.reading,
        "checks": [{"name": c.name, "status": c.status, "seen": c.seen} for c in report.checks],
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results in Markdown: a table of the implementations, then every failure with its numbers."""
    lines = ["| implementation | passed | failed | skipped | reading |", "|---|---|---|---|---|"]
    for result in results.values():
        counts = [sum(c["status"] == s for c in result["checks"]) for s in ("passed", "failed", "skipped")]
        cells = [f"{result['package']} {result['version']}: {result['what']}", *map(str, counts), result["reading"]]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| implementation | failed check | seen |", "|---|---|---|"]
    for name, result in results.items():
        for c in result["checks"]:
            if c["status"] == "failed":
                lines.append(f"| {name} | `{c['name']}` | {c['seen'].replace('|', chr(92) + '|')} |")
    torch_version = next(iter(results.values()))["torch"]
    return "\n".join([f"Made by `benchmarks/published.py` with torch {torch_version}.", "", *lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", choices=IMPLEMENTATIONS, help="check this one here and print the report as JSON")
    one = parser.parse_args().one
    if one is not None:
        print(json.dumps(check_one(one)))
        return
    results = {}
    for name in IMPLEMENTATIONS:
        done = subprocess.run([sys.executable, __file__, "--one", name], capture_output=True, text=True, check=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, {c["name"]: c["seen"] for c in results[name]["checks"] if c["status"] == "failed"}, flush=True)
    write_results(RESULTS / "published.json", results, table(results))


if __name__ == "__main__":
    main()
