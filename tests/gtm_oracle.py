"""The generative topographic mapping cell by cell in numpy, exactly as in the paper's formulas; slow."""

import math

import numpy as np
from scipy.special import logsumexp


def joint(x, means, variance):
    """log 1/K + log N(x_n | mean_k, variance I) over the observed cells, (N, K)."""
    result = np.empty((len(x), len(means)))
    for n, row in enumerate(x):
        observed = ~np.isnan(row)
        for k, mean in enumerate(means):
            squares = sum((row[d] - mean[d]) ** 2 for d in observed.nonzero()[0])
            result[n, k] = -math.log(len(means)) - squares / (2 * variance)
            result[n, k] -= observed.sum() / 2 * math.log(2 * math.pi * variance)
    return result


def log_likelihoods(x, means, variance):
    """log p(x_n) in nats."""
    return logsumexp(joint(x, means, variance), axis=1)


def responsibilities(x, means, variance):
    """p(k | x_n)."""
    terms = joint(x, means, variance)
    return np.exp(terms - logsumexp(terms, axis=1, keepdims=True))


def em_step(x, features, weights, variance, decay, tether, plane, row_weights):
    """One iteration: W column by column by stacked least squares, one equation for each pair of row and node."""
    shares = responsibilities(x, features @ weights, variance) * row_weights[:, None]
    new_weights = np.empty_like(weights)
    for d in range(x.shape[1]):
        observed = ~np.isnan(x[:, d])
        roots = np.sqrt(shares[observed]).reshape(-1, 1)
        equations = roots * np.tile(features, (observed.sum(), 1))
        values = roots[:, 0] * np.repeat(x[observed, d], len(features))
        prior = math.sqrt(decay * variance) * np.eye(features.shape[1])[:-1]
        tie = math.sqrt(tether * variance) * np.eye(features.shape[1])
        equations = np.vstack([equations, prior, tie])
        values = np.concatenate([values, np.zeros(len(prior)), tie @ plane[:, d]])
        new_weights[:, d] = np.linalg.lstsq(equations, values, rcond=None)[0]
    squares = (x[:, None] - features @ new_weights) ** 2
    total = np.nansum(squares * shares[:, :, None])
    return new_weights, total / (row_weights[:, None] * ~np.isnan(x)).sum()
