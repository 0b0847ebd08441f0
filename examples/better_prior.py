"""Fit a better prior to a trained VAE, whose networks stay as they are: python examples/better_prior.py [EPOCHS]"""

import sys

import torch

import priory

torch.manual_seed(0)
digits = priory.load_dataset("digits", binarize="static")
train, valid, test = (digits.rows(name).tensor() for name in ("train", "valid", "test"))
vae = priory.VAE(
    encoder=priory.NormalEncoder(priory.mlp(64, [128], 2 * 8)),
    decoder=priory.BernoulliDecoder(priory.mlp(8, [128], 64)),
    prior=priory.StandardNormal(8),
)
epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
priory.fit(vae, train, valid, epochs=epochs, warmup=0, seed=0)
better = priory.refit(vae, priory.MixtureOfGaussians(8, 30), train, valid, seed=0, epochs=epochs).model
for name, model in {"standard normal": vae, "mixture of 30 Gaussians": better}.items():
    metrics = priory.evaluate(model, test, num_samples=64)
    print(f"{name}: ELBO {metrics['elbo']}, NLL {metrics['nll']} nats")
