"""Imports: required libraries, no side effects, no cycles, order of the folders."""

import ast
import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import priory

SOURCE = Path(priory.__file__).parent

CORE_ONLY = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"zuko", "lightning", "pytorch_lightning", "safetensors", "sklearn", "scipy",
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
              GTMVampPrior(latent_grid(3), mlp(2, [8], 6), low=0.0, high=1.0)):
    vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), prior)
    elbo(vae, x).value().mean().backward()
    assert torch.isfinite(importance_weighted_bound(vae, x, num_samples=3)).all()
    assert evaluate(vae, x[:4], num_samples=3)["nll"].value > 0
assert priory.check_prior(StandardNormal(2)).passed
assert priory.check_bound(importance_weighted_bound).passed
for extra, use in {"flows": lambda: FlowPrior.coupling(2), "train": lambda: priory.fit,
                   "tables": lambda: MixtureOfGaussians.from_latents(x, 3)}.items():
    try:
        use()
    except ImportError as error:
        assert f"in the folder of the project: pip install '.[{extra}]'" in str(error), error
    else:
        raise AssertionError(f"no error without the libraries of the extra {extra}")
"""

NOTHING_CHANGES = """
import logging, warnings
import torch

def state():
    return (torch.distributions.Distribution._validate_args, torch.get_rng_state().tolist(), torch.get_num_threads(),
            torch.get_default_dtype(), torch.is_grad_enabled(), warnings.filters[:], logging.getLogger().level,
            torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision())

before = state()
import priory, priory.priors, priory.training, priory.plots, priory.testing
import priory.workbench.cli.main, priory.workbench.data, priory.workbench.report
assert state() == before
"""


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_core_needs_torch_numpy_and_jaxtyping_only():
    run_python(CORE_ONLY)


@pytest.mark.parametrize("library", ["typer", "rich", "pydantic"])
def test_the_command_names_the_extra_if_a_library_is_missing(library):
    code = f"import sys\nsys.modules[{library!r}] = None\nfrom priory.workbench.cli.main import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = f"Error: this command needs {library}, which is not installed; "
    assert (done.returncode, done.stderr.startswith(expected), "pip install '.[cli]'" in done.stderr) == (1, True, True)


def test_importing_changes_nothing_and_prints_nothing():
    assert run_python(NOTHING_CHANGES) == ""


def test_the_package_and_the_command_line_do_not_import_torch():
    """`cli.main` imports torch, which takes seconds, after it handles Ctrl-C."""
    run_python(
        "import sys, priory, priory.workbench.cli.main\n"
        "assert not {'torch', 'numpy', 'rich', 'typer'} & set(sys.modules)"
    )


def test_the_settings_of_training_do_not_import_torch():
    run_python("import sys, priory.training.settings\nassert 'torch' not in sys.modules")


def test_public_names_are_imported_when_they_are_used():
    code = "import priory; priory.fit; priory.%s"
    run_python(code.replace("%s", "Mixture"))
    with pytest.raises(AssertionError, match="module 'priory' has no attribute 'Vae'"):
        run_python(code.replace("%s", "Vae"))


def test_dir_lists_public_names_only():
    code = "import priory, priory.density; print(*(name for name in dir(priory) if not name.startswith('__')))"
    names = run_python(code).split()
    assert {"VAE", "fit", "load", "TopographicMap"} <= set(names)
    assert names == sorted(names)
    assert not {"density", "vae", "importer"} & set(names)
    assert set(priory.__all__) <= set(names)
    assert all(getattr(priory, name).__doc__ for name in names)


def test_the_version_equals_that_of_the_distribution():
    assert version("priory") == priory.__version__


HEAVY = {"torch", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "lightning", "safetensors", "plotly"}
ANSWERS = """
import json, sys
from priory.workbench.cli.main import main
for code, command in json.loads(sys.argv[1]):
    sys.argv = ["priory", *command.split()]
    try:
        main()
    except SystemExit as end:
        assert (end.code or 0) == code, (command, end.code)
    heavy = set(json.loads({heavy!r})) & sys.modules.keys()
    assert not heavy, (command, heavy)
