"""Which pictures a run gets: chosen here, drawn by `plots`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from priory.datasets import Rows
from priory.evaluation import device_of
from priory.plots import (
    plot_images,
    plot_prior_contours,
    plot_reconstructions,
    plot_rows,
    plot_samples,
    plot_training_curve,
    save_figure,
)
from priory.preprocessing import Preprocessing
from priory.vae import VAE

MOST_POINTS = 20_000  # dots in one picture
NUM_IMAGES = 64
NUM_PAIRS = 16
MOST_COLUMNS = 200  # of a table whose rows are shown as a heat map


@torch.no_grad()
def draw_figures(
    vae: VAE,
    rows: Rows,
    image_shape: tuple[int, int] | None,
    restored: Callable[[Tensor], Tensor],
    history: Mapping[str, Sequence[float]] | None,
    folder: Path,
) -> list[Path]:
    """Draw what suits the model and the data, on the given rows; returns the files in the order to look at them.

    Two latent dimensions: `prior.png`, the prior's density around the encoded rows. Always: `samples.png`,
    `reconstructions.png`, and `training.png` where there is a history. Images and a prior with pseudo-inputs:
    `pseudo_inputs.png`. `restored` makes whole images of rows that lack what is constant in all.
    """
    device = device_of(vae)
    x, _ = rows.batch(torch.arange(min(len(rows), MOST_POINTS)))
    x = x.to(device)
    figures: dict[str, Any] = {}
    loc = torch.cat([vae.encode(part).mean for part in x.split(1024)])
    if loc.shape[-1] == 2:
        figures["prior"] = plot_prior_contours(vae.latent_prior(), loc)
    if image_shape is None:
        figures |= _table_figures(vae, rows.dataset.columns, x)
    else:
        figures |= _image_figures(vae, image_shape, restored, x)
    if history is not None and len(history["epoch"]) > 1:
        figures["training"] = plot_training_curve(history)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        save_figure(figure, paths[-1])
    return paths


def _image_figures(
    vae: VAE, image_shape: tuple[int, int], restored: Callable[[Tensor], Tensor], x: Tensor
) -> dict[str, Any]:
    grey: dict[str, Any] = {"image_shape": image_shape, "low": 0.0, "high": _highest(vae, x)}
    samples, reconstructions = vae.sample(NUM_IMAGES, mean=True), vae.reconstruct(x[:NUM_PAIRS])
    figures = {
        "samples": plot_images(restored(samples).cpu(), title="Means of p(x|z), z drawn from the prior", **grey),
        "reconstructions": plot_reconstructions(restored(x[:NUM_PAIRS]).cpu(), restored(reconstructions).cpu(), **grey),
    }
    pseudo_inputs = _pseudo_inputs(vae)
    if pseudo_inputs is not None:
        side = getattr(vae.prior, "grid_shape", (0, 0))[-1] or None
        shown = restored(pseudo_inputs if side is not None else pseudo_inputs[:100])
        figures["pseudo_inputs"] = plot_images(shown, columns=side, title="Pseudo-inputs", **grey)
    return figures


def _table_figures(vae: VAE, all_names: Sequence[str], x: Tensor) -> dict[str, Any]:
    """Of a wide table, the columns that vary most."""
    reconstructions, x = vae.reconstruct(x[:NUM_PAIRS]).cpu(), x.cpu()
    columns = x.var(0).topk(min(MOST_COLUMNS, x.shape[1])).indices.sort().values
    names = [all_names[i] for i in columns]
    samples = torch.cat([vae.sample(256).cpu()[:, columns] for _ in range(4)])
    return {
        "samples": plot_samples(x[:, columns], samples, names=names),
        "reconstructions": plot_rows(x[: len(reconstructions), columns], reconstructions[:, columns], names=names),
    }


def _pseudo_inputs(vae: VAE) -> Tensor | None:
    """Pseudo-inputs in the data's units; on a grid of two dimensions, with u_1 to the right and u_2 upwards."""
    pseudo_inputs = getattr(vae.prior, "pseudo_inputs", None)
    if pseudo_inputs is None:
        return None
    images = vae.preprocess.inverse(pseudo_inputs) if isinstance(vae.preprocess, Preprocessing) else pseudo_inputs
    grid_shape = getattr(vae.prior, "grid_shape", ())
    if len(grid_shape) == 2:
        images = images.unflatten(0, grid_shape).transpose(0, 1).flip(0).flatten(0, 1)
    return images.cpu()


def _highest(vae: VAE, x: Tensor) -> float:
    """White: the top of the likelihood's range."""
    levels = getattr(vae.decoder, "num_levels", None)
    return float(levels - 1) if levels is not None else max(1.0, float(x.max()))
