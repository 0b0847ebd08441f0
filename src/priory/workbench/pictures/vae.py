"""The pictures of a latent-variable model. This module selects them, and `priory.plots` draws them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from priory.distributions.chain import Chain, center_of, scale_of, top_level
from priory.distributions.mixture import Mixture
from priory.distributions.normal import bounded_scale, is_diagonal_normal
from priory.evaluation import AggregatePosterior, clusters, has_clusters
from priory.evaluation.components import rows_at_once
from priory.evaluation.contexts import overall_prior
from priory.maps import TopographicMap
from priory.maps.model_surface import grid_prior_of, prior_behind
from priory.maps.quality import evenly_spaced
from priory.model import (
    AnyModel,
    LatentVariableModel,
    cast_like,
    given,
    latent_prior_of,
    likelihood_of,
    posterior_of,
    reconstruct,
    sample,
)
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
from priory.plots.figure import all_as_drawn
from priory.priors import ExemplarPrior
from priory.rows import batches_with_context, context_at
from priory.workbench.data import Dataset, DatasetRows
from priory.workbench.pictures.maps import Look, by_first_label, map_figures, save_figures, some_rows
from priory.workbench.report.run import MOST_JUDGED

NUM_IMAGES = 64
NUM_PAIRS = 16
NUM_EXEMPLARS, DRAWN_OF_EXEMPLAR = 8, 7
MOST_PSEUDO_INPUTS = 100  # in one picture
SAMPLES_OF_A_CONTEXT = 8
MOST_SAMPLED_CONTEXTS = 12
MOST_DIMENSIONS = 5  # shown pair by pair; more take over two seconds to draw
ENCODED_AT_ONCE = 1024


@torch.no_grad()
def draw_figures(
    model: AnyModel,
    rows: DatasetRows,
    image_shape: tuple[int, int] | None,
    restored: Callable[[Tensor], Tensor],
    history: Mapping[str, Sequence[float]] | None,
    folder: Path,
) -> list[Path]:
    """Draw the figures that suit the model and the data; return the files, most important first.

    - A prior with a square grid: `map_figures` of all rows of the data set.
    - Two latent dimensions: `prior.png`, the prior's density around the encoded rows; with more: `pairwise.png`, the
      marginals of the prior and of the aggregate posterior.
    - Always: `samples.png` and `reconstructions.png`; with a history: `training.png`.
    - Images, and a prior with pseudo-inputs: `pseudo_inputs.png`; with exemplars: `exemplars.png`; with clusters:
      `clusters.png`, the decoded means of the components.
    - A mixture: `components.png`, the usage of its components.

    `restored` adds the constant columns to rows, so that they are whole images.
    """
    rows = DatasetRows(rows.dataset, rows.indices[:MOST_JUDGED])
    p_z = overall_prior(model, rows)
    has_density = torch.cat([p_z.log_prob(center_of(q_z)) for q_z in _posteriors(model, rows)]).isfinite()
    if not has_density.all():  # leave out rows far from the data
        rows = DatasetRows(rows.dataset, rows.indices[has_density.cpu().numpy()])
    x = _values(model, rows)
    posteriors = _posteriors(model, rows)
    levels = getattr(getattr(model, "decoder", None), "num_levels", None)
    highest = (
        float(levels - 1) if levels is not None else max(1.0, float(x.max()))
    )  # the upper end of the likelihood's range
    look = Look(rows.dataset.columns, image_shape, restored, 0.0, highest)
    figures = _map_figures(model, rows.dataset, look) | _latent_figures(p_z, posteriors, rows)
    figures |= _table_figures(model, look, x, rows) if image_shape is None else _image_figures(model, look, x, rows)
    top = top_level(p_z)
    if isinstance(top, Mixture) and top.num_components > 1:
        figures["components"] = plot_component_use(top.mixing_weights, _usage(top, posteriors))
    if history is not None and len(history["epoch"]) > 1:
        figures["training"] = plot_training_curve(
            history, input_noise=getattr(getattr(model, "encoder", None), "input_noise", 0.0)
        )
    return save_figures(figures, folder)


def _values(model: AnyModel, rows: DatasetRows) -> Tensor:
    return cast_like(rows.batch(torch.arange(len(rows)))[0], model)


def _posteriors(model: Any, rows: DatasetRows) -> list[Distribution]:
    batches = batches_with_context(rows, ENCODED_AT_ONCE)
    return [posterior_of(given(model, context), cast_like(x, model)) for x, context in batches]


def _at_first(model: Any, rows: DatasetRows, number: int) -> LatentVariableModel:
    """Return the model, given the context of the first rows if it is conditional."""
    return given(model, context_at(rows, torch.arange(min(number, len(rows)))))


def _map_figures(model: Any, dataset: Dataset, look: Look) -> dict[str, Any]:
    if grid_prior_of(model) is None:
        return {}
    rows = some_rows(dataset.all_rows())
    return map_figures(TopographicMap(model, rows), rows, len(dataset), look)


def _latent_figures(p_z: Distribution, posteriors: Sequence[Distribution], rows: DatasetRows) -> dict[str, Any]:
    """Draw the prior and the codes; this does not change the state of torch's generator."""
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
    """Return the mean of the responsibilities p(k|z) over one draw from each posterior, (component,)."""
    z = torch.cat([q_z.sample() for q_z in posteriors])[:, : p_z.event_shape[0]]
    parts = z.split(rows_at_once(p_z))
    return torch.stack([p_z.responsibilities(part).double().sum(0) for part in parts]).sum(0) / len(z)