assert len(sys.modules) < {most}, len(sys.modules)
"""
COMMANDS = ("fit", "evaluate", "sample", "embed", "map", "score", "report", "refit", "compare", "priors", "check")
AT_ONCE = [
    *((0, f"{command} --help") for command in ("", *COMMANDS, "gtm", "gtm fit")),
    *((0, command) for command in ("--version", "gtm")),
    *((2, command) for command in ("fti", "fit", "fit missing.csv", "fit digits --no-such-option")),
    *((2, f"fit digits {option}") for option in ("--prior vmap", "--grid 3", "--set model.size=3", "--epochs 0")),
    *((2, f"gtm fit {rest}") for rest in ("missing.csv", "digits --set model.side=3")),
    *((2, f"{command} missing") for command in ("evaluate", "sample", "embed", "map", "score", "report")),
    *((2, f"compare {rest}") for rest in ("missing.csv", "digits --priors vmap")),
    (2, "refit missing --prior vamp"),
]


def check_answers(commands: list[tuple[int, str]], heavy: set[str], most: int, folder: Path) -> None:
    """Run commands in one process, and compare their exit codes and the modules that they import."""
    code = ANSWERS.format(heavy=json.dumps([*heavy]), most=most)
    arguments = [sys.executable, "-c", code, json.dumps(commands)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr


def test_commands_without_data_import_no_heavy_modules(tmp_path):
    check_answers(AT_ONCE, HEAVY | {"rich.markdown", "rich.progress", "pygments"}, 450, tmp_path)


def test_an_error_about_a_column_imports_no_heavy_modules(tmp_path):
    (tmp_path / "table.csv").write_text("a,kind\n1,x\n2,y\n3,x\n")
    commands = [(2, f"{kind} table.csv{labels}") for kind in ("fit", "gtm fit") for labels in ("", " --labels missing")]
    check_answers(commands, HEAVY - {"numpy", "pandas"}, 1100, tmp_path)


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(file): ast.parse(file.read_text()) for file in SOURCE.rglob("*.py")}


def imported_modules(tree: ast.Module) -> set[str]:
    """Return the modules of this package that a file imports, also inside functions."""
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "priory":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names if alias.name in MODULES}
    return modules


IMPORTS = {module: imported_modules(tree) for module, tree in MODULES.items() if module != "priory"}


def layers(imports: dict[str, set[str]]) -> list[set[str]]:
    """Sort modules into layers; each layer imports only from the layers before it."""
    left, sorted_layers = {name: needs & imports.keys() - {name} for name, needs in imports.items()}, []
    while left:
        layer = {name for name, needs in left.items() if needs.isdisjoint(left)}
        assert layer, f"an import cycle among {sorted(left)}"
        sorted_layers.append(layer)
        left = {name: needs for name, needs in left.items() if name not in layer}
    return sorted_layers


def between_rooms(depth: int, prefix: str) -> dict[str, set[str]]:
    """Return, for each file or folder under the prefix, the siblings that it imports from."""
    rooms: dict[str, set[str]] = {}
    for module, needs in IMPORTS.items():
        if module.startswith(prefix) and module.count(".") >= depth:
            room = rooms.setdefault(module.split(".")[depth], set())
            room |= {name.split(".")[depth] for name in needs if name.startswith(prefix) and name.count(".") >= depth}
    return rooms


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"priory.__main__"}))
def test_every_module_can_be_imported(module):
    """An import evaluates annotations, which the newest numpy or jaxtyping may reject."""
    assert import_module(module).__name__ == module


def test_imports_have_no_cycles():
    assert len(layers(IMPORTS)) > 1


def test_the_library_does_not_import_the_workbench():
    outside = {module for module in IMPORTS if not module.startswith("priory.workbench")} - {"priory.__main__"}
    assert not [module for module in outside if any(name.startswith("priory.workbench") for name in IMPORTS[module])]


LIBRARY = (
    "_support",
    "density",
    "distributions",
    "nn",
    "priors",
    "vae",
    "saving",
    "evaluation",
    "training",
    "workbench",
)
WORKBENCH = ("data", "settings", "models", "runs", "report", "jobs", "compare", "cli")


@pytest.mark.parametrize(("depth", "prefix", "order"), [(1, "priory.", LIBRARY), (2, "priory.workbench.", WORKBENCH)])
def test_folders_import_only_from_folders_before_them(depth, prefix, order):
    rooms = between_rooms(depth, prefix)
    assert len(layers(rooms)) > 1  # no cycle
    for below, room in enumerate(order):
        assert rooms[room].isdisjoint(order[below + 1 :]), room
