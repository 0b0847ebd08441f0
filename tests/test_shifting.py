"""The setting `shift_images`: images that move by a pixel in training."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from priory import VAE, BernoulliDecoder, NormalEncoder, StandardNormal, elbo, fit, load_dataset, mlp
from priory.rows import TensorRows
from priory.training.shifting import image_shape_of, shifted

pytest.importorskip("lightning")

HEIGHT, WIDTH = 5, 4


def make() -> VAE:
    pixels = HEIGHT * WIDTH
    return VAE(NormalEncoder(mlp(pixels, [4], 4)), BernoulliDecoder(mlp(2, [4], pixels)), StandardNormal(2))


def image_rows(x: Tensor) -> TensorRows:
    """Rows of flattened images whose shape is known."""
    rows: Any = TensorRows(x)
    rows.image_shape = (HEIGHT, WIDTH)
    return rows


def nine_shifts(image: Tensor) -> dict[tuple[int, int], Tensor]:
    """The image moved by every pair of steps, by explicit indices; indices outside are clipped to the edge."""
    rows, columns = np.arange(HEIGHT), np.arange(WIDTH)
    return {
        (down, across): image[np.clip(rows + down, 0, HEIGHT - 1)][:, np.clip(columns + across, 0, WIDTH - 1)]
        for down in (-1, 0, 1)
        for across in (-1, 0, 1)
    }


def test_images_move_in_all_directions_equally_often() -> None:
    torch.manual_seed(0)
    image, number = torch.rand(HEIGHT, WIDTH), 9000
    moved = shifted(image.flatten().expand(number, -1), 1.0, (HEIGHT, WIDTH)).view(number, HEIGHT, WIDTH)
    counts = [int((moved == each).all(-1).all(-1).sum()) for each in nine_shifts(image).values()]
    assert sum(counts) == number
    deviation = (number / 9 * 8 / 9) ** 0.5
    assert max(abs(count - number / 9) for count in counts) < 4 * deviation


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_share_of_the_images_moves(share: float) -> None:
    torch.manual_seed(0)
    x = torch.rand(9000, HEIGHT * WIDTH)
    moves = (shifted(x, share, (HEIGHT, WIDTH)) != x).any(1).double().mean()
    assert moves == pytest.approx(share * 8 / 9, abs=4 * (share / 9000) ** 0.5)


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (1, HEIGHT, WIDTH), (3, HEIGHT, WIDTH)])
def test_all_channels_of_an_image_move_together(shape: tuple[int, ...]) -> None:
    x = torch.rand(50, *shape)
    torch.manual_seed(1)
    moved = shifted(x, 0.5, (HEIGHT, WIDTH)).view(50, -1, HEIGHT, WIDTH)
    for channel, result in enumerate(moved.unbind(1)):
        torch.manual_seed(1)
        alone = shifted(x.view(50, -1, HEIGHT, WIDTH)[:, channel].flatten(1), 0.5, (HEIGHT, WIDTH))
        assert torch.equal(result.flatten(1), alone)


def test_share_falls_linearly_and_validation_rows_stay() -> None:
    x = torch.zeros(3000, HEIGHT * WIDTH)
    x[:, 10] = 1.0  # a single pixel, not at an edge
    moved: dict[bool, list[float]] = {True: [], False: []}

    def objective(model: VAE, batch: Tensor) -> Tensor:
        moved[model.training].append(float((batch[:, 10] != 1).double().mean()))
        return elbo(model, batch).value()

    settings = {"epochs": 4, "batch_size": 3000, "shift_images": 0.9}
    fit(make(), image_rows(x), image_rows(x[:9]), objective=objective, seed=0, **settings)
    assert moved[True] == pytest.approx([0.9 * (1 - epoch / 4) * 8 / 9 for epoch in range(4)], abs=0.04)
    assert set(moved[False]) == {0.0}


def test_shape_is_known_for_image_tensors_and_data_sets_of_images() -> None:
    assert image_shape_of(TensorRows(torch.zeros(2, HEIGHT, WIDTH))) == (HEIGHT, WIDTH)
    assert image_shape_of(load_dataset("digits").rows("train")) == (8, 8)


def test_rows_that_are_no_images_are_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r"shift_images: expected images: .* got rows \(20,\)"):
        fit(make(), torch.zeros(10, 20), epochs=1, shift_images=0.5)


def test_epochs_cannot_be_raised_if_images_are_shifted(tmp_path) -> None:
    keywords = {"seed": 0, "warmup": 0, "shift_images": 0.5, "out": tmp_path}
    x = image_rows(torch.zeros(10, HEIGHT * WIDTH))
    fit(make(), x, epochs=1, **keywords)
    with pytest.raises(ValueError, match="images are not shifted"):
        fit(make(), x, epochs=2, resume=True, **keywords)