def _image_figures(model: Any, look: Look, x: Tensor, rows: DatasetRows) -> dict[str, Any]:
    known, title = _sampled(model, rows)
    drawn = sample(known, NUM_IMAGES if known is model else SAMPLES_OF_A_CONTEXT, mean=True)
    if known is not model:
        drawn = drawn.transpose(0, 1).flatten(0, 1)  # one line of images per context
    samples = look.restored(drawn.flatten(1)).cpu()
    first = _at_first(model, rows, NUM_PAIRS)
    reconstructions = look.restored(reconstruct(first, x[:NUM_PAIRS]).flatten(1)).cpu()
    figures = {
        "samples": plot_images(samples, title=title, columns=SAMPLES_OF_A_CONTEXT, **look.gray),
        "reconstructions": plot_reconstructions(
            look.restored(x[:NUM_PAIRS].flatten(1)).cpu(), reconstructions, **look.gray
        ),
    }
    if has_clusters(model):
        centers = _cluster_centers(model, x)
        title = f"Decoded centers of {len(centers)} clusters, the largest first"
        images = look.restored(centers.flatten(1)).cpu()
        figures["clusters"] = plot_images(images, title=title, **look.gray)
    prior: Any = prior_behind(model)
    if (pseudo_inputs := getattr(prior, "pseudo_inputs", None)) is not None:
        preprocess = getattr(model, "preprocess", None)
        units = preprocess.inverse(pseudo_inputs) if isinstance(preprocess, Preprocessing) else pseudo_inputs
        figures["pseudo_inputs"] = _draw_pseudo_inputs(look.restored(units.flatten(1).cpu()), prior, look)
    if isinstance(prior, ExemplarPrior):
        figures["exemplars"] = _draw_exemplars(model, prior, look)
    return figures


def _sampled(model: Any, rows: DatasetRows) -> tuple[LatentVariableModel, str]:
    """Return the model to sample images from, given some contexts of these rows if it is conditional, and a title."""
    context = context_at(rows, torch.arange(len(rows)))
    if context is None:
        return model, "Means of p(x|z), z drawn from the prior"
    encoding = rows.dataset.encoding
    contexts = context.unique(dim=0)[:MOST_SAMPLED_CONTEXTS]
    title = "Means of p(x|z, c), z drawn from p(z|c); a line for each context"
    if encoding is not None and len(encoding.columns) == 1 and encoding.sizes[0] > 1:
        contexts = torch.eye(encoding.width)[:MOST_SAMPLED_CONTEXTS]
        title = f"Means of p(x|z, c), a line for each {encoding.names[0]}"
    return given(model, contexts), all_as_drawn([title], 60)[0]


def _draw_exemplars(model: LatentVariableModel, prior: ExemplarPrior, look: Look) -> Any:
    """Draw one line for each of some exemplars: E[x | z] at its code, then at draws from its component."""
    chosen = torch.from_numpy(evenly_spaced(prior.num_components, NUM_EXEMPLARS))
    codes = prior.codes[chosen].unsqueeze(1)
    drawn = codes + bounded_scale(prior.log_scale) * torch.randn(len(codes), DRAWN_OF_EXEMPLAR, codes.shape[-1]).to(
        codes
    )
    images = likelihood_of(model, torch.cat([codes, drawn], 1)).mean.flatten(0, 1).flatten(1)
    title = f"{len(codes)} of {prior.num_components} exemplars (left), and draws around each"
    return plot_images(look.restored(images).cpu(), columns=1 + DRAWN_OF_EXEMPLAR, title=title, **look.gray)


def _cluster_centers(model: LatentVariableModel, x: Tensor) -> Tensor:
    """Return E[x | z] at the means of the components that are the most likely for some row, largest first."""
    whole = latent_prior_of(model)
    p_z: Any = top_level(whole)
    sizes = clusters(model, x).bincount(minlength=p_z.num_components)
    largest = sizes.argsort(descending=True, stable=True)[: min(MOST_PSEUDO_INPUTS, int((sizes > 0).sum()))]
    centers = p_z.components.mean[largest.to(x.device)]
    return likelihood_of(model, whole.completed(centers) if isinstance(whole, Chain) else centers).mean


def _table_figures(model: Any, look: Look, x: Tensor, rows: DatasetRows) -> dict[str, Any]:
    first = _at_first(model, rows, NUM_PAIRS)
    reconstructions = reconstruct(first, x[:NUM_PAIRS]).flatten(1).cpu()
    known = _at_first(model, rows, 256)  # contexts of the rows
    x = x.flatten(1).cpu()
    samples = torch.cat([sample(known, () if known is not model else 256).flatten(1).cpu() for _ in range(4)])
    return {
        "samples": plot_samples(x, samples, names=look.columns),
        "reconstructions": plot_rows(x[: len(reconstructions)], reconstructions, names=look.columns),
    }


def _draw_pseudo_inputs(images: Tensor, prior: nn.Module, look: Look) -> Any:
    """Draw pseudo-inputs: those of a square grid at their places, of another grid in its order, else the first ones."""
    grid_shape: tuple[int, ...] = getattr(prior, "grid_shape", ())
    if len(grid_shape) == 2 and grid_shape[0] == grid_shape[1]:
        title = "Pseudo-inputs, $u_1$ to the right, $u_2$ upwards"
        return plot_node_images(images, side=grid_shape[0], title=title, **look.gray)
    if grid_shape:
        return plot_images(images, columns=grid_shape[-1], title="Pseudo-inputs", **look.gray)
    some = f": the first {MOST_PSEUDO_INPUTS} of {len(images)}" if len(images) > MOST_PSEUDO_INPUTS else ""
    return plot_images(images[:MOST_PSEUDO_INPUTS], title=f"Pseudo-inputs{some}", **look.gray)
