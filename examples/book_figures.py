"""Draw the book's figures 4.11 and 4.12: python examples/book_figures.py [EPOCHS]

Priors in two latent dimensions as contours, with the codes of test digits as dots: the mixtures, and those with a grid.
"""

import sys

import torch
from matplotlib.figure import Figure

import priory
from priory.plots import plot_prior_contours, save_figure

digits, rescale = priory.load_dataset("digits"), priory.Rescale(0.0, 16.0)
train, valid, test = (digits.rows(name).tensor() for name in ("train", "valid", "test"))
grid = priory.latent_grid(4)
MAKERS = {
    "figure_4_11.png": {
        "standard normal": lambda: priory.StandardNormal(2),
        "mixture of Gaussians": lambda: priory.MixtureOfGaussians(2, 16),
        "VampPrior": lambda: priory.VampPrior.from_data(rescale(train), 16, low=0.0, high=1.0),
    },
    "figure_4_12.png": {
        "GTM": lambda: priory.GTMPrior(2, grid, priory.mlp(2, [256, 256], 4, activation=torch.nn.Tanh)),
        "GTM-VampPrior": lambda: priory.GTMVampPrior(grid, priory.mlp(2, [256, 256], 64), low=0.0, high=1.0),
    },
}
for file, makers in MAKERS.items():
    figure = Figure(figsize=(5 * len(makers), 5), layout="constrained")
    for axes, (name, make) in zip(figure.subplots(1, len(makers)), makers.items(), strict=True):
        torch.manual_seed(0)
        encoder = priory.NormalEncoder(priory.mlp(64, [256, 256], 4))
        decoder = priory.CategoricalDecoder(priory.mlp(2, [256, 256], 64 * 17), 17)
        vae = priory.VAE(encoder, decoder, make(), rescale)
        priory.fit(vae, train, valid, epochs=int((*sys.argv, 100)[1]), batch_size=64, warmup=0, seed=0)
        plot_prior_contours(vae.latent_prior(), vae.encode(test).mean, axes=axes).set_title(name)
    save_figure(figure, file)
