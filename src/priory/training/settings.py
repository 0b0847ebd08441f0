"""The settings of `fit` and `refit`, validated; importing them does not import torch."""

import math
import re
from contextlib import suppress
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StrictInt, field_validator, model_validator

from priory._support.settings import NumbersAreNotTruthValues

# The gradient's norm over the first 10 to 60 steps, median and largest: digits 6 and 18, static MNIST 26 and 255,
# counts of 2000 genes 156 and 310, of 20670 genes 560 and 1910. Adam's step does not depend on the gradient's scale, so
# the limit can be far above these: it stops explosions that would fill Adam's second moment for a thousand steps.
GRADIENT_CLIP = 10_000.0
MOST = 10**9  # epochs, rows or draws: more than anybody waits for, and the product of two fits into torch's integers

MOST_DEVICES = 1000  # on one machine

OBJECTIVE_OF = {"kl_weight": "beta-elbo", "free_bits": "free-bits"}  # the only objective that has the setting

OBJECTIVES_OF_DRAWS = ("importance-weighted", "doubly-reparameterized")  # their bounds depend on num_samples

# Names that other libraries use for a setting, or for a keyword of `fit`.
SYNONYMS = {
    "amp": "precision",
    "beta": "kl_weight",
    "clip": "gradient_clip",
    "early_stopping": "patience",
    "early_stopping_patience": "patience",
    "ema": "ema_decay",
    "gpus": "devices",
    "loss": "objective",
    "random_state": "seed",
    "verbose": "progress",
}

Fraction = Annotated[float, Field(ge=0, lt=1)]
Steps = Annotated[StrictInt, Field(ge=0, le=MOST)]


