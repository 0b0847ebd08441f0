"""The pictures of a latent-variable model: chosen here, drawn by `plots`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from priory.distributions.chain import center_of, scale_of, top_level
from priory.distributions.mixture import Mixture
from priory.distributions.normal import is_diagonal_normal
from priory.evaluation import AggregatePosterior
from priory.maps import TopographicMap
from priory.maps.model_surface import grid_prior_of
from priory.model import LatentVariableModel, cast_like, latent_prior_of, posterior_of, reconstruct, sample
from priory.nn.preprocessing import Preprocessing
from priory.plots import (
    plot_component_use,
    plot_images,
    plot_node_images,
    plot_pairwise_marginals,
    plot_prior_contours,
    plot_reconstructions,
    plot_rows,
    plot_samples,
    plot_training_curve,
)
from priory.priors.hierarchical import top_prior
from priory.workbench.data import Dataset, DatasetRows
from priory.workbench.pictures.maps import Look, by_first_label, map_figures, save_figures, some_rows
from priory.workbench.report.run import MOST_JUDGED

NUM_IMAGES = 64
NUM_PAIRS = 16
MOST_PSEUDO_INPUTS = 100  # in one picture
MOST_DIMENSIONS = 5  # of a latent space shown pair by pair: more take over two seconds to draw
ENCODED_AT_ONCE = 1024
RESPONSIBILITIES_AT_ONCE = 4096  # rows of the B x K matrix


@torch.no_grad()
def draw_figures(
    model: LatentVariableModel,
    rows: DatasetRows,
    image_shape: tuple[int, int] | None,
    restored: Callable[[Tensor], Tensor],
    history: Mapping[str, Sequence[float]] | None,
    folder: Path,
) -> list[Path]:
    """Draw the figures that suit the model and the data; returns the files, the most telling one first.

    A prior with a square grid: `map_figures` of all rows of the data set. Two latent dimensions: `prior.png`, the
    prior's density around the encoded rows; more: `pairwise.png`, its marginals and the aggregate posterior's. Always:
    `samples.png`, `reconstructions.png`, and `training.png` if there is a history. Images and a prior with
    pseudo-inputs: `pseudo_inputs.png`. A mixture: `components.png`, the use of its components. `restored` adds the
    constant columns to rows, so that they are whole images.
    """
    rows = DatasetRows(rows.dataset, rows.indices[:MOST_JUDGED])
    x, p_z = _values(model, rows), latent_prior_of(model)
    has_density = torch.cat(
        [p_z.log_prob(center_of(posterior_of(model, part))) for part in x.split(ENCODED_AT_ONCE)]
    ).isfinite()
    if not has_density.all():  # rows far outside of the data
        rows = DatasetRows(rows.dataset, rows.indices[has_density.cpu().numpy()])
        x = _values(model, rows)
    posteriors = [posterior_of(model, part) for part in x.split(ENCODED_AT_ONCE)]
    levels = getattr(getattr(model, "decoder", None), "num_levels", None)
    highest = float(levels - 1) if levels is not None else max(1.0, float(x.max()))  # the top of the likelihood's range
    look = Look(rows.dataset.columns, image_shape, restored, 0.0, highest)
    figures = _map_figures(model, rows.dataset, look) | _latent_figures(p_z, posteriors, rows)
    figures |= _table_figures(model, look, x) if image_shape is None else _image_figures(model, look, x)
    top = top_level(p_z)
    if isinstance(top, Mixture) and top.num_components > 1:
        figures["components"] = plot_component_use(top.mixing_weights, _usage(top, posteriors))
    if history is not None and len(history["epoch"]) > 1:
        figures["training"] = plot_training_curve(
            history, input_noise=getattr(getattr(model, "encoder", None), "input_noise", 0.0)
        )
    return save_figures(figures, folder)


def _values(model: LatentVariableModel, rows: DatasetRows) -> Tensor:
    return cast_like(rows.batch(torch.arange(len(rows)))[0], model)


def _map_figures(model: LatentVariableModel, dataset: Dataset, look: Look) -> dict[str, Any]:
    if grid_prior_of(model) is None:
        return {}
    rows = some_rows(dataset.all_rows())
    return map_figures(TopographicMap(model, rows), rows, len(dataset), look)


def _latent_figures(p_z: Distribution, posteriors: Sequence[Distribution], rows: DatasetRows) -> dict[str, Any]:
    """The prior and the codes; both functions preserve the state of torch's generator."""
    loc = torch.cat([center_of(q_z) for q_z in posteriors])
    if loc.shape[-1] < 2:
        return {}
    if loc.shape[-1] == 2:
        return {"prior": plot_prior_contours(p_z, loc, **by_first_label(rows))}
    if all(is_diagonal_normal(top_level(q_z)) for q_z in posteriors):
        codes: Any = AggregatePosterior(loc, torch.cat([scale_of(q_z) for q_z in posteriors]))
    else:
        codes = loc
    return {"pairwise": plot_pairwise_marginals(p_z, codes, most=MOST_DIMENSIONS)}


