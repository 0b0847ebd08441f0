"""The models that `benchmarks/maps.py` trains, each as assignments for `priory fit --set`."""

from typing import NamedTuple

GRID = "model.points_per_side=20"
VAMP, GTM = (f"model.prior={prior} model.latent_dim=16 {GRID}" for prior in ("gtm-vamp", "gtm"))
AS_PUBLISHED = "model.grid_start=mean model.grid_network=mlp"  # the model of the book: no start, no guide, no noise


class Variant(NamedTuple):
    """A model of the table.

    Attributes:
        settings: assignments, separated by blanks; they follow those of the data set.
        beside: the variant to compare the NLL with: it has another prior and is equal otherwise.
    """

    settings: str
    beside: str = "vamp-16"


VARIANTS = {
    "vae-2": Variant("model.prior=standard model.latent_dim=2"),
    "vamp-16": Variant("model.prior=vamp model.latent_dim=16 model.components=400"),
    "vamp-16, noise": Variant("model.prior=vamp model.latent_dim=16 model.components=400 model.input_noise=0.1256"),
    "gtm-vamp-16": Variant(VAMP),
    "gtm-vamp-16, 8 x 8": Variant("model.prior=gtm-vamp model.latent_dim=16 model.points_per_side=8"),
    "vamp-16, 900": Variant("model.prior=vamp model.latent_dim=16 model.components=900"),
    "gtm-vamp-16, 30 x 30": Variant(
        "model.prior=gtm-vamp model.latent_dim=16 model.points_per_side=30", "vamp-16, 900"
    ),
    "gtm-16": Variant(GTM),
    "gtm-vamp-16, as published": Variant(f"{VAMP} {AS_PUBLISHED}"),
    "gtm-16, as published": Variant(f"{GTM} {AS_PUBLISHED}"),
    "gtm-vamp-16, start alone": Variant(f"{VAMP} training.guidance=0 model.input_noise=0"),
    "gtm-vamp-16, no guide": Variant(f"{VAMP} training.guidance=0"),
    "gtm-vamp-16, no noise": Variant(f"{VAMP} model.input_noise=0"),
    "gtm-vamp-16, guide at 0.3": Variant(f"{VAMP} training.guidance=0.3"),
    "gtm-vamp-16, fixed sheet": Variant(f"{VAMP} model.learn_pseudo_inputs=false"),
    "gtm-vamp-16, perceptron": Variant(f"{VAMP} model.grid_network=mlp"),
    "gtm-vamp-16, noise 0.2": Variant(f"{VAMP} model.input_noise=0.2"),
}

MNIST = "training.epochs=30 training.batch_size=200 training.validation_draws=1"  # 10 000 rows need no more draws
OF_DATA = {
    "digits": "",
    "oil flow": "",
    "MNIST": MNIST,
    "MNIST, binary": f"{MNIST} data.binarize=dynamic",
    "Fashion-MNIST": MNIST,
    "Fashion-MNIST, binary": f"{MNIST} data.binarize=dynamic",
    "cells": "model.likelihood=negative-binomial",
}


def assignments(data: str, variant: str) -> list[str]:
    """Return the assignments of a variant on a data set, for `--set`.

    >>> assignments("digits", "vae-2")
    ['training.accelerator=cpu', 'model.prior=standard', 'model.latent_dim=2']
    """
    return ["training.accelerator=cpu", *OF_DATA[data].split(), *VARIANTS[variant].settings.split()]