class TrainingSettings(NumbersAreNotTruthValues):
    """The settings of `priory.training.fit`; unknown names are errors.

    The KL warm-up multiplies the KL term of optimizer step t = 0, 1, ... by

        beta_t = min(1, t / W),    W = warmup if it is an int, else ceil(warmup * epochs * steps_per_epoch)

    (Sonderby et al. 2016, arXiv:1602.02282, section 2.2). Early stopping and the choice of the best weights begin with
    the first epoch after which W steps are done.

    >>> TrainingSettings(epochs=10, warmup=0.2).warmup_steps(steps_per_epoch=5)
    10
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    epochs: int = Field(500, ge=1, le=MOST, description="passes over the training rows, at most")
    batch_size: int = Field(100, ge=1, le=MOST, description="rows per step, on each device")
    shuffle_buffer: int | None = Field(
        None,
        ge=1,
        le=MOST,
        description="rows shuffled together, if they are read from files in blocks; none: as many as fit into 128 MB",
    )
    optimizer: Literal["adam", "adamw", "adamax", "nadam", "radam"] = Field(
        "adam", description="a member of Adam's family"
    )
    objective: Literal[
        "auto",
        "elbo",
        "beta-elbo",
        "free-bits",
        "importance-weighted",
        "doubly-reparameterized",
        "sticking-the-landing",
        "guided",
    ] = Field("auto", description="bound to maximize; auto: the guided bound if the prior has a guide, else the ELBO")
    kl_weight: float | None = Field(None, ge=0, description="weight of the KL term of the objective beta-elbo")
    free_bits: float | None = Field(None, ge=0, description="nats of KL without cost in the objective free-bits")
    learning_rate: float = Field(1e-3, gt=0, description="step size; the peak of one-cycle, the start of cosine")
    weight_decay: float = Field(0.0, ge=0, description="decay of the weights (decoupled from the gradient for adamw)")
    schedule: Literal["constant", "one-cycle", "cosine"] = Field("constant", description="course of the learning rate")
    warmup: Steps | Fraction = Field(
        0.1, description="KL warm-up: a fraction of the run (0.1), or a number of steps (1000); 0 for none"
    )
    gradient_clip: float | None = Field(
        GRADIENT_CLIP,
        gt=0,
        description="largest norm of the gradient; the default stops explosions only; none: no limit",
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay per step (0.999) of an average of the weights, used if it is better; none: no average",
    )
    shift_images: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the training images that are moved by at most one pixel, in the first epoch; it falls "
        "linearly, and would be 0 after the last epoch",
    )
    patience: int | None = Field(
        50, ge=1, le=MOST, description="epochs without a better validation before training stops; none: never"
    )
    validation_draws: int = Field(4, ge=1, le=MOST, description="draws of z per validation row, averaged")
    validation_batch_size: int = Field(1000, ge=1, le=MOST, description="validation rows at a time; costs memory only")
    num_samples: int = Field(1, ge=1, le=MOST, description="draws of z per row in the objective")
    guidance: float | None = Field(
        None,
        ge=0,
        le=1,
        description="weight of a grid prior's guide (see guided_elbo); None: min(1, 1000 / N)^2 for N training rows; "
        "0: no guide",
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        "32-true",
        description="number format of the matrix products (Lightning's names); validation is in float32. bf16-mixed is "
        "faster on GPUs and on processors with AVX-512, and much slower on others",
    )
    accelerator: str = Field("auto", description="Lightning's accelerator: auto, cpu, gpu, mps, ...")
    devices: StrictInt | str = Field(1, description="Lightning's devices: a number, a list such as 0,1, or auto")
    strategy: str = Field("auto", description="Lightning's strategy: auto, or ddp on several devices")
    shard_components: bool = Field(
        False, description="divide the prior's components among the processes, if one cannot hold them all"
    )

    @field_validator("warmup", mode="before")
    @classmethod
    def _read_warmup(cls, value: object) -> object:
        """Read the string "1000" as a number of steps, "0.1" as a fraction."""
        if isinstance(value, str):
            with suppress(ValueError):  # the error below names the expected values
                value = int(value) if value.strip().isdecimal() else float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"expected a fraction of the run (0.1) or a number of steps (1000), got {value!r}")
        if isinstance(value, float) and not 0 <= value < 1:
            raise ValueError(
                f"expected a float in [0, 1) (a fraction of the run) or an int (a number of steps), got {value!r}"
            )
        return value

    @model_validator(mode="after")
    def _check_objective(self) -> Self:
        if self.objective in OBJECTIVES_OF_DRAWS and "num_samples" not in self.model_fields_set:
            raise ValueError(
                f"num_samples: the objective {self.objective} needs this setting, because with one draw it is "
                "the ELBO; give the number of draws, such as num_samples=8"
            )
        for name, objective in OBJECTIVE_OF.items():
            value = getattr(self, name)
            if self.objective == objective and value is None:
                raise ValueError(
                    f"{name}: the objective {objective} needs this setting, got none; give a number, such as {name}=2"
                )
            if self.objective != objective and value is not None:
                raise ValueError(
                    f"{name}: expected none, because the objective {self.objective} does not use it, got {value:g}; "
                    f"leave it out, or choose objective={objective}"
                )
        return self

    @field_validator("devices")
    @classmethod
    def _check_devices(cls, value: int | str) -> int | str:
        if isinstance(value, str):
            value = "".join(value.split())
            if re.fullmatch(r"-?[0-9]+", value):
                value = int(value)
            elif value != "auto" and not re.fullmatch(r"[0-9]+(,[0-9]+)*,?", value):
                raise ValueError(f"expected a number of devices, a list such as '0,1', or 'auto', got {value!r}")
        if isinstance(value, int) and not 1 <= value <= MOST_DEVICES and value != -1:
            raise ValueError(
                f"expected a positive number of devices, at most {MOST_DEVICES}, -1 or 'auto' for all, got {value}"
            )
        return value

    def warmup_steps(self, steps_per_epoch: int) -> int:
        """Return W, the number of optimizer steps with beta below one."""
        if isinstance(self.warmup, int):
            return self.warmup
        # rounded first, because 0.1 * 3 * 10 is 3.0000000000000004
        return math.ceil(round(self.warmup * self.epochs * steps_per_epoch, 6))

    def beta(self, step: int, steps_per_epoch: int) -> float:
        """Return beta_t of optimizer step t = 0, 1, ...

        >>> [TrainingSettings(warmup=4).beta(t, steps_per_epoch=10) for t in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
        """
        steps = self.warmup_steps(steps_per_epoch)
        return 1.0 if step >= steps else step / steps

    def independent_of_epochs(self) -> bool:
        """Return whether a longer run begins with exactly the steps of a shorter one."""
        constant = self.schedule == "constant" and self.shift_images == 0
        return constant and (isinstance(self.warmup, int) or self.warmup == 0)


class RefitSettings(NumbersAreNotTruthValues):
    """The settings of `priory.training.refit`; unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    epochs: int = Field(500, ge=0, le=MOST, description="passes over the training rows, at most; 0: no gradient steps")
    batch_size: int = Field(100, ge=1, le=MOST, description="rows per step")
    learning_rate: float = Field(3e-3, gt=0, description="Adam's step size")
    draws: int = Field(4, ge=1, le=MOST, description="draws of z per row and step")
    patience: int | None = Field(50, ge=1, le=MOST, description="epochs without a better validation; none: never stop")
    validation_draws: int = Field(32, ge=1, le=MOST, description="draws of z per validation row, the same each time")
