"""The folder of a saved model: `model.json` and `weights.safetensors`."""

import hashlib
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from priory._support.files import json_text, read_json, remove_leftovers, replacing, require_readable
from priory._support.imports import first_line
from priory._support.locking import sole_writer
from priory._support.messages import first_few
from priory._support.optional import require
from priory._version import __version__
from priory.saving.numbers import put_numbers
from priory.saving.recipes import REFUSED, Describer, check_rebuilt, rebuilt

RECIPE, WEIGHTS = "model.json", "weights.safetensors"
FORMAT = 1
SAVE_AGAIN = "save the model again"
INTO = "load it into a model of your code: priory.load(folder, into=my_model)"


def save(model: nn.Module, folder: str | Path, *, replace: bool = False) -> str | None:
    """Write a model into a folder; `priory.load` makes it again, identical to the bit. Nothing is pickled.

    `weights.safetensors` has the parameters and buffers, `model.json` a recipe of the modules. A recipe can describe
    modules of this package and of `torch.nn`, torch's distributions, and the flows of `FlowPrior.coupling` and
    `.spline`. For a model with another part, such as your own class, the file has a note instead: `priory.load(folder,
    into=my_model)` loads the numbers into a model that your code makes.

    Args:
        model: a model, or a part of one.
        folder: created if it is missing. A saved model in it is replaced.
        replace: write into a folder that also holds other files; they stay.

    Returns:
        None if `priory.load(folder)` makes the model again; else the part that cannot be described, and advice.

    Raises:
        TypeError: the model is not a module, or has a state that is not a tensor.
        FileExistsError: the folder holds other files.
        ImportError: safetensors is not installed.
        OSError: the files cannot be written.

    >>> import tempfile, torch
    >>> from priory import BernoulliDecoder, NormalEncoder, VAE, VampPrior, load, mlp
    >>> prior = VampPrior.from_data(torch.rand(100, 6), num_components=5, low=0.0, high=1.0)
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), prior)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(vae, folder)
    ...     torch.equal(load(folder).prior.pseudo_inputs, vae.prior.pseudo_inputs)
    True
    """
    safetensors = require("safetensors.torch", "train", "priory.save")
    if not isinstance(model, nn.Module):
        own = f"; a {type(model).__name__} has a method save(path)" if hasattr(model, "save") else ""
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}{own}")
    folder = Path(folder)
    _check_folder(folder, replace)
    recipe, tree, note = Describer(model), None, None
    try:
        tree = recipe.described(model, "model")
        check_rebuilt(model, rebuilt(tree, recipe.stored(), recipe.shared))
    except REFUSED as error:
        tree, note = None, first_line(error)
    content = safetensors.save(recipe.stored())
    header = {"format": FORMAT, "priory": __version__, "weights_sha256": hashlib.sha256(content).hexdigest()}
    text = json_text(header | {"shared": recipe.shared, "note": note, "model": tree})
    with sole_writer(folder):
        for name in (RECIPE, WEIGHTS):
            remove_leftovers(folder, of=folder / name)
        with replacing(folder / RECIPE) as new_recipe, replacing(folder / WEIGHTS) as new_weights:
            new_recipe.write_text(text + "\n", encoding="utf-8")
            new_weights.write_bytes(content)  # both are written before either gets its final name
    return None if note is None else f"{note}; {INTO}"


def load(folder: str | Path, into: nn.Module | None = None) -> nn.Module:
    """Load the model from a folder that `save` wrote; `priory.load` opens run folders too."""
    folder = Path(folder)
    if into is not None and not isinstance(into, nn.Module):
        raise TypeError(f"into: expected a torch.nn.Module, got {type(into).__name__}")
    tree, tensors = _read(folder)
    if into is None:
        if tree["model"] is None:
            raise ValueError(f"{folder / RECIPE}: expected a recipe of the model, got none: {tree['note']}; {INTO}")
        try:
            return rebuilt(tree["model"], tensors, tree["shared"]).eval()
        except REFUSED as error:
            raise ValueError(
                f"{folder / RECIPE}: expected a recipe that can be built, got another one ({first_line(error)}); "
                f"{SAVE_AGAIN}, or {INTO}"
            ) from error
    try:
        put_numbers(into, tensors, tree["shared"])
    except ValueError as error:
        raise ValueError(f"{folder / WEIGHTS}: {error}; build the model as it was when it was saved") from None
    return into.eval()


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the recipe and the tensors in a folder."""
    safetensors = require("safetensors.torch", "train", "priory.load")
    for name in (RECIPE, WEIGHTS):
        require_readable(folder / name, SAVE_AGAIN)
    file = folder / RECIPE
    tree = read_json(file, SAVE_AGAIN)
    if not isinstance(tree, dict) or "weights_sha256" not in tree:
        raise ValueError(f"{file}: expected a file that priory.save wrote, got another one; {SAVE_AGAIN}")
    if tree["format"] != FORMAT:
        raise ValueError(
            f"{file}: expected format {FORMAT}, got {tree['format']}, written by priory {tree['priory']}; install that "
            "version, or save the model again with this one"
        )
    content = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(content).hexdigest() != tree["weights_sha256"]:
        raise ValueError(
            f"{folder / WEIGHTS}: expected the file that was written together with {RECIPE}, got another or a damaged "
            f"one; {SAVE_AGAIN}"
        )
    return tree, safetensors.load(content)


def _check_folder(folder: Path, replace: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"folder: expected a folder, got the file {folder}; give another name")
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    others = sorted({*names} - {RECIPE, WEIGHTS})
    if others and not replace:
        raise FileExistsError(
            f"folder: expected a new folder or one with a saved model, got {folder} with {first_few(others)}; give "
            "another folder, or replace=True to keep these files"
        )
