"""For all tests and doctests: one thread each, `torch` at hand in the doctests, validation left as it was."""

from collections.abc import Iterator

import pytest
import torch

# Two cores are all there is, and small tensors gain nothing from a second thread.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _torch_in_doctests(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace["torch"] = torch


@pytest.fixture(autouse=True)
def _validation_as_before() -> Iterator[None]:
    """torch.compile itself switches the argument validation of torch's distributions off; no test passes that on."""
    before = torch.distributions.Distribution._validate_args
    yield
    torch.distributions.Distribution.set_default_validate_args(before)
