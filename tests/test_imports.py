"""What importing costs and changes: nothing but torch, numpy, jaxtyping; no state; imports run one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import priory

SOURCE = Path(priory.__file__).parent

ORDER = (  # some of it
    "density", "distributions", "mixture", "priors", "maps", "report", "assembly", "runs", "experiment", "gtm_runs",
    "run_kinds", "commands",
)  # fmt: skip

CORE_ONLY = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"lightning", "pytorch_lightning", "safetensors", "sklearn", "scipy",
                                  "pandas", "typer", "rich", "pydantic", "matplotlib", "plotly",
                                  "pyarrow", "anndata", "beartype"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import torch
import priory
from priory import *

torch.manual_seed(0)
x = torch.rand(30, 6).round()
for prior in (StandardNormal(2), MixtureOfGaussians(2, 3), VampPrior.from_data(x, 3, low=0.0, high=1.0),
              GTMPrior(2, latent_grid(3), mlp(2, [8], 4)),
              GTMVampPrior(latent_grid(3), mlp(2, [8], 6), low=0.0, high=1.0),
              FlowPrior.coupling(2)):
    vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), prior)
    elbo(vae, x).value().mean().backward()
    assert torch.isfinite(importance_weighted_bound(vae, x, 3)).all()
    assert evaluate(vae, x[:4], num_samples=3)["nll"].value > 0
assert priory.check_prior(StandardNormal(2)).passed
assert priory.check_bound(importance_weighted_bound).passed
try:
    priory.fit
except ImportError as error:
    assert "pip install 'priory[all]'" in str(error), error
else:
    raise AssertionError("fit without its libraries")
"""

NOTHING_CHANGES = """
import logging, warnings
import torch

def state():
    return (torch.distributions.Distribution._validate_args, torch.get_rng_state().tolist(), torch.get_num_threads(),
            torch.get_default_dtype(), torch.is_grad_enabled(), warnings.filters[:], logging.getLogger().level,
            torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision())

before = state()
import priory, priory.priors, priory.training, priory.plots, priory.cli, priory.datasets, priory.conformance
import priory.report
assert state() == before
"""


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_core_needs_torch_numpy_jaxtyping_and_zuko_only():
    run_python(CORE_ONLY)


def test_importing_changes_nothing_and_prints_nothing():
    assert run_python(NOTHING_CHANGES) == ""


def test_the_package_and_the_command_line_begin_without_torch():
    """The seconds that torch takes are `cli.main`'s, which is ready for Ctrl-C by then."""
    run_python("import sys, priory, priory.cli; assert not {'torch', 'numpy', 'rich', 'typer'} & set(sys.modules)")


def test_names_are_found_without_importing_their_rooms_first():
    code = "import priory; assert {'VAE', 'fit'} <= set(dir(priory)); priory.density; priory.fit; priory.%s"
    run_python(code.replace("priory.%s", "priory.Mixture"))
    with pytest.raises(AssertionError, match="module 'priory' has no attribute 'Vae'"):
        run_python(code.replace("%s", "Vae"))


def imported_at_the_top(file: Path) -> set[str]:
    """Modules of priory that a file imports when it is imported, without the package's own name."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "priory":
            parts = node.module.split(".")
            names.add(parts[1] if len(parts) > 1 else node.names[0].name)
    return names


def test_imports_run_one_way():
    rooms: dict[str, set[str]] = {}
    for file in SOURCE.rglob("*.py"):
        room = file.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room != "__init__":
            rooms.setdefault(room, set()).update(imported_at_the_top(file) - {room})
    placed: list[str] = []
    while rooms:
        free = sorted(room for room, needs in rooms.items() if needs.isdisjoint(rooms))
        assert free, f"a cycle among {sorted(rooms)}"
        placed += free
        for room in free:
            del rooms[room]
    assert [room for room in placed if room in ORDER] == list(ORDER)


def test_public_names_exist_and_are_documented():
    for name in priory.__all__:
        assert getattr(priory, name).__doc__, name
