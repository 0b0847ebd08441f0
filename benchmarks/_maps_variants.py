"""The models that `benchmarks/maps.py` trains: a line each, of what `priory fit --set` takes."""

from typing import NamedTuple

GRID = "model.points_per_side=20"


class Variant(NamedTuple):
    """A model of the table.

    Attributes:
        settings: assignments, with blanks between them; they come after those of the data set.
        beside: the variant that differs by nothing but its prior, for the difference in NLL.
    """

    settings: str
    beside: str = "vamp-16"


VARIANTS = {
    "vae-2": Variant("model.prior=standard model.latent_dim=2"),
    "vamp-16": Variant("model.prior=vamp model.latent_dim=16 model.components=400"),
    "gtm-16": Variant(f"model.prior=gtm model.latent_dim=16 {GRID}"),
    "gtm-vamp-16": Variant(f"model.prior=gtm-vamp model.latent_dim=16 {GRID}"),
}

MNIST = "training.epochs=30 training.batch_size=200 training.validation_draws=1"  # 10 000 rows need no more draws
OF_DATA = {
    "digits": "",
    "oil flow": "",
    "MNIST": MNIST,
    "MNIST, binary": f"{MNIST} data.binarise=dynamic",
}


def assignments(data: str, variant: str) -> list[str]:
    """What `--set` is told.

    >>> assignments("digits", "vae-2")
    ['training.accelerator=cpu', 'model.prior=standard', 'model.latent_dim=2']
    """
    return ["training.accelerator=cpu", *OF_DATA[data].split(), *VARIANTS[variant].settings.split()]
