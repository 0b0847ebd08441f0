"""The source has no call that could run code from a file, or write to a path from an archive."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import priory

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "subprocess"}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_CALLS = {
    "torch.load",
    "np.load",
    "numpy.load",
    "torch.jit.load",
    "torch.hub.load",
    "os.system",
    "pd.read_pickle",
}
FORBIDDEN_METHODS = {"extractall", "extract", "unpack_archive", "read_pickle", "to_pickle", "popen"}


def violations(source: str) -> Iterator[str]:
    """Yield the forbidden modules, names, calls and arguments that the source uses."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom):
            yield from ([node.module] if (node.module or "").split(".")[0] in FORBIDDEN_MODULES else [])
        elif isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            yield node.id
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            yield from ([name] if name in FORBIDDEN_CALLS or node.attr in FORBIDDEN_METHODS else [])
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
            safe = node.arg == "weights_only"
            yield from ([] if isinstance(node.value, ast.Constant) and node.value.value is safe else [node.arg])


@pytest.mark.parametrize("file", sorted(Path(priory.__file__).parent.rglob("*.py")), ids=lambda path: path.name)
def test_the_source_has_no_unsafe_calls(file):
    assert list(violations(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import torch; torch.load(p)",
        "np.load(p)",
        "eval(text)",
        "__import__(name)",
        "archive.extractall(folder)",
        "np.lib.format.read_array(f, allow_pickle=True)",
        "np.lib.format.read_array(f, allow_pickle=flag)",
        "torch.something(p, weights_only=False)",
    ],
)
def test_unsafe_calls_are_detected(source):
    assert list(violations(source))
    assert not list(violations("vae.eval()\nre.compile(x)\nnp.lib.format.read_array(f, allow_pickle=False)"))
