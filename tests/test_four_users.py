"""Four typical uses, from import to result: a handwritten VAE, a table, counts, images in a notebook."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn
from torch.distributions import Bernoulli, Independent
from torch.utils.data import DataLoader, Dataset

import priory


class MyVAE(nn.Module):
    def __init__(self, prior, columns=64, latent_dim=4):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(columns, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2 * latent_dim)
        )
        self.decoder = nn.Sequential(nn.Linear(latent_dim, 32), nn.ReLU(), nn.Linear(32, columns))
        self.prior = prior

    def encode(self, x):
        loc, log_variance = self.encoder(x).chunk(2, -1)
        return priory.diagonal_normal(loc, torch.exp(0.5 * log_variance))

    def latent_prior(self):
        return self.prior(self.encode)

    def decode(self, z):
        return Independent(Bernoulli(logits=self.decoder(z)), 1)


def test_a_researcher_can_use_their_own_vae(tmp_path):
    digits = priory.load_dataset("digits", binarize="static")
    train, valid, test = (digits.rows(name).tensor() for name in ("train", "valid", "test"))
    torch.manual_seed(0)
    vae = MyVAE(priory.GTMVampPrior(priory.latent_grid(8), priory.mlp(2, [16], 64), low=0.0, high=1.0))
    before = priory.evaluate(vae, test, num_samples=16)["nll"]
    history = priory.fit(
        vae, train, valid, objective="importance-weighted", num_samples=4, epochs=4, learning_rate=3e-3, seed=0
    )
    assert history.epochs == 4
    evaluation = priory.evaluate(vae, test, num_samples=16)
    assert evaluation["nll"].value < before.value - 5
    nats = priory.log_likelihood(vae, test, num_samples=16)
    assert nats.shape == (len(test),)
    drawn = priory.TopographicMap(vae, test)
    assert drawn.places.place.abs().max() <= 1
    refitted = priory.refit(vae, priory.MixtureOfGaussians(4, 6), train, valid, epochs=3, seed=0)
    assert refitted.course[refitted.best] >= refitted.course[0]
    page = priory.report(vae, test, tmp_path / "report", image_shape=(8, 8), history=history, num_samples=16)
    assert "GTMVampPrior" in page.read_text()
    priory.save(vae, tmp_path / "saved")
    again = priory.load(
        tmp_path / "saved",
        into=MyVAE(vae.prior.__class__(priory.latent_grid(8), priory.mlp(2, [16], 64), low=0.0, high=1.0)),
    )
    x = test[:5]
    torch.testing.assert_close(again.encode(x).mean, vae.encode(x).mean, rtol=0, atol=0)


def test_a_biologist_can_use_a_table(tmp_path):
    frame = load_iris(as_frame=True).frame
    frame.index = [f"plant {i}" for i in range(len(frame))]
    x = frame.drop(columns="target")
    gtm = priory.GTM(points_per_side=8).fit(x)
    places = priory.TopographicMap(gtm, x).to_frame()
    assert list(places.index) == list(frame.index)
    vae = priory.VAE(
        encoder=priory.NormalEncoder(priory.mlp(4, [16], 2 * 2)),
        decoder=priory.GaussianDecoder.from_data(priory.mlp(2, [16], 4), torch.tensor(x.to_numpy()).float()),
        prior=priory.MixtureOfGaussians(2, 3),
        preprocess=priory.Standardize.from_data(torch.tensor(x.to_numpy()).float()),
    )
    priory.fit(vae, x, epochs=20, seed=0)
    nats = priory.log_likelihood(vae, x, num_samples=16)
    assert isinstance(nats, pd.Series)
    assert list(nats.index) == list(frame.index)
    evaluation = priory.evaluate(vae, x, num_samples=16)
    assert json.loads(evaluation.to_json())["nll"]["value"] == pytest.approx(-nats.mean(), rel=0.05)
    priory.save(vae, tmp_path / "model")
    again = priory.load(tmp_path / "model")
    torch.testing.assert_close(
        again.latent_prior().log_prob(torch.zeros(2)), vae.latent_prior().log_prob(torch.zeros(2))
    )


def test_a_biologist_can_use_counts():
    anndata = pytest.importorskip("anndata", reason="needs the extra anndata")
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    rates = np.exp(rng.normal(size=(3, 30)))
    counts = rng.poisson(5 * rates[rng.integers(3, size=200)])
    cells = anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    cells.obs_names = [f"cell {i}" for i in range(200)]
    rows = torch.tensor(counts).float()
    decoder = priory.NegativeBinomialDecoder.from_data(priory.mlp(2, [16], 30), rows)
    vae = priory.VAE(
        encoder=priory.NormalEncoder(priory.mlp(30, [16], 4)),
        decoder=decoder,
        prior=priory.MixtureOfGaussians(2, 3),
        preprocess=decoder.preprocessing(rows),
    )
    history = priory.fit(vae, cells, epochs=5, seed=0)
    assert history["train_elbo"][-1] > history["train_elbo"][0]
    nats = priory.log_likelihood(vae, cells, num_samples=8)
    assert list(nats.index) == list(cells.obs_names)
    dense = priory.log_likelihood(vae, rows, num_samples=200)
    assert abs(float(dense.mean()) - nats.mean()) < 2


class Images(Dataset):
    """Images of bars; the label tells whether a bar is horizontal."""

    def __len__(self):
        return 60

    def __getitem__(self, number):
        image = torch.zeros(1, 8, 8)
        horizontal, place = number % 2, number // 2 % 8
        if horizontal:
            image[0, place] = 1.0
        else:
            image[0, :, place] = 1.0
        return image, horizontal


class ConvolutionalVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 8))
        self.decoder = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64))
        self.prior = priory.GTMPrior(4, priory.latent_grid(5), priory.mlp(2, [16], 8))

    def encode(self, x):
        loc, log_variance = self.encoder(x).chunk(2, -1)
        return priory.diagonal_normal(loc, torch.exp(0.5 * log_variance))

    def latent_prior(self):
        return self.prior()

    def decode(self, z):
        return Independent(Bernoulli(logits=self.decoder(z).unflatten(-1, (1, 8, 8))), 3)


def test_a_student_can_use_images_in_a_notebook(tmp_path):
    """`test_notebook.py` runs a notebook; this test uses images."""
    images = Images()
    torch.manual_seed(0)
    vae = ConvolutionalVAE()
    loader = DataLoader(images, batch_size=20, shuffle=True)
    history = priory.fit(vae, loader, images, epochs=15, learning_rate=1e-2, seed=0)
    assert history["valid_elbo"][history.best_epoch] > history["valid_elbo"][0] + 5
    evaluation = priory.evaluate(vae, images, num_samples=32)
    drawn = priory.TopographicMap(vae, images)
    assert drawn.nodes.contents.shape == (25, 1, 8, 8)
    for shown in (history, evaluation, drawn):
        assert "<table" in shown._repr_html_() or "<img" in shown._repr_html_()
    labels = ["horizontal" if number % 2 else "vertical" for number in range(len(images))]
    assert drawn.quality()["used_nodes"].value > 1
    page = priory.report(vae, images, tmp_path, labels={"bar": labels}, history=history, num_samples=16)
    assert "ConvolutionalVAE with a GTMPrior prior" in page.read_text()
    assert {"map.png", "nodes.png", "samples.png", "training.png"} <= {p.name for p in (tmp_path / "figures").iterdir()}
