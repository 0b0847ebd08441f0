"""Train a hand-written VAE with a VampPrior in a plain loop: python examples/own_vae.py [EPOCHS]"""

import sys

import torch
from torch import nn
from torch.distributions import Bernoulli, Independent

import priory


class MyVAE(nn.Module):
    def __init__(self, prior):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64))
        self.prior = prior

    def encode(self, x):
        loc, log_variance = self.encoder(x).chunk(2, -1)
        return priory.diagonal_normal(loc, torch.exp(0.5 * log_variance))

    def latent_prior(self):
        return self.prior(self.encode)

    def decode(self, z):
        return Independent(Bernoulli(logits=self.decoder(z)), 1)


torch.manual_seed(0)
digits = priory.load_dataset("digits", binarize="static")
train, test = digits.rows("train").tensor(), digits.rows("test").tensor()
vae = MyVAE(priory.VampPrior.from_data(train, num_components=50, low=0.0, high=1.0))
optimizer = torch.optim.Adam(vae.parameters(), 1e-3)
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 50):
    for rows in train[torch.randperm(len(train))].split(100):
        optimizer.zero_grad()
        (-priory.elbo(vae, rows).value().mean()).backward()
        optimizer.step()
print("NLL of test rows, nats:", priory.evaluate(vae, test, num_samples=64)["nll"])