def _usage(p_z: Mixture, posteriors: Sequence[Distribution]) -> Tensor:
    """The mean of the responsibilities p(k|z) over one draw of each posterior, (component,)."""
    z = torch.cat([q_z.sample() for q_z in posteriors])[:, : p_z.event_shape[0]]
    parts = z.split(RESPONSIBILITIES_AT_ONCE)
    return torch.stack([p_z.responsibilities(part).double().sum(0) for part in parts]).sum(0) / len(z)


def _image_figures(model: LatentVariableModel, look: Look, x: Tensor) -> dict[str, Any]:
    samples = look.restored(sample(model, NUM_IMAGES, mean=True).flatten(1)).cpu()
    reconstructions = look.restored(reconstruct(model, x[:NUM_PAIRS]).flatten(1)).cpu()
    figures = {
        "samples": plot_images(samples, title="Means of p(x|z), z drawn from the prior", **look.gray),
        "reconstructions": plot_reconstructions(
            look.restored(x[:NUM_PAIRS].flatten(1)).cpu(), reconstructions, **look.gray
        ),
    }
    prior: Any = top_prior(getattr(model, "prior", None))
    if (pseudo_inputs := getattr(prior, "pseudo_inputs", None)) is not None:
        preprocess = getattr(model, "preprocess", None)
        units = preprocess.inverse(pseudo_inputs) if isinstance(preprocess, Preprocessing) else pseudo_inputs
        figures["pseudo_inputs"] = _draw_pseudo_inputs(look.restored(units.flatten(1).cpu()), prior, look)
    return figures


def _table_figures(model: LatentVariableModel, look: Look, x: Tensor) -> dict[str, Any]:
    reconstructions, x = reconstruct(model, x[:NUM_PAIRS]).flatten(1).cpu(), x.flatten(1).cpu()
    samples = torch.cat([sample(model, 256).flatten(1).cpu() for _ in range(4)])
    return {
        "samples": plot_samples(x, samples, names=look.columns),
        "reconstructions": plot_rows(x[: len(reconstructions)], reconstructions, names=look.columns),
    }


def _draw_pseudo_inputs(images: Tensor, prior: nn.Module, look: Look) -> Any:
    """Pseudo-inputs of a square grid at their places, of another in its order, else the first ones."""
    grid_shape: tuple[int, ...] = getattr(prior, "grid_shape", ())
    if len(grid_shape) == 2 and grid_shape[0] == grid_shape[1]:
        title = "Pseudo-inputs, $u_1$ to the right, $u_2$ upwards"
        return plot_node_images(images, side=grid_shape[0], title=title, **look.gray)
    if grid_shape:
        return plot_images(images, columns=grid_shape[-1], title="Pseudo-inputs", **look.gray)
    some = f": the first {MOST_PSEUDO_INPUTS} of {len(images)}" if len(images) > MOST_PSEUDO_INPUTS else ""
    return plot_images(images[:MOST_PSEUDO_INPUTS], title=f"Pseudo-inputs{some}", **look.gray)
