"""Random numbers with their own seed."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch


@contextmanager
def own_noise(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators of the CPU and of this device inside the block; restore them afterwards.

    >>> with own_noise(0, torch.device("cpu")):
    ...     first = torch.randn(3)
    >>> with own_noise(0, torch.device("cpu")):
    ...     print((torch.randn(3) == first).all())
    tensor(True)
    """
    kind, index = device.type, device.index or 0
    devices = [] if kind == "cpu" else [index]
    with torch.random.fork_rng(devices, device_type="cuda" if kind == "cpu" else kind):
        torch.default_generator.manual_seed(seed)
        if kind == "cuda":
            torch.cuda.default_generators[index].manual_seed(seed)  # torch.cuda.manual_seed seeds the current device
        elif kind != "cpu":
            getattr(torch, kind).manual_seed(seed)
        yield


def row_seed(seed: int, row_id: object) -> int:
    """Return the seed of one row's noise, which depends only on the job's seed and the row's id.

    >>> row_seed(0, "cell-7"), row_seed(0, "cell-7") == row_seed(1, "cell-7")
    (864622472067619325, False)
    """
    return int.from_bytes(blake2b(f"{seed} {row_id}".encode(errors="surrogatepass"), digest_size=8).digest()) >> 1
