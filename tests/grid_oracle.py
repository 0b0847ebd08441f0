"""Positions on a grid, row by row in numpy, for comparison."""

import numpy as np
import torch
from scipy.special import softmax
from scipy.stats import norm


def places(shares, nodes, steps=3.0):
    """For each row, the mean of the nodes within this many steps of the likeliest one, weighted by responsibilities."""
    step = min(np.diff(np.unique(column)).min() for column in nodes.T)
    result = []
    for share in shares:
        best = nodes[np.argmax(share)]
        total, weight = np.zeros(nodes.shape[1]), 0.0
        for node, r in zip(nodes, share, strict=True):
            if np.sqrt(((node - best) ** 2).sum()) <= steps * step * 1.000001:
                total, weight = total + r * node, weight + r
        result.append(total / weight)
    return np.array(result)


def shares(vae, x):
    """p(k | x) of a map, in numpy, by softmax of log p(k | z) + min(1, L / F) log r(k | x), r the guide's."""
    with torch.no_grad():
        z, features = vae.encode(x).mean, vae.preprocess(x).double().numpy()
        p_z = vae.latent_prior()
        loc, scale, weights = (
            t.double().numpy() for t in (p_z.components.mean, p_z.components.stddev, p_z.log_weights)
        )
    z = z.double().numpy()
    code = weights + norm.logpdf(z[:, None], loc, scale).sum(-1)
    guide = vae.prior.guide
    far = ((features[:, None] - guide.images.double().numpy()) ** 2).sum(-1) / (2 * float(guide.noise_variance))
    row = guide.log_weights.double().numpy() - far
    return softmax(code + min(1.0, z.shape[1] / features.shape[1]) * row, axis=1)
